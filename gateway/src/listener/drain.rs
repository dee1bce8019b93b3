//! The end of a listener, stage by stage: serve, drain, cut, abort.
//!
//! Draining closes what is idle and refuses what is new; calls in flight go on. Cutting ends
//! them with an answer or an error event. Aborting drops what is still there.

use std::{io, time::Duration};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// How far a listener is on its way to the end. Later stages include the earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Every request is served.
    Serving,
    /// Nothing new; calls in flight go on.
    Draining,
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
    pub fn cut(&self) {
        self.advance(Stage::Cut);
    }

    /// Whether the order to stop was given.
    pub fn is_draining(&self) -> bool {
        *self.stage.borrow() >= Stage::Draining
    }

    /// Whether calls in flight are to end now.
    pub fn is_cut(&self) -> bool {
        *self.stage.borrow() >= Stage::Cut
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
        self.closing.send_replace(stage >= Stage::Draining);
    }

    pub(crate) fn closing(&self) -> watch::Receiver<bool> {
        self.unseen.clone()
    }

    /// Drains at the first SIGINT or SIGTERM and cuts at the second. Call it once, on the
    /// runtime; it ends with that runtime.
    ///
    /// # Errors
    /// Where the operating system refuses a signal handler.
    pub fn at_signals(&self) -> io::Result<()> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let stop = self.clone();
        tokio::spawn(async move {
            for stage in [Stage::Draining, Stage::Cut] {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                stop.advance(stage);
            }
        });
        Ok(())
    }
}

/// Whether `wait` ended before `deadline` passed and before `stop` was cut.
pub(crate) async fn in_time(
    wait: impl Future<Output = ()>,
    deadline: Duration,
    stop: &Stop,
) -> bool {
    tokio::select! {
        () = wait => true,
        () = tokio::time::sleep(deadline) => false,
        () = stop.reached(Stage::Cut) => false,
    }
}
