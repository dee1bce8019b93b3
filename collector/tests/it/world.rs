//! A data folder with a gateway's stream in it, and collectors to start on it.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use cordon_collector::collector::{Collector, SqlError};
use cordon_collector::config::{DataFolder, Limits};
use cordon_collector::query::{Answer, Format, QueryError, Question, Scope};
use cordon_collector::table::{NoWatch, Watch};
use cordon_ledger::append::{HEAD_EVERY, Ledger, Options};
use cordon_ledger::disk::RealDisk;
use cordon_ledger::event::{Draft, Kind, Writer};
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

/// The configuration's digest in every event.
pub(crate) const CONFIG: &str = "aa11bb22cc33dd44ee55ff660011223344556677889900aabbccddeeff001122";

pub(crate) struct World {
    folder: TempDir,
    ledger: Option<Ledger>,
}

impl World {
    /// A folder whose gateway stream holds nothing yet.
    pub(crate) fn new() -> Self {
        let mut world = Self { folder: TempDir::new().unwrap(), ledger: None };
        world.open_ledger();
        world
    }

    pub(crate) fn folder(&self) -> DataFolder {
        DataFolder::new(self.folder.path())
    }

    pub(crate) fn open_ledger(&mut self) {
        let folder = self.folder();
        let options = Options {
            stream_dir_parent: folder.ledger(),
            heads_dir: folder.heads(),
            signing_key: folder.signing_key(),
            bytes_max: 1 << 30,
            segment_bytes: 1 << 20,
            head_every: HEAD_EVERY,
            writer: Writer::Gateway,
            gateway_version: "0.1.0".to_owned(),
            config_digest: Some(CONFIG.to_owned()),
            observer: None,
        };
        self.ledger = Some(Ledger::open(options, Arc::new(RealDisk)).unwrap().0);
    }

    pub(crate) fn close_ledger(&mut self) {
        self.ledger.take().unwrap().close().unwrap();
    }

    /// Appends one event and waits until it is durable; gives its seq.
    pub(crate) fn append(
        &self,
        kind: Kind,
        tenant: Option<&str>,
        call: Option<Uuid>,
        body: &Value,
    ) -> u64 {
        self.append_lazily(kind, tenant, call, body).wait_durable().unwrap().seq
    }

    pub(crate) fn append_lazily(
        &self,
        kind: Kind,
        tenant: Option<&str>,
        call: Option<Uuid>,
        body: &Value,
    ) -> cordon_ledger::append::Receipt {
        let body = cordon_ledger::canon::canonical(body).unwrap();
        let tenant = tenant.map(Arc::from);
        let draft = Draft { kind, tenant, call_id: call, body, decision: None };
        self.ledger.as_ref().unwrap().append(draft).unwrap()
    }

    /// `count` calls of `tenant`, each with one attempt; the last of them is durable.
    pub(crate) fn calls(&self, tenant: &str, count: usize) -> Vec<Uuid> {
        let ids: Vec<Uuid> = (0..count).map(|_| Uuid::now_v7()).collect();
        let mut last = None;
        for id in &ids {
            self.append_lazily(Kind::Attempt, Some(tenant), Some(*id), &attempt());
            last = Some(self.append_lazily(Kind::Outcome, Some(tenant), Some(*id), &outcome()));
        }
        if let Some(last) = last {
            last.wait_durable().unwrap();
        }
        ids
    }

    pub(crate) async fn collector(&self) -> Collector {
        self.collector_with(limits(), Arc::new(NoWatch)).await
    }

    pub(crate) async fn collector_with(&self, limits: Limits, watch: Arc<dyn Watch>) -> Collector {
        Collector::start(&self.folder(), limits, watch).await.unwrap()
    }
}

/// The usual limits, but commits only when asked for: what is in the tail stays there.
pub(crate) fn limits() -> Limits {
    Limits { commit_every: std::time::Duration::from_secs(3600), ..Limits::default() }
}

pub(crate) fn question(scope: &Scope, sql: &str, format: Format) -> Question {
    Question { who: "test".to_owned(), scope: scope.clone(), sql: sql.to_owned(), format }
}

pub(crate) async fn ask(
    collector: &Collector,
    scope: &Scope,
    sql: &str,
) -> Result<Answer, SqlError> {
    collector.sql(&question(scope, sql, Format::Json)).await
}

/// Why a question has no answer.
pub(crate) async fn refusal(collector: &Collector, question: &Question) -> QueryError {
    match collector.sql(question).await {
        Err(SqlError::Query(error)) => error,
        other => panic!("{}: {other:?}", question.sql),
    }
}

/// All rows of an answer, as JSON gives them.
pub(crate) async fn rows(collector: &Collector, sql: &str) -> Vec<Value> {
    rows_of(collector, &Scope::All, sql).await
}

pub(crate) async fn rows_of(collector: &Collector, scope: &Scope, sql: &str) -> Vec<Value> {
    serde_json::from_str(&ask(collector, scope, sql).await.unwrap().text).unwrap()
}

/// The one value of an answer of one row and one column.
pub(crate) async fn value(collector: &Collector, sql: &str) -> Value {
    value_of(collector, &Scope::All, sql).await
}

pub(crate) async fn value_of(collector: &Collector, scope: &Scope, sql: &str) -> Value {
    let rows = rows_of(collector, scope, sql).await;
    assert_eq!(rows.len(), 1, "{sql}");
    rows[0].as_object().unwrap().values().next().unwrap().clone()
}

pub(crate) fn tenant(name: &str) -> Scope {
    Scope::Tenant(name.to_owned())
}

pub(crate) fn copy_folder(from: &Path, to: &Path) {
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

/// Runs a test on threads with room for deep plans.
pub(crate) fn run<F: Future<Output = ()> + Send + 'static>(test: F) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(16 << 20)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { tokio::spawn(test).await }).unwrap();
}

pub(crate) fn outcome() -> Value {
    json!({
        "ts": "2026-11-22T19:45:12.123456Z", "outcome": "ok", "decision": "allow",
        "operation_name": "chat", "provider_name": "openai", "region": "FR", "http_status": 200,
        "duration_us": 1234, "input_tokens": 10, "output_tokens": "9007199254740993",
        "cost_usd": "0.0000002", "stream": false, "temperature": 0.5,
        "policy_ids": ["GDPR-V-46-SCC"], "pii_types": [], "data_class": "INTERNAL",
        "request_digest": "00ff", "target_id": "sovereign-fr/mistral-large",
        "subject_regions": ["DE", "FR"], "legal_basis": "GDPR-46", "mechanism": "scc-2024-17",
        "decision_digest": "sha256:d1", "attempts": 1, "new_thing": {"a": 1},
        "http_version": "1.1",
    })
}

pub(crate) fn attempt() -> Value {
    json!({
        "attempt": 1, "target_id": "sovereign-fr/mistral-large", "provider_name": "openai",
        "region": "FR", "started_ts": "2026-11-22T19:45:12.200000Z",
        "ended_ts": "2026-11-22T19:45:13.000000Z", "http_status": 200, "error_type": null,
        "input_tokens": 10, "output_tokens": 20, "side": "upstream", "request_bytes": 512,
        "response_bytes": 2048, "ttft_us": 90_000, "legal_basis": "GDPR-46",
        "mechanism": "scc-2024-17", "provider_hq": "FR", "ultimate_parent_hq": "FR",
        "subject_regions": ["DE", "FR"], "pii_types": [], "decision_digest": "sha256:d1",
        "policy_ids": ["GDPR-V-46-SCC"], "policy_titles": ["Standard clauses"],
        "policy_citations": ["GDPR Art. 46"],
    })
}

pub(crate) fn decision(digest: &str, tenant: &str) -> Value {
    json!({
        "digest": digest, "policy_set_version": "2026.11.1", "effect": "allow",
        "facts": {"request": {"tenant": tenant}}, "decision": {"effect": "allow"},
    })
}
