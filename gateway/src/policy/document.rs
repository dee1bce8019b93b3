//! The contract's JSON of facts (`cordon.facts/1`), canonical (RFC 8785) and with its digest.
//!
//! Made only when the engine must run. Ages and days left are computed here, from `as_of`, so
//! that equal facts give equal bytes on any day they are replayed.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    catalog::{
        Upstream,
        facts::{CandidateFacts, CandidateKind, Certification},
    },
    classify::{Confidence, Label, LabelSource, ScanStatus},
    identity::attributes::{CallerFacts, Country, Known},
    policy::{
        facts::{CategoryFacts, ContextFacts, DataFacts, Facts, RequestFacts},
        steps::{StepError, Steps},
    },
    quantity::Day,
};

/// The schema these documents name.
pub const SCHEMA: &str = "cordon.facts/1";
/// What stands for every leaf that is not known.
const UNKNOWN: &str = "unknown";
/// Every place where these documents hold numbers: a bundle that declares no steps for one of
/// them is refused at activation.
pub const NUMBERS: [&str; 8] = [
    "request.tokens_est",
    "caller.org.screening.age_d",
    "data.scan.unscannable",
    "data.categories.n",
    "data.subjects.count_est",
    "candidates.terms.retention_d",
    "candidates.certs.exp_days",
    "candidates.facts_age_d",
];

/// Why a document has no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    #[error("the facts are no JSON object")]
    NotAnObject,
    #[error("the facts name schema `{found}`: only `cordon.facts/1` is understood")]
    Schema { found: String },
    #[error("`digest` is `{found}`, but the facts have `{computed}`: leave it out or correct it")]
    WrongDigest { found: String, computed: String },
    #[error(transparent)]
    Steps(#[from] StepError),
    #[error("the facts cannot be written canonically: {0}")]
    Canonical(String),
}

/// The document of `facts`, stepped, with its digest.
pub fn document(facts: &Facts, steps: &Steps) -> Result<Value, DocumentError> {
    let day = facts.as_of.day();
    let candidates: Vec<Value> =
        facts.upstreams().iter().map(|upstream| candidate(upstream, day)).collect();
    let mut document = json!({
        "schema": SCHEMA,
        "as_of": facts.as_of.to_string(),
        "phase": "route",
        "request": request(&facts.request),
        "caller": caller(&facts.caller, &facts.caller_id, day),
        "passport": null,
        "data": data(&facts.data),
        "candidates": candidates,
        "mcp": null,
        "context": context(&facts.context),
    });
    steps.apply(&mut document)?;
    seal(&mut document)?;
    Ok(document)
}

/// Makes a document that somebody wrote ready for the engine: its digest checked where it has
/// one, numbers stepped, digest computed.
pub fn adopt(mut document: Value, steps: &Steps) -> Result<Value, DocumentError> {
    let members = document.as_object().ok_or(DocumentError::NotAnObject)?;
    match members.get("schema").and_then(Value::as_str) {
        Some(SCHEMA) => {}
        found => {
            return Err(DocumentError::Schema { found: found.unwrap_or_default().to_owned() });
        }
    }
    if let Some(found) = members.get("digest") {
        let computed = digest(&document)?;
        if found.as_str() != Some(&computed) {
            let found = found.as_str().unwrap_or("no text").to_owned();
            return Err(DocumentError::WrongDigest { found, computed });
        }
    }
    steps.apply(&mut document)?;
    seal(&mut document)?;
    Ok(document)
}

/// Writes the digest into the document.
pub fn seal(document: &mut Value) -> Result<(), DocumentError> {
    let digest = digest(document)?;
    let members = document.as_object_mut().ok_or(DocumentError::NotAnObject)?;
    members.insert("digest".to_owned(), digest.into());
    Ok(())
}

/// `sha256:…` of the canonical document without its `digest`.
pub fn digest(document: &Value) -> Result<String, DocumentError> {
    let members = document.as_object().ok_or(DocumentError::NotAnObject)?;
    let bytes = if members.contains_key("digest") {
        let bare = members.iter().filter(|(name, _)| *name != "digest");
        let bare = bare.map(|(name, member)| (name.clone(), member.clone()));
        canonical(&Value::Object(bare.collect()))?
    } else {
        canonical(document)?
    };
    Ok(format!("sha256:{}", hex::encode(Sha256::digest(bytes))))
}

/// Canonical bytes (RFC 8785).
pub fn canonical(value: &Value) -> Result<Vec<u8>, DocumentError> {
    cordon_ledger::canon::canonical(value)
        .map_err(|fault| DocumentError::Canonical(fault.to_string()))
}

fn request(request: &RequestFacts) -> Value {
    json!({
        "kind": "chat",
        "op": "inference",
        "model": &*request.model,
        "stream": if request.stream { "yes" } else { "no" },
        "tokens_est": number(request.tokens_estimate),
        "purpose": text(&request.purpose),
        "ai_act": text(&request.ai_act),
        "end_use": text(&request.end_use),
        "tenant": request.tenant.as_str(),
        "app": text(&request.app),
        "critical_function": known(request.critical_function),
        "affects_person": known(request.affects_person),
    })
}

fn caller(caller: &CallerFacts, id: &str, day: Day) -> Value {
    let (organisation, person) = (&caller.organisation, &caller.person);
    json!({
        "type": text(&caller.kind),
        "id": id,
        "authn": {
            "method": text(&caller.authn_method),
            "bound": known(caller.authn_bound),
            "age_s": UNKNOWN,
        },
        "org": {
            "hq": country(&organisation.headquarters),
            "ultimate_parent_hq": country(&organisation.ultimate_parent_headquarters),
            "screening": {
                "status": text(&organisation.screening_status),
                "lists": set(&organisation.screening_lists),
                "owned50": known(organisation.owned50),
                "age_d": age(organisation.screened_on.as_deref(), day),
            },
        },
        "person": {
            "nationalities": countries(&person.nationalities),
            "nationality_status": text(&person.nationality_status),
            "us_person": known(person.us_person),
            "clearance": set(&person.clearance),
            "roles": set(&person.roles),
            "groups": set(&person.groups),
        },
        "location": {
            "country": country(&caller.location.country),
            "source": text(&caller.location.source),
            "vpn": known(caller.location.vpn),
        },
    })
}

fn data(data: &DataFacts) -> Value {
    json!({
        "scan": { "status": scan(data.status), "unscannable": number(data.unscannable) },
        "labels": data.labels.iter().map(label).collect::<Vec<_>>(),
        "class": data.class,
        "tlp": data.tlp,
        "categories": data.categories.iter().map(category).collect::<Vec<_>>(),
        "subjects": {
            "regions": countries(&data.subject_regions),
            "count_est": number(data.subjects_estimate),
            "children": known(data.children),
        },
        "bulk_us": { "health_12m": UNKNOWN },
    })
}

fn label(label: &Label) -> Value {
    json!({
        "norm": label.norm,
        "diss": set(&label.dissemination),
        "src": match label.source {
            LabelSource::Declared => "declared",
            LabelSource::Detected => "detected",
        },
        "conf": confidence(label.confidence),
    })
}

fn category(category: &CategoryFacts) -> Value {
    json!({
        "id": category.id,
        "n": number(category.count),
        "conf": confidence(category.confidence),
        "redactable": if category.redactable { "yes" } else { "no" },
    })
}

/// One upstream as policy judges it on `day`; the ledger's intent holds the same.
pub fn candidate(upstream: &Upstream, day: Day) -> Value {
    let facts = upstream.facts();
    json!({
        "id": upstream.id().as_str(),
        "kind": kind(facts.kind),
        "provider": facts.provider,
        "provider_hq": country(&facts.provider_headquarters),
        "ultimate_parent_hq": country(&facts.ultimate_parent_headquarters),
        "operator": {
            "hq": country(&facts.operator_headquarters),
            "us_persons_only": known(facts.operator_us_persons_only),
        },
        "region": country(&facts.region),
        "residency": text(&facts.residency),
        "subprocessors": facts.subprocessors.as_deref().map_or_else(unknown, countries),
        "transfer": {
            "mech": facts.transfer_mechanisms.as_deref().map_or_else(unknown, set),
            "dpf_listed": known(facts.dpf_listed),
            "tia": tia(facts, day),
        },
        "terms": terms(facts),
        "certs": facts.certifications.as_deref().map_or_else(unknown, |held| {
            held.iter().map(|held| certification(held, day)).collect::<Vec<_>>().into()
        }),
        "model": model(facts),
        "hardware": { "eccn": text(&facts.hardware_eccn), "country": country(&facts.hardware_country) },
        "tee": {
            "status": UNKNOWN, "type": [], "debug": UNKNOWN, "tcb": UNKNOWN, "bound": UNKNOWN,
        },
        "facts_age_d": age(facts.as_of.as_deref(), day),
    })
}

fn terms(facts: &CandidateFacts) -> Value {
    json!({
        "zdr": known(facts.zdr),
        "train": known(facts.train),
        "retention_d": number(facts.retention_days),
        "baa": known(facts.baa),
        "dpa": known(facts.dpa),
        "dora_register": known(facts.dora_register),
    })
}

fn model(facts: &CandidateFacts) -> Value {
    json!({
        "id": facts.model_id,
        "family": text(&facts.model_family),
        "origin": country(&facts.model_origin),
        "open_weights": known(facts.model_open_weights),
        "eccn": text(&facts.model_eccn),
        "signature": text(&facts.model_signature),
        "aibom": {
            "status": text(&facts.model_aibom), "age_d": UNKNOWN, "critical_vulns": UNKNOWN,
        },
        "advisories": set(&facts.model_advisories),
    })
}

/// An assessment that ended before today is expired, whatever else is said of it.
fn tia(facts: &CandidateFacts, day: Day) -> Value {
    let ended = facts.tia_until.as_deref().is_some_and(|until| {
        // An end that is no day cannot be shown to lie ahead.
        Day::parse(until).is_none_or(|until| day.since(until) > 0)
    });
    match (&facts.tia, ended) {
        (Some(tia), true) if tia == "valid" => "expired".into(),
        (Some(tia), _) => tia.as_str().into(),
        (None, true) => "expired".into(),
        (None, false) if facts.tia_until.is_some() => "valid".into(),
        (None, false) => unknown(),
    }
}

fn certification(held: &Certification, day: Day) -> Value {
    let left = held.until.as_deref().and_then(Day::parse).map(|until| until.since(day));
    json!({
        "id": held.id,
        "level": text(&held.level),
        "exp_days": number(left.and_then(|days| u64::try_from(days).ok())),
    })
}

fn context(context: &ContextFacts) -> Value {
    json!({
        "env": context.environment,
        "mode": "enforce",
        "profile": context.profile,
        "packs": set(&context.packs),
        "gateway_region": country(&context.gateway_region),
        "lists": {},
        "approvals": [],
        "break_glass": null,
    })
}

fn kind(kind: CandidateKind) -> &'static str {
    match kind {
        CandidateKind::Remote => "remote",
        CandidateKind::Private => "private",
        CandidateKind::OnPremises => "onprem",
        CandidateKind::Local => "local",
    }
}

fn scan(status: ScanStatus) -> &'static str {
    match status {
        ScanStatus::Complete => "complete",
        ScanStatus::Partial => "partial",
        ScanStatus::Failed => "failed",
        ScanStatus::Skipped => "skipped",
    }
}

fn confidence(confidence: Confidence) -> &'static str {
    match confidence {
        Confidence::Low => "low",
        Confidence::Medium => "medium",
        Confidence::High => "high",
    }
}

fn known(known: Known) -> &'static str {
    match known {
        Known::Yes => "yes",
        Known::No => "no",
        Known::Unknown => UNKNOWN,
    }
}

fn unknown() -> Value {
    UNKNOWN.into()
}

fn text(text: &Option<String>) -> Value {
    text.as_deref().unwrap_or(UNKNOWN).into()
}

fn number(number: Option<u64>) -> Value {
    number.map_or_else(unknown, Value::from)
}

/// Whole days from a day to `day`; a day ahead of it, or none at all, has no age.
fn age(of: Option<&str>, day: Day) -> Value {
    let days = of.and_then(Day::parse).map(|of| day.since(of));
    number(days.and_then(|days| u64::try_from(days).ok()))
}

fn country(country: &Option<Country>) -> Value {
    country.as_ref().map_or_else(unknown, |code| code_text(code).into())
}

fn code_text(country: &Country) -> String {
    country.0.iter().map(|byte| char::from(*byte)).collect()
}

fn countries(countries: &[Country]) -> Value {
    set(&countries.iter().map(code_text).collect::<Vec<_>>())
}

fn set(items: &[String]) -> Value {
    let mut items: Vec<&str> = items.iter().map(String::as_str).collect();
    items.sort_unstable();
    items.dedup();
    items.into()
}
