//! Signed heads: who had how many events, said in a form that others can check.
//!
//! A head is a C2SP checkpoint (c2sp.org/tlog-checkpoint) in a signed note (c2sp.org/signed-note)
//! of origin `cordon/ledger/<stream>`: the number of events and the chain hash after the last,
//! signed with Ed25519. Heads are appended to a file outside the ledger's folder.

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
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
/// One head is about 300 bytes. More bytes than this without one are not what a power loss leaves.
const HEAD_BYTES_MAX: usize = 4096;
/// A head is signed every second with news. Events that lie further apart without any head had one;
/// the rest is for clocks that are set and machines that sleep.
pub(crate) const UNSIGNED_MAX: Duration = Duration::from_secs(60);
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
    path: PathBuf,
    /// What is appended while we read is not read.
    end: u64,
    /// Bytes of the file from `base` on; those before `at` have been read.
    buffer: Vec<u8>,
    base: u64,
    at: usize,
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
    #[error("a head is not in the form of a signed checkpoint")]
    Form,
    #[error("no head stands at byte {offset}, where one should")]
    NoHead { offset: u64 },
    #[error("a head is for `{0}`, another stream")]
    Origin(String),
    #[error("no known key made a head's signature")]
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
                make(storage, heads, stream)?;
                storage.open(&path).map_err(io_error)?
            }
            result => result.map_err(io_error)?,
        };
        let mut reader = HeadReader::of(Arc::clone(&file), path.clone())?;
        let (mut last, mut begin, mut end) = (None, 0, 0);
        while let Some(note) = reader.next_note()? {
            (last, begin, end) = (Some(note), end, reader.offset());
        }
        let last = last.map(|note| Head::verify(&note, stream, keys)).transpose()?;
        settle(&*file, begin..end).map_err(io_error)?;
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

/// Makes a stream's file of heads, without any.
pub(crate) fn make(storage: &dyn Storage, heads: &Path, stream: Uuid) -> Result<(), HeadError> {
    let path = path(heads, stream);
    disk::write_whole(storage, &path, b"").map_err(|source| HeadError::Io { path, source })
}

/// Ends the file behind its last note and makes that note durable: its own sync may have failed,
/// which leaves it in memory only, where no later sync finds it. So it is written again.
fn settle(file: &dyn File, last: Range<u64>) -> io::Result<()> {
    if last.end < file.bytes()? {
        file.set_bytes(last.end)?;
    }
    let mut note = vec![0; usize::try_from(last.end - last.start).unwrap_or(HEAD_BYTES_MAX)];
    disk::read_up_to(file, &mut note, last.start)?;
    file.write_at(&note, last.start)?;
    file.sync_data()
}

// === impl HeadReader ===

impl HeadReader {
    /// Opens a stream's file of heads.
    pub fn open(storage: &dyn Storage, heads: &Path, stream: Uuid) -> Result<Self, HeadError> {
        let path = path(heads, stream);
        match storage.open_to_read(&path) {
            Ok(file) => Self::of(file, path),
            Err(source) => Err(HeadError::Io { path, source }),
        }
    }

    fn of(file: Arc<dyn File>, path: PathBuf) -> Result<Self, HeadError> {
        match file.bytes() {
            Ok(end) => Ok(Self { file, path, end, buffer: Vec::new(), base: 0, at: 0 }),
            Err(source) => Err(HeadError::Io { path, source }),
        }
    }

    /// Where the next note begins.
    fn offset(&self) -> u64 {
        self.base + self.at as u64
    }

    /// The next note. What a power loss left of the last one is passed over: a piece of it, or all
    /// of it with zeros where a page is lost. Anything else that is no note is an error.
    pub fn next_note(&mut self) -> Result<Option<String>, HeadError> {
        if self.at >= READ_BYTES {
            self.buffer.drain(..self.at);
            self.base = self.offset();
            self.at = 0;
        }
        if let Some(end) = self.note_end(self.at)? {
            let note = self.buffer.get(self.at..end).unwrap_or_default();
            let text = String::from_utf8_lossy(note).into_owned();
            if !text.contains('\0') || self.note_end(end)?.is_some() {
                self.at = end;
                return Ok(Some(text.strip_suffix('\n').unwrap_or(&text).to_owned()));
            }
        }
        let offset = self.offset();
        let rest = self.end.saturating_sub(offset);
        if rest > HEAD_BYTES_MAX as u64 { Err(HeadError::NoHead { offset }) } else { Ok(None) }
    }

    /// Where the note ends that begins here in the buffer, which grows as needed.
    fn note_end(&mut self, from: usize) -> Result<Option<usize>, HeadError> {
        loop {
            let found = end_of_note(&self.buffer, from);
            let enough = self.buffer.len().saturating_sub(from) > HEAD_BYTES_MAX;
            if found.is_some() || enough || !self.read_on()? {
                return Ok(found);
            }
        }
    }

    /// Reads more of the file into the buffer; whether there was more.
    fn read_on(&mut self) -> Result<bool, HeadError> {
        let from = self.base + self.buffer.len() as u64;
        let left = self.end.saturating_sub(from).min(READ_BYTES as u64);
        let mut more = vec![0; usize::try_from(left).unwrap_or(READ_BYTES)];
        let read = disk::read_up_to(&*self.file, &mut more, from);
        let read = read.map_err(|source| HeadError::Io { path: self.path.clone(), source })?;
        self.buffer.extend(more.into_iter().take(read));
        Ok(read > 0)
    }
}

/// A note ends with the blank line behind its signatures: the second blank line.
fn end_of_note(buffer: &[u8], from: usize) -> Option<usize> {
    let blank = |from: usize| {
        let rest = buffer.get(from..)?;
        rest.windows(2).position(|pair| pair == b"\n\n").map(|found| from + found + 2)
    };
    blank(blank(from)?)
}
