//! Smol, as the shared driver sees it: its tasks, timers and threads that may be blocked.

use std::time::Duration;

use formation_host::Runtime;
use smol::{Task, Timer};

/// The runtime smol, as a parameter of types and functions that work on any: see [`Runtime`].
#[derive(Debug)]
pub struct Smol;

impl Runtime for Smol {
    type Task = Task<()>;

    /// The executor and the timers of smol start by themselves.
    fn check() -> Result<(), &'static str> {
        Ok(())
    }

    fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Task<()> {
        smol::spawn(task)
    }

    fn is_finished(task: &Task<()>) -> bool {
        task.is_finished()
    }

    async fn cancel(task: Task<()>) {
        task.cancel().await;
    }

    async fn sleep(duration: Duration) {
        Timer::after(duration).await;
    }

    async fn unblock<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        smol::unblock(work).await
    }
}
