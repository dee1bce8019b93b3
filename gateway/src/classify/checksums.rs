//! Checksums that turn a pattern into a finding: Luhn, IBAN mod 97.

/// Lengths of the IBANs of each country (SWIFT IBAN registry, release 99).
const IBAN_LENGTHS: &str = "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 \
    CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 \
    GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 \
    LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 \
    RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 \
    VG24 XK20 YE30";

/// The longest IBAN there is.
pub const IBAN_MAX: usize = 33;

/// Ranges of issuer numbers (first six digits) with the lengths of their card numbers.
const ISSUERS: [(u32, u32, &[usize]); 19] = [
    (220000, 220499, &[16, 17, 18, 19]),
    (222100, 272099, &[16]),
    (300000, 305999, &[14, 16, 17, 18, 19]),
    (309500, 309599, &[14, 16, 17, 18, 19]),
    (340000, 349999, &[15]),
    (352800, 358999, &[16, 17, 18, 19]),
    (360000, 369999, &[14, 15, 16, 17, 18, 19]),
    (370000, 379999, &[15]),
    (380000, 399999, &[14, 16, 17, 18, 19]),
    (400000, 499999, &[13, 16, 19]),
    (500000, 509999, &[16, 17, 18, 19]),
    (510000, 559999, &[16]),
    (560000, 589999, &[16, 17, 18, 19]),
    (601100, 601199, &[16, 17, 18, 19]),
    (620000, 629999, &[16, 17, 18, 19]),
    (630000, 639999, &[16, 17, 18, 19]),
    (644000, 659999, &[16, 17, 18, 19]),
    (675900, 676999, &[16, 17, 18, 19]),
    (810000, 819999, &[16, 17, 18, 19]),
];

/// Whether the digits pass Luhn's check (ISO/IEC 7812-1, annex B).
pub fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match (place % 2, u32::from(*digit)) {
            (0, digit) => digit,
            (_, digit) if digit > 4 => digit * 2 - 9,
            (_, digit) => digit * 2,
        })
        .sum();
    !digits.is_empty() && sum.is_multiple_of(10)
}

/// The lengths of the numbers of the card's issuer; needs six digits.
fn issued_lengths(digits: &[u8]) -> Option<&'static [usize]> {
    let issuer = digits.get(..6)?.iter().fold(0, |number, digit| number * 10 + u32::from(*digit));
    let range = ISSUERS.iter().find(|(first, last, _)| (*first..=*last).contains(&issuer));
    range.map(|(_, _, lengths)| *lengths)
}

/// Whether the digits, which may not be all, can become a card's number.
pub fn may_be_card(digits: &[u8]) -> bool {
    digits.len() < 6 || issued_lengths(digits).is_some()
}

/// Whether the digits are a payment card's number: issuer, length and check digit. One digit
/// repeated is nobody's.
pub fn is_card(digits: &[u8]) -> bool {
    let issued = issued_lengths(digits).is_some_and(|lengths| lengths.contains(&digits.len()));
    issued && luhn(digits) && digits.iter().any(|digit| *digit != digits[0])
}

/// The length of the IBANs of a country, by its two letters in upper case.
pub fn iban_length(country: [u8; 2]) -> Option<usize> {
    let entry =
        IBAN_LENGTHS.split_ascii_whitespace().find(|entry| entry.as_bytes()[..2] == country);
    entry.and_then(|entry| entry[2..].parse().ok())
}

/// Whether letters (upper case) and digits make an IBAN: length and check digits (ISO 13616).
pub fn is_iban(letters: &[u8]) -> bool {
    let &[first, second, ..] = letters else { return false };
    if iban_length([first, second]) != Some(letters.len()) {
        return false;
    }
    let rotated = letters[4..].iter().chain(&letters[..4]);
    let remainder = rotated.fold(0_u32, |remainder, letter| match letter {
        b'0'..=b'9' => (remainder * 10 + u32::from(letter - b'0')) % 97,
        _ => (remainder * 100 + u32::from(letter.wrapping_sub(b'A')) + 10) % 97,
    });
    remainder == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digits(text: &str) -> Vec<u8> {
        text.bytes().map(|byte| byte - b'0').collect()
    }

    #[test]
    fn a_card_needs_issuer_length_and_check_digit() {
        for card in ["4111111111111111", "378282246310005", "5555555555554444", "30569309025904"] {
            assert!(is_card(&digits(card)), "{card}");
        }
        for other in ["4111111111111112", "9111111111111111", "411111111111111", "4444444444444444"]
        {
            assert!(!is_card(&digits(other)), "{other}");
        }
    }

    #[test]
    fn one_changed_digit_breaks_an_iban() {
        let iban = *b"DE89370400440532013000";
        assert!(is_iban(&iban));
        for place in 2..iban.len() {
            let mut changed = iban;
            changed[place] = if changed[place] == b'9' { b'0' } else { changed[place] + 1 };
            assert!(!is_iban(&changed), "at {place}");
        }
    }
}
