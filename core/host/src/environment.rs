//! The system that a node runs on.

use std::{
    fmt::Display,
    time::{SystemTime, UNIX_EPOCH},
};

use formation_core::{Config, Incarnation, Start, Timestamp};

#[cfg(feature = "recorder")]
use crate::recorder::Recorder;
use crate::{
    clock::Clock,
    slot::Disk,
    start::StartError,
    store::{Keeper, MemoryStore, Store},
};

/// The system that a node runs on: the source of its clock, its incarnation, its random seed and its storage. The default is the
/// operating system.
///
/// A test replaces them, so that a whole service runs in virtual time and does the same in each run. Replace the clock and the
/// timers together: the timers are those of the runtime.
///
/// ```
/// use formation_core::{Config, Incarnation};
/// use formation_host::{Environment, MemoryStore};
///
/// // A disk that a test keeps from one run of the node to the next.
/// let disk = MemoryStore::new();
/// let config = Config::single("test", "node-a", "127.0.0.1:7000").build()?;
/// for run in 1..=2 {
///     let environment = Environment::system().incarnation(Incarnation(run)).rng_seed(run).store(disk.clone());
///     let (start, _store) = environment.begin(&config)?;
///     assert_eq!(start.incarnation, Incarnation(run));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Environment {
    clock: Clock,
    incarnation: Option<Incarnation>,
    rng_seed: Option<u64>,
    store: Option<MemoryStore>,
    #[cfg(feature = "recorder")]
    recorder: Option<Recorder>,
}

impl Environment {
    /// Everything from the operating system.
    pub fn system() -> Self {
        Self::default()
    }

    /// Another clock. It must never go back, and it has to go on while the node waits for its timers.
    pub fn clock(self, now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self { clock: Clock::of(now), ..self }
    }

    /// The number of this run, in place of the wall clock. It has to be larger than that of any run before.
    pub fn incarnation(self, incarnation: Incarnation) -> Self {
        Self { incarnation: Some(incarnation), ..self }
    }

    /// The seed of all randomness of the node, in place of the system's randomness. It has to be different on each node and at each
    /// start, because nonces come from it.
    pub fn rng_seed(self, seed: u64) -> Self {
        Self { rng_seed: Some(seed), ..self }
    }

    /// Keeps the durable state here, in place of the [`state_dir`](formation_core::ConfigBuilder::state_dir).
    pub fn store(self, store: MemoryStore) -> Self {
        Self { store: Some(store), ..self }
    }

    /// Records what the node is given, so that its run can be replayed. The default is not to record.
    #[cfg(feature = "recorder")]
    pub fn record(self, recorder: Recorder) -> Self {
        Self { recorder: Some(recorder), ..self }
    }

    #[cfg(feature = "recorder")]
    pub(crate) fn recorder(&self) -> Option<&Recorder> {
        self.recorder.as_ref()
    }

    pub(crate) fn node_clock(&self) -> Clock {
        self.clock.clone()
    }

    /// Prepares the start of a node. With a [`store`](Self::store) or a `state_dir` it loads the stored state of the last run, waits
    /// until the new incarnation is durable, and returns the store for each `Persist`. Without one there is no store. It waits for
    /// the disk.
    ///
    /// # Errors
    /// [`StartError`]. The stored state of the last run is unchanged then.
    pub fn begin(&self, config: &Config) -> Result<(Start, Option<Store>), StartError> {
        let incarnation = self.incarnation.map_or_else(by_wall_clock, Ok)?;
        let random = || getrandom::u64().map_err(|error| StartError::Randomness(error.into()));
        let rng_seed = self.rng_seed.map_or_else(random, Ok)?;
        match (&self.store, config.state_dir()) {
            (None, None) => Ok((Start::new(incarnation, rng_seed), None)),
            (Some(memory), _) => {
                let (store, start) = memory.open(config, incarnation, rng_seed)?;
                Ok((start, Some(store)))
            }
            (None, Some(dir)) => {
                let (keeper, start) = Keeper::open(Disk::default(), &dir.to_path_buf(), config, incarnation, rng_seed)?;
                Ok((start, Some(Store::on_disk(keeper))))
            }
        }
    }
}

pub(crate) fn by_wall_clock() -> Result<Incarnation, StartError> {
    let wall_clock = |problem: &dyn Display| StartError::WallClock(problem.to_string());
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| wall_clock(&error))?;
    u64::try_from(since_1970.as_micros()).map(Incarnation).map_err(|error| wall_clock(&error))
}
