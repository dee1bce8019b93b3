//! Looking closely at bytes where a group is not intact.

use std::ops::Range;

use uuid::Uuid;

use super::{FaultKind, Walk};
use crate::{
    event::Kind,
    frame::{self, Damage, Frame, FrameKind, Parsed},
    segment::{self, Break, Cursor, Entry, Flaw, Step},
};

/// A header that claims a seq this far from the last is no header.
const SEQ_DISTANCE_MAX: u64 = 1 << 24;
/// Ranges of events that are waited for; beyond, the oldest count as missing at once.
const GAPS_MAX: usize = 4096;

/// Which events of a stream were seen, whatever their order.
#[derive(Debug, Default)]
pub(super) struct Order {
    highest: u64,
    gaps: Vec<Range<u64>>,
}

/// What stands in a region.
enum Piece<'a> {
    Frame(Frame<'a>),
    /// A frame whose end is known and whose bytes were changed.
    Changed {
        seq: u64,
        call_id: Option<Uuid>,
    },
    /// Bytes that are no frame.
    Junk {
        offset: usize,
        bytes: usize,
    },
}

// === impl Piece ===

impl Piece<'_> {
    /// The event that stands here, if it is one.
    fn seq(&self) -> Option<u64> {
        match self {
            Self::Frame(Frame { kind: FrameKind::Event(_), seq, .. })
            | Self::Changed { seq, .. } => Some(*seq),
            Self::Frame(_) | Self::Junk { .. } => None,
        }
    }
}

// === impl Order ===

impl Order {
    /// Notes an event; says so if it stands in the wrong place.
    pub(super) fn see(&mut self, seq: u64) -> Option<String> {
        if seq > self.highest {
            if seq > self.highest + 1 && self.gaps.len() < GAPS_MAX {
                self.gaps.push(self.highest + 1..seq);
            }
            self.highest = seq;
            return None;
        }
        let gap = self.gaps.iter().position(|gap| gap.contains(&seq));
        let Some(gap) = gap.map(|index| self.gaps.swap_remove(index)) else {
            return Some(format!("event {seq} stands here a second time"));
        };
        let parts = [gap.start..seq, seq + 1..gap.end];
        self.gaps.extend(parts.into_iter().filter(|part| !part.is_empty()));
        Some(format!("event {seq} stands behind event {}", self.highest))
    }

    /// Events up to here are known to be gone, and have been named.
    pub(super) fn skip_to(&mut self, seq: u64) {
        self.highest = self.highest.max(seq.saturating_sub(1));
    }

    pub(super) fn highest(&self) -> u64 {
        self.highest
    }

    /// The events that were never seen, and are not waited for any more.
    pub(super) fn take_missing(&mut self) -> Vec<Range<u64>> {
        let mut gaps = std::mem::take(&mut self.gaps);
        gaps.sort_by_key(|gap| gap.start);
        gaps
    }

    fn has_gaps(&self) -> bool {
        !self.gaps.is_empty()
    }
}

// === impl Walk ===

impl Walk<'_> {
    /// Names what is wrong from an offset up to the next intact group, and returns where that is.
    pub(super) fn region(&mut self, buffer: &[u8], offset: usize, broken: &Break) -> Option<usize> {
        let faults_before = self.report.faults.len() as u64 + self.report.faults_left_out;
        let (pieces, next) = self.pieces(buffer, offset);
        let first = self.cursor.seq + 1;
        let next_frame = next.and_then(|next| match frame::parse(buffer, next) {
            Parsed::Frame(frame) => Some(frame),
            Parsed::End | Parsed::Damaged(_) => None,
        });
        self.pieces_in_order(&pieces, next_frame.map(|frame| frame.seq));
        if let Some(frame) = &next_frame {
            self.link_to(frame);
            let out_of_order = frame.seq != self.order.highest() + 1;
            self.cursor = Cursor { seq: frame.seq - 1, chain: frame.chain_prev };
            if out_of_order {
                return next;
            }
        }
        let faults = self.report.faults.len() as u64 + self.report.faults_left_out;
        if faults == faults_before && !self.order.has_gaps() && !pieces.is_empty() {
            let detail = self.group_detail(&pieces, broken);
            self.fault(FaultKind::Group, Some(first), detail);
        }
        next
    }

    /// What stands from an offset up to the next intact group, and where that is.
    fn pieces<'b>(&self, buffer: &'b [u8], start: usize) -> (Vec<Piece<'b>>, Option<usize>) {
        let near = self.cursor.seq.saturating_sub(SEQ_DISTANCE_MAX)
            ..self.cursor.seq.saturating_add(SEQ_DISTANCE_MAX);
        let mut pieces = Vec::new();
        let mut offset = start;
        loop {
            let damage = match frame::parse(buffer, offset) {
                Parsed::Frame(frame) if begins_intact_group(buffer, offset, &frame) => {
                    return (pieces, Some(offset));
                }
                Parsed::Frame(frame) => {
                    offset += frame.bytes.len();
                    pieces.push(Piece::Frame(frame));
                    continue;
                }
                Parsed::End if segment::is_zero(buffer, offset) => return (pieces, None),
                Parsed::End => None,
                Parsed::Damaged(damage) => Some(damage),
            };
            if let Some((seq, end)) = changed(buffer, offset, damage, &near) {
                let text = buffer.get(offset..end).unwrap_or_default();
                pieces.push(Piece::Changed { seq, call_id: call_id_in(text) });
                offset = end;
                continue;
            }
            let found = frame::find(buffer, offset + 1, &near);
            let bytes = found.unwrap_or(buffer.len()) - offset;
            pieces.push(Piece::Junk { offset, bytes });
            match found {
                Some(found) => offset = found,
                None => return (pieces, None),
            }
        }
    }

    /// Names what is wrong with each piece; an intact group follows with event `next_seq`.
    fn pieces_in_order(&mut self, pieces: &[Piece<'_>], next_seq: Option<u64>) {
        for (index, piece) in pieces.iter().enumerate() {
            match piece {
                Piece::Frame(frame) => {
                    self.link_to(frame);
                    if let FrameKind::Event(kind) = frame.kind {
                        self.accept(&entry(frame, kind));
                    }
                }
                Piece::Changed { seq, call_id } => {
                    let detail = "bytes of this event's frame were changed".to_owned();
                    self.fault_at(FaultKind::Crc, Some(*seq), *call_id, detail);
                    // A changed commit frame claims the seq of the event before it.
                    if *seq != self.order.highest() {
                        let _known = self.order.see(*seq);
                        self.cursor.seq = *seq;
                        self.linked = false;
                    }
                }
                Piece::Junk { offset, bytes } => {
                    let behind = pieces.get(index + 1).and_then(Piece::seq).or(next_seq);
                    self.junk(*offset, *bytes, behind);
                }
            }
        }
    }

    /// Names bytes that are no frame, and the events that must have stood there.
    fn junk(&mut self, offset: usize, bytes: usize, behind: Option<u64>) {
        let first = self.order.highest() + 1;
        let lost = behind.filter(|behind| *behind > first).map(|behind| {
            self.order.skip_to(behind);
            format!(": events {first} to {} cannot be read", behind - 1)
        });
        let lost = lost.unwrap_or_default();
        let detail = format!("{bytes} bytes from byte {offset} on are no frame{lost}");
        self.fault(FaultKind::Frame, Some(first), detail);
        self.linked = false;
    }

    /// The frame that follows an intact event carries its chain hash.
    fn link_to(&mut self, frame: &Frame<'_>) {
        let follows = match frame.kind {
            FrameKind::Commit => frame.seq == self.cursor.seq,
            FrameKind::Event(_) => frame.seq == self.cursor.seq + 1,
        };
        if follows && self.linked && frame.chain_prev != self.cursor.chain {
            let seq = self.cursor.seq;
            let detail = format!(
                "the frame behind event {seq} carries another chain hash than event {seq} gives: \
                 one of them was changed"
            );
            self.fault_at(FaultKind::Chain, Some(seq), None, detail);
            // One change is named once.
            self.linked = false;
        }
    }

    fn group_detail(&self, pieces: &[Piece<'_>], broken: &Break) -> String {
        let commits = |piece: &Piece<'_>| {
            matches!(piece, Piece::Frame(Frame { kind: FrameKind::Commit, .. }))
        };
        let flaw = if pieces.iter().any(commits) { &broken.flaw } else { &Flaw::NoCommit };
        format!("at byte {}: {flaw}", broken.offset)
    }
}

/// Whether a whole group begins with this frame, wherever in the stream it belongs.
fn begins_intact_group(buffer: &[u8], offset: usize, frame: &Frame<'_>) -> bool {
    let begins = frame.kind != FrameKind::Commit && frame.seq == frame.group_first;
    let before = Cursor { seq: frame.seq.saturating_sub(1), chain: frame.chain_prev };
    begins && matches!(segment::next_group(buffer, offset, &before), Step::Group(_))
}

/// A damaged frame whose length still leads to a frame, or to the end.
fn changed(
    buffer: &[u8],
    offset: usize,
    damage: Option<Damage>,
    near: &Range<u64>,
) -> Option<(u64, usize)> {
    let inside = match damage? {
        Damage::Checksum | Damage::Kind(_) => true,
        Damage::Truncated | Damage::Length(_) => false,
    };
    let (seq, end) = frame::claimed(buffer, offset).filter(|_| inside)?;
    let goes_on = !matches!(frame::parse(buffer, end), Parsed::Damaged(_));
    (goes_on && near.contains(&seq)).then_some((seq, end))
}

fn entry<'a>(frame: &Frame<'a>, kind: Kind) -> Entry<'a> {
    let leaf = frame::leaf(frame.json);
    let chain = frame::link(&frame.chain_prev, &leaf);
    let (seq, json, chain_prev) = (frame.seq, frame.json, frame.chain_prev);
    Entry { seq, kind, json, leaf, chain_prev, chain }
}

/// The call that an event's bytes name, as far as they can be believed. The envelope's call stands
/// behind the body.
fn call_id_in(bytes: &[u8]) -> Option<Uuid> {
    const KEY: &[u8] = b"\"call_id\":\"";
    let at = bytes.windows(KEY.len()).rposition(|window| window == KEY)?;
    let text = bytes.get(at + KEY.len()..)?.get(..36)?;
    Uuid::try_parse_ascii(text).ok()
}
