//! Tokio, as the shared driver sees it: its tasks, timers and streams.

use std::{
    future::pending,
    io,
    panic::catch_unwind,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use formation_host::Runtime;
use futures_lite::io::{AsyncRead, AsyncWrite};
use tokio::{
    io::ReadBuf,
    runtime::Handle,
    task::{JoinHandle, spawn_blocking},
};

/// The runtime tokio, as a parameter of types and functions that work on any: see [`Runtime`].
#[derive(Debug)]
pub struct Tokio;

/// A task that is cancelled when it is dropped.
#[derive(Debug)]
pub struct Task(JoinHandle<()>);

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // A task that was cancelled or has panicked has ended, too.
        Pin::new(&mut self.0).poll(cx).map(|_| ())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Runtime for Tokio {
    type Task = Task;

    fn check() -> Result<(), &'static str> {
        if Handle::try_current().is_err() {
            return Err(
                "there is no tokio runtime here; start the node in an async function, or within Runtime::enter",
            );
        }
        // Tokio has no other way to ask. The message of the panic names the cause as well.
        catch_unwind(|| drop(tokio::time::sleep(Duration::ZERO)))
            .map_err(|_| "the tokio runtime has no timers; build it with enable_all or enable_time")
    }

    fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Task {
        Task(tokio::spawn(task))
    }

    fn is_finished(task: &Task) -> bool {
        task.0.is_finished()
    }

    async fn cancel(task: Task) {
        task.0.abort();
        task.await;
    }

    async fn sleep(duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    async fn unblock<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        match spawn_blocking(work).await {
            Ok(done) => done,
            // The work does not panic, so the runtime is shutting down, and the driver with it.
            Err(_) => pending().await,
        }
    }
}

/// A stream of tokio that is read and written through the traits of `futures-io`.
#[derive(Debug)]
pub(crate) struct Stream<S>(pub(crate) S);

impl<S: tokio::io::AsyncRead + Unpin> AsyncRead for Stream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(&mut self.0).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }
}

impl<S: tokio::io::AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Builder;

    use super::*;

    #[test]
    fn a_node_needs_a_runtime_with_timers() {
        assert!(Tokio::check().unwrap_err().contains("Runtime::enter"));
        let without_timers = Builder::new_current_thread().enable_io().build().unwrap();
        assert!(without_timers.block_on(async { Tokio::check() }).unwrap_err().contains("enable_time"));
        let complete = Builder::new_current_thread().enable_all().build().unwrap();
        assert_eq!(complete.block_on(async { Tokio::check() }), Ok(()));
    }
}
