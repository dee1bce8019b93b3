//! The thread that owns the model, and the bounded queue before it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use crate::local::{
    LocalError, Piece, Request, Settings,
    generate::{Generation, Step},
    prepare::Manifest,
    session::Session,
    template::Template,
    tokens::Tokens,
};

/// Pieces that may wait for a slow client before the model does.
const PIECES_MAX: usize = 32;
/// Tokens of an answer where the client sets no limit: a model this small rambles without one.
const ANSWER_TOKENS_MAX: usize = 512;
/// What a call is taken to need until some have been measured.
const FIRST_GUESS_MS: u64 = 2_000;
/// No token of the vocabulary stands for more text. A longer prompt is refused before any work.
const TOKEN_BYTES_MAX: usize = 256;

type Pieces = mpsc::Sender<Result<Piece, LocalError>>;

#[derive(Debug)]
struct Job {
    request: Request,
    pieces: Pieces,
    queued: Instant,
}

/// How many calls are before the worker or in its hands, and how long one has taken lately.
#[derive(Debug)]
struct Pace {
    calls: AtomicU64,
    call_ms: AtomicU64,
}

/// The way to the worker: full means busy, at once.
#[derive(Debug)]
pub(crate) struct Queue {
    jobs: SyncSender<Job>,
    pace: Arc<Pace>,
    wait_max: Duration,
    fingerprint: String,
}

// === impl Pace ===

impl Pace {
    fn new() -> Self {
        Self { calls: AtomicU64::new(0), call_ms: AtomicU64::new(FIRST_GUESS_MS) }
    }

    /// How long `calls` take, one after the other.
    fn wait(&self, calls: u64) -> Duration {
        Duration::from_millis(calls.saturating_mul(self.call_ms.load(Ordering::Relaxed)))
    }

    fn enters(&self) -> u64 {
        self.calls.fetch_add(1, Ordering::Relaxed)
    }

    fn leaves(&self) {
        self.calls.fetch_sub(1, Ordering::Relaxed);
    }

    /// A call was answered: a quarter of the new pace is its own.
    fn took(&self, duration: Duration) {
        let took = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let mean = self.call_ms.load(Ordering::Relaxed);
        let mean = mean.saturating_mul(3).saturating_add(took) / 4;
        self.call_ms.store(mean, Ordering::Relaxed);
    }
}

/// Whole seconds, rounded up: whoever comes back earlier is refused again.
fn busy(wait: Duration) -> LocalError {
    let retry_after_s = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    LocalError::Busy { retry_after_s: retry_after_s.max(1) }
}

// === impl Queue ===

impl Queue {
    pub(crate) fn push(
        &self,
        request: Request,
    ) -> Result<mpsc::Receiver<Result<Piece, LocalError>>, LocalError> {
        let wait = self.pace.wait(self.pace.enters());
        if wait > self.wait_max {
            self.pace.leaves();
            return Err(busy(wait));
        }
        let (pieces, receiver) = mpsc::channel(PIECES_MAX);
        let job = Job { request, pieces, queued: Instant::now() };
        self.jobs.try_send(job).map(|()| receiver).map_err(|refused| {
            self.pace.leaves();
            match refused {
                TrySendError::Full(_) => busy(wait),
                TrySendError::Disconnected(_) => {
                    LocalError::Failed { reason: "its thread has ended".to_owned() }
                }
            }
        })
    }

    pub(crate) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

/// The worker's parts: everything one answer needs.
struct Worker {
    session: Session,
    tokens: Tokens,
    template: Template,
    context_tokens_max: usize,
}

/// Loads everything, then starts the thread. The thread ends with the last handle.
pub(crate) fn start(
    settings: &Settings,
    folder: &Path,
    runtime: &Path,
) -> Result<Queue, LocalError> {
    let manifest = Manifest::read(folder)?;
    let worker = Worker {
        session: Session::load(&manifest, folder, runtime, settings.threads)?,
        tokens: Tokens::load(folder)?,
        template: Template::load(folder)?,
        context_tokens_max: settings.context_tokens_max.min(manifest.context),
    };
    let (jobs, queue) = sync_channel(settings.queue_max);
    let (pace, wait_max) = (Arc::new(Pace::new()), settings.wait_max.0);
    let counted = Arc::clone(&pace);
    std::thread::Builder::new()
        .name("local-model".to_owned())
        .spawn(move || run(worker, &queue, (&counted, wait_max)))
        .map_err(|fault| LocalError::Unavailable { reason: fault.to_string() })?;
    Ok(Queue { jobs, pace, wait_max, fingerprint: manifest.fingerprint() })
}

fn run(mut worker: Worker, queue: &Receiver<Job>, (pace, wait_max): (&Pace, Duration)) {
    while let Ok(job) = queue.recv() {
        let began = Instant::now();
        if let Err(fault) = worker.take(&job, wait_max) {
            drop(job.pieces.blocking_send(Err(fault)));
        } else if !job.pieces.is_closed() {
            pace.took(began.elapsed());
        }
        pace.leaves();
    }
}

// === impl Worker ===

impl Worker {
    /// Answers a call that is still wanted and has not waited too long.
    fn take(&mut self, job: &Job, wait_max: Duration) -> Result<(), LocalError> {
        if job.pieces.is_closed() {
            return Ok(());
        }
        if job.queued.elapsed() > wait_max {
            return Err(busy(job.queued.elapsed()));
        }
        // One call's fault must not end the only worker; the next one begins a new sequence.
        let answered = catch_unwind(AssertUnwindSafe(|| self.answer(job)))
            .unwrap_or_else(|_panic| Err(LocalError::Failed { reason: "a panic".to_owned() }));
        answered.inspect_err(|fault| {
            if let LocalError::Failed { reason } = fault {
                tracing::warn!("the local model failed: {reason}");
            }
        })
    }

    /// Generates one answer. A client that left ends it at the next token.
    fn answer(&mut self, job: &Job) -> Result<(), LocalError> {
        self.admit(&job.request)?;
        let prompt = self.template.render(&job.request.messages)?;
        let prompt = self.tokens.encode(&prompt)?;
        let room = self.context_tokens_max.saturating_sub(prompt.len());
        let wanted = job.request.max_tokens.unwrap_or(ANSWER_TOKENS_MAX.min(room.max(1)));
        if wanted > room {
            let (needed, max) = (prompt.len().saturating_add(wanted), self.context_tokens_max);
            return Err(LocalError::ContextLength { needed, max });
        }
        let mut generation = Generation::new(&job.request, prompt.len(), wanted);
        let mut text = self.tokens.stream();
        let begun = self.session.begin(&prompt, || job.pieces.is_closed())?;
        let Some(mut logits) = begun else { return Ok(()) };
        loop {
            if job.pieces.is_closed() {
                return Ok(());
            }
            let token = match generation.next(&logits, self.session.stop_tokens()) {
                Step::Token(token) => token,
                Step::End(finish) => return generation.end(finish, &text.rest(), &job.pieces),
            };
            let piece = text.push(token)?;
            if generation.emit(&piece, &job.pieces)? {
                return Ok(());
            }
            logits = self.session.step(token)?;
        }
    }

    /// Refuses a prompt that cannot fit, before it is rendered and cut into tokens.
    fn admit(&self, request: &Request) -> Result<(), LocalError> {
        let bytes: usize = request.messages.iter().map(|message| message.text.len()).sum();
        let needed = bytes / TOKEN_BYTES_MAX;
        let max = self.context_tokens_max;
        if needed > max { Err(LocalError::ContextLength { needed, max }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_follows_what_calls_have_taken() {
        let pace = Pace::new();
        assert_eq!((pace.enters(), pace.enters()), (0, 1));
        assert_eq!(pace.wait(2), Duration::from_secs(4));
        (0..40).for_each(|_| pace.took(Duration::from_secs(8)));
        assert!(pace.wait(1) > Duration::from_secs(7), "{:?}", pace.wait(1));
        pace.leaves();
        assert_eq!(pace.enters(), 1);
    }

    #[test]
    fn seconds_to_wait_are_rounded_up() {
        let seconds = |ms| busy(Duration::from_millis(ms));
        assert_eq!(seconds(0), LocalError::Busy { retry_after_s: 1 });
        assert_eq!(seconds(2_001), LocalError::Busy { retry_after_s: 3 });
    }
}
