//! What both adapters promise, over real sockets: each test is written once, and run with tokio and with smol.
//!
//! The simulator explores what the core does in every order; here it is about what an adapter could get wrong. Nothing
//! waits for a time to pass: a test waits for what has to happen, and fails when it takes far too long.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

/// Instantiates tests, `async fn name<A: Adapter>()`, for each adapter.
macro_rules! with_each_adapter {
    ($($test:ident),+ $(,)?) => {
        mod tokio {
            $(#[test]
            fn $test() {
                crate::adapters::run(super::$test::<crate::adapters::Tokio>());
            })+
        }

        mod smol {
            $(#[test]
            fn $test() {
                crate::adapters::run(super::$test::<crate::adapters::Smol>());
            })+
        }
    };
}

mod adapters;
mod bootstrap;
mod durable;
mod failover;
mod seeds;
mod site;
mod stalled;
mod wire_peer;
