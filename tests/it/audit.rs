//! The ledger on the command line: questions, freshness, verification.

use std::time::{Duration, Instant};

use cordon_system::{client::Request, upstream::Upstream, world::World};
use serde_json::json;

#[test]
fn a_statement_that_writes_is_refused_with_exit_2() {
    let upstream = Upstream::start();
    let world = World::with(&upstream);
    for statement in [
        "DELETE FROM calls",
        "DROP TABLE calls",
        "COPY calls TO '/tmp/stolen.csv'",
        "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'",
        "SET datafusion.execution.batch_size = 1",
        "SELECT 1; SELECT 2",
    ] {
        let output = world.run("cordon", &["audit", "sql", statement]);
        assert_eq!(output.status.code(), Some(2), "{statement}");
    }
}

#[test]
fn a_statement_may_begin_with_a_comment() {
    let upstream = Upstream::start();
    let world = World::with(&upstream);
    let statement = "-- how many\nSELECT 7 AS n";
    let output = world.run("cordon", &["audit", "sql", statement, "--format", "csv"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "n\r\n7\r\n");
}

/// The longest that a call may take from its end until SQL finds it.
const VISIBLE_MAX: Duration = Duration::from_secs(1);

#[test]
fn a_row_is_visible_within_a_second() {
    let upstream = Upstream::start();
    let world = World::with(&upstream);
    world.call(&world.ask("hello").call_id());

    // The best of a few: a busy machine delays some, a promise that is not kept delays all.
    let took = (0..3).map(|_| until_visible(&world)).min().unwrap();

    assert!(took <= VISIBLE_MAX, "{took:?}");
}

/// From the end of a call until SQL over HTTP finds it: no process is started meanwhile.
fn until_visible(world: &World) -> Duration {
    let call_id = world.ask("hello").call_id();
    let answered = Instant::now();
    let statement = format!("SELECT outcome FROM calls WHERE call_id = '{call_id}'");
    let body = json!({"sql": statement, "format": "json"}).to_string().into_bytes();
    let question = Request::post("/v1/audit/sql", world.key(), body);
    world.wait_until("the call is visible", |world| {
        world.send_admin(&question).json()[0]["outcome"] == "ok"
    });
    answered.elapsed()
}

#[test]
fn every_statement_is_itself_an_event() {
    let upstream = Upstream::start();
    let world = World::with(&upstream);
    world.sql("SELECT count(*) FROM calls");
    world.wait_until("the access is visible", |world| {
        let rows = world.sql("SELECT count(*) AS n FROM events WHERE kind = 'access'");
        rows[0]["n"].as_u64() > Some(0)
    });
}

#[test]
fn a_quiet_ledger_verifies_alive_and_as_a_copy() {
    let upstream = Upstream::start();
    let mut world = World::with(&upstream);
    for _ in 0..3 {
        world.ask("hello");
    }
    let alive = world.verify();
    assert_eq!(alive["ok"], true, "{alive}");
    world.stop();
    let verified = world.verify();
    assert_eq!(verified["ok"], true, "{verified}");
    assert_eq!(verified["after_last_head"], 0);
    assert!(verified["events"].as_u64().unwrap() >= 9, "{verified}");

    let copy = tempfile::tempdir().unwrap();
    let source = format!("{}/.", world.data().display());
    let target = copy.path().join("data");
    let done = std::process::Command::new("cp").args(["-r", &source]).arg(&target).status();
    assert!(done.unwrap().success());
    let output = std::process::Command::new(cordon_system::world::program_path("cordon"))
        .args(["audit", "verify", "--data"])
        .arg(&target)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn data_flows_tell_which_data_went_where_on_which_basis() {
    let upstream = Upstream::start();
    let world = World::with(&upstream);
    let reply = world.ask("Write to ana.keller@example.org");
    assert_eq!(reply.status, 200, "{}", reply.text());
    world.call(&reply.call_id());

    let flows = world.sql("SELECT * FROM data_flows");

    assert_eq!(flows.len(), 1, "{flows:?}");
    assert_eq!(flows[0]["subject_region"], "DE");
    assert_eq!(flows[0]["destination_region"], "DE");
    assert_eq!(flows[0]["calls"], 1);
    assert!(!flows[0]["legal_basis"].as_str().unwrap().is_empty());
}
