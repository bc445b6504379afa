//! A connection that is open and not ready yet.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

/// A connection that is open, as a future of the stream that is ready for use. The node counts the connection from now
/// on, and limits the number of such connections and the time that each takes. A transport that has to secure its streams
/// (TLS) does so in this future, and not before.
///
/// An error ends the connection.
///
/// ```
/// use std::{io, net::SocketAddr};
///
/// use formation_host::Opening;
///
/// # struct Stream;
/// # async fn secure(stream: Stream) -> io::Result<Stream> { Ok(stream) }
/// fn of_socket(stream: Stream, peer: SocketAddr) -> Opening<Stream> {
///     Opening::new(secure(stream)).with_addr(peer)
/// }
///
/// let opening = of_socket(Stream, ([10, 0, 0, 2], 41_000).into());
/// assert_eq!(opening.addr().unwrap().port(), 41_000);
/// // A pipe has no address, but it may have a name for the log.
/// assert_eq!(Opening::ready(Stream).with_peer("node-b").peer(), Some("node-b"));
/// ```
pub struct Opening<S> {
    ready: Pin<Box<dyn Future<Output = io::Result<S>> + Send>>,
    peer: Option<String>,
    addr: Option<SocketAddr>,
}

impl<S: Send + 'static> Opening<S> {
    /// The stream is ready once this future resolves. The future is dropped if the node gives the connection up before.
    pub fn new(ready: impl Future<Output = io::Result<S>> + Send + 'static) -> Self {
        Self { ready: Box::pin(ready), peer: None, addr: None }
    }

    /// A TCP connection to this peer. `no_delay` turns Nagle's algorithm off: messages are small and must not wait for each other.
    pub fn of_tcp(stream: S, peer: SocketAddr, no_delay: impl FnOnce(&S) -> io::Result<()> + Send + 'static) -> Self {
        let ready = async move {
            no_delay(&stream)?;
            Ok(stream)
        };
        Self::new(ready).with_addr(peer)
    }

    /// The stream is ready at once.
    pub fn ready(stream: S) -> Self {
        Self::new(std::future::ready(Ok(stream)))
    }

    /// Names the peer for the log, where it has no socket address.
    #[must_use]
    pub fn with_peer(self, peer: impl fmt::Display) -> Self {
        Self { peer: Some(peer.to_string()), ..self }
    }

    /// Tells the peer's socket address. Events and the log name it, and limits are shared fairly between IP addresses. An IPv4 address in
    /// IPv6 notation, as a listener for both reports it, counts as the IPv4 address.
    #[must_use]
    pub fn with_addr(self, addr: SocketAddr) -> Self {
        let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
        Self { addr: Some(addr), ..self }.with_peer(addr)
    }

    /// The peer's socket address, if the transport has told it.
    pub fn addr(&self) -> Option<SocketAddr> {
        self.addr
    }

    /// The peer's name in the log, if the transport has given it one.
    pub fn peer(&self) -> Option<&str> {
        self.peer.as_deref()
    }

    /// Secures the stream before it is used. The future is dropped if the node gives the connection up before.
    pub fn secured<R, F>(self, secure: impl FnOnce(S) -> F + Send + 'static) -> Opening<R>
    where
        F: Future<Output = io::Result<R>> + Send,
    {
        let Self { ready, peer, addr } = self;
        Opening { ready: Box::pin(async { secure(ready.await?).await }), peer, addr }
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
