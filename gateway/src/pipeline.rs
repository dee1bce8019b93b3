//! The order of things: one call from first byte to last, on one screen.
//!
//! Knows the order of the stages; not their inside, and not pingora.
//!
//! Cost of a call without its upstream: one parse and one scan of the body (about a microsecond
//! per 100 bytes), a look-up of the remembered decision, and the waits for the ledger.

pub mod answer;
pub mod attempts;
pub mod refusal;
pub mod reply;
pub mod stream;
pub mod upstream_error;

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use http::request::Parts;

pub use crate::pipeline::{
    refusal::Refusal,
    reply::{BodyFault, Reply, ReplyBody, ReplyHead, ReplyStream, TurnedAway},
};
use crate::{
    catalog::Route,
    classify::{Findings, declared::Declared},
    gateway::Gateway,
    identity::{Caller, Role, limits::Running},
    policy::{Denial, HostCode, Permit, facts::Asked},
    record::{CallId, Entry, recorder::RefusedReason},
    wire::{Call, Format, openai_chat},
};

/// Bodies above this are parsed and scanned off the async threads: half a millisecond's work.
const INLINE_BODY_BYTES_MAX: usize = 32 * 1024;

/// The stages of a call over the gateway's parts.
#[derive(Debug)]
pub struct Pipeline {
    pub(crate) parts: Arc<Gateway>,
}

/// A proven call whose body is unread. Dropping it records `cancelled`.
#[derive(Debug)]
pub struct Admitted {
    entry: Entry,
    caller: Arc<Caller>,
    /// What the head alone allows, or why the call is refused once its body has been read.
    checked: Result<Checked, Refusal>,
}

/// The key's place among its running calls, and what the client declares.
#[derive(Debug)]
struct Checked {
    running: Running,
    declared: Declared,
}

/// What inspection made of the body.
struct Inspected {
    call: Arc<Call>,
    findings: Arc<Findings>,
}

impl Pipeline {
    /// The stages over these parts.
    pub fn new(parts: Arc<Gateway>) -> Self {
        Self { parts }
    }

    /// Proves the caller from the head and opens the record; the body is unread.
    #[expect(clippy::result_large_err, reason = "the error is the answer, made once per refusal")]
    pub fn admit(&self, head: &Parts, _format: Format, call_id: CallId) -> Result<Admitted, Reply> {
        let caller = self.prove(head, call_id)?;
        let entry = match self.parts.recorder.open(&caller, call_id) {
            Ok(entry) => entry,
            Err(fault) => {
                tracing::error!(call.id = %call_id, "no call can be recorded: {fault}");
                return Err(reply::unrecorded(&Refusal::AuditUnavailable, call_id));
            }
        };
        let checked = self.check(head, &caller);
        Ok(Admitted { entry, caller, checked })
    }

    fn check(&self, head: &Parts, caller: &Arc<Caller>) -> Result<Checked, Refusal> {
        let running = caller.run().ok_or(Refusal::KeyBusy)?;
        let declared = Declared::read(&head.headers)
            .map_err(|fault| Refusal::Declaration(fault.to_string()))?;
        Ok(Checked { running, declared })
    }

    #[expect(clippy::result_large_err, reason = "the error is the answer, made once per refusal")]
    fn prove(&self, head: &Parts, call_id: CallId) -> Result<Arc<Caller>, Reply> {
        let authorization = head.headers.get(http::header::AUTHORIZATION);
        let proven = self.parts.keys.identify(authorization.and_then(|value| value.to_str().ok()));
        let refusal = match proven {
            Ok(caller) if caller.has(Role::Caller) => return Ok(caller),
            Ok(_other) => Refusal::NotACaller,
            Err(fault) => Refusal::Unproven(fault),
        };
        self.parts.recorder.refused(RefusedReason::Unproven);
        Err(reply::unrecorded(&refusal, call_id))
    }

    /// Answers an admitted call whose body has been read.
    pub async fn answer(&self, admitted: Admitted, body: Bytes) -> Reply {
        let Admitted { mut entry, caller, checked } = admitted;
        entry.received(body.len());
        let Checked { running, declared } = match checked {
            Ok(checked) => checked,
            Err(refusal) => return reply::refused(entry, &refusal).await,
        };
        match self.judge_and_attempt(&mut entry, &caller, &declared, body).await {
            Ok(answer) => answer.into_reply(entry, running).await,
            Err(Refusal::Denied(_)) if !caller.may_be_refused(Instant::now()) => {
                reply::refused(entry, &Refusal::KeyRefusedOften).await
            }
            Err(refusal) => reply::refused(entry, &refusal).await,
        }
    }

    /// The stages between the body and the first token, in their order.
    async fn judge_and_attempt(
        &self,
        entry: &mut Entry,
        caller: &Arc<Caller>,
        declared: &Declared,
        body: Bytes,
    ) -> Result<answer::Answer, Refusal> {
        let Inspected { call, findings } = self.inspect(caller, declared, body).await?;
        entry.found(&findings);
        let route = self.route(entry, &call)?;
        let judged = Judged { caller, call: &call, findings: &findings, declared, route };
        let permit = self.decide(entry, &judged).await?;
        self.attempt_in_turn(entry, &judged, permit, Instant::now()).await
    }

    /// Reads the call and finds which kinds of data it holds.
    async fn inspect(
        &self,
        caller: &Arc<Caller>,
        declared: &Declared,
        body: Bytes,
    ) -> Result<Inspected, Refusal> {
        let (classifier, regions) =
            (Arc::clone(&self.parts.classifier), Arc::clone(&self.parts.regions));
        let (caller, declared) = (Arc::clone(caller), declared.clone());
        let large = body.len() > INLINE_BODY_BYTES_MAX;
        let work = move || {
            let call = openai_chat::parse(body).map_err(Refusal::Malformed)?;
            let findings = classifier.inspect(&call, &declared, caller.data(), &regions);
            Ok(Inspected { call: Arc::new(call), findings: Arc::new(findings) })
        };
        if !large {
            return work();
        }
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|fault| {
            tracing::error!("inspecting a body failed: {fault}");
            Err(Refusal::Denied(Denial::host(HostCode::EngineError)))
        })
    }

    fn route(&self, entry: &mut Entry, call: &Call) -> Result<&Arc<Route>, Refusal> {
        let route = self.parts.catalog.route(call.model());
        entry.asked(call, route.map(|route| route.name()));
        let Some(route) = route else {
            let known = self.parts.catalog.routes().map(|route| route.name().to_owned()).collect();
            return Err(Refusal::UnknownModel { asked: call.model().to_owned(), known });
        };
        if let Some(first) = route.upstreams.first() {
            entry.prefers(first.id().as_str());
        }
        Ok(route)
    }

    /// Asks policy about every candidate of the route at once.
    async fn decide(&self, entry: &mut Entry, judged: &Judged<'_>) -> Result<Permit, Refusal> {
        let purpose = purpose(judged);
        entry.for_purpose(purpose);
        let asked = Asked {
            caller: judged.caller,
            findings: judged.findings,
            model: judged.route.name(),
            stream: judged.call.stream(),
            tokens_estimate: judged.call.tokens_estimate(),
            purpose,
            upstreams: judged.route.upstreams(),
        };
        let facts = self.parts.policy.facts(&asked, std::time::SystemTime::now());
        match self.parts.policy.decide(facts).await {
            Ok(permit) => {
                entry.permitted(&permit);
                Ok(permit)
            }
            Err(denial) => Err(deny(entry, denial)),
        }
    }

    /// Ends an admitted call whose body could not be read.
    pub async fn refuse(&self, admitted: Admitted, fault: BodyFault) -> Reply {
        reply::refused(admitted.entry, &fault.refusal()).await
    }

    /// `GET /v1/models` for a proven caller: the routes, as models.
    pub fn models(&self, head: &Parts, call_id: CallId) -> Reply {
        match self.prove(head, call_id) {
            Ok(_caller) => {
                let names = self.parts.catalog.routes().map(|route| route.name());
                let body = openai_chat::models(names, self.parts.started_s);
                Reply::whole(ReplyHead::new(200, call_id), body.into())
            }
            Err(reply) => reply,
        }
    }

    /// The drain's deadline has passed: calls that are dropped from now on were cut by us.
    pub fn interrupting(&self) {
        self.parts.recorder.interrupting();
    }

    /// What is refused before there is a call.
    pub fn turn_away(&self, why: &TurnedAway, call_id: CallId) -> Reply {
        self.parts.recorder.refused(why.reason());
        reply::unrecorded(&why.refusal(), call_id)
    }
}

/// Everything that was made of one call before it is attempted.
pub(crate) struct Judged<'a> {
    pub(crate) caller: &'a Arc<Caller>,
    pub(crate) call: &'a Arc<Call>,
    pub(crate) findings: &'a Arc<Findings>,
    pub(crate) declared: &'a Declared,
    pub(crate) route: &'a Arc<Route>,
}

/// The purpose of a call: the client's where it is one of the key's, else the key's first.
fn purpose<'a>(judged: &Judged<'a>) -> Option<&'a str> {
    let allowed = &judged.caller.request().purposes;
    let chosen = judged.declared.purpose();
    let known = chosen.and_then(|chosen| allowed.iter().find(|each| *each == chosen));
    match (chosen, known) {
        (Some(_), known) => known.map(String::as_str),
        (None, _) => allowed.first().map(String::as_str),
    }
}

/// Records a denial and makes it the client's.
pub(crate) fn deny(entry: &mut Entry, denial: Denial) -> Refusal {
    entry.denied(&denial);
    Refusal::Denied(denial)
}
