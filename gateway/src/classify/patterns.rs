//! The cues that make a text worth a closer look, and the one pass that finds them.
//!
//! Keywords are found all at once; an `@` or enough digits are counted on the way. Each cue names
//! what looks closer, at that place and within a window, so that no text can make it slow.

mod emails;
mod encoded;
mod keywords;

use std::{cmp::Reverse, ops::Range};

use crate::classify::{
    Confidence, Kind, PLACES_MAX, Settings,
    labels::Labels,
    markings::{self, Marking},
    numbers,
    plain::Plain,
    redact,
    secrets::{self, Secrets},
};

/// How far in front of `;base64,` its `data:` may stand.
const DATA_URL_HEAD_MAX: usize = 128;

/// What was found at a place of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hit {
    pub range: Range<usize>,
    pub kind: Kind,
    pub confidence: Confidence,
}

/// What one text gave.
#[derive(Debug)]
pub(super) struct Found<'a> {
    pub hits: &'a mut Vec<Hit>,
    pub labels: &'a mut Labels,
    /// Data that stands in the text in a form that cannot be read.
    pub unreadable: u32,
    /// There were more hits than are kept.
    pub overflowed: bool,
    pub read: ReadTo,
    pub statement: markings::Statement,
}

/// Up to where a text was read as part of something, so that no part of it is read again for
/// each keyword within.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ReadTo {
    pub key: usize,
    pub banner: usize,
    /// The last name that is given a value people choose, and one that machines choose.
    pub password: usize,
    pub token: usize,
    /// The part of a signed token up to its dot.
    pub jwt: usize,
}

/// What looks closer behind a keyword.
#[derive(Debug, Clone, Copy)]
enum Cue {
    Secret(secrets::Cue),
    Marking(Marking),
    /// An `@` that is written otherwise.
    WrittenAt,
    DataUrl,
}

/// Every keyword in one automaton, and what each leads to.
#[derive(Debug)]
pub struct Patterns {
    keywords: keywords::Keywords,
    cues: Vec<Cue>,
    secrets: Secrets,
    emails: emails::Emails,
}

// === impl Found ===

impl<'a> Found<'a> {
    pub(super) fn new(hits: &'a mut Vec<Hit>, labels: &'a mut Labels) -> Self {
        Self {
            hits,
            labels,
            unreadable: 0,
            overflowed: false,
            read: ReadTo::default(),
            statement: markings::Statement::default(),
        }
    }

    pub(super) fn hit(&mut self, range: Range<usize>, kind: Kind, confidence: Confidence) {
        self.push(Hit { range, kind, confidence });
    }

    /// Keeps a hit, while there is room for one.
    pub(super) fn push(&mut self, hit: Hit) {
        if self.hits.len() < PLACES_MAX {
            self.hits.push(hit);
        } else {
            self.overflowed = true;
        }
    }
}

// === impl Patterns ===

impl Patterns {
    /// Builds the automaton and the patterns behind it.
    pub(super) fn new() -> Self {
        let mut words: Vec<(&str, Cue)> = vec![(";base64,", Cue::DataUrl)];
        words.extend(emails::AT_WORDS.map(|word| (word, Cue::WrittenAt)));
        words.extend(secrets::keywords().map(|(word, cue)| (word, Cue::Secret(cue))));
        words.extend(markings::KEYWORDS.map(|(word, marking)| (word, Cue::Marking(marking))));
        Self {
            keywords: keywords::Keywords::new(words.iter().map(|(word, _)| *word)),
            cues: words.into_iter().map(|(_, cue)| cue).collect(),
            secrets: Secrets::new(),
            emails: emails::Emails::new(),
        }
    }

    /// Finds everything in one text, and in what stands encoded in it. `prose` is text of the
    /// client's own; a word of a schema that looks like a banner is none.
    pub(super) fn scan(
        &self,
        plain: &Plain<'_>,
        prose: bool,
        settings: &Settings,
        found: &mut Found<'_>,
    ) {
        self.scan_layer(plain.text(), prose, settings, found);
        encoded::scan(plain.text(), found, &mut |decoded, inner| {
            self.scan_layer(Plain::of(decoded).text(), prose, settings, inner);
        });
    }

    fn scan_layer(&self, text: &str, prose: bool, settings: &Settings, found: &mut Found<'_>) {
        self.keywords.each(text, |word, at| {
            if redact::is_token(text, at.start) {
                return;
            }
            match self.cues[word] {
                Cue::Secret(cue) => self.secrets.look(text, at, cue, found),
                Cue::Marking(marking) if prose => {
                    markings::look(text, at, marking, settings, found);
                }
                Cue::Marking(marking) => {
                    markings::look_banner(text, at, marking, found);
                }
                Cue::WrittenAt => self.emails.written(text, at, found),
                Cue::DataUrl => found.unreadable += u32::from(is_data_url(text, at.start)),
            }
        });
        markings::statement(found);
        let (at_signs, digits) = count(text.as_bytes());
        if at_signs {
            self.emails.signs(text, found);
        }
        if digits >= numbers::DIGITS_MIN {
            numbers::scan(text, found);
        }
    }
}

/// Whether there is an `@`, and how many digits there are.
fn count(bytes: &[u8]) -> (bool, usize) {
    // Sums of one byte each, so that the machine adds many at once.
    let sum = |run: &[u8]| run.iter().map(|byte| u8::from(byte.is_ascii_digit())).sum::<u8>();
    let digits = bytes.chunks(usize::from(u8::MAX)).map(|run| usize::from(sum(run))).sum();
    (bytes.contains(&b'@'), digits)
}

fn is_data_url(text: &str, at: usize) -> bool {
    let from = at.saturating_sub(DATA_URL_HEAD_MAX);
    let head = &text.as_bytes()[from..at];
    let head = head.rsplit(|byte| byte.is_ascii_whitespace()).next().unwrap_or(head);
    head.windows(5).any(|window| window.eq_ignore_ascii_case(b"data:"))
}

/// Sorts hits and drops those that lie within another of the same or a more telling kind.
pub(super) fn drop_contained(hits: &mut Vec<Hit>) {
    hits.sort_by_key(|hit| (hit.range.start, Reverse(hit.range.end), Reverse(hit.kind)));
    // For each kind, how far the hits that were kept reach; they all begin earlier.
    let mut reached: Vec<(Kind, usize)> = Vec::new();
    hits.retain(|hit| {
        let covered = reached.iter().any(|(kind, end)| *kind >= hit.kind && *end >= hit.range.end);
        if !covered {
            match reached.iter_mut().find(|(kind, _)| *kind == hit.kind) {
                Some((_, end)) => *end = (*end).max(hit.range.end),
                None => reached.push((hit.kind, hit.range.end)),
            }
        }
        !covered
    });
}
