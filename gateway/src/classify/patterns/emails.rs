//! Addresses of mail, with a sign or with words for it.

use std::ops::Range;

use regex::Regex;

use crate::classify::{Confidence, Kind, patterns::Found};

/// Ways to write an `@` that people use to hide an address.
pub(super) const AT_WORDS: [&str; 7] = ["(at)", "[at]", "{at}", "<at>", " at ", "%40", "&#64;"];

/// Longest part in front of the sign (RFC 5321, section 4.5.3.1), and longest name behind it.
const LOCAL_MAX: usize = 64;
const DOMAIN_MAX: usize = 253;

/// Last labels that are no domain: `icon@2x.png` is a file.
const FILE_ENDINGS: [&str; 12] =
    ["png", "jpg", "jpeg", "gif", "svg", "webp", "pdf", "css", "js", "html", "json", "txt"];

/// Names that end most domains people spell out.
const SPOKEN_ENDINGS: [&str; 20] = [
    "com", "org", "net", "edu", "gov", "mil", "info", "io", "eu", "de", "fr", "uk", "it", "es",
    "nl", "be", "ch", "pl", "se", "ie",
];

/// The pattern behind a written sign.
#[derive(Debug)]
pub(super) struct Emails {
    dotted: Regex,
    spoken: Regex,
}

// === impl Emails ===

impl Emails {
    pub(super) fn new() -> Self {
        let dotted = r"^ *[\w-]+(?: *(?:\.|[\[({<]dot[\])}>]) *[\w-]+)+";
        let spoken = r"^[\w-]+(?: dot [\w-]+)+";
        let regex = |pattern| Regex::new(pattern).expect("the pattern is fixed");
        Self { dotted: regex(dotted), spoken: regex(spoken) }
    }

    /// Finds addresses around every `@`. A space behind the sign, or one on each side of it, is
    /// evasion; a space in front alone makes it a handle.
    pub(super) fn signs(&self, text: &str, found: &mut Found<'_>) {
        let bytes = text.as_bytes();
        for (at, _) in text.match_indices('@') {
            let ahead = at > 0 && bytes[at - 1] == b' ';
            let after = bytes.get(at + 1) == Some(&b' ');
            if ahead && !after {
                continue;
            }
            let (before, behind) = (at - usize::from(ahead), at + 1 + usize::from(after));
            let Some(start) = local_start(text, before) else { continue };
            let Some(end) = domain_end(text, behind) else { continue };
            // `git@host:path` is a place of code, the same for everybody.
            let code = &text[start..before] == "git" && bytes.get(end) == Some(&b':');
            if !code && !is_password(text, start) {
                let confidence = if after { Confidence::Medium } else { Confidence::High };
                found.hit(start..end, Kind::Email, confidence);
            }
        }
    }

    /// The end of a domain with spoken dots: `example dot org`, up to the last name that ends
    /// domains, for `dot` is an everyday word.
    fn spoken(&self, window: &str, start: usize) -> Option<usize> {
        let domain = self.spoken.find(window)?.as_str();
        let names = domain.match_indices(" dot ").map(|(at, dot)| at + dot.len());
        let ends = names.filter_map(|name| {
            let ending = domain[name..].split(' ').next()?;
            SPOKEN_ENDINGS.contains(&ending).then_some(name + ending.len())
        });
        ends.last().map(|end| start + end)
    }

    /// Finds an address around a written sign.
    pub(super) fn written(&self, text: &str, sign: Range<usize>, found: &mut Found<'_>) {
        let before = text[..sign.start].trim_end_matches(' ').len();
        let word = &text[sign.clone()];
        if sign.start - before > 2 {
            return;
        }
        let Some(start) = local_start(text, before) else { return };
        let window = window(text, sign.end, DOMAIN_MAX);
        let (end, confidence) = match word {
            "%40" | "&#64;" => (domain_end(text, sign.end), Confidence::High),
            _ if word.starts_with(' ') => (self.spoken(window, sign.end), Confidence::Medium),
            _ => {
                let end = self.dotted.find(window).map(|found| sign.end + found.end());
                (end, Confidence::Medium)
            }
        };
        if let Some(end) = end {
            found.hit(start..end, Kind::Email, confidence);
        }
    }
}

/// Whether what stands in front of the sign is the password of `name://user:password@host`.
fn is_password(text: &str, start: usize) -> bool {
    let Some(head) = text[..start].strip_suffix(':') else { return false };
    let bytes = head.as_bytes();
    let head = &bytes[bytes.len().saturating_sub(LOCAL_MAX)..];
    let address = head.rsplit(u8::is_ascii_whitespace).next().unwrap_or(head);
    address.windows(3).any(|window| window == b"://")
}

/// At most `length` bytes of `text` from `start`, cut at a character.
fn window(text: &str, start: usize, length: usize) -> &str {
    let mut end = text.len().min(start + length);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[start..end]
}

/// Where the part in front of the sign begins; none where there is none.
fn local_start(text: &str, end: usize) -> Option<usize> {
    let fits = |letter: &char| letter.is_alphanumeric() || "._%+-'!#$&*/=?^`{|}~".contains(*letter);
    let letters = text[..end].chars().rev().take(LOCAL_MAX).take_while(fits);
    let start = end - letters.map(char::len_utf8).sum::<usize>();
    // Quotes and brackets of the sentence around an address are no part of it.
    let part = text[start..end].trim_start_matches(|letter: char| !letter.is_alphanumeric());
    let named = part.chars().any(char::is_alphanumeric) && !part.starts_with('*');
    named.then(|| end - part.len())
}

/// Where the domain behind the sign ends; none where there is none.
fn domain_end(text: &str, start: usize) -> Option<usize> {
    let fits = |letter: &char| letter.is_alphanumeric() || matches!(letter, '.' | '-');
    let length: usize =
        text[start..].chars().take(DOMAIN_MAX).take_while(fits).map(char::len_utf8).sum();
    let domain = text[start..start + length].trim_end_matches(['.', '-']);
    let (rest, last) = domain.rsplit_once('.')?;
    let named = last.chars().count() >= 2 && last.chars().all(char::is_alphabetic);
    let ascii = last.starts_with("xn--");
    let host = rest.starts_with(char::is_alphanumeric) && !rest.contains("..");
    let file = FILE_ENDINGS.iter().any(|ending| last.eq_ignore_ascii_case(ending));
    ((named || ascii) && host && !file).then_some(start + domain.len())
}
