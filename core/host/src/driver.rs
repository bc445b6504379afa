//! The half of the driver that needs no runtime: it hands inputs to the core, publishes states and events, and knows the
//! connections.
//!
//! Data goes one way through it: a [`Report`] becomes an [`Input`], the new state is published, and each [`Output`] is
//! performed in order.

mod streams;

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use formation_core::{
    Address, CloseReason, Command, ConnId, DialId, Event, Explanation, Formation, HardState, Input, Misuse, Origin,
    Output, Remote, StopReason, Timestamp, TlsFailure,
};

use crate::{
    accept::AcceptPlace,
    dial_failures::DialFailures,
    discovery::{Answer, AnyDiscovery, Found, Outcome},
    handle::Taken,
    limiter::{Kind, Limiter},
    log::{About, Log, Members},
    metrics::{
        REACHED, snake,
        table::{CLOSED, DIALS, PERSISTS, REJECTED, REJECTED_BY_PEER},
    },
    opening::Opening,
    permits::Permit,
    recorder::Recording,
    repeats::Repeats,
    resolve::dial_problem,
    shared::{Publisher, Shared},
    store::Store,
    streams::{Notice, Notifier, Registry},
    tasks::TransportPanicked,
};

/// How many closed connections may still deliver what was sent last. After that the oldest is cut for each new one.
const CLOSING: usize = 256;

/// At most one `Persist` is in flight, so nobody waits for the lock.
pub(crate) type SharedStore = Arc<Mutex<Store>>;

/// What the tasks of dials, connections and storage report to the driver.
#[derive(Debug)]
pub(crate) enum Report<S> {
    /// A dial has ended.
    Dialed { dial: DialId, address: Address, result: io::Result<Opening<S>> },
    /// The stream is ready, and the peer's certificate covers the hosts of these seeds.
    Certified { conn: ConnId, seeds: BTreeSet<Address> },
    /// Bytes have arrived. The connection is read again once the permit is dropped.
    Received { conn: ConnId, chunk: Bytes, permit: Permit },
    /// The last `Send` is written.
    Flushed { conn: ConnId },
    /// The peer or an error has ended the connection.
    Closed { conn: ConnId, error: Option<io::Error> },
    /// The task of a connection gives it back, for the service.
    HandedOff { conn: ConnId, io: Box<dyn Any + Send> },
    /// The application has dropped something.
    Noticed(Notice),
    /// A source of addresses has answered.
    Discovered { number: usize, answer: Answer },
    /// The last `Persist` is durable.
    Persisted { seq: u64 },
    /// The last `Persist` takes longer than it should.
    PersistDelayed { seq: u64 },
    /// The last `Persist` has failed for good.
    PersistFailed { seq: u64 },
    /// A task has panicked. Nobody knows what it has left undone.
    Panicked,
}

/// What the driver starts and never waits for. The result comes as a [`Report`].
pub(crate) trait Io {
    type Stream: Send + 'static;
    type Connection: Connection;

    /// `is_configured`: whether the address is a seed or a contact. Any other one was named by a peer.
    fn dial(&mut self, dial: DialId, address: Address, limit: Duration, is_configured: bool);
    /// Starts to secure and to read a new connection. It leaves its place once its first bytes are handled, or after a short time.
    fn open(&mut self, conn: ConnId, opening: Opening<Self::Stream>, place: Option<AcceptPlace>) -> Self::Connection;
    /// Starts to ask a source of addresses again and again.
    fn discover(&mut self, number: usize, source: Box<dyn AnyDiscovery>);
    fn persist(&mut self, store: &SharedStore, seq: u64, state: HardState);
    /// How the application reports to the driver that it has dropped something.
    fn notifier(&self) -> Notifier;
    /// Whether one end of a connection does not trust the other.
    fn tls_failure(&self, error: &io::Error) -> Option<TlsFailure>;
}

/// The driver's end of a connection. Dropping it cuts the connection.
pub(crate) trait Connection {
    fn send(&self, bytes: Bytes) -> Result<(), SecondSend>;
    /// Wants the stream back, of which nothing is read or written any more. It comes as a [`Report`].
    fn hand_off(&self);
    /// Closes the connection behind what was sent last. This takes a moment.
    fn close(&mut self);
    /// Whether nothing is left to be done.
    fn is_finished(&self) -> bool;
}

/// A `Send` while another one is in flight on the same connection, which the core rules out.
#[derive(Debug)]
pub(crate) struct SecondSend;

/// A connection, and its peer's socket address for the log.
struct Known<C> {
    connection: C,
    peer_addr: Option<Box<str>>,
}

pub(crate) struct Driver<I: Io> {
    formation: Formation,
    pub(crate) io: I,
    /// `None` if votes live in memory only.
    store: Option<SharedStore>,
    recording: Recording,
    log: Log,
    /// For the reports that an unauthenticated peer can cause.
    limiter: Limiter,
    repeats: Repeats,
    dial_failures: DialFailures,
    /// What discovery has found.
    found: Found,
    /// The members of the last view whose changes were logged.
    logged: Members,
    newest: ConnId,
    /// When the write to the disk has begun, if one is under way.
    persisting: Option<Timestamp>,
    /// A better master was reported, and the node has not begun to hand over to it (L8).
    better_master: bool,
    open: BTreeMap<ConnId, Known<I::Connection>>,
    /// The streams of the application.
    streams: Registry<I::Connection>,
    /// Closed by this node and not finished yet, the oldest first.
    closing: VecDeque<(ConnId, Known<I::Connection>)>,
    /// The last field: it announces the end, and by then the transport must have closed its port.
    publisher: Publisher,
}

/// The remains of a driver that has stopped. Fields are dropped in their order.
pub(crate) struct Remains<I: Io> {
    pub(crate) io: I,
    /// The connections that are open.
    pub(crate) open: Vec<I::Connection>,
    /// The connections that this node has closed, and that may still deliver what was sent last.
    pub(crate) closing: Vec<I::Connection>,
    pub(crate) store: Option<SharedStore>,
    pub(crate) recording: Recording,
    pub(crate) log: Log,
    /// The last field: it announces that everything else is free.
    pub(crate) publisher: Publisher,
}

impl<I: Io> Driver<I> {
    pub(crate) fn new(formation: Formation, io: I, store: Option<Store>, log: Log, publisher: Publisher) -> Self {
        Self {
            formation,
            io,
            store: store.map(|store| Arc::new(Mutex::new(store))),
            recording: Recording::default(),
            log,
            limiter: Limiter::default(),
            repeats: Repeats::default(),
            dial_failures: DialFailures::default(),
            found: Found::default(),
            logged: Members::default(),
            newest: ConnId(0),
            persisting: None,
            better_master: false,
            open: BTreeMap::new(),
            streams: Registry::default(),
            closing: VecDeque::new(),
            publisher,
        }
    }

    /// The same driver, whose inputs and outputs are recorded.
    pub(crate) fn recorded(self, recording: Recording) -> Self {
        Self { recording, ..self }
    }

    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        self.formation.next_deadline()
    }

    pub(crate) fn explain(&self) -> Explanation {
        self.formation.explain()
    }

    /// Whether the node does nothing any more. The driver ignores whatever comes after that.
    pub(crate) fn is_stopped(&self) -> bool {
        self.publisher.has_stopped()
    }

    /// Ends the node without leaving. The published state says so at once; the core is not asked any more.
    pub(crate) fn stop(&mut self, reason: StopReason) {
        if !self.is_stopped() {
            self.log_last_counts();
            self.log.ended_without_leaving(reason);
            self.publisher.stop(reason);
        }
    }

    /// Logs the counts of all that was not reported, also at the end of a node.
    fn log_last_counts(&mut self) {
        for (kind, count) in self.limiter.end() {
            self.log.suppressed(kind, count);
        }
        for (failure, count) in self.repeats.end() {
            self.log.repeated(&failure, count);
        }
    }

    /// Ends the node without leaving, as it takes longer to leave than the application wants to wait.
    pub(crate) fn stop_at_limit(&mut self) {
        if !self.is_stopped() {
            self.log.limit_passed();
            self.shared().ending.cut();
            self.stop(StopReason::ShutDown);
        }
    }

    /// Where the driver publishes, and the application says how long the end may take.
    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.publisher.shared()
    }

    /// Takes the driver apart once the node does nothing any more.
    pub(crate) fn end(self) -> Remains<I> {
        let Self { io, store, recording, log, open, streams, closing, publisher, .. } = self;
        let open = open.into_values().map(|known| known.connection).chain(streams.into_connections()).collect();
        let closing = closing.into_iter().map(|(_, known)| known.connection).collect();
        Remains { io, open, closing, store, recording, log, publisher }
    }

    /// Handles what a task has reported. Reports of a connection that has ended meanwhile are ignored.
    pub(crate) fn report(&mut self, now: Timestamp, report: Report<I::Stream>) {
        if self.is_stopped() {
            return;
        }
        match report {
            Report::Dialed { dial, address, result: Ok(opening) } => {
                self.dial_failures.reached(&address);
                self.publisher.count(&DIALS, REACHED);
                self.opened(now, opening, Origin::Dialed(dial), None);
            }
            Report::Dialed { dial, address, result: Err(error) } => {
                if let Some(panic) = TransportPanicked::of(&error) {
                    note_panic((&mut self.limiter, &self.log), now, address.as_str(), panic);
                }
                // Peers can claim any address, and this node dials it.
                let is_news = self.formation.is_configured(&address) && self.dial_failures.is_news(&address, &error);
                self.log.dial_failed(dial, &address, &error, is_news);
                let problem = dial_problem(&error);
                self.publisher.count(&DIALS, &snake(problem));
                self.handle_own(now, Input::DialFailed { dial, problem });
            }
            Report::Persisted { seq } => {
                if let Some(since) = self.persisting.take() {
                    self.publisher.record(&PERSISTS, now.since(since));
                }
                self.handle_own(now, Input::Persisted { seq });
            }
            Report::PersistDelayed { seq } => self.handle_own(now, Input::PersistDelayed { seq }),
            Report::Panicked => self.stop(StopReason::Failed),
            Report::PersistFailed { seq } => self.handle_own(now, Input::PersistFailed { seq }),
            Report::Certified { conn, seeds } => {
                if self.open.contains_key(&conn) {
                    self.handle_own(now, Input::Certified { conn, seeds });
                }
            }
            Report::Received { conn, chunk, permit } => {
                if self.open.contains_key(&conn) {
                    self.handle_own(now, Input::Received { conn, chunk });
                } else {
                    self.streams.read(conn, chunk);
                }
                drop(permit);
            }
            Report::Flushed { conn } => {
                if self.open.contains_key(&conn) {
                    self.handle_own(now, Input::Flushed { conn });
                }
            }
            Report::Closed { conn, error } if self.streams.is_handing(conn) => {
                self.stream_closed(now, conn, error.as_ref());
            }
            Report::Closed { conn, error } => self.closed(now, conn, error.as_ref()),
            Report::HandedOff { conn, io } => self.handed_off(conn, io),
            Report::Noticed(notice) => self.noticed(now, notice),
            Report::Discovered { number, answer } => self.discovered(now, number, answer),
        }
    }

    /// The application asks for these voters.
    ///
    /// # Errors
    /// [`Misuse`] if the core rejects them.
    pub(crate) fn set_voters(&mut self, now: Timestamp, voters: BTreeSet<Address>) -> Result<Taken, Misuse> {
        let taken = Taken { term: self.formation.status().term, before: self.formation.electorate().version };
        self.handle(now, Input::Command(Command::SetVoters(voters))).map(|()| taken)
    }

    /// Asks one more source of addresses. Returns false if there are too many.
    pub(crate) fn discover(&mut self, name: String, source: Box<dyn AnyDiscovery>) -> bool {
        let number = self.found.add(name);
        if let Some(number) = number {
            self.io.discover(number, source);
            self.publisher.publish_sources(self.found.reports());
        }
        number.is_some()
    }

    /// A source has answered. One that has failed keeps what it has found before.
    fn discovered(&mut self, now: Timestamp, number: usize, answer: Answer) {
        let limit = self.formation.config().limits().discovered;
        let outcome = self.found.answered(number, answer, limit);
        self.log.discovered(&outcome, self.found.name(number), self.found.of(number));
        if outcome != Outcome::Nothing {
            self.publisher.publish_sources(self.found.reports());
        }
        if let Outcome::Changed { .. } = outcome {
            let own = self.formation.config().address();
            let is_needed = |address: &Address| address != own && !self.formation.is_configured(address);
            let all = self.found.all(limit, is_needed).into_iter().collect();
            self.handle_own(now, Input::Command(Command::SetDiscovered(all)));
        }
    }

    /// There is a new connection. It gets a larger id than any before.
    pub(crate) fn opened(
        &mut self,
        now: Timestamp,
        opening: Opening<I::Stream>,
        origin: Origin,
        place: Option<AcceptPlace>,
    ) {
        if self.is_stopped() {
            return;
        }
        self.newest.0 += 1;
        let conn = self.newest;
        let peer_addr = opening.peer().map(Box::from);
        self.log.opened(conn, origin, peer_addr.as_deref());
        let remote = opening.addr().map(Remote::at).unwrap_or_default();
        let connection = self.io.open(conn, opening, place);
        self.open.insert(conn, Known { connection, peer_addr });
        self.handle_own(now, Input::Opened { conn, origin, remote });
    }

    fn closed(&mut self, now: Timestamp, conn: ConnId, error: Option<&io::Error>) {
        let Some(known) = self.open.get(&conn) else { return };
        let peer_addr = known.peer_addr.as_deref();
        self.log.ended(conn, peer_addr, error);
        self.publisher.count(&CLOSED, "ended");
        if let Some(panic) = error.and_then(TransportPanicked::of) {
            note_panic((&mut self.limiter, &self.log), now, peer_addr.unwrap_or("unknown"), panic);
        }
        let input = match error.and_then(|error| self.io.tls_failure(error)) {
            Some(failure) => Input::TlsFailed { conn, failure },
            None => Input::Closed { conn },
        };
        self.handle_own(now, input);
        // Not before: a timer that was due before the end may have made the core send something on it.
        self.open.remove(&conn);
    }

    /// Handles an input that the driver makes itself, which the core never rejects.
    pub(crate) fn handle_own(&mut self, now: Timestamp, input: Input) {
        if let Err(misuse) = self.handle(now, input) {
            self.log.misuse(&misuse);
        }
    }

    /// L8: whether this master has to hand over. It is true once for each report of the core.
    pub(crate) fn take_better_master(&mut self) -> bool {
        std::mem::take(&mut self.better_master)
    }

    /// Hands an input to the core and performs everything that follows from it. The new state is published before any
    /// output is performed: the application sees the end of a mastership before any other node does.
    ///
    /// # Errors
    /// [`Misuse`] if the core rejects the input.
    pub(crate) fn handle(&mut self, now: Timestamp, input: Input) -> Result<(), Misuse> {
        if self.is_stopped() {
            return Ok(());
        }
        for (kind, count) in self.limiter.ended(now) {
            self.log.suppressed(kind, count);
        }
        for (failure, count) in self.repeats.ended(now) {
            self.log.repeated(&failure, count);
        }
        let result = self.handle_recorded(now, input);
        if result.is_ok() {
            self.publisher.publish_state(&self.formation, now);
        }
        while let Some(output) = self.formation.poll_output() {
            self.recording.output(&output);
            self.perform(now, output);
        }
        self.logged.catch_up(self.formation.view());
        result
    }

    fn handle_recorded(&mut self, now: Timestamp, input: Input) -> Result<(), Misuse> {
        self.recording.input(&self.formation, now, &input);
        self.formation.handle_input(now, input)
    }

    fn perform(&mut self, now: Timestamp, output: Output) {
        match output {
            Output::Dial { dial, addr, timeout } => {
                let is_configured = self.formation.is_configured(&addr);
                self.io.dial(dial, addr, timeout, is_configured);
            }
            Output::Send { conn, bytes } => match self.open.get(&conn).map(|known| known.connection.send(bytes)) {
                Some(Ok(())) => {}
                Some(Err(SecondSend)) => self.log.second_send(conn),
                None => self.log.send_not_open(conn),
            },
            Output::Close { conn, reason } => self.close(conn, reason),
            Output::Persist { seq, state } => self.persist(now, seq, state),
            Output::Event(event) => self.event(now, event),
            Output::Handoff { conn, stream, peer, name, unread } => self.hand_off(conn, (stream, peer, name, unread)),
            Output::StreamFailed { stream, failure } => self.streams.fail(stream, failure.into()),
        }
    }

    fn close(&mut self, conn: ConnId, reason: CloseReason) {
        let Some(mut known) = self.open.remove(&conn) else { return };
        self.log.closing(conn, known.peer_addr.as_deref(), reason);
        self.publisher.count(&CLOSED, &snake(reason));
        match reason {
            CloseReason::Rejected(reason) => self.publisher.count(&REJECTED, &snake(reason)),
            CloseReason::RejectedByPeer(reason) => self.publisher.count(&REJECTED_BY_PEER, &snake(reason)),
            _ => {}
        }
        known.connection.close();
        self.closing.retain(|(_, closing)| !closing.connection.is_finished());
        if self.closing.len() == CLOSING {
            self.closing.pop_front();
        }
        self.closing.push_back((conn, known));
    }

    fn persist(&mut self, now: Timestamp, seq: u64, state: HardState) {
        let Some(store) = &self.store else { return self.persisted_in_memory(now, seq) };
        // A thread for it would make the runs of a test differ.
        let for_disk = store.lock().unwrap_or_else(PoisonError::into_inner).keep_in_memory(state);
        match for_disk {
            Some(state) => {
                self.persisting = Some(now);
                self.io.persist(store, seq, state);
            }
            None => self.persisted_in_memory(now, seq),
        }
    }

    /// A vote is kept in memory: there is nothing to wait for. Its consequences join the outputs that
    /// are being performed, and the state comes first here as well.
    fn persisted_in_memory(&mut self, now: Timestamp, seq: u64) {
        if let Err(misuse) = self.handle_recorded(now, Input::Persisted { seq }) {
            self.log.misuse(&misuse);
        }
        self.publisher.publish_state(&self.formation, now);
    }

    /// No connection could be accepted.
    pub(crate) fn accept_failed(&mut self, now: Timestamp, error: &io::Error) {
        if self.limiter.admits(now, Kind::AcceptFailed) {
            self.log.accept_failed(error);
        }
    }

    /// The state that an event has led to is published already.
    pub(crate) fn event(&mut self, now: Timestamp, event: Event) {
        let kind = Kind::of(&event, |address| self.formation.is_configured(address));
        let failure = Repeats::of(&event);
        // The limiter does not count a repeated failure, so it uses up no place of a new one.
        let is_repeated = failure.as_ref().is_some_and(|failure| self.repeats.count(failure));
        if is_repeated || kind.is_some_and(|kind| !self.limiter.admits(now, kind)) {
            return self.publisher.suppress_event();
        }
        if let Some(failure) = failure {
            self.repeats.reported(now, failure);
        }
        if let Event::MasterLost { term, master, reason } = &event
            && master == self.formation.node()
        {
            self.publisher.lost(*term, *reason);
        }
        if let Event::BetterMaster { .. } = &event {
            self.better_master = true;
        }
        for (failure, count) in self.repeats.linked(&event) {
            self.log.repeated(&failure, count);
        }
        let peer_addr = event.conn().and_then(|conn| self.peer_addr(conn));
        let (term, config) = (self.formation.status().term, self.formation.config());
        self.log.event(&event, &About { term, before: &self.logged, config, peer_addr });
        if let Event::ViewChanged { view_id, changes } = &event {
            self.logged.apply(*view_id, changes, self.formation.view());
        }
        match kind {
            Some(_) => self.publisher.publish_unproven(event),
            None => self.publisher.publish_event(event),
        }
        if self.is_stopped() {
            self.log_last_counts();
        }
    }

    /// The socket address of a connection that is open, or that this node has closed a moment ago.
    fn peer_addr(&self, conn: ConnId) -> Option<&str> {
        let closing = || self.closing.iter().rev().find(|(closing, _)| *closing == conn).map(|(_, known)| known);
        self.open.get(&conn).or_else(closing)?.peer_addr.as_deref()
    }
}

/// A panic in the transport is a bug of this program, and is not hidden among what peers do wrong.
fn note_panic((limiter, log): (&mut Limiter, &Log), now: Timestamp, peer: &str, panic: &TransportPanicked) {
    if limiter.admits(now, Kind::TransportPanicked) {
        log.transport_panicked(peer, panic);
    }
}

#[cfg(test)]
mod tests;
