//! What a frame on a connection means in the state that the connection is in (PROTOCOL.md, "The handshake").

use bytes::Bytes;

use super::{Connection, ConnectionState};
use crate::{
    api::error::CloseReason,
    env::Env,
    peers::PeerKey,
    peers::streams::StreamState,
    wire::message::{Hello, Message, Proof, Rejected, Voucher},
};

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
    /// The peer accepts the stream that this node opens.
    StreamAccepted,
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
    StreamAccepted,
    /// On an established link only.
    Link(Message),
}

fn place(message: Message) -> Place {
    match message {
        Message::Hello(hello) => Place::Greeting(hello),
        Message::Proof(proof) => Place::Proof(proof),
        Message::Rejected(rejected) => Place::Rejection(rejected),
        Message::StreamAccepted => Place::StreamAccepted,
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
        | Message::Voucher(_)
        | Message::Electorate(_) => Place::Link(message),
    }
}

/// Whether a peer may send only so many of them. On a link, updates of the view are limited by the master that sends them (V8), and a
/// snapshot of a large cluster has many pages.
fn is_limited(message: &Message, is_link: bool) -> bool {
    match message {
        Message::MembersUpdate(_) => !is_link,
        Message::Hello(_)
        | Message::Rejected(_)
        | Message::Status(_)
        | Message::JoinResponse(_)
        | Message::VoteRequest(_)
        | Message::Vote(_)
        | Message::Release(_)
        | Message::Heartbeat(_)
        | Message::HeartbeatAck(_)
        | Message::Ping
        | Message::LeaveAck
        | Message::Resign(_)
        | Message::Proof(_)
        | Message::Voucher(_)
        | Message::StreamAccepted
        | Message::Electorate(_) => true,
    }
}

impl Connection {
    /// What a frame with this body is.
    pub(in crate::peers) fn classify(&mut self, env: &Env, body: Bytes) -> Received {
        let is_link = self.is_established();
        match Message::decode(&body) {
            Ok(message) if is_limited(&message, is_link) && !self.budget.spend(env, env.limits().messages) => {
                Received::Fault(CloseReason::TooManyMessages)
            }
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
            (ConnectionState::AwaitingHello { .. }, Place::Proof(_) | Place::StreamAccepted | Place::Link(_)) => {
                unexpected
            }
            (ConnectionState::Proving(_), Place::Proof(proof)) => Received::Proof(proof),
            (ConnectionState::Proving(_), Place::Rejection(rejected)) if rejected.reason.may_precede_proof() => {
                Received::RejectedByPeer(rejected)
            }
            (
                ConnectionState::Proving(_),
                Place::Greeting(_) | Place::Rejection(_) | Place::StreamAccepted | Place::Link(_),
            ) => unexpected,
            (ConnectionState::Claimed(_), Place::Link(Message::Voucher(voucher))) => Received::Voucher(voucher),
            (ConnectionState::Claimed(_), Place::Rejection(rejected)) => Received::RejectedByPeer(rejected),
            (ConnectionState::Claimed(_), Place::Greeting(_) | Place::Proof(_) | Place::StreamAccepted) => unexpected,
            // Nobody knows yet who says it. The peer sends what matters again behind a voucher.
            (ConnectionState::Claimed(_), Place::Link(_)) => Received::Ignored,
            (ConnectionState::Stream(StreamState::Awaiting { .. }), Place::Rejection(rejected)) => {
                Received::RejectedByPeer(rejected)
            }
            (ConnectionState::Stream(StreamState::Awaiting { first }), Place::StreamAccepted) if first.is_empty() => {
                Received::StreamAccepted
            }
            (ConnectionState::Stream(_), _) => unexpected,
            (ConnectionState::Established(_), Place::Greeting(_) | Place::Proof(_) | Place::StreamAccepted) => {
                unexpected
            }
            // A peer that speaks an older version cannot have sent it.
            (ConnectionState::Established(link), Place::Rejection(_) | Place::Link(_)) if since > link.version() => {
                Received::Fault(CloseReason::Malformed)
            }
            (ConnectionState::Established(_), Place::Rejection(rejected)) => Received::RejectedByPeer(rejected),
            (ConnectionState::Established(link), Place::Link(message)) => {
                let confirms = link.confirm(&message, is_dialed);
                Received::Message { peer: link.peer(), confirms, message }
            }
        }
    }
}
