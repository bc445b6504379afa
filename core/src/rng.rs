//! A small seeded random generator, for jitter and nonces. No secret and no rule of an election depends on it.

/// xoshiro256++ (Blackman and Vigna, 2019). SplitMix64 prepares the seed, so any seed is good.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
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

    /// A number in `0..=max`. The bias of the multiplication is below `max / 2^64`.
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

    /// The numbers come from the programs of the authors: SplitMix64 with the seed 1234567, and xoshiro256++ with the state
    /// 1, 2, 3, 4.
    #[test]
    fn both_generators_return_the_published_numbers() {
        let seeded = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
        ];
        assert_eq!(Rng::new(1_234_567), Rng(seeded));
        let mut rng = Rng([1, 2, 3, 4]);
        for expected in [
            41_943_041,
            58_720_359,
            3_588_806_011_781_223,
            3_591_011_842_654_386,
            9_228_616_714_210_784_205,
            9_973_669_472_204_895_162,
            14_011_001_112_246_962_877,
            12_406_186_145_184_390_807,
            15_849_039_046_786_891_736,
            10_450_023_813_501_588_000,
        ] {
            assert_eq!(rng.next_u64(), expected);
        }
    }

    #[test]
    fn numbers_stay_in_range_and_reach_both_ends() {
        let mut rng = Rng::new(0);
        let drawn: alloc::vec::Vec<u64> = (0..200).map(|_| rng.up_to(3)).collect();
        for wanted in 0..=3 {
            assert!(drawn.contains(&wanted), "{wanted} is never returned");
        }
        assert!(drawn.iter().all(|n| *n <= 3));
    }

    #[test]
    fn different_seeds_differ_and_equal_seeds_agree() {
        assert_eq!(Rng::new(7).bytes(), Rng::new(7).bytes());
        assert_ne!(Rng::new(7).bytes(), Rng::new(8).bytes());
    }
}
