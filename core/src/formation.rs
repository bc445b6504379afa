//! The state machine: its inputs, its clock, and the order in which conclusions are drawn.

use alloc::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    vec::Vec,
};

use bytes::{Bytes, BytesMut};

use crate::{
    config::Config,
    election::Election,
    error::{CloseReason, Misuse},
    id::{Address, ConnId, DialId, Incarnation, Node, NodeId, Term},
    interface::{Command, Event, Input, Leadership, Origin, Output, Start, StopReason},
    link::{End, Link, Peer, Phase as LinkPhase},
    membership::Membership,
    message::{self, Role},
    refusals::Refusals,
    rng::Rng,
    seeking::Seeking,
    shared::Shared,
    status::{Counters, Phase, Status},
    time::Timestamp,
    timer::{Timer, Timers},
    view::MembersView,
};

/// One node: bytes and ticks in, bytes and effects out.
///
/// It does nothing of its own accord. The host says what happens with [`handle_input`](Self::handle_input), then does what
/// [`poll_output`](Self::poll_output) asks until that is `None`, then waits until [`next_deadline`](Self::next_deadline) or the next input.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Formation {
    pub(crate) config: Arc<Config>,
    pub(crate) me: Node,
    pub(crate) now: Timestamp,
    pub(crate) rng: Rng,
    pub(crate) election: Election,
    pub(crate) membership: Membership,
    pub(crate) seeking: Seeking,
    pub(crate) refusals: Refusals,
    pub(crate) links: BTreeMap<ConnId, Link>,
    pub(crate) peers: BTreeMap<NodeId, Peer>,
    pub(crate) peer_at: BTreeMap<Address, NodeId>,
    /// Accepted and not yet established.
    pub(crate) pending: BTreeSet<ConnId>,
    /// How many links are.
    pub(crate) established: usize,
    newest_conn: Option<ConnId>,
    partial_bytes: usize,
    pub(crate) timers: Timers,
    pub(crate) outputs: VecDeque<Output>,
    /// Links that may have something to send.
    pub(crate) awake: BTreeSet<ConnId>,
    /// What this node says of itself, and the same as a frame.
    pub(crate) status: message::StatusReport,
    pub(crate) status_frame: Shared,
    pub(crate) metadata: Bytes,
    /// The newest heartbeat of a master, encoded once for all links.
    pub(crate) heartbeat: Option<(u64, Shared)>,
    /// Something that decides who is dialed has changed.
    pub(crate) redial: bool,
    /// The master that was reported as out of reach.
    pub(crate) unreachable: Option<Node>,
    /// Since when a living node of this one's id has kept it outside, and when it last did.
    pub(crate) id_refused: Option<(Timestamp, Timestamp)>,
    /// Members that have said they leave: the first view of a new master does not carry them over.
    pub(crate) gone: BTreeSet<Node>,
    /// The term that this node resigned from, on its way out.
    pub(crate) resigning: Option<Term>,
    /// A seeker was turned away since the cluster was full.
    pub(crate) turned_away: bool,
    pub(crate) leaving: bool,
    /// A master has said that this node is in no view of its any more.
    pub(crate) dismissed: bool,
    stopped: bool,
    pub(crate) scratch: BytesMut,
    pub(crate) counters: Counters,
}

impl Formation {
    /// A node that has just started. It has outputs at once: the first dials.
    pub fn new(config: Config, start: Start, now: Timestamp) -> Self {
        let Incarnation(incarnation) = start.incarnation;
        let mut rng = Rng::new(start.rng_seed ^ incarnation.rotate_left(32));
        let me = Node { id: config.id().clone(), incarnation: start.incarnation };
        let election = Election::new(&config, &start, Rng::new(rng.next_u64()), now);
        let seeking = Seeking::new(&config, Rng::new(rng.next_u64()), now);
        let membership = Membership::new(config.limits().members);
        let refusals = Refusals::new(config.limits().members);
        let metadata = config.metadata().clone();
        let mut formation = Self {
            config: Arc::new(config),
            me,
            now,
            rng,
            election,
            membership,
            seeking,
            refusals,
            links: BTreeMap::new(),
            peers: BTreeMap::new(),
            peer_at: BTreeMap::new(),
            pending: BTreeSet::new(),
            established: 0,
            newest_conn: None,
            partial_bytes: 0,
            timers: Timers::default(),
            outputs: VecDeque::new(),
            awake: BTreeSet::new(),
            // Never said: who has just started is held, or stands.
            status: message::StatusReport {
                number: 0,
                term: Term::default(),
                role: Role::Joining,
                abstains: false,
                promise: None,
                view_id: crate::id::ViewId::default(),
                metadata: metadata.clone(),
            },
            status_frame: Shared::default(),
            metadata,
            heartbeat: None,
            redial: true,
            unreachable: None,
            id_refused: None,
            gone: BTreeSet::new(),
            resigning: None,
            turned_away: false,
            leaving: false,
            dismissed: false,
            stopped: false,
            scratch: BytesMut::new(),
            counters: Counters::default(),
        };
        formation.settle();
        formation
    }

    /// Says what has happened. A `now` before the last one counts as the last one.
    ///
    /// # Errors
    /// [`Misuse`] names a fault of the host; nothing has changed then. A fault of a peer is never an error: it closes that
    /// peer's connection and is reported as an event. Inputs still on their way for a connection that was closed are ignored.
    pub fn handle_input(&mut self, now: Timestamp, input: Input) -> Result<(), Misuse> {
        self.check(&input)?;
        if !self.stopped {
            self.pass_time(now);
        }
        // Perhaps only just: the time for leaving may have run out.
        if self.stopped {
            match input {
                Input::Opened { conn, .. } => {
                    self.newest_conn = Some(conn);
                    self.outputs.push_back(Output::Close { conn, reason: CloseReason::Left });
                }
                // Counted as it is behind the frame that stopped this node, wherever the chunks were cut (G4).
                Input::Received { chunk, .. } => self.counters.bytes_received += chunk.len() as u64,
                _ => {}
            }
            return Ok(());
        }
        match input {
            Input::Tick => {}
            Input::Opened { conn, origin } => self.opened(conn, origin),
            Input::DialFailed { dial } => self.dial_failed(dial),
            Input::Received { conn, chunk } => self.received(conn, chunk),
            Input::Flushed { conn } => self.flushed(conn),
            Input::Closed { conn } => self.end(conn, End::ByHost),
            Input::TlsFailed { conn, failure } => self.end(conn, End::TlsFailed(failure)),
            Input::Persisted { .. } => self.election.persisted(),
            Input::PersistFailed { .. } => {
                self.election.persist_failed();
                self.event(Event::PersistFailed);
            }
            Input::Command(Command::Leave) => self.leave(),
            Input::Command(Command::SetMetadata(metadata)) => self.metadata = metadata,
            Input::Command(Command::AddContacts(contacts)) => {
                for contact in contacts.iter().filter(|contact| *contact != self.config.address()) {
                    self.seeking.add(contact, false, self.now);
                }
                self.redial = true;
            }
        }
        self.conclude();
        Ok(())
    }

    /// What the host has to do next; `None` until the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to say [`Input::Tick`], unless another input comes first. `None` only once the node has stopped.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        if self.stopped {
            return None;
        }
        [self.timers.next_deadline(), self.election.next_deadline()].into_iter().flatten().min()
    }

    /// The last members that this node knew. It changes only with an [`Event::ViewChanged`], and stays when the master is lost.
    pub fn view(&self) -> &MembersView {
        &self.membership.view
    }

    /// This node's mastership: only while it is master and its lease is alive at `now`. Another node cannot have one
    /// before `valid_until` (G2), as long as clocks run within `max_clock_drift` and the lease is not ended by leaving.
    pub fn leadership(&self, now: Timestamp) -> Option<Leadership> {
        self.election.leadership(now.max(self.now))
    }

    /// What this node was started with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Who this node is.
    pub fn node(&self) -> &Node {
        &self.me
    }

    /// A look inside, for people and for metrics.
    pub fn status(&self) -> Status {
        let phase = match self.election.role() {
            _ if self.stopped => Phase::Stopped,
            Role::Joining => Phase::Joining,
            Role::Candidate => Phase::Candidate,
            Role::Follower { .. } => Phase::Follower,
            Role::Master => Phase::Master,
            Role::Solo { .. } => Phase::Solo,
            Role::Leaving => Phase::Leaving,
        };
        Status {
            phase,
            term: self.election.term(),
            master: self.election.master().map(|(node, address)| (node.clone(), address.clone())),
            can_vote: self.election.can_vote(),
            links: self.established,
            pending_connections: self.pending.len(),
            partial_bytes: self.partial_bytes,
            counters: Counters { candidacies: self.election.candidacies(), ..self.counters },
        }
    }

    /// Whether the host may say this now.
    fn check(&self, input: &Input) -> Result<(), Misuse> {
        let limits = self.config.limits();
        match input {
            Input::Opened { conn, origin } => {
                if let Some(newest) = self.newest_conn.filter(|newest| conn <= newest) {
                    return Err(Misuse::ReusedConn { conn: *conn, newest });
                }
                match origin {
                    Origin::Dialed(dial) => self.check_dial(*dial),
                    Origin::Accepted => Ok(()),
                }
            }
            Input::DialFailed { dial } => self.check_dial(*dial),
            Input::Received { conn, .. } | Input::Closed { conn } | Input::TlsFailed { conn, .. } => {
                self.check_conn(*conn)
            }
            Input::Flushed { conn } => {
                self.check_conn(*conn)?;
                match self.links.get(conn) {
                    Some(link) if !link.in_flight => Err(Misuse::NotInFlight(*conn)),
                    _ => Ok(()),
                }
            }
            Input::Persisted { seq } | Input::PersistFailed { seq } => match self.election.persisting() {
                Some(in_flight) if in_flight == *seq => Ok(()),
                in_flight => Err(Misuse::NotPersisting { seq: *seq, in_flight }),
            },
            Input::Command(Command::SetMetadata(metadata)) if metadata.len() > limits.metadata => {
                Err(Misuse::MetadataTooLong { len: metadata.len(), limit: limits.metadata })
            }
            Input::Command(Command::AddContacts(contacts)) => {
                let count = self.seeking.contacts_with(contacts.iter());
                match count > limits.contacts {
                    true => Err(Misuse::TooManyContacts { count, limit: limits.contacts }),
                    false => Ok(()),
                }
            }
            Input::Tick | Input::Command(_) => Ok(()),
        }
    }

    fn check_conn(&self, conn: ConnId) -> Result<(), Misuse> {
        if self.newest_conn.is_some_and(|newest| conn <= newest) { Ok(()) } else { Err(Misuse::UnknownConn(conn)) }
    }

    fn check_dial(&self, dial: DialId) -> Result<(), Misuse> {
        if self.seeking.knows(dial) { Ok(()) } else { Err(Misuse::UnknownDial(dial)) }
    }

    /// What time alone brings comes before the input: a lapse (E6), and timers, so that cutting an input in two at
    /// one moment changes nothing (G4).
    fn pass_time(&mut self, now: Timestamp) {
        let now = now.max(self.now);
        let timing = self.config.timing();
        if now.since(self.now) > timing.suspect_after {
            // This node paused: what it did not hear in the meantime says nothing of the others.
            let silent_at = now + timing.down_after;
            for link in self.links.values_mut() {
                link.silent_at = silent_at;
            }
            if let Some(roster) = &mut self.membership.roster {
                roster.allow_anew(now);
            }
        }
        self.now = now;
        self.conclude();
    }

    /// Draws conclusions until nothing follows any more.
    fn conclude(&mut self) {
        self.election.advance(self.now);
        self.settle();
        while let Some(timer) = self.timers.pop_due(self.now) {
            self.fire(timer);
            self.settle();
        }
    }

    fn fire(&mut self, timer: Timer) {
        let timing = self.config.timing();
        let (heartbeat_interval, now) = (timing.heartbeat_interval, self.now);
        match timer {
            Timer::Heartbeat => self.beat(),
            Timer::Redial => self.redial = true,
            Timer::Leave => self.stop(StopReason::Left),
            Timer::Dial(dial) => self.dial_failed(dial),
            Timer::Member(id) => self.judge_member(id),
            Timer::Handshake(conn) => match self.links.get(&conn).map(|link| &link.phase) {
                Some(LinkPhase::Refusing { rejected, .. }) => {
                    let reason = CloseReason::Rejected(rejected.reason);
                    self.end(conn, End::Ours(reason));
                }
                _ => self.end(conn, End::Ours(CloseReason::HandshakeTimeout)),
            },
            Timer::Silence(conn) => match self.links.get(&conn).map(|link| link.silent_at) {
                Some(at) if at > now => self.timers.set(Timer::Silence(conn), at),
                _ => self.end(conn, End::Ours(CloseReason::Silent)),
            },
            Timer::Ping(conn) => {
                let Some(link) = self.links.get_mut(&conn) else { return };
                if link.ping_at <= now {
                    link.ping_owed = true;
                    link.ping_at = now + heartbeat_interval;
                    self.awake.insert(conn);
                }
                let at = link.ping_at;
                self.timers.set(Timer::Ping(conn), at);
            }
        }
    }

    fn opened(&mut self, conn: ConnId, origin: Origin) {
        self.newest_conn = Some(conn);
        let dialed = match origin {
            Origin::Accepted => None,
            Origin::Dialed(dial) => {
                self.timers.clear(&Timer::Dial(dial));
                match self.seeking.opened(dial, conn) {
                    Some(address) => Some(address),
                    None => return self.close_unused(conn, None, CloseReason::DialGivenUp),
                }
            }
        };
        if self.links.len() >= self.config.limits().connections {
            if let Some(address) = &dialed {
                self.seeking.closed(address, conn, self.now);
            }
            self.redial = true;
            return self.close_unused(conn, dialed, CloseReason::TooManyConnections);
        }
        if origin == Origin::Accepted {
            self.pending.insert(conn);
            if self.pending.len() > self.config.limits().pending_connections
                && let Some(oldest) = self.pending.first().copied()
            {
                self.end(oldest, End::Ours(CloseReason::TooManyPending));
            }
        }
        let nonce = self.fresh_nonce();
        self.links.insert(conn, Link::new(origin, dialed, nonce, self.now));
        self.timers.set(Timer::Handshake(conn), self.now + self.config.timing().handshake_timeout);
        self.awake.insert(conn);
    }

    /// Closes a connection that has not become a link.
    fn close_unused(&mut self, conn: ConnId, dialed: Option<Address>, reason: CloseReason) {
        self.outputs.push_back(Output::Close { conn, reason });
        self.event(Event::ConnClosed { conn, dialed, reason });
    }

    fn dial_failed(&mut self, dial: DialId) {
        self.timers.clear(&Timer::Dial(dial));
        let Some(address) = self.seeking.failed(dial, self.now) else { return };
        self.redial = true;
        self.report_unreachable(&address);
    }

    fn received(&mut self, conn: ConnId, mut chunk: Bytes) {
        self.counters.bytes_received += chunk.len() as u64;
        let timing = self.config.timing();
        let (silent_at, limits) = (self.now + timing.down_after, self.config.limits());
        let (early, late, partial_limit) = (limits.frame_before_handshake, limits.max_frame, limits.partial_bytes);
        let Some(link) = self.links.get_mut(&conn) else { return };
        link.silent_at = silent_at;
        self.partial_bytes -= core::mem::take(&mut link.held_bytes);
        // One frame at a time, each with all that follows from it: how frames share a chunk cannot matter (G4).
        while let Some(link) = self.links.get_mut(&conn) {
            let limit = if link.is_established() { late } else { early };
            match link.decoder.next(&mut chunk, limit) {
                Ok(Some(body)) => {
                    self.counters.frames_received += 1;
                    self.frame(conn, &body);
                    self.conclude();
                }
                Ok(None) => break,
                Err(reason) => self.end(conn, End::Ours(reason)),
            }
        }
        if let Some(link) = self.links.get_mut(&conn) {
            link.held_bytes = link.decoder.buffered();
            self.partial_bytes += link.held_bytes;
            if self.partial_bytes > partial_limit {
                self.end(conn, End::Ours(CloseReason::TooManyPartialBytes));
            }
        }
    }

    fn flushed(&mut self, conn: ConnId) {
        let Some(link) = self.links.get_mut(&conn) else { return };
        link.in_flight = false;
        match &link.phase {
            LinkPhase::Refusing { rejected, said: true, .. } => {
                let reason = CloseReason::Rejected(rejected.reason);
                self.end(conn, End::Ours(reason));
            }
            _ => self.wake(conn),
        }
    }

    /// Draws the conclusions of what has changed, then sends what they owe.
    pub(crate) fn settle(&mut self) {
        while let Some(effect) = self.election.next_effect() {
            self.effect(effect);
        }
        self.refresh_status();
        if core::mem::take(&mut self.redial) {
            self.prune_links();
            self.dial();
        }
        while let Some(conn) = self.awake.pop_first() {
            self.send(conn);
        }
        self.finish_leaving();
    }

    fn dial(&mut self) {
        let Self { seeking, peers, peer_at, election, config, now, stopped, .. } = self;
        // Beside a solo master there may be a quorum, or another one (E8).
        let searching = election.is_solo() || election.follows_solo();
        let master = election.master().filter(|_| !searching).map(|(_, address)| address);
        let wanted = |address: &Address, is_seed: bool, found: Option<&NodeId>| {
            let linked = peer_at.contains_key(address) || found.is_some_and(|id| peers.contains_key(id));
            let useful = (config.is_voter() && is_seed) || master.is_none_or(|master| master == address);
            !linked && useful && !*stopped
        };
        let timeout = config.timing().handshake_timeout;
        for (dial, addr) in seeking.dial_due(*now, wanted) {
            self.timers.set(Timer::Dial(dial), *now + timeout);
            self.outputs.push_back(Output::Dial { dial, addr, timeout });
        }
        match seeking.next_retry(wanted) {
            Some(at) => self.timers.set(Timer::Redial, at),
            None => self.timers.clear(&Timer::Redial),
        }
    }

    /// Closes what this node dialed and neither end needs: voters keep links to each other, and all to their master.
    fn prune_links(&mut self) {
        if self.election.is_master() || self.election.follows_solo() || self.leaving {
            return;
        }
        let Some((master, _)) = self.election.master() else { return };
        let needless = |(_, link): &(&ConnId, &Link)| {
            link.dialed.is_some()
                && link
                    .peer()
                    .and_then(|id| self.peers.get(id))
                    .is_some_and(|peer| peer.node != *master && !(self.config.is_voter() && peer.is_voter))
        };
        let needless: Vec<ConnId> = self.links.iter().filter(needless).map(|(conn, _)| *conn).collect();
        for conn in needless {
            self.end(conn, End::Ours(CloseReason::NotNeeded));
        }
    }

    /// A connection is over: only what hung on it ends with it.
    pub(crate) fn end(&mut self, conn: ConnId, end: End) {
        let Some(link) = self.links.remove(&conn) else { return };
        self.partial_bytes -= link.held_bytes;
        self.pending.remove(&conn);
        self.awake.remove(&conn);
        for timer in [Timer::Handshake(conn), Timer::Ping(conn), Timer::Silence(conn)] {
            self.timers.clear(&timer);
        }
        let reason = match end {
            End::ByHost => None,
            End::TlsFailed(failure) => Some(CloseReason::TlsFailed(failure)),
            End::Ours(reason) => {
                self.outputs.push_back(Output::Close { conn, reason });
                Some(reason)
            }
        };
        // These have events of their own, which are not said of each connection.
        let has_its_own = |reason: &CloseReason| {
            matches!(reason, CloseReason::Rejected(_) | CloseReason::RejectedByPeer(_) | CloseReason::SelfDial)
        };
        if let Some(reason) = reason.filter(|reason| !has_its_own(reason) && !link.is_established()) {
            self.event(Event::ConnClosed { conn, dialed: link.dialed.clone(), reason });
        }
        if let Some(address) = &link.dialed {
            if let End::TlsFailed(_) = end {
                self.seeking.tls_failed(address);
            }
            self.seeking.closed(address, conn, self.now);
            self.redial = true;
            if !link.is_established() {
                self.report_unreachable(address);
            }
        }
        if let Some(id) = link.peer() {
            self.established -= 1;
            self.peer_lost_link(id, conn, reason);
        }
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    /// Closes everything; no input does anything any more.
    pub(crate) fn stop(&mut self, reason: StopReason) {
        let close = match reason {
            StopReason::Left | StopReason::IdInUse => CloseReason::Left,
            StopReason::Superseded => CloseReason::Superseded,
        };
        if !self.leaving {
            self.leaving = true;
            self.election.leave();
            while let Some(effect) = self.election.next_effect() {
                self.effect(effect);
            }
        }
        let all: Vec<ConnId> = self.links.keys().copied().collect();
        for conn in all {
            self.end(conn, End::Ours(close));
        }
        self.stopped = true;
        self.event(Event::Stopped { reason });
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped
    }
}
