//! Making a commit survive a power cut: the store below Delta never calls fsync.

use std::fs::File;
use std::io;
use std::path::Path;

/// Flushes a file and the folder it stands in.
pub(in crate::table) fn sync_file(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// Flushes the entries of a folder.
pub(in crate::table) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Flushes the log entry of `version`, its checkpoint where one was written, and every folder up
/// to the one that holds the table.
pub(in crate::table) fn sync_log(root: &Path, version: u64) -> io::Result<()> {
    let log = root.join("_delta_log");
    let prefix = format!("{version:020}.");
    for entry in std::fs::read_dir(&log)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(&prefix) || name == "_last_checkpoint" {
            File::open(entry.path())?.sync_all()?;
        }
    }
    sync_folder(&log)?;
    sync_folder(root)?;
    root.parent().map_or(Ok(()), sync_folder)
}
