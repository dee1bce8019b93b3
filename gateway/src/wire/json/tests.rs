//! What is refused, and that spans lead back to the very bytes.

use std::path::PathBuf;

use proptest::prelude::*;
use serde::Deserialize;

use super::*;

#[derive(Debug, Deserialize)]
struct Refused {
    name: String,
    /// Each number is a byte, each text its own bytes.
    body: Vec<Piece>,
    error: String,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Piece {
    Text(String),
    Byte(u8),
    Repeated { text: String, times: usize },
}

fn bytes(pieces: &[Piece]) -> Bytes {
    let mut body = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => body.extend_from_slice(text.as_bytes()),
            Piece::Byte(byte) => body.push(*byte),
            Piece::Repeated { text, times } => body.extend(text.repeat(*times).into_bytes()),
        }
    }
    body.into()
}

fn read(body: impl Into<Bytes>) -> Result<Document, WireError> {
    Document::read(body.into(), Reading::Strict)
}

#[test]
fn every_refused_body_names_its_fault_and_place() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/cases/wire/json_refused.yaml");
    let text = std::fs::read_to_string(file).unwrap();
    let cases: Vec<Refused> = serde_yaml_ng::from_str(&text).unwrap();
    for case in cases {
        let error = read(bytes(&case.body)).expect_err(&case.name).to_string();
        assert_eq!(error, case.error, "{}", case.name);
    }
}

#[test]
fn sixty_four_levels_are_read() {
    let body = format!("{}{}", "[".repeat(DEPTH_MAX), "]".repeat(DEPTH_MAX));
    assert!(read(body).is_ok());
}

#[test]
fn many_keys_are_compared_too() {
    let keys: Vec<String> = (0..50_000).map(|key| format!("\"k{key}\":0")).collect();
    assert!(read(format!("{{{}}}", keys.join(","))).is_ok());
    let double = read(format!("{{{},\"k7\":1}}", keys.join(","))).unwrap_err();
    assert!(matches!(double, WireError::DuplicateKey { .. }), "{double}");
}

#[test]
fn a_key_may_return_in_another_object() {
    assert!(read(r#"{"a":{"a":[{"a":1},{"a":2}]},"b":1}"#).is_ok());
}

#[test]
fn upstreams_may_repeat_a_key_and_the_last_holds() {
    let body = Bytes::from_static(br#"{"a":1,"a":2}"#);
    let document = Document::read(body, Reading::Lenient).unwrap();
    assert_eq!(document.root().get("a").and_then(Value::as_u64), Some(2));
}

#[test]
fn upstreams_may_split_a_character_over_two_texts() {
    for (body, wanted) in [
        (r#"["a\ud83d"]"#, "a\u{fffd}"),
        (r#"["\ude00b"]"#, "\u{fffd}b"),
        (r#"["\ud83d\u0041"]"#, "\u{fffd}A"),
        (r#"["\ud83d\ud83d\ude00"]"#, "\u{fffd}😀"),
        (r#"["\ud83d\n"]"#, "\u{fffd}\n"),
    ] {
        let document = Document::read(Bytes::from(body), Reading::Lenient).unwrap();
        assert_eq!(document.string(0), wanted, "{body}");
    }
    assert!(Document::read(Bytes::from_static(br#"["\ud83d\u12"]"#), Reading::Lenient).is_err());
}

#[test]
fn of_a_long_answer_the_end_is_kept_and_not_every_value() {
    let long = "[{\"a\":[0,{\"b\":1}]}],".repeat(VALUES_MAX / 4);
    let body = format!(r#"{{"c":[{{"deep":{{"x":[{long}0]}},"why":"stop"}}],"usage":{{"n":7}}}}"#);
    assert!(matches!(read(body.clone()), Err(WireError::TooMany { .. })));
    let document = Document::read(body.into(), Reading::Lenient).unwrap();
    let root = document.root();
    let choice = root.get("c").and_then(|choices| choices.items().next()).unwrap();
    assert_eq!(choice.get("why").and_then(Value::as_str), Some("stop"));
    let usage = root.get("usage").and_then(|usage| usage.get("n")).and_then(Value::as_u64);
    assert_eq!(usage, Some(7));
    assert!(document.nodes.len() <= VALUES_MAX, "{document:?}");

    let wide = format!("[{}0]", "0,".repeat(2 * VALUES_MAX));
    let document = Document::read(wide.into(), Reading::Lenient).unwrap();
    assert_eq!(document.root().items().count(), VALUES_MAX - 1);
    let unended = format!("[{}", "0,".repeat(2 * VALUES_MAX));
    assert!(Document::read(unended.into(), Reading::Lenient).is_err(), "all of it is checked");
}

#[test]
fn escapes_are_resolved_and_plain_strings_borrowed() {
    let document = read(r#"["A\u00e9\n\"\\\/\b\f\r\t\ud83d\ude00B", "é😀"]"#).unwrap();
    assert_eq!(document.string(0), "Aé\n\"\\/\u{8}\u{c}\r\t😀B");
    assert_eq!(document.string(1), "é😀");
}

#[test]
fn debug_shows_no_text() {
    let document = read(r#"{"marked-key":"marked-value"}"#).unwrap();
    let shown = format!("{document:?} {:?}", document.root().get("marked-key"));
    assert!(!shown.contains("marked"), "{shown}");
}

/// Any JSON value, with strings of any characters.
fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        any::<u64>().prop_map(serde_json::Value::from),
        any::<f64>().prop_map(serde_json::Value::from),
        ".*".prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(serde_json::Value::from),
            prop::collection::btree_map(".*", inner, 0..8)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

/// The value again, through our own accessors.
fn rebuilt(value: Value<'_>) -> serde_json::Value {
    if value.is_object() {
        let members = value.members();
        return members.map(|(key, member)| (value.key(key).to_owned(), rebuilt(member))).collect();
    }
    if value.is_array() {
        return value.items().map(rebuilt).collect();
    }
    match value.as_str() {
        Some(text) => text.into(),
        None => serde_json::from_slice(value.raw()).unwrap(),
    }
}

proptest! {
    #[test]
    fn any_json_is_read_as_another_reader_reads_it(value in any_json(), pretty: bool) {
        let body =
            if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) };
        let body = body.unwrap();
        let other: serde_json::Value = serde_json::from_slice(&body).unwrap();
        prop_assert_eq!(rebuilt(read(body).unwrap().root()), other);
    }

    #[test]
    fn every_span_holds_exactly_its_string(value in any_json()) {
        let document = read(serde_json::to_vec(&value).unwrap()).unwrap();
        for index in 0..document.string_count() {
            let raw = &document.body()[document.string_span(index)];
            let text: String = serde_json::from_slice(raw).unwrap();
            prop_assert_eq!(text, document.string(index));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused_as_another_reader_would(
        body in prop::collection::vec(prop_oneof![
            Just(b'"'), Just(b'\\'), Just(b'{'), Just(b'}'), Just(b'['), Just(b']'), Just(b':'),
            Just(b','), Just(b'1'), Just(b'0'), Just(b'-'), Just(b'.'), Just(b'e'), Just(b' '),
            Just(b'u'), Just(b'd'), any::<u8>(),
        ], 0..24),
    ) {
        let other = serde_json::from_slice::<serde_json::Value>(&body);
        match read(body.clone()) {
            // The other reader keeps the last of two keys and refuses numbers beyond its range.
            Err(WireError::DuplicateKey { .. } | WireError::TooDeep { .. }) => {}
            Err(error) => prop_assert!(other.is_err(), "{error} in {body:?}"),
            Ok(_) => prop_assert!(
                other.as_ref().err().is_none_or(|error| error.to_string().contains("range")),
                "{other:?} in {body:?}"
            ),
        }
    }
}
