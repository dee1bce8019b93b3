//! The events of one stream, one behind another.
//!
//! Most events differ from the one before in the text of their delta alone. Such a one is known by
//! comparing the bytes around that text, and brings nothing but output; every other is read whole.
//! Upstreams that change more from event to event (a time, a padding) cost the reading each time.

use std::ops::Range;

use bytes::Bytes;
use cordon_ledger::canon::plain_length;

use crate::wire::openai_chat::{
    Chunk, Progress, StreamEvent,
    answer::{AnswerFacts, understand},
};

/// Longer events are not kept for comparison: they are rare, and each open stream would hold one.
const KEPT_BYTES_MAX: usize = 4 << 10;

/// Reads the events of one stream in their order.
#[derive(Default)]
pub struct Events {
    /// The last event that was read whole and holds a text; empty where there is none.
    kept: Vec<u8>,
    /// Where its text stands, without the quotes.
    text: Range<usize>,
}

// === impl Events ===

impl Events {
    /// What the data of the next event says. An event that says nothing new beside its text has no
    /// facts.
    pub fn read(&mut self, data: &Bytes) -> StreamEvent {
        if self.differs_in_text_alone(data) {
            let facts = AnswerFacts::default();
            return StreamEvent::Chunk(Chunk { progress: Progress::Content, facts });
        }
        let (event, text) = understand(data);
        self.kept.clear();
        if let Some(text) = text.filter(|_| data.len() <= KEPT_BYTES_MAX) {
            self.kept.extend_from_slice(data);
            self.text = text;
        }
        event
    }

    /// Whether this is the kept event with another text: a string of at least one character and
    /// without escapes, so that the whole is the same JSON but for that string.
    fn differs_in_text_alone(&self, data: &[u8]) -> bool {
        if self.kept.is_empty() {
            return false;
        }
        let (before, behind) = (&self.kept[..self.text.start], &self.kept[self.text.end..]);
        let Some(rest) = data.strip_prefix(before) else { return false };
        let Some(text) = rest.strip_suffix(behind) else { return false };
        !text.is_empty() && plain_length(text) == text.len() && std::str::from_utf8(text).is_ok()
    }
}

impl std::fmt::Debug for Events {
    /// A length alone: what is kept is part of an answer.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Events").field("kept", &self.kept.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Events that are alike, but for a text or for something that counts.
    fn any_event() -> impl Strategy<Value = String> {
        let text = prop_oneof![
            Just(String::new()),
            "[a-zé\"\\\\\n]{1,4}".prop_map(|text| text),
            Just("\",\"refusal\":\"x".to_owned()),
        ];
        let quoted = (text, any::<bool>()).prop_map(|(text, escape)| {
            if escape { serde_json::to_string(&text).unwrap() } else { format!("\"{text}\"") }
        });
        let content = prop_oneof![
            6 => quoted.prop_map(|text| format!("\"content\":{text}")),
            1 => Just("\"content\":null".to_owned()),
            1 => Just("\"content\":[{\"text\":\"a\"}]".to_owned()),
            1 => Just("\"role\":\"assistant\"".to_owned()),
        ];
        let finish = prop_oneof![4 => Just("null"), 1 => Just("\"stop\""), 1 => Just("\"length\"")];
        let rest = prop_oneof![
            4 => Just(""),
            1 => Just(",\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}"),
            1 => Just(",\"error\":{\"message\":\"m\"}"),
            1 => Just("}"),
        ];
        (content, 0..2_u8, finish, rest, "[ab]").prop_map(|(content, index, finish, rest, id)| {
            format!(
                "{{\"id\":\"{id}\",\"choices\":[{{\"index\":{index},\"delta\":{{{content}}},\
                 \"finish_reason\":{finish}}}]{rest}}}"
            )
        })
    }

    /// What a stream's reader keeps of an event: its kind, and all facts up to it.
    fn seen(facts: &mut AnswerFacts, event: StreamEvent) -> String {
        match event {
            StreamEvent::Chunk(chunk) => {
                facts.add(chunk.facts);
                format!("{:?} {facts:?}", chunk.progress)
            }
            other => format!("{other:?}"),
        }
    }

    proptest! {
        #[test]
        fn a_stream_reads_as_its_events_do_one_by_one(
            events in prop::collection::vec(any_event(), 1..24),
        ) {
            let mut reader = Events::default();
            let (mut together, mut alone) = (AnswerFacts::default(), AnswerFacts::default());
            for data in events {
                let data = Bytes::from(data);
                let read = seen(&mut together, reader.read(&data));
                prop_assert_eq!(read, seen(&mut alone, understand(&data).0));
            }
        }
    }

    #[test]
    fn only_what_a_text_may_hold_passes_unread() {
        let with = |text: &str| {
            Bytes::from(format!("{{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}"))
        };
        let mut reader = Events::default();
        reader.read(&with("first"));
        for (text, passes) in [
            ("second", true),
            (" an umlaut: \u{fc}", true),
            ("", false),
            ("an escape: \\n", false),
            ("a quote: \"", false),
            ("two members: \",\"refusal\":\"x", false),
            ("a control character: \u{1}", false),
        ] {
            assert_eq!(reader.differs_in_text_alone(&with(text)), passes, "{text:?}");
        }
        let broken = [&with("")[..33], b"\xff", &with("")[33..]].concat();
        assert!(!reader.differs_in_text_alone(&broken), "bytes that are no UTF-8");
    }
}
