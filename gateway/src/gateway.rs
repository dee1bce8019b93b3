//! Every part of the gateway, built once from a checked configuration.
//!
//! Steps: metrics, database and keys, ledger with recovery, policy with its self-test, the local
//! model, the ways out. A part that calls cannot do without stops the start; the local model only
//! limps. Nothing here serves.

pub mod supervisor;

use std::{
    fs::OpenOptions,
    io::{Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use cordon_ledger::{Ledger, Options, RealDisk, Recovered, Writer, append::HEAD_EVERY};

use crate::{
    catalog::{Address, Catalog, Remote, Upstream},
    classify::Classifier,
    config::{Config, settings::LedgerMode},
    identity::{
        attributes::Country,
        demonstration::{self, DemonstrationError},
        keys::{KeyError, Pepper},
        ring::KeyRing,
    },
    local::LocalModel,
    policy::{self, DecisionSink, Policy, PolicyError},
    providers::{Providers, ProvidersError},
    record::{
        Mode, RecordError, Recorder,
        body::Body,
        metrics::{Metrics, Reading},
    },
    room::Budget,
    store::{Store, StoreError},
};

/// Why the gateway does not start: what failed, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot use the data folder `{}` ({source}): check that it is ours and has room", path.display())]
    Data { path: PathBuf, source: std::io::Error },
    #[error("database: {0}")]
    Store(#[from] StoreError),
    #[error("keys: {0}")]
    Keys(#[from] KeyError),
    #[error("demonstration key: {0}")]
    Demonstration(#[from] DemonstrationError),
    #[error("ledger: {0}")]
    Ledger(#[from] cordon_ledger::OpenError),
    #[error("ledger: {0}")]
    Record(#[from] RecordError),
    #[error("policy: {0}")]
    Policy(#[from] PolicyError),
    #[error("upstreams: {0}")]
    Providers(#[from] ProvidersError),
}

/// The parts, each made once and shared.
#[derive(Debug)]
pub struct Gateway {
    pub(crate) store: Store,
    pub(crate) keys: Arc<KeyRing>,
    pub(crate) classifier: Arc<Classifier>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) policy: Policy,
    pub(crate) recorder: Recorder,
    pub(crate) providers: Providers,
    pub(crate) metrics: Arc<Metrics>,
    /// For every body that is held: requests, and answers that come whole.
    pub(crate) room: Arc<Budget>,
    /// Whose data it is where neither key nor client names a region.
    pub(crate) regions: Arc<[Country]>,
    /// When the gateway started, in seconds since 1970: `created` of its models.
    pub(crate) started_s: u64,
    /// Why the local model does not answer, where a route lists it and it does not.
    pub(crate) local_fault: Option<String>,
    config_digest: String,
}

impl Gateway {
    /// Builds every part, recovers what a crash left open, and writes the `start` event.
    pub async fn build(config: &Config) -> Result<Self, StartError> {
        let data = &config.data;
        data.create()
            .map_err(|source| StartError::Data { path: data.path().to_owned(), source })?;
        let metrics = Arc::new(Metrics::new());
        let (store, keys) = open_keys(config).await?;
        let (ledger, recovered) = open_ledger(config, &metrics).await?;
        let salt = body_hash_key(&data.body_hash_key())
            .map_err(|source| StartError::Data { path: data.path().to_owned(), source })?;
        let recorder = Recorder::new(ledger, mode(config.ledger.mode), Arc::clone(&metrics), salt);
        let region = config.organisation.region.clone();
        let sink: Arc<dyn DecisionSink> = Arc::new(recorder.clone());
        let policy = Policy::start(
            &policy_settings(config),
            Some(region.clone()),
            sink,
            Arc::clone(&metrics) as _,
        )
        .await?;
        metrics.bundle(&policy.about().revision);
        let (local, local_fault) = start_local(config).await;
        let upstreams = config.catalog.upstreams();
        let remotes = upstreams.iter().filter_map(|upstream| remote(upstream));
        let providers = Providers::new(remotes, local, config.providers.clone())?;
        let gateway = Self {
            store,
            keys,
            classifier: Arc::new(Classifier::new(&config.classify)),
            catalog: Arc::clone(&config.catalog),
            policy,
            recorder,
            providers,
            metrics,
            room: Arc::new(Budget::new(config.listeners.limits.buffered_bytes_max.0)),
            regions: Arc::new([region]),
            started_s: seconds(SystemTime::now()),
            local_fault,
            config_digest: config.digest.clone(),
        };
        gateway.watch_ledger();
        gateway.begin(&recovered).await?;
        Ok(gateway)
    }

    /// Writes `start` and closes what a crash left open, all on disk before anybody is served.
    async fn begin(&self, recovered: &Recovered) -> Result<(), StartError> {
        let mut body = Body::new();
        body.text("bundle", self.policy.about().revision.as_str())
            .text("config", self.config_digest.as_str())
            .text("cut", recovered.cut.as_deref())
            .number("recovered", recovered.open_calls.len() as u64)
            .text("version", env!("CARGO_PKG_VERSION"));
        let closed = self.recorder.start(body, recovered).await?;
        if let Some(cut) = &recovered.cut {
            tracing::warn!("the ledger's unfinished end was cut: {cut}");
        }
        if closed > 0 {
            tracing::warn!("{closed} calls were open when the last process died: `unknown`");
        }
        Ok(())
    }

    fn watch_ledger(&self) {
        let recorder = self.recorder.clone();
        let bytes = Reading(Arc::new(move || recorder.status().bytes));
        self.metrics.watch("cordon_ledger_bytes", "Bytes of the ledger", bytes);
        let recorder = self.recorder.clone();
        let limit = Reading(Arc::new(move || recorder.status().bytes_max));
        self.metrics.watch("cordon_ledger_limit_bytes", "Bytes the ledger may take", limit);
    }

    /// The providers' addresses, for the background resolver.
    pub fn remotes(&self) -> Vec<Arc<Upstream>> {
        let upstreams = self.catalog.upstreams();
        upstreams.into_iter().filter(|upstream| remote(upstream).is_some()).collect()
    }

    /// What the administration tells of the gateway: nothing secret, nothing of a call.
    pub fn state(&self) -> serde_json::Value {
        let status = self.recorder.status();
        let routes: serde_json::Map<String, serde_json::Value> = self
            .catalog
            .routes()
            .map(|route| {
                let targets: Vec<&str> =
                    route.upstreams().iter().map(|upstream| upstream.id().as_str()).collect();
                (route.name().to_owned(), targets.into())
            })
            .collect();
        serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "config": self.config_digest,
            "bundle": self.policy.about().revision,
            "routes": routes,
            "local_model": self.local_fault.as_deref().unwrap_or("ready"),
            "ledger": {
                "stream": status.stream,
                "bytes": status.bytes,
                "bytes_max": status.bytes_max,
                "durable_seq": status.durable.seq,
                "open_calls": status.open_calls,
                "poisoned": status.poisoned.is_some(),
            },
        })
    }
}

/// What the policy needs of the configuration.
fn policy_settings(config: &Config) -> policy::Settings {
    let settings = &config.policy;
    policy::Settings {
        bundle: settings.bundle.clone(),
        profile: settings.profile.clone(),
        packs: settings.packs.clone(),
        environment: settings.environment.clone(),
        threads: settings.threads,
        queue_max: settings.queue_max,
        deadline: settings.deadline,
        memo_entries_max: settings.memo_entries_max,
        memo_bytes_max: settings.memo_bytes_max,
    }
}

fn mode(mode: LedgerMode) -> Mode {
    match mode {
        LedgerMode::RequiredFull => Mode::RequiredFull,
        // `best_effort` is refused when the configuration is checked.
        LedgerMode::Required | LedgerMode::BestEffort => Mode::Required,
    }
}

/// The provider's address of an upstream that is not ours.
pub(crate) fn remote(upstream: &Upstream) -> Option<&Remote> {
    match upstream.address() {
        Address::Remote(remote) => Some(remote),
        Address::Local => None,
    }
}

async fn open_keys(config: &Config) -> Result<(Store, Arc<KeyRing>), StartError> {
    let store = Store::open(&config.data.database()).await?;
    let pepper = Pepper::open(&config.data.pepper(), &store).await?;
    if config.identity.demonstration_key {
        let limits = (config.identity.calls_at_once_max, config.identity.refused_per_second_max);
        demonstration::ensure(&config.data.demonstration_key(), &store, &pepper, limits).await?;
    }
    let keys = KeyRing::load(&store, pepper, config.organisation.facts()).await?;
    if keys.is_empty() {
        tracing::warn!("no key is valid yet: create one with `cordon keys create`");
    }
    Ok((store, Arc::new(keys)))
}

async fn open_ledger(
    config: &Config,
    metrics: &Arc<Metrics>,
) -> Result<(Ledger, Recovered), StartError> {
    let options = Options {
        stream_dir_parent: config.data.ledger(),
        heads_dir: config.data.heads(),
        signing_key: config.data.signing_key(),
        bytes_max: config.ledger.bytes_max.0,
        segment_bytes: config.ledger.segment_bytes.0,
        head_every: HEAD_EVERY,
        writer: Writer::Gateway,
        gateway_version: env!("CARGO_PKG_VERSION").to_owned(),
        config_digest: Some(config.digest.clone()),
        observer: Some(Arc::clone(metrics) as _),
    };
    let path = options.stream_dir_parent.clone();
    let opened = tokio::task::spawn_blocking(move || Ledger::open(options, Arc::new(RealDisk)));
    let died = |fault: tokio::task::JoinError| StartError::Data {
        path,
        source: std::io::Error::other(fault),
    };
    Ok(opened.await.map_err(died)??)
}

/// Loads the local model where a route lists it; a model that is missing is said, not fatal.
async fn start_local(config: &Config) -> (Option<LocalModel>, Option<String>) {
    if !config.catalog.needs_local_model() {
        return (None, None);
    }
    let settings = config.local.clone();
    let folder = settings.folder.clone().unwrap_or_else(|| config.data.models());
    let started = tokio::task::spawn_blocking(move || LocalModel::start(&settings, &folder)).await;
    let fault = match started {
        Ok(Ok(model)) => return (Some(model), None),
        Ok(Err(fault)) => fault.to_string(),
        Err(fault) => format!("loading the local model failed: {fault}"),
    };
    tracing::warn!("{fault}");
    (None, Some(fault))
}

/// The key of body hashes: made once, kept apart from the ledger, readable by its owner only.
fn body_hash_key(path: &Path) -> std::io::Result<[u8; 32]> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            let key: [u8; 32] = rand::random();
            file.write_all(&key)?;
            file.sync_all()?;
            Ok(key)
        }
        Err(fault) if fault.kind() == std::io::ErrorKind::AlreadyExists => read_body_hash_key(path),
        Err(fault) => Err(fault),
    }
}

/// Reads the key of body hashes; refuses one that others can read.
pub(crate) fn read_body_hash_key(path: &Path) -> std::io::Result<[u8; 32]> {
    let mut file = OpenOptions::new().read(true).open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        let open = format!("`{}` can be read by others; run chmod 600 on it", path.display());
        return Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, open));
    }
    let mut key = [0; 32];
    file.read_exact(&mut key).map_err(|fault| {
        let text = format!("`{}`: {fault}; restore it from a backup", path.display());
        std::io::Error::new(fault.kind(), text)
    })?;
    Ok(key)
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
