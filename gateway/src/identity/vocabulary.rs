//! The attributes a key may carry, by their paths in the policy contract, with checked values.
//!
//! One table says every path, what its values are and where they go. What stands in no line of
//! it is refused with the nearest path, so that a typing mistake never becomes a silent unknown.

use std::collections::BTreeSet;

use crate::{
    identity::{
        attributes::{
            CallerFacts, Country, DataAttributes, Known, OrganisationFacts, RequestAttributes,
        },
        countries,
    },
    quantity::Day,
};

/// Values of one attribute, and values of all attributes of a key.
const VALUES_MAX: usize = 64;
const VALUE_BYTES_MAX: usize = 256;

/// Everything a key says about its caller, its requests and its data.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    pub caller: CallerFacts,
    pub request: RequestAttributes,
    pub data: DataAttributes,
}

/// Why an attribute was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttributeError {
    #[error("`{path}` is no attribute of a key; the nearest is `{nearest}`")]
    UnknownPath { path: String, nearest: &'static str },
    #[error("`{text}` is no attribute: write `path=value`, like `caller.person.us_person=yes`")]
    Form { text: String },
    #[error("`{path}` takes {expected}, not `{value}`")]
    Value { path: &'static str, expected: String, value: String },
    #[error("`{path}`: {why}")]
    Country { path: &'static str, why: String },
    #[error("`{path}` takes one value and was given twice")]
    Twice { path: &'static str },
    #[error(
        "`{path}` has more than {VALUES_MAX} values, or one longer than {VALUE_BYTES_MAX} bytes"
    )]
    TooMany { path: &'static str },
}

/// The place of one attribute: its kind of value, and the field it fills.
enum Field {
    Known(fn(&mut Attributes) -> &mut Known),
    Word(&'static [&'static str], fn(&mut Attributes) -> &mut Option<String>),
    Text(fn(&mut Attributes) -> &mut Option<String>),
    Texts(fn(&mut Attributes) -> &mut Vec<String>),
    Country(fn(&mut Attributes) -> &mut Option<Country>),
    Countries(fn(&mut Attributes) -> &mut Vec<Country>),
    Labels(fn(&mut Attributes) -> &mut Vec<String>),
    /// An age in days on the day the key is made; kept as the day it was measured.
    AgeDays(fn(&mut Attributes) -> &mut Option<String>),
}

/// Every path a key may use. The host alone says `caller.id`, `caller.authn` and the tenant.
const FIELDS: [(&str, Field); 26] = [
    ("caller.type", Field::Word(&["human", "service", "agent"], |a| &mut a.caller.kind)),
    ("caller.org.hq", Field::Country(|a| &mut a.caller.organisation.headquarters)),
    (
        "caller.org.ultimate_parent_hq",
        Field::Country(|a| &mut a.caller.organisation.ultimate_parent_headquarters),
    ),
    (
        "caller.org.screening.status",
        Field::Word(&["clear", "match", "possible"], |a| {
            &mut a.caller.organisation.screening_status
        }),
    ),
    ("caller.org.screening.lists", Field::Texts(|a| &mut a.caller.organisation.screening_lists)),
    ("caller.org.screening.owned50", Field::Known(|a| &mut a.caller.organisation.owned50)),
    ("caller.org.screening.age_d", Field::AgeDays(|a| &mut a.caller.organisation.screened_on)),
    ("caller.person.nationalities", Field::Countries(|a| &mut a.caller.person.nationalities)),
    (
        "caller.person.nationality_status",
        Field::Word(&["verified", "asserted"], |a| &mut a.caller.person.nationality_status),
    ),
    ("caller.person.us_person", Field::Known(|a| &mut a.caller.person.us_person)),
    ("caller.person.clearance", Field::Texts(|a| &mut a.caller.person.clearance)),
    ("caller.person.roles", Field::Texts(|a| &mut a.caller.person.roles)),
    ("caller.person.groups", Field::Texts(|a| &mut a.caller.person.groups)),
    ("caller.location.country", Field::Country(|a| &mut a.caller.location.country)),
    (
        "caller.location.source",
        Field::Word(&["corp_net", "idp", "geoip"], |a| &mut a.caller.location.source),
    ),
    ("caller.location.vpn", Field::Known(|a| &mut a.caller.location.vpn)),
    ("request.purpose", Field::Texts(|a| &mut a.request.purposes)),
    ("request.app", Field::Text(|a| &mut a.request.app)),
    (
        "request.ai_act",
        Field::Word(&["none", "limited", "high_risk", "prohibited"], |a| &mut a.request.ai_act),
    ),
    (
        "request.end_use",
        Field::Word(&["civil", "military", "mil_intel"], |a| &mut a.request.end_use),
    ),
    ("request.critical_function", Field::Known(|a| &mut a.request.critical_function)),
    ("request.affects_person", Field::Known(|a| &mut a.request.affects_person)),
    ("data.labels", Field::Labels(|a| &mut a.data.labels)),
    ("data.class", Field::Word(&CLASSES, |a| &mut a.data.class)),
    ("data.subjects.regions", Field::Countries(|a| &mut a.data.subject_regions)),
    ("data.subjects.children", Field::Known(|a| &mut a.data.children)),
];

/// The contract's classes, least first.
pub const CLASSES: [&str; 8] =
    ["PUBLIC", "INTERNAL", "CONFIDENTIAL", "RESTRICTED", "CUI", "ITAR", "EU_RESTRICTED", "SECRET"];

/// The contract's label norms; `cui:<category>` and traffic lights besides.
const NORMS: [&str; 8] =
    ["public", "internal", "confidential", "restricted", "cui", "itar", "eu-restricted", "secret"];

/// The Traffic Light Protocol's colours (TLP 2.0).
const LIGHTS: [&str; 5] = ["clear", "green", "amber", "amber+strict", "red"];

// === impl Attributes ===

impl Attributes {
    /// Reads pairs of path and value. A list takes several values, split at commas or given one
    /// by one. What is not said of the caller's organisation is `ours`, unless a key names
    /// another headquarters: then nothing of ours is true of it. `given_on` turns ages to days.
    pub fn read(
        pairs: &[(String, String)],
        ours: &OrganisationFacts,
        given_on: Day,
    ) -> Result<Self, AttributeError> {
        let mut attributes = Self::default();
        if !pairs.iter().any(|(path, _)| path == "caller.org.hq") {
            attributes.caller.organisation = ours.clone();
        }
        let mut seen = BTreeSet::new();
        for (path, value) in pairs {
            let (path, field) = find(path)?;
            let first = seen.insert(path);
            attributes.set(path, field, value, Given { first, on: given_on })?;
        }
        Ok(attributes)
    }

    fn set(
        &mut self,
        path: &'static str,
        field: &Field,
        value: &str,
        given: Given,
    ) -> Result<(), AttributeError> {
        let single = !matches!(field, Field::Texts(_) | Field::Countries(_) | Field::Labels(_));
        if single && !given.first {
            return Err(AttributeError::Twice { path });
        }
        match field {
            Field::Known(place) => *place(self) = known(path, value)?,
            Field::Word(words, place) => *place(self) = word(path, words, value)?,
            Field::Text(place) => *place(self) = Some(text(path, value)?),
            Field::Country(place) => *place(self) = Some(country(path, value)?),
            Field::AgeDays(place) => *place(self) = Some(measured(path, value, given.on)?),
            Field::Texts(place) => extend(path, place(self), value, given.first, text)?,
            Field::Countries(place) => extend(path, place(self), value, given.first, country)?,
            Field::Labels(place) => extend(path, place(self), value, given.first, label)?,
        }
        Ok(())
    }
}

/// How an attribute was given: for the first time or again, and on which day.
#[derive(Clone, Copy)]
struct Given {
    first: bool,
    on: Day,
}

/// Splits `path=value`.
pub fn pair(text: &str) -> Result<(String, String), AttributeError> {
    match text.split_once('=') {
        Some((path, value)) => Ok((path.trim().to_owned(), value.trim().to_owned())),
        None => Err(AttributeError::Form { text: text.to_owned() }),
    }
}

/// Every path a key may use, in the order of the contract.
pub fn paths() -> impl Iterator<Item = &'static str> {
    FIELDS.iter().map(|(path, _)| *path)
}

fn find(path: &str) -> Result<(&'static str, &'static Field), AttributeError> {
    static TABLE: [(&str, Field); FIELDS.len()] = FIELDS;
    let found = TABLE.iter().find(|(known, _)| *known == path);
    found.map(|(known, field)| (*known, field)).ok_or_else(|| AttributeError::UnknownPath {
        path: path.to_owned(),
        nearest: nearest(path),
    })
}

/// The path whose end is most like what was written: people leave out the front.
fn nearest(path: &str) -> &'static str {
    let last = path.rsplit('.').next().unwrap_or(path);
    let likeness = |known: &str| {
        let known_last = known.rsplit('.').next().unwrap_or(known);
        strsim::normalized_damerau_levenshtein(known, path)
            + strsim::normalized_damerau_levenshtein(known_last, last)
    };
    let best = paths().max_by(|one, other| likeness(one).total_cmp(&likeness(other)));
    best.unwrap_or("caller.type")
}

fn known(path: &'static str, value: &str) -> Result<Known, AttributeError> {
    Known::parse(value).ok_or_else(|| refuse(path, "`yes`, `no` or `unknown`", value))
}

/// One of `words`, or none for `unknown`. Classes are written in upper case, all else in lower.
fn word(path: &'static str, words: &[&str], value: &str) -> Result<Option<String>, AttributeError> {
    if value == "unknown" {
        return Ok(None);
    }
    match words.iter().find(|word| **word == value) {
        Some(word) => Ok(Some((*word).to_owned())),
        None => Err(refuse(path, &format!("one of `{}`", words.join("`, `")), value)),
    }
}

/// A word of the operator's own vocabulary.
fn text(path: &'static str, value: &str) -> Result<String, AttributeError> {
    let allowed = |c: char| c.is_alphanumeric() || "-_.:/@+ ".contains(c);
    if value.is_empty() || value.len() > VALUE_BYTES_MAX || !value.chars().all(allowed) {
        return Err(refuse(path, "letters, digits and `-_.:/@+`", value));
    }
    Ok(value.to_owned())
}

fn country(path: &'static str, value: &str) -> Result<Country, AttributeError> {
    Country::parse(value)
        .ok_or_else(|| AttributeError::Country { path, why: countries::refusal(value) })
}

/// `age` days before `given_on`.
fn measured(path: &'static str, age: &str, given_on: Day) -> Result<String, AttributeError> {
    let days: u16 = age.parse().map_err(|_fault| refuse(path, "a number of days", age))?;
    Ok(given_on.before(days.into()).to_string())
}

/// A label in normal form: `cui:sp-cti;diss=noforn`, several marks joined by `/`.
fn label(path: &'static str, value: &str) -> Result<String, AttributeError> {
    let lower = value.to_lowercase();
    let (norm, marks) = match lower.split_once(";diss=") {
        Some((norm, marks)) => (norm, Some(marks)),
        None => (lower.as_str(), None),
    };
    let token = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    let light = norm.strip_prefix("tlp:").is_some_and(|light| LIGHTS.contains(&light));
    let known = NORMS.contains(&norm) || norm.strip_prefix("cui:").is_some_and(token);
    let known = known || (light && marks.is_none());
    if !known || !marks.is_none_or(|marks| marks.split('/').all(token)) {
        let expected =
            format!("a label like `cui:sp-cti;diss=noforn`, of `{}`", NORMS.join("`, `"));
        return Err(refuse(path, &expected, value));
    }
    Ok(lower)
}

/// Adds the values of a list; the first time, whatever stood there by default goes.
fn extend<T: PartialEq>(
    path: &'static str,
    list: &mut Vec<T>,
    values: &str,
    first: bool,
    read: fn(&'static str, &str) -> Result<T, AttributeError>,
) -> Result<(), AttributeError> {
    if first {
        list.clear();
    }
    for value in values.split(',') {
        let value = read(path, value.trim())?;
        if !list.contains(&value) {
            list.push(value);
        }
    }
    if list.len() > VALUES_MAX {
        return Err(AttributeError::TooMany { path });
    }
    Ok(())
}

fn refuse(path: &'static str, expected: &str, value: &str) -> AttributeError {
    AttributeError::Value { path, expected: expected.to_owned(), value: value.to_owned() }
}

#[cfg(test)]
mod tests;
