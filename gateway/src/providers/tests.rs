//! Attempts against scripted upstreams over real sockets.

mod answers;
mod connections;
mod deadlines;
mod trust;
mod upstream;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::*;
use crate::{
    catalog::facts::{CandidateFacts, CandidateKind},
    identity::attributes::Known,
    policy::Outbound,
    record::sample::cleared,
    route::Connection,
    wire::Format,
};

/// Long enough for everything that works on a busy machine.
const PLENTY: Duration = Duration::from_secs(20);
/// Short enough to be waited for.
const BRIEF: Duration = Duration::from_millis(300);

fn deadlines() -> Deadlines {
    Deadlines { connect: PLENTY, first_token: PLENTY, answer: PLENTY, gap: PLENTY, total: None }
}

/// The terms of a call's first attempt, now.
fn terms(deadlines: Deadlines) -> Terms {
    let now = Instant::now();
    Terms { deadlines, began: now, started: now, connection: Connection::Any }
}

fn remote(addresses: &[SocketAddr]) -> Remote {
    Remote {
        tls: false,
        host: "upstream.test".to_owned(),
        port: addresses.first().map_or(1, SocketAddr::port),
        base_path: "/v1".to_owned(),
        key: Some(crate::secret::Secret::new("marked-secret".to_owned())),
        trust_roots: None,
        addresses: Arc::new(arc_swap::ArcSwap::from_pointee(addresses.to_vec())),
    }
}

fn facts() -> CandidateFacts {
    CandidateFacts {
        kind: CandidateKind::Remote,
        provider: "upstream".to_owned(),
        provider_headquarters: None,
        ultimate_parent_headquarters: None,
        operator_headquarters: None,
        operator_us_persons_only: Known::Unknown,
        region: None,
        residency: None,
        subprocessors: None,
        transfer_mechanisms: None,
        dpf_listed: Known::Unknown,
        tia: None,
        tia_until: None,
        zdr: Known::Unknown,
        train: Known::Unknown,
        retention_days: None,
        baa: Known::Unknown,
        dpa: Known::Unknown,
        dora_register: Known::Unknown,
        certifications: None,
        model_id: "model".to_owned(),
        model_family: None,
        model_origin: None,
        model_open_weights: Known::Unknown,
        model_eccn: None,
        model_signature: None,
        model_aibom: None,
        model_advisories: Vec::new(),
        hardware_eccn: None,
        hardware_country: None,
        as_of: None,
    }
}

fn upstream(address: Address) -> Arc<Upstream> {
    Arc::new(Upstream {
        id: UpstreamId::new("upstream", "model"),
        model: "model".to_owned(),
        format: Format::OpenAiChat,
        address,
        provider: "upstream".to_owned(),
        facts: facts(),
        context_tokens_max: None,
    })
}

async fn clearance(address: Address, body: impl Into<Bytes>, stream: bool) -> Clearance {
    cleared(upstream(address), Outbound::sample(body.into()), stream).await
}

/// A clearance for the local model.
pub(crate) async fn local_clearance(body: &'static str) -> Clearance {
    clearance(Address::Local, body, false).await
}

/// One gateway with one upstream.
struct World {
    providers: Providers,
    remote: Remote,
    deadlines: Deadlines,
}

impl World {
    fn new(remote: Remote) -> Self {
        Self::limited(remote, Settings::default())
    }

    fn limited(remote: Remote, settings: Settings) -> Self {
        let providers = Providers::new([&remote], None, settings).unwrap();
        Self { providers, remote, deadlines: deadlines() }
    }

    async fn ask(&self, body: impl Into<Bytes>) -> Result<Attempt, Failure> {
        let clearance = clearance(Address::Remote(self.remote.clone()), body, false).await;
        self.providers.attempt(clearance, &terms(self.deadlines)).await
    }

    async fn stream(&self) -> Result<Attempt, Failure> {
        let clearance = clearance(Address::Remote(self.remote.clone()), "{}", true).await;
        self.providers.attempt(clearance, &terms(self.deadlines)).await
    }

    /// Asks, and reads the answer to its end.
    async fn whole(&self) -> Result<String, Failure> {
        read(&mut self.ask("{}").await?).await
    }

    async fn fails(&self) -> Failure {
        self.whole().await.map(drop).expect_err("this must fail")
    }
}

async fn read(attempt: &mut Attempt) -> Result<String, Failure> {
    let mut text = Vec::new();
    while let Some(piece) = attempt.next(Instant::now() + PLENTY, Deadline::Gap).await? {
        text.extend_from_slice(&piece);
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

async fn piece(attempt: &mut Attempt) -> String {
    let piece = attempt.next(Instant::now() + PLENTY, Deadline::Gap).await.unwrap();
    String::from_utf8_lossy(&piece.expect("more of the body")).into_owned()
}

#[test]
fn attempts_move_between_threads() {
    fn moves<T: Send + 'static>(
        _: impl FnOnce(&'static Providers, Clearance, &'static Terms) -> T,
    ) {
    }
    moves(|providers, clearance, terms| providers.attempt(clearance, terms));
    fn is_send<T: Send>() {}
    is_send::<Attempt>();
}

#[test]
fn failures_show_neither_body_nor_key() {
    let failure = Failure {
        body: Some(Bytes::from_static(b"marked-secret")),
        ..Failure::new(Side::Upstream, Cause::Status, Traffic::default())
    };
    assert!(!format!("{failure:?}").contains("marked-secret"));
    let remote = remote(&[]);
    let providers = Providers::new([&remote], None, Settings::default()).unwrap();
    assert!(!format!("{providers:?}").contains("marked-secret"));
}

#[test]
fn an_error_in_a_stream_is_a_refusal_where_it_says_what_it_is() {
    let cases = [
        (r#"{"error":{"message":"slow down","code":429}}"#, Cause::Status, ErrorKind::RateLimit),
        (r#"{"error":{"code":"rate_limit_exceeded"}}"#, Cause::Status, ErrorKind::RateLimit),
        (r#"{"error":{"code":"content_filter"}}"#, Cause::Status, ErrorKind::ContentFilter),
        (
            r#"{"error":{"message":"oops","type":"server_error"}}"#,
            Cause::BrokenBody,
            ErrorKind::Other,
        ),
        (r#"{"error":{"message":"oops","code":500}}"#, Cause::Status, ErrorKind::Other),
        (r#"[{"error":{"message":"oops","code":429}}]"#, Cause::Status, ErrorKind::RateLimit),
    ];
    for (event, cause, kind) in cases {
        let failure = Failure::in_stream(Bytes::from(event));
        assert_eq!((failure.cause, failure.kind), (cause, kind), "{event}");
    }
}

#[test]
fn a_remote_can_always_be_tried_and_the_local_model_where_it_is() {
    let remote = remote(&[]);
    let providers = Providers::new([&remote], None, Settings::default()).unwrap();
    assert!(providers.can_try(&upstream(Address::Remote(remote))));
    assert!(!providers.can_try(&upstream(Address::Local)));
}
