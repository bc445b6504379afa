//! Cluster keys in the simulator: a rolling change of them, and intruders who hold none.

use std::time::Duration;

use bytes::Bytes;
use formation_core::{
    CloseReason, ClusterKey, Config, ConfigBuilder, Event, Incarnation, StopReason,
    message::{Message, Proof, Role},
};

use crate::{
    host::{Crash, NodeIx},
    net::Net,
    peer::Peer,
    wire::WireId,
};

/// The bytes of one key after the other.
pub fn key(number: u64) -> Vec<u8> {
    format!("cluster key number {number}").into_bytes()
}

/// What a node holds at a stage of a rolling change: a key; it and the next, in any order; the next alone; and so on.
pub fn keys(stage: u64) -> Vec<Vec<u8>> {
    let first = stage / 2;
    match stage % 4 {
        0 | 2 => vec![key(first)],
        1 => vec![key(first), key(first + 1)],
        _ => vec![key(first + 1), key(first)],
    }
}

/// The same configuration at `address`, with the keys of a stage.
pub(crate) fn with_keys(config: &Config, address: &str, stage: Option<u64>) -> Config {
    under(config.id().as_str(), config, address, stage).build().expect("a valid configuration")
}

/// The same under another id, to be changed further.
pub(crate) fn under(id: &str, config: &Config, address: &str, stage: Option<u64>) -> ConfigBuilder {
    let seeds = config.seeds().iter().map(|seed| seed.as_str());
    let builder = Config::builder(config.cluster().as_str(), id, address)
        .seeds(seeds)
        .contacts(config.contacts().iter().map(|contact| contact.as_str()))
        .bootstrap(config.bootstrap())
        .metadata(config.metadata().clone())
        .timing(config.timing().clone())
        .detector(config.detector().clone())
        .limits(config.limits().clone())
        .protocol(config.protocol());
    let held = stage.map(keys).unwrap_or_default();
    let builder = held.into_iter().fold(builder, |builder, key| builder.key(ClusterKey::new(key)));
    match config.solo_after() {
        Some(after) => builder.solo_after(after),
        None => builder,
    }
}

/// What somebody tries who does not hold the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intrusion {
    /// A made-up proof.
    Forges,
    /// A right one with one bit changed.
    Flips,
    /// The node's own.
    Reflects,
    /// All that somebody has said to the node on another connection.
    Replays,
    /// None at all, and then what only a member may say.
    Skips,
    /// A word of no key.
    Ignores,
}

impl Intrusion {
    pub(crate) const ALL: [Self; 6] =
        [Self::Forges, Self::Flips, Self::Reflects, Self::Replays, Self::Skips, Self::Ignores];
}

impl Net {
    /// A node gets the keys of a stage; it holds them from its next start on.
    pub fn set_keys(&mut self, ix: NodeIx, stage: Option<u64>) {
        let host = self.host_mut(ix);
        host.config = with_keys(&host.config, host.config.address().as_str(), stage);
        host.key_stage = stage;
    }

    /// The next step of a rolling change: of the nodes that are behind, one starts anew with the keys of the next stage.
    /// Whether there was one.
    pub fn change_next_key(&mut self) -> bool {
        let stages = (0..self.len()).filter_map(|ix| Some((self.host(ix).key_stage?, ix)));
        let Some((stage, ix)) = stages.min() else { return false };
        self.set_keys(ix, Some(stage + 1));
        if self.host(ix).formation.is_some() {
            self.crash(ix, Crash::Process);
            self.start(ix);
        }
        if (0..self.len()).all(|ix| self.host(ix).key_stage == Some(stage + 1)) && stage % 2 == 1 {
            self.tally.count("key changed on all nodes");
        }
        true
    }

    /// Somebody without the key connects to a node, claims to be one of the others or a newer run of the node itself, and
    /// tries to get in. Whether it was tried.
    ///
    /// # Panics
    /// When it is told more than a stranger may be, or the node stops for what it says.
    pub fn intrude(&mut self, ix: NodeIx, how: Intrusion) -> bool {
        let Some(stage) = self.host(ix).key_stage else { return false };
        if !self.living().contains(&ix) {
            return false;
        }
        let since = self.now();
        let (said, wire) = match how {
            Intrusion::Replays => match self.overheard(ix) {
                Some(words) => {
                    let wire = self.dial(ix);
                    self.send(wire, words);
                    (self.hear(wire, |said| said.len() > 2), wire)
                }
                None => return false,
            },
            _ => self.play(ix, how, stage),
        };
        let known = |message: &Message| matches!(message, Message::Hello(_) | Message::Proof(_) | Message::Rejected(_));
        if let Some(word) = said.iter().find(|message| !known(message)) {
            self.fail(&format!("key: node {ix} says to somebody who {how:?} instead of proving itself: {word:?}"));
        }
        let superseded = |event: &Event| matches!(event, Event::Stopped { reason: StopReason::Superseded });
        if self.count(ix, since, superseded) > 0 {
            self.fail(&format!("key: node {ix} stops for somebody who {how:?} instead of proving itself"));
        }
        match self.closed(wire) {
            Some(CloseReason::Rejected(_)) => self.tally.count("intruder refused"),
            Some(CloseReason::UnexpectedMessage) => self.tally.count("intruder spoke out of turn"),
            _ => self.tally.count("intruder not answered"),
        }
        self.close(wire);
        true
    }

    fn play(&mut self, ix: NodeIx, how: Intrusion, stage: u64) -> (Vec<Message>, WireId) {
        let whom = self.rng.below(self.len());
        let claimed = &self.host(whom).config;
        let (id, address) = (claimed.id().to_string(), claimed.address().to_string());
        let mut peer = Peer::of(&self.host(ix).config, &id, &address);
        peer.node.incarnation = Incarnation(u64::MAX);
        if how != Intrusion::Ignores {
            peer.keys = keys(stage);
        }
        let wire = self.dial(ix);
        let hello = peer.hello();
        self.send(wire, hello);
        let mut said = self.hear(wire, |said| said.len() > 1);
        let [hello @ Message::Hello(_), Message::Proof(own), ..] = &said[..] else { return (said, wire) };
        let proof = match how {
            Intrusion::Forges => Some(Message::Proof(Proof { mac: std::array::from_fn(|_| self.rng.draw() as u8) })),
            // The one that is used is the first of the dialing node's that the other has: its own keys were announced.
            Intrusion::Flips => match peer.proof_dialing(hello) {
                Message::Proof(Proof { mut mac }) => {
                    let bit = self.rng.below(256);
                    mac[bit / 8] ^= 1 << (bit % 8);
                    Some(Message::Proof(Proof { mac }))
                }
                _ => None,
            },
            Intrusion::Reflects => Some(Message::Proof(*own)),
            _ => None,
        };
        let claims = [peer.status(1, Role::Joining, formation_core::ViewId::default()), Message::LeaveAck.to_frame()];
        let words: Vec<Bytes> = proof.map(|proof| proof.to_frame()).into_iter().chain(claims).collect();
        self.send(wire, words.concat());
        said.extend(self.hear(wire, |_| false));
        (said, wire)
    }

    /// What comes on a connection of the test, until it is enough, or the connection ends, or half a second has passed.
    fn hear(&mut self, wire: WireId, enough: impl Fn(&[Message]) -> bool) -> Vec<Message> {
        let mut said = Vec::new();
        self.run_until(Duration::from_millis(500), |net| {
            said.extend(net.messages(wire));
            enough(&said) || net.ended(wire)
        });
        said.extend(self.messages(wire));
        said
    }
}
