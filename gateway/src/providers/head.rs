//! Heads as bytes: the request's, written by us alone, and the response's, read with suspicion.
//!
//! Plain functions of their arguments. Nothing of the client's head passes to the upstream, and
//! of the upstream's head only what `Head` names is read. Knows HTTP/1.1; not sockets or time.

use std::time::{Duration, SystemTime};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, header};

use crate::catalog::Remote;

/// Interim (1xx) heads that we skip before an answer; a well-behaved server sends one or two.
const INTERIM_HEADS_MAX: u32 = 16;

/// Bytes of a response that we hold before its final head is known.
const OPENING_BYTES_MAX: usize = 64 << 10;

/// The longest `Retry-After` that we believe.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);

/// The longest id of an upstream that we keep for the record.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// `HTTP/1.1 200`: the bytes that decide what a head is.
const STATUS_LINE_BYTES: usize = 12;

/// Writes the head of a chat completion; `None` where the key or the address holds bytes that no
/// head may hold.
pub(crate) fn request(remote: &Remote, body_bytes: usize, stream: bool) -> Option<Bytes> {
    let mut head = BytesMut::with_capacity(512);
    head.put_slice(b"POST ");
    head.put_slice(target(&remote.base_path)?.as_bytes());
    head.put_slice(b"/chat/completions HTTP/1.1\r\n");
    put(&mut head, "host", &host(remote)?)?;
    put(&mut head, "content-type", "application/json")?;
    put(&mut head, "content-length", &body_bytes.to_string())?;
    let accept = if stream { "text/event-stream, application/json" } else { "application/json" };
    put(&mut head, "accept", accept)?;
    put(&mut head, "accept-encoding", "identity")?;
    put(&mut head, "user-agent", concat!("cordon/", env!("CARGO_PKG_VERSION")))?;
    if let Some(key) = &remote.key {
        put(&mut head, "authorization", &format!("Bearer {}", key.expose()))?;
    }
    head.put_slice(b"\r\n");
    Some(head.freeze())
}

/// The path before ours, where it can stand in a request line.
fn target(base_path: &str) -> Option<&str> {
    let clean = base_path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    (clean && (base_path.is_empty() || base_path.starts_with('/'))).then_some(base_path)
}

/// The value of `Host`: with the port only where it is not the scheme's own (RFC 9110, 7.2).
fn host(remote: &Remote) -> Option<String> {
    let name = bare_host(&remote.host);
    let clean = !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:%".contains(&byte));
    let name = if name.contains(':') { format!("[{name}]") } else { name.to_owned() };
    let own_port = if remote.tls { 443 } else { 80 };
    let port = if remote.port == own_port { String::new() } else { format!(":{}", remote.port) };
    clean.then(|| name + &port)
}

/// A host without the brackets that URLs put around IPv6 addresses.
pub(crate) fn bare_host(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn put(head: &mut BytesMut, name: &str, value: &str) -> Option<()> {
    value.bytes().all(|byte| (b' '..=b'~').contains(&byte)).then(|| {
        head.put_slice(name.as_bytes());
        head.put_slice(b": ");
        head.put_slice(value.as_bytes());
        head.put_slice(b"\r\n");
    })
}

/// The first bytes of a response, until its final status is known. Interim heads are dropped.
#[derive(Debug, Default)]
pub(crate) struct Opening {
    bytes: BytesMut,
    interim_heads: u32,
    any: bool,
}

/// What the first bytes of a response say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// More bytes are needed.
    More,
    /// A final head begins here, with this status.
    Final(u16),
    /// This is no HTTP/1 that we accept: another protocol, an upgrade, too many interim heads.
    Refused,
}

// === impl Opening ===

impl Opening {
    /// Where the next bytes are read to.
    pub(crate) fn space(&mut self) -> &mut BytesMut {
        self.bytes.reserve(4096);
        &mut self.bytes
    }

    /// Whether the upstream has sent anything at all.
    pub(crate) fn any(&self) -> bool {
        self.any || !self.bytes.is_empty()
    }

    /// Drops whole interim heads and looks at what stands behind them.
    pub(crate) fn verdict(&mut self) -> Verdict {
        loop {
            match status(&self.bytes) {
                // Nothing was asked to be upgraded.
                Verdict::Final(101) => return Verdict::Refused,
                Verdict::Final(100..=199) => {}
                other => return other,
            }
            let Some(end) = head_end(&self.bytes) else {
                let full = self.bytes.len() >= OPENING_BYTES_MAX;
                return if full { Verdict::Refused } else { Verdict::More };
            };
            self.any = true;
            self.bytes.advance(end);
            self.interim_heads += 1;
            if self.interim_heads > INTERIM_HEADS_MAX {
                return Verdict::Refused;
            }
        }
    }

    /// The bytes from the final head on.
    pub(crate) fn into_bytes(self) -> Bytes {
        self.bytes.freeze()
    }
}

fn status(bytes: &[u8]) -> Verdict {
    const NAME: &[u8] = b"HTTP/1.";
    let named = bytes.len().min(NAME.len());
    if bytes[..named] != NAME[..named] {
        return Verdict::Refused;
    }
    let Some(line) = bytes.get(..STATUS_LINE_BYTES) else { return Verdict::More };
    let digits = &line[9..];
    if line[8] != b' ' || !digits.iter().all(u8::is_ascii_digit) || digits[0] == b'0' {
        return Verdict::Refused;
    }
    Verdict::Final(digits.iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0')))
}

fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// What we read of a final head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// The body is `text/event-stream`.
    pub(crate) event_stream: bool,
    /// Our way of reading the body is the upstream's way of writing it.
    pub(crate) readable: bool,
    /// The announced length of the body.
    pub(crate) length: Option<u64>,
    /// The upstream's own id for the request, for the record.
    pub(crate) request_id: Option<String>,
    pub(crate) retry_after: Option<Duration>,
}

// === impl Head ===

impl Head {
    /// Reads what we need; `now` turns dates into waits.
    pub(crate) fn read(status: u16, headers: &HeaderMap, now: SystemTime) -> Self {
        Self {
            status,
            event_stream: event_stream(headers),
            readable: readable(headers),
            length: text(headers, &header::CONTENT_LENGTH).and_then(|text| text.parse().ok()),
            request_id: request_id(headers),
            retry_after: retry_after(headers, now),
        }
    }

    /// Whether this is the answer that was asked for.
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn event_stream(headers: &HeaderMap) -> bool {
    let media_type = text(headers, &header::CONTENT_TYPE).unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("text/event-stream")
}

/// We ask for `identity` and know one transfer coding. Anything else would reach the client, or
/// inspection, as noise.
fn readable(headers: &HeaderMap) -> bool {
    let only = |name: &HeaderName, value: &str| {
        let every = headers.get_all(name);
        every
            .iter()
            .all(|given| given.as_bytes().trim_ascii().eq_ignore_ascii_case(value.as_bytes()))
    };
    only(&header::CONTENT_ENCODING, "identity")
        && only(&header::TRANSFER_ENCODING, "chunked")
        && headers.get_all(&header::TRANSFER_ENCODING).iter().count() < 2
}

fn request_id(headers: &HeaderMap) -> Option<String> {
    let id = text(headers, &HeaderName::from_static("x-request-id"))?;
    let fits = !id.is_empty() && id.len() <= REQUEST_ID_BYTES_MAX;
    (fits && id.bytes().all(|byte| byte.is_ascii_graphic())).then(|| id.to_owned())
}

/// `retry-after-ms`, else `Retry-After` as seconds or as a date (RFC 9110, 10.2.3).
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let number = |name: &HeaderName| text(headers, name).and_then(|text| text.parse::<f64>().ok());
    let precise_ms = number(&HeaderName::from_static("retry-after-ms"));
    if let Some(wait) = precise_ms.and_then(|wait_ms| wait(wait_ms / 1000.0)) {
        return Some(wait);
    }
    if let Some(wait_s) = number(&header::RETRY_AFTER) {
        return wait(wait_s);
    }
    let date = httpdate::parse_http_date(text(headers, &header::RETRY_AFTER)?).ok()?;
    Some(date.duration_since(now).unwrap_or_default().min(RETRY_AFTER_MAX))
}

fn wait(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds.min(RETRY_AFTER_MAX.as_secs_f64())).ok()
}

#[cfg(test)]
mod tests;
