//! Connections by TCP.

use std::{io, net::SocketAddr, time::Duration};

use formation_core::Address;
use formation_host::{Opening, Transport, check_not_self_connected, connect_any, resolve};
use smol::net::{TcpListener, TcpStream};

use crate::runtime::Smol;

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

    fn is_plain(&self) -> bool {
        true
    }

    async fn accept(&self) -> io::Result<Opening<TcpStream>> {
        let (stream, peer) = self.listener.accept().await?;
        Ok(Opening::of_tcp(stream, peer, |stream| stream.set_nodelay(true)))
    }

    async fn connect(&self, address: &Address, limit: Duration) -> io::Result<Opening<TcpStream>> {
        let (stream, peer) = connect_any::<Smol, _, _, _>(resolve(address), limit, connect).await?;
        Ok(Opening::of_tcp(stream, peer, |stream| stream.set_nodelay(true)))
    }
}

async fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(to).await?;
    check_not_self_connected(stream.local_addr()?, stream.peer_addr()?)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_name_leads_to_its_first_address_that_answers() {
        let listen = || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            (listener, address)
        };
        let ((live, first), (later, second)) = (listen(), listen());
        // Nobody listens at these.
        let dead = [SocketAddr::from(([127, 0, 0, 1], 1)), SocketAddr::from(([127, 0, 0, 1], 2))];
        let dial = |addresses: Vec<SocketAddr>| {
            connect_any::<Smol, _, _, _>(async { Ok(addresses) }, Duration::from_secs(60), connect)
        };
        smol::block_on(async {
            let refused = dial(dead.to_vec()).await.unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
            let (stream, peer) = dial([dead[0], dead[1], first, second].to_vec()).await.unwrap();
            assert_eq!((stream.peer_addr().unwrap(), peer), (first, first));
            let nothing = dial(Vec::new()).await.unwrap_err();
            assert_eq!(nothing.kind(), io::ErrorKind::NotFound);
        });
        drop((live, later));
    }
}
