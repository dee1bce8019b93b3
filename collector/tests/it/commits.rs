//! Commits: broken off at every step and begun again, nothing comes twice and nothing is missing.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cordon_collector::collector::Collector;
use cordon_collector::config::Limits;
use cordon_collector::query::Scope;
use cordon_collector::schema::Table;
use cordon_collector::table::{Step, Store, Watch};
use cordon_collector::verify::prove;
use serde_json::json;

use crate::world::{World, ask, copy_folder, limits, rows, run, value};

/// Breaks off the first commit of one table at one step.
#[derive(Debug)]
struct BreakOff {
    table: Table,
    step: Step,
    times: AtomicUsize,
}

impl Watch for BreakOff {
    fn goes_on(&self, table: Table, step: Step) -> bool {
        let here = table == self.table && step == self.step;
        !(here && self.times.fetch_add(1, Ordering::SeqCst) == 0)
    }
}

const COUNTS: &str = "SELECT (SELECT count(*) FROM calls) AS calls, \
     (SELECT count(DISTINCT call_id) FROM calls) AS distinct_calls, \
     (SELECT count(*) FROM attempts) AS attempts, \
     (SELECT count(*) FROM events WHERE kind IN ('outcome', 'attempt')) AS events, \
     (SELECT count(DISTINCT concat(stream_id, '/', seq)) FROM events \
      WHERE kind IN ('outcome', 'attempt')) AS distinct_events";

fn counted(calls: usize) -> serde_json::Value {
    json!({"calls": calls, "distinct_calls": calls, "attempts": calls,
           "events": 2 * calls, "distinct_events": 2 * calls})
}

#[test]
fn a_commit_broken_off_at_any_step_leaves_nothing_twice_or_missing() {
    for step in [Step::Written, Step::Flushed, Step::Entered, Step::Done] {
        for table in [Table::Events, Table::Calls, Table::Attempts] {
            run(async move {
                let world = World::new();
                world.calls("acme", 5);
                let watch = Arc::new(BreakOff { table, step, times: AtomicUsize::new(0) });
                let collector = world.collector_with(limits(), watch).await;
                let broken = collector.commit().await.unwrap_err().to_string();
                assert!(broken.contains("broken off"), "{broken}");
                // The process goes on, sees all rows once, and its next commit lands them once.
                assert_eq!(rows(&collector, COUNTS).await, [counted(5)], "{table:?} {step:?}");
                drop(collector);
                // The process died: the next one reads ledger and tables as they were left.
                world.calls("acme", 2);
                let collector = world.collector().await;
                assert_eq!(rows(&collector, COUNTS).await, [counted(7)], "{table:?} {step:?}");
                collector.commit().await.unwrap();
                assert_eq!(rows(&collector, COUNTS).await, [counted(7)], "{table:?} {step:?}");
                collector.stop("test").await.unwrap();
            });
        }
    }
}

#[test]
fn a_commit_that_failed_is_tried_again_by_the_same_process() {
    run(async {
        let world = World::new();
        world.calls("acme", 5);
        let (table, step) = (Table::Calls, Step::Entered);
        let watch = Arc::new(BreakOff { table, step, times: AtomicUsize::new(0) });
        let collector = world.collector_with(limits(), watch).await;
        collector.commit().await.unwrap_err();
        assert!(collector.report()["last_commit_error"].is_string());
        collector.commit().await.unwrap();
        assert_eq!(rows(&collector, COUNTS).await, [counted(5)]);
        assert!(collector.report()["last_commit_error"].is_null());
        collector.stop("test").await.unwrap();
    });
}

#[test]
fn the_same_rows_given_twice_land_once() {
    run(async {
        let world = World::new();
        world.calls("acme", 4);
        let collector = world.collector().await;
        collector.commit().await.unwrap();
        collector.stop("test").await.unwrap();
        let tables = world.folder().tables();
        let mut store = Store::open(&tables, Table::Calls).await.unwrap().unwrap();
        let batches = datafusion::prelude::SessionContext::new()
            .read_table(store.version().unwrap().provider)
            .unwrap()
            .collect()
            .await
            .unwrap();
        let (before, marks) = (store.version().unwrap().number, store.marks().clone());
        store.commit(&batches, &marks).await.unwrap();
        assert_eq!(store.version().unwrap().number, before);
    });
}

#[test]
fn small_files_are_merged_and_every_row_stays() {
    run(async {
        let world = World::new();
        let collector = world.collector().await;
        for _file in 0..4 {
            world.calls("acme", 1);
            collector.commit().await.unwrap();
        }
        collector.stop("test").await.unwrap();
        let tables = world.folder().tables();
        for table in [Table::Events, Table::Calls, Table::Attempts] {
            let mut store = Store::open(&tables, table).await.unwrap().unwrap();
            let (files, marks) = (store.data_files().unwrap().len(), store.marks().clone());
            assert_eq!(store.merge_small_files(4).await.unwrap().len(), 4, "{table:?}");
            assert_eq!(store.data_files().unwrap().len(), files - 3);
            assert!(store.merge_small_files(4).await.unwrap().is_empty());
            let store = Store::open(&tables, table).await.unwrap().unwrap();
            assert_eq!(*store.marks(), marks);
        }
        let report = prove(&world.folder()).await.unwrap();
        assert!(report.is_ok(), "{}", report.to_text());
        let collector = world.collector().await;
        assert_eq!(rows(&collector, COUNTS).await, [counted(4)]);
        world.calls("acme", 1);
        collector.commit().await.unwrap();
        assert_eq!(rows(&collector, COUNTS).await, [counted(5)]);
        collector.stop("test").await.unwrap();
    });
}

#[test]
fn a_table_that_does_not_open_is_set_aside_and_rebuilt() {
    run(async {
        let world = World::new();
        world.calls("acme", 6);
        let collector = world.collector().await;
        collector.commit().await.unwrap();
        collector.stop("test").await.unwrap();
        let log = world.folder().tables().join("calls/_delta_log");
        for entry in std::fs::read_dir(&log).unwrap() {
            std::fs::write(entry.unwrap().path(), "{\"not\": \"a log\"").unwrap();
        }
        let collector = world.collector().await;
        let rebuilt = collector.report()["rebuilt"].to_string();
        assert!(rebuilt.contains("set aside"), "{rebuilt}");
        assert_eq!(rows(&collector, COUNTS).await, [counted(6)]);
        collector.commit().await.unwrap();
        assert_eq!(rows(&collector, COUNTS).await, [counted(6)]);
        collector.stop("test").await.unwrap();
    });
}

/// Tells when a version of `calls` is there.
#[derive(Debug)]
struct Told(tokio::sync::mpsc::Sender<()>);

impl Watch for Told {
    fn goes_on(&self, table: Table, step: Step) -> bool {
        if table == Table::Calls && step == Step::Done {
            self.0.try_send(()).unwrap();
        }
        true
    }
}

#[test]
fn a_running_collector_merges_by_itself_and_takes_away_what_it_merged() {
    run(async {
        let world = World::new();
        let (told, mut heard) = tokio::sync::mpsc::channel(64);
        let limits =
            Limits { commit_rows: 1, merge_files: 2, merged_kept: Duration::ZERO, ..limits() };
        let collector = world.collector_with(limits, Arc::new(Told(told))).await;
        // At least three commits, and a merge behind the second.
        for _version in 0..4 {
            world.calls("acme", 1);
            tokio::time::timeout(Duration::from_secs(30), heard.recv()).await.unwrap().unwrap();
        }
        assert_eq!(rows(&collector, COUNTS).await, [counted(4)]);
        collector.stop("test").await.unwrap();
        let tables = world.folder().tables();
        let store = Store::open(&tables, Table::Calls).await.unwrap().unwrap();
        let day = std::fs::read_dir(tables.join("calls/call_date=2026-11-22")).unwrap();
        let there: Vec<_> = day.map(|file| file.unwrap().path()).collect();
        assert_eq!(there.len(), store.data_files().unwrap().len(), "{there:?}");
        assert!(there.len() < usize::try_from(store.version().unwrap().number).unwrap());
    });
}

#[test]
fn rows_are_committed_by_themselves_when_they_are_many_or_old() {
    run(async {
        let world = World::new();
        let old = Duration::from_millis(1);
        let many = Limits { commit_rows: 4, ..limits() };
        for limits in [many, Limits { commit_every: old, ..limits() }] {
            let (told, mut heard) = tokio::sync::mpsc::channel(8);
            let collector = world.collector_with(limits, Arc::new(Told(told))).await;
            world.calls("acme", 3);
            tokio::time::timeout(Duration::from_secs(30), heard.recv()).await.unwrap().unwrap();
            collector.stop("test").await.unwrap();
        }
        let collector = world.collector().await;
        assert_eq!(value(&collector, "SELECT count(*) FROM calls").await, json!(6));
        collector.stop("test").await.unwrap();
    });
}

/// What the tables on disk hold: their versions.
fn versions(collector: &Collector) -> Vec<serde_json::Value> {
    let report = collector.report();
    Table::ALL.map(|table| report["tables"][table.name()]["version"].clone()).to_vec()
}

async fn refused(collector: &Collector) -> String {
    let refused = ask(collector, &Scope::All, "SELECT 1").await.unwrap_err().to_string();
    let report = collector.report();
    assert_eq!(report["reach"], json!("refused"));
    assert!(report["lag_seconds"].is_null(), "the gateway takes it for one that is down");
    refused
}

/// A collector has committed and died; then the ledger's older state of one call came back, and
/// `calls` more were made.
async fn restored_from_an_older_state(calls: usize) -> World {
    let mut world = World::new();
    world.calls("acme", 1);
    world.close_ledger();
    let root = world.folder().root().to_owned();
    let copy = tempfile::TempDir::new().unwrap();
    for part in ["ledger", "heads"] {
        copy_folder(&root.join(part), &copy.path().join(part));
    }
    world.open_ledger();
    world.calls("acme", 3);
    let collector = world.collector().await;
    collector.commit().await.unwrap();
    // Not stopped: `decisions`, which has no rows, has not written down how far it came.
    drop(collector);
    world.close_ledger();
    for part in ["ledger", "heads"] {
        std::fs::remove_dir_all(root.join(part)).unwrap();
        copy_folder(&copy.path().join(part), &root.join(part));
    }
    world.open_ledger();
    world.calls("acme", calls);
    world
}

#[test]
fn a_ledger_with_another_history_is_refused_at_every_look() {
    run(async {
        let world = restored_from_an_older_state(5).await;
        let collector = world.collector().await;
        let before = versions(&collector);
        for _look in 0..3 {
            let why = refused(&collector).await;
            assert!(why.contains("second history"), "{why}");
            let why = collector.commit().await.unwrap_err().to_string();
            assert!(why.contains("cannot be followed"), "{why}");
        }
        assert_eq!(versions(&collector), before, "nothing of it is committed");
        collector.stop("test").await.unwrap_err();
    });
}

#[test]
fn a_ledger_that_is_shorter_than_its_tables_is_refused() {
    run(async {
        let world = restored_from_an_older_state(0).await;
        let collector = world.collector().await;
        for _look in 0..2 {
            let why = refused(&collector).await;
            assert!(why.contains("was read before and is gone"), "{why}");
        }
        collector.stop("test").await.unwrap_err();
    });
}

#[test]
fn a_ledger_that_could_not_be_read_for_a_while_loses_no_row() {
    run(async {
        let world = World::new();
        world.calls("acme", 1500);
        let mut segments = Vec::new();
        for stream in std::fs::read_dir(world.folder().ledger()).unwrap() {
            let stream = stream.unwrap().path();
            let files = stream.read_dir().into_iter().flatten();
            let segment = |path: &PathBuf| path.extension().is_some_and(|end| end == "segment");
            segments.extend(files.map(|file| file.unwrap().path()).filter(segment));
        }
        segments.sort();
        let away = world.folder().root().join("away");
        std::fs::rename(&segments[1], &away).unwrap();
        let collector = world.collector().await;
        refused(&collector).await;
        std::fs::rename(&away, &segments[1]).unwrap();
        let count = value(&collector, "SELECT count(DISTINCT call_id) FROM calls").await;
        assert_eq!(count, json!(1500));
        collector.commit().await.unwrap();
        assert_eq!(value(&collector, "SELECT count(*) FROM calls").await, json!(1500));
        collector.stop("test").await.unwrap();
    });
}

#[test]
fn tables_outlive_a_stream_that_was_moved_away() {
    run(async {
        let world = World::new();
        world.calls("acme", 3);
        let collector = world.collector().await;
        collector.commit().await.unwrap();
        collector.stop("test").await.unwrap();
        let other = World::new();
        other.calls("acme", 3);
        copy_folder(&world.folder().tables(), &other.folder().tables());
        let collector = other.collector().await;
        assert_eq!(value(&collector, "SELECT count(*) FROM calls").await, json!(6));
        collector.stop("test").await.unwrap();
    });
}
