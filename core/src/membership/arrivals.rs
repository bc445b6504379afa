//! The φ accrual failure detector, by Hayashibara, Défago, Yared and Katayama (SRDS 2004), with normally distributed
//! intervals. It learns how regularly the acknowledgements of a member arrive (PROTOCOL.md, V5).
//!
//! φ is −log₁₀ of the probability that the next acknowledgement arrives even later. φ reaches a threshold at a moment that
//! is known as soon as the last acknowledgement has arrived: mean + z·σ after it. Here z is the quantile of the normal
//! distribution for that probability. The detector therefore returns a deadline, and needs no floating point.

use alloc::collections::VecDeque;
use core::time::Duration;

use crate::{api::config::PhiAccrual, time::Timestamp};

/// The quantiles in thousandths, for φ = 1, 2, …
const QUANTILES: [u128; 12] = [1282, 2326, 3090, 3719, 4265, 4753, 5199, 5612, 5998, 6361, 6706, 7034];

/// Fewer intervals say nothing about the next one.
const ENOUGH: usize = 8;

/// The intervals between the last acknowledgements of a member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Arrivals {
    /// When the last acknowledgement arrived.
    last: Option<Timestamp>,
    /// In microseconds, oldest first.
    intervals: VecDeque<u32>,
    /// The sum of the intervals.
    sum: u128,
    /// The sum of their squares.
    squares: u128,
}

impl Arrivals {
    /// An acknowledgement has arrived. The last `window` intervals are kept.
    pub(crate) fn arrived(&mut self, now: Timestamp, window: usize) {
        let Some(last) = self.last.replace(now) else { return };
        let interval = u32::try_from(now.since(last).as_micros()).unwrap_or(u32::MAX);
        if self.intervals.len() >= window
            && let Some(oldest) = self.intervals.pop_front()
        {
            self.sum -= u128::from(oldest);
            self.squares -= u128::from(oldest).pow(2);
        }
        self.intervals.push_back(interval);
        self.sum += u128::from(interval);
        self.squares += u128::from(interval).pow(2);
    }

    /// This node has paused. The interval until the next acknowledgement says nothing about the member, and is not counted.
    pub(crate) fn interrupted(&mut self) {
        self.last = None;
    }

    /// How long after the last acknowledgement a member becomes suspect; `None` while too few intervals are known.
    pub(crate) fn allowance(&self, settings: &PhiAccrual) -> Option<Duration> {
        let count = self.intervals.len() as u128;
        if self.intervals.len() < ENOUGH.min(settings.window) {
            return None;
        }
        let mean = self.sum / count;
        // In this form, nothing is rounded before the subtraction.
        let variance = (self.squares * count - self.sum.pow(2)) / count.pow(2);
        let deviation = variance.isqrt().max(settings.min_deviation.as_micros());
        let quantile = QUANTILES[usize::from(settings.threshold).clamp(1, QUANTILES.len()) - 1];
        let micros = mean + deviation * quantile / 1000;
        Some(Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(threshold: u8) -> PhiAccrual {
        PhiAccrual { threshold, window: 10, min_deviation: Duration::from_millis(1) }
    }

    fn arrivals(intervals: impl IntoIterator<Item = u64>) -> Arrivals {
        let mut arrivals = Arrivals::default();
        let mut now = Timestamp::from_micros(5_000_000);
        arrivals.arrived(now, 10);
        for millis in intervals {
            now = now + Duration::from_millis(millis);
            arrivals.arrived(now, 10);
        }
        arrivals
    }

    #[test]
    fn v5_the_allowance_is_the_mean_plus_a_quantile_of_deviations() {
        // The mean is 200 ms, the deviation 10 ms.
        let arrivals = arrivals([190, 210, 190, 210, 190, 210, 190, 210, 190, 210]);
        assert_eq!(arrivals.allowance(&settings(1)), Some(Duration::from_micros(212_820)));
        assert_eq!(arrivals.allowance(&settings(8)), Some(Duration::from_micros(256_120)));
        assert_eq!(arrivals.allowance(&settings(12)), Some(Duration::from_micros(270_340)));
    }

    #[test]
    fn v5_a_regular_member_gets_at_least_the_smallest_deviation() {
        assert_eq!(arrivals([100; 10]).allowance(&settings(8)), Some(Duration::from_micros(105_612)));
    }

    #[test]
    fn v5_too_few_intervals_give_no_allowance() {
        assert_eq!(arrivals([100; 7]).allowance(&settings(8)), None);
        assert!(arrivals([100; 8]).allowance(&settings(8)).is_some());
        let few = PhiAccrual { window: 2, ..settings(8) };
        assert!(arrivals([100; 2]).allowance(&few).is_some());
    }

    #[test]
    fn v5_intervals_before_the_window_do_not_count() {
        let old_and_new = arrivals([3_000, 500].into_iter().chain([100; 10]));
        let new = arrivals([100; 10]);
        assert_eq!(old_and_new.allowance(&settings(8)), new.allowance(&settings(8)));
        assert_eq!(old_and_new.intervals.len(), 10);
    }

    #[test]
    fn v5_a_pause_of_this_node_does_not_count() {
        let mut interrupted = arrivals([100; 10]);
        interrupted.interrupted();
        interrupted.arrived(Timestamp::from_micros(60_000_000), 10);
        assert_eq!(interrupted.allowance(&settings(8)), arrivals([100; 10]).allowance(&settings(8)));
    }

    #[test]
    fn v5_the_longest_possible_intervals_do_not_overflow() {
        let mut arrivals = Arrivals::default();
        for at in [0, u64::MAX / 2, u64::MAX] {
            arrivals.arrived(Timestamp::from_micros(at), 2);
        }
        let widest = PhiAccrual { threshold: 255, window: 2, min_deviation: Duration::MAX };
        assert_eq!(arrivals.allowance(&widest), Some(Duration::from_micros(u64::MAX)));
    }
}
