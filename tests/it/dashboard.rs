//! Every expression of every dashboard returns data from a real Prometheus that scrapes Cordon.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};

use cordon_system::{
    client::{self, Request},
    upstream::Upstream,
    world::{EUROPEAN, World, free_port},
};
use serde_json::Value;

struct Prometheus(Child);

impl Drop for Prometheus {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Every `expr` of the shipped dashboards, with Grafana's variables filled in.
fn expressions() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dashboards/grafana");
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let dashboard: Value =
            serde_json::from_str(&fs::read_to_string(entry.unwrap().path()).unwrap()).unwrap();
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let expression = target["expr"].as_str().unwrap();
                found.insert(
                    expression
                        .replace("$__rate_interval", "30s")
                        .replace("$job", ".+")
                        .replace("$instance", ".+"),
                );
            }
        }
    }
    assert!(found.len() > 15);
    found
}

/// Whether somebody who has installed Prometheus asks for this test.
fn is_required() -> bool {
    std::env::var_os("CORDON_REQUIRE_PROMETHEUS").is_some_and(|value| !value.is_empty())
}

#[test]
fn every_dashboard_expression_returns_data() {
    if Command::new("prometheus").arg("--version").output().is_err() {
        assert!(!is_required(), "prometheus is not installed");
        println!("skipped: prometheus is not installed");
        return;
    }
    let upstream = Upstream::start();
    let world = World::builder().upstream("first", &upstream, EUROPEAN).start();
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let config = format!(
        "global:\n  scrape_interval: 1s\nscrape_configs:\n  - job_name: cordon\n    \
         static_configs:\n      - targets: [\"{}\"]\n",
        world.admin()
    );
    fs::write(folder.path().join("p.yml"), config).unwrap();
    let _prometheus = Prometheus(
        Command::new("prometheus")
            .arg(format!("--config.file={}", folder.path().join("p.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("tsdb").display()))
            .arg(format!("--web.listen-address={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let mut missing = expressions();
    // Each call names other regions, so that each asks the policy anew and evaluations go on.
    let regions = ["DE", "FR", "IT", "ES", "NL", "SE", "PL", "AT", "BE", "CZ", "DK", "EE", "FI"];
    let mut asked = 0;
    world.wait_until("every expression returns data", |world| {
        let (one, other) = (regions[asked % 13], regions[asked / 13 % 13]);
        asked += 1;
        let named = format!("{one}, {other}");
        world.send(&world.question("hello", false).with("x-cordon-subject-regions", &named));
        world.ask("CUI//SP-CTI//NOFORN: summarise");
        missing.retain(|expression| !has_data(port, expression));
        if !missing.is_empty() {
            eprintln!("still without data: {missing:?}");
        }
        missing.is_empty()
    });
}

fn has_data(port: std::net::SocketAddr, expression: &str) -> bool {
    let query: String = expression.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let request = Request::get(&format!("/api/v1/query?query={query}"), "");
    let Ok(reply) = client::send(port, &request) else { return false };
    let results = reply.json()["data"]["result"].as_array().cloned().unwrap_or_default();
    results.iter().any(|result| result["value"][1].as_str().is_some_and(|value| value != "NaN"))
}
