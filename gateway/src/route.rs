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
    /// The provider's own refusal of the content or of the request: it is the answer.
    Refused,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// Try this upstream after a wait.
    Try { target: Permitted, after: Duration },
    /// The last failure is the answer.
    Stop,
}

impl PartialEq for Permitted {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.upstream, &other.upstream)
    }
}

/// The order in which one call tries its permitted upstreams.
#[derive(Debug)]
pub struct Plan {
    steps: Vec<Step>,
    current: usize,
    attempts: u16,
}

#[derive(Debug)]
struct Step {
    target: Permitted,
    attempts: u16,
}

impl Plan {
    /// Orders the targets of `permit` by its legal rank, then as the route lists them, and
    /// leaves out those that `can_be_tried` denies.
    pub fn new(permit: &Permit, can_be_tried: impl Fn(&Upstream) -> bool) -> Self {
        let mut steps: Vec<Step> = permit
            .targets()
            .iter()
            .filter(|target| can_be_tried(&target.upstream))
            .map(|target| Step { target: target.clone(), attempts: 0 })
            .collect();
        steps.sort_by_key(|step| step.target.rank);
        Self { steps, current: 0, attempts: 0 }
    }

    /// The first upstream to try; `None` where none can be tried.
    pub fn first(&mut self) -> Option<Permitted> {
        let step = self.steps.first_mut()?;
        step.attempts = 1;
        self.attempts = 1;
        Some(step.target.clone())
    }

    /// The next upstream after `trouble` with the current one. `remaining` is what is left of
    /// the call's time, if that has an end; `jitter` lies between 0 and 1.
    pub fn next(&mut self, trouble: Trouble, remaining: Option<Duration>, jitter: f64) -> Next {
        if self.attempts >= ATTEMPTS_MAX || trouble == Trouble::Refused {
            return Next::Stop;
        }
        let fits = |wait: Duration| remaining.is_none_or(|remaining| wait < remaining);
        let again = self.wait_before_again(trouble, jitter).filter(|wait| fits(*wait));
        let next = match (again, self.elsewhere(trouble)) {
            (Some(wait), _) => Some((self.current, wait)),
            (None, Some(index)) => Some((index, Duration::ZERO)),
            (None, None) => None,
        };
        let Some((index, after)) = next else { return Next::Stop };
        self.current = index;
        self.attempts += 1;
        self.steps[index].attempts += 1;
        Next::Try { target: self.steps[index].target.clone(), after }
    }

    /// The same plan under a newer permit: what it no longer allows is gone, what was tried
    /// stays tried.
    pub fn under(self, permit: &Permit) -> Self {
        let current = Arc::clone(&self.steps[self.current].target.upstream);
        let allows = |step: &Step| {
            let upstream = &step.target.upstream;
            permit.targets().iter().find(|target| Arc::ptr_eq(&target.upstream, upstream)).cloned()
        };
        let steps: Vec<Step> = self
            .steps
            .iter()
            .filter_map(|step| Some(Step { target: allows(step)?, attempts: step.attempts }))
            .collect();
        let current =
            steps.iter().position(|step| Arc::ptr_eq(&step.target.upstream, &current)).unwrap_or(0);
        Self { steps, current, attempts: self.attempts }
    }

    /// The upstream whose turn it is; `None` where none is left.
    pub fn current(&self) -> Option<Permitted> {
        self.steps.get(self.current).map(|step| step.target.clone())
    }

    /// How long to wait before asking the current upstream once more; `None`: not again.
    fn wait_before_again(&self, trouble: Trouble, jitter: f64) -> Option<Duration> {
        if self.steps[self.current].attempts >= ATTEMPTS_PER_UPSTREAM_MAX {
            return None;
        }
        let others = self.elsewhere(trouble).is_some();
        match trouble {
            Trouble::Unreached { again } => again.then_some(Duration::ZERO),
            Trouble::RateLimited { retry_after: Some(wait) } => (wait <= WAIT_MAX).then_some(wait),
            Trouble::RateLimited { retry_after: None } => Some(BACK_OFF.mul_f64(1.0 + jitter)),
            Trouble::Failed => Some(BACK_OFF.mul_f64(jitter)),
            Trouble::Unavailable { retry_after } if !others => {
                let wait = retry_after.unwrap_or(BACK_OFF.mul_f64(1.0 + jitter));
                (wait <= WAIT_MAX).then_some(wait)
            }
            Trouble::Unavailable { .. }
            | Trouble::Silent
            | Trouble::Broken
            | Trouble::Account
            | Trouble::ContextLength
            | Trouble::Refused => None,
        }
    }

    /// Another upstream that was not tried yet; for a conversation that is too long, only one
    /// whose window is known to be larger.
    fn elsewhere(&self, trouble: Trouble) -> Option<usize> {
        let window = self.steps[self.current].target.upstream.context_tokens_max().unwrap_or(0);
        self.steps.iter().enumerate().position(|(index, step)| {
            let larger = step.target.upstream.context_tokens_max().is_some_and(|max| max > window);
            index != self.current
                && step.attempts == 0
                && (trouble != Trouble::ContextLength || larger)
        })
    }
}
