//! Starts one gateway on its core, and ends it.

use std::{
    fs, io,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

use crate::{
    bench::{
        machine,
        plan::{Place, Subject},
    },
    client::{self, Request},
    world::{free_port, signal},
};

/// The longest wait for a start or an end.
const PATIENCE: Duration = Duration::from_secs(60);
/// The key of a gateway that asks for none.
const NO_KEY: &str = "none";
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// The programs, and where they may run and write.
#[derive(Debug, Clone)]
pub struct Site {
    pub cordon: PathBuf,
    /// Unset where nginx is not installed.
    pub nginx: Option<PathBuf>,
    /// The core of whatever is measured.
    pub core: usize,
    /// A folder on a disk.
    pub disk: PathBuf,
}

/// A program on one core; it ends with its handle.
#[derive(Debug)]
pub struct Pinned(Child);

/// A gateway that answers.
#[derive(Debug)]
pub struct Running {
    gateway: Pinned,
    folder: TempDir,
    pub address: SocketAddr,
    admin: SocketAddr,
    pub key: String,
}

/// How calls were decided, as a gateway counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Decisions {
    remembered: u64,
    /// By an evaluation of their own, or together with another call's.
    evaluated: u64,
}

// === impl Pinned ===

impl Pinned {
    /// Starts `command` on `core`; its id is the program's, for `taskset` becomes the program.
    pub fn start(mut command: Command) -> Result<Self> {
        let child = command.stdin(Stdio::null()).spawn();
        child.map(Self).with_context(|| format!("cannot start {:?}", command.get_program()))
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// What it prints.
    pub fn stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.0.stdout.take()
    }

    /// Whether it ended well; `None` while it runs.
    pub fn ended_well(&mut self) -> io::Result<Option<bool>> {
        Ok(self.0.try_wait()?.map(|status| status.success()))
    }

    fn is_over(&mut self) -> bool {
        !matches!(self.ended_well(), Ok(None))
    }

    /// Asks it to end and waits for it.
    fn stop(&mut self) -> Result<()> {
        signal(&self.0, rustix::process::Signal::TERM);
        wait_until(|| self.is_over()).context("it did not end when asked to")
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

// === impl Running ===

impl Running {
    /// Starts `subject` before `upstream` and waits until it answers.
    pub fn start(subject: Subject, site: &Site, upstream: SocketAddr) -> Result<Self> {
        let parent = if subject.is_durable() { &site.disk } else { Path::new(machine::MEMORY) };
        let folder = tempfile::Builder::new().prefix("cordon-bench").tempdir_in(parent)?;
        let (address, admin) = (free_port(), free_port());
        let place = Place { folder: folder.path(), listen: address, admin, upstream };
        let configuration = folder.path().join("configuration");
        fs::write(&configuration, subject.configuration(&place))?;
        let (command, key) = match subject {
            Subject::Nginx => (nginx(site, &folder, &configuration)?, NO_KEY.to_owned()),
            Subject::PermitAll
            | Subject::Remembered
            | Subject::NotRemembered
            | Subject::Durable
            | Subject::DurableFull => cordon(site, &folder, &configuration)?,
        };
        let mut running = Self { gateway: Pinned::start(command)?, folder, address, admin, key };
        let ready = wait_until(|| running.answers(subject) || running.gateway.is_over());
        let ready = ready.is_ok() && !running.gateway.is_over();
        ensure!(ready, "{} does not start:\n{}", subject.title(), running.log());
        Ok(running)
    }

    pub fn id(&self) -> u32 {
        self.gateway.id()
    }

    /// How its calls were decided so far; nothing of a gateway without metrics.
    pub fn decisions(&self) -> Result<Decisions> {
        if self.key == NO_KEY {
            return Ok(Decisions::default());
        }
        Ok(Decisions::told(&client::send(self.admin, &Request::get("/metrics", ""))?.text()))
    }

    /// The end of what it logged.
    pub fn log(&self) -> String {
        const LINES: usize = 20;
        let text = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    /// Ends it and removes what it wrote.
    pub fn stop(mut self) -> Result<()> {
        self.gateway.stop()
    }

    fn answers(&self, subject: Subject) -> bool {
        match subject {
            Subject::Nginx => TcpStream::connect(self.address).is_ok(),
            Subject::PermitAll
            | Subject::Remembered
            | Subject::NotRemembered
            | Subject::Durable
            | Subject::DurableFull => {
                let reply = client::send(self.address, &Request::get("/readyz", ""));
                reply.is_ok_and(|reply| reply.status == 200)
            }
        }
    }
}

// === impl Decisions ===

impl Decisions {
    fn told(metrics: &str) -> Self {
        let count = |result: &str| {
            let name = format!("cordon_decision_memo_total{{result=\"{result}\"}} ");
            let value = metrics.lines().find_map(|line| line.strip_prefix(name.as_str()));
            value.and_then(|value| value.parse::<u64>().ok()).unwrap_or_default()
        };
        Self { remembered: count("hit"), evaluated: count("miss") + count("joined") }
    }

    pub fn since(self, before: Self) -> Self {
        Self {
            remembered: self.remembered - before.remembered,
            evaluated: self.evaluated - before.evaluated,
        }
    }

    /// The share of calls of which the subject's title is true; `None` where nothing is decided.
    pub fn as_titled(self, subject: Subject) -> Option<f64> {
        let titled = match subject {
            Subject::Nginx => return None,
            Subject::NotRemembered => self.evaluated,
            Subject::PermitAll | Subject::Remembered | Subject::Durable | Subject::DurableFull => {
                self.remembered
            }
        };
        Some(titled as f64 / (self.remembered + self.evaluated).max(1) as f64)
    }
}

/// A command on one core.
pub fn pinned(core: usize, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.arg("--cpu-list").arg(core.to_string()).arg(program);
    command
}

fn nginx(site: &Site, folder: &TempDir, configuration: &Path) -> Result<Command> {
    let program = site.nginx.as_deref().context("nginx is not installed")?;
    let mut command = pinned(site.core, program);
    command.arg("-p").arg(folder.path()).arg("-c").arg(configuration);
    log_to(&mut command, folder)?;
    Ok(command)
}

/// The command that serves, and a key it knows.
fn cordon(site: &Site, folder: &TempDir, configuration: &Path) -> Result<(Command, String)> {
    let data = folder.path().join("data");
    let files = |command: &mut Command| {
        command.arg("--data").arg(&data).arg("--config").arg(configuration);
    };
    let mut create = Command::new(&site.cordon);
    create.args(["keys", "create", "--tenant", "bench", "--name", "bench", "--role", "caller"]);
    create.args(["--calls-at-once-max", "4096"]);
    files(&mut create);
    let output = create.output().context("cannot start cordon")?;
    if !output.status.success() {
        bail!("no key: {}", String::from_utf8_lossy(&output.stderr));
    }
    let key = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let mut command = pinned(site.core, &site.cordon);
    command.arg("run");
    files(&mut command);
    log_to(&mut command, folder)?;
    Ok((command, key))
}

fn log_to(command: &mut Command, folder: &TempDir) -> Result<()> {
    let log = fs::File::create(folder.path().join("log"))?;
    command.stdout(log.try_clone()?).stderr(log);
    Ok(())
}

fn wait_until(mut condition: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        ensure!(Instant::now() < deadline, "it never happened");
        thread::sleep(LOOK);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_title_says_is_checked_against_what_the_gateway_counted() {
        let metrics = |hit: u64, miss: u64, joined: u64| {
            format!(
                "# TYPE cordon_decision_memo counter\n\
                 cordon_decision_memo_total{{result=\"hit\"}} {hit}\n\
                 cordon_decision_memo_total{{result=\"miss\"}} {miss}\n\
                 cordon_decision_memo_total{{result=\"joined\"}} {joined}\n"
            )
        };
        let before = Decisions::told(&metrics(10, 5, 1));
        let used = Decisions::told(&metrics(100, 10, 6)).since(before);
        assert_eq!(used, Decisions { remembered: 90, evaluated: 10 });
        assert_eq!(used.as_titled(Subject::Durable), Some(0.9));
        assert_eq!(used.as_titled(Subject::NotRemembered), Some(0.1));
        assert_eq!(used.as_titled(Subject::Nginx), None);
        assert_eq!(Decisions::told("").as_titled(Subject::Durable), Some(0.0));
    }
}
