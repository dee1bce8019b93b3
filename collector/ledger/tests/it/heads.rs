//! Signed heads: when they are signed, and what is said where they were changed, cut or emptied.

use std::{path::Path, time::Duration};

use cordon_ledger::{
    OpenError, Storage,
    disk::simulated::SimulatedDisk,
    frame::Frame,
    verify::{FaultKind, Report},
};

use crate::{
    support::*,
    tamper::{World, world},
};

/// A stream with three signed heads, for 2, 3 and 4 events; its heads in one text.
fn three_heads() -> (SimulatedDisk, cordon_ledger::Ledger, String) {
    let disk = SimulatedDisk::new();
    let mut options = options(16 * 1024);
    options.head_every = Duration::ZERO;
    let (ledger, _) = open_with(&disk, options).unwrap();
    for number in 0..3 {
        record(&ledger, change(number));
    }
    ledger.shutdown().unwrap();
    let text = String::from_utf8(disk.bytes(&heads_path(&ledger)).unwrap()).unwrap();
    (disk, ledger, text)
}

fn details(report: &Report) -> String {
    report.faults.iter().map(|fault| fault.detail.as_str()).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_head_is_signed_where_there_is_news_and_only_then() {
    let (disk, ledger, text) = three_heads();
    assert_eq!(head_sizes(&disk, &ledger), [2, 3, 4]);

    let (ledger, _) = open(&disk);
    ledger.shutdown().unwrap();

    assert_eq!(disk.bytes(&heads_path(&ledger)).unwrap(), text.as_bytes());
}

#[test]
fn what_a_killed_process_left_unsigned_is_signed_before_anything_follows() {
    let disk = SimulatedDisk::new();
    let (ledger, _) = open(&disk);
    record(&ledger, change(0));
    assert_eq!(head_sizes(&disk, &ledger), [0; 0]);

    let disk = disk.after_kill();
    let (ledger, _) = open(&disk);
    record(&ledger, change(1));

    assert_eq!(head_sizes(&disk, &ledger), [2]);
}

#[test]
fn changed_heads_are_named() {
    let world = world();
    let text = String::from_utf8(world.disk.bytes(&world.heads).unwrap()).unwrap();
    let cases = [
        (text.replacen("\n9\n", "\n8\n", 1), "no known key made a head's signature"),
        (text.replacen("cordon/ledger/", "cordon/other/", 1), "another stream"),
        (text.replace("cordon/ledger/", "cordon/ledger/ "), "another stream"),
        (text.replacen("\n9\n", "\n9\n9\n", 1), "not in the form"),
    ];
    for (changed, expected) in cases {
        assert_ne!(changed, text);
        world.disk.put(&world.heads, changed.as_bytes());
        let report = verified(&world.disk);
        let kinds: Vec<_> = report.faults.iter().map(|fault| fault.kind).collect();
        assert_eq!(kinds, [FaultKind::Head], "{changed}");
        assert!(details(&report).contains(expected), "{}", details(&report));
        let error = open_with(&world.disk, options(16 * 1024)).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("restore the file"), "{error}");
    }
    world.disk.put(&world.heads, text.as_bytes());
    world.disk.remove(Path::new("/data/heads/public.pem")).unwrap();
    assert_eq!(faults(&world.disk), ["head -"]);
}

#[test]
fn only_the_last_head_can_be_what_a_power_loss_left() {
    let (disk, ledger, text) = three_heads();
    let path = heads_path(&ledger);
    let last = text.rfind("\n\ncordon/ledger/").unwrap() + 2;
    let torn = |from: usize, to: usize| {
        let mut bytes = text.clone().into_bytes();
        bytes[from..to].fill(0);
        bytes
    };

    // A zero in an earlier one was put there.
    disk.put(&path, &torn(5, 6));
    assert_eq!(faults(&disk), ["head -"]);
    // Any page of the last one may be lost; the next start goes on behind the one before.
    for (from, to) in [(last, last + 60), (last + 90, text.len()), (last, text.len())] {
        let disk = disk.after_kill();
        disk.put(&path, &torn(from, to));
        assert!(verified(&disk).is_ok());
        let (ledger, _) = open(&disk);
        record(&ledger, change(3));
        assert_eq!(head_sizes(&disk, &ledger), [2, 3, 4]);
    }
}

#[test]
fn what_no_power_loss_leaves_is_named_and_not_cut_away() {
    let (disk, ledger, text) = three_heads();
    let path = heads_path(&ledger);
    let second = text.find("\n\ncordon/ledger/").unwrap() + 2;
    let junk = "x".repeat(70_000);
    for (bytes, expected) in [
        (format!("{}{junk}{}", &text[..second], &text[second..]), "no head stands at byte"),
        (format!("{text}{junk}"), "no head stands at byte"),
    ] {
        disk.put(&path, bytes.as_bytes());

        assert!(details(&verified(&disk)).contains(expected));
        let error = open_with(&disk, options(16 * 1024)).unwrap_err();
        assert!(matches!(error, OpenError::HeadsDamaged { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(disk.bytes(&path).unwrap(), bytes.as_bytes());
    }
}

#[test]
fn an_emptied_file_of_heads_is_named_once_the_stream_is_older_than_a_head() {
    let emptied = |world: &World| {
        world.disk.put(&world.heads, b"");
        world.disk.remove(&world.folder.join("durable")).unwrap();
        open_with(&world.disk.after_kill(), options(16 * 1024)).err()
    };
    // A process that is killed in its first second leaves this.
    let young = world();
    assert!(emptied(&young).is_none());
    assert_eq!(faults(&young.disk), [""; 0]);

    let old = world();
    let frames =
        old.rewritten(|frame| if frame.seq == 1 { long_ago(frame) } else { frame.json.to_vec() });
    old.put(&frames);
    let error = emptied(&old).unwrap();
    assert!(matches!(error, OpenError::HeadsEmptied { .. }), "{error}");
    assert_eq!(faults(&old.disk), ["head -"]);
    assert!(details(&verified(&old.disk)).contains("names any of the 9 events"));
}

/// The event's JSON with a time that has passed.
fn long_ago(frame: &Frame<'_>) -> Vec<u8> {
    let json = String::from_utf8(frame.json.to_vec()).unwrap();
    let at = json.find("\"time\":\"").unwrap() + 8;
    format!("{}2020-01-01T00:00:00.000000{}", &json[..at], &json[at + 26..]).into_bytes()
}
