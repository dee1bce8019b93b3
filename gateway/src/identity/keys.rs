//! Keys: their form, their keyed hash, and how one is made.
//!
//! A key is `cdn_`, 33 random characters (196 bits) and six of checksum, all base 62: prefix and
//! checksum let secret scanners find a leaked one without asking us, and let us refuse a
//! mistyped one before any hash is computed. The store holds HMAC-SHA256 of the key under a
//! pepper. The pepper is a file beside the database, not a row in it: who can write to the
//! database alone (a copy restored, a shared server later) still cannot forge a key.

use std::{
    fmt,
    io::{ErrorKind, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::SystemTime,
};

use hmac::{Hmac, Mac};
use rand::{CryptoRng, Rng};
use sha2::Sha256;

use crate::{
    identity::{
        Role,
        attributes::OrganisationFacts,
        vocabulary::{AttributeError, Attributes},
    },
    quantity::{Day, timestamp},
    secret::Secret,
    store::{KeyRow, Store, StoreError},
};

/// What every key begins with.
pub const PREFIX: &str = "cdn_";
/// 62^33 is a little over 2^196.
const RANDOM_CHARACTERS: usize = 33;
/// 62^6 is more than 2^32.
const CHECKSUM_CHARACTERS: usize = 6;
const KEY_BYTES: usize = PREFIX.len() + RANDOM_CHARACTERS + CHECKSUM_CHARACTERS;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const ID_CHARACTERS: usize = 12;
const NAME_BYTES_MAX: usize = 128;

/// The setting that tells whether a pepper is the one the keys were hashed with.
const PEPPER_CHECK: &str = "pepper_check";

/// What turns keys into hashes; without it the database's hashes are worthless.
#[derive(Clone)]
pub struct Pepper(Hmac<Sha256>);

/// A key to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey {
    pub tenant: String,
    pub name: String,
    pub roles: Vec<Role>,
    /// Paths of the vocabulary with their values.
    pub attributes: Vec<(String, String)>,
    pub calls_at_once_max: u32,
    pub refused_per_second_max: u32,
}

/// Why a key could not be made or looked up.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Attribute(#[from] AttributeError),
    #[error(
        "`{value}` is no {what}: use 1 to 128 letters, digits and `-_.@ `, no space at either end"
    )]
    Name { what: &'static str, value: String },
    #[error("a key needs a role: `caller`, `auditor` or `operator`")]
    NoRole,
    #[error("{what} must be at least 1")]
    Limit { what: &'static str },
    #[error("cannot use `{}` ({source})", path.display())]
    PepperFile { path: PathBuf, source: std::io::Error },
    #[error("`{}` can be read by others (mode {mode:03o}): run `chmod 600` on it", path.display())]
    PepperOpen { path: PathBuf, mode: u32 },
    #[error("`{}` is not the pepper that the keys in the database were made with: restore it from the same backup as the database, or remove both and make new keys", path.display())]
    PepperDiffers { path: PathBuf },
    #[error("`{}` is missing, but the database holds keys made with it: restore it from a backup, or remove the database and make new keys", path.display())]
    PepperMissing { path: PathBuf },
}

// === impl Pepper ===

impl Pepper {
    /// Reads the pepper, or makes it where the database is new. A pepper that does not belong to
    /// the database is refused: every key would silently be unknown.
    pub async fn open(path: &Path, store: &Store) -> Result<Self, KeyError> {
        let check = store.setting(PEPPER_CHECK).await?;
        let bytes = match (read(path)?, &check) {
            (Some(bytes), _) => bytes,
            (None, None) => make(path)?,
            (None, Some(_)) => return Err(KeyError::PepperMissing { path: path.into() }),
        };
        let pepper = Self::new(&bytes);
        if check.is_none() {
            store.set_setting(PEPPER_CHECK, &pepper.mark()).await?;
        }
        Self::verify(path, store).await?;
        Ok(pepper)
    }

    /// Whether the pepper belongs to the database; makes and changes nothing.
    pub async fn verify(path: &Path, store: &Store) -> Result<(), KeyError> {
        let Some(check) = store.setting(PEPPER_CHECK).await? else { return Ok(()) };
        let bytes = read(path)?.ok_or_else(|| KeyError::PepperMissing { path: path.into() })?;
        if Self::new(&bytes).mark() == check {
            return Ok(());
        }
        Err(KeyError::PepperDiffers { path: path.into() })
    }

    /// What tells this pepper from others, and nothing else about it.
    fn mark(&self) -> String {
        hex::encode(self.hash("the pepper of this database"))
    }

    fn new(bytes: &[u8; 32]) -> Self {
        Self(Hmac::new_from_slice(bytes).expect("HMAC takes a key of any length"))
    }

    /// The keyed hash of a key.
    pub fn hash(&self, key: &str) -> [u8; 32] {
        let mut mac = self.0.clone();
        mac.update(key.as_bytes());
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Pepper")
    }
}

/// The pepper's bytes; `None` where there is no such file.
fn read(path: &Path) -> Result<Option<[u8; 32]>, KeyError> {
    let failed = |source| KeyError::PepperFile { path: path.into(), source };
    let mut file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mode = file.metadata().map_err(failed)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::PepperOpen { path: path.into(), mode });
    }
    let mut bytes = [0; 32];
    file.read_exact(&mut bytes).map_err(failed)?;
    Ok(Some(bytes))
}

/// Makes the file whole or not at all: written beside, then linked; who comes second reads the
/// first one's.
fn make(path: &Path) -> Result<[u8; 32], KeyError> {
    let failed = |source| KeyError::PepperFile { path: path.into(), source };
    let bytes: [u8; 32] = rand::rng().random();
    let beside = path.with_extension(format!("new{}", std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)
        .map_err(failed)?;
    file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    let linked = std::fs::hard_link(&beside, path);
    std::fs::remove_file(&beside).map_err(failed)?;
    match linked {
        Ok(()) => Ok(bytes),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            read(path)?.ok_or_else(|| failed(error))
        }
        Err(error) => Err(failed(error)),
    }
}

/// Makes a key and stores its hash. The key is in the answer and nowhere else.
pub async fn create(
    store: &Store,
    pepper: &Pepper,
    new: &NewKey,
    by: &str,
) -> Result<(KeyRow, Secret), KeyError> {
    let now = SystemTime::now();
    check(new, Day::at(now))?;
    let (id, key) = {
        let mut random = rand::rng();
        (format!("key_{}", characters(&mut random, ID_CHARACTERS)), generate(&mut random))
    };
    let row = KeyRow {
        id,
        hash: pepper.hash(key.expose()),
        tenant: new.tenant.clone(),
        name: new.name.clone(),
        roles: new.roles.iter().map(|role| role.as_str().to_owned()).collect(),
        attributes: new.attributes.clone(),
        calls_at_once_max: new.calls_at_once_max,
        refused_per_second_max: new.refused_per_second_max,
        created_at: timestamp(now),
        revoked_at: None,
    };
    store.insert_key(&row, by).await?;
    Ok((row, key))
}

/// Whether a key may be made; its attributes are read as they will be at every start.
fn check(new: &NewKey, today: Day) -> Result<(), KeyError> {
    name("tenant", &new.tenant)?;
    name("name of a key", &new.name)?;
    if new.roles.is_empty() {
        return Err(KeyError::NoRole);
    }
    let limits = [
        ("the number of calls at once", new.calls_at_once_max),
        ("the number of refused calls a second", new.refused_per_second_max),
    ];
    if let Some((what, _)) = limits.into_iter().find(|(_, limit)| *limit == 0) {
        return Err(KeyError::Limit { what });
    }
    Attributes::read(&new.attributes, &OrganisationFacts::default(), today)?;
    Ok(())
}

fn name(what: &'static str, value: &str) -> Result<(), KeyError> {
    let allowed = |c: char| c.is_alphanumeric() || "-_.@ ".contains(c);
    // Two names that look alike must not be two tenants.
    let fits = !value.is_empty() && value == value.trim() && value.len() <= NAME_BYTES_MAX;
    if !fits || !value.chars().all(allowed) {
        return Err(KeyError::Name { what, value: value.to_owned() });
    }
    Ok(())
}

/// A new key; only randomness decides it.
pub fn generate(random: &mut impl CryptoRng) -> Secret {
    let body = format!("{PREFIX}{}", characters(random, RANDOM_CHARACTERS));
    let checksum = checksum(&body);
    Secret::new(body + &checksum)
}

/// Whether a text has the form of a key and its checksum fits; costs no hash.
pub fn is_well_formed(key: &str) -> bool {
    let fits = key.len() == KEY_BYTES && key.starts_with(PREFIX) && key.is_ascii();
    fits && {
        let (body, tail) = key.split_at(KEY_BYTES - CHECKSUM_CHARACTERS);
        checksum(body) == tail
    }
}

/// Random characters of the alphabet, each equally likely.
fn characters(random: &mut impl CryptoRng, count: usize) -> String {
    let character = |_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())]);
    (0..count).map(character).collect()
}

/// CRC-32 (IEEE, the one that scanners compute) of the key's front in six characters.
fn checksum(body: &str) -> String {
    let mut crc = flate2::Crc::new();
    crc.update(body.as_bytes());
    let mut rest = crc.sum() as usize;
    let mut text = [b'0'; CHECKSUM_CHARACTERS];
    for place in text.iter_mut().rev() {
        *place = ALPHABET[rest % ALPHABET.len()];
        rest /= ALPHABET.len();
    }
    text.iter().copied().map(char::from).collect()
}

#[cfg(test)]
mod tests;
