//! What the driver needs of an async runtime.

use std::{pin::pin, time::Duration};

use futures_lite::{
    future,
    io::{AsyncRead, AsyncWrite},
};

/// An async runtime: it spawns tasks, waits for a time to pass, and runs blocking work elsewhere.
///
/// `formation_tokio::Tokio` and `formation_smol::Smol` implement it. Everything else that a node does with its runtime is built on these
/// functions. A library for services on both runtimes takes it as a parameter where the handle of the node is not enough. Like that
/// handle, the library then names no adapter:
///
/// ```
/// use std::time::Duration;
///
/// use formation_host::{ClusterHandle, Runtime};
///
/// /// Cleans up on the master, as long as the task is kept. Blocking code runs on a thread of its own.
/// fn keep_clean<R: Runtime>(cluster: ClusterHandle, period: Duration, clean: fn()) -> R::Task {
///     R::spawn(async move {
///         let work = async |_lease| {
///             loop {
///                 R::unblock(clean).await;
///                 R::sleep(period).await;
///             }
///         };
///         // It ends with the node.
///         let _ = cluster.run_while_master(work).await;
///     })
/// }
/// ```
pub trait Runtime: Send + Sync + 'static {
    /// A spawned task. It resolves when the task has ended, and dropping it cancels the task.
    type Task: Future<Output = ()> + Send + Sync + Unpin + 'static;

    /// Whether tasks, timers and sockets work where this is called. A node does not start where they do not.
    ///
    /// # Errors
    /// What is missing, and the remedy.
    fn check() -> Result<(), &'static str>;

    /// Starts a task. Call it where [`check`](Self::check) succeeds. The task must not panic: a runtime may end the process, or only the
    /// task.
    fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Self::Task;

    /// Whether a task has ended.
    fn is_finished(task: &Self::Task) -> bool;

    /// Cancels a task, and returns once everything that the task owned is dropped. If the future is dropped, the task is cancelled all the
    /// same.
    fn cancel(task: Self::Task) -> impl Future<Output = ()> + Send;

    /// Waits. It has to be cancel safe: a dropped future leaves nothing behind.
    fn sleep(duration: Duration) -> impl Future<Output = ()> + Send;

    /// Runs work that blocks on a thread that may be blocked. The work must not panic. It is not cancelled: it goes
    /// on if the future is dropped.
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
