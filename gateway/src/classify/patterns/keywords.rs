//! Every keyword in one automaton, searched at several places of a text at once.
//!
//! Each step of an automaton waits for the one before it, a look-up in memory. A long text is cut
//! into lanes that are searched side by side and wait together, which takes a fraction of the
//! time. What is found, and in which order, is what a search from end to end would find.

use std::{array, ops::Range};

use aho_corasick::{
    Anchored,
    automaton::{Automaton, StateID},
    dfa::DFA,
};

/// Searches side by side: enough that one waits while three go on.
const LANES: usize = 4;
/// Bytes that are searched before what was found is looked at; bounds how much that can be.
const BLOCK_BYTES: usize = 16 << 10;
/// Shorter blocks are searched in one lane: lanes overlap by the longest keyword.
const LANES_FROM_BYTES: usize = 512;

/// An automaton of keywords, blind to the case of ASCII letters.
#[derive(Debug)]
pub(super) struct Keywords {
    automaton: DFA,
    start: StateID,
    longest: usize,
}

/// Keywords that end at a place: a state of the automaton.
#[derive(Debug, Clone, Copy)]
struct Ending {
    end: usize,
    state: StateID,
}

/// One search: what it reports, and where it stands.
#[derive(Debug, Clone)]
struct Lane {
    /// It reports keywords that end behind the start of this and up to its end.
    reports: Range<usize>,
    at: usize,
    state: StateID,
}

// === impl Keywords ===

impl Keywords {
    /// Builds the automaton of `words`, none of them empty.
    pub(super) fn new<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        let words: Vec<&str> = words.into_iter().collect();
        // A prefilter would make the start a state to stop at.
        let automaton = DFA::builder().ascii_case_insensitive(true).prefilter(false).build(&words);
        let automaton = automaton.expect("a few hundred short keywords fit into an automaton");
        let start = automaton.start_state(Anchored::No).expect("it was built for such searches");
        let longest = words.iter().map(|word| word.len()).max().unwrap_or(1);
        Self { automaton, start, longest }
    }

    /// Tells each keyword in `text`, those within others too, by where it ends: its index, and
    /// where it stands.
    pub(super) fn each(&self, text: &str, mut found: impl FnMut(usize, Range<usize>)) {
        let mut endings = Vec::new();
        for from in (0..text.len()).step_by(BLOCK_BYTES) {
            let block = from..text.len().min(from + BLOCK_BYTES);
            self.search(text.as_bytes(), block, &mut endings);
            endings.sort_by_key(|ending| ending.end);
            for Ending { end, state } in endings.drain(..) {
                for nth in 0..self.automaton.match_len(state) {
                    let word = self.automaton.match_pattern(state, nth);
                    let length = self.automaton.pattern_len(word);
                    found(word.as_usize(), end - length..end);
                }
            }
        }
    }

    /// Finds what ends within `block`; of lanes in no order.
    fn search(&self, text: &[u8], block: Range<usize>, endings: &mut Vec<Ending>) {
        if block.len() < LANES_FROM_BYTES {
            return self.finish(text, self.lane(block), endings);
        }
        let part = block.len() / LANES;
        let lanes: [Lane; LANES] = array::from_fn(|nth| {
            let from = block.start + nth * part;
            let last = nth + 1 == LANES;
            self.lane(from..if last { block.end } else { from + part })
        });
        let together = lanes.iter().map(|lane| lane.reports.end - lane.at).min().unwrap_or(0);
        let [one, two, three, four] = lanes.each_ref().map(|lane| &text[lane.at..][..together]);
        let columns = one.iter().zip(two).zip(three).zip(four);
        let columns = columns.map(|(((one, two), three), four)| [*one, *two, *three, *four]);
        let mut states = [self.start; LANES];
        for (step, bytes) in columns.enumerate() {
            states = array::from_fn(|nth| self.step(states[nth], bytes[nth]));
            // All four are asked, so that there is one branch and not four.
            if states.iter().fold(false, |any, state| any | self.automaton.is_special(*state)) {
                for (lane, state) in lanes.iter().zip(states) {
                    self.note(&lane.reports, lane.at + step + 1, state, endings);
                }
            }
        }
        for (lane, state) in lanes.into_iter().zip(states) {
            self.finish(text, Lane { at: lane.at + together, state, ..lane }, endings);
        }
    }

    /// A lane that reports `reports`; it begins where a keyword that ends there may begin.
    fn lane(&self, reports: Range<usize>) -> Lane {
        let at = reports.start.saturating_sub(self.longest - 1);
        Lane { reports, at, state: self.start }
    }

    /// Searches a lane alone, to its end.
    fn finish(&self, text: &[u8], lane: Lane, endings: &mut Vec<Ending>) {
        let Lane { reports, at, mut state } = lane;
        for (place, byte) in (at + 1..).zip(&text[at..reports.end]) {
            state = self.step(state, *byte);
            if self.automaton.is_special(state) {
                self.note(&reports, place, state, endings);
            }
        }
    }

    fn step(&self, state: StateID, byte: u8) -> StateID {
        self.automaton.next_state(Anchored::No, state, byte)
    }

    /// Notes what ends at `end`, where the lane reports that.
    fn note(&self, reports: &Range<usize>, end: usize, state: StateID, endings: &mut Vec<Ending>) {
        if end > reports.start && self.automaton.is_match(state) {
            endings.push(Ending { end, state });
        }
    }
}

#[cfg(test)]
mod tests {
    use aho_corasick::AhoCorasick;
    use proptest::prelude::*;

    use super::*;

    const WORDS: [&str; 7] =
        ["at", "cat", "Category", "egor", "a b", "for official use only", "only"];

    /// What a search from end to end finds.
    fn expected(text: &str) -> Vec<(usize, Range<usize>)> {
        let one = AhoCorasick::builder().ascii_case_insensitive(true).build(WORDS).unwrap();
        let found = one.find_overlapping_iter(text);
        found.map(|word| (word.pattern().as_usize(), word.range())).collect()
    }

    fn found(text: &str) -> Vec<(usize, Range<usize>)> {
        let mut found = Vec::new();
        Keywords::new(WORDS).each(text, |word, range| found.push((word, range)));
        found
    }

    proptest! {
        #[test]
        fn lanes_find_what_one_search_finds_in_its_order(
            pieces in prop::collection::vec(
                prop_oneof![
                    4 => prop::sample::select(WORDS.to_vec()).prop_map(str::to_owned),
                    2 => "[a-cA-C tegory]{1,40}",
                    1 => "\\PC{0,8}",
                    1 => Just("x".repeat(300)),
                ],
                0..400,
            ),
        ) {
            let text = pieces.concat();
            prop_assert_eq!(found(&text), expected(&text));
        }
    }

    #[test]
    fn a_keyword_is_found_wherever_lanes_and_blocks_meet() {
        for length in [40, LANES_FROM_BYTES - 1, LANES_FROM_BYTES, BLOCK_BYTES, BLOCK_BYTES + 700] {
            let step = 1 + length / 600;
            for at in (0..length - WORDS[5].len()).step_by(step).chain([length - WORDS[5].len()]) {
                let mut text = ".".repeat(length);
                text.replace_range(at..at + WORDS[5].len(), "FOR official use ONLY");
                let whole = (5, at..at + WORDS[5].len());
                assert_eq!(found(&text), [whole, (6, at + 17..at + 21)], "{at} of {length}");
            }
        }
    }

    #[test]
    fn a_text_of_nothing_but_keywords_is_looked_at_block_by_block() {
        let text = "at".repeat(BLOCK_BYTES);
        assert_eq!(found(&text).len(), BLOCK_BYTES);
        assert_eq!(found(""), []);
    }
}
