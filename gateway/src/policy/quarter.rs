//! The quarter hour a decision rests on, and the days that ages are counted in.
//!
//! Times are arguments here: nothing in `policy` reads a clock. UTC throughout, proleptic
//! Gregorian calendar (ISO 8601).

use std::{
    fmt,
    time::{Duration, SystemTime},
};

const QUARTER_S: u64 = 15 * 60;
const DAY_S: u64 = 24 * 60 * 60;
/// Days from 0000-03-01 to 1970-01-01.
const EPOCH_DAY: i64 = 719_468;
/// Days in 400 Gregorian years.
const ERA_DAYS: i64 = 146_097;

/// A quarter of an hour, counted from the Unix epoch. Written as `2026-11-22T19:45Z`; such
/// texts compare in order, and every legal midnight falls on one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Quarter(u64);

/// A calendar day, counted from 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Day(i64);

// === impl Quarter ===

impl Quarter {
    /// The quarter that holds `time`; times before 1970 count as its first.
    pub fn of(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self(since.as_secs() / QUARTER_S)
    }

    /// Reads `2026-11-22T19:45Z`; `None` for any other shape.
    pub fn parse(text: &str) -> Option<Self> {
        let (date, clock) = text.strip_suffix('Z')?.split_once('T')?;
        let day = u64::try_from(Day::parse(date)?.0).ok()?;
        let (hour, minute) = clock.split_once(':')?;
        let (hour, minute) = (two_digits(hour)?, two_digits(minute)?);
        let fits = hour < 24 && minute < 60 && minute % 15 == 0;
        fits.then(|| Self((day * DAY_S + hour * 3600 + minute * 60) / QUARTER_S))
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
        Day(i64::try_from(self.0 * QUARTER_S / DAY_S).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Quarter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let second = self.0 * QUARTER_S % DAY_S;
        write!(formatter, "{}T{:02}:{:02}Z", self.day(), second / 3600, second % 3600 / 60)
    }
}

// === impl Day ===

impl Day {
    /// Reads `2026-11-22`; `None` where that is no day of the calendar.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || year.len() != 4 || !year.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let found = Self::of_date(year.parse().ok()?, two_digits(month)?, two_digits(day)?);
        // A day that the calendar does not have (02-30) prints as another one.
        (found.to_string() == text).then_some(found)
    }

    /// Whole days from `earlier` to this day; negative where `earlier` is later.
    pub fn since(self, earlier: Self) -> i64 {
        self.0 - earlier.0
    }

    /// Counts with years that begin in March, so that the leap day comes last.
    fn of_date(year: i64, month: u64, day: u64) -> Self {
        let year = if month <= 2 { year - 1 } else { year };
        let era = year.div_euclid(400);
        let of_era = year.rem_euclid(400);
        let month = i64::try_from((month + 9) % 12).unwrap_or(0);
        let day = i64::try_from(day).unwrap_or(0);
        let of_year = (153 * month + 2) / 5 + day - 1;
        Self(era * ERA_DAYS + of_era * 365 + of_era / 4 - of_era / 100 + of_year - EPOCH_DAY)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shifted = self.0 + EPOCH_DAY;
        let era = shifted.div_euclid(ERA_DAYS);
        let of_era = shifted.rem_euclid(ERA_DAYS);
        let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let march = (5 * of_year + 2) / 153;
        let day = of_year - (153 * march + 2) / 5 + 1;
        let month = if march < 10 { march + 3 } else { march - 9 };
        let year = year + era * 400 + i64::from(month <= 2);
        write!(formatter, "{year:04}-{month:02}-{day:02}")
    }
}

fn two_digits(text: &str) -> Option<u64> {
    let shaped = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    shaped.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_rounded_down_to_its_quarter() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_377_599);
        let quarter = Quarter::of(time);
        assert_eq!(quarter.to_string(), "2026-11-22T19:45Z");
        assert_eq!(Quarter::parse("2026-11-22T19:45Z"), Some(quarter));
        assert!(quarter.start() <= time && time < quarter.end());
        assert!(quarter.before() < quarter);
    }

    #[test]
    fn days_count_through_leap_years() {
        let day = |text| Day::parse(text).expect("a day");
        assert_eq!(day("2026-11-22").since(day("1970-01-01")), 20_779);
        assert_eq!(day("2028-03-01").since(day("2028-02-28")), 2);
        assert_eq!(day("2100-03-01").since(day("2100-02-28")), 1);
        for step in 0..60_000 {
            let day = Day(step);
            assert_eq!(Day::parse(&day.to_string()), Some(day));
        }
    }

    #[test]
    fn what_is_no_day_is_refused() {
        for wrong in
            ["2026-02-29", "2026-13-01", "2026-1-01", "26-01-01", "2026-01-01-", "+026-01-01", ""]
        {
            assert_eq!(Day::parse(wrong), None, "{wrong}");
        }
        for wrong in ["2026-11-22T19:46Z", "2026-11-22T24:00Z", "2026-11-22 19:45Z"] {
            assert_eq!(Quarter::parse(wrong), None, "{wrong}");
        }
    }
}
