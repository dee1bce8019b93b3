//! The committed bundle and cases, through the gateway's engine and through a second one.

mod declarations;
mod engines;
mod faults;
mod schemas;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use cordon_gateway::policy::{
    Effect, HostCode, Settings,
    bundle::Bundle,
    replay::{self, Evaluator, cases},
};

/// No case shall fail because the machine is busy.
const PATIENCE: Duration = Duration::from_secs(20);

fn policies() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies")
}

fn all_cases() -> Vec<cases::Case> {
    cases::read(&policies().join("cases")).expect("case files")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().expect("a runtime")
}

async fn evaluator(bundle: Bundle) -> Evaluator {
    Evaluator::new(bundle, PATIENCE).await.expect("a bundle that works")
}

#[test]
fn every_case_comes_out_as_it_must() {
    let folder = policies().join("cases");
    let report = runtime().block_on(replay::cases(&Settings::default(), &folder)).expect("run");
    assert!(report.run > 0);
    assert!(report.faults.is_empty(), "{}", report.text());
    assert_eq!(report.exit_code(), 0);
}

#[test]
fn no_case_of_the_contract_that_is_built_is_missing() {
    let folder = policies().join("cases");
    let mut numbers: std::collections::BTreeSet<u32> = std::collections::BTreeSet::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let text = std::fs::read_to_string(entry.expect("an entry").path()).expect("a file");
        let number = text.lines().find_map(|line| line.strip_prefix("case: ")?.parse::<u32>().ok());
        numbers.extend(number);
    }
    let built: [u32; 16] = [1, 2, 3, 4, 5, 11, 12, 13, 15, 16, 20, 21, 23, 26, 47, 48];
    for number in built {
        assert!(numbers.contains(&number), "case {number}");
    }
}

#[test]
fn what_must_be_kept_encrypted_is_allowed_by_policy_and_refused_by_the_host() {
    let (engine, mut asked) = (runtime().block_on(evaluator(Bundle::built_in().unwrap())), 0);
    for case in all_cases() {
        if case.file.starts_with("11-") || case.file.starts_with("13-") {
            let replayed = runtime().block_on(engine.replay(case.facts));
            let replayed = replayed.expect("facts").expect("a decision");
            assert_eq!(replayed.effect(), Effect::Allow, "{}", case.name);
            assert_eq!(replayed.refusal(), Some(HostCode::ConflictLog), "{}", case.name);
            asked += 1;
        }
    }
    assert!(asked >= 2);
}

#[test]
fn a_facts_document_is_decided_by_hand() {
    let facts = all_cases().remove(0).facts;
    let settings =
        Settings { deadline: cordon_gateway::quantity::Span(PATIENCE), ..Settings::default() };
    let replayed = runtime().block_on(replay::eval(&settings, facts));
    let replayed = replayed.expect("usable facts").expect("a decision");
    assert_eq!((replayed.effect(), replayed.exit_code()), (Effect::Allow, 0));
    assert_eq!(replayed.refusal(), None);
    assert!(replayed.text().contains("is allowed (rank 1)"), "{}", replayed.text());
}

#[test]
fn a_wrong_digest_and_an_unknown_schema_are_no_facts() {
    for (name, value, said) in [
        ("digest", "sha256:00", "leave it out or correct it"),
        ("schema", "cordon.facts/2", "only `cordon.facts/1` is understood"),
    ] {
        let mut facts = all_cases().remove(0).facts;
        facts[name] = value.into();
        let refused = runtime().block_on(replay::eval(&Settings::default(), facts));
        let refused = refused.expect_err("unusable").to_string();
        assert!(refused.contains(said), "{refused}");
    }
}

#[test]
fn a_bundle_tells_its_rules() {
    let contents = runtime().block_on(replay::rules(&Settings::default())).expect("a bundle");
    let rules = contents.json();
    let rules = rules["rules"].as_array().expect("rules");
    for rule in rules {
        for part in ["id", "title", "citation"] {
            assert!(!rule[part].as_str().unwrap_or_default().is_empty(), "{rule} lacks {part}");
        }
    }
    assert!(contents.text().lines().count() > rules.len());
}
