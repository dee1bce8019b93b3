//! The facts of one call as a typed value with exact equality: what a decision is a function of.
//!
//! Parts that are made once are shared (the caller per key, the candidates per route, the
//! context per bundle); numbers are stepped and text comes from configured vocabularies, so that
//! calls which policy cannot tell apart have equal facts. Serialised only when the engine must
//! run (`document`).

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    catalog::Upstream,
    classify::{Confidence, Findings, Label, ScanStatus},
    identity::{
        Caller, TenantId,
        attributes::{CallerFacts, Country, Known},
    },
    policy::{quarter::Quarter, steps::Steps},
};

/// How long decisions of the quarter before may still be used while they are renewed, and how
/// long a permit serves after it was made.
pub const GRACE: Duration = Duration::from_secs(10);

/// What one call is, as far as policy may know.
#[derive(Debug, Clone)]
pub struct Facts {
    pub(crate) as_of: Quarter,
    /// When the decision was asked for; no part of the facts.
    pub(crate) asked_at: SystemTime,
    pub(crate) request: RequestFacts,
    pub(crate) caller: Arc<CallerFacts>,
    /// Empty unless the bundle needs it.
    pub(crate) caller_id: String,
    pub(crate) data: DataFacts,
    pub(crate) candidates: Arc<Candidates>,
    pub(crate) context: Arc<ContextFacts>,
}

/// The contract's `request` section.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestFacts {
    /// The route's name, which is the alias that was asked for.
    pub(crate) model: Arc<str>,
    pub(crate) stream: bool,
    /// Stepped.
    pub(crate) tokens_estimate: Option<u64>,
    pub(crate) purpose: Option<String>,
    pub(crate) ai_act: Option<String>,
    pub(crate) end_use: Option<String>,
    pub(crate) tenant: TenantId,
    pub(crate) app: Option<String>,
    pub(crate) critical_function: Known,
    pub(crate) affects_person: Known,
}

/// The contract's `data` section.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DataFacts {
    pub(crate) status: ScanStatus,
    /// Stepped.
    pub(crate) unscannable: Option<u64>,
    pub(crate) labels: Vec<Label>,
    pub(crate) class: String,
    pub(crate) tlp: Option<String>,
    pub(crate) categories: Vec<CategoryFacts>,
    pub(crate) subject_regions: Vec<Country>,
    /// Stepped.
    pub(crate) subjects_estimate: Option<u64>,
    pub(crate) children: Known,
}

/// One element of the contract's `data.categories`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CategoryFacts {
    pub(crate) id: String,
    /// Stepped.
    pub(crate) count: Option<u64>,
    pub(crate) confidence: Confidence,
    pub(crate) redactable: bool,
}

/// The upstreams that are asked about. Equal where every id and every fact is equal; hashed
/// once, when a route is first asked about.
#[derive(Debug)]
pub struct Candidates {
    pub(crate) upstreams: Arc<[Arc<Upstream>]>,
    hash: u64,
}

/// The contract's `context` section: one per activated bundle.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ContextFacts {
    pub(crate) environment: String,
    pub(crate) profile: String,
    pub(crate) packs: Vec<String>,
    pub(crate) gateway_region: Option<Country>,
}

/// What a call brings to the policy.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub caller: &'a Caller,
    pub findings: &'a Findings,
    /// The route's name, which is the alias that was asked for.
    pub model: &'a str,
    pub stream: bool,
    /// Tokens of the prompt, as far as they can be known before it is sent.
    pub tokens_estimate: u64,
    /// The purpose that a client chose; counts only where it is one of the key's.
    pub purpose: Option<&'a str>,
    /// The route's upstreams: the same shared list for each of its calls.
    pub upstreams: &'a Arc<[Arc<Upstream>]>,
}

// === impl Facts ===

impl PartialEq for Facts {
    fn eq(&self, other: &Self) -> bool {
        self.as_of == other.as_of
            && self.request == other.request
            && self.data == other.data
            && self.caller_id == other.caller_id
            && self.caller == other.caller
            && self.candidates == other.candidates
            && self.context == other.context
    }
}

impl Eq for Facts {}

impl Hash for Facts {
    /// Leaves out the context: a memo belongs to one bundle and so to one context.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_of.hash(state);
        self.request.hash(state);
        self.caller.hash(state);
        self.caller_id.hash(state);
        self.data.hash(state);
        self.candidates.hash(state);
    }
}

impl Facts {
    /// The quarter hour they rest on.
    pub fn as_of(&self) -> Quarter {
        self.as_of
    }

    /// The upstreams they ask about, in the route's order.
    pub fn upstreams(&self) -> &Arc<[Arc<Upstream>]> {
        &self.candidates.upstreams
    }

    /// The same facts a quarter hour earlier, for the moments in which a remembered decision may
    /// still serve.
    pub(crate) fn quarter_before(&self) -> Option<Self> {
        let young = self.asked_at < self.as_of.start() + GRACE;
        young.then(|| Self { as_of: self.as_of.before(), ..self.clone() })
    }

    /// About how many bytes they take in memory, for the memo's limit.
    pub(crate) fn bytes(&self) -> usize {
        let labels = self.data.labels.len() + self.data.categories.len();
        size_of::<Self>() + 128 * labels + 512
    }
}

// === impl RequestFacts ===

impl RequestFacts {
    /// The key's own part, the route, and what the call shows.
    pub(crate) fn of(asked: &Asked<'_>, steps: &Steps) -> Self {
        let own = asked.caller.request();
        Self {
            model: asked.model.into(),
            stream: asked.stream,
            tokens_estimate: steps.step("request.tokens_est", Some(asked.tokens_estimate)),
            purpose: purpose(&own.purposes, asked.purpose),
            ai_act: own.ai_act.clone(),
            end_use: own.end_use.clone(),
            tenant: asked.caller.tenant().clone(),
            app: own.app.clone(),
            critical_function: own.critical_function,
            affects_person: own.affects_person,
        }
    }
}

/// The key's default purpose, or the one of its others that a client chose. Any other text of a
/// client is unknown, and never a fact.
fn purpose(own: &[String], chosen: Option<&str>) -> Option<String> {
    match chosen {
        None => own.first().cloned(),
        Some(chosen) => own.iter().find(|purpose| *purpose == chosen).cloned(),
    }
}

// === impl DataFacts ===

impl DataFacts {
    /// What was found; where no region is known, `default_regions` stand for the subjects'.
    pub(crate) fn of(findings: &Findings, steps: &Steps, default_regions: &[Country]) -> Self {
        let regions = match findings.subject_regions.as_slice() {
            [] => default_regions,
            found => found,
        };
        Self {
            status: findings.status,
            unscannable: steps.step("data.scan.unscannable", Some(u64::from(findings.unscannable))),
            labels: sorted(&findings.labels),
            class: findings.class.clone(),
            tlp: findings.tlp.clone(),
            categories: findings
                .categories
                .iter()
                .map(|(id, found)| CategoryFacts {
                    id: id.clone(),
                    count: steps.step("data.categories.n", Some(found.count)),
                    confidence: found.confidence,
                    redactable: found.redactable,
                })
                .collect(),
            subject_regions: sorted(regions),
            subjects_estimate: steps.step("data.subjects.count_est", findings.subjects_estimate),
            children: findings.children,
        }
    }
}

/// A set has one order, so that equal sets are equal facts.
fn sorted<T: Ord + Clone>(items: &[T]) -> Vec<T> {
    let mut items = items.to_vec();
    items.sort_unstable();
    items.dedup();
    items
}

// === impl Candidates ===

impl Candidates {
    pub(crate) fn new(upstreams: Arc<[Arc<Upstream>]>) -> Self {
        // Fixed keys: the hash only has to agree within this process.
        let mut hasher = DefaultHasher::new();
        for upstream in &*upstreams {
            upstream.id().hash(&mut hasher);
            upstream.facts().hash(&mut hasher);
        }
        Self { upstreams, hash: hasher.finish() }
    }
}

impl PartialEq for Candidates {
    fn eq(&self, other: &Self) -> bool {
        let same = |(mine, theirs): (&Arc<Upstream>, &Arc<Upstream>)| {
            mine.id() == theirs.id() && mine.facts() == theirs.facts()
        };
        Arc::ptr_eq(&self.upstreams, &other.upstreams)
            || self.hash == other.hash
                && self.upstreams.len() == other.upstreams.len()
                && self.upstreams.iter().zip(&*other.upstreams).all(same)
    }
}

impl Eq for Candidates {}

impl Hash for Candidates {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}

#[cfg(test)]
mod tests;
