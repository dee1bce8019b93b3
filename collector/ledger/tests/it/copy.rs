//! Copies of a ledger that is being written: what they must leave out, and that they then hold.

use std::{path::Path, process::Command, sync::Arc, thread};

use cordon_ledger::{
    Kind, Ledger, RealDisk, Storage, disk::simulated::SimulatedDisk, verify::verify,
};

use crate::support::*;

#[test]
fn a_copy_whose_mark_is_younger_than_its_segments_holds_without_the_mark() {
    let disk = SimulatedDisk::new();
    let (ledger, _) = open(&disk);
    record(&ledger, change(0));
    let copy = disk.after_kill();
    record(&ledger, change(1));
    let mark = stream_path(&ledger).join("durable");
    copy.put(&mark, &disk.bytes(&mark).unwrap());

    assert_eq!(faults(&copy), ["missing 3"]);
    assert!(open_with(&copy, options(16 * 1024)).is_err());
    copy.remove(&mark).unwrap();
    assert_eq!(faults(&copy), [""; 0]);
    assert_eq!(read(&copy).len(), 2);
    let (restored, _) = open_with(&copy, options(16 * 1024)).unwrap();
    assert_eq!(record(&restored, change(2)), 3);
}

/// What docs/operations.md and docs/compliance.md tell to do.
const COPY: &str = "mkdir copy && cp -r heads copy/ && cp -r --sparse=always ledger copy/ && \
                    rm -f copy/ledger/*/durable";

#[test]
fn a_copy_of_a_running_ledger_verifies_and_starts() {
    let folder = tempfile::tempdir().unwrap();
    let within = |path: &Path| {
        let mut options = options(1024 * 1024);
        options.stream_dir_parent = path.join("ledger");
        options.heads_dir = path.join("heads");
        options.signing_key = folder.path().join("signing.key");
        options
    };
    let (ledger, _) = Ledger::open(within(folder.path()), Arc::new(RealDisk)).unwrap();
    record(&ledger, change(0));
    let (writer, stopped) = (ledger.clone(), Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let stop = Arc::clone(&stopped);
    let writing = thread::spawn(move || {
        let mut number = 0;
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            number += 1;
            record(&writer, change(number));
        }
    });

    for _copy in 0..3 {
        let done = Command::new("sh").args(["-c", COPY]).current_dir(folder.path()).status();
        assert!(done.unwrap().success());
        let copy = folder.path().join("copy");
        let options = within(&copy);
        let verified =
            verify(&RealDisk, &options.stream_dir_parent, &options.heads_dir, &mut |_, _| {});
        let report = verified.unwrap();
        assert!(report.is_ok() && report.events > 1, "{:?}", report.faults);
        let (restored, _) = Ledger::open(options, Arc::new(RealDisk)).unwrap();
        assert!(record(&restored, draft(Kind::Start, None, "{}")) > report.events);
        restored.shutdown().unwrap();
        std::fs::remove_dir_all(&copy).unwrap();
    }
    stopped.store(true, std::sync::atomic::Ordering::Relaxed);
    writing.join().unwrap();
    ledger.shutdown().unwrap();
}
