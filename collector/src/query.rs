//! Answers to SQL, read only, from one snapshot.
//!
//! In order: the statement waits for one of its tenant's places, is parsed and planned in a
//! session of its own, passes the guard, runs under deadline and memory limit, its rows are counted
//! as they come, and are written as text: a longer answer is an error, never a cut one. Tenant scope lies below
//! everything, in the tables' own scan. Statements run on threads of their own, so that none can
//! hold up the reader or the committer. Knows nothing of sockets.

mod answer;
mod deadline;
mod guard;
mod place;
mod scan;
mod scope;
mod view;

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::StreamExt;
use thiserror::Error;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::config::Limits;
use crate::query::answer::{Memory, Rows};
use crate::query::deadline::Clock;
use crate::query::place::Places;
use crate::query::scan::AuditTable;
use crate::state::{Reach, Snapshot};

pub use answer::Format;

/// Whose rows a statement may see.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Every tenant's: the owner of the folder.
    All,
    /// One tenant's.
    Tenant(String),
}

/// A statement, and who asks it.
#[derive(Debug, Clone)]
pub struct Question {
    /// Who asks.
    pub who: String,
    /// Whose rows they may see.
    pub scope: Scope,
    /// The statement.
    pub sql: String,
    /// How the answer is to be written.
    pub format: Format,
}

/// An answer as it is told.
#[derive(Debug)]
pub struct Answer {
    /// Its text, in the format that was asked for.
    pub text: String,
    /// How many rows it has.
    pub rows: usize,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum QueryError {
    /// What is durable is not all in reach.
    #[error("AUDIT_BEHIND: the collector has not caught up with the ledger; try again in a moment")]
    Behind,
    /// What is durable is not all in reach, and no collector runs that would catch up.
    #[error(
        "AUDIT_BEHIND: the ledger holds more new events than can be read without a collector; \
         start `cordon-collector run --data DIR`, which catches up"
    )]
    BehindAlone,
    /// Whoever asked has left.
    #[error("whoever asked has left")]
    Left,
    /// The ledger cannot be followed.
    #[error("the ledger cannot be followed: {0}")]
    LedgerRefused(String),
    /// The statement does more than read.
    #[error("only reading is allowed, and {what}; write one SELECT")]
    NotReading {
        /// What it does.
        what: String,
    },
    /// The statement is no SQL we understand.
    #[error("{0}")]
    Invalid(String),
    /// The statement is too long.
    #[error("the statement is longer than {max} bytes")]
    TooLong {
        /// The limit.
        max: usize,
    },
    /// The answer has too many rows.
    #[error("the answer has more than {max} rows; add a LIMIT or aggregate")]
    TooManyRows {
        /// The limit.
        max: usize,
    },
    /// The answer has too many bytes.
    #[error("the answer has more than {max} bytes; select fewer columns or rows")]
    TooManyBytes {
        /// The limit.
        max: usize,
    },
    /// The deadline passed.
    #[error("the statement took longer than {} seconds; narrow it down", max.as_secs())]
    Deadline {
        /// The limit.
        max: Duration,
    },
    /// The memory of all statements is used up.
    #[error("the statement needs more memory than there is; narrow it down")]
    Memory,
    /// Too many statements run or wait.
    #[error("too many statements wait already; try again in a moment")]
    Busy,
    /// It failed while running.
    #[error("the statement failed: {0}")]
    Failed(String),
}

/// Answers statements; one for the whole process.
#[derive(Debug)]
pub struct Engine {
    parts: Arc<Parts>,
    /// Taken only when the engine ends.
    threads: Option<tokio::runtime::Runtime>,
}

/// What a running statement needs.
#[derive(Debug)]
struct Parts {
    limits: Limits,
    runtime: Arc<RuntimeEnv>,
    places: Places,
    /// The clocks of statements that run.
    running: Mutex<Vec<Weak<Clock>>>,
}

/// Functions that make gigabytes out of a few words, past the memory limit: whoever only reads
/// needs none of them. The table functions of the same names stay; they give out row by row.
const AMPLIFIERS: [&str; 7] =
    ["repeat", "lpad", "rpad", "array_repeat", "array_resize", "range", "generate_series"];
/// A statement that is so late computes something that cannot be interrupted, such as its plan.
const STUCK_AFTER: Duration = Duration::from_secs(30);
/// Threads that statements run on.
const THREADS: usize = 4;
/// Plans are made by recursion: debug builds need far more than the usual 2 MiB.
const STACK_BYTES: usize = 16 << 20;

// === impl QueryError ===

impl QueryError {
    /// The word for it that does not change with the text.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Behind | Self::BehindAlone => "AUDIT_BEHIND",
            Self::Left => "LEFT",
            Self::LedgerRefused(_) => "LEDGER_REFUSED",
            Self::NotReading { .. } => "READ_ONLY",
            Self::Invalid(_) => "INVALID_SQL",
            Self::TooLong { .. } => "STATEMENT_TOO_LONG",
            Self::TooManyRows { .. } | Self::TooManyBytes { .. } => "ANSWER_TOO_LARGE",
            Self::Deadline { .. } => "DEADLINE",
            Self::Memory => "MEMORY_LIMIT",
            Self::Busy => "BUSY",
            Self::Failed(_) => "QUERY_FAILED",
        }
    }
}

impl From<ArrowError> for QueryError {
    fn from(error: ArrowError) -> Self {
        failed(&error.into())
    }
}

// === impl Engine ===

impl Engine {
    /// An engine that keeps `limits`. It never writes to disk: what does not fit into memory is
    /// refused.
    ///
    /// # Errors
    /// Its threads cannot be started.
    pub fn new(limits: Limits) -> Result<Self, DataFusionError> {
        let no_disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(limits.memory_bytes)))
            .with_disk_manager_builder(no_disk)
            .build_arc()?;
        let places = Places::new(&limits);
        let threads = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("statement")
            .thread_stack_size(STACK_BYTES)
            .enable_all()
            .build()?;
        Ok(Self {
            parts: Arc::new(Parts { limits, runtime, places, running: Mutex::default() }),
            threads: Some(threads),
        })
    }

    /// Whether a statement holds a thread that it will not give back: nothing but a new process
    /// helps then.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        let running = self.parts.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.iter().filter_map(Weak::upgrade).any(|clock| clock.late_by() > STUCK_AFTER)
    }

    /// The answer to `question` from `snapshot`. Dropping the future ends the statement.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn answer(
        &self,
        snapshot: Arc<Snapshot>,
        question: &Question,
    ) -> Result<Answer, QueryError> {
        let limits = &self.parts.limits;
        if question.sql.len() > limits.statement_bytes_max {
            return Err(QueryError::TooLong { max: limits.statement_bytes_max });
        }
        let Some(threads) = &self.threads else {
            return Err(QueryError::Busy);
        };
        let max = limits.deadline;
        let deadline = Instant::now() + max;
        let (clock, _wanted) = Clock::until(deadline);
        self.parts.note(&clock);
        let (parts, question) = (Arc::clone(&self.parts), question.clone());
        // The set ends the statement when this future ends, however it does.
        let mut running = JoinSet::new();
        running.spawn_on(
            async move { parts.answer_in_turn(&snapshot, &question, &clock).await },
            threads.handle(),
        );
        match timeout(max, running.join_next()).await {
            Ok(Some(Ok(answered))) => answered,
            Ok(Some(Err(error))) => {
                Err(QueryError::Failed(format!("the statement broke off: {error}")))
            }
            Ok(None) => Err(QueryError::Busy),
            Err(_late) => Err(QueryError::Deadline { max }),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.take() {
            threads.shutdown_background();
        }
    }
}

// === impl Parts ===

impl Parts {
    /// Takes note of a statement that begins, and forgets those that have ended.
    fn note(&self, clock: &Arc<Clock>) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|clock| clock.strong_count() > 0);
        running.push(Arc::downgrade(clock));
    }

    async fn answer_in_turn(
        &self,
        snapshot: &Snapshot,
        question: &Question,
        clock: &Arc<Clock>,
    ) -> Result<Answer, QueryError> {
        // Held until the answer is written: that takes time and memory as well.
        let _place = self.places.take(&question.scope).await?;
        match &snapshot.reach {
            Reach::Full => {}
            Reach::Starting | Reach::Behind => return Err(QueryError::Behind),
            Reach::Refused(why) => return Err(QueryError::LedgerRefused(why.clone())),
        }
        let context = self.session(snapshot, &question.scope).await?;
        let state = context.state();
        let plan =
            state.create_logical_plan(&question.sql).await.map_err(|error| invalid(&error))?;
        guard::check(&plan)?;
        let rows = self.collect(&context, &plan, clock).await?;
        let text = rows.to_text(question.format, self.limits.answer_bytes_max)?;
        Ok(Answer { text, rows: rows.count })
    }

    /// A session for one statement, with nothing in it but the tables as `scope` may see them.
    async fn session(
        &self,
        snapshot: &Snapshot,
        scope: &Scope,
    ) -> Result<SessionContext, QueryError> {
        let partitions = std::thread::available_parallelism().map_or(1, |n| n.get().div_ceil(2));
        let mut config = SessionConfig::new()
            .with_target_partitions(partitions)
            .with_information_schema(true)
            .with_create_default_catalog_and_schema(true);
        config.options_mut().sql_parser.dialect = datafusion::common::config::Dialect::PostgreSQL;
        config.options_mut().execution.parquet.schema_force_view_types = false;
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(Arc::clone(&self.runtime))
            .with_default_features()
            .build();
        let mut context = SessionContext::new_with_state(state);
        // `->`, `->>` and `json_get_…`: what an event says stands in its `body_json`.
        datafusion_functions_json::register_all(&mut context).map_err(|error| failed(&error))?;
        AMPLIFIERS.iter().for_each(|name| context.deregister_udf(name));
        for view in &snapshot.tables {
            let table = AuditTable::new(view.clone(), scope.clone());
            context
                .register_table(view.table.name(), Arc::new(table))
                .map_err(|error| failed(&error))?;
        }
        view::register(&context).await.map_err(|error| failed(&error))?;
        Ok(context)
    }

    /// Runs the plan and counts what comes out while it comes.
    async fn collect(
        &self,
        context: &SessionContext,
        plan: &LogicalPlan,
        clock: &Arc<Clock>,
    ) -> Result<Rows, QueryError> {
        let plan =
            context.state().create_physical_plan(plan).await.map_err(|error| failed(&error))?;
        let plan = deadline::watch(plan, clock).map_err(|error| failed(&error))?;
        let mut stream =
            execute_stream(plan, context.task_ctx()).map_err(|error| failed(&error))?;
        let mut rows = Rows { schema: stream.schema(), batches: Vec::new(), count: 0 };
        let mut memory = Memory::default();
        while let Some(batch) = stream.next().await {
            let batch = batch.map_err(|error| self.ended(&error))?;
            rows.count += batch.num_rows();
            memory.add(&batch);
            if rows.count > self.limits.rows_max {
                return Err(QueryError::TooManyRows { max: self.limits.rows_max });
            }
            if memory.bytes > self.limits.answer_bytes_max {
                return Err(QueryError::TooManyBytes { max: self.limits.answer_bytes_max });
            }
            rows.batches.push(batch);
        }
        Ok(rows)
    }

    /// An error of a running statement, its own deadline among them.
    fn ended(&self, error: &DataFusionError) -> QueryError {
        match error.find_root() {
            DataFusionError::External(cause) if cause.is::<deadline::Passed>() => {
                QueryError::Deadline { max: self.limits.deadline }
            }
            _ => failed(error),
        }
    }
}

/// An error of parsing or planning: the statement is wrong.
fn invalid(error: &DataFusionError) -> QueryError {
    QueryError::Invalid(first_line(error))
}

/// An error of running: the statement is right, and something went wrong with it.
fn failed(error: &DataFusionError) -> QueryError {
    match error.find_root() {
        DataFusionError::ResourcesExhausted(_) => QueryError::Memory,
        DataFusionError::Plan(_) | DataFusionError::SchemaError(..) => invalid(error),
        root => QueryError::Failed(first_line(root)),
    }
}

/// What went wrong, without the trace that a debug build may add.
fn first_line(error: &DataFusionError) -> String {
    error.strip_backtrace().lines().next().unwrap_or_default().to_owned()
}
