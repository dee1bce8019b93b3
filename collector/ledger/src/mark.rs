//! The durable mark: how far a stream is known to be on disk.
//!
//! A small file in the stream's folder, written again in place after each `fdatasync` of the
//! segment. It tells readers in other processes how far they may read. It is never ahead of the
//! disk, since it is written after the sync; after a power loss it may be behind.

use std::{io, path::Path, sync::Arc};

use uuid::Uuid;

use crate::{
    disk::{self, File, Storage},
    frame::Hash,
};

/// The file's name in the stream's folder.
pub const NAME: &str = "durable";
/// `seq u64 | chain [32] | crc32c u32`; the checksum covers the stream's id as well.
const MARK_BYTES: usize = 44;

/// A stream is durable up to here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The last durable event; 0 before the first.
    pub seq: u64,
    /// The chain hash after it.
    pub chain: Hash,
}

/// What a reader finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    Mark(Mark),
    /// There is no such file: this is a copy without it.
    Nothing,
    /// It cannot be read; it was being written just now, or is damaged.
    Unreadable,
}

/// The writer's hold on the file.
#[derive(Debug)]
pub(crate) struct MarkFile {
    file: Arc<dyn File>,
    stream: Uuid,
}

// === impl MarkFile ===

impl MarkFile {
    /// Makes the file, or opens it, and makes this mark durable.
    pub(crate) fn open(
        storage: &dyn Storage,
        folder: &Path,
        stream: Uuid,
        mark: &Mark,
    ) -> io::Result<Self> {
        let path = folder.join(NAME);
        disk::write_whole(storage, &path, &encode(stream, mark))?;
        Ok(Self { file: storage.open(&path)?, stream })
    }

    /// Publishes a mark to readers; it need not survive a power loss.
    pub(crate) fn publish(&self, mark: &Mark) -> io::Result<()> {
        self.file.write_at(&encode(self.stream, mark), 0)
    }
}

/// Reads the mark of a stream.
pub fn read(storage: &dyn Storage, folder: &Path, stream: Uuid) -> io::Result<Found> {
    let bytes_max = u64::try_from(MARK_BYTES).unwrap_or(u64::MAX);
    match disk::read_all(storage, &folder.join(NAME), bytes_max) {
        Ok(bytes) => Ok(decode(stream, &bytes).map_or(Found::Unreadable, Found::Mark)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Nothing),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Ok(Found::Unreadable),
        Err(error) => Err(error),
    }
}

fn encode(stream: Uuid, mark: &Mark) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(MARK_BYTES);
    bytes.extend_from_slice(&mark.seq.to_le_bytes());
    bytes.extend_from_slice(&mark.chain);
    let checksum = checksum(stream, &bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

fn decode(stream: Uuid, bytes: &[u8]) -> Option<Mark> {
    let (covered, stored) = bytes.split_last_chunk::<4>()?;
    let (seq, chain) = covered.split_first_chunk::<8>()?;
    (checksum(stream, covered) == u32::from_le_bytes(*stored)).then_some(())?;
    Some(Mark { seq: u64::from_le_bytes(*seq), chain: chain.try_into().ok()? })
}

fn checksum(stream: Uuid, covered: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(stream.as_bytes()), covered)
}
