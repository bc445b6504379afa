//! A connection between open and ready.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
};

/// A connection of which the way to the peer is open: a future of the stream that is ready for use. A node counts it as
/// open from now on, and limits how many there are and how long each takes; a transport that has to secure its streams
/// (TLS) does so here, and not before.
///
/// An error ends the connection.
pub struct Opening<S> {
    ready: Pin<Box<dyn Future<Output = io::Result<S>> + Send>>,
    peer: Option<String>,
}

impl<S: Send + 'static> Opening<S> {
    /// There is nothing to do before the stream is used.
    pub fn ready(stream: S) -> Self {
        Self { ready: Box::pin(std::future::ready(Ok(stream))), peer: None }
    }

    /// Says from where the peer has come, for logs.
    #[must_use]
    pub fn with_peer(self, peer: impl fmt::Display) -> Self {
        Self { peer: Some(peer.to_string()), ..self }
    }

    /// From where the peer has come, if the transport has said so.
    pub fn peer(&self) -> Option<&str> {
        self.peer.as_deref()
    }

    /// What becomes of the stream first. The future is dropped when the node gives the connection up before.
    pub fn secured<R, F>(self, secure: impl FnOnce(S) -> F + Send + 'static) -> Opening<R>
    where
        F: Future<Output = io::Result<R>> + Send,
    {
        let Self { ready, peer } = self;
        Opening { ready: Box::pin(async { secure(ready.await?).await }), peer }
    }
}

impl<S> Future for Opening<S> {
    type Output = io::Result<S>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.ready.as_mut().poll(cx)
    }
}

impl<S> fmt::Debug for Opening<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opening").field("peer", &self.peer).finish_non_exhaustive()
    }
}
