//! Commits: broken off at every step and begun again, nothing comes twice and nothing is missing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cordon_collector::config::Limits;
use cordon_collector::query::Scope;
use cordon_collector::schema::Table;
use cordon_collector::table::{Step, Store, Watch};
use serde_json::json;

use crate::world::{World, limits, rows, run, value};

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

/// Tells when a commit of `calls` is done.
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

#[test]
fn a_ledger_with_another_history_is_refused() {
    run(async {
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
        collector.stop("test").await.unwrap();
        world.close_ledger();
        // An older state comes back, and is written on.
        for part in ["ledger", "heads"] {
            std::fs::remove_dir_all(root.join(part)).unwrap();
            copy_folder(&copy.path().join(part), &root.join(part));
        }
        world.open_ledger();
        world.calls("acme", 5);
        let collector = world.collector().await;
        let refused = collector.sql("test", &Scope::All, "SELECT 1").await.unwrap_err();
        assert!(refused.to_string().contains("second history"), "{refused}");
        assert_eq!(collector.report()["reach"], json!("refused"));
        let refused = collector.commit().await.unwrap_err();
        assert!(refused.to_string().contains("cannot be followed"), "{refused}");
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

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
