//! From facts to a ruling: document, engine, check, duties, and the ledger's copy of it all.
//!
//! A ruling exists only after the sink has the decision event; so nobody can use a decision that
//! the ledger will not hold.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use crate::{
    catalog::facts::CandidateKind,
    identity::attributes::Known,
    policy::{
        Decided, DecisionSink, Duties, Effect, HostCode, PolicyError, Refusal, Rule,
        about::{About, Rules},
        check::Question,
        decision::{self, Decision},
        document::{self, DocumentError},
        engine::{Engine, EngineFault},
        facts::Facts,
        memo::{Judge, Observer},
        quarter::Quarter,
    },
};

/// What was decided about facts, ready for every call that has them.
#[derive(Debug)]
pub(crate) struct Ruling {
    pub(crate) as_of: Quarter,
    pub(crate) decided: Arc<Decided>,
    pub(crate) verdict: Verdict,
}

#[derive(Debug)]
pub(crate) enum Verdict {
    Permitted { targets: Vec<Target>, duties: Arc<Duties> },
    Refused { code: String },
}

/// A permitted candidate by its place among those asked about.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) index: usize,
    pub(crate) rank: u32,
    pub(crate) basis: Arc<[Rule]>,
    pub(crate) mechanism: Option<String>,
}

/// A decision that answers the facts it was asked about.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) decision: Decision,
    /// The document as the policy gave it, sets in order.
    pub(crate) document: Value,
}

/// An activated bundle: the engine and what the bundle says about itself.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) engine: Engine,
    /// What the manifest calls the bundle.
    pub(crate) revision: String,
    pub(crate) about: About,
    pub(crate) rules: Rules,
}

/// The bench with its ledger: what the memo asks.
pub(crate) struct Court {
    pub(crate) bench: Arc<Bench>,
    pub(crate) sink: Arc<dyn DecisionSink>,
    pub(crate) observer: Arc<dyn Observer>,
}

// === impl Ruling ===

impl Ruling {
    /// About how many bytes it takes in memory, for the memo's limit.
    pub(crate) fn bytes(&self) -> usize {
        let rule = |rule: &Rule| rule.title.len() + rule.citation.len() + rule.advice.len() + 128;
        let rules = match &self.verdict {
            Verdict::Permitted { targets, .. } => {
                targets.iter().flat_map(|target| &*target.basis).map(rule).sum()
            }
            Verdict::Refused { .. } => 0,
        };
        let refused: usize = self.decided.refused_by.iter().map(rule).sum();
        size_of::<Self>() + size_of::<Decided>() + self.decided.event.len() + rules + 2 * refused
    }
}

// === impl Bench ===

impl Bench {
    /// Asks a bundle about itself, and takes it into use if it answers as it must.
    pub(crate) async fn new(
        engine: Engine,
        revision: String,
        data: &Value,
    ) -> Result<Self, PolicyError> {
        let about = About::read(&engine.describe().await?, &revision)?;
        Ok(Self { engine, revision, about, rules: Rules::read(data)? })
    }

    /// Asks the policy about a sealed facts document, and holds the answer against it.
    pub(crate) async fn ask(
        &self,
        facts: &Arc<Value>,
        observer: &dyn Observer,
    ) -> Result<Answered, HostCode> {
        let document = self.hear(facts, observer).await?;
        let decision = Question::of(facts, &self.about.data_revision).check(&document)?;
        Ok(Answered { decision, document })
    }

    /// What the policy says to any document, sets in order and nothing checked.
    pub(crate) async fn hear(
        &self,
        facts: &Arc<Value>,
        observer: &dyn Observer,
    ) -> Result<Value, HostCode> {
        let evaluated = self.engine.decide(Arc::clone(facts)).await;
        let evaluated = evaluated.map_err(|fault| match fault {
            EngineFault::Timeout => HostCode::EngineTimeout,
            EngineFault::Undefined => HostCode::Undefined,
            EngineFault::Failed => HostCode::EngineError,
        })?;
        observer.evaluated(evaluated.took);
        let mut document = evaluated.value;
        decision::in_order(&mut document);
        Ok(document)
    }

    /// The decision as it is recorded, with the texts of its rules.
    fn decided(&self, facts: &Value, answered: &Answered) -> Result<Decided, HostCode> {
        let decision = &answered.decision;
        let digest = decision.echo.digest.clone();
        let event = self.event(facts, answered).map_err(|_fault| HostCode::EngineError)?;
        let named = |ids: &[String]| ids.iter().map(|id| self.rules.named(id)).collect::<Vec<_>>();
        let request_rules: Vec<Rule> =
            decision.request_rules.iter().map(|rule| self.rules.named(&rule.id)).collect();
        let excluded: Vec<(String, Vec<Rule>, Vec<String>)> = decision
            .excluded
            .iter()
            .map(|excluded| (excluded.id.clone(), named(&excluded.rules), excluded.missing.clone()))
            .collect();
        let mut refused_by = request_rules.clone();
        refused_by.extend(excluded.iter().flat_map(|(_, rules, _)| rules.iter().cloned()));
        let mut seen = std::collections::BTreeSet::new();
        refused_by.retain(|rule| seen.insert(rule.id.clone()));
        Ok(Decided {
            digest,
            revision: self.about.revision.clone(),
            event: event.into(),
            effect: decision.effect,
            warnings: decision.warnings.clone(),
            refused_by,
            request_rules,
            excluded,
            missing: missing(decision),
            notify: decision.notify(),
            retention: decision.retention(),
        })
    }

    /// The body of the decision's event: facts and decision as they are, its keys in canonical
    /// order (RFC 8785), so that nothing has to be copied to be sorted.
    fn event(&self, facts: &Value, answered: &Answered) -> Result<Vec<u8>, DocumentError> {
        let decision = &answered.decision;
        let (digest, effect) = (decision.echo.digest.as_str(), decision.effect.name());
        let members: [(&str, Result<Vec<u8>, DocumentError>); 5] = [
            ("decision", document::canonical(&answered.document)),
            ("digest", document::canonical(&digest.into())),
            ("effect", document::canonical(&effect.into())),
            ("facts", document::canonical(facts)),
            ("policy_set_version", document::canonical(&self.about.revision.as_str().into())),
        ];
        let mut event = Vec::with_capacity(4096);
        for (index, (name, bytes)) in members.into_iter().enumerate() {
            event.push(if index == 0 { b'{' } else { b',' });
            event.extend_from_slice(format!("\"{name}\":").as_bytes());
            event.extend_from_slice(&bytes?);
        }
        event.push(b'}');
        Ok(event)
    }

    fn targets(&self, decision: &Decision, facts: &Facts, duties: &Duties) -> Vec<Target> {
        let mut targets = Vec::new();
        for (index, upstream) in facts.upstreams().iter().enumerate() {
            let id = upstream.id().as_str();
            let Some(chosen) = decision.candidates.iter().find(|chosen| chosen.id == id) else {
                continue;
            };
            let ours = match upstream.facts().kind {
                CandidateKind::Local | CandidateKind::OnPremises => true,
                CandidateKind::Remote | CandidateKind::Private => false,
            };
            // A duty that an upstream is not known to fulfil is a duty we would break there.
            if duties.zdr_required && !ours && upstream.facts().zdr != Known::Yes {
                continue;
            }
            let basis = chosen.basis.iter().map(|id| self.rules.named(id)).collect();
            let mechanism = chosen.mechanism.clone();
            targets.push(Target { index, rank: chosen.rank, basis, mechanism });
        }
        targets
    }
}

/// What was missing, of the request first, then of the candidates; each once.
fn missing(decision: &Decision) -> Vec<String> {
    let request = decision.request_rules.iter().flat_map(|rule| &rule.missing);
    let candidates = decision.excluded.iter().flat_map(|excluded| &excluded.missing);
    let mut missing: Vec<String> = Vec::new();
    for path in request.chain(candidates) {
        if !missing.contains(path) {
            missing.push(path.clone());
        }
    }
    missing
}

// === impl Court ===

#[async_trait]
impl Judge for Court {
    async fn judge(&self, facts: &Facts) -> Result<Arc<Ruling>, Refusal> {
        let document = document::document(facts, &self.bench.about.steps)
            .map_err(|_fault| Refusal::host(HostCode::EngineError))?;
        let document = Arc::new(document);
        let answered = self.bench.ask(&document, &*self.observer).await.map_err(Refusal::host)?;
        let decided = self.bench.decided(&document, &answered).map_err(Refusal::host)?;
        let recorded = self.sink.record(&facts.request.tenant, &decided).await;
        let decided = Arc::new(decided);
        if let Err(fault) = recorded {
            tracing::warn!(%fault, "a decision is not used because the ledger did not take it");
            return Err(Refusal::host(HostCode::AuditUnavailable));
        }
        self.rule(facts, &answered.decision, decided).map(Arc::new)
    }
}

impl Court {
    /// What the decision means for calls with these facts.
    fn rule(
        &self,
        facts: &Facts,
        decision: &Decision,
        decided: Arc<Decided>,
    ) -> Result<Ruling, Refusal> {
        match decision.effect {
            Effect::Allow | Effect::LocalOnly => {
                let host = |code| Refusal { code, decided: Some(Arc::clone(&decided)) };
                let duties = decision.duties().map_err(host)?;
                let targets = self.bench.targets(decision, facts, &duties);
                if targets.is_empty() {
                    return Err(host(HostCode::NoEligibleUpstream));
                }
                let verdict = Verdict::Permitted { targets, duties: Arc::new(duties) };
                Ok(Ruling { as_of: facts.as_of(), decided, verdict })
            }
            Effect::NeedsApproval | Effect::Deny => {
                let code = refusing_code(decision, facts);
                let verdict = Verdict::Refused { code };
                Ok(Ruling { as_of: facts.as_of(), decided, verdict })
            }
        }
    }
}

/// A rule that refused the request, or waits for an approval of it; else what excluded the route's
/// first target, or another. An excluded target says nothing about an approval, which a policy may
/// want without naming a rule: then its kind is told.
fn refusing_code(decision: &Decision, facts: &Facts) -> String {
    let request = decision.request_rules.first().map(|rule| &rule.id);
    let excluded_by = |id: &str| {
        let excluded = decision.excluded.iter().find(|excluded| excluded.id == id);
        excluded.and_then(|excluded| excluded.rules.first())
    };
    let target = || match decision.effect {
        Effect::NeedsApproval => None,
        Effect::Allow | Effect::LocalOnly | Effect::Deny => {
            facts.upstreams().iter().find_map(|target| excluded_by(target.id().as_str()))
        }
    };
    let approval = || decision.obligations.get("approval")?.get("kind")?.as_str();
    match request.or_else(target) {
        Some(rule) => rule.clone(),
        None => approval().map_or_else(|| "APPROVAL".to_owned(), |kind| format!("APPROVAL-{kind}")),
    }
}
