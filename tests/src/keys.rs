//! Cluster keys in the simulator: a rolling change of the key, and intruders that do not hold it.

use std::time::Duration;

use bytes::Bytes;
use formation_core::{
    CloseReason, ClusterKey, Config, ConfigBuilder, Event, Incarnation, StopReason,
    message::{Message, Proof, Role},
};

use crate::{Crash, NodeIx, WireId, net::Net, peer::Peer};

/// The bytes of the key with this number.
pub fn key(number: u64) -> Vec<u8> {
    format!("cluster key number {number}").into_bytes()
}

/// The keys that a node holds at a stage of a rolling change: one key; this key and the next one, in either order; only
/// the next one; and so on.
pub fn keys(stage: u64) -> Vec<Vec<u8>> {
    let first = stage / 2;
    match stage % 4 {
        0 | 2 => vec![key(first)],
        1 => vec![key(first), key(first + 1)],
        _ => vec![key(first + 1), key(first)],
    }
}

/// The same configuration with another address and the keys of a stage.
pub(crate) fn with_keys(config: &Config, address: &str, stage: Option<u64>) -> Config {
    under(config.id().as_str(), config, address, stage).build().expect("a valid configuration")
}

/// A builder with the same configuration, but with another id.
pub(crate) fn under(id: &str, config: &Config, address: &str, stage: Option<u64>) -> ConfigBuilder {
    let seeds = config.seeds().iter().map(|seed| seed.as_str());
    let builder = Config::builder(config.cluster().as_str(), id, address)
        .seeds(seeds)
        .single()
        .contacts(config.contacts().iter().map(|contact| contact.as_str()))
        .bootstrap(config.bootstrap())
        .priority(config.priority())
        .metadata(config.metadata().clone())
        .timing(config.timing().clone())
        .detector(config.detector().clone())
        .limits(config.limits().clone())
        .protocol(config.protocol());
    let held = stage.map(keys).unwrap_or_default();
    let builder = held.into_iter().fold(builder, |builder, key| builder.key(ClusterKey::new(key)));
    let builder = match config.autopilot() {
        Some(autopilot) => builder.autopilot(*autopilot),
        None => builder,
    };
    match config.solo_after() {
        Some(after) => builder.solo_after(after),
        None => builder,
    }
}

/// The attack of an intruder that does not hold the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intrusion {
    /// It sends a random proof.
    Forges,
    /// It sends a correct proof with one bit flipped.
    Flips,
    /// It sends the node's own proof back.
    Reflects,
    /// It replays the bytes that another node has sent on another connection.
    Replays,
    /// It sends no proof, and then messages that only a member may send.
    Skips,
    /// Its `Hello` names no key.
    Ignores,
}

impl Intrusion {
    pub(crate) const ALL: [Self; 6] =
        [Self::Forges, Self::Flips, Self::Reflects, Self::Replays, Self::Skips, Self::Ignores];
}

impl Net {
    /// Sets the keys of a node to those of a stage. They take effect when the node starts the next time.
    pub fn set_keys(&mut self, ix: NodeIx, stage: Option<u64>) {
        let host = self.host_mut(ix);
        host.config = with_keys(&host.config, host.config.address().as_str(), stage);
        self.watch.node(ix).key_stage = stage;
    }

    /// The next step of a rolling change: the node that is furthest behind restarts with the keys of the next stage.
    /// Returns whether there was such a node.
    pub fn change_next_key(&mut self) -> bool {
        let stages = (0..self.len()).filter_map(|ix| Some((self.key_stage(ix)?, ix)));
        let Some((stage, ix)) = stages.min() else { return false };
        self.set_keys(ix, Some(stage + 1));
        if self.host(ix).formation.is_some() {
            self.crash(ix, Crash::Process);
            self.start(ix);
        }
        if (0..self.len()).all(|ix| self.key_stage(ix) == Some(stage + 1)) && stage % 2 == 1 {
            self.watch.tally.count("key changed on all nodes");
        }
        true
    }

    /// An intruder without the key connects to a node. It claims to be one of the other nodes, or a newer run of the
    /// node itself. Returns whether the attack took place.
    ///
    /// # Panics
    /// If the node sends more than an unauthenticated peer may get, or if the attack stops the node.
    pub fn intrude(&mut self, ix: NodeIx, how: Intrusion) -> bool {
        let Some(stage) = self.key_stage(ix) else { return false };
        if !self.living().contains(&ix) {
            return false;
        }
        let since = self.now();
        let (received, wire) = match how {
            Intrusion::Replays => match self.overheard(ix) {
                Some(recorded) => {
                    let wire = self.dial(ix);
                    self.send(wire, recorded);
                    (self.receive(wire, |received| received.len() > 2), wire)
                }
                None => return false,
            },
            _ => self.attack(ix, how, stage),
        };
        let allowed =
            |message: &Message| matches!(message, Message::Hello(_) | Message::Proof(_) | Message::Rejected(_));
        if let Some(leaked) = received.iter().find(|message| !allowed(message)) {
            self.fail(&format!("key: node {ix} sends to an unproven peer ({how:?}): {leaked:?}"));
        }
        let superseded = |event: &Event| matches!(event, Event::Stopped { reason: StopReason::Superseded });
        if self.count(ix, since, superseded) > 0 {
            self.fail(&format!("key: node {ix} stops because of an unproven peer ({how:?})"));
        }
        match self.closed(wire) {
            Some(CloseReason::Rejected(_)) => self.watch.tally.count("intruder rejected"),
            Some(CloseReason::UnexpectedMessage) => self.watch.tally.count("intruder sent an unexpected message"),
            _ => self.watch.tally.count("intruder not rejected"),
        }
        self.close(wire);
        true
    }

    fn attack(&mut self, ix: NodeIx, how: Intrusion, stage: u64) -> (Vec<Message>, WireId) {
        let nodes = self.len();
        let victim = self.rng.below(nodes);
        let claimed = &self.host(victim).config;
        let (id, address) = (claimed.id().to_string(), claimed.address().to_string());
        let mut peer = Peer::of(&self.host(ix).config, &id, &address);
        peer.node.incarnation = Incarnation(u64::MAX);
        if how != Intrusion::Ignores {
            peer.keys = keys(stage);
        }
        let wire = self.dial(ix);
        let hello = peer.hello();
        self.send(wire, hello);
        let mut received = self.receive(wire, |received| received.len() > 1);
        let [hello @ Message::Hello(_), Message::Proof(own), ..] = &received[..] else { return (received, wire) };
        let proof = match how {
            Intrusion::Forges => Some(Message::Proof(Proof { mac: std::array::from_fn(|_| self.rng.draw() as u8) })),
            // Both ends use the first key of the dialing node that the other one holds. Here, that is the intruder's
            // first.
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
        let messages: Vec<Bytes> = proof.map(|proof| proof.to_frame()).into_iter().chain(claims).collect();
        self.send(wire, messages.concat());
        received.extend(self.receive(wire, |_| false));
        (received, wire)
    }

    /// The messages that the test receives on its connection, until there are enough, or the connection ends, or half a
    /// second has passed.
    fn receive(&mut self, wire: WireId, enough: impl Fn(&[Message]) -> bool) -> Vec<Message> {
        let mut received = Vec::new();
        self.run_until(Duration::from_millis(500), |net| {
            received.extend(net.messages(wire));
            enough(&received) || net.ended(wire)
        });
        received.extend(self.messages(wire));
        received
    }
}
