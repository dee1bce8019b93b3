//! One request and its answer.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use http::header::{CONTENT_TYPE, HeaderMap};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::collector::{Collector, CollectorError, SqlError};
use crate::query::{Answer, Format, QueryError, Question, Scope};
use crate::serve::{Door, name};

/// Room for a statement's escapes and the rest of the JSON around it.
const BODY_BYTES_FACTOR: usize = 2;
/// Who asks, where nobody says so.
const NOBODY: &str = "unnamed";

/// What `POST /v1/audit/sql` takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    sql: String,
    #[serde(default)]
    format: Option<String>,
}

/// A refusal: status, word, text.
struct Refusal(StatusCode, &'static str, String);

/// The answer to one request.
pub(in crate::serve) async fn answer(
    request: Request<Incoming>,
    door: &Arc<Door>,
) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let answered = match (&head.method, head.uri.path()) {
        (&Method::POST, "/v1/audit/sql") => sql(&head.headers, body, door).await,
        (&Method::POST, "/v1/audit/commit") => commit(&door.collector).await,
        (&Method::GET, "/v1/state") => Ok(json_response(StatusCode::OK, &door.collector.report())),
        _ => Err(Refusal(
            StatusCode::NOT_FOUND,
            "NOT_FOUND",
            "there are POST /v1/audit/sql, POST /v1/audit/commit and GET /v1/state".to_owned(),
        )),
    };
    answered.unwrap_or_else(|Refusal(status, code, message)| {
        let kind =
            if status.is_server_error() { "audit_unavailable" } else { "invalid_request_error" };
        let error = json!({"message": message, "type": kind, "code": code, "param": null});
        json_response(status, &json!({"error": error}))
    })
}

async fn sql(
    headers: &HeaderMap,
    body: Incoming,
    door: &Arc<Door>,
) -> Result<Response<Full<Bytes>>, Refusal> {
    let max = door.limits.statement_bytes_max * BODY_BYTES_FACTOR;
    let body = Limited::new(body, max).collect().await.map_err(|_broken| {
        let text = format!("the body is longer than {max} bytes, or broke off");
        Refusal(StatusCode::PAYLOAD_TOO_LARGE, "STATEMENT_TOO_LONG", text)
    })?;
    let asked: Asked = serde_json::from_slice(&body.to_bytes()).map_err(|error| {
        let text = format!("the body must be {{\"sql\":\"…\",\"format\":\"json\"}}: {error}");
        Refusal(StatusCode::BAD_REQUEST, "INVALID_BODY", text)
    })?;
    let named = asked.format.as_deref().unwrap_or("json");
    let format = Format::named(named).ok_or_else(|| {
        let text = format!("format `{named}` is not known; use json, csv or table");
        Refusal(StatusCode::BAD_REQUEST, "INVALID_FORMAT", text)
    })?;
    let (who, scope) = party(headers)?;
    let question = Question { who, scope, sql: asked.sql, format };
    let answer = ask(Arc::clone(door), question).await.map_err(refusal)?;
    Ok(response(StatusCode::OK, format.content_type(), answer.text))
}

/// Asks in a task of its own: this future goes when its client does, and the statement must be on
/// record then as well.
async fn ask(door: Arc<Door>, question: Question) -> Result<Answer, SqlError> {
    let (present, gone) = oneshot::channel::<()>();
    let asked = tokio::spawn(async move {
        let left = gone.map(|_dropped| ());
        door.collector.sql_unless(&question, left).await
    });
    let answer = asked.await;
    drop(present);
    answer.unwrap_or_else(|broken| Err(QueryError::Failed(broken.to_string()).into()))
}

async fn commit(collector: &Collector) -> Result<Response<Full<Bytes>>, Refusal> {
    let marks = collector.commit().await.map_err(|error| {
        let refused = matches!(error, CollectorError::LedgerRefused(_));
        let code = if refused { "LEDGER_REFUSED" } else { "COMMIT_FAILED" };
        Refusal(StatusCode::SERVICE_UNAVAILABLE, code, error.to_string())
    })?;
    let committed: Value =
        marks.iter().map(|(stream, mark)| (stream.to_string(), json!(mark.seq))).collect();
    Ok(json_response(StatusCode::OK, &json!({"committed": committed})))
}

/// Who asks, and whose rows they may see. A tenant that cannot be read is a refusal: it must not
/// turn into all tenants.
fn party(headers: &HeaderMap) -> Result<(String, Scope), Refusal> {
    let said = |header: &str| match headers.get_all(header).iter().collect::<Vec<_>>()[..] {
        [] => Ok(None),
        [value] => match name::decoded(value.as_bytes()) {
            Some(name) => Ok(Some(name)),
            None => Err(not_readable(header)),
        },
        _ => Err(not_readable(header)),
    };
    let scope = said("x-cordon-tenant")?.map_or(Scope::All, Scope::Tenant);
    let who = said("x-cordon-caller")?.unwrap_or_else(|| NOBODY.to_owned());
    Ok((who, scope))
}

fn not_readable(header: &str) -> Refusal {
    let text = format!("`{header}` must stand there once and name somebody, percent-encoded");
    Refusal(StatusCode::BAD_REQUEST, "INVALID_HEADER", text)
}

fn refusal(error: SqlError) -> Refusal {
    let text = error.to_string();
    let query = match error {
        SqlError::Query(query) => query,
        SqlError::Access(_) => {
            return Refusal(StatusCode::SERVICE_UNAVAILABLE, "AUDIT_UNAVAILABLE", text);
        }
    };
    let status = match &query {
        QueryError::Behind
        | QueryError::BehindAlone
        | QueryError::Left
        | QueryError::LedgerRefused(_)
        | QueryError::Memory
        | QueryError::Busy => StatusCode::SERVICE_UNAVAILABLE,
        QueryError::NotReading { .. }
        | QueryError::Invalid(_)
        | QueryError::TooManyRows { .. }
        | QueryError::TooManyBytes { .. }
        | QueryError::Failed(_) => StatusCode::BAD_REQUEST,
        QueryError::TooLong { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        QueryError::Deadline { .. } => StatusCode::GATEWAY_TIMEOUT,
    };
    Refusal(status, query.code(), text)
}

fn json_response(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    response(status, "application/json", format!("{body}\n"))
}

fn response(status: StatusCode, content_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response
}
