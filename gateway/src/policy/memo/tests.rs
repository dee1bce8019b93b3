//! The memo, with judges that count.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use tokio::sync::Semaphore;

use super::*;
use crate::policy::{
    Decided, Duties, Effect, HostCode,
    decision::Retention,
    facts::GRACE,
    judge::{Ruling, Verdict},
    sample,
};

/// A judge that waits to be let, and counts how often it was asked.
struct Slow {
    asked: AtomicUsize,
    let_go: Semaphore,
    fails: AtomicBool,
}

#[async_trait]
impl Judge for Slow {
    async fn judge(&self, facts: &Facts) -> Result<Arc<Ruling>, Refusal> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.let_go.acquire().await.expect("never closed").forget();
        if self.fails.load(Ordering::SeqCst) {
            return Err(Refusal::host(HostCode::EngineError));
        }
        Ok(ruling(facts))
    }
}

fn ruling(facts: &Facts) -> Arc<Ruling> {
    let decided = Decided {
        digest: facts.as_of().to_string(),
        revision: "test".to_owned(),
        event: Vec::new().into(),
        effect: Effect::Allow,
        warnings: Vec::new(),
        refused_by: Vec::new(),
        request_rules: Vec::new(),
        excluded: Vec::new(),
        missing: Vec::new(),
        notify: Vec::new(),
        retention: Retention::default(),
    };
    let verdict = Verdict::Permitted { targets: Vec::new(), duties: Arc::new(Duties::none()) };
    Arc::new(Ruling { as_of: facts.as_of(), decided: Arc::new(decided), verdict })
}

struct Bench {
    memo: Memo,
    judge: Arc<Slow>,
}

fn bench(bounds: Bounds) -> Bench {
    let (asked, fails) = (AtomicUsize::new(0), AtomicBool::new(false));
    let judge = Arc::new(Slow { asked, let_go: Semaphore::new(0), fails });
    Bench { memo: Memo::new(judge.clone(), Arc::new(Unobserved), bounds), judge }
}

const ROOMY: Bounds = Bounds { entries_max: 100, bytes_max: 1 << 20, flights_max: 100 };

impl Bench {
    fn asked(&self) -> usize {
        self.judge.asked.load(Ordering::SeqCst)
    }

    /// Asks with an evaluation let go beforehand.
    async fn ask(&self, facts: Facts) -> Outcome {
        let before = self.asked();
        self.judge.let_go.add_permits(1);
        let outcome = self.memo.ruling(Arc::new(facts)).await;
        if self.asked() == before {
            self.judge.let_go.acquire().await.expect("never closed").forget();
        }
        outcome
    }
}

fn facts(purpose: &str) -> Facts {
    sample::facts_for(purpose)
}

#[tokio::test]
async fn calls_with_equal_facts_wait_for_one_evaluation() {
    let bench = bench(ROOMY);
    let calls = (0..8).map(|_| bench.memo.ruling(Arc::new(facts("a"))));
    let all = futures::future::join_all(calls);
    let release = async { bench.judge.let_go.add_permits(1) };
    let (outcomes, ()) = tokio::join!(all, release);
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(bench.asked(), 1);
}

#[tokio::test]
async fn an_evaluation_outlives_the_call_that_asked_first() {
    let bench = bench(ROOMY);
    {
        let mut first = Box::pin(bench.memo.ruling(Arc::new(facts("a"))));
        assert!(futures::poll!(&mut first).is_pending());
        // The client leaves.
    }
    let second = bench.memo.ruling(Arc::new(facts("a")));
    bench.judge.let_go.add_permits(1);
    assert!(second.await.is_ok());
    assert_eq!(bench.asked(), 1);
}

#[tokio::test]
async fn an_error_is_not_remembered() {
    let bench = bench(ROOMY);
    bench.judge.fails.store(true, Ordering::SeqCst);
    assert!(bench.ask(facts("a")).await.is_err());
    bench.judge.fails.store(false, Ordering::SeqCst);
    assert!(bench.ask(facts("a")).await.is_ok());
    assert_eq!(bench.asked(), 2);
    assert!(bench.memo.inner.table().flights.is_empty());
}

/// The same question at another moment.
fn at(facts: &Facts, time: std::time::SystemTime) -> Facts {
    let as_of = crate::policy::quarter::Quarter::of(time);
    Facts { as_of, asked_at: time, ..facts.clone() }
}

#[tokio::test]
async fn an_entry_serves_ten_seconds_into_the_next_quarter_and_is_renewed() {
    let bench = bench(ROOMY);
    let old = facts("a");
    let before = bench.ask(old.clone()).await.expect("a ruling").as_of;
    let next = old.as_of().end();
    let early = at(&old, next + GRACE / 2);
    let served = bench.memo.ruling(Arc::new(early.clone())).await.expect("the old ruling");
    assert_eq!(served.as_of, before);
    // The renewal runs in the background; whoever asks later waits for it.
    bench.judge.let_go.add_permits(1);
    let late = bench.memo.ruling(Arc::new(at(&old, next + GRACE))).await.expect("a ruling");
    assert_eq!((late.as_of, bench.asked()), (early.as_of(), 2));
    let renewed = bench.memo.ruling(Arc::new(early)).await.expect("the new ruling");
    assert_eq!((renewed.as_of, bench.asked()), (late.as_of, 2));
}

#[tokio::test]
async fn an_entry_of_the_quarter_before_serves_nobody_later() {
    let bench = bench(ROOMY);
    let old = facts("a");
    bench.ask(old.clone()).await.expect("a ruling");
    let later = at(&old, old.as_of().end() + GRACE);
    assert_eq!(bench.ask(later.clone()).await.expect("a ruling").as_of, later.as_of());
    assert_eq!(bench.asked(), 2);
}

#[tokio::test]
async fn the_memo_is_bounded_in_entries_bytes_and_quarters() {
    let bench = bench(Bounds { entries_max: 3, ..ROOMY });
    for purpose in ["a", "b", "c", "d", "e"] {
        bench.ask(facts(purpose)).await.expect("a ruling");
    }
    assert_eq!(bench.memo.inner.table().rulings.len(), 3);
    bench.ask(facts("e")).await.expect("remembered");
    assert_eq!(bench.asked(), 5);
    bench.ask(facts("a")).await.expect("forgotten and made again");
    assert_eq!(bench.asked(), 6);
    let later = at(&facts("a"), facts("a").as_of().end() + Duration::from_secs(3600));
    bench.ask(later).await.expect("a ruling");
    assert_eq!(bench.memo.inner.table().rulings.len(), 1);
    assert_eq!(bench.memo.inner.table().order.len(), 1);
}

#[tokio::test]
async fn what_is_larger_than_the_memo_is_not_kept() {
    let bench = bench(Bounds { bytes_max: 10, ..ROOMY });
    bench.ask(facts("a")).await.expect("a ruling");
    let table = bench.memo.inner.table();
    assert_eq!((table.rulings.len(), table.bytes), (0, 0));
}

#[tokio::test]
async fn too_many_evaluations_at_once_are_refused() {
    let bench = bench(Bounds { flights_max: 1, ..ROOMY });
    let mut first = Box::pin(bench.memo.ruling(Arc::new(facts("a"))));
    assert!(futures::poll!(&mut first).is_pending());
    let refused = bench.memo.ruling(Arc::new(facts("b"))).await.expect_err("refused");
    assert_eq!(refused.code, HostCode::EngineTimeout);
    bench.judge.let_go.add_permits(1);
    assert!(first.await.is_ok());
}
