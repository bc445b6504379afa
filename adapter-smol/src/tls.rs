//! TLS on another transport (feature `tls`).

use std::{io, time::Duration};

use formation_core::{Address, TlsFailure};
use formation_host::{
    Opening,
    tls::{Credentials, server_name, tls_failure},
};
use futures_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use smol::{
    future,
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
};

use crate::{
    connection::{LINGER, drain, pause},
    transport::Transport,
};

/// TLS on [`Tcp`](crate::Tcp), or on another transport.
///
/// ```no_run
/// use formation_smol::{Cluster, Config, Credentials, Tcp, Tls, TlsConfig};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let read = |path| std::fs::read(path);
/// let credentials = Credentials::new(TlsConfig::mutual(&read("ca.pem")?, &read("node.pem")?, &read("node.key")?)?);
/// let config = Config::builder("orders", "node-a", "node-a.example:7000")
///     .seeds(["node-a.example:7000", "node-b.example:7000", "node-c.example:7000"])
///     .build()?;
/// let listener = smol::net::TcpListener::bind("0.0.0.0:7000").await?;
/// let cluster = Cluster::start_on(config, Tls::new(Tcp::new(listener), credentials.clone()))?;
///
/// // Some day, while it runs:
/// credentials.replace(TlsConfig::mutual(&read("ca.pem")?, &read("new.pem")?, &read("new.key")?)?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Tls<T> {
    below: T,
    credentials: Credentials,
}

impl<T: Transport> Tls<T> {
    /// Secures what `below` carries.
    pub fn new(below: T, credentials: Credentials) -> Self {
        Self { below, credentials }
    }
}

impl<T: Transport> Transport for Tls<T> {
    type Stream = TlsStream<T::Stream>;

    async fn accept(&self) -> io::Result<Opening<Self::Stream>> {
        let below = self.below.accept().await?;
        let acceptor = TlsAcceptor::from(self.credentials.current().server);
        Ok(below.secured(|stream| async move {
            match acceptor.accept(stream).into_fallible().await {
                Ok(stream) => Ok(stream.into()),
                Err((error, stream)) => Err(see_off(error, stream).await),
            }
        }))
    }

    async fn connect(&self, address: &Address, limit: Duration) -> io::Result<Opening<Self::Stream>> {
        let name = server_name(address)?;
        let below = self.below.connect(address, limit).await?;
        let connector = TlsConnector::from(self.credentials.current().client);
        Ok(below.secured(|stream| async move {
            match connector.connect(name, stream).into_fallible().await {
                Ok(stream) => Ok(stream.into()),
                Err((error, stream)) => Err(see_off(error, stream).await),
            }
        }))
    }

    fn tls_failure(&self, error: &io::Error) -> Option<TlsFailure> {
        tls_failure(error).or_else(|| self.below.tls_failure(error))
    }
}

/// Lets the alert that says why reach the peer.
async fn see_off(error: io::Error, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Error {
    let seen_off = async {
        if stream.close().await.is_ok() {
            drain(&mut stream).await;
        }
    };
    future::or(seen_off, pause(LINGER)).await;
    error
}
