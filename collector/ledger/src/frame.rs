//! Frames as they stand on disk, and the hashes that link them.
//!
//! `length u32 | crc32c u32 | seq u64 | group_first_seq u64 | chain_prev [32] | kind u8 | json`,
//! integers little-endian. `length` counts, and `crc32c` covers, all that follows the `crc32c`.
//! A commit frame (kind 0) ends a group; it is no event, no leaf and no link.

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::event::Kind;

/// SHA-256.
pub type Hash = [u8; 32];

/// Bytes before the JSON.
pub const HEADER_BYTES: usize = 57;
/// Bytes of the length and the checksum, which the length does not count.
const PREFIX_BYTES: usize = 8;
/// A longer frame is damage: no event comes near it.
pub const FRAME_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The kind of a commit frame.
const COMMIT_CODE: u8 = 0;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    Commit,
    Event(Kind),
}

/// One intact frame.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    pub kind: FrameKind,
    pub seq: u64,
    pub group_first: u64,
    /// The chain hash before this event; in a commit frame, after its group's last.
    pub chain_prev: Hash,
    pub json: &'a [u8],
    /// The frame's bytes on disk, all of them.
    pub bytes: &'a [u8],
}

/// What stands at an offset.
#[derive(Debug, Clone, Copy)]
pub enum Parsed<'a> {
    /// Nothing: zeros, or the end of the bytes.
    End,
    Frame(Frame<'a>),
    Damaged(Damage),
}

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    #[error("the frame goes on behind the end of the file")]
    Truncated,
    #[error("a frame of {0} bytes cannot be")]
    Length(u32),
    #[error("the checksum of the frame is wrong")]
    Checksum,
    #[error("the frame has kind {0}, which this version does not know")]
    Kind(u8),
}

/// What a commit frame says of its group.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Commit {
    /// Events in the group.
    pub count: u64,
    /// SHA-256 over the frames of the group's events, lower hex.
    pub hash: String,
}

/// Reads the frame at an offset.
pub fn parse(buffer: &[u8], offset: usize) -> Parsed<'_> {
    let rest = buffer.get(offset..).unwrap_or_default();
    let Some((length, after)) = rest.split_first_chunk::<4>() else {
        let zeros = rest.iter().all(|byte| *byte == 0);
        return if zeros { Parsed::End } else { Parsed::Damaged(Damage::Truncated) };
    };
    let length = u32::from_le_bytes(*length);
    if length == 0 {
        return Parsed::End;
    }
    let Some(covered_bytes) = usize::try_from(length).ok().filter(|bytes| is_possible(*bytes))
    else {
        return Parsed::Damaged(Damage::Length(length));
    };
    let Some((checksum, after)) = after.split_first_chunk::<4>() else {
        return Parsed::Damaged(Damage::Truncated);
    };
    let (Some(covered), Some(bytes)) =
        (after.get(..covered_bytes), rest.get(..covered_bytes + PREFIX_BYTES))
    else {
        return Parsed::Damaged(Damage::Truncated);
    };
    if crc32c::crc32c(covered) != u32::from_le_bytes(*checksum) {
        return Parsed::Damaged(Damage::Checksum);
    }
    parse_covered(covered, bytes)
}

fn is_possible(covered_bytes: usize) -> bool {
    (HEADER_BYTES - PREFIX_BYTES..=FRAME_BYTES_MAX).contains(&covered_bytes)
}

fn parse_covered<'a>(covered: &'a [u8], bytes: &'a [u8]) -> Parsed<'a> {
    let Some(header) = Header::read(covered) else {
        return Parsed::Damaged(Damage::Truncated);
    };
    let kind = match (header.code, Kind::from_code(header.code)) {
        (COMMIT_CODE, _) => FrameKind::Commit,
        (_, Some(kind)) => FrameKind::Event(kind),
        (code, None) => return Parsed::Damaged(Damage::Kind(code)),
    };
    Parsed::Frame(Frame {
        kind,
        seq: header.seq,
        group_first: header.group_first,
        chain_prev: header.chain_prev,
        json: covered.get(HEADER_BYTES - PREFIX_BYTES..).unwrap_or_default(),
        bytes,
    })
}

struct Header {
    seq: u64,
    group_first: u64,
    chain_prev: Hash,
    code: u8,
}

impl Header {
    fn read(covered: &[u8]) -> Option<Self> {
        let (seq, rest) = covered.split_first_chunk::<8>()?;
        let (group_first, rest) = rest.split_first_chunk::<8>()?;
        let (chain_prev, rest) = rest.split_first_chunk::<32>()?;
        Some(Self {
            seq: u64::from_le_bytes(*seq),
            group_first: u64::from_le_bytes(*group_first),
            chain_prev: *chain_prev,
            code: *rest.first()?,
        })
    }
}

/// What the header of a damaged frame claims: its seq, and the offset behind it. Not to be
/// believed without another sign, such as an intact frame at that offset.
pub fn claimed(buffer: &[u8], offset: usize) -> Option<(u64, usize)> {
    let rest = buffer.get(offset..)?;
    let (length, after) = rest.split_first_chunk::<4>()?;
    let covered_bytes = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let covered = after.get(4..)?;
    let end = offset.checked_add(covered_bytes)?.checked_add(PREFIX_BYTES)?;
    let possible = is_possible(covered_bytes) && end <= buffer.len();
    possible.then_some(())?;
    Some((Header::read(covered)?.seq, end))
}

/// The first intact frame at or behind an offset whose seq lies in the range. Only a header that
/// fits is checked as a frame, so the search is quick in any bytes.
pub fn find(buffer: &[u8], from: usize, seqs: &std::ops::Range<u64>) -> Option<usize> {
    (from..buffer.len()).find(|offset| {
        let fits = claimed(buffer, *offset).is_some_and(|(seq, _)| seqs.contains(&seq));
        fits && matches!(parse(buffer, *offset), Parsed::Frame(_))
    })
}

/// The place of a frame that is about to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) seq: u64,
    pub(crate) group_first: u64,
    pub(crate) chain_prev: Hash,
}

/// Appends an event's frame; `write_json` adds the JSON. Returns the event's leaf.
pub(crate) fn write_event(
    buffer: &mut Vec<u8>,
    place: &Place,
    kind: Kind,
    write_json: impl FnOnce(&mut Vec<u8>),
) -> Hash {
    let start = buffer.len();
    write_frame(buffer, place, kind.code(), write_json);
    leaf(buffer.get(start + HEADER_BYTES..).unwrap_or_default())
}

/// Appends the commit frame of a group of so many events, whose frames have this hash.
pub(crate) fn write_commit(buffer: &mut Vec<u8>, place: &Place, count: u64, group: &Hash) {
    let json = format!("{{\"count\":{count},\"hash\":\"{}\"}}", hex::encode(group));
    write_frame(buffer, place, COMMIT_CODE, |buffer| buffer.extend_from_slice(json.as_bytes()));
}

fn write_frame(
    buffer: &mut Vec<u8>,
    place: &Place,
    code: u8,
    write_json: impl FnOnce(&mut Vec<u8>),
) {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; PREFIX_BYTES]);
    buffer.extend_from_slice(&place.seq.to_le_bytes());
    buffer.extend_from_slice(&place.group_first.to_le_bytes());
    buffer.extend_from_slice(&place.chain_prev);
    buffer.push(code);
    write_json(buffer);
    let (prefix, covered) = buffer
        .get_mut(start..)
        .and_then(|frame| frame.split_at_mut_checked(PREFIX_BYTES))
        .expect("the prefix was written above");
    let length = u32::try_from(covered.len()).expect("drafts are refused long before 4 GiB");
    let (length_bytes, checksum_bytes) = prefix.split_at_mut(4);
    length_bytes.copy_from_slice(&length.to_le_bytes());
    checksum_bytes.copy_from_slice(&crc32c::crc32c(covered).to_le_bytes());
}

/// The leaf of an event: `SHA-256(0x00 ‖ json)` (RFC 6962).
pub fn leaf(json: &[u8]) -> Hash {
    Sha256::new().chain_update([0x00]).chain_update(json).finalize().into()
}

/// The chain hash after an event: `SHA-256(0x02 ‖ chain before ‖ leaf)`.
pub fn link(chain_prev: &Hash, leaf: &Hash) -> Hash {
    Sha256::new().chain_update([0x02]).chain_update(chain_prev).chain_update(leaf).finalize().into()
}

/// The chain hash before a stream's first event: `SHA-256(0x03 ‖ stream id)`.
pub fn origin(stream: Uuid) -> Hash {
    Sha256::new().chain_update([0x03]).chain_update(stream.as_bytes()).finalize().into()
}

/// The hash over the frames of a group's events.
pub fn group_hash(frames: &[u8]) -> Hash {
    Sha256::digest(frames).into()
}
