//! The ledger on the command line: questions, freshness, verification.

use cordon_system::{upstream::Upstream, world::World};

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

#[test]
fn a_row_is_visible_within_a_second() {
    let upstream = Upstream::start();
    let world = World::with(&upstream);
    assert_eq!(world.ask("hello").status, 200);
    world.sql("SELECT 1");

    let reply = world.ask("hello");
    let answered = std::time::Instant::now();
    world.call(&reply.call_id());

    // The statement itself takes a part of this in an unoptimised build.
    assert!(answered.elapsed().as_millis() < 3_000, "{:?}", answered.elapsed());
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
