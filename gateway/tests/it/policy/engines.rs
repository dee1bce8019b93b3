//! Two engines, one policy: opa-wasm decides, regorus must agree; and numbers in between steps
//! must not matter.

use std::{collections::BTreeMap, path::Path};

use cordon_gateway::policy::{bundle::Bundle, decision, document, replay::Evaluator, steps::Steps};
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

#[test]
fn both_engines_agree_on_every_case_raw_and_stepped() {
    let (bundle, runtime) = (Bundle::built_in().expect("the bundle"), runtime());
    let (one, other) = (runtime.block_on(evaluator(bundle.clone())), second());
    let mut engines: BTreeMap<String, (Evaluator, regorus::Engine)> = BTreeMap::new();
    for case in all_cases() {
        let data = case.changed(bundle.data());
        let (first, second) = engines.entry(data.to_string()).or_insert_with(|| {
            let first = runtime.block_on(one.with_data(data.clone())).expect("data of its form");
            (first, with_data(&other, &data))
        });
        let stepped = case.sealed(&first.about().steps).expect("declared steps");
        let raw = if case.askable { sealed(&case.facts) } else { stepped.clone() };
        let mut answers = Vec::new();
        for facts in [raw, stepped] {
            let answer = runtime.block_on(first.hear(&facts)).expect("an answer");
            assert_eq!(answer, decided(second, &facts), "{}", case.name);
            answers.push(substance(answer));
        }
        assert_eq!(answers[0], answers[1], "{}: steps change the decision", case.name);
    }
}

/// Puts `number` wherever the document has a value at `path`; says whether it did.
fn put(value: &mut Value, path: &[&str], number: u64) -> bool {
    match (value, path.split_first()) {
        (Value::Array(items), _) => {
            items.iter_mut().filter_map(|item| put(item, path, number).then_some(())).count() > 0
        }
        (Value::Object(members), Some((first, rest))) => {
            members.get_mut(*first).is_some_and(|member| put(member, rest, number))
        }
        (value @ (Value::Number(_) | Value::String(_)), None) => {
            *value = number.into();
            true
        }
        _ => false,
    }
}

#[test]
fn numbers_between_two_steps_decide_alike() {
    let bundle = Bundle::built_in().expect("the bundle");
    let runtime = runtime();
    let engine = runtime.block_on(evaluator(bundle));
    let steps = &engine.about().steps;
    let mut asked = 0;
    // One case of each file: the others differ in what is no number.
    let mut cases = all_cases();
    cases.retain(|case| case.askable && case.data.is_empty());
    cases.dedup_by_key(|case| case.file.clone());
    for case in cases {
        for (path, values) in steps.iter() {
            let parts: Vec<&str> = path.split('.').collect();
            let around = values.iter().flat_map(|step| [step.saturating_sub(1), *step, step + 1]);
            for number in around.collect::<std::collections::BTreeSet<_>>() {
                let mut facts = case.facts.clone();
                if !put(&mut facts, &parts, number) {
                    continue;
                }
                let raw = runtime.block_on(engine.ask(&sealed(&facts))).expect("a decision");
                let facts = stepped(&facts, steps);
                let stepped = runtime.block_on(engine.ask(&facts)).expect("a decision");
                assert_eq!(substance(raw), substance(stepped), "{}: {path} = {number}", case.name);
                asked += 1;
            }
        }
    }
    assert!(asked > 100, "{asked}");
}
