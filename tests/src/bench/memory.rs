//! What an open stream costs in memory: the resident set of a gateway with some hundred streams
//! open at once, less what it is without any.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Serialize;

use crate::bench::{plan::Subject, subject::Pinned};

/// Streams open at once; few enough for the usual limit of a thousand descriptors.
pub const STREAMS: usize = 400;
/// How often is looked.
const LOOK: Duration = Duration::from_millis(50);

/// A gateway's resident memory.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Memory {
    pub subject: Subject,
    /// After streams that have ended.
    pub idle_kib: u64,
    /// The most that was seen while all streams were open.
    pub open_kib: u64,
}

// === impl Memory ===

impl Memory {
    /// Kibibytes of one open stream.
    pub fn per_stream_kib(&self) -> f64 {
        self.open_kib.saturating_sub(self.idle_kib) as f64 / STREAMS as f64
    }
}

/// The resident set of a process now, in KiB.
pub fn resident_kib(process: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    parse(&status).context("a process has a resident set")
}

/// The largest resident set of `process` while `load` runs, which must end well.
pub fn most_kib(process: u32, mut load: Pinned, at_most: Duration) -> Result<u64> {
    let end = Instant::now() + at_most;
    let mut most = 0;
    loop {
        match load.ended_well()? {
            Some(true) => return Ok(most),
            Some(false) => bail!("not every stream was whole"),
            None => ensure!(Instant::now() < end, "the load does not end"),
        }
        most = most.max(resident_kib(process)?);
        thread::sleep(LOOK);
    }
}

fn parse(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resident_set_is_read_and_shared_among_the_streams() {
        assert_eq!(parse("VmHWM:\t  9 kB\nVmRSS:\t  120496 kB\n"), Some(120_496));
        assert_eq!(parse("Name: x\n"), None);
        assert!(resident_kib(std::process::id()).unwrap() > 100);
        let memory =
            Memory { subject: Subject::Nginx, idle_kib: 1_000, open_kib: 1_000 + 64 * 400 };
        assert!((memory.per_stream_kib() - 64.0).abs() < 1e-9);
    }
}
