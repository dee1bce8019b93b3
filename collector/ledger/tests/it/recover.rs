//! Starting again: what is cut, what is refused, which calls were open.

use std::{path::Path, sync::Arc};

use cordon_ledger::{
    Kind, OpenError, Storage, Writer,
    disk::simulated::SimulatedDisk,
    frame::{self, Parsed},
};
use uuid::Uuid;

use crate::support::*;

/// Where each frame of a segment begins, and where the last ends.
fn offsets(bytes: &[u8]) -> Vec<usize> {
    let mut offsets = vec![0];
    while let Parsed::Frame(frame) = frame::parse(bytes, *offsets.last().unwrap()) {
        offsets.push(offsets.last().unwrap() + frame.bytes.len());
    }
    offsets
}

#[test]
fn a_stopped_stream_goes_on_in_the_same_file() {
    let disk = SimulatedDisk::new();
    let (ledger, first) = open(&disk);
    record(&ledger, stop());
    ledger.shutdown().unwrap();
    let files = disk.paths();

    let (ledger, second) = open(&disk);
    record(&ledger, change(1));

    assert_eq!(second.stream, first.stream);
    assert!(!second.new && second.cut.is_none());
    assert_eq!(disk.paths(), files);
    assert_eq!(events(&disk).len(), 3);
}

#[test]
fn a_torn_last_group_is_cut_wherever_it_is_torn() {
    let disk = SimulatedDisk::new();
    let (ledger, _) = open(&disk);
    record(&ledger, change(0));
    let folder = stream_path(&ledger);
    let path = segments(&disk, &folder).remove(0);
    let before = disk.after_kill();
    record(&ledger, change(1));
    let written = disk.bytes(&path).unwrap();
    let offsets = offsets(&written);
    let (start, end) = (offsets[offsets.len() - 3], offsets[offsets.len() - 1]);

    for torn in start + 1..end {
        // The mark is as it was before the group: nobody was told that it is durable.
        let disk = before.after_kill();
        let mut bytes = written.clone();
        bytes[torn..].fill(0);
        disk.put(&path, &bytes);

        let (ledger, recovered) = open(&disk);

        let cut = recovered.cut.unwrap_or_else(|| panic!("nothing cut at {torn}"));
        assert!(cut.contains("behind event 2 in segment"), "{cut}");
        assert_eq!(record(&ledger, change(2)), 3);
        ledger.shutdown().unwrap();
        assert!(verified(&disk).is_ok());
    }
}

#[test]
fn a_flipped_bit_in_what_was_durable_refuses_to_start() {
    let disk = SimulatedDisk::new();
    let (ledger, _) = open(&disk);
    record(&ledger, change(0));
    ledger.shutdown().unwrap();
    let folder = stream_path(&ledger);
    let path = segments(&disk, &folder).remove(0);
    let bytes = disk.bytes(&path).unwrap();
    let end = *offsets(&bytes).last().unwrap();

    for at in 0..end {
        let disk = disk.after_kill();
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x10;
        disk.put(&path, &bytes);
        let error = open_with(&disk, options(16 * 1024)).err();
        let error = error.unwrap_or_else(|| panic!("byte {at} was not noticed")).to_string();
        assert!(error.contains("is damaged at byte") && error.contains("restore"), "{error}");
        assert!(at % 5 > 0 || !verified(&disk).is_ok(), "byte {at} was not named");
    }
}

#[test]
fn what_is_lost_behind_the_mark_refuses_to_start() {
    let disk = SimulatedDisk::new();
    let (ledger, _) = open(&disk);
    record(&ledger, change(0));
    record(&ledger, change(1));
    let folder = stream_path(&ledger);
    let path = segments(&disk, &folder).remove(0);
    let mut bytes = disk.bytes(&path).unwrap();
    let offsets = offsets(&bytes);
    bytes[offsets[offsets.len() - 3]..].fill(0);
    let disk = disk.after_kill();
    disk.put(&path, &bytes);

    let error = open_with(&disk, options(16 * 1024)).unwrap_err();
    assert!(matches!(error, OpenError::Lost { found: 2, size: 3, .. }), "{error}");
    // Without the mark this reads as a stream that ends earlier; the head still knows better.
    disk.remove(&folder.join("durable")).unwrap();
    assert!(open_with(&disk, options(16 * 1024)).is_ok());
}

#[test]
fn what_a_signed_head_names_must_be_there() {
    let disk = SimulatedDisk::new();
    let (ledger, _) = open(&disk);
    record(&ledger, change(0));
    ledger.shutdown().unwrap();
    let folder = stream_path(&ledger);
    let path = segments(&disk, &folder).remove(0);
    disk.put(&path, &[0; 100]);
    disk.remove(&folder.join("durable")).unwrap();

    let error = open_with(&disk, options(16 * 1024)).unwrap_err();
    assert!(error.to_string().contains("its last signed head says that 2 events"), "{error}");
}

#[test]
fn a_missing_segment_refuses_to_start() {
    let disk = SimulatedDisk::new();
    let (ledger, _) = open_with(&disk, options(4096)).unwrap();
    for number in 0..60 {
        record(&ledger, change(number));
    }
    ledger.shutdown().unwrap();
    let paths = segments(&disk, &stream_path(&ledger));
    for (index, path) in paths.iter().enumerate() {
        let disk = disk.after_kill();
        disk.remove(path).unwrap();
        let error = open_with(&disk, options(4096)).unwrap_err();
        let expected = index as u64 + 1;
        match error {
            OpenError::MissingSegment { index, .. } => assert_eq!(index, expected),
            OpenError::Lost { .. } => assert_eq!(index + 1, paths.len()),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn two_segments_of_one_number_are_named() {
    let disk = SimulatedDisk::new();
    let (ledger, _) = open_with(&disk, options(4096)).unwrap();
    for number in 0..30 {
        record(&ledger, change(number));
    }
    ledger.shutdown().unwrap();
    let folder = stream_path(&ledger);
    // Both numbers count from 1: this is no segment of ours.
    let zero = folder.join(format!("{:08}-{:020}.segment", 0, 0));
    disk.put(&zero, b"x");
    assert_eq!(faults(&disk), [""; 0]);
    // As when an older backup is restored over a newer folder.
    let second = folder.join(format!("{:08}-{:020}.segment", 1, 5));
    disk.put(&second, &disk.bytes(&segments(&disk, &folder)[0]).unwrap());

    assert_eq!(faults(&disk), ["sequence 5"]);
    let error = open_with(&disk, options(4096)).unwrap_err();
    assert!(matches!(error, OpenError::SecondSegment { index: 1, .. }), "{error}");
}

#[test]
fn a_stream_has_one_writer() {
    let disk = SimulatedDisk::new();
    let (ledger, _) = open(&disk);
    let error = open_with(&disk, options(16 * 1024)).unwrap_err();
    assert!(matches!(&error, OpenError::Locked { .. }), "{error}");
    assert!(error.to_string().contains("in use by another process"));

    drop(ledger);
    assert!(open_with(&disk, options(16 * 1024)).is_ok());
}

#[test]
fn gateway_and_collector_have_streams_of_their_own() {
    let disk = SimulatedDisk::new();
    let (gateway, _) = open(&disk);
    let mut theirs = options(16 * 1024);
    theirs.writer = Writer::Collector;
    let (collector, _) = open_with(&disk, theirs).unwrap();
    record(&gateway, change(0));
    record(&collector, draft(Kind::Access, None, "{}"));
    assert_ne!(gateway.stream(), collector.stream());
    gateway.shutdown().unwrap();
    collector.shutdown().unwrap();

    let report = verified(&disk);
    assert!(report.is_ok(), "{:?}", report.faults);
    assert_eq!(report.events, 4);
    let path = Path::new("/data/heads/public.pem");
    let pem = String::from_utf8(disk.bytes(path).unwrap()).unwrap();
    assert_eq!(pem.matches("BEGIN PUBLIC KEY").count(), 1, "one key signs for both");
}

#[test]
fn two_streams_of_one_writer_are_refused() {
    let disk = SimulatedDisk::new();
    let (ledger, _) = open(&disk);
    record(&ledger, change(0));
    let second = Path::new("/data/ledger").join(Uuid::from_u128(1).to_string());
    disk.create_dir(&second).unwrap();
    disk.put(&second.join("writer"), b"gateway\n");

    let error = open_with(&disk.after_kill(), options(16 * 1024)).unwrap_err();
    assert!(matches!(error, OpenError::Ambiguous { count: 2, .. }), "{error}");
}

#[test]
fn lost_small_files_are_noticed() {
    let disk = SimulatedDisk::new();
    let (ledger, _) = open(&disk);
    record(&ledger, change(0));
    ledger.shutdown().unwrap();
    let writer = stream_path(&ledger).join("writer");
    let heads = Path::new("/data/heads").join(format!("{}.heads", ledger.stream()));
    for (path, expected) in [(writer, "`writer`"), (heads, "file of signed heads")] {
        let disk = disk.after_kill();
        disk.remove(&path).unwrap();
        let error = open_with(&disk, options(16 * 1024)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!verified(&disk).is_ok());
    }
}

#[test]
fn calls_without_an_outcome_are_found_with_what_they_may_have_sent() {
    let disk = SimulatedDisk::new();
    let (ledger, _) = open_with(&disk, options(4096)).unwrap();
    let tenant: Arc<str> = Arc::from("demo");
    let id = Uuid::from_u128;
    let places: Vec<_> = (1..=4).map(|n| ledger.begin(id(n), &tenant).unwrap()).collect();
    record(&ledger, intent(id(1), 1));
    record(&ledger, attempt(id(1), 1));
    record(&ledger, intent(id(1), 2));
    record(&ledger, intent(id(2), 1));
    // Several segments pass.
    for number in 0..60 {
        record(&ledger, change(number));
    }
    let mut places = places.into_iter();
    std::mem::forget(places.next());
    places.next().unwrap().close(outcome(id(2))).wait_durable().unwrap();
    std::mem::forget(places.next());
    drop(places.next());
    // Never begun, and yet it has an intent.
    record(&ledger, intent(id(9), 1));

    let (ledger, recovered) = open_with(&disk.after_kill(), options(4096)).unwrap();

    let calls = recovered.open_calls;
    let ids: Vec<_> = calls.iter().map(|call| call.call_id).collect();
    assert_eq!(ids[..2], [id(1), id(3)]);
    assert_eq!(*ids.last().unwrap(), id(9));
    assert_eq!(calls[0].tenant.as_deref(), Some("demo"));
    assert_eq!(calls[0].attempts, 1);
    assert_eq!(calls[0].intents_without_attempt, [serde_json::json!({"attempt": 2})]);
    assert_eq!(calls[0].last_intent, Some(serde_json::json!({"attempt": 2})));
    assert!(calls[1].intents_without_attempt.is_empty());
    assert_eq!(ledger.status().open_calls, calls.len());
}

#[test]
fn a_call_whose_attempts_have_ended_still_tells_its_intent() {
    let disk = SimulatedDisk::new();
    let (ledger, _) = open(&disk);
    record(&ledger, intent(Uuid::from_u128(1), 1));
    record(&ledger, attempt(Uuid::from_u128(1), 1));

    let (_, recovered) = open(&disk.after_kill());

    let call = &recovered.open_calls[0];
    assert_eq!((call.attempts, call.intents_without_attempt.len()), (1, 0));
    assert_eq!(call.last_intent, Some(serde_json::json!({"attempt": 1})));
}

#[test]
fn a_call_with_any_event_is_open_until_its_outcome() {
    let disk = SimulatedDisk::new();
    let (ledger, _) = open_with(&disk, options(4096)).unwrap();
    let ids = [1, 2].map(Uuid::from_u128);
    let seq = record(&ledger, draft(Kind::Notify, Some(ids[0]), "{}"));
    record(&ledger, draft(Kind::Notify, Some(ids[1]), "{}"));
    record(&ledger, outcome(ids[1]));

    let found = |disk: &SimulatedDisk| {
        let (_, recovered) = open_with(&disk.after_kill(), options(4096)).unwrap();
        recovered.open_calls.iter().map(|call| (call.call_id, call.first_seq)).collect::<Vec<_>>()
    };
    assert_eq!(found(&disk), [(ids[0], Some(seq))]);
    // Later segments name it as well.
    for number in 0..60 {
        record(&ledger, change(number));
    }
    assert_eq!(found(&disk), [(ids[0], Some(seq))]);
}

#[test]
fn recovered_calls_stay_listed_until_their_outcome_is_written() {
    let disk = SimulatedDisk::new();
    let (ledger, _) = open_with(&disk, options(4096)).unwrap();
    record(&ledger, intent(Uuid::from_u128(1), 1));
    let mut disk = disk.after_kill();
    for _start in 0..3 {
        let (ledger, recovered) = open_with(&disk, options(4096)).unwrap();
        assert_eq!(recovered.open_calls.len(), 1);
        for number in 0..30 {
            record(&ledger, change(number));
        }
        disk = disk.after_kill();
    }
    let (ledger, recovered) = open_with(&disk, options(4096)).unwrap();
    assert_eq!(recovered.open_calls[0].intents_without_attempt.len(), 1);
    record(&ledger, outcome(Uuid::from_u128(1)));
    drop(ledger);
    let (_, recovered) = open_with(&disk, options(4096)).unwrap();
    assert!(recovered.open_calls.is_empty());
}

#[test]
fn an_exposed_signing_key_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("signing.key");
    let mut options = options(16 * 1024);
    options.stream_dir_parent = folder.path().join("ledger");
    options.heads_dir = folder.path().join("heads");
    options.signing_key = key.clone();
    let disk = Arc::new(cordon_ledger::RealDisk);
    let (ledger, _) = cordon_ledger::Ledger::open(options.clone(), disk.clone()).unwrap();
    drop(ledger);
    let mode = std::fs::metadata(&key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let heads = std::fs::metadata(&options.heads_dir).unwrap().permissions().mode();
    assert_eq!(heads & 0o777, 0o700);

    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    let error = cordon_ledger::Ledger::open(options, disk).unwrap_err().to_string();
    assert!(error.contains("chmod 600"), "{error}");
}
