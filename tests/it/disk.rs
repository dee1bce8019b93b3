//! The disk fails: nothing leaves without its intent, and no answer ends without its outcome.

use std::{fs, path::PathBuf, process::Command};

use cordon_system::{
    client::{self, Request},
    upstream::{Act, Upstream},
    world::{EUROPEAN, World},
};
use tempfile::TempDir;

/// What a disk says when it fails, as the shim is told.
const FAULTS: [&str; 2] = ["EIO", "ENOSPC"];

/// A disk whose `fdatasync` fails while a file is there that names the fault.
struct Disk {
    _folder: TempDir,
    library: PathBuf,
    trigger: PathBuf,
}

impl Disk {
    /// Compiles the shim that is loaded before a gateway's own library.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("shims/failing_sync.c");
        let library = folder.path().join("failing_sync.so");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-ldl");
        assert!(compiler.status().unwrap().success());
        let trigger = folder.path().join("fault");
        Self { _folder: folder, library, trigger }
    }

    /// A gateway on this disk before one upstream.
    fn world(&self, upstream: &Upstream, mode: &str) -> World {
        World::builder()
            .upstream("first", upstream, EUROPEAN)
            .mode(mode)
            .environment("LD_PRELOAD", self.library.to_str().unwrap())
            .environment("FAILING_SYNC_TRIGGER", self.trigger.to_str().unwrap())
            .start()
    }

    fn fail(&self, fault: &str) {
        fs::write(&self.trigger, fault).unwrap();
    }

    fn mend(&self) {
        fs::remove_file(&self.trigger).unwrap();
    }
}

#[test]
fn a_disk_that_fails_to_sync_stops_every_call_before_it_leaves() {
    for fault in FAULTS {
        let (disk, upstream) = (Disk::new(), Upstream::start());
        let mut world = disk.world(&upstream, "required");
        assert_eq!(world.ask("hello").status, 200);
        let before = upstream.seen().len();

        disk.fail(fault);

        for _ in 0..3 {
            let reply = world.ask("hello");
            assert_eq!((reply.status, reply.code().as_str()), (503, "AUDIT_UNAVAILABLE"));
            assert_eq!(reply.header("x-should-retry"), Some("false"));
        }
        assert_eq!(upstream.seen().len(), before, "nothing may leave without its intent");
        let ready = client::send(world.ai(), &Request::get("/readyz", "")).unwrap();
        assert_eq!(ready.status, 503);
        let metrics = world.send_admin(&Request::get("/metrics", "")).text();
        assert!(metrics.contains("cordon_ledger_poisoned 1"), "{metrics}");

        disk.mend();
        world.stop();
        world.launch();

        assert_eq!(world.ask("hello").status, 200, "{fault}: a mended disk serves again");
        assert_eq!(world.verify()["ok"], true, "{fault}: {}", world.verify());
    }
}

/// The disk fails while the upstream answers: behind the intent, before the outcome.
fn ask_while_it_fails(mode: &str, stream: bool, fault: &'static str) -> client::Reply {
    let disk = Disk::new();
    let upstream = Upstream::script([Act::AnswerAfterWriting(disk.trigger.clone(), fault)]);
    let world = disk.world(&upstream, mode);
    let reply = world.send(&world.question("hello", stream));
    assert_eq!(upstream.seen().len(), 1, "the intent was on disk");
    assert_eq!(world.ask("hello").status, 503, "nothing goes after it");
    assert_eq!(upstream.seen().len(), 1);
    reply
}

#[test]
fn in_required_full_no_answer_ends_before_its_outcome_is_on_disk() {
    for fault in FAULTS {
        let stream = ask_while_it_fails("required_full", true, fault);
        assert!(!stream.text().contains("[DONE]"), "{fault}: {}", stream.text());
        let whole = ask_while_it_fails("required_full", false, fault);
        assert_eq!((whole.status, whole.code().as_str()), (503, "AUDIT_UNAVAILABLE"), "{fault}");
        assert!(!whole.text().contains("The answer"), "{fault}: {}", whole.text());
    }
}

#[test]
fn in_required_an_answer_ends_once_its_outcome_is_written() {
    let stream = ask_while_it_fails("required", true, "EIO");
    assert_eq!(stream.events().last().map(String::as_str), Some("[DONE]"));
}
