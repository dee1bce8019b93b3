//! A text as patterns read it: without the letters that only hide things.
//!
//! Invisible characters go, look-alikes become the ASCII letter, digit, space or hyphen they look
//! like. Most texts have none and are borrowed. Positions lead back to the text as it was sent,
//! so that redaction replaces what stood there.

use std::{borrow::Cow, ops::Range};

/// The first code points of the decimal digits of other scripts, each with nine behind it.
const ZEROS: [u32; 12] =
    [0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xc66, 0xe50, 0x1040, 0x17e0];

/// A text and the way back to where its parts stood.
#[derive(Clone)]
pub(super) struct Plain<'a> {
    text: Cow<'a, str>,
    /// After each changed character: the place here, and the place in the original.
    shifts: Vec<(usize, usize)>,
}

/// What becomes of one character.
enum Fold {
    Keep,
    Drop,
    Become(char),
}

// === impl Plain ===

impl<'a> Plain<'a> {
    /// Reads `original`; copies it only where something must change.
    pub(super) fn of(original: &'a str) -> Self {
        let mut shifts = Vec::new();
        if original.is_ascii() {
            return Self { text: Cow::Borrowed(original), shifts };
        }
        let mut text = String::new();
        let mut kept = 0;
        for (at, letter) in original.char_indices() {
            let fold = fold(letter);
            if matches!(fold, Fold::Keep) {
                continue;
            }
            text.push_str(&original[kept..at]);
            if let Fold::Become(other) = fold {
                text.push(other);
            }
            kept = at + letter.len_utf8();
            shifts.push((text.len(), kept));
        }
        if shifts.is_empty() {
            return Self { text: Cow::Borrowed(original), shifts };
        }
        text.push_str(&original[kept..]);
        Self { text: Cow::Owned(text), shifts }
    }

    /// The text as patterns read it.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Where a range of this text stood in the original.
    pub(super) fn original(&self, range: Range<usize>) -> Range<usize> {
        self.place(range.start)..self.place(range.end)
    }

    fn place(&self, at: usize) -> usize {
        let behind = self.shifts.partition_point(|(here, _)| *here <= at);
        match behind.checked_sub(1).map(|index| self.shifts[index]) {
            Some((here, original)) => original + (at - here),
            None => at,
        }
    }
}

/// What becomes of `letter`; ASCII always stays.
fn fold(letter: char) -> Fold {
    let code = u32::from(letter);
    match code {
        0..=0x9f => Fold::Keep,
        0xad | 0x34f | 0x61c | 0x180e | 0x200b..=0x200f | 0x202a..=0x202e | 0x2060..=0x206f => {
            Fold::Drop
        }
        0xfe00..=0xfe0f | 0xfeff | 0xe0000..=0xe01ef => Fold::Drop,
        0xa0 | 0x1680 | 0x2000..=0x200a | 0x202f | 0x205f | 0x3000 => Fold::Become(' '),
        0x2028 | 0x2029 => Fold::Become('\n'),
        0x2010..=0x2013 | 0x2212 | 0xfe58 | 0xfe63 => Fold::Become('-'),
        0xff01..=0xff5e => ascii(code - 0xfee0),
        0x1d400..=0x1d6a3 => mathematical((code - 0x1d400) % 52),
        0x1d7ce..=0x1d7ff => ascii((code - 0x1d7ce) % 10 + u32::from(b'0')),
        0x370..=0x52f => look_alike(letter).or_else(|| digit(code)).unwrap_or(Fold::Keep),
        _ => digit(code).unwrap_or(Fold::Keep),
    }
}

fn ascii(code: u32) -> Fold {
    char::from_u32(code).map_or(Fold::Keep, Fold::Become)
}

/// The letters of a mathematical alphabet: 26 large ones, then 26 small ones.
fn mathematical(letter: u32) -> Fold {
    let base = if letter < 26 { u32::from(b'A') } else { u32::from(b'a') - 26 };
    ascii(base + letter)
}

fn digit(code: u32) -> Option<Fold> {
    let zero = ZEROS.iter().find(|zero| (**zero..**zero + 10).contains(&code))?;
    Some(ascii(code - zero + u32::from(b'0')))
}

/// The Latin letter that a Greek or Cyrillic one looks like. Writing those into a marking or a
/// name is the cheapest way around a filter.
#[rustfmt::skip]
fn look_alike(letter: char) -> Option<Fold> {
    let latin = match letter {
        'А' | 'Α' => 'A', 'В' | 'Β' => 'B', 'С' => 'C', 'Е' | 'Ε' => 'E', 'Ԍ' => 'G',
        'Н' | 'Η' => 'H', 'І' | 'Ι' => 'I', 'Ј' => 'J', 'К' | 'Κ' => 'K', 'М' | 'Μ' => 'M',
        'Ν' => 'N', 'О' | 'Ο' => 'O', 'Р' | 'Ρ' => 'P', 'Ԛ' => 'Q', 'Ѕ' => 'S',
        'Т' | 'Τ' => 'T', 'Ԝ' => 'W', 'Х' | 'Χ' => 'X', 'У' | 'Υ' => 'Y', 'Ζ' => 'Z',
        'а' => 'a', 'с' => 'c', 'ԁ' => 'd', 'е' => 'e', 'һ' => 'h', 'і' => 'i', 'ј' => 'j',
        'о' | 'ο' => 'o', 'р' => 'p', 'ԛ' => 'q', 'ѕ' => 's', 'ν' => 'v', 'ԝ' => 'w',
        'х' => 'x', 'у' => 'y',
        _ => return None,
    };
    Some(Fold::Become(latin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_letters_are_read_and_lead_back_to_their_place() {
        let original = "für x\u{200b}y４１ ok";
        let plain = Plain::of(original);
        assert_eq!(plain.text(), "für xy41 ok");
        let found = plain.text().find("xy41").expect("the letters stand side by side");
        assert_eq!(&original[plain.original(found..found + 4)], "x\u{200b}y４１");
        let end = plain.text().find("ok").expect("the end is unchanged");
        assert_eq!(&original[plain.original(end..end + 2)], "ok");
    }

    #[test]
    fn ordinary_text_is_not_copied() {
        for text in ["plain", "Grüße aus Zürich", "日本語の文"] {
            assert!(matches!(Plain::of(text).text, Cow::Borrowed(_)), "{text}");
        }
    }
}
