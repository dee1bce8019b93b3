//! The documents hold to the schemas that are shipped for them.
//!
//! Knows the few keywords that the two schemas use; another one is a fault, not a pass.

use cordon_gateway::policy::bundle::Bundle;
use serde_json::{Map, Value};

use crate::policy::{all_cases, evaluator, policies, runtime};

fn schema(name: &str) -> Value {
    let path = policies().join("schema").join(name);
    let text = std::fs::read_to_string(path).expect("a schema");
    serde_json::from_str(&text).expect("JSON")
}

/// What is wrong with `value` at `path`.
fn faults(schema: &Value, value: &Value, path: &str) -> Vec<String> {
    let schema = schema.as_object().expect("a schema is an object");
    let mut found = Vec::new();
    for (keyword, rule) in schema {
        let holds = match keyword.as_str() {
            "$schema" | "$id" | "title" | "description" => true,
            "type" => is_of(rule, value),
            "enum" => rule.as_array().expect("a list").contains(value),
            "minimum" => value.as_u64() >= rule.as_u64(),
            "minItems" => length(value) >= rule.as_u64(),
            "maxItems" => length(value) <= rule.as_u64(),
            "required" => names(rule).all(|name| value.get(name).is_some()),
            "anyOf" => options(rule).any(|option| faults(option, value, path).is_empty()),
            "properties" | "additionalProperties" => {
                found.extend(in_members(schema, value, path));
                true
            }
            "items" => {
                for item in value.as_array().into_iter().flatten() {
                    found.extend(faults(rule, item, path));
                }
                true
            }
            _ => panic!("the keyword `{keyword}` is not known here"),
        };
        if !holds {
            found.push(format!("{path}: `{keyword}` does not hold for {value}"));
        }
    }
    found
}

fn in_members(schema: &Map<String, Value>, value: &Value, path: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (name, member) in value.as_object().into_iter().flatten() {
        let path = format!("{path}/{name}");
        let known = schema.get("properties").and_then(|known| known.get(name));
        match known.or(schema.get("additionalProperties")) {
            Some(Value::Bool(false)) => found.push(format!("{path} is not known")),
            Some(Value::Bool(true)) | None => {}
            Some(rule) => found.extend(faults(rule, member, &path)),
        }
    }
    found.sort();
    found.dedup();
    found
}

fn is_of(rule: &Value, value: &Value) -> bool {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let is = |name: &str| name == kind || (name, kind) == ("number", "integer");
    if rule.is_array() { names(rule).any(is) } else { rule.as_str().is_some_and(is) }
}

fn length(value: &Value) -> Option<u64> {
    value.as_array().map(|items| items.len() as u64)
}

fn names(rule: &Value) -> impl Iterator<Item = &str> {
    options(rule).filter_map(Value::as_str)
}

fn options(rule: &Value) -> impl Iterator<Item = &Value> {
    rule.as_array().expect("a list").iter()
}

#[test]
fn every_case_and_every_decision_has_the_form_of_its_schema() {
    let (facts, decision) =
        (schema("cordon.facts-1.schema.json"), schema("cordon.decision-1.schema.json"));
    let (bundle, runtime) = (Bundle::built_in().expect("the bundle"), runtime());
    let engine = runtime.block_on(evaluator(bundle));
    let cases = all_cases();
    // Those of `input-shape.yaml` are about documents of another form.
    let formed = cases.iter().filter(|case| case.askable && case.file != "input-shape.yaml");
    for case in formed.filter(|case| case.data.is_empty()) {
        let asked = case.sealed(&engine.about().steps).expect("declared steps");
        assert_eq!(faults(&facts, &asked, ""), [""; 0], "{}", case.name);
        let told = runtime.block_on(engine.ask(&asked)).expect("a decision");
        assert_eq!(faults(&decision, &told, ""), [""; 0], "{}", case.name);
    }
    let wrong = serde_json::json!({"schema": "cordon.decision/2", "more": 1});
    assert!(faults(&decision, &wrong, "").len() >= 3);
}
