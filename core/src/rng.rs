//! A small seeded generator for jitter and nonces. It decides no election and guards no secret.

/// xoshiro256++ (Blackman and Vigna, 2019), seeded through SplitMix64 so that any seed is a good one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Rng([u64; 4]);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        let mut state = seed;
        Self(core::array::from_fn(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }))
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number in `0..=max`; the bias of the multiplication is below `max / 2^64`.
    pub(crate) fn up_to(&mut self, max: u64) -> u64 {
        ((u128::from(self.next_u64()) * (u128::from(max) + 1)) >> 64) as u64
    }

    pub(crate) fn bytes(&mut self) -> [u8; 16] {
        let mut out = [0; 16];
        for half in out.chunks_exact_mut(8) {
            half.copy_from_slice(&self.next_u64().to_le_bytes());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_in_range_and_reach_both_ends() {
        let mut rng = Rng::new(0);
        let drawn: alloc::vec::Vec<u64> = (0..200).map(|_| rng.up_to(3)).collect();
        for wanted in 0..=3 {
            assert!(drawn.contains(&wanted), "{wanted} never drawn");
        }
        assert!(drawn.iter().all(|n| *n <= 3));
    }

    #[test]
    fn different_seeds_differ_and_equal_seeds_agree() {
        assert_eq!(Rng::new(7).bytes(), Rng::new(7).bytes());
        assert_ne!(Rng::new(7).bytes(), Rng::new(8).bytes());
    }
}
