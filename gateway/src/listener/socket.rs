//! A bound address, and the accept loop on it.
//!
//! Binding comes first and alone, so that an address in use is known before anything starts.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::fd::IntoRawFd,
    sync::Arc,
};

use pingora_core::{
    apps::ServerApp,
    listeners::{L4BufferSettings, ListenerConfig},
    server::{Fds, ListenFds},
    services::{Service as _, listening::Service},
};

use crate::listener::drain::Stop;

/// A listening socket; connections queue up until it is served.
#[derive(Debug)]
pub struct Socket {
    listener: TcpListener,
    address: SocketAddr,
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error(
        "`{setting}`: the address `{address}` is in use; end the program that listens there, or \
         set another address"
    )]
    InUse { setting: &'static str, address: SocketAddr },
    #[error(
        "`{setting}`: the address `{address}` is none of this machine's; set one that it has, or \
         `127.0.0.1` or `0.0.0.0` with the port"
    )]
    NotOurs { setting: &'static str, address: SocketAddr },
    #[error(
        "`{setting}`: this user may not listen on `{address}`; set a port above 1023, or grant \
         the right"
    )]
    NotAllowed { setting: &'static str, address: SocketAddr },
    #[error("`{setting}`: cannot listen on `{address}`: {cause}")]
    Other { setting: &'static str, address: SocketAddr, cause: io::Error },
}

/// Answers are collected so far before they are sent: a head and a small body leave together.
const WRITE_BUFFER_BYTES: usize = 8 << 10;

impl Socket {
    /// Binds `address`; port 0 takes any free one. `setting` names it in an error.
    pub fn bind(setting: &'static str, address: SocketAddr) -> Result<Self, BindError> {
        let explain = |cause: io::Error| match cause.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse { setting, address },
            io::ErrorKind::AddrNotAvailable => BindError::NotOurs { setting, address },
            io::ErrorKind::PermissionDenied => BindError::NotAllowed { setting, address },
            _ => BindError::Other { setting, address, cause },
        };
        let listener = TcpListener::bind(address).map_err(explain)?;
        listener.set_nonblocking(true).map_err(explain)?;
        let address = listener.local_addr().map_err(explain)?;
        Ok(Self { listener, address })
    }

    /// The address it listens on, with the port that was really taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts connections for `app` until `stop` drains; then nobody listens any more.
    pub(crate) async fn accept<A>(self, app: A, stop: &Stop)
    where
        A: ServerApp + Send + Sync + 'static,
    {
        let name = self.address.to_string();
        let mut sockets = Fds::new();
        // The service owns the descriptor from here and closes it.
        sockets.add(name.clone(), self.listener.into_raw_fd());
        let sockets: ListenFds = Arc::new(sockets.into());
        let mut service = Service::new(name.clone(), app);
        // Bodies are read straight into their own buffer.
        let buffers = L4BufferSettings::new(0, WRITE_BUFFER_BYTES);
        service.add_listener(ListenerConfig::tcp(name).l4_buffer(buffers));
        service.start_service(Some(sockets), stop.closing(), 1).await;
    }
}
