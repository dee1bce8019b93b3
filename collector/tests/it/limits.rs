//! Every limit: what lies beyond it is an error that says so, never a part of the truth.

use std::sync::Arc;
use std::time::Duration;

use cordon_collector::collector::{AskError, Collector};
use cordon_collector::query::{QueryError, Scope};
use cordon_collector::schema::Table;
use cordon_collector::table::{NoWatch, Step, Watch};
use serde_json::json;

use crate::world::{World, limits, run, tenant, value};

async fn refusal(collector: &Collector, sql: &str) -> QueryError {
    match collector.sql("test", &Scope::All, sql).await {
        Err(AskError::Query(error)) => error,
        other => panic!("{sql}: {other:?}"),
    }
}

#[test]
fn a_longer_answer_is_an_error_and_never_cut() {
    run(async {
        let world = World::new();
        world.calls("acme", 3);
        let mut limits = limits();
        limits.rows_max = 3;
        let collector = world.collector_with(limits, Arc::new(NoWatch)).await;
        assert_eq!(collector.sql("t", &Scope::All, "SELECT * FROM calls").await.unwrap().rows, 3);
        world.calls("acme", 1);
        let error = refusal(&collector, "SELECT * FROM calls").await;
        assert_eq!(error.code(), "ANSWER_TOO_LARGE");
        assert!(error.to_string().contains("more than 3 rows"), "{error}");
        assert_eq!(value(&collector, "SELECT count(*) FROM calls").await, json!(4));
        collector.stop("test").await.unwrap();
    });
}

#[test]
fn a_statement_ends_at_its_deadline() {
    run(async {
        let world = World::new();
        let mut limits = limits();
        limits.deadline = Duration::from_millis(500);
        let collector = world.collector_with(limits, Arc::new(NoWatch)).await;
        let sql = "SELECT count(*) FROM generate_series(1, 1000000) AS a \
                   CROSS JOIN generate_series(1, 1000000) AS b WHERE a.value * b.value = 7";
        assert_eq!(refusal(&collector, sql).await.code(), "DEADLINE");
        collector.stop("test").await.unwrap();
    });
}

#[test]
fn a_statement_cannot_use_more_memory_than_there_is() {
    run(async {
        let world = World::new();
        let mut limits = limits();
        limits.memory_bytes = 1 << 20;
        let collector = world.collector_with(limits, Arc::new(NoWatch)).await;
        let sql = "SELECT count(*) FROM (SELECT value * 7919 % 3000017 AS v, count(*) FROM \
                   generate_series(1, 3000000) GROUP BY v) AS many";
        assert_eq!(refusal(&collector, sql).await.code(), "MEMORY_LIMIT");
        let long = format!("SELECT '{}'", "x".repeat(70_000));
        assert_eq!(refusal(&collector, &long).await.code(), "STATEMENT_TOO_LONG");
        collector.stop("test").await.unwrap();
    });
}

/// Never lets a commit land.
#[derive(Debug)]
struct NoDisk;

impl Watch for NoDisk {
    fn goes_on(&self, _table: Table, step: Step) -> bool {
        step != Step::Written
    }
}

#[test]
fn beyond_the_tails_limit_the_answer_is_that_we_are_behind() {
    run(async {
        let world = World::new();
        let mut limits = limits();
        limits.tail_bytes_max = 64 << 10;
        limits.commit_bytes = 1 << 30;
        limits.chunk_bytes_max = 4 << 10;
        let collector = world.collector_with(limits.clone(), Arc::new(NoDisk)).await;
        assert_eq!(value(&collector, "SELECT count(*) FROM calls").await, json!(0));
        world.calls("acme", 60);
        let error = refusal(&collector, "SELECT count(*) FROM calls").await;
        assert_eq!(error.code(), "AUDIT_BEHIND");
        assert!(error.to_string().contains("AUDIT_BEHIND"), "{error}");
        assert_eq!(collector.report()["reach"], json!("behind"));
        drop(collector);
        // With a disk that takes commits, the same tail catches up.
        let collector = world.collector_with(limits, Arc::new(NoWatch)).await;
        collector.commit().await.unwrap();
        assert_eq!(value(&collector, "SELECT count(*) FROM calls").await, json!(60));
        collector.stop("test").await.unwrap();
    });
}

#[test]
fn a_tenant_runs_two_statements_at_once_and_others_wait_in_line() {
    run(async {
        let world = World::new();
        let mut limits = limits();
        limits.deadline = Duration::from_millis(1500);
        let collector = Arc::new(world.collector_with(limits, Arc::new(NoWatch)).await);
        let slow = "SELECT count(*) FROM generate_series(1, 1000000) AS a \
                    CROSS JOIN generate_series(1, 1000000) AS b WHERE a.value * b.value = 7";
        let ask = |who: &'static str, sql: &'static str| {
            let collector = Arc::clone(&collector);
            tokio::spawn(async move { collector.sql("t", &tenant(who), sql).await.map(|a| a.rows) })
        };
        let running = [ask("acme", slow), ask("acme", slow)];
        let third = ask("acme", "SELECT 1");
        let other = ask("rival", "SELECT 1").await.unwrap();
        assert_eq!(other.unwrap(), 1, "another tenant is not held up");
        for slow in running {
            assert!(slow.await.unwrap().is_err());
        }
        // The third waited for a place; it got one, or its own deadline came first.
        third.await.unwrap().ok();
        Arc::into_inner(collector).unwrap().stop("test").await.unwrap();
    });
}
