//! The thread that reads the ledger: every few milliseconds, and whenever somebody asks.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::collector::CollectorError;
use crate::follow::Reader;
use crate::state::State;

/// Looks that may be asked for at once; further askers hear that we are behind.
const ASKED_MAX: usize = 256;

/// The reader's thread.
#[derive(Debug)]
pub(in crate::collector) struct ReaderThread {
    ask: SyncSender<oneshot::Sender<()>>,
    thread: JoinHandle<()>,
}

// === impl ReaderThread ===

impl ReaderThread {
    pub(in crate::collector) fn start(
        reader: Reader,
        state: Arc<State>,
        poll_every: Duration,
    ) -> Result<Self, CollectorError> {
        let (ask, asked) = sync_channel(ASKED_MAX);
        let thread = std::thread::Builder::new()
            .name("reader".to_owned())
            .stack_size(8 << 20)
            .spawn(move || read(reader, &state, &asked, poll_every))
            .map_err(|source| CollectorError::System { path: "reader".into(), source })?;
        Ok(Self { ask, thread })
    }

    /// Returns when all that was durable at the call has been read, or the tail is full; `false`
    /// where that cannot be said.
    pub(in crate::collector) async fn look(&self) -> bool {
        let (done, looked) = oneshot::channel();
        self.ask.try_send(done).is_ok() && looked.await.is_ok()
    }

    /// Whether the thread has ended, which it does by itself only in a panic.
    pub(in crate::collector) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Ends the thread and waits for it.
    pub(in crate::collector) fn stop(self) {
        drop(self.ask);
        // A panic of the thread has been reported by the panic itself.
        drop(self.thread.join());
    }
}

fn read(
    mut reader: Reader,
    state: &State,
    asked: &Receiver<oneshot::Sender<()>>,
    poll_every: Duration,
) {
    loop {
        let mut waiting = Vec::new();
        match asked.recv_timeout(poll_every) {
            Ok(done) => waiting.push(done),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        waiting.extend(asked.try_iter().take(ASKED_MAX));
        if !waiting.is_empty() {
            reader.look_anew();
        }
        reader.look(state);
        for done in waiting {
            // Whoever asked may have left.
            let _left = done.send(());
        }
    }
}
