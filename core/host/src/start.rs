//! The start of a node: its incarnation, its random seed, and its stored votes.

use std::io;

use formation_core::{Config, Start};

use crate::{
    environment::Environment,
    store::{Store, StoreError},
};

/// Why a node cannot start.
///
/// ```
/// use formation_host::{StartError, StoreError};
///
/// fn advice(error: &StartError) -> &'static str {
///     match error {
///         StartError::Store(StoreError::Locked { .. }) => "another process of this node still runs: wait for it",
///         StartError::WallClock(_) => "wait until the clock is set",
///         _ => "a person has to look at it",
///     }
/// }
/// ```
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
    Environment::system().begin(config)
}

#[cfg(test)]
mod tests;
