//! What every host of a Formation node on std needs, whatever its runtime: the clock that the node is told, what it starts
//! with, and a place for its votes that outlives it (PROTOCOL.md, E4). The adapters are built on it; embed the core in a
//! runtime of your own with the same parts.
//!
//! ```
//! use formation_core::{Config, Formation, Input, Output};
//! use formation_host::{Clock, begin};
//!
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path().to_str().unwrap();
//! let config = Config::single("orders", "node-a", "127.0.0.1:7000").state_dir(dir).build()?;
//! let (start, mut store) = begin(&config)?;
//! let clock = Clock::start();
//! let mut node = Formation::new(config, start, clock.now());
//! while let Some(output) = node.poll_output() {
//!     if let (Output::Persist { seq, state }, Some(store)) = (output, &mut store) {
//!         // It waits for the disk: in a service, on a thread where that holds nobody up.
//!         let answer = match store.keep(state) {
//!             Ok(()) => Input::Persisted { seq },
//!             Err(error) => {
//!                 eprintln!("{error}");
//!                 Input::PersistFailed { seq }
//!             }
//!         };
//!         node.handle_input(clock.now(), answer)?;
//!     }
//! }
//! assert!(node.leadership(clock.now()).is_some());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! - `clock`: a monotonic clock that goes on through suspend.
//! - `start`: the incarnation, the seed of randomness, and what the last run has kept.
//! - `store`: the directory that a node has to itself.
//! - `slot`: one file that is replaced as a whole or not at all.
//! - `format`: what is in it.
//! - `opening`: a connection between open and ready.
//! - `tls` (feature `tls`): TLS by rustls.
#![forbid(unsafe_code)]

mod clock;
mod format;
mod opening;
mod slot;
mod start;
mod store;
#[cfg(feature = "tls")]
pub mod tls;

pub use clock::Clock;
pub use opening::Opening;
pub use start::{StartError, begin};
pub use store::{Store, StoreError};
