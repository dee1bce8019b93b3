//! The socket: bound in a folder of mode 0700, gone when it is dropped.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use cordon_ledger::short_path;
use thiserror::Error;
use tokio::net::{UnixListener, UnixStream};

/// A bound socket.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

/// Why the socket cannot be bound.
#[derive(Debug, Error)]
#[error("cannot listen on `{path}`: {source}")]
pub struct SocketError {
    path: PathBuf,
    source: io::Error,
}

// === impl Socket ===

impl Socket {
    /// Binds `path`. The caller holds the lock of the collector's stream, so that a socket found
    /// there belongs to nobody.
    ///
    /// # Errors
    /// Its folder cannot be made, or the socket cannot be bound.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let error = |source| SocketError { path: path.to_owned(), source };
        let folder = path.parent().unwrap_or(Path::new("."));
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(error)?;
        std::fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(error)?;
        match std::fs::remove_file(path) {
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => {}
            removed => removed.map_err(error)?,
        }
        let (_folder, short) = short_path(path).map_err(error)?;
        let listener = UnixListener::bind(short).map_err(error)?;
        Ok(Self { listener, path: path.to_owned() })
    }

    pub(in crate::serve) async fn accept(&self) -> io::Result<UnixStream> {
        Ok(self.listener.accept().await?.0)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // One that is gone already is as good.
        drop(std::fs::remove_file(&self.path));
    }
}
