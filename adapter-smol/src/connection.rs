//! What happens on one connection: it is secured, read from and written to; and how connections come to be.

use std::{convert::Infallible, io, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use formation_core::{Address, ConnId};
use formation_host::Opening;
use smol::{
    Task, Timer,
    channel::{self, Receiver, Sender, TrySendError},
    future,
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    lock::{Semaphore, SemaphoreGuardArc},
};

use crate::{
    driver::{Accepted, Signal},
    transport::Transport,
};

const READ_BUFFER: usize = 8 * 1024;
/// How long a closed connection may take to deliver what was sent last.
pub(crate) const LINGER: Duration = Duration::from_millis(500);
/// After a failed accept, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An open connection. Dropping it cancels its task and closes the stream.
pub(crate) struct Connection {
    outgoing: Sender<Bytes>,
    /// Tells the reader by being dropped.
    _open: Sender<Infallible>,
    task: Task<()>,
}

impl Connection {
    /// Starts the task of a connection. The turn ends once it has taken what is there to be read.
    pub(crate) fn open<S>(
        conn: ConnId,
        opening: Opening<S>,
        turn: Option<SemaphoreGuardArc>,
        signals: &Sender<Signal<S>>,
    ) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (outgoing, to_write) = channel::bounded(1);
        let (_open, closing) = channel::bounded(1);
        let signals = signals.clone();
        let carried = async move {
            // When it closes before, nothing that would have to arrive was said on it yet.
            let opened = future::or(closed(&closing), async { Some(opening.await) });
            let end = match opened.await {
                None => None,
                Some(Ok(stream)) => carry(conn, stream, closing, to_write, &signals).await,
                Some(Err(error)) => Some(Err(error)),
            };
            if let Some(end) = end {
                let _ = signals.send(Signal::Closed(conn, end.err())).await;
            }
        };
        let task = smol::spawn(async move {
            let mut carried = pin!(carried);
            let done = future::poll_once(carried.as_mut()).await;
            drop(turn);
            if done.is_none() {
                carried.await;
            }
        });
        Self { outgoing, _open, task }
    }

    /// Hands bytes to the writer. One `Send` is in flight at most, so there is room for it, or the writer has ended and
    /// its report is on the way.
    pub(crate) fn send(&self, bytes: Bytes) -> Result<(), TrySendError<Bytes>> {
        self.outgoing.try_send(bytes)
    }

    /// Ends the connection so that what was sent still arrives. The task is what is left to do.
    pub(crate) fn close(self) -> Task<()> {
        self.task
    }
}

/// Done once the driver has closed the connection.
async fn closed<T>(closing: &Receiver<Infallible>) -> Option<T> {
    match closing.recv().await {
        Ok(never) => match never {},
        Err(_) => None,
    }
}

/// How the stream has ended; nothing when it was the driver's wish.
type End = Option<io::Result<()>>;

/// Reads and writes until either end closes.
async fn carry<S: AsyncRead + AsyncWrite + Unpin>(
    conn: ConnId,
    stream: S,
    closing: Receiver<Infallible>,
    to_write: Receiver<Bytes>,
    signals: &Sender<Signal<S>>,
) -> End {
    let (reader, writer) = split(stream);
    let mut reading = pin!(read(conn, reader, &closing, signals));
    let written =
        future::or(async { Err(reading.as_mut().await) }, async { Ok(write(conn, writer, &to_write, signals).await) });
    match written.await {
        Err(end) => end,
        Ok(Ok(())) => reading.await,
        // The reader may know better why: what the peer said last is still to be read.
        Ok(Err(error)) => {
            future::or(reading, async {
                pause(LINGER).await;
                Some(Err(error))
            })
            .await
        }
    }
}

async fn read<S>(
    conn: ConnId,
    mut stream: impl AsyncRead + Unpin,
    closing: &Receiver<Infallible>,
    signals: &Sender<Signal<S>>,
) -> End {
    let mut buffer = vec![0; READ_BUFFER];
    loop {
        let read = future::or(closed(closing), async { Some(stream.read(&mut buffer).await) });
        let len = match read.await {
            None => break,
            Some(Ok(0)) => return Some(Ok(())),
            Some(Ok(len)) => len,
            Some(Err(error)) => return Some(Err(error)),
        };
        if signals.send(Signal::Received(conn, Bytes::copy_from_slice(&buffer[..len]))).await.is_err() {
            break;
        }
    }
    drop(buffer);
    future::or(drain(&mut stream), pause(LINGER)).await;
    None
}

/// Closing a socket with unread bytes would reset it, and the peer lose what it has not read yet. So what still comes is
/// read and forgotten until the peer has closed its end too.
pub(crate) async fn drain(stream: &mut (impl AsyncRead + Unpin)) {
    let mut waste = [0; 1024];
    while let Ok(1..) = stream.read(&mut waste).await {}
}

/// Writes what the driver hands over until it ends the connection, and then the end of the stream.
async fn write<S>(
    conn: ConnId,
    mut stream: impl AsyncWrite + Unpin,
    to_write: &Receiver<Bytes>,
    signals: &Sender<Signal<S>>,
) -> io::Result<()> {
    while let Ok(bytes) = to_write.recv().await {
        stream.write_all(&bytes).await?;
        stream.flush().await?;
        if signals.send(Signal::Flushed(conn)).await.is_err() {
            break;
        }
    }
    stream.close().await
}

/// Accepts for ever; no failure ends it, and none makes it spin.
pub(crate) async fn accept<T: Transport>(
    transport: Arc<T>,
    turns: Arc<Semaphore>,
    accepted: Sender<Accepted<T::Stream>>,
    node: Arc<str>,
) {
    loop {
        let turn = turns.acquire_arc().await;
        match transport.accept().await {
            Ok(opening) => {
                if accepted.send((opening, turn)).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(%node, %error, "accepting a connection failed");
                pause(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Connects, in this time.
pub(crate) async fn dial<T: Transport>(
    transport: Arc<T>,
    address: Address,
    limit: Duration,
) -> io::Result<Opening<T::Stream>> {
    future::or(transport.connect(&address, limit), timed_out(limit)).await
}

pub(crate) async fn timed_out<T>(after: Duration) -> io::Result<T> {
    pause(after).await;
    Err(io::ErrorKind::TimedOut.into())
}

pub(crate) async fn pause(duration: Duration) {
    Timer::after(duration).await;
}
