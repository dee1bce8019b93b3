//! One request and its answer.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::collector::{AskError, Collector, CollectorError};
use crate::config::Limits;
use crate::query::{Format, QueryError, Scope};

/// Room for a statement's escapes and the rest of the JSON around it.
const BODY_BYTES_FACTOR: usize = 2;
/// Who asks, where nobody says so.
const NOBODY: &str = "unnamed";

/// What `POST /v1/audit/sql` takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    sql: String,
    #[serde(default)]
    format: Option<String>,
}

/// A refusal: status, word, text.
struct Refusal(StatusCode, &'static str, String);

/// The answer to one request.
pub(in crate::serve) async fn answer(
    request: Request<Incoming>,
    collector: &Collector,
    limits: &Limits,
) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let answered = match (&head.method, head.uri.path()) {
        (&Method::POST, "/v1/audit/sql") => sql(&head.headers, body, collector, limits).await,
        (&Method::POST, "/v1/audit/commit") => commit(collector).await,
        (&Method::GET, "/v1/state") => Ok(json_response(StatusCode::OK, &collector.report())),
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
    collector: &Collector,
    limits: &Limits,
) -> Result<Response<Full<Bytes>>, Refusal> {
    let max = limits.statement_bytes_max * BODY_BYTES_FACTOR;
    let body = Limited::new(body, max).collect().await.map_err(|_broken| {
        let text = format!("the body is longer than {max} bytes, or broke off");
        Refusal(StatusCode::PAYLOAD_TOO_LARGE, "STATEMENT_TOO_LONG", text)
    })?;
    let question: Question = serde_json::from_slice(&body.to_bytes()).map_err(|error| {
        let text = format!("the body must be {{\"sql\":\"…\",\"format\":\"json\"}}: {error}");
        Refusal(StatusCode::BAD_REQUEST, "INVALID_BODY", text)
    })?;
    let named = question.format.as_deref().unwrap_or("json");
    let format = Format::named(named).ok_or_else(|| {
        let text = format!("format `{named}` is not known; use json, csv or table");
        Refusal(StatusCode::BAD_REQUEST, "INVALID_FORMAT", text)
    })?;
    let (who, scope) = party(headers)?;
    let answer = collector.sql(&who, &scope, &question.sql).await.map_err(refusal)?;
    // A long answer takes longer to write than async code may block.
    let written = tokio::task::spawn_blocking(move || answer.to_text(format)).await;
    let internal = |text: String| Refusal(StatusCode::INTERNAL_SERVER_ERROR, "QUERY_FAILED", text);
    let text = written.map_err(|error| internal(error.to_string()))?;
    let text = text.map_err(|error| internal(error.to_string()))?;
    Ok(response(StatusCode::OK, format.content_type(), text))
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
    let said = |name: &str| match headers.get_all(name).iter().collect::<Vec<_>>()[..] {
        [] => Ok(None),
        [value] => match std::str::from_utf8(value.as_bytes()) {
            Ok(text) if !text.is_empty() => Ok(Some(text.to_owned())),
            Ok(_) | Err(_) => Err(not_readable(name)),
        },
        _ => Err(not_readable(name)),
    };
    let scope = said("x-cordon-tenant")?.map_or(Scope::All, Scope::Tenant);
    let who = said("x-cordon-caller")?.unwrap_or_else(|| NOBODY.to_owned());
    Ok((who, scope))
}

fn not_readable(name: &str) -> Refusal {
    let text = format!("`{name}` must stand there once and name somebody");
    Refusal(StatusCode::BAD_REQUEST, "INVALID_HEADER", text)
}

fn refusal(error: AskError) -> Refusal {
    let text = error.to_string();
    let query = match error {
        AskError::Query(query) => query,
        AskError::Access(_) => {
            return Refusal(StatusCode::SERVICE_UNAVAILABLE, "AUDIT_UNAVAILABLE", text);
        }
    };
    let status = match &query {
        QueryError::Behind
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
