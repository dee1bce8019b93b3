//! Somebody changes the evidence: `audit verify` names what was done.

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use cordon_ledger::frame::{self, FrameKind, Parsed};
use cordon_system::{upstream::Upstream, world::World};
use serde_json::{Value, json};

/// A stopped world with a few calls in its ledger.
fn stopped() -> (World, Vec<String>) {
    let upstream = Upstream::start();
    let mut world = World::with(&upstream);
    let ids = (0..4).map(|_| world.ask("hello").call_id()).collect();
    world.stop();
    assert_eq!(world.verify()["ok"], true);
    (world, ids)
}

/// One event as it lies in a segment.
#[derive(Debug, Clone)]
struct Place {
    seq: u64,
    call_id: String,
    range: Range<usize>,
}

/// The gateway's segment, and where its events lie.
struct Segment {
    path: PathBuf,
    bytes: Vec<u8>,
    events: Vec<Place>,
}

impl Segment {
    /// The one that holds `text`.
    fn with(world: &World, text: &str) -> Self {
        let streams = entries(&world.data().join("ledger"));
        for path in streams.iter().filter(|path| path.is_dir()).flat_map(|path| entries(path)) {
            let bytes = fs::read(&path).unwrap();
            let held = bytes.windows(text.len()).any(|window| window == text.as_bytes());
            if held && path.extension().is_some_and(|ending| ending == "segment") {
                let events = events(&bytes);
                return Self { path, bytes, events };
            }
        }
        panic!("no segment holds `{text}`");
    }

    /// The last event of a call, which is its outcome.
    fn outcome(&self, call_id: &str) -> usize {
        self.events.iter().rposition(|place| place.call_id == call_id).unwrap()
    }

    /// The last two events of one group: others have its commit frame between them.
    fn neighbours(&self) -> [&Place; 2] {
        let adjoin = |pair: &&[Place]| pair[0].range.end == pair[1].range.start;
        let pair = self.events.windows(2).rfind(adjoin).unwrap();
        [&pair[0], &pair[1]]
    }

    /// Changes the bytes, has them verified, and puts the segment back as it was.
    fn after(&self, world: &World, change: impl FnOnce(&mut Vec<u8>)) -> Vec<Value> {
        let mut bytes = self.bytes.clone();
        change(&mut bytes);
        assert_ne!(bytes, self.bytes);
        fs::write(&self.path, bytes).unwrap();
        let faults = faults(world);
        fs::write(&self.path, &self.bytes).unwrap();
        let restored = world.verify();
        assert_eq!(restored["ok"], true, "what was put back is whole: {restored}");
        faults
    }

    /// Whether the faults name this kind at this event of this segment.
    fn is_named(&self, faults: &[Value], kind: &str, place: &Place) -> bool {
        let file = self.path.file_name().unwrap().to_str().unwrap();
        faults.iter().any(|fault| {
            fault["kind"] == kind
                && fault["seq"] == place.seq
                && fault["segment"] == file
                && !fault["detail"].as_str().unwrap().is_empty()
        })
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn events(bytes: &[u8]) -> Vec<Place> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Parsed::Frame(frame) = frame::parse(bytes, at) {
        let range = at..at + frame.bytes.len();
        at = range.end;
        if frame.kind != FrameKind::Commit {
            let event: Value = serde_json::from_slice(frame.json).unwrap();
            let call_id = event["call_id"].as_str().unwrap_or_default().to_owned();
            found.push(Place { seq: frame.seq, call_id, range });
        }
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
fn a_flipped_byte_is_named_with_its_event_and_call() {
    let (world, ids) = stopped();
    let segment = Segment::with(&world, &ids[1]);
    let place = &segment.events[segment.outcome(&ids[1])];

    let faults = segment.after(&world, |bytes| bytes[place.range.end - 10] ^= 1);

    assert!(segment.is_named(&faults, "crc", place), "{place:?}: {faults:?}");
    assert!(faults.iter().any(|fault| fault["call_id"] == ids[1].as_str()), "{faults:?}");
}

#[test]
fn a_removed_frame_is_named() {
    let (world, ids) = stopped();
    let segment = Segment::with(&world, &ids[1]);
    let [_, place] = segment.neighbours();

    let faults = segment.after(&world, |bytes| {
        let length = bytes.len();
        drop(bytes.drain(place.range.clone()));
        bytes.resize(length, 0);
    });

    assert!(segment.is_named(&faults, "missing", place), "{place:?}: {faults:?}");
}

#[test]
fn two_swapped_frames_are_named() {
    let (world, ids) = stopped();
    let segment = Segment::with(&world, &ids[1]);
    let [first, second] = segment.neighbours();

    let faults = segment.after(&world, |bytes| {
        bytes[first.range.start..second.range.end].rotate_left(first.range.len());
    });

    assert!(segment.is_named(&faults, "sequence", first), "{first:?}: {faults:?}");
}

#[test]
fn a_tail_that_was_cut_after_a_signed_head_is_named() {
    let (world, ids) = stopped();
    let segment = Segment::with(&world, &ids[3]);
    let place = &segment.events[segment.outcome(&ids[3])];

    let faults = segment.after(&world, |bytes| bytes[place.range.start..].fill(0));

    let named = faults.iter().find(|fault| fault["kind"] == "head");
    let named = named.unwrap_or_else(|| panic!("{faults:?}"));
    // The first event that the head vouches for and nobody has any more.
    assert!(named["seq"].as_u64().is_some_and(|seq| seq <= place.seq), "{place:?}: {named}");
    let stream = segment.path.parent().unwrap().file_name().unwrap().to_str().unwrap();
    assert_eq!(named["stream"], stream);
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

    let of_call = |fault: &&Value| fault["call_id"] == ids[2].as_str() && fault["kind"] == "row";
    let named = faults.iter().find(of_call).unwrap_or_else(|| panic!("{faults:?}"));
    let segment = Segment::with(&world, &ids[2]);
    let place = &segment.events[segment.outcome(&ids[2])];
    assert_eq!(named["seq"], json!(place.seq), "{named}");
    assert!(named["detail"].as_str().unwrap().contains("outcome"), "the column: {named}");
}
