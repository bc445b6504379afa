//! Everything that is tested in virtual time, as one program: it is linked once.

mod addresses;
mod bad_bytes;
mod bootstrap;
mod chunking;
mod claims;
mod connections;
mod detectors;
mod edges;
mod every_order;
mod failover;
mod farewells;
mod forgotten;
mod greeting;
mod identity;
mod key;
mod leaving;
mod limits;
mod mastering;
mod membership;
mod misuse;
mod seed_bug;
mod seeking;
mod sick;
mod simulator;
mod solo;
mod upgrade;
