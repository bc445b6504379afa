//! The state machine: its inputs, its clock, and the order in which conclusions are drawn.
//!
//! [`Formation`] composes the parts of a node. Each part owns its fields, and data goes one way: an input reaches the peer table,
//! `dispatch` hands what it means to the part concerned, `effects` does what that part concludes, and a flush of the peer table ends it.

mod admission;
mod claims;
mod dispatch;
mod effects;
mod electorate;
mod explain;
mod flush;
mod invariants;
mod misuse;
#[cfg(feature = "snapshot")]
mod snapshot;
mod streams;

use core::time::Duration;

use bytes::Bytes;

use self::{effects::End, flush::Sources};
use crate::{
    absence::Absence,
    api::config::Config,
    api::electorate::ElectorateVersion,
    api::error::{CloseReason, DialProblem, Misuse},
    api::event::{Event, StopReason},
    api::input::{Command, Input, Start},
    api::output::Output,
    api::status::Leadership,
    api::status::{Counters, Phase, Status},
    autopilot::Autopilot,
    discovery::{Discovery, Rejections},
    election::Election,
    env::{Env, Sink},
    id::{Address, ConnId, Incarnation, Node},
    lifecycle::Lifecycle,
    membership::view::MembersView,
    membership::{Judged, MemberKey, Membership},
    own_status::OwnStatus,
    patience::Patience,
    peers::{PeerTable, Received},
    preference::Preference,
    replacements::Replacements,
    rng::Rng,
    stranded::Stranded,
    streams::Streams,
    time::Timestamp,
    timers::Timer,
};

/// What the membership reads and changes beside itself.
macro_rules! context {
    ($formation:ident) => {
        &mut crate::membership::Context {
            env: &$formation.env,
            election: &$formation.election,
            peers: &mut $formation.peers,
            sink: &mut $formation.sink,
        }
    };
}
use context;

#[cfg(feature = "snapshot")]
pub use snapshot::SnapshotError;

/// One node: bytes and ticks in, bytes and effects out.
///
/// It does nothing on its own. The embedder
/// 1. reports what has happened with [`handle_input`](Self::handle_input),
/// 2. does what [`poll_output`](Self::poll_output) returns, in order, until that is `None`,
/// 3. waits for the next input, but not longer than until [`next_deadline`](Self::next_deadline): then it reports [`Input::Tick`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Formation {
    env: Env,
    /// Connections and peers.
    peers: PeerTable,
    /// Whom to dial.
    discovery: Discovery,
    /// Which rejections of peers were reported.
    rejections: Rejections,
    /// Terms, votes, promises and leases.
    election: Election,
    /// The view, and on a master everything about its members.
    membership: Membership,
    /// While there is no master: until when the view still shows who lives.
    view_counts_until: Timestamp,
    /// What this node reports about itself.
    own_status: OwnStatus,
    lifecycle: Lifecycle,
    absence: Absence,
    stranded: Stranded,
    preference: Preference,
    patience: Patience,
    autopilot: Autopilot,
    /// Which runs have replaced others, and keep their places.
    replacements: Replacements,
    /// The streams of the services.
    streams: Streams,
    /// Outputs and deadlines.
    sink: Sink,
    /// The election's deadline, as of the last conclusions: no time before it changes anything.
    election_due: Option<Timestamp>,
}

/// The possible consequences of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Follows {
    Nothing,
    /// Something may be sent, and nothing else has changed.
    Writes,
    Anything,
}

impl Formation {
    /// A node that has just started. It has outputs at once: the first dials.
    pub fn new(config: Config, start: Start, now: Timestamp) -> Self {
        let Incarnation(incarnation) = start.incarnation;
        let mut rng = Rng::new(start.rng_seed ^ incarnation.rotate_left(32));
        let me = Node { id: config.id().clone(), incarnation: start.incarnation };
        let election = Election::new(&config, &start, Rng::new(rng.next_u64()), now);
        let discovery = Discovery::new(&config, Rng::new(rng.next_u64()), now);
        let mut formation = Self {
            peers: PeerTable::new(rng),
            discovery,
            rejections: Rejections::new(config.limits().members),
            election,
            membership: Membership::new(config.limits()),
            view_counts_until: Timestamp::ZERO,
            own_status: OwnStatus::new(config.metadata().clone()),
            lifecycle: Lifecycle::Running,
            absence: Absence::default(),
            stranded: Stranded::default(),
            preference: Preference::default(),
            patience: Patience::default(),
            autopilot: Autopilot::default(),
            replacements: Replacements::default(),
            streams: Streams::default(),
            sink: Sink::default(),
            election_due: None,
            env: Env::new(config, me, now),
        };
        if formation.electorate().version > ElectorateVersion::default() {
            formation.electorate_changed();
        }
        formation.conclude();
        formation
    }

    /// Reports what has happened. A `now` before the last one counts as the last one.
    ///
    /// # Errors
    /// [`Misuse`] names a fault of the embedder. Nothing has changed then. A fault of a peer is never an error: it closes that
    /// peer's connection, and an event reports it. Late inputs for a connection that was closed are ignored.
    pub fn handle_input(&mut self, now: Timestamp, input: Input) -> Result<(), Misuse> {
        self.check_input(&input)?;
        self.membership.begin_input();
        if !self.lifecycle.is_stopped() {
            self.pass_time(now);
        }
        // The node may have stopped just now: the time for leaving may be over.
        match self.lifecycle.is_stopped() {
            true => self.handle_stopped(input),
            false => match self.handle(input) {
                Follows::Nothing => {}
                Follows::Writes => self.conclude_writes(),
                Follows::Anything => self.conclude(),
            },
        }
        if self.hand_off() {
            // What has waited for room may be sent now.
            self.conclude_writes();
        }
        if cfg!(debug_assertions) {
            self.check_invariants();
        }
        Ok(())
    }

    /// What the embedder has to do next; `None` until the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.sink.next_output()
    }

    /// When to report [`Input::Tick`], unless another input comes first. `None` only once the node has stopped.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        if self.lifecycle.is_stopped() {
            return None;
        }
        [self.sink.timers().next_deadline(), self.election_due].into_iter().flatten().min()
    }

    /// The last members that this node knew. They change only with an [`Event::ViewChanged`], and the id of the view also
    /// without one. It stays when the master is lost.
    pub fn view(&self) -> &MembersView {
        self.membership.view()
    }

    /// This node's mastership: only while it is master and its lease is valid at `now`. No other node can have one before
    /// `valid_until` (G2), if clocks run within `max_clock_drift_percent`. There are two exceptions: the lease ends earlier
    /// if this node leaves or resigns, and it ends with its process. A write that a killed process has started may therefore take
    /// effect beside the next master: send the term along as a fencing token.
    pub fn leadership(&self, now: Timestamp) -> Option<Leadership> {
        self.election.leadership(now.max(self.env.now))
    }

    /// The configuration that this node was started with.
    ///
    /// ```
    /// fn votes(node: &formation_core::Formation) -> bool {
    ///     node.config().is_voter() && node.status().can_vote
    /// }
    /// ```
    pub fn config(&self) -> &Config {
        &self.env.config
    }

    /// This node's id and incarnation.
    pub fn node(&self) -> &Node {
        &self.env.me
    }

    /// A snapshot of the node's state, for people and for metrics.
    pub fn status(&self) -> Status {
        let phase = if self.lifecycle.is_stopped() { Phase::Stopped } else { Phase::from(&self.election.role()) };
        Status {
            phase,
            term: self.election.term(),
            master: self.election.master().map(|(node, address)| (node.clone(), address.clone())),
            master_term: self.election.master_term(),
            can_vote: self.election.can_vote(),
            storage: self.election.storage(),
            links: self.peers.established(),
            pending_connections: self.peers.pending(),
            partial_bytes: self.peers.partial_bytes(),
            counters: Counters { candidacies: self.election.candidacies(), ..self.peers.counters() },
        }
    }

    /// How long after their sending the heartbeats of this master were acknowledged of which the last input had the acknowledgements, in
    /// their order. It is empty on any other node. A heartbeat that is acknowledged later than a [`lease`](crate::Timing::lease) is not
    /// measured. A host makes a histogram of them; [`explain`](Self::explain) has the last one of each member.
    ///
    /// ```
    /// use formation_core::{Config, Formation, Incarnation, Start, Timestamp};
    ///
    /// let config = Config::single("orders", "node-a", "127.0.0.1:7000").build()?;
    /// let node = Formation::new(config, Start::new(Incarnation(1), 1), Timestamp::ZERO);
    /// assert!(node.round_trips().is_empty(), "nobody has acknowledged a heartbeat");
    /// # Ok::<(), formation_core::ConfigError>(())
    /// ```
    pub fn round_trips(&self) -> &[Duration] {
        self.membership.round_trips()
    }

    /// Whether this address is a seed or a contact. This node dials other addresses, too, but only because peers claim them (H11): what
    /// such a dial leads to is as little worth as what a stranger sends.
    pub fn is_configured(&self, address: &Address) -> bool {
        self.discovery.is_configured(address)
    }

    fn handle(&mut self, input: Input) -> Follows {
        match input {
            // Everything that is due was done before.
            Input::Tick => return Follows::Nothing,
            Input::Opened { conn, origin, remote } => self.opened(conn, origin, remote),
            Input::DialFailed { dial, problem } => self.dial_failed(dial, problem),
            Input::Certified { conn, seeds } => self.peers.certify(conn, seeds),
            Input::Received { conn, chunk } => return self.received(conn, chunk),
            Input::Flushed { conn } => match self.peers.flushed(conn) {
                Some(reason) => self.end(conn, End::Closed(reason)),
                None => return Follows::Writes,
            },
            Input::Closed { conn } => self.end(conn, End::Reported),
            Input::TlsFailed { conn, failure } => self.end(conn, End::TlsFailed(failure)),
            Input::Persisted { .. } => {
                if self.election.persisted() {
                    self.sink.event(Event::PersistRecovered);
                }
            }
            Input::PersistDelayed { .. } => {
                if self.election.persist_delayed() {
                    self.sink.event(Event::PersistDelayed);
                }
            }
            Input::PersistFailed { .. } => {
                self.election.persist_failed();
                self.sink.event(Event::PersistFailed);
            }
            Input::Command(Command::Leave) => self.leave(),
            Input::Command(Command::Resign) => self.resign(),
            Input::Command(Command::SetVoters(voters)) => self.election.want_voters(voters),
            Input::Command(Command::SetMetadata(metadata)) => self.own_status.set_metadata(metadata),
            Input::Command(Command::AddContacts(contacts)) => {
                self.discovery.add_contacts(&self.env, contacts.iter());
            }
            Input::Command(Command::SetDiscovered(found)) => {
                let has_master = self.election.master().is_some();
                self.discovery.set_discovered(&self.env, &found.iter().collect(), has_master);
            }
            Input::Command(Command::OpenStream { stream, to, name }) => self.open_stream(stream, to, name),
            Input::Command(Command::ServeStreams(names)) => self.streams.serve(names),
            Input::StreamEnded { conn } => self.streams.ended(conn),
        }
        Follows::Anything
    }

    /// Bytes have come on a connection. Nothing follows from a part of a frame.
    fn received(&mut self, conn: ConnId, mut chunk: Bytes) -> Follows {
        let mut next = self.peers.begin_chunk(&self.env, conn, &mut chunk);
        // One frame at a time, with everything that follows from it: how frames share a chunk cannot matter (G4).
        while let Some(received) = next {
            match received {
                Received::Hello(hello, body) => self.hello_received(conn, hello, &body),
                Received::Proof(proof) => self.proof_received(conn, &proof),
                Received::Voucher(voucher) => self.voucher_received(conn, voucher),
                Received::RejectedByPeer(rejected) => self.rejected_by_peer(conn, rejected),
                Received::Message { peer, confirms, message } => self.message_received(conn, peer, confirms, message),
                Received::StreamAccepted => self.peers.stream_accepted(conn),
                Received::Ignored => {}
                Received::Fault(reason) => self.end(conn, End::Closed(reason)),
            }
            self.conclude();
            next = self.peers.next_frame(&self.env, conn, &mut chunk);
        }
        let mut follows = Follows::Nothing;
        while let Some(largest) = self.peers.largest_holder(&self.env) {
            self.end(largest, End::Closed(CloseReason::TooManyPartialBytes));
            follows = Follows::Anything;
        }
        follows
    }

    /// A node that has stopped closes what still opens, and does nothing else.
    fn handle_stopped(&mut self, input: Input) {
        match input {
            Input::Opened { conn, .. } => {
                self.peers.note_conn(conn);
                self.sink.output(Output::Close { conn, reason: CloseReason::Left });
            }
            // Counted as behind the frame that has stopped this node, wherever the chunks were cut (G4).
            Input::Received { chunk, .. } => self.peers.count_unread(chunk.len()),
            Input::Tick
            | Input::DialFailed { .. }
            | Input::Certified { .. }
            | Input::Flushed { .. }
            | Input::Closed { .. }
            | Input::TlsFailed { .. }
            | Input::Persisted { .. }
            | Input::PersistFailed { .. }
            | Input::PersistDelayed { .. }
            | Input::Command(_) => {}
            Input::StreamEnded { conn } => self.streams.ended(conn),
        }
    }

    /// Expired leases (E6) and due timers are handled before the input. Splitting an input therefore changes nothing (G4).
    fn pass_time(&mut self, now: Timestamp) {
        if now <= self.env.now {
            return;
        }
        let has_paused = now.since(self.env.now) > self.env.timing().suspect_after;
        if has_paused {
            // This node has paused: what it has not received meanwhile does not count against the others.
            self.peers.reset_allowances(now + self.env.timing().down_after);
            self.membership.reset_allowances(now);
            self.election.excuse_master(now + self.env.timing().heartbeat_interval);
            self.election_due = self.election.next_deadline();
        }
        let is_due = self.next_deadline().is_some_and(|at| at <= now);
        self.env.now = now;
        self.election.pass_time(now);
        self.preference.pass_time(&self.env, &self.election);
        if is_due {
            self.conclude();
        }
    }

    /// Draws conclusions until nothing follows any more. A node that stops has no timers any more.
    fn conclude(&mut self) {
        self.election.advance(self.env.now);
        self.settle();
        self.fire_due();
    }

    /// The same where nothing but what can be sent has changed.
    fn conclude_writes(&mut self) {
        self.settle_writes();
        self.fire_due();
    }

    fn settle_writes(&mut self) {
        match self.flush() {
            true => self.settle(),
            false => self.finish_leaving(),
        }
    }

    fn fire_due(&mut self) {
        while let Some(timer) = self.sink.next_due(self.env.now) {
            match self.fire(timer) {
                Follows::Nothing => {}
                Follows::Writes => self.settle_writes(),
                Follows::Anything => self.settle(),
            }
        }
        self.election_due = self.election.next_deadline();
    }

    /// A timer that is only set again changes nothing.
    fn fire(&mut self, timer: Timer) -> Follows {
        match timer {
            Timer::Heartbeat => self.beat(),
            Timer::Redial => self.discovery.invalidate(),
            // The report is refreshed behind each timer.
            Timer::Metadata => {}
            Timer::NoMaster => {
                if let Some(why) = self.why_no_master() {
                    self.absence.report(&self.env, &mut self.sink, why);
                }
            }
            Timer::Stranded => self.stranded.look(&self.env, &mut self.sink, &self.election, &self.peers),
            Timer::BetterMaster => self.preference.report(&self.env, &mut self.sink, &self.election),
            Timer::VotersWait => self.report_wait(),
            Timer::Autopilot => self.keep_voters(),
            Timer::Leave => self.stop(StopReason::Left),
            Timer::Dial(dial) | Timer::StreamDial(dial) => self.dial_failed(dial, DialProblem::TimedOut),
            Timer::Members => {
                let due = self.membership.due(context!(self));
                if due.is_empty() {
                    return Follows::Nothing;
                }
                due.into_iter().for_each(|member| self.judge_member(member));
            }
            Timer::Burst => self.membership.end_burst(context!(self)),
            Timer::Handshake(conn) => self.handshake_timed_out(conn),
            Timer::Silence(conn) => {
                if !self.peers.is_silent(&self.env, &mut self.sink, conn) {
                    return Follows::Nothing;
                }
                self.end(conn, End::Closed(CloseReason::Silent));
            }
            Timer::Ping(conn) => match self.peers.ping_is_due(&self.env, &mut self.sink, conn) {
                Some(reason) => self.end(conn, End::Closed(reason)),
                None => return Follows::Writes,
            },
        }
        Follows::Anything
    }

    fn judge_member(&mut self, member: MemberKey) {
        match self.membership.judge(context!(self), member) {
            Judged::Member => {}
            Judged::Down(removal) => {
                if let Some(key) = removal.linked {
                    self.drop_peer(key, CloseReason::Silent);
                }
                self.membership.report(context!(self), &mut self.rejections, removal);
            }
        }
        self.view_may_have_changed();
    }

    /// Does what follows from the state as it is now, in this order. A new status, or the end of a connection, may change what the
    /// election concludes: then it begins again.
    fn settle(&mut self) {
        loop {
            while self.apply_effects() || self.change_voters() {
                self.election.advance(self.env.now);
            }
            let lacks_master = self.lifecycle.is_running() && self.election.master().is_none();
            self.absence.update(&self.env, &mut self.sink, lacks_master);
            self.stranded.update(&self.env, &mut self.sink, &self.election, self.lifecycle.is_running());
            let parts = (&self.election, &self.membership);
            self.preference.update(&self.env, &mut self.sink, parts, self.lifecycle.is_running());
            let kept = self.kept_voters();
            self.autopilot.update(&self.env, &mut self.sink, kept);
            if !self.refresh_status() && !self.settle_dials() && !self.flush() {
                break;
            }
        }
        self.finish_leaving();
    }

    /// Returns whether it has closed connections. Closing a link can make another address worth dialing.
    fn settle_dials(&mut self) -> bool {
        let mut has_closed = false;
        while self.discovery.take_stale() && !self.lifecycle.is_stopped() {
            has_closed |= self.prune_links();
            self.discovery.dial(&self.env, &mut self.sink, &self.peers, &self.election);
        }
        has_closed
    }

    /// Closes what this node has dialed and neither end needs: voters keep links to each other, and all nodes to their master.
    /// Returns whether there was any.
    fn prune_links(&mut self) -> bool {
        if self.election.is_master() || self.election.follows_solo() || !self.lifecycle.is_running() {
            return false;
        }
        let Some((master, _)) = self.election.master() else { return false };
        let is_voter = self.env.votes();
        let needless = self.peers.dialed_links_to(|peer| {
            let is_claimed = self.peers.is_claimed(peer.address());
            peer.node() != master && !(is_voter && peer.is_voter()) && !is_claimed
        });
        for conn in &needless {
            self.end(*conn, End::Closed(CloseReason::NotNeeded));
        }
        !needless.is_empty()
    }

    /// Sends what there is to send. Returns whether it has closed a connection that keeps too much memory from the others.
    fn flush(&mut self) -> bool {
        let Self { env, own_status, election, membership, peers, sink, .. } = self;
        peers.flush(env, sink, &mut Sources { env, own_status, election, membership });
        let Some(largest) = self.peers.largest_unsent(&self.env) else { return false };
        self.end(largest, End::Closed(CloseReason::TooManyUnsentBytes));
        true
    }

    /// From now on this node's status reports that it leaves, on every link that it has or gets.
    fn leave(&mut self) {
        if !self.lifecycle.is_running() {
            return;
        }
        self.lifecycle.leave();
        self.election.leave();
        self.apply_effects();
        self.sink.set_timer(Timer::Leave, self.env.now + self.env.timing().down_after);
        // A node that has no link loses none, and would not look for others.
        self.discovery.invalidate();
    }

    /// A master ends its mastership, and continues as a member (L7).
    fn resign(&mut self) {
        if self.lifecycle.is_running() && self.election.resign() {
            self.apply_effects();
        }
    }

    pub(in crate::formation) fn post_resignations(&mut self) {
        for key in self.peers.keys() {
            self.post_resignation(key);
        }
    }

    /// A node has left once a master has acknowledged it, or once its voters were informed, when no master can acknowledge it.
    fn finish_leaving(&mut self) {
        let Some(awaits_ack) = self.lifecycle.awaits_ack() else { return };
        let may_be_in_a_view = self.election.has_known_a_master() || self.peers.iter().any(|peer| peer.leads());
        let waits = awaits_ack && may_be_in_a_view && self.election.others_may_lead();
        // Messages for a voter wait until the write in flight is flushed.
        let is_busy = self.peers.iter().any(|peer| peer.is_voter() && self.peers.is_busy(peer));
        if !waits && !is_busy {
            self.stop(StopReason::Left);
        }
    }
}
