//! Real clients: the official OpenAI SDK for calls, DuckDB for the tables.

use std::process::Command;

use cordon_system::{
    client::Request,
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

    assert_eq!(sdk(&world, "large")["status"], 413);
    for (act, class) in [
        (
            Act::Status(429, vec![("retry-after", "600".to_owned())], "{}".to_owned()),
            "RateLimitError",
        ),
        (
            Act::Status(503, vec![("retry-after", "600".to_owned())], "{}".to_owned()),
            "InternalServerError",
        ),
    ] {
        upstream.then(act);
        let error = sdk(&world, "one_error");
        assert_eq!(error["class"], class, "{error}");
        assert_eq!(error["retry_after"], "600");
    }
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
    let data = world.data();
    let ours =
        |table: &str| world.sql(&format!("SELECT count(*) AS n FROM {table}"))[0]["n"].clone();
    let (calls, attempts, decisions) = (ours("calls"), ours("attempts"), ours("decisions"));

    let theirs = python("duckdb_counts.py", &[data.to_str().unwrap()]);

    assert_eq!(theirs["calls"], 5);
    assert_eq!(theirs["calls"], calls);
    assert_eq!(theirs["attempts"], attempts);
    assert_eq!(theirs["decisions"], decisions);
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
