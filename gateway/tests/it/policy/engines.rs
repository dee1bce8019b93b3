//! Two engines, one policy: opa-wasm decides, regorus must agree; and numbers in between steps
//! must not matter.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use cordon_gateway::policy::{
    bundle::Bundle,
    decision, document,
    replay::{Evaluator, cases::Case},
    steps::Steps,
};
use serde_json::Value;

use crate::policy::{all_cases, evaluator, policies, runtime};

/// The sources of the rules, without their tests.
fn sources(folder: &Path, into: &mut Vec<(String, String)>) {
    let mut entries: Vec<_> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry"))
        .collect();
    entries.sort_by_key(std::fs::DirEntry::path);
    for entry in entries {
        let path = entry.path();
        let name = path.display().to_string();
        if path.is_dir() {
            sources(&path, into);
        } else if name.ends_with(".rego") && !name.ends_with("_test.rego") {
            into.push((name, std::fs::read_to_string(&path).expect("a source")));
        }
    }
}

/// The second engine with the rules, and no data yet.
fn second() -> regorus::Engine {
    let mut found = Vec::new();
    sources(&policies().join("lib"), &mut found);
    sources(&policies().join("packs"), &mut found);
    let mut engine = regorus::Engine::new();
    engine.set_rego_v0(false);
    for (path, source) in found {
        engine.add_policy(path, source).expect("rules that the second engine reads");
    }
    engine
}

fn with_data(engine: &regorus::Engine, data: &Value) -> regorus::Engine {
    let mut engine = engine.clone();
    engine.add_data_json(&data.to_string()).expect("data");
    engine
}

/// What the second engine decides, sets in order.
fn decided(engine: &mut regorus::Engine, facts: &Value) -> Value {
    engine.set_input_json(&facts.to_string()).expect("an input");
    let decided = engine.eval_rule("data.cordon.decide".to_owned()).expect("a decision");
    let mut decided =
        serde_json::from_str(&decided.to_json_str().expect("JSON")).expect("JSON of its own");
    decision::in_order(&mut decided);
    decided
}

fn sealed(facts: &Value) -> Value {
    let mut facts = facts.clone();
    document::seal(&mut facts).expect("a document");
    facts
}

fn stepped(facts: &Value, steps: &Steps) -> Value {
    document::adopt(facts.clone(), steps).expect("declared steps")
}

/// A decision without the digest it echoes: what must be equal for facts that differ in numbers
/// between two steps only.
fn substance(mut decision: Value) -> Value {
    decision["echo"]["digest"] = Value::Null;
    decision
}

/// Both engines over the data of each case.
struct Both {
    runtime: tokio::runtime::Runtime,
    bundle: Bundle,
    first: Evaluator,
    second: regorus::Engine,
    with: BTreeMap<String, (Evaluator, regorus::Engine)>,
}

impl Both {
    fn new() -> Self {
        let (bundle, runtime) = (Bundle::built_in().expect("the bundle"), runtime());
        let first = runtime.block_on(evaluator(bundle.clone()));
        Self { runtime, bundle, first, second: second(), with: BTreeMap::new() }
    }

    /// Both engines over the data of `case`.
    fn over(
        &mut self,
        case: &Case,
    ) -> (&tokio::runtime::Runtime, &mut (Evaluator, regorus::Engine)) {
        let engines = self.with.entry(format!("{:?}", case.data)).or_insert_with(|| {
            let data = case.changed(self.bundle.data());
            let first = self.runtime.block_on(self.first.with_data(data.clone()));
            (first.expect("data of its form"), with_data(&self.second, &data))
        });
        (&self.runtime, engines)
    }

    /// What the first engine says to `facts` with the data of `case`.
    fn hear(&mut self, case: &Case, facts: &Value) -> Value {
        let (runtime, (first, _)) = self.over(case);
        runtime.block_on(first.hear(facts)).expect("an answer")
    }

    /// What both say; they must agree.
    fn decide(&mut self, case: &Case, facts: &Value) -> Value {
        let answer = self.hear(case, facts);
        let (_, (_, second)) = self.over(case);
        // A copy: the second engine keeps what it found out about one input for the next.
        assert_eq!(answer, decided(&mut second.clone(), facts), "{}", case.name);
        answer
    }
}

#[test]
fn both_engines_agree_on_every_case_raw_and_stepped() {
    let mut both = Both::new();
    let steps = both.first.about().steps.clone();
    for case in all_cases() {
        let stepped = case.sealed(&steps).expect("declared steps");
        let raw = if case.askable { sealed(&case.facts) } else { stepped.clone() };
        let raw = substance(both.decide(&case, &raw));
        let stepped = substance(both.decide(&case, &stepped));
        assert_eq!(raw, stepped, "{}: steps change the decision", case.name);
    }
}

/// Puts `number` at `path` wherever the document has its parent, as a passport's depth where there
/// is a passport; says whether it did.
fn put(value: &mut Value, path: &[&str], number: u64) -> bool {
    match (value, path) {
        (Value::Array(items), _) => {
            items.iter_mut().filter_map(|item| put(item, path, number).then_some(())).count() > 0
        }
        (Value::Object(members), [last]) => {
            members.insert((*last).to_owned(), number.into());
            true
        }
        (Value::Object(members), [first, rest @ ..]) => {
            members.get_mut(*first).is_some_and(|member| put(member, rest, number))
        }
        _ => false,
    }
}

/// The numbers at which a rule may turn: each step and those beside it.
fn around(steps: &[u64]) -> BTreeSet<u64> {
    steps.iter().flat_map(|step| [step.saturating_sub(1), *step, step + 1]).collect()
}

#[test]
fn numbers_between_two_steps_decide_alike() {
    let mut both = Both::new();
    let steps = both.first.about().steps.clone();
    let mut stepped_paths = BTreeSet::new();
    for case in all_cases().iter().filter(|case| case.askable) {
        // Many numbers share a stepped document, and so one decision of both engines.
        let mut decisions: BTreeMap<String, Value> = BTreeMap::new();
        for (path, values) in steps.iter() {
            let parts: Vec<&str> = path.split('.').collect();
            for number in around(values) {
                let mut facts = case.facts.clone();
                if !put(&mut facts, &parts, number) {
                    continue;
                }
                stepped_paths.insert(path);
                let stepped = stepped(&facts, &steps);
                let wanted = decisions
                    .entry(stepped["digest"].to_string())
                    .or_insert_with(|| substance(both.decide(case, &stepped)));
                let raw = substance(both.hear(case, &sealed(&facts)));
                assert_eq!(raw, *wanted, "{}: {path} = {number}", case.name);
            }
        }
    }
    let all: BTreeSet<&str> = steps.iter().map(|(path, _)| path).collect();
    assert_eq!(stepped_paths, all, "each number is stepped somewhere");
}
