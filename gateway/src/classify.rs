//! Which kinds of data a call holds: where and how sure, never the values.
//!
//! Makes [`Findings`] from every string of the body, the labels a client declares and the key's
//! own. Knows text and patterns; not who asks or where it may go.

pub mod checksums;
pub mod declared;
pub mod markings;
pub mod patterns;
pub mod redact;

use std::{collections::BTreeMap, ops::Range};

use crate::identity::attributes::{Country, Known};

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
    pub category: String,
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
