//! Runs the bundle's Wasm on threads of its own; the only file that names the policy engine.
//!
//! Each thread owns one instance (a store and the policy in it). Jobs wait in a bounded queue,
//! and that wait counts into their deadline. A runaway evaluation is interrupted; an instance is
//! thrown away after any error, since the state inside it is no longer known.
//!
//! Cost: compiling 0.2 s once per bundle, an instance with its data 0.5 ms, an evaluation 50 to
//! 500 µs by candidates.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{JoinHandle, Thread},
    time::{Duration, Instant},
};

use opa_wasm::{DefaultContext, Policy as Instantiated, Runtime};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use wasmtime::{Config, Module, Store, StoreLimits, StoreLimitsBuilder, UpdateDeadline};

use crate::policy::bundle::Bundle;

/// How often a running evaluation is checked against its deadline.
const TICK: Duration = Duration::from_millis(5);
/// Memory of one instance: the data's tables and one evaluation.
const MEMORY_BYTES_MAX: usize = 64 << 20;
/// Making an instance parses the data once; far above what 4 MiB of it take.
const INSTANCE_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a thread may answer past the deadline before the caller stops listening to it.
const ANSWER_GRACE: Duration = Duration::from_millis(50);
/// The import of the memory, up to the number of pages it begins with: module, name, kind, and
/// that it has no maximum (WebAssembly core specification, 5.5.5).
const MEMORY_IMPORT: &[u8] = b"\x03env\x06memory\x02\x00";
/// Pages of 64 KiB that a memory begins with: well past any policy's own constants, and still one
/// byte in LEB128.
const MEMORY_PAGES_MIN: u8 = 64;
/// Builtins whose answers differ between equal inputs. The compiler's capabilities leave them
/// out; a bundle that was built without these is refused.
const IMPURE_BUILTINS: [&str; 5] =
    ["opa.runtime", "http.send", "time.now_ns", "rand.intn", "uuid.rfc4122"];

/// What the engine can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entrypoint {
    Decide,
    About,
}

/// Limits of the evaluation threads.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub threads: usize,
    /// Evaluations that may wait for a thread.
    pub queue_max: usize,
    /// From asking to the answer, waiting included.
    pub deadline: Duration,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EngineFault {
    #[error("the policy was not evaluated within its deadline")]
    Timeout,
    #[error("the policy has no answer to these facts")]
    Undefined,
    #[error("the policy could not be evaluated")]
    Failed,
}

/// Why a bundle's Wasm cannot run here.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("the policy's Wasm cannot be compiled: {0}")]
    Compile(String),
    #[error("the policy's Wasm cannot be started: {0}")]
    Start(String),
    #[error(
        "the policy uses the builtin `{0}`, whose answers change: build it with the capabilities \
         of `policies/capabilities.json`"
    )]
    Impure(&'static str),
    #[error("no thread for the policy engine: {0}")]
    Thread(std::io::Error),
}

/// The answer of one evaluation.
#[derive(Debug)]
pub struct Evaluated {
    pub value: Value,
    /// Time in the engine, without the wait.
    pub took: Duration,
}

/// The running engine of one bundle. Dropping it ends its threads.
pub struct Engine {
    jobs: mpsc::Sender<Job>,
    limits: Limits,
    ticker: Arc<Ticker>,
    compiled: Arc<Compiled>,
}

struct Job {
    entrypoint: Entrypoint,
    input: Arc<Value>,
    until: Instant,
    answer: oneshot::Sender<Result<Evaluated, EngineFault>>,
}

type Jobs = Arc<Mutex<mpsc::Receiver<Job>>>;
/// Each thread says once whether it has an instance.
type Started = std::sync::mpsc::SyncSender<Result<(), EngineError>>;

/// What every instance is made of; compiled once.
struct Compiled {
    engine: wasmtime::Engine,
    module: Module,
    data: Value,
}

struct Instance {
    store: Store<Bounds>,
    policy: Instantiated<DefaultContext>,
}

/// What one instance may use.
struct Bounds {
    memory: StoreLimits,
    /// When the evaluation that runs is interrupted.
    until: Instant,
}

/// Advances the epoch that interrupts runaway evaluations, only while one runs.
struct Ticker {
    running: AtomicUsize,
    ended: AtomicBool,
    thread: Mutex<Option<Thread>>,
}

// === impl Entrypoint ===

impl Entrypoint {
    fn path(self) -> &'static str {
        match self {
            Self::Decide => "cordon/decide",
            Self::About => "cordon/about",
        }
    }
}

// === impl Engine ===

impl Engine {
    /// Compiles the bundle and starts the threads. Blocks for a fraction of a second.
    pub fn start(bundle: &Bundle, limits: Limits) -> Result<Self, EngineError> {
        if let Some(name) = impure(bundle.wasm()) {
            return Err(EngineError::Impure(name));
        }
        Self::run(Compiled::new(bundle)?, limits)
    }

    /// The same policy over other data, on threads of its own; compiles nothing.
    pub fn with_data(&self, data: Value) -> Result<Self, EngineError> {
        let Compiled { engine, module, .. } = &*self.compiled;
        Self::run(Compiled { engine: engine.clone(), module: module.clone(), data }, self.limits)
    }

    fn run(compiled: Compiled, limits: Limits) -> Result<Self, EngineError> {
        let compiled = Arc::new(compiled);
        let ticker = Ticker::start(compiled.engine.clone()).map_err(EngineError::Thread)?;
        let (jobs, queue) = mpsc::channel(limits.queue_max.max(1));
        let queue = Arc::new(Mutex::new(queue));
        let engine = Self { jobs, limits, ticker, compiled };
        let (started, starts) = std::sync::mpsc::sync_channel(limits.threads.max(1));
        let threads = limits.threads.max(1);
        for number in 0..threads {
            let worker = Worker {
                compiled: Arc::clone(&engine.compiled),
                jobs: Arc::clone(&queue),
                ticker: Arc::clone(&engine.ticker),
            };
            let started = started.clone();
            spawn(&format!("policy-{number}"), move || worker.run(&started))
                .map_err(EngineError::Thread)?;
        }
        for _ in 0..threads {
            let waited = starts.recv_timeout(INSTANCE_TIME_MAX);
            waited.map_err(|_late| EngineError::Start("it takes too long".to_owned()))??;
        }
        Ok(engine)
    }

    /// Decides about a facts document; answers at the latest a moment after the deadline.
    pub async fn decide(&self, facts: Arc<Value>) -> Result<Evaluated, EngineFault> {
        self.ask(Entrypoint::Decide, facts, self.limits.deadline).await
    }

    /// The bundle's answer to `cordon/about`. Waits for the first instance too, so it has a
    /// longer deadline than decisions.
    pub async fn describe(&self) -> Result<Value, EngineFault> {
        let about = self.ask(Entrypoint::About, Arc::new(Value::Null), INSTANCE_TIME_MAX).await?;
        Ok(about.value)
    }

    async fn ask(
        &self,
        entrypoint: Entrypoint,
        input: Arc<Value>,
        deadline: Duration,
    ) -> Result<Evaluated, EngineFault> {
        let until = Instant::now() + deadline;
        let (answer, answered) = oneshot::channel();
        let job = Job { entrypoint, input, until, answer };
        match self.jobs.send_timeout(job, deadline).await {
            Ok(()) => {}
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => return Err(EngineFault::Timeout),
            Err(mpsc::error::SendTimeoutError::Closed(_)) => return Err(EngineFault::Failed),
        }
        match tokio::time::timeout_at((until + ANSWER_GRACE).into(), answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_gone)) => Err(EngineFault::Failed),
            Err(_late) => Err(EngineFault::Timeout),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.ticker.end();
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Engine").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// The first builtin named in the module whose answers change. Names stand in its data as C
/// strings.
fn impure(wasm: &[u8]) -> Option<&'static str> {
    IMPURE_BUILTINS.into_iter().find(|name| {
        let stored = format!("\0{name}\0");
        wasm.windows(stored.len()).any(|window| window == stored.as_bytes())
    })
}

/// The module with a memory that begins large enough. The compiler rounds the pages that its
/// constants need down, so that some policies trap before they begin; hosts are expected to bring
/// more than is asked for.
fn with_room(wasm: &[u8]) -> Vec<u8> {
    let mut wasm = wasm.to_vec();
    let import = wasm.windows(MEMORY_IMPORT.len()).position(|window| window == MEMORY_IMPORT);
    if let Some(pages) = import.and_then(|start| wasm.get_mut(start + MEMORY_IMPORT.len())) {
        *pages = (*pages).max(MEMORY_PAGES_MIN);
    }
    wasm
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work)
}

// === impl Compiled ===

impl Compiled {
    fn new(bundle: &Bundle) -> Result<Self, EngineError> {
        let mut config = Config::new();
        config.epoch_interruption(true);
        // An instance's memory is made by the host, one by one; the default would reserve 4 GiB
        // of addresses for each.
        config.memory_reservation(MEMORY_BYTES_MAX as u64);
        let compile = |fault: wasmtime::Error| EngineError::Compile(fault.to_string());
        let engine = wasmtime::Engine::new(&config).map_err(compile)?;
        let module = Module::new(&engine, with_room(bundle.wasm())).map_err(compile)?;
        Ok(Self { engine, module, data: bundle.data().clone() })
    }
}

// === impl Instance ===

impl Instance {
    async fn new(compiled: &Compiled) -> Result<Self, EngineError> {
        let memory = StoreLimitsBuilder::new().memory_size(MEMORY_BYTES_MAX).build();
        let bounds = Bounds { memory, until: Instant::now() + INSTANCE_TIME_MAX };
        let mut store = Store::new(&compiled.engine, bounds);
        store.limiter(|bounds| &mut bounds.memory);
        // Ticks only say when to look at the clock: a busy machine ticks late, never early.
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|store| match Instant::now() < store.data().until {
            true => Ok(UpdateDeadline::Continue(1)),
            false => Ok(UpdateDeadline::Interrupt),
        });
        let failed = |fault: anyhow::Error| EngineError::Start(fault.to_string());
        let runtime = Runtime::new(&mut store, &compiled.module).await.map_err(failed)?;
        let policy = runtime.with_data(&mut store, &compiled.data).await.map_err(failed)?;
        Ok(Self { store, policy })
    }

    /// One evaluation; on any error the instance must not be used again.
    async fn evaluate(&mut self, job: &Job) -> Result<Value, EngineFault> {
        self.store.data_mut().until = job.until;
        let path = job.entrypoint.path();
        let results: Result<Vec<Value>, _> =
            self.policy.evaluate(&mut self.store, path, &*job.input).await;
        let mut results = match results {
            Ok(results) => results,
            Err(_) if Instant::now() >= job.until => return Err(EngineFault::Timeout),
            Err(fault) => {
                // The text names places of the policy; an abort of the policy could quote facts.
                tracing::debug!(%fault, "the policy evaluation failed");
                return Err(EngineFault::Failed);
            }
        };
        let result = results.pop().ok_or(EngineFault::Undefined)?;
        match result {
            Value::Object(mut object) if results.is_empty() => {
                object.swap_remove("result").ok_or(EngineFault::Undefined)
            }
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_)
            | Value::Object(_) => Err(EngineFault::Failed),
        }
    }
}

// === impl Worker ===

/// One evaluation thread.
struct Worker {
    compiled: Arc<Compiled>,
    jobs: Jobs,
    ticker: Arc<Ticker>,
}

impl Worker {
    /// Works until the engine is dropped.
    fn run(self, started: &Started) {
        // opa-wasm is asynchronous by signature; it waits for nothing, so this never parks.
        let runtime = match tokio::runtime::Builder::new_current_thread().build() {
            Ok(runtime) => runtime,
            Err(fault) => return drop(started.send(Err(EngineError::Thread(fault)))),
        };
        let made = self.make(&runtime);
        let (made, told) = match made {
            Ok(instance) => (Some(instance), Ok(())),
            Err(fault) => (None, Err(fault)),
        };
        let mut instance = made;
        drop(started.send(told));
        while let Some(job) = self.next() {
            let answer = self.answer(&runtime, &mut instance, &job);
            if matches!(answer, Err(EngineFault::Failed | EngineFault::Timeout)) {
                instance = None;
            }
            // Whoever asked may have stopped waiting.
            drop(job.answer.send(answer));
            if instance.is_none() {
                let made = self.make(&runtime);
                instance =
                    made.inspect_err(|fault| tracing::error!(%fault, "no policy instance")).ok();
            }
        }
    }

    fn next(&self) -> Option<Job> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv()
    }

    fn make(&self, runtime: &tokio::runtime::Runtime) -> Result<Instance, EngineError> {
        let _running = self.ticker.run();
        runtime.block_on(Instance::new(&self.compiled))
    }

    fn answer(
        &self,
        runtime: &tokio::runtime::Runtime,
        instance: &mut Option<Instance>,
        job: &Job,
    ) -> Result<Evaluated, EngineFault> {
        let started = Instant::now();
        if started >= job.until {
            return Err(EngineFault::Timeout);
        }
        let instance = instance.as_mut().ok_or(EngineFault::Failed)?;
        let _running = self.ticker.run();
        let value = runtime.block_on(instance.evaluate(job))?;
        Ok(Evaluated { value, took: started.elapsed() })
    }
}

// === impl Ticker ===

impl Ticker {
    fn start(engine: wasmtime::Engine) -> std::io::Result<Arc<Self>> {
        let ticker = Arc::new(Self {
            running: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            thread: Mutex::new(None),
        });
        let own = Arc::clone(&ticker);
        let handle = spawn("policy-tick", move || own.tick(&engine))?;
        *ticker.thread.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(handle.thread().clone());
        Ok(ticker)
    }

    fn tick(&self, engine: &wasmtime::Engine) {
        while !self.ended.load(Ordering::Acquire) {
            if self.running.load(Ordering::Acquire) == 0 {
                std::thread::park();
                continue;
            }
            std::thread::sleep(TICK);
            engine.increment_epoch();
        }
    }

    /// Counts an evaluation as running until the guard is dropped.
    fn run(&self) -> Running<'_> {
        if self.running.fetch_add(1, Ordering::AcqRel) == 0 {
            self.wake();
        }
        Running(self)
    }

    fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.wake();
    }

    fn wake(&self) {
        if let Some(thread) = &*self.thread.lock().unwrap_or_else(PoisonError::into_inner) {
            thread.unpark();
        }
    }
}

struct Running<'a>(&'a Ticker);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
    }
}
