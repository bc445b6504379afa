//! What the embedder sees.
//!
//! - `input`: what a node starts with, and what can happen to it.
//! - `output`: what the embedder has to do.
//! - `event`: what has happened, for the service and for logs.
//! - `explain`: why a node is not doing more.
//! - `fence`: refuses the writes of earlier masters.
//! - `config`: what a node is configured with.
//! - `status`: a snapshot of a node's state, and its mastership.
//! - `stream`: why a stream was not opened.
//! - `member`: a member as a text, and one for tests.
//! - `error`: what can go wrong, by who is to blame.
//! - `durable`: what a node keeps over a restart.

pub(crate) mod config;
mod describe;
pub(crate) mod durable;
pub(crate) mod electorate;
pub(crate) mod error;
pub(crate) mod event;
pub(crate) mod explain;
pub(crate) mod fence;
pub(crate) mod input;
mod member;
pub(crate) mod output;
pub(crate) mod status;
pub(crate) mod stream;
