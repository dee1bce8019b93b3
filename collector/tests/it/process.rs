//! The built program, as the gateway and an auditor start it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

use crate::world::{World, copy_folder};

const PROGRAM: &str = env!("CARGO_BIN_EXE_cordon-collector");

fn collector(data: &Path, arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).arg("--data").arg(data).output().unwrap()
}

/// Starts the collector and waits until it says that it answers.
fn start(data: &Path) -> Child {
    let mut child = Command::new(PROGRAM)
        .args(["run", "--data"])
        .arg(data)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let answers = lines.by_ref().any(|line| line.unwrap().contains("answering on"));
    assert!(answers, "the collector ended before it answered");
    std::thread::spawn(move || lines.for_each(drop));
    child
}

fn sql(data: &Path, statement: &str) -> Value {
    let output = collector(data, &["sql", statement, "--format", "json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn questions_are_answered_with_and_without_a_running_collector() {
    let world = World::new();
    world.calls("acme", 3);
    let data = world.folder().root().to_owned();
    let count = "SELECT count(*) AS n FROM calls";
    assert_eq!(sql(&data, count), json!([{"n": 3}]), "from the ledger alone");
    let mut running = start(&data);
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(data.join("run")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o700);
    world.calls("acme", 2);
    assert_eq!(sql(&data, count), json!([{"n": 5}]), "through the socket");
    let output = collector(&data, &["sql", count, "--tenant", "nobody", "--format", "csv"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "n\r\n0\r\n");
    let refused = collector(&data, &["sql", "DROP TABLE calls"]);
    assert_eq!(refused.status.code(), Some(2), "through the socket");
    drop(running.stdin.take());
    assert!(running.wait().unwrap().success());
    assert_eq!(sql(&data, count), json!([{"n": 5}]), "from the tables");
    let refused = collector(&data, &["sql", "DROP TABLE calls"]);
    assert_eq!(refused.status.code(), Some(2), "alone");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("READ_ONLY"));
    let asked = sql(&data, "SELECT count(*) AS n FROM events WHERE kind = 'access'");
    assert_eq!(asked, json!([{"n": 6}]), "each question but this is recorded");
}

#[test]
fn the_end_of_its_input_drains_to_the_last_durable_record() {
    let mut world = World::new();
    let data = world.folder().root().to_owned();
    let mut running = start(&data);
    world.calls("acme", 50);
    world.close_ledger();
    running.stdin.take().unwrap().flush().unwrap();
    assert!(running.wait().unwrap().success());
    // What a reader outside sees: the tables alone, without any ledger.
    let copy = tempfile::TempDir::new().unwrap();
    std::fs::create_dir(copy.path().join("ledger")).unwrap();
    std::fs::rename(data.join("tables"), copy.path().join("tables")).unwrap();
    assert_eq!(sql(copy.path(), "SELECT count(*) AS n FROM calls"), json!([{"n": 50}]));
}

/// Every file below a folder, with its bytes.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), std::fs::read(path).unwrap());
        }
    }
    found
}

#[test]
fn a_question_changes_nothing_in_a_copy() {
    let mut world = World::new();
    let data = world.folder().root().to_owned();
    world.calls("acme", 3);
    world.close_ledger();
    assert_eq!(sql(&data, "SELECT count(*) AS n FROM calls"), json!([{"n": 3}]));
    let copy = tempfile::TempDir::new().unwrap();
    for part in ["ledger", "heads"] {
        copy_folder(&data.join(part), &copy.path().join(part));
    }
    let before = files(copy.path());
    let output = collector(copy.path(), &["sql", "SELECT count(*) FROM calls", "--format", "csv"]);
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("\r\n3\r\n"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("is a copy") && said.contains("not recorded"), "{said}");
    assert!(files(copy.path()) == before, "the evidence is as it was");
}

#[test]
fn a_killed_collector_loses_and_doubles_nothing() {
    let world = World::new();
    let data = world.folder().root().to_owned();
    for round in 1..=3_i64 {
        let mut running = start(&data);
        world.calls("acme", 20);
        let wait = sql(&data, "SELECT count(*) AS n FROM calls");
        assert_eq!(wait, json!([{"n": 20 * round}]));
        running.kill().unwrap();
        running.wait().unwrap();
    }
    let both = "SELECT count(*) AS n, count(DISTINCT call_id) AS m FROM calls";
    assert_eq!(sql(&data, both), json!([{"n": 60, "m": 60}]));
}

#[test]
fn verify_and_wrong_usage_have_their_exit_codes() {
    let mut world = World::new();
    world.calls("acme", 2);
    world.close_ledger();
    let data = world.folder().root().to_owned();
    let output = collector(&data, &["verify", "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &report["ok"]), (Some(0), &json!(true)), "{report}");
    let nowhere = tempfile::TempDir::new().unwrap();
    for arguments in [&["sql", "SELECT 1"][..], &["verify"], &["sql"], &["dance"]] {
        let output = collector(nowhere.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
    let output = Command::new(PROGRAM).arg("--version").output().unwrap();
    let version = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(version, format!("cordon-collector {}\n", env!("CARGO_PKG_VERSION")));
}
