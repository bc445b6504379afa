//! Randomness that a seed repeats.

use std::{ops::RangeInclusive, time::Duration};

/// SplitMix64, by G. Steele and others: small, and good enough to shuffle.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// Other dice for each number.
    pub(crate) fn new(seed: u64, number: u64) -> Self {
        let mut dice = Self(seed);
        let first = dice.roll();
        Self(first ^ number.wrapping_mul(0xd134_2543_de82_ef95))
    }

    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which is not zero.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.roll() % limit as u64) as usize
    }

    /// A time in a range, in whole microseconds.
    pub(crate) fn time(&mut self, range: &RangeInclusive<Duration>) -> Duration {
        let (least, most) = (range.start().as_micros() as u64, range.end().as_micros() as u64);
        let width = most.saturating_sub(least).saturating_add(1);
        Duration::from_micros(least + self.roll() % width)
    }

    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            list.swap(at, self.below(at + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_stay_in_their_range() {
        let range = Duration::from_micros(3)..=Duration::from_micros(5);
        let mut dice = Dice::new(1, 2);
        let times: Vec<_> = (0..100).map(|_| dice.time(&range)).collect();
        assert!(times.iter().all(|time| range.contains(time)));
        assert!(times.contains(range.start()) && times.contains(range.end()));
        assert_eq!(dice.time(&(*range.end()..=*range.start())), *range.end(), "an empty range is its start");
    }

    #[test]
    fn a_shuffle_keeps_every_element_and_repeats() {
        let shuffled = |seed| {
            let mut list: Vec<_> = (0..10).collect();
            Dice::new(seed, 0).shuffle(&mut list);
            list
        };
        assert_eq!(shuffled(1), shuffled(1));
        assert_ne!(shuffled(1), shuffled(2));
        let mut sorted = shuffled(1);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..10).collect::<Vec<_>>());
    }
}
