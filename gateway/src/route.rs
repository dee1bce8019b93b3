//! Which permitted upstreams are tried, in which order, how often.
//!
//! Makes the [`Plan`]. Pure: no clock, no I/O, no randomness of its own; the same input gives
//! the same plan. Policy said *may*; this says *can*.

use std::{sync::Arc, time::Duration};

use crate::{
    catalog::Upstream,
    policy::{Permit, Permitted},
};

/// Attempts of one call in total.
const ATTEMPTS_MAX: u16 = 6;
/// Attempts of one call at one upstream: the first, and one more.
const ATTEMPTS_PER_UPSTREAM_MAX: u16 = 2;
/// The longest wait for an upstream that says when to come back.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// The first wait for an upstream that does not; jitter doubles it at most.
const BACK_OFF: Duration = Duration::from_millis(250);

/// What an attempt taught us, as far as choosing the next one goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// A pooled connection was dead. It says nothing about the upstream, which is asked once more
    /// on a fresh connection.
    Stale,
    /// No connection, or one that ended before the upstream began to work.
    Unreached { again: bool },
    /// Accepted, then silent past its deadline: never asked twice.
    Silent,
    /// It began to answer and broke off; nothing has reached the client.
    Broken,
    /// 429.
    RateLimited { retry_after: Option<Duration> },
    /// An exhausted account, or our key refused: waiting does not help.
    Account,
    /// 500 and its kin.
    Failed,
    /// 503: it says that it cannot serve now.
    Unavailable { retry_after: Option<Duration> },
    /// The conversation is too long for this model.
    ContextLength,
    /// It is the answer: the provider's own refusal of the content or of the request, or a call
    /// whose time is over.
    Final,
}

/// Which connection an attempt may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection {
    /// A pooled one where there is one.
    Any,
    /// None from the pool: one of its kind was dead.
    Fresh,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Take the plan's turn after a wait.
    Try { after: Duration },
    /// The last failure is the answer.
    Stop,
}

/// Whose turn it is, and how it is asked.
#[derive(Debug, Clone)]
pub struct Turn {
    pub target: Permitted,
    pub connection: Connection,
}

/// The order in which one call tries its permitted upstreams.
#[derive(Debug)]
pub struct Plan {
    steps: Vec<Step>,
    /// The place of the upstream whose turn it is; beyond the end where none is left.
    current: usize,
    /// Attempts that failed, dead pooled connections left out.
    failed: u16,
    /// The largest window for which the conversation was too long.
    too_long_for: Option<u64>,
}

#[derive(Debug)]
struct Step {
    target: Permitted,
    failed: u16,
    connection: Connection,
}

// === impl Plan ===

impl Plan {
    /// Orders the targets of `permit` by its legal rank, then as the route lists them, and
    /// leaves out those that `can_be_tried` denies.
    pub fn new(permit: &Permit, can_be_tried: impl Fn(&Upstream) -> bool) -> Self {
        let step = |target: &Permitted| Step {
            target: target.clone(),
            failed: 0,
            connection: Connection::Any,
        };
        let mut steps: Vec<Step> = permit
            .targets()
            .iter()
            .filter(|target| can_be_tried(target.upstream()))
            .map(step)
            .collect();
        steps.sort_by_key(|step| step.target.rank());
        Self { steps, current: 0, failed: 0, too_long_for: None }
    }

    /// Whose turn it is; `None` where nobody is left.
    pub fn turn(&self) -> Option<Turn> {
        let step = self.steps.get(self.current)?;
        Some(Turn { target: step.target.clone(), connection: step.connection })
    }

    /// What follows from `trouble` in the current turn. `remaining` is what is left of the call's
    /// time, if that has an end; `jitter` lies between 0 and 1.
    pub fn next(&mut self, trouble: Trouble, remaining: Option<Duration>, jitter: f64) -> Next {
        self.learn(trouble);
        let over = remaining.is_some_and(|left| left.is_zero());
        if over || trouble == Trouble::Final || self.failed >= ATTEMPTS_MAX {
            return Next::Stop;
        }
        let fits = |wait: &Duration| remaining.is_none_or(|remaining| *wait < remaining);
        if let Some(after) = self.wait_before_again(trouble, jitter).filter(fits) {
            return Next::Try { after };
        }
        let Some(other) = self.elsewhere() else { return Next::Stop };
        self.current = other;
        Next::Try { after: Duration::ZERO }
    }

    /// Puts the plan under a newer permit: what it no longer allows is gone, what failed stays
    /// failed. Where the turn's upstream is gone, the turn is that of one not tried yet.
    pub fn renew(&mut self, permit: &Permit) {
        let current = self.turn().map(|turn| turn.target.upstream);
        self.steps.retain_mut(|step| {
            let same = |target: &&Permitted| Arc::ptr_eq(target.upstream(), step.target.upstream());
            let Some(target) = permit.targets().iter().find(same) else { return false };
            step.target = target.clone();
            true
        });
        self.steps.sort_by_key(|step| step.target.rank());
        let is_current = |step: &Step| {
            current.as_ref().is_some_and(|current| Arc::ptr_eq(step.target.upstream(), current))
        };
        let kept = self.steps.iter().position(is_current);
        self.current = self.steps.len();
        self.current = kept.or_else(|| self.elsewhere()).unwrap_or(self.current);
    }

    /// Counts the failure, or notes why it does not count.
    fn learn(&mut self, trouble: Trouble) {
        let Some(step) = self.steps.get_mut(self.current) else { return };
        if trouble == Trouble::Stale && step.connection == Connection::Any {
            step.connection = Connection::Fresh;
            return;
        }
        step.failed += 1;
        self.failed += 1;
        if trouble == Trouble::ContextLength {
            // A window nobody knows may be the largest of all.
            let window = step.target.upstream().context_tokens_max().unwrap_or(u64::MAX);
            self.too_long_for = self.too_long_for.max(Some(window));
        }
    }

    /// How long to wait before asking the current upstream once more; `None`: not again.
    fn wait_before_again(&self, trouble: Trouble, jitter: f64) -> Option<Duration> {
        if self.steps.get(self.current)?.failed >= ATTEMPTS_PER_UPSTREAM_MAX {
            return None;
        }
        match trouble {
            Trouble::Stale => Some(Duration::ZERO),
            Trouble::Unreached { again } => again.then_some(Duration::ZERO),
            Trouble::RateLimited { retry_after: Some(wait) } => (wait <= WAIT_MAX).then_some(wait),
            Trouble::RateLimited { retry_after: None } => Some(BACK_OFF.mul_f64(1.0 + jitter)),
            Trouble::Failed => Some(BACK_OFF.mul_f64(jitter)),
            Trouble::Unavailable { retry_after } if self.elsewhere().is_none() => {
                let wait = retry_after.unwrap_or(BACK_OFF.mul_f64(1.0 + jitter));
                (wait <= WAIT_MAX).then_some(wait)
            }
            Trouble::Unavailable { .. }
            | Trouble::Silent
            | Trouble::Broken
            | Trouble::Account
            | Trouble::ContextLength
            | Trouble::Final => None,
        }
    }

    /// Another upstream that has not failed yet; for a conversation that was too long, only one
    /// whose window is known to be larger.
    fn elsewhere(&self) -> Option<usize> {
        let fits = |upstream: &Upstream| {
            let window = upstream.context_tokens_max();
            self.too_long_for.is_none_or(|small| window.is_some_and(|window| window > small))
        };
        self.steps.iter().enumerate().position(|(index, step)| {
            index != self.current && step.failed == 0 && fits(step.target.upstream())
        })
    }
}

#[cfg(test)]
mod tests;
