//! The policy, from permit to denial.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::*;
use crate::policy::{memo::Observer, sample};

/// A ledger of decisions that can be told to fail.
#[derive(Default)]
struct Sink {
    events: Mutex<Vec<serde_json::Value>>,
    broken: AtomicBool,
}

#[async_trait]
impl DecisionSink for Sink {
    async fn record(&self, _tenant: &TenantId, decided: &Decided) -> Result<(), SinkError> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(SinkError("the disk is full".to_owned()));
        }
        let event = serde_json::from_slice(decided.event()).expect("JSON");
        self.events.lock().expect("no panic").push(event);
        Ok(())
    }
}

#[derive(Default)]
struct Counts {
    hits: AtomicUsize,
    misses: AtomicUsize,
    evaluations: AtomicUsize,
}

impl Observer for Counts {
    fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }
    fn missed(&self) {
        self.misses.fetch_add(1, Ordering::Relaxed);
    }
    fn evaluated(&self, _took: Duration) {
        self.evaluations.fetch_add(1, Ordering::Relaxed);
    }
}

struct World {
    policy: Policy,
    sink: Arc<Sink>,
    counts: Arc<Counts>,
}

async fn world() -> World {
    let (sink, counts) = (Arc::new(Sink::default()), Arc::new(Counts::default()));
    let observer: Arc<dyn Observer> = counts.clone();
    let region = Some(sample::country(b"DE"));
    let started = Policy::start(&sample::settings(), region, sink.clone(), observer).await;
    World { policy: started.expect("a bundle that activates"), sink, counts }
}

#[tokio::test]
async fn a_permit_names_the_upstreams_that_were_judged_and_why() {
    let world = world().await;
    let facts = sample::facts_for("known_obligations");
    let permit = world.policy.decide(facts.clone()).await.expect("a permit");
    let [target] = permit.targets() else { panic!("one target") };
    assert!(Arc::ptr_eq(target.upstream(), &facts.upstreams()[0]));
    assert_eq!((target.rank(), target.basis()[0].title.as_str()), (1, "Everything may go"));
    let duties = permit.duties();
    assert_eq!(duties.redact, [("pii.direct".to_owned(), crate::classify::Redaction::Tokenize)]);
    assert!(duties.rescan && duties.label_ai);
    assert_eq!((duties.max_tokens, permit.decided.retention.decision), (Some(100), Some(185)));
    assert_eq!(duties.log_body, LogBody::None);
    assert_eq!(duties.notify, [("dpo".to_owned(), "low".to_owned())]);
}

#[tokio::test]
async fn equal_facts_are_judged_and_recorded_once() {
    let world = world().await;
    for _ in 0..3 {
        world.policy.decide(sample::facts_for("fine")).await.expect("a permit");
    }
    let events = world.sink.events.lock().expect("no panic");
    let [event] = events.as_slice() else { panic!("one event, not {}", events.len()) };
    assert_eq!(event["effect"], "allow");
    assert_eq!(event["facts"]["digest"], event["digest"]);
    assert_eq!(event["decision"]["echo"]["digest"], event["digest"]);
    assert_eq!(event["policy_set_version"], "test");
    let counts = &world.counts;
    assert_eq!(counts.hits.load(Ordering::Relaxed), 2);
    assert_eq!(counts.misses.load(Ordering::Relaxed), 1);
    assert_eq!(counts.evaluations.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_decision_that_cannot_be_recorded_is_not_used() {
    let world = world().await;
    world.sink.broken.store(true, Ordering::Relaxed);
    let denial = world.policy.decide(sample::facts_for("fine")).await.expect_err("refused");
    assert_eq!(
        (denial.code.as_str(), denial.host),
        ("AUDIT_UNAVAILABLE", Some(HostCode::AuditUnavailable))
    );
    world.sink.broken.store(false, Ordering::Relaxed);
    world.policy.decide(sample::facts_for("fine")).await.expect("a permit");
    assert_eq!(world.counts.evaluations.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_denial_tells_the_rule_what_was_missing_and_what_helps() {
    let world = world().await;
    let denial = world.policy.decide(sample::facts_for("denied")).await.expect_err("refused");
    assert_eq!((denial.code.as_str(), denial.effect, denial.host), ("TEST-03", Effect::Deny, None));
    let ids: Vec<&str> = denial.rules.iter().map(|rule| rule.id.as_str()).collect();
    assert_eq!(ids, ["TEST-03", "TEST-02"]);
    assert_eq!(denial.missing, ["caller.mood", "a.fact"]);
    assert_eq!(denial.notify, [("security".to_owned(), "high".to_owned())]);
    assert!(denial.message().starts_with("policy refuses this call: TEST-03. Ask "));
}

#[tokio::test]
async fn a_denial_keeps_its_record_as_long_as_policy_says() {
    let world = world().await;
    let denial = world.policy.decide(sample::facts_for("denied")).await.expect_err("refused");
    assert_eq!(denial.decided.as_ref().expect("a decision").retention.decision, Some(1827));
    let refusing: Vec<&str> = denial.refusing().iter().map(|rule| rule.id.as_str()).collect();
    assert_eq!(refusing, ["TEST-03"]);
}

#[tokio::test]
async fn a_wanted_approval_is_told_by_its_own_rule_and_never_by_that_of_a_target() {
    let world = world().await;
    for (mood, code) in [("approval_ruled", "TEST-03"), ("approval", "APPROVAL-export")] {
        let denial = world.policy.decide(sample::facts_for(mood)).await.expect_err("refused");
        assert_eq!((denial.code.as_str(), denial.effect), (code, Effect::NeedsApproval));
        let told = format!("policy wants an approval of this call: {code}. Ask ");
        assert!(denial.message().starts_with(&told), "{}", denial.message());
    }
}

#[tokio::test]
async fn what_the_host_refuses_is_asked_again_and_keeps_the_decision() {
    let world = world().await;
    for (round, mood) in ["vote", "encrypted_log", "vote"].into_iter().enumerate() {
        let denial = world.policy.decide(sample::facts_for(mood)).await.expect_err("refused");
        assert_eq!(denial.effect, Effect::Deny);
        assert_eq!(denial.decided.expect("what policy said").effect(), Effect::Allow);
        assert_eq!(world.counts.evaluations.load(Ordering::Relaxed), round + 1);
    }
    let denial = world.policy.decide(sample::facts_for("undefined")).await.expect_err("refused");
    assert_eq!(denial.code, "UNDEFINED");
    assert!(denial.decided.is_none());
    assert!(denial.message().contains("nothing was sent"));
}

#[tokio::test]
async fn a_permit_serves_its_quarter_and_ten_seconds_after_it_was_made() {
    let world = world().await;
    let mut facts = sample::facts_for("fine");
    facts.asked_at = facts.as_of.end() - Duration::from_secs(2);
    let permit = world.policy.decide(facts.clone()).await.expect("a permit");
    let serves = |seconds| permit.serves(facts.asked_at + Duration::from_secs(seconds));
    assert!(serves(1) && serves(3) && serves(10));
    assert!(!serves(11));
    assert!(!permit.serves(facts.as_of.start() - Duration::from_secs(1)));
}

#[tokio::test]
async fn what_the_configuration_asks_for_must_be_in_the_bundle() {
    for (profile, pack, said) in [
        ("default", "hipaa", "has no pack `hipaa`; it holds org"),
        ("health", "org", "has no profile `health`; it holds default"),
    ] {
        let settings = Settings {
            profile: profile.to_owned(),
            packs: vec![pack.to_owned()],
            ..sample::settings()
        };
        let sink = Arc::new(Sink::default());
        let started = Policy::start(&settings, None, sink, Arc::new(Counts::default())).await;
        let refused = started.expect_err("refused").to_string();
        assert!(refused.contains(said), "{refused}");
    }
}

#[tokio::test]
async fn a_remote_without_zero_retention_is_no_target_where_that_is_a_duty() {
    let world = world().await;
    let mut facts = sample::facts_for("zdr");
    let mut keeps = sample::candidate();
    keeps.zdr = crate::identity::attributes::Known::Unknown;
    let both = vec![
        sample::upstream("keeps", keeps.clone()),
        sample::upstream("forgets", sample::candidate()),
    ];
    facts.candidates = sample::candidates(both);
    let permit = world.policy.decide(facts.clone()).await.expect("a permit");
    let ids: Vec<&str> =
        permit.targets().iter().map(|target| target.upstream().id().as_str()).collect();
    assert_eq!(ids, ["forgets/model"]);
    let mut ours = keeps.clone();
    ours.kind = crate::catalog::facts::CandidateKind::OnPremises;
    facts.candidates = sample::candidates(vec![sample::upstream("ours", ours)]);
    let permit = world.policy.decide(facts.clone()).await.expect("what we keep is ours to keep");
    assert_eq!(permit.targets().len(), 1);
    facts.candidates = sample::candidates(vec![sample::upstream("keeps", keeps)]);
    let denial = world.policy.decide(facts).await.expect_err("refused");
    assert_eq!(denial.code, "NO_ELIGIBLE_UPSTREAM");
}
