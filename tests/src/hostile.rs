//! A hostile peer in the simulated network. It has no node inside: it says anything, well-formed or not, to any node.
//! It knows only what it receives on its own connections, and it does not hold the cluster key.

mod actions;
mod attack;
mod dice;
mod findings;
mod knowledge;
mod words;

pub use attack::Attack;
pub(crate) use attack::attack_healthy;
pub use dice::Dice;

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use formation_core::{
    Address, Config, Incarnation, Node, NodeId, Term,
    message::{Hello, Message},
};

use crate::{Target, WireId, net::Net};
use knowledge::{Identity, Knowledge};
use words::Words;

/// The place of a hostile peer in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It owns no seed address: a dial of a seed never reaches it.
    Member,
    /// It owns one of the seeds' addresses.
    Voter,
}

/// The most connections that it keeps, apart from a flood.
const KEPT: usize = 40;

/// The source of all its connections.
const IP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 66));

/// One connection of the hostile peer.
struct Contact {
    wire: WireId,
    /// The identity that it claims there.
    claim: Identity,
    /// It has sent its `Hello`.
    greeted: bool,
    /// The `Hello` of the node.
    hello: Option<Hello>,
    /// The number of its last status.
    number: u64,
}

/// A hostile peer.
pub struct Hostile {
    place: Place,
    dice: Dice,
    /// Its own address. Dials of it reach the hostile peer while it is there.
    address: Address,
    /// Its own id and run.
    node: Node,
    known: Knowledge,
    contacts: Vec<Contact>,
    /// The term in which it plays the master.
    leads: Option<Term>,
    /// It may claim the ids of members at its own address: all of them are alive, so such a claim is never right.
    may_squat: bool,
    habits: Habits,
}

/// What this peer does at all. A peer that does less does some things more often, and hides less of what they cause.
#[derive(Clone, Copy, Debug)]
struct Habits {
    actions: u64,
    claims: u64,
    /// The messages of members, and all others.
    messages: [u64; 2],
    /// Which of the three ranges its pauses are from.
    pace: usize,
}

impl Habits {
    fn draw(dice: &mut Dice) -> Self {
        match dice {
            Dice::Seed(rng) => {
                let [actions, claims, some, others] = std::array::from_fn(|_| rng.draw());
                Self { actions, claims, messages: [some, others], pace: rng.below(3) }
            }
            Dice::Bytes(_) => Self { actions: u64::MAX, claims: u64::MAX, messages: [u64::MAX; 2], pace: 0 },
        }
    }

    fn has(habits: u64, number: usize) -> bool {
        habits >> number & 1 == 1
    }
}

impl Hostile {
    /// A hostile peer at this address that attacks the nodes of the network. `config` is the configuration of one of
    /// them.
    pub fn new(net: &mut Net, config: &Config, place: Place, (id, address): (&str, &str), mut dice: Dice) -> Self {
        net.name(address, Target::Test);
        net.settings.test_ip = Some(IP);
        let nodes = (0..net.len()).map(|ix| &net.host(ix).config);
        Self {
            habits: Habits::draw(&mut dice),
            place,
            dice,
            address: Address::new(address).expect("a valid address"),
            node: Node { id: NodeId::new(id).expect("a valid id"), incarnation: Incarnation(1_000) },
            known: Knowledge::new(config, nodes),
            contacts: Vec::new(),
            leads: None,
            may_squat: false,
        }
    }

    /// How long it waits before its next turn.
    pub fn pause(&mut self) -> Duration {
        let pauses = [[1, 3, 10, 20, 50, 200], [10, 20, 50, 100, 200, 500], [50, 200, 500, 1_000, 2_000, 3_000]];
        Duration::from_millis(pauses[self.habits.pace][self.dice.below(6)])
    }

    /// It reads what has arrived, answers, and then does something.
    pub fn turn(&mut self, net: &mut Net) {
        self.accept(net);
        self.read(net);
        for _ in 0..1 + self.dice.below(3) {
            self.act(net);
        }
        while self.contacts.len() > KEPT && !self.dice.one_in(20) {
            let at = self.dice.below(self.contacts.len());
            self.drop_contact(net, at);
        }
    }

    /// Ends all its connections, and makes its address unreachable. If it vanishes, nobody is told.
    pub fn leave(&mut self, net: &mut Net, vanishes: bool) {
        self.accept(net);
        for contact in self.contacts.drain(..) {
            if vanishes { net.vanish(contact.wire) } else { net.close(contact.wire) }
        }
        if vanishes {
            net.name(self.address.as_str(), Target::Nowhere);
        } else {
            net.forget_name(self.address.as_str());
        }
    }

    fn own(&self) -> Identity {
        Identity { node: self.node.clone(), address: self.address.clone() }
    }

    fn drop_contact(&mut self, net: &mut Net, at: usize) {
        let contact = self.contacts.swap_remove(at);
        if self.dice.one_in(4) { net.vanish(contact.wire) } else { net.close(contact.wire) }
    }

    fn accept(&mut self, net: &mut Net) {
        for wire in net.accepted() {
            net.watch.tally.count("hostile peer: was dialed");
            let claim = if self.dice.one_in(6) { self.claim(None) } else { self.own() };
            self.contacts.push(Contact { wire, claim, greeted: false, hello: None, number: 0 });
        }
    }

    fn read(&mut self, net: &mut Net) {
        for contact in std::mem::take(&mut self.contacts) {
            let received = net.messages(contact.wire);
            let ended = net.ended(contact.wire);
            self.contacts.push(contact);
            for message in &received {
                net.watch.tally.count(heard(message));
                self.known.learn(message);
                let answer = self.answer(message);
                self.send(net, self.contacts.len() - 1, answer);
            }
            if ended && let Some(contact) = self.contacts.pop() {
                net.close(contact.wire);
            }
        }
    }

    /// What it answers on the newest contact.
    fn answer(&mut self, message: &Message) -> Bytes {
        let Some(at) = self.contacts.len().checked_sub(1) else { return Bytes::new() };
        let mut out = BytesMut::new();
        if let Message::Hello(hello) = message {
            self.contacts[at].hello = Some(hello.clone());
            if self.contacts[at].greeted {
                if !self.dice.one_in(6) {
                    self.words(at).plain_status().encode(&mut out);
                }
            } else if self.dice.one_in(8) {
                self.words(at).rejected().encode(&mut out);
            } else if !self.dice.one_in(10) {
                self.contacts[at].greeted = true;
                let mut words = self.words(at);
                words.hello().encode(&mut out);
                words.plain_status().encode(&mut out);
            }
            return out.freeze();
        }
        if self.dice.one_in(3) {
            return Bytes::new();
        }
        match message {
            Message::Heartbeat(heartbeat) => {
                let (term, number) = (heartbeat.term, heartbeat.number);
                let view_id = self.known.view_id;
                let confirms = self.known.seeds.contains(&self.contacts[at].claim.address);
                match self.dice.one_in(4) {
                    true => self.words(at).ack(),
                    false => Message::HeartbeatAck(formation_core::message::HeartbeatAck {
                        term,
                        number,
                        view_id,
                        confirms,
                        electorate: Default::default(),
                    }),
                }
                .encode(&mut out);
            }
            Message::VoteRequest(_) => self.words(at).vote().encode(&mut out),
            Message::Vote(vote) if vote.granted => self.leads = Some(vote.term),
            _ => {}
        }
        out.freeze()
    }

    fn words(&mut self, at: usize) -> Words<'_> {
        let Contact { claim, hello, number, .. } = &mut self.contacts[at];
        let peer = hello.as_ref().map(|hello| &hello.id);
        Words { dice: &mut self.dice, known: &self.known, habits: self.habits.messages, claim, peer, number }
    }

    fn send(&mut self, net: &mut Net, at: usize, bytes: Bytes) {
        if !bytes.is_empty() {
            net.send(self.contacts[at].wire, bytes);
        }
    }
}

/// What a message shows that the hostile peer has reached.
fn heard(message: &Message) -> &'static str {
    match message {
        Message::Hello(_) => "hostile peer: received a hello",
        Message::Rejected(_) => "hostile peer: was rejected",
        Message::Status(_) => "hostile peer: received a status",
        Message::JoinResponse(_) => "hostile peer: was admitted",
        Message::Heartbeat(_) => "hostile peer: received a heartbeat",
        Message::HeartbeatAck(_) => "hostile peer: received an acknowledgement",
        Message::VoteRequest(_) => "hostile peer: was asked for its vote",
        Message::Vote(vote) if vote.granted => "hostile peer: was granted a vote",
        Message::Vote(_) => "hostile peer: was refused a vote",
        _ => "hostile peer: received something else",
    }
}
