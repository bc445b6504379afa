//! A peer that a test plays: it builds the bytes of each message.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use formation_core::{
    Address, ClusterName, Config, ElectorateDigest, Incarnation, Member, Node, NodeId, Term, ViewId,
    message::{
        Heartbeat, Hello, JoinResponse, MAGIC, MembersUpdate, Message, PROTOCOL, Proof, ProtocolRange, Role,
        StatusReport, Vote, VoteRequest,
    },
};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// A peer that a test plays.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The cluster that it claims to belong to.
    pub cluster: ClusterName,
    /// The digest of the seed list that it claims to have.
    pub electorate: ElectorateDigest,
    /// The id and incarnation that it claims.
    pub node: Node,
    /// The address that it claims.
    pub address: Address,
    /// The protocol versions that it claims to support.
    pub protocol: ProtocolRange,
    /// The magic at the start of its `Hello`.
    pub magic: [u8; 4],
    /// The cluster keys that it holds.
    pub keys: Vec<Vec<u8>>,
    /// The frame of its last `Hello`.
    pub last_hello: Bytes,
    /// The metadata in its status reports.
    pub metadata: Bytes,
    /// Further extensions of its `Hello`.
    pub extensions: Bytes,
    nonce: u8,
    number: u64,
}

impl Peer {
    /// A peer that matches the cluster of `config`. Its incarnation is newer than that of any node.
    ///
    /// # Panics
    /// If the id or the address is invalid.
    pub fn of(config: &Config, id: &str, address: &str) -> Self {
        Self {
            cluster: config.cluster().clone(),
            electorate: config.electorate(),
            node: Node { id: NodeId::new(id).expect("a valid id"), incarnation: Incarnation(1 << 40) },
            address: Address::new(address).expect("a valid address"),
            protocol: PROTOCOL,
            magic: MAGIC,
            keys: Vec::new(),
            last_hello: Bytes::new(),
            metadata: Bytes::new(),
            extensions: Bytes::new(),
            nonce: 0,
            number: 0,
        }
    }

    /// The same peer with one more cluster key.
    pub fn holding(mut self, key: &[u8]) -> Self {
        self.keys.push(key.into());
        self
    }

    /// Its `Hello`, with a new nonce each time.
    pub fn hello(&mut self) -> Bytes {
        self.nonce += 1;
        let mut extensions = BytesMut::new();
        if !self.keys.is_empty() {
            extensions.put_slice(&[1, 8 * self.keys.len() as u8]);
            self.keys.iter().for_each(|key| extensions.put_slice(&hmac_of(key, &[b"formation key id"])[..8]));
        }
        extensions.extend_from_slice(&self.extensions);
        self.last_hello = Message::Hello(Hello {
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
        self.last_hello.clone()
    }

    /// The `Hello` with which it opens a stream. `link`: the nonce of the accepting node's `Hello` on a link.
    pub fn stream_hello(&mut self, name: &[u8], link: Option<[u8; 16]>) -> Bytes {
        let mut extensions = BytesMut::new();
        extensions.put_slice(&[4, name.len() as u8]);
        extensions.put_slice(name);
        if let Some(link) = link {
            extensions.put_slice(&[5, 16]);
            extensions.put_slice(&hmac_of(&link, &[b"formation link tag", &[self.nonce + 1; 16]])[..16]);
        }
        self.extensions = extensions.freeze();
        let hello = self.hello();
        self.extensions = Bytes::new();
        hello
    }

    /// The proof for its first key, on a connection that it dialed. `other` is the `Hello` of the accepting node.
    pub fn proof_dialing(&self, other: &Message) -> Message {
        proof(hmac_of(&self.keys[0], &[b"formation proof: dialing", &self.last_hello, &other.to_frame()]))
    }

    /// The proof for its first key, on a connection that it accepted. `other` is the `Hello` of the dialing node.
    pub fn proof_accepting(&self, other: &Message) -> Message {
        proof(hmac_of(&self.keys[0], &[b"formation proof: accepting", &other.to_frame(), &self.last_hello]))
    }

    /// Its status, with a new number each time.
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
            electorate: Default::default(),
        })
        .to_frame()
    }

    /// Its next status has this number.
    pub fn skip_to_status(&mut self, number: u64) {
        self.number = number - 1;
    }

    /// The status of a joining node that has never been a member.
    pub fn joining(&mut self) -> Bytes {
        self.status(0, Role::Joining, ViewId::default())
    }

    /// The status of the master of `term`.
    pub fn master(&mut self, term: u64) -> Bytes {
        self.status(term, Role::Master, ViewId { term: Term(term), version: 1 })
    }

    /// The response that admits a joining node.
    pub fn accepted(term: u64) -> Bytes {
        Message::JoinResponse(JoinResponse::Accepted { term: Term(term) }).to_frame()
    }

    /// A snapshot of one page.
    pub fn page(view_id: ViewId, members: Vec<Member>) -> Bytes {
        Message::MembersUpdate(MembersUpdate::Page { view_id, index: 0, last: true, members }).to_frame()
    }

    /// A request for a vote.
    pub fn vote_request(term: u64, lease: Duration) -> Bytes {
        Message::VoteRequest(VoteRequest { term: Term(term), number: 1, lease, electorate: Default::default() })
            .to_frame()
    }

    /// The vote that grants a request.
    pub fn vote(request: &VoteRequest) -> Bytes {
        Message::Vote(Vote { term: request.term, number: request.number, granted: true }).to_frame()
    }

    /// A heartbeat with a lease of one second.
    pub fn heartbeat(term: u64, number: u64) -> Bytes {
        Message::Heartbeat(Heartbeat { term: Term(term), number, lease: Duration::from_secs(1) }).to_frame()
    }

    /// The entry of this peer in a view.
    pub fn member(&self) -> Member {
        member(self.node.clone(), self.address.clone())
    }
}

fn proof(mac: [u8; 32]) -> Message {
    Message::Proof(Proof { mac })
}

/// Computed as PROTOCOL.md defines it, without the code of the core.
fn hmac_of(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// An active member without metadata.
pub(crate) fn member(node: Node, address: Address) -> Member {
    Member::new(node, address)
}

/// Takes the whole frames out of a stream and decodes them.
///
/// # Panics
/// If a frame is not a message.
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
