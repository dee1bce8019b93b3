//! The administration as operators and web pages meet it, with a scripted collector behind.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use cordon_ledger::short_path;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixListener},
    sync::Notify,
    task::JoinHandle,
    time::timeout,
};

use crate::{
    admin::{NotAllowed, Parties, Scope, serve},
    identity::IdentityError,
    listener::{
        Settings, Socket,
        drain::{Drained, Stop},
    },
    quantity::Span,
};

const PATIENCE: Duration = Duration::from_secs(20);

struct World {
    address: SocketAddr,
    stop: Stop,
    served: JoinHandle<Drained>,
    _folder: tempfile::TempDir,
    /// The collector's.
    socket: PathBuf,
    /// Told when the collector has read a request.
    asked: Arc<Notify>,
}

impl World {
    fn start() -> Self {
        Self::with_collector_at(Path::new("collector.sock"))
    }

    fn with_collector_at(place: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let collector = folder.path().join(place);
        std::fs::create_dir_all(collector.parent().unwrap()).unwrap();
        let mut settings = Settings::default();
        settings.limits.audit_deadline = Span(Duration::from_millis(500));
        let parties = Parties {
            settings,
            scope: Arc::new(scope),
            metrics: Arc::new(|| "# EOF\n".to_owned()),
            state: Arc::new(|| serde_json::json!({"ok": true})),
            collector: collector.clone(),
        };
        let bound = Socket::bind("listeners.admin", "127.0.0.1:0".parse().unwrap()).unwrap();
        let (address, stop) = (bound.address(), Stop::default());
        let order = stop.clone();
        let served = tokio::spawn(async move { serve(bound, parties, &order).await });
        let asked = Arc::new(Notify::new());
        Self { address, stop, served, _folder: folder, socket: collector, asked }
    }

    /// Sends one request and gives back the whole answer as text.
    async fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        answer
    }

    async fn get(&self, path: &str, headers: &str) -> String {
        let host = self.address;
        self.ask(&format!(
            "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{headers}\r\n"
        ))
        .await
    }

    async fn post(&self, path: &str, key: &str, body: &str) -> String {
        self.ask(&format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: \
             application/json\r\nauthorization: Bearer {key}\r\ncontent-length: {}\r\n\r\n{body}",
            self.address,
            body.len(),
        ))
        .await
    }

    /// A collector that answers one request with `answer` and gives back what it was asked.
    fn collector(&self, answer: &'static str) -> JoinHandle<String> {
        let (_folder, short) = short_path(&self.socket).unwrap();
        let listener = UnixListener::bind(short).unwrap();
        let notice = Arc::clone(&self.asked);
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"}") {
                assert!(stream.read_buf(&mut asked).await.unwrap() > 0);
            }
            notice.notify_one();
            stream.write_all(answer.as_bytes()).await.unwrap();
            if answer.is_empty() {
                // Says nothing until the other side gives up.
                assert_eq!(stream.read_buf(&mut asked).await.unwrap(), 0);
            }
            String::from_utf8(asked).unwrap()
        })
    }
}

fn scope(authorization: Option<&str>) -> Result<Scope, NotAllowed> {
    let tenant = match authorization {
        Some("Bearer auditor") => Some("acme".to_owned()),
        Some("Bearer operator") => None,
        Some("Bearer caller") => return Err(NotAllowed::NoRole),
        Some(_) => return Err(IdentityError::Unknown.into()),
        None => return Err(IdentityError::Missing.into()),
    };
    Ok(Scope { key_id: "key-1".to_owned(), tenant })
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or(answer)
}

#[tokio::test]
async fn health_and_metrics_need_no_key() {
    let world = World::start();
    assert!(world.get("/healthz", "").await.ends_with("\r\n\r\n{\"status\":\"ok\"}\n"));
    let metrics = world.get("/metrics", "").await;
    assert!(metrics.contains("application/openmetrics-text"), "{metrics}");
    assert!(metrics.ends_with("\r\n\r\n# EOF\n"), "{metrics}");
}

#[tokio::test]
async fn everything_else_needs_a_key_that_may_see_it() {
    let world = World::start();
    let cases = [
        ("", "401"),
        ("authorization: Bearer wrong\r\n", "401"),
        ("authorization: Bearer caller\r\n", "403"),
        ("authorization: Bearer auditor\r\n", "200"),
        ("authorization: Bearer operator\r\n", "200"),
    ];
    for (headers, expected) in cases {
        assert_eq!(status(&world.get("/v1/state", headers).await), expected, "{headers}");
    }
    assert_eq!(status(&world.post("/v1/audit/sql", "caller", "{}").await), "403");
    let missing = world.get("/v1/state", "").await;
    assert!(missing.contains("no key was sent"), "{missing}");
}

#[tokio::test]
async fn a_web_page_is_not_heard() {
    let world = World::start();
    let host = world.address;
    let cases = [
        ("evil.example:80".to_owned(), "application/json", "421"),
        (format!("{host}.evil.example"), "application/json", "421"),
        (host.to_string(), "text/plain", "415"),
        (host.to_string(), "application/x-www-form-urlencoded", "415"),
    ];
    for (host, kind, expected) in cases {
        let answer = world
            .ask(&format!(
                "POST /v1/audit/sql HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-type: \
                 {kind}\r\nauthorization: Bearer operator\r\ncontent-length: 2\r\n\r\n{{}}"
            ))
            .await;
        assert_eq!(status(&answer), expected, "{host} {kind}");
    }
}

#[tokio::test]
async fn a_statement_reaches_the_collector_with_its_proven_scope() {
    for (key, tenant) in [("auditor", Some("acme")), ("operator", None)] {
        let world = World::start();
        let asked = world.collector(
            "HTTP/1.1 400 Bad Request\r\ncontent-type: text/csv\r\ncontent-length: 3\r\n\r\na,b",
        );
        let body = "{\"sql\":\"SELECT 1\"}";
        let key = format!("{key}\r\nx-cordon-tenant: other");
        let answer = world.post("/v1/audit/sql", &key, body).await;
        assert_eq!(status(&answer), "400");
        assert!(answer.contains("Content-Type: text/csv"), "{answer}");
        assert!(answer.ends_with("\r\n\r\na,b"), "{answer}");
        let asked = timeout(PATIENCE, asked).await.unwrap().unwrap();
        assert!(asked.starts_with("POST /v1/audit/sql HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("x-cordon-caller: key-1\r\n"), "{asked}");
        assert!(asked.ends_with(body), "{asked}");
        assert!(!asked.to_lowercase().contains("authorization"), "{asked}");
        assert!(!asked.contains("other"), "{asked}");
        let said = asked.lines().find_map(|line| line.strip_prefix("x-cordon-tenant: "));
        assert_eq!(said, tenant);
    }
}

#[tokio::test]
async fn a_collector_that_is_down_or_silent_is_said_to_be() {
    let world = World::start();
    let down = world.post("/v1/audit/commit", "operator", "{}").await;
    assert_eq!(status(&down), "503");
    assert!(down.contains("the collector is not running"), "{down}");
    let gave_up = world.collector("");
    let slow = world.post("/v1/audit/commit", "operator", "{}").await;
    assert_eq!(status(&slow), "504");
    timeout(PATIENCE, gave_up).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_answer() {
    let world = World::start();
    drop(world.collector("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n[{\"a\":1}"));
    assert_eq!(status(&world.post("/v1/audit/sql", "operator", "{}").await), "502");
}

#[tokio::test]
async fn a_collector_deep_under_long_names_is_reached() {
    let world = World::with_collector_at(&Path::new(&"d".repeat(120)).join("collector.sock"));
    let asked = world.collector("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]");
    let answer = world.post("/v1/audit/sql", "operator", "{}").await;
    assert!(answer.ends_with("\r\n\r\n[]"), "{answer}");
    timeout(PATIENCE, asked).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_body_may_be_as_long_as_the_text_of_its_refusal_says() {
    let world = World::start();
    let body = |bytes: usize| format!("{{{}}}", " ".repeat(bytes - 2));
    let larger = world.post("/v1/audit/sql", "operator", &body((128 << 10) + 1)).await;
    assert_eq!(status(&larger), "413");
    assert!(larger.contains("send at most 128 KiB"), "{larger}");
    let asked = world.collector("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]");
    assert_eq!(status(&world.post("/v1/audit/sql", "operator", &body(128 << 10)).await), "200");
    let asked = timeout(PATIENCE, asked).await.unwrap().unwrap();
    assert!(asked.ends_with(&body(128 << 10)));
}

#[tokio::test]
async fn unknown_paths_and_methods_are_refused() {
    let world = World::start();
    let unknown = world.get("/v1/nothing", "").await;
    assert_eq!(status(&unknown), "404");
    assert!(unknown.contains("/v1/audit/sql"), "{unknown}");
    let method = world.get("/v1/audit/sql", "").await;
    assert_eq!(status(&method), "405");
    assert!(method.contains("allow: POST\r\n"), "{method}");
}

#[tokio::test]
async fn a_statement_that_runs_too_long_does_not_hold_up_the_end() {
    let world = World::start();
    let gave_up = world.collector("");
    let (asked, stop) = (Arc::clone(&world.asked), world.stop.clone());
    let ordering = async move {
        asked.notified().await;
        stop.drain();
        stop.hurry();
    };
    let (answer, ()) = tokio::join!(world.post("/v1/audit/sql", "operator", "{}"), ordering);
    assert_eq!(status(&answer), "503");
    timeout(PATIENCE, gave_up).await.unwrap().unwrap();
    timeout(PATIENCE, world.served).await.unwrap().unwrap();
}
