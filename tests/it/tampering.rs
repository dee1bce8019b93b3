//! Somebody changes the evidence: `audit verify` names what was done.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use cordon_system::{upstream::Upstream, world::World};
use serde_json::Value;

/// A stopped world with a few calls in its ledger.
fn stopped() -> (World, Vec<String>) {
    let upstream = Upstream::start();
    let mut world = World::with(&upstream);
    let ids = (0..4).map(|_| world.ask("hello").call_id()).collect();
    world.stop();
    assert_eq!(world.verify()["ok"], true);
    (world, ids)
}

/// The segment that holds a call's outcome.
fn segment_with(world: &World, text: &str) -> (PathBuf, Vec<u8>, usize) {
    for stream in folders(&world.data().join("ledger")) {
        for entry in fs::read_dir(stream).unwrap() {
            let path = entry.unwrap().path();
            let Ok(bytes) = fs::read(&path) else { continue };
            let found = bytes.windows(text.len()).rposition(|window| window == text.as_bytes());
            if let (Some(at), true) = (found, bytes.len() > 4_096) {
                return (path, bytes, at);
            }
        }
    }
    panic!("no segment holds `{text}`");
}

fn folders(parent: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.is_dir()).collect()
}

/// Frames of a segment as byte ranges: `length u32` and what it counts after the checksum.
fn frames(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at + 8 <= bytes.len() {
        let length = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        if length == 0 {
            break;
        }
        found.push(at..at + 8 + length);
        at += 8 + length;
    }
    found
}

fn faults(world: &World) -> Vec<Value> {
    let verified = world.verify();
    assert_eq!(verified["ok"], false, "{verified}");
    assert_eq!(world.run("cordon", &["audit", "verify"]).status.code(), Some(1));
    verified["faults"].as_array().unwrap().clone()
}

#[test]
fn a_flipped_byte_is_named_with_its_place() {
    let (world, ids) = stopped();
    let (path, bytes, at) = segment_with(&world, &ids[1]);
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_at(&[bytes[at + 40] ^ 1], at as u64 + 40).unwrap();

    let faults = faults(&world);

    assert!(faults.iter().any(|fault| fault["seq"].is_u64()), "{faults:?}");
    assert!(faults.iter().all(|fault| !fault["detail"].as_str().unwrap().is_empty()));
}

#[test]
fn a_removed_frame_is_named() {
    let (world, ids) = stopped();
    let (path, mut bytes, at) = segment_with(&world, &ids[1]);
    let frame = frames(&bytes).into_iter().find(|frame| frame.contains(&at)).unwrap();
    let length = frame.len();
    bytes.drain(frame);
    bytes.resize(bytes.len() + length, 0);
    fs::write(&path, bytes).unwrap();
    assert!(!faults(&world).is_empty());
}

#[test]
fn two_swapped_frames_are_named() {
    let (world, ids) = stopped();
    let (path, bytes, at) = segment_with(&world, &ids[1]);
    let all = frames(&bytes);
    let place = all.iter().position(|frame| frame.contains(&at)).unwrap();
    let (first, second) = (all[place - 1].clone(), all[place].clone());
    let swapped =
        [&bytes[..first.start], &bytes[second.clone()], &bytes[first], &bytes[second.end..]]
            .concat();
    fs::write(&path, swapped).unwrap();
    assert!(!faults(&world).is_empty());
}

#[test]
fn a_tail_that_was_cut_after_a_signed_head_is_named() {
    let (world, ids) = stopped();
    let (path, mut bytes, at) = segment_with(&world, &ids[3]);
    let frame = frames(&bytes).into_iter().find(|frame| frame.contains(&at)).unwrap();
    bytes[frame.start..].fill(0);
    fs::write(&path, bytes).unwrap();
    let faults = faults(&world);
    assert!(faults.iter().any(|fault| fault["kind"] == "head"), "{faults:?}");
}

#[test]
fn a_changed_table_row_is_named_with_its_call() {
    let (world, ids) = stopped();
    let output = std::process::Command::new(
        std::env::var("CORDON_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned()),
    )
    .arg(format!("{}/clients/change_a_row.py", env!("CARGO_MANIFEST_DIR")))
    .arg(world.data().join("tables/calls"))
    .arg(&ids[2])
    .output()
    .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let faults = faults(&world);

    assert!(faults.iter().any(|fault| fault["call_id"] == ids[2].as_str()), "{faults:?}");
}
