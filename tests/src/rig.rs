//! A test rig with one node. The test is the other end of every connection.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use formation_core::{
    Address, CloseReason, Command, Config, ConnId, DialId, DialProblem, Event, Formation, Incarnation, Input, Origin,
    Output, Remote, Start, Timestamp,
    message::{Message, Voucher},
};

use crate::{
    checks::check_stop,
    peer::{Peer, messages},
};

/// Drives one [`Formation`] by hand. It answers each `Send` and each `Persist` at once, unless
/// [`hold_answers`](Self::hold_answers) was called.
#[derive(Clone, Debug)]
pub struct Rig {
    /// The node.
    pub formation: Formation,
    /// The current time of its clock.
    pub now: Timestamp,
    /// All outputs so far.
    pub outputs: Vec<Output>,
    /// All inputs so far, with their times.
    pub inputs: Vec<(Timestamp, Input)>,
    next_conn: u64,
    dials: Vec<(DialId, Address)>,
    sent: BTreeMap<ConnId, BytesMut>,
    in_flight: BTreeSet<ConnId>,
    nonces: BTreeMap<ConnId, [u8; 16]>,
    hold_answers: bool,
    stopped: bool,
}

impl Rig {
    /// Starts a node at time zero, as incarnation 10.
    pub fn new(config: Config) -> Self {
        let formation = Formation::new(config, Start::new(Incarnation(10), 1), Timestamp::ZERO);
        let mut rig = Self {
            formation,
            now: Timestamp::ZERO,
            outputs: Vec::new(),
            inputs: Vec::new(),
            next_conn: 1,
            dials: Vec::new(),
            sent: BTreeMap::new(),
            in_flight: BTreeSet::new(),
            nonces: BTreeMap::new(),
            hold_answers: false,
            stopped: false,
        };
        rig.drain();
        rig
    }

    /// From now on, a `Send` stays in flight until [`flush`](Self::flush), and a `Persist` is never answered.
    pub fn hold_answers(&mut self) {
        self.hold_answers = true;
    }

    /// Answers the `Send` in flight on the connection. Returns whether there was one.
    pub fn flush(&mut self, conn: ConnId) -> bool {
        let was_in_flight = self.in_flight.remove(&conn);
        if was_in_flight {
            self.give(Input::Flushed { conn });
        }
        was_in_flight
    }

    /// Gives one input to the node and collects all outputs.
    ///
    /// # Panics
    /// If the node reports misuse.
    pub fn give(&mut self, input: Input) {
        self.inputs.push((self.now, input.clone()));
        if let Err(misuse) = self.formation.handle_input(self.now, input.clone()) {
            panic!("{misuse} by {input:?}");
        }
        self.drain();
    }

    fn drain(&mut self) {
        let mut answers = Vec::new();
        while let Some(output) = self.formation.poll_output() {
            if let Err(why) = check_stop(&mut self.stopped, &output) {
                panic!("{why}");
            }
            match &output {
                Output::Dial { dial, addr, .. } => self.dials.push((*dial, addr.clone())),
                Output::Send { conn, bytes } => {
                    self.sent.entry(*conn).or_default().extend_from_slice(bytes);
                    if let Some(Message::Hello(hello)) = messages(&mut BytesMut::from(&bytes[..])).first() {
                        self.nonces.insert(*conn, hello.nonce);
                    }
                    assert!(self.in_flight.insert(*conn), "two sends in flight on {conn}");
                    if !self.hold_answers {
                        self.in_flight.remove(conn);
                        answers.push(Input::Flushed { conn: *conn });
                    }
                }
                Output::Persist { seq, .. } if !self.hold_answers => answers.push(Input::Persisted { seq: *seq }),
                Output::Persist { .. }
                | Output::Close { .. }
                | Output::Event(_)
                | Output::Handoff { .. }
                | Output::StreamFailed { .. } => {}
            }
            self.outputs.push(output);
        }
        for answer in answers {
            self.give(answer);
        }
    }

    fn open(&mut self, origin: Origin, remote: Remote) -> ConnId {
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        self.give(Input::Opened { conn, origin, remote });
        conn
    }

    /// A peer opens a connection. Its certificate covers every seed.
    pub fn accept(&mut self) -> ConnId {
        let certified = self.formation.config().seeds().clone();
        self.accept_from(Remote::default().with_certified(certified))
    }

    /// A peer of which the transport knows this opens a connection.
    pub fn accept_from(&mut self, remote: Remote) -> ConnId {
        self.open(Origin::Accepted, remote)
    }

    /// A peer opens a connection and sends its `Hello`.
    pub fn hello_from(&mut self, peer: &mut Peer) -> ConnId {
        let conn = self.accept();
        self.receive(conn, peer.hello());
        conn
    }

    /// The nonce of the node's `Hello` on a connection.
    pub fn nonce(&self, conn: ConnId) -> Option<[u8; 16]> {
        self.nonces.get(&conn).copied()
    }

    /// A peer opens one more connection. It shows that it is the node that this other connection leads to.
    pub fn hello_again(&mut self, peer: &mut Peer, other: ConnId) -> ConnId {
        let conn = self.hello_from(peer);
        let nonce = self.nonces[&other];
        self.receive(conn, Message::Voucher(Voucher { nonce }).to_frame());
        conn
    }

    /// A peer that is linked opens one more connection. The node dials its address to see who is there, and reaches it.
    pub fn reached_by(&mut self, peer: &mut Peer) -> ConnId {
        self.hello_from(peer);
        let conn = self.answer(peer.address.as_str());
        self.receive(conn, peer.hello());
        conn
    }

    /// A peer opens a connection and sends its `Hello` and the status of a joining node.
    pub fn joined_by(&mut self, peer: &mut Peer) -> ConnId {
        let conn = self.hello_from(peer);
        self.receive(conn, peer.joining());
        conn
    }

    /// The addresses of the dials that have no result yet.
    pub fn dialing(&self) -> Vec<Address> {
        self.dials.iter().map(|(_, address)| address.clone()).collect()
    }

    fn take_dial(&mut self, address: &str) -> DialId {
        let at = self.dials.iter().position(|(_, a)| a.as_str() == address);
        self.dials.remove(at.unwrap_or_else(|| panic!("{address} is not being dialed"))).0
    }

    /// The oldest open dial of the address succeeds. The node may dial it later than others (D1): a second passes at most.
    ///
    /// # Panics
    /// If the address is not being dialed.
    pub fn answer(&mut self, address: &str) -> ConnId {
        let until = self.now + Duration::from_secs(1);
        while !self.dials.iter().any(|(_, dialed)| dialed.as_str() == address)
            && let Some(next) = self.formation.next_deadline().filter(|next| *next <= until)
        {
            self.advance(next.since(self.now));
        }
        let dial = self.take_dial(address);
        self.open(Origin::Dialed(dial), Remote::default())
    }

    /// The oldest open dial of the address fails.
    ///
    /// # Panics
    /// If the address is not being dialed.
    pub fn fail_dial(&mut self, address: &str) {
        let dial = self.take_dial(address);
        self.give(Input::DialFailed { dial, problem: DialProblem::Refused });
    }

    /// Bytes arrive on a connection.
    pub fn receive(&mut self, conn: ConnId, chunk: impl Into<Bytes>) {
        self.give(Input::Received { conn, chunk: chunk.into() });
    }

    /// The embedder gives a command.
    pub fn command(&mut self, command: Command) {
        self.give(Input::Command(command));
    }

    /// Lets time pass, with a tick at each deadline of the node.
    ///
    /// # Panics
    /// If the node asks for endless ticks at the same time.
    pub fn advance(&mut self, by: Duration) {
        let until = self.now + by;
        let mut ticks = 0;
        while let Some(due) = self.formation.next_deadline().filter(|due| *due <= until) {
            ticks = if due > self.now { 0 } else { ticks + 1 };
            assert!(ticks < 100, "a tick does not move the deadline {due:?}");
            self.now = self.now.max(due);
            self.give(Input::Tick);
        }
        self.now = until;
        self.give(Input::Tick);
    }

    /// The messages that the node has sent on a connection since the last call.
    pub fn messages(&mut self, conn: ConnId) -> Vec<Message> {
        self.sent.get_mut(&conn).map(messages).unwrap_or_default()
    }

    /// The reason why the node closed a connection, if it did.
    pub fn closed(&self, conn: ConnId) -> Option<CloseReason> {
        self.outputs.iter().find_map(|output| match output {
            Output::Close { conn: closed, reason } if *closed == conn => Some(*reason),
            _ => None,
        })
    }

    /// All events so far.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.outputs.iter().filter_map(|output| match output {
            Output::Event(event) => Some(event),
            _ => None,
        })
    }
}
