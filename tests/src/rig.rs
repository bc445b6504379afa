//! One node on a rig: every connection's other end is the test.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use formation_core::{
    Address, CloseReason, Command, Config, ConnId, DialId, Event, Formation, Incarnation, Input, Origin, Output, Start,
    Timestamp, message::Message,
};

use crate::peer::{Peer, messages};

/// Drives one [`Formation`] by hand. `Send` and `Persist` are answered at once unless [`hold_answers`](Self::hold_answers).
#[derive(Clone, Debug)]
pub struct Rig {
    /// The node.
    pub formation: Formation,
    /// What its clock shows.
    pub now: Timestamp,
    /// All that it has said.
    pub outputs: Vec<Output>,
    /// All that it was given.
    pub inputs: Vec<(Timestamp, Input)>,
    next_conn: u64,
    dials: Vec<(DialId, Address)>,
    sent: BTreeMap<ConnId, BytesMut>,
    in_flight: BTreeSet<ConnId>,
    hold_answers: bool,
}

impl Rig {
    /// A node that has just started, at time zero, as incarnation 10.
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
            hold_answers: false,
        };
        rig.drain();
        rig
    }

    /// From now on, a `Send` stays in flight until [`flush`](Self::flush), and a `Persist` for good.
    pub fn hold_answers(&mut self) {
        self.hold_answers = true;
    }

    /// What was in flight on the connection is written; whether anything was.
    pub fn flush(&mut self, conn: ConnId) -> bool {
        let was = self.in_flight.remove(&conn);
        if was {
            self.give(Input::Flushed { conn });
        }
        was
    }

    /// Gives one input, and takes everything that the node says.
    ///
    /// # Panics
    /// When the node calls it misuse.
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
            match &output {
                Output::Dial { dial, addr, .. } => self.dials.push((*dial, addr.clone())),
                Output::Send { conn, bytes } => {
                    self.sent.entry(*conn).or_default().extend_from_slice(bytes);
                    assert!(self.in_flight.insert(*conn), "two sends in flight on {conn}");
                    if !self.hold_answers {
                        self.in_flight.remove(conn);
                        answers.push(Input::Flushed { conn: *conn });
                    }
                }
                Output::Persist { seq, .. } if !self.hold_answers => answers.push(Input::Persisted { seq: *seq }),
                Output::Persist { .. } | Output::Close { .. } | Output::Event(_) => {}
            }
            self.outputs.push(output);
        }
        for answer in answers {
            self.give(answer);
        }
    }

    fn open(&mut self, origin: Origin) -> ConnId {
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        self.give(Input::Opened { conn, origin });
        conn
    }

    /// A peer connects.
    pub fn accept(&mut self) -> ConnId {
        self.open(Origin::Accepted)
    }

    /// A peer connects and greets.
    pub fn greeted_by(&mut self, peer: &mut Peer) -> ConnId {
        let conn = self.accept();
        self.receive(conn, peer.hello());
        conn
    }

    /// A peer connects, and seeks a master.
    pub fn sought_by(&mut self, peer: &mut Peer) -> ConnId {
        let conn = self.greeted_by(peer);
        self.receive(conn, peer.seeking());
        conn
    }

    /// The addresses of the dials that are not answered yet.
    pub fn dialing(&self) -> Vec<Address> {
        self.dials.iter().map(|(_, address)| address.clone()).collect()
    }

    fn take_dial(&mut self, address: &str) -> DialId {
        let at = self.dials.iter().position(|(_, a)| a.as_str() == address);
        self.dials.remove(at.unwrap_or_else(|| panic!("{address} is not being dialed"))).0
    }

    /// The oldest unanswered dial to the address comes through.
    ///
    /// # Panics
    /// When there is none.
    pub fn answer(&mut self, address: &str) -> ConnId {
        let dial = self.take_dial(address);
        self.open(Origin::Dialed(dial))
    }

    /// The oldest unanswered dial to the address fails.
    ///
    /// # Panics
    /// When there is none.
    pub fn fail_dial(&mut self, address: &str) {
        let dial = self.take_dial(address);
        self.give(Input::DialFailed { dial });
    }

    /// Bytes come on a connection.
    pub fn receive(&mut self, conn: ConnId, chunk: impl Into<Bytes>) {
        self.give(Input::Received { conn, chunk: chunk.into() });
    }

    /// The host wants something.
    pub fn command(&mut self, command: Command) {
        self.give(Input::Command(command));
    }

    /// Time passes; the node is ticked whenever it wants.
    ///
    /// # Panics
    /// When the node wants ticks without end at one moment.
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

    /// The messages sent on a connection since the last call.
    pub fn messages(&mut self, conn: ConnId) -> Vec<Message> {
        self.sent.get_mut(&conn).map(messages).unwrap_or_default()
    }

    /// Why the node closed a connection, if it did.
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
