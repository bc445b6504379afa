//! What a node starts with.

use std::{
    io,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use formation_core::{Config, Incarnation, Start};

use crate::{
    slot::{Disk, Files},
    store::{Keeper, Store, StoreError},
};

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The wall clock stands before 1970, or too far beyond it; the incarnation is made of it.
    #[error("the wall clock cannot be right ({0}); set it, so that each start gets a larger incarnation than the last")]
    WallClock(String),
    /// The system has no randomness.
    #[error("the system gives no randomness: {0}")]
    Randomness(io::Error),
    /// What the last run has kept is no start for this one, or nothing can be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Prepares the start of a node: with a `state_dir`, from what its last run has kept there, and only once the new
/// incarnation is durable. The store is there for each `Persist`; there is none without a `state_dir`. It waits for the disk.
///
/// # Errors
/// [`StartError`] says why not. Nothing that the last run has kept is changed then.
pub fn begin(config: &Config) -> Result<(Start, Option<Store>), StartError> {
    let (start, keeper) = begin_on(Disk, config)?;
    Ok((start, keeper.map(Store)))
}

fn begin_on<F: Files>(files: F, config: &Config) -> Result<(Start, Option<Keeper<F>>), StartError> {
    let wall_clock = |problem: &dyn std::fmt::Display| StartError::WallClock(problem.to_string());
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| wall_clock(&error))?;
    let incarnation = u64::try_from(since_1970.as_micros()).map(Incarnation).map_err(|error| wall_clock(&error))?;
    let rng_seed = getrandom::u64().map_err(|error| StartError::Randomness(error.into()))?;
    match config.state_dir() {
        None => Ok((Start::new(incarnation, rng_seed), None)),
        Some(dir) => {
            let (keeper, start) = Keeper::open(files, Path::new(dir), config, incarnation, rng_seed)?;
            Ok((start, Some(keeper)))
        }
    }
}

#[cfg(test)]
mod tests;
