//! The way to the collector: one request over its Unix socket, with the scope we have proven.

use std::{path::PathBuf, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_util::rt::TokioIo;
use tokio::{sync::Semaphore, task::JoinSet, time::timeout};

use crate::{admin::Scope, gateway::supervisor};

/// Asks the collector.
#[derive(Debug)]
pub(crate) struct Collector {
    socket: PathBuf,
    deadline: Duration,
    /// Answers are held whole, so only so many are asked for at once.
    places: Semaphore,
}

/// What the collector answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) content_type: HeaderValue,
    pub(crate) body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CollectorError {
    #[error("the collector is not running; calls are recorded all the same, ask again later")]
    Down,
    #[error("too many statements run at once; ask again in a moment")]
    Busy,
    #[error(
        "the collector did not answer in time; narrow the statement, or set `listeners.limits.audit_deadline`"
    )]
    Slow,
    #[error("the result is larger than 64 MiB; narrow the statement, or add a `LIMIT`")]
    TooLarge,
    #[error("the collector broke off its answer; see its log")]
    Broken,
}

const AT_ONCE_MAX: usize = 4;
const ANSWER_BYTES_MAX: usize = 64 << 20;

impl Collector {
    pub(crate) fn new(socket: PathBuf, deadline: Duration) -> Self {
        Self { socket, deadline, places: Semaphore::new(AT_ONCE_MAX) }
    }

    /// Sends `body` to `path` for `scope`. Dropping the future ends the statement.
    pub(crate) async fn ask(
        &self,
        path: &'static str,
        scope: &Scope,
        body: Bytes,
    ) -> Result<Answer, CollectorError> {
        let request = request(path, scope, body);
        let _place = self.places.try_acquire().map_err(|_full| CollectorError::Busy)?;
        match timeout(self.deadline, self.exchange(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(CollectorError::Slow),
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answer, CollectorError> {
        let stream =
            supervisor::connect(&self.socket).await.map_err(|_refused| CollectorError::Down)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|_refused| CollectorError::Down)?;
        // The set ends the connection when this exchange ends, however it does.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let response =
            sender.send_request(request).await.map_err(|_broken| CollectorError::Broken)?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                CollectorError::TooLarge
            } else {
                CollectorError::Broken
            }
        })?;
        let json = HeaderValue::from_static("application/json");
        let content_type = head.headers.get(header::CONTENT_TYPE).cloned().unwrap_or(json);
        Ok(Answer { status: head.status, content_type, body: body.to_bytes() })
    }
}

fn request(path: &'static str, scope: &Scope, body: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::post(path)
        .header(header::HOST, "collector")
        .header(header::CONTENT_TYPE, "application/json")
        .header("x-cordon-caller", encoded(&scope.key_id));
    if let Some(tenant) = &scope.tenant {
        request = request.header("x-cordon-tenant", encoded(tenant));
    }
    request.body(Full::new(body)).expect("encoded names are values of headers")
}

/// A name as the collector reads it: HTTP trims spaces and takes ASCII only, and a tenant must not
/// arrive as another. All but letters, digits and `-_.` is percent-encoded.
fn encoded(name: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    let piece = |byte: u8| match plain(&byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    name.bytes().map(piece).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_is_never_sent_as_another() {
        for (tenant, sent) in [("acme", "acme"), ("acme ", "acme%20"), ("müller", "m%C3%BCller")] {
            let scope = Scope { tenant: Some(tenant.to_owned()), key_id: "key_1".to_owned() };
            let request = request("/v1/audit/sql", &scope, Bytes::new());
            assert_eq!(request.headers()["x-cordon-tenant"], sent);
            assert_eq!(request.headers()["x-cordon-caller"], "key_1");
        }
    }
}
