//! The seeds that a test runs.

use std::{env, ops::Range};

/// The number in an environment variable, if it is set.
///
/// # Panics
/// If the text there is not a number.
pub fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Only the seed in `FORMATION_SIM_SEED`, or the seeds below `count`. `count` gets the number in `FORMATION_SIM_SEEDS`, if it is set.
pub fn seeds(count: impl FnOnce(Option<u64>) -> u64) -> Range<u64> {
    match number("FORMATION_SIM_SEED") {
        Some(seed) => seed..seed.saturating_add(1),
        None => 0..count(number("FORMATION_SIM_SEEDS")),
    }
}
