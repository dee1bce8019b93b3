//! The name of a Unix socket that lies deep under a data folder.

use std::{
    fs::File,
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

/// The kernel takes paths of up to 107 bytes; a few are spared.
const PATH_BYTES_MAX: usize = 100;

/// A name for `path` that the kernel takes even where `path` is too long: through the open folder,
/// which must be kept for as long as the name is used.
///
/// # Errors
/// The folder cannot be opened.
pub fn short_path(path: &Path) -> io::Result<(Option<File>, PathBuf)> {
    if path.as_os_str().len() <= PATH_BYTES_MAX {
        return Ok((None, path.to_owned()));
    }
    let folder = File::open(path.parent().unwrap_or(Path::new(".")))?;
    let name = path.file_name().unwrap_or_default();
    let short = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
    Ok((Some(folder), short))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn a_socket_deep_under_long_names_is_bound_and_reached() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let path = deep.join("collector.sock");
        assert!(UnixListener::bind(&path).is_err());
        let (_folder, short) = short_path(&path).unwrap();
        let _listener = UnixListener::bind(short).unwrap();
        let (_folder, short) = short_path(&path).unwrap();
        assert!(UnixStream::connect(short).is_ok());
        assert!(path.try_exists().unwrap());
    }
}
