//! The gateway's metrics, by the names operators rely on (`cordon_…` and OpenTelemetry's
//! `gen_ai_…`). Every label comes from configuration, the bundle or our own enums; none from a
//! client.

use std::{
    sync::{Arc, RwLock, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};

/// What `cordon_calls_total` counts by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CallLabels {
    pub outcome: &'static str,
    pub route: String,
}

/// What `cordon_decisions_total` counts by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DecisionLabels {
    pub effect: &'static str,
    pub rule: String,
}

/// What `cordon_upstream_attempts_total` counts by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct AttemptLabels {
    pub target: String,
    pub result: &'static str,
}

/// One label with one of our own words.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResultLabel {
    pub result: &'static str,
}

/// The kind of a ledger event.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabel {
    pub kind: &'static str,
}

/// OpenTelemetry's labels of a model operation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OperationLabels {
    pub gen_ai_operation_name: &'static str,
    pub gen_ai_provider_name: String,
    pub gen_ai_request_model: String,
    pub gen_ai_token_type: Option<&'static str>,
    pub error_type: Option<&'static str>,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// Every metric the gateway keeps itself.
#[derive(Debug)]
pub struct Metrics {
    registry: RwLock<Registry>,
    pub calls: Family<CallLabels, Counter>,
    pub decisions: Family<DecisionLabels, Counter>,
    pub decision_duration: Histogram,
    pub memo: Family<ResultLabel, Counter>,
    pub fsync_duration: Histogram,
    pub ledger_events: Family<KindLabel, Counter>,
    pub ledger_poisoned: Gauge,
    pub attempts: Family<AttemptLabels, Counter>,
    pub collector_up: Gauge,
    pub collector_restarts: Counter,
    pub collector_lag: Gauge<f64, AtomicU64>,
    pub refused: Family<ResultLabel, Counter>,
    pub operation_duration: Histograms<OperationLabels>,
    pub token_usage: Histograms<OperationLabels>,
}

/// OpenTelemetry's buckets for durations of operations: 10 ms doubling to 82 s.
fn operation_seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.01, 2.0, 14))
}

/// OpenTelemetry's buckets for token counts: 1 to 4^13.
fn token_counts() -> Histogram {
    Histogram::new(exponential_buckets(1.0, 4.0, 14))
}

impl Metrics {
    /// Makes and registers every metric.
    #[expect(clippy::new_without_default, reason = "it registers: made once, on purpose")]
    pub fn new() -> Self {
        let metrics = Self {
            registry: RwLock::default(),
            calls: Family::default(),
            decisions: Family::default(),
            decision_duration: Histogram::new(exponential_buckets(0.000_025, 2.0, 16)),
            memo: Family::default(),
            fsync_duration: Histogram::new(exponential_buckets(0.000_1, 2.0, 16)),
            ledger_events: Family::default(),
            ledger_poisoned: Gauge::default(),
            attempts: Family::default(),
            collector_up: Gauge::default(),
            collector_restarts: Counter::default(),
            collector_lag: Gauge::default(),
            refused: Family::default(),
            operation_duration: Family::new_with_constructor(operation_seconds),
            token_usage: Family::new_with_constructor(token_counts),
        };
        metrics.register();
        metrics
    }

    fn register(&self) {
        let mut registry = self.registry.write().expect("no writer of the registry panics");
        let registry = &mut *registry;
        registry.register("cordon_calls", "Calls by outcome and route", self.calls.clone());
        registry.register(
            "cordon_decisions",
            "Decisions applied to calls, by effect and first rule",
            self.decisions.clone(),
        );
        registry.register_with_unit(
            "cordon_decision_duration",
            "Time one evaluation of the policy took",
            Unit::Seconds,
            self.decision_duration.clone(),
        );
        registry.register(
            "cordon_decision_memo",
            "Decisions remembered (hit) or evaluated (miss)",
            self.memo.clone(),
        );
        registry.register_with_unit(
            "cordon_ledger_fsync_duration",
            "Time one fdatasync of the ledger took",
            Unit::Seconds,
            self.fsync_duration.clone(),
        );
        registry.register(
            "cordon_ledger_events",
            "Events appended to the ledger",
            self.ledger_events.clone(),
        );
        registry.register(
            "cordon_ledger_poisoned",
            "1 when the ledger failed to write and audited traffic is refused",
            self.ledger_poisoned.clone(),
        );
        registry.register(
            "cordon_upstream_attempts",
            "Attempts by target and result",
            self.attempts.clone(),
        );
        registry.register(
            "cordon_refused_requests",
            "Requests that never became a call",
            self.refused.clone(),
        );
        self.register_collector(registry);
        self.register_gen_ai(registry);
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("cordon_build", "The running build", build);
    }

    /// Names the active bundle, once it has passed its self-test.
    pub fn bundle(&self, revision: &str) {
        let mut registry = self.registry.write().expect("no writer of the registry panics");
        let bundle = Info::new(vec![("revision", revision.to_owned())]);
        registry.register("cordon_policy_bundle", "The active policy bundle", bundle);
    }

    fn register_collector(&self, registry: &mut Registry) {
        registry.register(
            "cordon_collector_up",
            "1 when the collector answers",
            self.collector_up.clone(),
        );
        registry.register(
            "cordon_collector_restarts",
            "Times the collector was started again",
            self.collector_restarts.clone(),
        );
        registry.register_with_unit(
            "cordon_collector_lag",
            "Age of the oldest durable event that the tables do not hold",
            Unit::Seconds,
            self.collector_lag.clone(),
        );
    }

    fn register_gen_ai(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "gen_ai_client_operation_duration",
            "Duration of a model operation",
            Unit::Seconds,
            self.operation_duration.clone(),
        );
        registry.register(
            "gen_ai_client_token_usage",
            "Tokens of a model operation",
            self.token_usage.clone(),
        );
    }

    /// Adds gauges whose values are read when metrics are asked for.
    pub fn watch(&self, name: &'static str, help: &'static str, read: Reading) {
        let mut registry = self.registry.write().expect("no writer of the registry panics");
        registry.register_collector(Box::new(Watched { name, help, read }));
    }

    /// The OpenMetrics text of `GET /metrics`.
    pub fn render(&self) -> String {
        let registry = self.registry.read().expect("no writer of the registry panics");
        let mut text = String::new();
        match encode(&mut text, &registry) {
            Ok(()) => text,
            Err(fault) => format!("# the metrics could not be written: {fault}\n# EOF\n"),
        }
    }

    /// Counts one application of a decision.
    pub fn decided(&self, effect: &'static str, rule: &str) {
        let labels = DecisionLabels { effect, rule: rule.to_owned() };
        self.decisions.get_or_create(&labels).inc();
    }
}

/// Reads the present value of a watched gauge.
#[derive(Clone)]
pub struct Reading(pub Arc<dyn Fn() -> u64 + Send + Sync>);

impl std::fmt::Debug for Reading {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Reading")
    }
}

#[derive(Debug)]
struct Watched {
    name: &'static str,
    help: &'static str,
    read: Reading,
}

impl Collector for Watched {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let value = ConstGauge::new(i64::try_from((self.read.0)()).unwrap_or(i64::MAX));
        let metric = encoder.encode_descriptor(self.name, self.help, None, value.metric_type())?;
        value.encode(metric)
    }
}

impl cordon_ledger::Observer for Metrics {
    fn fsync(&self, took: Duration) {
        self.fsync_duration.observe(took.as_secs_f64());
    }

    fn event(&self, kind: cordon_ledger::Kind) {
        self.ledger_events.get_or_create(&KindLabel { kind: kind.name() }).inc();
    }

    fn poisoned(&self, reason: &str) {
        self.ledger_poisoned.set(1);
        tracing::error!(
            "the ledger failed: {reason}; no call is taken until it is repaired and restarted"
        );
    }
}

impl crate::policy::memo::Observer for Metrics {
    fn hit(&self) {
        self.memo.get_or_create(&ResultLabel { result: "hit" }).inc();
    }

    fn missed(&self) {
        self.memo.get_or_create(&ResultLabel { result: "miss" }).inc();
    }

    fn joined(&self) {
        self.memo.get_or_create(&ResultLabel { result: "joined" }).inc();
    }

    fn evaluated(&self, took: Duration) {
        self.decision_duration.observe(took.as_secs_f64());
    }
}
