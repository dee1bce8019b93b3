//! Places: how many statements of a tenant run at once; others wait in line.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::query::{QueryError, Scope};

/// All places.
#[derive(Debug)]
pub(in crate::query) struct Places {
    per_tenant: usize,
    all: Arc<Semaphore>,
    tenants: Mutex<HashMap<Scope, Arc<Semaphore>>>,
}

/// A place taken; dropping it gives it back.
#[derive(Debug)]
pub(in crate::query) struct Place {
    _tenant: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

// === impl Places ===

impl Places {
    /// `per_tenant` statements run at once, and `all` may run or wait.
    pub(in crate::query) fn new(per_tenant: usize, all: usize) -> Self {
        let all = Arc::new(Semaphore::new(all));
        Self { per_tenant, all, tenants: Mutex::new(HashMap::new()) }
    }

    /// Waits for a place of `scope`; the caller's deadline bounds the wait.
    pub(in crate::query) async fn take(&self, scope: &Scope) -> Result<Place, QueryError> {
        let all = Arc::clone(&self.all).try_acquire_owned().map_err(|_full| QueryError::Busy)?;
        let line = self.line(scope);
        let tenant = line.acquire_owned().await.map_err(|_closed| QueryError::Busy)?;
        Ok(Place { _tenant: tenant, _all: all })
    }

    /// The line of one tenant; lines that nobody stands in are forgotten.
    fn line(&self, scope: &Scope) -> Arc<Semaphore> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        tenants.retain(|_, line| Arc::strong_count(line) > 1);
        let line = tenants
            .entry(scope.clone())
            .or_insert_with(|| Arc::new(Semaphore::new(self.per_tenant)));
        Arc::clone(line)
    }
}
