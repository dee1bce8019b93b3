//! What a case expects of a decision, and how the two differ.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Map, Value};

/// What a case expects; what is left out may be anything.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    effect: Option<String>,
    /// The allowed candidates, one list per rank, the best first.
    allow: Option<Vec<BTreeSet<String>>>,
    #[serde(default)]
    excluded: BTreeMap<String, Reasons>,
    /// Exactly the rules that refuse the request.
    request_rules: Option<Vec<RequestRule>>,
    #[serde(default)]
    obligations: Map<String, Value>,
    #[serde(default)]
    basis: BTreeMap<String, BTreeSet<String>>,
    #[serde(default)]
    mechanism: BTreeMap<String, Option<String>>,
    warnings: Option<BTreeSet<String>>,
}

/// Why one candidate is excluded: at least these rules, exactly this missing.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reasons {
    #[serde(default)]
    rules: BTreeSet<String>,
    missing: Option<BTreeSet<String>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum RequestRule {
    Id(String),
    Full { id: String, missing: BTreeSet<String> },
}

/// What is compared, collected fault by fault.
struct Differences<'a> {
    decision: &'a Value,
    faults: Vec<String>,
}

// === impl Expectation ===

impl Expectation {
    /// How `decision` differs from what is expected; empty where it does not.
    pub fn faults(&self, decision: &Value) -> Vec<String> {
        let mut differences = Differences { decision, faults: Vec::new() };
        if let Some(effect) = &self.effect {
            differences.same("effect", effect.as_str(), text(decision, "effect"));
        }
        if let Some(allow) = &self.allow {
            differences.same("allowed by rank", allow, &ranked(decision));
        }
        if let Some(expected) = &self.warnings {
            differences.same("warnings", expected, &texts(decision, "warnings"));
        }
        self.request(&mut differences);
        self.candidates(&mut differences);
        for (name, expected) in &self.obligations {
            let found = decision.pointer("/obligations").and_then(|all| all.get(name));
            let found = found.unwrap_or(&Value::Null);
            if !within(expected, found) {
                let fault = format!("obligation {name}: expected {expected}, found {found}");
                differences.faults.push(fault);
            }
        }
        differences.faults
    }

    fn request(&self, differences: &mut Differences<'_>) {
        let Some(expected) = &self.request_rules else { return };
        let found = list(differences.decision, "request_rules");
        let ids: BTreeSet<&str> = found.iter().map(|rule| text(rule, "id")).collect();
        differences.same("request rules", &expected.iter().map(RequestRule::id).collect(), &ids);
        for rule in expected {
            let RequestRule::Full { id, missing } = rule else { continue };
            if let Some(rule) = found.iter().find(|rule| text(rule, "id") == id) {
                differences.same(&format!("missing for {id}"), missing, &texts(rule, "missing"));
            }
        }
    }

    fn candidates(&self, differences: &mut Differences<'_>) {
        for (id, reasons) in &self.excluded {
            let Some(found) = by_id(differences.decision, "excluded", id) else {
                differences.faults.push(format!("{id} is not excluded"));
                continue;
            };
            let rules = texts(found, "rules");
            if !reasons.rules.is_subset(&rules) {
                differences.same(&format!("rules that exclude {id}"), &reasons.rules, &rules);
            }
            if let Some(missing) = &reasons.missing {
                differences.same(&format!("missing of {id}"), missing, &texts(found, "missing"));
            }
        }
        for (id, basis) in &self.basis {
            let found = by_id(differences.decision, "candidates", id);
            let found = found.map(|chosen| texts(chosen, "basis")).unwrap_or_default();
            if !basis.is_subset(&found) {
                differences.same(&format!("basis of {id}"), basis, &found);
            }
        }
        for (id, mechanism) in &self.mechanism {
            let found = by_id(differences.decision, "candidates", id)
                .and_then(|chosen| chosen.get("mechanism")?.as_str());
            differences.same(&format!("mechanism of {id}"), &mechanism.as_deref(), &found);
        }
    }
}

// === impl RequestRule ===

impl RequestRule {
    fn id(&self) -> &str {
        match self {
            Self::Id(id) | Self::Full { id, .. } => id,
        }
    }
}

// === impl Differences ===

impl Differences<'_> {
    fn same<T: PartialEq + std::fmt::Debug + ?Sized>(
        &mut self,
        what: &str,
        expected: &T,
        found: &T,
    ) {
        if expected != found {
            self.faults.push(format!("{what}: expected {expected:?}, found {found:?}"));
        }
    }
}

/// Whether `found` has everything that `expected` says: the named members of objects, an element
/// for each element of arrays (an empty array means none), else the same value.
fn within(expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => expected
            .iter()
            .all(|(name, expected)| within(expected, found.get(name).unwrap_or(&Value::Null))),
        (Value::Array(expected), Value::Array(found)) => {
            expected.is_empty() == found.is_empty()
                && expected.iter().all(|one| found.iter().any(|other| within(one, other)))
        }
        (expected, found) => expected == found,
    }
}

fn ranked(decision: &Value) -> Vec<BTreeSet<String>> {
    let mut ranks: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    for chosen in list(decision, "candidates") {
        let rank = chosen.get("rank").and_then(Value::as_u64).unwrap_or_default();
        ranks.entry(rank).or_default().insert(text(chosen, "id").to_owned());
    }
    ranks.into_values().collect()
}

fn by_id<'a>(decision: &'a Value, part: &str, id: &str) -> Option<&'a Value> {
    list(decision, part).iter().find(|entry| text(entry, "id") == id)
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn texts(value: &Value, name: &str) -> BTreeSet<String> {
    list(value, name).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}
