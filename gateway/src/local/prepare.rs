//! The model's files: making them (an embedded Python script) and checking them.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Write},
    path::Path,
    process::{Command, ExitStatus, Stdio},
};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::local::LocalError;

/// The script that `make run` and `cordon models prepare` run.
pub const SCRIPT: &str = include_str!("prepare.py");

/// The format of `model.json` this build reads.
const FORMAT: u32 = 1;

/// The script's exit code where something must be installed first.
const LACKING: i32 = 2;

/// Why the files were not made; the script's own words were told before.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    #[error("python3 did not start ({0}); run `apt-get install -y python3 python3-venv`")]
    NoPython(io::Error),
    #[error("python3 lacks what the local model needs once")]
    Lacking,
    #[error("the local model was not made ({0})")]
    Failed(ExitStatus),
}

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

/// Runs the script for `folder`; its words go to standard error. Python gets it through a pipe: a
/// file would have to lie where nobody else can write.
pub fn prepare(folder: &Path) -> Result<(), PrepareError> {
    // Isolated: modules are taken from Python itself and not from the working folder.
    let python = Command::new("python3")
        .args(["-I", "-", "--out"])
        .arg(folder)
        .stdin(Stdio::piped())
        .spawn();
    let mut python = python.map_err(PrepareError::NoPython)?;
    if let Some(mut input) = python.stdin.take() {
        // Where it ended early its status says why.
        drop(input.write_all(SCRIPT.as_bytes()));
    }
    let status = python.wait().map_err(PrepareError::NoPython)?;
    match status.code() {
        Some(0) => Ok(()),
        Some(LACKING) => Err(PrepareError::Lacking),
        Some(_) | None => Err(PrepareError::Failed(status)),
    }
}
