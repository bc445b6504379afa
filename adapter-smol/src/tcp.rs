//! Connections by TCP.

use std::{io, net::SocketAddr, time::Duration};

use formation_core::Address;
use formation_host::Opening;
use smol::{
    future,
    net::{TcpListener, TcpStream},
};

use crate::{connection::timed_out, transport::Transport};

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

    /// Every address that the name stands for gets the same share of the time, so that a silent one does not use up that
    /// of those behind it.
    async fn connect(&self, address: &Address, limit: Duration) -> io::Result<Opening<TcpStream>> {
        let resolved = smol::net::resolve(address.as_str()).await?;
        connect_any(resolved, limit).await.map(prompt)
    }
}

fn prompt(stream: TcpStream) -> Opening<TcpStream> {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY; small messages may be slow");
    }
    Opening::ready(stream)
}

async fn connect_any(resolved: Vec<SocketAddr>, timeout: Duration) -> io::Result<TcpStream> {
    let share = timeout / u32::try_from(resolved.len()).unwrap_or(u32::MAX).max(1);
    let mut failure = io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address");
    for addr in resolved {
        match future::or(TcpStream::connect(addr), timed_out(share)).await.and_then(not_to_itself) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// TCP connects a socket to itself when a dial of a local port that nobody listens on happens to leave from that port.
/// Nobody is there: taken for a connection, it would look as if the address were this node's own.
fn not_to_itself(stream: TcpStream) -> io::Result<TcpStream> {
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
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
