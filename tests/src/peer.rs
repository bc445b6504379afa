//! What a test says when it plays a node: bytes built message by message.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use formation_core::{
    Address, ClusterName, Config, ElectorateDigest, Epoch, Incarnation, Member, MemberState, Node, NodeId, Term,
    message::{
        Heartbeat, Hello, JoinResponse, MAGIC, MembersUpdate, Message, PROTOCOL, ProtocolRange, Role, Status, Vote,
        VoteRequest,
    },
};

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
            metadata: Bytes::new(),
            nonce: 0,
            number: 0,
        }
    }

    /// Its first message.
    pub fn hello(&mut self) -> Bytes {
        self.nonce += 1;
        Message::Hello(Hello {
            magic: self.magic,
            protocol: self.protocol,
            cluster: self.cluster.clone(),
            electorate: self.electorate,
            id: self.node.id.clone(),
            incarnation: self.node.incarnation,
            address: self.address.clone(),
            nonce: [self.nonce; 16],
            extensions: Bytes::new(),
        })
        .to_frame()
    }

    /// What it says of itself: a new number each time.
    pub fn status(&mut self, term: u64, role: Role, epoch: Epoch) -> Bytes {
        self.number += 1;
        Message::Status(Status {
            number: self.number,
            term: Term(term),
            role,
            held: false,
            promise: None,
            epoch,
            metadata: self.metadata.clone(),
        })
        .to_frame()
    }

    /// It seeks, and has never been a member.
    pub fn seeking(&mut self) -> Bytes {
        self.status(0, Role::Seeking, Epoch::default())
    }

    /// It is the master.
    pub fn master(&mut self, term: u64) -> Bytes {
        self.status(term, Role::Master, Epoch { term: Term(term), version: 1 })
    }

    /// It admits a seeker.
    pub fn accepted(term: u64) -> Bytes {
        Message::JoinResponse(JoinResponse::Accepted { term: Term(term) }).to_frame()
    }

    /// A whole view in one page.
    pub fn page(epoch: Epoch, members: Vec<Member>) -> Bytes {
        Message::MembersUpdate(MembersUpdate::Page { epoch, index: 0, last: true, members }).to_frame()
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
