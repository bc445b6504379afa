//! A network of real nodes in virtual time.
//!
//! A [`Net`] runs the real [`Formation`](formation_core::Formation) of each node, with simulated connections, disks and
//! clocks. A run depends on the seed only.

mod clock;
mod fault;
mod host;
mod net;
mod rng;
mod seeds;
mod settings;
mod shrink;
mod watch;
mod wire;

pub use clock::Clock;
pub use fault::Fault;
pub use host::{Crash, Host, NodeIx, RunId, Stream};
pub use net::{Cut, Net, Target, World};
pub use rng::Rng;
pub use seeds::{number, seeds};
pub use settings::Settings;
pub use shrink::smallest;
pub use watch::Watch;
pub use wire::WireId;
