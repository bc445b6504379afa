//! What a test says when it plays a node: bytes built message by message.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use formation_core::{
    Address, ClusterName, Config, ElectorateDigest, Incarnation, Member, MemberState, Node, NodeId, Term, ViewId,
    message::{
        Heartbeat, Hello, JoinResponse, MAGIC, MembersUpdate, Message, PROTOCOL, Proof, ProtocolRange, Role,
        StatusReport, Vote, VoteRequest,
    },
};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// A node that a test plays.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The cluster that it claims.
    pub cluster: ClusterName,
    /// The seed list that it claims.
    pub electorate: ElectorateDigest,
    /// Who it claims to be.
    pub node: Node,
    /// Where it claims to listen.
    pub address: Address,
    /// What it claims to speak.
    pub protocol: ProtocolRange,
    /// What it starts with.
    pub magic: [u8; 4],
    /// The cluster keys that it holds.
    pub keys: Vec<Vec<u8>>,
    /// Its last hello, as a frame.
    pub said: Bytes,
    /// What it says of itself, opaque to Formation.
    pub metadata: Bytes,
    nonce: u8,
    number: u64,
}

impl Peer {
    /// A peer that fits to the nodes of `config`'s cluster, and is newer than any of them.
    ///
    /// # Panics
    /// When the id or the address is none.
    pub fn of(config: &Config, id: &str, address: &str) -> Self {
        Self {
            cluster: config.cluster().clone(),
            electorate: config.electorate(),
            node: Node { id: NodeId::new(id).expect("a valid id"), incarnation: Incarnation(1 << 40) },
            address: Address::new(address).expect("a valid address"),
            protocol: PROTOCOL,
            magic: MAGIC,
            keys: Vec::new(),
            said: Bytes::new(),
            metadata: Bytes::new(),
            nonce: 0,
            number: 0,
        }
    }

    /// One that holds a cluster key.
    pub fn holding(mut self, key: &[u8]) -> Self {
        self.keys.push(key.into());
        self
    }

    /// Its first message.
    pub fn hello(&mut self) -> Bytes {
        self.nonce += 1;
        let mut extensions = BytesMut::new();
        if !self.keys.is_empty() {
            extensions.put_slice(&[1, 8 * self.keys.len() as u8]);
            self.keys.iter().for_each(|key| extensions.put_slice(&code(key, &[b"formation key id"])[..8]));
        }
        self.said = Message::Hello(Hello {
            magic: self.magic,
            protocol: self.protocol,
            cluster: self.cluster.clone(),
            electorate: self.electorate,
            id: self.node.id.clone(),
            incarnation: self.node.incarnation,
            address: self.address.clone(),
            nonce: [self.nonce; 16],
            extensions: extensions.freeze(),
        })
        .to_frame();
        self.said.clone()
    }

    /// Its proof that it holds its first key, on a connection that it has dialed and on which it was answered by `other`.
    pub fn proof_dialing(&self, other: &Message) -> Message {
        proof(code(&self.keys[0], &[b"formation proof: dialing", &self.said, &other.to_frame()]))
    }

    /// The same on one that was dialed by who said `other`.
    pub fn proof_accepting(&self, other: &Message) -> Message {
        proof(code(&self.keys[0], &[b"formation proof: accepting", &other.to_frame(), &self.said]))
    }

    /// What it says of itself: a new number each time.
    pub fn status(&mut self, term: u64, role: Role, view_id: ViewId) -> Bytes {
        self.number += 1;
        Message::Status(StatusReport {
            number: self.number,
            term: Term(term),
            role,
            abstains: false,
            promise: None,
            view_id,
            metadata: self.metadata.clone(),
        })
        .to_frame()
    }

    /// It seeks, and has never been a member.
    pub fn seeking(&mut self) -> Bytes {
        self.status(0, Role::Joining, ViewId::default())
    }

    /// It is the master.
    pub fn master(&mut self, term: u64) -> Bytes {
        self.status(term, Role::Master, ViewId { term: Term(term), version: 1 })
    }

    /// It admits a seeker.
    pub fn accepted(term: u64) -> Bytes {
        Message::JoinResponse(JoinResponse::Accepted { term: Term(term) }).to_frame()
    }

    /// A whole view in one page.
    pub fn page(view_id: ViewId, members: Vec<Member>) -> Bytes {
        Message::MembersUpdate(MembersUpdate::Page { view_id, index: 0, last: true, members }).to_frame()
    }

    /// It asks for a vote.
    pub fn vote_request(term: u64, lease: Duration) -> Bytes {
        Message::VoteRequest(VoteRequest { term: Term(term), number: 1, lease }).to_frame()
    }

    /// It grants what was asked.
    pub fn vote(asked: &VoteRequest) -> Bytes {
        Message::Vote(Vote { term: asked.term, number: asked.number, granted: true }).to_frame()
    }

    /// The master beats, with a lease of a second.
    pub fn heartbeat(term: u64, number: u64) -> Bytes {
        Message::Heartbeat(Heartbeat { term: Term(term), number, lease: Duration::from_secs(1) }).to_frame()
    }

    /// It as a member.
    pub fn member(&self) -> Member {
        member(self.node.clone(), self.address.clone())
    }
}

fn proof(mac: [u8; 32]) -> Message {
    Message::Proof(Proof { mac })
}

/// As PROTOCOL.md says it, and not as the core computes it.
fn code(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length will do");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// A member that answers, without metadata.
pub(crate) fn member(node: Node, address: Address) -> Member {
    Member { node, address, state: MemberState::Active, metadata: Bytes::new() }
}

/// Takes the whole frames out of a stream.
///
/// # Panics
/// When a frame is no message.
pub fn messages(stream: &mut BytesMut) -> Vec<Message> {
    let mut out = Vec::new();
    while let Some(prefix) = stream.first_chunk::<4>() {
        let body = u32::from_be_bytes(*prefix) as usize;
        if stream.len() < 4 + body {
            break;
        }
        let frame = stream.split_to(4 + body);
        out.push(Message::decode(&frame[4..]).expect("nodes send only messages"));
    }
    out
}
