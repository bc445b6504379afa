//! What was said on one connection, and who has proven there that it holds a cluster key.

use arbitrary::Arbitrary;
use bytes::{Bytes, BytesMut};
use formation_core::{
    ClusterKey, Origin, Term, ViewId,
    message::{Heartbeat, HeartbeatAck, Message, Proof, Vote, VoteRequest},
};

use super::{encode::spelled, scene::config};
use crate::{Net, Peer};

/// More than two of the frames that may come before a connection is established.
const HEARD: usize = 2 * (4 + 1024) + 1;

/// A cluster key.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Secret {
    /// That of most scenes with a key.
    Current,
    /// The one that is to replace it.
    Next,
}

spelled!(
    enum Secret {
        Current,
        Next,
    }
);

impl Secret {
    fn bytes(self) -> &'static [u8] {
        match self {
            Self::Current => b"the key of this cluster",
            Self::Next => b"the key of tomorrow",
        }
    }

    pub(super) fn key(self) -> ClusterKey {
        ClusterKey::from(self.bytes())
    }
}

/// Somebody who holds these keys.
pub(super) fn holder(secrets: &[Secret]) -> Peer {
    let peer = Peer::of(&config(), "n0", &Net::address(0));
    secrets.iter().fold(peer, |peer, secret| peer.holding(secret.bytes()))
}

/// What was said on a connection: of the node's words the first, the last, and the last that asks for an answer; of its
/// peer's the beginning.
#[derive(Clone, Debug, Default)]
pub(super) struct Talk {
    origin: Option<Origin>,
    first: Bytes,
    last: Bytes,
    asked: Bytes,
    heard: BytesMut,
}

impl Talk {
    pub(super) fn on(origin: Origin) -> Self {
        Self { origin: Some(origin), ..Self::default() }
    }

    /// The node has said something.
    pub(super) fn sent(&mut self, bytes: &Bytes) {
        if self.first.is_empty() {
            self.first = bytes.clone();
        }
        for frame in frames(bytes) {
            self.last = bytes.slice_ref(frame);
            if let Some(5 | 8) = frame.get(4) {
                self.asked = self.last.clone();
            }
        }
    }

    /// Its peer has.
    pub(super) fn received(&mut self, bytes: &[u8]) {
        let room = HEARD - self.heard.len();
        self.heard.extend_from_slice(&bytes[..room.min(bytes.len())]);
    }

    /// What the node has said last.
    pub(super) fn last(&self) -> Bytes {
        self.last.clone()
    }

    /// What the node wants to hear: its vote, or that its heartbeat has come to somebody who holds this view.
    pub(super) fn answer(&self, view_id: ViewId) -> Message {
        match self.asked.get(4..).map(Message::decode) {
            Some(Ok(Message::VoteRequest(VoteRequest { term, number, .. }))) => {
                Message::Vote(Vote { term, number, granted: true })
            }
            Some(Ok(Message::Heartbeat(Heartbeat { term, number, .. }))) => {
                Message::HeartbeatAck(HeartbeatAck { term, number, view_id, confirms: true })
            }
            _ => Message::Ping,
        }
    }

    /// How a peer that holds this key proves so on this connection; nothing that holds before both have said who they are.
    pub(super) fn proof(&self, secret: Secret) -> Message {
        self.right_proof(secret).unwrap_or(Message::Proof(Proof { mac: [0; 32] }))
    }

    fn right_proof(&self, secret: Secret) -> Option<Message> {
        let own = Message::decode(&frame(&self.first)?[4..]).ok()?;
        let mut peer = holder(&[secret]);
        peer.said = Bytes::copy_from_slice(frame(&self.heard)?);
        Some(match self.origin? {
            Origin::Accepted => peer.proof_dialing(&own),
            Origin::Dialed(_) => peer.proof_accepting(&own),
        })
    }

    /// Whether the peer has proven, right behind its first word, that it holds one of these.
    pub(super) fn has_proven(&self, secrets: &[Secret]) -> bool {
        let Some(second) = frames(&self.heard).nth(1) else { return false };
        let proof = Message::decode(&second[4..]).ok();
        proof.is_some() && secrets.iter().any(|secret| self.right_proof(*secret) == proof)
    }
}

/// The votes that are in what a node says: the term, and whether it is its own, with which it asks for others'.
pub(super) fn votes(bytes: &[u8]) -> impl Iterator<Item = (Term, bool)> {
    let electoral = frames(bytes).filter(|frame| matches!(frame.get(4), Some(5 | 6)));
    electoral.filter_map(|frame| match Message::decode(&frame[4..]) {
        Ok(Message::VoteRequest(request)) => Some((request.term, true)),
        Ok(Message::Vote(vote)) => vote.granted.then_some((vote.term, false)),
        _ => None,
    })
}

/// The whole frames of a stream.
fn frames(mut stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let first = frame(stream)?;
        stream = &stream[first.len()..];
        Some(first)
    })
}

/// The first frame of a stream.
fn frame(stream: &[u8]) -> Option<&[u8]> {
    let body = u32::from_be_bytes(*stream.first_chunk()?) as usize;
    stream.get(..body.checked_add(4)?)
}
