//! Processes die at random moments under load: nothing that was seen goes unrecorded.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::process::ExitStatusExt,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use cordon_system::{
    client::{self, Reply, Request},
    upstream::{Seen, Upstream},
    world::{EUROPEAN, World},
};
use hmac::{Hmac, Mac};
use rand::Rng;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Deaths in each mode of the ledger.
const ROUNDS: usize = 12;
/// What the clients ask for, one each.
const STREAMS: [bool; 3] = [true, false, true];

/// Which processes die in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victims {
    Gateway,
    Collector,
    Both,
}

/// Clients that ask again and again until the load is ended.
struct Load<'a> {
    world: &'a World,
    /// Counts through all rounds, so that no two questions are alike.
    asked: &'a AtomicUsize,
    ended: AtomicBool,
    /// Calls whose answer reached its client whole.
    answered: Mutex<Vec<String>>,
}

/// Ends a load when it goes, also where a check failed.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

// === impl Load ===

impl Load<'_> {
    fn run(&self, stream: bool) {
        while !self.ended.load(Ordering::SeqCst) {
            let number = self.asked.fetch_add(1, Ordering::SeqCst);
            let question = self.world.question(&format!("question {number}"), stream);
            let Ok(reply) = client::send(self.world.ai(), &question) else { continue };
            if is_whole(&reply, stream) {
                self.answered.lock().unwrap().push(reply.call_id());
            }
        }
    }

    fn answered(&self) -> usize {
        self.answered.lock().unwrap().len()
    }
}

fn is_whole(reply: &Reply, stream: bool) -> bool {
    let ended = !stream || reply.events().last().is_some_and(|event| event == "[DONE]");
    reply.status == 200 && reply.complete && ended
}

// === impl Victims ===

impl Victims {
    fn include_gateway(self) -> bool {
        self != Self::Collector
    }

    /// `collector` is the one that the gateway keeps.
    fn kill(self, gateway: u32, collector: u32) {
        let (first, second) = match self {
            Self::Gateway => (gateway, None),
            Self::Collector => (collector, None),
            // Either may die first.
            Self::Both if rand::rng().random() => (gateway, Some(collector)),
            Self::Both => (collector, Some(gateway)),
        };
        for process in std::iter::once(first).chain(second) {
            let process = Pid::from_raw(process.cast_signed()).unwrap();
            kill_process(process, Signal::KILL).unwrap();
        }
    }
}

/// The collector that this world's gateway keeps, while it lives.
fn collector(world: &World) -> Option<u32> {
    let parent = world.gateway_pid().to_string();
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let process = entry.unwrap().file_name().to_str()?.parse().ok()?;
        // `pid (name) state parent …`: the name may hold anything but ends with the last bracket.
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        let (before, after) = stat.rsplit_once(") ")?;
        let mut after = after.split(' ');
        let lives = after.next()? != "Z" && after.next()? == parent;
        (lives && before.contains("(cordon-collect")).then_some(process)
    });
    let found: Vec<u32> = processes.collect();
    assert!(found.len() < 2, "{found:?}");
    found.first().copied()
}

/// Runs load, waits a random moment, and kills. Gives the calls that were answered.
fn round(world: &World, victims: Victims, asked: &AtomicUsize) -> Vec<String> {
    let mut kept = None;
    world.wait_until("a collector answers", |world| {
        kept = collector(world);
        kept.is_some() && metric(world, "cordon_collector_up") == "1"
    });
    let kept = kept.unwrap();
    let answered = Mutex::default();
    let load = Load { world, asked, ended: AtomicBool::new(false), answered };
    thread::scope(|scope| {
        let _ending = Ending(&load.ended);
        for stream in STREAMS {
            let load = &load;
            scope.spawn(move || load.run(stream));
        }
        // The moment is random on purpose: every place of the write path is hit in some round.
        let moment = Duration::from_millis(rand::rng().random_range(150..700));
        println!("{victims:?} after {moment:?}");
        thread::sleep(moment);
        victims.kill(world.gateway_pid(), kept);
        if !victims.include_gateway() {
            goes_on_without(kept, &load);
        }
    });
    load.answered.into_inner().unwrap()
}

/// A collector's death is noticed and mended, and no call waits for that.
fn goes_on_without(kept: u32, load: &Load<'_>) {
    let before = load.answered();
    let world = load.world;
    world.wait_until("calls are answered meanwhile", |_| load.answered() >= before + 5);
    world.wait_until("the collector is started again", |world| {
        let another = collector(world).is_some_and(|another| another != kept);
        another && metric(world, "cordon_collector_restarts_total") != "0"
    });
}

/// The value of a metric without labels.
fn metric(world: &World, name: &str) -> String {
    let metrics = world.send_admin(&Request::get("/metrics", "")).text();
    let mut lines = metrics.lines().filter_map(|line| line.split_once(' '));
    let (_, value) = lines.find(|(each, _)| *each == name).unwrap();
    value.to_owned()
}

fn kills_lose_nothing(mode: &str) {
    let upstream = Upstream::start();
    let mut world = World::builder().upstream("first", &upstream, EUROPEAN).mode(mode).start();
    let (asked, mut answered, mut deaths) = (AtomicUsize::new(0), Vec::new(), 0);
    for number in 0..ROUNDS {
        let victims = [Victims::Gateway, Victims::Collector, Victims::Both][number % 3];
        answered.extend(round(&world, victims, &asked));
        if victims.include_gateway() {
            assert_eq!(world.await_end().signal(), Some(Signal::KILL.as_raw()));
            deaths += 1;
            world.launch();
        }
        assert!(world.runs(), "{}", world.log());
    }
    assert!(answered.len() > 5 * ROUNDS, "the load was no load: {}", answered.len());

    let verified = world.verify();
    assert_eq!(verified["ok"], true, "{verified}\n{}", world.log());
    every_call_has_one_outcome(&world, &answered);
    every_request_has_its_intent(&world, &upstream.seen());
    every_start_is_told(&world, 1 + deaths);
}

fn text<'a>(row: &'a Value, column: &str) -> &'a str {
    row[column].as_str().unwrap()
}

fn every_call_has_one_outcome(world: &World, answered: &[String]) {
    let twice = "SELECT call_id FROM events WHERE kind = 'outcome' \
                 GROUP BY call_id HAVING count(*) > 1";
    assert_eq!(world.sql(twice), [] as [Value; 0]);
    let calls = world.sql("SELECT call_id, outcome FROM calls");
    let outcomes: BTreeMap<&str, &str> =
        calls.iter().map(|row| (text(row, "call_id"), text(row, "outcome"))).collect();
    assert_eq!(calls.len(), outcomes.len(), "a call has exactly one row");
    for call in answered {
        assert_eq!(outcomes.get(call.as_str()), Some(&"ok"), "{call} was answered");
    }
    for intent in world.sql("SELECT DISTINCT call_id FROM events WHERE kind = 'intent'") {
        let call = text(&intent, "call_id");
        assert!(outcomes.contains_key(call), "{call} has an intent and no outcome");
    }
    let unknown = outcomes.values().filter(|outcome| **outcome == "unknown").count();
    println!("{} calls answered, {unknown} of {} unknown", answered.len(), calls.len());
}

/// No two bodies are alike, so that an intent stands for the one body whose hash it holds.
fn every_request_has_its_intent(world: &World, seen: &[Seen]) {
    let salt = fs::read(world.data().join("body-hash.key")).unwrap();
    let intents = world.sql("SELECT body_json FROM events WHERE kind = 'intent'");
    let announced: BTreeSet<String> = intents
        .iter()
        .map(|row| {
            let event: Value = serde_json::from_str(text(row, "body_json")).unwrap();
            text(&event["body"], "outbound_digest").to_owned()
        })
        .collect();
    let bodies: BTreeSet<&[u8]> = seen.iter().map(|seen| seen.body.as_slice()).collect();
    assert_eq!(bodies.len(), seen.len(), "no body may be sent twice");
    for body in bodies {
        let mut mac = Hmac::<Sha256>::new_from_slice(&salt).unwrap();
        mac.update(&Sha256::digest(body));
        let hash = hex::encode(mac.finalize().into_bytes());
        assert!(announced.contains(&hash), "no intent: {}", String::from_utf8_lossy(body));
    }
}

fn every_start_is_told(world: &World, starts: usize) {
    let own = "SELECT count(*) AS n FROM events WHERE kind = 'start' AND stream_id IN \
               (SELECT stream_id FROM events WHERE kind = 'intent')";
    assert_eq!(world.sql(own)[0]["n"], starts);
}

#[test]
fn kill_9_at_random_moments_loses_nothing() {
    kills_lose_nothing("required");
}

#[test]
fn kill_9_at_random_moments_loses_nothing_where_answers_wait_for_the_disk() {
    kills_lose_nothing("required_full");
}
