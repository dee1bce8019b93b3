//! TLS before an upstream: an authority of its own, one certificate, the bytes handed through.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::ServerConfig;
use tempfile::TempDir;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
};
use tokio_rustls::TlsAcceptor;

use crate::upstream::Upstream;

/// A listener for TLS; it ends with its handle.
#[derive(Debug)]
pub struct Front {
    _runtime: Runtime,
    folder: TempDir,
    port: u16,
}

impl Front {
    /// Listens on `localhost` before `upstream`, with a certificate for `name`.
    pub fn before(upstream: &Upstream, name: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let acceptor = acceptor(name, &roots(&folder));
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().expect("a thread");
        let listener = runtime.block_on(TcpListener::bind("localhost:0")).expect("a free port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        runtime.spawn(serve(listener, acceptor, upstream.address()));
        Self { _runtime: runtime, folder, port }
    }

    /// The base address for a configuration.
    pub fn url(&self) -> String {
        format!("https://localhost:{}/v1", self.port)
    }

    /// The certificate of its authority, as a PEM file.
    pub fn roots(&self) -> PathBuf {
        roots(&self.folder)
    }
}

fn roots(folder: &TempDir) -> PathBuf {
    folder.path().join("roots.pem")
}

/// Makes an authority, writes its certificate to `roots`, and has it vouch for `name`.
fn acceptor(name: &str, roots: &Path) -> TlsAcceptor {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut authority = rcgen::CertificateParams::new(Vec::new()).expect("no names");
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = authority.self_signed(&key).expect("a certificate");
    fs::write(roots, root.pem()).expect("the folder is writable");
    let issuer = rcgen::Issuer::new(authority, key);
    let key = rcgen::KeyPair::generate().expect("a key");
    let leaf = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("a name");
    let leaf = leaf.signed_by(&key, &issuer).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key.into())
        .expect("the key is the certificate's");
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, upstream: SocketAddr) {
    while let Ok((outside, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // A client that does not believe us ends the handshake; nothing goes further.
            let Ok(mut outside) = acceptor.accept(outside).await else { return };
            let Ok(mut inside) = TcpStream::connect(upstream).await else { return };
            drop(copy_bidirectional(&mut outside, &mut inside).await);
        });
    }
}
