//! Signed heads: who had how many events, said in a form that others can check.
//!
//! A head is a C2SP checkpoint (c2sp.org/tlog-checkpoint) in a signed note (c2sp.org/signed-note)
//! of origin `cordon/ledger/<stream>`: the number of events and the chain hash after the last,
//! signed with Ed25519. Heads are appended to a file outside the ledger's folder.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use ed25519_dalek::{
    Signature, Signer, SigningKey, VerifyingKey,
    pkcs8::{
        DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey,
        spki::der::pem::LineEnding,
    },
};
use sha2::{Digest, Sha256};
use thiserror::Error;
use uuid::Uuid;

use crate::{
    disk::{self, File, Storage},
    frame::Hash,
};

/// The file of public keys in the folder of heads.
pub const PUBLIC_KEYS_NAME: &str = "public.pem";
/// C2SP signed-note: the signature type of Ed25519.
const ED25519: u8 = 0x01;
/// A key file or a file of public keys is small.
const KEY_BYTES_MAX: u64 = 64 * 1024;
/// One head is about 300 bytes.
const HEAD_BYTES_MAX: usize = 4096;
/// How many bytes of a file of heads are read at once.
const READ_BYTES: usize = 64 * 1024;
const PEM_END: &str = "-----END PUBLIC KEY-----";

/// What a head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub stream: Uuid,
    /// The number of events, which is the seq of the last.
    pub size: u64,
    /// The chain hash after the last.
    pub root: Hash,
}

/// The key that signs heads.
pub struct SigningPair(SigningKey);

/// The keys whose signatures are believed.
#[derive(Debug, Clone, Default)]
pub struct PublicKeys(Vec<VerifyingKey>);

/// A file of heads, appended to.
#[derive(Debug)]
pub(crate) struct HeadFile {
    file: Arc<dyn File>,
    offset: u64,
}

/// Reads a file of heads one by one.
#[derive(Debug)]
pub struct HeadReader {
    file: Arc<dyn File>,
    /// What is appended while we read is not read.
    end: u64,
    offset: u64,
    buffer: Vec<u8>,
}

/// Why a head or a key cannot be used.
#[derive(Debug, Error)]
pub enum HeadError {
    #[error("the signing key `{path}` can be read by others; run chmod 600 on it")]
    Exposed { path: PathBuf },
    #[error("the signing key `{path}` is no Ed25519 key in PKCS#8 PEM; restore it from a backup")]
    NoKey { path: PathBuf },
    #[error("`{path}` holds a block that is no Ed25519 public key; restore it from a backup")]
    NoPublicKey { path: PathBuf },
    #[error("the head is not in the form of a signed checkpoint")]
    Form,
    #[error("the head is for `{0}`, another stream")]
    Origin(String),
    #[error("no known key made the head's signature")]
    Signature,
    #[error("cannot make a random key ({0}); the system's random source does not answer")]
    Random(String),
    #[error("cannot read or write `{path}`: {source}")]
    Io { path: PathBuf, source: io::Error },
}

/// The name under which a stream's heads are signed.
pub fn origin(stream: Uuid) -> String {
    format!("cordon/ledger/{stream}")
}

/// The file of a stream's heads.
pub fn path(heads: &Path, stream: Uuid) -> PathBuf {
    heads.join(format!("{stream}.heads"))
}

// === impl Head ===

impl Head {
    /// The text that is signed: three lines.
    fn text(&self) -> String {
        format!("{}\n{}\n{}\n", origin(self.stream), self.size, STANDARD.encode(self.root))
    }

    /// The signed note.
    pub fn sign(&self, pair: &SigningPair) -> String {
        let (name, text) = (origin(self.stream), self.text());
        let mut signed = key_id(&name, &pair.0.verifying_key()).to_vec();
        signed.extend_from_slice(&pair.0.sign(text.as_bytes()).to_bytes());
        format!("{text}\n\u{2014} {name} {}\n", STANDARD.encode(signed))
    }

    /// Reads a signed note of this stream and checks its signature.
    pub fn verify(note: &str, stream: Uuid, keys: &PublicKeys) -> Result<Self, HeadError> {
        let (text, signatures) = note.split_once("\n\n").ok_or(HeadError::Form)?;
        let head = Self::parse(text, stream)?;
        let name = origin(stream);
        let by_us = signatures.lines().filter_map(|line| {
            let line = line.strip_prefix("\u{2014} ")?;
            let signed = STANDARD.decode(line.strip_prefix(&name)?.strip_prefix(' ')?).ok()?;
            let (id, signature) = signed.split_first_chunk::<4>()?;
            Some((*id, Signature::from_slice(signature).ok()?))
        });
        for (id, signature) in by_us {
            let known = keys.0.iter().find(|key| key_id(&name, key) == id);
            let valid = known.map(|key| key.verify_strict(head.text().as_bytes(), &signature));
            if matches!(valid, Some(Ok(()))) {
                return Ok(head);
            }
        }
        Err(HeadError::Signature)
    }

    fn parse(text: &str, stream: Uuid) -> Result<Self, HeadError> {
        let mut lines = text.split('\n');
        let (name, size, root) = (lines.next(), lines.next(), lines.next());
        let (Some(name), Some(size), Some(root), None) = (name, size, root, lines.next()) else {
            return Err(HeadError::Form);
        };
        if name != origin(stream) {
            return Err(HeadError::Origin(name.chars().take(100).collect()));
        }
        let root = STANDARD.decode(root).ok().and_then(|root| Hash::try_from(root).ok());
        let (Ok(size), Some(root)) = (size.parse(), root) else {
            return Err(HeadError::Form);
        };
        Ok(Self { stream, size, root })
    }
}

/// C2SP signed-note: `SHA-256(name ‖ 0x0A ‖ 0x01 ‖ public key)[..4]`.
fn key_id(name: &str, key: &VerifyingKey) -> [u8; 4] {
    let hash = Sha256::new()
        .chain_update(name.as_bytes())
        .chain_update([b'\n', ED25519])
        .chain_update(key.as_bytes())
        .finalize();
    let mut id = [0; 4];
    id.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    id
}

// === impl SigningPair ===

impl SigningPair {
    /// Reads the key file, or makes it at a first start, for its owner only.
    pub fn load_or_make(storage: &dyn Storage, path: &Path) -> Result<Self, HeadError> {
        let io_error = |source| HeadError::Io { path: path.to_owned(), source };
        match Self::load(storage, path) {
            Err(HeadError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| HeadError::Random(error.to_string()))?;
        let key = SigningKey::from_bytes(&seed);
        let no_key = |_error| HeadError::NoKey { path: path.to_owned() };
        let pem = key.to_pkcs8_pem(LineEnding::LF).map_err(no_key)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        storage.create_dir(folder).map_err(io_error)?;
        disk::write_whole(storage, path, pem.as_bytes()).map_err(io_error)?;
        Ok(Self(key))
    }

    /// Reads the key file; refuses one that others can read.
    pub fn load(storage: &dyn Storage, path: &Path) -> Result<Self, HeadError> {
        let io_error = |source| HeadError::Io { path: path.to_owned(), source };
        let pem = disk::read_all(storage, path, KEY_BYTES_MAX).map_err(io_error)?;
        if !storage.is_private(path).map_err(io_error)? {
            return Err(HeadError::Exposed { path: path.to_owned() });
        }
        let pem = String::from_utf8_lossy(&pem);
        let key = SigningKey::from_pkcs8_pem(&pem);
        key.map(Self).map_err(|_other| HeadError::NoKey { path: path.to_owned() })
    }

    /// The public half.
    pub fn public(&self) -> VerifyingKey {
        self.0.verifying_key()
    }
}

// The key stays out of debug output.
impl std::fmt::Debug for SigningPair {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("SigningPair").field(&self.public()).finish()
    }
}

// === impl PublicKeys ===

impl PublicKeys {
    /// Reads the public keys in the folder of heads; no file means no keys.
    pub fn load(storage: &dyn Storage, heads: &Path) -> Result<Self, HeadError> {
        let path = heads.join(PUBLIC_KEYS_NAME);
        let pem = match disk::read_all(storage, &path, KEY_BYTES_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            result => result.map_err(|source| HeadError::Io { path: path.clone(), source })?,
        };
        let pem = String::from_utf8_lossy(&pem);
        let mut keys = Vec::new();
        for block in pem.split_inclusive(PEM_END).filter(|block| !block.trim().is_empty()) {
            let key = VerifyingKey::from_public_key_pem(block.trim());
            keys.push(key.map_err(|_other| HeadError::NoPublicKey { path: path.clone() })?);
        }
        Ok(Self(keys))
    }

    /// Adds a key to the file unless it is there. Several writers and renewed keys share the file.
    pub fn publish(
        storage: &dyn Storage,
        heads: &Path,
        key: &VerifyingKey,
    ) -> Result<Self, HeadError> {
        let path = heads.join(PUBLIC_KEYS_NAME);
        let mut known = Self::load(storage, heads)?;
        if known.0.contains(key) {
            return Ok(known);
        }
        known.0.push(*key);
        let mut text = String::new();
        for key in &known.0 {
            let pem = key.to_public_key_pem(LineEnding::LF);
            text += &pem.map_err(|_other| HeadError::NoPublicKey { path: path.clone() })?;
        }
        let written = disk::write_whole(storage, &path, text.as_bytes());
        written.map_err(|source| HeadError::Io { path, source })?;
        Ok(known)
    }
}

// === impl HeadFile ===

impl HeadFile {
    /// Opens a stream's file of heads to append to, cutting a last head that was half written.
    /// Makes an empty one when there is none, so that one that is missing later is noticed.
    /// Returns the last head in it.
    pub(crate) fn open(
        storage: &dyn Storage,
        heads: &Path,
        stream: Uuid,
        keys: &PublicKeys,
    ) -> Result<(Self, Option<Head>), HeadError> {
        let path = path(heads, stream);
        let io_error = |source| HeadError::Io { path: path.clone(), source };
        let file = match storage.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                disk::write_whole(storage, &path, b"").map_err(io_error)?;
                storage.open(&path).map_err(io_error)?
            }
            result => result.map_err(io_error)?,
        };
        let mut reader = HeadReader::of(Arc::clone(&file)).map_err(io_error)?;
        let (mut last, mut end) = (None, 0);
        while let Some(note) = reader.next_note().map_err(io_error)? {
            end = reader.offset;
            last = Some(note);
        }
        if end < file.bytes().map_err(io_error)? {
            file.set_bytes(end).map_err(io_error)?;
        }
        let last = last.map(|note| Head::verify(&note, stream, keys)).transpose()?;
        Ok((Self { file, offset: end }, last))
    }

    /// Appends a signed head.
    pub(crate) fn append(&mut self, note: &str) -> io::Result<()> {
        let text = format!("{note}\n");
        self.file.write_at(text.as_bytes(), self.offset)?;
        self.offset += text.len() as u64;
        Ok(())
    }

    /// Returns once the heads are durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

// === impl HeadReader ===

impl HeadReader {
    /// Opens a stream's file of heads.
    pub fn open(storage: &dyn Storage, heads: &Path, stream: Uuid) -> io::Result<Self> {
        Self::of(storage.open_to_read(&path(heads, stream))?)
    }

    fn of(file: Arc<dyn File>) -> io::Result<Self> {
        let end = file.bytes()?;
        Ok(Self { file, end, offset: 0, buffer: Vec::new() })
    }

    /// The next whole note; what is half written at the end is passed over.
    pub fn next_note(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(note) = self.take_note() {
                return Ok(Some(note));
            }
            let read_to = self.offset + self.buffer.len() as u64;
            let left = self.end.saturating_sub(read_to).min(READ_BYTES as u64);
            let mut more = vec![0; usize::try_from(left).unwrap_or(READ_BYTES)];
            let read = disk::read_up_to(&*self.file, &mut more, read_to)?;
            if read == 0 || self.buffer.len() > HEAD_BYTES_MAX {
                return Ok(None);
            }
            self.buffer.extend(more.into_iter().take(read));
        }
    }

    /// A note ends with the blank line behind its signatures: the second blank line.
    fn take_note(&mut self) -> Option<String> {
        let blank = |from: usize| {
            let rest = self.buffer.get(from..)?;
            rest.windows(2).position(|pair| pair == b"\n\n").map(|found| from + found + 2)
        };
        let end = blank(blank(0)?)?;
        let note: Vec<u8> = self.buffer.drain(..end).collect();
        self.offset += end as u64;
        let text = String::from_utf8_lossy(&note);
        Some(text.strip_suffix('\n').unwrap_or(&text).to_owned())
    }
}
