//! Formation on smol: the nodes of a service find each other over TCP, elect exactly one master and share one
//! member list.
//!
//! This crate knows sockets, tasks and timers, and nothing of the protocol: that is
//! [`formation_core`], whose [`Config`] says who the node is and whom to look for.
//!
//! ```
//! use formation_smol::{Cluster, Config};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! smol::block_on(async {
//!     let listener = smol::net::TcpListener::bind("127.0.0.1:0").await?;
//!     let address = listener.local_addr()?.to_string();
//!     // With others: `Config::builder(cluster, id, address).seeds(["10.0.0.1:7000", ...])`, the same seeds on each.
//!     let config = Config::single("greeters", "node-1", address).build()?;
//!     let cluster = Cluster::start(config, listener)?;
//!
//!     let master = cluster.wait_for_master().await?;
//!     assert_eq!(&master.node, cluster.node());
//!     if let Some(leadership) = cluster.leadership() {
//!         println!("this node may act as the master of term {}", leadership.term);
//!     }
//!     cluster.leave().await?;
//!     Ok(())
//! })
//! # }
//! ```
//!
//! - `cluster`: a running node.
//! - `tcp`, and `tls` on any other transport: what carries the bytes.
//! - `runtime`: smol's tasks, timers and threads that may be blocked, for the driver.
//!
//! The driver, the handle and the storage are those of [`formation_host`].
#![forbid(unsafe_code)]

mod cluster;
mod runtime;
mod tcp;
#[cfg(feature = "tls")]
mod tls;

pub use cluster::Cluster;
#[doc(no_inline)]
pub use formation_core::message::Holder;
#[doc(no_inline)]
pub use formation_core::{
    Address, Bootstrap, Change, CloseReason, ClusterKey, ClusterName, Config, ConfigBuilder, ConfigError, Detector,
    Event, IdError, Incarnation, Leadership, Limits, LossReason, Member, MemberState, MembersView, Misuse, Node,
    NodeId, Phase, PhiAccrual, RejectReason, RemovalReason, Status, StopReason, Term, Timestamp, Timing, TlsFailure,
    TlsProblem, ViewId,
};
#[doc(no_inline)]
#[cfg(feature = "tls")]
pub use formation_host::tls::{Credentials, Part, TlsConfig, TlsError};
#[doc(inline)]
pub use formation_host::{
    ClusterHandle, CommandError, EVENT_BUFFER, Events, Master, Opening, Skipped, StartError, Stopped, StoreError,
    Transport, Watch,
};
pub use tcp::Tcp;
#[cfg(feature = "tls")]
pub use tls::Tls;
