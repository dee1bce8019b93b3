//! Appending: order, receipts, groups, rotation, decisions, many at once.

use std::{
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use cordon_ledger::{
    AppendError, Draft, Kind, Ledger, Observer, RealDisk,
    disk::simulated::{SimulatedDisk, Trouble},
    follow::{self, Follower},
    verify::verify,
};
use uuid::Uuid;

use crate::support::*;

/// Hears why a stream failed.
#[derive(Default)]
struct Witness {
    reasons: Mutex<Vec<String>>,
}

impl Observer for Witness {
    fn fsync(&self, _duration: Duration) {}

    fn event(&self, _kind: Kind) {}

    fn poisoned(&self, reason: &str) {
        self.reasons.lock().unwrap().push(reason.to_owned());
    }
}

#[test]
fn events_stand_in_the_order_in_which_they_were_appended() {
    let disk = SimulatedDisk::new();
    let (ledger, recovered) = open(&disk);
    assert!(recovered.new && recovered.open_calls.is_empty() && recovered.cut.is_none());

    for number in 0..20 {
        ledger.append(change(number)).unwrap();
    }
    record(&ledger, stop());

    let events = events(&disk);
    assert_eq!(
        events.iter().map(|event| event.seq).collect::<Vec<_>>(),
        (1..=22).collect::<Vec<_>>()
    );
    assert_eq!(events[0].kind, Kind::Open);
    for (number, event) in events[1..21].iter().enumerate() {
        assert_eq!(event.body["number"], number);
        assert_eq!(event.stream, recovered.stream);
        assert_eq!(event.gateway_version.as_deref(), Some("0.1.0"));
    }
    assert_eq!(events[21].kind, Kind::Stop);
}

#[test]
fn what_is_queued_while_the_disk_syncs_is_one_group() {
    let disk = SimulatedDisk::new();
    let (gate, keeper) = gate();
    let mut options = options(1024 * 1024);
    options.observer = Some(gate);
    let (ledger, _) = open_with(&disk, options).unwrap();

    ledger.append(change(0)).unwrap();
    keeper.synced.recv_timeout(PATIENCE).unwrap();
    let receipts: Vec<_> = (1..=300).map(|n| ledger.append(change(n)).unwrap()).collect();
    let before = disk.operations();
    keeper.go_on.send(()).unwrap();
    keeper.synced.recv_timeout(PATIENCE).unwrap();

    // The mark of the first group, then one write and one sync for the next 256.
    assert_eq!(disk.operations() - before, 3);
    keeper.go_on.send(()).unwrap();
    assert_eq!(receipts[255].wait_durable().unwrap().seq, 258);
    keeper.synced.recv_timeout(PATIENCE).unwrap();
    drop(keeper);
    assert_eq!(receipts[299].wait_durable().unwrap().seq, 302);
    ledger.shutdown().unwrap();
    assert!(verified(&disk).is_ok());
}

#[test]
fn a_receipt_is_written_before_it_is_durable() {
    let disk = SimulatedDisk::new();
    let (gate, keeper) = gate();
    let mut options = options(16 * 1024);
    options.observer = Some(gate);
    let (ledger, _) = open_with(&disk, options).unwrap();

    let receipt = ledger.append(change(0)).unwrap();
    keeper.synced.recv_timeout(PATIENCE).unwrap();

    assert_eq!(receipt.wait_written().unwrap().seq, 2);
    assert!(format!("{receipt:?}").contains("durable: None"));
    keeper.go_on.send(()).unwrap();
    assert_eq!(receipt.wait_durable().unwrap().seq, 2);
}

#[tokio::test]
async fn receipts_can_be_awaited_by_any_executor() {
    let disk = SimulatedDisk::new();
    let (ledger, _) = open(&disk);

    let receipts: Vec<_> = (0..50).map(|n| ledger.append(change(n)).unwrap()).collect();
    for (number, receipt) in receipts.iter().enumerate() {
        let written = tokio::time::timeout(PATIENCE, receipt.written()).await.unwrap().unwrap();
        let durable = tokio::time::timeout(PATIENCE, receipt.durable()).await.unwrap().unwrap();
        assert_eq!((written.seq, durable), (number as u64 + 2, written));
    }
}

#[test]
fn a_durable_event_survives_losing_everything_that_was_not_synced() {
    let disk = SimulatedDisk::new();
    let (ledger, _) = open(&disk);
    for number in 0..10 {
        let seq = record(&ledger, change(number));

        let after = disk.after_power_loss(&mut |_| 0);
        let (ledger, _) = open(&after);
        drop(ledger);

        let events = events(&after);
        assert_eq!(events[usize::try_from(seq).unwrap() - 1].body["number"], number);
    }
}

#[test]
fn each_segment_begins_with_the_calls_that_are_open() {
    let disk = SimulatedDisk::new();
    let (ledger, _) = open_with(&disk, options(4096)).unwrap();
    let call_id = Uuid::from_u128(5);
    let place = ledger.begin(call_id, &Arc::from("demo")).unwrap();
    let first = record(&ledger, intent(call_id, 1));

    for number in 0..60 {
        record(&ledger, change(number));
    }
    place.close(outcome(call_id)).wait_durable().unwrap();
    for number in 0..60 {
        record(&ledger, change(number));
    }
    ledger.shutdown().unwrap();

    let folder = stream_path(&ledger);
    let count = segments(&disk, &folder).len();
    assert!(count > 6, "{count} segments");
    let events = events(&disk);
    let opens: Vec<_> = events.iter().filter(|event| event.kind == Kind::Open).collect();
    assert_eq!(opens.len(), count);
    assert_eq!(opens[0].body["calls"][0]["first_seq"], serde_json::Value::Null);
    assert_eq!(opens[1].body["calls"][0]["call_id"], call_id.to_string());
    assert_eq!(opens[1].body["calls"][0]["first_seq"], first);
    assert_eq!(opens[1].body["calls"][0]["tenant"], "demo");
    assert_eq!(opens[count - 1].body["calls"].as_array().unwrap().len(), 0);
    assert!(verified(&disk).is_ok());
}

#[test]
fn a_decision_is_written_once_in_each_segment_that_refers_to_it() {
    let disk = SimulatedDisk::new();
    let (ledger, _) = open_with(&disk, options(4096)).unwrap();
    let with = |number: usize, digest: &str| {
        let mut draft = intent(Uuid::from_u128(number as u128), 1);
        draft.decision = Some(decision(digest));
        draft
    };

    for number in 0..40 {
        record(&ledger, with(number, if number % 2 == 0 { "aa" } else { "bb" }));
    }
    ledger.shutdown().unwrap();

    let mut seen = std::collections::BTreeSet::new();
    let mut written = 0;
    for event in events(&disk) {
        match event.kind {
            Kind::Open => seen.clear(),
            Kind::Decision => {
                assert!(seen.insert(event.body["digest"].to_string()), "twice in one segment");
                written += 1;
            }
            _ => assert!(!seen.is_empty(), "an intent before its decision"),
        }
    }
    assert!(written >= 4, "{written} decisions");
}

#[test]
fn a_decision_by_itself_resolves_where_it_was_first_written() {
    let disk = SimulatedDisk::new();
    let (ledger, _) = open(&disk);
    let alone = || {
        let mut draft = draft(Kind::Decision, None, "");
        draft.decision = Some(decision("aa"));
        draft
    };

    let first = record(&ledger, alone());
    let again = record(&ledger, alone());
    let mut other = alone();
    other.tenant = Some(Arc::from("another"));
    let elsewhere = record(&ledger, other);

    assert_eq!((first, again, elsewhere), (2, 2, 3));
    assert_eq!(events(&disk)[1].body["digest"], "aa");
}

#[test]
fn a_failed_sync_poisons_and_nothing_becomes_durable() {
    let disk = SimulatedDisk::new();
    let (ledger, _) = open(&disk);
    let place = ledger.begin(Uuid::from_u128(1), &Arc::from("demo")).unwrap();
    record(&ledger, change(0));
    disk.plan(Trouble::SyncFails { at: 0 });

    let receipt = ledger.append(change(1)).unwrap();

    assert_eq!(receipt.wait_durable(), Err(AppendError::Poisoned));
    assert_eq!(place.close(outcome(Uuid::from_u128(1))).wait_durable(), Err(AppendError::Poisoned));
    assert!(matches!(ledger.append(change(2)), Err(AppendError::Poisoned)));
    let began = ledger.begin(Uuid::from_u128(2), &Arc::from("demo"));
    assert!(matches!(began, Err(AppendError::Poisoned)));
    assert_eq!(ledger.shutdown(), Err(AppendError::Poisoned));
    let status = ledger.status();
    assert!(status.poisoned.unwrap().contains("sync a group"));
    assert_eq!(status.durable.seq, 2);
    assert_eq!(events(&disk).len(), 2);
}

#[test]
fn a_failed_write_poisons_and_says_why() {
    let disk = SimulatedDisk::new();
    let witness = Arc::new(Witness::default());
    let mut options = options(16 * 1024);
    options.observer = Some(Arc::clone(&witness) as _);
    let (ledger, _) = open_with(&disk, options).unwrap();
    disk.plan(Trouble::WriteFails { at: 0 });

    let receipt = ledger.append(change(1)).unwrap();

    assert_eq!(receipt.wait_written(), Err(AppendError::Poisoned));
    assert!(ledger.shutdown().is_err());
    let reason = ledger.status().poisoned.unwrap();
    assert!(reason.contains("write a group"));
    assert_eq!(*witness.reasons.lock().unwrap(), [&*reason]);
}

#[test]
fn no_room_for_a_new_segment_poisons_and_the_next_start_goes_on() {
    let disk = SimulatedDisk::new();
    let (ledger, _) = open_with(&disk, options(4096)).unwrap();
    disk.plan(Trouble::NoRoom { at: 0 });
    let mut recorded = 0;
    let refused = loop {
        match ledger.append(change(recorded)).and_then(|receipt| receipt.wait_durable()) {
            Ok(_) => recorded += 1,
            Err(error) => break error,
        }
    };

    assert_eq!(refused, AppendError::Poisoned);
    assert!(ledger.shutdown().is_err());
    assert!(ledger.status().poisoned.unwrap().contains("begin a new segment"));
    let disk = disk.after_kill();
    let (ledger, _) = open_with(&disk, options(4096)).unwrap();
    record(&ledger, change(recorded));
    let events = events(&disk);
    let numbers = events.iter().filter(|event| event.kind == Kind::Change);
    assert!(numbers.zip(0..=recorded).all(|(event, number)| event.body["number"] == number));
}

#[test]
fn a_closed_ledger_takes_nothing() {
    let disk = SimulatedDisk::new();
    let (ledger, _) = open(&disk);
    let place = ledger.begin(Uuid::from_u128(1), &Arc::from("demo")).unwrap();
    ledger.shutdown().unwrap();

    assert!(matches!(ledger.append(change(0)), Err(AppendError::Closed)));
    assert_eq!(place.close(outcome(Uuid::from_u128(1))).wait_durable(), Err(AppendError::Closed));
    assert_eq!(ledger.shutdown(), Ok(()));
}

#[test]
fn many_threads_append_without_gaps_on_a_real_disk() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(16 * 1024);
    options.stream_dir_parent = folder.path().join("ledger");
    options.heads_dir = folder.path().join("heads");
    options.signing_key = folder.path().join("signing.key");
    let (ledger, _) = Ledger::open(options.clone(), Arc::new(RealDisk)).unwrap();

    let work = |thread: u128, ledger: Ledger| {
        move || {
            for number in 0..100 {
                let call_id = Uuid::from_u128(thread * 1000 + number);
                let place = ledger.begin(call_id, &Arc::from("demo")).unwrap();
                ledger.append(intent(call_id, 1)).unwrap().wait_durable().unwrap();
                ledger.append(attempt(call_id, 1)).unwrap();
                place.close(outcome(call_id)).wait_written().unwrap();
            }
        }
    };
    let threads: Vec<_> = (0..8).map(|n| thread::spawn(work(n, ledger.clone()))).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    ledger.append(stop()).unwrap();
    ledger.shutdown().unwrap();

    let streams = follow::streams(&RealDisk, &options.stream_dir_parent).unwrap();
    let mut follower = Follower::open(Arc::new(RealDisk), &streams[0], None).unwrap();
    let records = follower.next_batch(usize::MAX, usize::MAX).unwrap();
    assert!(records.iter().zip(1..).all(|(record, seq)| record.position.seq == seq));
    let of = |kind| records.iter().filter(|record| record.kind == kind).count();
    assert_eq!((of(Kind::Intent), of(Kind::Attempt), of(Kind::Outcome)), (800, 800, 800));
    let report =
        verify(&RealDisk, &options.stream_dir_parent, &options.heads_dir, &mut |_, _| {}).unwrap();
    assert!(report.is_ok(), "{:?}", report.faults);
    assert_eq!((report.events, report.after_last_head), (records.len() as u64, 0));
}

#[test]
fn a_stream_can_be_verified_while_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(256 * 1024);
    options.stream_dir_parent = folder.path().join("ledger");
    options.heads_dir = folder.path().join("heads");
    options.signing_key = folder.path().join("signing.key");
    let (ledger, _) = Ledger::open(options.clone(), Arc::new(RealDisk)).unwrap();
    let (streams, heads) = (options.stream_dir_parent, options.heads_dir);

    let writing = thread::spawn(move || {
        for number in 0..1500 {
            let receipt = ledger.append(change(number)).unwrap();
            if number % 10 == 0 {
                receipt.wait_durable().unwrap();
            }
        }
        ledger.shutdown().unwrap();
    });

    let mut seen = 0;
    while !writing.is_finished() || seen == 0 {
        let report = verify(&RealDisk, &streams, &heads, &mut |_, _| {}).unwrap();
        assert!(report.is_ok(), "{:?}", report.faults);
        assert!(report.events >= seen);
        seen = report.events;
    }
    writing.join().unwrap();
    let report = verify(&RealDisk, &streams, &heads, &mut |_, _| {}).unwrap();
    assert!(report.is_ok() && report.events > 1500);
}

#[test]
fn debug_output_holds_no_bodies() {
    let draft = Draft {
        kind: Kind::Intent,
        tenant: None,
        call_id: None,
        body: b"{\"secret\":1}".to_vec(),
        decision: Some(decision("aa")),
    };
    assert!(!format!("{draft:?}").contains("secret"));
}
