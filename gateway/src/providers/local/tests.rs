//! The local model's pieces as an upstream's answer.

use std::time::Instant;

use tokio::sync::mpsc;

use super::*;
use crate::{
    providers::Deadline,
    wire::openai_chat::{Events, Progress, StreamEvent, Whole, answer},
};

const PLENTY: Duration = Duration::from_secs(20);

fn until(wait: Duration) -> Until {
    Until::new(Instant::now() + wait, Deadline::FirstToken)
}

fn rendering(shape: Shape) -> Rendering {
    Rendering {
        id: "chatcmpl-1".to_owned(),
        created_s: 7,
        model: "smollm2-135m".to_owned(),
        fingerprint: "fp-1".to_owned(),
        shape,
    }
}

fn streamed(include_usage: bool) -> Rendering {
    rendering(Shape::Stream { opened: false, include_usage })
}

fn held() -> Rendering {
    rendering(Shape::Whole { text: String::new() })
}

fn end() -> Piece {
    Piece::End { finish: Finish::Length, input_tokens: 3, output_tokens: 2 }
}

fn text(text: &str) -> Piece {
    Piece::Text(text.to_owned())
}

/// An answer of these pieces, which then breaks off.
fn answering(pieces: impl IntoIterator<Item = Result<Piece, LocalError>>) -> Answer {
    let (sender, receiver) = mpsc::channel(8);
    for piece in pieces {
        sender.try_send(piece).unwrap();
    }
    Answer::of_pieces(receiver)
}

async fn read(rendering: Rendering, pieces: Vec<Piece>) -> Result<String, Cause> {
    let answer = answering(pieces.into_iter().map(Ok));
    let mut answer = begin(answer, rendering, until(PLENTY)).await.map_err(|f| f.cause)?;
    let mut bytes = Vec::new();
    while let Some(piece) = answer.next(until(PLENTY)).await? {
        bytes.extend_from_slice(&piece);
    }
    Ok(String::from_utf8(bytes).unwrap())
}

fn events_of(body: &str) -> Vec<StreamEvent> {
    let data = body.split_terminator("\n\n").map(|line| line.strip_prefix("data: ").unwrap());
    let mut events = Events::default();
    data.map(|data| events.read(&Bytes::from(data.to_owned()))).collect()
}

#[tokio::test]
async fn a_stream_is_role_text_finish_usage_and_done() {
    let body = read(streamed(true), vec![text("ja"), text(" \"so\""), end()]).await.unwrap();
    let events = events_of(&body);
    let progress: Vec<_> = events
        .iter()
        .map(|event| match event {
            StreamEvent::Chunk(chunk) => Some(chunk.progress),
            StreamEvent::Error | StreamEvent::Done | StreamEvent::NotJson => None,
        })
        .collect();
    let content = Some(Progress::Content);
    let frame = Some(Progress::Frame);
    assert_eq!(progress, [frame, content, content, frame, Some(Progress::UsageOnly), None]);
    assert_eq!(events.last(), Some(&StreamEvent::Done));
    assert!(body.contains("\"finish_reason\":\"length\"") && body.contains("\\\"so\\\""));
}

#[tokio::test]
async fn usage_is_streamed_only_where_it_was_asked_for() {
    let body = read(streamed(false), vec![end()]).await.unwrap();
    assert!(!body.contains("usage"));
    assert_eq!(events_of(&body).len(), 3);
}

#[tokio::test]
async fn an_answer_held_whole_is_one_json_with_usage() {
    let body = read(held(), vec![text("ja"), text(" so"), end()]).await.unwrap();
    let Whole::Answer(facts) = answer(&Bytes::from(body.clone())) else { panic!("{body}") };
    assert_eq!(facts.model.as_deref(), Some("smollm2-135m"));
    assert_eq!(facts.usage.map(|usage| (usage.input_tokens, usage.output_tokens)), Some((3, 2)));
    assert!(body.contains("\"ja so\""));
}

#[tokio::test]
async fn an_answer_held_whole_shows_life_with_every_piece() {
    let answer = answering([Ok(text("a")), Ok(text("b"))]);
    let mut answer = begin(answer, held(), until(PLENTY)).await.unwrap();
    for _ in 0..2 {
        assert_eq!(answer.next(until(PLENTY)).await, Ok(Some(Bytes::new())));
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_broken() {
    for rendering in [streamed(true), held()] {
        assert_eq!(read(rendering, vec![text("half")]).await, Err(Cause::BrokenBody));
    }
    let failed = Err(LocalError::Failed { reason: "session".to_owned() });
    let answer = answering([Ok(text("half")), failed]);
    let mut answer = begin(answer, streamed(true), until(PLENTY)).await.unwrap();
    assert!(answer.next(until(PLENTY)).await.unwrap().is_some());
    for _ in 0..2 {
        assert_eq!(answer.next(until(PLENTY)).await, Err(Cause::BrokenBody));
    }
}

#[tokio::test]
async fn a_model_that_says_nothing_runs_into_the_deadline() {
    let brief = Duration::from_millis(50);
    let (sender, receiver) = mpsc::channel(1);
    let silent = Answer::of_pieces(receiver);
    let failure = begin(silent, held(), until(brief)).await.map(drop).unwrap_err();
    assert_eq!(failure.cause, Cause::Timeout(Deadline::FirstToken));
    assert!(sender.is_closed(), "the work goes on for nobody");
}

#[tokio::test]
async fn refusals_before_the_first_token_are_failures() {
    let busy = LocalError::Busy { retry_after_s: 4 };
    let gone = LocalError::Unavailable { reason: "no files".to_owned() };
    let long = LocalError::ContextLength { needed: 9, max: 8 };
    let cases = [
        (busy, Side::Gateway, Cause::LocalBusy, None, ErrorKind::Other),
        (gone, Side::Gateway, Cause::LocalUnavailable, None, ErrorKind::Other),
        (long, Side::Upstream, Cause::Status, Some(400), ErrorKind::ContextLength),
    ];
    for (error, side, cause, status, kind) in cases {
        let refused = answering([Err(error.clone())]);
        let failure = begin(refused, held(), until(PLENTY)).await.map(drop).unwrap_err();
        assert_eq!((failure.side, &failure.cause, failure.status), (side, &cause, status));
        assert_eq!(failure.kind, kind);
        let wait = matches!(error, LocalError::Busy { .. }).then_some(Duration::from_secs(4));
        assert_eq!(failure.retry_after, wait);
    }
}

#[test]
fn the_window_s_refusal_reads_like_any_upstreams() {
    let failure = failure(&LocalError::ContextLength { needed: 9, max: 8 });
    let body = failure.body.unwrap();
    assert_eq!(crate::providers::openai::classify(400, &body), ErrorKind::ContextLength);
    assert!(std::str::from_utf8(&body).unwrap().contains("9 tokens"));
}

#[tokio::test]
async fn without_a_model_there_is_no_answer() {
    let clearance = crate::providers::tests::local_clearance("{}").await;
    let failure = attempt(None, &clearance, until(PLENTY)).await.map(drop).unwrap_err();
    assert_eq!(failure.cause, Cause::LocalUnavailable);
}

#[test]
fn what_the_prompt_says_is_what_the_model_is_asked() {
    let body = r#"{"model":"local","messages":[{"role":"system","content":"be brief"},
        {"role":"user","content":[{"type":"text","text":"hello"}]}],
        "temperature":0,"seed":5,"max_tokens":9,"stop":["x"]}"#;
    let request = request(prompt(&Bytes::from(body)).unwrap());
    let message = |role: &str, text: &str| Message { role: role.to_owned(), text: text.to_owned() };
    assert_eq!(request.messages, [message("system", "be brief"), message("user", "hello")]);
    assert_eq!((request.temperature, request.top_p, request.seed), (0.0, 1.0, Some(5)));
    assert_eq!((request.max_tokens, request.stop), (Some(9), vec!["x".to_owned()]));
}

#[test]
fn what_the_model_cannot_do_is_refused_with_the_fields_name() {
    let body = Bytes::from(r#"{"model":"l","messages":[{"role":"user","content":"x"}],"n":2}"#);
    let failure = unreadable(&prompt(&body).unwrap_err());
    assert_eq!((failure.status, failure.side), (Some(400), Side::Upstream));
    assert!(std::str::from_utf8(&failure.body.unwrap()).unwrap().contains("\"param\":\"n\""));
}

#[tokio::test]
async fn an_answer_never_shows_in_debug_texts() {
    let answer = answering([Ok(text("marked-secret"))]);
    let answer = begin(answer, streamed(true), until(PLENTY)).await.unwrap();
    assert!(!format!("{answer:?}").contains("marked-secret"));
}
