//! One request of the AI listener: what is asked, who asks, the body, the answer.
//!
//! Cost: about two microseconds and no copy of the body beside what the pipeline does.

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, header};
use pingora_core::protocols::http::ServerSession;

use crate::{
    listener::{
        After, Announced, Calls, Head, Outlet, Parties, Requests, check_head,
        drain::{Stage, Stop},
        gauges::Gauges,
        head::expects_continue,
        insert_header,
        paths::{self, Asked, Page},
        plain_head, receive,
        reply::full_head,
    },
    pipeline::{BodyFault, Reply, ReplyBody, TurnedAway},
    record::CallId,
    wire::Format,
};

/// Answers the requests of the AI listener.
pub(crate) struct Exchange<C> {
    parties: Parties<C>,
    stop: Stop,
}

/// A refused body up to this size is read and thrown away to keep the connection.
const SMALL_BODY_BYTES: u64 = 64 << 10;

#[async_trait]
impl<C: Calls> Requests for Exchange<C> {
    async fn answer(&self, session: &mut ServerSession, head: Head) -> After {
        let id = CallId::new();
        let announced = match head {
            Head::Whole => check_head(session),
            Head::Malformed => return self.turn_away(session, TurnedAway::Framing, id).await,
        };
        let Ok(announced) = announced else {
            return self.turn_away(session, TurnedAway::Framing, id).await;
        };
        let request = session.req_header();
        match paths::find(&request.method, request.uri.path()) {
            Asked::Page(Page::Call(format)) => self.call(session, announced, format, id).await,
            Asked::Page(Page::Models) => self.models(session, announced, id).await,
            Asked::Page(Page::Health) => self.health(session, announced).await,
            Asked::Page(Page::Ready) => self.ready(session, announced).await,
            Asked::Methods { allow } => self.methods(session, announced, allow).await,
            Asked::WrongMethod { allow } => {
                let reply = self.parties.calls.turn_away(TurnedAway::WrongMethod { allow }, id);
                self.unread(session, announced, reply).await
            }
            Asked::Unknown => {
                let reply = self.parties.calls.turn_away(TurnedAway::UnknownPath, id);
                self.unread(session, announced, reply).await
            }
        }
    }
}

impl<C: Calls> Exchange<C> {
    pub(crate) fn new(parties: Parties<C>, stop: Stop) -> Self {
        Self { parties, stop }
    }

    /// A call: counted, admitted, received, answered. What it holds is given back at its end.
    async fn call(
        &self,
        session: &mut ServerSession,
        announced: Announced,
        format: Format,
        id: CallId,
    ) -> After {
        let Parties { calls, settings, gauges: Gauges { calls: places, bytes: room }, .. } =
            &self.parties;
        if self.stop.is_draining() {
            let reply = calls.turn_away(TurnedAway::Draining, id);
            return self.unread(session, announced, reply).await;
        }
        let Some(_place) = places.take(1) else {
            let reply = calls.turn_away(TurnedAway::Overloaded, id);
            return self.unread(session, announced, reply).await;
        };
        let call = match calls.admit(session.req_header().as_ref(), format, id).await {
            Ok(call) => call,
            Err(reply) => return self.unread(session, announced, reply).await,
        };
        match receive(session, announced, &settings.limits, room).await {
            Ok(body) => self.answered(session, call, body, id).await,
            Err(BodyFault::Gone) => {
                drop(calls.refuse(call, BodyFault::Gone).await);
                After::Close
            }
            Err(fault) => {
                let reply = calls.refuse(call, fault).await;
                self.unread(session, announced, reply).await
            }
        }
    }

    /// Lets the pipeline answer while the client is still there, and writes the reply.
    async fn answered(
        &self,
        session: &mut ServerSession,
        call: C::Admitted,
        body: Bytes,
        id: CallId,
    ) -> After {
        let calls = &self.parties.calls;
        let reply = tokio::select! {
            biased;
            () = self.stop.reached(Stage::Cut) => calls.interrupted(id),
            reply = calls.answer(call, body) => reply,
            // An error is a client that left; anything else cannot come after the body.
            _ = session.read_body_or_idle(true) => return After::Close,
        };
        self.send(session, reply, After::Reuse).await
    }

    async fn models(&self, session: &mut ServerSession, announced: Announced, id: CallId) -> After {
        let calls = &self.parties.calls;
        let reply = if self.stop.is_draining() {
            calls.turn_away(TurnedAway::Draining, id)
        } else {
            calls.models(session.req_header().as_ref(), id)
        };
        self.unread(session, announced, reply).await
    }

    async fn health(&self, session: &mut ServerSession, announced: Announced) -> After {
        let after = after_unread(session, announced);
        let body = Bytes::from_static(b"{\"status\":\"ok\"}\n");
        let head = plain_head(200, "application/json");
        self.outlet(session).send(head, ReplyBody::Whole(body), after).await
    }

    async fn ready(&self, session: &mut ServerSession, announced: Announced) -> After {
        let mut readiness = (self.parties.readiness)();
        if self.stop.is_leaving() {
            readiness.reasons.push("the gateway is shutting down".to_owned());
        }
        let ready = readiness.reasons.is_empty();
        let body = serde_json::json!({
            "ready": ready, "reasons": readiness.reasons, "warnings": readiness.warnings,
        });
        let head = plain_head(if ready { 200 } else { 503 }, "application/json");
        let after = after_unread(session, announced);
        let body = ReplyBody::Whole(format!("{body}\n").into());
        self.outlet(session).send(head, body, after).await
    }

    async fn methods(
        &self,
        session: &mut ServerSession,
        announced: Announced,
        allow: &'static str,
    ) -> After {
        let mut head = plain_head(204, "text/plain");
        insert_header(&mut head, header::ALLOW, HeaderValue::from_static(allow));
        let after = after_unread(session, announced);
        self.outlet(session).send(head, ReplyBody::Whole(Bytes::new()), after).await
    }

    /// Answers what never became a call; the connection ends with it.
    async fn turn_away(&self, session: &mut ServerSession, why: TurnedAway, id: CallId) -> After {
        let reply = self.parties.calls.turn_away(why, id);
        self.send(session, reply, After::Discard).await
    }

    /// Answers a request whose body was not read.
    async fn unread(
        &self,
        session: &mut ServerSession,
        announced: Announced,
        reply: Reply,
    ) -> After {
        let after = after_unread(session, announced);
        self.send(session, reply, after).await
    }

    async fn send(&self, session: &mut ServerSession, reply: Reply, after: After) -> After {
        self.outlet(session).send(full_head(&reply.head), reply.body, after).await
    }

    fn outlet<'a>(&'a self, session: &'a mut ServerSession) -> Outlet<'a> {
        Outlet { session, limits: &self.parties.settings.limits, stop: &self.stop }
    }
}

/// What becomes of a connection whose request body was not read, at least not to its end.
pub(crate) fn after_unread(session: &mut ServerSession, announced: Announced) -> After {
    let closes = session.get_keepalive().is_none();
    match announced {
        Announced::Nothing => After::Reuse,
        Announced::Length(length)
            if length <= SMALL_BODY_BYTES && !closes && !expects_continue(session) =>
        {
            session.set_close_on_response_before_downstream_finish(false);
            After::Reuse
        }
        Announced::Length(_) | Announced::Chunked => After::Discard,
    }
}
