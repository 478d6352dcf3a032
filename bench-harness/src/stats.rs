//! Medians, spans and bootstrap intervals of a handful of runs.
//!
//! Percentiles of latencies come from merged histograms, never from here: this is about run-to-run spread.

use serde::{Deserialize, Serialize};

/// Resamples of a bootstrap.
const RESAMPLES: usize = 10_000;

/// A figure over several runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Summary {
    /// Median of the runs.
    pub(crate) median: f64,
    /// Smallest.
    pub(crate) min: f64,
    /// Largest.
    pub(crate) max: f64,
    /// 95 % interval of the median (bootstrap), from five runs on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ci95: Option<[f64; 2]>,
    /// Number of runs.
    pub(crate) n: usize,
}

impl Summary {
    /// Of `values`; `None` if there are none.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let ci95 = (sorted.len() >= 5).then(|| bootstrap(&sorted));
        Some(Self { median: median(&sorted), min, max, ci95, n: sorted.len() })
    }
}

/// The value below which `percent` of `values` lie (nearest rank).
pub(crate) fn percentile(values: &[f64], percent: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (percent / 100.0 * sorted.len() as f64).ceil().max(1.0) as usize;
    sorted.get(rank - 1).copied()
}

fn median(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    let at = |i: usize| sorted.get(i).copied().unwrap_or_default();
    if sorted.len() % 2 == 1 { at(half) } else { f64::midpoint(at(half.wrapping_sub(1)), at(half)) }
}

fn bootstrap(sorted: &[f64]) -> [f64; 2] {
    let n = sorted.len();
    // xorshift64 with a fixed seed: the same runs give the same interval.
    let mut draw = 0x2545_F491_4F6C_DD1D_u64;
    let mut medians: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let mut sample: Vec<f64> = (0..n)
                .map(|_| {
                    draw ^= draw << 13;
                    draw ^= draw >> 7;
                    draw ^= draw << 17;
                    sorted.get((draw % n as u64) as usize).copied().unwrap_or_default()
                })
                .collect();
            sample.sort_by(f64::total_cmp);
            median(&sample)
        })
        .collect();
    medians.sort_by(f64::total_cmp);
    let at = |share: f64| medians.get((share * RESAMPLES as f64) as usize).copied().unwrap_or_default();
    [at(0.025), at(0.975)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_counts() {
        let of = |v: &[f64]| Summary::of(v).map(|s| s.median);
        assert_eq!(of(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(of(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn an_interval_needs_five_runs_and_holds_the_median() {
        assert_eq!(Summary::of(&[1.0, 2.0, 3.0, 4.0]).unwrap().ci95, None);
        let summary = Summary::of(&[9.0, 10.0, 11.0, 10.5, 9.5]).unwrap();
        let [low, high] = summary.ci95.unwrap();
        assert!(low <= summary.median && summary.median <= high && low >= 9.0 && high <= 11.0);
        assert!(low < high);
    }

    #[test]
    fn percentiles_take_the_nearest_rank() {
        let values: Vec<f64> = (1..=10).map(f64::from).collect();
        assert_eq!(percentile(&values, 50.0), Some(5.0));
        assert_eq!(percentile(&values, 99.0), Some(10.0));
        assert_eq!(percentile(&values, 0.0), Some(1.0));
        assert_eq!(percentile(&[], 50.0), None);
    }
}
