//! Plain arithmetic on measured numbers.

/// Median and range of some values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// `None` of no values.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        } else {
            sorted[middle]
        };
        Some(Self { median, min, max })
    }
}

/// The mean; `None` of no values.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Each value over the one of the same round; rounds that lack either are left out.
pub fn ratios(values: &[Option<f64>], baseline: &[Option<f64>]) -> Vec<f64> {
    let pairs = values.iter().zip(baseline);
    pairs
        .filter_map(|(value, base)| Some((*value)? / (*base)?))
        .filter(|ratio| ratio.is_finite())
        .collect()
}

/// The value that `percent` of the sorted values do not exceed (nearest rank).
pub fn percentile(sorted: &[u64], percent: u32) -> Option<u64> {
    let rank = (sorted.len() * percent as usize).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

/// The order of one round: there and back, so that a drift of the machine hits all alike.
pub fn there_and_back<T: Copy>(subjects: &[T]) -> Vec<T> {
    subjects.iter().chain(subjects.iter().rev()).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_median_and_range() {
        let spread = |values: &[f64]| Spread::of(values).map(|s| (s.min, s.median, s.max));
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some((1.0, 2.0, 3.0)));
        assert_eq!(spread(&[4.0, 1.0]), Some((1.0, 2.5, 4.0)));
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let ours = [Some(20.0), None, Some(40.0), Some(5.0)];
        let base = [Some(10.0), Some(10.0), Some(10.0), None];
        assert_eq!(ratios(&ours, &base), [2.0, 4.0]);
        assert!(ratios(&[Some(1.0)], &[Some(0.0)]).is_empty());
        assert_eq!(mean(&[1.0, 2.0]), Some(1.5));
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let sorted: Vec<u64> = (1..=200).collect();
        assert_eq!(percentile(&sorted, 50), Some(100));
        assert_eq!(percentile(&sorted, 99), Some(198));
        assert_eq!(percentile(&sorted, 100), Some(200));
        assert_eq!(percentile(&[7], 1), Some(7));
        assert_eq!(percentile(&[], 50), None);
    }

    #[test]
    fn a_round_goes_there_and_back() {
        assert_eq!(there_and_back(&['a', 'b', 'c']).iter().collect::<String>(), "abccba");
    }
}
