//! An embedder in virtual time that checks what the core tells it.

use std::{
    collections::{BTreeMap, BTreeSet},
    slice,
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use formation_core::{
    ConnId, DialId, Event, Formation, HardState, Input, Misuse, Origin, Output, Phase, StopReason, Term, Timestamp,
    TlsFailure, TlsProblem, ViewId,
};

use super::{
    payload::Say,
    scene::{ROOMY, Scene, TIGHT},
    transcript::{Talk, votes},
};
use crate::{Run, digest};

/// How long the core is watched after a script, in virtual time: more than every default timeout.
const AFTERMATH: Duration = Duration::from_secs(10);

/// The start of the node under test.
const BEGIN: Timestamp = Timestamp::from_micros(1_000_000);

/// An open connection.
struct Conn {
    /// Whether a `Send` is in flight.
    in_flight: bool,
    /// Its peer has proven that it holds a key of the node's.
    proven: bool,
    talk: Talk,
}

pub(super) struct Embedder {
    scene: Scene,
    node: Formation,
    /// All that it was given and has said.
    run: Run,
    now: Timestamp,
    /// The latest moment that there was, before time may have run backwards.
    latest: Timestamp,
    conns: BTreeMap<ConnId, Conn>,
    /// Those that the node has closed.
    closed: Vec<ConnId>,
    /// What was said on the one that is just being heard, where that matters.
    speaker: Option<Talk>,
    /// The one whose beginning or end is just being told.
    passing: Option<ConnId>,
    dials: Vec<DialId>,
    persist: Option<(u64, HardState)>,
    /// What is durable, or was.
    durable: Vec<HardState>,
    /// How often the node had stood when it heard that nobody knows what is durable.
    failed_after: Option<u64>,
    /// What it has been.
    phases: BTreeSet<Phase>,
    newest: u64,
    stopped: bool,
    view_id: ViewId,
    led: Term,
}

impl Embedder {
    pub(super) fn new(scene: Scene) -> Self {
        Self::start(scene, TIGHT)
    }

    /// Where it cannot matter how much of a frame has come.
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
            passing: None,
            dials: Vec::new(),
            persist: None,
            durable: vec![scene.start().hard_state],
            speaker: None,
            failed_after: None,
            phases: BTreeSet::new(),
            newest: 0,
            stopped: false,
            view_id: ViewId::default(),
            led: Term::default(),
        };
        embedder.must(Input::Tick);
        scene.prepare(&mut embedder);
        embedder
    }

    /// The node under test.
    pub(super) fn node(&self) -> &Formation {
        &self.node
    }

    /// All that it was given and has said so far.
    pub(super) fn run(&self) -> &Run {
        &self.run
    }

    /// Who the node under test is.
    pub(super) fn scene(&self) -> Scene {
        self.scene
    }

    /// What it has been so far.
    pub(super) fn phases(&self) -> &BTreeSet<Phase> {
        &self.phases
    }

    /// Whether the connection is open.
    pub(super) fn has(&self, conn: ConnId) -> bool {
        self.conns.contains_key(&conn)
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped
    }

    pub(super) fn sleep(&mut self, by: Duration) {
        self.now = self.now + by;
        self.latest = self.latest.max(self.now);
    }

    /// Time passes, and the core is ticked whenever it wants.
    pub(super) fn pass(&mut self, by: Duration) {
        let end = self.now + by;
        for _ in 0..20_000 {
            match self.node.next_deadline() {
                Some(deadline) if deadline <= end => self.sleep(deadline.since(self.now)),
                _ => return self.sleep(end.since(self.now)),
            }
            self.must(Input::Tick);
        }
        panic!("the core spins: {:?} is due at {:?}", self.node.next_deadline(), self.now);
    }

    pub(super) fn back(&mut self, by: Duration) {
        self.now = Timestamp::from_micros(self.now.as_micros().saturating_sub(by.as_micros() as u64));
    }

    /// The `which`th open connection, if there is any.
    pub(super) fn conn(&self, which: u8) -> Option<ConnId> {
        let which = usize::from(which).checked_rem(self.conns.len())?;
        self.conns.keys().nth(which).copied()
    }

    /// The `which`th dial that waits for its answer, which the caller has to give.
    pub(super) fn take_dial(&mut self, which: u8) -> Option<DialId> {
        let which = usize::from(which).checked_rem(self.dials.len())?;
        Some(self.dials.swap_remove(which))
    }

    /// The `which`th connection on which the node waits for no write to be done.
    pub(super) fn idle_conn(&self, which: u8) -> Option<ConnId> {
        let idle: Vec<_> = self.conns.iter().filter(|(_, conn)| !conn.in_flight).map(|(conn, _)| *conn).collect();
        idle.get(usize::from(which).checked_rem(idle.len())?).copied()
    }

    /// The `which`th connection that the node has closed.
    pub(super) fn closed_conn(&self, which: u8) -> Option<ConnId> {
        self.closed.get(usize::from(which).checked_rem(self.closed.len())?).copied()
    }

    /// What a peer's words are on this connection, said one behind the other.
    pub(super) fn words(&self, conn: ConnId, says: &[Say]) -> Bytes {
        let mut talk = self.conns.get(&conn).map(|open| open.talk.clone()).unwrap_or_default();
        let mut words = BytesMut::new();
        for say in says {
            let bytes = say.bytes(&talk);
            talk.received(&bytes);
            words.extend_from_slice(&bytes);
        }
        words.freeze()
    }

    /// A name that a connection has had.
    pub(super) fn used_conn(&mut self) -> ConnId {
        if self.newest == 0 {
            self.open(Origin::Accepted);
        }
        ConnId(self.newest)
    }

    /// A name that no connection has had.
    pub(super) fn unused_conn(&self) -> ConnId {
        ConnId(self.newest + 1)
    }

    pub(super) fn open(&mut self, origin: Origin) -> ConnId {
        self.newest += 1;
        let conn = ConnId(self.newest);
        self.conns.insert(conn, Conn { in_flight: false, proven: false, talk: Talk::on(origin) });
        self.passing = Some(conn);
        self.must(Input::Opened { conn, origin });
        self.passing = None;
        assert!(!self.stopped || !self.has(conn), "{conn} opens on a node that has stopped");
        conn
    }

    /// A peer says something in one chunk.
    pub(super) fn say(&mut self, conn: ConnId, say: &Say) {
        let words = self.words(conn, slice::from_ref(say));
        self.receive(conn, words);
    }

    pub(super) fn receive(&mut self, conn: ConnId, chunk: Bytes) {
        if let Some(open) = self.conns.get_mut(&conn) {
            open.talk.received(&chunk);
            self.speaker = (!self.scene.keys.is_empty()).then(|| open.talk.clone());
        }
        self.must(Input::Received { conn, chunk });
        self.speaker = None;
    }

    pub(super) fn flush(&mut self, conn: ConnId) {
        if let Some(open) = self.conns.get_mut(&conn).filter(|open| open.in_flight) {
            open.in_flight = false;
            self.must(Input::Flushed { conn });
        }
    }

    pub(super) fn close(&mut self, conn: ConnId) {
        self.passing = Some(conn);
        // Of every fourth connection the embedder says that it could not be secured, and who found what.
        let failure = TlsFailure { by_peer: conn.0 % 8 == 3, problem: TlsProblem::UnknownIssuer };
        self.must(if conn.0 % 4 == 3 { Input::TlsFailed { conn, failure } } else { Input::Closed { conn } });
        self.passing = None;
        // Not before: time passes with each input, and may bring a word about a connection that is just ending.
        self.conns.remove(&conn);
    }

    pub(super) fn persisted(&mut self) {
        if let Some((seq, state)) = self.persist.take() {
            self.durable.push(state);
            self.must(Input::Persisted { seq });
        }
    }

    pub(super) fn persist_failed(&mut self) {
        if let Some((seq, _)) = self.persist.take() {
            self.must(Input::PersistFailed { seq });
            // A node that has stopped hears of nothing.
            self.failed_after = (!self.stopped).then(|| self.node.status().counters.candidacies);
        }
    }

    /// Everything that is under way succeeds, except for the dials.
    pub(super) fn settle(&mut self) {
        while let Some(conn) = self.conns.iter().find_map(|(conn, open)| open.in_flight.then_some(*conn)) {
            self.flush(conn);
        }
        self.persisted();
        while let Some(dial) = self.dials.pop() {
            self.must(Input::DialFailed { dial });
        }
    }

    /// What has to be true after anything that may have happened.
    pub(super) fn aftermath(&mut self) {
        self.go_on();
        if !self.stopped {
            assert!(self.conns.is_empty(), "silent connections live on: {:?}", self.conns.keys());
            self.has_room_as_ever();
        }
    }

    /// Nobody who has gone still counts: there is room for as many connections and unfinished bytes as at the start (G7).
    fn has_room_as_ever(&mut self) {
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

    /// Goes from deadline to deadline: the core neither spins nor grows when it is left alone.
    fn go_on(&mut self) {
        self.now = self.latest;
        let end = self.now + AFTERMATH;
        for _ in 0..20_000 {
            self.settle();
            match self.node.next_deadline() {
                Some(deadline) if deadline <= end => self.now = self.now.max(deadline),
                _ => return,
            }
            self.must(Input::Tick);
        }
        panic!("the core spins: {:?} is due at {:?}", self.node.next_deadline(), self.now);
    }

    /// An input that no embedder may be blamed for.
    pub(super) fn must(&mut self, input: Input) {
        self.run.inputs.push((self.now, input.clone()));
        let said = self.node.handle_input(self.now, input);
        assert_eq!(said, Ok(()));
        self.drain();
    }

    /// An input that may be a fault of the embedder; then the state is unchanged.
    pub(super) fn may(&mut self, input: Input) -> Result<(), Misuse> {
        let before = self.node.clone();
        let said = self.node.handle_input(self.now, input.clone());
        match said {
            Ok(()) => self.run.inputs.push((self.now, input)),
            Err(_) => assert!(self.node == before, "a misuse has changed the state"),
        }
        self.drain();
        said
    }

    fn drain(&mut self) {
        let mut outputs = 0;
        while let Some(output) = self.node.poll_output() {
            outputs += 1;
            assert!(outputs < 10_000, "the outputs of one input do not end");
            self.run.outputs.push(output.clone());
            digest::output(self.now.as_micros(), 0, &output);
            match output {
                Output::Dial { dial, timeout, .. } => {
                    assert!(!timeout.is_zero(), "a dial with no time to succeed");
                    self.dials.push(dial);
                }
                Output::Send { conn, bytes } => {
                    assert!(!bytes.is_empty(), "nothing to write on {conn}");
                    let open = self.conns.get_mut(&conn).filter(|open| !open.in_flight);
                    let open = open.unwrap_or_else(|| panic!("a Send on {conn}, which is closed or has one in flight"));
                    open.in_flight = true;
                    open.talk.sent(&bytes);
                    for (term, own) in votes(&bytes) {
                        self.vote_is_durable(term, own);
                    }
                }
                Output::Close { conn, .. } => {
                    assert!(self.conns.remove(&conn).is_some(), "{conn} was closed before");
                    self.closed.push(conn);
                }
                Output::Persist { seq, state } => {
                    let before = self.persist.replace((seq, state));
                    assert_eq!(before, None, "two Persists in flight");
                    assert_eq!(self.failed_after, None, "a Persist after one has failed");
                }
                Output::Event(Event::Stopped { reason }) => {
                    assert!(!self.stopped, "stopped twice");
                    if let Some(speaker) = self.speaker.as_ref().filter(|_| reason != StopReason::Left) {
                        assert!(speaker.has_proven(self.scene.keys), "{reason:?} by who has not proven to hold a key");
                    }
                    let mut open = self.conns.keys().filter(|conn| Some(**conn) != self.passing);
                    assert_eq!(open.next(), None, "stopped with open connections");
                    self.stopped = true;
                }
                Output::Event(_) => {}
            }
        }
        let status = self.node.status();
        self.phases.insert(status.phase);
        if let Some(before) = self.failed_after {
            assert!(!status.can_vote, "it votes, and nobody knows what is durable");
            assert_eq!(status.counters.candidacies, before, "it stands, and nobody knows what is durable");
        }
        self.links_are_proven(status.links);
        // G3
        let view_id = self.node.view().id();
        assert!(view_id >= self.view_id, "the view went back from {} to {view_id}", self.view_id);
        self.view_id = view_id;
        if let Some(leadership) = self.node.leadership(self.now) {
            assert!(leadership.term >= self.led, "a term is a fencing token");
            self.vote_is_durable(leadership.term, true);
            assert!(leadership.valid_until > self.now, "a lease that is over is not reported");
            self.led = leadership.term;
        }
    }

    /// E4
    fn vote_is_durable(&self, term: Term, own: bool) {
        let voted = self.durable.iter().filter(|state| state.term == term).filter_map(|state| state.voted_for.as_ref());
        let durable = voted.map(|whom| whom == self.node.node()).any(|for_itself| for_itself == own);
        assert!(durable, "a vote in {term:?} is used that is not durable; own: {own}");
    }

    /// With a key nobody is linked who has not proven to hold it.
    fn links_are_proven(&mut self, links: usize) {
        let keys = self.scene.keys;
        if keys.is_empty() || links <= self.conns.values().filter(|open| open.proven).count() {
            return;
        }
        for open in self.conns.values_mut() {
            open.proven = open.proven || open.talk.has_proven(keys);
        }
        let proven = self.conns.values().filter(|open| open.proven).count();
        assert!(links <= proven, "{links} are linked, and {proven} have proven that they hold a key");
    }
}
