//! A service for the tests, on both runtimes.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use formation_host::{Lease, Runtime as _, Stopped};
use formation_testing::{Network, TestNode, TestRuntime};

/// How often the service does a step.
pub(crate) const STEP: Duration = Duration::from_millis(10);

/// Runs tests on both runtimes.
macro_rules! on_both {
    ($($name:ident)*) => {
        mod on_tokio {
            $(#[test] fn $name() { super::$name::<formation_testing::tokio::Tokio>(); })*
        }
        mod on_smol {
            $(#[test] fn $name() { super::$name::<formation_testing::smol::Smol>(); })*
        }
    };
}
pub(crate) use on_both;

/// A network whose nodes have short times, so that the tests on smol are short.
pub(crate) fn network<R: TestRuntime>() -> Network<R> {
    Network::new(7).configure(|_, builder| builder.local())
}

/// The master does one step after the other.
pub(crate) async fn service<R: TestRuntime>(node: &TestNode) {
    let _: Result<(), Stopped> = node.run_while_master(async |lease| steps::<R>(node, &lease).await).await;
}

async fn steps<R: TestRuntime>(node: &TestNode, lease: &Lease) {
    loop {
        node.record(lease.term());
        R::Runtime::sleep(STEP).await;
    }
}

/// What a test panics with.
pub(crate) fn panic_of<T>(test: impl FnOnce() -> T) -> String {
    let Err(panic) = catch_unwind(AssertUnwindSafe(test)) else { panic!("it has not failed") };
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).expect("a panic has a message")
}
