//! What the driver needs of an async runtime.

use std::{pin::pin, time::Duration};

use futures_lite::{
    future,
    io::{AsyncRead, AsyncWrite},
};

/// An async runtime: it spawns tasks, waits for a time to pass, and runs blocking work elsewhere.
///
/// An adapter implements it once. Everything else that a node does with its runtime is built on these functions.
pub trait Runtime: Send + Sync + 'static {
    /// A spawned task. It resolves when the task has ended, and dropping it cancels the task.
    type Task: Future<Output = ()> + Send + Sync + Unpin + 'static;

    /// Whether tasks, timers and sockets work where this is called. A node does not start where they do not.
    ///
    /// # Errors
    /// What is missing, and the remedy.
    fn check() -> Result<(), &'static str>;

    /// Starts a task. The task does not panic.
    fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Self::Task;

    /// Whether a task has ended.
    fn is_finished(task: &Self::Task) -> bool;

    /// Cancels a task, and returns once everything that the task owned is dropped.
    fn cancel(task: Self::Task) -> impl Future<Output = ()> + Send;

    /// Waits.
    fn sleep(duration: Duration) -> impl Future<Output = ()> + Send;

    /// Runs work that blocks on a thread that may be blocked. The work does not panic.
    fn unblock<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> impl Future<Output = T> + Send;
}

/// Bytes in both directions, by the traits of `futures-io`.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> ByteStream for S {}

/// Waits for a future, and gives up after `limit`.
pub(crate) async fn timeout<R: Runtime, T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    let future = pin!(future);
    future::or(async { Some(future.await) }, async {
        R::sleep(limit).await;
        None
    })
    .await
}
