//! The keys that are valid now, held in memory: a caller is proven without I/O.
//!
//! The ring is a snapshot that is swapped whole. Whoever follows the change log hands each change
//! to the ledger first and swaps afterwards, so that no call uses a key whose making is not on
//! record.

use std::{
    collections::HashMap,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use tracing::{error, info};

use crate::{
    identity::{
        Caller, IdentityError, Role, TenantId,
        attributes::{Known, OrganisationFacts},
        keys::{KeyError, Pepper, is_well_formed},
        limits::Used,
        vocabulary::{AttributeError, Attributes},
    },
    quantity::Day,
    store::{Change, KeyRow, Store, StoreError},
};

/// How often the change log is read: a revoked key is refused within a second.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// How long one reading may take before it counts as failed and is tried again.
const POLL_DEADLINE: Duration = Duration::from_secs(10);
/// The setting that says which changes the ledger holds already.
const RECORDED: &str = "change_log_recorded";

/// The valid keys by their keyed hash.
#[derive(Debug)]
pub struct KeyRing {
    pepper: Pepper,
    ours: OrganisationFacts,
    callers: ArcSwap<HashMap<[u8; 32], Arc<Caller>>>,
    read_at: ArcSwap<Instant>,
}

// === impl KeyRing ===

impl KeyRing {
    /// Reads every valid key. `ours` is said of callers whose key says nothing of their own
    /// organisation.
    pub async fn load(
        store: &Store,
        pepper: Pepper,
        ours: OrganisationFacts,
    ) -> Result<Self, KeyError> {
        let read_at = ArcSwap::from_pointee(Instant::now());
        let ring = Self { pepper, ours, callers: ArcSwap::default(), read_at };
        ring.swap(store.valid_keys().await?);
        Ok(ring)
    }

    /// Proves the caller from the `Authorization` header: no I/O, no waiting, and next to no
    /// work for what is no key of ours.
    pub fn identify(&self, authorization: Option<&str>) -> Result<Arc<Caller>, IdentityError> {
        let key = bearer(authorization.ok_or(IdentityError::Missing)?)?;
        if !is_well_formed(key) {
            return Err(IdentityError::Malformed);
        }
        // The hash is keyed: how long a lookup takes tells nothing about any key.
        let hash = self.pepper.hash(key);
        self.callers.load().get(&hash).cloned().ok_or(IdentityError::Unknown)
    }

    /// How many keys are valid.
    pub fn len(&self) -> usize {
        self.callers.load().len()
    }

    /// Whether no key is valid: nobody can call.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How long ago the keys were last known to be as in the database. A second is usual; much
    /// more means that the database cannot be read and revocations do not arrive.
    pub fn age(&self) -> Duration {
        self.read_at.load().elapsed()
    }

    /// Puts `rows` in the place of all keys. A caller that stays keeps its running calls.
    fn swap(&self, rows: Vec<KeyRow>) {
        let before = self.callers.load();
        let mut callers = HashMap::with_capacity(rows.len());
        for row in rows {
            let used = before.get(&row.hash).map(|caller| Arc::clone(&caller.used));
            match caller(&row, &self.ours, used.unwrap_or_default()) {
                Ok(caller) => {
                    callers.insert(row.hash, Arc::new(caller));
                }
                // Fail closed: this key is unknown, the others are served.
                Err(fault) => error!(key.id = %row.id, "key `{}` is not served: {fault}", row.id),
            }
        }
        self.callers.store(Arc::new(callers));
    }
}

/// The token of a bearer authorization; the scheme's case does not matter (RFC 9110 11.1).
fn bearer(authorization: &str) -> Result<&str, IdentityError> {
    match authorization.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim()),
        _ => Err(IdentityError::Missing),
    }
}

/// Why a stored key cannot be served.
#[derive(Debug, thiserror::Error)]
enum RowFault {
    #[error(transparent)]
    Attribute(#[from] AttributeError),
    #[error("role `{0}` is not known")]
    Role(String),
    #[error("it was made at `{0}`, which is no time")]
    Time(String),
}

/// The caller that a row describes.
fn caller(row: &KeyRow, ours: &OrganisationFacts, used: Arc<Used>) -> Result<Caller, RowFault> {
    let day = row.created_at.get(..10).and_then(Day::parse);
    let created_on = day.ok_or_else(|| RowFault::Time(row.created_at.clone()))?;
    let mut attributes = Attributes::read(&row.attributes, ours, created_on)?;
    attributes.caller.authn_method = Some("apikey".to_owned());
    // A bearer key can be used by whoever holds it.
    attributes.caller.authn_bound = Known::No;
    let role = |name: &String| Role::parse(name).ok_or_else(|| RowFault::Role(name.clone()));
    Ok(Caller {
        key_id: row.id.clone(),
        tenant: TenantId::new(&row.tenant),
        roles: row.roles.iter().map(role).collect::<Result<_, _>>()?,
        facts: Arc::new(attributes.caller),
        request: attributes.request,
        data: attributes.data,
        calls_at_once_max: row.calls_at_once_max,
        refused_per_second_max: row.refused_per_second_max,
        used,
    })
}

/// Follows the change log until `stop` is ready: gives each new change to `record` (in order, at
/// least once, across restarts too) and then swaps the keys. Where a change cannot be recorded
/// the keys are swapped all the same, a revocation must not wait, and it is given again.
pub async fn follow_changes<R>(
    store: Store,
    ring: Arc<KeyRing>,
    mut record: R,
    stop: impl Future<Output = ()> + Send,
) where
    R: FnMut(&Change) -> Result<(), String> + Send,
{
    let mut ticks = tokio::time::interval(POLL_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut follower = Follower { store, ring, handed: None, noted: 0 };
    let mut failing = false;
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            _ = ticks.tick() => {}
        }
        let polled = tokio::time::timeout(POLL_DEADLINE, follower.poll(&mut record)).await;
        let fault = match polled {
            Ok(Ok(())) => None,
            Ok(Err(fault)) => Some(fault.to_string()),
            Err(_) => Some(format!("no answer within {} s", POLL_DEADLINE.as_secs())),
        };
        match (&fault, failing) {
            // Said once when it begins and once when it ends, not twice a second.
            (Some(fault), false) => error!("changes of keys are not followed: {fault}"),
            (None, true) => info!("changes of keys are followed again"),
            (Some(_), true) | (None, false) => {}
        }
        failing = fault.is_some();
    }
    if let Ok(Err(fault)) = tokio::time::timeout(POLL_DEADLINE, follower.note()).await {
        error!("the last changes of keys will be recorded twice: {fault}");
    }
}

/// Why one reading of the change log was not complete.
#[derive(Debug, thiserror::Error)]
enum PollFault {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the ledger did not take change {id} ({why})")]
    NotRecorded { id: i64, why: String },
}

/// How far the change log has been followed.
struct Follower {
    store: Store,
    ring: Arc<KeyRing>,
    /// The last change that `record` took; unset until the database has said where to begin.
    handed: Option<i64>,
    /// The last change that the database knows to be recorded.
    noted: i64,
}

// === impl Follower ===

impl Follower {
    /// Reads what is new, hands it over, swaps the keys.
    async fn poll<R>(&mut self, record: &mut R) -> Result<(), PollFault>
    where
        R: FnMut(&Change) -> Result<(), String> + Send,
    {
        // What was taken at the last poll has reached the disk since: noting it at once could
        // lose it to a crash, noting it now can at worst record it twice.
        self.note().await?;
        loop {
            let after = self.begin().await?;
            let changes = self.store.changes_after(after).await?;
            if changes.is_empty() {
                self.ring.read_at.store(Arc::new(Instant::now()));
                return Ok(());
            }
            // INVARIANT: keys are read after the changes, so they hold at least those.
            let rows = self.store.valid_keys().await?;
            let handed = self.hand_over(&changes, record);
            self.ring.swap(rows);
            handed?;
        }
    }

    /// The change after which to go on.
    async fn begin(&mut self) -> Result<i64, StoreError> {
        if let Some(handed) = self.handed {
            return Ok(handed);
        }
        let noted = self.store.setting(RECORDED).await?;
        self.noted = noted.and_then(|text| text.parse().ok()).unwrap_or(0);
        self.handed = Some(self.noted);
        Ok(self.noted)
    }

    /// Tells the database how far the ledger holds its changes.
    async fn note(&mut self) -> Result<(), StoreError> {
        if let Some(handed) = self.handed.filter(|handed| *handed > self.noted) {
            self.store.set_setting(RECORDED, &handed.to_string()).await?;
            self.noted = handed;
        }
        Ok(())
    }

    /// Gives the changes to `record` until one is not taken.
    fn hand_over<R>(&mut self, changes: &[Change], record: &mut R) -> Result<(), PollFault>
    where
        R: FnMut(&Change) -> Result<(), String>,
    {
        for change in changes {
            record(change).map_err(|why| PollFault::NotRecorded { id: change.id, why })?;
            self.handed = Some(change.id);
            info!(key.id = %change.subject, "{}: key `{}`", change.kind.as_str(), change.subject);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
