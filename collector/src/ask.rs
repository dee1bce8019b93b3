//! Asking a running collector through its socket, as the folder's owner.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use cordon_ledger::short_path;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::serve::encoded;

/// An answer is at most this long: its rows have a limit of their own.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// How long an answer may take; the collector's own deadlines are shorter.
const ANSWER_WITHIN: Duration = Duration::from_secs(150);

/// A request to the collector.
#[derive(Debug)]
pub struct Ask<'a> {
    /// The path of the request.
    pub path: &'a str,
    /// The body of a POST; without one it is a GET.
    pub body: Option<Value>,
    /// Whose rows are asked for; `None` is every tenant's.
    pub tenant: Option<&'a str>,
    /// Who asks.
    pub who: &'a str,
}

/// What the collector answered.
#[derive(Debug)]
pub struct Told {
    /// The status code of HTTP.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum AskError {
    /// No collector runs.
    #[error("no collector is running")]
    NotRunning,
    /// One runs, and the exchange broke.
    #[error("the collector broke off: {0}")]
    Broken(String),
}

// === impl Ask ===

impl Ask<'_> {
    /// Sends the request through the socket at `path` and waits for the answer.
    ///
    /// # Errors
    /// No collector runs, or the exchange broke.
    pub async fn through(&self, socket: &Path) -> Result<Told, AskError> {
        let (_folder, short) = short_path(socket).map_err(|_gone| AskError::NotRunning)?;
        let stream = UnixStream::connect(short).await.map_err(|_refused| AskError::NotRunning)?;
        let told = timeout(ANSWER_WITHIN, self.exchange(stream)).await;
        told.map_err(|_late| AskError::Broken("no answer in time".to_owned()))?
    }

    async fn exchange(&self, stream: UnixStream) -> Result<Told, AskError> {
        let broken = |error: hyper::Error| AskError::Broken(error.to_string());
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // The set ends the connection when this exchange ends, however it does.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let response = sender.send_request(self.request()?).await.map_err(broken)?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| AskError::Broken(error.to_string()))?.to_bytes();
        Ok(Told { status, body: String::from_utf8_lossy(&body).into_owned() })
    }

    fn request(&self) -> Result<Request<Full<Bytes>>, AskError> {
        let method = if self.body.is_some() { Method::POST } else { Method::GET };
        let body = self.body.as_ref().map(Value::to_string).unwrap_or_default();
        let mut request = Request::builder()
            .method(method)
            .uri(self.path)
            .header(HOST, "collector")
            .header(CONTENT_TYPE, "application/json")
            .header("x-cordon-caller", encoded(self.who));
        if let Some(tenant) = self.tenant {
            request = request.header("x-cordon-tenant", encoded(tenant));
        }
        let request = request.body(Full::new(Bytes::from(body)));
        request.map_err(|error| AskError::Broken(error.to_string()))
    }
}
