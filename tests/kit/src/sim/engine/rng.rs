//! The simulator's own random numbers. With a generator of our own, no update of a crate changes what a seed means.

use std::{ops::RangeInclusive, time::Duration};

/// SplitMix64 (Steele, Lea and Flood, 2014).
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator. Equal seeds draw equal numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Another generator for each number.
    pub fn numbered(seed: u64, number: u64) -> Self {
        let first = Self(seed).draw();
        Self(first ^ number.wrapping_mul(0xd134_2543_de82_ef95))
    }

    /// A random number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which must not be zero.
    pub fn below(&mut self, limit: usize) -> usize {
        ((u128::from(self.draw()) * limit as u128) >> 64) as usize
    }

    /// A duration from `range`, both ends included.
    pub fn within(&mut self, range: (Duration, Duration)) -> Duration {
        let (from, to) = (range.0.as_micros() as usize, range.1.as_micros() as usize);
        Duration::from_micros((from + self.below(to.saturating_sub(from) + 1)) as u64)
    }

    /// The same. An empty range is its start.
    pub fn in_range(&mut self, range: &RangeInclusive<Duration>) -> Duration {
        self.within((*range.start(), *range.end()))
    }

    /// True with a probability of 1 in `n`.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// Puts the items into a random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }

    /// `len` random bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.draw() as u8).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_stay_in_their_range() {
        let range = Duration::from_micros(3)..=Duration::from_micros(5);
        let mut rng = Rng::numbered(1, 2);
        let times: Vec<_> = (0..100).map(|_| rng.in_range(&range)).collect();
        assert!(times.iter().all(|time| range.contains(time)));
        assert!(times.contains(range.start()) && times.contains(range.end()));
        assert_eq!(rng.in_range(&(*range.end()..=*range.start())), *range.end(), "an empty range is its start");
    }

    #[test]
    fn a_shuffle_keeps_every_element_and_repeats() {
        let shuffled = |seed| {
            let mut list: Vec<_> = (0..10).collect();
            Rng::numbered(seed, 0).shuffle(&mut list);
            list
        };
        assert_eq!(shuffled(1), shuffled(1));
        assert_ne!(shuffled(1), shuffled(2));
        let mut sorted = shuffled(1);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..10).collect::<Vec<_>>());
    }
}
