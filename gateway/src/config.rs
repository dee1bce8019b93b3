//! The configuration: every setting, checked once.
//!
//! Text to settings to [`Config`]: unknown keys, wrong types and wrong values are told with file
//! and line, as many at once as can be told. Secrets and the environment are read here and never
//! later. Without a file the built-in demonstration holds.

mod document;
pub mod fault;
pub mod folder;
pub mod listeners;
pub mod settings;
mod values;

use std::{
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use sha2::{Digest, Sha256};

use crate::{
    catalog::{
        Catalog,
        build::{CatalogFault, Site},
    },
    classify,
    config::{
        document::Document,
        fault::{Fault, Faults, path_text},
        settings::Settings,
    },
    identity::organisation::Organisation,
    local, policy, providers,
};

pub use fault::ConfigError;
pub use folder::DataFolder;

/// The demonstration, as `cordon init` writes it.
pub const DEMONSTRATION: &str = include_str!("config/demonstration.toml");
/// What the demonstration is called in messages.
const DEMONSTRATION_NAME: &str = "the built-in demonstration";

/// A configuration of a thousand upstreams has a few hundred KiB.
const TEXT_BYTES_MAX: u64 = 8 << 20;

/// Where a configuration comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The demonstration that is part of this program.
    Demonstration,
    File(PathBuf),
}

/// A configuration that was read, and whose every part has the right form. Values that need the
/// environment or other files are not checked yet.
#[derive(Debug)]
pub struct Written {
    source: Source,
    digest: String,
    /// Relative paths start here.
    folder: PathBuf,
    settings: Settings,
    places: document::Places,
}

/// The checked configuration: everything the gateway is built from.
#[derive(Debug, Clone)]
pub struct Config {
    pub source: Source,
    /// SHA-256 of the text, lower hex: names the configuration in the ledger.
    pub digest: String,
    pub data: DataFolder,
    pub listeners: listeners::Settings,
    pub organisation: Organisation,
    pub policy: policy::Settings,
    pub catalog: Arc<Catalog>,
    /// With its folder filled in.
    pub local: local::Settings,
    pub ledger: settings::Ledger,
    pub identity: settings::Identity,
    pub classify: classify::Settings,
    pub providers: providers::Settings,
    pub collector: settings::Collector,
}

/// JSON Schema of the configuration.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Settings).to_value()
}

// === impl Source ===

impl Source {
    /// The file, or the demonstration where there is none.
    pub fn of(file: Option<&Path>) -> Self {
        file.map_or(Self::Demonstration, |path| Self::File(path.into()))
    }

    fn name(&self) -> String {
        match self {
            Self::Demonstration => DEMONSTRATION_NAME.to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }

    fn text(&self) -> Result<String, ConfigError> {
        let path = match self {
            Self::Demonstration => return Ok(DEMONSTRATION.to_owned()),
            Self::File(path) => path,
        };
        let failed = |source| ConfigError::Read { path: path.display().to_string(), source };
        let file = std::fs::File::open(path).map_err(failed)?;
        let mut text = String::new();
        file.take(TEXT_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
        Ok(text)
    }

    /// Relative paths start at the file's folder, without a file at the working folder.
    fn folder(&self) -> PathBuf {
        match self {
            Self::Demonstration => PathBuf::new(),
            Self::File(path) => path.parent().map(Path::to_owned).unwrap_or_default(),
        }
    }
}

// === impl Written ===

impl Written {
    /// Reads a configuration; tells every fault of its form.
    pub fn read(source: Source) -> Result<Self, ConfigError> {
        let text = source.text()?;
        Self::parse(source, &text)
    }

    /// Reads a configuration's text.
    pub fn parse(source: Source, text: &str) -> Result<Self, ConfigError> {
        let told = |faults| ConfigError::Faults(Faults::new(&source.name(), faults));
        let mut document = Document::parse(text).map_err(told)?;
        document.refuse_unknown(&schema());
        let settings = settings(&mut document);
        match settings {
            Some(settings) if document.faults.is_empty() => Ok(Self {
                digest: hex::encode(Sha256::digest(text)),
                folder: source.folder(),
                settings,
                places: document.places,
                source,
            }),
            _ => Err(told(document.faults)),
        }
    }

    /// The data folder; `data` of the command line wins.
    pub fn data(&self, data: Option<&Path>) -> DataFolder {
        DataFolder::new(match data {
            Some(data) => data.to_owned(),
            None => self.folder.join(&self.settings.data),
        })
    }

    /// The settings as written.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The policy's settings, its paths rooted: enough to decide by hand, without secrets.
    pub fn policy(&self) -> policy::Settings {
        let bundle = self.settings.policy.bundle.as_ref().map(|path| self.folder.join(path));
        policy::Settings { bundle, ..self.settings.policy.clone() }
    }

    /// The folder of the local model's files.
    pub fn models(&self, data: &DataFolder) -> PathBuf {
        let folder = self.settings.local.folder.as_ref().map(|path| self.folder.join(path));
        folder.unwrap_or_else(|| data.models())
    }

    /// Checks every value and reads the secrets; `variable` looks up the environment. Tells all
    /// that is wrong at once.
    pub fn check(
        self,
        data: Option<&Path>,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Config, ConfigError> {
        let mut faults = self.value_faults();
        let site = Site {
            organisation: &self.settings.organisation,
            folder: &self.folder,
            variable,
            local_context_tokens_max: self.settings.local.context_tokens_max as u64,
        };
        let catalog = Catalog::build(&self.settings.upstreams, &self.settings.routes, &site);
        let catalog = match catalog {
            Ok(catalog) if faults.is_empty() => catalog,
            Ok(_) => return Err(self.told(faults)),
            Err(more) => {
                faults.extend(more.iter().map(|fault| self.located(fault)));
                return Err(self.told(faults));
            }
        };
        let data = self.data(data);
        Ok(self.finish(data, catalog))
    }

    fn told(&self, faults: Vec<Fault>) -> ConfigError {
        ConfigError::Faults(Faults::new(&self.source.name(), faults))
    }

    fn located(&self, fault: &CatalogFault) -> Fault {
        self.fault(&fault.setting, fault.error.to_string())
    }

    fn fault(&self, setting: &[String], problem: String) -> Fault {
        Fault { line: self.places.find(setting), setting: path_text(setting), problem }
    }

    /// What is wrong with values that any part could read.
    fn value_faults(&self) -> Vec<Fault> {
        let wrong = values::wrong(&self.settings).into_iter();
        wrong
            .map(|wrong| {
                let path: Vec<_> = wrong.setting.split('.').map(str::to_owned).collect();
                self.fault(&path, wrong.problem.to_owned())
            })
            .collect()
    }

    fn finish(self, data: DataFolder, catalog: Catalog) -> Config {
        let policy = self.policy();
        let folder = Some(self.models(&data));
        let runtime = self.settings.local.runtime.map(|path| self.folder.join(path));
        let local = local::Settings { folder, runtime, ..self.settings.local };
        Config {
            source: self.source,
            digest: self.digest,
            data,
            listeners: self.settings.listeners,
            organisation: self.settings.organisation,
            policy,
            catalog: Arc::new(catalog),
            local,
            ledger: self.settings.ledger,
            identity: self.settings.identity,
            classify: self.settings.classify,
            providers: self.settings.providers,
            collector: self.settings.collector,
        }
    }
}

/// Reads every part by itself; `None` where one is missing or wrong, which is told.
fn settings(document: &mut Document<'_>) -> Option<Settings> {
    let organisation = document.part("organisation");
    let why = "say who you are with `name`, `headquarters` and `region`";
    let organisation = document.require("organisation", organisation, why);
    let settings = Settings {
        data: document.part("data").unwrap_or_else(|| PathBuf::from("data")),
        listeners: document.part("listeners").unwrap_or_default(),
        policy: document.part("policy").unwrap_or_default(),
        upstreams: document.parts("upstreams"),
        routes: document.parts("routes"),
        local: document.part("local").unwrap_or_default(),
        ledger: document.part("ledger").unwrap_or_default(),
        identity: document.part("identity").unwrap_or_default(),
        classify: document.part("classify").unwrap_or_default(),
        providers: document.part("providers").unwrap_or_default(),
        collector: document.part("collector").unwrap_or_default(),
        organisation: organisation?,
    };
    Some(settings)
}

// === impl Config ===

impl Config {
    /// Reads and checks a configuration with this process's environment.
    pub fn load(file: Option<&Path>, data: Option<&Path>) -> Result<Self, ConfigError> {
        let variable = |name: &str| std::env::var(name).ok();
        Written::read(Source::of(file))?.check(data, &variable)
    }
}

#[cfg(test)]
mod tests;
