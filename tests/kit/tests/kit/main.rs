//! The kit, tested by itself: every fault, and what it has to find.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod both;
mod connections;
mod same_interface;
mod support;
mod virtual_time;
