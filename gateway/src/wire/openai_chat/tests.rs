//! Requests, what leaves, what is read back, and what we write.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::json;

use super::*;
use crate::wire::{Shape, Usage};

#[derive(Debug, Deserialize)]
struct Refused {
    name: String,
    body: String,
    error: String,
}

#[derive(Debug, Deserialize)]
struct Sent {
    name: String,
    body: String,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    max_tokens: Option<u64>,
    #[serde(default)]
    ask_usage: bool,
    sent: String,
}

#[derive(Debug, Deserialize)]
struct Arrived {
    name: String,
    data: String,
    is: String,
}

fn cases<T: serde::de::DeserializeOwned>(file: &str) -> Vec<T> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/cases/wire");
    let text = std::fs::read_to_string(folder.join(file)).unwrap();
    serde_yaml_ng::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn parse_json(body: &serde_json::Value) -> Result<Call, WireError> {
    parse(Bytes::from(body.to_string()))
}

#[test]
fn every_refused_request_says_which_field_and_what_to_do() {
    for case in cases::<Refused>("chat_refused.yaml") {
        let error = parse(Bytes::from(case.body)).expect_err(&case.name).to_string();
        assert_eq!(error, case.error, "{}", case.name);
    }
}

#[test]
fn only_the_named_spans_change_on_the_way_out() {
    for case in cases::<Sent>("chat_outbound.yaml") {
        let call = parse(Bytes::from(case.body)).expect(&case.name);
        let outgoing = Outgoing {
            model: case.model.as_deref(),
            max_tokens: case.max_tokens,
            ask_usage: case.ask_usage,
        };
        let sent = outbound(&call, &[], outgoing);
        assert_eq!(String::from_utf8(sent.to_vec()).unwrap(), case.sent, "{}", case.name);
        let again = outbound(&parse(sent.clone()).expect(&case.name), &[], outgoing);
        assert_eq!(again, sent, "{}: done twice it is done once", case.name);
    }
}

#[test]
fn edits_replace_texts_beside_the_options() {
    let call = parse(Bytes::from_static(
        br#"{"messages":[{"role":"user","content":"a \u0062"}],"model":"m"}"#,
    ))
    .unwrap();
    let text = call.texts().find(|text| text.text == "a b").unwrap();
    assert!(text.replaceable);
    let edit = Edit { span: call.text_span(text.index), value: Bytes::from_static(b"\"x\"") };
    let sent = outbound(&call, &[edit], Outgoing { model: Some("n"), ..Outgoing::default() });
    assert_eq!(&sent[..], br#"{"messages":[{"role":"user","content":"x"}],"model":"n"}"#);
}

#[test]
fn the_record_learns_the_shape_and_not_the_text() {
    let call = parse_json(&json!({"model": "assistant", "stream": true, "temperature": 0.5,
        "top_p": 1, "seed": -3, "n": 2, "max_completion_tokens": 50, "max_tokens": null,
        "stream_options": {"include_usage": true},
        "messages": [{"role": "user", "content": "x"}],
        "tools": [{"type": "function", "function": {"name": "find"}},
                  {"type": "custom", "custom": {"name": "draw"}}],
        "functions": [{"name": "old"}]}))
    .unwrap();
    assert_eq!((call.model(), call.stream(), call.include_usage()), ("assistant", true, true));
    let tools_offered = ["find", "draw", "old"].map(str::to_owned).to_vec();
    assert_eq!(
        *call.shape(),
        Shape {
            temperature: Some(0.5),
            top_p: Some(1.0),
            max_tokens: Some(50),
            seed: Some(-3),
            choice_count: Some(2),
            tools_offered,
        }
    );
}

#[test]
fn the_clients_own_words_can_be_replaced_and_selectors_cannot() {
    let call = parse_json(&json!({"model": "no", "user": "yes1", "stop": ["no"],
        "metadata": {"no": "yes2"}, "prediction": {"type": "no", "content": "yes3"},
        "messages": [
            {"role": "no", "content": "yes4", "name": "no"},
            {"role": "no", "content": [{"type": "text", "text": "yes5"}],
             "tool_calls": [{"id": "no", "type": "no",
                "function": {"name": "no", "arguments": "yes6"}}]},
            {"role": "no", "tool_call_id": "no", "content": "yes7"}],
        "tools": [{"type": "no", "function": {"name": "no", "description": "yes8",
            "parameters": {"properties": {"no": {"description": "yes9", "enum": ["no"]}}}}}]}))
    .unwrap();
    for text in call.texts().filter(|text| text.text.starts_with("yes") || text.text == "no") {
        assert_eq!(text.replaceable, text.text.starts_with("yes"), "{}", text.text);
    }
    let replaceable = call.texts().filter(|text| text.replaceable).count();
    assert_eq!(replaceable, 9);
}

#[test]
fn the_neutral_form_joins_texts_and_refuses_the_rest() {
    let plain = json!({"model": "m", "stop": "END", "seed": 7, "max_tokens": 9, "messages": [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": null}]});
    let prompt = prompt(&Bytes::from(plain.to_string())).unwrap();
    let turns: Vec<_> = prompt.turns.iter().map(|turn| (turn.role, turn.text.as_str())).collect();
    assert_eq!(turns, [("system", "be brief"), ("user", "ab"), ("assistant", "")]);
    assert_eq!(prompt.stop, ["END"]);
    assert_eq!((prompt.seed, prompt.max_tokens), (Some(7), Some(9)));
}

#[test]
fn the_neutral_form_refuses_what_a_model_of_texts_cannot_do() {
    for (field, value) in [
        ("n", json!(2)),
        ("logprobs", json!(true)),
        ("response_format", json!({"type": "json_object"})),
        ("tool_choice", json!("required")),
        ("tool_choice", json!({"type": "function", "function": {"name": "f"}})),
        ("modalities", json!(["text", "audio"])),
        ("stop", json!(["a", "b", "c", "d", "e"])),
        ("stop", json!(5)),
        ("messages", json!([{"role": "tool", "content": "x"}])),
        ("messages", json!([{"role": "user", "content": [{"type": "image_url"}]}])),
        ("messages", json!([{"role": "assistant", "tool_calls": [{"id": "x"}]}])),
    ] {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]});
        body[field] = value.clone();
        let error = prompt(&Bytes::from(body.to_string())).expect_err(field).to_string();
        assert!(error.starts_with(&format!("`{field}`")), "{value}: {error}");
    }
    for (field, value) in [
        ("n", json!(1)),
        ("response_format", json!({"type": "text"})),
        ("tool_choice", json!("auto")),
        ("modalities", json!(["text"])),
        ("logprobs", json!(false)),
    ] {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]});
        body[field] = value.clone();
        assert!(prompt(&Bytes::from(body.to_string())).is_ok(), "{field} {value}");
    }
}

#[test]
fn every_event_of_a_stream_is_understood() {
    for case in cases::<Arrived>("chat_events.yaml") {
        let is = match Events::default().read(&Bytes::from(case.data)) {
            StreamEvent::Chunk(chunk) => format!("{:?}", chunk.progress),
            StreamEvent::Error => "Error".to_owned(),
            StreamEvent::Done => "Done".to_owned(),
            StreamEvent::NotJson => "NotJson".to_owned(),
        };
        assert_eq!(is, case.is, "{}", case.name);
    }
}

fn facts_of(body: &str) -> AnswerFacts {
    match answer(&Bytes::from(body.to_owned())) {
        Whole::Answer(facts) => facts,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_body_without_choices_is_no_answer_whatever_its_status() {
    for (body, whole) in [
        (r#"{"error":{"code":"content_filter"}}"#, Whole::Error),
        (r#"{"error":{"code":"content_filter"},"choices":[]}"#, Whole::Error),
        (r#"[{"error":{"code":400}}]"#, Whole::Error),
        (r#"{"object":"error","message":"no","code":400}"#, Whole::Error),
        (r#"{"error":null}"#, Whole::Unknown),
        ("{}", Whole::Unknown),
        (r#"{"choices":{}}"#, Whole::Unknown),
        ("[]", Whole::Unknown),
        ("<html>", Whole::Unknown),
        (r#"{"choices":[]}"#, Whole::Answer(AnswerFacts::default())),
    ] {
        assert_eq!(answer(&Bytes::from_static(body.as_bytes())), whole, "{body}");
    }
}

#[test]
fn an_answer_with_many_log_probabilities_is_an_answer() {
    let likely = r#"{"token":"a","logprob":-0.1,"bytes":[97]}"#;
    let tops = vec![likely; 20].join(",");
    let token = format!(r#"{{"token":"a","logprob":-0.1,"bytes":[97],"top_logprobs":[{tops}]}}"#);
    let all = vec![token.as_str(); 2_000].join(",");
    let facts = facts_of(&format!(
        r#"{{"choices":[{{"index":0,"message":{{"content":"\ud83d"}},"logprobs":{{"content":[{all}]}},
        "finish_reason":"length"}}],"usage":{{"prompt_tokens":1,"completion_tokens":2000}}}}"#
    ));
    assert_eq!(facts.finish_reasons[&0], "length");
    assert_eq!(facts.usage.unwrap().output_tokens, 2_000);
}

#[test]
fn of_the_parts_of_an_answer_the_last_word_holds() {
    let part = |body: &str| facts_of(body);
    let mut facts = part(
        r#"{"id":"a","choices":[{"index":1,"finish_reason":"stop"}],
        "usage":{"prompt_tokens":1}}"#,
    );
    facts.add(part(r#"{"id":"b","choices":[{"finish_reason":"length"}]}"#));
    facts.add(part(r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":3}}"#));
    assert_eq!(facts.id.as_deref(), Some("b"));
    assert_eq!(facts.usage.unwrap().output_tokens, 3);
    assert_eq!(facts.finish_reasons.into_values().collect::<Vec<_>>(), ["length", "stop"]);

    let many: Vec<String> =
        (0..500).map(|index| format!(r#"{{"index":{index},"finish_reason":"stop"}}"#)).collect();
    let many = part(&format!(r#"{{"choices":[{}]}}"#, many.join(",")));
    assert_eq!(many.finish_reasons.len(), 128, "an upstream cannot make the record grow");
}

#[test]
fn usage_and_reasons_are_read_from_an_answer() {
    let body = json!({"id": "chatcmpl-1", "object": "chat.completion", "model": "m-2026",
        "system_fingerprint": "fp", "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "four"}},
            {"index": 1, "finish_reason": "tool_calls", "message": {"role": "assistant",
             "content": null, "tool_calls": [{"id": "c1", "function": {"arguments": "{}"}}]}}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 2}}});
    let facts = facts_of(&body.to_string());
    assert_eq!(facts.finish_reasons.into_values().collect::<Vec<_>>(), ["stop", "tool_calls"]);
    assert_eq!(
        facts.usage,
        Some(Usage {
            input_tokens: 10,
            output_tokens: 5,
            cache_read_input_tokens: Some(4),
            reasoning_output_tokens: Some(2),
        })
    );
    assert_eq!((facts.id.as_deref(), facts.model.as_deref()), (Some("chatcmpl-1"), Some("m-2026")));
}

#[test]
fn an_error_is_written_as_the_interface_says() {
    let rules = [RuleLine { id: "GDPR-V-44-01", title: "t", citation: "GDPR Art. 44" }];
    let missing = ["transfer.tia".to_owned()];
    let body = error_body(&ErrorBody {
        kind: "policy_denied",
        code: Some("GDPR-V-44-01"),
        message: "policy refuses \"this\"",
        param: None,
        cordon: CordonFields {
            call_id: "0199",
            effect: Some("deny"),
            rules: &rules,
            missing: &missing,
        },
    });
    assert_eq!(
        String::from_utf8(body).unwrap(),
        "{\"error\":{\"message\":\"policy refuses \\\"this\\\"\",\"type\":\"policy_denied\",\
         \"code\":\"GDPR-V-44-01\",\"param\":null,\"cordon\":{\"call_id\":\"0199\",\
         \"effect\":\"deny\",\"rules\":[{\"id\":\"GDPR-V-44-01\",\"title\":\"t\",\
         \"citation\":\"GDPR Art. 44\"}],\"missing\":[\"transfer.tia\"]}}}"
    );
}

#[test]
fn what_the_local_model_writes_is_what_we_read() {
    let head = Head { id: "chatcmpl-1", created: 1, model: "smollm2", fingerprint: "fp_1" };
    let body = completion(&Completion {
        head,
        text: "hi \"there\"",
        finish: "stop",
        input_tokens: 3,
        output_tokens: 2,
    });
    let facts = facts_of(&String::from_utf8(body).unwrap());
    assert_eq!((facts.finish_reasons.len(), facts.usage.unwrap().output_tokens), (1, 2));
    let mut reader = crate::wire::sse::Reader::new(4096);
    for part in [
        Part::Role,
        Part::Text("hi"),
        Part::Finish("length"),
        Part::Usage { input_tokens: 3, output_tokens: 2 },
    ] {
        reader.push(&chunk_event(&head, part));
    }
    reader.push(done_event());
    reader.push(&error_event(&ErrorBody { kind: "upstream_error", ..ErrorBody::default() }));
    let (mut events, mut read) = (Events::default(), Vec::new());
    while let Some(next) = reader.next_event().unwrap() {
        read.push(match events.read(&next.data.unwrap()) {
            StreamEvent::Chunk(chunk) => format!("{:?}", chunk.progress),
            other => format!("{other:?}").split('(').next().unwrap().to_owned(),
        });
    }
    assert_eq!(read, ["Frame", "Content", "Frame", "UsageOnly", "Done", "Error"]);
}

#[test]
fn the_list_of_models_has_the_shape_that_clients_check() {
    let list: serde_json::Value = serde_json::from_slice(&models(["a", "b"], 5)).unwrap();
    assert_eq!(list["object"], "list");
    let model = json!({"id": "b", "object": "model", "created": 5, "owned_by": "cordon"});
    assert_eq!(list["data"][1], model);
}

#[test]
fn an_error_of_an_upstream_is_read_and_its_message_never_shown() {
    for (body, message, code) in [
        (
            json!({"error": {"message": "marked", "type": "invalid_request_error",
            "code": "context_length_exceeded"}}),
            Some("marked"),
            Some("context_length_exceeded"),
        ),
        (json!([{"error": {"code": 400, "message": "marked"}}]), Some("marked"), None),
        (json!({"object": "error", "message": "marked", "code": 400}), Some("marked"), None),
        (json!({"error": "marked text"}), Some("marked text"), None),
        (json!({"error": {"message": ["marked"], "code": "marked text"}}), None, None),
    ] {
        let facts = error(&Bytes::from(body.to_string())).unwrap();
        assert_eq!((facts.message.as_deref(), facts.code.as_deref()), (message, code));
        assert!(!format!("{facts:?}").contains("marked"));
    }
    assert_eq!(error(&Bytes::from_static(b"<html>")), None);
    assert_eq!(error(&Bytes::from_static(b"{\"error\":null}")), None);
}
