//! The kit, tested by itself: every fault, and what it has to find.

#![cfg(all(feature = "tokio", feature = "smol"))]

mod both;
mod connections;
mod same_interface;
mod support;
mod virtual_time;
