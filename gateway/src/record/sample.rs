//! A recorder over a simulated disk, for tests of this module and of what takes a clearance.

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

use cordon_ledger::{
    Event, Kind, Ledger, Observer, Options, Recovered, Writer,
    disk::simulated::SimulatedDisk,
    follow::{self, Follower},
};

use crate::{
    catalog::Upstream,
    identity::Caller,
    policy::{Outbound, Permitted},
    record::{CallId, Clearance, Entry, Mode, Recorder, metrics::Metrics},
};

/// Long enough for any machine; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

fn options() -> Options {
    Options {
        stream_dir_parent: "/data/ledger".into(),
        heads_dir: "/data/heads".into(),
        signing_key: "/data/signing.key".into(),
        bytes_max: 64 << 20,
        segment_bytes: 1 << 20,
        head_every: Duration::from_secs(3600),
        writer: Writer::Gateway,
        gateway_version: "test".to_owned(),
        config_digest: None,
        observer: None,
    }
}

/// A recorder and the disk under it.
pub(crate) struct World {
    pub(crate) disk: SimulatedDisk,
    pub(crate) recorder: Recorder,
    /// What the start found.
    pub(crate) recovered: Recovered,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::on(SimulatedDisk::new(), Mode::Required)
    }

    pub(crate) fn on(disk: SimulatedDisk, mode: Mode) -> Self {
        Self::with(disk, mode, options())
    }

    /// One that takes nothing but what ends something.
    pub(crate) fn full() -> Self {
        let options = Options { bytes_max: 256, ..options() };
        Self::with(SimulatedDisk::new(), Mode::Required, options)
    }

    /// One whose disk answers when the keeper lets it.
    pub(crate) fn held(mode: Mode) -> (Self, Keeper) {
        let (gate, keeper) = gate();
        let options = Options { observer: Some(gate), ..options() };
        (Self::with(SimulatedDisk::new(), mode, options), keeper)
    }

    fn with(disk: SimulatedDisk, mode: Mode, options: Options) -> Self {
        let opened = Ledger::open(options, Arc::new(disk.clone()));
        let (ledger, recovered) = opened.expect("a disk in memory");
        let recorder = Recorder::new(ledger, mode, Arc::new(Metrics::new()), [7; 32]);
        Self { disk, recorder, recovered }
    }

    /// A call of tenant `demo`.
    pub(crate) fn entry(&self) -> Entry {
        let caller = Arc::new(Caller::sample("demo"));
        self.recorder.open(&caller, CallId::new()).expect("the ledger takes calls")
    }

    /// All durable events but `open`.
    pub(crate) fn events(&self) -> Vec<Event> {
        let folder = follow::streams(&self.disk, Path::new("/data/ledger")).unwrap().remove(0);
        let mut follower = Follower::open(Arc::new(self.disk.clone()), &folder, None).unwrap();
        let records = follower.next_batch(usize::MAX, usize::MAX).unwrap();
        let events = records.iter().map(|record| Event::parse(&record.json).unwrap());
        events.filter(|event| event.kind != Kind::Open).collect()
    }

    /// The events of one kind.
    pub(crate) fn of(&self, kind: Kind) -> Vec<Event> {
        self.events().into_iter().filter(|event| event.kind == kind).collect()
    }
}

/// A clearance as a call gets it: an entry, its intent on disk.
pub(crate) async fn cleared(
    upstream: Arc<Upstream>,
    outbound: Outbound,
    stream: bool,
) -> Clearance {
    let target = Permitted { upstream, rank: 1, basis: Arc::from([]), mechanism: None };
    let mut entry = World::new().entry();
    entry.clear(&target, outbound, stream).await.expect("the ledger takes intents")
}

/// Holds the writer behind each sync, before anything is durable, until it is let on.
struct Gate {
    synced: Mutex<Sender<()>>,
    go_on: Mutex<Receiver<()>>,
}

/// The test's side of a gate. One that is gone holds nobody.
pub(crate) struct Keeper {
    pub(crate) synced: Receiver<()>,
    pub(crate) go_on: Sender<()>,
}

fn gate() -> (Arc<Gate>, Keeper) {
    let (synced_sender, synced) = channel();
    let (go_on, go_on_receiver) = channel();
    let gate = Gate { synced: Mutex::new(synced_sender), go_on: Mutex::new(go_on_receiver) };
    (Arc::new(gate), Keeper { synced, go_on })
}

impl Keeper {
    /// Waits until the writer is held.
    pub(crate) fn holds(&self) {
        self.synced.recv_timeout(PATIENCE).expect("the writer syncs");
    }
}

impl Observer for Gate {
    fn fsync(&self, _duration: Duration) {
        if self.synced.lock().unwrap().send(()).is_ok() {
            self.go_on.lock().unwrap().recv_timeout(PATIENCE).ok();
        }
    }

    fn event(&self, _kind: Kind) {}

    fn poisoned(&self, _reason: &str) {}
}
