//! Segments: files of frames, and reading their groups one after the other.
//!
//! A segment's name holds its number and the seq of its first event, so that one missing is
//! noticed and one event is found without reading the others.

use std::{
    io,
    path::{Path, PathBuf},
};

use thiserror::Error;
use uuid::Uuid;

use crate::{
    disk::{self, Storage},
    event::{Kind, Label, Timestamp, Writer},
    frame::{self, Commit, Damage, Frame, FrameKind, Hash, Parsed},
};

/// A segment is read whole; a longer file is damage. The writer ends one long before.
pub(crate) const SEGMENT_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// The file in a stream's folder that says which program writes it.
pub(crate) const WRITER_NAME: &str = "writer";
/// The file holds one word.
const WRITER_BYTES_MAX: u64 = 64;
/// A group has far fewer events; frames with a seq beyond are no part of it.
const EVENTS_MAX: u64 = 1 << 20;
const SUFFIX: &str = ".segment";
/// Digits of a segment's number in its name.
const INDEX_DIGITS: usize = 8;
/// Digits of a seq in a segment's name: all that a u64 may have.
const SEQ_DIGITS: usize = 20;

/// A segment's file name, understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentName {
    /// Counts from 1 within the stream.
    pub index: u64,
    /// The seq of its first event.
    pub first_seq: u64,
}

/// A stream's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    pub stream: Uuid,
    /// `None` where the file that says so is lost.
    pub writer: Option<Writer>,
    pub path: PathBuf,
}

/// How far a reader has come in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The last event read; 0 before the first.
    pub seq: u64,
    /// The chain hash after it.
    pub chain: Hash,
}

/// One event of an intact group.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    pub seq: u64,
    pub kind: Kind,
    pub json: &'a [u8],
    pub leaf: Hash,
    pub chain_prev: Hash,
    /// The chain hash after this event.
    pub chain: Hash,
}

/// One intact group.
#[derive(Debug)]
pub struct Group<'a> {
    pub entries: Vec<Entry<'a>>,
    /// The offset behind its commit frame.
    pub end: usize,
    /// Where a reader stands after it.
    pub cursor: Cursor,
}

/// What stands where a group should begin.
#[derive(Debug)]
pub enum Step<'a> {
    Group(Group<'a>),
    /// Nothing more was written.
    End,
    Broken(Break),
}

/// Why a group is not intact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Break {
    /// Where in the segment the first trouble lies.
    pub offset: usize,
    /// The seq that was expected there.
    pub seq: u64,
    pub flaw: Flaw,
}

/// The ways in which a group is not intact.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Flaw {
    #[error("{0}")]
    Frame(#[from] Damage),
    #[error("the group has no commit frame")]
    NoCommit,
    #[error("a frame with seq {0} stands here")]
    Sequence(u64),
    #[error("the frame does not carry the chain hash of the event before it")]
    Chain,
    #[error("the frame names {0} as the first of its group")]
    GroupFirst(u64),
    #[error("the commit frame does not fit its group")]
    Commit,
}

// === impl SegmentName ===

impl SegmentName {
    /// Understands a file's name; other files' names are `None`. Both numbers count from 1.
    pub fn parse(name: &str) -> Option<Self> {
        let (index, first_seq) = name.strip_suffix(SUFFIX)?.split_once('-')?;
        let digits = |text: &str, count| {
            text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        let fits = digits(index, INDEX_DIGITS) && digits(first_seq, SEQ_DIGITS);
        fits.then_some(())?;
        let name = Self { index: index.parse().ok()?, first_seq: first_seq.parse().ok()? };
        (name.index > 0 && name.first_seq > 0).then_some(name)
    }

    /// The path in a stream's folder.
    pub fn path(&self, folder: &Path) -> PathBuf {
        folder.join(self.to_string())
    }
}

impl std::fmt::Display for SegmentName {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "{:0index$}-{:0seq$}{SUFFIX}",
            self.index,
            self.first_seq,
            index = INDEX_DIGITS,
            seq = SEQ_DIGITS
        )
    }
}

// === impl Entry ===

impl Entry<'_> {
    /// When the event was written, where its text can be read.
    pub(crate) fn time(&self) -> Option<Timestamp> {
        Timestamp::parse(&Label::parse(self.json).ok()?.time)
    }
}

// === impl Cursor ===

impl Cursor {
    /// Before a stream's first event.
    pub fn start(stream: Uuid) -> Self {
        Self { seq: 0, chain: frame::origin(stream) }
    }
}

/// The segments of a stream, in order.
pub fn list(storage: &dyn Storage, folder: &Path) -> io::Result<Vec<SegmentName>> {
    let names = storage.list(folder)?;
    let mut segments: Vec<_> = names.iter().filter_map(|name| SegmentName::parse(name)).collect();
    segments.sort();
    Ok(segments)
}

/// The streams of a ledger folder, in the order of their ids. A folder that was never finished
/// holds no events and is passed over.
pub fn streams(storage: &dyn Storage, ledger: &Path) -> io::Result<Vec<Folder>> {
    let mut folders = Vec::new();
    for name in storage.list(ledger)? {
        let Ok(stream) = Uuid::try_parse(&name) else { continue };
        let path = ledger.join(&name);
        let writer = match disk::read_all(storage, &path.join(WRITER_NAME), WRITER_BYTES_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            result => Writer::from_name(String::from_utf8_lossy(&result?).trim_end()),
        };
        if writer.is_some() || !list(storage, &path)?.is_empty() {
            folders.push(Folder { stream, writer, path });
        }
    }
    Ok(folders)
}

/// The bytes of a segment.
pub fn read(storage: &dyn Storage, folder: &Path, name: &SegmentName) -> io::Result<Vec<u8>> {
    disk::read_all(storage, &name.path(folder), SEGMENT_BYTES_MAX)
}

/// Reads the group at an offset and checks all of it: frames, order, links, commit.
pub fn next_group<'a>(buffer: &'a [u8], offset: usize, cursor: &Cursor) -> Step<'a> {
    let mut reading = Reading { start: offset, offset, cursor: *cursor, entries: Vec::new() };
    loop {
        let frame = match frame::parse(buffer, reading.offset) {
            Parsed::Frame(frame) => frame,
            Parsed::End if reading.entries.is_empty() => return Step::End,
            Parsed::End => return reading.broken(Flaw::NoCommit),
            Parsed::Damaged(damage) => return reading.broken(Flaw::Frame(damage)),
        };
        let result = match frame.kind {
            FrameKind::Commit => reading.commit(buffer, &frame).map(|()| true),
            FrameKind::Event(kind) => reading.event(&frame, kind).map(|()| false),
        };
        match result {
            Err(flaw) => return reading.broken(flaw),
            Ok(false) => {}
            Ok(true) => {
                let Reading { offset: end, cursor, entries, .. } = reading;
                return Step::Group(Group { entries, end, cursor });
            }
        }
    }
}

/// Whether the bytes from here on can be one group that the writer was writing when it died:
/// nothing of a later group among them, and no commit frame unless the stream is known not to be
/// durable so far (`behind_mark`): then pages of a whole group may have been lost.
pub(crate) fn is_unfinished_group(
    buffer: &[u8],
    from: usize,
    first_seq: u64,
    behind_mark: bool,
) -> bool {
    let mut offset = from;
    while let Some(found) = frame::find(buffer, offset, &(first_seq..first_seq + EVENTS_MAX)) {
        let Parsed::Frame(frame) = frame::parse(buffer, found) else { return false };
        let finished = frame.kind == FrameKind::Commit && !behind_mark;
        if frame.group_first != first_seq || finished {
            return false;
        }
        offset = found + frame.bytes.len();
    }
    true
}

/// Whether nothing but zeros stands from here on.
pub(crate) fn is_zero(buffer: &[u8], from: usize) -> bool {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut chunks = buffer.get(from..).unwrap_or_default().chunks(ZEROS.len());
    chunks.all(|chunk| ZEROS.starts_with(chunk))
}

/// A group while it is read.
struct Reading<'a> {
    start: usize,
    offset: usize,
    cursor: Cursor,
    entries: Vec<Entry<'a>>,
}

// === impl Reading ===

impl<'a> Reading<'a> {
    fn event(&mut self, frame: &Frame<'a>, kind: Kind) -> Result<(), Flaw> {
        let expected = self.cursor.seq + 1;
        if frame.seq != expected {
            return Err(Flaw::Sequence(frame.seq));
        }
        if frame.group_first != self.entries.first().map_or(expected, |first| first.seq) {
            return Err(Flaw::GroupFirst(frame.group_first));
        }
        if frame.chain_prev != self.cursor.chain {
            return Err(Flaw::Chain);
        }
        let leaf = frame::leaf(frame.json);
        let chain = frame::link(&frame.chain_prev, &leaf);
        let (json, chain_prev) = (frame.json, frame.chain_prev);
        self.entries.push(Entry { seq: frame.seq, kind, json, leaf, chain_prev, chain });
        self.cursor = Cursor { seq: frame.seq, chain };
        self.offset += frame.bytes.len();
        Ok(())
    }

    fn commit(&mut self, buffer: &[u8], frame: &Frame<'_>) -> Result<(), Flaw> {
        let first = self.entries.first().ok_or(Flaw::Commit)?.seq;
        if frame.seq != self.cursor.seq {
            return Err(Flaw::Sequence(frame.seq));
        }
        if frame.chain_prev != self.cursor.chain {
            return Err(Flaw::Chain);
        }
        let frames = buffer.get(self.start..self.offset).ok_or(Flaw::Commit)?;
        let commit = serde_json::from_slice::<Commit>(frame.json).map_err(|_other| Flaw::Commit)?;
        let fits = commit.hash == hex::encode(frame::group_hash(frames))
            && usize::try_from(commit.count) == Ok(self.entries.len())
            && frame.group_first == first;
        self.offset += frame.bytes.len();
        fits.then_some(()).ok_or(Flaw::Commit)
    }

    fn broken(&self, flaw: Flaw) -> Step<'a> {
        Step::Broken(Break { offset: self.offset, seq: self.cursor.seq + 1, flaw })
    }
}
