//! Pages for users:
//!
//! | page | for whom |
//! | --- | --- |
//! | [services to copy from](recipes), [what is promised](promises), [how to test a service](testing) that depends on being the master | you write a service |
//! | [how services talk to each other](streams) over connections of the cluster | you write a service with several members |
//! | [how to deploy nodes](deploying), [how the nodes find each other](discovery), [how large](sizing), [how to secure them](security) | you set a cluster up |
//! | [how to operate a cluster](operating), [how to watch it](metrics), [why there is no master](no_master), [how to upgrade it and back it up](upkeep) | you keep it running |
//! | [how to embed the core](embedding) in another runtime | you have a runtime of your own |
//!
//! `PROTOCOL.md`, beside the source of this crate, is the protocol itself.

pub mod deploying;
pub mod discovery;
pub mod embedding;
pub mod metrics;
pub mod no_master;
pub mod operating;
pub mod promises;
pub mod recipes;
pub mod security;
pub mod sizing;
pub mod streams;
pub mod testing;
pub mod upkeep;
