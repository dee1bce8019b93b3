//! The queue before the writer: bounded in events and bytes, with places kept for outcomes.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use uuid::Uuid;

use crate::{
    append::{
        Observer, Status,
        receipt::{AppendError, Promise},
    },
    canon,
    event::{Draft, Envelope, Kind, Position, Timestamp},
    frame,
    recover::Ready,
};

/// The most bytes of an event, its decision included.
pub const EVENT_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Events that may wait, outcomes of open calls not counted.
const QUEUE_EVENTS_MAX: usize = 8192;
/// Bytes that may wait, outcomes of open calls not counted.
const QUEUE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Calls that may be open; also the most outcomes that may wait.
const PLACES_MAX: usize = 65_536;
/// Room on disk for the attempt and the outcome of one open call.
const PLACE_BYTES: u64 = 16 * 1024;
/// Room on disk for the last events, where the limit is large enough.
const FINAL_BYTES: u64 = 1024 * 1024;
/// The most events of one group.
const GROUP_EVENTS_MAX: usize = 256;
/// A group that has reached so many bytes takes no further event.
const GROUP_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Room for the commit frame of a group.
const COMMIT_BYTES: u64 = 256;

/// The bounds in bytes on disk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    bytes_max: u64,
    final_bytes: u64,
}

/// From which room an event may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    Ordinary,
    /// Tells the end of something that began; may use what is set aside.
    Reserve,
}

/// An event that waits for the writer.
pub(super) struct Job {
    pub(super) draft: Draft,
    pub(super) time: Timestamp,
    pub(super) promise: Promise,
    /// At least the bytes it will take on disk.
    pub(super) bytes_max: u64,
    placed: bool,
}

/// What appenders and the writer share.
pub(super) struct Shared {
    pub(super) stream: Uuid,
    pub(super) envelope: Envelope,
    pub(super) observer: Option<Arc<dyn Observer>>,
    limits: Limits,
    queue: Mutex<Queue>,
    /// The writer waits here for events.
    wake: Condvar,
    /// A shutdown waits here for the writer.
    ended: Condvar,
    /// Calls without an outcome. Never held together with `queue`.
    calls: Mutex<BTreeMap<Uuid, Begun>>,
}

struct Queue {
    jobs: VecDeque<Job>,
    /// Jobs in the queue that hold no place.
    ordinary: usize,
    /// At least the bytes of jobs in the queue and in the writer's hands.
    pending_bytes: u64,
    /// The part of them that holds no place.
    ordinary_bytes: u64,
    /// Bytes of frames on disk.
    written_bytes: u64,
    places: usize,
    phase: Phase,
    failure: Option<Arc<str>>,
    durable_seq: u64,
    writer_waits: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    Closing,
    Ended,
}

/// A call that began.
pub(super) struct Begun {
    tenant: Arc<str>,
    started: Started,
    first_seq: Option<u64>,
}

enum Started {
    Here(Timestamp),
    /// Before this process started.
    Earlier(String),
}

/// What the writer gets to do.
pub(super) enum Work {
    Group(Vec<Job>),
    Nothing,
    Close,
}

// === impl Limits ===

impl Limits {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self { bytes_max, final_bytes: FINAL_BYTES.min(bytes_max / 8) }
    }
}

// === impl Job ===

impl Job {
    pub(super) fn new(
        envelope: &Envelope,
        draft: Draft,
        time: Timestamp,
        promise: Promise,
    ) -> Self {
        let tenant = draft.tenant.as_deref();
        let frame = |body: usize| (envelope.bytes_max(body, tenant) + frame::HEADER_BYTES) as u64;
        let decision = draft.decision.as_ref().map_or(0, |decision| frame(decision.body.len()));
        let bytes_max = frame(draft.body.len()) + decision + COMMIT_BYTES;
        Self { draft, time, promise, bytes_max, placed: false }
    }
}

// === impl Shared ===

impl Shared {
    pub(super) fn new(
        limits: Limits,
        envelope: Envelope,
        ready: &Ready,
        observer: Option<Arc<dyn Observer>>,
    ) -> Self {
        let queue = Queue {
            jobs: VecDeque::with_capacity(GROUP_EVENTS_MAX),
            ordinary: 0,
            pending_bytes: 0,
            ordinary_bytes: 0,
            written_bytes: ready.bytes,
            places: 0,
            phase: Phase::Open,
            failure: None,
            durable_seq: ready.cursor.seq,
            writer_waits: false,
        };
        let begun = ready.recovered.open_calls.iter().map(|call| {
            let tenant = call.tenant.clone().unwrap_or_else(|| Arc::from(""));
            let started = Started::Earlier(call.started.clone());
            (call.call_id, Begun { tenant, started, first_seq: call.first_seq })
        });
        Self {
            stream: ready.recovered.stream,
            envelope,
            observer,
            limits,
            queue: Mutex::new(queue),
            wake: Condvar::new(),
            ended: Condvar::new(),
            calls: Mutex::new(begun.collect()),
        }
    }

    /// Takes an event into the queue if there is room.
    pub(super) fn push(&self, job: Job, room: Room) -> Result<(), AppendError> {
        debug_assert!(job.draft.body.first().is_none_or(|byte| *byte == b'{'), "body: an object");
        if job.bytes_max > EVENT_BYTES_MAX {
            return Err(AppendError::TooLarge);
        }
        let mut queue = self.lock();
        queue.refuse_if_over()?;
        let waits_too_much = queue.ordinary_bytes + job.bytes_max > QUEUE_BYTES_MAX;
        if queue.ordinary >= QUEUE_EVENTS_MAX || waits_too_much {
            return Err(AppendError::Full);
        }
        if room == Room::Ordinary && !queue.has_room(&self.limits, job.bytes_max) {
            return Err(AppendError::LimitReached);
        }
        queue.ordinary += 1;
        queue.ordinary_bytes += job.bytes_max;
        // Nobody waits for the end of an attempt: it goes with what follows it, an intent or the
        // outcome, in one group. At the latest the next signed head takes it along.
        let wakes = job.draft.kind != Kind::Attempt;
        queue.push(job);
        if wakes {
            self.wake_writer(queue);
        }
        Ok(())
    }

    /// Takes the last event of a call, whose place is given back.
    pub(super) fn push_placed(&self, mut job: Job) {
        job.placed = true;
        let mut queue = self.lock();
        queue.places = queue.places.saturating_sub(1);
        let too_large = job.bytes_max > EVENT_BYTES_MAX;
        let refused = if too_large { Err(AppendError::TooLarge) } else { queue.refuse_if_over() };
        match refused {
            Err(error) => {
                drop(queue);
                job.promise.fail(error);
            }
            Ok(()) => {
                queue.push(job);
                self.wake_writer(queue);
            }
        }
    }

    /// Sets room aside for the outcome of a call.
    pub(super) fn begin(
        &self,
        call_id: Uuid,
        tenant: &Arc<str>,
        now: Timestamp,
    ) -> Result<(), AppendError> {
        let mut queue = self.lock();
        queue.refuse_if_over()?;
        if queue.places >= PLACES_MAX {
            return Err(AppendError::Full);
        }
        if !queue.has_room(&self.limits, PLACE_BYTES) {
            return Err(AppendError::LimitReached);
        }
        queue.places += 1;
        drop(queue);
        let (tenant, started) = (Arc::clone(tenant), Started::Here(now));
        self.calls().insert(call_id, Begun { tenant, started, first_seq: None });
        Ok(())
    }

    /// Frees the place of a call that has no outcome to tell.
    pub(super) fn give_back(&self, call_id: Uuid) {
        let mut queue = self.lock();
        queue.places = queue.places.saturating_sub(1);
        drop(queue);
        self.calls().remove(&call_id);
    }

    /// What the writer is to do next; waits for it until the deadline.
    pub(super) fn next_work(&self, deadline: Instant) -> Work {
        let mut queue = self.lock();
        loop {
            if !queue.jobs.is_empty() {
                return Work::Group(queue.take_group());
            }
            if queue.phase != Phase::Open {
                return Work::Close;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Work::Nothing;
            }
            queue.writer_waits = true;
            queue = self.wake.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
            queue.writer_waits = false;
            drop(queue);
            // Where appenders share our core, those who are ready go first, and their events go
            // into the same group; else this costs less than a microsecond.
            std::thread::yield_now();
            queue = self.lock();
        }
    }

    /// A group is durable: what it was thought to take makes way for what it took.
    pub(super) fn settle(&self, thought_bytes: u64, written_bytes: u64, durable_seq: u64) {
        let mut queue = self.lock();
        queue.pending_bytes = queue.pending_bytes.saturating_sub(thought_bytes);
        queue.written_bytes += written_bytes;
        queue.durable_seq = durable_seq;
    }

    /// The stream failed: whoever waits is told, and whoever comes.
    pub(super) fn fail(&self, reason: &str) {
        let mut queue = self.lock();
        queue.failure.get_or_insert_with(|| Arc::from(reason));
        let jobs = std::mem::take(&mut queue.jobs);
        drop(queue);
        for job in jobs {
            job.promise.fail(AppendError::Poisoned);
        }
        if let Some(observer) = &self.observer {
            observer.poisoned(reason);
        }
    }

    /// The writer has ended; a shutdown may go on.
    pub(super) fn end(&self) {
        let mut queue = self.lock();
        queue.phase = Phase::Ended;
        let jobs = std::mem::take(&mut queue.jobs);
        drop(queue);
        drop(jobs);
        self.ended.notify_all();
    }

    /// Takes no more events and waits until the writer has ended.
    pub(super) fn close(&self, at_most: Duration) -> Result<(), AppendError> {
        let mut queue = self.lock();
        if queue.phase == Phase::Open {
            queue.phase = Phase::Closing;
        }
        self.wake.notify_all();
        let waited =
            self.ended.wait_timeout_while(queue, at_most, |queue| queue.phase != Phase::Ended);
        let (_queue, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() { Err(AppendError::TimedOut) } else { Ok(()) }
    }

    /// What went wrong, if anything did.
    pub(super) fn failure(&self) -> Option<Arc<str>> {
        self.lock().failure.clone()
    }

    pub(super) fn status(&self) -> Status {
        let open_calls = self.calls().len();
        let queue = self.lock();
        Status {
            stream: self.stream,
            bytes: queue.written_bytes + queue.pending_bytes,
            bytes_reserved: queue.reserved_bytes(&self.limits),
            bytes_max: self.limits.bytes_max,
            full: !queue.has_room(&self.limits, PLACE_BYTES),
            poisoned: queue.failure.clone(),
            durable: Position { stream: self.stream, seq: queue.durable_seq },
            queued: queue.jobs.len(),
            open_calls,
        }
    }

    /// An event of this call has this place. A call that never began is listed too: it may have
    /// sent something. With its outcome the call is over.
    pub(super) fn note_event(&self, job: &Job, seq: u64) {
        let Some(call_id) = job.draft.call_id else { return };
        if job.draft.kind == Kind::Outcome {
            self.calls().remove(&call_id);
            return;
        }
        let mut calls = self.calls();
        let begun = calls.entry(call_id).or_insert_with(|| Begun {
            tenant: job.draft.tenant.clone().unwrap_or_else(|| Arc::from("")),
            started: Started::Here(job.time),
            first_seq: None,
        });
        begun.first_seq.get_or_insert(seq);
    }

    /// The body of an `open` event: canonical JSON.
    pub(super) fn open_body(&self) -> Vec<u8> {
        let mut body = b"{\"calls\":[".to_vec();
        for (index, (call_id, begun)) in self.calls().iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let first_seq = begun.first_seq.map(|seq| format!(",\"first_seq\":{seq}"));
            let first_seq = first_seq.unwrap_or_default();
            let started = match &begun.started {
                Started::Here(time) => time.to_string(),
                Started::Earlier(text) => text.clone(),
            };
            let head = format!("{comma}{{\"call_id\":\"{call_id}\"{first_seq},\"started\":");
            body.extend_from_slice(head.as_bytes());
            canon::write_string(&mut body, &started);
            body.extend_from_slice(b",\"tenant\":");
            canon::write_string(&mut body, &begun.tenant);
            body.push(b'}');
        }
        body.extend_from_slice(b"]}");
        body
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn calls(&self) -> MutexGuard<'_, BTreeMap<Uuid, Begun>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the writer only when it sleeps, once, and outside the lock.
    fn wake_writer(&self, mut queue: MutexGuard<'_, Queue>) {
        let waits = std::mem::take(&mut queue.writer_waits);
        drop(queue);
        if waits {
            self.wake.notify_one();
        }
    }
}

// === impl Queue ===

impl Queue {
    fn refuse_if_over(&self) -> Result<(), AppendError> {
        match (&self.failure, self.phase) {
            (Some(_), _) => Err(AppendError::Poisoned),
            (None, Phase::Open) => Ok(()),
            (None, Phase::Closing | Phase::Ended) => Err(AppendError::Closed),
        }
    }

    fn reserved_bytes(&self, limits: &Limits) -> u64 {
        limits.final_bytes + self.places as u64 * PLACE_BYTES
    }

    fn has_room(&self, limits: &Limits, bytes: u64) -> bool {
        let taken = self.written_bytes + self.pending_bytes + self.reserved_bytes(limits);
        taken + bytes <= limits.bytes_max
    }

    fn push(&mut self, job: Job) {
        self.pending_bytes += job.bytes_max;
        self.jobs.push_back(job);
    }

    fn take_group(&mut self) -> Vec<Job> {
        let mut group = Vec::with_capacity(self.jobs.len().min(GROUP_EVENTS_MAX));
        let (mut events, mut bytes) = (0, 0);
        while let Some(job) = self.jobs.pop_front() {
            if !job.placed {
                self.ordinary -= 1;
                self.ordinary_bytes -= job.bytes_max;
            }
            events += 1 + usize::from(job.draft.decision.is_some());
            bytes += job.bytes_max;
            group.push(job);
            if events >= GROUP_EVENTS_MAX || bytes >= GROUP_BYTES_MAX {
                break;
            }
        }
        group
    }
}
