//! Everything that is tested in virtual time, as one program: it is linked once.

mod bad_bytes;
mod bootstrap;
mod chunking;
mod connections;
mod every_order;
mod failover;
mod forgotten;
mod greeting;
mod identity;
mod leaving;
mod limits;
mod mastering;
mod membership;
mod seed_bug;
mod seeking;
mod simulator;
