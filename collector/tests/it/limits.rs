//! Every limit: what lies beyond it is an error that says so, never a part of the truth.

use std::sync::Arc;
use std::time::Duration;

use cordon_collector::collector::{Collector, Onlooker, SqlError};
use cordon_collector::query::{Format, QueryError, Scope};
use cordon_collector::schema::Table;
use cordon_collector::table::{NoWatch, Step, Watch};
use serde_json::json;

use crate::world::{World, ask, limits, question, run, tenant, value, value_of};

/// Computes for hours and gives nothing out.
const SLOW: &str = "SELECT count(*) FROM generate_series(1, 1000000) AS a \
                    CROSS JOIN generate_series(1, 1000000) AS b WHERE a.value * b.value = 7";

async fn refusal(collector: &Collector, sql: &str) -> QueryError {
    crate::world::refusal(collector, &question(&Scope::All, sql, Format::Json)).await
}

#[test]
fn a_longer_answer_is_an_error_and_never_cut() {
    run(async {
        let world = World::new();
        world.calls("acme", 3);
        let mut limits = limits();
        limits.rows_max = 3;
        let collector = world.collector_with(limits, Arc::new(NoWatch)).await;
        let answer = ask(&collector, &Scope::All, "SELECT * FROM calls").await;
        assert_eq!(answer.unwrap().rows, 3);
        world.calls("acme", 1);
        let error = refusal(&collector, "SELECT * FROM calls").await;
        assert_eq!(error.code(), "ANSWER_TOO_LARGE");
        assert!(error.to_string().contains("more than 3 rows"), "{error}");
        assert_eq!(value(&collector, "SELECT count(*) FROM calls").await, json!(4));
        collector.stop("test").await.unwrap();
    });
}

#[test]
fn an_answers_own_bytes_count_and_no_slice_twice() {
    run(async {
        let world = World::new();
        let mut limits = limits();
        limits.answer_bytes_max = 3 << 20;
        let collector = world.collector_with(limits, Arc::new(NoWatch)).await;
        // Under 2 MiB in all, given out in slices of one batch.
        let grouped = "SELECT value AS v, count(*) AS n FROM generate_series(1, 50000) GROUP BY v";
        assert_eq!(ask(&collector, &Scope::All, grouped).await.unwrap().rows, 50_000);
        let named = "SELECT value AS a_name_that_makes_the_text_of_each_row_long_and_longer_still \
                     FROM generate_series(1, 50000)";
        let error = refusal(&collector, named).await;
        assert_eq!(error.code(), "ANSWER_TOO_LARGE", "as text it is");
        collector.stop("test").await.unwrap();
    });
}

#[test]
fn one_long_cell_does_not_make_every_line_of_a_table_long() {
    run(async {
        let world = World::new();
        let collector = world.collector().await;
        let long = "x".repeat(20_000);
        let sql = format!(
            "SELECT CASE WHEN value = 1 THEN '{long}' ELSE 'x' END AS a, 'y' AS b \
             FROM generate_series(1, 20000)"
        );
        let table = collector.sql(&question(&Scope::All, &sql, Format::Table)).await.unwrap();
        assert!(table.text.contains(&format!("\n{long}  y\n")), "the cell itself is whole");
        assert!(table.text.len() < 3 << 20, "{} bytes", table.text.len());
        collector.stop("test").await.unwrap();
    });
}

#[test]
fn two_columns_of_one_name_are_no_json() {
    run(async {
        let world = World::new();
        world.calls("acme", 1);
        let collector = world.collector().await;
        let sql = "SELECT * FROM calls JOIN attempts USING (call_id)";
        let error = refusal(&collector, sql).await;
        assert_eq!(error.code(), "INVALID_SQL");
        assert!(error.to_string().contains("two columns are called `seq`"), "{error}");
        let csv = collector.sql(&question(&Scope::All, sql, Format::Csv)).await.unwrap();
        assert_eq!(csv.rows, 1);
        collector.stop("test").await.unwrap();
    });
}

#[test]
fn a_statement_ends_at_its_deadline_and_gives_its_place_back() {
    run(async {
        let world = World::new();
        let mut limits = limits();
        limits.deadline = Duration::from_secs(2);
        limits.statements_per_tenant = 1;
        let collector = world.collector_with(limits, Arc::new(NoWatch)).await;
        assert_eq!(refusal(&collector, SLOW).await.code(), "DEADLINE");
        // It waits for the place of the one before, which must have ended and not only be late.
        assert_eq!(value(&collector, "SELECT 1").await, json!(1));
        collector.stop("test").await.unwrap();
    });
}

#[test]
fn a_statement_whose_asker_has_left_ends_and_is_on_record() {
    run(async {
        let world = World::new();
        let mut limits = limits();
        limits.statements_per_tenant = 1;
        let collector = world.collector_with(limits, Arc::new(NoWatch)).await;
        let acme = tenant("acme");
        // It has begun to run when the other, which is answered at once, has its answer.
        let slow = question(&acme, SLOW, Format::Json);
        let left = async { drop(ask(&collector, &Scope::All, "SELECT 1").await) };
        let refused = collector.sql_unless(&slow, left).await;
        assert!(matches!(refused, Err(SqlError::Query(QueryError::Left))));
        assert_eq!(value_of(&collector, &acme, "SELECT 1").await, json!(1));
        let sql = "SELECT count(*) FROM events WHERE kind = 'access' AND tenant_id = 'acme' AND \
                   body_json->'body'->>'outcome' = 'LEFT'";
        assert_eq!(value(&collector, sql).await, json!(1));
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
fn without_a_collector_nobody_is_told_to_wait() {
    run(async {
        let world = World::new();
        world.calls("acme", 60);
        let mut limits = limits();
        (limits.tail_bytes_max, limits.chunk_bytes_max) = (4 << 10, 4 << 10);
        let (onlooker, _notes) = Onlooker::look(&world.folder(), limits).await.unwrap();
        let count = question(&Scope::All, "SELECT count(*) FROM calls", Format::Json);
        let Err(SqlError::Query(error)) = onlooker.sql(&count, None).await else {
            panic!("a part was given for the whole")
        };
        assert_eq!(error.code(), "AUDIT_BEHIND");
        assert!(error.to_string().contains("cordon-collector run"), "{error}");
    });
}

#[test]
fn a_tenant_with_slow_statements_holds_up_no_other() {
    run(async {
        let world = World::new();
        let mut limits = limits();
        limits.deadline = Duration::from_secs(2);
        let collector = Arc::new(world.collector_with(limits, Arc::new(NoWatch)).await);
        let ask_as = |who: &'static str, sql: &'static str| {
            let collector = Arc::clone(&collector);
            tokio::spawn(async move { ask(&collector, &tenant(who), sql).await.map(|a| a.rows) })
        };
        let running = [ask_as("acme", SLOW), ask_as("acme", SLOW)];
        let other = ask_as("rival", "SELECT 1").await.unwrap();
        assert_eq!(other.unwrap(), 1);
        for slow in running {
            assert!(slow.await.unwrap().is_err());
        }
        Arc::into_inner(collector).unwrap().stop("test").await.unwrap();
    });
}
