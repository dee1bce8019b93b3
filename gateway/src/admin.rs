//! The administration listener: health and metrics for everybody who reaches it, the audit for
//! keys that may see it.
//!
//! Knows who may see what; a statement itself is the collector's business.

mod collector;
mod exchange;
mod guard;

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use crate::{
    admin::{exchange::Exchange, guard::Guard},
    identity::{Caller, IdentityError, Role},
    listener::{
        self, Calls, Connections, Settings, Socket,
        drain::{Drained, Stop},
    },
};

/// Whose records a proven key may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    key_id: String,
    /// `None` sees every tenant.
    tenant: Option<String>,
}

/// Why a key may not see the audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowed {
    #[error(transparent)]
    Unproven(#[from] IdentityError),
    #[error(
        "this key is neither an auditor's nor an operator's; create one with `cordon keys create \
         --role auditor`"
    )]
    NoRole,
}

/// Proves a key from `Authorization` and says whose records it may see.
pub type AskScope = Arc<dyn Fn(Option<&str>) -> Result<Scope, NotAllowed> + Send + Sync>;

/// What the administration listener is made of.
#[derive(Clone)]
pub struct Parties {
    pub settings: Settings,
    /// Usually [`by_key`].
    pub scope: AskScope,
    /// The text of `GET /metrics`.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// The document of `GET /v1/state`.
    pub state: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
    /// The collector's Unix socket.
    pub collector: PathBuf,
}

/// How long the administration may go on once the last call has ended.
const DRAIN_DEADLINE: Duration = Duration::from_secs(1);

impl Scope {
    /// What `caller` may see: an operator every tenant, an auditor its own.
    ///
    /// # Errors
    /// Where the key has neither role.
    pub fn of(caller: &Caller) -> Result<Self, NotAllowed> {
        let tenant = if caller.has(Role::Operator) {
            None
        } else if caller.has(Role::Auditor) {
            Some(caller.tenant().as_str().to_owned())
        } else {
            return Err(NotAllowed::NoRole);
        };
        Ok(Self { key_id: caller.key_id().to_owned(), tenant })
    }
}

impl fmt::Debug for Parties {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Parties").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// The scope of keys, proven by `identify`.
pub fn by_key<F>(identify: F) -> AskScope
where
    F: Fn(Option<&str>) -> Result<Arc<Caller>, IdentityError> + Send + Sync + 'static,
{
    Arc::new(move |authorization| Scope::of(&*identify(authorization)?))
}

/// Serves the administration alone, until `stop` drains it.
pub async fn serve(socket: Socket, parties: Parties, stop: &Stop) -> Drained {
    let settings = parties.settings.clone();
    let guard = Guard::new(&settings, socket.address());
    let exchange = Arc::new(Exchange::new(parties, guard, stop.clone()));
    let (connections, hold) = Connections::new(exchange, &settings, stop);
    socket.accept(connections, stop).await;
    hold.released(DRAIN_DEADLINE, || ()).await
}

/// Serves both listeners until `stop`. The administration outlives the calls, so that metrics
/// and audit tell of them to the end. When this returns, nothing is in flight on either.
pub async fn serve_beside<C: Calls>(
    ai: (Socket, listener::Parties<C>),
    admin: (Socket, Parties),
    stop: &Stop,
) -> Drained {
    let after = Stop::default();
    let calls = async {
        let drained = listener::serve(ai.0, ai.1, stop).await;
        after.drain();
        if stop.is_hurried() {
            after.hurry();
        }
        drained
    };
    let (drained, _) = tokio::join!(calls, serve(admin.0, admin.1, &after));
    drained
}

#[cfg(test)]
mod tests;
