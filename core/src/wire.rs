//! What is on the wire (PROTOCOL.md, "The wire").
//!
//! - `decoder`: from bytes to frames; one for the life of a connection.
//! - [`message`]: what a frame contains.
//! - `versions`: which protocol version each part of a message came with.
//! - `voting`: how a node votes, as its `Hello` says.
//! - `stream`: which stream a node opens, as its `Hello` says.
//! - `entries`: members and changes, of which a message has many.
//! - `frame`: a message that goes to many peers, encoded once.

pub(crate) mod decoder;
pub(crate) mod entries;
pub(crate) mod frame;
pub mod message;
pub(crate) mod stream;
mod versions;
pub(crate) mod voting;
