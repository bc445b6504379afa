//! A node on tokio.

use std::ops::Deref;

use formation_core::{Config, Node, Timestamp};
use formation_host::{
    ClusterHandle, Environment, Incoming, IncomingError, OpenError, Runtime, StartError, Streams, Transport, start_node,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};

use crate::{
    runtime::{Stream, Task, Tokio},
    stream::PeerStream,
    tcp::Tcp,
};

/// A running node, and its owner. Its methods are those of [`ClusterHandle`]. `cluster.clone()` returns such a handle, for another
/// task; the node has one owner.
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
    _driver: Task,
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
        let (handle, driver) = start_node::<Tokio, _, _>(config, transport, environment, Stream)?;
        let streams = Streams::new(handle.clone(), PeerStream::of::<T::Stream>);
        Ok(Self { handle, streams, _driver: Tokio::spawn(driver) })
    }

    /// The streams of this node, for other tasks.
    ///
    /// ```no_run
    /// use formation_tokio::{Cluster, PeerStream, Streams};
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
    /// # async fn example(cluster: &formation_tokio::Cluster) -> Result<(), Box<dyn std::error::Error>> {
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

/// An environment with the clock of tokio, which a test may pause ([`tokio::time::pause`](https://docs.rs/tokio/latest/tokio/time/fn.pause.html)).
/// In production use [`Environment::system`]: the clock of tokio may stand still while the machine is suspended.
///
/// Call it in the runtime of the node, and use the node only there: elsewhere, the clock of tokio is another one.
pub fn paused_environment() -> Environment {
    let start = tokio::time::Instant::now();
    Environment::system().clock(move || Timestamp::ZERO + start.elapsed())
}

impl Deref for Cluster {
    type Target = ClusterHandle;

    fn deref(&self) -> &ClusterHandle {
        &self.handle
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use formation_core::{Event, Phase, StopReason};

    use super::*;

    async fn single() -> Cluster {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let config = Config::single("test", "a", address).local().build().unwrap();
        let cluster = Cluster::start(config, listener).unwrap();
        cluster.wait_for_master().await.unwrap();
        cluster
    }

    /// In an hour, a lease is renewed many times, by the timers and by the clock.
    #[tokio::test(start_paused = true)]
    async fn a_node_lives_in_paused_time() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = Config::single("test", "a", listener.local_addr().unwrap().to_string()).build().unwrap();
        let cluster = Cluster::start_with(config, Tcp::new(listener), &paused_environment()).unwrap();
        let lease = cluster.wait_until_master().await.unwrap();
        let (before, hour) = (cluster.now(), Duration::from_secs(3600));
        tokio::time::sleep(hour).await;
        assert!(cluster.now().since(before) >= hour);
        assert!(lease.is_valid());
        cluster.leave().await.unwrap();
    }

    /// Otherwise each dial would panic.
    #[test]
    fn a_node_does_not_start_on_a_runtime_without_sockets() {
        let elsewhere = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = elsewhere.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let config = Config::builder("test", "a", "127.0.0.1:1").seeds(["127.0.0.1:1", "127.0.0.1:2"]).build().unwrap();
        let error = runtime.block_on(async { Cluster::start(config, listener) }).unwrap_err();
        assert!(matches!(&error, StartError::Runtime(_)), "{error}");
    }

    #[test]
    fn a_handle_says_that_the_runtime_of_its_node_is_gone() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let cluster = runtime.block_on(single());
        drop(runtime);
        futures_lite::future::block_on(async {
            assert!(cluster.wait_for_master().await.is_err());
            cluster.shutdown().await;
            let (mut events, mut last) = (cluster.events(), None);
            while let Ok(event) = events.recv().await {
                last = Some(event);
            }
            assert_eq!(last, Some(Event::Stopped { reason: StopReason::ShutDown }));
        });
        assert_eq!((cluster.status().phase, cluster.leadership()), (Phase::Stopped, None));
    }
}
