//! Tests of services that are written on Formation: a whole cluster of your service in one process, on a network in memory, and the
//! faults that it has to stand.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod cluster;
mod dice;
mod journal;
mod network;
mod node;
mod runtime;
#[cfg(feature = "smol")]
pub mod smol;
#[cfg(feature = "tokio")]
pub mod tokio;
mod transport;
mod wires;
mod world;

pub use cluster::Cluster;
pub use journal::Step;
pub use network::Network;
pub use node::TestNode;
pub use runtime::Runtime;
pub use wires::{Listener, Stream};
