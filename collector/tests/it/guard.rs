//! What is refused, and that what only reads is right.

use cordon_collector::query::{Format, Scope};
use serde_json::json;

use crate::world::{World, question, refusal, rows, run, tenant, value};

const REFUSED: &str = include_str!("../cases/refused.txt");

#[test]
fn a_statement_that_does_more_than_read_is_refused() {
    run(async {
        let world = World::new();
        world.calls("acme", 1);
        let collector = world.collector().await;
        let statements = REFUSED.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        for sql in statements {
            for scope in [Scope::All, tenant("acme")] {
                let error = refusal(&collector, &question(&scope, sql, Format::Csv)).await;
                assert!(["READ_ONLY", "INVALID_SQL"].contains(&error.code()), "{sql}: {error}");
            }
        }
        assert!(!std::path::Path::new("/tmp/cordon-out.csv").try_exists().unwrap());
        let sql = "SELECT count(*) FROM events WHERE kind = 'access' AND \
                   body_json LIKE '%\"outcome\":\"READ_ONLY\"%'";
        assert!(value(&collector, sql).await.as_i64().unwrap() > 20, "refusals are recorded too");
        assert_eq!(value(&collector, "SELECT count(*) FROM calls").await, json!(1));
        collector.stop("test").await.unwrap();
    });
}

#[test]
fn a_column_that_grows_without_end_is_refused_before_it_is_planned() {
    run(async {
        let world = World::new();
        let collector = world.collector().await;
        let doubled = |steps: usize| {
            let step = |n: usize| format!("a{n} AS (SELECT x + x AS x FROM a{})", n - 1);
            let steps: Vec<String> = (1..=steps).map(step).collect();
            let last = steps.len();
            format!(
                "WITH a0 AS (SELECT seq AS x FROM calls), {} SELECT 1 FROM a{last} WHERE x > 1",
                steps.join(", ")
            )
        };
        let endless = question(&Scope::All, &doubled(40), Format::Csv);
        let error = refusal(&collector, &endless).await;
        assert_eq!(error.code(), "READ_ONLY");
        assert!(error.to_string().contains("too many terms"), "{error}");
        assert_eq!(rows(&collector, &doubled(4)).await.len(), 0);
        for amplifier in ["repeat('x', 2147483647)", "lpad('x', 2147483647, 'y')", "range(1, 9)"] {
            let sql = format!("SELECT {amplifier}");
            let error = refusal(&collector, &question(&Scope::All, &sql, Format::Csv)).await;
            assert_eq!(error.code(), "INVALID_SQL", "{sql}");
        }
        collector.stop("test").await.unwrap();
    });
}

#[test]
fn ordinary_sql_has_the_right_answers() {
    run(async {
        let world = World::new();
        world.calls("acme", 2);
        let collector = world.collector().await;
        collector.commit().await.unwrap();
        world.calls("rival", 3);
        let cases = [
            ("SELECT (SELECT max(calls.seq) FROM calls) = max(seq) AS x FROM calls", json!(true)),
            (
                "SELECT (SELECT count(*) FROM attempts WHERE attempts.call_id = calls.call_id) AS x \
              FROM calls ORDER BY seq LIMIT 1",
                json!(1),
            ),
            ("SELECT count(*) FROM calls WHERE ts > '2026-11-22' AND ts < '2026-11-23'", json!(5)),
            ("SELECT count(*) FROM calls WHERE call_date = '2026-11-22'", json!(5)),
            ("SELECT count(*) FROM calls WHERE array_has(policy_ids, 'GDPR-V-46-SCC')", json!(5)),
            ("SELECT sum(cost_usd) FROM calls", json!(0.000_001)),
            ("SELECT encode(request_digest, 'hex') FROM calls LIMIT 1", json!("00ff")),
            (
                "SELECT date_trunc('hour', ts) FROM calls LIMIT 1",
                json!("2026-11-22T19:00:00.000000Z"),
            ),
            (
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3) \
              SELECT sum(i) FROM n",
                json!(6),
            ),
            (
                "SELECT string_agg(DISTINCT tenant_id, ',' ORDER BY tenant_id) FROM calls",
                json!("acme,rival"),
            ),
        ];
        for (sql, expected) in cases {
            assert_eq!(value(&collector, sql).await, expected, "{sql}");
        }
        let grouped = rows(
            &collector,
            "SELECT tenant_id, count(*) AS n FROM calls GROUP BY \
                                        tenant_id ORDER BY n DESC",
        )
        .await;
        assert_eq!(
            grouped,
            [json!({"tenant_id": "rival", "n": 3}), json!({"tenant_id": "acme", "n": 2})]
        );
        collector.stop("test").await.unwrap();
    });
}
