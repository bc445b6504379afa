//! A node, as the service on it sees it.

use std::{fmt, io, ops::Deref};

use formation_core::{Address, Term};
use formation_host::ClusterHandle;

use crate::{
    journal::Journal,
    wires::{HostRun, TestListener, TestStream, Wires},
};

/// A node of a test, for the service that runs on it. It is a [`ClusterHandle`] with what the kit adds. Clones are the same node.
///
/// ```
/// # #[cfg(feature = "tokio")] {
/// # use std::time::Duration;
/// use formation_testing::{TestNode, tokio::Network};
/// use formation_host::ClusterHandle;
///
/// /// The service as it runs in production.
/// async fn service(cluster: &ClusterHandle) {
///     println!("{} runs", cluster.node());
///     cluster.stopped().await;
/// }
///
/// Network::new(1).run(async |network| {
///     network.services(3, async |node: TestNode| service(&node).await).await;
/// });
/// # }
/// ```
#[derive(Clone)]
pub struct TestNode {
    run: HostRun,
    handle: ClusterHandle,
    wires: Wires,
    journal: Journal,
}

impl TestNode {
    pub(crate) fn new(run: HostRun, handle: ClusterHandle, wires: Wires, journal: Journal) -> Self {
        Self { run, handle, wires, journal }
    }

    /// The id of the node: `node-a` and so on.
    pub fn id(&self) -> &str {
        &self.run.host
    }

    /// Records a step of the master, at the place where it takes effect: behind the [`Fence`](formation_core::Fence), if there is one. The
    /// test fails if a step of an earlier term comes after one of a newer term, or if two nodes have steps of one term.
    ///
    /// This does not look at the lease, nor at whether the node still runs: a write may arrive after the death of its sender. A run of the
    /// kit thus finds a step in a wrong order, and not a late one that no other master has overtaken.
    ///
    /// ```should_panic
    /// # #[cfg(feature = "tokio")] {
    /// # use formation_core::Term;
    /// # use formation_testing::tokio::Network;
    /// Network::new(1).run(async |network| {
    ///     let cluster = network.cluster(3).await;
    ///     cluster.node("node-a").record(Term(2));
    ///     cluster.node("node-b").record(Term(1));
    /// });
    /// # }
    /// # #[cfg(not(feature = "tokio"))] panic!();
    /// ```
    pub fn record(&self, term: Term) {
        self.journal.record(self.wires.now(), &self.run.host, term);
    }

    /// Listens at a port of this node, for connections that have nothing to do with Formation. All faults of the network are faults of
    /// these connections, too.
    ///
    /// ```
    /// # #[cfg(feature = "tokio")] {
    /// # use futures_lite::{AsyncReadExt, AsyncWriteExt};
    /// # use formation_testing::{TestListener, TestStream, tokio::Network};
    /// # // The streams have the traits of both runtimes.
    /// # #[cfg(feature = "smol")]
    /// Network::new(1).run(async |network| {
    ///     let cluster = network.cluster(2).await;
    ///     let listener: TestListener = cluster.node("node-b").listen(9000).unwrap();
    ///     let mut asks: TestStream = cluster.node("node-a").connect("node-b:9000").await.unwrap();
    ///     let mut answers: TestStream = listener.accept().await.unwrap();
    ///     assert_eq!((answers.peer(), listener.address().port()), ("node-a", 9000));
    ///     asks.write_all(b"hello").await.unwrap();
    ///     let mut bytes = [0; 5];
    ///     answers.read_exact(&mut bytes).await.unwrap();
    ///     assert_eq!(&bytes, b"hello");
    /// });
    /// # }
    /// ```
    ///
    /// # Errors
    /// The port is in use, or this run of the node is over.
    pub fn listen(&self, port: u16) -> io::Result<TestListener> {
        let address = Address::new(format!("{}:{port}", self.run.host)).map_err(io::Error::other)?;
        self.wires.listen(&self.run, address)
    }

    /// Connects to a node that [listens](Self::listen): `node-b:9000`.
    ///
    /// Cancel safe: if the future is dropped, there is no connection.
    ///
    /// # Errors
    /// There is no such node, nobody listens there, or this run of the node is over. While the network does not answer, this waits.
    pub async fn connect(&self, address: &str) -> io::Result<TestStream> {
        let address = Address::new(address).map_err(io::Error::other)?;
        self.wires.connect(&self.run, &address).await
    }
}

impl Deref for TestNode {
    type Target = ClusterHandle;

    fn deref(&self) -> &ClusterHandle {
        &self.handle
    }
}

impl fmt::Debug for TestNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestNode").field("id", &self.id()).finish_non_exhaustive()
    }
}
