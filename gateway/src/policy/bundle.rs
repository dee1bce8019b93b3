//! Reads a policy bundle: the gzipped tar that `opa build -t wasm` makes, with limits on all of it.
//!
//! Takes `/policy.wasm`, `/data.json` and `/.manifest`, nothing else. Knows files; not what the
//! policy in them says.

use std::{
    collections::BTreeSet,
    io::Read,
    path::{Component, Path},
};

use serde_json::Value;
use sha2::{Digest, Sha256};

/// The bundle that `policies/` makes; what is used where the configuration names none.
const BUILT_IN: &[u8] = include_bytes!("../../../policies/bundle.tar.gz");
/// The bundle as a file. A policy of the contract's size is under 1 MiB.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// All entries together, unpacked.
const UNPACKED_BYTES_MAX: u64 = 64 << 20;
/// How far gzip may expand it: Wasm and JSON stay well below, bombs are far above.
const RATIO_MAX: u64 = 100;
const ENTRIES_MAX: usize = 1_024;
/// Data takes about eleven times its size in every instance's memory.
const DATA_BYTES_MAX: u64 = 4 << 20;

/// A bundle as read: not yet compiled, not yet tested.
#[derive(Clone)]
pub struct Bundle {
    wasm: Vec<u8>,
    data: Value,
    revision: String,
    digest: [u8; 32],
}

/// Why a file is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("the policy bundle `{path}` cannot be read: {source}")]
    Unreadable { path: String, source: std::io::Error },
    #[error("the policy bundle is no gzipped tar: {0}")]
    NotAnArchive(std::io::Error),
    #[error("the policy bundle is too large: {what} over {max}")]
    TooLarge { what: &'static str, max: u64 },
    #[error("the policy bundle holds an entry `{path}` that could leave its folder")]
    UnsafePath { path: String },
    #[error("the policy bundle holds `{path}` twice")]
    Twice { path: String },
    #[error("the policy bundle has no `{path}`: build it with `opa build -t wasm`")]
    Missing { path: &'static str },
    #[error("`{path}` of the policy bundle is not valid JSON: {source}")]
    Json { path: &'static str, source: serde_json::Error },
    #[error("`.manifest` of the policy bundle names no `revision`: build it with `--revision`")]
    NoRevision,
    #[error("the policy bundle is signed, and verifying signatures is not configured")]
    Signed,
}

/// The entries we take, while the archive is read.
#[derive(Default)]
struct Entries {
    wasm: Option<Vec<u8>>,
    data: Option<Vec<u8>>,
    manifest: Option<Vec<u8>>,
}

// === impl Bundle ===

impl Bundle {
    /// The bundle inside this program.
    pub fn built_in() -> Result<Self, BundleError> {
        Self::from_bytes(BUILT_IN)
    }

    /// Reads a bundle file.
    pub fn read(path: &Path) -> Result<Self, BundleError> {
        let unreadable =
            |source| BundleError::Unreadable { path: path.display().to_string(), source };
        let file = std::fs::File::open(path).map_err(unreadable)?;
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        Self::from_bytes(&bytes)
    }

    /// Reads a bundle from the bytes of its file.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BundleError> {
        let length = bytes.len() as u64;
        if length > FILE_BYTES_MAX {
            return Err(BundleError::TooLarge { what: "file bytes", max: FILE_BYTES_MAX });
        }
        let entries = unpack(bytes, UNPACKED_BYTES_MAX.min(length.saturating_mul(RATIO_MAX)))?;
        let wasm = entries.wasm.ok_or(BundleError::Missing { path: "policy.wasm" })?;
        let data = entries.data.ok_or(BundleError::Missing { path: "data.json" })?;
        let manifest = entries.manifest.ok_or(BundleError::Missing { path: ".manifest" })?;
        let data = parse("data.json", &data)?;
        let manifest = parse(".manifest", &manifest)?;
        let revision = manifest.get("revision").and_then(Value::as_str).unwrap_or_default();
        if revision.is_empty() {
            return Err(BundleError::NoRevision);
        }
        Ok(Self { wasm, data, revision: revision.to_owned(), digest: Sha256::digest(bytes).into() })
    }

    /// The same policy over other data, for cases that change it.
    pub fn with_data(&self, data: Value) -> Self {
        Self { data, ..self.clone() }
    }

    /// The compiled policy.
    pub fn wasm(&self) -> &[u8] {
        &self.wasm
    }

    /// The tables and rule texts.
    pub fn data(&self) -> &Value {
        &self.data
    }

    /// What the manifest calls this version.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// SHA-256 of the file.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
}

impl std::fmt::Debug for Bundle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Bundle").field("revision", &self.revision).finish_non_exhaustive()
    }
}

/// Walks the archive once, through a reader that ends at `unpacked_max`.
fn unpack(bytes: &[u8], unpacked_max: u64) -> Result<Entries, BundleError> {
    let mut reader = flate2::read::GzDecoder::new(bytes).take(unpacked_max + 1);
    let entries = walk(&mut reader);
    if reader.limit() == 0 {
        return Err(BundleError::TooLarge { what: "unpacked bytes", max: unpacked_max });
    }
    entries
}

fn walk(reader: impl Read) -> Result<Entries, BundleError> {
    let mut archive = tar::Archive::new(reader);
    let (mut entries, mut seen) = (Entries::default(), BTreeSet::new());
    for entry in archive.entries().map_err(BundleError::NotAnArchive)? {
        let mut entry = entry.map_err(BundleError::NotAnArchive)?;
        let path = safe_path(&entry.path().map_err(BundleError::NotAnArchive)?)?;
        if entry.header().entry_type().is_dir() {
            continue;
        }
        if !entry.header().entry_type().is_file() {
            return Err(BundleError::UnsafePath { path });
        }
        if seen.len() == ENTRIES_MAX {
            return Err(BundleError::TooLarge { what: "entries", max: ENTRIES_MAX as u64 });
        }
        if !seen.insert(path.clone()) {
            return Err(BundleError::Twice { path });
        }
        let place = match path.as_str() {
            "policy.wasm" => &mut entries.wasm,
            "data.json" => &mut entries.data,
            ".manifest" => &mut entries.manifest,
            ".signatures.json" => return Err(BundleError::Signed),
            _ => continue,
        };
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(BundleError::NotAnArchive)?;
        *place = Some(content);
    }
    Ok(entries)
}

/// The path without its leading slash; refuses whatever could point outside.
fn safe_path(path: &Path) -> Result<String, BundleError> {
    let refused = || BundleError::UnsafePath { path: path.display().to_string() };
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(part) => parts.push(part.to_str().ok_or_else(refused)?),
            Component::ParentDir | Component::Prefix(_) => return Err(refused()),
        }
    }
    Ok(parts.join("/"))
}

fn parse(path: &'static str, bytes: &[u8]) -> Result<Value, BundleError> {
    if bytes.len() as u64 > DATA_BYTES_MAX {
        return Err(BundleError::TooLarge { what: path, max: DATA_BYTES_MAX });
    }
    serde_json::from_slice(bytes).map_err(|source| BundleError::Json { path, source })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Packs files the way `opa build` does, leading slash included.
    fn packed(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(content.len() as u64);
            header.set_mode(0o600);
            header.set_cksum();
            archive.append(&header, *content).expect("memory");
        }
        let tar = archive.into_inner().expect("memory");
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(&tar).expect("memory");
        gzip.finish().expect("memory")
    }

    const GOOD: [(&str, &[u8]); 3] = [
        ("/policy.wasm", b"\0asm"),
        ("/data.json", b"{}"),
        ("/.manifest", br#"{"revision":"r1"}"#),
    ];

    #[test]
    fn a_bundle_is_read_with_or_without_leading_slashes() {
        let bundle = Bundle::from_bytes(&packed(&GOOD)).expect("a bundle");
        assert_eq!((bundle.revision(), bundle.wasm()), ("r1", &b"\0asm"[..]));
        let bare = GOOD.map(|(path, content)| (path.trim_start_matches('/'), content));
        Bundle::from_bytes(&packed(&bare)).expect("a bundle");
    }

    #[test]
    fn the_built_in_bundle_is_one() {
        Bundle::built_in().expect("the committed bundle");
    }

    #[test]
    fn what_could_harm_is_refused() {
        let with = |extra: (&'static str, &'static [u8])| {
            let files: Vec<_> = GOOD.into_iter().chain([extra]).collect();
            Bundle::from_bytes(&packed(&files)).expect_err("refused").to_string()
        };
        assert!(with(("/../etc/passwd", b"")).contains("could leave its folder"));
        assert!(with(("policy.wasm", b"")).contains("twice"));
        assert!(with(("/.signatures.json", b"{}")).contains("signed"));
    }

    #[test]
    fn a_bomb_is_refused_before_it_is_unpacked() {
        let zeros = vec![0; 8 << 20];
        let bomb = packed(&[("/policy.wasm", &zeros), GOOD[1], GOOD[2]]);
        let refused = Bundle::from_bytes(&bomb).expect_err("refused").to_string();
        assert!(refused.contains("unpacked bytes"), "{refused}");
    }

    #[test]
    fn what_is_missing_is_named() {
        for (index, name) in ["policy.wasm", "data.json", ".manifest"].into_iter().enumerate() {
            let mut files = GOOD.to_vec();
            files.remove(index);
            let refused = Bundle::from_bytes(&packed(&files)).expect_err("refused").to_string();
            assert!(refused.contains(name), "{refused}");
        }
        let nameless = [GOOD[0], GOOD[1], ("/.manifest", b"{}" as &[u8])];
        let refused = Bundle::from_bytes(&packed(&nameless)).expect_err("refused");
        assert!(matches!(refused, BundleError::NoRevision));
        assert!(matches!(Bundle::from_bytes(b"text"), Err(BundleError::NotAnArchive(_))));
    }
}
