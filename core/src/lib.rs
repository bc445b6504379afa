//! Brings the nodes of a service together, as a pure state machine: byte chunks and ticks in, bytes and effects out.
//!
//! From a list of seed addresses, nodes find each other, elect exactly one master, agree on one member list, and notice which
//! members have failed. This crate does no IO and reads no clock. `formation-tokio` and `formation-smol` bind it to a runtime, and
//! `examples/threads.rs` binds it to plain threads. `PROTOCOL.md` in this package is the protocol, with the numbers (G1, E3, H4) that the
//! code uses; the [`guide`] says what is promised, how to operate it, and how to embed it.
//!
//! ```
//! use formation_core::{Config, Formation, Incarnation, Input, Output, Start, Timestamp};
//!
//! let config = Config::single("orders", "node-a", "127.0.0.1:7000").build()?;
//! let mut now = Timestamp::ZERO; // a monotonic clock that does not stop while the machine is suspended
//! let mut node = Formation::new(config, Start::new(Incarnation(1), 42), now);
//! while node.leadership(now).is_none() {
//!     // Do what it asks for, in order, ...
//!     while let Some(output) = node.poll_output() {
//!         match output {
//!             Output::Dial { addr, timeout, .. } => println!("connect to {addr} within {timeout:?}, report Opened or DialFailed"),
//!             Output::Send { conn, bytes } => println!("write {} bytes to {conn}, report Flushed", bytes.len()),
//!             Output::Close { conn, reason } => println!("close {conn}: {reason}"),
//!             Output::Persist { seq, .. } => node.handle_input(now, Input::Persisted { seq })?,
//!             Output::Event(event) => println!("node-a {event}"),
//!             Output::Handoff { .. } | Output::StreamFailed { .. } => {} // answers to Command::OpenStream and ServeStreams
//!         }
//!     }
//!     // ... then wait for the next input: an accepted connection, bytes, or the deadline.
//!     now = node.next_deadline().unwrap_or(now);
//!     node.handle_input(now, Input::Tick)?;
//! }
//! assert_eq!(node.view().len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//!
//! - `std`: [`ConfigBuilder::state_dir`] takes any path. Nothing else depends on it. Off by default.
//! - `snapshot`: [`Formation`] can be turned into bytes and back, for recordings. Off by default.
//! - `unstable-next-protocol`: for Formation's own tests. It may change with any version.
//!
//! # The way of an input
//!
//! ```text
//! bytes ─▶ PeerTable::receive ─┬▶ admission ─▶ PeerTable, Discovery ─┐
//!                              └▶ dispatch ──▶ Election ─▶ effects ──┼▶ PeerTable::flush ─▶ Output::Send
//!                                         └──▶ Membership, Lifecycle ┘
//! ```
//!
//! | module | owns |
//! | --- | --- |
//! | `formation` | the facade: inputs, outputs, the order in which conclusions are drawn |
//! | `formation::admission`, `dispatch`, `effects` | the way in: handshakes; what a message means; the way out: what follows |
//! | `peers` | connections, and the peers that they lead to |
//! | `discovery` | which addresses to dial, and which rejections were reported |
//! | `election` | terms, votes, promises and leases (E1 to E8) |
//! | `membership` | the view, and on a master everything about its members |
//! | `metadata` | what the metadata of a member may mean: a value of a type, or tags |
//! | `streams` | which streams of the services there are, and which are served |
//! | `own_status`, `lifecycle` | what this node reports about itself; whether it runs, leaves or has stopped |
//! | `wire` | frames and messages |
//! | `api` | what the embedder sees: inputs, outputs, events, configuration, errors |
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod absence;
mod api;
mod autopilot;
mod discovery;
mod election;
mod env;
mod formation;
pub mod guide;
mod id;
mod lifecycle;
mod membership;
mod metadata;
mod own_status;
mod patience;
mod peers;
mod preference;
mod replacements;
mod reported;
mod rng;
mod stranded;
mod streams;
mod time;
mod timers;
#[cfg(test)]
mod violations;
mod wire;

pub use api::{
    config::{
        Autopilot, Bootstrap, Config, ConfigBuilder, ConfigError, Detector, Limits, PhiAccrual, StateDir, Timing,
    },
    durable::{DurableState, HardState, ResumeError},
    electorate::{Electorate, ElectorateVersion},
    error::{CloseReason, DialProblem, Misuse, RejectReason, TlsFailure, TlsProblem},
    event::{Event, LossReason, Severity, StopReason, ViewLimit},
    explain::{
        AutopilotReport, Explanation, MemberReport, NoMaster, NoMasterReason, Problem, Storage, VoterReport, Waiting,
    },
    fence::{Fence, StaleToken},
    input::{Command, Input, Origin, Remote, Start},
    output::Output,
    status::{Counters, Leadership, Phase, Status},
    stream::StreamFailure,
};
pub use bytes::Bytes;
pub use formation::Formation;
#[cfg(feature = "snapshot")]
pub use formation::SnapshotError;
pub use id::{
    Address, ClusterName, ConnId, DialId, ElectorateDigest, IdError, Incarnation, Node, NodeId, StreamId, StreamName,
    Term, ViewDigest, ViewId,
};
pub use membership::view::{Change, Member, MemberState, Members, MembersView, RemovalReason};
pub use metadata::{MetadataError, Tags};
pub use peers::proof::ClusterKey;
pub use time::Timestamp;
pub use wire::message;
