//! A network in memory, before it has a cluster.

use std::{fmt, ops::RangeInclusive, process::Termination, rc::Rc, thread, time::Duration};

use formation_core::ConfigBuilder;

use crate::{
    cluster::TestCluster,
    node::TestNode,
    runtime::{Processes, TestRuntime},
    world::World,
};

/// A network in memory, and the cluster on it. Use it as `formation_testing::tokio::Network` or `formation_testing::smol::Network`.
///
/// Set it up, and call [`run`](Self::run).
#[must_use = "nothing runs before `run`"]
pub struct Network<R: TestRuntime> {
    world: Rc<World<R>>,
}

impl<R: TestRuntime> Network<R> {
    /// A network without nodes. All randomness of the network and of its nodes comes from the seed. On tokio, the same seed repeats the
    /// same run.
    ///
    /// ```
    /// # #[cfg(feature = "tokio")] {
    /// use formation_testing::tokio::Network;
    ///
    /// for seed in 0..5 {
    ///     Network::new(seed).run(async |network| {
    ///         network.cluster(3).await.assert_one_master();
    ///     });
    /// }
    /// # }
    /// ```
    pub fn new(seed: u64) -> Self {
        Self { world: Rc::new(World::new(seed)) }
    }

    /// How long bytes take from one node to another, without [`slow`](TestCluster::slow). The default is 1 to 3 milliseconds. On tokio, bytes
    /// arrive at whole milliseconds.
    ///
    /// ```
    /// # #[cfg(feature = "tokio")] {
    /// # use std::time::Duration;
    /// # use formation_testing::tokio::Network;
    /// Network::new(1).latency(Duration::from_millis(20)..=Duration::from_millis(80)).run(async |network| {
    ///     network.cluster(3).await;
    /// });
    /// # }
    /// ```
    pub fn latency(self, latency: RangeInclusive<Duration>) -> Self {
        self.world.settings.borrow_mut().latency = latency;
        self
    }

    /// Changes the configuration of each node, from its id. The default times are those of
    /// [`ConfigBuilder::lan`] on tokio and of [`ConfigBuilder::local`] on smol.
    ///
    /// ```
    /// # #[cfg(feature = "tokio")] {
    /// # use formation_testing::tokio::Network;
    /// let network = Network::new(1).configure(|id, builder| builder.priority(if id == "node-c" { 1 } else { 0 }));
    /// network.run(async |network| {
    ///     let cluster = network.cluster(3).await;
    ///     assert_eq!(cluster.assert_one_master().node.id.as_str(), "node-c");
    /// });
    /// # }
    /// ```
    pub fn configure(self, configure: impl Fn(&str, ConfigBuilder) -> ConfigBuilder + 'static) -> Self {
        self.world.settings.borrow_mut().configure = Rc::new(configure);
        self
    }

    /// Only the first nodes vote. The others are members. By default, all nodes vote.
    ///
    /// ```
    /// # #[cfg(feature = "tokio")] {
    /// # use formation_testing::tokio::Network;
    /// Network::new(1).voters(3).run(async |network| {
    ///     let cluster = network.cluster(8).await;
    ///     assert_eq!(cluster.node("node-h").config().is_voter(), false);
    /// });
    /// # }
    /// ```
    pub fn voters(self, voters: usize) -> Self {
        self.world.settings.borrow_mut().voters = Some(voters);
        self
    }

    /// How long the test waits for something until it fails, with what each node says. The default is two minutes of virtual time on
    /// tokio, and one minute on smol.
    ///
    /// ```
    /// # #[cfg(feature = "tokio")] {
    /// # use std::time::Duration;
    /// # use formation_testing::tokio::Network;
    /// let hour = Duration::from_secs(3600);
    /// Network::new(1).patience(hour).configure(|_, builder| builder.wan()).run(async |network| {
    ///     network.cluster(3).await;
    /// });
    /// # }
    /// ```
    pub fn patience(self, patience: Duration) -> Self {
        self.world.settings.borrow_mut().patience = patience;
        self
    }

    /// How long the run may take. After that it fails: the test waits for something in vain, without one of the kit's waits. The default is
    /// one hour of virtual time on tokio, and ten minutes on smol.
    ///
    /// ```
    /// # #[cfg(feature = "tokio")] {
    /// # use std::time::Duration;
    /// # use formation_testing::tokio::Network;
    /// Network::new(1).limit(Duration::from_secs(60)).run(async |network| {
    ///     network.cluster(3).await;
    /// });
    /// # }
    /// ```
    pub fn limit(self, limit: Duration) -> Self {
        self.world.settings.borrow_mut().limit = limit;
        self
    }

    /// Runs a test on this network, and returns its result. It is called in a plain `#[test]`, outside of any runtime.
    ///
    /// On tokio, the test and each node have a runtime of their own, in paused time: all of them run on this thread, one after the other,
    /// millisecond by millisecond. On smol, they run on smol's executors, in real time.
    ///
    /// # Panics
    /// Two nodes have a valid lease at once, a [recorded](TestNode::record) step is one of an earlier master, a service has failed or
    /// panicked, or the test panics. The seed and what has happened are printed to the standard error.
    pub fn run<T>(self, test: impl AsyncFnOnce(&Self) -> T) -> T {
        // The processes refer to the world, and the world refers to the processes.
        let _ending = Ending(self.world.clone());
        let done = R::run(&self.world, test(&self));
        self.world.look();
        self.world.check();
        done
    }

    /// Starts a cluster of this many nodes without a service, and waits until all of them are in one view. Their ids are `node-a`, `node-b`
    /// and so on.
    ///
    /// Not cancel safe: if the future is dropped, the nodes go on, and the network has its cluster.
    ///
    /// # Panics
    /// The network has a cluster already, or the nodes do not form one.
    pub async fn cluster(&self, nodes: usize) -> TestCluster<R> {
        self.services(nodes, async |node: TestNode| {
            node.stopped().await;
        })
        .await
    }

    /// Starts a cluster of this many nodes with a service on each, and waits until all of them are in one view. The service runs in the
    /// process of its node: it is started with the process, and ends with it. If it returns, the process ends. It may return what `main`
    /// may return, and an error fails the test.
    ///
    /// ```
    /// # #[cfg(feature = "tokio")] {
    /// # use std::time::Duration;
    /// # use formation_host::Stopped;
    /// # use formation_testing::{TestNode, tokio::Network};
    /// Network::new(1).run(async |network| {
    ///     let service = async |node: TestNode| {
    ///         node.run_while_master(async |lease| {
    ///             loop {
    ///                 node.record(lease.term());
    ///                 tokio::time::sleep(Duration::from_millis(100)).await;
    ///             }
    ///         })
    ///         .await
    ///         .unwrap_or_else(|_: Stopped| ())
    ///     };
    ///     let cluster = network.services(3, service).await;
    ///     cluster.advance(Duration::from_secs(1)).await;
    ///     assert!(cluster.steps() >= 10);
    /// });
    /// # }
    /// ```
    ///
    /// Not cancel safe, as [`cluster`](Self::cluster).
    ///
    /// # Panics
    /// The network has a cluster already, or the nodes do not form one.
    pub async fn services<T: Termination>(
        &self,
        nodes: usize,
        service: impl AsyncFn(TestNode) -> T + 'static,
    ) -> TestCluster<R> {
        let service = Rc::new(service);
        let main = move |node| -> crate::runtime::Local<_> {
            let service = service.clone();
            Box::pin(async move { service(node).await.report() })
        };
        self.world.populate(nodes, Rc::new(main));
        let cluster = TestCluster::new(self.world.clone());
        cluster.wait_for_members(nodes).await;
        cluster
    }
}

impl<R: TestRuntime> fmt::Debug for Network<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("now", &self.world.now()).finish_non_exhaustive()
    }
}

/// Ends all processes with the run.
struct Ending<R: TestRuntime>(Rc<World<R>>);

impl<R: TestRuntime> Drop for Ending<R> {
    fn drop(&mut self) {
        if thread::panicking() {
            let seed = self.0.settings.borrow().seed;
            eprintln!("the run with the seed {seed} has failed at {:?}; {}", self.0.now(), self.0.history());
        }
        self.0.processes.clear();
    }
}
