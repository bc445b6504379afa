//! Where the choices of a hostile peer come from.

use crate::Rng;

/// A source of choices: random numbers, or the input of a fuzzer.
#[derive(Clone, Debug)]
pub enum Dice {
    /// The choices of a seed. They never end.
    Seed(Rng),
    /// The choices of these bytes, the first one last. After the end, each choice is the first option.
    Bytes(Vec<u8>),
}

impl Dice {
    /// The choices of a seed.
    pub fn of_seed(seed: u64) -> Self {
        Self::Seed(Rng::new(seed))
    }

    /// The choices of the bytes of a fuzzer.
    pub fn of_bytes(data: &[u8]) -> Self {
        Self::Bytes(data.iter().rev().copied().collect())
    }

    /// Whether all choices have been made.
    pub fn is_used_up(&self) -> bool {
        matches!(self, Self::Bytes(left) if left.is_empty())
    }

    /// A number below `limit`, which must not be zero. One byte of a fuzzer's input is enough for a limit of 256.
    pub fn below(&mut self, limit: usize) -> usize {
        match self {
            Self::Seed(rng) => rng.below(limit),
            Self::Bytes(left) => {
                let mut number = 0;
                let mut span = 1;
                while span < limit {
                    number = number << 8 | usize::from(left.pop().unwrap_or(0));
                    span <<= 8;
                }
                number % limit
            }
        }
    }

    /// Any number.
    pub fn draw(&mut self) -> u64 {
        match self {
            Self::Seed(rng) => rng.draw(),
            Self::Bytes(left) => (0..8).fold(0, |number, _| number << 8 | u64::from(left.pop().unwrap_or(0))),
        }
    }

    /// True with a probability of 1 in `n`. A fuzzer's input that has ended says false.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == n - 1
    }

    /// One of the items.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        if items.is_empty() { None } else { items.get(self.below(items.len())) }
    }

    /// `len` bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.below(256) as u8).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_choose_in_order_and_end_with_the_first_option() {
        let mut dice = Dice::of_bytes(&[7, 1, 2, 255]);
        assert_eq!(dice.below(1), 0);
        assert_eq!(dice.below(5), 2);
        assert_eq!(dice.below(1_000), 258);
        assert!(!dice.is_used_up());
        assert!(dice.one_in(4), "255 is the last of four options");
        assert!(dice.is_used_up());
        assert_eq!((dice.below(9), dice.draw(), dice.one_in(3)), (0, 0, false));
        assert_eq!(dice.pick(&[4, 5]), Some(&4));
    }
}
