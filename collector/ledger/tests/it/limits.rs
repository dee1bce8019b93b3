//! `bytes_max` and what is set aside below it.

use std::sync::Arc;

use cordon_ledger::{AppendError, Ledger, OpenError, disk::simulated::SimulatedDisk};
use uuid::Uuid;

use crate::support::*;

const BYTES_MAX: u64 = 512 * 1024;

fn small(disk: &SimulatedDisk) -> Ledger {
    let mut options = options(16 * 1024);
    options.bytes_max = BYTES_MAX;
    open_with(disk, options).unwrap().0
}

/// Appends until the limit refuses, also once everything has its final size.
fn fill(ledger: &Ledger) {
    let mut last = None;
    for number in 0..100_000 {
        match ledger.append(change(number)) {
            Ok(receipt) if number % 100 == 0 => assert!(receipt.wait_durable().is_ok()),
            Ok(receipt) => last = Some(receipt),
            Err(error) => {
                assert_eq!(error, AppendError::LimitReached);
                let Some(receipt) = last.take() else { return };
                assert!(receipt.wait_durable().is_ok());
            }
        }
    }
    panic!("the limit was never reached");
}

#[test]
fn open_calls_can_end_when_the_limit_is_reached() {
    let disk = SimulatedDisk::new();
    let ledger = small(&disk);
    let tenant = Arc::from("demo");
    let begin = |number| ledger.begin(Uuid::from_u128(number), &tenant);
    let places: Vec<_> = (0..10).map(|number| begin(number).unwrap()).collect();
    assert!(!ledger.status().full);
    fill(&ledger);

    assert!(ledger.status().full);
    assert!(matches!(begin(11), Err(AppendError::LimitReached)));
    let receipts: Vec<_> = places
        .into_iter()
        .map(|place| {
            let call_id = place.call_id();
            ledger.append(attempt(call_id, 1)).unwrap();
            place.close(outcome(call_id))
        })
        .collect();
    assert!(receipts.iter().all(|receipt| receipt.wait_durable().is_ok()));
    record(&ledger, stop());
    ledger.shutdown().unwrap();

    assert!(ledger.status().bytes <= BYTES_MAX);
    assert_eq!(ledger.status().open_calls, 0);
    assert!(verified(&disk).is_ok());
}

#[test]
fn a_place_that_is_dropped_gives_its_room_back() {
    let disk = SimulatedDisk::new();
    let ledger = small(&disk);
    let tenant = Arc::from("demo");
    let mut places = Vec::new();
    let refused = loop {
        let full = ledger.status().full;
        match ledger.begin(Uuid::from_u128(places.len() as u128), &tenant) {
            Ok(place) if !full => places.push(place),
            Ok(_) => panic!("a call began where the ledger said that it is full"),
            Err(error) => break error,
        }
    };
    assert!(ledger.status().full);

    assert_eq!(refused, AppendError::LimitReached);
    assert_eq!(ledger.status().open_calls, places.len());
    places.pop();
    assert!(!ledger.status().full);
    assert!(ledger.begin(Uuid::from_u128(1 << 64), &tenant).is_ok());
    drop(places);
    assert_eq!(ledger.status().open_calls, 0);
    let status = ledger.status();
    assert_eq!(status.bytes_reserved, BYTES_MAX / 8);
}

#[test]
fn the_queue_is_bounded_and_outcomes_have_their_place_in_it() {
    let disk = SimulatedDisk::new();
    let (gate, keeper) = gate();
    let mut options = options(16 * 1024);
    options.observer = Some(gate);
    let (ledger, _) = open_with(&disk, options).unwrap();
    let place = ledger.begin(Uuid::from_u128(1), &Arc::from("demo")).unwrap();
    ledger.append(change(0)).unwrap();
    keeper.synced.recv_timeout(PATIENCE).unwrap();

    let refused = (0..100_000).find_map(|number| ledger.append(change(number)).err());

    assert_eq!(refused, Some(AppendError::Full));
    let receipt = place.close(outcome(Uuid::from_u128(1)));
    drop(keeper);
    assert!(receipt.wait_durable().is_ok());
}

#[test]
fn an_event_that_is_too_large_is_refused() {
    let disk = SimulatedDisk::new();
    let (ledger, _) = open(&disk);
    let body = format!("{{\"text\":\"{}\"}}", "x".repeat(9 * 1024 * 1024));
    let large = || draft(cordon_ledger::Kind::Change, None, &body);

    assert!(matches!(ledger.append(large()), Err(AppendError::TooLarge)));
    let place = ledger.begin(Uuid::from_u128(1), &Arc::from("demo")).unwrap();
    assert_eq!(place.close(large()).wait_durable(), Err(AppendError::TooLarge));
    assert!(ledger.append(change(1)).unwrap().wait_durable().is_ok());
}

#[test]
fn a_segment_size_that_makes_no_sense_is_refused() {
    let disk = SimulatedDisk::new();
    let opened = open_with(&disk, options(10));
    assert!(matches!(opened, Err(OpenError::SegmentBytes { given: 10, .. })));
}
