//! TLS on another transport, for any runtime.

use std::{collections::BTreeSet, fmt, io, marker::PhantomData, sync::Arc, time::Duration};

use formation_core::{Address, TlsFailure};
use rustls::{
    ClientConfig, ServerConfig,
    pki_types::{CertificateDer, ServerName},
};

use super::{Credentials, certified, server_name, tls_failure};
use crate::{Opening, Transport, close_gracefully, runtime::ByteStream, runtime::Runtime};

/// A runtime that secures streams of the type `S` by rustls.
pub trait Secure<S>: Runtime {
    /// A secured stream.
    type Secured: Send + 'static;

    /// Secures a connection that was accepted. An error returns the stream, so that the TLS alert can be delivered. If
    /// the future is cancelled, the stream is dropped with it.
    fn accept(
        stream: S,
        config: Arc<ServerConfig>,
    ) -> impl Future<Output = Result<Self::Secured, (io::Error, S)>> + Send;

    /// Secures a connection that was dialed. The peer's certificate must be valid for `name`. Errors and what happens
    /// if the future is cancelled are those of [`accept`](Self::accept).
    fn connect(
        stream: S,
        name: ServerName<'static>,
        config: Arc<ClientConfig>,
    ) -> impl Future<Output = Result<Self::Secured, (io::Error, S)>> + Send;

    /// The certificates of the peer, its own first.
    fn certificates(stream: &Self::Secured) -> Option<&[CertificateDer<'static>]>;

    /// A stream that is not secured, by the traits of `futures-io`.
    fn bytes(stream: S) -> impl ByteStream;
}

/// TLS on another transport. It secures each connection while the connection is an [`Opening`].
pub struct Tls<R, T> {
    below: T,
    credentials: Credentials,
    runtime: PhantomData<fn() -> R>,
}

impl<R, T: Transport> Tls<R, T> {
    /// Secures the connections of `below`.
    pub fn new(below: T, credentials: Credentials) -> Self {
        Self { below, credentials, runtime: PhantomData }
    }
}

impl<R, T: fmt::Debug> fmt::Debug for Tls<R, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("below", &self.below).field("credentials", &self.credentials).finish()
    }
}

impl<R: Secure<T::Stream>, T: Transport> Transport for Tls<R, T> {
    type Stream = R::Secured;

    async fn accept(&self) -> io::Result<Opening<Self::Stream>> {
        let below = self.below.accept().await?;
        let config = self.credentials.current().server;
        Ok(below.secured(|stream| async { or_close::<R, _>(R::accept(stream, config).await).await }))
    }

    async fn connect(&self, address: &Address, limit: Duration) -> io::Result<Opening<Self::Stream>> {
        let name = server_name(address)?;
        let below = self.below.connect(address, limit).await?;
        let config = self.credentials.current().client;
        Ok(below.secured(|stream| async { or_close::<R, _>(R::connect(stream, name, config).await).await }))
    }

    fn check(&self) -> Result<(), &'static str> {
        self.below.check()
    }

    fn certified(&self, stream: &Self::Stream, seeds: &BTreeSet<Address>) -> BTreeSet<Address> {
        certified(R::certificates(stream), seeds)
    }

    fn tls_failure(&self, error: &io::Error) -> Option<TlsFailure> {
        tls_failure(error).or_else(|| self.below.tls_failure(error))
    }
}

/// Where a stream could not be secured, delivers the TLS alert, which says what is wrong.
async fn or_close<R: Secure<S>, S>(secured: Result<R::Secured, (io::Error, S)>) -> io::Result<R::Secured> {
    match secured {
        Ok(secured) => Ok(secured),
        Err((error, stream)) => {
            close_gracefully::<R>(R::bytes(stream)).await;
            Err(error)
        }
    }
}
