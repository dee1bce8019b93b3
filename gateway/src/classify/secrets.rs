//! Credentials: private keys, keys of known makers, and values that are called a secret.
//!
//! A known form is sure by itself. A value that only its name gives away must also look random,
//! for documentation is full of `password: required`.

use std::ops::Range;

use regex::Regex;

use crate::classify::{Confidence, Kind, patterns::Found, plain::goes_on};

/// How far behind a word its value may reach, and how far a token or address.
const VALUE_WINDOW: usize = 320;
const TOKEN_WINDOW: usize = 4096;

/// How far around a word about AWS its secret key is looked for.
const AWS_WINDOW: usize = 256;

/// The length of a secret access key of AWS.
const AWS_SECRET_BYTES: usize = 40;

/// Letters a key may be made of.
#[derive(Debug, Clone, Copy)]
enum Letters {
    /// A to Z and 2 to 7.
    Base32,
    Alphanumeric,
    /// With `_` and `-`.
    Word,
    /// With `_`, `-` and `.`.
    Dotted,
}

/// What a keyword says of the text behind it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cue {
    /// The beginning of a key of a known form.
    Maker(usize),
    /// A name that is given a value.
    Value(Chooser),
    /// `aws`, which makes forty letters a secret key.
    Aws,
    Bearer,
    /// `://`: a name and password may follow.
    Address,
    /// The first line of a private key.
    Armour,
    /// The head of a signed token (RFC 7519).
    Jwt,
}

/// Who chooses the value that is given to a name.
#[derive(Debug, Clone, Copy)]
pub(super) enum Chooser {
    /// `password` and its like.
    Person,
    /// `api_key` and its like.
    Machine,
}

/// Beginning, letters, fewest and most letters behind it, and what it opens.
type Maker = (&'static str, Letters, usize, usize, Kind);

/// Keys that are known by their beginning, ours first.
const MAKERS: [Maker; 47] = [
    ("cdn_", Letters::Alphanumeric, 39, 39, Kind::Secret),
    ("AKIA", Letters::Base32, 16, 16, Kind::AwsKey),
    ("ASIA", Letters::Base32, 16, 16, Kind::AwsKey),
    ("ABIA", Letters::Base32, 16, 16, Kind::AwsKey),
    ("ACCA", Letters::Base32, 16, 16, Kind::AwsKey),
    ("ghp_", Letters::Alphanumeric, 36, 255, Kind::Secret),
    ("gho_", Letters::Alphanumeric, 36, 255, Kind::Secret),
    ("ghu_", Letters::Alphanumeric, 36, 255, Kind::Secret),
    ("ghs_", Letters::Alphanumeric, 36, 255, Kind::Secret),
    ("ghr_", Letters::Alphanumeric, 36, 255, Kind::Secret),
    ("github_pat_", Letters::Word, 60, 255, Kind::Secret),
    ("glpat-", Letters::Word, 20, 255, Kind::Secret),
    ("glrt-", Letters::Word, 20, 255, Kind::Secret),
    ("sk-ant-", Letters::Word, 32, 255, Kind::Secret),
    ("sk-proj-", Letters::Word, 32, 255, Kind::Secret),
    ("sk-or-v1-", Letters::Word, 32, 255, Kind::Secret),
    ("sk-", Letters::Alphanumeric, 32, 64, Kind::Secret),
    ("sk_live_", Letters::Alphanumeric, 16, 255, Kind::Secret),
    ("sk_test_", Letters::Alphanumeric, 16, 255, Kind::Secret),
    ("rk_live_", Letters::Alphanumeric, 16, 255, Kind::Secret),
    ("whsec_", Letters::Alphanumeric, 24, 255, Kind::Secret),
    ("xoxa-", Letters::Word, 16, 255, Kind::Secret),
    ("xoxb-", Letters::Word, 16, 255, Kind::Secret),
    ("xoxp-", Letters::Word, 16, 255, Kind::Secret),
    ("xoxs-", Letters::Word, 16, 255, Kind::Secret),
    ("xoxr-", Letters::Word, 16, 255, Kind::Secret),
    ("xapp-", Letters::Word, 24, 255, Kind::Secret),
    ("hf_", Letters::Alphanumeric, 30, 64, Kind::Secret),
    ("npm_", Letters::Alphanumeric, 36, 36, Kind::Secret),
    ("pypi-", Letters::Word, 64, 255, Kind::Secret),
    ("AIza", Letters::Word, 35, 35, Kind::Secret),
    ("GOCSPX-", Letters::Word, 28, 28, Kind::Secret),
    ("ya29.", Letters::Word, 32, 512, Kind::Secret),
    ("SG.", Letters::Dotted, 60, 80, Kind::Secret),
    ("dop_v1_", Letters::Alphanumeric, 64, 64, Kind::Secret),
    ("shpat_", Letters::Alphanumeric, 32, 32, Kind::Secret),
    ("hvs.", Letters::Word, 24, 255, Kind::Secret),
    ("glsa_", Letters::Word, 32, 64, Kind::Secret),
    ("dckr_pat_", Letters::Word, 24, 64, Kind::Secret),
    ("lin_api_", Letters::Alphanumeric, 32, 64, Kind::Secret),
    ("ATATT3", Letters::Word, 60, 255, Kind::Secret),
    ("gsk_", Letters::Alphanumeric, 40, 64, Kind::Secret),
    ("r8_", Letters::Alphanumeric, 37, 37, Kind::Secret),
    ("pplx-", Letters::Alphanumeric, 40, 64, Kind::Secret),
    ("xai-", Letters::Alphanumeric, 64, 128, Kind::Secret),
    ("AGE-SECRET-KEY-1", Letters::Alphanumeric, 58, 58, Kind::PrivateKey),
    ("sq0csp-", Letters::Word, 43, 43, Kind::Secret),
];

const PASSWORDS: [&str; 14] = [
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "passwort",
    "kennwort",
    "pwd",
    "secret",
    "mot de passe",
    "contraseña",
    "credential",
    "wachtwoord",
    "hasło",
    "lösenord",
];
const TOKENS: [&str; 14] = [
    "token",
    "api_key",
    "apikey",
    "api-key",
    "api key",
    "access_key",
    "accesskey",
    "access key",
    "private_key",
    "privatekey",
    "auth",
    "_key",
    "-key",
    "accountkey",
];
const AWS: [&str; 3] = ["aws", "secretaccesskey", "secret access key"];

/// Values that stand for a secret and are none.
const PLACEHOLDERS: [&str; 14] = [
    "example",
    "changeme",
    "change_me",
    "placeholder",
    "redacted",
    "required",
    "optional",
    "undefined",
    "your",
    "xxxx",
    "****",
    "....",
    "dummy",
    "insert",
];

/// The patterns behind the words.
#[derive(Debug)]
pub(super) struct Secrets {
    assigned: Regex,
    bearer: Regex,
    address: Regex,
    armour: Regex,
}

/// Every keyword with what it says.
pub(super) fn keywords() -> impl Iterator<Item = (&'static str, Cue)> {
    let makers = MAKERS.iter().enumerate().map(|(index, maker)| (maker.0, Cue::Maker(index)));
    let rest = [
        ("bearer", Cue::Bearer),
        ("basic ", Cue::Bearer),
        ("://", Cue::Address),
        ("-----begin", Cue::Armour),
        ("eyj", Cue::Jwt),
    ];
    makers
        .chain(PASSWORDS.map(|word| (word, Cue::Value(Chooser::Person))))
        .chain(TOKENS.map(|word| (word, Cue::Value(Chooser::Machine))))
        .chain(AWS.map(|word| (word, Cue::Aws)))
        .chain(rest)
}

// === impl Letters ===

impl Letters {
    fn hold(self, byte: u8) -> bool {
        match self {
            Letters::Base32 => byte.is_ascii_uppercase() || (b'2'..=b'7').contains(&byte),
            Letters::Alphanumeric => byte.is_ascii_alphanumeric(),
            Letters::Word => byte.is_ascii_alphanumeric() || b"_-".contains(&byte),
            Letters::Dotted => byte.is_ascii_alphanumeric() || b"_-.".contains(&byte),
        }
    }
}

// === impl Secrets ===

impl Secrets {
    pub(super) fn new() -> Self {
        let regex = |pattern| Regex::new(pattern).expect("the pattern is fixed");
        Self {
            assigned: regex(concat!(
                r#"^["'`\\\]]*[ \t]*"#,
                r#"(?:(?:=>|:=|==?|:)[ \t]*|(?:is|ist|est|es)[ \t]+:?[ \t]*)"#,
                r#"["'`\\]*([^\s"'`\\,;<>{}\[\]()]+)"#,
            )),
            bearer: regex(r#"^["']?[ :=]+["']?([A-Za-z0-9._~+/-]+=*)"#),
            address: regex(r#"^://[^\s/:@"'<>]*:([^\s/@"'<>]+)@"#),
            armour: regex(r"^(?i:-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----)"),
        }
    }

    /// Looks behind a keyword.
    pub(super) fn look(&self, text: &str, word: Range<usize>, cue: Cue, found: &mut Found<'_>) {
        if word.start < found.read.key {
            return;
        }
        match cue {
            Cue::Maker(index) => {
                let made = made(text, &word, &MAKERS[index], found);
                if made && MAKERS[index].4 == Kind::AwsKey {
                    aws(text, &word, found);
                }
            }
            Cue::Value(chooser) => self.assigned(text, word, chooser, found),
            Cue::Aws => aws(text, &word, found),
            Cue::Bearer => self.bearer(text, word, found),
            Cue::Address => self.address(text, word, found),
            Cue::Armour => self.armour(text, word, found),
            Cue::Jwt => jwt(text, word.start, found),
        }
    }

    /// A value that is given to a name, if it looks like one that a secret would have. Keywords
    /// within one name lead to the same value, which is read once.
    fn assigned(&self, text: &str, word: Range<usize>, chooser: Chooser, found: &mut Found<'_>) {
        let (looks, read): (fn(&str) -> bool, _) = match chooser {
            Chooser::Person => (looks_chosen, &mut found.read.password),
            Chooser::Machine => (looks_random, &mut found.read.token),
        };
        if word.end <= *read {
            return;
        }
        let in_name = |byte: &&u8| byte.is_ascii_alphanumeric() || b"_.-".contains(byte);
        let name_end = word.end + text.as_bytes()[word.end..].iter().take_while(in_name).count();
        *read = name_end;
        let window = window(text, name_end, VALUE_WINDOW);
        let Some(groups) = self.assigned.captures(window) else { return };
        let Some(value) = groups.get(1) else { return };
        let value_text = value.as_str().trim_end_matches(['.', ':', '!', '?', '*', '_', '|']);
        if looks(value_text) && !stands_for(value_text) {
            let start = name_end + value.start();
            found.hit(start..start + value_text.len(), Kind::Secret, Confidence::Medium);
        }
    }

    fn bearer(&self, text: &str, word: Range<usize>, found: &mut Found<'_>) {
        let end = word.end - usize::from(text[word.start..word.end].ends_with(' '));
        let Some(groups) = self.bearer.captures(window(text, end, TOKEN_WINDOW)) else { return };
        let Some(token) = groups.get(1) else { return };
        let long = token.len() >= 16;
        if long
            && entropy(token.as_str()) >= 3.0
            && token.as_str().bytes().any(|b| b.is_ascii_digit())
        {
            let range = end + token.start()..end + token.end();
            found.hit(range, Kind::Secret, Confidence::High);
        }
    }

    fn address(&self, text: &str, word: Range<usize>, found: &mut Found<'_>) {
        let Some(groups) = self.address.captures(window(text, word.start, VALUE_WINDOW)) else {
            return;
        };
        let Some(password) = groups.get(1) else { return };
        if !stands_for(password.as_str()) {
            let range = word.start + password.start()..word.start + password.end();
            found.hit(range, Kind::Secret, Confidence::High);
        }
    }

    /// A private key from its first line to its last, or to the end of the text.
    fn armour(&self, text: &str, word: Range<usize>, found: &mut Found<'_>) {
        let Some(head) = self.armour.find(window(text, word.start, 128)) else { return };
        let body = word.start + head.end();
        let end = match text[body..].find("-----END") {
            Some(offset) => {
                let last = body + offset + "-----END".len();
                let line = window(text, last, 64);
                last + line.find("-----").map_or(line.len(), |dashes| dashes + 5)
            }
            None => text.len(),
        };
        found.read.key = end;
        found.hit(word.start..end, Kind::PrivateKey, Confidence::High);
    }
}

/// A secret access key near a word about AWS: a run of exactly forty letters, close to random.
fn aws(text: &str, word: &Range<usize>, found: &mut Found<'_>) {
    let mut at = word.end;
    let ends = |letter: char| !letter.is_ascii_alphanumeric() && letter != '/' && letter != '+';
    for run in window(text, word.end, AWS_WINDOW).split_inclusive(ends) {
        let key = run.trim_end_matches(ends);
        if key.len() == AWS_SECRET_BYTES && mixed(key) && entropy(key) >= 4.0 {
            found.hit(at..at + key.len(), Kind::AwsKey, Confidence::High);
        }
        at += run.len();
    }
}

/// A signed token: three parts with dots between them, of which two are JSON that begins alike.
/// Of the beginnings within one part only the first is looked at, for the others are in it.
fn jwt(text: &str, start: usize, found: &mut Found<'_>) {
    let begins = text[start..].starts_with("eyJ") && begins_word(text, start);
    if start < found.read.jwt || !begins {
        return;
    }
    let in_part = |byte: &&u8| byte.is_ascii_alphanumeric() || b"_-".contains(byte);
    let part_end = |at: usize| at + text.as_bytes()[at..].iter().take_while(in_part).count();
    let head = part_end(start);
    found.read.jwt = head;
    if !text[head..].starts_with(".eyJ") {
        return;
    }
    let body = part_end(head + 1);
    let signed = text[body..].starts_with('.').then(|| part_end(body + 1));
    if let Some(end) = signed.filter(|end| *end > body + 1) {
        found.hit(start..end, Kind::Secret, Confidence::High);
    }
}

/// At most `length` bytes of `text` from `start`, cut at a character.
fn window(text: &str, start: usize, length: usize) -> &str {
    let mut end = text.len().min(start + length);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[start..end]
}

/// Whether no letter, digit or underscore stands in front of `at`.
fn begins_word(text: &str, at: usize) -> bool {
    let before = text[..at].chars().next_back();
    !before.is_some_and(|letter| letter == '_' || goes_on(letter))
}

/// A key of a known form; says whether it is one.
fn made(text: &str, word: &Range<usize>, maker: &Maker, found: &mut Found<'_>) -> bool {
    let (prefix, letters, least, most, kind) = maker;
    let exact = &text[word.clone()] == *prefix;
    if !exact || !begins_word(text, word.start) {
        return false;
    }
    let rest = &text.as_bytes()[word.end..];
    let length = rest.iter().take(most + 1).take_while(|byte| letters.hold(**byte)).count();
    let ends = !rest.get(length).is_some_and(u8::is_ascii_alphanumeric);
    if length < *least || length > *most || !ends {
        return false;
    }
    let value = &text[word.end..word.end + length];
    // A known beginning needs no more than a little variety; all of one letter is a sample.
    let varied = entropy(value) >= 2.0;
    if varied {
        found.hit(word.start..word.end + length, *kind, Confidence::High);
    }
    varied
}

/// A value a person would choose: eight letters or more, of at least two sorts and one of them
/// a digit or sign.
fn looks_chosen(value: &str) -> bool {
    let digit = value.chars().any(char::is_numeric);
    let letter = value.chars().any(char::is_alphabetic);
    let sign = value.chars().any(|letter| "!@#$%^&*+=?~|".contains(letter));
    value.chars().count() >= 8 && usize::from(digit) + usize::from(letter) + usize::from(sign) >= 2
}

/// A value a machine would choose: sixteen letters or more, with digits, close to random.
fn looks_random(value: &str) -> bool {
    let digit = value.bytes().any(|byte| byte.is_ascii_digit());
    let letter = value.bytes().any(|byte| byte.is_ascii_alphabetic());
    value.len() >= 16 && digit && letter && entropy(value) >= 3.3
}

/// Whether a value stands for a secret: a name of a variable, or a filler.
fn stands_for(value: &str) -> bool {
    let lower = value.to_lowercase();
    if mixed(value) && value.len() >= 24 {
        return false;
    }
    let blank = !value.chars().any(char::is_alphanumeric);
    let variable = value.starts_with(['$', '%', '{', '<', '[']) || lower.starts_with("env.");
    let path = lower.starts_with('/') || lower.starts_with("http:") || lower.starts_with("https:");
    blank || variable || path || PLACEHOLDERS.iter().any(|filler| lower.contains(filler))
}

/// Large and small letters and digits, all of them.
fn mixed(value: &str) -> bool {
    value.bytes().any(|byte| byte.is_ascii_uppercase())
        && value.bytes().any(|byte| byte.is_ascii_lowercase())
        && value.bytes().any(|byte| byte.is_ascii_digit())
}

/// Bits per byte (Shannon) of the bytes in `value`.
fn entropy(value: &str) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in value.bytes() {
        counts[usize::from(byte)] += 1;
    }
    let total = counts.iter().map(|count| f64::from(*count)).sum::<f64>();
    let share = |count: &u32| f64::from(*count) / total;
    counts.iter().filter(|count| **count > 0).map(share).map(|share| -share * share.log2()).sum()
}
