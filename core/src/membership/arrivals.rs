//! A failure detector that learns how regularly a member's words come: φ accrual, by Hayashibara, Défago, Yared and
//! Katayama (SRDS 2004), with intervals that are normally distributed.
//!
//! φ is −log₁₀ of the chance that the next word comes later than now. It reaches a given threshold at a moment that is
//! known when the last word comes: mean + z·σ later, z being the normal distribution's quantile for that chance. So here, as
//! everywhere, a deadline is kept, and nothing needs floating point.

use alloc::collections::VecDeque;
use core::time::Duration;

use crate::{api::config::PhiAccrual, time::Timestamp};

/// The quantiles in thousandths, for φ = 1, 2, …
const QUANTILES: [u128; 12] = [1282, 2326, 3090, 3719, 4265, 4753, 5199, 5612, 5998, 6361, 6706, 7034];

/// Before so many intervals are known they say nothing of the next.
const ENOUGH: usize = 8;

/// When a member's words have come, of late.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Arrivals {
    last: Option<Timestamp>,
    /// In microseconds, oldest first.
    intervals: VecDeque<u32>,
    sum: u128,
    squares: u128,
}

impl Arrivals {
    /// A word has come.
    pub(crate) fn heard(&mut self, now: Timestamp, window: usize) {
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

    /// What comes next says nothing of the time since the last word: this node did not listen.
    pub(crate) fn interrupted(&mut self) {
        self.last = None;
    }

    /// How long after its last word a member is suspected; nothing while too little is known.
    pub(crate) fn allowance(&self, settings: &PhiAccrual) -> Option<Duration> {
        let count = self.intervals.len() as u128;
        if self.intervals.len() < ENOUGH.min(settings.window) {
            return None;
        }
        let mean = self.sum / count;
        // In this form neither term is rounded before they are subtracted.
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
        arrivals.heard(now, 10);
        for millis in intervals {
            now = now + Duration::from_millis(millis);
            arrivals.heard(now, 10);
        }
        arrivals
    }

    #[test]
    fn a_member_is_suspected_a_quantile_of_deviations_after_its_usual_interval() {
        // Mean 200 ms, deviation 10 ms.
        let arrivals = arrivals([190, 210, 190, 210, 190, 210, 190, 210, 190, 210]);
        assert_eq!(arrivals.allowance(&settings(1)), Some(Duration::from_micros(212_820)));
        assert_eq!(arrivals.allowance(&settings(8)), Some(Duration::from_micros(256_120)));
        assert_eq!(arrivals.allowance(&settings(12)), Some(Duration::from_micros(270_340)));
    }

    #[test]
    fn a_perfectly_regular_member_still_gets_the_least_deviation() {
        assert_eq!(arrivals([100; 10]).allowance(&settings(8)), Some(Duration::from_micros(105_612)));
    }

    #[test]
    fn nothing_is_concluded_from_a_few_words() {
        assert_eq!(arrivals([100; 7]).allowance(&settings(8)), None);
        assert!(arrivals([100; 8]).allowance(&settings(8)).is_some());
        let few = PhiAccrual { window: 2, ..settings(8) };
        assert!(arrivals([100; 2]).allowance(&few).is_some());
    }

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let old_and_new = arrivals([3_000, 500].into_iter().chain([100; 10]));
        let new = arrivals([100; 10]);
        assert_eq!(old_and_new.allowance(&settings(8)), new.allowance(&settings(8)));
        assert_eq!(old_and_new.intervals.len(), 10);
    }

    #[test]
    fn a_pause_of_this_node_is_no_interval_of_the_member() {
        let mut interrupted = arrivals([100; 10]);
        interrupted.interrupted();
        interrupted.heard(Timestamp::from_micros(60_000_000), 10);
        assert_eq!(interrupted.allowance(&settings(8)), arrivals([100; 10]).allowance(&settings(8)));
    }

    #[test]
    fn the_longest_intervals_there_can_be_overflow_nothing() {
        let mut arrivals = Arrivals::default();
        for at in [0, u64::MAX / 2, u64::MAX] {
            arrivals.heard(Timestamp::from_micros(at), 2);
        }
        let widest = PhiAccrual { threshold: 255, window: 2, min_deviation: Duration::MAX };
        assert_eq!(arrivals.allowance(&widest), Some(Duration::from_micros(u64::MAX)));
    }
}
