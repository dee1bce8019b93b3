//! The collector beside the gateway: found, checked, started at low priority, started again with
//! back-off, and drained at the end.
//!
//! Two processes, so that a heavy audit query can never slow or break the proxy. A collector that
//! is down is a metric and a warning in `/readyz`, never a refused call.

use std::{
    io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use cordon_ledger::short_path;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::{
    net::UnixStream,
    process::{Child, Command},
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::{config::DataFolder, record::metrics::Metrics};

/// The program's name, beside our own executable.
const PROGRAM: &str = "cordon-collector";
const BACK_OFF_MIN: Duration = Duration::from_millis(500);
const BACK_OFF_MAX: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_secs(1);
const STATE_DEADLINE: Duration = Duration::from_secs(2);
const STATE_BYTES_MAX: usize = 64 * 1024;
/// How long the collector may drain at the end before it is killed.
const DRAIN_MAX: Duration = Duration::from_secs(30);

/// Why there is no collector to start.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    #[error("`{}` is not there: install it beside `cordon`, or start with `--no-collector`", .0.display())]
    Missing(PathBuf),
    #[error("`{}` is of another build ({found}; this is {expected}): install both together", .path.display())]
    OtherBuild { path: PathBuf, found: String, expected: &'static str },
    #[error("`{}` does not start: {fault}", .path.display())]
    DoesNotStart { path: PathBuf, fault: io::Error },
}

/// The owner of the collector's process.
#[derive(Debug)]
pub struct Supervisor {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// The collector beside us, of this build; an error where there is none to start.
pub async fn find() -> Result<PathBuf, SupervisorError> {
    let program = beside_ourselves();
    if !program.try_exists().unwrap_or(false) {
        return Err(SupervisorError::Missing(program));
    }
    check_build(&program).await?;
    Ok(program)
}

/// Connects to the collector's socket, however long its path is.
pub(crate) async fn connect(socket: &Path) -> io::Result<UnixStream> {
    let (_folder, short) = short_path(socket)?;
    UnixStream::connect(short).await
}

impl Supervisor {
    /// Checks that the collector beside us is of this build, and keeps it running from now on.
    pub async fn start(data: &DataFolder, metrics: Arc<Metrics>) -> Result<Self, SupervisorError> {
        let program = find().await?;
        let (stop, stopped) = watch::channel(false);
        let keeper = Keeper { program, data: data.clone(), metrics };
        let task = tokio::spawn(keeper.run(stopped));
        Ok(Self { stop, task })
    }

    /// Does the same for a collector that is still being built, once it is beside us.
    pub fn start_once_built(data: &DataFolder, metrics: Arc<Metrics>) -> Self {
        let (stop, mut stopped) = watch::channel(false);
        let data = data.clone();
        let task = tokio::spawn(async move {
            let Some(program) = built(&mut stopped).await else { return };
            tracing::info!("the collector is built: SQL and proofs are answered from now on");
            Keeper { program, data, metrics }.run(stopped).await;
        });
        Self { stop, task }
    }

    /// Lets the collector drain to the last durable record and end; kills it when it does not.
    pub async fn drain(self) {
        self.stop.send_replace(true);
        if let Err(fault) = self.task.await {
            tracing::error!("the collector's supervisor failed: {fault}");
        }
    }
}

/// Waits until the collector is there; `None` where we are asked to stop before.
async fn built(stopped: &mut watch::Receiver<bool>) -> Option<PathBuf> {
    loop {
        if let Ok(program) = find().await {
            return Some(program);
        }
        tokio::select! {
            () = sleep(POLL) => {}
            _asked = stopped.changed() => return None,
        }
    }
}

fn beside_ourselves() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.with_file_name(PROGRAM)
}

async fn check_build(program: &Path) -> Result<(), SupervisorError> {
    let expected = env!("CARGO_PKG_VERSION");
    let output = Command::new(program).arg("--version").output().await;
    let output = output
        .map_err(|fault| SupervisorError::DoesNotStart { path: program.to_owned(), fault })?;
    let text = String::from_utf8_lossy(&output.stdout);
    let found = text.split_whitespace().last().unwrap_or("unknown").to_owned();
    if found == expected {
        return Ok(());
    }
    Err(SupervisorError::OtherBuild { path: program.to_owned(), found, expected })
}

struct Keeper {
    program: PathBuf,
    data: DataFolder,
    metrics: Arc<Metrics>,
}

impl Keeper {
    async fn run(self, mut stopped: watch::Receiver<bool>) {
        let mut back_off = BACK_OFF_MIN;
        loop {
            match self.spawn() {
                Ok(child) => {
                    let started = Instant::now();
                    if self.watch(child, &mut stopped).await == Ended::Asked {
                        return;
                    }
                    tracing::error!("the collector ended; it is started again");
                    if started.elapsed() > BACK_OFF_MAX {
                        back_off = BACK_OFF_MIN;
                    }
                }
                Err(fault) => tracing::error!("the collector does not start: {fault}"),
            }
            self.is_down();
            self.metrics.collector_restarts.inc();
            tokio::select! {
                () = sleep(back_off) => {}
                _asked = stopped.changed() => return,
            }
            back_off = (back_off * 2).min(BACK_OFF_MAX);
        }
    }

    fn spawn(&self) -> io::Result<Child> {
        // It makes itself nice to us at its start.
        Command::new(&self.program)
            .arg("run")
            .arg("--data")
            .arg(self.data.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }

    /// Watches a running collector until it ends, or until we are asked to stop.
    async fn watch(&self, mut child: Child, stopped: &mut watch::Receiver<bool>) -> Ended {
        // Held here: waiting for the child would close it, and the collector ends when it closes.
        let stdin = child.stdin.take();
        loop {
            tokio::select! {
                _status = child.wait() => return Ended::ByItself,
                _asked = stopped.changed() => break,
                () = sleep(POLL) => self.measure().await,
            }
        }
        // The collector ends by itself when this pipe closes, after its last commit.
        drop(stdin);
        if timeout(DRAIN_MAX, child.wait()).await.is_err() {
            tracing::error!("the collector did not drain in time and is killed; nothing is lost");
            if let Err(fault) = child.kill().await {
                tracing::error!("the collector cannot be killed: {fault}");
            }
        }
        self.is_down();
        Ended::Asked
    }

    async fn measure(&self) {
        match timeout(STATE_DEADLINE, state(&self.data.socket())).await {
            Ok(Ok(state)) => {
                self.metrics.collector_up.set(1);
                self.metrics.collector_lag.set(state.lag_seconds);
            }
            Ok(Err(_)) | Err(_) => self.is_down(),
        }
    }

    /// How far it lags is not known then; the last number would read as if it were.
    fn is_down(&self) {
        self.metrics.collector_up.set(0);
        self.metrics.collector_lag.set(f64::NAN);
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Ended {
    Asked,
    ByItself,
}

/// The part of the collector's state that is a metric here. One that cannot go on says no lag, and
/// counts as one that is down.
#[derive(Debug, Deserialize)]
struct State {
    lag_seconds: f64,
}

async fn state(socket: &Path) -> Result<State, Box<dyn std::error::Error + Send + Sync>> {
    let stream = connect(socket).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = http::Request::get("/v1/state")
        .header(http::header::HOST, "collector")
        .body(Empty::<Bytes>::new())?;
    let asked = async {
        let response = sender.send_request(request).await?;
        let body = Limited::new(response.into_body(), STATE_BYTES_MAX).collect().await?;
        Ok(serde_json::from_slice(&body.to_bytes())?)
    };
    tokio::select! {
        state = asked => state,
        ended = connection => Err(ended.err().map_or("the collector hung up".into(), Into::into)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_that_cannot_say_its_lag_counts_as_down() {
        assert!(serde_json::from_str::<State>("{\"lag_seconds\":0.5}").is_ok());
        assert!(serde_json::from_str::<State>("{\"lag_seconds\":null}").is_err());
    }
}
