//! An upstream that does what a test says, byte by byte, over a real socket.

use std::{
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

/// A running upstream; each connection gets its number, from 1.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

/// One accepted connection.
pub(crate) struct Connection {
    stream: Box<dyn Duplex>,
    buffer: Vec<u8>,
}

pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

// === impl Upstream ===

impl Upstream {
    /// Starts an upstream that plays `script` on every connection.
    pub(crate) async fn start<S, F>(script: S) -> Self
    where
        S: Fn(usize, Connection) -> F + Send + Clone + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        Self::listen(None, script).await
    }

    /// The same behind TLS.
    pub(crate) async fn start_tls<S, F>(tls: TlsAcceptor, script: S) -> Self
    where
        S: Fn(usize, Connection) -> F + Send + Clone + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        Self::listen(Some(tls), script).await
    }

    async fn listen<S, F>(tls: Option<TlsAcceptor>, script: S) -> Self
    where
        S: Fn(usize, Connection) -> F + Send + Clone + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut running = JoinSet::new();
            while let Ok((stream, _from)) = listener.accept().await {
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                let (tls, script) = (tls.clone(), script.clone());
                running.spawn(async move {
                    if let Some(connection) = Connection::accept(stream, tls).await {
                        script(number, connection).await;
                    }
                });
            }
        });
        Self { address, connections, _tasks: tasks }
    }

    /// How many connections were made.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

// === impl Connection ===

impl Connection {
    async fn accept(stream: TcpStream, tls: Option<TlsAcceptor>) -> Option<Self> {
        stream.set_nodelay(true).unwrap();
        let stream: Box<dyn Duplex> = match tls {
            Some(tls) => Box::new(tls.accept(stream).await.ok()?),
            None => Box::new(stream),
        };
        Some(Self { stream, buffer: Vec::new() })
    }

    /// Reads a head, up to and with its empty line; `None` where the gateway left before it.
    pub(crate) async fn read_head(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..at + 4).collect();
                return Some(String::from_utf8(head).unwrap());
            }
            let mut piece = [0; 4096];
            match self.stream.read(&mut piece).await {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.buffer.extend_from_slice(&piece[..count]),
            }
        }
    }

    /// Reads a whole request: head and body.
    pub(crate) async fn read_request(&mut self) -> Option<(String, Vec<u8>)> {
        let head = self.read_head().await?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let body = self.read_exact(length.parse().unwrap()).await?;
        Some((head, body))
    }

    /// Reads so many bytes of a body.
    pub(crate) async fn read_exact(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < count {
            let mut piece = vec![0; 64 << 10];
            match self.stream.read(&mut piece).await {
                Ok(0) | Err(_) => return None,
                Ok(read) => self.buffer.extend_from_slice(&piece[..read]),
            }
        }
        Some(self.buffer.drain(..count).collect())
    }

    /// Sends bytes as they are; a gateway that left is no fault of the script.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let sent = self.stream.write_all(bytes.as_ref()).await.is_ok();
        sent && self.stream.flush().await.is_ok()
    }

    /// Answers with a body of known length.
    pub(crate) async fn answer(&mut self, status: &str, body: &str) -> bool {
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
        self.send(head + body).await
    }

    /// Waits until the gateway has closed the connection.
    pub(crate) async fn closed(mut self) {
        let mut piece = vec![0; 64 << 10];
        while !matches!(self.stream.read(&mut piece).await, Ok(0) | Err(_)) {}
    }
}
