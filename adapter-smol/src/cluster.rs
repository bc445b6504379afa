//! A node on smol.

use std::ops::Deref;

use formation_core::{Config, Node};
use formation_host::{
    ClusterHandle, Environment, Incoming, IncomingError, OpenError, Runtime, StartError, Streams, Transport, start_node,
};
use smol::{
    Task,
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};

use crate::{runtime::Smol, stream::PeerStream, tcp::Tcp};

/// A running node, on smol's global executor, and its owner. Its methods are those of [`ClusterHandle`]. `cluster.clone()` returns
/// such a handle, for another task; the node has one owner.
///
/// Dropping the owner ends the node without a message to the other nodes, like a crash: all of its tasks are cancelled and its
/// sockets closed, a moment later. Await [`shutdown`](ClusterHandle::shutdown) to know when this is done, or
/// [`leave`](ClusterHandle::leave) to leave the cluster first. Both have a form with a time limit.
#[derive(Debug)]
#[must_use = "dropping it ends the node"]
pub struct Cluster {
    handle: ClusterHandle,
    streams: Streams<PeerStream>,
    /// Owns everything else of the node. Dropping it cancels it.
    _driver: Task<()>,
}

impl Cluster {
    /// Starts a node that accepts its peers from `listener`. The other nodes must reach the listener at the configured address.
    ///
    /// With a [`state_dir`](crate::ConfigBuilder::state_dir) the node's votes survive a restart. This function then waits for
    /// the disk: it returns once the votes of the last run are read and the new run is recorded. Without a `state_dir` votes
    /// are kept in memory.
    ///
    /// # Errors
    /// [`StartError`]: the stored state does not fit this node, nothing can be stored, the system has no usable wall clock or
    /// no randomness, or the node cannot run here. Nothing is running then, and nothing that was stored has changed.
    pub fn start(config: Config, listener: TcpListener) -> Result<Self, StartError> {
        Self::start_on(config, Tcp::new(listener))
    }

    /// Starts a node on a transport other than plain TCP: on `Tls`, or on one of your own.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_on<T>(config: Config, transport: T) -> Result<Self, StartError>
    where
        T: Transport<Stream: AsyncRead + AsyncWrite + Unpin>,
    {
        Self::start_with(config, transport, &Environment::system())
    }

    /// Starts a node with a clock, an incarnation, a random seed or a storage that does not come from the operating system. It is for
    /// tests of a service. See [`Environment`].
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with<T>(config: Config, transport: T, environment: &Environment) -> Result<Self, StartError>
    where
        T: Transport<Stream: AsyncRead + AsyncWrite + Unpin>,
    {
        let (handle, driver) = start_node::<Smol, _, _>(config, transport, environment, std::convert::identity)?;
        let streams = Streams::new(handle.clone(), PeerStream::of::<T::Stream>);
        Ok(Self { handle, streams, _driver: Smol::spawn(driver) })
    }

    /// The streams of this node, for other tasks.
    ///
    /// ```no_run
    /// use formation_smol::{Cluster, PeerStream, Streams};
    ///
    /// async fn example(cluster: &Cluster) {
    ///     let streams: Streams<PeerStream> = cluster.streams();
    ///     let member = cluster.view().iter().next().map(|member| member.node.clone());
    ///     let task = async move { streams.open(&member?, "kv").await.ok() };
    ///     drop(task.await);
    /// }
    /// ```
    pub fn streams(&self) -> Streams<PeerStream> {
        self.streams.clone()
    }

    /// Opens a stream to a member: see [`Streams::open`].
    ///
    /// Cancel safe: a stream that is opened meanwhile is closed.
    ///
    /// # Errors
    /// As `Streams::open`.
    pub async fn open(&self, to: &Node, name: &str) -> Result<PeerStream, OpenError> {
        self.streams.open(to, name).await
    }

    /// Takes the streams of this name: see [`Streams::incoming`].
    ///
    /// ```no_run
    /// # async fn example(cluster: &formation_smol::Cluster) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut incoming = cluster.incoming("kv").await?;
    /// while let Ok(stream) = incoming.accept().await {
    ///     println!("{} has opened {}", stream.peer(), incoming.name());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Cancel safe: if the future is dropped, the name is not served.
    ///
    /// # Errors
    /// As `Streams::incoming`.
    pub async fn incoming(&self, name: &str) -> Result<Incoming<PeerStream>, IncomingError> {
        self.streams.incoming(name).await
    }
}

impl Deref for Cluster {
    type Target = ClusterHandle;

    fn deref(&self) -> &ClusterHandle {
        &self.handle
    }
}
