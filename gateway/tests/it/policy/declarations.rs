//! What a client declares only ever adds: no label, class, region or category widens the set of
//! upstreams that a call may go to.
//!
//! Proven twice: over the documents of the case files, which hold what calls seldom do, and over
//! calls with the headers of real clients, which pass through our own stages.

mod headers;

use std::{collections::BTreeSet, sync::LazyLock};

use cordon_gateway::policy::{bundle::Bundle, document, replay::Evaluator};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::policy::{all_cases, evaluator, runtime};

/// Classes from open to closed; a declared one joins with the call's own, the stricter holds.
const CLASSES: [&str; 8] =
    ["PUBLIC", "INTERNAL", "CONFIDENTIAL", "RESTRICTED", "CUI", "ITAR", "EU_RESTRICTED", "SECRET"];
const NORMS: [&str; 10] = [
    "public",
    "internal",
    "confidential",
    "restricted",
    "cui",
    "cui:sp-cti",
    "itar",
    "eu-restricted",
    "secret",
    "unknown",
];
const REGIONS: [&str; 7] = ["DE", "FR", "US", "CN", "GB", "IN", "BR"];

/// A document that permits something, and what it permits.
type Base = (Value, BTreeSet<String>);

static WORLD: LazyLock<(Runtime, Evaluator, Vec<Base>)> = LazyLock::new(|| {
    let runtime = runtime();
    let engine = runtime.block_on(evaluator(Bundle::built_in().expect("the bundle")));
    let cases = all_cases().into_iter().filter(|case| case.askable && case.data.is_empty());
    // Some cases break or leave out what a declaration joins with.
    let whole = |facts: &Value| {
        let data = &facts["data"];
        data["labels"].is_array() && data["subjects"]["regions"].is_array()
    };
    let whole = cases.map(|case| case.facts).filter(whole);
    let bases = whole.map(|facts| {
        let allowed = allowed(&runtime, &engine, &facts);
        (facts, allowed)
    });
    // Where nothing is allowed nothing can be widened, and nothing shown.
    let bases: Vec<Base> = bases.filter(|(_, allowed)| !allowed.is_empty()).collect();
    assert!(bases.len() >= 10, "only {} cases allow anything", bases.len());
    (runtime, engine, bases)
});

/// What a client can say with a call.
#[derive(Debug, Clone)]
struct Declared {
    labels: Vec<(&'static str, bool)>,
    class: Option<usize>,
    regions: Vec<&'static str>,
}

fn declared() -> impl Strategy<Value = Declared> {
    let label = (proptest::sample::select(&NORMS[..]), any::<bool>());
    let labels = proptest::collection::vec(label, 0..3);
    let class = proptest::option::of(0..CLASSES.len());
    let regions = proptest::collection::vec(proptest::sample::select(&REGIONS[..]), 0..3);
    (labels, class, regions).prop_map(|(labels, class, regions)| Declared {
        labels,
        class,
        regions,
    })
}

/// Joins a declaration with what the base knows of its data.
fn join(base: &Value, declared: &Declared) -> Value {
    let mut facts = base.clone();
    let data = &mut facts["data"];
    for (norm, noforn) in &declared.labels {
        let diss = if *noforn { json!(["noforn"]) } else { json!([]) };
        let label = json!({"norm": norm, "diss": diss, "src": "declared", "conf": "high"});
        data["labels"].as_array_mut().expect("labels").push(label);
    }
    let own = CLASSES.iter().position(|class| data["class"] == **class);
    if let (Some(own), Some(class)) = (own, declared.class) {
        data["class"] = CLASSES[own.max(class)].into();
    }
    let regions = data["subjects"]["regions"].as_array_mut().expect("regions");
    for region in &declared.regions {
        if !regions.contains(&json!(region)) {
            regions.push((*region).into());
        }
    }
    facts
}

fn allowed(runtime: &Runtime, engine: &Evaluator, facts: &Value) -> BTreeSet<String> {
    let facts = document::adopt(facts.clone(), &engine.about().steps).expect("a document");
    let decision = runtime.block_on(engine.ask(&facts)).expect("a decision");
    if !matches!(decision["effect"].as_str(), Some("allow" | "local_only")) {
        return BTreeSet::new();
    }
    let chosen = decision["candidates"].as_array().expect("candidates");
    chosen.iter().map(|chosen| chosen["id"].as_str().expect("an id").to_owned()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_declaration_never_widens_what_is_allowed(
        base in (0..WORLD.2.len()), declared in declared(),
    ) {
        let (runtime, engine, bases) = &*WORLD;
        let (base, before) = &bases[base];
        let after = allowed(runtime, engine, &join(base, &declared));
        prop_assert!(after.is_subset(before), "{before:?} became {after:?}");
    }
}
