//! A body: announced, reserved, received; never more of it than there is room for.
//!
//! Cost: one copy of each byte, none where the first read holds the whole body. The room is given
//! back with the bytes.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use pingora_core::{ErrorType, protocols::http::ServerSession};

use crate::{
    listener::{
        Limits,
        head::{self, Announced},
    },
    pipeline::BodyFault,
    room::{Budget, Taken},
};

/// Memory reserved for a body before its first byte, however much was announced.
const FIRST_CAPACITY_MAX: usize = 1 << 20;
/// Room is reserved in such steps where no length was announced.
const STEP: u64 = 64 << 10;

/// Reads the body of a request whose caller is proven.
///
/// # Errors
/// Before the first byte: [`BodyFault::Encoded`], [`BodyFault::TooLarge`], [`BodyFault::NoRoom`].
/// Later also what the client did or failed to do.
pub(crate) async fn receive(
    session: &mut ServerSession,
    announced: Announced,
    limits: &Limits,
    room: &Arc<Budget>,
) -> Result<Bytes, BodyFault> {
    if head::is_encoded(session) {
        return Err(BodyFault::Encoded);
    }
    let reserved = match announced {
        Announced::Nothing => return Ok(Bytes::new()),
        Announced::Length(length) if length > limits.body_bytes_max.0 => {
            return Err(BodyFault::TooLarge);
        }
        Announced::Length(length) => length,
        Announced::Chunked => STEP.min(limits.body_bytes_max.0),
    };
    let reservation = room.take(reserved).ok_or(BodyFault::NoRoom)?;
    let reading = async {
        if head::expects_continue(session) {
            allow_to_send(session).await?;
        }
        read(session, reservation, limits.body_bytes_max.0).await
    };
    match tokio::time::timeout(limits.body_deadline.0, reading).await {
        Ok(body) => body,
        Err(_) => Err(BodyFault::TooSlow),
    }
}

/// Writes `100 Continue`.
async fn allow_to_send(session: &mut ServerSession) -> Result<(), BodyFault> {
    // With the flag set, any head that is written before the body is read costs the keep-alive.
    session.set_close_on_response_before_downstream_finish(false);
    let written = session.write_continue_response().await;
    session.set_close_on_response_before_downstream_finish(true);
    written.map_err(|_gone| BodyFault::Gone)
}

async fn read(
    session: &mut ServerSession,
    mut reservation: Taken,
    bytes_max: u64,
) -> Result<Bytes, BodyFault> {
    let mut held = BytesMut::new();
    let mut first = Bytes::new();
    while let Some(piece) =
        session.read_request_body().await.map_err(|error| fault(&error.etype))?
    {
        let total = (first.len() + held.len() + piece.len()) as u64;
        make_room(&mut reservation, total, bytes_max)?;
        if total == piece.len() as u64 {
            first = piece;
            continue;
        }
        if held.is_empty() {
            held.reserve(
                usize::try_from(reservation.amount()).unwrap_or(0).min(FIRST_CAPACITY_MAX),
            );
            held.extend_from_slice(&first);
            first = Bytes::new();
        }
        held.extend_from_slice(&piece);
    }
    let bytes = if held.is_empty() { first } else { held.freeze() };
    Ok(reservation.holding(bytes))
}

/// Sees to it that `total` bytes are reserved.
fn make_room(reservation: &mut Taken, total: u64, bytes_max: u64) -> Result<(), BodyFault> {
    if total > bytes_max {
        return Err(BodyFault::TooLarge);
    }
    let missing = total.saturating_sub(reservation.amount());
    if missing == 0 || reservation.grow(missing.max(STEP)) || reservation.grow(missing) {
        return Ok(());
    }
    Err(BodyFault::NoRoom)
}

/// What went wrong, without pingora's text: it quotes the request.
fn fault(kind: &ErrorType) -> BodyFault {
    match kind {
        ErrorType::ConnectionClosed | ErrorType::ReadError => BodyFault::Gone,
        ErrorType::ReadTimedout => BodyFault::TooSlow,
        _ => BodyFault::Framing,
    }
}
