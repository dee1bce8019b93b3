//! The case files: facts made from a base, and what policy must decide about them.
//!
//! A file names inputs; each starts from `base.yaml`, picks candidates (`base`), changes facts
//! (`set`, `remove`) and the bundle's data (`data`), and says what it expects. An expectation
//! holds what matters to the case and nothing else: what it leaves out may be anything.

mod expect;

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::policy::{
    PolicyError,
    bundle::Bundle,
    document::{self, DocumentError},
    replay::{Evaluator, ReplayError},
    steps::Steps,
};

pub use expect::Expectation;

/// The file that every case starts from.
const BASE: &str = "base.yaml";
/// A case is no hot path: generous, so that a busy machine fails no case.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(5);

/// One question and its right answer.
#[derive(Debug, Clone)]
pub struct Case {
    /// The file it stands in.
    pub file: String,
    /// File and names, for people.
    pub name: String,
    /// The facts document, numbers as written, without a digest.
    pub facts: Value,
    /// Whether the document is one that this gateway would ask about; else only what the policy
    /// says is compared.
    pub askable: bool,
    /// Changes of the bundle's data by path.
    pub data: BTreeMap<String, Value>,
    pub expect: Expectation,
}

/// What came of running cases.
#[derive(Debug, Default)]
pub struct Report {
    pub run: usize,
    /// Name of the case and what was wrong.
    pub faults: Vec<(String, String)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Base {
    facts: Value,
    base: Vec<String>,
    candidates: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default, rename = "case")]
    _case: Value,
    #[serde(default, rename = "from")]
    _from: Value,
    #[serde(default)]
    name: String,
    inputs: Vec<Input>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    #[serde(default)]
    name: String,
    base: Option<Vec<String>>,
    #[serde(default)]
    set: Map<String, Value>,
    #[serde(default)]
    remove: Vec<String>,
    #[serde(default)]
    data: BTreeMap<String, Value>,
    /// A document as it is, instead of facts made from the base.
    #[serde(default, deserialize_with = "given")]
    raw: Option<Value>,
    expect: Expectation,
}

/// A value that is there, `null` included.
fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// Reads every case of a folder, in the order of file names.
pub fn read(folder: &Path) -> Result<Vec<Case>, ReplayError> {
    let unreadable =
        |source| ReplayError::Unreadable { path: folder.display().to_string(), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".yaml") && name != BASE {
            names.push(name);
        }
    }
    names.sort_unstable();
    let base: Base = file(&folder.join(BASE))?;
    let mut cases = Vec::new();
    for file_name in names {
        let path = folder.join(&file_name);
        let read: File = file(&path)?;
        let title = format!("{file_name} ({})", read.name);
        for input in read.inputs {
            let wrong = |what| ReplayError::Case { path: path.display().to_string(), what };
            let name = format!("{title}: {}", input.name);
            let facts = match &input.raw {
                Some(raw) => raw.clone(),
                None => facts(&base, &input).map_err(wrong)?,
            };
            let askable = facts.get("schema").is_some_and(|schema| schema == document::SCHEMA);
            cases.push(Case {
                file: file_name.clone(),
                name,
                facts,
                askable,
                data: input.data,
                expect: input.expect,
            });
        }
    }
    Ok(cases)
}

/// Runs cases with a bundle's own engine, numbers stepped as for calls.
pub async fn run(bundle: Bundle, cases: &[Case]) -> Result<Report, PolicyError> {
    let mut report = Report::default();
    let data = bundle.data().clone();
    let plain = Evaluator::new(bundle, DEADLINE).await?;
    for case in cases {
        report.run += 1;
        let faults = match case.data.is_empty() {
            true => faults(&plain, case).await,
            false => faults(&plain.with_data(case.changed(&data)).await?, case).await,
        };
        report.faults.extend(faults.into_iter().map(|fault| (case.name.clone(), fault)));
    }
    Ok(report)
}

async fn faults(engine: &Evaluator, case: &Case) -> Vec<String> {
    let facts = match case.sealed(&engine.about().steps) {
        Ok(facts) => facts,
        Err(fault) => return vec![fault.to_string()],
    };
    let heard = match case.askable {
        true => engine.ask(&facts).await,
        false => engine.hear(&facts).await,
    };
    match heard {
        Ok(decision) => case.expect.faults(&decision),
        Err(code) => vec![format!("the host refuses with {}", code.name())],
    }
}

// === impl Case ===

impl Case {
    /// The document as the engine gets it: stepped and with its digest, if it can have them.
    pub fn sealed(&self, steps: &Steps) -> Result<Value, DocumentError> {
        match (self.askable, self.facts.is_object()) {
            (true, _) => document::adopt(self.facts.clone(), steps),
            (false, true) => {
                let mut facts = self.facts.clone();
                document::seal(&mut facts).map(|()| facts)
            }
            (false, false) => Ok(self.facts.clone()),
        }
    }

    /// The bundle's data with this case's changes.
    pub fn changed(&self, data: &Value) -> Value {
        let mut data = data.clone();
        for (path, value) in &self.data {
            let parts: Vec<&str> = path.split('.').collect();
            if let Some(place) = place(&mut data, &parts) {
                *place = value.clone();
            }
        }
        data
    }
}

// === impl Report ===

impl Report {
    /// 0 where every case came out as it must, else 1.
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.faults.is_empty())
    }

    /// The report as one JSON object.
    pub fn json(&self) -> Value {
        let faults: Vec<Value> = self
            .faults
            .iter()
            .map(|(case, fault)| json!({ "case": case, "fault": fault }))
            .collect();
        json!({ "ok": self.faults.is_empty(), "run": self.run, "faults": faults })
    }

    /// The report for people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for (case, fault) in &self.faults {
            out.push_str(&format!("{case}\n    {fault}\n"));
        }
        let failed: std::collections::BTreeSet<_> =
            self.faults.iter().map(|(case, _)| case).collect();
        out.push_str(&format!("{} cases, {} wrong\n", self.run, failed.len()));
        out
    }
}

fn file<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, ReplayError> {
    let name = || path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|source| ReplayError::Unreadable { path: name(), source })?;
    let wrong = |what: String| ReplayError::Case { path: name(), what };
    let mut value: serde_yaml_ng::Value =
        serde_yaml_ng::from_str(&text).map_err(|fault| wrong(fault.to_string()))?;
    value.apply_merge().map_err(|fault| wrong(fault.to_string()))?;
    serde_yaml_ng::from_value(value).map_err(|fault| wrong(fault.to_string()))
}

/// The facts of one input: the base's, its candidates by name, then the changes in order.
fn facts(base: &Base, input: &Input) -> Result<Value, String> {
    let mut facts = base.facts.clone();
    let names = input.base.as_ref().unwrap_or(&base.base);
    let mut candidates = Map::new();
    for name in names {
        let candidate = base.candidates.get(name);
        let mut candidate =
            candidate.cloned().ok_or_else(|| format!("there is no candidate `{name}`"))?;
        candidate["id"] = name.as_str().into();
        candidates.insert(name.clone(), candidate);
    }
    facts["candidates"] = Value::Object(candidates);
    for (path, value) in &input.set {
        let parts: Vec<&str> = path.split('.').collect();
        let place = place(&mut facts, &parts).ok_or_else(|| format!("`{path}` cannot be set"))?;
        *place = value.clone();
    }
    for path in &input.remove {
        remove(&mut facts, path).ok_or_else(|| format!("`{path}` cannot be removed"))?;
    }
    if let Some(Value::Object(named)) = facts.get("candidates") {
        facts["candidates"] = named.values().cloned().collect();
    }
    if let Some(members) = facts.as_object_mut() {
        members.remove("digest");
    }
    Ok(facts)
}

/// The value at a path, made where it is missing; `None` where a part is no object.
fn place<'a>(value: &'a mut Value, parts: &[&str]) -> Option<&'a mut Value> {
    let Some((first, rest)) = parts.split_first() else { return Some(value) };
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    place(value.as_object_mut()?.entry(*first).or_insert(Value::Null), rest)
}

fn remove(value: &mut Value, path: &str) -> Option<()> {
    let (parents, last) = path.rsplit_once('.').unwrap_or(("", path));
    let parts: Vec<&str> = parents.split('.').filter(|part| !part.is_empty()).collect();
    place(value, &parts)?.as_object_mut()?.shift_remove(last).map(|_| ())
}
