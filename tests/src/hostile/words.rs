//! Every message, with fields that a hostile peer draws from what it knows.

use std::time::Duration;

use bytes::Bytes;
use formation_core::{
    Change, Incarnation, Member, Node, NodeId, RejectReason, RemovalReason, Term, ViewDigest, ViewId,
    message::{
        Heartbeat, HeartbeatAck, Hello, Holder, JoinResponse, MAGIC, MembersUpdate, Message, PROTOCOL, Proof,
        ProtocolRange, Rejected, Release, Resign, Role, StatusReport, Vote, VoteRequest, Voucher,
    },
};

use super::{
    Habits,
    dice::Dice,
    knowledge::{Identity, Knowledge},
};

/// Draws messages for one connection.
pub(crate) struct Words<'a> {
    pub(crate) dice: &'a mut Dice,
    pub(crate) known: &'a Knowledge,
    /// Which messages it sends at all: those of members, and all others.
    pub(crate) habits: [u64; 2],
    /// The identity that it claims on the connection.
    pub(crate) claim: &'a Identity,
    /// The node at the other end, once it has sent its `Hello`.
    pub(crate) peer: Option<&'a NodeId>,
    /// The number of its last status on the connection.
    pub(crate) number: &'a mut u64,
}

type Kind = fn(&mut Words<'_>) -> Message;

/// The messages that any member may send (H3). The frequent ones are there twice.
const OF_MEMBERS: &[Kind] = &[
    |words| words.status(),
    |words| words.status(),
    |words| words.ack(),
    |words| words.ack(),
    |words| words.rejected(),
    |words| words.ping(),
    |words| Message::Voucher(Voucher { nonce: words.nonce() }),
];

/// All other messages.
const OTHERS: &[Kind] = &[
    |words| words.hello(),
    |words| words.join_response(),
    |words| words.members_update(),
    |words| words.vote_request(),
    |words| words.vote(),
    |words| words.release(),
    |words| words.heartbeat(),
    |words| words.leave_ack(),
    |words| words.resign(),
    |words| words.proof(),
];

const REASONS: &[RejectReason] = &[
    RejectReason::Superseded,
    RejectReason::IdInUse,
    RejectReason::AddressInUse,
    RejectReason::WrongCluster,
    RejectReason::NoCommonProtocol,
    RejectReason::ElectorateMismatch,
    RejectReason::ClusterFull,
    RejectReason::MetadataTooLong,
    RejectReason::KeyMismatch,
    RejectReason::BadProof,
];

impl Words<'_> {
    /// Any message. From a peer that claims to be no voter, most are such that the link survives them.
    pub(crate) fn message(&mut self) -> Message {
        let is_voter = self.known.seeds.contains(&self.claim.address);
        let others = if is_voter || self.dice.one_in(8) { OTHERS } else { &[] };
        let habitual = |(kinds, habits): (&[Kind], u64)| {
            let kept = |(number, kind): (usize, &Kind)| Habits::has(habits, number).then_some(*kind);
            kinds.iter().enumerate().filter_map(kept).collect::<Vec<_>>()
        };
        let kinds = [(OF_MEMBERS, self.habits[0]), (others, self.habits[1])].map(habitual).concat();
        match self.dice.pick(&kinds) {
            Some(kind) => kind(self),
            None => self.plain_status(),
        }
    }

    /// A `Hello` for the identity that it claims. The nonce is mostly new, as it must be.
    pub(crate) fn hello(&mut self) -> Message {
        let nonce = if self.dice.one_in(10) { self.nonce() } else { self.new_nonce() };
        let protocol = if self.dice.one_in(30) { ProtocolRange { min: 2, max: 9 } } else { PROTOCOL };
        Message::Hello(Hello {
            magic: MAGIC,
            protocol,
            cluster: self.known.cluster.clone(),
            electorate: self.known.electorate,
            id: self.claim.node.id.clone(),
            incarnation: self.claim.node.incarnation,
            address: self.claim.address.clone(),
            nonce,
            extensions: Bytes::new(),
        })
    }

    fn new_nonce(&mut self) -> [u8; 16] {
        let [low, high] = [self.dice.draw(), self.dice.draw()].map(u64::to_be_bytes);
        std::array::from_fn(|at| if at < 8 { low[at] } else { high[at - 8] })
    }

    /// A nonce that it has received: mostly the last one from the node at the other end, on whatever connection.
    fn nonce(&mut self) -> [u8; 16] {
        let of_peer = |(id, _): &&(NodeId, [u8; 16])| Some(id) == self.peer;
        let last = self.known.nonces.iter().rev().find(of_peer).cloned();
        let (front, _) = self.known.nonces.as_slices();
        let nonce = match last {
            Some(last) if !self.dice.one_in(4) => Some(last),
            _ => self.dice.pick(front).cloned(),
        };
        match nonce {
            Some((_, nonce)) => nonce,
            None => self.new_nonce(),
        }
    }

    /// A status as an honest node would send it.
    pub(crate) fn plain_status(&mut self) -> Message {
        *self.number = self.number.saturating_add(1);
        Message::Status(StatusReport {
            number: *self.number,
            term: self.known.term,
            role: Role::Joining,
            abstains: false,
            promise: None,
            view_id: ViewId::default(),
            metadata: Bytes::new(),
            electorate: Default::default(),
        })
    }

    fn status(&mut self) -> Message {
        *self.number = match self.dice.below(6) {
            0..=3 => self.number.saturating_add(1),
            4 => u64::MAX,
            _ => self.dice.draw(),
        };
        let role = self.role();
        Message::Status(StatusReport {
            number: *self.number,
            term: self.term(),
            role,
            abstains: self.dice.one_in(5),
            promise: if self.dice.one_in(3) { Some(self.node()) } else { None },
            view_id: self.view_id(),
            metadata: Bytes::from(vec![7; [0, 1, 512, 513, 5_000][self.dice.below(5)]]),
            electorate: Default::default(),
        })
    }

    fn role(&mut self) -> Role {
        let is_voter = self.known.seeds.contains(&self.claim.address);
        let role = if is_voter || self.dice.one_in(8) { self.dice.below(6) } else { self.dice.below(3) };
        match role {
            0 => Role::Joining,
            1 => Role::Leaving,
            2 => {
                let Identity { node, address } = self.identity();
                Role::Follower { master: node, address }
            }
            3 => Role::Candidate,
            4 => Role::Master,
            _ => Role::Solo { members: [1, 3, u32::MAX][self.dice.below(3)] },
        }
    }

    /// A node that it knows, a node that does not exist, or the node that it claims to be.
    fn identity(&mut self) -> Identity {
        let known: Vec<_> = self.known.nodes.values().collect();
        match self.dice.below(4) {
            0 => self.claim.clone(),
            1 => ghost(self.dice, &self.claim.address),
            _ => self.dice.pick(&known).map_or_else(|| self.claim.clone(), |known| (*known).clone()),
        }
    }

    fn node(&mut self) -> Node {
        let Node { id, incarnation } = self.identity().node;
        let incarnation = match self.dice.below(6) {
            0 => Incarnation(u64::MAX),
            1 => Incarnation(incarnation.0.saturating_add(1)),
            _ => incarnation,
        };
        Node { id, incarnation }
    }

    /// A term around those that it knows, or far from them.
    pub(crate) fn term(&mut self) -> Term {
        let jump = [0, 0, 0, 1, 1, 2, 1 << 10, (1 << 10) + 1, (1 << 32) - 1, 1 << 32, (1 << 32) + 1];
        match self.dice.below(14) {
            11 => Term(u64::MAX),
            12 => Term(self.known.term.0.saturating_sub(1)),
            13 => Term(self.dice.draw()),
            at => Term(self.known.term.0.saturating_add(jump[at])),
        }
    }

    fn view_id(&mut self) -> ViewId {
        match self.dice.below(5) {
            0 => self.known.view_id,
            1 => ViewId { term: self.known.view_id.term, version: u64::MAX },
            2 => ViewId { term: self.term(), version: self.dice.draw() },
            3 => ViewId { term: self.known.term, version: self.known.view_id.version.saturating_add(1) },
            _ => ViewId::default(),
        }
    }

    fn lease(&mut self) -> Duration {
        [Duration::from_secs(1), Duration::ZERO, Duration::from_secs(100), Duration::MAX][self.dice.below(4)]
    }

    /// The number of a heartbeat or a request: one that it knows, a later one, or any.
    fn repeated(&mut self, known: Option<u64>) -> u64 {
        let known = known.unwrap_or_default();
        match self.dice.below(6) {
            0..=2 => known,
            3 => known.saturating_add(1 + self.dice.below(20) as u64),
            4 => u64::MAX,
            _ => self.dice.draw(),
        }
    }

    fn members(&mut self) -> Vec<Member> {
        let mut members = self.known.view.clone();
        for _ in 0..self.dice.below(3) {
            let Identity { node, address } = ghost(self.dice, &self.claim.address);
            members.push(Member::new(node, address));
        }
        if !members.is_empty() && self.dice.one_in(2) {
            members.remove(self.dice.below(members.len()));
        }
        if self.dice.one_in(8) {
            members.reverse();
        } else {
            members.sort_by(|a, b| a.node.id.cmp(&b.node.id));
            members.dedup_by(|a, b| a.node.id == b.node.id);
        }
        members
    }

    fn members_update(&mut self) -> Message {
        let view_id = self.view_id();
        if self.dice.one_in(2) {
            return self.page(view_id);
        }
        let changes = self.members().into_iter().map(|member| match self.dice.below(3) {
            0 => Change::Remove { id: member.node.id, reason: RemovalReason::Left },
            1 => Change::Remove { id: member.node.id, reason: RemovalReason::Down },
            _ => Change::Upsert(member),
        });
        let changes = changes.collect();
        let base_digest = if self.dice.one_in(4) { Some(ViewDigest([7; 16])) } else { None };
        Message::MembersUpdate(MembersUpdate::Delta { base: self.known.view_id, base_digest, view_id, changes })
    }

    /// A whole view, with ghosts or without somebody.
    pub(crate) fn page(&mut self, view_id: ViewId) -> Message {
        let members = self.members();
        let (index, last) = if self.dice.one_in(6) { (self.dice.below(3) as u32, false) } else { (0, true) };
        Message::MembersUpdate(MembersUpdate::Page { view_id, index, last, members })
    }

    pub(crate) fn rejected(&mut self) -> Message {
        // Mostly one of those that may end a node.
        let reasons = if self.dice.one_in(3) { REASONS } else { &REASONS[..3] };
        let reason = reasons[self.dice.below(reasons.len())];
        let holder = if self.dice.one_in(4) {
            None
        } else {
            let Identity { address, .. } = self.identity();
            Some(Holder { node: self.node(), address })
        };
        Message::Rejected(Rejected { reason, holder })
    }

    fn join_response(&mut self) -> Message {
        let term = self.term();
        Message::JoinResponse(match self.dice.below(2) {
            0 => JoinResponse::Accepted { term },
            _ => JoinResponse::Rejected { term, reason: REASONS[self.dice.below(REASONS.len())] },
        })
    }

    fn vote_request(&mut self) -> Message {
        Message::VoteRequest(VoteRequest {
            term: self.term(),
            number: self.repeated(Some(1)),
            lease: self.lease(),
            electorate: Default::default(),
        })
    }

    /// An answer to one of the requests that it has received.
    pub(crate) fn vote(&mut self) -> Message {
        let request = self.known.requests.back().copied();
        let number = self.repeated(request.map(|request| request.number));
        let term = match request {
            Some(request) if !self.dice.one_in(4) => request.term,
            _ => self.term(),
        };
        Message::Vote(Vote { term, number, granted: !self.dice.one_in(4) })
    }

    fn release(&mut self) -> Message {
        Message::Release(Release { term: self.term() })
    }

    pub(crate) fn heartbeat(&mut self) -> Message {
        let last = self.known.heartbeats.back().map(|heartbeat| heartbeat.number);
        Message::Heartbeat(Heartbeat { term: self.term(), number: self.repeated(last), lease: self.lease() })
    }

    /// An answer to a heartbeat that it may never have received.
    pub(crate) fn ack(&mut self) -> Message {
        let last = self.known.heartbeats.back().map(|heartbeat| heartbeat.number);
        Message::HeartbeatAck(HeartbeatAck {
            term: self.term(),
            number: self.repeated(last),
            view_id: self.view_id(),
            confirms: self.dice.one_in(2),
            electorate: Default::default(),
        })
    }

    fn ping(&mut self) -> Message {
        Message::Ping
    }

    fn leave_ack(&mut self) -> Message {
        Message::LeaveAck
    }

    fn resign(&mut self) -> Message {
        Message::Resign(Resign { term: self.term() })
    }

    fn proof(&mut self) -> Message {
        Message::Proof(Proof { mac: [self.dice.below(256) as u8; 32] })
    }
}

/// A node that does not exist.
pub(crate) fn ghost(dice: &mut Dice, address: &formation_core::Address) -> Identity {
    let id = NodeId::new(format!("ghost{}", dice.below(40))).expect("a valid id");
    let incarnation = Incarnation([1, 1 << 40, u64::MAX][dice.below(3)]);
    let address = match dice.below(2) {
        0 => address.clone(),
        _ => formation_core::Address::new(format!("{id}:1")).expect("a valid address"),
    };
    Identity { node: Node { id, incarnation }, address }
}
