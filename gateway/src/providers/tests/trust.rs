//! TLS: whom we believe.

use tokio_rustls::TlsAcceptor;

use super::{upstream::Upstream, *};

/// An authority of our own and a certificate that it gave to one name.
struct Authority {
    _folder: tempfile::TempDir,
    roots: PathBuf,
    acceptor: TlsAcceptor,
}

fn authority(name: &str) -> Authority {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = authority.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(authority, key);
    let leaf_key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    let leaf = leaf.signed_by(&leaf_key, &issuer).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, root.pem()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], leaf_key.into())
        .unwrap();
    Authority { _folder: folder, roots, acceptor: TlsAcceptor::from(Arc::new(config)) }
}

async fn serving(authority: &Authority) -> Upstream {
    Upstream::start_tls(authority.acceptor.clone(), |_, mut connection| async move {
        while connection.read_request().await.is_some() {
            connection.answer("200 OK", "ok").await;
        }
    })
    .await
}

fn trusting(upstream: &Upstream, host: &str, roots: Option<PathBuf>) -> Remote {
    let host = host.to_owned();
    Remote { tls: true, host, trust_roots: roots, ..remote(&[upstream.address]) }
}

#[tokio::test]
async fn a_name_under_our_roots_is_believed_and_its_connection_reused() {
    let authority = authority("upstream.test");
    let upstream = serving(&authority).await;
    let world = World::new(trusting(&upstream, "upstream.test", Some(authority.roots.clone())));
    for _ in 0..2 {
        assert_eq!(world.whole().await.unwrap(), "ok");
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn a_bare_address_needs_a_certificate_that_names_it() {
    let named = authority("127.0.0.1");
    let upstream = serving(&named).await;
    let world = World::new(trusting(&upstream, "127.0.0.1", Some(named.roots.clone())));
    assert_eq!(world.whole().await.unwrap(), "ok");
    let unnamed = authority("upstream.test");
    let upstream = serving(&unnamed).await;
    let world = World::new(trusting(&upstream, "127.0.0.1", Some(unnamed.roots.clone())));
    assert_eq!(world.fails().await.cause, Cause::Tls);
}

#[tokio::test]
async fn other_names_other_roots_and_no_names_are_refused_before_anything_is_sent() {
    let ours = authority("upstream.test");
    let theirs = authority("upstream.test");
    let upstream = serving(&ours).await;
    let cases = [
        ("other.test", Some(ours.roots.clone())),
        ("upstream.test", Some(theirs.roots.clone())),
        ("upstream.test", None),
        ("", Some(ours.roots.clone())),
        ("[]", Some(ours.roots.clone())),
        ("up_stream.test", Some(ours.roots.clone())),
    ];
    for (host, roots) in cases {
        let world = World::new(Remote { key: None, ..trusting(&upstream, host, roots) });
        let failure = world.ask("{}").await.expect_err("this must fail");
        let expected = if host.trim_matches(['[', ']']).is_empty() {
            Cause::Protocol // No head can be written for it.
        } else {
            Cause::Tls
        };
        assert_eq!(failure.cause, expected, "{host}");
        assert_eq!(failure.traffic.request_bytes, 0);
    }
}

#[tokio::test]
async fn a_connection_made_under_one_trust_is_not_used_under_another() {
    let ours = authority("upstream.test");
    let theirs = authority("upstream.test");
    let upstream = serving(&ours).await;
    let trusted = trusting(&upstream, "upstream.test", Some(ours.roots.clone()));
    let untrusted = trusting(&upstream, "upstream.test", Some(theirs.roots.clone()));
    let providers = Providers::new([&trusted, &untrusted], None, Settings::default()).unwrap();
    let terms = terms(deadlines());
    let ask = async |remote: &Remote| {
        let clearance = clearance(Address::Remote(remote.clone()), "{}", false).await;
        providers.attempt(clearance, &terms).await
    };
    let mut attempt = ask(&trusted).await.unwrap();
    assert_eq!(read(&mut attempt).await.unwrap(), "ok");
    assert_eq!(ask(&untrusted).await.expect_err("this must fail").cause, Cause::Tls);
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_the_connect_deadlines() {
    let upstream = Upstream::start(|_, connection| connection.closed()).await;
    let authority = authority("upstream.test");
    let remote = trusting(&upstream, "upstream.test", Some(authority.roots.clone()));
    let deadlines = Deadlines { connect: BRIEF, ..deadlines() };
    let failure = World { deadlines, ..World::new(remote) }.fails().await;
    assert_eq!(failure.cause, Cause::Timeout(Deadline::Connect));
}

#[tokio::test]
async fn a_broken_stream_under_tls_is_no_end() {
    let authority = authority("upstream.test");
    let upstream =
        Upstream::start_tls(authority.acceptor.clone(), |_, mut connection| async move {
            connection.read_request().await;
            connection.send("HTTP/1.1 200 OK\r\n\r\nhalf of").await;
            // Dropped without TLS's own goodbye: anybody on the way could have cut it.
        })
        .await;
    let world = World::new(trusting(&upstream, "upstream.test", Some(authority.roots.clone())));
    assert_eq!(world.fails().await.cause, Cause::BrokenBody);
}

#[test]
fn roots_that_cannot_be_read_are_an_error_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let (empty, broken) = (folder.path().join("empty.pem"), folder.path().join("broken.pem"));
    std::fs::write(&empty, "").unwrap();
    let text = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    std::fs::write(&broken, text).unwrap();
    for path in [empty, broken, folder.path().join("missing.pem")] {
        let remote = Remote { tls: true, trust_roots: Some(path.clone()), ..remote(&[]) };
        let error = Providers::new([&remote], None, Settings::default()).map(drop).unwrap_err();
        assert_eq!(error, ProvidersError::Roots { path: path.clone() });
        assert!(error.to_string().contains(path.to_str().unwrap()));
    }
}

#[tokio::test]
async fn a_silent_address_leaves_time_for_the_next() {
    let silent = Upstream::start(|_, connection| connection.closed()).await;
    let authority = authority("upstream.test");
    let upstream = serving(&authority).await;
    let remote = trusting(&upstream, "upstream.test", Some(authority.roots.clone()));
    remote.addresses.store(Arc::new(vec![silent.address, upstream.address]));
    let deadlines = Deadlines { connect: BRIEF * 8, ..deadlines() };
    let world = World { deadlines, ..World::new(remote) };
    assert_eq!(world.whole().await.unwrap(), "ok");
    assert_eq!(silent.connections(), 1);
}
