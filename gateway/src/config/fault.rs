//! What is wrong with a configuration: where, what, and what to do.

use std::fmt;

/// One fault of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Counted from 1; unset where something is missing altogether.
    pub line: Option<usize>,
    /// Path of the setting: `upstreams.sovereign-fr.url`.
    pub setting: String,
    /// What is wrong, and what to do about it.
    pub problem: String,
}

/// Every fault of one configuration, in the order of its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    /// The file as the user named it, or `the built-in demonstration`.
    pub source: String,
    pub faults: Vec<Fault>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read `{path}` ({source}): name a file, or make one with `cordon init {path}`")]
    Read { path: String, source: std::io::Error },
    #[error("{0}")]
    Faults(Faults),
}

// === impl Faults ===

impl Faults {
    pub(super) fn new(source: &str, mut faults: Vec<Fault>) -> Self {
        faults.sort_by(|a, b| (a.line, &a.setting).cmp(&(b.line, &b.setting)));
        faults.dedup();
        Self { source: source.to_owned(), faults }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            write!(formatter, "{newline}{}", self.source)?;
            if let Some(line) = fault.line {
                write!(formatter, ":{line}")?;
            }
            // A message that does not name its setting itself is put behind it.
            if !fault.setting.is_empty() && !fault.problem.contains(&fault.setting) {
                write!(formatter, ": `{}`", fault.setting)?;
            }
            write!(formatter, ": {}", fault.problem)?;
        }
        Ok(())
    }
}

/// A path as one writes it in TOML: `upstreams.x.models."gpt-4.1"`.
pub(super) fn path_text(path: &[String]) -> String {
    let bare = |part: &str| {
        !part.is_empty()
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    let parts = path.iter().map(|part| if bare(part) { part.clone() } else { format!("{part:?}") });
    parts.collect::<Vec<_>>().join(".")
}
