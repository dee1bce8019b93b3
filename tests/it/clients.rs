//! Real clients: the official OpenAI SDK for calls, DuckDB for the tables.

use std::{io::Write, process::Command};

use cordon_system::{
    client::{self, Request},
    upstream::{Act, Upstream},
    world::{EUROPEAN, World},
};
use serde_json::{Value, json};

/// Runs one of the Python clients with the interpreter that `tests/run` prepared.
fn python(script: &str, arguments: &[&str]) -> Value {
    let python = std::env::var("CORDON_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let path = format!("{}/clients/{script}", env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(python).arg(path).args(arguments).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script} {arguments:?}: {told}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn sdk(world: &World, scenario: &str) -> Value {
    python("openai_sdk.py", &[&format!("http://{}/v1", world.ai()), world.key(), scenario])
}

#[test]
fn the_openai_sdk_gets_answers_streams_and_usage() {
    let upstream = Upstream::start();
    let world = World::with(&upstream);

    let answers = sdk(&world, "answers");

    assert_eq!(answers["content"], "The answer of the upstream.");
    assert_eq!(answers["stream"], "The answer of the upstream.");
    assert_eq!(answers["usage"], 16);
    assert_eq!(answers["stream_usage"], 16);
    assert_eq!(answers["models"], json!(["assistant"]));
}

#[test]
fn every_error_parses_into_the_sdks_own_exception() {
    let upstream = Upstream::start();
    let world = World::with(&upstream);

    let errors = sdk(&world, "errors");

    for (status, class, kind) in [
        ("400", "BadRequestError", "invalid_request_error"),
        ("401", "AuthenticationError", "authentication_error"),
        ("403", "PermissionDeniedError", "policy_denied"),
        ("404", "NotFoundError", "not_found_error"),
    ] {
        assert_eq!(errors[status]["class"], class, "{errors}");
        assert_eq!(errors[status]["type"], kind, "{errors}");
    }
    assert!(!errors["403"]["rules"].as_array().unwrap().is_empty());
    assert!(upstream.seen().is_empty());

    let large = sdk(&world, "large");
    assert_eq!((&large["status"], &large["type"]), (&json!(413), &json!("request_too_large")));
    for (status, class, kind) in [
        (429, "RateLimitError", "rate_limit_error"),
        (503, "InternalServerError", "overloaded_error"),
    ] {
        let wait = vec![("retry-after", "600".to_owned())];
        upstream.then(Act::Status(status, wait, "{}".to_owned()));
        let error = sdk(&world, "one_error");
        assert_eq!((&error["class"], &error["type"]), (&json!(class), &json!(kind)), "{error}");
        assert_eq!(error["retry_after"], "600");
    }
}

#[test]
fn a_stream_that_breaks_raises_the_sdks_own_exception() {
    let upstream = Upstream::script([Act::CloseAfter(3)]);
    let world = World::with(&upstream);

    let broken = sdk(&world, "broken_stream");

    assert_eq!((&broken["class"], &broken["text"]), (&json!("APIError"), &json!("The answer of ")));
}

#[test]
fn a_key_with_too_many_calls_at_once_is_told_to_wait() {
    let upstream = Upstream::script([Act::Endless]);
    let world = World::builder()
        .upstream("first", &upstream, EUROPEAN)
        .extra("[identity]\ncalls_at_once_max = 1\n")
        .start();
    let mut running = client::connect(world.ai()).unwrap();
    running.write_all(&world.question("tell me a story", true).bytes()).unwrap();
    upstream.wait_for(1);

    let error = sdk(&world, "one_error");

    assert_eq!(error["class"], "RateLimitError", "{error}");
    assert_eq!(error["type"], "rate_limit_error");
    assert!(error["retry_after"].as_str().is_some_and(|seconds| seconds != "0"), "{error}");
    assert_eq!(upstream.seen().len(), 1);
}

#[test]
fn the_local_model_answers_the_sdk() {
    let patient = r#"{ connect = "1s", first_token = "60s", gap = "60s", answer = "60s" }"#;
    let world = World::builder().local().deadlines(patient).start();

    let answers = sdk(&world, "answers");

    assert!(!answers["content"].as_str().unwrap().is_empty());
    assert!(answers["usage"].as_u64().unwrap() > 10);
    let rows = world.sql("SELECT target_id, outcome FROM calls");
    assert!(
        rows.iter().all(|row| row["target_id"] == "local/smollm2-135m" && row["outcome"] == "ok")
    );
}

#[test]
fn duckdb_counts_the_same_rows() {
    let upstream = Upstream::start();
    let mut world = World::builder().upstream("first", &upstream, EUROPEAN).start();
    for _ in 0..5 {
        assert_eq!(world.ask("hello").status, 200);
    }
    world.stop();

    let theirs = python("duckdb_counts.py", &[world.data().to_str().unwrap()]);

    let count =
        |from: &str| world.sql(&format!("SELECT count(*) AS n FROM {from}"))[0]["n"].clone();
    assert_eq!(theirs["calls"], 5);
    for table in ["calls", "attempts", "decisions"] {
        assert_eq!(theirs[table], count(table), "{table}");
    }
    let streams = theirs["streams"].as_object().unwrap();
    for (stream, found) in streams {
        assert_eq!(found["events"], found["last"], "{stream}: every event from the first one on");
        // Our own questions here are events behind the last one that was committed.
        let last = &found["last"];
        let ours = count(&format!("events WHERE stream_id = '{stream}' AND seq <= {last}"));
        assert_eq!(found["events"], ours, "{stream}");
    }
    // The gateway has written its last event, and the collector has drained to it.
    let own = world.sql("SELECT DISTINCT stream_id FROM events WHERE kind = 'intent'");
    let own = own[0]["stream_id"].as_str().unwrap();
    assert_eq!(streams[own]["events"], count(&format!("events WHERE stream_id = '{own}'")));
}

#[test]
fn an_auditor_asks_over_http_and_only_about_its_own_tenant() {
    let upstream = Upstream::start();
    let world = World::with(&upstream);
    assert_eq!(world.ask("hello").status, 200);
    let stranger = world.create_key("other", &[]);
    let body = json!({"sql": "SELECT count(*) AS n FROM calls", "format": "json"}).to_string();
    let ask = |key: &str| {
        world.send_admin(&Request::post("/v1/audit/sql", key, body.clone().into_bytes()))
    };
    world.wait_until("both keys are known and the row is visible", |world| {
        ask(&stranger).status == 200 && ask(world.key()).json()[0]["n"] == 1
    });

    assert_eq!(ask(&stranger).json()[0]["n"], 0);
    assert_eq!(ask("cdn_wrong").status, 401);
    let write = json!({"sql": "DROP TABLE calls"}).to_string().into_bytes();
    let refused = world.send_admin(&Request::post("/v1/audit/sql", world.key(), write));
    assert_eq!(refused.status, 400, "{}", refused.text());
}
