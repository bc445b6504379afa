//! The half of the node programs that needs no runtime: `formation-tokio-node` and `formation-smol-node` have the same flags,
//! output, signals and exit codes, so that both can run in one cluster. Each of them implements [`Adapter`] and calls [`main`].
//!
//! - `log`: the log on the standard error.
//! - `settings`: the flags and the configuration file.
//! - `report`: the output, for a person or as JSON.
//! - `run`: the life of the process.
//! - `certificates`: what a running node reads again.
//! - `serve`: the node over HTTP.
//! - `supervisor`: what the service manager is told.
//! - `exec`: a command that runs only while the node is the master.
//! - `replay`: the subcommand that shows a recorded run.
//! - `client`: the subcommands that ask a running node over HTTP.
//! - `keygen`: the subcommand that makes a secret.
//! - `top`: the subcommand that shows a cluster in a terminal (feature `top`).
//!
//! All but the first need the feature `program`.
//!
//! The interface follows the needs of these two programs and may change with any version.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "program")]
mod certificates;
#[cfg(feature = "program")]
mod client;
#[cfg(feature = "program")]
mod exec;
#[cfg(feature = "program")]
mod keygen;
mod log;
#[cfg(feature = "program")]
mod replay;
#[cfg(feature = "program")]
mod report;
#[cfg(feature = "program")]
mod run;
#[cfg(feature = "program")]
mod serve;
#[cfg(feature = "program")]
mod settings;
#[cfg(feature = "program")]
mod supervisor;
#[cfg(feature = "top")]
mod top;

pub use log::log;
#[cfg(feature = "program")]
pub use run::{Adapter, Request, main};
