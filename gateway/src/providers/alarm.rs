//! A deadline that moves with every step of a stream, at no cost for those that are in time.
//!
//! A timer of its own for each wait is set and taken back some hundred times in a stream, each
//! time under the lock of the runtime's timers. This one stays set: where it goes off before the
//! deadline of the wait that runs then, it is set again to that.

use std::{
    pin::{Pin, pin},
    task::Poll,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// The timer of one connection's waits, one after another.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    timer: Option<Pin<Box<Sleep>>>,
}

// === impl Alarm ===

impl Alarm {
    /// What `work` gives; `None` where it gives nothing until `at`.
    pub(crate) async fn within<T>(
        &mut self,
        at: Instant,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let mut work = pin!(work);
        std::future::poll_fn(|context| {
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(Some(done));
            }
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
            if timer.deadline() > at {
                timer.as_mut().reset(at);
            }
            while timer.as_mut().poll(context).is_ready() {
                if timer.deadline() >= at {
                    return Poll::Ready(None);
                }
                timer.as_mut().reset(at);
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::sleep;

    use super::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[tokio::test(start_paused = true)]
    async fn each_wait_ends_at_its_own_deadline_whatever_was_set_before() {
        let mut alarm = Alarm::default();
        for (deadline_s, work_s) in [(5, 3), (5, 4), (5, 9), (30, 20), (2, 9), (9, 8), (0, 1)] {
            let began = Instant::now();
            let work = async {
                sleep(seconds(work_s)).await;
                work_s
            };
            let done = alarm.within(began + seconds(deadline_s), work).await;
            let name = format!("{work_s} s of work within {deadline_s} s");
            assert_eq!(done, (work_s < deadline_s).then_some(work_s), "{name}");
            // The runtime's timers have steps of a millisecond.
            let took_ms = began.elapsed().as_millis();
            let expected_ms = seconds(work_s.min(deadline_s)).as_millis();
            assert!((expected_ms..expected_ms + 3).contains(&took_ms), "{name}: {took_ms} ms");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_ready_is_taken_though_its_deadline_has_passed() {
        let past = Instant::now();
        sleep(seconds(1)).await;
        assert_eq!(Alarm::default().within(past, async { 7 }).await, Some(7));
    }
}
