//! Three pages for users: [what is promised](promises), [how to operate a cluster](operating), and [how to embed the
//! core](embedding) in another runtime.
//!
//! `PROTOCOL.md`, beside the source of this crate, is the protocol itself.

pub mod embedding;
pub mod operating;
pub mod promises;
