//! What stands in a text in base64: read if it is text, counted as unreadable if it is not.
//!
//! Encoding is the second cheapest way around a filter, and the usual way to paste a file. Two
//! layers are opened; a find within one is a find of the whole run, which redaction replaces.

use std::ops::Range;

use base64::{
    Engine,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use crate::classify::patterns::Found;

/// Shorter runs are words; sixteen bytes hold no address and no number worth hiding so.
const RUN_MIN: usize = 24;

/// A run of this length that is no text is taken for a file. Shorter ones are keys and hashes.
const FILE_MIN: usize = 512;

/// How many layers are opened.
const LAYERS_MAX: usize = 2;

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const PLAIN: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);
const URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, LENIENT);

/// Looks into every run of base64 with `look`.
pub(super) fn scan(text: &str, found: &mut Found<'_>, look: &mut dyn FnMut(&str, &mut Found<'_>)) {
    layer(text, LAYERS_MAX, found, look);
}

fn layer(
    text: &str,
    layers: usize,
    found: &mut Found<'_>,
    look: &mut dyn FnMut(&str, &mut Found<'_>),
) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(run) = next_run(bytes, at) {
        at = run.end;
        match decoded(&bytes[run.clone()]) {
            Some(inner) => {
                let first = found.hits.len();
                let read = std::mem::take(&mut found.read);
                look(&inner, found);
                if layers > 1 {
                    layer(&inner, layers - 1, found, look);
                }
                found.read = read;
                found.hits[first..].iter_mut().for_each(|hit| hit.range = run.clone());
            }
            None if is_file(&bytes[run.clone()]) => {
                found.unreadable = found.unreadable.saturating_add(1);
            }
            None => {}
        }
    }
}

/// The next run of letters of base64 that is long enough.
fn next_run(bytes: &[u8], from: usize) -> Option<Range<usize>> {
    let mut at = from;
    while at + RUN_MIN <= bytes.len() {
        // Of every stretch of this length one byte is looked at; words are far shorter.
        let Some(gap) = bytes[at..at + RUN_MIN].iter().rposition(|byte| !is_letter(*byte)) else {
            let length = bytes[at..].iter().take_while(|byte| is_letter(**byte)).count();
            let padding = bytes[at + length..].iter().take(2).take_while(|byte| **byte == b'=');
            return Some(at..at + length + padding.count());
        };
        at += gap + 1;
    }
    None
}

fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_')
}

/// The text that a run encodes; none where it encodes no text.
fn decoded(run: &[u8]) -> Option<String> {
    let engine = if run.iter().any(|byte| matches!(byte, b'-' | b'_')) { &URL } else { &PLAIN };
    let text = String::from_utf8(engine.decode(run).ok()?).ok()?;
    let readable = |letter: char| !letter.is_control() || letter.is_ascii_whitespace();
    text.chars().all(readable).then_some(text)
}

/// Whether a run that is no text looks like the bytes of a file: long, and of all sorts of
/// letters. A long word of one letter, or a number, is no file.
fn is_file(run: &[u8]) -> bool {
    let mut seen = [false; 256];
    run.iter().for_each(|byte| seen[usize::from(*byte)] = true);
    run.len() >= FILE_MIN && seen.iter().filter(|seen| **seen).count() >= 40
}
