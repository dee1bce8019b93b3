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

    /// Counts a refusal; says how many there are within this second.
    pub(super) fn refuse(&self, now: Instant) -> u32 {
        let second = now.saturating_duration_since(self.since).as_secs() << 32;
        let count = |refused: u64| match refused >> 32 << 32 == second {
            true => low_half(refused).saturating_add(1),
            false => 1,
        };
        let one_more = |refused| Some(second | u64::from(count(refused)));
        match self.refused.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more) {
            // INVARIANT: the closure always gives a value, so the second arm is never taken.
            Ok(before) | Err(before) => count(before),
        }
    }
}

/// The lower 32 bits.
fn low_half(number: u64) -> u32 {
    u32::try_from(number & u64::from(u32::MAX)).unwrap_or(u32::MAX)
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
        let counts = [now, now, now, later, later].map(|time| used.refuse(time));
        assert_eq!(counts, [1, 2, 3, 1, 2]);
    }
}
