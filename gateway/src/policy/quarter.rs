//! The quarter hour a decision rests on.
//!
//! Times are arguments here: nothing in `policy` reads a clock.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use crate::quantity::Day;

const QUARTER_S: u64 = 15 * 60;
const DAY_S: u64 = 24 * 60 * 60;

/// A quarter of an hour, counted from the Unix epoch. Written as `2026-11-22T19:45Z`; such
/// texts compare in order, and every legal midnight falls on one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Quarter(u64);

impl Quarter {
    /// The quarter that holds `time`; times before 1970 count as its first.
    pub fn of(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self(since.as_secs() / QUARTER_S)
    }

    /// The quarter before this one.
    pub fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// When it begins.
    pub fn start(self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.0 * QUARTER_S)
    }

    /// When the next one begins.
    pub fn end(self) -> SystemTime {
        self.start() + Duration::from_secs(QUARTER_S)
    }

    /// The day it lies in.
    pub fn day(self) -> Day {
        Day::at(self.start())
    }
}

impl fmt::Display for Quarter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let second = self.0 * QUARTER_S % DAY_S;
        write!(formatter, "{}T{:02}:{:02}Z", self.day(), second / 3600, second % 3600 / 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_rounded_down_to_its_quarter() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_377_599);
        let quarter = Quarter::of(time);
        assert_eq!(quarter.to_string(), "2026-11-22T19:45Z");
        assert!(quarter.start() <= time && time < quarter.end());
        assert!(quarter.before() < quarter);
        assert_eq!(Quarter::of(quarter.end()).before(), quarter);
    }
}
