//! Facts, seen through what makes them equal.

use std::{collections::BTreeSet, sync::Arc};

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::{
    catalog::facts::{CandidateFacts, CandidateKind, Certification},
    classify::LabelSource,
    policy::{document::document, sample},
};

type Change = fn(&mut Facts);

/// A change of one fact of the only candidate.
fn candidate(facts: &mut Facts, change: fn(&mut CandidateFacts)) {
    let mut changed = facts.upstreams()[0].facts().clone();
    change(&mut changed);
    facts.candidates = sample::candidates(vec![sample::upstream("there", changed)]);
}

fn certificate(facts: &mut Facts, change: fn(&mut Certification)) {
    let mut changed = facts.upstreams()[0].facts().clone();
    change(&mut changed.certifications.as_mut().expect("certificates")[0]);
    facts.candidates = sample::candidates(vec![sample::upstream("there", changed)]);
}

macro_rules! changes {
    ($($part:ident { $($leaf:literal: $change:expr),* $(,)? })*) => {
        vec![$($(($leaf, changes!(@ $part $change)),)*)*]
    };
    (@ plain $change:expr) => { $change as Change };
    (@ caller $change:expr) => {
        (|facts: &mut Facts| ($change)(Arc::make_mut(&mut facts.caller))) as Change
    };
    (@ context $change:expr) => {
        (|facts: &mut Facts| ($change)(Arc::make_mut(&mut facts.context))) as Change
    };
    (@ candidate $change:expr) => { (|facts: &mut Facts| candidate(facts, $change)) as Change };
    (@ certificate $change:expr) => { (|facts: &mut Facts| certificate(facts, $change)) as Change };
}

/// One change for each leaf that typed facts decide.
fn changes() -> Vec<(&'static str, Change)> {
    let mut all = changes_of_the_call();
    all.extend(changes_of_the_caller());
    all.extend(changes_of_the_candidates());
    all
}

fn changes_of_the_call() -> Vec<(&'static str, Change)> {
    changes! {
        plain {
            "as_of": |f| f.as_of = f.as_of.before(),
            "request.model": |f| f.request.model = "other".into(),
            "request.stream": |f| f.request.stream = true,
            "request.tokens_est": |f| f.request.tokens_estimate = None,
            "request.purpose": |f| f.request.purpose = None,
            "request.ai_act": |f| f.request.ai_act = None,
            "request.end_use": |f| f.request.end_use = None,
            "request.tenant": |f| f.request.tenant = TenantId::new("other"),
            "request.app": |f| f.request.app = None,
            "request.critical_function": |f| f.request.critical_function = Known::Yes,
            "request.affects_person": |f| f.request.affects_person = Known::Yes,
            "caller.id": |f| f.caller_id = "key".to_owned(),
            "data.scan.status": |f| f.data.status = ScanStatus::Partial,
            "data.scan.unscannable": |f| f.data.unscannable = Some(1),
            "data.labels.norm": |f| f.data.labels[0].norm = "cui".to_owned(),
            "data.labels.diss": |f| f.data.labels[0].dissemination.clear(),
            "data.labels.src": |f| f.data.labels[0].source = LabelSource::Detected,
            "data.labels.conf": |f| f.data.labels[0].confidence = Confidence::Low,
            "data.class": |f| f.data.class = "CUI".to_owned(),
            "data.tlp": |f| f.data.tlp = None,
            "data.categories.id": |f| f.data.categories[0].id = "phi".to_owned(),
            "data.categories.n": |f| f.data.categories[0].count = Some(3),
            "data.categories.conf": |f| f.data.categories[0].confidence = Confidence::Low,
            "data.categories.redactable": |f| f.data.categories[0].redactable = false,
            "data.subjects.regions": |f| f.data.subject_regions.clear(),
            "data.subjects.count_est": |f| f.data.subjects_estimate = Some(3),
            "data.subjects.children": |f| f.data.children = Known::Yes,
            "candidates.id": |f| {
                let facts = f.upstreams()[0].facts().clone();
                f.candidates = sample::candidates(vec![sample::upstream("elsewhere", facts)]);
            },
        }
        context {
            "context.env": |c: &mut ContextFacts| c.environment.clear(),
            "context.profile": |c: &mut ContextFacts| c.profile.clear(),
            "context.packs": |c: &mut ContextFacts| c.packs.clear(),
            "context.gateway_region": |c: &mut ContextFacts| c.gateway_region = None,
        }
    }
}

fn changes_of_the_caller() -> Vec<(&'static str, Change)> {
    changes! {
        caller {
            "caller.type": |c: &mut CallerFacts| c.kind = None,
            "caller.authn.method": |c: &mut CallerFacts| c.authn_method = None,
            "caller.authn.bound": |c: &mut CallerFacts| c.authn_bound = Known::Yes,
            "caller.org.hq": |c: &mut CallerFacts| c.organisation.headquarters = None,
            "caller.org.ultimate_parent_hq":
                |c: &mut CallerFacts| c.organisation.ultimate_parent_headquarters = None,
            "caller.org.screening.status":
                |c: &mut CallerFacts| c.organisation.screening_status = None,
            "caller.org.screening.lists":
                |c: &mut CallerFacts| c.organisation.screening_lists.clear(),
            "caller.org.screening.owned50":
                |c: &mut CallerFacts| c.organisation.owned50 = Known::Yes,
            "caller.org.screening.age_d": |c: &mut CallerFacts| c.organisation.screened_on = None,
            "caller.person.nationalities": |c: &mut CallerFacts| c.person.nationalities.clear(),
            "caller.person.nationality_status":
                |c: &mut CallerFacts| c.person.nationality_status = None,
            "caller.person.us_person": |c: &mut CallerFacts| c.person.us_person = Known::Yes,
            "caller.person.clearance": |c: &mut CallerFacts| c.person.clearance.clear(),
            "caller.person.roles": |c: &mut CallerFacts| c.person.roles.clear(),
            "caller.person.groups": |c: &mut CallerFacts| c.person.groups.clear(),
            "caller.location.country": |c: &mut CallerFacts| c.location.country = None,
            "caller.location.source": |c: &mut CallerFacts| c.location.source = None,
            "caller.location.vpn": |c: &mut CallerFacts| c.location.vpn = Known::Yes,
        }
    }
}

fn changes_of_the_candidates() -> Vec<(&'static str, Change)> {
    changes! {
        candidate {
            "candidates.kind": |c| c.kind = CandidateKind::Private,
            "candidates.provider": |c| c.provider = "elsewhere".to_owned(),
            "candidates.provider_hq": |c| c.provider_headquarters = None,
            "candidates.ultimate_parent_hq": |c| c.ultimate_parent_headquarters = None,
            "candidates.operator.hq": |c| c.operator_headquarters = None,
            "candidates.operator.us_persons_only": |c| c.operator_us_persons_only = Known::Yes,
            "candidates.region": |c| c.region = None,
            "candidates.residency": |c| c.residency = None,
            "candidates.subprocessors": |c| c.subprocessors = None,
            "candidates.transfer.mech": |c| c.transfer_mechanisms = None,
            "candidates.transfer.dpf_listed": |c| c.dpf_listed = Known::Yes,
            "candidates.transfer.tia": |c| c.tia_until = Some("2026-11-21".to_owned()),
            "candidates.terms.zdr": |c| c.zdr = Known::No,
            "candidates.terms.train": |c| c.train = Known::Yes,
            "candidates.terms.retention_d": |c| c.retention_days = None,
            "candidates.terms.baa": |c| c.baa = Known::Yes,
            "candidates.terms.dpa": |c| c.dpa = Known::No,
            "candidates.terms.dora_register": |c| c.dora_register = Known::No,
            "candidates.model.id": |c| c.model_id = "other".to_owned(),
            "candidates.model.family": |c| c.model_family = None,
            "candidates.model.origin": |c| c.model_origin = None,
            "candidates.model.open_weights": |c| c.model_open_weights = Known::No,
            "candidates.model.eccn": |c| c.model_eccn = None,
            "candidates.model.signature": |c| c.model_signature = None,
            "candidates.model.aibom.status": |c| c.model_aibom = None,
            "candidates.model.advisories": |c| c.model_advisories.clear(),
            "candidates.hardware.eccn": |c| c.hardware_eccn = None,
            "candidates.hardware.country": |c| c.hardware_country = None,
            "candidates.facts_age_d": |c| c.as_of = None,
        }
        certificate {
            "candidates.certs.id": |c| c.id = "other".to_owned(),
            "candidates.certs.level": |c| c.level = None,
            "candidates.certs.exp_days": |c| c.until = None,
        }
    }
}

/// Leaves that say the same in every document of this gateway.
const FIXED: [&str; 18] = [
    "schema",
    "phase",
    "digest",
    "request.kind",
    "request.op",
    "caller.authn.age_s",
    "passport",
    "mcp",
    "data.bulk_us.health_12m",
    "candidates.tee.status",
    "candidates.tee.type",
    "candidates.tee.debug",
    "candidates.tee.tcb",
    "candidates.tee.bound",
    "candidates.model.aibom.age_d",
    "candidates.model.aibom.critical_vulns",
    "context.mode",
    "context.approvals",
];

/// Path and value of every leaf; a list of plain values is one leaf.
fn leaves(path: &str, value: &Value, into: &mut BTreeSet<(String, String)>) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, member) in members {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                leaves(&path, member, into);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            items.iter().for_each(|item| leaves(path, item, into));
        }
        leaf => {
            into.insert((path.to_owned(), leaf.to_string()));
        }
    }
}

fn leaves_of(facts: &Facts) -> BTreeSet<(String, String)> {
    let mut all = BTreeSet::new();
    leaves("", &document(facts, &sample::steps()).expect("a document"), &mut all);
    all
}

fn paths(leaves: &BTreeSet<(String, String)>) -> BTreeSet<&str> {
    leaves.iter().map(|(path, _)| path.as_str()).collect()
}

#[test]
fn every_leaf_of_a_document_is_part_of_equality() {
    let facts = sample::facts();
    let before = leaves_of(&facts);
    let mut reached: BTreeSet<&str> = FIXED.into();
    reached.extend(["context.lists", "context.break_glass"]);
    for (leaf, change) in changes() {
        let mut changed = facts.clone();
        change(&mut changed);
        assert_ne!(changed, facts, "{leaf} is no part of equality");
        let after = leaves_of(&changed);
        let differing: BTreeSet<_> = before.symmetric_difference(&after).cloned().collect();
        assert!(paths(&differing).contains(leaf), "{leaf} did not change: {differing:?}");
        assert!(paths(&differing).contains("digest"), "{leaf} is no part of the digest");
        reached.insert(leaf);
    }
    let all = paths(&before);
    let forgotten: Vec<_> = all.difference(&reached).collect();
    assert!(forgotten.is_empty(), "no change reaches {forgotten:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn facts_are_equal_exactly_where_their_documents_are(
        mine in proptest::collection::vec(0_usize..79, 0..3),
        theirs in proptest::collection::vec(0_usize..79, 0..3),
    ) {
        let changes = changes();
        let made = |picks: &[usize]| {
            let mut facts = sample::facts();
            picks.iter().for_each(|pick| (changes[pick % changes.len()].1)(&mut facts));
            facts
        };
        let (mine, theirs) = (made(&mine), made(&theirs));
        prop_assert_eq!(mine == theirs, leaves_of(&mine) == leaves_of(&theirs));
    }
}

#[test]
fn when_it_was_asked_is_no_fact() {
    let (mine, mut theirs) = (sample::facts(), sample::facts());
    theirs.asked_at += Duration::from_secs(60);
    assert_eq!(mine, theirs);
}

#[test]
fn ages_follow_the_day_and_a_day_ahead_has_none() {
    let mut facts = sample::facts();
    let document_of = |facts: &Facts| document(facts, &sample::steps()).expect("a document");
    let document = document_of(&facts);
    assert_eq!(document["candidates"][0]["facts_age_d"], 21);
    assert_eq!(document["candidates"][0]["certs"][0]["exp_days"], 99);
    assert_eq!(document["candidates"][0]["transfer"]["tia"], "valid");
    facts.as_of = Quarter::of(sample::now() + Duration::from_secs(100 * 86_400));
    let document = document_of(&facts);
    assert_eq!(document["candidates"][0]["certs"][0]["exp_days"], "unknown");
    assert_eq!(document["candidates"][0]["transfer"]["tia"], "expired");
    facts.as_of = Quarter::of(sample::now() - Duration::from_secs(30 * 86_400));
    assert_eq!(document_of(&facts)["candidates"][0]["facts_age_d"], "unknown");
}

#[test]
fn only_a_purpose_of_the_key_becomes_a_fact() {
    let own = ["support".to_owned(), "research".to_owned()];
    assert_eq!(purpose(&own, None).as_deref(), Some("support"));
    assert_eq!(purpose(&own, Some("research")).as_deref(), Some("research"));
    assert_eq!(purpose(&own, Some("anything a client writes")), None);
    assert_eq!(purpose(&[], None), None);
}
