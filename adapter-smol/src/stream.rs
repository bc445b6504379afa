//! Streams between the services of members.

use std::{
    fmt,
    io::{self, IoSlice},
    ops::Deref,
    pin::Pin,
    task::{Context, Poll},
};

use formation_core::Bytes;
use formation_host::{Handoff, StreamPeer};
use smol::io::{AsyncRead, AsyncWrite};

/// A stream between the services of two members: bytes in both directions, on a connection of its own. It has the methods of
/// [`StreamPeer`], which name the other end and tell when it is no member any more.
///
/// Dropping it closes the connection, and bytes that were written may not arrive then: shut it down first, and read to the end.
///
/// ```no_run
/// use formation_smol::{Cluster, PeerStream};
/// use smol::io::{AsyncReadExt, AsyncWriteExt};
///
/// async fn ask(cluster: &Cluster) -> Result<String, Box<dyn std::error::Error>> {
///     let master = cluster.wait_for_master().await?;
///     let mut stream: PeerStream = cluster.open(&master.node, "kv").await?;
///     stream.write_all(b"get answer").await?;
///     stream.close().await?;
///     let mut answer = String::new();
///     stream.read_to_string(&mut answer).await?;
///     println!("{} says {answer}", stream.peer());
///     Ok(answer)
/// }
/// ```
pub struct PeerStream {
    /// It is read before `io`.
    unread: Bytes,
    io: Box<dyn Io>,
    /// Dropped last: the stream counts until then.
    peer: StreamPeer,
}

/// What a stream reads and writes behind its first bytes: the stream of the transport itself.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Io for S {}

impl PeerStream {
    /// A stream of a node whose transport has streams of this type.
    pub(crate) fn of<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(handoff: Handoff) -> Self {
        let Handoff { io, unread, peer, .. } = handoff;
        let io = *io.downcast::<S>().expect("the streams of a node are those of its transport");
        Self { unread, io: Box::new(io), peer }
    }
}

impl Deref for PeerStream {
    type Target = StreamPeer;

    fn deref(&self) -> &StreamPeer {
        &self.peer
    }
}

impl fmt::Debug for PeerStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerStream").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.unread.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buffer);
        }
        let len = buffer.len().min(self.unread.len());
        // The last bytes take the memory along.
        buffer[..len].copy_from_slice(&self.unread.split_to(len));
        Poll::Ready(Ok(len))
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_close(cx)
    }
}
