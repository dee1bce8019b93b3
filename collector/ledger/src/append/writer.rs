//! The writer's thread: one group after the other, each written, synced and published.

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    append::{
        queue::{Job, Shared, Work},
        receipt::{AppendError, Promise},
    },
    disk::Storage,
    event::{DecisionBody, Kind, Parts, Timestamp},
    frame::{self, Hash, Place},
    head::{Head, HeadFile, SigningPair},
    mark::{Mark, MarkFile},
    recover::{self, OpenSegment, Ready},
    segment::{Cursor, SegmentName},
};

/// How long the end of an attempt, for which nobody waits, waits for other events.
const LONE_WAIT: Duration = Duration::from_secs(1);
/// A group's buffer that has grown beyond this is given back after use.
const BUFFER_BYTES_KEPT: usize = 1024 * 1024;

/// When a segment is full, how much room its file sets aside, how often a head is signed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) segment_bytes: u64,
    pub(super) allocate_bytes: u64,
    pub(super) head_every: Duration,
}

/// A decision that the current segment holds.
struct Held {
    body: Arc<[u8]>,
    seq: u64,
}

/// The writer.
pub(super) struct Writing {
    shared: Arc<Shared>,
    storage: Arc<dyn Storage>,
    folder: PathBuf,
    segment: OpenSegment,
    cursor: Cursor,
    mark: MarkFile,
    heads: HeadFile,
    pair: SigningPair,
    head_size: u64,
    head_due: Instant,
    pace: Pace,
    /// By tenant and digest: one digest is one set of facts of one tenant.
    decisions: HashMap<(Option<Arc<str>>, Arc<str>), Held>,
    buffer: Vec<u8>,
}

/// A group on its way to the disk.
struct Group {
    first: u64,
    cursor: Cursor,
    kinds: Vec<Kind>,
    promises: Vec<(Promise, u64)>,
    thought_bytes: u64,
}

/// What could not be done to the disk.
struct Failure {
    doing: &'static str,
    error: io::Error,
}

/// Tells the others that the writer has ended, however it ends.
struct Ending(Arc<Shared>);

// === impl Writing ===

impl Writing {
    pub(super) fn new(
        shared: Arc<Shared>,
        storage: Arc<dyn Storage>,
        ready: Ready,
        pace: Pace,
    ) -> Self {
        Self {
            shared,
            storage,
            folder: ready.folder,
            segment: ready.segment,
            cursor: ready.cursor,
            mark: ready.mark,
            heads: ready.heads,
            pair: ready.pair,
            head_size: ready.head_size,
            head_due: Instant::now(),
            pace,
            decisions: HashMap::new(),
            buffer: Vec::new(),
        }
    }

    /// Writes until the ledger is closed or the disk fails.
    pub(super) fn run(mut self) {
        let ending = Ending(Arc::clone(&self.shared));
        if let Err(Failure { doing, error }) = self.write_all() {
            self.shared.fail(&format!("cannot {doing}: {error}"));
        }
        drop(ending);
    }

    fn write_all(&mut self) -> Result<(), Failure> {
        // What a killed process left unsigned: events of two runs never wait for one head, so that
        // a gap in time among unsigned events tells that heads are lost.
        self.sign_head()?;
        loop {
            match self.shared.next_work(self.looks_up_at()) {
                Work::Group(jobs) => self.commit(jobs)?,
                Work::Nothing => {}
                Work::Close => return self.sign_head(),
            }
            if Instant::now() >= self.head_due {
                self.sign_head()?;
            }
        }
    }

    /// Until when the writer sleeps if nothing wakes it.
    fn looks_up_at(&self) -> Instant {
        let lone = Instant::now() + LONE_WAIT;
        if self.cursor.seq == self.head_size { lone } else { lone.min(self.head_due) }
    }

    /// Writes a group and syncs it; only then is anything durable.
    fn commit(&mut self, jobs: Vec<Job>) -> Result<(), Failure> {
        let group = self.prepare(jobs)?;
        // Nothing is new when all of it was decisions that are held, and so durable, already.
        if !group.kinds.is_empty()
            && let Err(failure) = self.write(&group)
        {
            return Err(group.fail(failure));
        }
        self.cursor = group.cursor;
        let written_bytes = self.buffer.len() as u64;
        self.segment.offset += written_bytes;
        self.shared.settle(group.thought_bytes, written_bytes, group.cursor.seq);
        for (promise, seq) in group.promises {
            promise.durable(seq);
        }
        if let Some(observer) = &self.shared.observer {
            group.kinds.iter().for_each(|kind| observer.event(*kind));
        }
        if self.buffer.capacity() > BUFFER_BYTES_KEPT {
            self.buffer = Vec::new();
        }
        Ok(())
    }

    fn write(&self, group: &Group) -> Result<(), Failure> {
        let doing = |doing| move |error| Failure { doing, error };
        let file = &self.segment.file;
        file.write_at(&self.buffer, self.segment.offset).map_err(doing("write a group"))?;
        for (promise, seq) in &group.promises {
            promise.written(*seq);
        }
        let began = Instant::now();
        file.sync_data().map_err(doing("sync a group"))?;
        if let Some(observer) = &self.shared.observer {
            observer.fsync(began.elapsed());
        }
        let mark = Mark { seq: group.cursor.seq, chain: group.cursor.chain };
        self.mark.publish(&mark).map_err(doing("publish the durable mark"))
    }

    /// Gives each event its place and builds the group's bytes.
    fn prepare(&mut self, jobs: Vec<Job>) -> Result<Group, Failure> {
        let thought_bytes = jobs.iter().map(|job| job.bytes_max).sum();
        if self.segment.offset > 0
            && self.segment.offset + thought_bytes > self.pace.segment_bytes
            && let Err(error) = self.rotate()
        {
            jobs.iter().for_each(|job| job.promise.fail(AppendError::Poisoned));
            return Err(Failure { doing: "begin a new segment", error });
        }
        self.buffer.clear();
        let mut group = Group {
            first: self.cursor.seq + 1,
            cursor: self.cursor,
            kinds: Vec::with_capacity(jobs.len()),
            promises: Vec::with_capacity(jobs.len()),
            thought_bytes,
        };
        if self.segment.offset == 0 {
            let body = self.shared.open_body();
            let (kind, time) = (Kind::Open, Timestamp::now());
            let parts = Parts { kind, seq: 0, tenant: None, call_id: None, time, body: &body };
            self.encode(&mut group, parts);
        }
        for job in jobs {
            self.place(&mut group, job);
        }
        if group.kinds.is_empty() {
            return Ok(group);
        }
        let last = Place {
            seq: group.cursor.seq,
            group_first: group.first,
            chain_prev: group.cursor.chain,
        };
        let hash: Hash = frame::group_hash(&self.buffer);
        frame::write_commit(&mut self.buffer, &last, group.kinds.len() as u64, &hash);
        Ok(group)
    }

    /// Adds an event to the group, its decision before it where the segment lacks it.
    fn place(&mut self, group: &mut Group, job: Job) {
        let decided = job.draft.decision.as_ref();
        let decided = decided.map(|decision| self.hold_decision(group, &job, decision));
        let itself = decided.filter(|_| job.draft.kind == Kind::Decision);
        let seq = itself.unwrap_or_else(|| {
            let parts = Parts {
                kind: job.draft.kind,
                seq: 0,
                tenant: job.draft.tenant.as_deref(),
                call_id: job.draft.call_id,
                time: job.time,
                body: &job.draft.body,
            };
            self.encode(group, parts)
        });
        self.shared.note_event(&job, seq);
        group.promises.push((job.promise, seq));
    }

    /// Where the segment holds this decision; writes it first if it does not.
    fn hold_decision(&mut self, group: &mut Group, job: &Job, decision: &DecisionBody) -> u64 {
        let key = (job.draft.tenant.clone(), Arc::clone(&decision.digest));
        if let Some(held) = self.decisions.get(&key)
            && held.body == decision.body
        {
            return held.seq;
        }
        let parts = Parts {
            kind: Kind::Decision,
            seq: 0,
            tenant: job.draft.tenant.as_deref(),
            call_id: None,
            time: job.time,
            body: &decision.body,
        };
        let seq = self.encode(group, parts);
        self.decisions.insert(key, Held { body: Arc::clone(&decision.body), seq });
        seq
    }

    /// Appends one event to the group's bytes, with the next seq.
    fn encode(&mut self, group: &mut Group, mut parts: Parts<'_>) -> u64 {
        let Cursor { seq, chain } = group.cursor;
        parts.seq = seq + 1;
        let place = Place { seq: parts.seq, group_first: group.first, chain_prev: chain };
        let envelope = &self.shared.envelope;
        let leaf = frame::write_event(&mut self.buffer, &place, parts.kind, |buffer| {
            envelope.write(buffer, &parts);
        });
        group.cursor = Cursor { seq: parts.seq, chain: frame::link(&chain, &leaf) };
        group.kinds.push(parts.kind);
        parts.seq
    }

    /// Begins a new segment. All of the old one is synced; room it did not need is given back.
    fn rotate(&mut self) -> io::Result<()> {
        self.segment.file.set_bytes(self.segment.offset)?;
        let name =
            SegmentName { index: self.segment.name.index + 1, first_seq: self.cursor.seq + 1 };
        let (folder, bytes) = (&self.folder, self.pace.allocate_bytes);
        self.segment = recover::make_segment(&*self.storage, folder, name, &[], bytes)?;
        self.decisions.clear();
        Ok(())
    }

    /// Signs how far the stream is durable, if there is news.
    fn sign_head(&mut self) -> Result<(), Failure> {
        self.head_due = Instant::now() + self.pace.head_every;
        if self.cursor.seq == self.head_size {
            return Ok(());
        }
        let head =
            Head { stream: self.shared.stream, size: self.cursor.seq, root: self.cursor.chain };
        let written = self.heads.append(&head.sign(&self.pair)).and_then(|()| self.heads.sync());
        written.map_err(|error| Failure { doing: "write a signed head", error })?;
        self.head_size = head.size;
        Ok(())
    }
}

// === impl Group ===

impl Group {
    /// Nothing of the group is durable: whoever waits for it is told.
    fn fail(self, failure: Failure) -> Failure {
        for (promise, _seq) in self.promises {
            promise.fail(AppendError::Poisoned);
        }
        failure
    }
}

// === impl Ending ===

impl Drop for Ending {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail("the writer stopped unexpectedly");
        }
        self.0.end();
    }
}
