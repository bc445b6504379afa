//! The handle of a running node: its view, its master, its events, and commands to it.

mod commands;
mod snapshot;
mod voters;

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use async_broadcast as broadcast;
use async_channel::{self as channel, Receiver, Sender};
use formation_core::{
    Address, Command, Config, Event, Explanation, Formation, Leadership, MembersView, MetadataError, Misuse, Node,
    Status, StopReason, StreamName, Term, Timestamp,
};
use serde::{Deserialize, Serialize};

pub(crate) use self::voters::Taken;
pub use self::{snapshot::Snapshot, voters::VotersError};
use crate::{
    discovery::{AnyDiscovery, MAX_SOURCES},
    ending::End,
    events::Events,
    history::PastEvent,
    mastership::{self, LeadershipWatch, Lease},
    shared::Shared,
    streams::{IncomingError, OpenReply, Served},
    watch::Watch,
};

/// How many commands wait for the driver. The next caller waits for room.
const REQUESTS: usize = 16;

/// The node has stopped: it has left, a newer run of the same node has replaced it, the application has shut it down or dropped
/// its `Cluster`, its runtime has ended, or one of its tasks has panicked. [`ClusterHandle::stopped`] says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node has stopped")]
pub struct Stopped;

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The node has stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The command exceeds a limit. Nothing has changed.
    #[error(transparent)]
    Misuse(#[from] Misuse),
    /// The node asks [`MAX_SOURCES`] sources of addresses already. Nothing has changed.
    #[error("the node asks {MAX_SOURCES} sources of addresses already; give it fewer")]
    TooManySources,
    /// The value cannot be metadata. Nothing has changed.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

/// The master that a node follows, or the node itself if it is the master.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Master {
    /// The master.
    pub node: Node,
    /// The address at which other nodes reach it.
    pub address: Address,
    /// Its term, a fencing token: it grows with every election. The node itself may know a newer term.
    pub term: Term,
}

impl Master {
    /// A master, for tests of what depends on one.
    ///
    /// ```
    /// use formation_core::{Address, Incarnation, Node, NodeId, Term};
    /// use formation_host::Master;
    ///
    /// let node = Node { id: NodeId::new("node-a")?, incarnation: Incarnation(7) };
    /// let master = Master::new(node, Address::new("10.0.0.1:7000")?, Term(3));
    /// assert_eq!(master.to_string(), "node-a#7 at 10.0.0.1:7000, master of term 3");
    /// # Ok::<(), formation_core::IdError>(())
    /// ```
    pub fn new(node: Node, address: Address, term: Term) -> Self {
        Self { node, address, term }
    }

    /// The master of a node with this status.
    fn of(status: &Status) -> Option<Self> {
        let (node, address) = status.master.clone()?;
        Some(Self { node, address, term: status.master_term? })
    }
}

/// `node-a#7 at 10.0.0.1:7000, master of term 3`
impl fmt::Display for Master {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}, master of term {}", self.node, self.address, self.term)
    }
}

/// A request to the driver.
#[derive(Debug)]
pub(crate) enum Request {
    /// A command for the core, and the channel for its result.
    Command(Command, Sender<Result<(), Misuse>>),
    /// Change the voters to these, and the channel for the result.
    SetVoters(BTreeSet<Address>, Sender<Result<Taken, Misuse>>),
    /// What the node is doing, and the channel for the answer.
    Explain(Sender<Explanation>),
    /// Ask one more source of addresses, which has this name, and say whether there was room for it.
    Discover(String, Box<dyn AnyDiscovery>, Sender<bool>),
    /// Open a stream of this name to a member, and the channel for it.
    OpenStream(Node, StreamName, OpenReply),
    /// Take the streams of a name, and the channel for them.
    ServeStreams(StreamName, Sender<Result<Served, IncomingError>>),
    /// End the node without leaving.
    ShutDown,
}

/// What an application does with its running node. The `Cluster` of each adapter dereferences to it. All methods work on
/// any runtime.
///
/// Cloning it is cheap: `cluster.clone()` is a handle of the same node for another task. A handle does not keep its node running:
/// dropping the last handle changes nothing, and dropping the `Cluster` ends the node, whatever handles there are. Their waits and
/// commands then end with [`Stopped`].
///
/// # Acting as the master
///
/// | you want to | use |
/// | --- | --- |
/// | run a job on the master only | [`run_while_master`](Self::run_while_master): it starts, drops and starts the job again |
/// | do one step, if this node is the master | [`lease`](Self::lease), and [`Lease::guard`] with the time that the step needs |
/// | open and close something with the mastership | [`watch_leadership`](Self::watch_leadership) |
/// | stop a task or a thread of your own | [`Lease::ended`], or [`Lease::is_valid`] before each step |
/// | let another node be the master | [`resign`](Self::resign) |
/// | show who is the master | [`master`](Self::master), [`wait_for_master`](Self::wait_for_master) |
///
/// A lease ends [`lease_margin`](formation_core::ConfigBuilder::lease_margin) before another node can be the master, also when the node
/// resigns or leaves. Code that checks the lease, and needs less time than the margin after that, runs beside no other master. Nothing
/// stops code that blocks for longer, and nothing stops a write that is under way when the process is paused. For these, send
/// [`Lease::term`] along with each write, and let the receiver refuse older terms with a [`Fence`](formation_core::Fence).
#[derive(Clone)]
pub struct ClusterHandle(Arc<Inner>);

struct Inner {
    node: Node,
    config: Config,
    shared: Arc<Shared>,
    /// Keeps no event in the buffer.
    events: broadcast::InactiveReceiver<Arc<Event>>,
    /// Created before the driver ran, so that the first subscriber gets every event.
    first_events: Mutex<Option<broadcast::Receiver<Arc<Event>>>>,
    requests: Sender<Request>,
}

impl ClusterHandle {
    pub(crate) fn new(
        formation: &Formation,
        shared: Arc<Shared>,
        events: broadcast::Receiver<Arc<Event>>,
    ) -> (Self, Receiver<Request>) {
        let (requests, receiver) = channel::bounded(REQUESTS);
        let inactive = events.new_receiver().deactivate();
        let first_events = Mutex::new(Some(events));
        let (node, config) = (formation.node().clone(), formation.config().clone());
        let inner = Inner { node, config, shared, events: inactive, first_events, requests };
        (Self(Arc::new(inner)), receiver)
    }

    /// This node, with its incarnation.
    ///
    /// ```no_run
    /// # fn example(cluster: &formation_host::ClusterHandle) {
    /// println!("this is {}, run {}", cluster.node().id, cluster.node().incarnation);
    /// # }
    /// ```
    pub fn node(&self) -> &Node {
        &self.0.node
    }

    /// The configuration of this node. [`Limits::connections`](formation_core::Limits::connections) may be lower than it was given.
    ///
    /// ```no_run
    /// # fn example(cluster: &formation_host::ClusterHandle) {
    /// println!("{} is reached at {}", cluster.node(), cluster.config().address());
    /// # }
    /// ```
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The members of the cluster, as far as this node knows. After the node has stopped, it is the last view:
    /// [`status`](Self::status) says whether it has.
    ///
    /// ```no_run
    /// # fn example(cluster: &formation_host::ClusterHandle) {
    /// for member in &cluster.view() {
    ///     println!("{} at {} is {}", member.node.id, member.address, member.state);
    /// }
    /// # }
    /// ```
    pub fn view(&self) -> MembersView {
        self.0.shared.lock().view.clone()
    }

    /// Follows the view. The current view counts as seen.
    ///
    /// ```no_run
    /// # async fn example(cluster: &formation_host::ClusterHandle) {
    /// let mut watch = cluster.watch();
    /// println!("at first {}", cluster.view());
    /// while let Ok(view) = watch.changed().await {
    ///     println!("then {view}");
    /// }
    /// # }
    /// ```
    pub fn watch(&self) -> Watch {
        Watch::new(self.0.shared.clone())
    }

    /// Subscribes to events. The first subscriber gets all events since the start, and every other one those from now on.
    ///
    /// ```no_run
    /// # async fn example(cluster: &formation_host::ClusterHandle) {
    /// use formation_core::Event;
    /// use formation_host::RecvError;
    ///
    /// let mut events = cluster.events();
    /// loop {
    ///     match events.recv().await {
    ///         Ok(Event::ViewChanged { changes, .. }) => changes.iter().for_each(|change| println!("{change}")),
    ///         Ok(event) => println!("this node {event}"),
    ///         Err(RecvError::Skipped(count)) => println!("{count} events are missing"),
    ///         Err(RecvError::Stopped) => break,
    ///     }
    /// }
    /// # }
    /// ```
    pub fn events(&self) -> Events {
        let first = self.0.first_events.lock().unwrap_or_else(PoisonError::into_inner).take();
        Events::new(first.unwrap_or_else(|| self.0.events.activate_cloned()), self.0.shared.clone())
    }

    /// The last events after the one with this number, the oldest first: up to
    /// [`Limits::event_history`](formation_core::Limits::event_history) of them, as far as they take no more than
    /// [`event_history_bytes`](formation_core::Limits::event_history_bytes). At most 64 are details, and at most 64 are about peers that
    /// have proven nothing. It takes no event away from [`events`](Self::events), and works on a node that has
    /// stopped, too.
    ///
    /// ```no_run
    /// # async fn example(cluster: &formation_host::ClusterHandle) -> Result<(), Box<dyn std::error::Error>> {
    /// use formation_host::{PastEvent, describe};
    ///
    /// let mut last = 0;
    /// println!("{} events of the past", cluster.past_events(last).len());
    /// loop {
    ///     for PastEvent { number, at, event, .. } in cluster.wait_for_events(last).await? {
    ///         if let Some(line) = describe(cluster.node(), &event) {
    ///             println!("{number}, {:?} ago: {line}", cluster.now().since(at));
    ///         }
    ///         last = number;
    ///     }
    /// }
    /// # }
    /// ```
    pub fn past_events(&self, after: u64) -> Vec<PastEvent> {
        self.0.shared.lock().history.after(after)
    }

    /// As [`past_events`](Self::past_events), but waits until there is at least one.
    ///
    /// ```no_run
    /// # async fn example(cluster: &formation_host::ClusterHandle) -> Result<(), Box<dyn std::error::Error>> {
    /// for past in cluster.wait_for_events(0).await? {
    ///     println!("{past}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Cancel safe: it changes nothing.
    ///
    /// # Errors
    /// [`Stopped`] if there is none, and the node has stopped: there will be none.
    pub async fn wait_for_events(&self, after: u64) -> Result<Vec<PastEvent>, Stopped> {
        let found = |events: Vec<PastEvent>| (!events.is_empty()).then_some(events);
        self.0.shared.wait_for_event(|state| found(state.history.after(after))).await
    }

    /// How many events were not reported. There is a limit on events about peers that have proven nothing: connections that
    /// are closed before they are established, and peers that are rejected. At most 10 of each reason are reported in 10 s,
    /// and they never take the place of other events. A connection that fails again and again is reported once for each reason and
    /// source (the IP address that it comes from, or the address that was dialed), until it has not failed for a minute. The log
    /// names what was not reported, with the counts.
    ///
    /// ```no_run
    /// # fn example(cluster: &formation_host::ClusterHandle) {
    /// println!("{} events were not reported", cluster.suppressed_events());
    /// # }
    /// ```
    pub fn suppressed_events(&self) -> u64 {
        self.0.shared.lock().suppressed
    }

    /// The mastership of this node, if it is the master and its lease is valid at this moment.
    ///
    /// It stays valid until [`valid_until`](Leadership::valid_until), to be compared with [`now`](Self::now). There are two
    /// exceptions. The application calls [`leave`](Self::leave) or [`resign`](Self::resign) before: stop acting as the master first. Or
    /// the process ends before: a write that it has started may take effect beside the next master, so send the term along as a
    /// fencing token. A [`lease`](Self::lease) ends earlier, by the margin, and at once when the node is about to resign or to leave. To
    /// act as the master, use that.
    ///
    /// ```no_run
    /// # fn example(cluster: &formation_host::ClusterHandle) {
    /// if let Some(leadership) = cluster.leadership() {
    ///     let left = leadership.valid_until.since(cluster.now());
    ///     println!("{leadership}: {left:?} are left");
    /// }
    /// # }
    /// ```
    pub fn leadership(&self) -> Option<Leadership> {
        let leadership = self.0.shared.lock().leadership;
        leadership.filter(|leadership| self.now() < leadership.valid_until)
    }

    /// The lease of this node, if it is the master and may act as the master at this moment. It ends
    /// [`lease_margin`](formation_core::ConfigBuilder::lease_margin) before [`leadership`](Self::leadership) does.
    ///
    /// ```no_run
    /// # fn example(cluster: &formation_host::ClusterHandle) {
    /// if let Some(lease) = cluster.lease() {
    ///     println!("this node is the master of term {} for {:?} at least", lease.term(), lease.remaining());
    /// }
    /// # }
    /// ```
    pub fn lease(&self) -> Option<Lease> {
        Lease::current(&self.0.shared)
    }

    /// Runs `work` whenever this node is the master, until `work` is done once, and returns its result.
    ///
    /// If `work` ends by itself, this node is still the master, and nobody does the work: let it loop, or resign or leave behind it.
    /// An `async` closure cannot change a variable that it captures: the compiler says that it “does not implement `FnMut`”. Keep such a
    /// value in an atomic or a `Mutex`, or inside the closure, where each mastership begins anew.
    ///
    /// The future of `work` is polled only while this node may act as the master. It is dropped when the [`Lease`] ends, which is a margin
    /// before another node can be the master, and `work` is called again when this node is the master again. [`leave`](Self::leave) and
    /// [`resign`](Self::resign) end the work first, and the mastership after that. They let a step that has a [guard](Lease::guard) end
    /// before. So do not wait for them inside the work: they would wait for each other until the lease ends. If you drop the future of
    /// `run_while_master` instead, for example with `select!`, the work is dropped at once, in the middle of a step with a guard, too.
    ///
    /// A lease that is renewed only within the margin ends for the application, and begins again in the same term. The work then runs
    /// again, and its term is the one before: a number that has to go on within a term, such as that of a [`Fence`](formation_core::Fence)
    /// with two parts, belongs outside of the closure.
    ///
    /// A solo master ([`ConfigBuilder::solo_after`](formation_core::ConfigBuilder::solo_after)) has no quorum, and works beside another
    /// master as long as they are parted. No lease and no term protects from that.
    ///
    /// Dropping a future stops it only where it awaits something. It cannot stop code that blocks, tasks and threads that `work`
    /// has started, or a request that was sent. So send [`Lease::term`] along with each write, for the receiver to check (see
    /// [`Fence`](formation_core::Fence)), and protect a step that must not be cut short with a [guard](Lease::guard).
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn sleep(time: Duration) {}
    /// # async fn example(cluster: &formation_host::ClusterHandle) -> Result<(), formation_host::Stopped> {
    /// cluster
    ///     .run_while_master(async |lease| {
    ///         loop {
    ///             println!("one step in term {}, {:?} left", lease.term(), lease.remaining());
    ///             // A timer of your runtime.
    ///             sleep(Duration::from_secs(1)).await;
    ///         }
    ///     })
    ///     .await
    /// # }
    /// ```
    ///
    /// Dropping the future drops the work at once, also in the middle of a step with a guard. To end in order, call `leave` or `resign`
    /// while it still runs. Otherwise it is cancel safe.
    ///
    /// # Errors
    /// [`Stopped`] if the node stops first. The work is dropped then.
    pub async fn run_while_master<W: Future>(&self, work: impl FnMut(Lease) -> W) -> Result<W::Output, Stopped> {
        mastership::run(self, work).await
    }

    /// Follows the mastership of this node. The first change is
    /// [`Gained`](crate::LeadershipChange::Gained) if this node is the master already.
    ///
    /// Nothing waits for who reads it: [`leave`](Self::leave) and [`resign`](Self::resign) wait only for the work of
    /// [`run_while_master`](Self::run_while_master) and for [guards](Lease::guard). What takes longer to close than the margin still runs
    /// beside the next master. Let the work open and close it.
    ///
    /// ```no_run
    /// # async fn example(cluster: &formation_host::ClusterHandle) {
    /// use formation_host::{LeadershipChange, LeadershipWatch};
    ///
    /// let mut watch: LeadershipWatch = cluster.watch_leadership();
    /// while let Ok(change) = watch.changed().await {
    ///     match change {
    ///         LeadershipChange::Gained(lease) => println!("open what a master needs, in term {}", lease.term()),
    ///         LeadershipChange::Lost { lease, reason } => println!("close it, term {} is over: {reason}", lease.term()),
    ///         // Also those that may come.
    ///         _ => {}
    ///     }
    /// }
    /// # }
    /// ```
    pub fn watch_leadership(&self) -> LeadershipWatch {
        LeadershipWatch::new(self.0.shared.clone())
    }

    /// Waits until this node is the master.
    ///
    /// ```no_run
    /// # async fn example(cluster: &formation_host::ClusterHandle) -> Result<(), Box<dyn std::error::Error>> {
    /// let lease = cluster.wait_until_master().await?;
    /// println!("this node may act as the master: {lease}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Cancel safe: it changes nothing.
    ///
    /// # Errors
    /// [`Stopped`] if the node stops first.
    pub async fn wait_until_master(&self) -> Result<Lease, Stopped> {
        self.0
            .shared
            .wait_for_lease(|state| state.usable(self.now()))
            .await
            .map(|usable| Lease::new(usable.term, self.0.shared.clone()))
    }

    /// The phase, the term, the master and the counters of this node. The phase of a node that has ended, for whatever reason, is
    /// [`Phase::Stopped`](formation_core::Phase::Stopped).
    ///
    /// ```no_run
    /// # fn example(cluster: &formation_host::ClusterHandle) {
    /// use formation_core::{Phase, Status};
    ///
    /// let Status { phase, term, links, .. } = cluster.status();
    /// println!("{phase} in term {term}, {links} links, {} events not reported", cluster.suppressed_events());
    /// if phase == Phase::Stopped {
    ///     println!("it has stopped");
    /// }
    /// # }
    /// ```
    pub fn status(&self) -> Status {
        self.0.shared.lock().status.clone()
    }

    /// What the node is doing, and why it is not doing more: which voters it reaches and what is wrong with the others, whom it waits
    /// for, and, on a master, how each member is. It is for people, and serializable.
    ///
    /// ```no_run
    /// # async fn example(cluster: &formation_host::ClusterHandle) -> Result<(), Box<dyn std::error::Error>> {
    /// let explanation = cluster.explain().await?;
    /// if let Some(why) = &explanation.no_master {
    ///     println!("there is no master: {why}");
    /// }
    /// // All of it, for people.
    /// println!("{explanation}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Cancel safe: it changes nothing.
    ///
    /// # Errors
    /// [`Stopped`] if the node has stopped.
    pub async fn explain(&self) -> Result<Explanation, Stopped> {
        let (reply, answer) = channel::bounded(1);
        self.0.requests.send(Request::Explain(reply)).await.map_err(|_| Stopped)?;
        answer.recv().await.map_err(|_| Stopped)
    }

    /// This moment on the node's clock, which is the clock of [`Leadership::valid_until`] and of
    /// [`PastEvent::at`](crate::PastEvent::at).
    ///
    /// ```no_run
    /// # fn example(cluster: &formation_host::ClusterHandle) {
    /// for past in cluster.past_events(0) {
    ///     println!("{:?} ago: {}", cluster.now().since(past.at), past.event);
    /// }
    /// # }
    /// ```
    pub fn now(&self) -> Timestamp {
        self.0.shared.now()
    }

    /// The master that this node follows, or the node itself if it is the master. To learn of the next one, use
    /// [`events`](Self::events), and to wait for the first one [`wait_for_master`](Self::wait_for_master).
    ///
    /// It is for showing and for forwarding, and not the permission to act as the master: that is [`lease`](Self::lease).
    ///
    /// ```no_run
    /// # fn example(cluster: &formation_host::ClusterHandle) {
    /// match cluster.master() {
    ///     Some(master) if master.node == *cluster.node() => println!("this node is the master of term {}", master.term),
    ///     Some(master) => println!("ask {}", master.address),
    ///     None => println!("there is no master at the moment"),
    /// }
    /// # }
    /// ```
    pub fn master(&self) -> Option<Master> {
        Master::of(&self.0.shared.lock().status)
    }

    /// Since when this node has no master. `None` while it has one.
    ///
    /// ```no_run
    /// # fn example(cluster: &formation_host::ClusterHandle) {
    /// if let Some(since) = cluster.without_master_since() {
    ///     println!("there has been no master for {:?}", cluster.now().since(since));
    /// }
    /// # }
    /// ```
    pub fn without_master_since(&self) -> Option<Timestamp> {
        self.0.shared.lock().without_master_since
    }

    /// Waits until this node follows a master or is the master.
    ///
    /// ```no_run
    /// # async fn example(cluster: &formation_host::ClusterHandle) -> Result<(), Box<dyn std::error::Error>> {
    /// use formation_host::Master;
    ///
    /// let Master { node, address, term, .. } = cluster.wait_for_master().await?;
    /// println!("{node} at {address} is the master of term {term}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Cancel safe: it changes nothing.
    ///
    /// # Errors
    /// [`Stopped`] if the node stops first.
    pub async fn wait_for_master(&self) -> Result<Master, Stopped> {
        self.0.shared.wait(|state| Master::of(&state.status)).await
    }

    /// Waits until the view has exactly `count` members and all of them are active, and returns that view.
    ///
    /// ```no_run
    /// # async fn example(cluster: &formation_host::ClusterHandle) -> Result<(), Box<dyn std::error::Error>> {
    /// let view = cluster.wait_for_members(3).await?;
    /// println!("all three are there, in view {}", view.id());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Cancel safe: it changes nothing.
    ///
    /// # Errors
    /// [`Stopped`] if the node stops first.
    pub async fn wait_for_members(&self, count: usize) -> Result<MembersView, Stopped> {
        let complete = |view: &MembersView| view.len() == count && view.iter().all(|member| member.state.is_active());
        self.0.shared.wait(|state| (!state.has_stopped() && complete(&state.view)).then(|| state.view.clone())).await
    }

    /// Waits until the node has stopped, for whatever reason, and until its port is free and its connections are closed. It also waits
    /// for a write to the `state_dir` that is in progress, for as long as the disk takes. So the node can be started again at once.
    ///
    /// ```no_run
    /// # async fn example(cluster: &formation_host::ClusterHandle) {
    /// use formation_core::StopReason;
    ///
    /// match cluster.stopped().await {
    ///     StopReason::Left => println!("done"),
    ///     reason => eprintln!("the node has stopped: {reason}"),
    /// }
    /// # }
    /// ```
    ///
    /// Cancel safe: it changes nothing.
    pub async fn stopped(&self) -> StopReason {
        let End { reason, .. } = self.0.shared.ending.wait(None).await;
        reason.unwrap_or(StopReason::ShutDown)
    }
}

impl fmt::Debug for ClusterHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterHandle").field("node", &self.0.node).finish_non_exhaustive()
    }
}
