//! What a client declares about its call: labels, regions, purpose, caching.
//!
//! Labels and regions are lists of RFC 8941. What cannot be read is an error and never ignored,
//! for it may be the very restriction that matters. Unknown labels become `unknown`.

mod list;

use http::HeaderMap;

use crate::{
    classify::labels::{UNKNOWN, norm},
    identity::attributes::Country,
};

/// Labels of the content: `cui:sp-cti;diss=noforn`.
pub const LABELS: &str = "x-cordon-labels";
/// Countries of the people concerned: `DE, FR`.
pub const SUBJECT_REGIONS: &str = "x-cordon-subject-regions";
/// What the call is for: one of the key's purposes.
pub const PURPOSE: &str = "x-cordon-purpose";
/// `no-store`: no answer from or into the cache.
pub const CACHE: &str = "x-cordon-cache";

/// Items in one header; nobody needs more.
const ITEMS_MAX: usize = 64;

/// Longest purpose.
const PURPOSE_BYTES_MAX: usize = 128;

/// Dissemination marks that policy may ask for; any other makes the label `unknown`.
const DISSEMINATION: [&str; 9] = [
    "noforn",
    "fed-only",
    "fedcon",
    "nocon",
    "dl-only",
    "rel-to",
    "display-only",
    "attorney-client",
    "attorney-wp",
];

/// One declared label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeclaredLabel {
    /// A traffic light, upper case (`AMBER+STRICT`).
    Light(String),
    /// A label in the contract's norms, or `unknown`.
    Label { norm: String, dissemination: Vec<String> },
}

/// What a client declared with one call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declared {
    labels: Vec<DeclaredLabel>,
    subject_regions: Vec<Country>,
    purpose: Option<String>,
    no_store: bool,
}

/// Why a declaration cannot be read; answered 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeclaredError {
    #[error("header `{header}` {what}")]
    Malformed { header: &'static str, what: &'static str },
}

// === impl Declared ===

impl Declared {
    /// Reads the four headers; missing ones declare nothing.
    pub fn read(headers: &HeaderMap) -> Result<Self, DeclaredError> {
        let mut declared = Self::default();
        if let Some(text) = joined(headers, LABELS)? {
            declared.labels = labels(&text).map_err(malformed(LABELS))?;
        }
        if let Some(text) = joined(headers, SUBJECT_REGIONS)? {
            declared.subject_regions = regions(&text).map_err(malformed(SUBJECT_REGIONS))?;
        }
        if let Some(text) = joined(headers, PURPOSE)? {
            declared.purpose = Some(purpose(&text).map_err(malformed(PURPOSE))?);
        }
        if let Some(text) = joined(headers, CACHE)? {
            declared.no_store = no_store(&text).map_err(malformed(CACHE))?;
        }
        Ok(declared)
    }

    /// The labels, in the order given.
    pub fn labels(&self) -> &[DeclaredLabel] {
        &self.labels
    }
    /// Countries of the people concerned.
    pub fn subject_regions(&self) -> &[Country] {
        &self.subject_regions
    }
    /// The purpose, as written; it counts only if it is one of the key's.
    pub fn purpose(&self) -> Option<&str> {
        self.purpose.as_deref()
    }
    /// Whether the client wants nothing cached.
    pub fn no_store(&self) -> bool {
        self.no_store
    }
}

/// The values of a header, joined as RFC 8941 (section 4.2) says.
fn joined(headers: &HeaderMap, header: &'static str) -> Result<Option<String>, DeclaredError> {
    let mut text: Option<String> = None;
    for value in headers.get_all(header) {
        let Ok(value) = value.to_str() else {
            let what = "holds bytes that are not printable ASCII";
            return Err(DeclaredError::Malformed { header, what });
        };
        match &mut text {
            Some(text) => *text = format!("{text}, {value}"),
            None => text = Some(value.to_owned()),
        }
    }
    Ok(text)
}

fn malformed(header: &'static str) -> impl Fn(&'static str) -> DeclaredError {
    move |what| DeclaredError::Malformed { header, what }
}

/// Reads a list of labels, as a header or a key's attribute writes them.
pub(super) fn labels(text: &str) -> Result<Vec<DeclaredLabel>, &'static str> {
    list::read(text, ITEMS_MAX)?.into_iter().map(label).collect()
}

fn label(item: list::Item) -> Result<DeclaredLabel, &'static str> {
    let name = item.value.to_ascii_lowercase();
    if let Some(light) = name.strip_prefix("tlp:") {
        let light = if light == "white" { "clear" } else { light };
        if !item.parameters.is_empty() {
            return Err("gives a traffic light a parameter; it takes none");
        }
        return match light {
            "red" | "amber+strict" | "amber" | "green" | "clear" => {
                Ok(DeclaredLabel::Light(light.to_ascii_uppercase()))
            }
            _ => Ok(unknown()),
        };
    }
    let mut dissemination = Vec::new();
    for (name, value) in item.parameters {
        if name != "diss" {
            return Err("gives a label a parameter other than `diss`");
        }
        let marks = value.split([' ', ',', '/']).filter(|mark| !mark.is_empty());
        dissemination.extend(marks.map(str::to_ascii_lowercase));
    }
    if dissemination.iter().any(|mark| !DISSEMINATION.contains(&mark.as_str())) {
        return Ok(unknown());
    }
    Ok(DeclaredLabel::Label { norm: norm(&name), dissemination })
}

fn unknown() -> DeclaredLabel {
    DeclaredLabel::Label { norm: UNKNOWN.to_owned(), dissemination: Vec::new() }
}

fn regions(text: &str) -> Result<Vec<Country>, &'static str> {
    list::read(text, ITEMS_MAX)?.iter().map(region).collect()
}

fn region(item: &list::Item) -> Result<Country, &'static str> {
    const WHAT: &str = "must list countries by their two letters (ISO 3166-1), like `DE, FR`";
    let country = Country::parse(&item.value.to_ascii_uppercase()).ok_or(WHAT)?;
    item.parameters.is_empty().then_some(country).ok_or(WHAT)
}

fn purpose(text: &str) -> Result<String, &'static str> {
    let text = text.trim();
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if text.is_empty() || text.len() > PURPOSE_BYTES_MAX || !plain {
        return Err("must name one purpose in 1 to 128 printable characters");
    }
    Ok(text.to_owned())
}

fn no_store(text: &str) -> Result<bool, &'static str> {
    match text.trim() {
        "no-store" => Ok(true),
        _ => Err("must be `no-store`"),
    }
}

#[cfg(test)]
mod tests;
