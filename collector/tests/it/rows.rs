//! From events to rows: every kind, every form of cell, in the tail and on disk alike.

use cordon_ledger::event::Kind;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::{CONFIG, World, attempt, decision, outcome, rows, run, value};

#[test]
fn an_outcome_becomes_a_call_in_the_tail_and_on_disk() {
    run(async {
        let world = World::new();
        let call = Uuid::now_v7();
        let seq = world.append(Kind::Outcome, Some("acme"), Some(call), &outcome());
        let collector = world.collector().await;
        for place in ["tail", "disk"] {
            let rows = rows(&collector, "SELECT * FROM calls").await;
            assert_eq!(rows.len(), 1, "{place}");
            let row = &rows[0];
            let expected = [
                ("seq", json!(seq)),
                ("ts", json!("2026-11-22T19:45:12.123456Z")),
                ("call_date", json!("2026-11-22")),
                ("tenant_id", json!("acme")),
                ("call_id", json!(call.to_string())),
                ("outcome", json!("ok")),
                ("http_status", json!(200)),
                ("output_tokens", json!(9_007_199_254_740_993_i64)),
                ("cost_usd", json!(0.000_000_2)),
                ("stream", json!(false)),
                ("temperature", json!(0.5)),
                ("policy_ids", json!(["GDPR-V-46-SCC"])),
                ("pii_types", json!([])),
                ("subject_regions", json!(["DE", "FR"])),
                ("request_digest", json!("00ff")),
                ("config_digest", json!(CONFIG)),
                ("gateway_version", json!("0.1.0")),
                ("schema_version", json!(1)),
                ("decision_digest", json!("sha256:d1")),
                ("deny_reason", Value::Null),
                ("leaf_index", json!(seq - 1)),
            ];
            for (name, value) in expected {
                assert_eq!(row[name], value, "{name} {place}");
            }
            let attributes: Value =
                serde_json::from_str(row["attributes_json"].as_str().unwrap()).unwrap();
            assert_eq!(attributes, json!({"http_version": "1.1", "new_thing": {"a": 1}}));
            assert_eq!(row["commit_ts"].is_string(), place == "disk");
            collector.commit().await.unwrap();
        }
        collector.stop("test").await.unwrap();
    });
}

#[test]
fn a_value_that_its_column_cannot_hold_is_kept_among_the_attributes() {
    run(async {
        let world = World::new();
        let body = json!({"outcome": "ok", "http_status": "many", "cost_usd": "free"});
        world.append(Kind::Outcome, Some("acme"), Some(Uuid::now_v7()), &body);
        let collector = world.collector().await;
        let sql = "SELECT attributes_json, http_status, cost_usd, ts = \
                   (SELECT max(ts) FROM events WHERE kind = 'outcome') AS timed FROM calls";
        let rows = rows(&collector, sql).await;
        let kept: Value =
            serde_json::from_str(rows[0]["attributes_json"].as_str().unwrap()).unwrap();
        assert_eq!(kept, json!({"cost_usd": "free", "http_status": "many"}));
        assert_eq!(rows[0]["http_status"], Value::Null);
        assert_eq!(rows[0]["timed"], json!(true), "without its own start the event's time counts");
        collector.stop("test").await.unwrap();
    });
}

#[test]
fn a_body_cannot_claim_another_place_or_tenant() {
    run(async {
        let world = World::new();
        let body = json!({"outcome": "ok", "tenant_id": "victim", "seq": 999, "call_id": "x"});
        let seq = world.append(Kind::Outcome, Some("acme"), Some(Uuid::now_v7()), &body);
        let collector = world.collector().await;
        let rows = rows(&collector, "SELECT tenant_id, seq FROM calls").await;
        assert_eq!(rows, [json!({"tenant_id": "acme", "seq": seq})]);
        collector.stop("test").await.unwrap();
    });
}

#[test]
fn every_kind_becomes_an_event_with_its_own_bytes() {
    run(async {
        let world = World::new();
        let kinds = [
            Kind::Intent,
            Kind::Open,
            Kind::Start,
            Kind::Change,
            Kind::Notify,
            Kind::Erasure,
            Kind::Checkpoint,
            Kind::Trim,
            Kind::Gap,
            Kind::Refused,
        ];
        for kind in kinds {
            world.append(kind, None, None, &json!({"name": kind.name()}));
        }
        let collector = world.collector().await;
        for _place in ["tail", "disk"] {
            for kind in kinds {
                let name = kind.name();
                let sql = format!(
                    "SELECT * FROM events WHERE kind = '{name}' AND \
                                   body_json LIKE '%\"name\"%'"
                );
                let rows = rows(&collector, &sql).await;
                assert_eq!(rows.len(), 1, "{name}");
                let json = rows[0]["body_json"].as_str().unwrap();
                let body: Value = serde_json::from_str(json).unwrap();
                assert_eq!(body["body"], json!({"name": name}));
                let leaf = cordon_ledger::frame::leaf(json.as_bytes());
                assert_eq!(rows[0]["leaf_hash"], json!(hex::encode(leaf)));
                assert_eq!(rows[0]["prev_hash"].as_str().unwrap().len(), 64);
            }
            collector.commit().await.unwrap();
        }
        collector.stop("test").await.unwrap();
    });
}

#[test]
fn attempts_and_data_flows_say_where_data_went() {
    run(async {
        let world = World::new();
        world.calls("acme", 3);
        let mut silent = attempt();
        silent["request_bytes"] = json!(0);
        silent["region"] = json!("US");
        world.append(Kind::Attempt, Some("acme"), Some(Uuid::now_v7()), &silent);
        let collector = world.collector().await;
        let attempts = rows(&collector, "SELECT * FROM attempts WHERE region = 'FR'").await;
        assert_eq!(attempts.len(), 3);
        assert_eq!(attempts[0]["started_ts"], json!("2026-11-22T19:45:12.200000Z"));
        assert_eq!(attempts[0]["tenant_id"], json!("acme"));
        let flows = rows(&collector, "SELECT * FROM data_flows ORDER BY subject_region").await;
        let flow = |region: &str| {
            json!({"day": "2026-11-22", "subject_region": region, "destination_region": "FR",
                   "provider": "openai", "legal_basis": "GDPR-46", "mechanism": "scc-2024-17",
                   "calls": 3})
        };
        assert_eq!(flows, [flow("DE"), flow("FR")]);
        collector.stop("test").await.unwrap();
    });
}

#[test]
fn a_flow_to_a_place_that_nobody_named_leaves_the_country() {
    run(async {
        let world = World::new();
        world.calls("acme", 1);
        let mut nowhere = attempt();
        nowhere["region"] = Value::Null;
        world.append(Kind::Attempt, Some("acme"), Some(Uuid::now_v7()), &nowhere);
        let collector = world.collector().await;
        let sql = "SELECT subject_region, destination_region FROM data_flows \
                   WHERE subject_region <> destination_region ORDER BY 2, 1";
        let flow = |from: &str, to: &str| json!({"subject_region": from, "destination_region": to});
        let expected = [flow("DE", "FR"), flow("DE", "unknown"), flow("FR", "unknown")];
        assert_eq!(rows(&collector, sql).await, expected);
        collector.stop("test").await.unwrap();
    });
}

#[test]
fn a_repeated_decision_has_one_row_also_after_a_restart() {
    run(async {
        let world = World::new();
        for digest in ["sha256:d1", "sha256:d1", "sha256:d2"] {
            world.append(Kind::Decision, None, None, &decision(digest, "acme"));
        }
        let collector = world.collector().await;
        collector.commit().await.unwrap();
        collector.stop("test").await.unwrap();
        world.append(Kind::Decision, None, None, &decision("sha256:d1", "acme"));
        let collector = world.collector().await;
        assert_eq!(value(&collector, "SELECT count(*) FROM decisions").await, json!(2));
        let sql = "SELECT tenant_id, effect, facts_json FROM decisions WHERE digest = 'sha256:d1'";
        let rows = rows(&collector, sql).await;
        assert_eq!(rows[0]["tenant_id"], json!("acme"));
        assert_eq!(rows[0]["facts_json"], json!("{\"request\":{\"tenant\":\"acme\"}}"));
        collector.stop("test").await.unwrap();
    });
}

#[test]
fn a_durable_event_is_seen_at_once_and_an_own_question_soon_after() {
    run(async {
        let world = World::new();
        let collector = world.collector().await;
        for count in 1..=3 {
            world.calls("acme", 1);
            let sql = "SELECT count(*) FROM calls";
            assert_eq!(value(&collector, sql).await, json!(count));
        }
        let sql = "SELECT body_json FROM events WHERE kind = 'access' ORDER BY seq LIMIT 1";
        let access = value(&collector, sql).await;
        let access: Value = serde_json::from_str(access.as_str().unwrap()).unwrap();
        assert_eq!(access["body"]["who"], json!("test"));
        assert_eq!(access["body"]["outcome"], json!("ok"));
        assert_eq!(access["body"]["rows"], json!(1));
        collector.stop("test").await.unwrap();
    });
}

#[test]
fn what_an_event_says_can_be_asked_with_the_operators_of_postgresql() {
    run(async {
        let world = World::new();
        let body = json!({"outcome": "ok", "http_status": 200, "pii_types": ["email", "iban"]});
        world.append(Kind::Outcome, Some("acme"), Some(Uuid::now_v7()), &body);
        let collector = world.collector().await;
        for (expression, expected) in [
            ("body_json->'body'->>'outcome'", json!("ok")),
            ("(body_json->'body'->>'http_status')::bigint + 1", json!(201)),
            ("body_json->'body'->'pii_types'->>1", json!("iban")),
            ("json_get_int(body_json, 'body', 'http_status')", json!(200)),
            ("body_json->'body'->>'absent'", Value::Null),
            ("(body_json->'body'->>'outcome') IN ('ok')", json!(true)),
        ] {
            let sql = format!("SELECT {expression} AS said FROM events WHERE kind = 'outcome'");
            assert_eq!(value(&collector, &sql).await, expected, "{expression}");
        }
        collector.stop("test").await.unwrap();
    });
}
