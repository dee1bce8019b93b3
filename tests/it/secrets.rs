//! Marked secrets and marked texts are searched for wherever we write, and found nowhere.

use std::{
    fs,
    path::{Path, PathBuf},
};

use cordon_system::{
    client::{Reply, Request},
    upstream::{Act, After, Upstream, error_body, token},
    world::{EUROPEAN, World},
};
use serde_json::json;

const PROMPT: &str = "PROMPTMARK7391 tell me";
const ANSWER: &str = "ANSWERMARK8824";
const SECRET: &str = "upstream-secret-SECRETMARK5512";
/// In a header of ours, and in a field that nobody knows.
const HEADER: &str = "headermark6650";
const FIELD: &str = "FIELDMARK3310";
/// In the name of a model, and in an upstream's own refusal: the client is told these again.
const MODEL: &str = "MODELMARK9402";
const REFUSAL: &str = "REFUSALMARK1177";
/// Tables and view of SQL that hold more than counts.
const TABLES: [&str; 5] = ["events", "calls", "attempts", "decisions", "data_flows"];

/// A world whose upstream answers, and misbehaves, with marked texts.
fn world(upstream: &Upstream) -> World {
    let facts = format!("{EUROPEAN}\nkey = {{ env = \"TEST_UPSTREAM_KEY\" }}");
    World::builder()
        .upstream("first", upstream, &facts)
        .environment("TEST_UPSTREAM_KEY", SECRET)
        .environment("RUST_LOG", "trace,cranelift=info,wasmtime=info,regalloc2=info")
        .start()
}

/// Calls with a mark in every place that a client can write to, with the status each must get.
fn calls(world: &World) -> Vec<(u16, Reply)> {
    let text = format!("{PROMPT} ana.keller@example.org");
    let body = |body: String| Request::post("/v1/chat/completions", world.key(), body.into());
    let messages = json!([{"role": "user", "content": text}]);
    let question = |stream| world.question(&text, stream);
    let field = json!({"model": "assistant", "messages": messages, FIELD: FIELD});
    let twice = format!("{{\"{FIELD}\":1,\"{FIELD}\":2,\"model\":\"assistant\"}}");
    let requests = [
        (200, question(false)),
        (502, question(false)),
        (200, question(true)),
        (400, question(false)),
        (400, question(false)),
        (200, question(true)),
        (400, question(false)),
        (200, Request::chat(world.key(), &field)),
        (200, question(false).with("x-cordon-purpose", HEADER)),
        (403, question(false).with("x-cordon-labels", HEADER)),
        (400, question(false).with("x-cordon-labels", &format!("{HEADER} b;;"))),
        (400, question(false).with("x-cordon-subject-regions", HEADER)),
        (403, world.question(&format!("CUI//SP-CTI//NOFORN {PROMPT}"), false)),
        (404, Request::chat(world.key(), &json!({"model": MODEL, "messages": messages}))),
        (400, body(format!("{{\"model\":\"assistant\",\"messages\":[\"{PROMPT}"))),
        (400, body(twice)),
    ];
    requests.into_iter().map(|(status, request)| (status, world.send(&request))).collect()
}

#[test]
fn prompts_answers_and_secrets_are_nowhere_but_on_the_wire() {
    let broken = Act::Status(500, Vec::new(), ANSWER.to_owned());
    let refusal = Act::Status(400, Vec::new(), error_body("no", REFUSAL));
    let echo = |code| error_body(code, &format!("who sends `Authorization: Bearer {SECRET}`?"));
    let filtered = echo("content_filter");
    let upstream = Upstream::script([
        Act::Say(format!("{ANSWER} and more")),
        broken.clone(),
        broken,
        Act::ResetAfter(1),
        refusal,
        Act::Status(400, Vec::new(), echo("invalid")),
        Act::Stream(vec![token(0, "x"), format!("data: {filtered}\n\n")], After::End),
        Act::Status(200, Vec::new(), filtered),
    ]);
    let mut world = world(&upstream);

    let replies = calls(&world);

    let (mut told, mut echoes) = (String::new(), 0);
    for (status, reply) in &replies {
        assert_eq!(reply.status, *status, "{}", reply.text());
        told.push_str(&format!("{:?}", reply.headers));
        assert!(!reply.text().contains("SECRETMARK5512"), "{}", reply.text());
        echoes += reply.text().matches("Bearer [secret]").count();
        if *status != 200 {
            told.push_str(&reply.text());
        }
    }
    assert_eq!(echoes, 3, "the rest of the provider's message is passed on");
    assert!(upstream.seen()[0].head.contains(SECRET), "the provider is sent its key");
    let mut kept = world.send_admin(&Request::get("/metrics", "")).text();
    let key = world.key().to_owned();
    world.stop();
    kept.push_str(&world.log());
    let call_id = replies[0].1.call_id();
    // Tables are compressed: what they hold can be searched only in an answer of SQL.
    for table in TABLES {
        kept.push_str(&json!(world.sql(&format!("SELECT * FROM {table}"))).to_string());
    }
    // Searched in the same way, what must be there is found.
    assert!(kept.contains(&call_id) && kept.contains("cordon_calls_total"));
    assert!(holding(&world.data().join("ledger"), &call_id).is_some());

    let marks = ["PROMPTMARK7391", ANSWER, "SECRETMARK5512", "ana.keller", HEADER, FIELD, &key];
    for mark in marks {
        assert!(!told.contains(mark), "a client was told `{mark}`");
    }
    for mark in marks.into_iter().chain([MODEL, REFUSAL]) {
        assert!(!kept.contains(mark), "`{mark}` is in a log, a metric or a table");
        assert_eq!(holding(&world.data(), mark), None, "`{mark}`");
    }
}

/// The first file below `folder` that holds `mark`.
fn holding(folder: &Path, mark: &str) -> Option<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).find_map(|path| {
        if path.is_symlink() {
            return None;
        }
        if path.is_dir() {
            return holding(&path, mark);
        }
        let bytes = fs::read(&path).ok()?;
        bytes.windows(mark.len()).any(|window| window == mark.as_bytes()).then_some(path)
    })
}
