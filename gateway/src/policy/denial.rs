//! Refusals: by policy, with its rules, or by the host, with a code of its own.
//!
//! What a client is told is made here: which rule, what it is called, what would help. Never
//! prompts, answers or secrets: only ids and texts of the bundle.

use std::sync::Arc;

use crate::policy::{Decided, Rule};

/// Where the host refuses although policy did not (the contract's host codes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostCode {
    NoBundle,
    BundleStale,
    EngineError,
    EngineTimeout,
    Undefined,
    EchoMismatch,
    BadDecisionSchema,
    UnknownObligation,
    RedactionIncomplete,
    ConflictLog,
    ConflictRetention,
    NoEligibleUpstream,
    BodyOverInspectionLimit,
    UnknownRoute,
    AuditUnavailable,
}

/// What policy says of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    Allow,
    LocalOnly,
    NeedsApproval,
    Deny,
}

/// The refusal of a call, by policy or by the host.
#[derive(Debug, Clone)]
pub struct Denial {
    /// The first there is of: a rule that refused the request, a rule that excluded the route's
    /// first target, the host code.
    pub code: String,
    pub effect: Effect,
    pub host: Option<HostCode>,
    pub rules: Vec<Rule>,
    pub missing: Vec<String>,
    pub decided: Option<Arc<Decided>>,
    pub notify: Vec<(String, String)>,
}

/// The host's refusal on the way to a ruling; never remembered.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) code: HostCode,
    /// What policy had decided, where it had.
    pub(crate) decided: Option<Arc<Decided>>,
}

// === impl Denial ===

impl Denial {
    /// A refusal by the host alone, before or after policy was asked.
    pub fn host(code: HostCode) -> Self {
        Self::by_host(Refusal::host(code))
    }

    /// What to tell the client: which rule, what it is called, what would help.
    pub fn message(&self) -> String {
        let rule = self.rules.iter().find(|rule| rule.id == self.code);
        let named = match rule {
            Some(rule) if !rule.title.is_empty() => format!("{} ({})", self.code, rule.title),
            _ => self.code.clone(),
        };
        let advice = match (rule, self.host) {
            (_, Some(code)) => code.advice(),
            (Some(rule), None) if !rule.advice.is_empty() => rule.advice.as_str(),
            (_, None) => "Ask who runs this gateway and name the call id.",
        };
        let verdict = match (self.effect, self.host) {
            (_, Some(_)) => "this call is refused",
            (Effect::NeedsApproval, None) => "policy wants an approval of this call",
            (Effect::Allow | Effect::LocalOnly | Effect::Deny, None) => "policy refuses this call",
        };
        format!("{verdict}: {named}. {advice}")
    }

    /// The rules that refused the request; where only its targets were refused, those that did.
    pub fn refusing(&self) -> &[Rule] {
        match self.decided.as_ref().map(|decided| decided.request_rules()) {
            Some(rules) if !rules.is_empty() => rules,
            Some(_) | None => &self.rules,
        }
    }

    pub(crate) fn by_policy(code: &str, decided: Arc<Decided>) -> Self {
        Self {
            code: code.to_owned(),
            effect: decided.effect,
            host: None,
            rules: decided.refused_by.clone(),
            missing: decided.missing.clone(),
            notify: decided.notify.clone(),
            decided: Some(decided),
        }
    }

    pub(crate) fn by_host(refusal: Refusal) -> Self {
        let decided = refusal.decided.as_ref();
        Self {
            code: refusal.code.name().to_owned(),
            effect: Effect::Deny,
            host: Some(refusal.code),
            rules: decided.map(|decided| decided.refused_by.clone()).unwrap_or_default(),
            missing: decided.map(|decided| decided.missing.clone()).unwrap_or_default(),
            notify: decided.map(|decided| decided.notify.clone()).unwrap_or_default(),
            decided: refusal.decided,
        }
    }
}

// === impl Refusal ===

impl Refusal {
    pub(crate) fn host(code: HostCode) -> Self {
        Self { code, decided: None }
    }

    pub(crate) fn engine_timeout() -> Self {
        Self::host(HostCode::EngineTimeout)
    }

    pub(crate) fn engine_failed() -> Self {
        Self::host(HostCode::EngineError)
    }
}

// === impl Effect ===

impl Effect {
    /// The contract's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::LocalOnly => "local_only",
            Self::NeedsApproval => "needs_approval",
            Self::Deny => "deny",
        }
    }

    /// Reads the contract's word.
    pub fn parse(text: &str) -> Option<Self> {
        let all = [Self::Allow, Self::LocalOnly, Self::NeedsApproval, Self::Deny];
        all.into_iter().find(|effect| effect.name() == text)
    }
}

// === impl HostCode ===

impl HostCode {
    /// The code as clients, log and metrics show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoBundle => "NO_BUNDLE",
            Self::BundleStale => "BUNDLE_STALE",
            Self::EngineError => "ENGINE_ERROR",
            Self::EngineTimeout => "ENGINE_TIMEOUT",
            Self::Undefined => "UNDEFINED",
            Self::EchoMismatch => "ECHO_MISMATCH",
            Self::BadDecisionSchema => "BAD_DECISION_SCHEMA",
            Self::UnknownObligation => "UNKNOWN_OBLIGATION",
            Self::RedactionIncomplete => "REDACTION_INCOMPLETE",
            Self::ConflictLog => "CONFLICT-LOG",
            Self::ConflictRetention => "CONFLICT-RETENTION",
            Self::NoEligibleUpstream => "NO_ELIGIBLE_UPSTREAM",
            Self::BodyOverInspectionLimit => "BODY_OVER_INSPECTION_LIMIT",
            Self::UnknownRoute => "UNKNOWN_ROUTE",
            Self::AuditUnavailable => "AUDIT_UNAVAILABLE",
        }
    }

    /// What a client can do about it.
    fn advice(self) -> &'static str {
        match self {
            Self::NoBundle
            | Self::BundleStale
            | Self::EngineError
            | Self::Undefined
            | Self::EchoMismatch
            | Self::BadDecisionSchema => {
                "The policy gave no usable decision, so nothing was sent. Ask who runs this \
                 gateway and name the call id."
            }
            Self::EngineTimeout => "No decision was made in time, so nothing was sent. Try again.",
            Self::UnknownObligation => {
                "The policy asks for something this gateway cannot do, so nothing was sent. Ask \
                 who runs this gateway and name the call id."
            }
            Self::RedactionIncomplete => {
                "Data that must be taken out of the prompt could not be, so nothing was sent. \
                 Remove it and ask again."
            }
            Self::ConflictLog => {
                "The policy wants the prompt kept in a way this gateway has no place for, so \
                 nothing was sent. Ask who runs this gateway and name the call id."
            }
            Self::ConflictRetention => {
                "The policy's retention times contradict each other, so nothing was sent. Ask \
                 who runs this gateway and name the call id."
            }
            Self::NoEligibleUpstream => {
                "None of the permitted upstreams can be used now. Try again later."
            }
            Self::BodyOverInspectionLimit => "The body is too large to be inspected. Shorten it.",
            Self::UnknownRoute => "There is no such model. `GET /v1/models` lists them.",
            Self::AuditUnavailable => {
                "The call cannot be recorded now, so nothing was sent. Try again later."
            }
        }
    }
}
