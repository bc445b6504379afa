//! Seven pages for users: [services to copy from](recipes), [what is promised](promises), [how to operate a cluster](operating), [how to
//! watch it](metrics), [why there is no master](no_master), [how to test a service](testing) that depends on being the master, and [how to
//! embed the core](embedding) in another runtime.
//!
//! `PROTOCOL.md`, beside the source of this crate, is the protocol itself.

pub mod embedding;
pub mod metrics;
pub mod no_master;
pub mod operating;
pub mod promises;
pub mod recipes;
pub mod testing;
