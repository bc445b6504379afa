//! The seeds that a test runs.

use formation_testing::sim::engine;

/// The seeds of a test that runs `per_thousand` seeds per thousand of `FORMATION_SIM_SEEDS`, or only the seed in
/// `FORMATION_SIM_SEED`.
pub fn seeds(per_thousand: u64) -> std::ops::Range<u64> {
    engine::seeds(|seeds| (seeds.unwrap_or(250) * per_thousand).div_ceil(1_000).max(1))
}

/// Runs a test's body for each of its [`seeds`].
pub fn for_each_seed(per_thousand: u64, mut body: impl FnMut(u64)) {
    for seed in seeds(per_thousand) {
        body(seed);
    }
}
