//! The cases of `tests/cases/classify`, and what holds for all of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use bytes::Bytes;
use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::{
    classify::redact::Tokens,
    wire::openai_chat::{self, Outgoing},
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    text: String,
    #[serde(default)]
    finds: BTreeMap<String, u64>,
    #[serde(default)]
    kinds: Option<BTreeSet<String>>,
    #[serde(default)]
    confidence: Option<String>,
    #[serde(default)]
    subjects: Option<u64>,
    #[serde(default)]
    redacted: Option<String>,
    #[serde(default)]
    labels: Option<BTreeSet<String>>,
    #[serde(default)]
    class: Option<String>,
    #[serde(default)]
    tlp: Option<String>,
}

const FILES: [&str; 6] =
    ["emails.yaml", "phones.yaml", "ibans.yaml", "cards.yaml", "secrets.yaml", "markings.yaml"];

fn cases() -> Vec<Case> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/cases/classify");
    let mut cases = Vec::new();
    for file in FILES {
        let text = std::fs::read_to_string(folder.join(file)).unwrap().replace("~~", "");
        let read: Vec<Case> =
            serde_yaml_ng::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
        cases.extend(read);
    }
    cases
}

fn call(text: &str) -> Call {
    call_of(&serde_json::json!({"model": "m", "messages": [{"role": "user", "content": text}]}))
}

fn call_of(body: &serde_json::Value) -> Call {
    openai_chat::parse(Bytes::from(body.to_string())).unwrap()
}

fn classifier() -> &'static Classifier {
    static CLASSIFIER: std::sync::OnceLock<Classifier> = std::sync::OnceLock::new();
    CLASSIFIER.get_or_init(|| Classifier::new(&Settings::default()))
}

fn inspect(call: &Call) -> Findings {
    classifier().inspect(call, &Declared::default(), &DataAttributes::default(), &[])
}

fn everything(how: Redaction) -> Vec<(String, Redaction)> {
    ["pii.*", "pci.*", "secret.*"].map(|pattern| (pattern.to_owned(), how)).to_vec()
}

/// The call after redaction.
fn outbound(call: &Call, findings: &Findings, redactions: &[(String, Redaction)]) -> Call {
    let edits = redact::edits(call, &findings.places, redactions, &mut Tokens::default());
    openai_chat::parse(openai_chat::outbound(call, &edits, Outgoing::default())).unwrap()
}

fn content(call: &Call) -> String {
    let body: serde_json::Value = serde_json::from_slice(call.body()).unwrap();
    body["messages"][0]["content"].as_str().unwrap().to_owned()
}

fn written(label: &Label) -> String {
    let marks = match label.dissemination.as_slice() {
        [] => String::new(),
        marks => format!(";diss={}", marks.join(",")),
    };
    format!("{}{marks} {:?}", label.norm, label.confidence).to_lowercase()
}

fn counts(findings: &Findings) -> BTreeMap<String, u64> {
    findings.categories().iter().map(|(name, found)| (name.clone(), found.count)).collect()
}

#[test]
fn every_case_finds_what_it_says_and_nothing_else() {
    let mut faults = Vec::new();
    for case in cases() {
        let findings = inspect(&call(&case.text));
        let mut check = |what: &str, got: String, wanted: String| {
            if got != wanted {
                faults.push(format!("{}: {what}: got {got}, wanted {wanted}", case.name));
            }
        };
        check("finds", format!("{:?}", counts(&findings)), format!("{:?}", case.finds));
        if let Some(kinds) = &case.kinds {
            let got: BTreeSet<String> = findings.kinds().iter().cloned().collect();
            check("kinds", format!("{got:?}"), format!("{kinds:?}"));
        }
        if let Some(confidence) = &case.confidence {
            let got = findings.categories().values().next().map(|found| found.confidence);
            check("confidence", format!("{got:?}").to_lowercase(), format!("some({confidence})"));
        }
        if let Some(subjects) = case.subjects {
            check(
                "subjects",
                format!("{:?}", findings.subjects_estimate()),
                format!("Some({subjects})"),
            );
        }
        let labels: BTreeSet<String> = findings.labels().iter().map(written).collect();
        let wanted = case.labels.clone().unwrap_or_default();
        check("labels", format!("{labels:?}"), format!("{wanted:?}"));
        if let Some(class) = &case.class {
            check("class", findings.class().to_owned(), class.clone());
        }
        check("tlp", format!("{:?}", findings.tlp()), format!("{:?}", case.tlp.as_deref()));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_redaction_of_every_case_leaves_nothing_to_find() {
    let mut faults = Vec::new();
    for case in cases() {
        let call = call(&case.text);
        let findings = inspect(&call);
        for how in [Redaction::Tokenize, Redaction::Mask, Redaction::Drop] {
            let redactions = everything(how);
            let outbound = outbound(&call, &findings, &redactions);
            if let Err(leftover) = classifier().rescan(&findings, &outbound, &redactions) {
                faults.push(format!("{} {how:?}: {leftover}: {}", case.name, content(&outbound)));
            }
            let wanted = case.redacted.as_ref().filter(|_| how == Redaction::Tokenize);
            if wanted.is_some_and(|wanted| *wanted != content(&outbound)) {
                faults.push(format!("{}: {}", case.name, content(&outbound)));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn findings_never_show_a_value() {
    let text = "ana.keller@example.org +49 30 1234567 DE89 3704 0044 0532 0130 00 \
                4111 1111 1111 1111 password: Tr0ub4dor&3";
    let call = call(text);
    let findings = inspect(&call);
    let redactions = everything(Redaction::Mask);
    let edits = redact::edits(&call, &findings.places, &redactions, &mut Tokens::default());
    assert_eq!(findings.count(), 5);
    let shown = format!("{call:?} {findings:?} {edits:?} {:?}", call.texts().collect::<Vec<_>>());
    for value in ["keller", "1234567", "3704", "4111", "Tr0ub"] {
        assert!(!shown.contains(value), "{value}");
    }
}

#[test]
fn what_is_no_text_of_the_client_cannot_be_redacted() {
    let call = call_of(&serde_json::json!({"model": "m", "user": "ana@example.org",
        "messages": [{"role": "user", "content": "x", "name": "bob@example.org"}]}));
    let findings = inspect(&call);
    let category = &findings.categories()["pii.direct"];
    assert_eq!((category.count, category.redactable), (2, false));
    let redactions = everything(Redaction::Tokenize);
    let outbound = outbound(&call, &findings, &redactions);
    let left = classifier().rescan(&findings, &outbound, &redactions).unwrap_err();
    assert_eq!(left, Leftover { what: "pii.direct".to_owned() });
}

#[test]
fn a_marking_that_only_redaction_brings_about_refuses_the_call() {
    let before = inspect(&call("TLP:GREEN CUI//SP-CTI"));
    for (after, left) in [
        ("TLP:GREEN CUI//SP-CTI", None),
        ("TLP:CLEAR", None),
        ("TLP:AMBER", Some("AMBER")),
        ("CUI//SP-CTI//NOFORN", Some("cui:sp-cti")),
        ("CUI//SP-EXPT", Some("cui:sp-expt")),
    ] {
        let found = classifier().rescan(&before, &call(after), &[]).err();
        assert_eq!(found.map(|left| left.what).as_deref(), left, "{after}");
    }
}

#[test]
fn keys_and_unknown_fields_are_inspected_too() {
    let call =
        call_of(&serde_json::json!({"model": "m", "x": {"ana@example.org": [["bob@example.org"]]},
        "messages": [{"role": "user", "content": "x"}]}));
    assert_eq!(counts(&inspect(&call)), BTreeMap::from([("pii.direct".to_owned(), 2)]));
}

#[test]
fn what_cannot_be_read_makes_the_scan_partial() {
    for content in [
        serde_json::json!([{"type": "image_url", "image_url": {"url": "https://example.org/x"}}]),
        serde_json::json!([{"type": "input_audio", "input_audio": {"data": "AAAA"}}]),
        serde_json::json!([{"type": "file", "file": {"file_id": "f-1"}}]),
        serde_json::json!([{"type": "text", "text": "x", "image_url": {"url": "x"}}]),
        serde_json::json!("see ![x](data:image/png;base64,iVBORw0KGgo=)"),
    ] {
        let call = call_of(&serde_json::json!(
            {"model": "m", "messages": [{"role": "user", "content": content}]}));
        let findings = inspect(&call);
        assert_eq!(findings.status(), ScanStatus::Partial, "{content}");
        assert!(findings.unscannable() >= 1);
    }
}

#[test]
fn a_pasted_file_makes_the_scan_partial_and_a_long_word_does_not() {
    use base64::Engine;
    let bytes: Vec<u8> = (0..2000_u32).map(|n| (n * n * 31 + n / 3).to_le_bytes()[1]).collect();
    let file = base64::prelude::BASE64_STANDARD.encode(bytes);
    for (text, status) in [
        (format!("here: {file}"), ScanStatus::Partial),
        ("x".repeat(100_000), ScanStatus::Complete),
        ("0123456789".repeat(1000), ScanStatus::Complete),
        ("deadbeef".repeat(1000), ScanStatus::Complete),
    ] {
        assert_eq!(inspect(&call(&text)).status(), status, "{}", &text[..20]);
    }
}

#[test]
fn names_in_a_schema_are_no_banners() {
    let call = call_of(&serde_json::json!({"model": "m",
        "messages": [{"role": "user", "content": "x"}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"enum":
            ["PUBLIC", "INTERNAL", "CONFIDENTIAL", "SECRET", "CUI"]}}}]}));
    assert!(inspect(&call).labels().is_empty());
}

#[test]
fn loose_mentions_can_be_switched_off_and_banners_not() {
    let classifier = Classifier::new(&Settings { loose_markings: false });
    let inspect = |text: &str| {
        let (declared, key) = (Declared::default(), DataAttributes::default());
        classifier.inspect(&call(text), &declared, &key, &[]).labels().len()
    };
    assert_eq!((inspect("our CUI is RO123"), inspect("CUI//SP-CTI")), (0, 1));
}

#[test]
fn too_many_findings_fail_the_scan_and_are_not_kept() {
    let text = "a@b.cd ".repeat(PLACES_MAX + 1000);
    let (mut hits, mut labels) = (Vec::new(), Labels::default());
    let mut found = patterns::Found::new(&mut hits, &mut labels);
    let classifier = classifier();
    classifier.patterns.scan(&Plain::of(&text), true, &classifier.settings, &mut found);
    assert!(found.overflowed);
    assert_eq!(found.hits.len(), PLACES_MAX);
    assert_eq!(inspect(&call(&text)).status(), ScanStatus::Failed);
}

#[test]
fn texts_made_to_be_slow_are_read_once() {
    const BYTES: usize = 1 << 20;
    for piece in [
        "DE89 3704 0044 0532 0130 00, ",
        "auth",
        "token_",
        "eyJ-",
        "-eyJa.",
        "\\",
        r"\ud83d\\",
        "4111 ",
        "a@",
        "://a:",
        "-----BEGIN PRIVATE KEY-----",
        "CUI//",
    ] {
        let text = piece.repeat(BYTES / piece.len());
        let began = std::time::Instant::now();
        inspect(&call(&text));
        // Linear ways take a second or two here without optimisation, others minutes.
        assert!(began.elapsed().as_secs() < 30, "{piece}: {:?}", began.elapsed());
    }
}

/// Pieces that make patterns begin, and letters that stand at the edges of their windows.
fn any_pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        3 => prop::sample::select(vec![
            "CUI", "//", "SP-CTI", "NOFORN", "(S//NF)", "SECRET", "TOP ", "TLP:", "RED", "ITAR",
            "AKIA", "IOSFODNN7EXAMPLE", "password", "=", ": ", "is ", "://", "@", "%40", " at ",
            " dot ", "(at)", ".org", "-----BEGIN ", "PRIVATE KEY-----", "-----END", "eyJ", "DE89",
            "3704", "4111", "1111", "+49", "00", "tel", "bearer ", "aws", ";base64,", "data:", "\n",
            " ", "Classification:", "\u{200b}", "４", "é", "😀", "Ж", "ſ", "YW5h", "QGV4", "{", "\"",
        ]).prop_map(str::to_owned),
        1 => ".{0,8}",
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_text_is_inspected_and_its_places_are_whole_characters(text in any_pieces()) {
        let call = call(&text);
        let findings = inspect(&call);
        for place in &findings.places {
            prop_assert!(call.text(place.text).get(place.range.clone()).is_some());
            prop_assert!(!place.range.is_empty());
        }
    }
}
