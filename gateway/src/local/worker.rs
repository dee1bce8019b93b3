//! The thread that owns the model, and the bounded queue before it.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
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
/// Seconds one queued call is taken to need, for `Retry-After`.
const CALL_SECONDS: u64 = 2;

type Pieces = mpsc::Sender<Result<Piece, LocalError>>;

#[derive(Debug)]
struct Job {
    request: Request,
    pieces: Pieces,
    queued: Instant,
}

/// The way to the worker: full means busy, at once.
#[derive(Debug)]
pub(crate) struct Queue {
    jobs: SyncSender<Job>,
    waiting: Arc<AtomicUsize>,
    fingerprint: String,
}

impl Queue {
    pub(crate) fn push(
        &self,
        request: Request,
    ) -> Result<mpsc::Receiver<Result<Piece, LocalError>>, LocalError> {
        let (pieces, receiver) = mpsc::channel(PIECES_MAX);
        let job = Job { request, pieces, queued: Instant::now() };
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.jobs.try_send(job).map(|()| receiver).map_err(|refused| {
            let ahead = self.waiting.fetch_sub(1, Ordering::Relaxed) as u64;
            match refused {
                TrySendError::Full(_) => LocalError::Busy { retry_after_s: ahead * CALL_SECONDS },
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
    wait_max: Duration,
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
        wait_max: settings.wait_max.0,
    };
    let (jobs, queue) = sync_channel(settings.queue_max);
    let waiting = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&waiting);
    std::thread::Builder::new()
        .name("local-model".to_owned())
        .spawn(move || run(worker, &queue, &counted))
        .map_err(|fault| LocalError::Unavailable { reason: fault.to_string() })?;
    Ok(Queue { jobs, waiting, fingerprint: manifest.fingerprint() })
}

fn run(mut worker: Worker, queue: &Receiver<Job>, waiting: &AtomicUsize) {
    while let Ok(job) = queue.recv() {
        waiting.fetch_sub(1, Ordering::Relaxed);
        if job.queued.elapsed() > worker.wait_max {
            let busy = LocalError::Busy { retry_after_s: CALL_SECONDS };
            drop(job.pieces.blocking_send(Err(busy)));
            continue;
        }
        if let Err(fault) = worker.answer(&job) {
            drop(job.pieces.blocking_send(Err(fault)));
        }
    }
}

impl Worker {
    /// Generates one answer. A client that left ends it at the next token.
    fn answer(&mut self, job: &Job) -> Result<(), LocalError> {
        let prompt = self.template.render(&job.request.messages)?;
        let prompt = self.tokens.encode(&prompt)?;
        let room = self.context_tokens_max.saturating_sub(prompt.len());
        let wanted = job.request.max_tokens.unwrap_or(ANSWER_TOKENS_MAX.min(room.max(1)));
        if wanted > room {
            let (needed, max) = (prompt.len() + wanted, self.context_tokens_max);
            return Err(LocalError::ContextLength { needed, max });
        }
        let mut generation = Generation::new(&job.request, prompt.len(), wanted);
        let mut text = self.tokens.stream();
        let mut logits = self.session.begin(&prompt)?;
        loop {
            if job.pieces.is_closed() {
                return Ok(());
            }
            let token = match generation.next(&logits, self.session.stop_tokens()) {
                Step::Token(token) => token,
                Step::End(finish) => return generation.end(finish, text.rest(), &job.pieces),
            };
            let piece = text.push(token)?;
            if generation.emit(&piece, &job.pieces)? {
                return Ok(());
            }
            logits = self.session.step(token)?;
        }
    }
}
