//! The processes die, the disk fails: nothing that was seen goes unrecorded.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use cordon_system::{
    client,
    upstream::Upstream,
    world::{EUROPEAN, World},
};
use rand::Rng;

const ROUNDS: usize = 8;

/// What one round of load saw.
#[derive(Debug, Default)]
struct Load {
    completed: Vec<String>,
}

/// Sends calls from several clients until `stop`.
fn load(world: &World, stop: &AtomicBool) -> Load {
    let ask = |stream: bool| {
        let mut completed = Vec::new();
        while !stop.load(Ordering::SeqCst) {
            let reply = client::send(world.ai(), &world.question("hello", stream));
            let Ok(reply) = reply else { continue };
            if reply.status == 200 && reply.complete {
                completed.push(reply.call_id());
            }
        }
        completed
    };
    let completed = thread::scope(|scope| {
        let clients: Vec<_> =
            [true, false, true].map(|stream| scope.spawn(move || ask(stream))).into();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    Load { completed }
}

/// Runs load, waits a random moment, and does `harm` to the world from another thread.
fn load_and_harm(world: &World, harm: impl FnOnce() + Send) -> Load {
    let stop = AtomicBool::new(false);
    let moment = Duration::from_millis(rand::rng().random_range(150..700));
    thread::scope(|scope| {
        let running = scope.spawn(|| load(world, &stop));
        // The moment is random on purpose: every place of the write path is hit in some round.
        thread::sleep(moment);
        harm();
        stop.store(true, Ordering::SeqCst);
        running.join().unwrap()
    })
}

fn check(world: &World, upstream: &Upstream, completed: &[String]) {
    let verified = world.verify();
    assert_eq!(verified["ok"], true, "{verified}\n{}", world.log());
    let ids = |statement: &str| -> Vec<String> {
        let rows = world.sql(statement);
        rows.iter().map(|row| row["call_id"].as_str().unwrap().to_owned()).collect()
    };
    let calls = ids("SELECT call_id FROM calls");
    let unique: BTreeSet<_> = calls.iter().cloned().collect();
    assert_eq!(calls.len(), unique.len(), "a call has exactly one row");
    for id in completed {
        assert!(unique.contains(id), "{id} was answered and has no outcome");
    }
    let intents = ids("SELECT call_id FROM events WHERE kind = 'intent'");
    assert!(
        upstream.seen().len() <= intents.len(),
        "{} requests seen, {} intents",
        upstream.seen().len(),
        intents.len()
    );
    for id in &intents {
        assert!(unique.contains(id), "{id} has an intent and no outcome");
    }
}

#[test]
fn kill_9_at_random_moments_loses_nothing() {
    let upstream = Upstream::start();
    let mut world = World::builder().upstream("first", &upstream, EUROPEAN).start();
    let mut completed = Vec::new();
    for round in 0..ROUNDS {
        let pid = world.gateway_pid();
        completed.extend(
            load_and_harm(&world, || match round % 3 {
                0 => kill(pid),
                1 => kill_collectors(&world),
                _both => {
                    kill(pid);
                    kill_collectors(&world);
                }
            })
            .completed,
        );
        if !world.runs() {
            world.kill_gateway();
            world.launch();
        }
    }
    assert!(completed.len() > ROUNDS, "the load was no load: {}", completed.len());
    check(&world, &upstream, &completed);
    let unknown = world.sql("SELECT count(*) AS n FROM calls WHERE outcome = 'unknown'");
    println!("{} calls answered, {} unknown after crashes", completed.len(), unknown[0]["n"]);
}

fn kill(pid: u32) {
    drop(Command::new("kill").args(["-9", &pid.to_string()]).status());
}

fn kill_collectors(world: &World) {
    let pattern = format!("cordon-collector run --data {}", world.data().display());
    drop(Command::new("pkill").args(["-9", "-f", &pattern]).status());
}

/// Compiles the shim that makes `fdatasync` fail once its trigger file is there.
fn shim(folder: &std::path::Path) -> PathBuf {
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("shims/failing_sync.c");
    let library = folder.join("failing_sync.so");
    let status = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(source)
        .arg("-ldl")
        .status()
        .unwrap();
    assert!(status.success());
    library
}

#[test]
fn a_disk_that_fails_to_sync_stops_every_call_before_it_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let library = shim(folder.path());
    let trigger = folder.path().join("fail");
    let upstream = Upstream::start();
    let world = World::builder()
        .upstream("first", &upstream, EUROPEAN)
        .environment("LD_PRELOAD", library.to_str().unwrap())
        .environment("FAILING_SYNC_TRIGGER", trigger.to_str().unwrap())
        .start();
    assert_eq!(world.ask("hello").status, 200);
    let before = upstream.seen().len();

    std::fs::write(&trigger, "EIO").unwrap();

    for _ in 0..3 {
        let reply = world.ask("hello");
        assert_eq!((reply.status, reply.code().as_str()), (503, "AUDIT_UNAVAILABLE"));
        assert_eq!(reply.header("x-should-retry"), Some("false"));
    }
    assert_eq!(upstream.seen().len(), before, "nothing may leave without its intent");
    let ready = client::send(world.ai(), &client::Request::get("/readyz", "")).unwrap();
    assert_eq!(ready.status, 503);
    let metrics = world.send_admin(&client::Request::get("/metrics", "")).text();
    assert!(metrics.contains("cordon_ledger_poisoned 1"), "{metrics}");
}
