//! What headers may say, and that they only ever add.

use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;

use super::*;
use crate::{
    classify::{Classifier, Findings, LabelSource, Settings},
    identity::attributes::{DataAttributes, Known},
    wire::openai_chat,
};

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

fn label(norm: &str, dissemination: &[&str]) -> DeclaredLabel {
    let dissemination = dissemination.iter().map(|mark| (*mark).to_owned()).collect();
    DeclaredLabel::Label { norm: norm.to_owned(), dissemination }
}

#[test]
fn labels_are_read_with_their_marks() {
    for (text, wanted) in [
        ("cui:sp-cti;diss=noforn", vec![label("cui:sp-cti", &["noforn"])]),
        ("CUI:SP-CTI; diss=NOFORN", vec![label("cui:sp-cti", &["noforn"])]),
        ("cui;diss=\"noforn fed-only\"", vec![label("cui", &["noforn", "fed-only"])]),
        ("cui;diss=noforn;diss=rel-to", vec![label("cui", &["noforn", "rel-to"])]),
        (
            "public, internal ,secret",
            ["public", "internal", "secret"].map(|l| label(l, &[])).to_vec(),
        ),
        ("\"eu-restricted\"", vec![label("eu-restricted", &[])]),
        ("tlp:amber+strict", vec![DeclaredLabel::Light("AMBER+STRICT".to_owned())]),
        ("TLP:WHITE", vec![DeclaredLabel::Light("CLEAR".to_owned())]),
        ("tlp:pink", vec![label("unknown", &[])]),
        ("streng-geheim", vec![label("unknown", &[])]),
        ("cui:", vec![label("unknown", &[])]),
        ("CUI//SP-CTI//NOFORN", vec![label("unknown", &[])]),
        ("cui;diss=whatever", vec![label("unknown", &[])]),
    ] {
        let declared = Declared::read(&headers(&[(LABELS, text)])).unwrap();
        assert_eq!(declared.labels(), wanted, "{text}");
    }
}

#[test]
fn what_cannot_be_read_is_an_error_and_never_ignored() {
    for (name, value) in [
        (LABELS, ""),
        (LABELS, " "),
        (LABELS, "cui,"),
        (LABELS, ",cui"),
        (LABELS, "cui secret"),
        (LABELS, "cui;diss"),
        (LABELS, "cui;diss="),
        (LABELS, "cui;level=3"),
        (LABELS, "cui;diss=\"noforn"),
        (LABELS, "(cui secret)"),
        (LABELS, "42"),
        (LABELS, "tlp:red;diss=noforn"),
        (LABELS, "vs-nür"),
        (SUBJECT_REGIONS, ""),
        (SUBJECT_REGIONS, "EU"),
        (SUBJECT_REGIONS, "Germany"),
        (SUBJECT_REGIONS, "DE;FR"),
        (SUBJECT_REGIONS, "DE FR"),
        (PURPOSE, ""),
        (PURPOSE, "b\u{e9}b\u{e9}"),
        (CACHE, "no-cache"),
        (CACHE, ""),
    ] {
        let error = Declared::read(&headers(&[(name, value)])).expect_err(value).to_string();
        assert!(error.starts_with(&format!("header `{name}` ")), "{error}");
        assert!(value.trim().len() < 3 || !error.contains(value), "{error}");
    }
}

#[test]
fn several_headers_are_one_list() {
    let read = Declared::read(&headers(&[
        (SUBJECT_REGIONS, "de, FR"),
        (SUBJECT_REGIONS, "US"),
        (LABELS, "cui"),
        (LABELS, "internal"),
        (PURPOSE, "customer support"),
        (CACHE, "no-store"),
    ]))
    .unwrap();
    assert_eq!(read.subject_regions(), [*b"DE", *b"FR", *b"US"].map(Country));
    assert_eq!(read.labels().len(), 2);
    assert_eq!((read.purpose(), read.no_store()), (Some("customer support"), true));
    assert_eq!(Declared::read(&HeaderMap::new()).unwrap(), Declared::default());
}

#[test]
fn a_key_joins_its_own_and_what_it_cannot_say_is_unknown() {
    let key = DataAttributes {
        labels: vec!["cui:sp-expt;diss=noforn".to_owned(), "not a list".to_owned()],
        class: Some("RESTRICTED".to_owned()),
        subject_regions: vec![Country(*b"US")],
        children: Known::Yes,
    };
    let findings = inspect("hello", &[(LABELS, "confidential")], &key, &[Country(*b"DE")]);
    let norms: Vec<_> = findings.labels().iter().map(|label| label.norm.as_str()).collect();
    assert_eq!(norms, ["confidential", "cui:sp-expt", "unknown"]);
    assert!(findings.labels().iter().all(|label| label.source == LabelSource::Declared));
    assert_eq!((findings.class(), findings.children()), ("CUI", Known::Yes));
    assert_eq!(findings.subject_regions(), [Country(*b"US")]);
}

#[test]
fn declared_regions_add_to_the_default_and_never_replace_it() {
    let regions = |pairs: &[(&'static str, &str)]| {
        let findings = inspect("x", pairs, &DataAttributes::default(), &[Country(*b"DE")]);
        findings.subject_regions().to_vec()
    };
    assert_eq!(regions(&[]), [Country(*b"DE")]);
    assert_eq!(regions(&[(SUBJECT_REGIONS, "US")]), [*b"DE", *b"US"].map(Country));
}

#[test]
fn public_is_the_keys_to_say_and_not_the_headers() {
    let own = DataAttributes { class: Some("PUBLIC".to_owned()), ..DataAttributes::default() };
    let none = DataAttributes::default();
    assert_eq!(inspect("x", &[(LABELS, "public")], &none, &[]).class(), "INTERNAL");
    assert_eq!(inspect("x", &[], &own, &[]).class(), "PUBLIC");
    assert_eq!(inspect("TLP:RED\nCUI//SP-CTI", &[], &own, &[]).class(), "CUI");
}

fn inspect(
    text: &str,
    pairs: &[(&'static str, &str)],
    key: &DataAttributes,
    default_regions: &[Country],
) -> Findings {
    static CLASSIFIER: std::sync::OnceLock<Classifier> = std::sync::OnceLock::new();
    let classifier = CLASSIFIER.get_or_init(|| Classifier::new(&Settings::default()));
    let body = serde_json::json!({"model": "m", "messages": [{"role": "user", "content": text}]});
    let call = openai_chat::parse(body.to_string().into()).unwrap();
    let declared = Declared::read(&headers(pairs)).unwrap();
    classifier.inspect(&call, &declared, key, default_regions)
}

fn any_labels() -> impl Strategy<Value = String> {
    let label = prop_oneof![
        Just("public"),
        Just("internal"),
        Just("confidential"),
        Just("restricted"),
        Just("cui"),
        Just("cui:sp-cti;diss=noforn"),
        Just("itar"),
        Just("eu-restricted"),
        Just("secret"),
        Just("tlp:red"),
        Just("tlp:clear"),
        Just("nonsense"),
    ];
    prop::collection::vec(label, 1..4).prop_map(|labels| labels.join(", "))
}

fn strictness(findings: &Findings) -> (usize, usize) {
    const CLASSES: [&str; 8] = [
        "PUBLIC",
        "INTERNAL",
        "CONFIDENTIAL",
        "RESTRICTED",
        "CUI",
        "ITAR",
        "EU_RESTRICTED",
        "SECRET",
    ];
    const LIGHTS: [&str; 5] = ["CLEAR", "GREEN", "AMBER", "AMBER+STRICT", "RED"];
    let class = CLASSES.iter().position(|class| *class == findings.class()).unwrap();
    let light = findings.tlp().map(|tlp| LIGHTS.iter().position(|light| *light == tlp).unwrap());
    (class, light.map_or(0, |light| light + 1))
}

proptest! {
    #[test]
    fn declaring_more_never_takes_anything_away(
        text in prop_oneof![Just("x"), Just("TLP:GREEN"), Just("CUI//SP-CTI"), Just("a@b.org")],
        labels in any_labels(),
        regions in prop_oneof![Just("DE"), Just("US, CN"), Just("FR")],
        class in prop_oneof![Just(None), Just(Some("PUBLIC")), Just(Some("RESTRICTED"))],
    ) {
        let key = DataAttributes {
            class: class.map(str::to_owned),
            ..DataAttributes::default()
        };
        let default = [Country(*b"DE")];
        let without = inspect(text, &[], &key, &default);
        let with = inspect(text, &[(LABELS, &labels), (SUBJECT_REGIONS, regions)], &key, &default);
        let (before, after) = (strictness(&without), strictness(&with));
        prop_assert!(after.0 >= before.0 && after.1 >= before.1, "{before:?} {after:?}");
        prop_assert!(without.subject_regions().iter().all(|c| with.subject_regions().contains(c)));
        prop_assert!(without.labels().iter().all(|label| with.labels().contains(label)));
        prop_assert_eq!(without.categories(), with.categories());
    }

    #[test]
    fn no_header_makes_the_reader_panic(value in prop::collection::vec(32_u8..=255, 0..64)) {
        let mut headers = HeaderMap::new();
        let Ok(value) = HeaderValue::from_bytes(&value) else { return Ok(()) };
        for name in [LABELS, SUBJECT_REGIONS, PURPOSE, CACHE] {
            headers.insert(name, value.clone());
        }
        drop(Declared::read(&headers));
    }
}
