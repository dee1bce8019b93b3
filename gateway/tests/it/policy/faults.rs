//! Case 59: whatever a policy answers that is no decision is a refusal with its own code, and
//! nothing is routed.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use cordon_gateway::policy::{
    Effect, HostCode, PolicyError, Settings,
    bundle::Bundle,
    document,
    replay::{self, Evaluator, ReplayError},
};
use serde_json::{Value, json};

use crate::policy::{PATIENCE, runtime};

/// Built by `tests/bundles/build` from the source beside it.
fn bundle(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bundles").join(format!("{name}.tar.gz"))
}

/// Facts that make the test policy answer in a given way.
fn facts(mood: &str) -> Value {
    json!({
        "schema": "cordon.facts/1",
        "candidates": [{"id": "there/model", "kind": "remote"}],
        "data": {"categories": [{"id": "pii.direct"}]},
        "mood": mood,
    })
}

fn answers(deadline: Duration) -> Evaluator {
    let bundle = Bundle::read(&bundle("answers")).expect("a bundle");
    runtime().block_on(Evaluator::new(bundle, deadline)).expect("a bundle that activates")
}

#[test]
fn a_decision_that_is_understood_is_used() {
    let engine = answers(PATIENCE);
    for (mood, effect, exit) in [
        ("fine", Effect::Allow, 0),
        ("known_obligations", Effect::Allow, 0),
        ("denied", Effect::Deny, 1),
        ("approval", Effect::NeedsApproval, 1),
    ] {
        let replayed = runtime().block_on(engine.replay(facts(mood)));
        let replayed = replayed.expect("facts").expect("a decision");
        let found = (replayed.effect(), replayed.refusal(), replayed.exit_code());
        assert_eq!(found, (effect, None, exit), "{mood}");
    }
}

#[test]
fn each_kind_of_broken_answer_has_its_code() {
    let engine = answers(PATIENCE);
    for (mood, code) in [
        ("undefined", HostCode::Undefined),
        ("conflict", HostCode::EngineError),
        ("other_digest", HostCode::EchoMismatch),
        ("other_data", HostCode::EchoMismatch),
        ("no_basis", HostCode::BadDecisionSchema),
        ("no_mechanism", HostCode::BadDecisionSchema),
        ("forgotten_candidate", HostCode::BadDecisionSchema),
        ("extra_field", HostCode::BadDecisionSchema),
        ("wrong_schema", HostCode::BadDecisionSchema),
        ("wrong_effect", HostCode::BadDecisionSchema),
        ("remote_under_local_only", HostCode::BadDecisionSchema),
        ("allowed_and_denied", HostCode::BadDecisionSchema),
        ("unknown_obligation", HostCode::UnknownObligation),
        ("vote", HostCode::UnknownObligation),
        ("response_scan", HostCode::UnknownObligation),
        ("redact_answers", HostCode::UnknownObligation),
        ("unknown_limit", HostCode::UnknownObligation),
        ("encrypted_log", HostCode::ConflictLog),
        ("other_store", HostCode::ConflictLog),
    ] {
        // The host refuses before it reads the decision, or after.
        let replayed = runtime().block_on(engine.replay(facts(mood))).expect("facts");
        let refused = replayed.map_or_else(|none| Some(none.0), |read| read.refusal());
        assert_eq!(refused, Some(code), "{mood}");
    }
}

#[test]
fn a_runaway_evaluation_is_interrupted() {
    let engine = answers(Duration::from_millis(250));
    let began = Instant::now();
    let replayed = runtime().block_on(engine.replay(facts("endless"))).expect("facts");
    assert_eq!(replayed.expect_err("no decision").0, HostCode::EngineTimeout);
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
}

#[test]
fn an_engine_works_again_after_an_error() {
    let runtime = runtime();
    // Long enough that making a new instance on a busy machine fits into it.
    let engine = answers(Duration::from_secs(3));
    let ask = |mood: &str| {
        let mut facts = facts(mood);
        document::seal(&mut facts).expect("a document");
        runtime.block_on(engine.ask(&facts)).map(|decision| decision["effect"].clone())
    };
    for _ in 0..2 {
        assert_eq!(ask("fine"), Ok(json!("allow")));
        assert_eq!(ask("endless"), Err(HostCode::EngineTimeout));
        assert_eq!(ask("conflict"), Err(HostCode::EngineError));
        assert_eq!(ask("fine"), Ok(json!("allow")));
    }
}

#[test]
fn a_bundle_that_fails_its_self_test_is_not_activated() {
    let (engine, runtime) = (answers(PATIENCE), runtime());
    let good = Bundle::read(&bundle("answers")).expect("a bundle").data().clone();
    for (path, value, said) in [
        ("/about/revision", json!("other"), "its policy `other`"),
        ("/about/schema", json!("cordon.about/2"), "its schema is"),
        ("/about/needs", json!(["caller.mood"]), "needs the fact `caller.mood`"),
        ("/about/steps", json!({"data.categories.n": [1]}), "declares no steps for"),
        ("/about/steps/data.categories.n", json!([1, 1]), "no rising list"),
        ("/about/steps", json!("none"), "does not answer"),
        ("/about", Value::Null, "does not answer"),
        ("", json!({}), "self-test"),
    ] {
        let mut data = good.clone();
        *data.pointer_mut(path).expect("a place") = value;
        let refused = runtime.block_on(engine.with_data(data)).expect_err("refused").to_string();
        assert!(refused.contains(said), "{path}: {refused}");
    }
}

#[test]
fn a_bundle_that_reads_a_clock_is_not_activated() {
    let bundle = Bundle::read(&bundle("impure")).expect("a bundle");
    let refused = runtime().block_on(Evaluator::new(bundle, PATIENCE)).expect_err("refused");
    assert!(refused.to_string().contains("`time.now_ns`"), "{refused}");
}

#[test]
fn a_bundle_that_is_not_there_is_told_by_its_path() {
    let settings = Settings { bundle: Some(bundle("none_such")), ..Settings::default() };
    let missing = runtime().block_on(replay::rules(&settings)).expect_err("missing");
    assert!(matches!(missing, ReplayError::Policy(PolicyError::Bundle(_))));
    assert!(missing.to_string().contains("none_such.tar.gz"), "{missing}");
}
