//! A network in memory and in virtual time for the real [`Formation`](formation_core::Formation), and what tests need
//! around it.
//!
//! A simulated run depends on its seed alone. A failing check prints the seed, the command that replays it, and the last
//! things that happened. `FORMATION_SIM_SEEDS=n` sets how many seeds the default run explores (1,000 unless set; each test
//! takes its share), `FORMATION_SIM_SEED=n` runs that one only, `FORMATION_SIM_NODES=n` with so many voters.

#![forbid(unsafe_code)]

mod checks;
mod clock;
mod digest;
mod fault;
pub mod fuzzing;
mod host;
mod keys;
mod net;
mod peer;
mod replay;
mod rig;
mod rng;
mod scenario;
mod seeds;
mod settings;
mod tally;
mod trace;
mod wire;

pub use clock::Clock;
pub use digest::digest;
pub use fault::Fault;
pub use host::{Crash, Host, NodeIx};
pub use keys::{Intrusion, key, keys};
pub use net::{Cut, Net, Target};
pub use peer::{Peer, messages};
pub use replay::{Recut, Run, difference, replay};
pub use rig::Rig;
pub use rng::Rng;
pub use scenario::{Failure, Scenario};
pub use seeds::{for_each_seed, number, seeds};
pub use settings::Settings;
pub use tally::Tally;
pub use wire::WireId;
