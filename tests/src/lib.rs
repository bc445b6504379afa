//! A simulated network in virtual time that runs the real [`Formation`](formation_core::Formation), and the helpers
//! that tests need.
//!
//! A simulated run depends on its seed only. A failing check prints the seed, the command that replays it, and the
//! latest inputs and outputs. Environment variables select what runs:
//!
//! - `FORMATION_SIM_SEEDS=n`: how many seeds the default run explores (250 by default; each test takes its share).
//! - `FORMATION_SIM_SEED=n`: only this seed.
//! - `FORMATION_SIM_NODES=n`: the number of voters.

#![forbid(unsafe_code)]

mod changes;
mod checks;
mod digest;
mod electorates;
mod fault;
pub mod fuzzing;
mod hostile;
mod keys;
mod monitor;
mod net;
mod peer;
#[cfg(unix)]
mod program;
mod replay;
mod rig;
mod scenario;
mod seeds;
mod settings;
pub mod shim;
#[cfg(unix)]
mod signal;
mod tally;
mod trace;

pub use digest::digest;
pub use fault::Fault;
pub use formation_testing::sim::engine::{
    Clock, Crash, Cut, Host, NodeIx, Rng, Settings as NetSettings, Target, WireId, number,
};
pub use hostile::{Attack, Dice, Hostile, Place};
pub use keys::{Intrusion, key, keys};
pub use monitor::Monitor;
pub use net::Net;
pub use peer::{Peer, messages};
#[cfg(unix)]
pub use program::Program;
pub use replay::{Recut, Run, difference, replay};
pub use rig::Rig;
pub use scenario::{Failure, Scenario};
pub use seeds::{for_each_seed, seeds};
pub use settings::Settings;
#[cfg(unix)]
pub use signal::send_signal;
pub use tally::Tally;
