//! What a policy answers (`cordon.decision/1`), read into types.
//!
//! Anything that is not exactly the contract's shape is no decision. Arrays made from sets leave
//! the engine in any order: `in_order` sorts them before anybody compares or records.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::classify::Redaction;
use crate::policy::{Duties, Effect, HostCode, LogBody};

/// The schema decisions name.
pub const SCHEMA: &str = "cordon.decision/1";

/// A decision of the contract's shape; whether it answers the question is `check`'s matter.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    pub(crate) schema: String,
    pub(crate) echo: Echo,
    #[serde(deserialize_with = "effect")]
    pub(crate) effect: Effect,
    pub(crate) candidates: Vec<Chosen>,
    pub(crate) excluded: Vec<Excluded>,
    pub(crate) request_rules: Vec<Refusing>,
    pub(crate) obligations: Map<String, Value>,
    #[serde(default, rename = "waived")]
    _waived: Vec<Waived>,
    #[serde(default)]
    pub(crate) warnings: Vec<String>,
    #[serde(default, rename = "packs")]
    _packs: BTreeMap<String, String>,
}

/// Which facts and which data the decision rests on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Echo {
    pub(crate) digest: String,
    pub(crate) data_rev: String,
}

/// A candidate that is allowed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chosen {
    pub(crate) id: String,
    pub(crate) rank: u32,
    pub(crate) basis: Vec<String>,
    #[serde(default)]
    pub(crate) mechanism: Option<String>,
}

/// A candidate that is not.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Excluded {
    pub(crate) id: String,
    pub(crate) rules: Vec<String>,
    #[serde(default)]
    pub(crate) missing: Vec<String>,
}

/// A rule that refuses the request itself.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusing {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) missing: Vec<String>,
}

/// A rule that was waived, and by what.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waived {
    #[serde(rename = "rule")]
    _rule: String,
    #[serde(rename = "by")]
    _by: String,
}

/// Who is told, and how urgently; a duty of refusals too.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Notify {
    to: String,
    severity: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Redact {
    category: String,
    how: How,
    direction: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum How {
    Tokenize,
    Mask,
    Drop,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Log {
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    store: Option<String>,
    /// Read by [`Decision::retention`]; here only to be of its shape.
    #[serde(default, rename = "retain_d")]
    _retain_d: Option<Retention>,
}

/// For how many days a record is kept at least; a duty of refusals too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    #[serde(default)]
    pub(crate) decision: Option<u64>,
    #[serde(default)]
    pub(crate) body: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cache {
    scope: String,
    #[serde(default, rename = "ttl_s")]
    _ttl_s: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Response {
    #[serde(default)]
    scan: bool,
    #[serde(default)]
    block: Vec<String>,
    #[serde(default)]
    hold_stream: bool,
    #[serde(default)]
    label_ai: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenLimits {
    #[serde(default)]
    max_tokens: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UpstreamDuties {
    #[serde(default)]
    zdr_required: bool,
}

/// The scopes of the contract. Nothing is cached yet, which satisfies every one of them.
const CACHE_SCOPES: [&str; 5] = ["none", "request", "user", "tenant_jurisdiction", "tenant"];

impl Decision {
    /// Reads a decision, strictly.
    pub fn read(value: &Value) -> Result<Self, HostCode> {
        let read: Self =
            Deserialize::deserialize(value).map_err(|_shape| HostCode::BadDecisionSchema)?;
        (read.schema == SCHEMA).then_some(read).ok_or(HostCode::BadDecisionSchema)
    }

    /// Who must be told, also of a refusal.
    pub fn notify(&self) -> Vec<(String, String)> {
        let entries = self.obligations.get("notify").cloned().unwrap_or_default();
        let entries: Vec<Notify> = serde_json::from_value(entries).unwrap_or_default();
        entries.into_iter().map(|entry| (entry.to, entry.severity)).collect()
    }

    /// How long to keep what is recorded, also of a refusal.
    pub fn retention(&self) -> Retention {
        let asked = self.obligations.get("log").and_then(|log| log.get("retain_d"));
        asked.and_then(|asked| Retention::deserialize(asked).ok()).unwrap_or_default()
    }

    /// The duties of a permitted call. Every obligation must be one we fulfil: another is
    /// `UNKNOWN_OBLIGATION`, a store or form of log we do not have `CONFLICT-LOG`.
    pub fn duties(&self) -> Result<Duties, HostCode> {
        let mut duties = Duties::none();
        for (name, value) in self.obligations.iter().filter(|(_, value)| !value.is_null()) {
            match name.as_str() {
                "redact" => duties.redact = redactions(value)?,
                "rescan" => duties.rescan = understood(value)?,
                "log" => duties.log_body = log(&understood(value)?)?,
                "cache" => cache(&understood(value)?)?,
                "response" => duties.label_ai = response(&understood(value)?)?,
                "notify" => {
                    let entries: Vec<Notify> = understood(value)?;
                    duties.notify =
                        entries.into_iter().map(|entry| (entry.to, entry.severity)).collect();
                }
                "limits" => duties.max_tokens = understood::<TokenLimits>(value)?.max_tokens,
                "upstream" => {
                    duties.zdr_required = understood::<UpstreamDuties>(value)?.zdr_required;
                }
                _ => return Err(HostCode::UnknownObligation),
            }
        }
        // What is redacted is always looked at again.
        duties.rescan |= !duties.redact.is_empty();
        Ok(duties)
    }
}

fn understood<'de, T: Deserialize<'de>>(value: &'de Value) -> Result<T, HostCode> {
    T::deserialize(value).map_err(|_shape| HostCode::UnknownObligation)
}

fn redactions(value: &Value) -> Result<Vec<(String, Redaction)>, HostCode> {
    let entries: Vec<Redact> = understood(value)?;
    let mut strictest: BTreeMap<String, Redaction> = BTreeMap::new();
    for entry in entries {
        if entry.direction != "prompt" {
            return Err(HostCode::UnknownObligation);
        }
        let how = match entry.how {
            How::Tokenize => Redaction::Tokenize,
            How::Mask => Redaction::Mask,
            How::Drop => Redaction::Drop,
        };
        let kept = strictest.entry(entry.category).or_insert(how);
        // Later in the order of `Redaction` is stricter.
        *kept = how.max(*kept);
    }
    Ok(strictest.into_iter().collect())
}

/// What may be kept. We hold one store and no keys, so anything encrypted or named otherwise has
/// no place here; and no texts, so of a redacted body too the hash is what is kept, and recorded.
fn log(log: &Log) -> Result<LogBody, HostCode> {
    if log.store.as_ref().is_some_and(|store| store != "default") {
        return Err(HostCode::ConflictLog);
    }
    match log.body.as_deref() {
        None | Some("hash" | "redacted") => Ok(LogBody::Hash),
        Some("none") => Ok(LogBody::None),
        Some("encrypted") => Err(HostCode::ConflictLog),
        Some(_) => Err(HostCode::UnknownObligation),
    }
}

fn cache(cache: &Cache) -> Result<(), HostCode> {
    let known = CACHE_SCOPES.contains(&cache.scope.as_str());
    known.then_some(()).ok_or(HostCode::UnknownObligation)
}

/// Answers are not inspected yet, so a policy that asks for it must not get a call through.
fn response(response: &Response) -> Result<bool, HostCode> {
    let inspects = response.scan || !response.block.is_empty() || response.hold_stream;
    if inspects { Err(HostCode::UnknownObligation) } else { Ok(response.label_ai) }
}

fn effect<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Effect, D::Error> {
    let text = String::deserialize(deserializer)?;
    Effect::parse(&text).ok_or_else(|| serde::de::Error::custom("no effect of the contract"))
}

/// Sorts every array by its text: the arrays of a decision are sets.
pub fn in_order(value: &mut Value) {
    match value {
        Value::Array(items) => {
            items.iter_mut().for_each(in_order);
            if items.len() > 1 {
                items.sort_by_cached_key(ToString::to_string);
            }
        }
        Value::Object(members) => {
            members.values_mut().for_each(in_order);
            members.sort_keys();
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
