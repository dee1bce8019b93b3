//! Measures the CPU of nginx and of Cordon per call, in one run: `make bench`.
//!
//! Steps: look at the machine; start the upstream; in each round start every gateway there and
//! back, one at a time on its own core, and run every kind of call through it; write each
//! measurement as a line of JSON and at the end a table. A wrong answer ends the run.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use serde_json::json;

use cordon_system::{
    bench::{
        figures::there_and_back,
        handover::HandOver,
        load::Outcome,
        machine::{self, Machine},
        memory::{self, Memory},
        meter::{Core, Threads},
        plan::{CALLS, Calls, SHORT_STREAM, SUBJECTS, Subject},
        report::{self, Handed, Row, Seen},
        subject::{Pinned, Running, Site, pinned},
        upstream::COUNTS,
    },
    client::{self, Request},
};

/// Above this other programs run, and the numbers say more about them.
const LOAD_AVERAGE_MAX: f64 = 0.5;
/// After a load, for what the gateway does behind the last answer.
const SETTLE: Duration = Duration::from_millis(100);
/// The longest wait for a load to end.
const PATIENCE: Duration = Duration::from_secs(120);
/// Of a row's calls, those that must be decided as its title says: when a quarter hour ends, the
/// calls under way are decided anew in any row.
const AS_TITLED_MIN: f64 = 0.8;

/// Measures CPU per call of nginx and Cordon; results to standard output as Markdown
#[derive(Debug, Parser)]
struct Arguments {
    /// Rounds; each measures every configuration twice
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of one measurement
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Times that a measurement which others disturbed is made again; the least disturbed counts
    #[arg(long, default_value_t = 4)]
    repeats: usize,
    /// Seconds before the first measurement of a start
    #[arg(long, default_value_t = 2.0)]
    warm_up_seconds: f64,
    /// Events of a streamed answer
    #[arg(long, default_value_t = 100)]
    events: usize,
    /// Microseconds between two events, at least; the timer's step of 1 ms comes on top
    #[arg(long, default_value_t = 1_000)]
    interval_us: u64,
    /// The core of load and upstream
    #[arg(long, default_value_t = 0)]
    load_core: usize,
    /// The core of the gateway
    #[arg(long, default_value_t = 1)]
    gateway_core: usize,
    /// A folder on a disk, for the durable rows
    #[arg(long, default_value = "/var/tmp")]
    disk: PathBuf,
    /// Where each measurement is written as a line of JSON
    #[arg(long, default_value = "cordon-bench.jsonl")]
    record: PathBuf,
    /// Measures nginx alone
    #[arg(long)]
    nginx_only: bool,
    /// Measures although other programs run; the rows are marked
    #[arg(long)]
    busy: bool,
}

/// A run with its upstream.
struct Bench {
    arguments: Arguments,
    site: Site,
    load: PathBuf,
    hand_over: PathBuf,
    upstream: SocketAddr,
    record: fs::File,
    rows: Vec<Row>,
    handed: Vec<Handed>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let folder = std::env::current_exe()?.parent().map(Path::to_owned).unwrap_or_default();
    ensure!(arguments.load_core != arguments.gateway_core, "load and gateway need a core each");
    ensure!(
        !machine::is_memory(&arguments.disk)?,
        "`{}` is in memory: name a folder on a disk with --disk",
        arguments.disk.display()
    );
    let nginx = machine::find_program("nginx");
    if nginx.is_none() {
        eprintln!("nginx is missing, so there are no ratios: apt-get install nginx-light");
    }
    let site = Site {
        cordon: folder.join("cordon"),
        nginx,
        core: arguments.gateway_core,
        disk: arguments.disk.clone(),
    };
    let machine = Machine::look(&site.cordon, site.nginx.as_deref(), &site.disk)?;
    ensure!(
        arguments.busy || machine.load_average <= LOAD_AVERAGE_MAX,
        "the load average is {}: end other programs, or measure all the same with --busy",
        machine.load_average
    );
    let (_upstream, upstream) = start_upstream(&arguments, &folder)?;
    let mut record = fs::File::create(&arguments.record)?;
    let run = json!({
        "machine": machine,
        "arguments": std::env::args().skip(1).collect::<Vec<_>>(),
        "configurations": SUBJECTS.map(|subject| (subject, subject.digest())),
    });
    writeln!(record, "{run}")?;
    let mut bench = Bench {
        arguments,
        site,
        load: folder.join("cordon-bench-load"),
        hand_over: folder.join("cordon-bench-handover"),
        upstream,
        record,
        rows: Vec::new(),
        handed: Vec::new(),
    };
    for round in 0..bench.arguments.rounds {
        bench.round(round)?;
    }
    let memory = bench.memory()?;
    println!("{}\n{}{}", report::preamble(&machine), bench.table(), report::memory(&memory));
    Ok(())
}

/// Starts the upstream and reads from it where it listens.
fn start_upstream(arguments: &Arguments, folder: &Path) -> Result<(Pinned, SocketAddr)> {
    let mut command = pinned(arguments.load_core, &folder.join("cordon-bench-upstream"));
    command.args(["--events", &arguments.events.to_string()]);
    command.args(["--interval-us", &arguments.interval_us.to_string()]);
    command.stdout(Stdio::piped());
    let mut upstream = Pinned::start(command)?;
    let mut line = String::new();
    let stdout = upstream.stdout().context("it was started with a pipe")?;
    BufReader::new(stdout).read_line(&mut line)?;
    let address = line.trim().parse();
    Ok((upstream, address.context("the upstream did not start")?))
}

// === impl Bench ===

impl Bench {
    fn subjects(&self) -> Vec<Subject> {
        let there = |subject: &Subject| match subject {
            Subject::Nginx => self.site.nginx.is_some(),
            Subject::PermitAll
            | Subject::Remembered
            | Subject::NotRemembered
            | Subject::Durable
            | Subject::DurableFull => !self.arguments.nginx_only,
        };
        SUBJECTS.into_iter().filter(there).collect()
    }

    fn round(&mut self, round: usize) -> Result<()> {
        for subject in there_and_back(&self.subjects()) {
            // Once on the way there, once on the way back, as every gateway.
            if subject == Subject::PermitAll {
                self.hand_over(round)?;
            }
            eprintln!("round {} of {}: {}", round + 1, self.arguments.rounds, subject.title());
            let running = Running::start(subject, &self.site, self.upstream)?;
            self.run_load(&running, subject, CALLS[0], self.arguments.warm_up_seconds)?;
            for calls in CALLS {
                let row = self.row(round, &running, (subject, calls))?;
                self.rows.push(row);
            }
            running.stop()?;
        }
        Ok(())
    }

    /// Hands the events of calls to a ledger in memory, with nothing around it.
    fn hand_over(&mut self, round: usize) -> Result<()> {
        let folder = tempfile::Builder::new().prefix("cordon-bench").tempdir_in(machine::MEMORY)?;
        let mut command = pinned(self.arguments.gateway_core, &self.hand_over);
        command.arg("--folder").arg(folder.path());
        command.args(["--seconds", &self.arguments.seconds.to_string()]);
        let output = command.output()?;
        let told: HandOver = serde_json::from_slice(&output.stdout).with_context(|| {
            format!("nothing was handed over: {}", String::from_utf8_lossy(&output.stderr))
        })?;
        let handed = Handed { round, hand_over: told };
        writeln!(self.record, "{}", serde_json::to_string(&handed)?)?;
        self.handed.push(handed);
        Ok(())
    }

    /// What an open stream holds, in nginx and in Cordon as operators run it.
    fn memory(&mut self) -> Result<Vec<Memory>> {
        let subjects = self.subjects();
        let measured = subjects.iter().filter(|s| matches!(s, Subject::Nginx | Subject::Durable));
        let mut seen = Vec::new();
        for subject in measured.copied() {
            eprintln!("memory: {}", subject.title());
            let running = Running::start(subject, &self.site, self.upstream)?;
            self.run_load(&running, subject, SHORT_STREAM, self.arguments.warm_up_seconds)?;
            thread::sleep(SETTLE);
            let idle_kib = memory::resident_kib(running.id())?;
            let mut load =
                self.load(&running, SHORT_STREAM, memory::STREAMS, self.arguments.seconds);
            load.stdout(Stdio::null());
            let open_kib = memory::most_kib(running.id(), Pinned::start(load)?, PATIENCE)
                .with_context(|| running.log())?;
            running.stop()?;
            let memory = Memory { subject, idle_kib, open_kib };
            writeln!(self.record, "{}", serde_json::to_string(&memory)?)?;
            seen.push(memory);
        }
        Ok(seen)
    }

    /// A measurement that nothing disturbed, or the least disturbed of a few.
    fn row(
        &mut self,
        round: usize,
        running: &Running,
        (subject, calls): (Subject, Calls),
    ) -> Result<Row> {
        let mut best: Option<Row> = None;
        for _ in 0..=self.arguments.repeats {
            let seen = self.measure(running, subject, calls)?;
            let row = Row::new(round, subject, calls, &seen);
            writeln!(self.record, "{}", serde_json::to_string(&row)?)?;
            if best.as_ref().is_none_or(|best| row.disturbance() < best.disturbance()) {
                best = Some(row);
            }
            if best.as_ref().is_some_and(|best| best.marks.is_empty()) {
                break;
            }
        }
        best.context("there is at least one measurement")
    }

    /// Runs one kind of call a little, then for the time of a measurement.
    fn measure(&self, running: &Running, subject: Subject, calls: Calls) -> Result<Seen> {
        let Arguments { seconds, gateway_core, load_core, .. } = self.arguments;
        self.run_load(running, subject, calls, seconds / 4.0)?;
        thread::sleep(SETTLE);
        let (told, decided) = (self.counts()?, running.decisions()?);
        let cores = (Core::of(gateway_core)?, Core::of(load_core)?);
        let (threads, begin) = (Threads::of(running.id())?, Instant::now());
        let outcome = self.run_load(running, subject, calls, seconds)?;
        thread::sleep(SETTLE);
        let wall_s = begin.elapsed().as_secs_f64();
        let used = Threads::of(running.id())?.since(&threads);
        let gateway_core = Core::of(gateway_core)?.since(&cores.0);
        let load_core = Core::of(load_core)?.since(&cores.1);
        let arrived = self.counts()?;
        let completed = outcome.completed;
        let (count, altered) = (arrived.0 - told.0, arrived.1 - told.1);
        ensure!(count == completed, "{completed} answers came of {count} calls to the upstream");
        ensure!(altered == 0, "{altered} of {count} bodies are not what was sent");
        if let Some(as_titled) = running.decisions()?.since(decided).as_titled(subject) {
            let title = subject.title();
            ensure!(
                as_titled >= AS_TITLED_MIN,
                "{title}: true of only {as_titled:.2} of the calls"
            );
        }
        Ok(Seen { outcome, used, wall_s, gateway_core, load_core })
    }

    fn run_load(
        &self,
        running: &Running,
        subject: Subject,
        calls: Calls,
        seconds: f64,
    ) -> Result<Outcome> {
        let mut command = self.load(running, calls, calls.at_once(), seconds);
        if subject.calls_differ() {
            command.arg("--regions");
        }
        let output = command.output()?;
        let told = String::from_utf8_lossy(&output.stderr);
        let outcome: Outcome = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("the load did not run: {told}"))?;
        if outcome.errors > 0 || outcome.completed == 0 {
            let (title, calls) = (subject.title(), calls.title());
            let fault = outcome.first_error.unwrap_or_default();
            bail!("{title}, {calls}: {} errors, first: {fault}\n{}", outcome.errors, running.log());
        }
        Ok(outcome)
    }

    /// The command that calls `running` over so many connections.
    fn load(&self, running: &Running, calls: Calls, connections: usize, seconds: f64) -> Command {
        let mut command = pinned(self.arguments.load_core, &self.load);
        command.args(["--address", &running.address.to_string()]);
        command.args(["--bytes", &calls.bytes.to_string()]);
        command.args(["--connections", &connections.to_string()]);
        if let Some(pace) = calls.pace {
            command.args(["--pace", &pace.to_string()]);
        }
        command.args(["--seconds", &seconds.to_string()]);
        if calls.stream {
            command.args(["--events", &self.arguments.events.to_string()]);
        }
        command.env("CORDON_BENCH_KEY", &running.key);
        command
    }

    /// Calls that the upstream counted, and those whose body nobody had sent so.
    fn counts(&self) -> Result<(u64, u64)> {
        let counts = client::send(self.upstream, &Request::get(COUNTS, ""))?.json();
        let count = |name: &str| counts[name].as_u64().context("the upstream counts");
        Ok((count("calls")?, count("altered")?))
    }

    fn table(&self) -> String {
        let Self { rows, handed, arguments: Arguments { rounds, .. }, .. } = self;
        report::table(rows, *rounds) + &report::without_a_ledger(rows, handed, *rounds)
    }
}
