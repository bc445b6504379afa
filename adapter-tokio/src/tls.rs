//! TLS on another transport (feature `tls`).

use std::{collections::BTreeSet, io, time::Duration};

use formation_core::{Address, TlsFailure};
use formation_host::{
    Opening, Transport, close_gracefully,
    tls::{Credentials, certified, server_name, tls_failure},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::runtime::{Stream, Tokio};

/// TLS on [`Tcp`](crate::Tcp), or on another transport.
///
/// ```no_run
/// use formation_tokio::{Cluster, Config, Credentials, Tcp, Tls, TlsConfig};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let read = |path| std::fs::read(path);
/// let credentials = Credentials::new(TlsConfig::mutual(&read("ca.pem")?, &read("node.pem")?, &read("node.key")?)?);
/// let config = Config::builder("orders", "node-a", "node-a.example:7000")
///     .seeds(["node-a.example:7000", "node-b.example:7000", "node-c.example:7000"])
///     .build()?;
/// let listener = tokio::net::TcpListener::bind("0.0.0.0:7000").await?;
/// let cluster = Cluster::start_on(config, Tls::new(Tcp::new(listener), credentials.clone()))?;
///
/// // Later, while the node runs:
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
    /// Secures the connections of `below`.
    pub fn new(below: T, credentials: Credentials) -> Self {
        Self { below, credentials }
    }
}

impl<T: Transport<Stream: AsyncRead + AsyncWrite + Unpin>> Transport for Tls<T> {
    type Stream = TlsStream<T::Stream>;

    async fn accept(&self) -> io::Result<Opening<Self::Stream>> {
        let below = self.below.accept().await?;
        let acceptor = TlsAcceptor::from(self.credentials.current().server);
        Ok(below.secured(|stream| async move {
            match acceptor.accept(stream).into_fallible().await {
                Ok(stream) => Ok(stream.into()),
                Err((error, stream)) => Err(close_with(error, stream).await),
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
                Err((error, stream)) => Err(close_with(error, stream).await),
            }
        }))
    }

    fn certified(&self, stream: &Self::Stream, seeds: &BTreeSet<Address>) -> BTreeSet<Address> {
        certified(stream.get_ref().1.peer_certificates(), seeds)
    }

    fn tls_failure(&self, error: &io::Error) -> Option<TlsFailure> {
        tls_failure(error).or_else(|| self.below.tls_failure(error))
    }
}

/// Delivers the TLS alert, which says what is wrong, and returns the error.
async fn close_with(error: io::Error, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> io::Error {
    close_gracefully::<Tokio>(Stream(stream)).await;
    error
}
