//! The end of a listener, stage by stage: serve, leave, drain, hurry, cut, abort.
//!
//! Leaving tells load balancers and serves on. Draining closes what is idle and refuses what is
//! new; calls in flight go on. Cutting ends them with an answer or an error event. Aborting drops
//! what is still there.

use std::{io, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    time::timeout,
};

/// How far a listener is on its way to the end. Later stages include the earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Every request is served.
    Serving,
    /// Every request is served, and told that this is no place to come back to.
    Leaving,
    /// Nothing new; calls in flight go on.
    Draining,
    /// Calls in flight have no more time. Whoever waits for their end cuts them, once it is said
    /// that it was us who did.
    Hurried,
    /// Calls in flight are interrupted.
    Cut,
    /// Connections are dropped.
    Aborted,
}

/// The order to stop, shared by everybody who gives it or obeys it.
#[derive(Debug, Clone)]
pub struct Stop {
    stage: watch::Sender<Stage>,
    /// The shape in which the server's accept loop wants to be told.
    closing: watch::Sender<bool>,
    /// Kept as it was made, so that a loop which starts late still learns of the order.
    unseen: watch::Receiver<bool>,
}

/// How a listener ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every call in flight had its answer.
    Clean,
    /// The drain deadline, or a second signal, cut calls short.
    Interrupted,
}

// === impl Stop ===

impl Default for Stop {
    fn default() -> Self {
        let (closing, unseen) = watch::channel(false);
        Self { stage: watch::Sender::new(Stage::Serving), closing, unseen }
    }
}

impl Stop {
    /// Nothing accepted any more, idle connections closed, calls in flight go on.
    pub fn drain(&self) {
        self.advance(Stage::Draining);
    }

    /// Calls in flight are interrupted at once.
    pub fn hurry(&self) {
        self.advance(Stage::Hurried);
    }

    /// Whether the order to stop was given.
    pub fn is_leaving(&self) -> bool {
        *self.stage.borrow() >= Stage::Leaving
    }

    /// Whether nothing new is taken.
    pub fn is_draining(&self) -> bool {
        *self.stage.borrow() >= Stage::Draining
    }

    /// Whether calls in flight are to end now.
    pub fn is_hurried(&self) -> bool {
        *self.stage.borrow() >= Stage::Hurried
    }

    /// Waits until `stage` or a later one is reached.
    pub async fn reached(&self, stage: Stage) {
        // The sender lives in `self`, so the wait cannot end by its loss.
        if self.stage.subscribe().wait_for(|now| *now >= stage).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    pub(crate) fn advance(&self, stage: Stage) {
        self.stage.send_if_modified(|now| {
            let later = stage > *now;
            *now = stage.max(*now);
            later
        });
        if self.is_draining() {
            self.closing.send_replace(true);
        }
    }

    pub(crate) fn closing(&self) -> watch::Receiver<bool> {
        self.unseen.clone()
    }

    /// Leaves at the first SIGINT or SIGTERM and drains after `grace`; each further signal goes one
    /// step on at once. Call it once, on the runtime; it ends with that runtime.
    ///
    /// # Errors
    /// Where the operating system refuses a signal handler.
    pub fn at_signals(&self, grace: Duration) -> io::Result<()> {
        let mut signals = Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        };
        let stop = self.clone();
        tokio::spawn(async move {
            signals.next().await;
            stop.advance(Stage::Leaving);
            // Whichever comes first, the grace is over.
            drop(timeout(grace, signals.next()).await);
            stop.drain();
            signals.next().await;
            stop.hurry();
        });
        Ok(())
    }
}

/// The signals that order the end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Whether `wait` ended before `deadline` passed and before `stop` was hurried.
pub(crate) async fn in_time(
    wait: impl Future<Output = ()>,
    deadline: Duration,
    stop: &Stop,
) -> bool {
    tokio::select! {
        () = wait => true,
        () = tokio::time::sleep(deadline) => false,
        () = stop.reached(Stage::Hurried) => false,
    }
}
