//! Cluster formation on smol: the nodes of a service find each other, elect one master and agree on who is a member.
//!
//! Everything that is a rule lives in [`formation_core`]; this crate gives it sockets and a clock.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use async_signal::{Signal, Signals};
//! use formation_smol::{Cluster, Config, StopReason};
//! use smol::stream::StreamExt;
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! // The seed list is the same on every node. The id, the address and the directory belong to this node only.
//! let config = Config::builder("orders", "node-a", "10.0.0.1:7000")
//!     .seeds(["10.0.0.1:7000", "10.0.0.2:7000", "10.0.0.3:7000"])
//!     .state_dir("/var/lib/orders/formation")
//!     .build()?;
//! let listener = smol::net::TcpListener::bind("0.0.0.0:7000").await?;
//! let cluster = Cluster::start(config, listener)?;
//!
//! let master = cluster.wait_for_master().await?;
//! println!("{} is the master of term {}", master.node, master.term);
//!
//! // Only the master does this. It ends a margin before another node can be the master, and begins again when this
//! // node is the master again.
//! let work = cluster.run_while_master(async |lease| {
//!     loop {
//!         // Send the term along with each write: it is a fencing token.
//!         println!("work of the master, in term {}", lease.term());
//!         smol::Timer::after(Duration::from_secs(1)).await;
//!     }
//! });
//! let mut pressed = Signals::new([Signal::Int])?;
//! let leave = async {
//!     pressed.next().await;
//!     // First the work ends, then the mastership.
//!     cluster.leave().await
//! };
//! // The work has ended by itself, or the node has stopped. A master without work must not stay the master.
//! let without_work = async {
//!     drop(work.await);
//!     cluster.leave().await
//! };
//! smol::future::or(without_work, leave).await.ok();
//! match cluster.stopped().await {
//!     StopReason::Left => Ok(()),
//!     reason => Err(reason.into()),
//! }
//! # }
//! ```
//!
//! # Where to go on
//!
//! - [Services to copy from](formation_core::guide::recipes): a web service with `axum`, cron, sharding, and a database that refuses late
//!   writes.
//! - [What is promised](formation_core::guide::promises), and what is not.
//! - [How to find the other nodes](formation_core::guide::discovery): seeds, DNS, SRV records, Kubernetes, a file.
//! - [How to operate a cluster](formation_core::guide::operating), and [why there is no master](formation_core::guide::no_master).
//! - [How to test a service](formation_core::guide::testing) that depends on being the master.
//! - [`ClusterHandle`] has all methods of a running node, and a table of the ways to act as the master.
//!
//! The examples on the pages of shared items name `formation_host` and `formation_core`. Write `formation_smol` in their place.
//!
//! # Features
//!
//! - `recorder`: `Environment::record`, which records what a node is given. `formation-host` has the other half, which repeats such a run.
//!   Off by default.
//! - `tls`: the transport `Tls`, by rustls with ring. It needs a C compiler. Off by default.
//! - `dns-srv`: discovery by SRV records, with a [`Source`]. Off by default.
//!
//! # The log
//!
//! A node logs with [`tracing`](https://docs.rs/tracing), and prints nothing by itself: install a subscriber, for example
//! `tracing_subscriber::fmt::init()`. Log lines about what [`events`](ClusterHandle::events) also reports have the target
//! `formation::event`. All others have `formation`. All tasks of a node run in the span `formation`, which has the field `node` and ends with
//! the node. Each line has that field, too, and each line about an event the field `term`. Further fields are those of the event, by their
//! names: `peer`, `address`, `peer_addr`, `master`, `conn`, `view_id`, `reason` and others. The recipe `telemetry` sends all of that to
//! OpenTelemetry.
//!
//! # Map of the source
//!
//! - `cluster`: a running node.
//! - `stream`: a stream between the services of members.
//! - `tcp`, and `tls` on any other transport: what carries the bytes.
//! - `runtime`: smol's tasks, timers and threads that may be blocked, for the driver.
//!
//! The driver, the handle and the storage are those of [`formation_host`].
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod cluster;
mod runtime;
mod stream;
mod tcp;
#[cfg(feature = "tls")]
mod tls;

pub use cluster::Cluster;
#[doc(no_inline)]
pub use formation_core::message::{Holder, ProtocolRange, Role};
#[doc(no_inline)]
pub use formation_core::{
    Address, Autopilot, AutopilotReport, Bootstrap, Bytes, Change, CloseReason, ClusterKey, ClusterName, Config,
    ConfigBuilder, ConfigError, ConnId, Counters, Detector, DialId, DialProblem, DurableState, Electorate,
    ElectorateDigest, ElectorateVersion, Event, Explanation, Fence, HardState, IdError, Incarnation, Leadership,
    Limits, LossReason, Member, MemberReport, MemberState, Members, MembersView, MetadataError, Misuse, NoMaster,
    NoMasterReason, Node, NodeId, Phase, PhiAccrual, Problem, RejectReason, RemovalReason, ResumeError, Severity,
    StaleToken, Start, StateDir, Status, StopReason, Storage, StreamFailure, StreamId, StreamName, Tags, Term,
    Timestamp, Timing, TlsFailure, TlsProblem, ViewDigest, ViewId, ViewLimit, VoterReport, Waiting,
};
#[cfg(feature = "dns-srv")]
#[doc(inline)]
pub use formation_host::NameServers;
#[cfg(feature = "recorder")]
#[doc(inline)]
pub use formation_host::Recorder;
#[doc(no_inline)]
#[cfg(feature = "tls")]
pub use formation_host::tls::{Credentials, Part, TlsConfig, TlsError, rustls};
#[doc(inline)]
pub use formation_host::{
    ClusterHandle, CommandError, Discovery, EVENT_BUFFER, Environment, Events, Guard, Handoff, Histogram, Incoming,
    IncomingError, LeadershipChange, LeadershipWatch, Lease, LeaseTooShort, LeaveError, MAX_SOURCES, METRICS, Master,
    MemoryStore, Metric, MetricKind, MetricValue, OpenError, Opening, PastEvent, RecvError, Runtime, Sample, Snapshot,
    Source, SourceError, SourceReport, StartError, Stopped, Store, StoreError, StreamEnd, StreamPeer, Streams,
    Transport, Unfinished, VotersError, Watch, describe,
};
pub use runtime::Smol;
pub use stream::PeerStream;
pub use tcp::Tcp;
#[cfg(feature = "tls")]
pub use tls::Tls;
