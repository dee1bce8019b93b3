//! A configuration's text with the places of its settings: which line each one stands on.
//!
//! Every part is read by itself, so that a fault in one does not hide those in another. Keys
//! that the schema does not know are told with the nearest one it knows, and taken out.

use std::{collections::BTreeMap, ops::Range};

use serde::de::DeserializeOwned;
use serde_json::Value;
use toml::{
    Spanned,
    de::{DeTable, DeValue, ValueDeserializer},
};

use crate::config::fault::{Fault, path_text};

/// Where each setting stands, by its path.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// The byte at which each line ends.
    ends: Vec<usize>,
    at: BTreeMap<String, usize>,
}

/// A parsed text; parts are taken out as they are read.
pub(super) struct Document<'t> {
    table: DeTable<'t>,
    pub(super) places: Places,
    pub(super) faults: Vec<Fault>,
}

// === impl Places ===

impl Places {
    fn line(&self, byte: usize) -> usize {
        self.ends.partition_point(|end| *end < byte) + 1
    }

    /// The line of a setting, or of the nearest part around it that is written down.
    pub(super) fn find(&self, path: &[String]) -> Option<usize> {
        (1..=path.len())
            .rev()
            .find_map(|length| self.at.get(&path_text(&path[..length])))
            .map(|byte| self.line(*byte))
    }

    fn note(&mut self, path: &[String], byte: usize) {
        self.at.insert(path_text(path), byte);
    }
}

// === impl Document ===

impl<'t> Document<'t> {
    /// Parses the text; where it is no TOML, every syntax fault is told.
    pub(super) fn parse(text: &'t str) -> Result<Self, Vec<Fault>> {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let mut places =
            Places { ends: ends.map(|(place, _)| place).collect(), at: BTreeMap::new() };
        let (table, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            return Err(errors.iter().map(|error| syntax(error, &places)).collect());
        }
        let table = table.into_inner();
        note(&table, &mut Vec::new(), &mut places);
        Ok(Self { table, places, faults: Vec::new() })
    }

    /// Tells and takes out every key that `schema` does not know.
    pub(super) fn refuse_unknown(&mut self, schema: &Value) {
        let root = Schema { root: schema, nodes: vec![schema] };
        let mut unknown = Unknown { places: &self.places, faults: Vec::new() };
        unknown.table(&mut self.table, &root.resolved(), &mut Vec::new());
        self.faults.append(&mut unknown.faults);
    }

    /// Reads one part; a fault is told and `None` given, as for a part that is left out.
    pub(super) fn part<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        let value = take(&mut self.table, name)?;
        self.read(&[name], value)
    }

    /// Reads a part whose entries are told apart by name, each by itself.
    pub(super) fn parts<T: DeserializeOwned>(&mut self, name: &str) -> BTreeMap<String, T> {
        let mut parts = BTreeMap::new();
        let Some(value) = take(&mut self.table, name) else { return parts };
        let span = value.span();
        let DeValue::Table(table) = value.into_inner() else {
            self.fault(&[name], &span, &format!("`{name}` holds tables: write `[{name}.NAME]`"));
            return parts;
        };
        for (key, value) in table {
            if let Some(part) = self.read(&[name, key.get_ref()], value) {
                parts.insert(key.get_ref().to_string(), part);
            }
        }
        parts
    }

    /// Tells that a part that must be there is not.
    pub(super) fn require<T>(&mut self, name: &str, part: Option<T>, why: &str) -> Option<T> {
        let told = self.faults.iter().any(|fault| fault.setting.split('.').next() == Some(name));
        if part.is_none() && !told {
            let problem = format!("`[{name}]` is missing: {why}");
            self.faults.push(Fault { line: None, setting: name.to_owned(), problem });
        }
        part
    }

    fn read<T: DeserializeOwned>(
        &mut self,
        path: &[&str],
        value: Spanned<DeValue<'_>>,
    ) -> Option<T> {
        let whole = value.span();
        match T::deserialize(ValueDeserializer::from(value)) {
            Ok(part) => Some(part),
            Err(error) => {
                let span = error.span().unwrap_or(whole);
                self.fault(path, &span, error.message().trim());
                None
            }
        }
    }

    fn fault(&mut self, path: &[&str], span: &Range<usize>, problem: &str) {
        let path: Vec<_> = path.iter().map(|&part| part.to_owned()).collect();
        // The most exact setting that begins before the fault, on its line.
        let line = self.places.line(span.start);
        let inside = path_text(&path);
        let exact = self.places.at.iter().filter(|(setting, byte)| {
            setting.starts_with(&inside) && **byte <= span.start && self.places.line(**byte) == line
        });
        let setting = exact.max_by_key(|(_, byte)| **byte).map(|(setting, _)| setting.clone());
        self.faults.push(Fault {
            line: Some(line),
            setting: setting.unwrap_or(inside),
            problem: problem.replace('\n', " "),
        });
    }
}

fn syntax(error: &toml::de::Error, places: &Places) -> Fault {
    let line = error.span().map(|span| places.line(span.start));
    let problem = format!("this is no TOML: {}", error.message().trim().replace('\n', ", "));
    Fault { line, setting: String::new(), problem }
}

fn take<'t>(table: &mut DeTable<'t>, name: &str) -> Option<Spanned<DeValue<'t>>> {
    let mut taken = None;
    let rest = std::mem::take(table);
    for (key, value) in rest {
        if key.get_ref() == name {
            taken = Some(value);
        } else {
            table.insert(key, value);
        }
    }
    taken
}

/// Notes where every key stands. A table's own place is its first key's where it has no header.
fn note(table: &DeTable<'_>, path: &mut Vec<String>, places: &mut Places) {
    for (key, value) in table {
        path.push(key.get_ref().to_string());
        places.note(path, key.span().start);
        match value.get_ref() {
            DeValue::Table(inner) => note(inner, path, places),
            DeValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    if let DeValue::Table(inner) = item.get_ref() {
                        path.push(index.to_string());
                        note(inner, path, places);
                        path.pop();
                    }
                }
            }
            _ => {}
        }
        path.pop();
    }
}

/// A place in the schema: everything that may hold there.
struct Schema<'s> {
    root: &'s Value,
    nodes: Vec<&'s Value>,
}

// === impl Schema ===

impl<'s> Schema<'s> {
    /// Follows references and gathers alternatives. Our schema nests them a few deep.
    fn resolved(&self) -> Self {
        let mut nodes = Vec::new();
        let mut open = self.nodes.clone();
        while let Some(node) = open.pop() {
            if let Some(reference) = node.get("$ref").and_then(Value::as_str)
                && let Some(target) = self.root.pointer(reference.trim_start_matches('#'))
            {
                open.push(target);
            }
            for choice in ["anyOf", "oneOf", "allOf"] {
                open.extend(node.get(choice).and_then(Value::as_array).into_iter().flatten());
            }
            nodes.push(node);
        }
        Self { root: self.root, nodes }
    }

    /// What may stand under `key`; `None` where nothing may.
    fn below(&self, key: &str) -> Option<Self> {
        let mut nodes = Vec::new();
        for node in &self.nodes {
            let named = node.get("properties").and_then(|all| all.get(key));
            let other = node.get("additionalProperties").filter(|other| other.is_object());
            nodes.extend(named.or(other));
        }
        (!nodes.is_empty()).then(|| Self { root: self.root, nodes }.resolved())
    }

    fn items(&self) -> Self {
        let nodes = self.nodes.iter().filter_map(|node| node.get("items")).collect();
        Self { root: self.root, nodes }.resolved()
    }

    /// The keys that are known by name.
    fn keys(&self) -> impl Iterator<Item = &'s String> {
        let all = self.nodes.iter().filter_map(|node| node.get("properties")?.as_object());
        all.flat_map(|properties| properties.keys())
    }
}

/// Finds unknown keys.
struct Unknown<'p> {
    places: &'p Places,
    faults: Vec<Fault>,
}

// === impl Unknown ===

impl Unknown<'_> {
    fn table(&mut self, table: &mut DeTable<'_>, schema: &Schema<'_>, path: &mut Vec<String>) {
        // A value that is no table by the schema is told when it is read, by its type.
        if schema.keys().next().is_none() && schema.below("").is_none() {
            return;
        }
        for (key, mut value) in std::mem::take(table) {
            path.push(key.get_ref().to_string());
            match schema.below(key.get_ref()) {
                Some(below) => {
                    self.value(value.get_mut(), &below, path);
                    table.insert(key, value);
                }
                None => self.tell(path, schema),
            }
            path.pop();
        }
    }

    fn value(&mut self, value: &mut DeValue<'_>, schema: &Schema<'_>, path: &mut Vec<String>) {
        match value {
            DeValue::Table(table) => self.table(table, schema, path),
            DeValue::Array(items) => {
                let schema = schema.items();
                for index in 0..items.len() {
                    path.push(index.to_string());
                    if let Some(item) = items.get_mut(index) {
                        self.value(item.get_mut(), &schema, path);
                    }
                    path.pop();
                }
            }
            _ => {}
        }
    }

    fn tell(&mut self, path: &[String], schema: &Schema<'_>) {
        let setting = path_text(path);
        let key = path.last().map(String::as_str).unwrap_or_default();
        let likeness = |known: &String| strsim::normalized_damerau_levenshtein(known, key);
        let nearest = schema.keys().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        let problem = match nearest {
            Some(nearest) => {
                format!("`{setting}` is no setting; the nearest is `{nearest}`")
            }
            None => format!("`{setting}` is no setting: remove it"),
        };
        self.faults.push(Fault { line: self.places.find(path), setting, problem });
    }
}
