//! What the kit needs of a runtime.

use std::{ops::Deref, pin::Pin, rc::Rc, time::Duration};

use formation_core::{Config, Timing};
use formation_host::{ClusterHandle, Environment, StartError};

use crate::{transport::Wire, wires::Time, world::World};

/// A future that stays on its thread.
pub(crate) type Local<T> = Pin<Box<dyn Future<Output = T>>>;

/// A runtime on which the kit works: `Tokio` or `Smol`. It cannot be implemented elsewhere.
///
/// A library for both runtimes has one test body:
///
/// ```
/// use formation_testing::{Network, TestRuntime};
///
/// fn a_killed_master_is_replaced<R: TestRuntime>() {
///     Network::<R>::new(1).run(async |network| {
///         let cluster = network.cluster(3).await;
///         let first = cluster.assert_one_master();
///         cluster.kill(&first.node.id);
///         cluster.wait_for_new_master(first.term).await;
///     });
/// }
///
/// # #[cfg(feature = "tokio")]
/// a_killed_master_is_replaced::<formation_testing::tokio::Tokio>();
/// # #[cfg(feature = "smol")]
/// a_killed_master_is_replaced::<formation_testing::smol::Smol>();
/// ```
pub trait TestRuntime: Sized + 'static {
    /// The runtime as a library sees it that uses timers and tasks on both:
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use formation_host::{ClusterHandle, Runtime, Stopped};
    /// use formation_testing::{Network, TestNode, TestRuntime};
    ///
    /// /// A function of the library.
    /// async fn every_100_ms<R: Runtime>(cluster: &ClusterHandle, step: impl Fn()) -> Result<(), Stopped> {
    ///     let work = async |_lease| {
    ///         loop {
    ///             step();
    ///             R::sleep(Duration::from_millis(100)).await;
    ///         }
    ///     };
    ///     cluster.run_while_master(work).await
    /// }
    ///
    /// fn the_master_does_its_steps<K: TestRuntime>() {
    ///     Network::<K>::new(1).run(async |network| {
    ///         let service = async |node: TestNode| {
    ///             let step = || node.record(node.lease().expect("it is the master").term());
    ///             every_100_ms::<K::Runtime>(&node, step).await
    ///         };
    ///         let cluster = network.services(3, service).await;
    ///         cluster.wait_until("three steps", || cluster.steps() >= 3).await;
    ///     });
    /// }
    ///
    /// # #[cfg(feature = "tokio")]
    /// the_master_does_its_steps::<formation_testing::tokio::Tokio>();
    /// # #[cfg(feature = "smol")]
    /// the_master_does_its_steps::<formation_testing::smol::Smol>();
    /// ```
    type Runtime: formation_host::Runtime;
    /// Owns a node.
    #[doc(hidden)]
    type Owner: Deref<Target = ClusterHandle> + 'static;
    /// The processes of all nodes.
    #[doc(hidden)]
    type Processes: Processes;
    /// The times of a node, where a test sets none.
    #[doc(hidden)]
    const TIMING: Timing;
    /// How long a test waits for something until it fails.
    #[doc(hidden)]
    const PATIENCE: Duration;
    /// How long a run may take.
    #[doc(hidden)]
    const LIMIT: Duration;

    #[doc(hidden)]
    fn processes() -> Self::Processes;
    #[doc(hidden)]
    fn time(processes: &Self::Processes) -> NetworkTime;
    /// The clock and the timers of a node.
    #[doc(hidden)]
    fn environment(processes: &Self::Processes) -> Environment;
    #[doc(hidden)]
    fn start(config: Config, wire: Wire, environment: &Environment) -> Result<Self::Owner, StartError>;
    /// Runs a test to its end, together with the processes.
    #[doc(hidden)]
    fn run<T>(world: &Rc<World<Self>>, test: impl Future<Output = T>) -> T;
}

/// The time of a network. The type is private to the kit.
#[doc(hidden)]
pub struct NetworkTime(pub(crate) Time);

/// The processes of all nodes, by the numbers of the nodes.
#[doc(hidden)]
pub trait Processes {
    /// Starts a process. The earlier one of this node was stopped.
    fn start(&self, node: usize, main: Local<()>);
    /// Stops the process, if there is one, with everything that belongs to it.
    fn stop(&self, node: usize);
    /// Stops all processes, at the end of a run.
    fn clear(&self);
}
