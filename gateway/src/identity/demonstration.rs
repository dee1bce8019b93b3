//! The demonstration key: made at the first start, kept in a file, never printed.

use std::{
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use crate::{
    identity::{
        Role,
        keys::{self, KeyError, NewKey, Pepper},
    },
    quantity::timestamp,
    secret::Secret,
    store::{Author, Store},
};

/// Tenant and name of the demonstration key.
const TENANT: &str = "demo";
const NAME: &str = "demonstration";
/// Who makes it, as the change log tells.
const AUTHOR: &str = "start of the gateway";

/// A person in Germany who is proven to be no US person, so that the demonstration's refused
/// call is refused for a reason one can see.
const ATTRIBUTES: [(&str, &str); 7] = [
    ("caller.type", "human"),
    ("caller.person.nationalities", "DE"),
    ("caller.person.nationality_status", "verified"),
    ("caller.person.us_person", "no"),
    ("caller.location.country", "DE"),
    ("caller.location.source", "corp_net"),
    ("request.purpose", "demonstration"),
];

/// Why the demonstration key could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DemonstrationError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("cannot use `{}` ({source})", path.display())]
    File { path: PathBuf, source: std::io::Error },
}

/// Sees to it that `path` holds a valid demonstration key, caller and auditor of tenant `demo`,
/// alone on one line, readable by its owner only. One that is there and valid stays.
pub async fn ensure(
    path: &Path,
    store: &Store,
    pepper: &Pepper,
    limits: (u32, u32),
) -> Result<(), DemonstrationError> {
    if is_valid(path, store, pepper).await? {
        return Ok(());
    }
    revoke_lost(store).await?;
    let new = NewKey {
        tenant: TENANT.to_owned(),
        name: NAME.to_owned(),
        roles: vec![Role::Caller, Role::Auditor],
        attributes: ATTRIBUTES.map(|(path, value)| (path.to_owned(), value.to_owned())).to_vec(),
        calls_at_once_max: limits.0,
        refused_per_second_max: limits.1,
    };
    let (_, key) = keys::create(store, pepper, &new, AUTHOR).await?;
    write(path, &key).map_err(|source| DemonstrationError::File { path: path.into(), source })
}

async fn is_valid(path: &Path, store: &Store, pepper: &Pepper) -> Result<bool, DemonstrationError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(DemonstrationError::File { path: path.into(), source }),
    };
    let hash = pepper.hash(text.trim());
    let keys = store.valid_keys().await.map_err(KeyError::from)?;
    Ok(keys.iter().any(|row| row.hash == hash))
}

/// Revokes demonstration keys of which nobody has the file any more.
async fn revoke_lost(store: &Store) -> Result<(), DemonstrationError> {
    let author = Author { by: AUTHOR.to_owned(), at: timestamp(SystemTime::now()) };
    for row in store.valid_keys().await.map_err(KeyError::from)? {
        if (row.tenant.as_str(), row.name.as_str()) == (TENANT, NAME) {
            store.revoke_key(&row.id, &author).await.map_err(KeyError::from)?;
        }
    }
    Ok(())
}

/// Writes beside and renames, so that nobody reads half a key.
fn write(path: &Path, key: &Secret) -> std::io::Result<()> {
    let beside = path.with_extension("key.new");
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    writeln!(file, "{}", key.expose())?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[tokio::test]
    async fn the_key_stays_until_its_file_is_lost_and_then_another_takes_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("cordon.db")).await.unwrap();
        let pepper = Pepper::open(&folder.path().join("cordon.pepper"), &store).await.unwrap();
        let path = folder.path().join("demo.key");
        ensure(&path, &store, &pepper, (256, 1_000)).await.unwrap();
        let first = std::fs::read_to_string(&path).unwrap();
        ensure(&path, &store, &pepper, (256, 1_000)).await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), first);
        assert_eq!(first.lines().count(), 1);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);

        std::fs::remove_file(&path).unwrap();
        ensure(&path, &store, &pepper, (256, 1_000)).await.unwrap();
        assert_ne!(std::fs::read_to_string(&path).unwrap(), first);
        let valid = store.valid_keys().await.unwrap();
        assert_eq!(valid.len(), 1);
        assert_eq!((valid[0].tenant.as_str(), valid[0].roles.len()), (TENANT, 2));
    }
}
