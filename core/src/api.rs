//! What the embedder sees.
//!
//! - `interface`: inputs, outputs and events.
//! - `config`: what a node is configured with.
//! - `status`: a snapshot of a node's state.
//! - `error`: what can go wrong, by who is to blame.
//! - `durable`: what a node keeps over a restart.

pub(crate) mod config;
pub(crate) mod durable;
pub(crate) mod error;
pub(crate) mod interface;
pub(crate) mod status;
