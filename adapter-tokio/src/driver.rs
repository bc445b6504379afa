//! The one task that owns the state machine. It never waits for a single socket.

use std::{
    collections::{HashMap, VecDeque},
    io,
    sync::Arc,
    time::Duration,
};

use formation_core::{
    Command, ConnId, Event, Formation, Input, Leadership, MembersView, Misuse, Origin, Output, Phase, Status, Timestamp,
};
use formation_host::{Clock, Opening, Store};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc, oneshot, watch},
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep, sleep_until},
};

use crate::{
    connection::{Connection, Report, dial},
    storage::Storage,
    transport::Transport,
};

/// Reports that wait for the driver; whoever has another one waits for room, in turn.
const REPORTS: usize = 256;
/// Closed connections that still deliver what was sent last; beyond it the oldest is cut.
const CLOSING: usize = 256;
/// How long nothing is accepted after a fault of the listener, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A wish of the host, and where to say how it went.
pub(crate) type Request = (Command, oneshot::Sender<Result<(), Misuse>>);

/// What changes with nearly every input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) status: Status,
    pub(crate) leadership: Option<Leadership>,
}

impl State {
    pub(crate) fn of(formation: &Formation, now: Timestamp) -> Self {
        Self { status: formation.status(), leadership: formation.leadership(now) }
    }
}

/// Where the driver says how things stand.
#[derive(Debug)]
pub(crate) struct Publisher {
    pub(crate) state: watch::Sender<State>,
    pub(crate) view: watch::Sender<MembersView>,
    pub(crate) events: broadcast::Sender<Event>,
}

pub(crate) struct Driver<T: Transport> {
    formation: Formation,
    transport: Arc<T>,
    clock: Clock,
    storage: Option<Storage>,
    publisher: Publisher,
    connections: HashMap<ConnId, Connection>,
    newest_conn: ConnId,
    /// Turns to be accepted. One ends when what has come on the connection is read, so that of many that connect at once the
    /// first are not closed as the oldest that have said nothing, though nobody has listened.
    unheard: Arc<Semaphore>,
    reports: mpsc::Sender<Report<T::Stream>>,
    /// Connections; dials apart, as only these may finish when the node stops.
    links: JoinSet<()>,
    dials: JoinSet<()>,
    closing: VecDeque<AbortHandle>,
    /// What has happened, told after the state that it led to is published.
    events: Vec<Event>,
}

impl<T: Transport> Driver<T> {
    /// Drives the node until it stops. Dropping the future ends every task that it has started.
    pub(crate) async fn run(
        formation: Formation,
        clock: Clock,
        store: Option<Store>,
        publisher: Publisher,
        transport: T,
        mut requests: mpsc::Receiver<Request>,
    ) {
        let (reports, mut inbox) = mpsc::channel(REPORTS);
        let unheard = (formation.config().limits().pending_connections / 4).max(1);
        let mut driver = Self {
            formation,
            transport: Arc::new(transport),
            clock,
            storage: store.map(Storage::new),
            publisher,
            connections: HashMap::new(),
            newest_conn: ConnId(0),
            unheard: Arc::new(Semaphore::new(unheard)),
            reports,
            links: JoinSet::new(),
            dials: JoinSet::new(),
            closing: VecDeque::new(),
            events: Vec::new(),
        };
        driver.drive(Input::Tick);
        let mut accept_from = None;
        while driver.formation.status().phase != Phase::Stopped {
            // With no preference: a node that is late for every deadline still hears its host and its peers.
            tokio::select! {
                accepted = accept(&*driver.transport, &driver.unheard, accept_from) => {
                    accept_from = accepted.is_err().then(|| Instant::now() + ACCEPT_PAUSE);
                    match accepted {
                        Ok((opening, turn)) => {
                            driver.hear_out(&mut inbox);
                            driver.open(opening, Origin::Accepted, Some(turn));
                        }
                        Err(error) => tracing::warn!(%error, "cannot accept; trying again soon"),
                    }
                }
                Some(report) = inbox.recv() => driver.report(report),
                Some((command, reply)) = requests.recv() => {
                    let result = driver.handle(Input::Command(command));
                    // The host may not care.
                    let _ = reply.send(result);
                }
                () = wait(driver.formation.next_deadline(), clock) => driver.drive(Input::Tick),
                // Only to forget tasks that have ended.
                Some(_) = driver.links.join_next() => {}
                Some(_) = driver.dials.join_next() => {}
            }
        }
        // Readers must not wait for room in an inbox that nobody empties.
        drop((inbox, requests));
        driver.connections.clear();
        driver.dials.shutdown().await;
        while driver.links.join_next().await.is_some() {}
    }

    /// Takes in what has been read on the connections that are there, before there is one more.
    fn hear_out(&mut self, inbox: &mut mpsc::Receiver<Report<T::Stream>>) {
        for _ in 0..inbox.len() {
            if let Ok(report) = inbox.try_recv() {
                self.report(report);
            }
        }
    }

    fn report(&mut self, report: Report<T::Stream>) {
        let input = match report {
            Report::Dialed { dial, result: Ok(opening) } => return self.open(opening, Origin::Dialed(dial), None),
            Report::Dialed { dial, result: Err(error) } => {
                tracing::debug!(dial = dial.0, %error, "dial failed");
                Input::DialFailed { dial }
            }
            Report::Persisted { seq } => Input::Persisted { seq },
            Report::PersistFailed { seq } => Input::PersistFailed { seq },
            Report::Received { conn, chunk } if self.connections.contains_key(&conn) => Input::Received { conn, chunk },
            Report::Flushed { conn } if self.connections.contains_key(&conn) => Input::Flushed { conn },
            Report::Closed { conn, error } if self.connections.contains_key(&conn) => {
                let failure = error.as_ref().and_then(|error| self.transport.tls_failure(error));
                tracing::debug!(%conn, error = error.map(tracing::field::display), "connection ended");
                self.drive(match failure {
                    Some(failure) => Input::TlsFailed { conn, failure },
                    None => Input::Closed { conn },
                });
                // Only now: what was due before may have been sent on it.
                self.connections.remove(&conn);
                return;
            }
            // Still on its way when the connection was closed.
            Report::Received { .. } | Report::Flushed { .. } | Report::Closed { .. } => return,
        };
        self.drive(input);
    }

    fn open(&mut self, opening: Opening<T::Stream>, origin: Origin, turn: Option<OwnedSemaphorePermit>) {
        self.newest_conn.0 += 1;
        let conn = self.newest_conn;
        tracing::debug!(%conn, ?origin, peer = opening.peer(), "connection opened");
        self.connections.insert(conn, Connection::open(conn, opening, turn, &self.reports, &mut self.links));
        self.drive(Input::Opened { conn, origin });
    }

    /// Handles an input of the driver's own making.
    fn drive(&mut self, input: Input) {
        // A fault of this crate, for a host's wishes go through `handle` alone.
        if let Err(misuse) = self.handle(input) {
            tracing::error!(node = %self.formation.node(), %misuse, "input refused; please report this bug");
        }
    }

    /// Hands one input over and does everything that follows from it. How things stand is published first: a master that
    /// ends its mastership ends it for its own host before it tells another node.
    fn handle(&mut self, input: Input) -> Result<(), Misuse> {
        let now = self.clock.now();
        let result = self.formation.handle_input(now, input);
        self.publish_state();
        while let Some(seq) = self.perform_outputs() {
            // Kept in memory, votes live as long as their node does: there is nothing to wait for.
            self.formation.handle_input(now, Input::Persisted { seq })?;
            self.publish_state();
        }
        self.publish_events();
        result
    }

    /// Does what the core asks for. Returns the number of a `Persist` that nothing has to be done about.
    fn perform_outputs(&mut self) -> Option<u64> {
        let mut persist = None;
        while let Some(output) = self.formation.poll_output() {
            match output {
                Output::Dial { dial: id, addr, timeout } => {
                    self.dials.spawn(dial(self.transport.clone(), id, addr, timeout, self.reports.clone()));
                }
                Output::Send { conn, bytes } => match self.connections.get(&conn).map(|link| link.send(bytes)) {
                    Some(Ok(()) | Err(mpsc::error::TrySendError::Closed(_))) => {}
                    Some(Err(mpsc::error::TrySendError::Full(_))) => tracing::error!(%conn, "two Sends in flight"),
                    None => tracing::error!(%conn, "a Send for a connection that is not open"),
                },
                Output::Close { conn, reason } => {
                    tracing::debug!(%conn, %reason, "closing connection");
                    if let Some(connection) = self.connections.remove(&conn) {
                        self.closing.retain(|task| !task.is_finished());
                        if self.closing.len() == CLOSING
                            && let Some(oldest) = self.closing.pop_front()
                        {
                            oldest.abort();
                        }
                        self.closing.push_back(connection.close());
                    }
                }
                Output::Persist { seq, state } => match &self.storage {
                    Some(storage) => storage.keep(seq, state, &self.reports, &mut self.links),
                    None => persist = Some(seq),
                },
                Output::Event(event) => self.events.push(event),
            }
        }
        persist
    }

    fn publish_state(&self) {
        self.publisher.state.send_replace(State::of(&self.formation, self.clock.now()));
        let view = self.formation.view();
        self.publisher.view.send_if_modified(|published| {
            let changed = published != view;
            if changed {
                published.clone_from(view);
            }
            changed
        });
    }

    /// After the state, so that whoever hears of an event finds what it led to.
    fn publish_events(&mut self) {
        let term = self.formation.status().term;
        for event in self.events.drain(..) {
            log(&event, term);
            // Nobody may be listening.
            let _ = self.publisher.events.send(event);
        }
    }
}

async fn accept<T: Transport>(
    transport: &T,
    unheard: &Arc<Semaphore>,
    from: Option<Instant>,
) -> io::Result<(Opening<T::Stream>, OwnedSemaphorePermit)> {
    if let Some(from) = from {
        sleep_until(from).await;
    }
    let turn = unheard.clone().acquire_owned().await.map_err(io::Error::other)?;
    Ok((transport.accept().await?, turn))
}

async fn wait(deadline: Option<Timestamp>, clock: Clock) {
    match deadline {
        Some(deadline) => sleep(deadline.since(clock.now())).await,
        None => std::future::pending().await,
    }
}

fn log(event: &Event, term: formation_core::Term) {
    match event {
        Event::MasterElected { term, master, address } => tracing::info!(%term, %master, %address, "master elected"),
        Event::MasterLost { term, master, reason } => tracing::warn!(%term, %master, ?reason, "master lost"),
        Event::ViewChanged { view_id, changes } => {
            tracing::info!(%term, %view_id, changes = changes.len(), "view changed")
        }
        Event::Linked { node: peer, address, conn } => tracing::debug!(%term, %conn, %peer, %address, "linked"),
        Event::Stopped { reason } => tracing::info!(%term, ?reason, "stopped"),
        Event::ConnClosed { conn, dialed, reason } => {
            tracing::warn!(%term, %conn, dialed = dialed.as_ref().map(tracing::field::display), %reason, "connection closed for its fault");
        }
        Event::Unlinked { node: peer, reason } => {
            tracing::debug!(%term, %peer, reason = reason.map(tracing::field::display), "unlinked");
        }
        other => tracing::warn!(%term, event = ?other, "not as it should be"),
    }
}
