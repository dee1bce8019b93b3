//! The model's files: making them (an embedded Python script) and checking them.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::Path,
    process::Command,
};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::local::LocalError;

/// The script that `make run` and `cordon models prepare` run.
pub const SCRIPT: &str = include_str!("prepare.py");

/// The format of `model.json` this build reads.
const FORMAT: u32 = 1;

/// What `model.json` says of the files beside it.
#[derive(Debug, Clone, Deserialize)]
pub struct Manifest {
    pub format: u32,
    pub name: String,
    pub source: String,
    pub license: String,
    pub layers: usize,
    pub kv_heads: usize,
    pub head_size: usize,
    pub vocabulary: usize,
    pub context: usize,
    pub stop_tokens: Vec<u32>,
    /// SHA-256 of each file, lower hex.
    pub files: BTreeMap<String, String>,
}

impl Manifest {
    /// Reads the manifest and checks every file against it.
    pub fn read(folder: &Path) -> Result<Self, LocalError> {
        let unavailable = |reason: String| LocalError::Unavailable { reason };
        let path = folder.join("model.json");
        let text = std::fs::read_to_string(&path).map_err(|fault| {
            unavailable(format!("`{}`: {fault}; run `cordon models prepare`", path.display()))
        })?;
        let manifest: Self = serde_json::from_str(&text)
            .map_err(|fault| unavailable(format!("`{}`: {fault}", path.display())))?;
        if manifest.format != FORMAT {
            let found = manifest.format;
            return Err(unavailable(format!(
                "the model's files have format {found} and this build reads {FORMAT}; run \
                 `cordon models prepare`"
            )));
        }
        for (name, digest) in &manifest.files {
            let found = sha256(&folder.join(name))
                .map_err(|fault| unavailable(format!("`{name}`: {fault}")))?;
            if found != *digest {
                return Err(unavailable(format!(
                    "`{name}` is not the file that was prepared; run `cordon models prepare`"
                )));
            }
        }
        Ok(manifest)
    }

    /// Twelve hex digits that change with any of the files.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for digest in self.files.values() {
            hash.update(digest.as_bytes());
        }
        let hex = hex::encode(hash.finalize());
        format!("fp_{}", hex.get(..12).unwrap_or_default())
    }
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(hex::encode(hash.finalize()));
        }
        hash.update(&buffer[..read]);
    }
}

/// Runs the script for `folder`; its words go to standard error. The error says what to do.
pub fn prepare(folder: &Path) -> Result<(), LocalError> {
    let unavailable = |reason: String| LocalError::Unavailable { reason };
    let script = std::env::temp_dir().join(format!("cordon-prepare-{}.py", std::process::id()));
    std::fs::write(&script, SCRIPT).map_err(|fault| unavailable(fault.to_string()))?;
    let status = Command::new("python3").arg(&script).arg("--out").arg(folder).status();
    std::fs::remove_file(&script).map_err(|fault| unavailable(fault.to_string()))?;
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(unavailable(format!("preparing it failed ({status})"))),
        Err(fault) => Err(unavailable(format!(
            "python3 did not start: {fault}; install it with `apt-get install -y python3 \
             python3-venv`"
        ))),
    }
}
