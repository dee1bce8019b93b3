//! Reads what the kernel says of CPU time: of one process, and of a whole core.

use std::{collections::BTreeMap, fs, io};

/// The name of the thread that writes Cordon's ledger.
const LEDGER_THREAD: &str = "ledger";

/// CPU nanoseconds of each thread of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Threads(BTreeMap<u32, Thread>);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Thread {
    cpu_ns: u64,
    writes_ledger: bool,
}

/// What a process used between two looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    pub cpu_ns: u64,
    /// The part of it that the ledger's thread used.
    pub ledger_ns: u64,
    /// Threads that ended in between; what they used after the first look is not in `cpu_ns`.
    pub threads_ended: usize,
}

/// Ticks of one core since the machine started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Core {
    busy: u64,
    steal: u64,
    all: u64,
}

/// What a core did between two looks, as shares of 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    pub busy: f64,
    /// Taken by the machine below.
    pub steal: f64,
}

// === impl Threads ===

impl Threads {
    /// Looks at `/proc/PID/task/*/schedstat`, which counts nanoseconds and not ticks.
    pub fn of(process: u32) -> io::Result<Self> {
        let mut threads = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{process}/task"))? {
            let entry = entry?;
            let id = entry.file_name().to_str().and_then(|name| name.parse().ok());
            // A thread may end between the listing and the look; then it counts as ended.
            let text = fs::read_to_string(entry.path().join("schedstat"));
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            let writes_ledger = name.trim_end() == LEDGER_THREAD;
            if let (Some(id), Some(cpu_ns)) = (id, text.ok().as_deref().and_then(cpu_ns)) {
                threads.insert(id, Thread { cpu_ns, writes_ledger });
            }
        }
        Ok(Self(threads))
    }

    /// What was used since `before`; threads that came later count from their start.
    pub fn since(&self, before: &Self) -> Used {
        let used = |(id, now): (&u32, &Thread)| {
            let before = before.0.get(id).map_or(0, |before| before.cpu_ns);
            (now.writes_ledger, now.cpu_ns.saturating_sub(before))
        };
        let ledger = self.0.iter().map(used).filter(|(writes_ledger, _)| *writes_ledger);
        Used {
            cpu_ns: self.0.iter().map(used).map(|(_, cpu_ns)| cpu_ns).sum(),
            ledger_ns: ledger.map(|(_, cpu_ns)| cpu_ns).sum(),
            threads_ended: before.0.keys().filter(|id| !self.0.contains_key(id)).count(),
        }
    }
}

/// The first field of a `schedstat`: time on a CPU.
fn cpu_ns(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

// === impl Core ===

impl Core {
    /// Looks at `/proc/stat`.
    pub fn of(core: usize) -> io::Result<Self> {
        let text = fs::read_to_string("/proc/stat")?;
        Self::parse(&text, core).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("there is no core {core}"))
        })
    }

    fn parse(text: &str, core: usize) -> Option<Self> {
        let name = format!("cpu{core}");
        let line = text.lines().find(|line| line.split(' ').next() == Some(&name))?;
        let fields: Vec<u64> =
            line.split_ascii_whitespace().skip(1).map_while(|field| field.parse().ok()).collect();
        // user nice system idle iowait irq softirq steal; guests are within user and nice.
        let [user, nice, system, idle, iowait, irq, softirq, steal, ..] = fields[..] else {
            return None;
        };
        let busy = user + nice + system + irq + softirq;
        Some(Self { busy, steal, all: busy + idle + iowait + steal })
    }

    /// What the core did since `before`.
    pub fn since(&self, before: &Self) -> Share {
        let all = self.all.saturating_sub(before.all).max(1) as f64;
        Share {
            busy: self.busy.saturating_sub(before.busy) as f64 / all,
            steal: self.steal.saturating_sub(before.steal) as f64 / all,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_field_of_schedstat_is_what_counts() {
        assert_eq!(cpu_ns("123456789 4242 17\n"), Some(123_456_789));
        assert_eq!(cpu_ns(""), None);
        assert_eq!(cpu_ns("x 1 2"), None);
    }

    #[test]
    fn threads_that_come_and_go_are_told_apart() {
        let thread = |cpu_ns, writes_ledger| Thread { cpu_ns, writes_ledger };
        let before = Threads(BTreeMap::from([(1, thread(100, true)), (2, thread(50, false))]));
        let after = Threads(BTreeMap::from([(1, thread(130, true)), (3, thread(7, false))]));
        let used = Used { cpu_ns: 37, ledger_ns: 30, threads_ended: 1 };
        assert_eq!(after.since(&before), used);
    }

    #[test]
    fn our_own_process_can_be_looked_at() {
        let before = Threads::of(std::process::id()).unwrap();
        let used = Threads::of(std::process::id()).unwrap().since(&before);
        assert!(used.cpu_ns < 60_000_000_000);
        assert!(Core::of(0).is_ok());
        assert!(Core::of(100_000).is_err());
    }

    #[test]
    fn shares_of_a_core_come_from_its_own_line() {
        let before = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu1 10 0 10 80 0 0 0 0 0 0\ncpu10 1 1 1 1\n";
        let after = "cpu1 40 10 20 110 5 3 2 10 0 0\n";
        let before = Core::parse(before, 1).unwrap();
        let share = Core::parse(after, 1).unwrap().since(&before);
        assert_eq!(share, Share { busy: 0.55, steal: 0.1 });
        assert_eq!(Core::parse("cpu1 1 2 3\n", 1), None);
    }
}
