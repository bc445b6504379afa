//! What the tests of this crate run on: the executor of smol, and pipes in memory.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_lite::io::{AsyncRead, AsyncWrite};

use crate::runtime::Runtime;

#[derive(Debug)]
pub(crate) struct Smol;

impl Runtime for Smol {
    type Task = smol::Task<()>;

    fn check() -> Result<(), &'static str> {
        Ok(())
    }

    fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Self::Task {
        smol::spawn(task)
    }

    fn is_finished(task: &Self::Task) -> bool {
        task.is_finished()
    }

    async fn cancel(task: Self::Task) {
        task.cancel().await;
    }

    async fn sleep(duration: Duration) {
        smol::Timer::after(duration).await;
    }

    async fn unblock<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        smol::unblock(work).await
    }
}

/// One end of a connection: a pipe in each direction.
pub(crate) struct Pipes {
    pub(crate) reader: piper::Reader,
    pub(crate) writer: piper::Writer,
}

/// The two ends of a connection that holds so many bytes in each direction.
pub(crate) fn pipes(capacity: usize) -> (Pipes, Pipes) {
    let (one, two) = (piper::pipe(capacity), piper::pipe(capacity));
    (Pipes { reader: one.0, writer: two.1 }, Pipes { reader: two.0, writer: one.1 })
}

impl AsyncRead for Pipes {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.reader).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Pipes {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_close(cx)
    }
}
