//! A stream that is read and written at the same time, and is whole again afterwards.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use futures_lite::io::{AsyncRead, AsyncWrite};

/// One of several ends of the same stream, all in one task. So nobody waits for the lock.
pub(super) struct Half<D>(Arc<Mutex<D>>);

impl<D> Half<D> {
    pub(super) fn new(stream: D) -> Self {
        Self(Arc::new(Mutex::new(stream)))
    }

    /// The stream, once the other ends are dropped.
    pub(super) fn into_whole(self) -> Option<D> {
        Some(Arc::into_inner(self.0)?.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn with<T>(&self, poll: impl FnOnce(&mut D) -> T) -> T {
        poll(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<D> Clone for Half<D> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<D: AsyncRead + Unpin> AsyncRead for Half<D> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.with(|stream| Pin::new(stream).poll_read(cx, buffer))
    }
}

impl<D: AsyncWrite + Unpin> AsyncWrite for Half<D> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.with(|stream| Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| Pin::new(stream).poll_flush(cx))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| Pin::new(stream).poll_close(cx))
    }
}
