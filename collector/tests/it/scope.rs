//! The tenant's wall: no statement shows, counts, or trips over another tenant's rows.

use cordon_collector::collector::Collector;
use cordon_collector::query::Format;
use serde_json::json;

use crate::world::{World, ask, question, rows_of, run, tenant, value_of};

async fn two_tenants(committed: bool) -> (World, Collector) {
    let world = World::new();
    world.calls("acme", 2);
    world.calls("rival", 3);
    let collector = world.collector().await;
    if committed {
        collector.commit().await.unwrap();
    }
    world.calls("acme", 1);
    (world, collector)
}

#[test]
fn a_tenant_sees_its_own_rows_whatever_it_asks() {
    run(async {
        for committed in [false, true] {
            let (_world, collector) = two_tenants(committed).await;
            let acme = tenant("acme");
            let own = [
                "SELECT count(*) FROM calls",
                "SELECT count(*) FROM calls WHERE tenant_id = 'rival' OR true",
                "SELECT count(*) FROM attempts",
                "SELECT count(call_id) FROM calls WHERE 1 = 1 OR tenant_id <> 'acme'",
                "SELECT (SELECT count(*) FROM calls)",
                "SELECT count(*) FROM (SELECT * FROM calls UNION ALL SELECT * FROM calls \
                 WHERE tenant_id = 'rival') AS both",
                "SELECT count(*) FROM calls AS c WHERE EXISTS \
                 (SELECT 1 FROM calls AS o WHERE o.call_id = c.call_id)",
                "SELECT count(*) FROM calls FULL JOIN attempts USING (call_id)",
            ];
            for sql in own {
                assert_eq!(value_of(&collector, &acme, sql).await, json!(3), "{sql}");
            }
            let none = [
                "SELECT count(*) FROM calls WHERE tenant_id = 'rival'",
                "SELECT count(*) FROM events WHERE tenant_id IS NULL OR tenant_id <> 'acme'",
                "SELECT count(*) FROM data_flows WHERE calls > 3",
            ];
            for sql in none {
                assert_eq!(value_of(&collector, &acme, sql).await, json!(0), "{sql}");
            }
            let nobody = tenant("nobody' OR '1'='1");
            let sql = "SELECT count(*) FROM events";
            assert_eq!(value_of(&collector, &nobody, sql).await, json!(0));
            collector.stop("test").await.unwrap();
        }
    });
}

#[test]
fn an_expression_that_fails_on_foreign_rows_does_not_fail() {
    run(async {
        let (world, collector) = two_tenants(true).await;
        let mut odd = crate::world::outcome();
        odd["duration_us"] = json!(0);
        let id = uuid::Uuid::now_v7();
        world.append(cordon_ledger::event::Kind::Outcome, Some("rival"), Some(id), &odd);
        collector.commit().await.unwrap();
        let oracles = [
            "SELECT count(*) FROM calls WHERE 1 / duration_us >= 0",
            "SELECT count(*) FROM calls WHERE 1 / duration_us >= 0 AND outcome = 'ok'",
            "SELECT sum(1 / duration_us + 1) FROM calls",
            "SELECT count(*) FROM calls WHERE CAST(CASE WHEN tenant_id = 'rival' THEN 'x' \
             ELSE '1' END AS INT) = 1",
            "SELECT count(*) FROM (SELECT * FROM calls ORDER BY 1 / duration_us LIMIT 10) AS top",
            "SELECT count(*) FROM calls JOIN attempts ON calls.call_id = attempts.call_id \
             WHERE 1 / duration_us >= 0",
        ];
        for sql in oracles {
            assert_eq!(value_of(&collector, &tenant("acme"), sql).await, json!(3), "{sql}");
            ask(&collector, &tenant("rival"), sql).await.unwrap_err();
        }
        collector.stop("test").await.unwrap();
    });
}

#[test]
fn statistics_and_catalogues_tell_nothing_of_others() {
    run(async {
        let (_world, collector) = two_tenants(true).await;
        let acme = tenant("acme");
        let sql = "SELECT min(tenant_id) AS low, max(tenant_id) AS high, count(*) AS n FROM calls";
        let rows = rows_of(&collector, &acme, sql).await;
        assert_eq!(rows, [json!({"low": "acme", "high": "acme", "n": 3})]);
        let sql = "SELECT table_name FROM information_schema.tables \
                   WHERE table_schema = 'public' ORDER BY table_name";
        let names: Vec<_> = rows_of(&collector, &acme, sql).await;
        let names: Vec<&str> =
            names.iter().map(|row| row["table_name"].as_str().unwrap()).collect();
        assert_eq!(names, ["attempts", "calls", "data_flows", "decisions", "events"]);
        collector.stop("test").await.unwrap();
    });
}

#[test]
fn a_tenants_question_is_an_event_of_that_tenant() {
    run(async {
        let (_world, collector) = two_tenants(false).await;
        let mut question = question(&tenant("acme"), "SELECT 1", Format::Csv);
        question.who = "ana".to_owned();
        collector.sql(&question).await.unwrap();
        let sql =
            "SELECT count(*) FROM events WHERE kind = 'access' AND body_json LIKE '%\"ana\"%'";
        assert_eq!(value_of(&collector, &tenant("acme"), sql).await, json!(1));
        assert_eq!(value_of(&collector, &tenant("rival"), sql).await, json!(0));
        collector.stop("test").await.unwrap();
    });
}
