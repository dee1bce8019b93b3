//! Receipts: what an appender waits for.
//!
//! A receipt becomes `written` when the event is in the operating system's hands (it survives a
//! killed process) and `durable` when it is synced (it survives a power loss). Works with any
//! executor, and blocking.

use std::{
    fmt,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use thiserror::Error;
use uuid::Uuid;

use crate::event::Position;

/// How long a blocking wait lasts at most.
const BLOCKING_DEADLINE: Duration = Duration::from_secs(60);

/// Why an event was not recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AppendError {
    #[error("the ledger's queue is full; try again shortly")]
    Full,
    #[error("the ledger failed and takes no more events; see the log, then restart")]
    Poisoned,
    #[error(
        "the ledger has reached `ledger.bytes_max`; raise it, or move the whole stream's folder \
         away together with its file in `heads/`, and restart"
    )]
    LimitReached,
    #[error("the ledger is closed")]
    Closed,
    #[error("the event is larger than the ledger takes")]
    TooLarge,
    #[error("the ledger did not answer in time; the disk may hang")]
    TimedOut,
}

/// What has become of an event.
pub struct Receipt {
    slot: Arc<Slot>,
    stream: Uuid,
}

/// The writer's end of a receipt. Dropped without an answer, it says that the ledger is closed.
pub(super) struct Promise {
    slot: Arc<Slot>,
}

#[derive(Default)]
struct Slot {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    written: Option<Result<u64, AppendError>>,
    durable: Option<Result<u64, AppendError>>,
    waiting: Vec<(Stage, Waker)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Written,
    Durable,
}

// === impl Receipt ===

impl Receipt {
    /// Waits until the event survives the death of this process. Set a deadline around it.
    pub async fn written(&self) -> Result<Position, AppendError> {
        poll_fn(|context| self.look(Stage::Written, context)).await
    }

    /// Waits until the event survives a power loss. Set a deadline around it.
    pub async fn durable(&self) -> Result<Position, AppendError> {
        poll_fn(|context| self.look(Stage::Durable, context)).await
    }

    /// Waits like `durable`, blocking the thread, for a minute at most.
    pub fn wait_durable(&self) -> Result<Position, AppendError> {
        self.wait(Stage::Durable)
    }

    /// Waits like `written`, blocking the thread, for a minute at most.
    pub fn wait_written(&self) -> Result<Position, AppendError> {
        self.wait(Stage::Written)
    }

    fn wait(&self, stage: Stage) -> Result<Position, AppendError> {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let deadline = Instant::now() + BLOCKING_DEADLINE;
        loop {
            if let Poll::Ready(result) = self.look(stage, &Context::from_waker(&waker)) {
                return result;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(AppendError::TimedOut);
            }
            thread::park_timeout(left);
        }
    }

    fn look(&self, stage: Stage, context: &Context<'_>) -> Poll<Result<Position, AppendError>> {
        let mut state = self.slot.lock();
        if let Some(result) = state.at(stage) {
            return Poll::Ready(result.map(|seq| Position { stream: self.stream, seq }));
        }
        let waits = |(at, waker): &(Stage, Waker)| *at == stage && waker.will_wake(context.waker());
        if !state.waiting.iter().any(waits) {
            state.waiting.push((stage, context.waker().clone()));
        }
        Poll::Pending
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.slot.lock();
        let mut shown = formatter.debug_struct("Receipt");
        shown.field("written", &state.written).field("durable", &state.durable).finish()
    }
}

// === impl Promise ===

impl Promise {
    pub(super) fn new(stream: Uuid) -> (Self, Receipt) {
        let slot = Arc::new(Slot::default());
        (Self { slot: Arc::clone(&slot) }, Receipt { slot, stream })
    }

    pub(super) fn written(&self, seq: u64) {
        self.slot.resolve(|state| state.written = Some(Ok(seq)));
    }

    pub(super) fn durable(self, seq: u64) {
        self.slot.resolve(|state| {
            state.written.get_or_insert(Ok(seq));
            state.durable = Some(Ok(seq));
        });
    }

    /// What was written stays written; what is not durable will not be.
    pub(super) fn fail(&self, error: AppendError) {
        self.slot.resolve(|state| {
            state.written.get_or_insert(Err(error));
            state.durable.get_or_insert(Err(error));
        });
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.fail(AppendError::Closed);
    }
}

// === impl Slot ===

impl Slot {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn resolve(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        let (ready, waiting) = std::mem::take(&mut state.waiting)
            .into_iter()
            .partition::<Vec<_>, _>(|(stage, _)| state.at(*stage).is_some());
        state.waiting = waiting;
        drop(state);
        for (_, waker) in ready {
            waker.wake();
        }
    }
}

// === impl State ===

impl State {
    fn at(&self, stage: Stage) -> Option<Result<u64, AppendError>> {
        match stage {
            Stage::Written => self.written,
            Stage::Durable => self.durable,
        }
    }
}

/// Wakes a thread that waits blocking.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
