//! Which kinds of data a call holds: where and how sure, never the values.
//!
//! Makes [`Findings`] from every string of the body, the labels a client declares and the key's
//! own. What is declared only adds to what is found; of several classes the strictest holds.
//! Knows text and patterns; not who asks or where it may go.
//!
//! Cost: one pass over each string looks for cues (a keyword, an `@`, many digits); only a cue
//! starts a closer look, whose window has a limit, so the whole is linear.

pub mod checksums;
pub mod declared;
pub mod labels;
pub mod markings;
pub mod patterns;
pub mod redact;

mod numbers;
mod plain;
mod secrets;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    ops::Range,
};

use serde::Deserialize;

use crate::{
    classify::{
        declared::Declared,
        labels::Labels,
        patterns::{Hit, Patterns},
        plain::Plain,
    },
    identity::attributes::{Country, DataAttributes, Known},
    wire::{Call, Text},
};

/// Findings in one call; a body with more is not inspected to the end and says `failed`.
pub const PLACES_MAX: usize = 1 << 16;

/// How calls are inspected.
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Take the bare word `CUI` within a sentence for a marking of low confidence. In
    /// languages where it is an everyday abbreviation this may be switched off.
    pub loose_markings: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { loose_markings: true }
    }
}

/// How sure a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Confidence {
    Low,
    Medium,
    High,
}

/// Whether every part of the body could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ScanStatus {
    Complete,
    Partial,
    Failed,
    Skipped,
}

/// Where a label came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LabelSource {
    Declared,
    Detected,
}

/// A label in normal form (`cui:sp-cti`), with its dissemination marks (`noforn`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label {
    /// One of the contract's norms, or `unknown`.
    pub norm: String,
    pub dissemination: Vec<String>,
    pub source: LabelSource,
    pub confidence: Confidence,
}

/// One category of data: how often, how sure, and whether redaction can remove all of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Category {
    pub count: u64,
    pub confidence: Confidence,
    pub redactable: bool,
}

/// What was found, more finely than policy asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A credential whose form does not say what it opens.
    Secret,
    Phone,
    Email,
    Iban,
    /// A US social security number.
    SocialSecurity,
    Card,
    AwsKey,
    PrivateKey,
    /// A statement that the text is subject to the ITAR.
    ItarStatement,
}

/// Everything found in one call; the contract's `data` section is made of this alone.
/// `places` serves redaction and never leaves the process.
#[derive(Debug, Clone)]
pub struct Findings {
    pub(crate) status: ScanStatus,
    pub(crate) unscannable: u32,
    pub(crate) labels: Vec<Label>,
    pub(crate) class: String,
    pub(crate) tlp: Option<String>,
    /// Category id of the contract (`pii.direct`, `pci.pan`, `secret.aws`…), ordered.
    pub(crate) categories: BTreeMap<String, Category>,
    /// Kinds for the record's `pii_types` (`email`, `phone`, `iban`…), ordered.
    pub(crate) kinds: Vec<String>,
    pub(crate) subject_regions: Vec<Country>,
    pub(crate) subjects_estimate: Option<u64>,
    pub(crate) children: Known,
    pub(crate) places: Vec<Place>,
}

/// Where one finding stands: a text of the call and a byte range in its decoded form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub text: usize,
    pub range: Range<usize>,
    pub kind: Kind,
    pub confidence: Confidence,
    /// Whether the text may be replaced.
    pub replaceable: bool,
}

/// How a category is taken out of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Redaction {
    /// A stable token per value within the call: `[EMAIL_1]`.
    Tokenize,
    /// The value's shape without its content.
    Mask,
    /// Nothing is left.
    Drop,
}

/// What a rescan found although it should be gone, or that was not there before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("after redaction the rescan still finds `{what}`")]
pub struct Leftover {
    /// The category or label.
    pub what: String,
}

/// The patterns, built once.
#[derive(Debug)]
pub struct Classifier {
    patterns: Patterns,
    settings: Settings,
}

// === impl Kind ===

impl Kind {
    /// The contract's category.
    pub fn category(self) -> &'static str {
        match self {
            Kind::Email | Kind::Phone | Kind::Iban | Kind::SocialSecurity => "pii.direct",
            Kind::Card => "pci.pan",
            Kind::AwsKey => "secret.aws",
            Kind::Secret => "secret.generic",
            Kind::PrivateKey => "secret.private_key",
            Kind::ItarStatement => "export.itar",
        }
    }

    /// The name in the record's `pii_types`, for kinds of personal data.
    fn personal(self) -> Option<&'static str> {
        match self {
            Kind::Email => Some("email"),
            Kind::Phone => Some("phone"),
            Kind::Iban => Some("iban"),
            Kind::SocialSecurity => Some("us_ssn"),
            Kind::Card => Some("card"),
            Kind::AwsKey | Kind::Secret | Kind::PrivateKey | Kind::ItarStatement => None,
        }
    }

    /// Whether taking the place out of the text takes the matter out of it. A statement about
    /// the text does not make its removal change what the text is.
    fn removable(self) -> bool {
        self != Kind::ItarStatement
    }
}

// === impl Classifier ===

impl Classifier {
    /// Builds the patterns.
    pub fn new(settings: &Settings) -> Self {
        Self { patterns: Patterns::new(), settings: settings.clone() }
    }

    /// Inspects a call; joins what is found with what is declared and what the key says. The
    /// default regions count where the key names none: a header can add to them, never
    /// replace them.
    pub fn inspect(
        &self,
        call: &Call,
        declared: &Declared,
        key: &DataAttributes,
        default_regions: &[Country],
    ) -> Findings {
        let mut gathered = self.inspect_texts(call.texts());
        gathered.unscannable = gathered.unscannable.saturating_add(call.unscannable());
        let mut labels = std::mem::take(&mut gathered.labels);
        labels.join_declared(declared);
        labels.join_key(key);
        let own = match key.subject_regions.as_slice() {
            [] => default_regions,
            named => named,
        };
        let regions: BTreeSet<Country> =
            own.iter().chain(declared.subject_regions()).cloned().collect();
        gathered.into_findings(labels, regions.into_iter().collect(), key.children)
    }

    /// Inspects texts by themselves: categories, labels and places.
    pub fn inspect_texts<'a>(&self, texts: impl IntoIterator<Item = Text<'a>>) -> Gathered {
        let mut gathered = Gathered::default();
        let mut hits = Vec::new();
        for text in texts {
            let plain = Plain::of(text.text);
            let mut found = patterns::Found::new(&mut hits, &mut gathered.labels);
            self.patterns.scan(&plain, text.replaceable, &self.settings, &mut found);
            let (unreadable, overflowed) = (found.unreadable, found.overflowed);
            gathered.unscannable = gathered.unscannable.saturating_add(unreadable);
            gathered.overflowed |= overflowed;
            gathered.take(&mut hits, &plain, text);
            if gathered.overflowed {
                break;
            }
        }
        gathered
    }

    /// Inspects the bytes that shall leave: nothing of the redacted categories may be left, and
    /// nothing may be there that was not there before.
    pub fn rescan(
        &self,
        before: &Findings,
        outbound: &Call,
        redacted: &[(String, Redaction)],
    ) -> Result<(), Leftover> {
        let after = self.inspect_texts(outbound.texts());
        if after.overflowed || outbound.unscannable() > before.unscannable {
            return Err(Leftover { what: "unscannable".to_owned() });
        }
        for (category, found) in after.categories() {
            let gone = redacted.iter().any(|(pattern, _)| redact::covers(pattern, &category));
            let count = before.categories.get(&category).map_or(0, |before| before.count);
            if gone || found.count > count {
                return Err(Leftover { what: category });
            }
        }
        match after.labels.first_beyond(&before.labels, before.tlp()) {
            Some(label) => Err(Leftover { what: label }),
            None => Ok(()),
        }
    }
}

/// What the texts themselves gave, before anything declared is joined.
#[derive(Debug, Default)]
pub struct Gathered {
    places: Vec<Place>,
    labels: Labels,
    unscannable: u32,
    /// Keyed hashes of the personal identifiers seen, for the estimate of people.
    identifiers: HashSet<u64>,
    hasher: std::hash::RandomState,
    overflowed: bool,
}

// === impl Gathered ===

impl Gathered {
    /// Moves the hits of one text over, in the offsets of the text as it was sent.
    fn take(&mut self, hits: &mut Vec<Hit>, plain: &Plain<'_>, text: Text<'_>) {
        if hits.is_empty() {
            return;
        }
        patterns::drop_contained(hits);
        for hit in hits.drain(..) {
            if self.places.len() >= PLACES_MAX {
                self.overflowed = true;
                return;
            }
            if hit.kind.personal().is_some() {
                let value = redact::identity(hit.kind, &plain.text()[hit.range.clone()]);
                self.identifiers.insert(std::hash::BuildHasher::hash_one(&self.hasher, value));
            }
            self.places.push(Place {
                text: text.index,
                range: plain.original(hit.range),
                kind: hit.kind,
                confidence: hit.confidence,
                replaceable: text.replaceable,
            });
        }
    }

    /// Where it was found.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// The places counted by category.
    pub fn categories(&self) -> BTreeMap<String, Category> {
        let mut categories: BTreeMap<String, Category> = BTreeMap::new();
        for place in &self.places {
            let redactable = place.replaceable && place.kind.removable();
            let name = place.kind.category();
            match categories.get_mut(name) {
                Some(category) => {
                    category.count += 1;
                    category.confidence = category.confidence.max(place.confidence);
                    category.redactable &= redactable;
                }
                None => {
                    let (count, confidence) = (1, place.confidence);
                    categories.insert(name.to_owned(), Category { count, confidence, redactable });
                }
            }
        }
        categories
    }

    fn into_findings(self, labels: Labels, regions: Vec<Country>, children: Known) -> Findings {
        let status = match (self.overflowed, self.unscannable) {
            (true, _) => ScanStatus::Failed,
            (false, 0) => ScanStatus::Complete,
            (false, _) => ScanStatus::Partial,
        };
        let kinds: BTreeSet<_> =
            self.places.iter().filter_map(|place| place.kind.personal()).collect();
        let people = u64::try_from(self.identifiers.len()).unwrap_or(u64::MAX);
        Findings {
            status,
            unscannable: self.unscannable,
            class: labels.class().to_owned(),
            tlp: labels.tlp().map(str::to_owned),
            labels: labels.into_sorted(),
            categories: self.categories(),
            kinds: kinds.into_iter().map(str::to_owned).collect(),
            subject_regions: regions,
            subjects_estimate: (people > 0).then_some(people),
            children,
            places: self.places,
        }
    }
}

// === impl Findings ===

impl Findings {
    /// Whether every part of the body could be read.
    pub fn status(&self) -> ScanStatus {
        self.status
    }
    /// Parts that inspection could not read.
    pub fn unscannable(&self) -> u32 {
        self.unscannable
    }
    /// Labels declared, set by the key, and detected; ordered.
    pub fn labels(&self) -> &[Label] {
        &self.labels
    }
    /// The strictest class (`INTERNAL` where nothing says another).
    pub fn class(&self) -> &str {
        &self.class
    }
    /// The strictest traffic light (TLP 2.0), if any.
    pub fn tlp(&self) -> Option<&str> {
        self.tlp.as_deref()
    }
    /// What was found, by the contract's category.
    pub fn categories(&self) -> &BTreeMap<String, Category> {
        &self.categories
    }
    /// Kinds of personal data, for the record.
    pub fn kinds(&self) -> &[String] {
        &self.kinds
    }
    /// Where the people concerned live.
    pub fn subject_regions(&self) -> &[Country] {
        &self.subject_regions
    }
    /// Distinct personal identifiers, a guess at the number of people; `None` where there
    /// are none.
    pub fn subjects_estimate(&self) -> Option<u64> {
        self.subjects_estimate
    }
    /// Whether children are concerned.
    pub fn children(&self) -> Known {
        self.children
    }
    /// How many places were found, of all categories.
    pub fn count(&self) -> usize {
        self.places.len()
    }
}

#[cfg(test)]
mod tests;
