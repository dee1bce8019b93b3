//! A reply on its way out: head, then the body whole or piece by piece, each piece at once.
//!
//! A client that reads too slowly is cut, one that left ends its call.

use std::{
    pin::{Pin, pin},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Version, header};
use pingora_core::protocols::http::ServerSession;
use pingora_http::ResponseHeader;

use crate::{
    listener::{
        Limits,
        connection::After,
        drain::{Stage, Stop},
    },
    pipeline::{ReplyBody, ReplyHead, ReplyStream},
    policy::Effect,
};

/// The slowest reading that is still served, on top of the write-stall deadline.
const SEND_BYTES_PER_SECOND_MIN: u64 = 16 << 10;
/// One write of a large body; each such piece may stall as long as the deadline says.
const PIECE_BYTES: usize = 64 << 10;
/// What an interrupted stream may still say, and how long it may take.
const LAST_PIECES_MAX: usize = 4;
const LAST_PIECES_DEADLINE: Duration = Duration::from_millis(500);
/// Longest part of a client's own text in a header.
const ECHO_BYTES_MAX: usize = 256;

/// Where a reply goes, and under which limits.
pub(crate) struct Outlet<'a> {
    pub(crate) session: &'a mut ServerSession,
    pub(crate) limits: &'a Limits,
    pub(crate) stop: &'a Stop,
}

/// The client is gone, or reads too slowly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone;

// === impl Outlet ===

impl Outlet<'_> {
    /// Writes a reply. `after` is what becomes of the connection where the client takes it all.
    pub(crate) async fn send(
        &mut self,
        head: ResponseHeader,
        body: ReplyBody,
        after: After,
    ) -> After {
        if after != After::Reuse || self.stop.is_leaving() {
            self.session.set_keepalive(None);
        }
        let sent = match body {
            ReplyBody::Whole(bytes) => self.whole(head, bytes).await,
            ReplyBody::Stream(stream) => self.stream(head, stream).await,
        };
        if sent.is_ok() { after } else { After::Close }
    }

    async fn whole(&mut self, mut head: ResponseHeader, mut bytes: Bytes) -> Result<(), Gone> {
        if head.status != http::StatusCode::NO_CONTENT {
            insert(&mut head, header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
        }
        self.head(head).await?;
        while bytes.len() > PIECE_BYTES {
            let piece = bytes.split_to(PIECE_BYTES);
            self.piece(piece).await?;
        }
        let allowed = self.allowed(bytes.len());
        within(allowed, self.session.write_response_body(bytes, true)).await
    }

    async fn stream(
        &mut self,
        mut head: ResponseHeader,
        mut stream: Box<dyn ReplyStream>,
    ) -> Result<(), Gone> {
        let request = self.session.req_header();
        let is_head = request.method == Method::HEAD;
        if request.version == Version::HTTP_11 {
            insert(&mut head, header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        } else {
            // An HTTP/1.0 client knows no chunks: the end of the connection is the end.
            self.session.set_keepalive(None);
        }
        self.head(head).await?;
        if !is_head {
            self.pieces(stream.as_mut()).await?;
        }
        let allowed = self.allowed(0);
        within(allowed, self.session.finish_body()).await
    }

    async fn pieces(&mut self, stream: &mut dyn ReplyStream) -> Result<(), Gone> {
        let stop = self.stop;
        let mut cut = pin!(stop.reached(Stage::Cut));
        loop {
            match next(self.session, stream, cut.as_mut()).await {
                Next::Piece(piece) => self.piece(piece).await?,
                Next::End => return Ok(()),
                Next::Gone => return Err(Gone),
                Next::Cut => return self.last_pieces(stream).await,
            }
        }
    }

    /// Interrupts a stream and passes on what it still says, which is its error event.
    async fn last_pieces(&mut self, stream: &mut dyn ReplyStream) -> Result<(), Gone> {
        self.session.set_keepalive(None);
        stream.interrupt();
        for _ in 0..LAST_PIECES_MAX {
            match tokio::time::timeout(LAST_PIECES_DEADLINE, stream.next()).await {
                Ok(Some(piece)) => self.piece(piece).await?,
                Ok(None) => return Ok(()),
                Err(_) => return Err(Gone),
            }
        }
        Err(Gone)
    }

    async fn head(&mut self, head: ResponseHeader) -> Result<(), Gone> {
        let allowed = self.allowed(0);
        within(allowed, self.session.write_response_header(Box::new(head))).await
    }

    async fn piece(&mut self, piece: Bytes) -> Result<(), Gone> {
        let allowed = self.allowed(piece.len());
        within(allowed, self.session.write_response_body(piece, false)).await
    }

    /// How long a write of so many bytes may take.
    fn allowed(&self, bytes: usize) -> Duration {
        self.limits.write_stall_deadline.0
            + Duration::from_secs(bytes as u64 / SEND_BYTES_PER_SECOND_MIN)
    }
}

/// What comes first while a stream is passed on.
enum Next {
    Piece(Bytes),
    End,
    Gone,
    Cut,
}

async fn next(
    session: &mut ServerSession,
    stream: &mut dyn ReplyStream,
    cut: Pin<&mut impl Future<Output = ()>>,
) -> Next {
    tokio::select! {
        biased;
        () = cut => Next::Cut,
        piece = stream.next() => piece.map_or(Next::End, Next::Piece),
        _ = session.read_body_or_idle(true) => Next::Gone,
    }
}

async fn within<T>(
    allowed: Duration,
    write: impl Future<Output = pingora_core::Result<T>>,
) -> Result<(), Gone> {
    match tokio::time::timeout(allowed, write).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Gone),
    }
}

/// A head with a status and a content type; a status that is none becomes 500.
pub(crate) fn plain_head(status: u16, content_type: &'static str) -> ResponseHeader {
    let status = http::StatusCode::from_u16(status)
        .ok()
        .filter(|status| !status.is_informational())
        .unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let mut head = ResponseHeader::build_no_case(status, Some(16))
        .expect("a status that was just checked builds a head");
    insert(&mut head, header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    head
}

/// Every header that a reply's head stands for.
pub(crate) fn full_head(reply: &ReplyHead) -> ResponseHeader {
    let mut head = plain_head(reply.status, reply.content_type);
    let call_id = text(&reply.call_id.to_string());
    insert(&mut head, HeaderName::from_static("x-request-id"), call_id.clone());
    insert(&mut head, HeaderName::from_static("x-cordon-call-id"), call_id);
    insert(
        &mut head,
        HeaderName::from_static("x-cordon-cache"),
        HeaderValue::from_static("bypass"),
    );
    insert(
        &mut head,
        HeaderName::from_static("x-cordon-attempts"),
        HeaderValue::from(reply.attempts),
    );
    if let Some(target) = &reply.target {
        insert(&mut head, HeaderName::from_static("x-cordon-target"), text(target));
    }
    if let Some(effect) = reply.decision {
        let name = HeaderName::from_static("x-cordon-decision");
        insert(&mut head, name, HeaderValue::from_static(effect_name(effect)));
    }
    if let Some(model) = &reply.requested_model {
        insert(&mut head, HeaderName::from_static("x-cordon-requested-model"), text(model));
    }
    if let Some(methods) = reply.allow {
        insert(&mut head, header::ALLOW, HeaderValue::from_static(methods));
    }
    if head.status == http::StatusCode::UNAUTHORIZED {
        insert(&mut head, header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(seconds) = reply.retry_after_s {
        insert(&mut head, header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if reply.label_ai {
        let name = HeaderName::from_static("x-cordon-ai-generated");
        insert(&mut head, name, HeaderValue::from_static("true"));
    }
    if reply.never_retry {
        let name = HeaderName::from_static("x-should-retry");
        insert(&mut head, name, HeaderValue::from_static("false"));
    }
    if reply.content_type.starts_with("text/event-stream") {
        insert(&mut head, header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        // Proxies between us and the client shall not hold events back.
        let name = HeaderName::from_static("x-accel-buffering");
        insert(&mut head, name, HeaderValue::from_static("no"));
    }
    head
}

pub(crate) fn insert(head: &mut ResponseHeader, name: HeaderName, value: HeaderValue) {
    head.insert_header(name, value).expect("name and value are already checked ones");
}

fn effect_name(effect: Effect) -> &'static str {
    match effect {
        Effect::Allow => "allow",
        Effect::LocalOnly => "local_only",
        Effect::Deny => "deny",
        Effect::NeedsApproval => "needs_approval",
    }
}

/// A text as a header's value: visible ASCII stays, every other byte is percent-encoded.
fn text(text: &str) -> HeaderValue {
    let mut value = String::with_capacity(text.len());
    for byte in text.bytes().take(ECHO_BYTES_MAX) {
        match byte {
            b'%' => value.push_str("%25"),
            b' '..=b'~' => value.push(char::from(byte)),
            other => value.push_str(&format!("%{other:02X}")),
        }
    }
    HeaderValue::try_from(value).expect("visible ASCII is a header's value")
}
