//! Places: how many statements of a tenant run at once; others wait in line, up to a length.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Limits;
use crate::query::{QueryError, Scope};

/// All places.
#[derive(Debug)]
pub(in crate::query) struct Places {
    running_max: usize,
    waiting_max: usize,
    all: Arc<Semaphore>,
    lines: Mutex<HashMap<Scope, Arc<Line>>>,
}

/// The line of one tenant.
#[derive(Debug)]
struct Line {
    /// Of those who may stand in it, running ones included.
    standing: Arc<Semaphore>,
    /// Of those who may run.
    running: Arc<Semaphore>,
}

/// A place taken; dropping it gives it back.
#[derive(Debug)]
pub(in crate::query) struct Place {
    _running: OwnedSemaphorePermit,
    _standing: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
    /// Keeps the line from being forgotten.
    _line: Arc<Line>,
}

// === impl Places ===

impl Places {
    /// As many places as `limits` says.
    pub(in crate::query) fn new(limits: &Limits) -> Self {
        Self {
            running_max: limits.statements_per_tenant,
            waiting_max: limits.statements_waiting_per_tenant,
            all: Arc::new(Semaphore::new(limits.statements_max)),
            lines: Mutex::new(HashMap::new()),
        }
    }

    /// Waits for a place of `scope`; the caller's deadline bounds the wait. A line that is full is
    /// not waited in, so that no tenant can take all there is.
    pub(in crate::query) async fn take(&self, scope: &Scope) -> Result<Place, QueryError> {
        let full = |_full| QueryError::Busy;
        let line = self.line(scope);
        let standing = Arc::clone(&line.standing).try_acquire_owned().map_err(full)?;
        let all = Arc::clone(&self.all).try_acquire_owned().map_err(full)?;
        let running = Arc::clone(&line.running).acquire_owned().await;
        let running = running.map_err(|_closed| QueryError::Busy)?;
        Ok(Place { _running: running, _standing: standing, _all: all, _line: line })
    }

    /// The line of one tenant; lines that nobody stands in are forgotten.
    fn line(&self, scope: &Scope) -> Arc<Line> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.retain(|_, line| Arc::strong_count(line) > 1);
        let new = || {
            let standing = Arc::new(Semaphore::new(self.running_max + self.waiting_max));
            Arc::new(Line { standing, running: Arc::new(Semaphore::new(self.running_max)) })
        };
        Arc::clone(lines.entry(scope.clone()).or_insert_with(new))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn places() -> Places {
        let mut limits = Limits::default();
        (limits.statements_per_tenant, limits.statements_waiting_per_tenant) = (2, 1);
        limits.statements_max = 5;
        Places::new(&limits)
    }

    fn tenant(name: &str) -> Scope {
        Scope::Tenant(name.to_owned())
    }

    #[test]
    fn the_third_of_a_tenant_waits_until_a_place_is_given_back() {
        let (places, acme) = (places(), tenant("acme"));
        let first = places.take(&acme).now_or_never().unwrap().unwrap();
        let _second = places.take(&acme).now_or_never().unwrap().unwrap();
        let mut third = std::pin::pin!(places.take(&acme));
        assert!(third.as_mut().now_or_never().is_none());
        assert!(places.take(&tenant("rival")).now_or_never().unwrap().is_ok());
        drop(first);
        assert!(third.now_or_never().unwrap().is_ok());
    }

    #[test]
    fn a_full_line_sends_its_own_tenant_away_and_nobody_else() {
        let (places, acme) = (places(), tenant("acme"));
        let _running = [places.take(&acme).now_or_never(), places.take(&acme).now_or_never()];
        let mut waiting = std::pin::pin!(places.take(&acme));
        assert!(waiting.as_mut().now_or_never().is_none());
        let sent_away = places.take(&acme).now_or_never().unwrap();
        assert!(matches!(sent_away, Err(QueryError::Busy)));
        assert!(places.take(&tenant("rival")).now_or_never().unwrap().is_ok());
    }
}
