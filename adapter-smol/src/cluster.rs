//! What the service holds: [`Cluster`], and the ways to follow it.

use std::{
    convert::Infallible,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_broadcast::{self as broadcast, RecvError};
use bytes::Bytes;
use event_listener::Event as Notify;
use formation_core::{
    Address, Command, Config, Event, Formation, Leadership, MemberState, MembersView, Misuse, Node, Status, Term,
    Timestamp, ViewId,
};
use formation_host::{Clock, StartError, Store, begin};
use smol::{
    Task,
    channel::{self, Receiver, Sender},
    net::TcpListener,
};

use crate::{
    driver::{Driver, Request},
    tcp::Tcp,
    transport::Transport,
};

/// How many events wait for a slow subscriber before the oldest is skipped.
pub const EVENT_BUFFER: usize = 1024;

/// A node of a cluster, running on smol's global executor.
///
/// Dropping it ends the node without a word to the others, as a crash would: every task is cancelled and every socket
/// closed. To say goodbye first, [`leave`](Self::leave).
pub struct Cluster {
    node: Node,
    clock: Clock,
    shared: Arc<Shared>,
    /// Does not hold any event back.
    events: broadcast::InactiveReceiver<Event>,
    /// Made before the driver ran, so that the first subscriber misses nothing.
    first_events: Mutex<Option<broadcast::Receiver<Event>>>,
    requests: Sender<Request>,
    /// Dropping it cancels the driver, which owns all the other tasks.
    _driver: Task<()>,
}

impl Cluster {
    /// Starts a node that accepts its peers from `listener`, which has to be reachable under the configured address.
    ///
    /// With a [`state_dir`](crate::ConfigBuilder::state_dir) its votes outlive it: this returns once they are read and the new
    /// run is written down, which waits for the disk. Without one they are kept in memory.
    ///
    /// # Errors
    /// [`StartError`]: what was kept is no start for this node, nothing can be kept, or the system lacks a wall clock or
    /// randomness. Nothing is running then, and nothing that was kept has changed.
    pub fn start(config: Config, listener: TcpListener) -> Result<Self, StartError> {
        Self::start_on(config, Tcp::new(listener))
    }

    /// The same on a transport that may be another than TCP, or TLS.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_on(config: Config, transport: impl Transport) -> Result<Self, StartError> {
        let (start, store) = begin(&config)?;
        if let Some(dir) = config.state_dir()
            && store.as_ref().is_some_and(Store::is_new)
        {
            tracing::info!(node = %config.id(), state_dir = dir, "nothing is kept here yet: this node has never voted");
        }
        let clock = Clock::start();
        let now = clock.now();
        let formation = Formation::new(config, start, now);

        let (mut sender, receiver) = broadcast::broadcast(EVENT_BUFFER);
        sender.set_overflow(true);
        sender.set_await_active(false);
        let (requests, incoming) = channel::bounded(16);
        let shared = Arc::new(Shared::new(&formation, now));
        let node = formation.node().clone();
        let driver = Driver::new(formation, transport, clock, store, incoming, shared.clone(), sender);
        let events = receiver.new_receiver().deactivate();
        let _driver = smol::spawn(driver.run());
        Ok(Self { node, clock, shared, events, first_events: Mutex::new(Some(receiver)), requests, _driver })
    }

    /// This node.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The last known members.
    pub fn view(&self) -> MembersView {
        self.shared.lock().view.clone()
    }

    /// A way to await changes of the view. Its first [`changed`](Watch::changed) is later than this call.
    pub fn watch(&self) -> Watch {
        Watch { seen: self.shared.lock().view.id(), shared: self.shared.clone() }
    }

    /// Subscribes to events. The first subscriber gets all since the start, every later one those from now on.
    pub fn events(&self) -> Events {
        let first = self.first_events.lock().unwrap_or_else(PoisonError::into_inner).take();
        Events { events: first.unwrap_or_else(|| self.events.activate_cloned()) }
    }

    /// The mastership of this node, if its lease is valid at this moment. What it says stays true until
    /// [`valid_until`](Leadership::valid_until), to be compared with [`now`](Self::now), unless you let it [`leave`](Self::leave)
    /// before: stop acting as the master first.
    pub fn leadership(&self) -> Option<Leadership> {
        let leadership = self.shared.lock().leadership;
        leadership.filter(|leadership| self.clock.now() < leadership.valid_until)
    }

    /// A look inside.
    pub fn status(&self) -> Status {
        self.shared.lock().status.clone()
    }

    /// The clock in which [`Leadership::valid_until`] is meant.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Waits until this node has a master, or is it.
    ///
    /// # Errors
    /// [`Stopped`] when the node stops first.
    pub async fn wait_for_master(&self) -> Result<Master, Stopped> {
        self.shared
            .wait(|state| {
                let (node, address) = state.status.master.clone()?;
                Some(Master { node, address, term: state.status.term })
            })
            .await
    }

    /// Waits until the view has exactly `count` members and all of them are active, and returns that view.
    ///
    /// # Errors
    /// [`Stopped`] when the node stops first.
    pub async fn wait_for_members(&self, count: usize) -> Result<MembersView, Stopped> {
        let complete =
            |view: &MembersView| view.len() == count && view.iter().all(|member| member.state == MemberState::Active);
        self.shared.wait(|state| complete(&state.view).then(|| state.view.clone())).await
    }

    /// Leaves the cluster, and returns when the node has stopped, its port is free and its connections are closed. It waits for
    /// what is being written to the `state_dir`, for as long as the disk takes.
    ///
    /// # Errors
    /// [`Stopped`] when the node had ended before.
    pub async fn leave(&self) -> Result<(), Stopped> {
        self.request(Command::Leave).await?;
        let Err(Stopped) = self.shared.wait(|_| None::<Infallible>).await;
        Ok(())
    }

    /// Changes what this node says of itself in the member list.
    ///
    /// # Errors
    /// [`CommandError::Misuse`] when it is too long, [`CommandError::Stopped`] when the node has stopped.
    pub async fn set_metadata(&self, metadata: Bytes) -> Result<(), CommandError> {
        self.command(Command::SetMetadata(metadata)).await
    }

    /// Gives more addresses to look for a master at.
    ///
    /// # Errors
    /// [`CommandError::Misuse`] when there are too many, [`CommandError::Stopped`] when the node has stopped.
    pub async fn add_contacts(&self, contacts: impl IntoIterator<Item = Address>) -> Result<(), CommandError> {
        self.command(Command::AddContacts(contacts.into_iter().collect())).await
    }

    async fn command(&self, command: Command) -> Result<(), CommandError> {
        let result = self.request(command).await?.recv().await.map_err(|_| Stopped)?;
        Ok(result?)
    }

    async fn request(&self, command: Command) -> Result<Receiver<Result<(), Misuse>>, Stopped> {
        let (reply, result) = channel::bounded(1);
        self.requests.send(Request { command, reply }).await.map_err(|_| Stopped)?;
        Ok(result)
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("node", &self.node).finish_non_exhaustive()
    }
}

/// The node has stopped: it left, was superseded by a newer incarnation, or its [`Cluster`] was dropped. The last
/// [`Event::Stopped`] says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node has stopped")]
pub struct Stopped;

/// A command that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The node has stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// It is out of the configured limits; nothing has changed.
    #[error(transparent)]
    Misuse(#[from] Misuse),
}

/// The master that a node follows or is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Master {
    /// Who.
    pub node: Node,
    /// Where it can be dialed.
    pub address: Address,
    /// A fencing token: it grows with every election.
    pub term: Term,
}

/// Follows the view. It holds no backlog: whoever is slow sees the newest view next.
#[derive(Clone, Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    seen: ViewId,
}

impl Watch {
    /// The view at this moment, also when the node has stopped. It counts as seen.
    pub fn current(&mut self) -> MembersView {
        let view = self.shared.lock().view.clone();
        self.seen = view.id();
        view
    }

    /// Waits for a view that was not seen yet.
    ///
    /// # Errors
    /// [`Stopped`] when no other view will come.
    pub async fn changed(&mut self) -> Result<MembersView, Stopped> {
        let seen = self.seen;
        let view = self.shared.wait(|state| (state.view.id() != seen).then(|| state.view.clone())).await?;
        self.seen = view.id();
        Ok(view)
    }
}

/// The events of one node, in order.
#[derive(Debug)]
pub struct Events {
    events: broadcast::Receiver<Event>,
}

impl Events {
    /// Waits for the next event; `None` once the node has stopped and all is read. Nothing is dropped silently: a
    /// subscriber that is more than [`EVENT_BUFFER`] events behind is told how many it has missed.
    pub async fn next(&mut self) -> Option<Result<Event, Skipped>> {
        match self.events.recv().await {
            Ok(event) => Some(Ok(event)),
            Err(RecvError::Overflowed(count)) => Some(Err(Skipped(count))),
            Err(RecvError::Closed) => None,
        }
    }
}

/// A subscriber was too slow, and this many events are lost to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} events were skipped; read faster, or look at the view instead")]
pub struct Skipped(pub u64);

/// What the driver says of the node, for all handles.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    view: MembersView,
    status: Status,
    leadership: Option<Leadership>,
    stopped: bool,
}

impl Shared {
    pub(crate) fn new(formation: &Formation, now: Timestamp) -> Self {
        let state = State {
            view: formation.view().clone(),
            status: formation.status(),
            leadership: formation.leadership(now),
            stopped: false,
        };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }

    pub(crate) fn publish(&self, formation: &Formation, now: Timestamp) {
        let mut state = self.lock();
        let status = formation.status();
        let news = state.view.id() != formation.view().id() || state.status.master != status.master;
        if news {
            state.view = formation.view().clone();
        }
        state.status = status;
        state.leadership = formation.leadership(now);
        drop(state);
        if news {
            self.changed.notify(usize::MAX);
        }
    }

    pub(crate) fn stop(&self) {
        let mut state = self.lock();
        state.leadership = None;
        state.stopped = true;
        drop(state);
        self.changed.notify(usize::MAX);
    }

    /// Waits until `ready` finds what it looks for.
    async fn wait<T>(&self, mut ready: impl FnMut(&State) -> Option<T>) -> Result<T, Stopped> {
        loop {
            // Listening begins before looking, so that no change falls between the two.
            let changed = self.changed.listen();
            {
                let state = self.lock();
                if let Some(found) = ready(&state) {
                    return Ok(found);
                }
                if state.stopped {
                    return Err(Stopped);
                }
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held, and each field stands for itself.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
