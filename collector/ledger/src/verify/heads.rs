//! Comparing a stream with its signed heads, while it is walked.

use std::{io, path::Path};

use uuid::Uuid;

use crate::{
    disk::Storage,
    event::Timestamp,
    head::{Head, HeadError, HeadReader, PublicKeys, UNSIGNED_MAX},
    segment::Cursor,
    verify::{Fault, FaultKind, Report},
};

/// A stream's heads, read in step with its events.
pub(super) struct Heads {
    stream: Uuid,
    reader: Option<HeadReader>,
    keys: PublicKeys,
    /// The next head whose event has not been reached.
    next: Option<Head>,
    /// The largest size that a valid head named.
    last_size: u64,
    /// The largest size whose root was the stream's.
    vouched_size: u64,
    /// What is wrong with heads themselves, until it is reported.
    faults: Vec<Fault>,
    /// Whether no head was found, and nothing that could have been one.
    none: bool,
    /// When the first and the last event were written, where there are no heads.
    unsigned: Option<(Timestamp, Timestamp)>,
    /// Whether a head was found to vouch for another history; all later ones do as well.
    differs: bool,
}

// === impl Heads ===

impl Heads {
    pub(super) fn open(
        storage: &dyn Storage,
        heads: &Path,
        stream: Uuid,
        report: &mut Report,
    ) -> Self {
        let mut this = Self {
            stream,
            reader: None,
            keys: PublicKeys::default(),
            next: None,
            last_size: 0,
            vouched_size: 0,
            faults: Vec::new(),
            none: false,
            unsigned: None,
            differs: false,
        };
        // The heads first: a key is published before anything is signed with it.
        match HeadReader::open(storage, heads, stream) {
            Ok(reader) => this.reader = Some(reader),
            Err(HeadError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                this.fault(None, "the file of signed heads is gone".to_owned());
            }
            Err(error) => this.fault(None, error.to_string()),
        }
        match PublicKeys::load(storage, heads) {
            Ok(keys) => this.keys = keys,
            Err(error) => this.fault(None, error.to_string()),
        }
        this.advance();
        this.none = this.next.is_none() && this.faults.is_empty();
        this.tell(report);
        this
    }

    /// Notes when an event was written, where no head vouches for any.
    pub(super) fn unsigned(&mut self, time: &str) {
        if let Some(time) = Timestamp::parse(time).filter(|_| self.none) {
            let (first, _last) = self.unsigned.unwrap_or((time, time));
            self.unsigned = Some((first, time));
        }
    }

    /// Compares all heads up to this event; the text of what is wrong.
    pub(super) fn compare(&mut self, cursor: &Cursor) -> Option<String> {
        let mut wrong = None;
        while let Some(head) = self.next.filter(|head| head.size <= cursor.seq) {
            if head.size == cursor.seq && head.root == cursor.chain {
                self.vouched_size = head.size;
            } else if head.size == cursor.seq && !self.differs {
                self.differs = true;
                wrong = Some(format!(
                    "the signed head for {} events vouches for another history: an event up to \
                     this one was changed",
                    head.size
                ));
            }
            self.advance();
        }
        wrong
    }

    /// The stream is at its end: what the remaining heads vouch for is gone.
    pub(super) fn end(&mut self, highest: u64, report: &mut Report) {
        while self.next.is_some() {
            self.advance();
        }
        if self.last_size > highest {
            let detail = format!(
                "a signed head names {} events; events {} to {} are gone",
                self.last_size,
                highest + 1,
                self.last_size
            );
            self.fault(Some(highest + 1), detail);
        }
        if self.unsigned.is_some_and(|(first, last)| last.since(first) > UNSIGNED_MAX) {
            let detail = format!(
                "no signed head names any of the {highest} events, though heads are signed every \
                 second: they are gone"
            );
            self.fault(None, detail);
        }
        self.tell(report);
    }

    /// The size of the next head that was not reached.
    pub(super) fn next_size(&self) -> Option<u64> {
        self.next.map(|head| head.size)
    }

    pub(super) fn last_size(&self) -> u64 {
        self.last_size
    }

    pub(super) fn vouched_size(&self) -> u64 {
        self.vouched_size
    }

    /// Goes to the next valid head.
    fn advance(&mut self) {
        self.next = None;
        let Some(reader) = &mut self.reader else { return };
        let note = match reader.next_note() {
            Ok(Some(note)) => note,
            Ok(None) => return,
            Err(error) => {
                self.reader = None;
                return self.fault(None, error.to_string());
            }
        };
        match Head::verify(&note, self.stream, &self.keys) {
            Ok(head) if head.size < self.last_size => {
                let detail = format!("the head for {} events follows a larger one", head.size);
                self.fault(Some(head.size), detail);
            }
            Ok(head) => {
                self.last_size = head.size;
                self.next = Some(head);
                return;
            }
            Err(error) => self.fault(None, error.to_string()),
        }
        // Each turn consumes a note of the file, so this ends.
        self.advance();
    }

    fn fault(&mut self, seq: Option<u64>, detail: String) {
        let (kind, stream) = (FaultKind::Head, self.stream);
        self.faults.push(Fault { kind, stream, segment: None, seq, call_id: None, detail });
    }

    fn tell(&mut self, report: &mut Report) {
        self.faults.drain(..).for_each(|fault| report.add(fault));
    }
}
