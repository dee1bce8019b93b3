//! Tampering: every way of changing a ledger is named, by kind and place.

use std::path::{Path, PathBuf};

use cordon_ledger::{
    Event, Kind, Ledger, Storage, Writer,
    disk::simulated::SimulatedDisk,
    frame::{self, FrameKind, Hash, Parsed},
    segment::Cursor,
    verify::verify,
};
use uuid::Uuid;

use crate::support::*;

/// A ledger of one segment: groups {1 open, 2}, {3}, {4 to 8}, {9 stop}; all signed.
pub(crate) struct World {
    pub(crate) disk: SimulatedDisk,
    pub(crate) folder: PathBuf,
    pub(crate) heads: PathBuf,
    segment: PathBuf,
    frames: Vec<Vec<u8>>,
}

/// The call that event `seq` names.
fn call_of(seq: u64) -> Uuid {
    Uuid::from_u128(u128::from(seq))
}

pub(crate) fn world() -> World {
    let disk = SimulatedDisk::new();
    let (gate, keeper) = gate();
    let mut options = options(16 * 1024);
    options.observer = Some(gate);
    let (ledger, _) = open_with(&disk, options).unwrap();
    let append = |seq| ledger.append(outcome(call_of(seq))).unwrap();
    append(2);
    keeper.synced.recv_timeout(PATIENCE).unwrap();
    keeper.go_on.send(()).unwrap();
    // Only behind the second sync does the writer leave what follows to one group.
    append(3).wait_written().unwrap();
    keeper.synced.recv_timeout(PATIENCE).unwrap();
    (4..=8).for_each(|seq| drop(append(seq)));
    keeper.go_on.send(()).unwrap();
    keeper.synced.recv_timeout(PATIENCE).unwrap();
    drop(keeper);
    record(&ledger, stop());
    ledger.shutdown().unwrap();
    World::of(disk, &ledger)
}

impl World {
    fn of(disk: SimulatedDisk, ledger: &Ledger) -> Self {
        let folder = stream_path(ledger);
        let segment = segments(&disk, &folder).remove(0);
        let bytes = disk.bytes(&segment).unwrap();
        let (mut frames, mut offset) = (Vec::new(), 0);
        while let Parsed::Frame(frame) = frame::parse(&bytes, offset) {
            frames.push(frame.bytes.to_vec());
            offset += frame.bytes.len();
        }
        assert!(verified(&disk).is_ok());
        Self { disk, folder, heads: heads_path(ledger), segment, frames }
    }

    /// Puts these frames where the segment was.
    pub(crate) fn put(&self, frames: &[Vec<u8>]) {
        let mut bytes = frames.concat();
        bytes.resize(16 * 1024, 0);
        self.disk.put(&self.segment, &bytes);
    }

    /// Changes the frames, and says which faults are named.
    fn after(&self, change: impl FnOnce(&mut Vec<Vec<u8>>)) -> Vec<String> {
        let mut frames = self.frames.clone();
        change(&mut frames);
        self.put(&frames);
        faults(&self.disk)
    }

    /// The frames of a history with other events and everything else that fits them: what somebody
    /// can make who knows the format and does not hold the key.
    pub(crate) fn rewritten(&self, change: impl Fn(&frame::Frame<'_>) -> Vec<u8>) -> Vec<Vec<u8>> {
        let stream = Uuid::try_parse(self.folder.file_name().unwrap().to_str().unwrap()).unwrap();
        let mut chain = Cursor::start(stream).chain;
        let (mut frames, mut group): (Vec<Vec<u8>>, Vec<u8>) = (Vec::new(), Vec::new());
        for bytes in &self.frames {
            let frame = parsed(bytes);
            if frame.kind == FrameKind::Commit {
                let count = frame.seq - frame.group_first + 1;
                let hash = hex::encode(frame::group_hash(&group));
                let json = format!("{{\"count\":{count},\"hash\":\"{hash}\"}}");
                frames.push(forged(bytes, json.as_bytes(), &chain));
                group.clear();
            } else {
                let json = change(&frame);
                let frame = forged(bytes, &json, &chain);
                chain = frame::link(&chain, &frame::leaf(&json));
                group.extend_from_slice(&frame);
                frames.push(frame);
            }
        }
        frames
    }

    /// The place of an event's frame, or of the commit frame behind it.
    fn at(&self, seq: u64, kind: Part) -> usize {
        let found = self.frames.iter().position(|bytes| {
            let frame = parsed(bytes);
            frame.seq == seq && (frame.kind == FrameKind::Commit) == (kind == Part::Commit)
        });
        found.unwrap()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Event,
    Commit,
}

fn parsed(bytes: &[u8]) -> frame::Frame<'_> {
    match frame::parse(bytes, 0) {
        Parsed::Frame(frame) => frame,
        other => panic!("{other:?}"),
    }
}

/// The frame with another JSON and chain hash, and a checksum that fits.
fn forged(bytes: &[u8], json: &[u8], chain_prev: &Hash) -> Vec<u8> {
    let mut covered = bytes[8..24].to_vec();
    covered.extend_from_slice(chain_prev);
    covered.push(bytes[56]);
    covered.extend_from_slice(json);
    let mut forged = u32::try_from(covered.len()).unwrap().to_le_bytes().to_vec();
    forged.extend_from_slice(&crc32c::crc32c(&covered).to_le_bytes());
    forged.extend_from_slice(&covered);
    forged
}

/// The event's JSON saying something else.
fn lied(bytes: &[u8]) -> Vec<u8> {
    String::from_utf8(parsed(bytes).json.to_vec()).unwrap().replace("\"ok\"", "\"no\"").into_bytes()
}

#[test]
fn a_flipped_byte_is_named_with_its_event_and_call() {
    let world = world();
    let event = world.at(6, Part::Event);
    let named = world.after(|frames| frames[event][80] ^= 1);

    assert_eq!(named, ["crc 6"]);
    let report = verified(&world.disk);
    let fault = &report.faults[0];
    assert_eq!(fault.call_id, Some(call_of(6)));
    assert!(world.segment.ends_with(fault.segment.as_ref().unwrap()));
    assert!(world.folder.ends_with(fault.stream.to_string()));
    // All the others were still read.
    assert_eq!(report.events, 8);
}

#[test]
fn a_flipped_length_is_named() {
    let world = world();
    let event = world.at(6, Part::Event);
    assert_eq!(world.after(|frames| frames[event][0] ^= 4), ["frame 6"]);
    assert_eq!(world.after(|frames| frames[event][3] ^= 4), ["frame 6"]);
}

#[test]
fn a_removed_event_is_named() {
    let world = world();
    for seq in [1, 2, 5, 6, 8] {
        let event = world.at(seq, Part::Event);
        let named = world.after(|frames| drop(frames.remove(event)));
        assert!(named.contains(&format!("missing {seq}")), "{seq}: {named:?}");
    }
}

#[test]
fn a_removed_group_is_named() {
    let world = world();
    let (first, last) = (world.at(4, Part::Event), world.at(8, Part::Commit));
    let named = world.after(|frames| drop(frames.drain(first..=last)));
    assert_eq!(named, ["missing 4"]);
    assert!(verified(&world.disk).faults[0].detail.contains("events 4 to 8"));
}

#[test]
fn two_swapped_events_are_named() {
    let world = world();
    let event = world.at(5, Part::Event);
    let named = world.after(|frames| frames.swap(event, event + 1));
    assert_eq!(named, ["sequence 5"]);
}

#[test]
fn two_swapped_groups_are_named() {
    let world = world();
    let (first, last) = (world.at(3, Part::Event), world.at(8, Part::Commit));
    let named = world.after(|frames| frames[first..=last].rotate_left(2));
    assert_eq!(named, ["sequence 3"]);
}

#[test]
fn a_group_that_stands_twice_is_named() {
    let world = world();
    let (first, behind) = (world.at(3, Part::Event), world.at(4, Part::Event));
    let named = world.after(|frames| {
        let twice: Vec<_> = frames[first..behind].to_vec();
        frames.splice(behind..behind, twice);
    });
    assert_eq!(named, ["sequence 3"]);
}

#[test]
fn a_changed_event_with_a_fitting_checksum_is_named() {
    let world = world();
    for seq in 2..=8 {
        let event = world.at(seq, Part::Event);
        let bytes = &world.frames[event];
        let forgery = forged(bytes, &lied(bytes), &parsed(bytes).chain_prev);
        let named = world.after(|frames| frames[event] = forgery);
        assert_eq!(named, [format!("chain {seq}")]);
    }
}

#[test]
fn a_removed_or_changed_commit_frame_is_named() {
    let world = world();
    let commit = world.at(8, Part::Commit);
    assert_eq!(world.after(|frames| drop(frames.remove(commit))), ["group 4"]);
    let bytes = &world.frames[commit];
    let json = br#"{"count":5,"hash":"00"}"#;
    let forgery = forged(bytes, json, &parsed(bytes).chain_prev);
    assert_eq!(world.after(|frames| frames[commit] = forgery), ["group 4"]);
    assert_eq!(world.after(|frames| frames[commit][70] ^= 1), ["crc 8"]);
}

#[test]
fn a_tail_cut_behind_a_signed_head_is_named() {
    let world = world();
    let from = world.at(4, Part::Event);
    let named = world.after(|frames| frames.truncate(from));
    assert_eq!(named, ["head 4"]);

    world.disk.remove(&world.folder.join("durable")).unwrap();
    assert_eq!(faults(&world.disk), ["head 4"]);
    let torn = world.after(|frames| {
        frames.truncate(from + 1);
        frames[from].truncate(100);
    });
    assert_eq!(torn, ["crc 4", "head 5"]);
}

#[test]
fn a_history_that_was_written_anew_is_named_by_its_head() {
    let world = world();
    let frames = world.rewritten(|frame| match frame.seq {
        1..=4 => frame.json.to_vec(),
        _ => lied(frame.bytes),
    });

    let named = world.after(|all| *all = frames);

    // The mark is in the same folder and can be written anew as well; the head is signed.
    assert_eq!(named, ["head 9", "chain 9"]);
    world.disk.remove(&world.folder.join("durable")).unwrap();
    assert_eq!(faults(&world.disk), ["head 9"]);
    assert_eq!(verified(&world.disk).after_last_head, 9);
}

#[test]
fn an_event_that_contradicts_its_frame_is_named() {
    let world = world();
    let event = world.at(9, Part::Event);
    let mut bytes = world.frames[event].clone();
    bytes[56] = 3;
    let json = parsed_json(&bytes);
    let forgery = forged(&bytes, &json, &parsed(&world.frames[event]).chain_prev);
    let commit = world.at(9, Part::Commit);
    let hash = hex::encode(frame::group_hash(&forgery));
    let json = format!("{{\"count\":1,\"hash\":\"{hash}\"}}");
    let sealed =
        forged(&world.frames[commit], json.as_bytes(), &parsed(&world.frames[commit]).chain_prev);
    let named = world.after(|frames| {
        frames[event] = forgery;
        frames[commit] = sealed;
    });
    assert_eq!(named, ["frame 9"]);
}

fn parsed_json(bytes: &[u8]) -> Vec<u8> {
    bytes[frame::HEADER_BYTES..].to_vec()
}

#[test]
fn a_last_group_on_its_way_to_the_disk_is_no_fault() {
    let world = world();
    // A writer that died while it wrote leaves such bytes; nobody was told that they are durable.
    let named = world.after(|frames| frames.push(world.frames[0][..50].to_vec()));
    assert!(named.is_empty(), "{named:?}");
    assert_eq!(verified(&world.disk).events, 9);
}

#[test]
fn lost_files_are_named() {
    let world = world();

    let disk = world.disk.after_kill();
    disk.remove(&world.heads).unwrap();
    assert_eq!(faults(&disk), ["head -"]);
    let disk = world.disk.after_kill();
    for path in disk.paths().iter().filter(|path| path.starts_with(&world.folder)) {
        disk.remove(path).unwrap();
    }
    assert_eq!(faults(&disk), ["missing -"]);
}

#[test]
fn a_lost_segment_is_named() {
    let disk = SimulatedDisk::new();
    let (ledger, _) = open_with(&disk, options(4096)).unwrap();
    for number in 0..60 {
        record(&ledger, change(number));
    }
    ledger.shutdown().unwrap();
    let paths = segments(&disk, &stream_path(&ledger));
    for path in &paths {
        let disk = disk.after_kill();
        disk.remove(path).unwrap();
        let seq: u64 = path.to_str().unwrap().rsplit('-').next().unwrap()[..20].parse().unwrap();
        let last = path == paths.last().unwrap();
        let kind = if last { "head" } else { "missing" };
        assert_eq!(faults(&disk), [format!("{kind} {seq}")]);
    }
}

#[test]
fn a_stream_in_the_making_lacks_nothing() {
    let disk = SimulatedDisk::new();
    let (ledger, _) = open(&disk);
    record(&ledger, change(0));
    ledger.shutdown().unwrap();
    let young = Uuid::from_u128(7);
    let folder = Path::new("/data/ledger").join(young.to_string());
    disk.create_dir(&folder).unwrap();
    assert_eq!(faults(&disk), [""; 0]);
    let heads = Path::new("/data/heads").join(format!("{young}.heads"));
    disk.put(&heads, b"");
    assert_eq!(faults(&disk), [""; 0]);
    disk.put(&folder.join("writer"), b"collector\n");
    assert_eq!(faults(&disk), [""; 0]);
    disk.remove(&heads).unwrap();
    assert_eq!(faults(&disk), ["head -"]);
}

#[test]
fn a_stream_that_is_made_while_others_are_verified_lacks_nothing() {
    let disk = SimulatedDisk::new();
    let (ledger, _) = open(&disk);
    record(&ledger, change(0));
    let mut theirs = options(16 * 1024);
    theirs.writer = Writer::Collector;
    let mut made = false;

    let (streams, heads) = (Path::new("/data/ledger"), Path::new("/data/heads"));
    let report = verify(&disk, streams, heads, &mut |_, _| {
        if !std::mem::replace(&mut made, true) {
            let (collector, _) = open_with(&disk, theirs.clone()).unwrap();
            record(&collector, draft(Kind::Access, None, "{}"));
            collector.shutdown().unwrap();
        }
    });

    let report = report.unwrap();
    assert!(report.is_ok(), "{:?}", report.faults);
    assert_eq!(disk.list(streams).unwrap().len(), 2);
}

#[test]
fn a_key_that_is_new_while_others_are_verified_is_known() {
    let disk = SimulatedDisk::new();
    let options = |writer| {
        let mut options = options(16 * 1024);
        options.writer = writer;
        options
    };
    for writer in [Writer::Gateway, Writer::Collector] {
        let (ledger, _) = open_with(&disk, options(writer)).unwrap();
        record(&ledger, change(0));
        ledger.shutdown().unwrap();
    }
    let mut renewed = false;

    let (streams, heads) = (Path::new("/data/ledger"), Path::new("/data/heads"));
    let report = verify(&disk, streams, heads, &mut |folder, _| {
        if !std::mem::replace(&mut renewed, true) {
            let other = match folder.writer.unwrap() {
                Writer::Gateway => Writer::Collector,
                Writer::Collector => Writer::Gateway,
            };
            let mut options = options(other);
            options.signing_key = "/data/renewed.key".into();
            let (ledger, _) = open_with(&disk, options).unwrap();
            record(&ledger, change(1));
            ledger.shutdown().unwrap();
        }
    });

    let report = report.unwrap();
    assert!(report.is_ok(), "{:?}", report.faults);
}

#[test]
fn events_behind_the_last_head_are_counted() {
    let disk = SimulatedDisk::new();
    let (ledger, _) = open(&disk);
    record(&ledger, change(0));
    ledger.shutdown().unwrap();
    let (ledger, _) = open(&disk);
    record(&ledger, change(1));
    record(&ledger, change(2));

    let report = verified(&disk.after_kill());

    assert_eq!((report.events, report.after_last_head), (4, 2));
    assert!(report.is_ok());
    ledger.shutdown().unwrap();
    assert_eq!(verified(&disk).after_last_head, 0);
}

#[test]
fn each_intact_event_is_handed_on() {
    let world = world();
    let event = world.at(6, Part::Event);
    world.after(|frames| frames[event][80] ^= 1);
    let mut seqs = Vec::new();
    let (ledger, heads) = (Path::new("/data/ledger"), Path::new("/data/heads"));
    verify(&world.disk, ledger, heads, &mut |_, entry| {
        assert_eq!(Event::parse(entry.json).unwrap().seq, entry.seq);
        seqs.push(entry.seq);
    })
    .unwrap();
    assert_eq!(seqs, [1, 2, 3, 4, 5, 7, 8, 9]);
}
