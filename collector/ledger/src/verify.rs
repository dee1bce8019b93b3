//! Walking whole streams and naming what is wrong.
//!
//! Intact groups are passed over quickly; where one is not, `region` looks at its frames one by one
//! and the walk goes on at the next intact group. Knows nothing of tables: each intact event is
//! handed to the caller, who compares. Works on a copy, and beside a running writer.

use std::{
    io,
    path::{Path, PathBuf},
};

use thiserror::Error;
use uuid::Uuid;

use crate::{
    disk::Storage,
    event::{EventError, Label, SCHEMA},
    head,
    mark::{self, Found},
    segment::{self, Break, Cursor, Flaw, Folder, SegmentName, Step},
};

mod heads;
mod region;

pub use crate::segment::Entry;

use heads::Heads;
use region::Order;

/// More faults than this are only counted.
const FAULTS_MAX: usize = 1000;

/// How often a last segment is read again where it seems damaged.
const LOOKS_MAX: u32 = 100;

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    /// Intact events in all streams.
    pub events: u64,
    /// Events that no signed head vouches for yet.
    pub after_last_head: u64,
    pub faults: Vec<Fault>,
    /// Faults that were found and are not listed.
    pub faults_left_out: u64,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub kind: FaultKind,
    pub stream: Uuid,
    /// The segment's file name.
    pub segment: Option<String>,
    pub seq: Option<u64>,
    pub call_id: Option<Uuid>,
    pub detail: String,
}

/// What kind of thing is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultKind {
    /// A frame's bytes were changed.
    Crc,
    /// Bytes that are no frame, or a frame that contradicts its event.
    Frame,
    /// An event was changed together with its checksum.
    Chain,
    /// An event stands in the wrong place, or twice.
    Sequence,
    /// Events, a segment or a stream are gone.
    Missing,
    /// A group's commit frame is gone or does not fit.
    Group,
    /// A signed head is invalid, or vouches for another history.
    Head,
}

/// Why nothing could be verified.
#[derive(Debug, Error)]
#[error("cannot read `{path}`: {source}")]
pub struct VerifyError {
    pub path: PathBuf,
    pub source: io::Error,
}

// === impl FaultKind ===

impl FaultKind {
    /// The word for it in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Crc => "crc",
            Self::Frame => "frame",
            Self::Chain => "chain",
            Self::Sequence => "sequence",
            Self::Missing => "missing",
            Self::Group => "group",
            Self::Head => "head",
        }
    }
}

// === impl Report ===

impl Report {
    /// Whether nothing is wrong.
    pub fn is_ok(&self) -> bool {
        self.faults.is_empty()
    }

    /// Adds a fault, or counts it when there are many.
    pub fn add(&mut self, fault: Fault) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(fault);
        } else {
            self.faults_left_out += 1;
        }
    }
}

/// Verifies all streams of a ledger folder against the signed heads in another; `each` is handed
/// every intact event.
pub fn verify(
    storage: &dyn Storage,
    ledger: &Path,
    heads: &Path,
    each: &mut dyn FnMut(&Folder, &Entry<'_>),
) -> Result<Report, VerifyError> {
    let error = |path: &Path, source| VerifyError { path: path.to_owned(), source };
    let mut report = Report::default();
    // Before the folders are listed: a stream has its folder before it has a head.
    let signed = signed_streams(storage, heads).map_err(|source| error(heads, source))?;
    let folders = segment::streams(storage, ledger).map_err(|source| error(ledger, source))?;
    for folder in &folders {
        let heads = Heads::open(storage, heads, folder.stream, &mut report);
        let mut walk = Walk::new(storage, folder, heads, &mut report, &mut *each);
        walk.stream().map_err(|source| error(&folder.path, source))?;
    }
    for stream in signed {
        if !folders.iter().any(|folder| folder.stream == stream) {
            let detail = "the stream has signed heads, and its folder is gone".to_owned();
            let (kind, segment) = (FaultKind::Missing, None);
            report.add(Fault { kind, stream, segment, seq: None, call_id: None, detail });
        }
    }
    Ok(report)
}

/// The streams that have a signed head, or did: their files of heads are not empty.
fn signed_streams(storage: &dyn Storage, heads: &Path) -> io::Result<Vec<Uuid>> {
    let names = match storage.list(heads) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result?,
    };
    let mut signed = Vec::new();
    for name in names {
        let stream = name.strip_suffix(".heads").and_then(|id| Uuid::try_parse(id).ok());
        let Some(stream) = stream else { continue };
        if storage.open_to_read(&head::path(heads, stream))?.bytes()? > 0 {
            signed.push(stream);
        }
    }
    Ok(signed)
}

/// The walk through one stream.
pub(crate) struct Walk<'a> {
    storage: &'a dyn Storage,
    folder: &'a Folder,
    heads: Heads,
    report: &'a mut Report,
    each: &'a mut dyn FnMut(&Folder, &Entry<'_>),
    /// The segment that is being read.
    name: Option<SegmentName>,
    /// The last event read, and the chain hash after it.
    cursor: Cursor,
    /// Whether the event at the cursor was intact, so that the next must link to it.
    linked: bool,
    /// Which events were seen, and which not.
    order: Order,
    mark: Found,
}

// === impl Walk ===

impl<'a> Walk<'a> {
    fn new(
        storage: &'a dyn Storage,
        folder: &'a Folder,
        heads: Heads,
        report: &'a mut Report,
        each: &'a mut dyn FnMut(&Folder, &Entry<'_>),
    ) -> Self {
        Self {
            storage,
            folder,
            heads,
            report,
            each,
            name: None,
            cursor: Cursor::start(folder.stream),
            linked: true,
            order: Order::default(),
            mark: Found::Nothing,
        }
    }

    fn stream(&mut self) -> io::Result<()> {
        // The mark first: what is written while we read only adds to what it names.
        self.mark = mark::read(self.storage, &self.folder.path, self.folder.stream)?;
        if self.folder.writer.is_none() {
            self.fault(FaultKind::Missing, None, "the stream's file `writer` is gone".to_owned());
        }
        let segments = segment::list(self.storage, &self.folder.path)?;
        let mut index = 1;
        for (place, name) in segments.iter().enumerate() {
            if name.index < index {
                self.name = Some(*name);
                let detail = format!("a second segment number {}; it was not read", name.index);
                self.fault(FaultKind::Sequence, Some(name.first_seq), detail);
                continue;
            }
            if name.index > index {
                let detail = format!("{} segments are gone before this one", name.index - index);
                self.name = Some(*name);
                self.fault(FaultKind::Missing, Some(self.cursor.seq + 1), detail);
                self.linked = false;
                self.order.skip_to(name.first_seq);
            }
            index = name.index + 1;
            self.segment(*name, place + 1 == segments.len())?;
        }
        self.finish();
        Ok(())
    }

    fn segment(&mut self, name: SegmentName, last: bool) -> io::Result<()> {
        self.name = Some(name);
        let mut buffer = segment::read(self.storage, &self.folder.path, &name)?;
        let (mut offset, mut looks) = (0, 0);
        loop {
            let broken = match segment::next_group(&buffer, offset, &self.cursor) {
                Step::Group(group) => {
                    group.entries.iter().for_each(|entry| self.accept(entry));
                    offset = group.end;
                    continue;
                }
                Step::End if segment::is_zero(&buffer, offset) => break,
                Step::End => Break { offset, seq: self.cursor.seq + 1, flaw: Flaw::NoCommit },
                Step::Broken(broken) => broken,
            };
            // A writer may have written here while we read: look again until nothing moves.
            if last && looks < LOOKS_MAX {
                looks += 1;
                let anew = segment::read(self.storage, &self.folder.path, &name)?;
                if anew.get(offset..) != buffer.get(offset..) {
                    buffer = anew;
                    continue;
                }
            }
            if last && self.is_unfinished(&buffer, offset) {
                break;
            }
            match self.region(&buffer, offset, &broken) {
                Some(next) => offset = next,
                None => break,
            }
        }
        self.name_missing();
        Ok(())
    }

    /// Whether the bytes from here are a last group on its way to the disk, and nothing durable.
    fn is_unfinished(&self, buffer: &[u8], offset: usize) -> bool {
        let marked = match self.mark {
            Found::Mark(mark) => Some(mark.seq),
            Found::Nothing | Found::Unreadable => None,
        };
        let durable = marked.is_some_and(|seq| seq > self.cursor.seq);
        let signed = self.heads.next_size().is_some_and(|size| size > self.cursor.seq);
        let first = self.cursor.seq + 1;
        !durable && !signed && segment::is_unfinished_group(buffer, offset, first, marked.is_some())
    }

    /// Counts an intact event and compares it with what else is known of it.
    fn accept(&mut self, entry: &Entry<'_>) {
        self.report.events += 1;
        self.cursor = Cursor { seq: entry.seq, chain: entry.chain };
        self.linked = true;
        if let Some(detail) = self.order.see(entry.seq) {
            self.fault_of(FaultKind::Sequence, entry, detail);
        }
        let label = Label::parse(entry.json);
        if let Ok(label) = &label {
            self.heads.unsigned(&label.time);
        }
        if let Some(detail) = self.contradiction(entry, label) {
            self.fault_of(FaultKind::Frame, entry, detail);
        }
        if let Some(detail) = self.heads.compare(&self.cursor) {
            self.fault_of(FaultKind::Head, entry, detail);
        }
        let marked = match self.mark {
            Found::Mark(mark) => Some(mark),
            Found::Nothing | Found::Unreadable => None,
        };
        if marked.is_some_and(|mark| mark.seq == entry.seq && mark.chain != entry.chain) {
            let detail = "the durable mark names another event here".to_owned();
            self.fault_of(FaultKind::Chain, entry, detail);
        }
        (self.each)(self.folder, entry);
    }

    /// What an event's text says otherwise than its frame.
    fn contradiction(&self, entry: &Entry<'_>, label: Result<Label, EventError>) -> Option<String> {
        let label = match label {
            Ok(label) => label,
            Err(error) => return Some(error.to_string()),
        };
        let fits = label.seq == entry.seq
            && label.kind == entry.kind
            && label.stream == self.folder.stream
            && label.schema == SCHEMA;
        (!fits).then(|| {
            format!(
                "the frame is event {} ({}) and its text says event {} ({}) of stream {}, \
                 schema {}",
                entry.seq, entry.kind, label.seq, label.kind, label.stream, label.schema
            )
        })
    }

    fn name_missing(&mut self) {
        for missing in self.order.take_missing() {
            let (first, last) = (missing.start, missing.end - 1);
            let detail = match first == last {
                true => format!("event {first} is gone"),
                false => format!("events {first} to {last} are gone"),
            };
            self.fault(FaultKind::Missing, Some(first), detail);
        }
    }

    fn finish(&mut self) {
        let highest = self.order.highest();
        self.heads.end(highest, self.report);
        let told = self.heads.last_size() > highest;
        let marked = match self.mark {
            Found::Mark(mark) => mark.seq,
            Found::Nothing | Found::Unreadable => 0,
        };
        if marked > highest && !told {
            let detail = format!(
                "the durable mark names {marked} events; events {} to {marked} are gone",
                highest + 1
            );
            self.fault(FaultKind::Missing, Some(highest + 1), detail);
        }
        self.report.after_last_head += highest.saturating_sub(self.heads.vouched_size());
    }

    fn fault_of(&mut self, kind: FaultKind, entry: &Entry<'_>, detail: String) {
        let call_id = Label::parse(entry.json).ok().and_then(|label| label.call_id);
        self.fault_at(kind, Some(entry.seq), call_id, detail);
    }

    fn fault(&mut self, kind: FaultKind, seq: Option<u64>, detail: String) {
        self.fault_at(kind, seq, None, detail);
    }

    fn fault_at(
        &mut self,
        kind: FaultKind,
        seq: Option<u64>,
        call_id: Option<Uuid>,
        detail: String,
    ) {
        let segment = self.name.map(|name| name.to_string());
        let stream = self.folder.stream;
        self.report.add(Fault { kind, stream, segment, seq, call_id, detail });
    }
}
