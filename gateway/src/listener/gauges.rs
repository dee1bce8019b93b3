//! Budgets that are taken at once or refused at once, and read by the metrics while they run.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// A number of things that may be held at once. Nobody waits for it: it is there or it is not.
#[derive(Debug)]
pub struct Budget {
    used: AtomicU64,
    max: u64,
}

/// A part of a budget; dropping it gives it back.
#[derive(Debug)]
pub struct Taken {
    from: Arc<Budget>,
    amount: u64,
}

/// What the listeners hold right now, for `cordon_calls_in_flight` and `cordon_buffered_bytes`.
#[derive(Debug, Clone)]
pub struct Gauges {
    /// Calls between their head and the last byte of their answer.
    pub calls: Arc<Budget>,
    /// Bytes of bodies, reserved or held.
    pub bytes: Arc<Budget>,
}

// === impl Budget ===

impl Budget {
    /// An untouched budget of `max`.
    pub fn new(max: u64) -> Self {
        Self { used: AtomicU64::new(0), max }
    }

    /// What is held at this moment.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Takes `amount`, or nothing where it does not fit.
    pub fn take(self: &Arc<Self>, amount: u64) -> Option<Taken> {
        self.add(amount).then(|| Taken { from: Arc::clone(self), amount })
    }

    fn add(&self, amount: u64) -> bool {
        let sum = |used: u64| used.checked_add(amount).filter(|sum| *sum <= self.max);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum).is_ok()
    }
}

// === impl Taken ===

impl Taken {
    /// What this part holds.
    pub fn amount(&self) -> u64 {
        self.amount
    }

    /// Makes this part larger by `amount`; `false`, and unchanged, where it does not fit.
    pub fn grow(&mut self, amount: u64) -> bool {
        let fits = self.from.add(amount);
        if fits {
            self.amount += amount;
        }
        fits
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.from.used.fetch_sub(self.amount, Ordering::Relaxed);
    }
}

// === impl Gauges ===

impl Gauges {
    /// Untouched budgets.
    pub fn new(calls_max: u64, bytes_max: u64) -> Self {
        Self { calls: Arc::new(Budget::new(calls_max)), bytes: Arc::new(Budget::new(bytes_max)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_and_what_is_dropped_comes_back() {
        let budget = Arc::new(Budget::new(10));
        let mut first = budget.take(6).unwrap();
        assert!(budget.take(5).is_none());
        assert!(first.grow(4));
        assert!(!first.grow(1));
        assert_eq!((budget.used(), first.amount()), (10, 10));
        drop(first);
        assert_eq!(budget.used(), 0);
        assert!(budget.take(u64::MAX).is_none());
    }
}
