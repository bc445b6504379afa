//! Tests of both adapters over real sockets. Each test is written once and runs with tokio and with smol.
//!
//! The simulator explores the core in every order of events. These tests are about mistakes that an adapter could make.
//! They never sleep: a test waits for an event, and fails if it takes far too long.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

/// Instantiates tests, `async fn name<A: Adapter>()`, for each adapter. Each test after `alone` runs in its own
/// process.
macro_rules! with_each_adapter {
    ($($test:ident),* $(,)? $(; alone: $($single:ident),+ $(,)?)?) => {
        mod tokio {
            $(with_adapter!(Tokio, $test);)*
            $($(with_adapter!(Tokio, $single, alone);)+)?
        }

        mod smol {
            $(with_adapter!(Smol, $test);)*
            $($(with_adapter!(Smol, $single, alone);)+)?
        }
    };
}

macro_rules! with_adapter {
    ($adapter:ident, $test:ident) => {
        #[test]
        fn $test() {
            crate::adapters::run(super::$test::<crate::adapters::$adapter>());
        }
    };
    ($adapter:ident, $test:ident, alone) => {
        #[test]
        fn $test() {
            let path = concat!(module_path!(), "::", stringify!($test));
            crate::own_process::run(path, super::$test::<crate::adapters::$adapter>());
        }
    };
}

/// Lets the load tests measure the heap.
#[global_allocator]
static HEAP: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;

mod adapters;
mod attacks;
mod authority;
#[cfg(target_os = "linux")]
mod bad_disk;
mod bootstrap;
mod connection_burst;
mod discovery;
mod durable;
mod failover;
mod handle;
#[cfg(target_os = "linux")]
mod leaks;
mod load;
mod mastership;
mod own_process;
mod peer_disconnects;
mod recorded;
mod resigning;
mod seeds;
#[cfg(target_os = "linux")]
mod shim;
#[cfg(target_os = "linux")]
mod silent_resolver;
mod slow_reader;
mod streams;
mod support;
#[path = "../processes/times.rs"]
mod times;
mod tls;
mod voters;
mod wire_peer;
