//! Power losses, kills and failing disks at every step: what was promised is kept.

use std::{sync::Arc, time::Duration};

use cordon_ledger::{
    DecisionBody, Event, Kind, Ledger, OpenError, Options,
    disk::simulated::{SimulatedDisk, Trouble},
    verify::Report,
};
use proptest::prelude::*;
use uuid::Uuid;

use crate::support::*;

/// Small, so that a run has several segments.
const SEGMENT_BYTES: u64 = 4096;
/// Calls of one run.
const CALLS: u128 = 7;

/// What a run was promised before the disk failed.
#[derive(Debug, Default)]
struct Promised {
    /// Seq, kind and call of events whose receipt was durable.
    durable: Vec<(u64, Kind, Uuid)>,
    /// Calls whose outcome was handed over, so that it may be on the disk.
    maybe_ended: Vec<Uuid>,
}

/// With a head behind every group, so that heads are lost in all ways as well.
fn small() -> Options {
    Options { head_every: Duration::ZERO, ..options(SEGMENT_BYTES) }
}

fn open_small(disk: &SimulatedDisk) -> Result<Ledger, OpenError> {
    open_with(disk, small()).map(|(ledger, _)| ledger)
}

/// A decision that takes several pages.
fn large_decision() -> DecisionBody {
    let body = format!("{{\"text\":\"{}\"}}", "x".repeat(1200));
    DecisionBody { digest: Arc::from("aa"), body: Arc::from(body.as_bytes()) }
}

/// Calls with intents, attempts and outcomes, until something fails; every third stays open.
fn run(disk: &SimulatedDisk, from: u128) -> Promised {
    let mut promised = Promised::default();
    let Ok(ledger) = open_small(disk) else { return promised };
    for number in from..from + CALLS {
        if call(&ledger, Uuid::from_u128(number + 1), number % 3 > 0, &mut promised).is_none() {
            return promised;
        }
    }
    let stopped = ledger.append(stop()).ok().and_then(|receipt| receipt.wait_durable().ok());
    if let (Some(position), Ok(())) = (stopped, ledger.shutdown()) {
        promised.durable.push((position.seq, Kind::Stop, Uuid::nil()));
    }
    promised
}

fn call(ledger: &Ledger, call_id: Uuid, ends: bool, promised: &mut Promised) -> Option<()> {
    let place = ledger.begin(call_id, &Arc::from("demo")).ok()?;
    let mut first = intent(call_id, 1);
    first.decision = Some(large_decision());
    let seq = ledger.append(first).ok()?.wait_durable().ok()?.seq;
    promised.durable.push((seq, Kind::Intent, call_id));
    let attempted = ledger.append(attempt(call_id, 1)).ok()?;
    if !ends {
        // Forgotten, as a killed process forgets: no outcome, and the call stays listed.
        std::mem::forget(place);
        return Some(());
    }
    promised.maybe_ended.push(call_id);
    let ended = place.close(outcome(call_id));
    let seq = attempted.wait_durable().ok()?.seq;
    promised.durable.push((seq, Kind::Attempt, call_id));
    let seq = ended.wait_durable().ok()?.seq;
    promised.durable.push((seq, Kind::Outcome, call_id));
    Some(())
}

/// Opens what is left, and checks it against what was promised.
fn check(disk: &SimulatedDisk, promised: &Promised) -> Result<(), TestCaseError> {
    let opened = open_with(disk, small());
    let (ledger, recovered) =
        opened.map_err(|error| TestCaseError::fail(format!("does not open: {error}")))?;
    let events = events(disk);
    for (event, seq) in events.iter().zip(1..) {
        prop_assert_eq!(event.seq, seq, "a gap");
    }
    for (seq, kind, call_id) in &promised.durable {
        let found = events.get(usize::try_from(*seq - 1).unwrap());
        let found = found.map(|event: &Event| (event.kind, event.call_id.unwrap_or_default()));
        prop_assert_eq!(found, Some((*kind, *call_id)), "event {} is lost", seq);
    }
    let open: Vec<_> = recovered.open_calls.iter().map(|call| call.call_id).collect();
    for (_, kind, call_id) in &promised.durable {
        let must_be_open = *kind == Kind::Intent && !promised.maybe_ended.contains(call_id);
        prop_assert!(!must_be_open || open.contains(call_id), "call {} is forgotten", call_id);
        prop_assert!(*kind != Kind::Outcome || !open.contains(call_id), "call {}", call_id);
    }
    intact(&verified(disk))?;
    record(&ledger, change(1));
    record(&ledger, stop());
    ledger.shutdown().unwrap();
    intact(&verified(disk))
}

fn intact(report: &Report) -> Result<(), TestCaseError> {
    prop_assert!(report.is_ok(), "faults: {:?}", report.faults);
    Ok(())
}

/// How many operations a run without trouble takes, about.
fn operations() -> u64 {
    let disk = SimulatedDisk::new();
    run(&disk, 0);
    disk.operations()
}

#[test]
fn what_was_durable_survives_a_power_loss_at_every_step() {
    for at in 1..=operations() {
        let disk = SimulatedDisk::new();
        disk.plan(Trouble::PowerLoss { at });
        let promised = run(&disk, 0);
        for seed in 1..=3 {
            let mut choices = Choices(seed * 7_919 + at);
            let after = disk.after_power_loss(&mut |bound| choices.below(bound));
            check(&after, &promised).unwrap_or_else(|error| panic!("at {at}, {seed}: {error}"));
        }
        for all in [0, 1] {
            let after = disk.after_power_loss(&mut |bound| all * (bound - 1));
            check(&after, &promised).unwrap_or_else(|error| panic!("at {at}, all {all}: {error}"));
        }
    }
}

#[test]
fn a_second_power_loss_while_recovering_loses_nothing() {
    for at in (1..=operations()).step_by(7) {
        let disk = SimulatedDisk::new();
        disk.plan(Trouble::PowerLoss { at });
        let promised = run(&disk, 0);
        let mut choices = Choices(at + 1);
        let after = disk.after_power_loss(&mut |bound| choices.below(bound));
        for again in 1..=14 {
            let disk = after.after_kill();
            disk.plan(Trouble::PowerLoss { at: again });
            drop(run(&disk, CALLS));
            let after = disk.after_power_loss(&mut |bound| choices.below(bound));
            let checked = check(&after, &promised);
            checked.unwrap_or_else(|error| panic!("at {at}, then {again}: {error}"));
        }
    }
}

#[test]
fn a_failed_sync_is_not_forgotten_by_a_restart() {
    for at in 1..=operations() {
        let disk = SimulatedDisk::new();
        disk.plan(Trouble::SyncFails { at });
        let promised = run(&disk, 0);

        // Killed and started again: the cache may show what never reached the disk, or no longer.
        for seed in 0..3 {
            let mut choices = Choices(seed * 104_729 + at);
            let mut choose = |bound| if seed == 0 { 0 } else { choices.below(bound) };
            let restarted = disk.after_kill_and_eviction(&mut choose);
            let more = run(&restarted, CALLS);
            let after = restarted.after_power_loss(&mut choose);

            check(&after, &promised).unwrap_or_else(|error| panic!("at {at}, {seed}: {error}"));
            check(&after, &more).unwrap_or_else(|error| panic!("at {at}, {seed}, then: {error}"));
        }
    }
}

#[test]
fn a_full_disk_loses_nothing_that_was_promised() {
    for at in 1..=operations() {
        let disk = SimulatedDisk::new();
        disk.plan(Trouble::NoRoom { at });
        let promised = run(&disk, 0);
        // It is still full at the next start, and then it is not.
        let restarted = disk.after_kill();
        restarted.plan(Trouble::NoRoom { at: at % 7 });
        drop(run(&restarted, CALLS));
        let checked = check(&restarted.after_kill(), &promised);
        checked.unwrap_or_else(|error| panic!("at {at}: {error}"));
    }
}

#[test]
fn a_stop_whose_sync_failed_is_no_reason_to_trust_the_file() {
    let disk = SimulatedDisk::new();
    let (ledger, _) = open(&disk);
    record(&ledger, change(0));
    disk.plan(Trouble::SyncFails { at: 0 });
    let mut stop = stop();
    stop.body = format!("{{\"reason\":\"{}\"}}", "x".repeat(2000)).into_bytes();
    assert!(ledger.append(stop).unwrap().wait_durable().is_err());

    let restarted = disk.after_kill();
    let (ledger, _) = open(&restarted);
    record(&ledger, change(1));
    let after = restarted.after_power_loss(&mut |_| 0);

    assert_eq!(open_with(&after, options(64 * 1024)).err().map(|error| error.to_string()), None);
    assert_eq!(events(&after).len(), 4);
}

#[test]
fn a_failed_write_loses_nothing_that_was_promised() {
    for at in 1..=operations() {
        let disk = SimulatedDisk::new();
        disk.plan(Trouble::WriteFails { at });
        let promised = run(&disk, 0);
        check(&disk.after_kill(), &promised).unwrap_or_else(|error| panic!("at {at}: {error}"));
    }
}

#[test]
fn a_disk_that_lies_about_a_sync_is_found_out() {
    let disk = SimulatedDisk::new();
    let (ledger, _) = open(&disk);
    record(&ledger, change(0));
    disk.plan(Trouble::SyncLies { at: 0 });
    record(&ledger, change(1));
    record(&ledger, change(2));

    // The mark reached the medium and the events did not.
    let mark = stream_path(&ledger).join("durable");
    let told = disk.bytes(&mark).unwrap();
    let after = disk.after_power_loss(&mut |_| 0);
    after.put(&mark, &told);

    let error = open_with(&after, options(16 * 1024)).unwrap_err();
    assert!(matches!(error, OpenError::Lost { found: 2, size: 4, .. }), "{error}");
    assert_eq!(faults(&after), ["missing 3"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn any_power_loss_keeps_what_was_promised(at in 1_u64..320, seed in 1_u64.., first in 0_usize..4) {
        let disk = SimulatedDisk::new();
        disk.plan(Trouble::PowerLoss { at });
        let promised = run(&disk, first as u128 * CALLS);
        let mut choices = Choices(seed);
        let after = disk.after_power_loss(&mut |bound| choices.below(bound));
        check(&after, &promised)?;
    }
}
