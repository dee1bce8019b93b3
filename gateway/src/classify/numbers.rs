//! Numbers that name a person or an account: payment cards, phones, IBANs, social security.
//!
//! A run is digits in groups with at most three separators between them. Each form is checked
//! by more than its digits: issuer and check digit, a plus sign, a known grouping, or a word in
//! front of it. Digits are everywhere, and Luhn alone passes one random number in ten.

use std::ops::Range;

use crate::classify::{
    Confidence, Kind,
    checksums::{IBAN_MAX, iban_length, is_card, is_iban, may_be_card},
    patterns::{Found, Hit},
    plain::goes_on,
};

/// Fewest digits that any form here has.
pub(super) const DIGITS_MIN: usize = 7;

/// The longest card number, and the longest phone number with its prefix.
const CARD_DIGITS_MAX: usize = 19;
const PHONE_DIGITS_MAX: usize = 15;

/// Groups of one phone number; `06 12 34 56 78` behind a country code has six.
const PHONE_GROUPS_MAX: usize = 7;

/// How far in front of a number a word counts as speaking of it.
const CONTEXT_BYTES: usize = 32;

const PHONE_WORDS: [&str; 22] = [
    "tel",
    "phone",
    "mobile",
    "cell",
    "fax",
    "telefon",
    "handy",
    "mobil",
    "whatsapp",
    "sms",
    "call me",
    "dial",
    "rufnummer",
    "telephone",
    "téléphone",
    "teléfono",
    "telefono",
    "reach me",
    "電話",
    "电话",
    "手机",
    "携帯",
];
const CARD_WORDS: [&str; 14] = [
    "card",
    "visa",
    "mastercard",
    "amex",
    "credit",
    "debit",
    "pan",
    "karte",
    "kreditkarte",
    "carte",
    "tarjeta",
    "cvv",
    "卡号",
    "カード",
];

/// Digits side by side.
#[derive(Clone)]
struct Group {
    start: usize,
    end: usize,
}

/// Finds every number of interest in `text`.
pub(super) fn scan(text: &str, found: &mut Found<'_>) {
    let first = found.hits.len();
    ibans(text, found);
    let ibans: Vec<Range<usize>> =
        found.hits[first..].iter().map(|hit| hit.range.clone()).collect();
    let mut groups = Vec::new();
    // Accounts and groups both come in their order, so each is looked at once.
    let (mut at, mut passed) = (0, 0);
    while let Some(end) = next_run(text, at, &mut groups) {
        groups.retain(|group| {
            passed += ibans[passed..].iter().take_while(|iban| iban.end <= group.start).count();
            !ibans.get(passed).is_some_and(|iban| iban.contains(&group.start))
        });
        if !groups.is_empty() {
            run(text, &groups, found);
        }
        at = end;
    }
}

/// Reads the next run of groups at or behind `from`; gives where it ends.
fn next_run(text: &str, from: usize, groups: &mut Vec<Group>) -> Option<usize> {
    groups.clear();
    let bytes = text.as_bytes();
    let mut at = from + bytes.get(from..)?.iter().position(u8::is_ascii_digit)?;
    loop {
        let start = at;
        while bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        let neighbours = [text[..start].chars().next_back(), text[at..].chars().next()];
        let glued = neighbours.into_iter().flatten().any(|letter| letter == '_' || goes_on(letter));
        if glued {
            // A number grown into a word is a name or a hash: it ends the run.
            if !groups.is_empty() {
                return Some(at);
            }
        } else {
            groups.push(Group { start, end: at });
        }
        let behind = &bytes[at..bytes.len().min(at + 4)];
        let gap = behind.iter().take_while(|byte| b" -./()".contains(byte)).count();
        let more = behind.get(gap).is_some_and(u8::is_ascii_digit);
        if glued || gap == 0 || gap > 3 || !more {
            return Some(at);
        }
        at += gap;
    }
}

/// Finds the numbers in one run: cards first, and people's numbers in what they leave, so that
/// no phone swallows the beginning of a card.
fn run(text: &str, groups: &[Group], found: &mut Found<'_>) {
    let (mut index, mut free) = (0, 0);
    while index < groups.len() {
        match card(text, &groups[index..]) {
            Some((count, hit)) => {
                people(text, &groups[free..index], found);
                found.push(hit);
                index += count;
                free = index;
            }
            None => index += 1,
        }
    }
    people(text, &groups[free..], found);
}

/// Finds phones and social security numbers.
fn people(text: &str, groups: &[Group], found: &mut Found<'_>) {
    let mut index = 0;
    while index < groups.len() {
        let rest = &groups[index..];
        match social_security(text, rest).or_else(|| phone(text, rest, index == 0)) {
            Some((count, hit)) => {
                found.push(hit);
                index += count;
            }
            None => index += 1,
        }
    }
}

/// A card number at the first group: how many groups it takes, and the hit.
fn card(text: &str, groups: &[Group]) -> Option<(usize, Hit)> {
    let bytes = text.as_bytes();
    let start = groups.first()?.start;
    // Behind a decimal point stand places of a number.
    let fraction = start >= 2 && bytes[start - 1] == b'.' && bytes[start - 2].is_ascii_digit();
    let mut digits = Vec::with_capacity(CARD_DIGITS_MAX);
    let mut best = None;
    for (count, group) in groups.iter().enumerate() {
        if digits.len() + (group.end - group.start) > CARD_DIGITS_MAX {
            break;
        }
        digits.extend(bytes[group.start..group.end].iter().map(|byte| byte - b'0'));
        if !may_be_card(&digits) {
            break;
        }
        let grouping = &groups[..=count];
        if !is_card(&digits) || (fraction && count == 0) {
            continue;
        }
        if let Some(confidence) = card_confidence(text, grouping) {
            let range = start..group.end;
            best = Some((count + 1, Hit { range, kind: Kind::Card, confidence }));
        }
    }
    best
}

/// How sure a card number is, by its grouping and the words in front of it.
fn card_confidence(text: &str, groups: &[Group]) -> Option<Confidence> {
    let sizes: Vec<usize> = groups.iter().map(|group| group.end - group.start).collect();
    let usual =
        matches!(sizes.as_slice(), [_] | [4, 4, 4, 4] | [4, 6, 5] | [4, 6, 4] | [4, 4, 4, 4, _]);
    let spaced = sizes.iter().all(|size| *size == 1) || sizes.iter().all(|size| *size == 2);
    if usual || spaced {
        return Some(Confidence::High);
    }
    says(text, groups[0].start, &CARD_WORDS).then_some(Confidence::Medium)
}

/// A US social security number: `123-45-6789`, whose parts are never all zero.
fn social_security(text: &str, groups: &[Group]) -> Option<(usize, Hit)> {
    let [area, group, serial, rest @ ..] = groups else { return None };
    let part = |group: &Group| &text[group.start..group.end];
    let sizes = (part(area).len(), part(group).len(), part(serial).len()) == (3, 2, 4);
    let dashes = [(area, group), (group, serial)];
    let dashed = dashes.iter().all(|(one, two)| &text[one.end..two.start] == "-");
    let joined = text[..area.start].ends_with('-')
        || rest.first().is_some_and(|next| &text[serial.end..next.start] == "-");
    let given = !matches!(part(area), "000" | "666") && !part(area).starts_with('9');
    let zeros = part(group) == "00" || part(serial) == "0000";
    if !sizes || !dashed || joined || !given || zeros {
        return None;
    }
    let range = area.start..serial.end;
    Some((3, Hit { range, kind: Kind::SocialSecurity, confidence: Confidence::Medium }))
}

/// A phone number at the first group: how many groups it takes, and the hit. `first` says that
/// no digits stand in front of the group.
fn phone(text: &str, groups: &[Group], first: bool) -> Option<(usize, Hit)> {
    let taken = within_length(groups);
    let start = taken.first()?.start;
    let (before, ahead) = (text[..start].chars().next_back(), start.checked_sub(2));
    let free = ahead.is_none_or(|place| !text.as_bytes()[place].is_ascii_alphanumeric());
    let international = before == Some('+') && free && !text[start..].starts_with('0');
    let bracket = before == Some('(');
    let (confidence, count) = if international && digits(taken) >= 8 {
        (Confidence::High, taken.len())
    } else {
        let said = first && digits(taken) >= DIGITS_MIN && says(text, start, &PHONE_WORDS);
        match national(text, taken, first) {
            Some(count) if said => (Confidence::High, count),
            Some(count) => (Confidence::Medium, count),
            None if said && !is_date(text, taken) => (Confidence::High, taken.len()),
            None => return None,
        }
    };
    let start = if international || bracket { start - 1 } else { start };
    let range = start..taken[count - 1].end;
    Some((count, Hit { range, kind: Kind::Phone, confidence }))
}

/// As many groups as one phone number may have.
fn within_length(groups: &[Group]) -> &[Group] {
    let fits = |count: &usize| digits(&groups[..*count]) <= PHONE_DIGITS_MAX;
    let count = (1..=groups.len().min(PHONE_GROUPS_MAX)).take_while(fits).last();
    &groups[..count.unwrap_or(0)]
}

fn digits(groups: &[Group]) -> usize {
    groups.iter().map(|group| group.end - group.start).sum()
}

/// How many groups make a number in one of the national ways to write it.
fn national(text: &str, groups: &[Group], first: bool) -> Option<usize> {
    let sizes: Vec<usize> = groups.iter().map(|group| group.end - group.start).collect();
    let head = &text[groups[0].start..groups[0].end];
    // Within a list of numbers only hyphens and dots tell where a phone begins.
    let clear = |count: usize| {
        let gaps = groups[..count].windows(2);
        first || gaps.into_iter().all(|pair| !text[pair[0].end..pair[1].start].contains(' '))
    };
    match sizes.as_slice() {
        [3, 3, 4, ..] if clear(3) && american(text, &groups[..2]) => Some(3),
        [1, 3, 3, 4, ..] if head == "1" && clear(4) && american(text, &groups[1..3]) => Some(4),
        [2, 2, 2, 2, 2, ..] if first && head.starts_with('0') && head != "00" => Some(5),
        _ if first && trunk(text, groups) => Some(groups.len()),
        _ => None,
    }
}

/// Area and exchange of the North American plan: neither begins with 0 or 1.
fn american(text: &str, groups: &[Group]) -> bool {
    groups.iter().all(|group| !matches!(text.as_bytes()[group.start], b'0' | b'1'))
}

/// `030 1234567`, `0171/2345678`, `0049 30 …`: zeros in front, then groups.
fn trunk(text: &str, groups: &[Group]) -> bool {
    let head = &text[groups[0].start..groups[0].end];
    let address = groups.len() == 4 && groups.iter().all(|group| group.end - group.start <= 3);
    let zeros = head.bytes().take_while(|byte| *byte == b'0').count();
    (2..=5).contains(&groups.len())
        && digits(groups) >= 9
        && (3..=5).contains(&head.len())
        && (1..=2).contains(&zeros)
        && zeros < head.len()
        && !address
}

/// Whether the groups read as a day: year first or last, month and day small.
fn is_date(text: &str, groups: &[Group]) -> bool {
    let number = |group: &Group| text[group.start..group.end].parse::<u32>().unwrap_or(u32::MAX);
    let numbers: Vec<u32> = groups.iter().take(3).map(number).collect();
    match numbers.as_slice() {
        [year @ 1900..=2100, 1..=12, 1..=31] | [1..=31, 1..=31, year @ 1900..=2100] => *year > 0,
        _ => false,
    }
}

/// Whether one of the words stands shortly in front of `at`.
fn says(text: &str, at: usize, words: &[&str]) -> bool {
    let mut from = at.saturating_sub(CONTEXT_BYTES);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let before = text[from..at].to_lowercase();
    words.iter().any(|word| {
        before.match_indices(word).any(|(place, _)| {
            let ahead = before[..place].chars().next_back();
            let behind = before[place + word.len()..].chars().next();
            // An underscore goes on: `[PHONE_1]` stands for a number and speaks of none.
            let joined =
                |letter: char| letter == '_' || (goes_on(letter) && !letter.is_ascii_digit());
            !ahead.is_some_and(joined) && !behind.is_some_and(joined)
        })
    })
}

/// Finds IBANs: two letters, two digits, and as many as the country has, in any grouping.
fn ibans(text: &str, found: &mut Found<'_>) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at + 4 < bytes.len() {
        let begins =
            bytes[at].is_ascii_alphabetic() && (at == 0 || !bytes[at - 1].is_ascii_alphanumeric());
        match begins.then(|| iban_end(bytes, at)).flatten() {
            Some(end) => {
                found.hit(at..end, Kind::Iban, Confidence::High);
                at = end;
            }
            None => at += 1,
        }
    }
}

/// The end of the IBAN that begins at `start`, if one does. At most one separator stands between
/// two letters.
fn iban_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut letters = Vec::with_capacity(IBAN_MAX);
    let mut length = IBAN_MAX;
    let mut at = start;
    let mut gap = 0;
    while letters.len() < length {
        match *bytes.get(at)? {
            byte if byte.is_ascii_alphanumeric() => {
                letters.push(byte.to_ascii_uppercase());
                gap = 0;
            }
            b' ' | b'-' | b'.' if gap == 0 => gap = 1,
            _ => return None,
        }
        at += 1;
        match letters.as_slice() {
            [first, second] => length = iban_length([*first, *second])?,
            [_, _, check] | [_, _, _, check] if !check.is_ascii_digit() => return None,
            _ => {}
        }
    }
    let free = !bytes.get(at).is_some_and(u8::is_ascii_alphanumeric);
    // Words pass the check digits once in a hundred; they are not half made of digits.
    let digits = letters.iter().filter(|letter| letter.is_ascii_digit()).count();
    (free && digits * 2 >= length && is_iban(&letters)).then_some(at)
}
