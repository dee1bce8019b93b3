//! Room: how much may be held at once. It is taken at once or refused at once, and read by the
//! metrics while it is held.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::{Bytes, BytesMut};

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

/// A body that is collected piece by piece within a budget. One that comes in a single piece is not
/// copied.
pub struct Collected {
    first: Bytes,
    more: BytesMut,
    taken: Taken,
}

/// Bytes with the room they take.
struct Held {
    bytes: Bytes,
    _taken: Taken,
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

    /// An empty body that takes room as it grows.
    pub fn collect(self: &Arc<Self>) -> Collected {
        let taken = Taken { from: Arc::clone(self), amount: 0 };
        Collected { first: Bytes::new(), more: BytesMut::new(), taken }
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

    /// `bytes`, which give this room back when the last that holds them is dropped.
    pub fn holding(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Held { bytes, _taken: self })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.from.used.fetch_sub(self.amount, Ordering::Relaxed);
    }
}

// === impl Collected ===

impl Collected {
    /// Adds a piece; `false`, and unchanged, where there is no room for it.
    pub fn push(&mut self, piece: Bytes) -> bool {
        let fits = self.taken.grow(piece.len() as u64);
        if fits && self.held() == 0 {
            self.first = piece;
        } else if fits {
            self.more.extend_from_slice(&std::mem::take(&mut self.first));
            self.more.extend_from_slice(&piece);
        }
        fits
    }

    /// How many bytes have come.
    pub fn held(&self) -> usize {
        self.first.len() + self.more.len()
    }

    /// The whole body; its room is given back when the last that holds it is dropped.
    pub fn freeze(self) -> Bytes {
        let bytes = if self.more.is_empty() { self.first } else { self.more.freeze() };
        self.taken.holding(bytes)
    }
}

impl std::fmt::Debug for Collected {
    /// The length alone: the bytes are part of an answer.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Collected").field("bytes", &self.held()).finish_non_exhaustive()
    }
}

// === impl Held ===

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
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

    #[test]
    fn a_body_in_one_piece_is_not_copied() {
        let piece = Bytes::from(vec![7; 10]);
        let mut collected = Arc::new(Budget::new(10)).collect();
        assert!(collected.push(Bytes::new()) && collected.push(piece.clone()));
        assert_eq!(collected.freeze().as_ptr(), piece.as_ptr());
    }

    #[test]
    fn a_body_holds_its_room_until_the_last_part_of_it_is_gone() {
        let budget = Arc::new(Budget::new(10));
        let mut collected = budget.collect();
        assert!(collected.push(Bytes::from_static(b"1234")));
        assert!(collected.push(Bytes::from_static(b"5678")));
        assert!(!collected.push(Bytes::from_static(b"123")));
        let body = collected.freeze();
        let part = body.slice(2..4);
        drop(body);
        assert_eq!((part.as_ref(), budget.used()), (b"34".as_slice(), 8));
        drop(part);
        assert_eq!(budget.used(), 0);
    }
}
