//! The task of one connection: it secures, reads and writes the stream.

mod halves;

use std::{collections::BTreeSet, convert::Infallible, io, pin::pin, time::Duration};

use async_channel::{self as channel, Receiver, Sender, TrySendError};
use bytes::Bytes;
use formation_core::{Address, ConnId};
use futures_lite::{
    future,
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
};

use self::halves::Half;
use crate::{
    accept::AcceptPlace,
    driver::{self, Report, SecondSend},
    opening::Opening,
    permits::Permits,
    runtime::{ByteStream, Runtime, timeout},
    tasks::Spawner,
};

/// How many bytes are read at once on a connection that has little to read. An idle connection keeps its buffer.
const READ_AT_FIRST: usize = 512;
/// The most bytes that are read at once.
const READ_AT_MOST: usize = 16 * 1024;
/// After so many short reads in a row, less is read at once.
const SHORT_READS: u32 = 16;
/// How many bytes are read at once from a closed connection, to be dropped.
const WASTE: usize = 1024;
/// How long a closed connection may take to write what was sent last and to read until the end of its peer.
const LINGER: Duration = Duration::from_millis(500);

/// The driver's end of a connection, and the task of the connection.
pub(crate) struct Connection<R: Runtime> {
    /// `None` once the driver has closed the connection.
    open: Option<Open>,
    task: R::Task,
}

struct Open {
    outbox: Sender<Bytes>,
    /// Dropping it notifies the reader that the driver has closed the connection.
    closing: Sender<HandOff>,
}

/// The connection is a stream of the service: its task gives it back.
struct HandOff;

impl<R: Runtime> Connection<R> {
    /// Starts the task of a connection. `into_io` makes of the transport's stream what is read and written, and `certified`
    /// says which seeds the peer's certificate covers.
    pub(crate) fn open<S, D>(
        conn: ConnId,
        opening: Opening<S>,
        into_io: fn(S) -> D,
        certified: impl FnOnce(&S) -> BTreeSet<Address> + Send + 'static,
        place: Option<AcceptPlace>,
        spawner: &Spawner<S>,
    ) -> Self
    where
        S: Send + 'static,
        D: ByteStream,
    {
        let (outbox, to_write) = channel::bounded(1);
        let (closing_in, closing) = channel::bounded(1);
        let reports = spawner.reports().clone();
        let (silent, heard) = channel::bounded(1);
        // Boxed, or the task below would be as large as two of it.
        let mut carrying = Box::pin(async move {
            let opened = future::or(async { Err(told(&closing).await) }, async { Ok(opening.await) });
            match opened.await {
                Ok(Ok(stream)) => {
                    let seeds = certified(&stream);
                    if !seeds.is_empty() {
                        // It fails if the driver is gone.
                        let _ = reports.send(Report::Certified { conn, seeds }).await;
                    }
                    carry::<R, _, _>(conn, into_io(stream), (&closing, silent), to_write, &reports).await;
                }
                Ok(Err(error)) => {
                    // It fails if the driver is gone.
                    let _ = reports.send(Report::Closed { conn, error: Some(error) }).await;
                }
                // The driver has sent nothing yet that would have to arrive.
                Err(_) => {}
            }
        });
        let serving = async move {
            if let Some(place) = place {
                let carried = async {
                    carrying.as_mut().await;
                    true
                };
                let first = async {
                    timeout::<R, _>(place.limit, heard.recv()).await;
                    false
                };
                if future::or(carried, first).await {
                    return;
                }
            }
            carrying.await;
        };
        let panicked = move |error| Report::Closed { conn, error: Some(error) };
        let task = spawner.spawn_for_peer::<R>(serving, panicked);
        Self { open: Some(Open { outbox, closing: closing_in }), task }
    }

    /// Cuts the connection, and returns once its socket is closed.
    pub(crate) async fn cut(self) {
        R::cancel(self.task).await;
    }

    /// Waits until a closed connection has delivered what was sent last. It is cut if the limit passes before.
    pub(crate) async fn finish(self, limit: impl Future) {
        let Self { open, mut task } = self;
        drop(open);
        let delivered = async {
            (&mut task).await;
            true
        };
        let late = async {
            limit.await;
            false
        };
        if !future::or(delivered, late).await {
            R::cancel(task).await;
        }
    }
}

impl<R: Runtime> driver::Connection for Connection<R> {
    fn send(&self, bytes: Bytes) -> Result<(), SecondSend> {
        match self.open.as_ref().map(|open| open.outbox.try_send(bytes)) {
            Some(Err(TrySendError::Full(_))) => Err(SecondSend),
            // A writer that has ended has its report on the way.
            Some(Ok(()) | Err(TrySendError::Closed(_))) | None => Ok(()),
        }
    }

    fn hand_off(&self) {
        if let Some(open) = &self.open {
            // It fails if the task has ended.
            let _ = open.closing.try_send(HandOff);
        }
    }

    fn close(&mut self) {
        self.open = None;
    }

    fn is_finished(&self) -> bool {
        R::is_finished(&self.task)
    }
}

/// How a connection has ended.
enum End {
    ByDriver,
    /// The driver wants the stream back.
    HandedOff,
    ByPeer,
    Failed(io::Error),
}

/// Resolves once the driver has closed the connection, or wants the stream back.
async fn told(closing: &Receiver<HandOff>) -> End {
    match closing.recv().await {
        Ok(HandOff) => End::HandedOff,
        Err(_) => End::ByDriver,
    }
}

/// Reads and writes until either end closes, and reports that. Gives the stream back if it is one of the service: also if the peer has
/// closed its end already, since its last bytes may not be read, and it may read still.
async fn carry<R, D, S>(
    conn: ConnId,
    stream: D,
    (closing, silent): (&Receiver<HandOff>, Sender<Infallible>),
    to_write: Receiver<Bytes>,
    reports: &Sender<Report<S>>,
) where
    R: Runtime,
    D: ByteStream,
{
    let stream = Half::new(stream);
    let end = read_and_write::<R, _, _>(conn, &stream, (closing, silent), to_write, reports).await;
    let error = match end {
        End::ByDriver => return,
        End::HandedOff => return give_back(conn, stream, reports).await,
        End::ByPeer => None,
        End::Failed(error) => Some(error),
    };
    // It fails if the driver is gone.
    let _ = reports.send(Report::Closed { conn, error }).await;
    // The driver may have asked for the stream before it learns of the end.
    if let End::HandedOff = told(closing).await {
        give_back(conn, stream, reports).await;
    }
}

async fn give_back<D: ByteStream, S>(conn: ConnId, stream: Half<D>, reports: &Sender<Report<S>>) {
    if let Some(stream) = stream.into_whole() {
        // It fails if the driver is gone.
        let _ = reports.send(Report::HandedOff { conn, io: Box::new(stream) }).await;
    }
}

async fn read_and_write<R, D, S>(
    conn: ConnId,
    stream: &Half<D>,
    (closing, silent): (&Receiver<HandOff>, Sender<Infallible>),
    to_write: Receiver<Bytes>,
    reports: &Sender<Report<S>>,
) -> End
where
    R: Runtime,
    D: ByteStream,
{
    let mut reading = pin!(read::<R, _>(conn, stream.clone(), (closing, silent), reports));
    let writing = write(conn, stream.clone(), &to_write, reports);
    let written = future::or(async { Err(reading.as_mut().await) }, async { Ok(writing.await) }).await;
    match written {
        Err(end) => end,
        Ok(Ok(())) => reading.await,
        // The reader may find a better reason: the last bytes of the peer are still to be read.
        Ok(Err(error)) => timeout::<R, _>(LINGER, reading).await.unwrap_or(End::Failed(error)),
    }
}

/// Reports what arrives until the peer or the driver ends the connection. The next read waits until the driver has handled
/// the last chunk: a peer that floods its connection has one chunk among those of the others, and then has to wait. `silent` is dropped
/// once the first chunk is handled.
async fn read<R: Runtime, S>(
    conn: ConnId,
    mut stream: impl AsyncRead + Unpin,
    (closing, silent): (&Receiver<HandOff>, Sender<Infallible>),
    reports: &Sender<Report<S>>,
) -> End {
    let mut buffer = ReadBuffer::new();
    let permits = Permits::new(1);
    let (mut silent, mut has_read) = (Some(silent), false);
    loop {
        let read = async {
            let permit = permits.take().await;
            silent.take_if(|_| has_read);
            Ok((stream.read(buffer.room()).await, permit))
        };
        // Requests of the driver come first: nothing may be read that belongs to the service.
        let (length, permit) = match future::or(async { Err(told(closing).await) }, read).await {
            Err(End::ByDriver) => break,
            Err(end) => return end,
            Ok((Ok(0), _)) => return End::ByPeer,
            Ok((Ok(length), permit)) => (length, permit),
            Ok((Err(error), _)) => return End::Failed(error),
        };
        let chunk = buffer.take(length);
        has_read = true;
        if reports.send(Report::Received { conn, chunk, permit }).await.is_err() {
            break;
        }
    }
    drop((buffer, silent));
    timeout::<R, _>(LINGER, drain(&mut stream)).await;
    End::ByDriver
}

/// Where a connection reads to. It grows while the reads fill it, and shrinks when they are short.
struct ReadBuffer {
    bytes: Vec<u8>,
    /// How many short reads there were since the last long one.
    short: u32,
}

impl ReadBuffer {
    fn new() -> Self {
        Self { bytes: vec![0; READ_AT_FIRST], short: 0 }
    }

    fn room(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// The bytes that were read, and room for the next read.
    fn take(&mut self, length: usize) -> Bytes {
        let chunk = Bytes::copy_from_slice(&self.bytes[..length]);
        let room = self.bytes.len();
        if length == room {
            self.resize((4 * room).min(READ_AT_MOST));
        } else if length > READ_AT_FIRST || room == READ_AT_FIRST {
            self.short = 0;
        } else {
            self.short += 1;
            if self.short >= SHORT_READS {
                self.resize(READ_AT_FIRST);
            }
        }
        chunk
    }

    fn resize(&mut self, room: usize) {
        self.short = 0;
        if room != self.bytes.len() {
            self.bytes = vec![0; room];
        }
    }
}

/// Writes what the driver sends until the driver closes the connection, and then the end of the stream.
async fn write<S>(
    conn: ConnId,
    mut stream: impl AsyncWrite + Unpin,
    to_write: &Receiver<Bytes>,
    reports: &Sender<Report<S>>,
) -> io::Result<()> {
    while let Ok(bytes) = to_write.recv().await {
        stream.write_all(&bytes).await?;
        stream.flush().await?;
        if reports.send(Report::Flushed { conn }).await.is_err() {
            break;
        }
    }
    stream.close().await
}

/// Reads until the peer has closed its end, and drops what is read. A socket that is closed with unread bytes resets the
/// connection, and the peer loses what it has not read yet: the reason of a rejection, for example.
async fn drain(stream: &mut (impl AsyncRead + Unpin)) {
    let mut waste = vec![0; WASTE];
    while let Ok(1..) = stream.read(&mut waste).await {}
}

/// Closes a stream so that the bytes that were written last reach the peer. A transport ends a stream like this that it
/// could not secure: the last bytes say why.
///
/// Not cancel safe: if the future is dropped, the stream is closed at once, and the peer may lose the last bytes.
pub async fn close_gracefully<R: Runtime>(mut stream: impl ByteStream) {
    timeout::<R, _>(LINGER, async {
        if stream.close().await.is_ok() {
            drain(&mut stream).await;
        }
    })
    .await;
}

#[cfg(test)]
mod tests;
