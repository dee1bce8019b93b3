//! Sizes and times as an operator writes them: `"32MiB"`, `"2s"`. Parsed once, at the edge.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// A number of bytes, written with a unit: `B`, `KiB`, `MiB` or `GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, schemars::JsonSchema)]
#[schemars(with = "String")]
pub struct Size(pub u64);

/// A length of time, written with a unit: `ms`, `s`, `m`, `h` or `d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, schemars::JsonSchema)]
#[schemars(with = "String")]
pub struct Span(pub Duration);

const SIZE_UNITS: [(&str, u64); 4] =
    [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
const SPAN_UNITS_MS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

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
}
