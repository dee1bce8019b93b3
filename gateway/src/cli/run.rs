//! `cordon run`: starts everything, serves until told to stop.
//!
//! Steps: sockets (so that a busy port is told before anything is written), parts, collector,
//! listeners, ready; at the end the calls, the collector, the ledger.

use std::{io::IsTerminal, sync::Arc, time::Duration};

use cordon_ledger::Status;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tracing_subscriber::{
    EnvFilter,
    filter::{FilterExt, LevelFilter},
    fmt,
    prelude::*,
};

use crate::{
    admin,
    cli::{CliError, End, say},
    config::{Config, Source},
    gateway::{Gateway, remote, supervisor::Supervisor},
    identity::ring,
    listener::{
        self, BindError, Readiness, Socket,
        drain::{Drained, Stop},
        gauges::Gauges,
    },
    pipeline::Pipeline,
    providers::address,
    record::metrics::Reading,
    store::Change,
};

/// How often refused requests that never became calls are summed up.
const REFUSED_EVERY: Duration = Duration::from_secs(60);
/// Stack of the runtime's threads: a debug build of the policy engine's host code needs room.
const STACK_BYTES: usize = 4 << 20;
/// Keys are read twice a second; this much later something is wrong.
const KEYS_AGE_MAX: Duration = Duration::from_secs(5);
/// The part of the ledger's limit from which readiness warns.
const LEDGER_WARNING_PERCENT: u64 = 80;

/// How the gateway is started.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Do not start the collector beside the gateway.
    #[arg(long)]
    pub no_collector: bool,
    /// The collector is still being built (`make run`, the first time): start it once it is there.
    #[arg(long, conflicts_with = "no_collector")]
    pub collector_later: bool,
}

/// Builds the gateway from a checked configuration and serves until the order to stop.
pub fn run(config: Config, arguments: &Arguments) -> Result<End, CliError> {
    log();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(STACK_BYTES)
        .build()
        .map_err(CliError::failed)?;
    let end = runtime.block_on(serve(config, arguments));
    runtime.shutdown_timeout(Duration::from_secs(1));
    end
}

/// Logs go to standard error. pingora's own texts quote heads and, in its finest levels, bodies:
/// they are shut off there whatever the environment asks for. Both filters are one, so that what
/// neither lets through costs nothing: pingora else copies every chunk to quote it.
fn log() {
    let asked = EnvFilter::try_from_default_env().unwrap_or_else(|_unset| EnvFilter::new("info"));
    let quiet = tracing_subscriber::filter::Targets::new()
        .with_default(LevelFilter::TRACE)
        .with_target("pingora", LevelFilter::OFF)
        .with_target("hyper", LevelFilter::INFO)
        .with_target("rustls", LevelFilter::INFO)
        .with_target("sqlx", LevelFilter::WARN);
    let lines = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    let lines = lines.with_filter(quiet.and(asked));
    // A second call, as in tests, keeps the first one's settings.
    drop(tracing_subscriber::registry().with(lines).try_init());
}

async fn serve(config: Config, arguments: &Arguments) -> Result<End, CliError> {
    let bind = |setting, address| {
        Socket::bind(setting, address).map_err(|fault| not_bound(&config.source, &fault))
    };
    let ai = bind("listeners.ai", config.listeners.ai)?;
    let admin = bind("listeners.admin", config.listeners.admin)?;
    let gateway = Arc::new(Gateway::build(&config).await.map_err(CliError::failed)?);
    let stop = Stop::default();
    stop.at_signals(config.listeners.limits.leave_grace.0).map_err(CliError::failed)?;
    let tasks = Tasks::start(&gateway).await;
    let collector = start_collector(&config, arguments, &gateway).await?;
    welcome(&config, (&ai, &admin), &gateway, arguments.collector_later);

    let gauges = watched_gauges(&config, &gateway);
    let calls = listener::Parties {
        settings: config.listeners.clone(),
        calls: Arc::new(Pipeline::new(Arc::clone(&gateway))),
        readiness: readiness(&gateway, collector.as_ref()),
        gauges,
    };
    let drained =
        admin::serve_beside((ai, calls), (admin, admin_parties(&config, &gateway)), &stop).await;

    tasks.stop().await;
    let reason = match drained {
        Drained::Clean => "asked",
        Drained::Interrupted => "asked, and calls were cut",
    };
    let stopped = gateway.recorder.stop(reason).await.map_err(CliError::failed);
    // Also behind a ledger that failed: what is durable goes into the tables.
    if let Some(collector) = collector {
        collector.drain().await;
    }
    stopped.map(|()| End::Done)
}

/// The demonstration has no file in which an address could be changed: says how to get one.
fn not_bound(source: &Source, fault: &BindError) -> CliError {
    match source {
        Source::Demonstration => CliError::Failed(format!(
            "{fault}: `cordon init cordon.toml` writes a file to change, and `cordon run --config \
             cordon.toml` starts with it"
        )),
        Source::File(_) => CliError::failed(fault),
    }
}

async fn start_collector(
    config: &Config,
    arguments: &Arguments,
    gateway: &Gateway,
) -> Result<Option<Supervisor>, CliError> {
    if arguments.no_collector || !config.collector.start {
        return Ok(None);
    }
    let metrics = Arc::clone(&gateway.metrics);
    if arguments.collector_later {
        return Ok(Some(Supervisor::start_once_built(&config.data, metrics)));
    }
    let started = Supervisor::start(&config.data, metrics).await;
    started.map(Some).map_err(CliError::failed)
}

/// Work in the background, each with an end of its own.
#[derive(Debug)]
struct Tasks {
    stop: watch::Sender<bool>,
    running: JoinSet<()>,
}

impl Tasks {
    async fn start(gateway: &Arc<Gateway>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut running = JoinSet::new();
        let remotes: Vec<_> =
            gateway.remotes().iter().filter_map(|upstream| remote(upstream).cloned()).collect();
        address::resolve_once(&remotes).await;
        running.spawn(address::resolve(remotes, ended(stopped.clone())));
        let recorder = gateway.recorder.clone();
        let record =
            move |change: &Change| recorder.changed(change).map_err(|fault| fault.to_string());
        let keys = Arc::clone(&gateway.keys);
        running.spawn(ring::follow_changes(
            gateway.store.clone(),
            keys,
            record,
            ended(stopped.clone()),
        ));
        running.spawn(summarise(Arc::clone(gateway), stopped));
        Self { stop, running }
    }

    async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.running.join_next().await.is_some() {}
    }
}

async fn ended(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone, which is an end as well.
    drop(stopped.wait_for(|stopped| *stopped).await);
}

/// One summary a minute of what never became a call.
async fn summarise(gateway: Arc<Gateway>, stopped: watch::Receiver<bool>) {
    let mut minutes = interval(REFUSED_EVERY);
    minutes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let end = ended(stopped);
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => return,
            _ = minutes.tick() => {}
        }
        if let Err(fault) = gateway.recorder.summarise_refused() {
            tracing::error!("refused requests are not summed up: {fault}");
        }
    }
}

fn watched_gauges(config: &Config, gateway: &Gateway) -> Gauges {
    let gauges = Gauges::new(&config.listeners.limits, Arc::clone(&gateway.room));
    let calls = Arc::clone(&gauges.calls);
    let reading = Reading(Arc::new(move || calls.used()));
    gateway.metrics.watch("cordon_calls_in_flight", "Calls running now", reading);
    let bytes = Arc::clone(&gauges.bytes);
    let reading = Reading(Arc::new(move || bytes.used()));
    gateway.metrics.watch("cordon_buffered_bytes", "Bytes of bodies held", reading);
    gauges
}

/// Why the gateway cannot serve, and what limps.
fn readiness(gateway: &Arc<Gateway>, collector: Option<&Supervisor>) -> listener::AskReadiness {
    let (gateway, collects) = (Arc::clone(gateway), collector.is_some());
    Arc::new(move || {
        let mut told = Readiness::default();
        told_by_ledger(&gateway.recorder.status(), &mut told);
        let upstreams = gateway.catalog.upstreams();
        if !upstreams.iter().any(|upstream| gateway.providers.can_try(upstream)) {
            told.reasons.push("no target of any route can be tried".to_owned());
        }
        told.warnings.extend(gateway.local_fault.clone());
        let keys_age = gateway.keys.age();
        if keys_age > KEYS_AGE_MAX {
            let seconds = keys_age.as_secs();
            told.warnings.push(format!(
                "the keys were last read {seconds} s ago: the database cannot be read, and what \
                 is revoked there still works"
            ));
        }
        if !gateway.keys.changes_are_recorded() {
            told.warnings.push(
                "changes of keys are in force and not recorded: the ledger does not take them"
                    .to_owned(),
            );
        }
        if collects && gateway.metrics.collector_up.get() == 0 {
            told.warnings.push("the collector does not answer: audit queries wait".to_owned());
        }
        told
    })
}

fn told_by_ledger(ledger: &Status, told: &mut Readiness) {
    if let Some(fault) = &ledger.poisoned {
        told.reasons.push(format!("the ledger failed to write ({fault}); restart after repair"));
    }
    if ledger.full {
        told.reasons.push("the ledger has reached `ledger.bytes_max`".to_owned());
    } else if ledger.bytes >= ledger.bytes_max / 100 * LEDGER_WARNING_PERCENT {
        told.warnings.push(format!("the ledger is over {LEDGER_WARNING_PERCENT} % full"));
    }
}

fn admin_parties(config: &Config, gateway: &Arc<Gateway>) -> admin::Parties {
    let (keys, metrics, state) =
        (Arc::clone(&gateway.keys), Arc::clone(&gateway.metrics), Arc::clone(gateway));
    admin::Parties {
        settings: config.listeners.clone(),
        scope: admin::by_key(move |authorization| keys.identify(authorization)),
        metrics: Arc::new(move || metrics.render()),
        state: Arc::new(move || state.state()),
        collector: config.data.socket(),
    }
}

/// The block a newcomer can act on. The key is read from its file and never shown.
fn welcome(config: &Config, sockets: (&Socket, &Socket), gateway: &Gateway, collector_later: bool) {
    let (ai, admin) = (sockets.0.address(), sockets.1.address());
    if !matches!(config.source, Source::Demonstration) {
        tracing::info!("Cordon serves calls on http://{ai} and administration on http://{admin}");
        return;
    }
    let key = config.data.demonstration_key();
    let (key, data) = (key.display(), config.data.path().display());
    let model = gateway.local_fault.as_deref().unwrap_or("ready");
    let program = program();
    let later = "\n  # as soon as the collector is built, which a line below will tell:";
    let yet = if collector_later { later } else { "" };
    say(&format!(
        "the built-in demonstration runs (`cordon init` writes it as a file to edit)

  AI traffic      http://{ai}
  administration  http://{admin}
  key             {key}   (caller and auditor of tenant `demo`)
  local model     {model}

Try:
  curl -s http://{ai}/v1/chat/completions -H \"Authorization: Bearer $(cat {key})\" \\
    -H 'Content-Type: application/json' \\
    -d '{{\"model\":\"assistant\",\"messages\":[{{\"role\":\"user\",\"content\":\"What is the capital of France?\"}}]}}'{yet}
  {program} audit sql --data {data} \"SELECT ts, outcome, decision, target_id FROM calls ORDER BY ts DESC LIMIT 5\"
  {program} audit verify --data {data}

Ctrl-C ends both processes.
"
    ));
}

/// How this program is called from here: by its name where the shell finds it, else by its path.
fn program() -> String {
    let Ok(own) = std::env::current_exe() else { return "cordon".to_owned() };
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&folders).map(|folder| folder.join("cordon"));
    if found.any(|path| path.canonicalize().is_ok_and(|path| path == own)) {
        return "cordon".to_owned();
    }
    let here = std::env::current_dir().ok();
    let within = here.as_deref().and_then(|here| own.strip_prefix(here).ok());
    within.unwrap_or(&own).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_that_takes_no_calls_is_not_ready() {
        let stream = uuid::Uuid::nil();
        let status = Status {
            stream,
            bytes: 10,
            bytes_reserved: 0,
            bytes_max: 100,
            full: false,
            poisoned: None,
            durable: cordon_ledger::Position { stream, seq: 1 },
            queued: 0,
            open_calls: 0,
        };
        let told = |status: &Status| {
            let mut told = Readiness::default();
            told_by_ledger(status, &mut told);
            (told.reasons.len(), told.warnings.len())
        };
        assert_eq!(told(&status), (0, 0));
        assert_eq!(told(&Status { bytes: 81, ..status.clone() }), (0, 1));
        // The room that is left is set aside: `bytes` never gets as far as the limit.
        assert_eq!(told(&Status { bytes: 90, full: true, ..status.clone() }), (1, 0));
        assert_eq!(told(&Status { poisoned: Some("the disk".into()), ..status }), (1, 0));
    }

    #[test]
    fn a_busy_port_of_the_demonstration_is_told_with_the_way_to_another_one() {
        let taken = Socket::bind("listeners.ai", ([127, 0, 0, 1], 0).into()).unwrap();
        let fault = Socket::bind("listeners.ai", taken.address()).unwrap_err();
        let told = not_bound(&Source::Demonstration, &fault).to_string();
        assert!(told.contains("is in use") && told.contains("`cordon init cordon.toml`"), "{told}");
        let told = not_bound(&Source::File("house.toml".into()), &fault).to_string();
        assert!(!told.contains("cordon init"), "{told}");
    }
}
