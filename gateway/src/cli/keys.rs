//! `cordon keys`: make, list and revoke keys, whether the gateway runs or not.

use std::time::SystemTime;

use serde_json::json;

use crate::{
    cli::{CliError, End, Place, answer, say, wait},
    identity::{
        Role,
        keys::{self, KeyError, NewKey, Pepper},
        vocabulary,
    },
    quantity::timestamp,
    store::{Author, KeyRow, Revocation, Store},
};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make a key; it is printed once, alone, on standard output.
    #[command(after_help = "Example: cordon keys create --tenant demo --name ana \
                            --attribute caller.person.us_person=no --role caller")]
    Create(Create),
    /// Every key, without the keys themselves.
    #[command(after_help = "Example: cordon keys list --json")]
    List {
        /// As an array of objects.
        #[arg(long)]
        json: bool,
    },
    /// Revoke a key; a running gateway refuses it within a second.
    #[command(after_help = "Example: cordon keys revoke key_4fQx0aZ81LmB")]
    Revoke {
        /// The key's id, as `list` shows it.
        id: String,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// Whose key it is.
    #[arg(long)]
    tenant: String,
    /// What you call it.
    #[arg(long)]
    name: String,
    /// A fact about the caller, its requests or its data, by its path in the policy contract.
    #[arg(long = "attribute", value_name = "PATH=VALUE")]
    attributes: Vec<String>,
    /// `caller`, `auditor` or `operator`; `caller` where none is said.
    #[arg(long = "role", value_name = "ROLE", value_parser = role)]
    roles: Vec<Role>,
    /// Calls at once; where none is said what the file of `--config` says, without one 256.
    #[arg(long, value_name = "N")]
    calls_at_once_max: Option<u32>,
    /// Calls that policy refuses a second; where none is said what the file of `--config` says,
    /// without one 1000.
    #[arg(long, value_name = "N")]
    refused_per_second_max: Option<u32>,
}

fn role(text: &str) -> Result<Role, String> {
    Role::parse(text).ok_or_else(|| "use `caller`, `auditor` or `operator`".to_owned())
}

pub(crate) fn keys(place: &Place, command: Command) -> Result<End, CliError> {
    match command {
        Command::Create(create) => wait(make(place, create)),
        Command::List { json } => wait(list(place, json)),
        Command::Revoke { id } => wait(revoke(place, &id)),
    }
}

async fn make(place: &Place, create: Create) -> Result<End, CliError> {
    let new = new_key(place, create)?;
    let folder = place.folder()?;
    folder.create().map_err(|error| {
        CliError::Failed(format!("cannot make `{}` ({error})", folder.path().display()))
    })?;
    let database = folder.database();
    let found = database.try_exists().map_err(CliError::failed)?;
    let store = Store::open(&database).await.map_err(CliError::failed)?;
    let pepper = Pepper::open(&folder.pepper(), &store).await.map_err(CliError::failed)?;
    let made = keys::create(&store, &pepper, &new, &author()).await;
    let (row, key) = made.map_err(|error| match error {
        KeyError::Attribute(_)
        | KeyError::Name { .. }
        | KeyError::NoRole
        | KeyError::Limit { .. } => CliError::usage(error),
        KeyError::Store(_)
        | KeyError::PepperFile { .. }
        | KeyError::PepperOpen { .. }
        | KeyError::PepperDiffers { .. }
        | KeyError::PepperMissing { .. } => CliError::failed(error),
    })?;
    store.close().await;
    // The key first: whoever pipes it away gets nothing else.
    answer(key.expose())?;
    let (id, tenant, place) = (&row.id, &row.tenant, database.display());
    say(&format!("key `{id}` of tenant `{tenant}` in `{place}`; it is not shown again"));
    if !found {
        say(&format!("`{place}` is a new database: only a gateway with this data folder knows it"));
    }
    Ok(End::Done)
}

fn new_key(place: &Place, create: Create) -> Result<NewKey, CliError> {
    let pairs = create.attributes.iter().map(|text| vocabulary::pair(text));
    let attributes = pairs.collect::<Result<_, _>>().map_err(CliError::usage)?;
    let roles = if create.roles.is_empty() { vec![Role::Caller] } else { create.roles };
    let written = place.written()?;
    let limits = &written.settings().identity;
    Ok(NewKey {
        tenant: create.tenant,
        name: create.name,
        roles,
        attributes,
        calls_at_once_max: create.calls_at_once_max.unwrap_or(limits.calls_at_once_max),
        refused_per_second_max: create
            .refused_per_second_max
            .unwrap_or(limits.refused_per_second_max),
    })
}

async fn list(place: &Place, json: bool) -> Result<End, CliError> {
    let store = open(place).await?;
    let rows = store.keys().await.map_err(CliError::failed)?;
    store.close().await;
    if json {
        let rows: Vec<_> = rows.iter().map(as_json).collect();
        answer(&format!("{:#}", json!(rows)))?;
        return Ok(End::Done);
    }
    let mut text = String::from("ID                TENANT        NAME          STATE    ROLES");
    for row in &rows {
        let state = if row.revoked_at.is_some() { "revoked" } else { "valid" };
        let roles = row.roles.join(",");
        text += &format!("\n{:<17} {:<13} {:<13} {state:<8} {roles}", row.id, row.tenant, row.name);
    }
    answer(&text)?;
    Ok(End::Done)
}

fn as_json(row: &KeyRow) -> serde_json::Value {
    let attributes: Vec<_> = row
        .attributes
        .iter()
        .map(|(path, value)| json!({ "path": path, "value": value }))
        .collect();
    json!({
        "id": row.id,
        "tenant": row.tenant,
        "name": row.name,
        "roles": row.roles,
        "attributes": attributes,
        "calls_at_once_max": row.calls_at_once_max,
        "refused_per_second_max": row.refused_per_second_max,
        "created_at": row.created_at,
        "revoked_at": row.revoked_at,
    })
}

async fn revoke(place: &Place, id: &str) -> Result<End, CliError> {
    let store = open(place).await?;
    let author = Author { by: author(), at: timestamp(SystemTime::now()) };
    let revocation = store.revoke_key(id, &author).await.map_err(CliError::failed)?;
    store.close().await;
    match revocation {
        Revocation::Done => say(&format!("key `{id}` is revoked")),
        Revocation::Already(at) => say(&format!("key `{id}` was revoked already, at {at}")),
        Revocation::Unknown => {
            say(&format!("no key has the id `{id}`: `cordon keys list` shows all"));
            return Ok(End::No);
        }
    }
    Ok(End::Done)
}

/// Opens a database that is there; listing and revoking make none.
async fn open(place: &Place) -> Result<Store, CliError> {
    let path = place.folder()?.database();
    if !path.try_exists().map_err(CliError::failed)? {
        return Err(CliError::Usage(format!(
            "there is no `{}`: name the data folder with `--data`, or make a first key with \
             `cordon keys create`",
            path.display()
        )));
    }
    Store::open(&path).await.map_err(CliError::failed)
}

/// Who gives this command, as the operating system knows them.
fn author() -> String {
    format!("command line, user id {}", rustix::process::getuid().as_raw())
}
