//! Decisions asked for by hand: one facts document, what a bundle holds, the case files.
//!
//! The same bundle, steps, engine and checks that calls meet; only memo and ledger are left out.

pub mod cases;

use std::{fmt::Write as _, path::Path, sync::Arc, time::Duration};

use serde_json::{Value, json};

use crate::policy::{
    Effect, HostCode, PolicyError, Settings,
    about::{About, Listed},
    activate,
    bundle::Bundle,
    document::{self, DocumentError},
    engine::Limits,
    judge::Bench,
    memo::Unobserved,
    read,
};

/// Largest facts file that is read; documents of 16 candidates are under 16 KiB.
const FACTS_BYTES_MAX: u64 = 1 << 20;

/// Why a question could not be asked. All of them are exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error("`{path}` cannot be read: {source}")]
    Unreadable { path: String, source: std::io::Error },
    #[error("`{path}` is over {max} bytes", max = FACTS_BYTES_MAX)]
    TooLarge { path: String },
    #[error("`{path}` is not valid JSON: {source}")]
    Json { path: String, source: serde_json::Error },
    #[error("the facts cannot be used: {0}")]
    Document(#[from] DocumentError),
    #[error("`{path}` is no case file: {what}")]
    Case { path: String, what: String },
}

/// The answer to one facts document.
#[derive(Debug)]
pub struct Replayed {
    effect: Effect,
    /// The decision document that policy gave, echo and shape checked.
    decision: Value,
    refusal: Option<HostCode>,
    bench: Arc<Bench>,
}

/// A bundle's engine and checks by themselves: what tests and tools ask about documents.
#[derive(Debug)]
pub struct Evaluator {
    bench: Arc<Bench>,
}

/// Why policy gave no decision that may be shown. Exit code 1: the host would refuse the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the policy gave no usable decision: {code}", code = .0.name())]
pub struct Unanswered(pub HostCode);

/// What a bundle holds.
#[derive(Debug)]
pub struct Contents {
    bench: Arc<Bench>,
}

/// Reads a facts document from a file.
pub fn read_facts(path: &Path) -> Result<Value, ReplayError> {
    use std::io::Read as _;
    let name = || path.display().to_string();
    let unreadable = |source| ReplayError::Unreadable { path: name(), source };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(FACTS_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FACTS_BYTES_MAX {
        return Err(ReplayError::TooLarge { path: name() });
    }
    serde_json::from_slice(&bytes).map_err(|source| ReplayError::Json { path: name(), source })
}

/// Decides one facts document with the configured bundle.
pub async fn eval(
    settings: &Settings,
    facts: Value,
) -> Result<Result<Replayed, Unanswered>, ReplayError> {
    Ok(configured(settings).await?.replay(facts).await?)
}

/// What the configured bundle holds.
pub async fn rules(settings: &Settings) -> Result<Contents, ReplayError> {
    Ok(Contents { bench: configured(settings).await?.bench })
}

/// Runs every case file of `folder` with the configured bundle.
pub async fn cases(settings: &Settings, folder: &Path) -> Result<cases::Report, ReplayError> {
    let cases = cases::read(folder)?;
    let bundle = read(settings).map_err(PolicyError::from)?;
    Ok(cases::run(bundle, &cases).await?)
}

async fn configured(settings: &Settings) -> Result<Evaluator, PolicyError> {
    Evaluator::new(read(settings)?, settings.deadline.0).await
}

// === impl Evaluator ===

impl Evaluator {
    /// Compiles and tests a bundle. A tool may wait longer than a call: `deadline` is per question.
    pub async fn new(bundle: Bundle, deadline: Duration) -> Result<Self, PolicyError> {
        let limits = Limits { threads: 1, queue_max: 1, deadline };
        Ok(Self { bench: Arc::new(activate(bundle, limits).await?) })
    }

    /// The same policy over other data; compiles nothing.
    pub async fn with_data(&self, data: Value) -> Result<Self, PolicyError> {
        let engine = self.bench.engine.with_data(data.clone())?;
        let bench = Bench::new(engine, self.bench.revision.clone(), &data).await?;
        Ok(Self { bench: Arc::new(bench) })
    }

    /// What the bundle says about itself.
    pub fn about(&self) -> &About {
        &self.bench.about
    }

    /// Decides a facts document. The digest is computed where there is none, and checked where
    /// there is one; numbers are stepped.
    pub async fn replay(
        &self,
        facts: Value,
    ) -> Result<Result<Replayed, Unanswered>, DocumentError> {
        let facts = Arc::new(document::adopt(facts, &self.bench.about.steps)?);
        let answered = match self.bench.ask(&facts, &Unobserved).await {
            Ok(answered) => answered,
            Err(code) => return Ok(Err(Unanswered(code))),
        };
        let effect = answered.decision.effect;
        let refusal = match effect {
            Effect::Allow | Effect::LocalOnly => answered.decision.duties().err(),
            Effect::NeedsApproval | Effect::Deny => None,
        };
        let bench = Arc::clone(&self.bench);
        Ok(Ok(Replayed { effect, decision: answered.document, refusal, bench }))
    }

    /// What the policy says to any document, sets in order and nothing checked.
    pub async fn hear(&self, document: &Value) -> Result<Value, HostCode> {
        self.bench.hear(&Arc::new(document.clone()), &Unobserved).await
    }

    /// The checked decision on a sealed facts document, sets in order. Numbers are taken as they
    /// are: `document::adopt` steps them.
    pub async fn ask(&self, facts: &Value) -> Result<Value, HostCode> {
        let facts = Arc::new(facts.clone());
        self.bench.ask(&facts, &Unobserved).await.map(|answered| answered.document)
    }
}

// === impl Replayed ===

impl Replayed {
    /// What policy decided.
    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// The host's own refusal of a call with this decision; it changes neither the document nor
    /// the exit code.
    pub fn refusal(&self) -> Option<HostCode> {
        self.refusal
    }

    /// 0 for allow and `local_only`, 1 for deny and `needs_approval`.
    pub fn exit_code(&self) -> u8 {
        match self.effect {
            Effect::Allow | Effect::LocalOnly => 0,
            Effect::NeedsApproval | Effect::Deny => 1,
        }
    }

    /// The decision document.
    pub fn json(&self) -> &Value {
        &self.decision
    }

    /// The decision for people, its rules with titles and citations.
    pub fn text(&self) -> String {
        let mut out = format!("{}\n", self.effect.name());
        let list = |path: &str| {
            self.decision.pointer(path).and_then(Value::as_array).cloned().unwrap_or_default()
        };
        for rule in list("/request_rules") {
            self.write_rule(&mut out, "refused by", &rule, text(&rule, "id"));
        }
        for chosen in list("/candidates") {
            let rank = chosen.get("rank").and_then(Value::as_u64).unwrap_or_default();
            let mechanism = chosen.get("mechanism").and_then(Value::as_str);
            let by = mechanism.map(|id| format!(", mechanism {id}")).unwrap_or_default();
            line(&mut out, &format!("  {} is allowed (rank {rank}{by})", text(&chosen, "id")));
            for basis in texts(&chosen, "basis") {
                self.write_rule(&mut out, "  rests on", &Value::Null, &basis);
            }
        }
        for excluded in list("/excluded") {
            line(&mut out, &format!("  {} is excluded", text(&excluded, "id")));
            for rule in texts(&excluded, "rules") {
                self.write_rule(&mut out, "  by", &excluded, &rule);
            }
        }
        for warning in texts(&self.decision, "warnings") {
            line(&mut out, &format!("  warning {warning}"));
        }
        let obligations = self.decision.get("obligations").unwrap_or(&Value::Null);
        line(&mut out, &format!("  obligations {obligations}"));
        out
    }

    fn write_rule(&self, out: &mut String, what: &str, from: &Value, id: &str) {
        let rule = self.bench.rules.named(id);
        let missing = texts(from, "missing");
        let lacking = match missing.is_empty() {
            true => String::new(),
            false => format!("; missing {}", missing.join(", ")),
        };
        line(out, &format!("  {what} {id}: {} [{}]{lacking}", rule.title, rule.citation));
    }
}

// === impl Contents ===

impl Contents {
    /// What the bundle says about itself.
    pub fn about(&self) -> &About {
        &self.bench.about
    }

    /// Everything as one JSON object.
    pub fn json(&self) -> Value {
        let about = self.about();
        let steps: serde_json::Map<String, Value> =
            about.steps.iter().map(|(path, steps)| (path.to_owned(), steps.into())).collect();
        let rules: Vec<Value> =
            self.bench.rules.iter().map(|(id, rule)| listed_json(id, rule)).collect();
        json!({
            "revision": about.revision, "data_rev": about.data_revision, "packs": about.packs,
            "profiles": about.profiles, "steps": steps, "rules": rules,
        })
    }

    /// The bundle for people: a line about it, then one per rule.
    pub fn text(&self) -> String {
        let about = self.about();
        let packs: Vec<String> =
            about.packs.iter().map(|(name, version)| format!("{name} {version}")).collect();
        let mut out = format!("bundle {}, data {}\n", about.revision, about.data_revision);
        line(&mut out, &format!("packs    {}", packs.join(", ")));
        line(&mut out, &format!("profiles {}", about.profiles.join(", ")));
        for (id, rule) in self.bench.rules.iter() {
            line(&mut out, &format!("{id:<24} {} [{}]", rule.title, rule.citation));
        }
        out
    }
}

fn listed_json(id: &str, rule: &Listed) -> Value {
    json!({
        "id": id, "title": rule.title, "description": rule.description, "citation": rule.citation,
        "severity": rule.severity, "owner": rule.owner, "waivable": rule.waivable,
        "valid_from": rule.valid_from, "valid_until": rule.valid_until,
    })
}

fn line(out: &mut String, text: &str) {
    writeln!(out, "{text}").expect("writing to a string cannot fail");
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn texts(value: &Value, name: &str) -> Vec<String> {
    let list = value.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}
