//! Calls of a few callers with any headers, through reading, inspection and facts to the policy.

use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use cordon_gateway::{
    catalog::Catalog,
    classify::{Classifier, declared::Declared},
    config::{Source, Written},
    identity::{
        Caller, Role, TenantId,
        attributes::{Country, OrganisationFacts},
        keys::{self, NewKey, Pepper},
        ring::KeyRing,
    },
    policy::{
        Decided, DecisionSink, Policy, Settings, SinkError, bundle::Bundle, document, facts::Asked,
        memo::Unobserved, replay::Evaluator,
    },
    quantity::Span,
    store::Store,
    wire::openai_chat,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::policy::{PATIENCE, evaluator, runtime};

/// Upstreams that differ in what keeps data from them.
const CONFIGURATION: &str = r#"
[organisation]
name = "Test"
headquarters = "DE"
region = "DE"

[upstreams.eu]
format = "openai"
url = "https://eu.example/v1"
provider_headquarters = "DE"
ultimate_parent_headquarters = "DE"
operator_headquarters = "DE"
region = "DE"
residency = "guaranteed"
dpa = true
train = false
zdr = true
as_of = "2026-11-01"

[upstreams.eu.models.m]
origin = "FR"
open_weights = true

[upstreams.us]
format = "openai"
url = "https://us.example/v1"
provider_headquarters = "US"
ultimate_parent_headquarters = "US"
operator_headquarters = "US"
region = "US"
transfer_mechanisms = ["dpf"]
dpf_listed = true
dpa = true
train = false
zdr = true
as_of = "2026-11-01"

[upstreams.us.models.m]
origin = "US"

[upstreams.unknown]
format = "openai"
url = "https://unknown.example/v1"

[upstreams.unknown.models.m]

[routes.assistant]
targets = ["us/m", "unknown/m", "eu/m", "local/smollm2-135m"]
"#;

/// Keys, by what they say of their callers and data.
const KEYS: [&[(&str, &str)]; 4] = [
    &[],
    &[("caller.person.us_person", "yes"), ("caller.location.country", "US")],
    &[("data.subjects.regions", "US"), ("request.purpose", "care")],
    &[("data.class", "CONFIDENTIAL"), ("data.labels", "confidential")],
];

const TEXTS: [&str; 6] = [
    "What is a cordon?",
    "Write to ana.keller@example.org about her file",
    "Pay to DE89 3704 0044 0532 0130 00",
    "TLP:AMBER the report of last night",
    "TLP:CLEAR the press release",
    "log in with AKIAIOSFODNN7EXAMPLQ",
];

const LABELS: [&str; 16] = [
    "public",
    "internal",
    "confidential",
    "restricted",
    "cui",
    "cui:sp-cti",
    "cui:sp-cti;diss=noforn",
    "cui;diss=\"fed-only nocon\"",
    "itar",
    "eu-restricted",
    "secret",
    "made-up",
    "tlp:clear",
    "tlp:green",
    "tlp:amber+strict",
    "tlp:red",
];

const REGIONS: [&str; 8] = ["DE", "FR", "US", "CN", "GB", "IN", "BR", "CU"];

/// A call without any declaration that may go somewhere.
#[derive(Debug)]
struct Base {
    caller: Arc<Caller>,
    text: &'static str,
    allowed: BTreeSet<String>,
}

/// The stages from a head to a decision.
struct House {
    runtime: Runtime,
    engine: Evaluator,
    policy: Policy,
    classifier: Classifier,
    catalog: Arc<Catalog>,
}

static WORLD: LazyLock<(House, Vec<Base>)> = LazyLock::new(|| {
    let house = House::open();
    let callers = house.runtime.block_on(callers());
    let mut bases = Vec::new();
    for (caller, text) in callers.iter().flat_map(|caller| TEXTS.map(|text| (caller, text))) {
        let allowed = house.allowed(caller, text, &HeaderMap::new());
        bases.push(Base { caller: Arc::clone(caller), text, allowed });
    }
    // Where nothing is allowed nothing can be widened, and nothing shown.
    bases.retain(|base| !base.allowed.is_empty());
    assert!(bases.len() >= TEXTS.len(), "only {} calls may go anywhere", bases.len());
    (house, bases)
});

/// Nothing is decided but through the evaluator, so there is nothing to keep.
struct Nowhere;

#[async_trait]
impl DecisionSink for Nowhere {
    async fn record(&self, _tenant: &TenantId, _decided: &Decided) -> Result<(), SinkError> {
        Ok(())
    }
}

fn region() -> Country {
    Country::parse("DE").unwrap()
}

impl House {
    fn open() -> Self {
        let runtime = runtime();
        let settings = Settings { deadline: Span(PATIENCE), ..Settings::default() };
        let (sink, observer) = (Arc::new(Nowhere), Arc::new(Unobserved));
        let policy = runtime.block_on(Policy::start(&settings, Some(region()), sink, observer));
        let written = Written::parse(Source::Demonstration, CONFIGURATION).unwrap();
        let config = written.check(None, &|_| None).unwrap();
        Self {
            engine: runtime.block_on(evaluator(Bundle::built_in().unwrap())),
            policy: policy.unwrap(),
            classifier: Classifier::new(&config.classify),
            catalog: config.catalog,
            runtime,
        }
    }

    /// The upstreams that a call may go to.
    fn allowed(&self, caller: &Caller, text: &str, headers: &HeaderMap) -> BTreeSet<String> {
        // What cannot be read is answered 400: nobody is asked.
        let Ok(declared) = Declared::read(headers) else { return BTreeSet::new() };
        let messages = json!([{"role": "user", "content": text}]);
        let body = json!({"model": "assistant", "messages": messages}).to_string();
        let call = openai_chat::parse(body.into()).unwrap();
        let findings = self.classifier.inspect(&call, &declared, caller.data(), &[region()]);
        let asked = Asked {
            caller,
            findings: &findings,
            model: "assistant",
            stream: false,
            tokens_estimate: call.tokens_estimate(),
            purpose: declared.purpose(),
            upstreams: self.catalog.route("assistant").unwrap().upstreams(),
        };
        let facts = self.policy.facts(&asked, now());
        let facts = document::document(&facts, &self.policy.about().steps).unwrap();
        let decision = self.runtime.block_on(self.engine.ask(&facts)).unwrap();
        if !matches!(decision["effect"].as_str(), Some("allow" | "local_only")) {
            return BTreeSet::new();
        }
        let candidates = decision["candidates"].as_array().unwrap();
        candidates.iter().map(|candidate| candidate["id"].as_str().unwrap().to_owned()).collect()
    }
}

/// 2026-11-22T19:50:00Z: the facts above are young then.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_377_000)
}

/// One caller for each of the keys, proven as any other.
async fn callers() -> Vec<Arc<Caller>> {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("cordon.db")).await.unwrap();
    let pepper = Pepper::open(&folder.path().join("cordon.pepper"), &store).await.unwrap();
    let mut made = Vec::new();
    for attributes in KEYS {
        let owned = |(path, value): &(&str, &str)| ((*path).to_owned(), (*value).to_owned());
        let new = NewKey {
            tenant: "demo".to_owned(),
            name: "test".to_owned(),
            roles: vec![Role::Caller],
            attributes: attributes.iter().map(owned).collect(),
            calls_at_once_max: 1,
            refused_per_second_max: 1,
        };
        made.push(keys::create(&store, &pepper, &new, "test").await.unwrap().1);
    }
    let ours = OrganisationFacts { headquarters: Some(region()), ..OrganisationFacts::default() };
    let ring = KeyRing::load(&store, pepper, ours).await.unwrap();
    let proven = made.iter().map(|key| ring.identify(Some(&format!("Bearer {}", key.expose()))));
    let callers = proven.map(Result::unwrap).collect();
    store.close().await;
    callers
}

/// The four headers of a client; one that declares nothing is not sent.
fn declarations() -> impl Strategy<Value = HeaderMap> {
    let labels = vec(select(&LABELS[..]), 0..3).prop_map(|labels| labels.join(", "));
    let regions = vec(select(&REGIONS[..]), 0..3).prop_map(|regions| regions.join(", "));
    let purpose = option::of(select(&["care", "anything else"][..]));
    let cache = option::of(Just("no-store"));
    (labels, regions, purpose, cache).prop_map(|(labels, regions, purpose, cache)| {
        let values = [
            ("x-cordon-labels", labels.as_str()),
            ("x-cordon-subject-regions", &regions),
            ("x-cordon-purpose", purpose.unwrap_or_default()),
            ("x-cordon-cache", cache.unwrap_or_default()),
        ];
        let said = values.into_iter().filter(|(_, value)| !value.is_empty());
        said.map(|(name, value)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        })
        .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_header_widens_what_is_allowed(
        base in (0..WORLD.1.len()), headers in declarations(),
    ) {
        let (house, bases) = &*WORLD;
        let Base { caller, text, allowed: before } = &bases[base];
        let after = house.allowed(caller, text, &headers);
        prop_assert!(after.is_subset(before), "{before:?} became {after:?}");
    }
}

#[test]
fn headers_narrow_what_is_allowed() {
    let (house, bases) = &*WORLD;
    let base = bases.iter().find(|base| base.text == TEXTS[0]).unwrap();
    let ask = |name: &'static str, value: &'static str| {
        let headers = [(HeaderName::from_static(name), HeaderValue::from_static(value))];
        house.allowed(&base.caller, base.text, &HeaderMap::from_iter(headers))
    };
    assert!(ask("x-cordon-labels", "cui:sp-cti;diss=noforn").is_empty());
    assert!(ask("x-cordon-labels", "tlp:red").len() < base.allowed.len());
    assert!(ask("x-cordon-labels", "no list;;").is_empty());
}
