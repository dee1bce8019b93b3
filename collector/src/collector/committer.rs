//! The one task that commits: when rows are old or many, and whenever somebody asks. It also merges
//! the small files that commits leave.

use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::config::Limits;
use crate::state::State;
use crate::table::{Marks, Store};

/// How often it is looked whether a commit is due.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A table without new rows writes its marks down once they are this far behind, so that a start
/// has not much to read again.
const MARKS_BEHIND_MAX: u64 = 20_000;
/// The longest pause after commits that failed.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Commits that may be asked for at once.
const ASKED_MAX: usize = 64;

type Answer = oneshot::Sender<Result<(), String>>;

/// The committer's task.
#[derive(Debug)]
pub(in crate::collector) struct Committer {
    ask: mpsc::Sender<Request>,
    task: JoinHandle<()>,
    last_error: Arc<Mutex<Option<String>>>,
}

#[derive(Debug)]
enum Request {
    /// Commit all rows.
    Rows(Answer),
    /// Commit all rows, and write down how far every table is.
    RowsAndMarks(Answer),
}

struct Work {
    stores: [Store; 4],
    state: Arc<State>,
    limits: Limits,
    last_error: Arc<Mutex<Option<String>>>,
    failures: u32,
    pause_until: Option<Instant>,
    /// Files that were merged, and when.
    merged: Vec<(Instant, Vec<PathBuf>)>,
    _lock: File,
}

// === impl Committer ===

impl Committer {
    pub(in crate::collector) fn start(
        stores: [Store; 4],
        lock: File,
        state: Arc<State>,
        limits: Limits,
    ) -> Self {
        let (ask, asked) = mpsc::channel(ASKED_MAX);
        let last_error = Arc::new(Mutex::new(None));
        let work = Work {
            stores,
            state,
            limits,
            last_error: Arc::clone(&last_error),
            failures: 0,
            pause_until: None,
            merged: Vec::new(),
            _lock: lock,
        };
        Self { ask, task: tokio::spawn(work.run(asked)), last_error }
    }

    /// Commits all rows that have been read.
    pub(in crate::collector) async fn commit(&self) -> Result<(), String> {
        self.request(Request::Rows).await
    }

    /// The same, and every table says how far it is, so that a next start reads little.
    pub(in crate::collector) async fn finish(&self) -> Result<(), String> {
        self.request(Request::RowsAndMarks).await
    }

    /// Whether the task has ended, which it does by itself only in a panic.
    pub(in crate::collector) fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Ends the task; a commit under way is completed.
    pub(in crate::collector) async fn stop(self) {
        drop(self.ask);
        // A panic of the task has been reported by the panic itself.
        drop(self.task.await);
    }

    /// Why the last commit failed, if it did.
    pub(in crate::collector) fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn request(&self, request: fn(Answer) -> Request) -> Result<(), String> {
        let (answer, answered) = oneshot::channel();
        let ended = || "the committer has ended".to_owned();
        self.ask.send(request(answer)).await.map_err(|_closed| ended())?;
        answered.await.map_err(|_closed| ended())?
    }
}

// === impl Work ===

impl Work {
    async fn run(mut self, mut asked: mpsc::Receiver<Request>) {
        loop {
            match timeout(LOOK_EVERY, asked.recv()).await {
                Ok(None) => return,
                Ok(Some(Request::Rows(answer))) => {
                    let done = self.commit_all(MARKS_BEHIND_MAX).await;
                    // Whoever asked may have left.
                    drop(answer.send(done));
                }
                Ok(Some(Request::RowsAndMarks(answer))) => {
                    let done = self.commit_all(1).await;
                    drop(answer.send(done));
                }
                Err(_quiet) if self.is_due() => {
                    // The failure is in the log and in the state; the next look tries again.
                    if self.commit_all(MARKS_BEHIND_MAX).await.is_ok() {
                        self.merge().await;
                    }
                }
                Err(_quiet) => {}
            }
        }
    }

    fn is_due(&self) -> bool {
        let waiting = self.state.waiting();
        let old = waiting.since.is_some_and(|since| since.elapsed() >= self.limits.commit_every);
        let many =
            waiting.rows >= self.limits.commit_rows || waiting.bytes >= self.limits.commit_bytes;
        let paused = self.pause_until.is_some_and(|until| Instant::now() < until);
        (old || many) && !paused
    }

    /// Commits the rows of all tables; a table without rows writes its marks down where they are
    /// `marks_behind` events behind.
    async fn commit_all(&mut self, marks_behind: u64) -> Result<(), String> {
        let began = Instant::now();
        let mut rows = 0;
        for due in self.state.due() {
            let store = &mut self.stores[due.table.index()];
            if due.rows.is_empty() && behind(store.marks(), &due.marks) < marks_behind {
                self.state.landed_with(&due, None);
                continue;
            }
            if let Err(error) = store.commit(&due.rows, &due.marks).await {
                return Err(self.failed(error.to_string()));
            }
            match store.version() {
                Ok(version) => self.state.landed_with(&due, Some(version)),
                Err(error) => return Err(self.failed(error.to_string())),
            }
            rows += due.rows.iter().map(|batch| batch.num_rows()).sum::<usize>();
        }
        self.failures = 0;
        self.pause_until = None;
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if rows > 0 {
            info!(rows, elapsed_ms = elapsed_ms(began), "committed {rows} rows to the tables");
        }
        Ok(())
    }

    /// Merges small files, at most once per table, and takes those away that were merged long ago.
    /// What fails here is tried again after the next commit.
    async fn merge(&mut self) {
        for store in &mut self.stores {
            let merged = store.merge_small_files(self.limits.merge_files).await;
            let unused = match merged {
                Ok(unused) if unused.is_empty() => continue,
                Ok(unused) => unused,
                Err(error) => {
                    warn!("small files were not merged: {error}");
                    continue;
                }
            };
            match store.version() {
                Ok(version) => self.state.replace(version),
                Err(error) => warn!("files were merged, and the table cannot be read: {error}"),
            }
            info!("merged {} small files of table `{}`", unused.len(), store.table().name());
            self.merged.push((Instant::now(), unused));
        }
        let kept = self.limits.merged_kept;
        for (_, unused) in self.merged.extract_if(.., |(at, _)| at.elapsed() >= kept) {
            // One that stays takes room and does no harm.
            unused.iter().for_each(|path| drop(std::fs::remove_file(path)));
        }
    }

    fn failed(&mut self, error: String) -> String {
        warn!("a commit failed and will be tried again: {error}");
        let pause = Duration::from_secs(1 << self.failures.min(5)).min(PAUSE_MAX);
        self.failures += 1;
        self.pause_until = Some(Instant::now() + pause);
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
        error
    }
}

/// How many events `landed` is behind `read`.
fn behind(landed: &Marks, read: &Marks) -> u64 {
    let one = |(stream, mark): (&uuid::Uuid, &crate::table::Mark)| {
        mark.seq.saturating_sub(landed.get(stream).map_or(0, |landed| landed.seq))
    };
    read.iter().map(one).sum()
}

fn elapsed_ms(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}
