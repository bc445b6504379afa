//! One connection, from open to closed, and what a frame on it means in the state that it is in (PROTOCOL.md, "The handshake").

use alloc::{boxed::Box, collections::BTreeSet, vec::Vec};
use core::net::IpAddr;

use bytes::Bytes;

use super::PeerKey;
use crate::{
    api::error::CloseReason,
    api::input::{Origin, Remote},
    env::Env,
    id::{Address, Node},
    peers::proof::{ClusterKey, Side},
    time::Timestamp,
    wire::decoder::Decoder,
    wire::message::{Hello, Message, Proof, Rejected, Voucher},
};

/// A connection in any state. Only the peer table changes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Connection {
    pub(super) origin: Origin,
    /// The address that was dialed.
    pub(super) dialed: Option<Address>,
    /// The IP address of the other end, if the transport knows it.
    pub(super) ip: Option<IpAddr>,
    /// The seeds whose host the peer's certificate covers.
    pub(super) certified: BTreeSet<Address>,
    /// The nonce of this node's `Hello`: a node that has dialed itself recognises it.
    pub(super) nonce: [u8; 16],
    pub(super) decoder: Decoder,
    /// The bytes of an unfinished frame after the last chunk, as counted in the sum over all connections.
    pub(super) buffered: usize,
    /// It does not count as pending: the peer has claimed a seed's address and had to prove that, or has had a link. There are few.
    pub(super) is_apart: bool,
    /// The nonce of the peer's `Hello`, once it has come.
    pub(super) peer_nonce: Option<[u8; 16]>,
    pub(super) state: ConnectionState,
    /// A `Send` is not flushed yet.
    pub(super) in_flight: bool,
    /// When that counts as stalled: the peer does not read.
    pub(super) stalled_at: Timestamp,
    /// When the connection counts as silent, unless something arrives.
    pub(super) silent_at: Timestamp,
    /// When a `Ping` is due, unless something is sent.
    pub(super) ping_at: Timestamp,
    pub(super) ping_due: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum ConnectionState {
    /// The peer's `Hello` has not come.
    AwaitingHello {
        hello_due: bool,
    },
    /// With a cluster key: the peer's `Hello` has come, its proof has not. Nothing that it claims is believed.
    Proving(Box<Proving>),
    /// The peer claims a seed's address, or the identity of a node that is linked, and has not proven it (H11).
    Claimed(Box<Claim>),
    Established(Link),
    /// The peer is rejected. The connection closes once the reason is written.
    Rejecting {
        rejected: Rejected,
        /// This node's own proof: without it the peer would not believe the reason.
        first: Bytes,
        /// The newest protocol version that both ends speak; the first one, when they have none in common.
        version: u16,
        sent: bool,
    },
}

/// What an established connection has beyond the others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Link {
    pub(super) peer: PeerKey,
    /// Sent before anything else: one end is established before it has answered with its own `Hello`, or its proof.
    pub(super) first: Bytes,
    /// The newest protocol version that both ends speak.
    pub(super) version: u16,
    /// The nonces of the peer's `Hello`s on other connections, to be sent on this one (H11). Only on a connection that this node has
    /// dialed to the peer's own address.
    pub(super) vouchers: Vec<[u8; 16]>,
    /// The peer's `Hello`, while nothing has proven that it is the node that it claims to be (H11).
    pub(super) unproven: Option<Box<Hello>>,
    /// The number of the last status that was due on it, sent or newer than its version; 0 before the first.
    pub(super) status_sent: u64,
    pub(super) confirmation: Confirmation,
}

/// An identity that a peer claims, and has not proven.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Claim {
    pub(crate) hello: Hello,
    /// This node's answer to it, until it is sent.
    pub(super) answer: Bytes,
    /// The status was sent.
    pub(super) is_greeted: bool,
    /// How many vouchers have proven nothing.
    pub(super) wrong_vouchers: usize,
}

impl Claim {
    pub(crate) fn new(hello: Hello, answer: Bytes) -> Self {
        Self { hello, answer, is_greeted: false, wrong_vouchers: 0 }
    }

    /// The claim that a link becomes.
    pub(super) fn of_link(hello: Hello, link: &Link) -> Self {
        Self { hello, answer: link.first.clone(), is_greeted: link.status_sent > 0, wrong_vouchers: 0 }
    }

    /// The peer's `Hello`, and the part of the answer that is not sent.
    pub(crate) fn parts(&self) -> (Hello, Bytes) {
        (self.hello.clone(), self.answer.clone())
    }

    /// The node that the peer claims to be.
    pub(crate) fn node(&self) -> Node {
        self.hello.node()
    }
}

/// Whether the peer has established the link, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Confirmation {
    /// Nothing has come but its `Hello`.
    Open,
    /// Its first status has come, which goes with the `Hello` that answers this node's. This node may still have to prove itself (H11).
    Greeted,
    Confirmed,
}

/// What is known of a peer whose proof has not come.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Proving {
    pub(crate) hello: Hello,
    /// What the proofs are over.
    pub(crate) hellos: Bytes,
    /// What they are made with.
    pub(crate) key: ClusterKey,
    /// The accepting node answers with its own `Hello` and its proof. The dialing node waits for both, and has no answer yet.
    pub(crate) answer: Bytes,
}

/// What a frame is, given the connection that it came on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// The peer's first message, and its body as it was on the wire.
    Hello(Hello, Bytes),
    /// The peer's proof of the cluster key.
    Proof(Proof),
    /// What may prove the identity that the peer claims.
    Voucher(Voucher),
    /// The peer rejects this node.
    RejectedByPeer(Rejected),
    /// A message on a link. `confirms`: it is the first one, and shows that the peer has established the link too.
    Message { peer: PeerKey, confirms: bool, message: Message },
    /// The connection is about to close: what still comes does not count.
    Ignored,
    /// The frame is no message, or has no place here.
    Fault(CloseReason),
}

/// Where in the life of a connection a message has its place.
enum Place {
    Greeting(Hello),
    Proof(Proof),
    Rejection(Rejected),
    /// On an established link only.
    Link(Message),
}

fn place(message: Message) -> Place {
    match message {
        Message::Hello(hello) => Place::Greeting(hello),
        Message::Proof(proof) => Place::Proof(proof),
        Message::Rejected(rejected) => Place::Rejection(rejected),
        Message::Status(_)
        | Message::JoinResponse(_)
        | Message::MembersUpdate(_)
        | Message::VoteRequest(_)
        | Message::Vote(_)
        | Message::Release(_)
        | Message::Heartbeat(_)
        | Message::HeartbeatAck(_)
        | Message::Ping
        | Message::LeaveAck
        | Message::Resign(_)
        | Message::Voucher(_) => Place::Link(message),
    }
}

impl Connection {
    pub(super) fn new(
        (origin, dialed, Remote { ip, certified }): (Origin, Option<Address>, Remote),
        nonce: [u8; 16],
        now: Timestamp,
    ) -> Self {
        let hello_due = match origin {
            Origin::Dialed(_) => true,
            Origin::Accepted => false,
        };
        Self {
            origin,
            dialed,
            ip,
            certified,
            nonce,
            decoder: Decoder::new(),
            buffered: 0,
            is_apart: false,
            peer_nonce: None,
            state: ConnectionState::AwaitingHello { hello_due },
            in_flight: false,
            stalled_at: now,
            silent_at: now,
            ping_at: now,
            ping_due: false,
        }
    }

    pub(crate) fn side(&self) -> Side {
        Side::of(self.origin)
    }

    pub(crate) fn dialed(&self) -> Option<&Address> {
        self.dialed.as_ref()
    }

    pub(crate) fn nonce(&self) -> [u8; 16] {
        self.nonce
    }

    /// What is known of the peer while its proof has not come.
    pub(crate) fn proving(&self) -> Option<&Proving> {
        match &self.state {
            ConnectionState::Proving(proving) => Some(proving),
            ConnectionState::AwaitingHello { .. }
            | ConnectionState::Claimed(_)
            | ConnectionState::Established(_)
            | ConnectionState::Rejecting { .. } => None,
        }
    }

    /// The identity that the peer claims and has not proven.
    pub(crate) fn claim(&self) -> Option<&Claim> {
        match &self.state {
            ConnectionState::Claimed(claim) => Some(claim),
            ConnectionState::AwaitingHello { .. }
            | ConnectionState::Proving(_)
            | ConnectionState::Established(_)
            | ConnectionState::Rejecting { .. } => None,
        }
    }

    /// Whether this node's own dial of this address, or the peer's certificate, shows that the peer is at the address.
    pub(crate) fn proves(&self, address: &Address) -> bool {
        self.dialed.as_ref() == Some(address) || self.certified.contains(address)
    }

    pub(super) fn link(&self) -> Option<&Link> {
        match &self.state {
            ConnectionState::Established(link) => Some(link),
            ConnectionState::AwaitingHello { .. }
            | ConnectionState::Proving(_)
            | ConnectionState::Claimed(_)
            | ConnectionState::Rejecting { .. } => None,
        }
    }

    pub(super) fn link_mut(&mut self) -> Option<&mut Link> {
        match &mut self.state {
            ConnectionState::Established(link) => Some(link),
            ConnectionState::AwaitingHello { .. }
            | ConnectionState::Proving(_)
            | ConnectionState::Claimed(_)
            | ConnectionState::Rejecting { .. } => None,
        }
    }

    /// Whether a `Ping` is due on the link, and the link.
    pub(super) fn ping_and_link_mut(&mut self) -> Option<(bool, &mut Link)> {
        let ping = self.ping_due;
        self.link_mut().map(|link| (ping, link))
    }

    pub(super) fn is_established(&self) -> bool {
        self.link().is_some()
    }

    /// Takes the next frame's body out of the chunk; `None` once the chunk is used up.
    pub(super) fn next_body(&mut self, env: &Env, chunk: &mut Bytes) -> Result<Option<Bytes>, CloseReason> {
        let limits = env.limits();
        // The peer takes the connection for a link as soon as it has this node's `Hello`, which a claim is answered with.
        let limit = match &self.state {
            ConnectionState::Claimed(_) | ConnectionState::Established(_) => limits.max_frame,
            ConnectionState::AwaitingHello { .. } | ConnectionState::Proving(_) | ConnectionState::Rejecting { .. } => {
                limits.frame_before_handshake
            }
        };
        self.decoder.next(chunk, limit)
    }

    /// What a frame with this body is.
    pub(super) fn classify(&mut self, env: &Env, body: Bytes) -> Received {
        match Message::decode(&body) {
            Ok(message) => self.classify_message(env, message, body),
            Err(reason) => Received::Fault(reason),
        }
    }

    fn classify_message(&mut self, env: &Env, message: Message, body: Bytes) -> Received {
        let unexpected = Received::Fault(CloseReason::UnexpectedMessage);
        let (since, is_dialed) = (message.since(), self.dialed.is_some());
        match (&mut self.state, place(message)) {
            (ConnectionState::Rejecting { .. }, _) => Received::Ignored,
            (ConnectionState::AwaitingHello { .. }, Place::Greeting(hello)) => {
                self.peer_nonce = Some(hello.nonce);
                Received::Hello(hello, body)
            }
            (ConnectionState::AwaitingHello { .. }, Place::Rejection(rejected)) => {
                let is_believed = env.config.keys().is_empty() || rejected.reason.may_precede_proof();
                match self.dialed.is_some() && is_believed {
                    true => Received::RejectedByPeer(rejected),
                    false => unexpected,
                }
            }
            (ConnectionState::AwaitingHello { .. }, Place::Proof(_) | Place::Link(_)) => unexpected,
            (ConnectionState::Proving(_), Place::Proof(proof)) => Received::Proof(proof),
            (ConnectionState::Proving(_), Place::Rejection(rejected)) if rejected.reason.may_precede_proof() => {
                Received::RejectedByPeer(rejected)
            }
            (ConnectionState::Proving(_), Place::Greeting(_) | Place::Rejection(_) | Place::Link(_)) => unexpected,
            (ConnectionState::Claimed(_), Place::Link(Message::Voucher(voucher))) => Received::Voucher(voucher),
            (ConnectionState::Claimed(_), Place::Rejection(rejected)) => Received::RejectedByPeer(rejected),
            (ConnectionState::Claimed(_), Place::Greeting(_) | Place::Proof(_)) => unexpected,
            // Nobody knows yet who says it. The peer sends what matters again behind a voucher.
            (ConnectionState::Claimed(_), Place::Link(_)) => Received::Ignored,
            (ConnectionState::Established(_), Place::Greeting(_) | Place::Proof(_)) => unexpected,
            // A peer that speaks an older version cannot have sent it.
            (ConnectionState::Established(link), Place::Rejection(_) | Place::Link(_)) if since > link.version => {
                Received::Fault(CloseReason::Malformed)
            }
            (ConnectionState::Established(_), Place::Rejection(rejected)) => Received::RejectedByPeer(rejected),
            (ConnectionState::Established(link), Place::Link(message)) => {
                let is_greeting = match (&message, link.confirmation) {
                    (Message::Status(_), Confirmation::Open) => is_dialed,
                    (_, Confirmation::Open | Confirmation::Greeted | Confirmation::Confirmed) => false,
                };
                let now = if is_greeting { Confirmation::Greeted } else { Confirmation::Confirmed };
                let before = core::mem::replace(&mut link.confirmation, now);
                let confirms = now == Confirmation::Confirmed && before != Confirmation::Confirmed;
                Received::Message { peer: link.peer, confirms, message }
            }
        }
    }
}

impl Connection {
    /// Why the connection closes when its time for the handshake is over.
    pub(crate) fn timeout_reason(&self) -> CloseReason {
        match &self.state {
            ConnectionState::Rejecting { rejected, .. } => CloseReason::Rejected(rejected.reason),
            ConnectionState::AwaitingHello { .. }
            | ConnectionState::Proving(_)
            | ConnectionState::Claimed(_)
            | ConnectionState::Established(_) => CloseReason::HandshakeTimeout,
        }
    }

    /// Why the connection closes now that its last bytes are written, if it was only waiting for that.
    pub(super) fn flushed_reason(&self) -> Option<CloseReason> {
        match &self.state {
            ConnectionState::Rejecting { rejected, sent: true, .. } => Some(CloseReason::Rejected(rejected.reason)),
            ConnectionState::Rejecting { sent: false, .. }
            | ConnectionState::AwaitingHello { .. }
            | ConnectionState::Proving(_)
            | ConnectionState::Claimed(_)
            | ConnectionState::Established(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::config::Config,
        id::{DialId, Incarnation, Node, NodeId},
    };
    use alloc::sync::Arc;

    fn env() -> Env {
        let config = Config::single("test", "a", "a:1").build().unwrap();
        let me = Node { id: NodeId::new("a").unwrap(), incarnation: Incarnation(1) };
        Env { config: Arc::new(config), me, now: Timestamp::ZERO }
    }

    fn classified(state: ConnectionState, message: &Message) -> Received {
        let mut connection =
            Connection::new((Origin::Dialed(DialId(1)), None, Remote::default()), [0; 16], Timestamp::ZERO);
        connection.state = state;
        let body = message.to_frame().slice(4..);
        connection.classify(&env(), body)
    }

    #[test]
    fn h4_a_message_newer_than_its_link_is_malformed() {
        for (version, is_malformed) in [(0, true), (1, false)] {
            let link = Link {
                peer: PeerKey(1),
                first: Bytes::new(),
                version,
                vouchers: Vec::new(),
                unproven: None,
                status_sent: 0,
                confirmation: Confirmation::Confirmed,
            };
            let is = classified(ConnectionState::Established(link), &Message::Ping)
                == Received::Fault(CloseReason::Malformed);
            assert_eq!(is, is_malformed, "on a link of version {version}");
        }
    }

    #[test]
    fn the_first_message_on_a_link_confirms_it() {
        let link = Link {
            peer: PeerKey(1),
            first: Bytes::new(),
            version: 1,
            vouchers: Vec::new(),
            unproven: None,
            status_sent: 0,
            confirmation: Confirmation::Open,
        };
        let received = classified(ConnectionState::Established(link), &Message::Ping);
        assert_eq!(received, Received::Message { peer: PeerKey(1), confirms: true, message: Message::Ping });
    }
}
