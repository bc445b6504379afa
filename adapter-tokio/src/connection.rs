//! What happens on one connection: it is secured, read from and written to.

use std::{convert::Infallible, future::poll_fn, io, pin::pin, sync::Arc, task::Poll, time::Duration};

use bytes::{Bytes, BytesMut};
use formation_core::{Address, ConnId, DialId};
use formation_host::Opening;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    sync::{OwnedSemaphorePermit, mpsc, oneshot},
    task::{AbortHandle, JoinSet, yield_now},
    time::timeout,
};

use crate::transport::Transport;

/// How much is read at once. Small, as an idle connection keeps its buffer.
const READ_SIZE: usize = 16 * 1024;
/// A buffer with less room than this is renewed before the next read.
const READ_ROOM: usize = 2 * 1024;
/// How long a closed connection may take to write what is left and to see the end of its peer.
pub(crate) const LINGER: Duration = Duration::from_millis(500);

/// What the tasks of dials, connections and storage tell the driver.
#[derive(Debug)]
pub(crate) enum Report<S> {
    /// A dial has ended, well or not.
    Dialed { dial: DialId, result: io::Result<Opening<S>> },
    /// Bytes have come.
    Received { conn: ConnId, chunk: Bytes },
    /// The last `Send` is written.
    Flushed { conn: ConnId },
    /// The last `Persist` is durable.
    Persisted { seq: u64 },
    /// The last `Persist` has failed.
    PersistFailed { seq: u64 },
    /// The connection has ended.
    Closed { conn: ConnId, error: Option<io::Error> },
}

/// The driver's end of an open connection. Dropping it closes the connection behind what is being written.
#[derive(Debug)]
pub(crate) struct Connection {
    outbox: mpsc::Sender<Bytes>,
    /// Tells the reader by being dropped.
    _open: oneshot::Sender<Infallible>,
    task: AbortHandle,
}

impl Connection {
    /// Starts the task of a connection. The turn ends once it has taken what is there to be read.
    pub(crate) fn open<S>(
        conn: ConnId,
        opening: Opening<S>,
        turn: Option<OwnedSemaphorePermit>,
        reports: &mpsc::Sender<Report<S>>,
        tasks: &mut JoinSet<()>,
    ) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (outbox, to_write) = mpsc::channel(1);
        let (open, mut closing) = oneshot::channel();
        let reports = reports.clone();
        let carried = async move {
            let opened = tokio::select! {
                // Nothing that would have to arrive was said on it yet.
                _ = &mut closing => return,
                opened = opening => opened,
            };
            let closed = match opened {
                Ok(stream) => carry(conn, stream, closing, to_write, &reports).await,
                Err(error) => Some(Report::Closed { conn, error: Some(error) }),
            };
            if let Some(closed) = closed {
                // A driver that is gone needs no report.
                let _ = reports.send(closed).await;
            }
        };
        let task = tasks.spawn(async move {
            let mut carried = pin!(carried);
            if turn.is_some() {
                // The runtime looks at its sockets behind this.
                yield_now().await;
            }
            let done = poll_fn(|cx| Poll::Ready(carried.as_mut().poll(cx))).await;
            drop(turn);
            if done.is_pending() {
                carried.await;
            }
        });
        Self { outbox, _open: open, task }
    }

    /// Hands bytes to the writer. One `Send` is in flight at most, so there is room for it, or the writer has ended and
    /// its report is on the way.
    pub(crate) fn send(&self, bytes: Bytes) -> Result<(), mpsc::error::TrySendError<Bytes>> {
        self.outbox.try_send(bytes)
    }

    /// Closes the connection behind what is being written. What is left to do may be cut short.
    pub(crate) fn close(self) -> AbortHandle {
        self.task
    }
}

/// Reads and writes until either end closes. What there is to report of the end, unless it was the driver's wish.
async fn carry<S: AsyncRead + AsyncWrite>(
    conn: ConnId,
    stream: S,
    closing: oneshot::Receiver<Infallible>,
    to_write: mpsc::Receiver<Bytes>,
    reports: &mpsc::Sender<Report<S>>,
) -> Option<Report<S>> {
    let (reader, writer) = split(stream);
    let mut reading = pin!(read(conn, reader, closing, reports));
    let written = tokio::select! {
        closed = &mut reading => return closed,
        written = write(conn, writer, to_write, reports) => written,
    };
    match written {
        Ok(()) => reading.await,
        // The reader may know better why: what the peer said last is still to be read.
        Err(error) => match timeout(LINGER, reading).await {
            Ok(closed) => closed,
            Err(_) => Some(Report::Closed { conn, error: Some(error) }),
        },
    }
}

/// Reports what comes until the peer or the driver ends the connection.
async fn read<S>(
    conn: ConnId,
    mut stream: impl AsyncRead + Unpin,
    mut closing: oneshot::Receiver<Infallible>,
    reports: &mpsc::Sender<Report<S>>,
) -> Option<Report<S>> {
    let mut buffer = BytesMut::new();
    loop {
        if buffer.capacity() < READ_ROOM {
            buffer.reserve(READ_SIZE);
        }
        let report = tokio::select! {
            _ = &mut closing => break,
            read = stream.read_buf(&mut buffer) => match read {
                Ok(0) => return Some(Report::Closed { conn, error: None }),
                Ok(_) => Report::Received { conn, chunk: buffer.split().freeze() },
                Err(error) => return Some(Report::Closed { conn, error: Some(error) }),
            },
        };
        if reports.send(report).await.is_err() {
            break;
        }
    }
    drop(buffer);
    let _ = timeout(LINGER, drain(&mut stream)).await;
    None
}

/// A socket closed with unread bytes resets the connection, and the peer loses what it has not read yet: the reason of a
/// refusal, for one. So what still comes is read and forgotten until the peer has closed its end too.
pub(crate) async fn drain(stream: &mut (impl AsyncRead + Unpin)) {
    let mut waste = BytesMut::with_capacity(READ_ROOM);
    while let Ok(1..) = stream.read_buf(&mut waste).await {
        waste.clear();
    }
}

/// Writes what the driver hands over until it ends the connection, and then the end of the stream.
async fn write<S>(
    conn: ConnId,
    mut stream: impl AsyncWrite + Unpin,
    mut to_write: mpsc::Receiver<Bytes>,
    reports: &mpsc::Sender<Report<S>>,
) -> io::Result<()> {
    while let Some(bytes) = to_write.recv().await {
        stream.write_all(&bytes).await?;
        stream.flush().await?;
        if reports.send(Report::Flushed { conn }).await.is_err() {
            break;
        }
    }
    stream.shutdown().await
}

/// Connects, then reports.
pub(crate) async fn dial<T: Transport>(
    transport: Arc<T>,
    dial: DialId,
    address: Address,
    limit: Duration,
    reports: mpsc::Sender<Report<T::Stream>>,
) {
    let result = timeout(limit, transport.connect(&address, limit)).await;
    let result = result.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    // A driver that is gone needs no answer.
    let _ = reports.send(Report::Dialed { dial, result }).await;
}

#[cfg(test)]
mod tests {
    use tokio::io::{duplex, join};

    use super::*;

    /// As the alert is, by which a peer says that it does not trust this node.
    #[tokio::test]
    async fn what_a_peer_said_last_is_read_though_it_takes_nothing_any_more() {
        let (mut peer, ours) = duplex(64);
        let (dead, _) = duplex(64);
        let (reports, mut inbox) = mpsc::channel(4);
        let mut tasks = JoinSet::new();
        let conn = ConnId(1);
        let connection = Connection::open(conn, Opening::ready(join(ours, dead)), None, &reports, &mut tasks);
        connection.send(Bytes::from_static(b"anything")).unwrap();
        // There is one thread: once the bytes are taken they have failed to be written.
        while connection.outbox.capacity() == 0 {
            yield_now().await;
        }
        peer.write_all(b"last words").await.unwrap();
        drop(peer);
        let first = inbox.recv().await;
        assert!(matches!(&first, Some(Report::Received { chunk, .. }) if chunk == "last words"), "{first:?}");
        let then = inbox.recv().await;
        assert!(matches!(&then, Some(Report::Closed { error: None, .. })), "{then:?}");
    }
}
