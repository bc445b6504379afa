//! Connections by TCP.

use std::{io, net::SocketAddr, time::Duration};

use formation_core::Address;
use formation_host::Opening;
use tokio::{
    net::{TcpListener, TcpStream, lookup_host},
    time::{Instant, timeout_at},
};

use crate::transport::Transport;

/// TCP, without anything on it. Names are resolved anew at each dial.
#[derive(Debug)]
pub struct Tcp {
    listener: TcpListener,
}

impl Tcp {
    /// Peers are accepted from this listener.
    pub fn new(listener: TcpListener) -> Self {
        Self { listener }
    }
}

impl Transport for Tcp {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<Opening<TcpStream>> {
        let (stream, peer) = self.listener.accept().await?;
        Ok(prompt(stream).with_peer(peer))
    }

    async fn connect(&self, address: &Address, limit: Duration) -> io::Result<Opening<TcpStream>> {
        let deadline = Instant::now() + limit;
        let resolved: Vec<_> = lookup_host(address.as_str()).await?.collect();
        connect_any(&resolved, deadline).await.map(prompt)
    }
}

fn prompt(stream: TcpStream) -> Opening<TcpStream> {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY; small messages may be slow");
    }
    Opening::ready(stream)
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
