//! Measurements as lines of JSON, and together as a table in Markdown.

use std::fmt::Write as _;

use serde::Serialize;

use crate::bench::{
    figures::{Spread, mean, ratios},
    handover::HandOver,
    load::Outcome,
    machine::Machine,
    memory::{Memory, STREAMS},
    meter::{Share, Used},
    plan::{CALLS, CLOSED_LOOP, Calls, Subject},
};

/// More of the gateway's core than this taken by others: the number is not ours alone.
const OTHERS_MAX: f64 = 0.05;
/// A fuller core of load and upstream has no time to sleep between two calls, and the gateway none
/// to spend on waking it: another load than the one that is wanted.
const LOAD_CORE_MAX: f64 = 0.85;
/// More than this taken by the machine below.
const STEAL_MAX: f64 = 0.01;
/// With so large a share of doubtful measurements a number is marked itself.
const DOUBTFUL_SHARE_MAX: f64 = 0.5;

/// One measurement.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub round: usize,
    pub subject: Subject,
    pub calls: Calls,
    pub cpu_us: f64,
    /// What the ledger's thread used, per call; part of `cpu_us` where the row counts it.
    pub ledger_us: f64,
    pub completed: u64,
    pub calls_per_s: f64,
    pub p50_us: u64,
    pub p99_us: u64,
    /// Share of the gateway's core.
    pub gateway_share: f64,
    /// Share of the gateway's core that neither it nor nobody used.
    pub others_share: f64,
    pub steal_share: f64,
    /// How busy the core of load and upstream was.
    pub load_core_share: f64,
    /// Why the number is to be doubted.
    pub marks: Vec<&'static str>,
}

/// What was seen while a load ran.
#[derive(Debug, Clone)]
pub struct Seen {
    pub outcome: Outcome,
    pub used: Used,
    pub wall_s: f64,
    pub gateway_core: Share,
    pub load_core: Share,
}

/// What handing events to the ledger took alone, in one round.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Handed {
    pub round: usize,
    pub hand_over: HandOver,
}

// === impl Row ===

impl Row {
    /// One row of what was seen.
    pub fn new(round: usize, subject: Subject, calls: Calls, seen: &Seen) -> Self {
        let gateway_share = seen.used.cpu_ns as f64 / 1e9 / seen.wall_s;
        let others_share = (seen.gateway_core.busy - gateway_share).max(0.0);
        let steal_share = seen.gateway_core.steal.max(seen.load_core.steal);
        let doubts = [
            (others_share > OTHERS_MAX, "others on the core"),
            (steal_share > STEAL_MAX, "steal"),
            (calls.is_paced() && seen.load_core.busy > LOAD_CORE_MAX, "load core full"),
            (seen.used.threads_ended > 0, "threads ended"),
        ];
        let outcome = &seen.outcome;
        let per_call = |ns: u64| ns as f64 / 1e3 / outcome.completed.max(1) as f64;
        let left_out = if subject.counts_the_ledger() { 0 } else { seen.used.ledger_ns };
        Self {
            round,
            subject,
            calls,
            cpu_us: per_call(seen.used.cpu_ns - left_out),
            ledger_us: per_call(seen.used.ledger_ns),
            completed: outcome.completed,
            calls_per_s: outcome.completed as f64 / outcome.seconds,
            p50_us: outcome.p50_us.unwrap_or_default(),
            p99_us: outcome.p99_us.unwrap_or_default(),
            gateway_share,
            others_share,
            steal_share,
            load_core_share: seen.load_core.busy,
            marks: doubts.into_iter().filter(|(doubt, _)| *doubt).map(|(_, mark)| mark).collect(),
        }
    }

    /// How much of the core others took: the less, the better the number.
    pub fn disturbance(&self) -> f64 {
        let marks = if self.marks.is_empty() { 0.0 } else { 1.0 };
        marks + self.others_share + self.steal_share
    }
}

/// The machine, in words.
pub fn preamble(machine: &Machine) -> String {
    format!(
        "{}; {}, {} cores, Linux {}; {}, commit {}; {}; append + `fdatasync` {:.0} µs; \
         load average before {:.2}\n",
        machine.date,
        machine.processor,
        machine.cores,
        machine.kernel,
        machine.cordon,
        machine.commit,
        machine.nginx.as_deref().unwrap_or("no nginx"),
        machine.sync_us,
        machine.load_average,
    )
}

/// The table of all rows.
pub fn table(rows: &[Row], rounds: usize) -> String {
    let mut text = String::from(
        "| calls | gateway | CPU µs per call | × nginx | ledger's thread µs | calls/s | p50 ms \
         | p99 ms | load core % | doubtful |\n|---|---|---|---|---|---|---|---|---|---|\n",
    );
    let mut seen: Vec<(Calls, Subject)> = Vec::new();
    for row in rows {
        if !seen.contains(&(row.calls, row.subject)) {
            seen.push((row.calls, row.subject));
        }
    }
    for calls in CALLS {
        for (_, subject) in seen.iter().filter(|(each, _)| *each == calls) {
            line(&mut text, rows, rounds, (calls, *subject));
        }
    }
    text
}

/// What a call of the closed loop would cost without a ledger, by subtraction: each round's
/// permit-all row, in which the ledger's thread is not counted, less what handing the events over
/// took alone. Empty where either is missing.
pub fn without_a_ledger(rows: &[Row], handed: &[Handed], rounds: usize) -> String {
    let calls = CLOSED_LOOP;
    let of_round = |round| {
        let of = handed.iter().filter(|handed| handed.round == round);
        mean(&of.map(|handed| handed.hand_over.cpu_us).collect::<Vec<_>>())
    };
    let handed: Vec<Option<f64>> = (0..rounds).map(of_round).collect();
    let permit_all = by_round(rows, rounds, (calls, Subject::PermitAll));
    let less: Vec<Option<f64>> =
        permit_all.iter().zip(&handed).map(|(all, handed)| Some((*all)? - (*handed)?)).collect();
    let nginx = by_round(rows, rounds, (calls, Subject::Nginx));
    let known = |values: &[Option<f64>]| values.iter().flatten().copied().collect::<Vec<_>>();
    let Some(left) = Spread::of(&known(&less)) else { return String::new() };
    let doubted = mark([Subject::PermitAll, Subject::Nginx].map(|of| doubts(rows, (calls, of))));
    format!(
        "\n{}: handing the events to the ledger takes {} µs of a call when measured alone; \
         permit-all less that is {} µs or {}{doubted} × nginx.\n",
        calls.title(),
        spread(Spread::of(&known(&handed)), 1),
        spread(Some(left), 1),
        spread(Spread::of(&ratios(&less, &nginx)), 2),
    )
}

/// What each open stream holds in memory.
pub fn memory(seen: &[Memory]) -> String {
    let told = |memory: &Memory| {
        format!(
            "\n{STREAMS} streams of 1 KB open at once, {}: {:.0} KiB for each of them ({} MiB \
             without any).\n",
            memory.subject.title(),
            memory.per_stream_kib(),
            memory.idle_kib / 1024,
        )
    };
    seen.iter().map(told).collect()
}

/// The rows of one kind of call through one gateway.
fn rows_of(rows: &[Row], of: (Calls, Subject)) -> impl Iterator<Item = &Row> {
    rows.iter().filter(move |row| (row.calls, row.subject) == of)
}

/// The CPU per call of each round.
fn by_round(rows: &[Row], rounds: usize, of: (Calls, Subject)) -> Vec<Option<f64>> {
    let cpu = |round| {
        let rows = rows_of(rows, of).filter(|row| row.round == round);
        rows.map(|row| row.cpu_us).collect::<Vec<_>>()
    };
    (0..rounds).map(|round| mean(&cpu(round))).collect()
}

/// How many measurements are doubtful, of how many.
fn doubts(rows: &[Row], of: (Calls, Subject)) -> (usize, usize) {
    let doubtful = rows_of(rows, of).filter(|row| !row.marks.is_empty()).count();
    (doubtful, rows_of(rows, of).count())
}

fn line(text: &mut String, rows: &[Row], rounds: usize, of: (Calls, Subject)) {
    let (calls, subject) = of;
    let own = by_round(rows, rounds, of);
    let cpu = Spread::of(&own.iter().flatten().copied().collect::<Vec<_>>());
    let times = Spread::of(&ratios(&own, &by_round(rows, rounds, (calls, Subject::Nginx))));
    let median = |value: fn(&Row) -> f64| {
        Spread::of(&rows_of(rows, of).map(value).collect::<Vec<_>>()).map_or(0.0, |s| s.median)
    };
    let (doubtful, all) = doubts(rows, of);
    let own_mark = mark([doubts(rows, of)]);
    let ratio_mark = mark([doubts(rows, of), doubts(rows, (calls, Subject::Nginx))]);
    writeln!(
        text,
        "| {} | {} | {}{own_mark} | {}{ratio_mark} | {:.1} | {:.0} | {:.2} | {:.2} | {:.0} \
         | {doubtful} of {all} |",
        calls.title(),
        subject.title(),
        spread(cpu, 1),
        spread(times, 2),
        median(|row| row.ledger_us),
        median(|row| row.calls_per_s),
        median(|row| row.p50_us as f64) / 1e3,
        median(|row| row.p99_us as f64) / 1e3,
        median(|row| row.load_core_share) * 100.0,
    )
    .expect("writing to memory cannot fail");
}

/// What stands behind a number that rests on rows with so many doubtful measurements of so many.
fn mark<const N: usize>(rows: [(usize, usize); N]) -> &'static str {
    let doubted =
        |(doubtful, all): (usize, usize)| doubtful as f64 >= all as f64 * DOUBTFUL_SHARE_MAX;
    if rows.into_iter().any(|row| row.1 > 0 && doubted(row)) { " ?" } else { "" }
}

/// `12.3 (11.9 to 14.0)`.
fn spread(spread: Option<Spread>, digits: usize) -> String {
    spread.map_or_else(
        || "–".to_owned(),
        |Spread { median, min, max }| {
            format!("{median:.digits$} ({min:.digits$} to {max:.digits$})")
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(cpu_ns: u64, busy: f64, steal: f64) -> Seen {
        let outcome = Outcome { completed: 1_000, seconds: 2.0, ..Outcome::default() };
        let used = Used { cpu_ns, ledger_ns: cpu_ns / 4, threads_ended: 0 };
        let load_core = Share { busy: 0.8, steal: 0.0 };
        Seen { outcome, used, wall_s: 2.0, gateway_core: Share { busy, steal }, load_core }
    }

    #[test]
    fn a_row_counts_cpu_per_call_and_marks_what_disturbed_it() {
        let row = |seen| Row::new(0, Subject::Durable, CALL, &seen);
        let good = row(seen(20_000_000, 0.03, 0.0));
        assert!((good.cpu_us - 20.0).abs() < 1e-9 && good.marks.is_empty(), "{good:?}");
        let bare = Row::new(0, Subject::PermitAll, CALL, &seen(20_000_000, 0.03, 0.0));
        assert!((bare.cpu_us - 15.0).abs() < 1e-9 && (bare.ledger_us - 5.0).abs() < 1e-9);
        assert_eq!(row(seen(20_000_000, 0.5, 0.0)).marks, ["others on the core"]);
        assert_eq!(row(seen(20_000_000, 0.0, 0.2)).marks, ["steal"]);
        let full =
            Seen { load_core: Share { busy: 0.9, steal: 0.0 }, ..seen(20_000_000, 0.0, 0.0) };
        assert_eq!(row(full.clone()).marks, ["load core full"]);
        assert!(Row::new(0, Subject::Nginx, CLOSED_LOOP, &full).marks.is_empty(), "a closed loop");
        let disturbance = |steal| row(seen(20_000_000, 0.0, steal)).disturbance();
        assert!(disturbance(0.2) > disturbance(0.1) && disturbance(0.1) > disturbance(0.0));
    }

    const CALL: Calls = CALLS[0];

    #[test]
    fn the_table_has_medians_and_ratios_of_rounds() {
        let row = |round, subject, cpu_ns| Row::new(round, subject, CALL, &seen(cpu_ns, 0.0, 0.0));
        let rows = [
            row(0, Subject::Nginx, 10_000_000),
            row(0, Subject::Durable, 40_000_000),
            row(0, Subject::Durable, 60_000_000),
            row(0, Subject::Nginx, 10_000_000),
            row(1, Subject::Nginx, 20_000_000),
            row(1, Subject::Durable, 60_000_000),
        ];
        let table = table(&rows, 2);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(
            lines[2]
                .starts_with("| 1 KB JSON, 1000/s | nginx | 15.0 (10.0 to 20.0) | 1.00 (1.00 to")
        );
        assert!(
            lines[3].contains("| 55.0 (50.0 to 60.0) | 4.00 (3.00 to 5.00) | 15.0 | 500 |"),
            "{table}"
        );
        assert!(lines[3].ends_with("| 80 | 0 of 3 |"), "{table}");
    }

    #[test]
    fn the_hand_over_is_taken_off_within_a_round() {
        let row =
            |round, subject, cpu_ns| Row::new(round, subject, CLOSED_LOOP, &seen(cpu_ns, 0.0, 0.0));
        let rows = [
            row(0, Subject::Nginx, 10_000_000),
            row(0, Subject::PermitAll, 40_000_000),
            row(1, Subject::Nginx, 20_000_000),
            row(1, Subject::PermitAll, 80_000_000),
        ];
        let hand_over = HandOver { calls: 9, cpu_us: 10.0, ledger_us: 2.0 };
        let handed = [0, 1].map(|round| Handed { round, hand_over });
        let told = without_a_ledger(&rows, &handed, 2);
        // A quarter of the time is the ledger's thread and not in the row.
        let expected = "takes 10.0 (10.0 to 10.0) µs of a call when measured alone; permit-all less \
                        that is 35.0 (20.0 to 50.0) µs or 2.25 (2.00 to 2.50) × nginx.";
        assert!(told.contains(expected), "{told}");
        assert_eq!(without_a_ledger(&rows, &[], 2), "");
    }

    #[test]
    fn a_number_that_rests_on_doubtful_measurements_is_marked() {
        let row = |subject, busy| Row::new(0, subject, CALL, &seen(20_000_000, busy, 0.0));
        let rows = |nginx, durable| {
            [row(Subject::Nginx, nginx), row(Subject::Nginx, 0.0), row(Subject::Durable, durable)]
        };
        let line = |rows: &[Row]| table(rows, 1).lines().nth(3).unwrap().to_owned();
        assert!(line(&rows(0.0, 0.0)).contains("| 20.0 (20.0 to 20.0) | 1.00 (1.00 to 1.00) |"));
        assert!(line(&rows(0.5, 0.0)).contains("| 20.0 (20.0 to 20.0) | 1.00 (1.00 to 1.00) ? |"));
        let own = line(&rows(0.0, 0.5));
        assert!(own.contains("| 20.0 (20.0 to 20.0) ? | 1.00 (1.00 to 1.00) ? |"), "{own}");
        assert!(own.ends_with("| 1 of 1 |"));
    }
}
