//! Values that have the right form and are wrong all the same: limits at which nothing works, and
//! settings that contradict each other.

use crate::config::settings::{LedgerMode, Settings};

/// A value that is wrong, and what to do.
pub(super) struct Wrong {
    pub(super) setting: &'static str,
    pub(super) problem: &'static str,
}

const NOT_ZERO: &str = "use more than 0: with it nothing is served";

/// Everything that is wrong.
pub(super) fn wrong(settings: &Settings) -> Vec<Wrong> {
    let checks = listeners(settings).into_iter().chain(ledger(settings)).chain(policy(settings));
    let wrong = checks.filter(|(wrong, _, _)| *wrong);
    let wrong = wrong.map(|(_, setting, problem)| Wrong { setting, problem });
    let nothing = zeros(settings).into_iter().filter(|(_, value)| *value == 0);
    wrong.chain(nothing.map(|(setting, _)| Wrong { setting, problem: NOT_ZERO })).collect()
}

/// Limits that serve nobody where they are zero; the others may be (no grace, no pool, no memo).
pub(super) fn zeros(settings: &Settings) -> Vec<(&'static str, u128)> {
    let (limits, local) = (&settings.listeners.limits, &settings.local);
    let (policy, identity) = (&settings.policy, &settings.identity);
    vec![
        ("listeners.limits.connections_max", limits.connections_max.into()),
        ("listeners.limits.calls_in_flight_max", limits.calls_in_flight_max.into()),
        ("listeners.limits.head_bytes_max", limits.head_bytes_max.0.into()),
        ("listeners.limits.body_bytes_max", limits.body_bytes_max.0.into()),
        ("listeners.limits.head_deadline", limits.head_deadline.0.as_nanos()),
        ("listeners.limits.body_deadline", limits.body_deadline.0.as_nanos()),
        ("listeners.limits.idle_deadline", limits.idle_deadline.0.as_nanos()),
        ("listeners.limits.write_stall_deadline", limits.write_stall_deadline.0.as_nanos()),
        ("listeners.limits.audit_deadline", limits.audit_deadline.0.as_nanos()),
        ("local.context_tokens_max", local.context_tokens_max as u128),
        ("local.threads", local.threads as u128),
        ("local.wait_max", local.wait_max.0.as_nanos()),
        ("providers.answer_bytes_max", settings.providers.answer_bytes_max.0.into()),
        ("policy.deadline", policy.deadline.0.as_nanos()),
        ("policy.threads", policy.threads as u128),
        ("policy.queue_max", policy.queue_max as u128),
        ("identity.calls_at_once_max", identity.calls_at_once_max.into()),
        ("identity.refused_per_second_max", identity.refused_per_second_max.into()),
    ]
}

fn listeners(settings: &Settings) -> [(bool, &'static str, &'static str); 2] {
    let (listeners, limits) = (&settings.listeners, &settings.listeners.limits);
    let together = limits.body_bytes_max.0.saturating_add(settings.providers.answer_bytes_max.0);
    [
        (
            listeners.ai == listeners.admin && listeners.ai.port() != 0,
            "listeners.admin",
            "calls and administration need an address each: choose another port",
        ),
        (
            limits.buffered_bytes_max.0 < together,
            "listeners.limits.buffered_bytes_max",
            "one call must fit: use at least `listeners.limits.body_bytes_max` and \
             `providers.answer_bytes_max` together",
        ),
    ]
}

fn ledger(settings: &Settings) -> [(bool, &'static str, &'static str); 4] {
    let ledger = &settings.ledger;
    [
        (
            ledger.mode == LedgerMode::BestEffort,
            "ledger.mode",
            "`best_effort` is not built yet: use `required` or `required_full`",
        ),
        (ledger.segment_bytes.0 < 1 << 20, "ledger.segment_bytes", "use at least `1MiB`"),
        (ledger.segment_bytes.0 > 256 << 20, "ledger.segment_bytes", "use at most `256MiB`"),
        (
            ledger.bytes_max.0 < ledger.segment_bytes.0.saturating_mul(2),
            "ledger.bytes_max",
            "two segments must fit: use at least twice `ledger.segment_bytes`",
        ),
    ]
}

fn policy(settings: &Settings) -> [(bool, &'static str, &'static str); 1] {
    let none = settings.policy.packs.is_empty();
    [(none, "policy.packs", "name at least one pack, like `org`")]
}
