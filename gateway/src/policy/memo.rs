//! Remembers rulings by their facts, and lets calls that need the same one wait for one evaluation.
//!
//! Bounded in entries and bytes. Errors are never remembered. An entry ends with its quarter
//! hour and may serve ten seconds longer while it is renewed. An evaluation belongs to the pool,
//! not to the call that asked first: that call may leave, the others still get their answer.
//!
//! Cost: a hit takes one hash of the facts and one comparison under a lock, about 1 µs.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::policy::{Refusal, facts::Facts, judge::Ruling};

/// Makes the ruling on facts that nobody has asked about yet. It bounds its own time.
#[async_trait]
pub(crate) trait Judge: Send + Sync + 'static {
    async fn judge(&self, facts: &Facts) -> Result<Arc<Ruling>, Refusal>;
}

/// Counts what the memo did.
pub trait Observer: Send + Sync + 'static {
    /// A remembered decision was used.
    fn hit(&self) {}
    /// A decision had to be made.
    fn missed(&self) {}
    /// A call waits for a decision that is being made for another.
    fn joined(&self) {}
    /// The engine ran for `took`.
    fn evaluated(&self, _took: std::time::Duration) {}
}

/// An observer that counts nothing.
#[derive(Debug, Clone, Copy)]
pub struct Unobserved;

impl Observer for Unobserved {}

/// How much is remembered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) entries_max: usize,
    pub(crate) bytes_max: usize,
    /// Evaluations under way or waiting for a thread.
    pub(crate) flights_max: usize,
}

/// The rulings of one activated bundle.
pub(crate) struct Memo {
    inner: Arc<Inner>,
}

struct Inner {
    judge: Arc<dyn Judge>,
    observer: Arc<dyn Observer>,
    bounds: Bounds,
    table: Mutex<Table>,
}

type Outcome = Result<Arc<Ruling>, Refusal>;
type Flight = watch::Receiver<Option<Outcome>>;

#[derive(Default)]
struct Table {
    rulings: HashMap<Arc<Facts>, Arc<Ruling>>,
    /// The keys of `rulings`, oldest first.
    order: VecDeque<Arc<Facts>>,
    bytes: usize,
    flights: HashMap<Arc<Facts>, Flight>,
}

/// What the table had for a question.
enum Found {
    Ruling(Arc<Ruling>),
    Flight(Flight),
    /// Too many evaluations are under way.
    Full,
}

// === impl Memo ===

impl Memo {
    pub(crate) fn new(judge: Arc<dyn Judge>, observer: Arc<dyn Observer>, bounds: Bounds) -> Self {
        Self { inner: Arc::new(Inner { judge, observer, bounds, table: Mutex::default() }) }
    }

    /// The ruling on `facts`: remembered, being made, or made now.
    pub(crate) async fn ruling(&self, facts: Arc<Facts>) -> Outcome {
        match self.inner.find(facts) {
            Found::Ruling(ruling) => Ok(ruling),
            Found::Flight(flight) => landed(flight).await,
            Found::Full => Err(Refusal::engine_timeout()),
        }
    }
}

async fn landed(mut flight: Flight) -> Outcome {
    match flight.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone().unwrap_or_else(|| Err(Refusal::engine_failed())),
        // The evaluating task ended without an answer: it panicked, or the runtime shuts down.
        Err(_gone) => Err(Refusal::engine_failed()),
    }
}

// === impl Inner ===

impl Inner {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(self: &Arc<Self>, facts: Arc<Facts>) -> Found {
        let mut table = self.table();
        if let Some(ruling) = table.rulings.get(&facts) {
            self.observer.hit();
            return Found::Ruling(Arc::clone(ruling));
        }
        let stale = facts.quarter_before().and_then(|before| table.rulings.get(&before).cloned());
        let flight = match table.flights.get(&facts) {
            Some(flight) => {
                if stale.is_none() {
                    self.observer.joined();
                }
                Found::Flight(flight.clone())
            }
            None if table.flights.len() >= self.bounds.flights_max => Found::Full,
            None => {
                self.observer.missed();
                Found::Flight(self.take_off(&mut table, facts))
            }
        };
        match stale {
            Some(ruling) => {
                self.observer.hit();
                Found::Ruling(ruling)
            }
            None => flight,
        }
    }

    /// Starts the evaluation as a task of its own; the judge bounds its time.
    fn take_off(self: &Arc<Self>, table: &mut Table, facts: Arc<Facts>) -> Flight {
        let (sender, flight) = watch::channel(None);
        table.flights.insert(Arc::clone(&facts), flight.clone());
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            let landing = Landing { inner: &inner, facts: &facts };
            let outcome = inner.judge.judge(&facts).await;
            if let Ok(ruling) = &outcome {
                inner.table().remember(&facts, Arc::clone(ruling), inner.bounds);
            }
            // INVARIANT: whoever finds no flight any more finds the ruling.
            drop(landing);
            sender.send_replace(Some(outcome));
        });
        flight
    }
}

/// Takes the flight out of the table, also when the judge panics.
struct Landing<'a> {
    inner: &'a Inner,
    facts: &'a Facts,
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        self.inner.table().flights.remove(self.facts);
    }
}

// === impl Table ===

impl Table {
    fn remember(&mut self, facts: &Arc<Facts>, ruling: Arc<Ruling>, bounds: Bounds) {
        // Whatever is older than the quarter before can serve nobody.
        let useful_from = facts.as_of().before();
        while self.order.front().is_some_and(|oldest| oldest.as_of() < useful_from) {
            self.forget_oldest();
        }
        self.bytes += cost(facts, &ruling);
        self.order.push_back(Arc::clone(facts));
        if let Some(replaced) = self.rulings.insert(Arc::clone(facts), ruling) {
            self.bytes -= cost(facts, &replaced);
            self.order.pop_back();
        }
        while self.order.len() > bounds.entries_max || self.bytes > bounds.bytes_max {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some(facts) = self.order.pop_front() else {
            self.bytes = 0;
            return;
        };
        if let Some(ruling) = self.rulings.remove(&facts) {
            self.bytes -= cost(&facts, &ruling);
        }
    }
}

fn cost(facts: &Facts, ruling: &Ruling) -> usize {
    facts.bytes() + ruling.bytes()
}

#[cfg(test)]
mod tests;
