//! The start of a node: its incarnation, its random seed, and its stored votes.

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

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The wall clock shows a time before 1970 or far in the future. The incarnation is made from it.
    #[error("the wall clock is wrong ({0}); set it: each start needs a larger incarnation than the last one")]
    WallClock(String),
    /// The system provides no randomness.
    #[error("the system provides no randomness: {0}")]
    Randomness(io::Error),
    /// The node cannot run where it was started.
    #[error("{0}")]
    Runtime(&'static str),
    /// The stored state does not fit this node, or nothing can be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Prepares the start of a node. With a `state_dir` it loads the stored state of the last run, waits until the new
/// incarnation is durable, and returns the store for each `Persist`. Without one there is no store. It waits for the disk.
///
/// # Errors
/// [`StartError`]. The stored state of the last run is unchanged then.
pub fn begin(config: &Config) -> Result<(Start, Option<Store>), StartError> {
    let (start, keeper) = begin_on(Disk::default(), config)?;
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
