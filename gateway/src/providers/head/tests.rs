//! Heads: what we write, and what we believe.

use std::time::UNIX_EPOCH;

use http::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;
use crate::secret::Secret;

fn remote() -> Remote {
    Remote {
        tls: true,
        host: "ai.example.fr".to_owned(),
        port: 443,
        base_path: "/v1".to_owned(),
        key: Some(Secret::new("key-1".to_owned())),
        trust_roots: None,
        addresses: std::sync::Arc::default(),
    }
}

type Fields = &'static [(&'static str, &'static str)];

fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let field = |(name, value): &(&'static str, &'static str)| {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    fields.iter().map(field).collect()
}

#[test]
fn a_request_says_this_and_nothing_else() {
    let head = request(&remote(), 17, true).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        head,
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: ai.example.fr\r\n\
             content-type: application/json\r\ncontent-length: 17\r\n\
             accept: text/event-stream, application/json\r\naccept-encoding: identity\r\n\
             user-agent: cordon/{version}\r\nauthorization: Bearer key-1\r\n\r\n"
        )
    );
}

#[test]
fn the_host_names_a_port_that_is_not_the_schemes_own() {
    let cases = [
        ("ai.example.fr", true, 443, Some("ai.example.fr")),
        ("ai.example.fr", true, 8443, Some("ai.example.fr:8443")),
        ("ai.example.fr", false, 80, Some("ai.example.fr")),
        ("ai.example.fr", false, 443, Some("ai.example.fr:443")),
        ("::1", false, 8000, Some("[::1]:8000")),
        ("[::1]", false, 80, Some("[::1]")),
        ("", true, 443, None),
        ("a\r\nx: y", true, 443, None),
        ("a b", true, 443, None),
    ];
    for (name, tls, port, expected) in cases {
        let remote = Remote { tls, port, host: name.to_owned(), ..remote() };
        assert_eq!(host(&remote).as_deref(), expected, "{name}");
    }
}

#[test]
fn a_key_or_path_that_would_break_the_head_is_refused() {
    let broken_key = Remote { key: Some(Secret::new("a\r\nx: y".to_owned())), ..remote() };
    assert_eq!(request(&broken_key, 0, false), None);
    for path in ["/v1 x", "/v1\r\n", "v1", "/v1#x"] {
        let broken_path = Remote { base_path: path.to_owned(), ..remote() };
        assert_eq!(request(&broken_path, 0, false), None, "{path}");
    }
}

fn opening(bytes: &[u8]) -> Opening {
    let mut opening = Opening::default();
    opening.space().extend_from_slice(bytes);
    opening
}

#[test]
fn the_first_bytes_decide() {
    let interims = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(17);
    let long = format!("HTTP/1.1 103 x\r\nlink: {}", "a".repeat(OPENING_BYTES_MAX));
    let cases: [(&str, Verdict); 17] = [
        ("", Verdict::More),
        ("HTTP", Verdict::More),
        ("HTTP/1.1 20", Verdict::More),
        ("HTTP/1.1 200", Verdict::Final(200)),
        ("HTTP/1.0 404 x", Verdict::Final(404)),
        ("HTTP/1.1 100 Continue\r\n", Verdict::More),
        ("HTTP/1.1 100 Continue\r\n\r\n", Verdict::More),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 413 x", Verdict::Final(413)),
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n", Verdict::Refused),
        ("HTTP/2.0 200", Verdict::Refused),
        ("HTTP/1.1 099", Verdict::Refused),
        ("HTTP/1.1 2x0", Verdict::Refused),
        ("HTTP/1.1\t200", Verdict::Refused),
        ("SSH-2.0", Verdict::Refused),
        ("\r\nHTTP/1.1 200", Verdict::Refused),
        (&interims, Verdict::Refused),
        (&long, Verdict::Refused),
    ];
    for (bytes, verdict) in cases {
        assert_eq!(opening(bytes.as_bytes()).verdict(), verdict, "{bytes:.40}");
    }
}

#[test]
fn an_interim_head_counts_as_a_byte_of_response() {
    let mut opening = opening(b"HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(opening.verdict(), Verdict::More);
    assert!(opening.any());
    assert!(opening.into_bytes().is_empty());
}

proptest! {
    #[test]
    fn pieces_do_not_change_the_verdict(
        bytes in prop_oneof![
            "(HTTP/1\\.1 10[0-3] x\r\n\r\n){0,3}HTTP/1\\.[01] [1-5][0-9]{2} x\r\n\r\n",
            any::<Vec<u8>>().prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
        ],
        size in 1_usize..9,
    ) {
        let whole = opening(bytes.as_bytes()).verdict();
        let mut pieces = Opening::default();
        let mut verdict = pieces.verdict();
        for piece in bytes.as_bytes().chunks(size) {
            if verdict != Verdict::More {
                break;
            }
            pieces.space().extend_from_slice(piece);
            verdict = pieces.verdict();
        }
        prop_assert_eq!(verdict, whole);
    }
}

#[test]
fn waits_are_seconds_milliseconds_or_dates() {
    let now = UNIX_EPOCH + Duration::from_secs(784_111_777 - 5);
    let cases: [(Fields, Option<Duration>); 9] = [
        (&[], None),
        (&[("retry-after", "7")], Some(Duration::from_secs(7))),
        (&[("retry-after", " 0.5 ")], Some(Duration::from_millis(500))),
        (&[("retry-after", "7"), ("retry-after-ms", "250")], Some(Duration::from_millis(250))),
        (&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")], Some(Duration::from_secs(5))),
        (&[("retry-after", "Sat, 05 Nov 1994 08:49:37 GMT")], Some(Duration::ZERO)),
        (&[("retry-after", "99999999999999999999")], Some(RETRY_AFTER_MAX)),
        (&[("retry-after", "-1")], None),
        (&[("retry-after", "soon")], None),
    ];
    for (fields, wait) in cases {
        assert_eq!(retry_after(&headers(fields), now), wait, "{fields:?}");
    }
}

#[test]
fn only_what_we_asked_for_is_readable() {
    let cases: [(Fields, bool); 7] = [
        (&[], true),
        (&[("content-encoding", "Identity")], true),
        (&[("transfer-encoding", "chunked")], true),
        (&[("content-encoding", "gzip")], false),
        (&[("transfer-encoding", "gzip, chunked")], false),
        (&[("transfer-encoding", "identity")], false),
        (&[("content-encoding", "")], false),
    ];
    for (fields, expected) in cases {
        assert_eq!(readable(&headers(fields)), expected, "{fields:?}");
    }
}

#[test]
fn the_upstreams_id_is_kept_when_it_is_a_name() {
    let id = |value| Head::read(200, &headers(&[("x-request-id", value)]), UNIX_EPOCH).request_id;
    assert_eq!(id("req_123"), Some("req_123".to_owned()));
    assert_eq!(id("two words"), None);
    let long: &'static str = "a".repeat(REQUEST_ID_BYTES_MAX + 1).leak();
    assert_eq!(id(long), None);
}
