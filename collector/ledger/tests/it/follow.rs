//! Following: the durable mark, resuming, copies, second histories.

use std::path::Path;

use cordon_ledger::{
    Position,
    disk::simulated::SimulatedDisk,
    follow::{self, Cursor, FollowError, Follower},
};

use crate::support::*;

#[test]
fn a_reader_sees_nothing_before_the_mark_is_published() {
    let disk = SimulatedDisk::new();
    let (gate, keeper) = gate();
    let mut options = options(16 * 1024);
    options.observer = Some(gate);
    let (ledger, _) = open_with(&disk, options).unwrap();
    let mut follower = follower(&disk);

    let receipt = ledger.append(change(0)).unwrap();
    keeper.synced.recv_timeout(PATIENCE).unwrap();
    assert!(follower.next_batch(100, 100_000).unwrap().is_empty());
    keeper.go_on.send(()).unwrap();
    receipt.wait_durable().unwrap();

    let records = follower.next_batch(100, 100_000).unwrap();
    assert_eq!(records.len(), 2);
    assert_eq!(records[1].position, Position { stream: ledger.stream(), seq: 2 });
    assert_eq!(records[1].chain_prev, records[0].chain);
    assert_eq!(follower.durable_seq(), Some(2));
}

#[test]
fn a_reader_follows_across_segments_and_starts_of_the_writer() {
    let disk = SimulatedDisk::new();
    let (ledger, _) = open_with(&disk, options(4096)).unwrap();
    let mut follower = follower(&disk);
    let mut seen = 0;
    let mut see = |follower: &mut Follower, up_to: u64| {
        while seen < up_to {
            let batch = follower.next_batch(3, 100_000).unwrap();
            assert!(!batch.is_empty(), "stuck behind event {seen} of {up_to}");
            for record in batch {
                seen += 1;
                assert_eq!(record.position.seq, seen);
            }
        }
    };

    for number in 0..50 {
        let seq = record(&ledger, change(number));
        see(&mut follower, seq);
    }
    // Not stopped: the next start replaces the last segment's file.
    ledger.shutdown().unwrap();
    let (ledger, _) = open_with(&disk, options(4096)).unwrap();
    for number in 0..50 {
        let seq = record(&ledger, change(number));
        see(&mut follower, seq);
    }
}

#[test]
fn a_reader_resumes_behind_any_event() {
    let disk = SimulatedDisk::new();
    let (ledger, _) = open_with(&disk, options(4096)).unwrap();
    let receipts: Vec<_> = (0..60).map(|n| ledger.append(change(n)).unwrap()).collect();
    assert!(receipts.iter().all(|receipt| receipt.wait_durable().is_ok()));
    let all = read(&disk);
    let folder = follow::streams(&disk, Path::new("/data/ledger")).unwrap().remove(0);

    for record in &all {
        let from = Cursor { seq: record.position.seq, chain: record.chain };
        let mut follower = Follower::open(storage(&disk), &folder, Some(from)).unwrap();
        let rest = follower.next_batch(usize::MAX, usize::MAX).unwrap();
        assert_eq!(
            rest.first().map(|record| record.position.seq),
            all.get(usize::try_from(from.seq).unwrap()).map(|record| record.position.seq)
        );
        assert_eq!(rest.len() as u64, all.len() as u64 - from.seq);
    }
}

#[test]
fn a_segment_that_cannot_be_read_for_a_while_costs_no_event() {
    let disk = SimulatedDisk::new();
    let (ledger, _) = open_with(&disk, options(4096)).unwrap();
    for number in 0..60 {
        record(&ledger, change(number));
    }
    let path = segments(&disk, &stream_path(&ledger)).remove(2);
    let bytes = disk.bytes(&path).unwrap();

    let mut follower = follower(&disk);
    cordon_ledger::Storage::remove(&disk, &path).unwrap();
    let mut records = follower.next_batch(usize::MAX, usize::MAX).unwrap();
    assert!(!records.is_empty(), "what lies before it is given out");
    for _try in 0..2 {
        let gone = follower.next_batch(usize::MAX, usize::MAX);
        assert!(matches!(gone, Err(FollowError::Missing { .. })));
    }
    disk.put(&path, &bytes);
    records.extend(follower.next_batch(usize::MAX, usize::MAX).unwrap());

    assert_eq!(records, read(&disk));
}

#[test]
fn a_second_history_is_refused() {
    let disk = SimulatedDisk::new();
    let (ledger, _) = open(&disk);
    record(&ledger, change(0));
    ledger.shutdown().unwrap();
    let other = disk.after_kill();
    for (disk, number) in [(&disk, 1), (&other, 2)] {
        let (ledger, _) = open(disk);
        record(&ledger, change(number));
        ledger.shutdown().unwrap();
    }

    let last = read(&disk).pop().unwrap();
    let from = Cursor { seq: last.position.seq, chain: last.chain };
    let folder = follow::streams(&other, Path::new("/data/ledger")).unwrap().remove(0);
    let forked = Follower::open(storage(&other), &folder, Some(from));
    assert!(matches!(forked, Err(FollowError::Forked { seq: 3, .. })));
    let beyond = Cursor { seq: 99, chain: last.chain };
    let missing = Follower::open(storage(&other), &folder, Some(beyond));
    assert!(matches!(missing, Err(FollowError::Missing { seq: 99, .. })));
}

#[test]
fn a_copy_without_a_mark_reads_to_its_last_whole_group() {
    let disk = SimulatedDisk::new();
    let (ledger, _) = open(&disk);
    for number in 0..5 {
        record(&ledger, change(number));
    }
    let folder = stream_path(&ledger);
    cordon_ledger::Storage::remove(&disk, &folder.join("durable")).unwrap();
    let path = segments(&disk, &folder).remove(0);
    let mut bytes = disk.bytes(&path).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    bytes[used - 20..].fill(0);
    let copy = disk.after_kill();
    copy.put(&path, &bytes);

    assert_eq!(read(&disk).len(), 6);
    assert_eq!(read(&copy).len(), 5);
}

#[test]
fn a_damaged_segment_is_named() {
    let disk = SimulatedDisk::new();
    let (ledger, _) = open(&disk);
    record(&ledger, change(0));
    let path = segments(&disk, &stream_path(&ledger)).remove(0);
    let mut bytes = disk.bytes(&path).unwrap();
    bytes[70] ^= 1;
    disk.put(&path, &bytes);

    let error = follower(&disk).next_batch(10, 10_000).unwrap_err().to_string();
    assert!(error.contains("at event 1") && error.contains("checksum"), "{error}");
}
