//! An embedder in virtual time that checks every output of the core.

use std::{
    collections::{BTreeMap, BTreeSet},
    slice,
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use formation_core::{
    Command, ConnId, DialId, DialProblem, Event, Formation, HardState, Input, Misuse, Origin, Output, Phase, Remote,
    StopReason, StreamId, StreamName, Term, Timestamp, TlsFailure, TlsProblem, ViewId,
};

use super::{
    payload::Payload,
    scene::{ROOMY, Scene, TIGHT},
    transcript::{Transcript, votes},
};
use crate::{Run, checks::check_stop, digest, replay::read_by_the_service};

/// How long the node runs after a script, in virtual time: longer than every default timeout.
const AFTERMATH: Duration = Duration::from_secs(10);

/// The start time of the node under test.
const BEGIN: Timestamp = Timestamp::from_micros(1_000_000);

/// An open connection.
struct Conn {
    /// Whether a `Send` is in flight.
    in_flight: bool,
    /// Whether the peer has proven that it holds one of the node's keys.
    proven: bool,
    transcript: Transcript,
}

pub(super) struct Embedder {
    scene: Scene,
    node: Formation,
    /// All inputs and outputs.
    run: Run,
    now: Timestamp,
    /// The latest time so far. The current time may be earlier, because a script can turn it back.
    latest: Timestamp,
    conns: BTreeMap<ConnId, Conn>,
    /// The connections that the node has closed.
    closed: Vec<ConnId>,
    /// The connections that were handed off.
    streams: Vec<ConnId>,
    /// The transcript of the connection whose input the node handles now, if there is a key.
    sender: Option<Transcript>,
    /// The connection whose opening or end the node handles now.
    changing_conn: Option<ConnId>,
    dials: Vec<DialId>,
    persist: Option<(u64, HardState)>,
    /// All states that have been durable.
    durable: Vec<HardState>,
    /// The node's number of candidacies when a `Persist` failed.
    candidacies_at_failure: Option<u64>,
    /// All phases of the node so far.
    phases: BTreeSet<Phase>,
    newest_conn: u64,
    newest_stream: u64,
    stopped: bool,
    view_id: ViewId,
    led_term: Term,
}

impl Embedder {
    pub(super) fn new(scene: Scene) -> Self {
        Self::start(scene, TIGHT)
    }

    /// An embedder whose node never reaches the limit of bytes in unfinished frames.
    pub(super) fn roomy(scene: Scene) -> Self {
        Self::start(scene, ROOMY)
    }

    fn start(scene: Scene, partial_bytes: usize) -> Self {
        let (config, start) = (scene.with_room(partial_bytes), scene.start());
        let node = Formation::new(config.clone(), start.clone(), BEGIN);
        let mut embedder = Self {
            scene,
            node,
            run: Run { config, start, at: BEGIN, inputs: Vec::new(), outputs: Vec::new() },
            now: BEGIN,
            latest: BEGIN,
            conns: BTreeMap::new(),
            closed: Vec::new(),
            streams: Vec::new(),
            changing_conn: None,
            dials: Vec::new(),
            persist: None,
            durable: vec![scene.start().hard_state],
            sender: None,
            candidacies_at_failure: None,
            phases: BTreeSet::new(),
            newest_conn: 0,
            newest_stream: 0,
            stopped: false,
            view_id: ViewId::default(),
            led_term: Term::default(),
        };
        embedder.input(Input::Tick);
        scene.prepare(&mut embedder);
        embedder
    }

    /// The node under test.
    pub(super) fn node(&self) -> &Formation {
        &self.node
    }

    /// All inputs and outputs so far.
    pub(super) fn run(&self) -> &Run {
        &self.run
    }

    /// The scene of the node under test.
    pub(super) fn scene(&self) -> Scene {
        self.scene
    }

    /// All phases of the node so far.
    pub(super) fn phases(&self) -> &BTreeSet<Phase> {
        &self.phases
    }

    /// Whether the connection is open.
    pub(super) fn is_open(&self, conn: ConnId) -> bool {
        self.conns.contains_key(&conn)
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped
    }

    pub(super) fn sleep(&mut self, by: Duration) {
        self.now = self.now + by;
        self.latest = self.latest.max(self.now);
    }

    /// Lets time pass, with a tick at each deadline of the node.
    pub(super) fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        for _ in 0..20_000 {
            match self.node.next_deadline() {
                Some(deadline) if deadline <= end => self.sleep(deadline.since(self.now)),
                _ => return self.sleep(end.since(self.now)),
            }
            self.input(Input::Tick);
        }
        panic!("endless ticks: {:?} is still due at {:?}", self.node.next_deadline(), self.now);
    }

    pub(super) fn rewind(&mut self, by: Duration) {
        self.now = Timestamp::from_micros(self.now.as_micros().saturating_sub(by.as_micros() as u64));
    }

    /// The open connection with index `which`, modulo their number.
    pub(super) fn conn(&self, which: u8) -> Option<ConnId> {
        let which = usize::from(which).checked_rem(self.conns.len())?;
        self.conns.keys().nth(which).copied()
    }

    /// Takes the open dial with index `which`, modulo their number. The caller has to give its result.
    pub(super) fn take_dial(&mut self, which: u8) -> Option<DialId> {
        let which = usize::from(which).checked_rem(self.dials.len())?;
        Some(self.dials.swap_remove(which))
    }

    /// The connection without a `Send` in flight with index `which`, modulo their number.
    pub(super) fn idle_conn(&self, which: u8) -> Option<ConnId> {
        let idle: Vec<_> = self.conns.iter().filter(|(_, conn)| !conn.in_flight).map(|(conn, _)| *conn).collect();
        idle.get(usize::from(which).checked_rem(idle.len())?).copied()
    }

    /// The closed connection with index `which`, modulo their number.
    pub(super) fn closed_conn(&self, which: u8) -> Option<ConnId> {
        self.closed.get(usize::from(which).checked_rem(self.closed.len())?).copied()
    }

    /// The bytes of these payloads on this connection, one after the other.
    pub(super) fn payload_bytes(&self, conn: ConnId, payloads: &[Payload]) -> Bytes {
        let mut transcript = self.conns.get(&conn).map(|open| open.transcript.clone()).unwrap_or_default();
        let mut all = BytesMut::new();
        for payload in payloads {
            let bytes = payload.bytes(&transcript);
            transcript.received(&bytes);
            all.extend_from_slice(&bytes);
        }
        all.freeze()
    }

    /// The id of a connection that was opened before.
    pub(super) fn used_conn(&mut self) -> ConnId {
        if self.newest_conn == 0 {
            self.open(Origin::Accepted);
        }
        ConnId(self.newest_conn)
    }

    /// An id that no connection has had.
    pub(super) fn unused_conn(&self) -> ConnId {
        ConnId(self.newest_conn + 1)
    }

    pub(super) fn open(&mut self, origin: Origin) -> ConnId {
        self.newest_conn += 1;
        let conn = ConnId(self.newest_conn);
        self.conns.insert(conn, Conn { in_flight: false, proven: false, transcript: Transcript::on(origin) });
        self.changing_conn = Some(conn);
        // Peers have certificates, so each counts as the node that it claims to be. Those without are the target `hostile`.
        let remote = Remote::default().with_certified(self.node.config().seeds().iter().cloned());
        self.input(Input::Opened { conn, origin, remote });
        self.changing_conn = None;
        assert!(!self.stopped || !self.is_open(conn), "{conn} opens on a node that has stopped");
        conn
    }

    /// The service takes so many names, and opens a stream to this one of the other members.
    pub(super) fn use_streams(&mut self, names: u8, which: u8) {
        let name = |number: u8| StreamName::new(["kv", "log", "x"][usize::from(number)]).expect("a valid name");
        // More names than the limit are misuse, and so are too many streams.
        let _ = self.try_input(Input::Command(Command::ServeStreams((0..names % 4).map(name).collect())));
        let others = self.node.view().iter().map(|member| member.node.clone());
        let others: Vec<_> = others.filter(|node| node != self.node.node()).collect();
        if let Some(to) = usize::from(which).checked_rem(others.len()).map(|at| others[at].clone()) {
            self.newest_stream += 1;
            let stream = StreamId(self.newest_stream);
            let _ = self.try_input(Input::Command(Command::OpenStream { stream, to, name: name(0) }));
        }
    }

    /// The node receives a payload in one chunk.
    pub(super) fn receive_payload(&mut self, conn: ConnId, payload: &Payload) {
        let bytes = self.payload_bytes(conn, slice::from_ref(payload));
        self.receive(conn, bytes);
    }

    pub(super) fn receive(&mut self, conn: ConnId, chunk: Bytes) {
        if let Some(open) = self.conns.get_mut(&conn) {
            open.transcript.received(&chunk);
            self.sender = (!self.scene.keys.is_empty()).then(|| open.transcript.clone());
        }
        let input = Input::Received { conn, chunk };
        if self.streams.contains(&conn) {
            // A correct embedder gives it to the service. A wrong one learns that.
            assert_eq!(self.try_input(input.clone()), Err(Misuse::HandedOff(conn)));
            read_by_the_service(&mut self.run.outputs, &input);
            self.run.inputs.push((self.now, input));
        } else {
            self.input(input);
        }
        self.sender = None;
    }

    pub(super) fn flush(&mut self, conn: ConnId) {
        if let Some(open) = self.conns.get_mut(&conn).filter(|open| open.in_flight) {
            open.in_flight = false;
            self.input(Input::Flushed { conn });
        }
    }

    pub(super) fn close(&mut self, conn: ConnId) {
        self.changing_conn = Some(conn);
        // Every fourth connection ends with a TLS failure.
        let failure = TlsFailure::new(conn.0 % 8 == 3, TlsProblem::UnknownIssuer);
        self.input(if conn.0 % 4 == 3 { Input::TlsFailed { conn, failure } } else { Input::Closed { conn } });
        self.changing_conn = None;
        // Only now, because the node first handles due timers, and may still send on this connection.
        self.conns.remove(&conn);
    }

    pub(super) fn persisted(&mut self) {
        if let Some((seq, state)) = self.persist.take() {
            self.durable.push(state);
            self.input(Input::Persisted { seq });
        }
    }

    pub(super) fn persist_failed(&mut self) {
        if let Some((seq, _)) = self.persist.take() {
            self.input(Input::PersistFailed { seq });
            // A node that has stopped ignores the failure.
            self.candidacies_at_failure = (!self.stopped).then(|| self.node.status().counters.candidacies);
        }
    }

    /// Completes all open operations: sends and persists succeed, dials fail.
    pub(super) fn settle(&mut self) {
        while let Some(conn) = self.conns.iter().find_map(|(conn, open)| open.in_flight.then_some(*conn)) {
            self.flush(conn);
        }
        self.persisted();
        while let Some(conn) = self.streams.pop() {
            self.input(Input::StreamEnded { conn });
        }
        while let Some(dial) = self.dials.pop() {
            self.input(Input::DialFailed { dial, problem: DialProblem::Refused });
        }
    }

    /// Checks what must hold after every script.
    pub(super) fn aftermath(&mut self) {
        self.advance_to_end();
        if !self.stopped {
            assert!(self.conns.is_empty(), "silent connections stay open: {:?}", self.conns.keys());
            self.check_room();
        }
    }

    /// Closed connections count no longer: there is room for as many connections and unfinished bytes as at the start
    /// (G7).
    fn check_room(&mut self) {
        let limits = self.run.config.limits().clone();
        let each = limits.partial_bytes / limits.pending_connections;
        let mut start = BytesMut::with_capacity(each);
        start.put_u32(limits.frame_before_handshake as u32);
        start.put_bytes(0, each - start.len());
        let start = start.freeze();
        let opened: Vec<_> = (0..limits.pending_connections).map(|_| self.open(Origin::Accepted)).collect();
        for conn in opened {
            self.receive(conn, start.clone());
            assert!(self.conns.contains_key(&conn), "{conn} was closed before a limit was reached");
        }
    }

    /// Runs from deadline to deadline. A node without further inputs must not ask for endless ticks.
    fn advance_to_end(&mut self) {
        self.now = self.latest;
        let end = self.now + AFTERMATH;
        for _ in 0..20_000 {
            self.settle();
            match self.node.next_deadline() {
                Some(deadline) if deadline <= end => self.now = self.now.max(deadline),
                _ => return,
            }
            self.input(Input::Tick);
        }
        panic!("endless ticks: {:?} is still due at {:?}", self.node.next_deadline(), self.now);
    }

    /// Gives a correct input, which must not be misuse.
    pub(super) fn input(&mut self, input: Input) {
        self.run.inputs.push((self.now, input.clone()));
        let result = self.node.handle_input(self.now, input);
        assert_eq!(result, Ok(()));
        self.drain();
    }

    /// Gives an input that may be misuse. If it is, the state must not change.
    pub(super) fn try_input(&mut self, input: Input) -> Result<(), Misuse> {
        let before = self.node.clone();
        let result = self.node.handle_input(self.now, input.clone());
        match result {
            Ok(()) => self.run.inputs.push((self.now, input)),
            Err(_) => assert!(self.node == before, "misuse has changed the state"),
        }
        self.drain();
        result
    }

    fn drain(&mut self) {
        let mut outputs = 0;
        while let Some(output) = self.node.poll_output() {
            outputs += 1;
            assert!(outputs < 10_000, "one input leads to endless outputs");
            self.run.outputs.push(output.clone());
            digest::output(self.now.as_micros(), 0, &output);
            if let Err(why) = check_stop(&mut self.stopped, &output) {
                panic!("{why}");
            }
            match output {
                Output::Dial { dial, timeout, .. } => {
                    assert!(!timeout.is_zero(), "a dial without a time limit");
                    self.dials.push(dial);
                }
                Output::Send { conn, bytes } => {
                    assert!(!bytes.is_empty(), "an empty Send on {conn}");
                    let open = self.conns.get_mut(&conn).filter(|open| !open.in_flight);
                    let open =
                        open.unwrap_or_else(|| panic!("a Send on {conn}, which is closed or has a Send in flight"));
                    open.in_flight = true;
                    open.transcript.sent(&bytes);
                    for (term, own) in votes(&bytes) {
                        self.check_vote_is_durable(term, own);
                    }
                }
                Output::Close { conn, .. } => {
                    assert!(self.conns.remove(&conn).is_some(), "{conn} was already closed");
                    self.closed.push(conn);
                }
                Output::Persist { seq, state } => {
                    let before = self.persist.replace((seq, state));
                    assert_eq!(before, None, "two Persists in flight");
                    assert_eq!(self.candidacies_at_failure, None, "a Persist after one has failed");
                }
                Output::Event(Event::Stopped { reason }) => {
                    if let Some(sender) = self.sender.as_ref().filter(|_| reason != StopReason::Left) {
                        assert!(
                            sender.has_proven(self.scene.keys),
                            "stopped with {reason:?} because of an unproven peer"
                        );
                    }
                    let mut open = self.conns.keys().filter(|conn| Some(**conn) != self.changing_conn);
                    assert_eq!(open.next(), None, "stopped with open connections");
                }
                Output::Event(_) | Output::StreamFailed { .. } => {}
                Output::Handoff { conn, .. } => {
                    let open = self.conns.remove(&conn).unwrap_or_else(|| panic!("{conn} was already closed"));
                    assert!(!open.in_flight, "{conn} is handed off with a Send in flight");
                    self.streams.push(conn);
                }
            }
        }
        let status = self.node.status();
        self.phases.insert(status.phase);
        if let Some(before) = self.candidacies_at_failure {
            assert!(!status.can_vote, "it can vote, although its storage has failed");
            assert_eq!(status.counters.candidacies, before, "a candidacy, although its storage has failed");
        }
        self.check_links_are_proven(status.links);
        // G3
        let view_id = self.node.view().id();
        assert!(view_id >= self.view_id, "the view id decreased from {} to {view_id}", self.view_id);
        self.view_id = view_id;
        if let Some(leadership) = self.node.leadership(self.now) {
            assert!(leadership.term >= self.led_term, "the term of a lease never decreases");
            self.check_vote_is_durable(leadership.term, true);
            assert!(leadership.valid_until > self.now, "an expired lease is reported");
            self.led_term = leadership.term;
        }
    }

    /// E4
    fn check_vote_is_durable(&self, term: Term, own: bool) {
        let voted = self.durable.iter().filter(|state| state.term == term).filter_map(|state| state.voted_for.as_ref());
        let durable = voted.map(|candidate| candidate == self.node.node()).any(|for_itself| for_itself == own);
        assert!(durable, "the vote in {term:?} is used, but not durable; own: {own}");
    }

    /// With a key, every linked peer has proven that it holds a key.
    fn check_links_are_proven(&mut self, links: usize) {
        let keys = self.scene.keys;
        if keys.is_empty() || links <= self.conns.values().filter(|open| open.proven).count() {
            return;
        }
        for open in self.conns.values_mut() {
            open.proven = open.proven || open.transcript.has_proven(keys);
        }
        let proven = self.conns.values().filter(|open| open.proven).count();
        assert!(links <= proven, "{links} peers are linked, but only {proven} have proven that they hold a key");
    }
}
