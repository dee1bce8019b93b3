//! Takes categories out of a call's texts.
//!
//! A token stands for one value throughout the call (`[EMAIL_1]`), so that the model can still
//! tell two people apart. No token and no mask matches any pattern, or the rescan would fail.

use std::{collections::HashMap, ops::Range};

use bytes::Bytes;

use crate::{
    classify::{Kind, Place, Redaction},
    wire::{Call, Edit, json},
};

/// What a masked letter or digit becomes. No asterisk: a line of those ornaments a banner.
const MASK: char = '\u{2022}';

/// Longest name, and longest number, in a token.
const NAME_BYTES_MAX: usize = 12;

/// What replaces one range of a text.
struct Cut {
    range: Range<usize>,
    kind: Kind,
    how: Redaction,
}

/// Numbers the values of each kind, in the order they come.
#[derive(Default)]
pub struct Tokens {
    numbers: HashMap<(Kind, String), usize>,
    counts: HashMap<Kind, usize>,
}

/// The edits that take the named categories out of the call; `secret.*` names all that begin so.
/// Of two ways for one place the stricter holds. What cannot be replaced stays, and the rescan
/// then refuses the call. A second round over a call goes on with the tokens of the first.
pub fn edits(
    call: &Call,
    places: &[Place],
    redactions: &[(String, Redaction)],
    tokens: &mut Tokens,
) -> Vec<Edit> {
    let mut edits = Vec::new();
    let mut places = places.iter().peekable();
    while let Some(first) = places.next() {
        let mut cuts = Vec::new();
        cuts.extend(cut(first, redactions));
        while let Some(next) = places.next_if(|next| next.text == first.text) {
            cuts.extend(cut(next, redactions));
        }
        if cuts.is_empty() {
            continue;
        }
        let text = redacted(call.text(first.text), &merged(cuts), tokens);
        let mut value = Vec::with_capacity(text.len() + 2);
        json::write_string(&mut value, &text);
        edits.push(Edit { span: call.text_span(first.text), value: Bytes::from(value) });
    }
    edits
}

/// How many places [`edits`] replaces.
pub fn count(places: &[Place], redactions: &[(String, Redaction)]) -> u32 {
    let count = places.iter().filter(|place| cut(place, redactions).is_some()).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Whether the pattern names the category: itself, or a beginning with `*`.
pub fn covers(pattern: &str, category: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => category.starts_with(beginning),
        None => pattern == category,
    }
}

/// Whether the byte at `at` is within a token such as `[SECRET_1]`: its words are no cues, or
/// redaction would make new findings.
pub(super) fn is_token(text: &str, at: usize) -> bool {
    let bytes = text.as_bytes();
    let letter = |byte: &u8| byte.is_ascii_uppercase() || *byte == b'_';
    let before = bytes[..at].iter().rev().take(NAME_BYTES_MAX).take_while(|byte| letter(byte));
    let Some(start) = at.checked_sub(before.count() + 1) else { return false };
    let name =
        bytes[start + 1..].iter().take(NAME_BYTES_MAX).take_while(|byte| letter(byte)).count();
    let number = &bytes[start + 1 + name..];
    let digits =
        number.iter().take(NAME_BYTES_MAX).take_while(|byte| byte.is_ascii_digit()).count();
    bytes[start] == b'[' && name > 0 && digits > 0 && number.get(digits) == Some(&b']')
}

/// What makes two ways of writing one value the same: spaces and case of numbers, case of mail.
pub(super) fn identity(kind: Kind, value: &str) -> String {
    match kind {
        Kind::Phone | Kind::Iban | Kind::Card | Kind::SocialSecurity => {
            value.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
        }
        Kind::Email => value.to_lowercase(),
        Kind::Secret | Kind::AwsKey | Kind::PrivateKey | Kind::ItarStatement => value.to_owned(),
    }
}

/// The cut at a place, where a redaction asks for it and it can be made.
fn cut(place: &Place, redactions: &[(String, Redaction)]) -> Option<Cut> {
    let category = place.kind.category();
    let asked = redactions.iter().filter(|(pattern, _)| covers(pattern, category));
    let how = asked.map(|(_, how)| *how).max()?;
    let possible = place.replaceable && place.kind.removable();
    possible.then(|| Cut { range: place.range.clone(), kind: place.kind, how })
}

/// Joins overlapping cuts: the longer range, the more telling kind, the stricter way.
fn merged(mut cuts: Vec<Cut>) -> Vec<Cut> {
    cuts.sort_by_key(|cut| (cut.range.start, cut.range.end));
    let mut merged: Vec<Cut> = Vec::with_capacity(cuts.len());
    for cut in cuts {
        match merged.last_mut() {
            Some(last) if cut.range.start < last.range.end => {
                last.range.end = last.range.end.max(cut.range.end);
                last.kind = last.kind.max(cut.kind);
                last.how = last.how.max(cut.how);
            }
            _ => merged.push(cut),
        }
    }
    merged
}

fn redacted(text: &str, cuts: &[Cut], tokens: &mut Tokens) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for cut in cuts {
        out.push_str(&text[at..cut.range.start]);
        let value = &text[cut.range.clone()];
        match cut.how {
            Redaction::Tokenize => out.push_str(&tokens.token(cut.kind, value)),
            Redaction::Mask => {
                // Half an escape of JSON would break what stands around it.
                let shown = |c: char| !c.is_alphanumeric() && c != '\\';
                out.extend(value.chars().map(|c| if shown(c) { c } else { MASK }));
            }
            Redaction::Drop => {}
        }
        at = cut.range.end;
    }
    out.push_str(&text[at..]);
    out
}

// === impl Tokens ===

/// Shows no value.
impl std::fmt::Debug for Tokens {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tokens").field("counts", &self.counts).finish_non_exhaustive()
    }
}

impl Tokens {
    fn token(&mut self, kind: Kind, value: &str) -> String {
        let count = self.counts.entry(kind).or_default();
        let number = self.numbers.entry((kind, identity(kind, value))).or_insert_with(|| {
            *count += 1;
            *count
        });
        format!("[{}_{number}]", name(kind))
    }
}

/// The word in a token; it names the kind and holds nothing of the value.
fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Email => "EMAIL",
        Kind::Phone => "PHONE",
        Kind::Iban => "IBAN",
        Kind::SocialSecurity => "SSN",
        Kind::Card => "CARD",
        Kind::AwsKey => "AWS_KEY",
        Kind::Secret => "SECRET",
        Kind::PrivateKey => "PRIVATE_KEY",
        Kind::ItarStatement => "STATEMENT",
    }
}
