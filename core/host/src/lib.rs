//! The parts of a Formation node on `std` that are the same for every runtime. The adapters are built on them; use the same
//! parts to embed the core in a runtime of your own.
//!
//! Without an async runtime you need the clock, the start and the storage:
//!
//! ```
//! use formation_core::{Config, Formation, Input, Output};
//! use formation_host::{Clock, Store, begin};
//!
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path();
//! let config = Config::single("orders", "node-a", "127.0.0.1:7000").state_dir(dir).build()?;
//! let (start, mut store) = begin(&config)?;
//! if store.as_ref().is_some_and(Store::is_new) {
//!     println!("this node has never voted");
//! }
//! let clock = Clock::start();
//! let mut node = Formation::new(config, start, clock.now());
//! while let Some(output) = node.poll_output() {
//!     if let (Output::Persist { seq, state }, Some(store)) = (output, &mut store) {
//!         // This waits for the disk. In a service, do it on a thread of its own.
//!         let answer = match store.keep(state) {
//!             Ok(()) => Input::Persisted { seq },
//!             Err(error) if error.is_final() => Input::PersistFailed { seq },
//!             // A service would try again later.
//!             Err(error) => {
//!                 eprintln!("{error}");
//!                 Input::PersistDelayed { seq }
//!             }
//!         };
//!         node.handle_input(clock.now(), answer)?;
//!     }
//! }
//! assert!(node.leadership(clock.now()).is_some());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! For an async runtime, implement [`Runtime`] and call [`start_node`], as the adapters do.
//!
//! # Features
//!
//! - `recorder`: [`Recorder`] and [`Replay`], which record a run of a node and repeat it. Off by default.
//! - `tls`: the module `tls`, TLS by rustls with ring. It needs a C compiler. Off by default.
//! - `dns-srv`: discovery by SRV records. Off by default.
//!
//! # Map
//! What every embedding needs:
//!
//! - `clock`: a monotonic clock that keeps running while the machine is suspended.
//! - `environment`: the system that a node runs on, which a test replaces.
//! - `start`: the incarnation, the random seed, and the votes that the last run has kept.
//! - `store`: the state directory, which belongs to one node at a time.
//! - `slot`: one file that is replaced as a whole or not at all.
//! - `format`: the bytes of that file.
//!
//! A node on an async runtime, from the application to the socket:
//!
//! - `handle`: the handle of the application, and its commands.
//! - `watch`, `events`: how the application follows the view, and what happens.
//! - `history`: the last events, with numbers, for those who come later.
//! - `metrics`: what is counted, and the names of it.
//! - `describe`: a line for people about an event.
//! - `mastership`: the lease of a master, and the work that depends on it.
//! - `streams`: streams between the services of members.
//! - `handover`: a node that resigns or leaves waits for that work.
//! - `shared`: the state that the driver publishes and that all handles read.
//! - `ending`: the end of a node, and how long it may take.
//! - `node`: the start of a node, and the loop of its driver.
//! - `turns`: the order in which the driver takes from its sources.
//! - `driver`: inputs in, outputs performed. It needs no runtime.
//! - `tasks`: the tasks that the driver starts: dials, connections, and writes to the disk.
//! - `accept`: accepting connections, and how many at a time.
//! - `connection`: the task of one connection.
//! - `permits`: how many of something there may be at a time.
//! - `persist`: one write to the disk, until it is durable or has failed for good.
//! - `discovery`: where the node finds further addresses while it runs.
//! - `dial_failures`: which failures of dials to seeds and contacts were reported.
//! - `recorder` (feature `recorder`): what a node is given, in files.
//! - `replay` (feature `recorder`): the same run again, from these files.
//! - `log`: every log line.
//! - `limiter`: how many reports an unauthenticated peer can cause.
//! - `repeats`: which failures of connections were reported, and how often they were repeated.
//! - `descriptors`: how many connections fit into what the process may open.
//!
//! What an adapter is made of:
//!
//! - `runtime`: what the driver needs of a runtime.
//! - `transport`: what carries the bytes between two nodes.
//! - `opening`: a connection that is open and not ready yet.
//! - `resolve`: resolving names on threads of their own.
//! - `tcp`: the parts of dialing by TCP that are the same for every runtime.
//! - `tls` (feature `tls`): TLS by rustls.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod accept;
mod clock;
mod connection;
mod describe;
mod descriptors;
mod dial_failures;
mod discovery;
mod driver;
mod ending;
mod environment;
mod events;
mod format;
mod handle;
mod handover;
mod history;
#[cfg(test)]
mod json;
mod limiter;
mod log;
mod mastership;
mod metrics;
mod node;
mod opening;
mod permits;
mod persist;
#[cfg_attr(not(feature = "recorder"), path = "recorder/off.rs")]
mod recorder;
mod repeats;
#[cfg(feature = "recorder")]
mod replay;
mod resolve;
mod runtime;
mod shared;
mod slot;
mod start;
mod store;
mod streams;
mod tasks;
mod tcp;
#[cfg(test)]
mod testing;
#[cfg(feature = "tls")]
pub mod tls;
mod transport;
mod turns;
mod watch;

pub use clock::Clock;
pub use connection::close_gracefully;
pub use describe::describe;
#[cfg(feature = "dns-srv")]
pub use discovery::NameServers;
pub use discovery::{Discovery, MAX_SOURCES, Source, SourceError, SourceReport};
pub use ending::{LeaveError, Unfinished};
pub use environment::Environment;
pub use events::{EVENT_BUFFER, Events, RecvError};
pub use handle::{ClusterHandle, CommandError, Master, Snapshot, Stopped, VotersError};
pub use history::PastEvent;
pub use mastership::{Guard, LeadershipChange, LeadershipWatch, Lease, LeaseTooShort};
pub use metrics::{Histogram, METRICS, Metric, MetricKind, MetricValue, Sample};
pub use node::start_node;
pub use opening::Opening;
#[cfg(feature = "recorder")]
pub use recorder::Recorder;
#[cfg(feature = "recorder")]
pub use replay::{Difference, Replay, ReplayError, Step};
pub use resolve::resolve;
pub use runtime::{ByteStream, Runtime};
pub use start::{StartError, begin};
pub use store::{MemoryStore, Store, StoreError};
pub use streams::{Handoff, Incoming, IncomingError, OpenError, StreamEnd, StreamPeer, Streams};
pub use tcp::{check_not_self_connected, connect_any};
pub use transport::Transport;
pub use watch::Watch;
