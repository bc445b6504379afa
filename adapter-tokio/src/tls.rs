//! TLS on another transport (feature `tls`).

use std::{io, sync::Arc};

use formation_host::{
    ByteStream,
    tls::{self, Secure},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{
    TlsAcceptor, TlsConnector, TlsStream,
    rustls::{
        ClientConfig, ServerConfig,
        pki_types::{CertificateDer, ServerName},
    },
};

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
pub type Tls<T> = tls::Tls<Tokio, T>;

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Secure<S> for Tokio {
    type Secured = TlsStream<S>;

    async fn accept(stream: S, config: Arc<ServerConfig>) -> Result<TlsStream<S>, (io::Error, S)> {
        TlsAcceptor::from(config).accept(stream).into_fallible().await.map(Into::into)
    }

    async fn connect(
        stream: S,
        name: ServerName<'static>,
        config: Arc<ClientConfig>,
    ) -> Result<TlsStream<S>, (io::Error, S)> {
        TlsConnector::from(config).connect(name, stream).into_fallible().await.map(Into::into)
    }

    fn certificates(stream: &TlsStream<S>) -> Option<&[CertificateDer<'static>]> {
        stream.get_ref().1.peer_certificates()
    }

    fn bytes(stream: S) -> impl ByteStream {
        Stream(stream)
    }
}
