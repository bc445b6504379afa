//! What carries the bytes between two nodes.

use std::{collections::BTreeSet, io, time::Duration};

use formation_core::{Address, TlsFailure};

use crate::opening::Opening;

/// How a node opens its connections: TCP, TLS, or a transport of your own. The protocol needs a stream of bytes that
/// arrive in order and without gaps.
///
/// The adapters come with `Tcp` and `Tls`, and their `Cluster::start_on` takes any transport. The example `transport` of
/// `formation-tokio` connects nodes by pipes in memory and by Unix sockets.
pub trait Transport: Send + Sync + 'static {
    /// An open connection. The adapter requires the read and write traits of its runtime. Bytes that were written before
    /// the stream was closed have to arrive if the peer goes on reading.
    type Stream: Send + 'static;

    /// Waits for the next connection that a peer opens. It has to be cancel safe: dropping the future must not lose a connection.
    ///
    /// # Errors
    /// Nothing can be accepted at this moment. The node tries again a little later, for as long as it runs.
    fn accept(&self) -> impl Future<Output = io::Result<Opening<Self::Stream>>> + Send;

    /// Connects to an address from the configuration or from a peer. The future is dropped when it takes longer than
    /// `limit`. So it has to be cancel safe: the attempt ends with the future. If the address resolves to several, a silent one should not hold up the others for long.
    ///
    /// # Errors
    /// The address cannot be reached at this moment. The node dials it again for as long as it wants a link to it.
    fn connect(
        &self,
        address: &Address,
        limit: Duration,
    ) -> impl Future<Output = io::Result<Opening<Self::Stream>>> + Send;

    /// Whether the transport works where the node starts. A node does not start where it does not.
    ///
    /// # Errors
    /// What is missing, and the remedy.
    fn check(&self) -> Result<(), &'static str> {
        Ok(())
    }

    /// Whether anybody on the way can read and change what this transport carries, as with plain TCP. A node without a cluster key
    /// then warns at its start, unless its address is on this machine only.
    fn is_plain(&self) -> bool {
        false
    }

    /// The seeds whose host the certificate of the peer covers. It is asked once for each connection, as soon as the stream is
    /// ready. A peer that has dialed this node and claims one of these addresses counts as that voter at once. So the
    /// certificate has to be verified.
    fn certified(&self, stream: &Self::Stream, seeds: &BTreeSet<Address>) -> BTreeSet<Address> {
        let _ = (stream, seeds);
        BTreeSet::new()
    }

    /// Whether an error of a stream or of an [`Opening`] means that one end does not trust the other. In that case the node
    /// retries the address rarely, and [`Event::ConnClosed`](formation_core::Event::ConnClosed) carries the reason.
    fn tls_failure(&self, error: &io::Error) -> Option<TlsFailure> {
        let _ = error;
        None
    }
}
