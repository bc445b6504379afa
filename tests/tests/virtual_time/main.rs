//! Everything that is tested in virtual time, as one program: it is linked once.

mod bad_bytes;
mod bootstrap;
mod chunking;
mod connections;
mod detectors;
mod every_order;
mod failover;
mod forgotten;
mod identity;
mod key;
mod limits;
mod membership;
mod seed_bug;
mod seeking;
mod simulator;
mod solo;
