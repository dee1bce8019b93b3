//! How much of its limits a key uses now: calls at once, and refusals within a second.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Instant,
};

/// What a key uses; it outlives a swap of the keys.
#[derive(Debug)]
pub(super) struct Used {
    running: AtomicU32,
    /// The second (since `since`) in the upper half, refusals within it in the lower.
    refused: AtomicU64,
    since: Instant,
}

/// A call that runs within its key's limit; dropping it gives the place back.
#[derive(Debug)]
pub struct Running(Arc<Used>);

// === impl Used ===

impl Default for Used {
    fn default() -> Self {
        Self { running: AtomicU32::new(0), refused: AtomicU64::new(0), since: Instant::now() }
    }
}

impl Used {
    /// Takes a place unless `max` are taken.
    pub(super) fn run(self: &Arc<Self>, max: u32) -> Option<Running> {
        let one_more = |running| (running < max).then_some(running + 1);
        let taken = self.running.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more);
        taken.ok().map(|_| Running(Arc::clone(self)))
    }

    pub(super) fn running(&self) -> u32 {
        self.running.load(Ordering::Acquire)
    }

    /// Counts a refusal.
    pub(super) fn refuse(&self, now: Instant) {
        let second = self.second(now);
        let one_more =
            |noted| Some(second << 32 | u64::from(within(noted, second).saturating_add(1)));
        // INVARIANT: the closure always gives a value, so the update cannot fail.
        self.refused.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok();
    }

    /// How many refusals there were within this second.
    pub(super) fn refused(&self, now: Instant) -> u32 {
        within(self.refused.load(Ordering::Relaxed), self.second(now))
    }

    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.since).as_secs()
    }
}

/// What was noted of `second`.
fn within(noted: u64, second: u64) -> u32 {
    let of_this_second = noted >> 32 == second;
    let count = u32::try_from(noted & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    if of_this_second { count } else { 0 }
}

// === impl Running ===

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_key_runs_no_more_calls_at_once_than_its_limit() {
        let used = Arc::<Used>::default();
        let first = used.run(2).unwrap();
        let _second = used.run(2).unwrap();
        assert!(used.run(2).is_none());
        drop(first);
        assert!(used.run(2).is_some());
        assert_eq!(used.running(), 1);
    }

    #[test]
    fn refusals_are_counted_within_their_second() {
        let used = Used::default();
        let now = used.since;
        let later = now + Duration::from_secs(1);
        let counts = [now, now, now, later, later].map(|time| {
            used.refuse(time);
            used.refused(time)
        });
        assert_eq!(counts, [1, 2, 3, 1, 2]);
        assert_eq!(used.refused(later + Duration::from_secs(1)), 0);
    }
}
