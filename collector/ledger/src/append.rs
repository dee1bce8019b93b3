//! Appending: the one writer of a stream, its queue, and receipts.
//!
//! `append` stamps the time, pushes onto a bounded queue and returns a receipt. One thread takes
//! what is queued as a group, writes it (`written`), syncs it (`durable`), publishes the durable
//! mark and, once a second with news, a signed head. Any error of the disk poisons the stream:
//! every receipt that is not durable fails, and so does every later append.
//!
//! Cost on the caller's side: one small allocation, one lock held for a push. On the writer's: two
//! hashes per event, one write and one `fdatasync` per group of up to 256 events.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use uuid::Uuid;

use crate::{
    disk::{Lock, Storage},
    event::{Draft, Envelope, Kind, Position, Timestamp, Writer},
    recover::{self, OpenError, Recovered, Where},
};

mod queue;
mod receipt;
mod writer;

pub use queue::EVENT_BYTES_MAX;
pub use receipt::{AppendError, Receipt};

use queue::{Job, Limits, Room, Shared};
use receipt::Promise;

/// The size of a segment where nothing else is wanted.
pub const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
/// A smaller segment would hold little beside its `open` event.
const SEGMENT_BYTES_MIN: u64 = 1024;
/// A segment is read whole at a start.
const SEGMENT_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// How often a head is signed, where there is news and nothing else is wanted.
pub const HEAD_EVERY: Duration = Duration::from_secs(1);
/// How long a shutdown waits for the disk.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(60);

/// What a ledger is opened with.
#[derive(Clone)]
pub struct Options {
    /// The folder of streams, `DATA/ledger`.
    pub stream_dir_parent: PathBuf,
    /// Where signed heads and public keys go, `DATA/heads`.
    pub heads_dir: PathBuf,
    /// The key that signs heads, PKCS#8 PEM; made at a first start.
    pub signing_key: PathBuf,
    /// The most bytes the stream may have. Outcomes of open calls have room set aside below it.
    pub bytes_max: u64,
    /// When a segment is full; normally [`SEGMENT_BYTES`].
    pub segment_bytes: u64,
    /// How often a head is signed where there is news; normally [`HEAD_EVERY`].
    pub head_every: Duration,
    pub writer: Writer,
    /// Written into each event; empty leaves it out.
    pub gateway_version: String,
    /// Lower hex SHA-256 of the configuration, written into each event.
    pub config_digest: Option<String>,
    /// Told what the writer does, on the writer's thread.
    pub observer: Option<Arc<dyn Observer>>,
}

/// Is told what the writer does; must not block.
pub trait Observer: Send + Sync {
    /// A group was synced; this is how long the sync took.
    fn fsync(&self, duration: Duration);
    /// An event is durable.
    fn event(&self, kind: Kind);
    /// The stream failed, and why; nothing is appended from now on.
    fn poisoned(&self, reason: &str);
}

/// The writing end of a stream. Clones share it; when the last one goes, the writer ends.
#[derive(Clone)]
pub struct Ledger {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    locks: Mutex<Vec<Box<dyn Lock>>>,
}

/// How a ledger is.
#[derive(Debug, Clone)]
pub struct Status {
    pub stream: Uuid,
    /// Bytes of frames on disk and in the queue.
    pub bytes: u64,
    /// Bytes set aside for outcomes of open calls and a last event.
    pub bytes_reserved: u64,
    pub bytes_max: u64,
    /// Whether the room that is left is kept for what is open: no new call can begin.
    pub full: bool,
    /// What went wrong, if the stream failed.
    pub poisoned: Option<Arc<str>>,
    /// The last durable event; seq 0 before the first.
    pub durable: Position,
    /// Events that wait for the writer.
    pub queued: usize,
    /// Calls that began and whose outcome has not been handed over.
    pub open_calls: usize,
}

/// The place of a call's outcome: room in the queue and on disk. Dropping it gives it back.
pub struct Place {
    shared: Arc<Shared>,
    call_id: Uuid,
    open: bool,
}

// === impl Options ===

impl fmt::Debug for Options {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Options");
        shown.field("stream_dir_parent", &self.stream_dir_parent);
        shown.field("bytes_max", &self.bytes_max).field("writer", &self.writer);
        shown.finish_non_exhaustive()
    }
}

// === impl Ledger ===

impl Ledger {
    /// Takes the writer's stream: locks it, recovers it, starts its thread. The caller appends a
    /// `start` event, and an `unknown` outcome for each open call, before it takes new calls.
    pub fn open(
        options: Options,
        storage: Arc<dyn Storage>,
    ) -> Result<(Self, Recovered), OpenError> {
        let (min, max) = (SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
        if !(min..=max).contains(&options.segment_bytes) {
            return Err(OpenError::SegmentBytes { given: options.segment_bytes, min, max });
        }
        let allocate_bytes = options.segment_bytes.min(options.bytes_max);
        let place = Where {
            ledger: &options.stream_dir_parent,
            heads: &options.heads_dir,
            signing_key: &options.signing_key,
            writer: options.writer,
            allocate_bytes,
        };
        let mut ready = recover::recover(&place, &*storage)?;
        let locks = Mutex::new(std::mem::take(&mut ready.locks));
        let recovered = ready.recovered.clone();
        let config = options.config_digest.as_deref();
        let envelope = Envelope::new(recovered.stream, &options.gateway_version, config);
        let limits = Limits::new(options.bytes_max);
        let shared = Shared::new(limits, envelope, &ready, options.observer);
        let shared = Arc::new(shared);
        let pace = writer::Pace {
            segment_bytes: options.segment_bytes,
            allocate_bytes,
            head_every: options.head_every,
        };
        let writer = writer::Writing::new(Arc::clone(&shared), storage, ready, pace);
        let path = options.stream_dir_parent;
        let thread = thread::Builder::new().name("ledger".to_owned()).spawn(move || writer.run());
        let thread = thread.map_err(|source| OpenError::Io { path, source })?;
        let inner = Inner { shared, thread: Mutex::new(Some(thread)), locks };
        Ok((Self { inner: Arc::new(inner) }, recovered))
    }

    /// The stream's id.
    pub fn stream(&self) -> Uuid {
        self.inner.shared.stream
    }

    /// Hands an event to the writer and stamps its time. Never waits.
    pub fn append(&self, draft: Draft) -> Result<Receipt, AppendError> {
        let shared = &self.inner.shared;
        let room = if draws_on_reserve(draft.kind) { Room::Reserve } else { Room::Ordinary };
        let (promise, receipt) = Promise::new(shared.stream);
        shared.push(Job::new(&shared.envelope, draft, Timestamp::now(), promise), room)?;
        Ok(receipt)
    }

    /// Begins a call: sets room aside for its outcome, and has the call stand in later `open`
    /// events until its outcome is written.
    pub fn begin(&self, call_id: Uuid, tenant: &Arc<str>) -> Result<Place, AppendError> {
        self.inner.shared.begin(call_id, tenant, Timestamp::now())?;
        Ok(Place { shared: Arc::clone(&self.inner.shared), call_id, open: true })
    }

    /// How the ledger is now.
    pub fn status(&self) -> Status {
        self.inner.shared.status()
    }

    /// Takes no more events, writes what is queued, signs a last head and lets the stream go. The
    /// caller appends `stop` before.
    pub fn shutdown(&self) -> Result<(), AppendError> {
        self.inner.end()
    }

    /// The same, for the last owner.
    pub fn close(self) -> Result<(), AppendError> {
        self.shutdown()
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Ledger").field("stream", &self.stream()).finish_non_exhaustive()
    }
}

/// What tells the end of something that began must find room when new things no longer do.
fn draws_on_reserve(kind: Kind) -> bool {
    match kind {
        Kind::Attempt
        | Kind::Outcome
        | Kind::Open
        | Kind::Start
        | Kind::Stop
        | Kind::Poison
        | Kind::Trim
        | Kind::Gap => true,
        Kind::Decision
        | Kind::Intent
        | Kind::Change
        | Kind::Notify
        | Kind::Access
        | Kind::Erasure
        | Kind::Checkpoint
        | Kind::Refused => false,
    }
}

// === impl Inner ===

impl Inner {
    /// Ends the writer, once: a disk that did not let it end in time is not waited for again.
    fn end(&self) -> Result<(), AppendError> {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            self.shared.close(SHUTDOWN_DEADLINE)?;
            let joined = thread.join();
            self.locks.lock().unwrap_or_else(PoisonError::into_inner).clear();
            joined.map_err(|_panic| AppendError::Poisoned)?;
        }
        self.shared.failure().map_or(Ok(()), |_reason| Err(AppendError::Poisoned))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Whoever cared has called `shutdown`; here the thread is only not left behind.
        match self.end() {
            Ok(()) | Err(_) => {}
        }
    }
}

// === impl Place ===

impl Place {
    /// Hands over the call's last event. Never waits, and never fails for want of room; the
    /// receipt fails if the stream did.
    pub fn close(mut self, draft: Draft) -> Receipt {
        self.open = false;
        let (promise, receipt) = Promise::new(self.shared.stream);
        let job = Job::new(&self.shared.envelope, draft, Timestamp::now(), promise);
        self.shared.push_placed(job);
        receipt
    }

    /// The call whose place this is.
    pub fn call_id(&self) -> Uuid {
        self.call_id
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.open {
            self.shared.give_back(self.call_id);
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Place").field("call_id", &self.call_id).finish_non_exhaustive()
    }
}
