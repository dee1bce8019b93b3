//! What leaves, after redaction and rescan.

use std::{collections::HashMap, sync::OnceLock};

use proptest::prelude::*;

use super::*;
use crate::{
    classify::{Redaction, Settings, declared::Declared},
    identity::attributes::DataAttributes,
    policy::sample::permit_one,
};

const CARD: &str = "4111 1111 1111 1111";

struct Asked {
    call: Call,
    findings: Findings,
    classifier: &'static Classifier,
}

fn classifier() -> &'static Classifier {
    static CLASSIFIER: OnceLock<Classifier> = OnceLock::new();
    CLASSIFIER.get_or_init(|| Classifier::new(&Settings::default()))
}

fn asked(body: &str) -> Asked {
    let call = openai_chat::parse(Bytes::copy_from_slice(body.as_bytes())).expect("a call");
    let classifier = classifier();
    let declared = Declared::read(&http::HeaderMap::new()).expect("nothing declared");
    let findings = classifier.inspect(&call, &declared, &DataAttributes::default(), &[]);
    Asked { call, findings, classifier }
}

fn redacting(category: &str, how: Redaction) -> Duties {
    Duties { redact: vec![(category.to_owned(), how)], rescan: true, ..Duties::none() }
}

fn made(asked: &Asked, duties: Duties) -> Result<Outbound, Denial> {
    let permit = permit_one(duties);
    let content = Content { call: &asked.call, findings: &asked.findings };
    outbound(&permit, &permit.targets()[0], &content, asked.classifier)
}

fn text(outbound: &Outbound) -> &str {
    std::str::from_utf8(&outbound.bytes).expect("UTF-8")
}

#[test]
fn only_the_model_is_replaced_where_nothing_else_is_asked() {
    let body = r#"{"model":"assistant", "odd" : 1.0,"messages":[{"role":"user","content":"hi"}]}"#;
    let outbound = made(&asked(body), Duties::none()).expect("bytes");
    assert_eq!(text(&outbound), body.replace("assistant", "model"));
    assert_eq!(outbound.digest[..], Sha256::digest(&outbound.bytes)[..]);
    assert_eq!(outbound.redacted, 0);
}

#[test]
fn usage_is_asked_for_and_tokens_are_limited() {
    let body = r#"{"model":"a","stream":true,"max_tokens":9000,"messages":[{"role":"user","content":"hi"}]}"#;
    let duties = Duties { max_tokens: Some(100), ..Duties::none() };
    let sent: serde_json::Value =
        serde_json::from_str(text(&made(&asked(body), duties).expect("bytes"))).expect("JSON");
    assert_eq!(sent["stream_options"]["include_usage"], true);
    assert_eq!(sent["max_tokens"], 100);
}

#[test]
fn what_must_go_is_gone_and_counted() {
    let body = format!(
        r#"{{"model":"a","messages":[{{"role":"user","content":"pay with {CARD} or {CARD}"}}]}}"#
    );
    let asked = asked(&body);
    for (how, left) in [(Redaction::Tokenize, "[CARD_1]"), (Redaction::Drop, "pay with  or ")] {
        let outbound = made(&asked, redacting("pci.pan", how)).expect("bytes");
        assert!(!text(&outbound).contains(CARD));
        assert!(text(&outbound).contains(left), "{}", text(&outbound));
        assert_eq!(outbound.redacted, 2);
        assert!(!format!("{outbound:?}").contains("pay"), "{outbound:?}");
    }
}

#[test]
fn what_cannot_be_taken_out_refuses_the_call() {
    // In a place that selects behaviour nothing may be replaced.
    let body = format!(
        r#"{{"model":"a","user":"{CARD}","{CARD}":1,"messages":[{{"role":"user","content":"hi"}}]}}"#
    );
    let refused = made(&asked(&body), redacting("pci.pan", Redaction::Mask)).expect_err("refused");
    assert_eq!(refused.host, Some(HostCode::RedactionIncomplete));
    assert!(refused.decided.is_some());
    assert!(!format!("{refused:?}{}", refused.message()).contains(CARD));
}

#[test]
fn what_a_redaction_makes_appear_goes_too() {
    // `phone` stands too far from the number to speak of it, until the address is gone.
    let body = r#"{"model":"a","messages":[{"role":"user","content":"phone for ana.keller@subsidiary.example.org 5550143, and 5550199"}]}"#;
    let asked = asked(body);
    assert_eq!(asked.findings.count(), 1);
    let outbound = made(&asked, redacting("pii.direct", Redaction::Tokenize)).expect("bytes");
    assert!(text(&outbound).contains("phone for [EMAIL_1] [PHONE_1], and"), "{outbound:?}");
    assert_eq!(outbound.redacted, 2);
}

/// The texts of the cases of `classify`.
fn texts() -> Vec<String> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/classify");
    let mut texts = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let text = std::fs::read_to_string(entry.expect("an entry").path()).expect("a file");
        let cases: Vec<HashMap<String, serde_yaml_ng::Value>> =
            serde_yaml_ng::from_str(&text.replace("~~", "")).expect("cases");
        texts.extend(cases.iter().filter_map(|case| case["text"].as_str().map(str::to_owned)));
    }
    texts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_mixture_of_cases_is_redacted_clean(
        picks in prop::collection::vec((any::<prop::sample::Index>(), 0..4_usize), 1..5),
        how in prop_oneof![Just(Redaction::Tokenize), Just(Redaction::Mask)],
    ) {
        static TEXTS: OnceLock<Vec<String>> = OnceLock::new();
        let texts = TEXTS.get_or_init(texts);
        let mut content = String::new();
        for (pick, separator) in picks {
            content.push_str(pick.get::<String>(texts));
            content.push_str(["\n", ", ", "; ", " and "][separator]);
        }
        let body = serde_json::json!(
            {"model": "m", "messages": [{"role": "user", "content": content}]});
        let redact = ["pci.*", "pii.*", "secret.*"].map(|pattern| (pattern.to_owned(), how));
        let duties = Duties { redact: redact.to_vec(), rescan: true, ..Duties::none() };
        let made = made(&asked(&body.to_string()), duties);
        prop_assert!(made.is_ok(), "{made:?} in {content}");
    }
}
