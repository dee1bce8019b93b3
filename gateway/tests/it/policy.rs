//! The committed bundle and cases, through the gateway's engine and through a second one.

use std::path::{Path, PathBuf};

use cordon_gateway::policy::{
    Effect, Settings,
    replay::{self, cases},
};

pub(crate) fn policies() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies")
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().expect("a runtime")
}

#[test]
fn every_case_comes_out_as_it_must() {
    let folder = policies().join("cases");
    let report = runtime().block_on(replay::cases(&Settings::default(), &folder)).expect("run");
    assert!(report.run > 0);
    assert!(report.faults.is_empty(), "{}", report.text());
}

#[test]
fn a_facts_document_is_decided_by_hand() {
    let case = cases::read(&policies().join("cases")).expect("cases").remove(0);
    let replayed = runtime().block_on(replay::eval(&Settings::default(), case.facts));
    let replayed = replayed.expect("usable facts").expect("a decision");
    assert_eq!((replayed.effect(), replayed.exit_code()), (Effect::Allow, 0));
    assert!(replayed.text().contains("is allowed (rank 1)"), "{}", replayed.text());
}
