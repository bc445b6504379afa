//! What happens on sockets: dialing, and the reader and the writer of each connection.

use std::{convert::Infallible, io, net::SocketAddr, time::Duration};

use bytes::{Bytes, BytesMut};
use formation_core::{Address, ConnId, DialId};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream, lookup_host,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};

/// How much is read at once. Small, as an idle connection keeps its buffer.
const READ_SIZE: usize = 16 * 1024;
/// A buffer with less room than this is renewed before the next read.
const READ_ROOM: usize = 2 * 1024;
/// How long a closed connection may take to write what is left and to see the end of its peer.
const LINGER: Duration = Duration::from_millis(500);

/// What the tasks of dials, connections and storage tell the driver.
#[derive(Debug)]
pub(crate) enum Report {
    /// A dial has ended, well or not.
    Dialed { dial: DialId, result: io::Result<TcpStream> },
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
}

impl Connection {
    /// Starts the reader and the writer of a stream.
    pub(crate) fn open(
        conn: ConnId,
        stream: TcpStream,
        reports: &mpsc::Sender<Report>,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%conn, %error, "no TCP_NODELAY; small messages may be slow");
        }
        let (reader, writer) = stream.into_split();
        let (outbox, to_write) = mpsc::channel(1);
        let (open, closing) = oneshot::channel();
        let writing = tasks.spawn(write(conn, writer, to_write, reports.clone()));
        let reading = read(conn, reader, closing, reports.clone());
        tasks.spawn(async move {
            reading.await;
            writing.abort();
        });
        Self { outbox, _open: open }
    }

    /// Hands bytes to the writer. One `Send` is in flight at most, so there is room for it, or the writer has ended and
    /// its report is on the way.
    pub(crate) fn send(&self, bytes: Bytes) -> Result<(), mpsc::error::TrySendError<Bytes>> {
        self.outbox.try_send(bytes)
    }
}

/// Reports what comes until the peer or the driver ends the connection.
async fn read(
    conn: ConnId,
    mut stream: OwnedReadHalf,
    mut closing: oneshot::Receiver<Infallible>,
    reports: mpsc::Sender<Report>,
) {
    let mut buffer = BytesMut::new();
    loop {
        if buffer.capacity() < READ_ROOM {
            buffer.reserve(READ_SIZE);
        }
        let report = tokio::select! {
            _ = &mut closing => break,
            read = stream.read_buf(&mut buffer) => match read {
                Ok(0) => Report::Closed { conn, error: None },
                Ok(_) => Report::Received { conn, chunk: buffer.split().freeze() },
                Err(error) => Report::Closed { conn, error: Some(error) },
            },
        };
        let ended = matches!(report, Report::Closed { .. });
        if reports.send(report).await.is_err() || ended {
            return;
        }
    }
    // A socket closed with unread bytes resets the connection, and the peer loses what it has not read yet: the reason
    // of a refusal, for one. So what still comes is read and forgotten until the peer has closed its end too.
    let drain = async {
        while let Ok(1..) = stream.read_buf(&mut buffer).await {
            buffer.clear();
        }
    };
    let _ = timeout(LINGER, drain).await;
}

/// Writes what the driver hands over until either of them ends.
async fn write(
    conn: ConnId,
    mut stream: OwnedWriteHalf,
    mut to_write: mpsc::Receiver<Bytes>,
    reports: mpsc::Sender<Report>,
) {
    while let Some(bytes) = to_write.recv().await {
        let (report, ended) = match stream.write_all(&bytes).await {
            Ok(()) => (Report::Flushed { conn }, false),
            Err(error) => (Report::Closed { conn, error: Some(error) }, true),
        };
        if reports.send(report).await.is_err() || ended {
            return;
        }
    }
    // Dropping the half sends the end of the stream.
}

/// Resolves the address and tries everything that it resolves to, then reports.
pub(crate) async fn dial(dial: DialId, address: Address, limit: Duration, reports: mpsc::Sender<Report>) {
    let result = timeout(limit, connect(&address, Instant::now() + limit)).await;
    let result = result.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    // A driver that is gone needs no answer.
    let _ = reports.send(Report::Dialed { dial, result }).await;
}

async fn connect(address: &Address, deadline: Instant) -> io::Result<TcpStream> {
    let resolved: Vec<_> = lookup_host(address.as_str()).await?.collect();
    connect_any(&resolved, deadline).await
}

async fn connect_any(resolved: &[SocketAddr], deadline: Instant) -> io::Result<TcpStream> {
    let mut result = Err(io::Error::new(io::ErrorKind::NotFound, "the name resolves to no address"));
    for (index, to) in resolved.iter().enumerate() {
        // Each gets its share of the time left, or a silent first one would hide the others.
        let now = Instant::now();
        let left = u32::try_from(resolved.len() - index).unwrap_or(u32::MAX);
        let share = now + deadline.saturating_duration_since(now) / left;
        result = match timeout_at(share, TcpStream::connect(to)).await {
            Ok(connected) => connected.and_then(not_to_itself),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        if result.is_ok() {
            break;
        }
    }
    result
}

/// TCP connects a socket to itself when a dial of a local port that nobody listens on happens to leave from that port.
/// Nobody is there: taken for a connection, it would look as if the address were this node's own.
fn not_to_itself(stream: TcpStream) -> io::Result<TcpStream> {
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_connected_to_itself_counts_as_refused() {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let own = socket.local_addr().unwrap();
        let stream = socket.connect(own).await.unwrap();
        assert_eq!(not_to_itself(stream).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn a_name_of_several_addresses_leads_to_the_first_that_answers() {
        let bound = || {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            socket
        };
        // Nobody listens at these, and nobody else can get them.
        let dead = [bound(), bound()];
        let (live, later) = (bound().listen(1).unwrap(), bound().listen(1).unwrap());
        let mut resolved: Vec<_> = dead.iter().map(|socket| socket.local_addr().unwrap()).collect();
        let deadline = Instant::now() + Duration::from_secs(60);
        let refused = connect_any(&resolved, deadline).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        resolved.extend([live.local_addr().unwrap(), later.local_addr().unwrap()]);
        let stream = connect_any(&resolved, deadline).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), live.local_addr().unwrap());
        let nothing = connect_any(&[], deadline).await.unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::NotFound);
    }
}
