//! A text as patterns read it: without the letters that only hide things.
//!
//! Invisible characters go, look-alikes become the ASCII letter, digit, space or hyphen they look
//! like. Results and arguments of tools are JSON within a string of JSON: their escapes become what
//! they stand for, however often they were escaped, or the `n` of a line break would be part of
//! the word behind it. (The price: in a path like `C:\new` that letter is lost.) Most texts have
//! nothing of this and are borrowed. Positions lead back to the text as it was sent, so that
//! redaction replaces what stood there.

use std::{borrow::Cow, ops::Range};

/// The first code points of the decimal digits of other scripts, each with nine behind it.
const ZEROS: [u32; 12] =
    [0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xc66, 0xe50, 0x1040, 0x17e0];

/// The first code point of the scripts whose words need no spaces between them, and of others that
/// seldom touch a number. Before it lie Latin, Greek, Cyrillic and Armenian.
const LATER_SCRIPTS: char = '\u{590}';

/// A text and the way back to where its parts stood.
#[derive(Clone)]
pub(super) struct Plain<'a> {
    text: Cow<'a, str>,
    /// After each changed character: the place here, and the place in the original. Half the size
    /// of a `usize` each, for there may be one for every two bytes; no body is that long.
    shifts: Vec<(u32, u32)>,
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
        let mut plain = Self { text: Cow::Borrowed(original), shifts: Vec::new() };
        // One pass without a way out, so that the machine looks at many bytes at once.
        if !original.bytes().fold(false, |found, byte| found | may_change(byte)) {
            return plain;
        }
        let (mut text, mut at, mut kept) = (String::new(), 0, 0);
        while let Some(byte) = original.as_bytes().get(at) {
            if !may_change(*byte) {
                at += 1;
                continue;
            }
            let (length, fold) = read(&original[at..]);
            if !matches!(fold, Fold::Keep) {
                text.push_str(&original[kept..at]);
                if let Fold::Become(other) = fold {
                    text.push(other);
                }
                kept = at + length;
                plain.shifts.push((narrow(text.len()), narrow(kept)));
            }
            at += length;
        }
        if !plain.shifts.is_empty() {
            text.push_str(&original[kept..]);
            plain.text = Cow::Owned(text);
        }
        plain
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
        let behind = self.shifts.partition_point(|(here, _)| wide(*here) <= at);
        match behind.checked_sub(1).map(|index| self.shifts[index]) {
            Some((here, original)) => wide(original) + (at - wide(here)),
            None => at,
        }
    }
}

/// Whether a character that begins with this byte may be read as another.
fn may_change(byte: u8) -> bool {
    !byte.is_ascii() || byte == b'\\'
}

fn narrow(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

fn wide(place: u32) -> usize {
    usize::try_from(place).unwrap_or(usize::MAX)
}

/// Whether a word goes on through `letter`, so that what stands beside it is a part of the word.
/// In Chinese or Japanese a number stands between two letters as it does between two spaces
/// elsewhere; so do quotes, bullets and dashes, and the sign in `nº`.
pub(super) fn goes_on(letter: char) -> bool {
    let spaced = letter < LATER_SCRIPTS && !matches!(letter, 'ª' | 'º');
    letter.is_ascii_alphanumeric() || (spaced && letter.is_alphabetic())
}

/// The first character of `text`, or the escape that begins there: how many bytes it has, and what
/// becomes of it.
fn read(text: &str) -> (usize, Fold) {
    match text.chars().next() {
        Some('\\') => escape(text),
        Some(letter) => (letter.len_utf8(), fold(letter)),
        None => (1, Fold::Keep),
    }
}

/// The escape of JSON that `text` begins with: how many bytes it has, and what becomes of it. Each
/// further layer of JSON doubles the backslashes.
fn escape(text: &str) -> (usize, Fold) {
    let slashes = text.bytes().take_while(|byte| *byte == b'\\').count();
    let behind = &text[slashes..];
    let become_one = |letter| (slashes + 1, Fold::Become(letter));
    match behind.as_bytes().first() {
        Some(b'n' | b'r') => become_one('\n'),
        Some(b't' | b'f' | b'b') => become_one('\t'),
        Some(b'"') => become_one('"'),
        Some(b'/') => become_one('/'),
        Some(b'u') => match code_point(behind) {
            Some((letter, length)) => match fold(letter) {
                Fold::Keep => (slashes + length, Fold::Become(letter)),
                other => (slashes + length, other),
            },
            None => (slashes, Fold::Keep),
        },
        _ => (slashes, Fold::Keep),
    }
}

/// The character of `u00e4`, or of two halves with backslashes between them, and its length.
fn code_point(text: &str) -> Option<(char, usize)> {
    const UNIT_BYTES: usize = 5;
    let first = unit(text)?;
    if let Some(letter) = char::from_u32(u32::from(first)) {
        return Some((letter, UNIT_BYTES));
    }
    let rest = &text[UNIT_BYTES..];
    let slashes = rest.bytes().take_while(|byte| *byte == b'\\').count();
    let second = unit(&rest[slashes..])?;
    let letter = char::decode_utf16([first, second]).next()?.ok()?;
    Some((letter, UNIT_BYTES + slashes + UNIT_BYTES))
}

/// The code unit of `u00e4`.
fn unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix('u')?.get(..4)?;
    let hexadecimal = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    hexadecimal.then(|| u16::from_str_radix(digits, 16).ok())?
}

/// What becomes of `letter`; ASCII always stays.
fn fold(letter: char) -> Fold {
    let code = u32::from(letter);
    match code {
        // The rest of Latin, and Chinese, Japanese and Korean, told first because they are many.
        0..=0x9f | 0xae..=0x34e | 0x3001..=0xfdff => Fold::Keep,
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
    fn escapes_are_read_as_what_they_stand_for_and_lead_back_to_their_place() {
        for (original, read) in [
            (r"a\nb", "a\nb"),
            (r"a\\\nb\tc", "a\nb\tc"),
            (r#"{\"k\": \"a\/b\"}"#, r#"{"k": "a/b"}"#),
            (r"K\u00f6ln \u201c41\uff11\u201d", "Köln \u{201c}411\u{201d}"),
            (r"\ud83d\ude00 \\ud835\\udfd2", "\u{1f600} 4"),
            (r"\\server\share \d \u12 \u+041 \ud83d \", r"\\server\share \d \u12 \u+041 \ud83d \"),
        ] {
            assert_eq!(Plain::of(original).text(), read, "{original}");
        }
        let original = r#"{\"mail\": \"\\nana\u0040example.org\\n\"}"#;
        let plain = Plain::of(original);
        let at = plain.text().find("ana@example.org").expect("the address is read");
        let place = plain.original(at..at + "ana@example.org".len());
        assert_eq!(&original[place], r"ana\u0040example.org");
    }

    #[test]
    fn a_word_ends_at_signs_and_at_scripts_without_spaces() {
        for letter in ['a', 'Z', '7', 'é', 'я', 'ß'] {
            assert!(goes_on(letter), "{letter}");
        }
        for letter in ['“', '„', '…', '•', '—', '是', 'は', '。', 'º', '_', ' '] {
            assert!(!goes_on(letter), "{letter}");
        }
    }

    #[test]
    fn ordinary_text_is_not_copied() {
        for text in ["plain", "Grüße aus Zürich", "日本語の文", r"C:\Program Files\x"] {
            assert!(matches!(Plain::of(text).text, Cow::Borrowed(_)), "{text}");
        }
    }
}
