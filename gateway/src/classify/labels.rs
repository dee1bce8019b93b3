//! Labels in the contract's norms: joined, and the strictest class and traffic light of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    classify::{
        Confidence, Label, LabelSource,
        declared::{self, Declared},
    },
    identity::{attributes::DataAttributes, vocabulary::CLASSES},
};

/// What a label becomes that the contract does not know; policy refuses it.
pub const UNKNOWN: &str = "unknown";

/// The class where nothing says another.
const DEFAULT_CLASS: &str = "INTERNAL";

/// Traffic lights (FIRST, TLP 2.0), the least strict first.
const LIGHTS: [&str; 5] = ["CLEAR", "GREEN", "AMBER", "AMBER+STRICT", "RED"];

/// Longest name of a CUI category; the registry's are much shorter.
const CATEGORY_BYTES_MAX: usize = 24;

/// CUI categories one call may carry by name; further ones count as plain `cui`.
const LABELS_MAX: usize = 32;

/// What is known about one label from one source.
#[derive(Debug, Clone)]
struct Marks {
    dissemination: BTreeSet<String>,
    confidence: Confidence,
}

/// The labels of a call while they are gathered.
#[derive(Debug, Clone, Default)]
pub struct Labels {
    marks: BTreeMap<(String, LabelSource), Marks>,
    /// Index into the classes; unset where nothing but labels says one.
    class: Option<usize>,
    light: Option<usize>,
}

/// The contract's norm for a label, `unknown` where it has none.
pub fn norm(label: &str) -> String {
    let label = label.to_ascii_lowercase();
    let known = match label.as_str() {
        "public" | "internal" | "confidential" | "restricted" | "cui" | "itar"
        | "eu-restricted" | "secret" => true,
        other => other.strip_prefix("cui:").is_some_and(is_category),
    };
    if known { label } else { UNKNOWN.to_owned() }
}

/// Whether `name` has the form of a CUI category marking, lower case (`sp-cti`).
pub fn is_category(name: &str) -> bool {
    let fits = (2..=CATEGORY_BYTES_MAX).contains(&name.len());
    let plain =
        name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    fits && plain && !name.starts_with('-') && !name.ends_with('-')
}

/// The class that a norm stands for; none for `unknown`.
fn class_of(norm: &str) -> Option<&'static str> {
    match norm {
        "public" => Some("PUBLIC"),
        "internal" => Some("INTERNAL"),
        "confidential" => Some("CONFIDENTIAL"),
        "restricted" => Some("RESTRICTED"),
        "itar" => Some("ITAR"),
        "eu-restricted" => Some("EU_RESTRICTED"),
        "secret" => Some("SECRET"),
        other if other == "cui" || other.starts_with("cui:") => Some("CUI"),
        _ => None,
    }
}

fn position(order: &[&str], name: &str) -> Option<usize> {
    order.iter().position(|known| *known == name)
}

// === impl Labels ===

impl Labels {
    /// Adds a label that stands in a text.
    pub fn detect(&mut self, norm: &str, dissemination: &[&str], confidence: Confidence) {
        self.add(norm, LabelSource::Detected, dissemination, confidence);
    }

    /// Adds a traffic light; the strictest holds. One we do not know counts as the strictest.
    pub fn light(&mut self, light: &str) {
        let light = position(&LIGHTS, light).unwrap_or(LIGHTS.len() - 1);
        self.light = self.light.max(Some(light));
    }

    /// Joins what a client declared.
    pub fn join_declared(&mut self, declared: &Declared) {
        for label in declared.labels() {
            self.add_declared(label);
        }
    }

    /// Joins what the key says. A label or class of it that cannot be read is `unknown`.
    pub fn join_key(&mut self, key: &DataAttributes) {
        for text in &key.labels {
            match declared::labels(text) {
                Ok(labels) => labels.iter().for_each(|label| self.add_declared(label)),
                Err(_) => self.add(UNKNOWN, LabelSource::Declared, &[], Confidence::High),
            }
        }
        match key.class.as_deref().map(|class| position(&CLASSES, class)) {
            Some(Some(class)) => self.class = self.class.max(Some(class)),
            Some(None) => self.add(UNKNOWN, LabelSource::Declared, &[], Confidence::High),
            None => {}
        }
    }

    fn add_declared(&mut self, label: &declared::DeclaredLabel) {
        match label {
            declared::DeclaredLabel::Light(light) => self.light(light),
            declared::DeclaredLabel::Label { norm, dissemination } => {
                let marks: Vec<&str> = dissemination.iter().map(String::as_str).collect();
                self.add(norm, LabelSource::Declared, &marks, Confidence::High);
            }
        }
    }

    fn add(
        &mut self,
        norm: &str,
        source: LabelSource,
        dissemination: &[&str],
        confidence: Confidence,
    ) {
        let full = self.marks.len() >= LABELS_MAX;
        let known = self.marks.contains_key(&(norm.to_owned(), source));
        let norm = if full && !known && norm.starts_with("cui:") { "cui" } else { norm };
        let marks = self
            .marks
            .entry((norm.to_owned(), source))
            .or_insert(Marks { dissemination: BTreeSet::new(), confidence });
        marks.confidence = marks.confidence.max(confidence);
        marks.dissemination.extend(dissemination.iter().map(|mark| (*mark).to_owned()));
    }

    /// The strictest class. A declared label never lowers the default; the key's own class may.
    pub fn class(&self) -> &'static str {
        let labels = self.marks.keys().filter_map(|(norm, _)| class_of(norm));
        let strictest = labels.filter_map(|class| position(&CLASSES, class)).max();
        let floor = self.class.or(position(&CLASSES, DEFAULT_CLASS));
        strictest.max(floor).map_or(DEFAULT_CLASS, |class| CLASSES[class])
    }

    /// The strictest traffic light.
    pub fn tlp(&self) -> Option<&'static str> {
        self.light.map(|light| LIGHTS[light])
    }

    /// The labels as policy sees them, ordered.
    pub fn into_sorted(self) -> Vec<Label> {
        self.marks
            .into_iter()
            .map(|((norm, source), marks)| Label {
                norm,
                dissemination: marks.dissemination.into_iter().collect(),
                source,
                confidence: marks.confidence,
            })
            .collect()
    }

    /// The first detected label, mark of one, or traffic light that `before` does not have.
    pub fn first_beyond(&self, before: &[Label], light: Option<&str>) -> Option<String> {
        let known = |norm: &str, marks: &Marks| {
            before.iter().any(|label| {
                let same = label.norm == norm && label.source == LabelSource::Detected;
                same && marks.dissemination.iter().all(|mark| label.dissemination.contains(mark))
            })
        };
        let detected =
            self.marks.iter().filter(|((_, source), _)| *source == LabelSource::Detected);
        let label = detected.into_iter().find(|((norm, _), marks)| !known(norm, marks));
        let stricter = self.light > light.and_then(|light| position(&LIGHTS, light));
        let light = self.tlp().filter(|_| stricter).map(str::to_owned);
        label.map(|((norm, _), _)| norm.clone()).or(light)
    }
}
