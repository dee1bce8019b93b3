//! Secrets as configuration names them: by reference to the environment or a file, never inline.
//!
//! A `Secret` prints as `[secret]` everywhere; only [`Secret::expose`] gives the text.

use std::{
    fmt,
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer};

/// Keys and tokens are short; a larger file is not what the operator meant.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Where a secret is found: `{ env = "NAME" }` or `{ file = "PATH" }`.
#[derive(Debug, Clone, schemars::JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SecretReference {
    /// The name of an environment variable, read once at start.
    Env(String),
    /// A file that only its owner may read; surrounding white space is not part of the secret.
    File(PathBuf),
}

/// Why a reference leads to no secret. The texts never hold the secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("environment variable `{name}` is not set: set it, or name another")]
    Unset { name: String },
    #[error("cannot read `{}` ({source}): create it, readable by you only", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("`{}` can be read by others (mode {mode:03o}): run `chmod 600` on it", path.display())]
    Open { path: PathBuf, mode: u32 },
    #[error("`{}` holds no secret: it must be one line of text, at most 64 KiB", path.display())]
    Unusable { path: PathBuf },
    #[error("environment variable `{name}` holds no secret: it must be one line of text")]
    UnusableVariable { name: String },
}

/// A secret's text; it never shows in logs, errors or `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

// === impl SecretReference ===

/// Written by hand: the usual refusal would repeat what was written, which may be a secret.
impl<'de> Deserialize<'de> for SecretReference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            untagged,
            deny_unknown_fields,
            expecting = "a secret never stands in the configuration itself: write \
                         `{ env = \"NAME\" }` or `{ file = \"PATH\" }`"
        )]
        enum Written {
            Env { env: String },
            File { file: PathBuf },
        }
        Ok(match Written::deserialize(deserializer)? {
            Written::Env { env } => Self::Env(env),
            Written::File { file } => Self::File(file),
        })
    }
}

impl SecretReference {
    /// Fetches the secret; `variable` looks up the environment. A file must be closed to others.
    pub fn resolve(
        &self,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Secret, SecretError> {
        match self {
            Self::Env(name) => {
                let text =
                    variable(name).ok_or_else(|| SecretError::Unset { name: name.clone() })?;
                one_line(&text).ok_or_else(|| SecretError::UnusableVariable { name: name.clone() })
            }
            Self::File(path) => read_closed(path),
        }
    }
}

/// Reads a file that nobody but its owner may read or write.
fn read_closed(path: &Path) -> Result<Secret, SecretError> {
    let unreadable = |source| SecretError::Unreadable { path: path.into(), source };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    // The open file is asked, not the path, so that what is checked is what is read.
    let mode = file.metadata().map_err(unreadable)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(SecretError::Open { path: path.into(), mode });
    }
    let mut text = String::new();
    file.take(SECRET_BYTES_MAX + 1).read_to_string(&mut text).map_err(unreadable)?;
    one_line(&text).ok_or_else(|| SecretError::Unusable { path: path.into() })
}

/// The text without the white space around it; `None` where it cannot stand in a header.
fn one_line(text: &str) -> Option<Secret> {
    let text = text.trim();
    let fits = !text.is_empty() && text.len() as u64 <= SECRET_BYTES_MAX;
    (fits && !text.contains(char::is_control)).then(|| Secret::new(text.to_owned()))
}

// === impl Secret ===

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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn nothing(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn a_secret_file_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "geheim\n").unwrap();
        for (mode, usable) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let found = SecretReference::File(path.clone()).resolve(&nothing);
            assert_eq!(found.is_ok(), usable, "{mode:o}");
        }
    }

    #[test]
    fn no_text_of_a_secret_shows() {
        let secret = SecretReference::Env("KEY".into())
            .resolve(&|name| (name == "KEY").then(|| " geheim ".to_owned()))
            .unwrap();
        assert_eq!(secret.expose(), "geheim");
        assert_eq!(format!("{secret:?}"), "[secret]");
        for wrong in ["", "  ", "two\nlines"] {
            let fault = SecretReference::Env("KEY".into()).resolve(&|_| Some(wrong.to_owned()));
            let text = fault.unwrap_err().to_string();
            assert!(text.contains("`KEY` holds no secret"), "{text}");
        }
        let unset = SecretReference::Env("GONE".into()).resolve(&nothing).unwrap_err();
        assert!(unset.to_string().contains("`GONE` is not set"));
    }
}
