//! Secrets as configuration names them: by reference to the environment or a file, never inline.
//!
//! A `Secret` prints as `[secret]` everywhere; only [`Secret::expose`] gives the text.

use std::{fmt, path::PathBuf};

use serde::Deserialize;

/// Where a secret is found: `{ env = "NAME" }` or `{ file = "PATH" }`.
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SecretReference {
    /// The name of an environment variable, read once at start.
    Env(String),
    /// A file that only its owner may read; surrounding white space is not part of the secret.
    File(PathBuf),
}

/// A secret's text; it never shows in logs, errors or `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text that must not be shown.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[secret]")
    }
}
