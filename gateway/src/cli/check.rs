//! `cordon check`: reads everything a start would read, and explains each fault.
//!
//! It makes nothing and changes nothing; with `--connect` it shakes hands with every upstream
//! and sends nothing. Exit code 2: the configuration is wrong; 1: something else is.

use std::{fs::File, io::ErrorKind, path::Path, sync::Arc, time::Duration};

use cordon_ledger::{
    RealDisk, Storage, follow,
    head::{HeadError, SigningPair},
};
use rustix::fs::Access;
use serde_json::{Value, json};

use crate::{
    catalog::Address,
    cli::{CliError, End, Place, answer, wait},
    config::{Config, ConfigError, DataFolder, fault::Fault},
    gateway::{self, supervisor},
    identity::keys::Pepper,
    local::prepare::Manifest,
    policy::replay,
    providers::{Providers, check_connect},
    store::Store,
};

/// How long one upstream may take to shake hands.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// Events read of each stream; a longer ledger is what `cordon audit verify` is for.
const EVENTS_READ_MAX: u64 = 100_000;
const BATCH_EVENTS_MAX: usize = 1_000;
const BATCH_BYTES_MAX: usize = 8 << 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Resolve and shake hands with every upstream; nothing is sent.
    #[arg(long)]
    connect: bool,
    /// As one object.
    #[arg(long)]
    json: bool,
}

/// How one part stands.
enum State {
    Good,
    /// Nothing is wrong, and somebody may want to know.
    Note,
    Fault,
}

/// What was found of one part.
struct Finding {
    part: &'static str,
    state: State,
    text: String,
}

/// Everything that was found, in the order of a start.
#[derive(Default)]
struct Report(Vec<Finding>);

pub(crate) fn check(place: &Place, arguments: &Arguments) -> Result<End, CliError> {
    let config = match place.checked() {
        Ok(config) => config,
        Err(CliError::Config(error)) => return wrong(error, arguments.json),
        Err(error) => return Err(error),
    };
    let report = wait(async { Ok(examine(&config, arguments.connect).await) })?;
    let sound = !report.0.iter().any(|finding| matches!(finding.state, State::Fault));
    answer(&if arguments.json { format!("{:#}", report.json(sound)) } else { report.text() })?;
    Ok(if sound { End::Done } else { End::No })
}

/// A configuration that is wrong: all that can be told is in the error.
fn wrong(error: ConfigError, json: bool) -> Result<End, CliError> {
    if json {
        let told = |fault: &Fault| {
            json!({ "part": "configuration", "state": "fault", "line": fault.line,
                "setting": fault.setting, "text": fault.problem })
        };
        let findings: Vec<Value> = match &error {
            ConfigError::Faults(faults) => faults.faults.iter().map(told).collect(),
            ConfigError::Read { .. } => {
                vec![
                    json!({ "part": "configuration", "state": "fault", "text": error.to_string() }),
                ]
            }
        };
        answer(&format!("{:#}", json!({ "ok": false, "findings": findings })))?;
    }
    Err(error.into())
}

async fn examine(config: &Config, connect: bool) -> Report {
    let mut report = Report::default();
    let catalog = &config.catalog;
    let (routes, upstreams) = (catalog.routes().count(), catalog.upstreams().len());
    report.good("configuration", format!("{routes} routes to {upstreams} upstreams"));
    report.data(&config.data);
    report.bundle(config).await;
    report.model(config);
    report.database(&config.data).await;
    report.ledger(config);
    report.key_files(&config.data);
    report.trust(config);
    report.collector(config).await;
    if connect {
        report.upstreams(config).await;
    }
    report
}

// === impl Report ===

impl Report {
    fn good(&mut self, part: &'static str, text: String) {
        self.0.push(Finding { part, state: State::Good, text });
    }

    fn note(&mut self, part: &'static str, text: String) {
        self.0.push(Finding { part, state: State::Note, text });
    }

    fn fault(&mut self, part: &'static str, fault: impl std::fmt::Display) {
        self.0.push(Finding { part, state: State::Fault, text: fault.to_string() });
    }

    fn data(&mut self, data: &DataFolder) {
        // What is not there is made at the first start, in the nearest folder that is.
        let folders = data.path().ancestors();
        let nearest = folders.map(named).find(|folder| folder.try_exists().unwrap_or(true));
        let nearest = nearest.unwrap_or(Path::new("/"));
        let all = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
        match rustix::fs::access(nearest, all) {
            Ok(()) if nearest == data.path() => {
                self.good("data", format!("`{}` is ours to write", nearest.display()));
            }
            Ok(()) => {
                let text = format!("`{}` is made at the first start", data.path().display());
                self.note("data", text);
            }
            Err(error) => {
                let folder = nearest.display();
                self.fault("data", format!("`{folder}` cannot be used ({error}): check its owner"));
            }
        }
    }

    async fn bundle(&mut self, config: &Config) {
        let contents = match replay::rules(&config.policy).await {
            Ok(contents) => contents,
            Err(error) => return self.fault("bundle", error),
        };
        let about = contents.about();
        match about.holds(&config.policy.profile, &config.policy.packs) {
            Ok(()) => {
                let (profile, packs) = (&config.policy.profile, config.policy.packs.join(", "));
                self.good(
                    "bundle",
                    format!("revision {}, profile {profile}, packs {packs}", about.revision),
                );
            }
            Err(error) => self.fault("bundle", error),
        }
    }

    fn model(&mut self, config: &Config) {
        if !config.catalog.needs_local_model() {
            return self.note("model", "no route leads to the local model".to_owned());
        }
        let folder = config.local.folder.clone().unwrap_or_else(|| config.data.models());
        match Manifest::read(&folder) {
            Ok(model) => self.good("model", format!("{} in `{}`", model.name, folder.display())),
            Err(error) => self.fault("model", error),
        }
        if let Some(runtime) = &config.local.runtime
            && let Err(error) = File::open(runtime)
        {
            self.fault("model", format!("`local.runtime`: `{}`: {error}", runtime.display()));
        }
    }

    async fn database(&mut self, data: &DataFolder) {
        let path = data.database();
        match path.try_exists() {
            Ok(true) => {}
            Ok(false) => {
                let text = format!("`{}` is made at the first start", path.display());
                return self.note("database", text);
            }
            Err(error) => return self.fault("database", format!("`{}`: {error}", path.display())),
        }
        let store = match Store::inspect(&path).await {
            Ok(store) => store,
            Err(error) => return self.fault("database", error),
        };
        if let Err(error) = Pepper::verify(&data.pepper(), &store).await {
            self.fault("database", error);
        }
        match store.valid_keys().await {
            Ok(keys) if keys.is_empty() => self
                .note("database", "no key is valid: make one with `cordon keys create`".to_owned()),
            Ok(keys) => self.good("database", format!("{} valid keys", keys.len())),
            Err(error) => self.fault("database", error),
        }
        store.close().await;
    }

    fn ledger(&mut self, config: &Config) {
        let path = config.data.ledger();
        if !path.try_exists().unwrap_or(false) {
            let text = format!("`{}` is made at the first start", path.display());
            return self.note("ledger", text);
        }
        match read_ledger(&path) {
            Ok(text) => self.good("ledger", text),
            Err(error) => self.fault("ledger", error),
        }
        match rustix::fs::statvfs(&path) {
            Ok(disk) if disk.f_bavail.saturating_mul(disk.f_frsize) < config.ledger.bytes_max.0 => {
                let free_mib = disk.f_bavail.saturating_mul(disk.f_frsize) >> 20;
                let text = format!(
                    "the disk has {free_mib} MiB left, less than `ledger.bytes_max`: it may fill \
                     before the ledger's own limit stops calls"
                );
                self.note("ledger", text);
            }
            Ok(_) => {}
            Err(error) => self.fault("ledger", format!("`{}`: {error}", path.display())),
        }
    }

    /// The keys of heads and of body hashes, where they were made already.
    fn key_files(&mut self, data: &DataFolder) {
        match SigningPair::load(&RealDisk, &data.signing_key()) {
            Err(HeadError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {}
            Err(error) => self.fault("ledger", error),
            Ok(_) => {}
        }
        match gateway::read_body_hash_key(&data.body_hash_key()) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => self.fault("ledger", error),
            Ok(_) => {}
        }
    }

    /// What upstreams with TLS are proven with: the system's roots, or files of their own.
    fn trust(&mut self, config: &Config) {
        let upstreams = config.catalog.upstreams();
        let remotes = upstreams.iter().filter_map(|upstream| gateway::remote(upstream));
        if let Err(error) = Providers::new(remotes, None, config.providers.clone()) {
            self.fault("upstreams", error);
        }
    }

    async fn collector(&mut self, config: &Config) {
        if !config.collector.start {
            return self
                .note("collector", "`collector.start` is false: none is started".to_owned());
        }
        match supervisor::find().await {
            Ok(_) => self.good("collector", "beside this program, of this build".to_owned()),
            Err(error) => self.fault("collector", error),
        }
    }

    async fn upstreams(&mut self, config: &Config) {
        for upstream in config.catalog.upstreams() {
            let Address::Remote(remote) = upstream.address() else { continue };
            match check_connect(upstream.id(), remote, CONNECT_DEADLINE).await {
                Ok(address) => {
                    self.good(
                        "upstream",
                        format!("{} answers at {address}", upstream.id().as_str()),
                    );
                }
                Err(error) => self.fault("upstream", error),
            }
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for finding in &self.0 {
            let part = finding.part;
            text += &format!("{:<6} {part}: {}\n", finding.state.word(), finding.text);
        }
        text
    }

    fn json(&self, sound: bool) -> Value {
        let findings = self.0.iter().map(|finding| {
            json!({ "part": finding.part, "state": finding.state.word(), "text": finding.text })
        });
        json!({ "ok": sound, "findings": findings.collect::<Vec<_>>() })
    }
}

// === impl State ===

impl State {
    fn word(&self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Note => "note",
            Self::Fault => "fault",
        }
    }
}

/// A folder's own name, also where it is the working folder.
fn named(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}

/// Reads every stream up to a limit; what is damaged is an error that says where.
fn read_ledger(path: &Path) -> Result<String, follow::FollowError> {
    let storage: Arc<dyn Storage> = Arc::new(RealDisk);
    let streams = follow::streams(storage.as_ref(), path)?;
    let mut events = 0;
    for folder in &streams {
        let mut follower = follow::Follower::open(Arc::clone(&storage), folder, None)?;
        let until = events + EVENTS_READ_MAX;
        loop {
            let batch = follower.next_batch(BATCH_EVENTS_MAX, BATCH_BYTES_MAX)?;
            events += batch.len() as u64;
            if batch.is_empty() || events >= until {
                break;
            }
        }
    }
    Ok(format!("{} streams, {events} events read; `cordon audit verify` proves all", streams.len()))
}
