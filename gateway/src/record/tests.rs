//! What stands in the ledger of a call, however it ends, and how long anybody waits for it.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use cordon_ledger::{AppendError, Kind, disk::simulated::Trouble};
use serde_json::{Value, json};

use crate::{
    identity::TenantId,
    policy::{
        DecisionSink, Duties, Outbound, Permitted, Rule,
        sample::{candidate, permit_one, upstream},
    },
    record::{
        AttemptEnd, Entry, Mode, Outcome, RecordError, body::Body, recorder::RefusedReason,
        sample::World,
    },
    store::{Change, ChangeKind},
};

fn target() -> Permitted {
    let rule = Rule {
        id: "GDPR-45".to_owned(),
        title: "Adequacy".to_owned(),
        citation: "Art. 45".to_owned(),
        advice: String::new(),
    };
    let mechanism = Some("adequacy".to_owned());
    let upstream = upstream("there", candidate());
    Permitted { upstream, rank: 1, basis: Arc::from([rule]), mechanism }
}

fn outbound() -> Outbound {
    Outbound::sample(Bytes::from_static(b"{}"))
}

fn ended() -> AttemptEnd {
    AttemptEnd {
        error_type: None,
        side: None,
        http_status: Some(200),
        request_bytes: 2,
        response_bytes: 2,
    }
}

/// Whether a future is done when it is looked at once.
fn is_done<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

fn closed(entry: Entry) -> impl Future<Output = Result<(), RecordError>> {
    entry.close(Outcome::Ok, 200, None)
}

#[tokio::test]
async fn required_releases_the_answer_once_the_outcome_is_written() {
    let (world, keeper) = World::held(Mode::Required);
    closed(world.entry()).await.unwrap();

    keeper.holds();
    assert!(world.events().is_empty(), "the disk has not confirmed it");
}

#[tokio::test]
async fn required_full_releases_the_answer_once_the_outcome_is_on_disk() {
    let (world, keeper) = World::held(Mode::RequiredFull);
    let mut closing = pin!(closed(world.entry()));
    assert!(is_done(closing.as_mut()).is_none());

    keeper.holds();
    assert!(is_done(closing.as_mut()).is_none(), "written, and not on disk");
    keeper.go_on.send(()).unwrap();
    closing.await.unwrap();
    assert_eq!(world.of(Kind::Outcome).len(), 1);
}

#[tokio::test]
async fn a_disk_that_hangs_is_not_waited_for_without_end() {
    let (mut world, keeper) = World::held(Mode::RequiredFull);
    world.recorder = world.recorder.waiting_at_most(std::time::Duration::from_millis(20));
    let late = |result: Result<(), RecordError>| {
        assert!(matches!(result, Err(RecordError::Ledger(AppendError::TimedOut))), "{result:?}");
    };
    let mut entry = world.entry();

    late(entry.clear(&target(), outbound(), false).await.map(drop));
    late(closed(entry).await);
    late(world.recorder.stop("asked").await);
    drop(keeper);
}

#[tokio::test]
async fn an_entry_that_is_dropped_says_who_ended_it() {
    let world = World::new();
    drop(world.entry());
    let mut cut = world.entry();
    cut.interrupt();
    drop(cut);
    let ours = world.entry();
    let panicked = std::thread::spawn(move || {
        let _ours = ours;
        std::panic::resume_unwind(Box::new("a fault of ours"));
    });
    assert!(panicked.join().is_err());
    let mut running = world.entry();
    drop(running.clear(&target(), outbound(), false).await.unwrap());
    world.recorder.interrupting();
    drop(running);
    world.recorder.stop("asked").await.unwrap();

    let outcomes: Vec<_> =
        world.of(Kind::Outcome).into_iter().map(|event| event.body["outcome"].clone()).collect();
    assert_eq!(outcomes, ["cancelled", "interrupted", "error", "interrupted"]);
    let attempts = world.of(Kind::Attempt);
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0].body["side"], "gateway");
}

#[tokio::test]
async fn a_fresh_decision_is_written_once_and_belongs_to_its_tenant() {
    let world = World::new();
    let permit = permit_one(Duties::none());
    world.recorder.record(&TenantId::new("demo"), permit.decided()).await.unwrap();
    let mut entry = world.entry();
    entry.permitted(&permit);
    drop(entry.clear(&target(), outbound(), false).await.unwrap());
    entry.attempt_ended(ended());
    closed(entry).await.unwrap();
    world.recorder.stop("asked").await.unwrap();

    let kinds: Vec<_> = world.events().iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [Kind::Decision, Kind::Intent, Kind::Attempt, Kind::Outcome, Kind::Stop]);
    assert_eq!(world.events()[0].tenant.as_deref(), Some("demo"));
}

#[tokio::test]
async fn a_call_that_died_tells_what_its_intent_told() {
    let world = World::new();
    let mut entry = world.entry();
    entry.permitted(&permit_one(Duties::none()));
    // The first attempt ended; the second was under way.
    drop(entry.clear(&target(), outbound(), false).await.unwrap());
    entry.attempt_ended(ended());
    drop(entry.clear(&target(), outbound(), false).await.unwrap());
    let intent = world.of(Kind::Intent).remove(1).body;
    std::mem::forget(entry);

    let world = World::on(world.disk.after_kill(), Mode::Required);
    let closed = world.recorder.start(Body::new(), &world.recovered).await.unwrap();

    assert_eq!(closed, 1);
    let attempts = world.of(Kind::Attempt);
    assert_eq!(attempts.len(), 2);
    assert_eq!(attempts[1].body["error_type"], "process_died");
    assert_eq!(attempts[1].body["policy_ids"], json!(["GDPR-45"]));
    let outcome = world.of(Kind::Outcome).remove(0);
    assert_eq!(outcome.tenant.as_deref(), Some("demo"));
    assert_eq!(outcome.body["outcome"], "unknown");
    assert_eq!(outcome.body["attempts"], 2);
    assert_eq!(outcome.body["basis_titles"], json!(["Adequacy"]));
    for key in ["key_id", "target_id", "region", "decision_digest", "ultimate_parent_hq"] {
        assert_ne!(intent[key], Value::Null, "{key}");
        assert_eq!(outcome.body[key], intent[key], "{key}");
    }
}

#[tokio::test]
async fn a_call_that_died_between_two_attempts_tells_it_too() {
    let world = World::new();
    let mut entry = world.entry();
    drop(entry.clear(&target(), outbound(), false).await.unwrap());
    entry.attempt_ended(ended());
    world.recorder.changed(&change()).unwrap();
    world.recorder.stop("asked").await.unwrap();
    std::mem::forget(entry);

    let world = World::on(world.disk.after_kill(), Mode::Required);
    world.recorder.start(Body::new(), &world.recovered).await.unwrap();

    assert_eq!(world.of(Kind::Attempt).len(), 1);
    let outcome = world.of(Kind::Outcome).remove(0);
    assert_eq!(outcome.body["outcome"], "unknown");
    assert_eq!(outcome.body["target_id"], "there/model");
}

fn change() -> Change {
    Change {
        id: 1,
        at: "2026-11-22T19:50:00Z".to_owned(),
        kind: ChangeKind::KeyCreated,
        subject: "key_1".to_owned(),
        tenant: "research".to_owned(),
        by: "root".to_owned(),
        detail: Value::Null,
    }
}

#[tokio::test]
async fn a_change_is_an_event_of_its_tenant() {
    let world = World::new();
    world.recorder.changed(&change()).unwrap();
    world.recorder.stop("asked").await.unwrap();

    let event = world.of(Kind::Change).remove(0);
    assert_eq!(event.tenant.as_deref(), Some("research"));
    assert_eq!(event.body["subject"], "key_1");
}

#[tokio::test]
async fn a_full_ledger_still_stops_in_order() {
    let world = World::full();
    assert!(world.recorder.status().full);
    world.recorder.refused(RefusedReason::UnknownPath);

    let refused = world.recorder.summarise_refused();
    assert!(matches!(refused, Err(RecordError::Ledger(AppendError::LimitReached))));
    // What was not told stays to be told.
    assert!(world.recorder.summarise_refused().is_err());
    world.recorder.stop("asked").await.unwrap();
    assert_eq!(world.events().last().unwrap().kind, Kind::Stop);
    assert!(!world.disk.bytes(&heads(&world)).unwrap().is_empty(), "a last head");
}

fn heads(world: &World) -> std::path::PathBuf {
    let stream = world.recorder.status().stream;
    std::path::Path::new("/data/heads").join(format!("{stream}.heads"))
}

#[tokio::test]
async fn a_ledger_that_failed_lets_its_stream_go_all_the_same() {
    let world = World::new();
    world.disk.plan(Trouble::SyncFails { at: 0 });
    let mut entry = world.entry();
    assert!(entry.clear(&target(), outbound(), false).await.is_err());

    let stopped = world.recorder.stop("asked").await;

    assert!(matches!(stopped, Err(RecordError::Ledger(AppendError::Poisoned))), "{stopped:?}");
    // The stream's locks are free.
    World::on(world.disk.clone(), Mode::Required);
}
