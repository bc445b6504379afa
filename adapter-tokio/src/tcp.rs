//! Connections by TCP.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    panic::catch_unwind,
    time::Duration,
};

use formation_core::Address;
use formation_host::{Opening, Transport, check_not_self_connected, connect_any, resolve};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::runtime::Tokio;

/// Plain TCP. It resolves a name again for each dial.
#[derive(Debug)]
pub struct Tcp {
    listener: TcpListener,
}

impl Tcp {
    /// Accepts peers from this listener.
    pub fn new(listener: TcpListener) -> Self {
        Self { listener }
    }
}

impl Transport for Tcp {
    type Stream = TcpStream;

    /// A node may run on a runtime without sockets, but not on this transport.
    fn check(&self) -> Result<(), &'static str> {
        // A machine without this socket may still have others.
        let Ok(socket) = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)) else { return Ok(()) };
        // Tokio has no other way to ask. The message of the panic names the cause as well.
        catch_unwind(|| drop(socket.set_nonblocking(true).and_then(|()| UdpSocket::from_std(socket))))
            .map_err(|_| "the tokio runtime has no sockets; build it with enable_all or enable_io")
    }

    fn is_plain(&self) -> bool {
        true
    }

    async fn accept(&self) -> io::Result<Opening<TcpStream>> {
        let (stream, peer) = self.listener.accept().await?;
        Ok(Opening::of_tcp(stream, peer, |stream| stream.set_nodelay(true)))
    }

    async fn connect(&self, address: &Address, limit: Duration) -> io::Result<Opening<TcpStream>> {
        let (stream, peer) = connect_any::<Tokio, _, _, _>(resolve(address), limit, connect).await?;
        Ok(Opening::of_tcp(stream, peer, |stream| stream.set_nodelay(true)))
    }
}

async fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(to).await?;
    check_not_self_connected(stream.local_addr()?, stream.peer_addr()?)?;
    Ok(stream)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use tokio::net::TcpSocket;

    use super::*;

    fn bound() -> io::Result<TcpSocket> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        Ok(socket)
    }

    #[tokio::test]
    async fn a_socket_connected_to_itself_counts_as_refused() {
        let socket = bound().unwrap();
        let own = socket.local_addr().unwrap();
        let stream = socket.connect(own).await.unwrap();
        let refused = check_not_self_connected(stream.local_addr().unwrap(), stream.peer_addr().unwrap()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn a_name_leads_to_its_first_address_that_answers() {
        // Nobody listens at these, and no other socket can get them.
        let dead = [bound().unwrap(), bound().unwrap()];
        let (live, later) = (bound().unwrap().listen(1).unwrap(), bound().unwrap().listen(1).unwrap());
        let mut resolved: Vec<_> = dead.iter().map(|socket| socket.local_addr().unwrap()).collect();
        let dial = |addresses: &[SocketAddr]| {
            let addresses = addresses.to_vec();
            connect_any::<Tokio, _, _, _>(async { Ok(addresses) }, Duration::from_secs(60), connect)
        };
        let refused = dial(&resolved).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        resolved.extend([live.local_addr().unwrap(), later.local_addr().unwrap()]);
        let (stream, peer) = dial(&resolved).await.unwrap();
        assert_eq!((stream.peer_addr().unwrap(), peer), (resolved[2], resolved[2]));
        let nothing = dial(&[]).await.unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::NotFound);
    }
}
