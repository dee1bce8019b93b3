//! The parts, built once: tables, reader, committer, engine, access log.
//!
//! A thread reads the ledger, a task commits to the tables, and both meet in the state. A
//! statement first has the reader look, so that it sees all that was durable when it came.

mod committer;
mod opening;
mod reading;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use thiserror::Error;
use tokio::time::timeout;
use tracing::error;

use crate::access::{Access, AccessError, AccessLog};
use crate::collector::committer::Committer;
use crate::collector::reading::ReaderThread;
use crate::config::{DataFolder, Limits, VERSION};
use crate::follow::{Reader, Seen};
use crate::query::{Answer, Engine, QueryError, Question};
use crate::schema::Table;
use crate::state::{Reach, State};
use crate::table::{Marks, Store, TableError, Watch};

pub use opening::Opened;

/// How long a statement waits for the reader to look; a reader that takes longer is catching up.
const LOOK_WITHIN: Duration = Duration::from_secs(5);
/// How often it is looked whether a part is broken.
const LOOK_FOR_BROKEN_EVERY: Duration = Duration::from_secs(1);
/// How long a commit of everything may take.
const COMMIT_WITHIN: Duration = Duration::from_secs(120);

/// A running collector.
#[derive(Debug)]
pub struct Collector {
    state: Arc<State>,
    engine: Engine,
    access: AccessLog,
    reader: ReaderThread,
    committer: Committer,
    rebuilt: Vec<String>,
}

/// The tables and the ledger as they are, read without a running collector.
#[derive(Debug)]
pub struct Onlooker {
    state: State,
    engine: Engine,
}

/// Why a collector does not start or stop.
#[derive(Debug, Error)]
pub enum CollectorError {
    /// A table.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The collector's own stream.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The engine, or a table it should read.
    #[error("the tables cannot be read: {0}")]
    Engine(#[from] datafusion::error::DataFusionError),
    /// Another process commits to the tables.
    #[error("`{path}` is in use by another process; stop it, or choose another data folder")]
    InUse {
        /// The lock.
        path: std::path::PathBuf,
    },
    /// The system.
    #[error("`{path}`: {source}")]
    System {
        /// What was touched.
        path: std::path::PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A part broke off.
    #[error("the collector's own stream broke off: {0}")]
    Broken(String),
    /// A commit did not land.
    #[error("the commit did not land: {0}")]
    Commit(String),
    /// The ledger cannot be followed.
    #[error("the ledger cannot be followed: {0}")]
    LedgerRefused(String),
}

/// Why a statement has no answer.
#[derive(Debug, Error)]
pub enum SqlError {
    /// The statement, or what it asks.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// It could not be written down who asked.
    #[error(transparent)]
    Access(#[from] AccessError),
}

// === impl Collector ===

impl Collector {
    /// Starts all parts. `watch` sees every step of every commit.
    ///
    /// # Errors
    /// The folder is in use, or a part does not start.
    pub async fn start(
        folder: &DataFolder,
        limits: Limits,
        watch: Arc<dyn Watch>,
    ) -> Result<Self, CollectorError> {
        let access = open_access(folder, &limits).await?;
        let Opened { lock, mut stores, rebuilt } = Opened::open(&folder.tables()).await?;
        stores.iter_mut().for_each(|store| store.set_watch(Arc::clone(&watch)));
        let (state, seen) = first_state(stores.each_ref().map(Some)).await?;
        let state = Arc::new(state);
        let engine = Engine::new(limits.clone())?;
        let reader = Reader::new(folder.ledger(), limits.clone(), seen);
        let reader = ReaderThread::start(reader, Arc::clone(&state), limits.poll_every)?;
        let committer = Committer::start(stores, lock, Arc::clone(&state), limits);
        Ok(Self { state, engine, access, reader, committer, rebuilt })
    }

    /// Answers a statement, and writes down that it was asked, by whom.
    ///
    /// # Errors
    /// There is no answer, or it could not be written down: then nobody gets to see it.
    pub async fn sql(&self, question: &Question) -> Result<Answer, SqlError> {
        self.sql_unless(question, std::future::pending()).await
    }

    /// The same, but the statement ends when whoever asked has `left`: that is written down too.
    ///
    /// # Errors
    /// There is no answer, or it could not be written down: then nobody gets to see it.
    pub async fn sql_unless(
        &self,
        question: &Question,
        left: impl Future<Output = ()>,
    ) -> Result<Answer, SqlError> {
        let began = Instant::now();
        let answer = tokio::select! {
            answer = self.answer(question) => answer,
            () = left => Err(QueryError::Left),
        };
        write_down(&self.access, (question, began), &answer).await?;
        Ok(answer?)
    }

    /// INVARIANT: an answer holds all that was durable when the statement came.
    async fn answer(&self, question: &Question) -> Result<Answer, QueryError> {
        match timeout(LOOK_WITHIN, self.reader.look()).await {
            Ok(true) => self.engine.answer(self.state.snapshot(), question).await,
            Ok(false) | Err(_) => Err(QueryError::Behind),
        }
    }

    /// Returns when a part has ended, which only a fault in it can do, or a statement cannot be
    /// ended: nothing but a new start helps then.
    pub async fn broken(&self) {
        let what = loop {
            tokio::time::sleep(LOOK_FOR_BROKEN_EVERY).await;
            if self.reader.has_ended() {
                break "the ledger is not read any more";
            }
            if self.committer.has_ended() {
                break "nothing is committed any more";
            }
            if self.engine.is_stuck() {
                break "a statement does not end";
            }
        };
        error!("{what}: the collector ends, and its next start catches up");
    }

    /// Commits all that is durable now to the tables.
    ///
    /// # Errors
    /// It did not all land.
    pub async fn commit(&self) -> Result<Marks, CollectorError> {
        let all = drain(&self.state, &self.reader, || self.committer.commit());
        timeout(COMMIT_WITHIN, all).await.unwrap_or_else(|_late| Err(too_late()))
    }

    /// How the collector is, for machines.
    #[must_use]
    pub fn report(&self) -> Value {
        let waiting = self.state.waiting();
        let snapshot = self.state.snapshot();
        let landed = self.state.landed();
        let marks = |marks: &Marks| -> Value {
            marks.iter().map(|(stream, mark)| (stream.to_string(), json!(mark.seq))).collect()
        };
        let table = |table: Table| {
            let version = snapshot.tables[table.index()].version.as_ref().map(|v| v.number);
            let report = json!({"version": version, "landed": marks(&landed[table.index()])});
            (table.name().to_owned(), report)
        };
        let refused = match &snapshot.reach {
            Reach::Refused(why) => Some(why.clone()),
            Reach::Starting | Reach::Full | Reach::Behind => None,
        };
        // Behind a ledger that is refused nobody knows how far the tables lag; the gateway takes a
        // collector that cannot say it for one that is down.
        let lag_seconds = match refused {
            Some(_) => None,
            None => Some(waiting.since.map_or(0.0, |since| since.elapsed().as_secs_f64())),
        };
        json!({
            "version": VERSION,
            "reach": reach_name(&snapshot.reach),
            "refused": refused,
            "lag_seconds": lag_seconds,
            "waiting_rows": waiting.rows,
            "waiting_bytes": waiting.bytes,
            "read": marks(&self.state.read()),
            "tables": Table::ALL.into_iter().map(table).collect::<Value>(),
            "rebuilt": self.rebuilt,
            "last_commit_error": self.committer.last_error(),
        })
    }

    /// Ends in order: the own stream is closed, then all that is durable goes to the tables.
    ///
    /// # Errors
    /// Something durable is not in the tables; a next start catches up.
    pub async fn stop(self, reason: &str) -> Result<(), CollectorError> {
        let Self { state, access, reader, committer, .. } = self;
        let reason = reason.to_owned();
        let closed = tokio::task::spawn_blocking(move || access.close(&reason)).await;
        let drained = drain(&state, &reader, || committer.finish());
        let drained = timeout(COMMIT_WITHIN, drained).await;
        let drained = drained.unwrap_or_else(|_late| Err(too_late()));
        reader.stop();
        committer.stop().await;
        drained?;
        let closed = closed.map_err(|broken| CollectorError::Broken(broken.to_string()))?;
        Ok(closed?)
    }
}

/// Reads and commits in turn until all that is durable is in the tables.
async fn drain<F: Future<Output = Result<(), String>>>(
    state: &State,
    reader: &ReaderThread,
    commit: impl Fn() -> F,
) -> Result<Marks, CollectorError> {
    loop {
        if !reader.look().await {
            return Err(CollectorError::Commit("the ledger is not being read".to_owned()));
        }
        let reach = state.snapshot().reach.clone();
        commit().await.map_err(CollectorError::Commit)?;
        match reach {
            Reach::Full => return Ok(state.read()),
            Reach::Refused(why) => return Err(CollectorError::LedgerRefused(why)),
            Reach::Starting | Reach::Behind => {}
        }
    }
}

fn too_late() -> CollectorError {
    CollectorError::Commit("it took too long".to_owned())
}

// === impl Onlooker ===

impl Onlooker {
    /// Reads tables and ledger as they are; writes nothing. A table that does not open is read
    /// from the ledger instead; the texts say which.
    ///
    /// # Errors
    /// The engine does not start.
    pub async fn look(
        folder: &DataFolder,
        limits: Limits,
    ) -> Result<(Self, Vec<String>), CollectorError> {
        let mut notes = Vec::new();
        let mut stores: [Option<Store>; 4] = [None, None, None, None];
        for table in Table::ALL {
            match Store::open(&folder.tables(), table).await {
                Ok(store) => stores[table.index()] = store,
                Err(error) => notes.push(format!("{error}; read from the ledger instead")),
            }
        }
        let (state, seen) = first_state(stores.each_ref().map(Option::as_ref)).await?;
        let mut reader = Reader::new(folder.ledger(), limits.clone(), seen);
        reader.look(&state);
        Ok((Self { state, engine: Engine::new(limits)? }, notes))
    }

    /// Answers a statement; with a log, writes down that it was asked.
    ///
    /// # Errors
    /// There is no answer, or it could not be written down.
    pub async fn sql(
        &self,
        question: &Question,
        log: Option<&AccessLog>,
    ) -> Result<Answer, SqlError> {
        let began = Instant::now();
        let answer = self.engine.answer(self.state.snapshot(), question).await;
        let answer = answer.map_err(|error| match error {
            QueryError::Behind => QueryError::BehindAlone,
            error => error,
        });
        if let Some(log) = log {
            write_down(log, (question, began), &answer).await?;
        }
        Ok(answer?)
    }
}

async fn write_down(
    log: &AccessLog,
    (question, began): (&Question, Instant),
    answer: &Result<Answer, QueryError>,
) -> Result<(), AccessError> {
    let (rows, outcome) = match answer {
        Ok(answer) => (answer.rows, "ok"),
        Err(error) => (0, error.code()),
    };
    log.record(&Access { question, rows, duration: began.elapsed(), outcome }).await
}

/// Takes the collector's stream; a program that has it for one statement lets it go in a moment.
///
/// # Errors
/// It stays taken, or does not open.
pub async fn open_access(folder: &DataFolder, limits: &Limits) -> Result<AccessLog, AccessError> {
    const TRIES: u32 = 100;
    const PAUSE: Duration = Duration::from_millis(50);
    for _try in 1..TRIES {
        match AccessLog::open(folder, limits) {
            Err(AccessError::Open(cordon_ledger::recover::OpenError::Locked { .. })) => {
                tokio::time::sleep(PAUSE).await;
            }
            opened => return opened,
        }
    }
    AccessLog::open(folder, limits)
}

async fn first_state(stores: [Option<&Store>; 4]) -> Result<(State, Seen), CollectorError> {
    let mut seen = Seen::default();
    let mut versions = [const { (None, Marks::new()) }; 4];
    for (store, place) in stores.into_iter().zip(&mut versions) {
        let Some(store) = store else {
            continue;
        };
        let version = store.version()?;
        if store.table() == Table::Decisions {
            seen = Seen::load(&version).await?;
        }
        *place = (Some(version), store.marks().clone());
    }
    Ok((State::new(versions), seen))
}

fn reach_name(reach: &Reach) -> &'static str {
    match reach {
        Reach::Starting => "starting",
        Reach::Full => "full",
        Reach::Behind => "behind",
        Reach::Refused(_) => "refused",
    }
}
