//! Brings the nodes of a service together, as a pure state machine: byte chunks and ticks in, bytes and effects out.
//!
//! From a list of seed addresses nodes find each other, elect exactly one master, agree on who is a member and notice who
//! is gone. This crate does no IO and reads no clock; `formation-tokio` and `formation-smol` bind it to a runtime, and
//! `examples/threads.rs` to plain threads. `PROTOCOL.md` beside it is the protocol, with the names (G1, E3) that the code uses.
//!
//! ```
//! use formation_core::{Config, Formation, Incarnation, Input, Output, Start, Timestamp};
//!
//! let config = Config::single("orders", "node-a", "127.0.0.1:7000").build()?;
//! let mut now = Timestamp::ZERO; // a monotonic clock that goes on through suspend
//! let mut node = Formation::new(config, Start::new(Incarnation(1), 42), now);
//! while node.leadership(now).is_none() {
//!     // Do what it asks, in order, ...
//!     while let Some(output) = node.poll_output() {
//!         match output {
//!             Output::Dial { addr, timeout, .. } => println!("connect to {addr} within {timeout:?}, say Opened or DialFailed"),
//!             Output::Send { conn, bytes } => println!("write {} bytes to {conn}, say Flushed", bytes.len()),
//!             Output::Close { conn, reason } => println!("close {conn}: {reason}"),
//!             Output::Persist { seq, .. } => node.handle_input(now, Input::Persisted { seq })?,
//!             Output::Event(event) => println!("{event:?}"),
//!         }
//!     }
//!     // ... then wait for the next input: an accepted connection, bytes, or the time that it names.
//!     now = node.next_deadline().unwrap_or(now);
//!     node.handle_input(now, Input::Tick)?;
//! }
//! assert_eq!(node.view().len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod config;
mod decoder;
mod discovery;
mod durable;
mod election;
mod env;
mod error;
mod formation;
mod frame;
pub mod guide;
mod id;
mod interface;
mod lifecycle;
mod membership;
pub mod message;
mod own_status;
mod peers;
mod phi;
mod proof;
mod rng;
mod status;
mod time;
mod timers;
mod versions;
mod view;

pub use config::{Bootstrap, Config, ConfigBuilder, ConfigError, Detector, Limits, PhiAccrual, Timing};
pub use durable::{DurableState, ResumeError};
pub use error::{CloseReason, Misuse, RejectReason, TlsFailure, TlsProblem};
pub use formation::Formation;
pub use id::{
    Address, ClusterName, ConnId, DialId, ElectorateDigest, IdError, Incarnation, Node, NodeId, Term, ViewId,
};
pub use interface::{Command, Event, HardState, Input, Leadership, LossReason, Origin, Output, Start, StopReason};
pub use proof::ClusterKey;
pub use status::{Counters, Phase, Status};
pub use time::Timestamp;
pub use view::{Change, Member, MemberState, MembersView, RemovalReason};
