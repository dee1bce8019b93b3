//! The end of a stream: how far it is intact, and whether what follows may be cut.

use std::{cmp::Ordering, path::Path};

use uuid::Uuid;

use crate::{
    disk::Storage,
    event::{Kind, Timestamp},
    frame::{self, Parsed},
    mark::Found,
    recover::{OpenError, Witnesses, io_error},
    segment::{self, Break, Cursor, Entry, Flaw, SegmentName, Step},
};

const MARK: &str = "its durable mark";
const HEAD: &str = "its last signed head";

/// The intact end of a stream.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) stream: Uuid,
    /// All segments, the last one included.
    pub(super) segments: Vec<SegmentName>,
    /// The last segment, or the first to be made.
    pub(super) name: SegmentName,
    /// Its intact bytes.
    pub(super) prefix: Vec<u8>,
    /// The last intact event.
    pub(super) cursor: Cursor,
    /// Where the last segment begins.
    pub(super) before: Cursor,
    /// Whether the last event is a `stop` that is known to be durable.
    pub(super) stopped: bool,
    /// When the last event of the last segment was written.
    pub(super) ended: Option<Timestamp>,
    /// Bytes of frames in all segments.
    pub(super) bytes: u64,
    /// What is cut behind the prefix, in words.
    pub(super) cut: Option<String>,
}

/// A segment that was read from its beginning.
struct Scan<'a> {
    end: usize,
    cursor: Cursor,
    last: Option<Entry<'a>>,
    broken: Option<Break>,
}

pub(super) fn read(
    storage: &dyn Storage,
    folder: &Path,
    stream: Uuid,
    witnesses: &Witnesses,
) -> Result<Tail, OpenError> {
    let segments = segment::list(storage, folder).map_err(io_error(folder))?;
    refuse_gaps(folder, &segments)?;
    let first = SegmentName { index: 1, first_seq: 1 };
    let name = segments.last().copied().unwrap_or(first);
    let check = Check { folder, witnesses };
    let before = before_last(storage, stream, &segments, &check)?;
    if name.first_seq != before.seq + 1 {
        return Err(check.damaged(&name, 0, before.seq + 1, &Flaw::Sequence(name.first_seq)));
    }
    let mut prefix = match segments.last() {
        Some(name) => segment::read(storage, folder, name).map_err(io_error(folder))?,
        None => Vec::new(),
    };
    let scan = check.scan(&prefix, &before)?;
    let cut = check.judge_rest(&name, &prefix, &scan)?;
    let marked = matches!(witnesses.mark, Found::Mark(mark) if mark.seq == scan.cursor.seq);
    let stops = scan.last.is_some_and(|last| last.kind == Kind::Stop);
    let stopped = stops && marked && cut.is_none();
    let (end, cursor) = (scan.end, scan.cursor);
    let ended = scan.last.as_ref().and_then(Entry::time);
    prefix.truncate(end);
    let mut bytes = prefix.len() as u64;
    for earlier in segments.split_last().map_or(&[][..], |(_, earlier)| earlier) {
        let path = earlier.path(folder);
        let length = storage.open_to_read(&path).and_then(|file| file.bytes());
        bytes += length.map_err(io_error(&path))?;
    }
    Ok(Tail { stream, segments, name, prefix, cursor, before, stopped, ended, bytes, cut })
}

/// Numbers count from 1, without gaps and none twice.
fn refuse_gaps(folder: &Path, segments: &[SegmentName]) -> Result<(), OpenError> {
    for (index, name) in (1..).zip(segments) {
        let folder = folder.to_owned();
        match name.index.cmp(&index) {
            Ordering::Equal => {}
            Ordering::Greater => return Err(OpenError::MissingSegment { folder, index }),
            Ordering::Less => {
                return Err(OpenError::SecondSegment { folder, index: name.index });
            }
        }
    }
    Ok(())
}

/// Where the last segment must begin: after the last event of the one before it, which must be
/// intact, since its last group was synced before the next segment was made.
fn before_last(
    storage: &dyn Storage,
    stream: Uuid,
    segments: &[SegmentName],
    check: &Check<'_>,
) -> Result<Cursor, OpenError> {
    let [.., name, _last] = segments else {
        return Ok(Cursor::start(stream));
    };
    let buffer = segment::read(storage, check.folder, name).map_err(io_error(check.folder))?;
    let start = match frame::parse(&buffer, 0) {
        Parsed::Frame(frame) if name.index > 1 => {
            Cursor { seq: name.first_seq - 1, chain: frame.chain_prev }
        }
        Parsed::Frame(_) | Parsed::End | Parsed::Damaged(_) => Cursor::start(stream),
    };
    let scan = check.scan(&buffer, &start)?;
    if let Some(broken) = &scan.broken {
        return Err(check.damaged(name, broken.offset, broken.seq, &broken.flaw));
    }
    if scan.end == 0 {
        return Err(check.damaged(name, 0, name.first_seq, &Flaw::NoCommit));
    }
    Ok(scan.cursor)
}

/// What judging a stream needs to know beside its bytes.
struct Check<'a> {
    folder: &'a Path,
    witnesses: &'a Witnesses,
}

// === impl Check ===

impl Check<'_> {
    /// Reads groups until the first that is not intact, comparing with the witnesses.
    fn scan<'a>(&self, buffer: &'a [u8], start: &Cursor) -> Result<Scan<'a>, OpenError> {
        let mut scan = Scan { end: 0, cursor: *start, last: None, broken: None };
        loop {
            match segment::next_group(buffer, scan.end, &scan.cursor) {
                Step::Group(group) => {
                    for entry in group.entries {
                        self.compare(&Cursor { seq: entry.seq, chain: entry.chain })?;
                        scan.last = Some(entry);
                    }
                    (scan.end, scan.cursor) = (group.end, group.cursor);
                }
                Step::Broken(broken) => scan.broken = Some(broken),
                Step::End if !segment::is_zero(buffer, scan.end) => {
                    let (offset, seq) = (scan.end, scan.cursor.seq + 1);
                    scan.broken = Some(Break { offset, seq, flaw: Flaw::NoCommit });
                }
                Step::End => return Ok(scan),
            }
            if scan.broken.is_some() {
                return Ok(scan);
            }
        }
    }

    /// An event that a witness knows must be the one that it knows.
    fn compare(&self, cursor: &Cursor) -> Result<(), OpenError> {
        let mark = match self.witnesses.mark {
            Found::Mark(mark) => Some((mark.seq, mark.chain, MARK)),
            Found::Nothing | Found::Unreadable => None,
        };
        let head = self.witnesses.head.map(|head| (head.size, head.root, HEAD));
        for (seq, chain, witness) in mark.into_iter().chain(head) {
            if seq == cursor.seq && chain != cursor.chain {
                let folder = self.folder.to_owned();
                return Err(OpenError::Changed { folder, seq, witness });
            }
        }
        Ok(())
    }

    /// Decides whether what follows the intact groups of the last segment may be cut. What the
    /// writer was doing when it died is at most one group that nobody was told is durable.
    fn judge_rest(
        &self,
        name: &SegmentName,
        buffer: &[u8],
        scan: &Scan<'_>,
    ) -> Result<Option<String>, OpenError> {
        let Some(broken) = &scan.broken else {
            return self.refuse_loss(scan).map(|()| None);
        };
        let refusal = || self.damaged(name, broken.offset, broken.seq, &broken.flaw);
        if self.refuse_loss(scan).is_err() {
            return Err(refusal());
        }
        let first = scan.cursor.seq + 1;
        // With its commit frame there, only the mark can tell that the group was not durable.
        let marked = matches!(self.witnesses.mark, Found::Mark(_));
        if !segment::is_unfinished_group(buffer, scan.end, first, marked) {
            return Err(refusal());
        }
        let whole = match segment::is_unfinished_group(buffer, scan.end, first, false) {
            true => "",
            false => ", its commit frame was there",
        };
        let nonzero = buffer.iter().rposition(|byte| *byte != 0).map_or(scan.end, |at| at + 1);
        Ok(Some(format!(
            "{} bytes behind event {} in segment `{name}`, from byte {}: the last group was not \
             finished ({}{whole})",
            nonzero.saturating_sub(scan.end),
            scan.cursor.seq,
            scan.end,
            broken.flaw
        )))
    }

    /// What was durable must be there.
    fn refuse_loss(&self, scan: &Scan<'_>) -> Result<(), OpenError> {
        let mark = match self.witnesses.mark {
            Found::Mark(mark) => Some((mark.seq, MARK)),
            Found::Nothing | Found::Unreadable => None,
        };
        let head = self.witnesses.head.map(|head| (head.size, HEAD));
        let found = scan.cursor.seq;
        match mark.into_iter().chain(head).find(|(size, _)| *size > found) {
            Some((size, witness)) => {
                let folder = self.folder.to_owned();
                Err(OpenError::Lost { folder, found, size, witness })
            }
            None => Ok(()),
        }
    }

    fn damaged(&self, name: &SegmentName, offset: usize, seq: u64, flaw: &Flaw) -> OpenError {
        let (segment, flaw) = (name.path(self.folder), flaw.to_string());
        OpenError::Damaged { segment, offset, seq, flaw }
    }
}
