//! A node on smol.

use std::ops::Deref;

use formation_core::Config;
use formation_host::{ClusterHandle, Environment, Runtime, StartError, Transport, start_node};
use smol::{
    Task,
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};

use crate::{runtime::Smol, tcp::Tcp};

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
        Ok(Self { handle, _driver: Smol::spawn(driver) })
    }
}

impl Deref for Cluster {
    type Target = ClusterHandle;

    fn deref(&self) -> &ClusterHandle {
        &self.handle
    }
}
