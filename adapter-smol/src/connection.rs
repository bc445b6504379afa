//! One connection: a task that reads, a task that writes, and how connections come to be and end.

use std::{
    io,
    net::{Shutdown, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use formation_core::{Address, ConnId};
use smol::{
    Task, Timer,
    channel::{self, Receiver, Sender},
    future,
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::driver::Signal;

const READ_BUFFER: usize = 8 * 1024;
/// How long a closed connection may take to deliver what was sent last.
const LINGER: Duration = Duration::from_millis(500);
/// After a failed accept, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An open connection. Dropping it cancels its tasks and closes the socket.
pub(crate) struct Connection {
    stream: TcpStream,
    outgoing: Sender<Bytes>,
    _tasks: [Task<()>; 2],
}

impl Connection {
    pub(crate) fn open(conn: ConnId, stream: TcpStream, signals: &Sender<Signal>) -> Self {
        // A socket without it works, only later.
        let _ = stream.set_nodelay(true);
        let (outgoing, to_write) = channel::bounded(1);
        let reader = smol::spawn(read(conn, stream.clone(), signals.clone()));
        let writer = smol::spawn(write(conn, stream.clone(), to_write, signals.clone()));
        Self { stream, outgoing, _tasks: [reader, writer] }
    }

    /// Hands bytes to the writer, which has room: the core has one `Send` in flight at most. Bytes for a connection
    /// whose writer has failed go nowhere, and its reader reports the end.
    pub(crate) fn send(&self, bytes: Bytes) {
        let _ = self.outgoing.try_send(bytes);
    }

    /// Ends the connection so that what was flushed still arrives: closing a socket with unread bytes would reset it.
    pub(crate) fn close(self) -> Task<()> {
        let mut stream = self.stream.clone();
        drop(self);
        smol::spawn(async move {
            let drained = async {
                let mut waste = [0; 1024];
                if stream.shutdown(Shutdown::Write).is_ok() {
                    while let Ok(1..) = stream.read(&mut waste).await {}
                }
            };
            future::or(drained, pause(LINGER)).await;
        })
    }
}

async fn read(conn: ConnId, mut stream: TcpStream, signals: Sender<Signal>) {
    let mut buffer = vec![0; READ_BUFFER];
    while let Ok(len @ 1..) = stream.read(&mut buffer).await {
        if signals.send(Signal::Received(conn, Bytes::copy_from_slice(&buffer[..len]))).await.is_err() {
            return;
        }
    }
    let _ = signals.send(Signal::Closed(conn)).await;
}

async fn write(conn: ConnId, mut stream: TcpStream, outgoing: Receiver<Bytes>, signals: Sender<Signal>) {
    while let Ok(bytes) = outgoing.recv().await {
        let written = async {
            stream.write_all(&bytes).await?;
            stream.flush().await
        };
        if written.await.is_err() {
            // Ends the reader too, which tells the driver once it has read what has already come.
            let _ = stream.shutdown(Shutdown::Both);
            return;
        }
        if signals.send(Signal::Flushed(conn)).await.is_err() {
            return;
        }
    }
}

/// Accepts for ever; no failure ends it, and none makes it spin.
pub(crate) async fn accept(listener: TcpListener, signals: Sender<Signal>, node: Arc<str>) {
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                if signals.send(Signal::Accepted(stream, from)).await.is_err() {
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

/// Resolves the address anew and tries each result in turn. Every one gets the same share of `timeout`, so that a
/// silent one does not use up the time of those behind it.
pub(crate) async fn dial(addr: Address, timeout: Duration) -> io::Result<TcpStream> {
    let attempts = async {
        let resolved = smol::net::resolve(addr.as_str()).await?;
        connect_any(resolved, timeout).await
    };
    future::or(attempts, timed_out(timeout)).await
}

async fn connect_any(resolved: Vec<SocketAddr>, timeout: Duration) -> io::Result<TcpStream> {
    let share = timeout / u32::try_from(resolved.len()).unwrap_or(u32::MAX).max(1);
    let mut failure = io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address");
    for addr in resolved {
        match future::or(TcpStream::connect(addr), timed_out(share)).await {
            // A dial of a local port on which nobody listens can leave from that very port, and TCP then connects the
            // socket to itself. Nobody is there.
            Ok(stream) if stream.local_addr()? == stream.peer_addr()? => {
                failure = io::ErrorKind::ConnectionRefused.into();
            }
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

async fn timed_out<T>(after: Duration) -> io::Result<T> {
    pause(after).await;
    Err(io::ErrorKind::TimedOut.into())
}

async fn pause(duration: Duration) {
    Timer::after(duration).await;
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_name_of_several_addresses_leads_to_the_first_that_answers() {
        let listen = || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            (listener, address)
        };
        let ((live, first), (later, second)) = (listen(), listen());
        // Nobody listens there: the ports of listeners are never given out as those of clients at the same time.
        let dead = [SocketAddr::from(([127, 0, 0, 1], 1)), SocketAddr::from(([127, 0, 0, 1], 2))];
        let minute = Duration::from_secs(60);
        smol::block_on(async {
            let refused = connect_any(dead.to_vec(), minute).await.unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            let stream = connect_any([dead[0], dead[1], first, second].to_vec(), minute).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap(), first);
            let nothing = connect_any(Vec::new(), minute).await.unwrap_err();
            assert_eq!(nothing.kind(), io::ErrorKind::AddrNotAvailable);
        });
        drop((live, later));
    }
}
