//! What a hostile peer does on its own accord.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use formation_core::{
    Address, Incarnation, Node, Term, ViewId,
    message::{Heartbeat, HeartbeatAck, Message, Role, StatusReport, VoteRequest},
};

use super::{Contact, Habits, Hostile, Place, knowledge::Identity, words::ghost};
use crate::net::Net;

impl Hostile {
    /// One drawn action. A hostile peer needs links for most of them, so it mostly opens some first.
    pub(super) fn act(&mut self, net: &mut Net) {
        let established = self.established();
        let action = if established.is_empty() { self.dice.below(8) } else { self.dice.below(26) };
        match action {
            _ if !Habits::has(self.habits.actions, action) && established.is_empty() => self.connect(net),
            _ if !Habits::has(self.habits.actions, action) => self.say(net, &established),
            0..=4 => self.connect(net),
            5 => self.open_badly(net),
            6 if self.dice.one_in(12) => self.flood(net),
            6 | 7 => self.connect(net),
            8 => self.jump(net, &established),
            9 => self.leave_for_another(net),
            10 => self.lead(net, &established),
            11 => self.stand(net, &established),
            12 => self.send_garbage(net, &established),
            13 => {
                if let Some(at) = self.dice.pick(&established).copied() {
                    self.drop_contact(net, at);
                }
            }
            _ => self.say(net, &established),
        }
    }

    /// The indices of the contacts on which both `Hello`s have been sent.
    fn established(&self) -> Vec<usize> {
        let is_one = |at: &usize| self.contacts[*at].greeted && self.contacts[*at].hello.is_some();
        (0..self.contacts.len()).filter(is_one).collect()
    }

    /// The identity that it claims towards the node at this address.
    pub(super) fn claim(&mut self, to: Option<&Address>) -> Identity {
        let known: Vec<Identity> = self.known.nodes.values().cloned().collect();
        let Some(other) = self.dice.pick(&known).cloned() else { return self.own() };
        let own = self.own();
        let kind = self.dice.below(12);
        let claim = match kind {
            _ if !Habits::has(self.habits.claims, kind) => own,
            0..=2 => own,
            3 => ghost(&mut self.dice, &self.address),
            // A living node, or one that is down or cut off.
            4..=6 => other,
            // The victim itself.
            7 | 8 => to.and_then(|to| self.known.at(to)).cloned().unwrap_or(other),
            // A seed's address under another id.
            9 => {
                let address = self.dice.pick(&self.known.seeds).cloned().unwrap_or(own.address);
                Identity { node: own.node, address }
            }
            // The id of another node at its own address. A voter's id is safe (I4), the id of a dead member is free.
            10 if self.may_squat || self.known.seeds.contains(&other.address) => {
                Identity { node: other.node, address: own.address }
            }
            _ => Identity { node: Node { incarnation: self.run(own.node.incarnation), ..own.node }, ..own },
        };
        // Of a voter it is the real one at its own address, so mostly it is believed.
        if self.place == Place::Voter && self.dice.one_in(3) {
            return self.own();
        }
        let incarnation = self.run(claim.node.incarnation);
        Identity { node: Node { id: claim.node.id, incarnation }, address: claim.address }
    }

    fn run(&mut self, known: Incarnation) -> Incarnation {
        match self.dice.below(6) {
            0 => Incarnation(u64::MAX),
            1 => Incarnation(known.0.saturating_add(1)),
            2 => Incarnation(known.0.saturating_sub(1)),
            _ => known,
        }
    }

    /// Dials any node.
    fn dial(&mut self, net: &mut Net) -> Option<usize> {
        let known: Vec<Address> = self.known.nodes.values().map(|known| known.address.clone()).collect();
        let to = self.dice.pick(&known)?.clone();
        let wire = net.dial_address(&to)?;
        let claim = self.claim(Some(&to));
        self.contacts.push(Contact { wire, claim, greeted: false, hello: None, number: 0 });
        Some(self.contacts.len() - 1)
    }

    /// Opens a connection and sends a `Hello`, and sometimes more at once.
    fn connect(&mut self, net: &mut Net) {
        let Some(at) = self.dial(net) else { return };
        self.contacts[at].greeted = true;
        let mut out = BytesMut::new();
        self.words(at).hello().encode(&mut out);
        for _ in 0..self.dice.below(5).saturating_sub(2) {
            self.words(at).message().encode(&mut out);
        }
        self.send(net, at, out.freeze());
    }

    /// Opens a connection and sends nothing, garbage, a part of a frame, or something before the `Hello`.
    fn open_badly(&mut self, net: &mut Net) {
        let Some(at) = self.dial(net) else { return };
        let bytes = match self.dice.below(4) {
            0 => Bytes::new(),
            1 => self.garbage(),
            2 => {
                let hello = self.words(at).hello().to_frame();
                let len = self.dice.below(hello.len());
                hello.slice(..len)
            }
            _ => self.words(at).message().to_frame(),
        };
        self.send(net, at, bytes);
    }

    /// Many connections at once, silent or with a `Hello` and nothing more, of one identity or of many.
    fn flood(&mut self, net: &mut Net) {
        let is_silent = self.dice.one_in(2);
        let claim = if self.dice.one_in(2) { Some(self.claim(None)) } else { None };
        for _ in 0..70 {
            let Some(at) = self.dial(net) else { return };
            if let Some(claim) = &claim {
                self.contacts[at].claim = claim.clone();
            }
            if !is_silent {
                self.contacts[at].greeted = true;
                let hello = self.words(at).hello().to_frame();
                self.send(net, at, hello);
            }
        }
    }

    fn garbage(&mut self) -> Bytes {
        let len = 1 + self.dice.below(64);
        let mut bytes = self.dice.bytes(len);
        if self.dice.one_in(2) && len > 4 {
            // A plausible length, so that the body is read.
            bytes[..4].copy_from_slice(&((len - 4) as u32).to_be_bytes());
        }
        bytes.into()
    }

    fn send_garbage(&mut self, net: &mut Net, established: &[usize]) {
        if let Some(at) = self.dice.pick(established).copied() {
            let mut bytes = BytesMut::from(&self.words(at).message().to_frame()[..]);
            match self.dice.below(3) {
                0 => bytes.truncate(self.dice.below(bytes.len())),
                1 => {
                    let bit = self.dice.below(8 * bytes.len());
                    bytes[bit / 8] ^= 1 << (bit % 8);
                }
                _ => bytes = BytesMut::from(&self.garbage()[..]),
            }
            self.send(net, at, bytes.freeze());
        }
    }

    fn say(&mut self, net: &mut Net, established: &[usize]) {
        let Some(at) = self.dice.pick(established).copied() else { return };
        let mut out = BytesMut::new();
        for _ in 0..1 + self.dice.below(4) {
            self.words(at).message().encode(&mut out);
        }
        self.send(net, at, out.freeze());
    }

    /// Every node is told of one newer term, in an acknowledgement.
    fn jump(&mut self, net: &mut Net, established: &[usize]) {
        let Some(first) = established.first().copied() else { return };
        let (term, view_id) = (self.words(first).term(), self.known.view_id);
        let number = self.known.heartbeats.back().map_or(1, |heartbeat| heartbeat.number);
        let ack = HeartbeatAck { term, number, view_id, confirms: self.dice.one_in(2), electorate: Default::default() };
        for at in established {
            self.send(net, *at, Message::HeartbeatAck(ack).to_frame());
        }
    }

    /// One more connection under the identity of another node says that this node leaves.
    fn leave_for_another(&mut self, net: &mut Net) {
        let known: Vec<Identity> = self.known.nodes.values().cloned().collect();
        let (Some(at), Some(claim)) = (self.dial(net), self.dice.pick(&known).cloned()) else { return };
        self.contacts[at].claim = claim;
        self.contacts[at].greeted = true;
        let number = [u64::MAX, u64::MAX - 1, 1][self.dice.below(3)];
        let term = self.known.term;
        let mut out = BytesMut::new();
        self.words(at).hello().encode(&mut out);
        self.status(number, term, Role::Leaving).encode(&mut out);
        self.send(net, at, out.freeze());
    }

    /// It becomes a candidate, and requests the votes of all nodes.
    fn stand(&mut self, net: &mut Net, established: &[usize]) {
        let term = Term(self.known.term.0.saturating_add(1));
        let number = 1 + self.dice.below(3) as u64;
        let lease = Duration::from_secs(1);
        for at in established {
            let status = self.contacts[*at].number.saturating_add(1);
            self.contacts[*at].number = status;
            let mut out = BytesMut::new();
            self.status(status, term, Role::Candidate).encode(&mut out);
            Message::VoteRequest(VoteRequest { term, number, lease, electorate: Default::default() }).encode(&mut out);
            self.send(net, *at, out.freeze());
        }
    }

    fn status(&self, number: u64, term: Term, role: Role) -> Message {
        let (view_id, metadata) = (ViewId { term, version: 1 }, Bytes::new());
        Message::Status(StatusReport {
            number,
            term,
            role,
            abstains: false,
            promise: None,
            view_id,
            metadata,
            electorate: Default::default(),
        })
    }

    /// It plays the master: it reports that it is one, writes a view, and sends heartbeats. If it has won an election,
    /// this is its right as a voter; the view is not.
    fn lead(&mut self, net: &mut Net, established: &[usize]) {
        let Some(first) = established.first().copied() else { return };
        let won = self.leads.is_some();
        let term = match self.leads {
            Some(term) if !self.dice.one_in(6) => term,
            _ => self.words(first).term(),
        };
        self.leads = if self.dice.one_in(6) { None } else { self.leads };
        for at in established {
            let number = self.contacts[*at].number.saturating_add(1);
            self.contacts[*at].number = number;
            let mut out = BytesMut::new();
            self.status(number, term, Role::Master).encode(&mut out);
            if !self.dice.one_in(3) {
                let version = [1, 2, 3, 1_000, u64::MAX][self.dice.below(5)];
                self.words(*at).page(ViewId { term, version }).encode(&mut out);
            }
            if won || self.dice.one_in(2) {
                let number = 1 + self.dice.below(1_000) as u64;
                let lease = Duration::from_secs(1);
                Message::Heartbeat(Heartbeat { term, number, lease }).encode(&mut out);
            }
            self.send(net, *at, out.freeze());
        }
    }
}
