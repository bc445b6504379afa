//! The transcript of one connection: it can compute proofs, and check whether the peer has proven that it holds a
//! cluster key.

use arbitrary::Arbitrary;
use bytes::{Bytes, BytesMut};
use formation_core::{
    ClusterKey, Origin, Term, ViewId,
    message::{Heartbeat, HeartbeatAck, Message, Proof, Vote, VoteRequest},
};

use super::{encode::impl_encode, scene::config};
use crate::{Net, Peer};

/// More than two frames of the longest kind that may arrive before a connection is established.
const RECEIVED_LIMIT: usize = 2 * (4 + 1024) + 1;

/// A cluster key.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Secret {
    /// The key of most scenes with a key.
    Current,
    /// The key that replaces it.
    Next,
}

impl_encode!(
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

/// A peer that holds these keys.
pub(super) fn holder(secrets: &[Secret]) -> Peer {
    let peer = Peer::of(&config(), "n0", &Net::address(0));
    secrets.iter().fold(peer, |peer, secret| peer.holding(secret.bytes()))
}

/// The transcript of a connection: the node's first bytes, its last message, its last message that needs an answer, and
/// the first bytes of the peer.
#[derive(Clone, Debug, Default)]
pub(super) struct Transcript {
    origin: Option<Origin>,
    first: Bytes,
    last: Bytes,
    last_request: Bytes,
    received_bytes: BytesMut,
}

impl Transcript {
    pub(super) fn on(origin: Origin) -> Self {
        Self { origin: Some(origin), ..Self::default() }
    }

    /// The node has sent these bytes.
    pub(super) fn sent(&mut self, bytes: &Bytes) {
        if self.first.is_empty() {
            self.first = bytes.clone();
        }
        for frame in frames(bytes) {
            self.last = bytes.slice_ref(frame);
            if let Some(5 | 8) = frame.get(4) {
                self.last_request = self.last.clone();
            }
        }
    }

    /// The peer has sent these bytes.
    pub(super) fn received(&mut self, bytes: &[u8]) {
        let room = RECEIVED_LIMIT - self.received_bytes.len();
        self.received_bytes.extend_from_slice(&bytes[..room.min(bytes.len())]);
    }

    /// The last message of the node.
    pub(super) fn last(&self) -> Bytes {
        self.last.clone()
    }

    /// The answer that the node waits for: a vote, or the acknowledgement of its heartbeat by a member that holds this
    /// view.
    pub(super) fn answer(&self, view_id: ViewId) -> Message {
        match self.last_request.get(4..).map(Message::decode) {
            Some(Ok(Message::VoteRequest(VoteRequest { term, number, .. }))) => {
                Message::Vote(Vote { term, number, granted: true })
            }
            Some(Ok(Message::Heartbeat(Heartbeat { term, number, .. }))) => Message::HeartbeatAck(HeartbeatAck {
                term,
                number,
                view_id,
                confirms: true,
                electorate: Default::default(),
            }),
            _ => Message::Ping,
        }
    }

    /// The proof for this key on this connection. It is wrong before both ends have sent their `Hello`.
    pub(super) fn proof(&self, secret: Secret) -> Message {
        self.right_proof(secret).unwrap_or(Message::Proof(Proof { mac: [0; 32] }))
    }

    fn right_proof(&self, secret: Secret) -> Option<Message> {
        let own = Message::decode(&frame(&self.first)?[4..]).ok()?;
        let mut peer = holder(&[secret]);
        peer.last_hello = Bytes::copy_from_slice(frame(&self.received_bytes)?);
        Some(match self.origin? {
            Origin::Accepted => peer.proof_dialing(&own),
            Origin::Dialed(_) => peer.proof_accepting(&own),
        })
    }

    /// Whether the peer has sent a correct proof for one of these keys right after its `Hello`.
    pub(super) fn has_proven(&self, secrets: &[Secret]) -> bool {
        let Some(second) = frames(&self.received_bytes).nth(1) else { return false };
        let proof = Message::decode(&second[4..]).ok();
        proof.is_some() && secrets.iter().any(|secret| self.right_proof(*secret) == proof)
    }
}

/// The votes in the bytes that a node sends: the term, and whether it is the node's vote for itself.
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
