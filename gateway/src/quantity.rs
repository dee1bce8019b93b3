//! Sizes, times and days as an operator writes them: `"32MiB"`, `"2s"`, `"2027-03-01"`.
//!
//! Parsed once, at the edge. Instants are told as RFC 3339 UTC, the only form we write.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Deserializer};

/// A number of bytes, written with a unit: `B`, `KiB`, `MiB` or `GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, schemars::JsonSchema)]
#[schemars(with = "String", extend("pattern" = "^[0-9]+ *(B|KiB|MiB|GiB)$"))]
pub struct Size(pub u64);

/// A length of time, written with a unit: `ms`, `s`, `m`, `h` or `d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, schemars::JsonSchema)]
#[schemars(with = "String", extend("pattern" = "^[0-9]+ *(ms|s|m|h|d)$"))]
pub struct Span(pub Duration);

/// A day of the Gregorian calendar, written `YYYY-MM-DD`; counted in days since 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, schemars::JsonSchema)]
#[schemars(with = "String", extend("pattern" = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"))]
pub struct Day(i64);

const SIZE_UNITS: [(&str, u64); 4] =
    [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
const SPAN_UNITS_MS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

const SECONDS_PER_DAY: u64 = 86_400;

// === impl Day ===

impl Day {
    /// Reads `YYYY-MM-DD`; `None` where the text is no day of the calendar.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
        let lengths = (year.len(), month.len(), day.len());
        if parts.next().is_some() || lengths != (4, 2, 2) {
            return None;
        }
        let day = Self::of(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?);
        // A day that reads differently than it was written does not exist (2026-02-30).
        (day.to_string() == text).then_some(day)
    }

    /// The UTC day that `time` falls on.
    pub fn at(time: SystemTime) -> Self {
        let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Self((seconds / SECONDS_PER_DAY).try_into().unwrap_or(i64::MAX))
    }

    /// The day `days` before this one.
    pub fn before(self, days: u32) -> Self {
        Self(self.0 - i64::from(days))
    }

    /// Whole days from `earlier` to this day; negative where `earlier` is later.
    pub fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Days since 1970-01-01 of a date; years are counted from March, so that the leap day comes
    /// last and months have a fixed offset (the usual civil calendar arithmetic).
    fn of(year: i64, month: i64, day: i64) -> Self {
        let year = if month <= 2 { year - 1 } else { year };
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let month_from_march = (month + 9).rem_euclid(12);
        let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        Self(era * 146_097 + day_of_era - 719_468)
    }

    /// Year, month and day.
    fn date(self) -> (i64, i64, i64) {
        let days = self.0 + 719_468;
        let era = days.div_euclid(146_097);
        let day_of_era = days.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        (year, month, day)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.date();
        write!(formatter, "{year:04}-{month:02}-{day:02}")
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            serde::de::Error::custom(format!("`{text}` is no day: write it like `\"2027-03-01\"`"))
        })
    }
}

/// An instant in RFC 3339, UTC, to the microsecond: `2026-11-22T19:45:12.123456Z`.
pub fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (second, micro) = (since.as_secs() % SECONDS_PER_DAY, since.subsec_micros());
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    format!("{}T{hour:02}:{minute:02}:{:02}.{micro:06}Z", Day::at(time), second % 60)
}

/// Splits `text` into digits and unit, and multiplies; `None` where either is not known.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = units.iter().find(|(name, _)| *name == unit.trim())?.1;
    number.parse::<u64>().ok()?.checked_mul(factor)
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        scaled(&text, &SIZE_UNITS).map(Size).ok_or_else(|| {
            serde::de::Error::custom(format!("`{text}` is no size: write it like `32MiB`"))
        })
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        scaled(&text, &SPAN_UNITS_MS).map(|ms| Span(Duration::from_millis(ms))).ok_or_else(|| {
            serde::de::Error::custom(format!("`{text}` is no time: write it like `2s`"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_need_a_known_unit() {
        assert_eq!(scaled("32MiB", &SIZE_UNITS), Some(32 << 20));
        assert_eq!(scaled("2s", &SPAN_UNITS_MS), Some(2_000));
        for wrong in ["32", "MiB", "2 parsecs", "-1s", "99999999999999999999s"] {
            assert_eq!(scaled(wrong, &SPAN_UNITS_MS), None, "{wrong}");
        }
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        for (text, days) in [("1970-01-01", 0), ("2000-02-29", 11_016), ("2026-11-22", 20_779)] {
            assert_eq!(Day::parse(text), Some(Day(days)), "{text}");
            assert_eq!(Day(days).to_string(), text);
        }
        for wrong in ["2026-02-30", "2026-13-01", "26-01-01", "2026-1-1", "soon", "2026-01-01-01"] {
            assert_eq!(Day::parse(wrong), None, "{wrong}");
        }
        assert_eq!(Day::parse("2026-03-01").unwrap().before(1).to_string(), "2026-02-28");
    }

    #[test]
    fn instants_are_told_in_utc_to_the_microsecond() {
        let time = UNIX_EPOCH + Duration::from_micros(1_795_376_712_123_456);
        assert_eq!(timestamp(time), "2026-11-22T19:45:12.123456Z");
    }
}
