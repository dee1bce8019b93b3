//! Storage under the ledger: the real disk, and a simulated one for tests.
//!
//! The trait has as many operations as the ledger needs to say what is durable and what is not,
//! so that a test can lose power between any two of them.

use std::{fmt, io, path::Path, sync::Arc};

mod real;
pub mod simulated;

pub use real::RealDisk;

/// Files and folders. New files belong to their owner only (0600, folders 0700).
pub trait Storage: Send + Sync + fmt::Debug {
    /// Makes a folder and those above it; one that exists is fine.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// The names in a folder, sorted.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Makes a file to read and write; one that exists is an error.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Opens a file to read and write.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Opens a file to read only.
    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Gives a file another name in the same folder, replacing what had that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Takes a file away.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Returns once names made, changed or removed in this folder are durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Locks a file (made if needed) against every other process, until the lock is dropped. One
    /// that is held elsewhere is `WouldBlock`.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>>;
    /// Whether only the file's owner can read it.
    fn is_private(&self, path: &Path) -> io::Result<bool>;
}

/// An open file.
pub trait File: Send + Sync + fmt::Debug {
    /// Reads up to a buffer's length at an offset; 0 at the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all bytes at an offset. They are not durable yet.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// The file's length in bytes.
    fn bytes(&self) -> io::Result<u64>;
    /// Cuts the file, or makes it longer with zeros.
    fn set_bytes(&self, bytes: u64) -> io::Result<()>;
    /// Makes the file this long and has room for it set aside.
    fn allocate(&self, bytes: u64) -> io::Result<()>;
    /// Returns once all bytes written are durable (`fdatasync`).
    fn sync_data(&self) -> io::Result<()>;
}

/// A lock, held until it is dropped.
pub trait Lock: Send + Sync + fmt::Debug {}

/// Reads a whole file of at most so many bytes; a longer one is an error.
pub fn read_all(storage: &dyn Storage, path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let file = storage.open_to_read(path)?;
    let length = file.bytes()?;
    let too_long = || {
        let text = format!("the file has {length} bytes, more than the {bytes_max} it may have");
        io::Error::new(io::ErrorKind::FileTooLarge, text)
    };
    if length > bytes_max {
        return Err(too_long());
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(|_no_room| too_long())?];
    let read = read_up_to(&*file, &mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Reads until the buffer is full or the file ends.
pub fn read_up_to(file: &dyn File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let read = file.read_at(rest, offset + filled as u64)?;
        if read == 0 {
            break;
        }
        filled += read;
    }
    Ok(filled)
}

/// Makes a file with these bytes, durable under its name or not there at all.
pub fn write_whole(storage: &dyn Storage, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    let unfinished = Path::new(&unfinished);
    remove_if_there(storage, unfinished)?;
    let file = storage.create(unfinished)?;
    file.write_at(bytes, 0)?;
    file.sync_data()?;
    storage.rename(unfinished, path)?;
    storage.sync_dir(folder)
}

/// Takes a file away if there is one.
pub fn remove_if_there(storage: &dyn Storage, path: &Path) -> io::Result<()> {
    match storage.remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
