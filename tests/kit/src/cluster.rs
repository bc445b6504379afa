//! The cluster on a network: faults, waits and assertions.

use std::{fmt, rc::Rc, time::Duration};

use formation_core::{MembersView, Term};
use formation_host::{ClusterHandle, Master};

use crate::{
    journal::Step,
    node::TestNode,
    runtime::TestRuntime,
    world::{Process, World},
};

/// The cluster on a [`Network`](crate::Network): what a test does to its nodes, waits for and asserts.
///
/// Nodes are named by their ids: `node-a`, `node-b` and so on. All methods that take a node panic if there is no such node.
///
/// ```
/// # #[cfg(feature = "tokio")] {
/// # use std::time::Duration;
/// use formation_testing::tokio::{Network, TestCluster};
///
/// Network::new(1).run(async |network| {
///     let cluster: TestCluster = network.cluster(5).await;
///     let first = cluster.assert_one_master();
///     cluster.partition([first.node.id.as_str(), "node-e"]);
///     cluster.slow("node-d", Duration::from_millis(100));
///     let next = cluster.wait_for_new_master(first.term).await;
///     assert!(cluster.node(&first.node.id).lease().is_none(), "it is in the smaller part");
///     cluster.heal();
///     cluster.wait_for_members(5).await;
///
///     for id in cluster.ids() {
///         cluster.power_off(&id);
///     }
///     cluster.assert_no_master();
///     // One disk is lost. The others know what they have voted for.
///     cluster.forget("node-a");
///     for id in cluster.ids() {
///         cluster.restart(&id);
///     }
///     let last = cluster.wait_for_new_master(next.term).await;
///     cluster.break_connections(&last.node.id);
///     cluster.cut(&last.node.id, "node-b");
///     cluster.advance(Duration::from_secs(10)).await;
///     println!("{:?}: {}\n{}", cluster.now(), cluster.explain().await, cluster.history().join("\n"));
/// });
/// # }
/// ```
pub struct TestCluster<R: TestRuntime> {
    world: Rc<World<R>>,
}

/// Asking.
impl<R: TestRuntime> TestCluster<R> {
    pub(crate) fn new(world: Rc<World<R>>) -> Self {
        Self { world }
    }

    pub(crate) fn world(&self) -> &World<R> {
        &self.world
    }

    /// The ids of all nodes, whether or not they run.
    pub fn ids(&self) -> Vec<String> {
        self.world.nodes().iter().map(|slot| slot.host.to_string()).collect()
    }

    /// The present run of a node. Its waits work in the test, too. After a [`restart`](Self::restart) ask again: a killed run stays killed.
    ///
    /// # Panics
    /// The node does not run.
    pub fn node(&self, id: impl AsRef<str>) -> TestNode {
        let number = self.world.number(id.as_ref());
        let nodes = self.world.nodes();
        let slot = &nodes[number];
        match &slot.state {
            Process::Running(handle) => {
                TestNode::new(slot.run(), handle.clone(), self.world.wires.clone(), self.world.journal.clone())
            }
            Process::Starting => panic!("{} has not started yet; wait for it", slot.host),
            Process::Ended(why) => panic!("{} does not run: {why}", slot.host),
        }
    }

    /// The time since the beginning of the network.
    pub fn now(&self) -> Duration {
        self.world.now()
    }

    /// How many steps were [recorded](TestNode::record).
    pub fn steps(&self) -> u64 {
        self.world.journal.steps()
    }

    /// The newest step that was [recorded](TestNode::record).
    ///
    /// ```
    /// # #[cfg(feature = "tokio")] {
    /// # use formation_core::Term;
    /// # use formation_testing::tokio::Network;
    /// use formation_testing::Step;
    ///
    /// Network::new(1).run(async |network| {
    ///     let cluster = network.cluster(3).await;
    ///     cluster.node("node-b").record(Term(1));
    ///     let Some(Step { at, node, term, .. }) = cluster.last_step() else { panic!("a step was recorded") };
    ///     assert_eq!((at, node.as_str(), term), (cluster.now(), "node-b", Term(1)));
    /// });
    /// # }
    /// ```
    pub fn last_step(&self) -> Option<Step> {
        self.world.journal.newest_step()
    }

    /// What has happened so far, line by line, the oldest first: starts and ends of nodes, masters, leases, views, faults. It is for
    /// people, and for comparing two runs. Old lines are left out.
    pub fn history(&self) -> Vec<String> {
        self.world.journal.lines()
    }
}

/// Faults of nodes.
impl<R: TestRuntime> TestCluster<R> {
    /// Kills the process of a node, like `SIGKILL`: nothing of the service goes on. The operating system of the node lives, and ends the
    /// connections. On a node that does not run, this does nothing.
    ///
    /// On smol, detached tasks of the service are not ended. They can no longer listen, connect or send.
    pub fn kill(&self, id: impl AsRef<str>) {
        let number = self.world.number(id.as_ref());
        self.world.wires.end_processes(&self.world.host(id.as_ref()));
        self.world.stop(number, "it was killed");
    }

    /// Ends a node like a loss of power: the others learn nothing of it, not even the ends of the connections. Bytes on their way are lost.
    pub fn power_off(&self, id: impl AsRef<str>) {
        let number = self.world.number(id.as_ref());
        self.world.wires.silence(&self.world.host(id.as_ref()));
        self.world.stop(number, "it has lost its power");
    }

    /// Starts a node that was killed, has lost its power or has ended, with the storage of its last run. On a node that runs, this does
    /// nothing.
    pub fn restart(&self, id: impl AsRef<str>) {
        let number = self.world.number(id.as_ref());
        self.note(format_args!("{}: starts again", id.as_ref()));
        self.world.start(number);
    }

    /// Empties the storage of a node that does not run: at its restart it is a node that has never voted.
    ///
    /// # Panics
    /// The node runs.
    pub fn forget(&self, id: impl AsRef<str>) {
        self.world.forget(self.world.number(id.as_ref()));
    }
}

/// Faults of the network. All of them hold for connections that exist, and for new ones.
impl<R: TestRuntime> TestCluster<R> {
    /// Cuts these nodes off from all others, in both directions. Among themselves they are connected. Connections stay open, and bytes are
    /// held until [`heal`](Self::heal).
    pub fn partition(&self, ids: impl IntoIterator<Item = impl AsRef<str>>) {
        let inside: Vec<_> = ids.into_iter().map(|id| self.world.host(id.as_ref())).collect();
        let outside: Vec<_> = self.world.nodes().iter().map(|slot| slot.host.clone()).collect();
        for one in &inside {
            for other in outside.iter().filter(|other| !inside.contains(other)) {
                self.world.wires.cut(one, other);
                self.world.wires.cut(other, one);
            }
        }
        self.note(format_args!("cut off: {}", inside.join(", ")));
    }

    /// Holds all bytes from one node to another one until [`heal`](Self::heal). The other direction works, except that no new connection
    /// is made.
    pub fn cut(&self, from: impl AsRef<str>, to: impl AsRef<str>) {
        self.world.wires.cut(&self.world.host(from.as_ref()), &self.world.host(to.as_ref()));
        self.note(format_args!("cut: from {} to {}", from.as_ref(), to.as_ref()));
    }

    /// Breaks all connections of a node. Bytes on their way are lost. New connections are made at once.
    pub fn break_connections(&self, id: impl AsRef<str>) {
        self.world.wires.break_connections(&self.world.host(id.as_ref()));
        self.note(format_args!("{}: its connections break", id.as_ref()));
    }

    /// All bytes from and to a node take this much longer, until [`heal`](Self::heal).
    pub fn slow(&self, id: impl AsRef<str>, delay: Duration) {
        self.world.wires.slow(&self.world.host(id.as_ref()), delay);
        self.note(format_args!("{}: {delay:?} slower", id.as_ref()));
    }

    /// Mends the network: nothing is cut and nobody is slow any more. The held bytes arrive.
    pub fn heal(&self) {
        self.world.wires.heal();
        self.note("the network is whole");
    }

    pub(crate) fn note(&self, line: impl fmt::Display) {
        self.world.journal.note(self.now(), line);
    }
}

/// Waiting. Each wait has a limit, [`Network::patience`](crate::Network::patience): after that it panics with what each node says.
impl<R: TestRuntime> TestCluster<R> {
    /// Lets time pass: virtual time on tokio, and real time on smol.
    ///
    /// Cancel safe: the time that has passed has passed.
    pub async fn advance(&self, time: Duration) {
        self.world.sleep(time).await;
        self.world.look();
        self.world.check();
    }

    /// Waits until one node has a valid lease. It may be a master that is about to lose its lease: see
    /// [`wait_for_new_master`](Self::wait_for_new_master).
    ///
    /// ```
    /// # #[cfg(feature = "tokio")] {
    /// # use formation_testing::tokio::Network;
    /// Network::new(1).run(async |network| {
    ///     let cluster = network.cluster(3).await;
    ///     cluster.node(&cluster.assert_one_master().node.id).resign().await.unwrap();
    ///     println!("{}", cluster.wait_for_master().await);
    /// });
    /// # }
    /// ```
    ///
    /// Cancel safe: it changes nothing.
    pub async fn wait_for_master(&self) -> Master {
        self.world.wait("a node is the master", |world| master(world)).await
    }

    /// Waits for a master of a newer term than this one.
    ///
    /// Cancel safe: it changes nothing.
    pub async fn wait_for_new_master(&self, than: Term) -> Master {
        let what = format!("a node is the master of a term after {than}");
        self.world.wait(&what, |world| master(world).filter(|master| master.term > than)).await
    }

    /// Waits until all nodes that run hold the same view, with this many members which are all active, and until their master has a valid
    /// lease.
    ///
    /// Cancel safe: it changes nothing.
    pub async fn wait_for_members(&self, count: usize) -> MembersView {
        self.world.wait(&format!("all nodes hold one view of {count} members"), |world| whole_view(world, count)).await
    }

    /// Waits for anything that the test can ask for: a row in a database, or the answer of a service. It asks again and again, and returns
    /// what it finds.
    ///
    /// ```
    /// # #[cfg(feature = "tokio")] {
    /// # use formation_testing::tokio::Network;
    /// Network::new(1).run(async |network| {
    ///     let cluster = network.cluster(3).await;
    ///     let node = cluster.node("node-b");
    ///     let is_linked = async || node.explain().await.ok().filter(|said| said.voters.iter().all(|voter| voter.problem.is_none()));
    ///     let said = cluster.wait_for("links to all voters", is_linked).await;
    ///     assert_eq!(said.voters.len(), 3);
    /// });
    /// # }
    /// ```
    ///
    /// Cancel safe, if `find` is: the question that is under way is dropped.
    pub async fn wait_for<T>(&self, what: &str, find: impl AsyncFnMut() -> Option<T>) -> T {
        self.world.wait_for(what, find).await
    }

    /// Waits for anything that the test can see.
    ///
    /// Cancel safe: it changes nothing.
    pub async fn wait_until(&self, what: &str, mut is_true: impl FnMut() -> bool) {
        self.world.wait(what, |_| is_true().then_some(())).await;
    }
}

/// Asserting.
impl<R: TestRuntime> TestCluster<R> {
    /// Asserts that exactly one node has a valid lease at this moment, and returns it.
    ///
    /// The test also fails at any other moment at which two nodes have one. Solo masters do not count there.
    ///
    /// # Panics
    /// No node has a valid lease.
    pub fn assert_one_master(&self) -> Master {
        self.world.look();
        self.world.check();
        master(&self.world).unwrap_or_else(|| panic!("no node is the master"))
    }

    /// Asserts that no node has a valid lease at this moment.
    ///
    /// # Panics
    /// A node has one.
    pub fn assert_no_master(&self) {
        self.world.look();
        self.world.check();
        if let Some(master) = master(&self.world) {
            panic!("there should be no master, but there is {master}");
        }
    }

    /// What each node says about itself ([`ClusterHandle::explain`]), for people.
    ///
    /// Cancel safe: it changes nothing.
    pub async fn explain(&self) -> String {
        self.world.explain().await
    }
}

/// The node that has a valid lease.
fn master<R: TestRuntime>(world: &World<R>) -> Option<Master> {
    world.nodes().iter().find_map(|slot| {
        let node = slot.running()?;
        let term = node.leadership()?.term;
        Some(Master::new(node.node().clone(), slot.address.clone(), term))
    })
}

/// The view that all nodes hold, if they do.
fn whole_view<R: TestRuntime>(world: &World<R>, count: usize) -> Option<MembersView> {
    master(world)?;
    let nodes = world.nodes();
    if nodes.iter().any(|slot| matches!(slot.state, Process::Starting)) {
        return None;
    }
    let mut views = nodes.iter().filter_map(|slot| slot.running()).map(ClusterHandle::view);
    let first = views.next()?;
    let is_complete = first.len() == count && first.iter().all(|member| member.state.is_active());
    (is_complete && views.all(|view| view == first)).then_some(first)
}

impl<R: TestRuntime> fmt::Debug for TestCluster<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestCluster").field("ids", &self.ids()).finish_non_exhaustive()
    }
}
