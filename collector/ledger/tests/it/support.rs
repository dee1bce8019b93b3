//! A ledger on a simulated disk, and what tests ask of it.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

use cordon_ledger::{
    DecisionBody, Draft, Event, Kind, Ledger, Observer, OpenError, Options, Recovered, Storage,
    Writer,
    disk::simulated::SimulatedDisk,
    follow::{self, Follower, Record},
    segment,
    verify::{Report, verify},
};
use uuid::Uuid;

/// Long enough for any machine; a test that waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn options(segment_bytes: u64) -> Options {
    Options {
        stream_dir_parent: "/data/ledger".into(),
        heads_dir: "/data/heads".into(),
        signing_key: "/data/signing.key".into(),
        bytes_max: 64 * 1024 * 1024,
        segment_bytes,
        // No head between start and end, however slow the machine.
        head_every: Duration::from_secs(3600),
        writer: Writer::Gateway,
        gateway_version: "0.1.0".to_owned(),
        config_digest: None,
        observer: None,
    }
}

pub(crate) fn storage(disk: &SimulatedDisk) -> Arc<dyn Storage> {
    Arc::new(disk.clone())
}

pub(crate) fn open_with(
    disk: &SimulatedDisk,
    options: Options,
) -> Result<(Ledger, Recovered), OpenError> {
    Ledger::open(options, storage(disk))
}

pub(crate) fn open(disk: &SimulatedDisk) -> (Ledger, Recovered) {
    open_with(disk, options(64 * 1024)).unwrap()
}

pub(crate) fn draft(kind: Kind, call_id: Option<Uuid>, body: &str) -> Draft {
    let tenant = Some(Arc::from("demo"));
    Draft { kind, tenant, call_id, body: body.as_bytes().to_vec(), decision: None }
}

pub(crate) fn intent(call_id: Uuid, attempt: u32) -> Draft {
    draft(Kind::Intent, Some(call_id), &format!("{{\"attempt\":{attempt}}}"))
}

pub(crate) fn attempt(call_id: Uuid, attempt: u32) -> Draft {
    draft(Kind::Attempt, Some(call_id), &format!("{{\"attempt\":{attempt}}}"))
}

pub(crate) fn outcome(call_id: Uuid) -> Draft {
    draft(Kind::Outcome, Some(call_id), "{\"outcome\":\"ok\"}")
}

pub(crate) fn change(number: usize) -> Draft {
    draft(Kind::Change, None, &format!("{{\"number\":{number}}}"))
}

pub(crate) fn stop() -> Draft {
    draft(Kind::Stop, None, "{\"reason\":\"test\"}")
}

pub(crate) fn decision(digest: &str) -> DecisionBody {
    let body = format!("{{\"digest\":\"{digest}\"}}");
    DecisionBody { digest: Arc::from(digest), body: Arc::from(body.as_bytes()) }
}

/// Appends and waits until the event is durable; its seq.
pub(crate) fn record(ledger: &Ledger, draft: Draft) -> u64 {
    ledger.append(draft).unwrap().wait_durable().unwrap().seq
}

pub(crate) fn stream_path(ledger: &Ledger) -> PathBuf {
    Path::new("/data/ledger").join(ledger.stream().to_string())
}

/// Where a stream's heads are.
pub(crate) fn heads_path(ledger: &Ledger) -> PathBuf {
    Path::new("/data/heads").join(format!("{}.heads", ledger.stream()))
}

/// The sizes that the stream's signed heads name.
pub(crate) fn head_sizes(disk: &SimulatedDisk, ledger: &Ledger) -> Vec<u64> {
    let text = String::from_utf8(disk.bytes(&heads_path(ledger)).unwrap()).unwrap();
    let notes = text.split("cordon/ledger/").filter(|part| part.lines().count() > 3);
    notes.map(|note| note.lines().nth(1).unwrap().parse().unwrap()).collect()
}

/// The paths of a stream's segments, in order.
pub(crate) fn segments(disk: &SimulatedDisk, folder: &Path) -> Vec<PathBuf> {
    let names = segment::list(disk, folder).unwrap();
    names.iter().map(|name| name.path(folder)).collect()
}

pub(crate) fn follower(disk: &SimulatedDisk) -> Follower {
    let folder = follow::streams(disk, Path::new("/data/ledger")).unwrap().remove(0);
    Follower::open(storage(disk), &folder, None).unwrap()
}

/// All events that a reader sees.
pub(crate) fn read(disk: &SimulatedDisk) -> Vec<Record> {
    let mut follower = follower(disk);
    let mut records = Vec::new();
    loop {
        let batch = follower.next_batch(7, 10_000).unwrap();
        if batch.is_empty() {
            return records;
        }
        records.extend(batch);
    }
}

pub(crate) fn events(disk: &SimulatedDisk) -> Vec<Event> {
    read(disk).iter().map(|record| Event::parse(&record.json).unwrap()).collect()
}

pub(crate) fn verified(disk: &SimulatedDisk) -> Report {
    verify(disk, Path::new("/data/ledger"), Path::new("/data/heads"), &mut |_, _| {}).unwrap()
}

/// The words of all faults: `kind seq`.
pub(crate) fn faults(disk: &SimulatedDisk) -> Vec<String> {
    let fault = |fault: &cordon_ledger::verify::Fault| {
        let seq = fault.seq.map_or("-".to_owned(), |seq| seq.to_string());
        format!("{} {seq}", fault.kind.name())
    };
    verified(disk).faults.iter().map(fault).collect()
}

/// Holds the writer behind each sync, before anything is published, until it is let on.
pub(crate) struct Gate {
    synced: Mutex<Sender<()>>,
    go_on: Mutex<Receiver<()>>,
}

/// The test's side of a gate.
pub(crate) struct Keeper {
    pub(crate) synced: Receiver<()>,
    pub(crate) go_on: Sender<()>,
}

pub(crate) fn gate() -> (Arc<Gate>, Keeper) {
    let (synced_sender, synced) = channel();
    let (go_on, go_on_receiver) = channel();
    let gate = Gate { synced: Mutex::new(synced_sender), go_on: Mutex::new(go_on_receiver) };
    (Arc::new(gate), Keeper { synced, go_on })
}

impl Observer for Gate {
    fn fsync(&self, _duration: Duration) {
        // A keeper that is gone holds nobody.
        if self.synced.lock().unwrap().send(()).is_ok() {
            let _let_on = self.go_on.lock().unwrap().recv_timeout(PATIENCE);
        }
    }

    fn event(&self, _kind: Kind) {}

    fn poisoned(&self, _reason: &str) {}
}

/// A small generator of choices, the same for the same seed.
pub(crate) struct Choices(pub(crate) u64);

impl Choices {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % bound.max(1)
    }
}
