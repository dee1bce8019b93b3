//! Framing: every way to end a line, every place to cut a stream.

use proptest::prelude::*;

use super::*;

const MAX: usize = 1 << 16;

/// What the reader gives for pieces of a stream: data and names of the events that have data,
/// and all raw bytes.
fn read(pieces: &[&[u8]]) -> (Vec<(Bytes, Option<Bytes>)>, Vec<u8>) {
    let mut reader = Reader::new(MAX);
    let (mut events, mut raw) = (Vec::new(), Vec::new());
    let mut take = |event: Event| {
        raw.extend_from_slice(&event.raw);
        events.extend(event.data.map(|data| (data, event.name)));
    };
    for piece in pieces {
        reader.push(piece);
        while let Some(event) = reader.next_event().unwrap() {
            take(event);
        }
    }
    reader.finish().into_iter().for_each(&mut take);
    (events, raw)
}

fn data(stream: &str) -> Vec<String> {
    let (events, raw) = read(&[stream.as_bytes()]);
    assert_eq!(raw, stream.as_bytes(), "the raw bytes are the stream");
    events.iter().map(|(data, _)| String::from_utf8(data.to_vec()).unwrap()).collect()
}

#[test]
fn all_line_ends_and_fields_of_the_standard_are_read() {
    for (stream, wanted) in [
        ("data: a\n\ndata: b\n\n", vec!["a", "b"]),
        ("data: a\r\n\r\ndata: b\r\n\r\n", vec!["a", "b"]),
        ("data: a\r\rdata: b\r\r", vec!["a", "b"]),
        ("data: a\r\n\ndata: b\n\r\n", vec!["a", "b"]),
        ("\u{feff}data: a\n\n", vec!["a"]),
        ("data:a\n\n", vec!["a"]),
        ("data:  a\n\n", vec![" a"]),
        ("data\n\n", vec![""]),
        ("data: a\ndata: b\ndata:\n\n", vec!["a\nb\n"]),
        (": comment\n\n", vec![]),
        (": ping\ndata: a\n\n", vec!["a"]),
        ("event: e\nid: 1\nretry: 5\nunknown: x\ndata: a\n\n", vec!["a"]),
        ("\n\n\n\ndata: a\n\n\n", vec!["a"]),
        ("data: a\n", vec!["a"]),
        ("data: a", vec!["a"]),
        ("data: a\n\ndata: [DONE]", vec!["a", "[DONE]"]),
        ("", vec![]),
    ] {
        assert_eq!(data(stream), wanted, "{stream:?}");
    }
}

#[test]
fn an_event_comes_as_soon_as_its_blank_line_does() {
    let mut reader = Reader::new(MAX);
    reader.push(b"data: a\r\n\r");
    assert!(reader.next_event().unwrap().is_some());
    reader.push(b"\ndata: b\r\n\r\n");
    let second = reader.next_event().unwrap().unwrap();
    assert_eq!(second.data.as_deref(), Some(b"b".as_slice()));
    assert_eq!(&second.raw[..], b"\ndata: b\r\n\r\n");
    assert!(reader.finish().is_none());
}

#[test]
fn an_event_has_its_name() {
    let (events, _) = read(&[b"event: error\ndata: x\n\ndata: y\n\n"]);
    assert_eq!(events[0].1.as_deref(), Some(b"error".as_slice()));
    assert_eq!(events[1].1, None);
}

#[test]
fn an_event_beyond_the_limit_is_refused_in_every_cut() {
    let stream = b"data: 0123456789\n\n";
    for size in [1, 7, stream.len()] {
        let mut reader = Reader::new(10);
        let results: Vec<_> = stream
            .chunks(size)
            .map(|piece| {
                reader.push(piece);
                reader.next_event()
            })
            .collect();
        assert!(results.contains(&Err(SseError::TooLarge { max: 10 })), "{size}");
    }
}

#[test]
fn many_events_in_one_piece_count_one_by_one() {
    let mut reader = Reader::new(10);
    reader.push(&b"data: x\n\n".repeat(1000));
    let mut count = 0;
    while reader.next_event().unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, 1000);
}

#[test]
fn debug_shows_no_text() {
    let mut reader = Reader::new(MAX);
    reader.push(b"data: marked\n\ndata: marked");
    let shown = format!("{:?} {reader:?}", reader.next_event());
    assert!(!shown.contains("marked"), "{shown}");
}

/// Streams with every line end, in any mixture.
fn any_stream() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        Just("data: {\"x\":\"é😀\"}"),
        Just("data:"),
        Just("data"),
        Just(": c"),
        Just("event: e"),
        Just(""),
        Just("x"),
        Just("data: [DONE]"),
        Just("\u{feff}data: b"),
    ];
    let end = prop_oneof![Just("\n"), Just("\r\n"), Just("\r"), Just("\n\n"), Just("\r\n\r\n")];
    prop::collection::vec((line, end), 0..12)
        .prop_map(|lines| lines.into_iter().map(|(line, end)| format!("{line}{end}")).collect())
}

proptest! {
    #[test]
    fn a_cut_at_any_byte_changes_nothing(stream in any_stream()) {
        let bytes = stream.as_bytes();
        let whole = read(&[bytes]);
        prop_assert_eq!(&whole.1[..], bytes);
        for at in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(at);
            prop_assert_eq!(&read(&[head, tail]), &whole, "cut at {}", at);
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(&read(&single), &whole);
    }
}
