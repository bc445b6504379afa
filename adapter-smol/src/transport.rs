//! What carries the bytes between two nodes.

use std::{io, time::Duration};

use formation_core::{Address, TlsFailure};
use formation_host::Opening;
use smol::io::{AsyncRead, AsyncWrite};

/// How a node's connections come to be: [`Tcp`](crate::Tcp), `Tls` on it, or a transport of your own, for
/// [`Cluster::start_on`](crate::Cluster::start_on). The protocol needs bytes that arrive in order or not at all.
///
/// The example `transport` of formation-tokio shows how to write one.
pub trait Transport: Send + Sync + 'static {
    /// An open connection. What was written before it is closed has to arrive if its peer reads on.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// Waits for the next connection that a peer opens. It may be dropped at any time, and then must not lose one.
    ///
    /// # Errors
    /// Nothing can be accepted at this moment; it is tried again a little later, for ever.
    fn accept(&self) -> impl Future<Output = io::Result<Opening<Self::Stream>>> + Send;

    /// Connects to an address of the configuration, or one that a peer has named. It is dropped when it takes longer than
    /// `limit`; where the address stands for several, each should get its share of that.
    ///
    /// # Errors
    /// The address cannot be reached at this moment. It is dialed again, as long as the node wants a link to it.
    fn connect(
        &self,
        address: &Address,
        limit: Duration,
    ) -> impl Future<Output = io::Result<Opening<Self::Stream>>> + Send;

    /// Whether an error of a stream, or of an [`Opening`], means that one of the two ends does not trust the other. Then
    /// the address is retried rarely, and [`Event::ConnClosed`](crate::Event::ConnClosed) says why.
    fn tls_failure(&self, error: &io::Error) -> Option<TlsFailure> {
        let _ = error;
        None
    }
}
