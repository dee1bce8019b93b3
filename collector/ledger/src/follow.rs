//! Reading a stream as it grows, up to its durable mark.
//!
//! Works beside a running writer in another process, with none running, and on a copy: where
//! there is no mark, whole groups decide. Every group is checked before any of it is given out.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use thiserror::Error;
use uuid::Uuid;

use crate::{
    disk::{self, Storage},
    event::{Kind, Position},
    frame::{Damage, Hash, Parsed},
    mark::{self, Found},
    segment::{self, Break, Flaw, Group, SegmentName, Step},
};

pub use crate::segment::{Cursor, Folder};

/// How much of a segment is read at once; more only where a group is larger.
const READ_BYTES: usize = 256 * 1024;
/// How often a mark that was just being written is read again.
const MARK_TRIES: usize = 5;

/// One durable event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub position: Position,
    pub kind: Kind,
    /// The event's canonical JSON, as it stands on disk.
    pub json: Vec<u8>,
    pub leaf: Hash,
    /// The chain hash before the event.
    pub chain_prev: Hash,
    /// The chain hash after the event.
    pub chain: Hash,
}

/// Reads one stream in order.
#[derive(Debug)]
pub struct Follower {
    storage: Arc<dyn Storage>,
    folder: PathBuf,
    stream: Uuid,
    /// The last event of the last group that was read.
    read_to: Cursor,
    /// The last event given out, or resumed behind.
    cursor: Cursor,
    /// Events of a group in whose middle reading was resumed.
    pending: Vec<Record>,
    segment: Option<SegmentName>,
    /// Bytes of the segment from `base` on; those before `at` have been read.
    buffer: Vec<u8>,
    base: u64,
    at: usize,
    durable: Option<u64>,
}

/// Why a stream cannot be read on.
#[derive(Debug, Error)]
pub enum FollowError {
    #[error("cannot read `{path}`: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "segment `{segment}` is damaged at byte {offset}, at event {seq}: {flaw}; run \
         `cordon audit verify`"
    )]
    Damaged { segment: PathBuf, offset: u64, seq: u64, flaw: Flaw },
    #[error(
        "event {seq} of stream {stream} is not the one read before: the stream has a second \
         history; find out which is the true one before going on"
    )]
    Forked { stream: Uuid, seq: u64 },
    #[error(
        "event {seq} of stream {stream} was read before and is gone; restore the stream from a \
         backup"
    )]
    Missing { stream: Uuid, seq: u64 },
    #[error("the durable mark of stream {stream} is damaged; start its writer, which renews it")]
    Mark { stream: Uuid },
}

/// The streams of a ledger folder, in the order of their ids.
pub fn streams(storage: &dyn Storage, ledger: &Path) -> Result<Vec<Folder>, FollowError> {
    let path = ledger.to_owned();
    segment::streams(storage, ledger).map_err(|source| FollowError::Io { path, source })
}

// === impl Follower ===

impl Follower {
    /// Reads a stream's folder from its beginning, or from behind an event read before, which
    /// must be the same event still.
    pub fn open(
        storage: Arc<dyn Storage>,
        folder: &Folder,
        from: Option<Cursor>,
    ) -> Result<Self, FollowError> {
        let mut follower = Self {
            storage,
            folder: folder.path.clone(),
            stream: folder.stream,
            read_to: Cursor::start(folder.stream),
            cursor: Cursor::start(folder.stream),
            pending: Vec::new(),
            segment: None,
            buffer: Vec::new(),
            base: 0,
            at: 0,
            durable: None,
        };
        if let Some(from) = from.filter(|from| from.seq > 0) {
            follower.seek(&from)?;
        }
        Ok(follower)
    }

    /// The next durable events: whole groups, until about so many events or bytes are reached.
    /// Empty when all that is durable has been given out. Where reading fails, what was read
    /// before is given out first and the error comes with the next call, so that neither hides the
    /// other.
    pub fn next_batch(
        &mut self,
        events_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Record>, FollowError> {
        let limit = self.limit()?;
        let mut records = std::mem::take(&mut self.pending);
        let mut bytes = records.iter().map(|record| record.json.len()).sum::<usize>();
        while self.read_to.seq < limit && records.len() < events_max && bytes < bytes_max {
            let group = match self.next_group(limit) {
                Ok(Some(group)) => group,
                Ok(None) => break,
                Err(error) if records.is_empty() => return Err(error),
                Err(_comes_again) => break,
            };
            bytes += group.iter().map(|record| record.json.len()).sum::<usize>();
            records.extend(group);
        }
        if let Some(last) = records.last() {
            self.cursor = Cursor { seq: last.position.seq, chain: last.chain };
        }
        Ok(records)
    }

    /// The last event given out, and the chain hash after it: where to resume.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// The stream that is read.
    pub fn stream(&self) -> Uuid {
        self.stream
    }

    /// How far the mark said the stream is durable, when it was last looked at; `None` where there
    /// is no mark.
    pub fn durable_seq(&self) -> Option<u64> {
        self.durable
    }

    /// Up to which event may be read.
    fn limit(&mut self) -> Result<u64, FollowError> {
        for _try in 0..MARK_TRIES {
            let found = mark::read(&*self.storage, &self.folder, self.stream);
            match found.map_err(|source| self.io_error(source))? {
                Found::Mark(mark) => {
                    self.durable = Some(mark.seq);
                    return Ok(mark.seq);
                }
                Found::Nothing => {
                    self.durable = None;
                    return Ok(u64::MAX);
                }
                Found::Unreadable => {}
            }
        }
        Err(FollowError::Mark { stream: self.stream })
    }

    /// Goes to behind an event that was read before.
    fn seek(&mut self, from: &Cursor) -> Result<(), FollowError> {
        let missing = FollowError::Missing { stream: self.stream, seq: from.seq };
        let segments = self.list()?;
        let behind = segments.partition_point(|name| name.first_seq <= from.seq);
        let Some(name) = behind.checked_sub(1).and_then(|index| segments.get(index)) else {
            return Err(missing);
        };
        self.read_from(*name, 0, READ_BYTES)?;
        if name.index > 1
            && let Parsed::Frame(frame) = crate::frame::parse(&self.buffer, 0)
        {
            self.read_to = Cursor { seq: name.first_seq - 1, chain: frame.chain_prev };
        }
        while self.read_to.seq < from.seq {
            let Some(group) = self.next_group(u64::MAX)? else { return Err(missing) };
            let found = group.iter().find(|record| record.position.seq == from.seq);
            if found.is_some_and(|record| record.chain != from.chain) {
                return Err(FollowError::Forked { stream: self.stream, seq: from.seq });
            }
            self.pending = group;
        }
        self.pending.retain(|record| record.position.seq > from.seq);
        self.cursor = *from;
        Ok(())
    }

    /// The next whole group, if it is there and ends at or before the limit.
    fn next_group(&mut self, limit: u64) -> Result<Option<Vec<Record>>, FollowError> {
        if self.segment.is_none() && !self.enter_next_segment()? {
            return Ok(None);
        }
        // Two tries per segment: the bytes in hand may be from before the group was written.
        let mut fresh = false;
        loop {
            let (step, end) = match segment::next_group(&self.buffer, self.at, &self.read_to) {
                Step::Group(group) if group.cursor.seq > limit => return Ok(None),
                Step::Group(group) => {
                    let records = records(self.stream, &group);
                    (self.at, self.read_to) = (group.end, group.cursor);
                    return Ok(Some(records));
                }
                Step::End => (None, true),
                Step::Broken(broken) => (Some(broken), false),
            };
            if !fresh {
                self.read_group_anew()?;
                fresh = true;
            } else if end && self.enter_next_segment()? {
                fresh = false;
            } else if let Some(broken) = step.filter(|_| limit != u64::MAX) {
                return Err(self.damaged(broken));
            } else {
                return Ok(None);
            }
        }
    }

    /// Reads the bytes from here on again, as many as the group needs.
    fn read_group_anew(&mut self) -> Result<(), FollowError> {
        let Some(name) = self.segment else { return Ok(()) };
        let from = self.base + self.at as u64;
        let mut bytes = READ_BYTES;
        loop {
            self.read_from(name, from, bytes)?;
            let whole = self.buffer.len() < bytes || bytes as u64 > segment::SEGMENT_BYTES_MAX;
            match segment::next_group(&self.buffer, 0, &self.read_to) {
                Step::Broken(Break { flaw: Flaw::Frame(Damage::Truncated), .. })
                | Step::Broken(Break { flaw: Flaw::NoCommit, .. })
                    if !whole =>
                {
                    bytes *= 4;
                }
                Step::Group(_) | Step::End | Step::Broken(_) => return Ok(()),
            }
        }
    }

    /// Goes to a place in a segment; where that cannot be read, stays at the old one. The file is
    /// opened again each time: a start of the writer may have replaced it.
    fn read_from(&mut self, name: SegmentName, from: u64, bytes: usize) -> Result<(), FollowError> {
        let path = name.path(&self.folder);
        let mut buffer = vec![0; bytes];
        let read = self
            .storage
            .open_to_read(&path)
            .and_then(|file| disk::read_up_to(&*file, &mut buffer, from))
            .map_err(|source| FollowError::Io { path, source })?;
        buffer.truncate(read);
        (self.segment, self.buffer, self.base, self.at) = (Some(name), buffer, from, 0);
        Ok(())
    }

    /// Goes on to the segment that begins behind the last event read, if there is one.
    fn enter_next_segment(&mut self) -> Result<bool, FollowError> {
        let next = self.read_to.seq + 1;
        let entered = self.segment.map_or(0, |name| name.index);
        let segments = self.list()?;
        let found = segments.iter().find(|name| name.index == entered + 1);
        let Some(name) = found.filter(|name| name.first_seq == next) else {
            return match segments.iter().any(|name| name.index > entered) {
                true => Err(FollowError::Missing { stream: self.stream, seq: next }),
                false => Ok(false),
            };
        };
        self.read_from(*name, 0, READ_BYTES)?;
        Ok(true)
    }

    fn list(&self) -> Result<Vec<SegmentName>, FollowError> {
        segment::list(&*self.storage, &self.folder).map_err(|source| self.io_error(source))
    }

    fn io_error(&self, source: io::Error) -> FollowError {
        FollowError::Io { path: self.folder.clone(), source }
    }

    fn damaged(&self, broken: Break) -> FollowError {
        let segment = self.segment.map_or(self.folder.clone(), |name| name.path(&self.folder));
        let offset = self.base + broken.offset as u64;
        FollowError::Damaged { segment, offset, seq: broken.seq, flaw: broken.flaw }
    }
}

fn records(stream: Uuid, group: &Group<'_>) -> Vec<Record> {
    let record = |entry: &segment::Entry<'_>| Record {
        position: Position { stream, seq: entry.seq },
        kind: entry.kind,
        json: entry.json.to_vec(),
        leaf: entry.leaf,
        chain_prev: entry.chain_prev,
        chain: entry.chain,
    };
    group.entries.iter().map(record).collect()
}
