//! What a start finds, and what it does about it.
//!
//! Finds or makes the writer's stream under its lock, reads its end, cuts a last group that was
//! never finished, and refuses everything else. A last segment that does not end with a durable
//! `stop` may have seen a failed fsync that nobody can see any more, so its valid prefix is
//! copied into a new file and synced before anything is appended.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use thiserror::Error;
use uuid::Uuid;

use crate::{
    disk::{self, File, Lock, Storage},
    event::Writer,
    head::{self, Head, HeadError, HeadFile, PublicKeys, SigningPair},
    mark::{self, Found, Mark, MarkFile},
    segment::{self, Cursor, Entry, SegmentName, Step},
};

mod calls;
mod tail;

pub use calls::OpenCall;
use tail::Tail;

/// How often and how long the lock on the keys is waited for: another program of ours holds it
/// only while it starts.
const KEY_LOCK_TRIES: u32 = 100;
const KEY_LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

/// What an operator can do who has no backup. With its heads left behind, the stream would be
/// reported as gone.
const MOVE_AWAY: &str =
    "move the stream's folder away together with its file in `heads/` to begin a new stream";

/// What a start found.
#[derive(Debug, Clone, PartialEq)]
pub struct Recovered {
    pub stream: Uuid,
    /// Whether the stream was made by this start.
    pub new: bool,
    /// What was cut off the end, in words, if anything was.
    pub cut: Option<String>,
    /// Calls that began and have no outcome, in the order of their ids.
    pub open_calls: Vec<OpenCall>,
}

/// Why a ledger cannot be opened: what was found, where, and what to do.
#[derive(Debug, Error)]
pub enum OpenError {
    #[error("`{path}` is in use by another process; stop it, or choose another data folder")]
    Locked { path: PathBuf },
    #[error("cannot use `{path}`: {source}; check that it exists, is ours and has room")]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "`{folder}` holds {count} streams written by the {writer}; move all but the one in use \
         to another place"
    )]
    Ambiguous { folder: PathBuf, count: usize, writer: &'static str },
    #[error(
        "the stream `{folder}` has lost its file `writer`; write the word `{writer}` into it if \
         the stream is the {writer}'s"
    )]
    NoWriter { folder: PathBuf, writer: &'static str },
    #[error(
        "segment number {index} is missing in `{folder}`; restore it from a backup, or {MOVE_AWAY}"
    )]
    MissingSegment { folder: PathBuf, index: u64 },
    #[error(
        "`{folder}` holds two segments of number {index}: files of two copies were mixed; restore \
         the stream from one backup, or {MOVE_AWAY}"
    )]
    SecondSegment { folder: PathBuf, index: u64 },
    #[error(
        "segment `{segment}` is damaged at byte {offset}, at event {seq}: {flaw}; run \
         `cordon audit verify`, then restore the stream from a backup, or {MOVE_AWAY}"
    )]
    Damaged { segment: PathBuf, offset: usize, seq: u64, flaw: String },
    #[error(
        "the stream `{folder}` ends with event {found}, but {witness} says that {size} events \
         were durable; restore it from a backup, or {MOVE_AWAY}"
    )]
    Lost { folder: PathBuf, found: u64, size: u64, witness: &'static str },
    #[error(
        "event {seq} of the stream `{folder}` is not the one that {witness} names; restore the \
         stream from a backup, or {MOVE_AWAY}"
    )]
    Changed { folder: PathBuf, seq: u64, witness: &'static str },
    #[error(
        "the stream's file of signed heads `{path}` is missing; restore it from a backup, or \
         {MOVE_AWAY}"
    )]
    HeadsMissing { path: PathBuf },
    #[error(
        "the stream's file of signed heads `{path}` names none of its events, and heads are \
         signed every second; restore it from a backup, or {MOVE_AWAY}"
    )]
    HeadsEmptied { path: PathBuf },
    #[error(
        "the signed heads in `{path}` cannot be believed: {source}; run `cordon audit verify`, \
         then restore the file and `public.pem` beside it from a backup, or {MOVE_AWAY}"
    )]
    HeadsDamaged { path: PathBuf, source: HeadError },
    #[error("signed heads in `{heads}`: {source}")]
    Head { heads: PathBuf, source: HeadError },
    #[error("`segment_bytes` is {given}; it must be between {min} and {max}")]
    SegmentBytes { given: u64, min: u64, max: u64 },
}

/// Where a stream is looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Where<'a> {
    pub(crate) ledger: &'a Path,
    pub(crate) heads: &'a Path,
    pub(crate) signing_key: &'a Path,
    pub(crate) writer: Writer,
    /// How much room a segment's file sets aside.
    pub(crate) allocate_bytes: u64,
}

/// A stream that is ready to be appended to.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) folder: PathBuf,
    pub(crate) segment: OpenSegment,
    pub(crate) cursor: Cursor,
    /// Bytes of frames in all segments.
    pub(crate) bytes: u64,
    pub(crate) mark: MarkFile,
    pub(crate) heads: HeadFile,
    pub(crate) pair: SigningPair,
    /// The size that the last signed head names.
    pub(crate) head_size: u64,
    pub(crate) recovered: Recovered,
    /// Held for as long as the stream is written.
    pub(crate) locks: Vec<Box<dyn Lock>>,
}

/// The segment that is appended to.
#[derive(Debug)]
pub(crate) struct OpenSegment {
    pub(crate) name: SegmentName,
    pub(crate) file: Arc<dyn File>,
    /// Where the next group goes.
    pub(crate) offset: u64,
}

/// What else than the segments knows how far the stream was durable.
#[derive(Debug, Clone, Copy)]
struct Witnesses {
    mark: Found,
    head: Option<Head>,
}

/// Opens the writer's stream, or makes it.
pub(crate) fn recover(place: &Where<'_>, storage: &dyn Storage) -> Result<Ready, OpenError> {
    create_dir(storage, place.ledger)?;
    create_dir(storage, place.heads)?;
    let role_lock = format!("{}.lock", place.writer.name());
    let mut locks = vec![lock(storage, &place.ledger.join(role_lock))?];
    let (stream, new) = find_or_make(place, storage)?;
    let folder = place.ledger.join(stream.to_string());
    locks.push(lock(storage, &folder.join("lock"))?);
    remove_unfinished(storage, &folder)?;

    let (pair, keys) = load_keys(place, storage)?;
    refuse_lost_heads(place, storage, &folder, stream)?;
    let (heads, head) = open_heads(place, storage, stream, &keys)?;
    let mark = mark::read(storage, &folder, stream).map_err(io_error(&folder))?;
    let tail = tail::read(storage, &folder, stream, &Witnesses { mark, head })?;
    if head.is_none() {
        refuse_emptied_heads(place, storage, &folder, &tail)?;
    }
    let open_calls = calls::open_calls(storage, &folder, &tail)?;

    let segment = make_safe(place, storage, &folder, &tail)?;
    let durable = Mark { seq: tail.cursor.seq, chain: tail.cursor.chain };
    let mark = MarkFile::open(storage, &folder, stream, &durable).map_err(io_error(&folder))?;
    let recovered = Recovered { stream, new, cut: tail.cut.clone(), open_calls };
    let head_size = head.map_or(0, |head| head.size);
    let (cursor, bytes) = (tail.cursor, tail.bytes);
    Ok(Ready { folder, segment, cursor, bytes, mark, heads, pair, head_size, recovered, locks })
}

/// Makes a segment's file with these bytes, durable under its name or not there at all.
pub(crate) fn make_segment(
    storage: &dyn Storage,
    folder: &Path,
    name: SegmentName,
    prefix: &[u8],
    allocate_bytes: u64,
) -> io::Result<OpenSegment> {
    let path = name.path(folder);
    let unfinished = folder.join(format!("{name}.new"));
    disk::remove_if_there(storage, &unfinished)?;
    let file = storage.create(&unfinished)?;
    let offset = prefix.len() as u64;
    file.allocate(allocate_bytes.max(offset))?;
    file.write_at(prefix, 0)?;
    file.sync_data()?;
    storage.rename(&unfinished, &path)?;
    storage.sync_dir(folder)?;
    Ok(OpenSegment { name, file, offset })
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> OpenError + use<> {
    let path = path.to_owned();
    move |source| OpenError::Io { path: path.clone(), source }
}

fn create_dir(storage: &dyn Storage, path: &Path) -> Result<(), OpenError> {
    storage.create_dir(path).map_err(io_error(path))?;
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => storage.sync_dir(parent).map_err(io_error(parent)),
        None => Ok(()),
    }
}

fn lock(storage: &dyn Storage, path: &Path) -> Result<Box<dyn Lock>, OpenError> {
    storage.lock(path).map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock => OpenError::Locked { path: path.to_owned() },
        _ => OpenError::Io { path: path.to_owned(), source },
    })
}

/// The writer's stream and whether it is new.
fn find_or_make(place: &Where<'_>, storage: &dyn Storage) -> Result<(Uuid, bool), OpenError> {
    let folders = segment::streams(storage, place.ledger).map_err(io_error(place.ledger))?;
    let writer = place.writer.name();
    if let Some(lost) = folders.iter().find(|folder| folder.writer.is_none()) {
        return Err(OpenError::NoWriter { folder: lost.path.clone(), writer });
    }
    let ours: Vec<_> =
        folders.iter().filter(|folder| folder.writer == Some(place.writer)).collect();
    match ours.as_slice() {
        [] => Ok((make_stream(place, storage)?, true)),
        [folder] => Ok((folder.stream, false)),
        several => {
            let (folder, count) = (place.ledger.to_owned(), several.len());
            Err(OpenError::Ambiguous { folder, count, writer })
        }
    }
}

fn make_stream(place: &Where<'_>, storage: &dyn Storage) -> Result<Uuid, OpenError> {
    let stream = Uuid::new_v4();
    let folder = place.ledger.join(stream.to_string());
    create_dir(storage, &folder)?;
    // Before the folder counts as a stream: whoever sees one finds its heads, or they are lost.
    let head_error = |source| OpenError::Head { heads: place.heads.to_owned(), source };
    head::make(storage, place.heads, stream).map_err(head_error)?;
    let word = format!("{}\n", place.writer.name());
    let path = folder.join(segment::WRITER_NAME);
    disk::write_whole(storage, &path, word.as_bytes()).map_err(io_error(&path))?;
    Ok(stream)
}

/// Takes away what an earlier start or rotation did not finish.
fn remove_unfinished(storage: &dyn Storage, folder: &Path) -> Result<(), OpenError> {
    let names = storage.list(folder).map_err(io_error(folder))?;
    for name in names.iter().filter(|name| name.ends_with(".new")) {
        let path = folder.join(name);
        storage.remove(&path).map_err(io_error(&path))?;
    }
    Ok(())
}

/// The signing key and the published keys; gateway and collector may start at the same time.
fn load_keys(
    place: &Where<'_>,
    storage: &dyn Storage,
) -> Result<(SigningPair, PublicKeys), OpenError> {
    let path = place.heads.join("lock");
    let mut held = lock(storage, &path);
    for _try in 1..KEY_LOCK_TRIES {
        if !matches!(held, Err(OpenError::Locked { .. })) {
            break;
        }
        std::thread::sleep(KEY_LOCK_PAUSE);
        held = lock(storage, &path);
    }
    let held = held?;
    let head_error = |source| OpenError::Head { heads: place.heads.to_owned(), source };
    let pair = SigningPair::load_or_make(storage, place.signing_key).map_err(head_error)?;
    let keys = PublicKeys::publish(storage, place.heads, &pair.public()).map_err(head_error)?;
    drop(held);
    Ok((pair, keys))
}

/// The file of heads is made before a stream's first event; later it can only have been lost.
fn refuse_lost_heads(
    place: &Where<'_>,
    storage: &dyn Storage,
    folder: &Path,
    stream: Uuid,
) -> Result<(), OpenError> {
    let path = head::path(place.heads, stream);
    let there = match storage.open_to_read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        result => result.map(|_file| true).map_err(io_error(&path))?,
    };
    let segments = segment::list(storage, folder).map_err(io_error(folder))?;
    if there || segments.is_empty() { Ok(()) } else { Err(OpenError::HeadsMissing { path }) }
}

fn open_heads(
    place: &Where<'_>,
    storage: &dyn Storage,
    stream: Uuid,
    keys: &PublicKeys,
) -> Result<(HeadFile, Option<Head>), OpenError> {
    HeadFile::open(storage, place.heads, stream, keys).map_err(|source| match source {
        HeadError::Io { path, source } => OpenError::Io { path, source },
        source => OpenError::HeadsDamaged { path: head::path(place.heads, stream), source },
    })
}

/// A stream that is older than a second and has no head has lost them.
fn refuse_emptied_heads(
    place: &Where<'_>,
    storage: &dyn Storage,
    folder: &Path,
    tail: &Tail,
) -> Result<(), OpenError> {
    let Some(first) = tail.segments.first() else { return Ok(()) };
    let bytes = segment::read(storage, folder, first).map_err(io_error(folder))?;
    let began = match segment::next_group(&bytes, 0, &Cursor::start(tail.stream)) {
        Step::Group(group) => group.entries.first().and_then(Entry::time),
        Step::End | Step::Broken(_) => None,
    };
    match began.zip(tail.ended) {
        Some((began, ended)) if ended.since(began) > head::UNSIGNED_MAX => {
            Err(OpenError::HeadsEmptied { path: head::path(place.heads, tail.stream) })
        }
        Some(_) | None => Ok(()),
    }
}

/// A segment that is safe to append to: the last one as it is, or a synced copy of its prefix.
fn make_safe(
    place: &Where<'_>,
    storage: &dyn Storage,
    folder: &Path,
    tail: &Tail,
) -> Result<OpenSegment, OpenError> {
    let path = tail.name.path(folder);
    if tail.stopped {
        let file = storage.open(&path).map_err(io_error(&path))?;
        return Ok(OpenSegment { name: tail.name, file, offset: tail.prefix.len() as u64 });
    }
    make_segment(storage, folder, tail.name, &tail.prefix, place.allocate_bytes)
        .map_err(io_error(&path))
}
