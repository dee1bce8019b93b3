//! The framing of a request, read so strictly that no two readers can see two requests.
//!
//! pingora already refuses what has no single meaning; what it repairs (RFC 9112 section 6.3
//! lets it) is refused here, because whoever stands behind or before us may repair it otherwise.

use http::{
    HeaderMap, Version,
    header::{CONTENT_ENCODING, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING},
};
use pingora_core::protocols::http::ServerSession;

/// How a request announces its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Announced {
    /// None follows.
    Nothing,
    /// So many bytes follow.
    Length(u64),
    /// Chunks follow, until the last.
    Chunked,
}

/// The head has no single meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Looks for the end of a head while it arrives; each byte is looked at once.
#[derive(Debug, Default)]
pub(crate) struct HeadEnd {
    seen: usize,
    /// Whether the request line has begun: empty lines before it are passed over (RFC 9112 2.2).
    begun: bool,
    /// Whether the line that is being read holds anything.
    filled: bool,
}

impl HeadEnd {
    /// The length of the head, once all of it is in `held`, which only ever grows. A line may end
    /// without CR, as pingora's parser lets it.
    pub(crate) fn find(&mut self, held: &[u8]) -> Option<usize> {
        for byte in held.get(self.seen..)? {
            self.seen += 1;
            match byte {
                b'\n' if self.begun && !self.filled => return Some(self.seen),
                b'\n' => self.filled = false,
                b'\r' => {}
                // No method begins so: a client that speaks TLS here learns it at once.
                byte if !self.begun && !byte.is_ascii_graphic() => return Some(self.seen),
                _ => (self.begun, self.filled) = (true, true),
            }
        }
        None
    }
}

/// Checks the head that was read and says which body follows it.
pub(crate) fn check(session: &ServerSession) -> Result<Announced, Malformed> {
    let head = session.req_header();
    if head.version == Version::HTTP_11 && !head.headers.contains_key(HOST) {
        return Err(Malformed);
    }
    if head.headers.contains_key(TRANSFER_ENCODING) {
        // pingora removes the length of a chunked request before anybody sees it.
        let named = names_length(&session.to_h1_raw());
        return if named { Err(Malformed) } else { chunked(&head.headers) };
    }
    length(&head.headers)
}

/// Whether a client waits for `100 Continue` before it sends the body (RFC 9110 section 10.1.1).
pub(crate) fn expects_continue(session: &ServerSession) -> bool {
    let head = session.req_header();
    head.version == Version::HTTP_11
        && head
            .headers
            .get(EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Whether the body is said to be encoded; only plain bytes can be inspected.
pub(crate) fn is_encoded(session: &ServerSession) -> bool {
    session.req_header().headers.contains_key(CONTENT_ENCODING)
}

fn chunked(headers: &HeaderMap) -> Result<Announced, Malformed> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (Some(only), None) if only.as_bytes().eq_ignore_ascii_case(b"chunked") => {
            Ok(Announced::Chunked)
        }
        _ => Err(Malformed),
    }
}

fn length(headers: &HeaderMap) -> Result<Announced, Malformed> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else { return Ok(Announced::Nothing) };
    let digits = first.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    match (digits.and_then(|text| text.parse().ok()), lengths.next()) {
        (Some(0), None) => Ok(Announced::Nothing),
        (Some(length), None) => Ok(Announced::Length(length)),
        (Some(_) | None, _) => Err(Malformed),
    }
}

fn names_length(raw: &[u8]) -> bool {
    const NAME: &[u8] = b"content-length:";
    raw.split(|byte| *byte == b'\n')
        .filter_map(|line| line.get(..NAME.len()))
        .any(|name| name.eq_ignore_ascii_case(NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_ends_with_its_first_empty_line_however_it_arrives() {
        let cases = [
            ("GET / HTTP/1.1\r\nhost: h\r\n\r\nbody", Some(27)),
            ("\r\n\r\nGET / HTTP/1.1\r\n\r\n", Some(22)),
            ("GET / HTTP/1.1\nhost: h\n\nbody", Some(24)),
            ("GET / HTTP/1.1\nhost: h\n\r\n", Some(25)),
            ("GET / HTTP/1.1\r\nhost: h\r\n", None),
            ("\r\n\r\n\r\n", None),
            ("\x16\x03\x01\x02", Some(1)),
        ];
        for (text, length) in cases {
            assert_eq!(HeadEnd::default().find(text.as_bytes()), length, "{text:?}");
            let mut slowly = HeadEnd::default();
            let ends = (1..=text.len()).find_map(|count| slowly.find(&text.as_bytes()[..count]));
            assert_eq!(ends, length, "{text:?}");
        }
    }

    #[test]
    fn a_length_is_one_number_or_the_request_is_refused() {
        let cases: [(&[&str], _); 7] = [
            (&[], Ok(Announced::Nothing)),
            (&["0"], Ok(Announced::Nothing)),
            (&["12"], Ok(Announced::Length(12))),
            (&["12", "12"], Err(Malformed)),
            (&["12, 12"], Err(Malformed)),
            (&["+12"], Err(Malformed)),
            (&["99999999999999999999"], Err(Malformed)),
        ];
        for (values, announced) in cases {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_LENGTH, value.parse().unwrap());
            }
            assert_eq!(length(&headers), announced, "{values:?}");
        }
    }
}
