//! The handle that a service holds.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use formation_core::{
    Address, Command, Config, Event, Formation, Leadership, MemberState, MembersView, Misuse, Node, Status, Term,
    Timestamp,
};
use formation_host::{Clock, StartError, Store, begin};
use tokio::{
    net::TcpListener,
    sync::{broadcast, mpsc, oneshot, watch},
    task::AbortHandle,
};
use tracing::Instrument;

use crate::{
    driver::{Driver, Publisher, Request, State},
    tcp::Tcp,
    transport::Transport,
};

/// How many events wait for a slow subscriber before the oldest is skipped.
pub const EVENT_BUFFER: usize = 1024;

/// The node has stopped: it left, was superseded by a newer incarnation, or its [`Cluster`] was dropped. The last
/// [`Event::Stopped`] says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node has stopped")]
pub struct Stopped;

/// Why a wish of the host was not granted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The node is done.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The wish is over a limit. Nothing has changed.
    #[error(transparent)]
    Misuse(#[from] Misuse),
}

/// A subscriber was too slow, and this many events are lost to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} events were skipped; read faster, or look at the view instead")]
pub struct Skipped(pub u64);

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

/// One running node. Dropping it ends the node without a word to the others, as a crash would, and leaves no task behind;
/// [`leave`](Self::leave) is the polite way.
#[derive(Debug)]
pub struct Cluster {
    node: Node,
    clock: Clock,
    requests: mpsc::Sender<Request>,
    state: watch::Receiver<State>,
    view: watch::Receiver<MembersView>,
    /// Closes with the driver, so nobody waits for events of a node that is done.
    events: broadcast::WeakSender<Event>,
    /// Made before the driver ran, so that the first subscriber misses nothing.
    first_events: Mutex<Option<broadcast::Receiver<Event>>>,
    driver: AbortHandle,
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
    ///
    /// # Panics
    /// Outside of a tokio runtime with its time and IO enabled.
    pub fn start(config: Config, listener: TcpListener) -> Result<Self, StartError> {
        Self::start_on(config, Tcp::new(listener))
    }

    /// The same on a transport that may be another than TCP, or TLS.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    ///
    /// # Panics
    /// Outside of a tokio runtime with its time enabled.
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

        let node = formation.node().clone();
        let (requests, to_driver) = mpsc::channel(16);
        let (to_state, state) = watch::channel(State::of(&formation, now));
        let (to_view, view) = watch::channel(formation.view().clone());
        let (to_events, first_events) = broadcast::channel(EVENT_BUFFER);
        let events = to_events.downgrade();
        let publisher = Publisher { state: to_state, view: to_view, events: to_events };
        let run = Driver::run(formation, clock, store, publisher, transport, to_driver);
        let driver = tokio::spawn(run.instrument(tracing::error_span!("formation", %node))).abort_handle();
        Ok(Self { node, clock, requests, state, view, events, first_events: Mutex::new(Some(first_events)), driver })
    }

    /// This node, with its incarnation.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The members, as this node last heard of them.
    pub fn view(&self) -> MembersView {
        self.view.borrow().clone()
    }

    /// Follows the view. What stands now counts as seen.
    pub fn watch(&self) -> Watch {
        let mut view = self.view.clone();
        view.mark_unchanged();
        Watch { view }
    }

    /// Subscribes to events. The first subscriber gets all since the start, every later one those from now on.
    pub fn events(&self) -> Events {
        let first = self.first_events.lock().unwrap_or_else(PoisonError::into_inner).take();
        let events = first.or_else(|| Some(self.events.upgrade()?.subscribe()));
        Events { events }
    }

    /// The mastership of this node, if its lease is valid at this moment. What it says stays true until
    /// [`valid_until`](Leadership::valid_until), to be compared with [`now`](Self::now), unless you let it [`leave`](Self::leave)
    /// before: stop acting as the master first.
    pub fn leadership(&self) -> Option<Leadership> {
        let leadership = self.state.borrow().leadership;
        leadership.filter(|leadership| self.now() < leadership.valid_until)
    }

    /// What the node is doing.
    pub fn status(&self) -> Status {
        self.state.borrow().status.clone()
    }

    /// This moment on the node's clock.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Waits until this node has a master, or is it.
    ///
    /// # Errors
    /// [`Stopped`] when the node ends before.
    pub async fn wait_for_master(&self) -> Result<Master, Stopped> {
        let mut state = self.state.clone();
        loop {
            let status = state.borrow_and_update().status.clone();
            if let Some((node, address)) = status.master {
                return Ok(Master { node, address, term: status.term });
            }
            state.changed().await.map_err(|_| Stopped)?;
        }
    }

    /// Waits until the view has exactly `count` members and all of them are active, and returns that view.
    ///
    /// # Errors
    /// [`Stopped`] when the node ends before.
    pub async fn wait_for_members(&self, count: usize) -> Result<MembersView, Stopped> {
        let mut view = self.view.clone();
        let complete =
            |view: &MembersView| view.len() == count && view.iter().all(|member| member.state == MemberState::Active);
        let view = view.wait_for(complete).await.map_err(|_| Stopped)?;
        Ok(view.clone())
    }

    /// Leaves the cluster, and returns when the node has stopped, its port is free and its connections are closed. It waits for
    /// what is being written to the `state_dir`, for as long as the disk takes.
    ///
    /// # Errors
    /// [`Stopped`] when the node had ended before.
    pub async fn leave(&self) -> Result<(), Stopped> {
        self.request(Command::Leave).await?;
        let mut view = self.view.clone();
        while view.changed().await.is_ok() {}
        Ok(())
    }

    /// Changes what this node says of itself in the member list.
    ///
    /// # Errors
    /// [`Misuse`] when it is too long, [`Stopped`] when the node is done.
    pub async fn set_metadata(&self, metadata: Bytes) -> Result<(), CommandError> {
        self.command(Command::SetMetadata(metadata)).await
    }

    /// Adds addresses to dial while there is no master. They are no seeds: they have no vote.
    ///
    /// # Errors
    /// [`Misuse`] when there are too many, [`Stopped`] when the node is done.
    pub async fn add_contacts(&self, contacts: impl IntoIterator<Item = Address>) -> Result<(), CommandError> {
        self.command(Command::AddContacts(contacts.into_iter().collect())).await
    }

    async fn command(&self, command: Command) -> Result<(), CommandError> {
        let result = self.request(command).await?.await.map_err(|_| Stopped)?;
        Ok(result?)
    }

    async fn request(&self, command: Command) -> Result<oneshot::Receiver<Result<(), Misuse>>, Stopped> {
        let (reply, result) = oneshot::channel();
        self.requests.send((command, reply)).await.map_err(|_| Stopped)?;
        Ok(result)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Follows the member list of one node.
#[derive(Clone, Debug)]
pub struct Watch {
    view: watch::Receiver<MembersView>,
}

impl Watch {
    /// The newest view, which counts as seen from now on.
    pub fn current(&mut self) -> MembersView {
        self.view.borrow_and_update().clone()
    }

    /// Waits for a view that has not been seen yet. Of several only the newest is returned.
    ///
    /// # Errors
    /// [`Stopped`] when there will be none.
    pub async fn changed(&mut self) -> Result<MembersView, Stopped> {
        self.view.changed().await.map_err(|_| Stopped)?;
        Ok(self.current())
    }
}

/// The events of one node, in order.
#[derive(Debug)]
pub struct Events {
    /// Nothing once the node has stopped before the subscription.
    events: Option<broadcast::Receiver<Event>>,
}

impl Events {
    /// Waits for the next event; `None` once the node has stopped and all is read. Nothing is dropped silently: a
    /// subscriber that is more than [`EVENT_BUFFER`] events behind is told how many it has missed.
    pub async fn next(&mut self) -> Option<Result<Event, Skipped>> {
        match self.events.as_mut()?.recv().await {
            Ok(event) => Some(Ok(event)),
            Err(broadcast::error::RecvError::Lagged(count)) => Some(Err(Skipped(count))),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}
