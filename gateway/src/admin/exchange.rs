//! One request of the administration listener: which page, who asks, the answer.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use pingora_core::protocols::http::ServerSession;
use pingora_http::ResponseHeader;

use crate::{
    admin::{
        NotAllowed, Parties, Scope,
        collector::{Collector, CollectorError},
        guard::{Guard, NotHeard},
    },
    listener::{
        After, Announced, Head, Limits, Outlet, Requests, after_unread, check_head,
        drain::{Stage, Stop},
        insert_header, plain_head, receive,
    },
    pipeline::{BodyFault, ReplyBody},
    quantity::Size,
    room::Budget,
};

/// Answers the requests of the administration listener.
pub(crate) struct Exchange {
    parties: Parties,
    guard: Guard,
    collector: Collector,
    limits: Limits,
    room: Arc<Budget>,
    stop: Stop,
}

/// What a path asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Page {
    Metrics,
    Health,
    State,
    /// Forwarded to the collector under the same path.
    Audit(&'static str),
}

/// A refusal as it is told: status, `type`, text.
struct Refused {
    status: u16,
    kind: &'static str,
    message: String,
}

/// One body: twice the collector's longest statement, for its escapes and the JSON around it.
const BODY_BYTES_MAX: u64 = 128 << 10;
/// All bodies that are held at once.
const BODIES_BYTES_MAX: u64 = 16 << 20;
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PAGES: [(&str, &str, Page); 5] = [
    ("/metrics", "GET, HEAD", Page::Metrics),
    ("/healthz", "GET, HEAD", Page::Health),
    ("/v1/state", "GET, HEAD", Page::State),
    ("/v1/audit/sql", "POST", Page::Audit("/v1/audit/sql")),
    ("/v1/audit/commit", "POST", Page::Audit("/v1/audit/commit")),
];

#[async_trait]
impl Requests for Exchange {
    async fn answer(&self, session: &mut ServerSession, head: Head) -> After {
        let announced = match head {
            Head::Whole => check_head(session),
            Head::Malformed => return self.refuse_malformed(session).await,
        };
        let Ok(announced) = announced else { return self.refuse_malformed(session).await };
        match find(session) {
            Ok(Page::Metrics) => {
                let text = (self.parties.metrics)();
                self.unread(session, announced, plain_head(200, METRICS_TYPE), text.into()).await
            }
            Ok(Page::Health) => {
                let body = Bytes::from_static(b"{\"status\":\"ok\"}\n");
                self.unread(session, announced, plain_head(200, JSON), body).await
            }
            Ok(Page::State) => match self.scope(session) {
                Ok(_scope) => {
                    let body = format!("{}\n", (self.parties.state)());
                    self.unread(session, announced, plain_head(200, JSON), body.into()).await
                }
                Err(refused) => self.refuse(session, announced, &refused).await,
            },
            Ok(Page::Audit(path)) => self.audit(session, announced, path).await,
            Err((refused, allow)) => {
                let (mut head, body) = refused.answer();
                if let Some(allow) = allow {
                    insert_header(&mut head, header::ALLOW, HeaderValue::from_static(allow));
                }
                self.unread(session, announced, head, body).await
            }
        }
    }
}

const JSON: &str = "application/json";

impl Exchange {
    pub(crate) fn new(parties: Parties, guard: Guard, stop: Stop) -> Self {
        let mut limits = parties.settings.limits.clone();
        limits.body_bytes_max = Size(BODY_BYTES_MAX);
        let collector = Collector::new(parties.collector.clone(), limits.audit_deadline.0);
        let room = Arc::new(Budget::new(BODIES_BYTES_MAX));
        Self { parties, guard, collector, limits, room, stop }
    }

    /// Who asks, where the request is one that we hear.
    fn scope(&self, session: &ServerSession) -> Result<Scope, Refused> {
        let head = session.req_header();
        self.guard.hear(&head.method, &head.headers)?;
        let authorization = head.headers.get(header::AUTHORIZATION);
        Ok((self.parties.scope)(authorization.and_then(|value| value.to_str().ok()))?)
    }

    /// Forwards a statement, while the client is still there.
    async fn audit(
        &self,
        session: &mut ServerSession,
        announced: Announced,
        path: &'static str,
    ) -> After {
        let scope = match self.scope(session) {
            Ok(scope) => scope,
            Err(refused) => return self.refuse(session, announced, &refused).await,
        };
        let body = match receive(session, announced, &self.limits, &self.room).await {
            Ok(body) => body,
            Err(BodyFault::Gone) => return After::Close,
            Err(fault) => return self.refuse(session, announced, &fault.into()).await,
        };
        let asked = tokio::select! {
            biased;
            () = self.stop.reached(Stage::Cut) => Err(CollectorError::Down),
            asked = self.collector.ask(path, &scope, body) => asked,
            _ = session.read_body_or_idle(true) => return After::Close,
        };
        let (head, body) = match asked {
            Ok(answer) => {
                let mut head = plain_head(answer.status.as_u16(), JSON);
                insert_header(&mut head, header::CONTENT_TYPE, answer.content_type);
                (head, answer.body)
            }
            Err(fault) => Refused::from(fault).answer(),
        };
        self.outlet(session).send(head, ReplyBody::Whole(body), After::Reuse).await
    }

    async fn refuse_malformed(&self, session: &mut ServerSession) -> After {
        let (head, body) = Refused::from(BodyFault::Framing).answer();
        self.outlet(session).send(head, ReplyBody::Whole(body), After::Discard).await
    }

    async fn refuse(
        &self,
        session: &mut ServerSession,
        announced: Announced,
        refused: &Refused,
    ) -> After {
        let (head, body) = refused.answer();
        self.unread(session, announced, head, body).await
    }

    /// Answers a request whose body was not read.
    async fn unread(
        &self,
        session: &mut ServerSession,
        announced: Announced,
        head: ResponseHeader,
        body: Bytes,
    ) -> After {
        let after = after_unread(session, announced);
        self.outlet(session).send(head, ReplyBody::Whole(body), after).await
    }

    fn outlet<'a>(&'a self, session: &'a mut ServerSession) -> Outlet<'a> {
        Outlet { session, limits: &self.limits, stop: &self.stop }
    }
}

/// Looks up the page; a refusal comes with the methods that the path knows, if it is one of ours.
fn find(session: &ServerSession) -> Result<Page, (Refused, Option<&'static str>)> {
    let head = session.req_header();
    let path = head.uri.path();
    let Some((_, methods, page)) = PAGES.iter().find(|(known, _, _)| *known == path) else {
        let known: Vec<_> = PAGES.iter().map(|(known, _, _)| *known).collect();
        let message = format!("no such path; there are {}", known.join(", "));
        return Err((Refused { status: 404, kind: "not_found_error", message }, None));
    };
    if methods.split(", ").any(|known| known == head.method.as_str()) {
        return Ok(*page);
    }
    let status = if head.method == Method::OPTIONS { 204 } else { 405 };
    let message = format!("use {methods}");
    Err((Refused { status, kind: "invalid_request_error", message }, Some(methods)))
}

// === impl Refused ===

impl Refused {
    fn answer(&self) -> (ResponseHeader, Bytes) {
        let mut head = plain_head(self.status, JSON);
        if self.status == StatusCode::NO_CONTENT {
            return (head, Bytes::new());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer");
            insert_header(&mut head, header::WWW_AUTHENTICATE, scheme);
        }
        let error = serde_json::json!({"error": {"message": self.message, "type": self.kind}});
        (head, format!("{error}\n").into())
    }
}

impl From<NotHeard> for Refused {
    fn from(fault: NotHeard) -> Self {
        let status = match fault {
            NotHeard::Host => 421,
            NotHeard::ContentType => 415,
        };
        Self { status, kind: "invalid_request_error", message: fault.to_string() }
    }
}

impl From<NotAllowed> for Refused {
    fn from(fault: NotAllowed) -> Self {
        let (status, kind) = match fault {
            NotAllowed::Unproven(_) => (401, "authentication_error"),
            NotAllowed::NoRole => (403, "permission_error"),
        };
        Self { status, kind, message: fault.to_string() }
    }
}

impl From<CollectorError> for Refused {
    fn from(fault: CollectorError) -> Self {
        let (status, kind) = match fault {
            CollectorError::Down => (503, "collector_unavailable"),
            CollectorError::Busy => (503, "overloaded_error"),
            CollectorError::Slow => (504, "collector_timeout"),
            CollectorError::TooLarge => (422, "result_too_large"),
            CollectorError::Broken => (502, "collector_error"),
        };
        Self { status, kind, message: fault.to_string() }
    }
}

impl From<BodyFault> for Refused {
    fn from(fault: BodyFault) -> Self {
        let too_large = format!("send at most {} KiB", BODY_BYTES_MAX >> 10);
        let (status, kind, message) = match fault {
            BodyFault::TooLarge => (413, "request_too_large", too_large.as_str()),
            BodyFault::NoRoom => (503, "overloaded_error", "too many statements are sent at once"),
            BodyFault::TooSlow => (400, "invalid_request_error", "the statement came too slowly"),
            BodyFault::Encoded => (415, "invalid_request_error", "send no `Content-Encoding`"),
            BodyFault::Framing | BodyFault::Gone => {
                (400, "invalid_request_error", "the request is no HTTP that has one meaning")
            }
        };
        Self { status, kind, message: message.to_owned() }
    }
}
