//! Control markings: CUI banners, classified banners, EU RESTRICTED, TLP, ITAR statements.
//!
//! A banner form (`CUI//SP-CTI//NOFORN`, a line of its own, `Classification: …`) is sure. A loose
//! mention in a sentence is a label of low confidence where missing one would be worse than a
//! question too many, and nothing where the word is an everyday one.
//! Sources: 32 CFR 2002.20 and the CUI Registry; FIRST TLP 2.0; Council Decision 2013/488/EU.

use std::ops::Range;

use crate::classify::{
    Confidence, Kind, Settings,
    labels::{Labels, is_category},
    patterns::Found,
    plain::goes_on,
};

/// How far a banner reaches behind its first word.
const BANNER_BYTES_MAX: usize = 160;

/// How far around a word its line is looked at; longer lines are no banners.
const LINE_BYTES_MAX: usize = 48;

/// How far around `ITAR` a word may stand that makes it a statement.
const STATEMENT_BYTES: usize = 40;

/// What may stand around a banner on its line.
const DECORATION: &str = " \t*#>_-=[](){}|~`\"':.,\u{2014}";

/// Words that announce a marking: `Classification: SECRET`.
const HEADS: [&str; 10] = [
    "classification",
    "classified",
    "marking",
    "markings",
    "handling",
    "label",
    "einstufung",
    "sensitivity",
    "distribution",
    "verteilung",
];

/// Dissemination marks as they are written, and their norm.
const DISSEMINATION: [(&str, &str); 16] = [
    ("NOFORN", "noforn"),
    ("NF", "noforn"),
    ("FED ONLY", "fed-only"),
    ("FEDCON", "fedcon"),
    ("NOCON", "nocon"),
    ("DL ONLY", "dl-only"),
    ("REL TO", "rel-to"),
    ("REL", "rel-to"),
    ("DISPLAY ONLY", "display-only"),
    ("ATTORNEY-CLIENT", "attorney-client"),
    ("AC", "attorney-client"),
    ("ATTORNEY-WP", "attorney-wp"),
    ("AWP", "attorney-wp"),
    ("ORCON", "orcon"),
    ("PROPIN", "propin"),
    ("IMCON", "imcon"),
];

/// What a keyword may be the beginning of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Marking {
    Cui,
    /// The words that CUI abbreviates, and its predecessor FOUO.
    CuiWords,
    Noforn,
    /// `SECRET` and `CONFIDENTIAL` with their many beginnings.
    Secret,
    Confidential,
    /// `(S//`, `(TS//`, `(C//`.
    Portion,
    /// Secret grades of the EU, of NATO and of member states.
    ForeignSecret,
    /// The lowest grade, where only its capitals tell it from plain words.
    RestrictedCapitals,
    /// The lowest grade in words that mean nothing else.
    RestrictedWords,
    Restricted,
    Internal,
    Light,
    Itar,
    /// The law by its name or number.
    ItarLaw,
    /// Words that make naming the law a statement about the text.
    ItarClaim,
}

/// Every keyword and what it may begin. The search ignores the case of ASCII letters alone, so
/// words with others stand in both cases.
pub(super) const KEYWORDS: [(&str, Marking); 52] = [
    ("cui", Marking::Cui),
    ("controlled//", Marking::CuiWords),
    ("controlled unclassified information", Marking::CuiWords),
    ("for official use only", Marking::CuiWords),
    ("fouo", Marking::CuiWords),
    ("noforn", Marking::Noforn),
    ("secret", Marking::Secret),
    ("confidential", Marking::Confidential),
    ("(s//", Marking::Portion),
    ("(ts//", Marking::Portion),
    ("(c//", Marking::Portion),
    ("nato secret", Marking::ForeignSecret),
    ("nato confidential", Marking::ForeignSecret),
    ("eu secret", Marking::ForeignSecret),
    ("eu confidential", Marking::ForeignSecret),
    ("secret ue", Marking::ForeignSecret),
    ("confidentiel ue", Marking::ForeignSecret),
    ("vs-vertraulich", Marking::ForeignSecret),
    ("streng geheim", Marking::ForeignSecret),
    ("eu restricted", Marking::RestrictedCapitals),
    ("nato restricted", Marking::RestrictedCapitals),
    ("restreint ue", Marking::RestrictedWords),
    ("restreint ue/eu restricted", Marking::RestrictedWords),
    ("r-ue/eu-r", Marking::RestrictedWords),
    ("vs-nfd", Marking::RestrictedWords),
    ("vs-nur für den dienstgebrauch", Marking::RestrictedWords),
    ("vs-nur fÜr den dienstgebrauch", Marking::RestrictedWords),
    ("vs - nur für den dienstgebrauch", Marking::RestrictedWords),
    ("vs - nur fÜr den dienstgebrauch", Marking::RestrictedWords),
    ("diffusion restreinte", Marking::RestrictedWords),
    ("official-sensitive", Marking::RestrictedWords),
    ("official sensitive", Marking::RestrictedWords),
    ("restricted", Marking::Restricted),
    ("internal", Marking::Internal),
    ("internal use only", Marking::Internal),
    ("vertraulich", Marking::Confidential),
    ("tlp", Marking::Light),
    ("itar", Marking::Itar),
    ("international traffic in arms regulations", Marking::ItarLaw),
    ("arms export control act", Marking::ItarLaw),
    ("22 cfr 12", Marking::ItarLaw),
    ("22 c.f.r. 12", Marking::ItarLaw),
    ("22 cfr part", Marking::ItarLaw),
    ("22 u.s.c. 2778", Marking::ItarLaw),
    ("22 usc 2778", Marking::ItarLaw),
    ("technical data", Marking::ItarClaim),
    ("export controlled", Marking::ItarClaim),
    ("export-controlled", Marking::ItarClaim),
    ("subject to", Marking::ItarClaim),
    ("export is restricted", Marking::ItarClaim),
    ("may not be exported", Marking::ItarClaim),
    ("warning", Marking::ItarClaim),
];

/// What speaks for an ITAR statement in one text.
#[derive(Debug, Clone, Default)]
pub(super) struct Statement {
    sure: Option<Range<usize>>,
    law: Option<Range<usize>>,
    claim: bool,
}

/// Looks at a keyword in text of the client's own.
pub(super) fn look(
    text: &str,
    word: Range<usize>,
    marking: Marking,
    settings: &Settings,
    found: &mut Found<'_>,
) {
    if word.start < found.read.banner || look_banner(text, word.clone(), marking, found) {
        return;
    }
    let alone = stands_alone(text, &word);
    let capitals = is_capital(&text[word.clone()]);
    let whole = is_whole(text, &word);
    let graded = if alone { Confidence::High } else { Confidence::Low };
    let labels = &mut *found.labels;
    match marking {
        Marking::Cui if whole && capitals => cui(text, &word, alone, settings, labels),
        Marking::CuiWords if whole => loose("cui", &[], graded, settings, labels),
        Marking::Noforn if whole && capitals => {
            loose("cui", &["noforn"], graded, settings, labels);
        }
        Marking::Secret if whole => secret(text, &word, alone && capitals, labels),
        Marking::ForeignSecret if capitals => {
            labels.detect("secret", &[], graded.max(Confidence::Medium))
        }
        Marking::Confidential if alone && (capitals || headed(text, &word)) => {
            labels.detect("confidential", &[], Confidence::High);
        }
        Marking::Restricted if alone && (capitals || headed(text, &word)) => {
            labels.detect("restricted", &[], Confidence::High);
        }
        Marking::Internal if alone && (capitals || headed(text, &word)) => {
            labels.detect("internal", &[], Confidence::High);
        }
        Marking::RestrictedWords if whole => labels.detect("eu-restricted", &[], graded),
        Marking::RestrictedCapitals if whole && capitals => {
            labels.detect("eu-restricted", &[], graded);
        }
        Marking::Itar if whole && capitals => itar(text, &word, alone, &mut found.statement),
        Marking::ItarLaw => found.statement.law = Some(word),
        Marking::ItarClaim => found.statement.claim = true,
        Marking::Cui
        | Marking::CuiWords
        | Marking::Noforn
        | Marking::Secret
        | Marking::Confidential
        | Marking::Portion
        | Marking::ForeignSecret
        | Marking::RestrictedCapitals
        | Marking::RestrictedWords
        | Marking::Restricted
        | Marking::Internal
        | Marking::Light
        | Marking::Itar => {}
    }
}

/// Looks for the forms that no plain word has: those with `//`, and traffic lights. Says whether
/// there was one.
pub(super) fn look_banner(
    text: &str,
    word: Range<usize>,
    marking: Marking,
    found: &mut Found<'_>,
) -> bool {
    if word.start < found.read.banner {
        return false;
    }
    let begins = !text[..word.start].ends_with(goes_on);
    match marking {
        Marking::Light => begins && light(text, word.end, found.labels),
        Marking::Cui | Marking::CuiWords | Marking::Secret | Marking::Confidential => {
            begins && lined_banner(text, word, marking, found)
        }
        Marking::Portion => portion(text, &word, found.labels),
        Marking::Noforn
        | Marking::ForeignSecret
        | Marking::RestrictedCapitals
        | Marking::RestrictedWords
        | Marking::Restricted
        | Marking::Internal
        | Marking::Itar
        | Marking::ItarLaw
        | Marking::ItarClaim => false,
    }
}

/// A portion mark of a secret: capitals, and a dissemination mark behind the slashes. In code
/// `(s//60)` is a division.
fn portion(text: &str, word: &Range<usize>, labels: &mut Labels) -> bool {
    let parts = segments(text, word.end);
    let marked = is_capital(&text[word.clone()]) && !parts.marks.is_empty();
    if marked {
        labels.detect("secret", &parts.marks, Confidence::High);
    }
    marked
}

fn is_capital(text: &str) -> bool {
    !text.contains(|letter: char| letter.is_ascii_lowercase())
}

/// A marking with `//` behind its first word.
fn lined_banner(text: &str, word: Range<usize>, marking: Marking, found: &mut Found<'_>) -> bool {
    let ended = text[word.clone()].ends_with("//");
    let behind = text[word.end..].trim_start_matches(' ');
    if !ended && !behind.starts_with("//") {
        return false;
    }
    let parts = segments(text, word.end);
    let is_cui = matches!(marking, Marking::Cui | Marking::CuiWords);
    let capitals = is_capital(&text[word.clone()]);
    // Without a mark that is known, `SECRET // why` may be a comment; `SECRET//SI` is none.
    let tight =
        text[word.end..].trim_start_matches('/').starts_with(|c: char| c.is_ascii_uppercase());
    let bare = parts.marks.is_empty() && (!is_cui || parts.categories.is_empty());
    if bare && !(capitals && (is_cui || tight)) {
        return false;
    }
    if !is_cui {
        found.labels.detect("secret", &parts.marks, Confidence::High);
    } else if parts.categories.is_empty() {
        found.labels.detect("cui", &parts.marks, Confidence::High);
    }
    for category in parts.categories.iter().filter(|_| is_cui) {
        found.labels.detect(&format!("cui:{category}"), &parts.marks, Confidence::High);
    }
    found.read.banner = parts.end;
    true
}

/// What stands behind the first word of a banner.
struct Segments {
    categories: Vec<String>,
    marks: Vec<&'static str>,
    end: usize,
}

/// Reads `//`-separated segments up to the first that is none. The last one may run into prose,
/// so each item counts only as far as it is known or has the form of a category.
fn segments(text: &str, start: usize) -> Segments {
    let fits = |letter: &char| letter.is_ascii_alphanumeric() || " ,/-".contains(*letter);
    let line = &text[start..];
    let length: usize =
        line.chars().take(BANNER_BYTES_MAX).take_while(fits).map(char::len_utf8).sum();
    let mut parts = Segments { categories: Vec::new(), marks: Vec::new(), end: start };
    let mut at = start;
    for item in line[..length].split('/') {
        let trimmed = item.trim();
        let upper = trimmed.to_ascii_uppercase();
        let known = DISSEMINATION.iter().find(|(written, _)| begins_with_word(&upper, written));
        let taken = if let Some((written, mark)) = known {
            parts.marks.push(mark);
            // Behind `REL TO` countries follow, in capitals.
            let countries = *mark == "rel-to" && is_capital(trimmed);
            if countries { trimmed.len() } else { written.len() }
        } else if let Some(category) = category(trimmed) {
            parts.categories.push(category);
            trimmed.find([' ', ',']).unwrap_or(trimmed.len())
        } else {
            0
        };
        parts.end = at + (item.len() - item.trim_start().len()) + taken;
        if taken < trimmed.len() {
            break;
        }
        at += item.len() + 1;
    }
    parts
}

fn begins_with_word(text: &str, word: &str) -> bool {
    text.strip_prefix(word)
        .is_some_and(|rest| !rest.starts_with(|letter: char| letter.is_ascii_alphanumeric()))
}

/// The category an item names, in its norm: its first word in capitals, or any with `SP-`.
fn category(item: &str) -> Option<String> {
    let word = item.split([' ', ',']).next()?;
    let lower = word.to_ascii_lowercase();
    let capitals = is_capital(word);
    let named = word.starts_with(|letter: char| letter.is_ascii_alphabetic());
    ((capitals || lower.starts_with("sp-")) && named && is_category(&lower)).then_some(lower)
}

/// `CUI` as a word of its own: a line, a portion mark, or a mention.
fn cui(text: &str, word: &Range<usize>, alone: bool, settings: &Settings, labels: &mut Labels) {
    let portion = text[..word.start].ends_with('(') && text[word.end..].starts_with(')');
    if alone || portion {
        labels.detect("cui", &[], Confidence::High);
    } else {
        loose("cui", &[], Confidence::Low, settings, labels);
    }
}

/// A label of which a loose mention counts only where the settings say so.
fn loose(
    norm: &str,
    marks: &[&str],
    confidence: Confidence,
    settings: &Settings,
    labels: &mut Labels,
) {
    if settings.loose_markings || confidence > Confidence::Low {
        labels.detect(norm, marks, confidence);
    }
}

/// `SECRET` on a line of its own, or `TOP SECRET` anywhere in capitals.
fn secret(text: &str, word: &Range<usize>, banner: bool, labels: &mut Labels) {
    let top = &text[word.clone()] == "SECRET" && text[..word.start].ends_with("TOP ");
    let line = top && stands_alone(text, &(word.start - "TOP ".len()..word.end));
    let headed = headed(text, word) && stands_alone(text, word);
    if banner || line || headed {
        labels.detect("secret", &[], Confidence::High);
    } else if top {
        labels.detect("secret", &[], Confidence::Low);
    }
}

/// A traffic light behind `TLP`.
fn light(text: &str, end: usize, labels: &mut Labels) -> bool {
    let rest = text[end..].trim_start_matches(' ');
    let Some(rest) = rest.strip_prefix([':', '-', '=']) else { return false };
    let rest = rest.trim_start_matches(' ');
    let name: String = rest
        .chars()
        .take(24)
        .take_while(|letter| letter.is_ascii_alphabetic() || " +".contains(*letter))
        .filter(|letter| *letter != ' ')
        .collect::<String>()
        .to_ascii_uppercase();
    let word: String = rest
        .chars()
        .take(8)
        .take_while(char::is_ascii_alphabetic)
        .collect::<String>()
        .to_ascii_uppercase();
    let light = match word.as_str() {
        "AMBER" if name.starts_with("AMBER+STRICT") => "AMBER+STRICT",
        "RED" | "AMBER" | "GREEN" | "CLEAR" => word.as_str(),
        "WHITE" => "CLEAR",
        _ => return false,
    };
    labels.light(light);
    true
}

/// Whether the words around `ITAR` state that the text is subject to it.
fn itar(text: &str, word: &Range<usize>, alone: bool, statement: &mut Statement) {
    let around = text[around(text, word, STATEMENT_BYTES)].to_ascii_lowercase();
    let states = [
        "itar controlled",
        "itar-controlled",
        "itar restricted",
        "itar-restricted",
        "itar technical data",
        "itar data",
        "itar export",
        "export controlled",
        "export-controlled",
        "subject to the itar",
        "subject to itar",
        "controlled under",
        "controlled by",
        "itar warning",
    ];
    if alone || states.iter().any(|words| around.contains(words)) {
        statement.sure = Some(word.clone());
    } else {
        statement.law.get_or_insert(word.clone());
    }
}

/// Says at the end of a text whether it states that it is subject to the ITAR.
pub(super) fn statement(found: &mut Found<'_>) {
    let Statement { sure, law, claim } = std::mem::take(&mut found.statement);
    let place = sure.or(law.filter(|_| claim));
    if let Some(place) = place {
        found.labels.detect("itar", &[], Confidence::High);
        found.hit(place, Kind::ItarStatement, Confidence::High);
    }
}

/// The range of the word with at most `bytes` on each side.
fn around(text: &str, word: &Range<usize>, bytes: usize) -> Range<usize> {
    let mut start = word.start.saturating_sub(bytes);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    let mut end = text.len().min(word.end + bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    start..end
}

/// Whether no letter or digit touches the word.
fn is_whole(text: &str, word: &Range<usize>) -> bool {
    let joined = |letter: char| letter == '_' || goes_on(letter);
    !text[..word.start].ends_with(joined) && !text[word.end..].starts_with(joined)
}

/// Whether the word is all its line says, ornaments and an announcing word aside.
fn stands_alone(text: &str, word: &Range<usize>) -> bool {
    let near = around(text, word, LINE_BYTES_MAX);
    let (before, behind) = (&text[near.start..word.start], &text[word.end..near.end]);
    let line = before.rsplit(['\n', '\r']).next().unwrap_or(before);
    let whole = line.len() < before.len() || near.start == 0;
    let opened = whole && is_ornament(line);
    let rest = behind.split(['\n', '\r']).next().unwrap_or(behind);
    let whole = rest.len() < behind.len() || near.end == text.len();
    whole && is_ornament(rest) && (opened || headed(text, word))
}

fn is_ornament(text: &str) -> bool {
    text.chars().all(|letter| DECORATION.contains(letter))
}

/// Whether a word such as `Classification:` announces the marking.
fn headed(text: &str, word: &Range<usize>) -> bool {
    let near = around(text, word, LINE_BYTES_MAX);
    let line = text[near.start..word.start].rsplit(['\n', '\r']).next().unwrap_or_default();
    let head = line.trim_end_matches(|letter: char| DECORATION.contains(letter)).to_lowercase();
    line.contains(':') && HEADS.iter().any(|name| head.ends_with(name))
}
