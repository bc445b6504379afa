//! Messages that are well formed, and true or not.

use std::time::Duration;

use arbitrary::Arbitrary;
use bytes::Bytes;
use formation_core::{
    Address, Change, ClusterName, Epoch, Incarnation, Member, MemberState, Node, NodeId, RejectReason, RemovalReason,
    Term, message, message::Message,
};

use crate::host::config;

/// What a peer says. Small numbers, so that the fuzzer finds those that matter.
#[derive(Arbitrary, Clone, Debug)]
pub enum Say {
    /// The first word, by one of a few nodes, the node under test among them.
    Hello {
        /// Who says it.
        who: u8,
        /// In which of its runs.
        incarnation: u8,
    },
    /// A refusal.
    Rejected(bool),
    /// What the peer does.
    Status {
        /// Its number.
        number: u8,
        /// The peer's term.
        term: u8,
        /// Its role.
        role: Part,
        /// Whether it is held.
        held: bool,
        /// To whom it is bound.
        promise: Option<u8>,
        /// The view it holds.
        version: u8,
    },
    /// An answer to a seeker.
    JoinResponse(bool, u8),
    /// A page of a snapshot.
    Page {
        /// The view's epoch.
        epoch: (u8, u8),
        /// The page's place.
        index: u8,
        /// Whether it is the last one.
        last: bool,
        /// Who is in it.
        members: Vec<u8>,
    },
    /// A delta.
    Delta {
        /// The view it applies to.
        base: (u8, u8),
        /// The view it makes.
        epoch: (u8, u8),
        /// Who comes or goes.
        changes: Vec<(bool, u8)>,
    },
    /// A candidate's question.
    VoteRequest(u8, u8, u16),
    /// An answer to it.
    Vote(u8, u8, bool),
    /// A candidate gives up.
    Release(u8),
    /// A master lives.
    Heartbeat(u8, u8, u16),
    /// An answer to it.
    HeartbeatAck(u8, u8, (u8, u8), bool),
    /// Nothing.
    Ping,
    /// A member goes.
    Leave,
    /// A master goes.
    Resign(u8),
    /// Anything else.
    Raw(Vec<u8>),
}

/// A role.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Part {
    /// Without a master.
    Seeking,
    /// A candidate.
    Standing,
    /// Following somebody.
    Following(u8),
    /// The master.
    Master,
    /// On its way out.
    Leaving,
}

/// The nodes there are: two other voters, the node under test, and one that is no voter.
fn name(who: u8) -> &'static str {
    ["a", "c", "b", "d"][usize::from(who % 4)]
}

fn node(who: u8, incarnation: u8) -> Node {
    let id = NodeId::new(name(who)).expect("a valid id");
    Node { id, incarnation: Incarnation(u64::from(incarnation)) }
}

fn address(who: u8) -> Address {
    Address::new(format!("{}:1", name(who))).expect("a valid address")
}

fn member(who: u8) -> Member {
    Member { node: node(who, 1), address: address(who), state: MemberState::Active, metadata: Bytes::new() }
}

fn term(term: u8) -> Term {
    Term(u64::from(term))
}

fn epoch((of, version): (u8, u8)) -> Epoch {
    Epoch { term: term(of), version: u64::from(version) }
}

fn lease(millis: u16) -> Duration {
    Duration::from_millis(u64::from(millis))
}

/// A true word of greeting.
pub(crate) fn hello(who: u8, incarnation: u8) -> Message {
    let Node { id, incarnation } = node(who, incarnation);
    Message::Hello(message::Hello {
        magic: message::MAGIC,
        protocol: message::PROTOCOL,
        cluster: ClusterName::new("fuzz").expect("a valid name"),
        electorate: config().electorate(),
        id,
        incarnation,
        address: address(who),
        nonce: [who; 16],
        extensions: Bytes::new(),
    })
}

impl Say {
    /// Its bytes on the wire.
    pub fn bytes(&self) -> Bytes {
        let message = match *self {
            Self::Hello { who, incarnation } => hello(who, incarnation),
            Self::Rejected(permanent) => {
                let reason = if permanent { RejectReason::Superseded } else { RejectReason::ElectorateMismatch };
                Message::Rejected(message::Rejected { reason })
            }
            Self::Status { number, term: of, role, held, promise, version } => Message::Status(message::Status {
                number: u64::from(number),
                term: term(of),
                role: match role {
                    Part::Seeking => message::Role::Seeking,
                    Part::Standing => message::Role::Standing,
                    Part::Following(who) => message::Role::Following { master: node(who, 1), address: address(who) },
                    Part::Master => message::Role::Master,
                    Part::Leaving => message::Role::Leaving,
                },
                held,
                promise: promise.map(|who| node(who, 1)),
                epoch: epoch((of, version)),
                metadata: Bytes::new(),
            }),
            Self::JoinResponse(true, of) => Message::JoinResponse(message::JoinResponse::Accepted { term: term(of) }),
            Self::JoinResponse(false, of) => Message::JoinResponse(message::JoinResponse::Rejected {
                term: term(of),
                reason: RejectReason::ClusterFull,
            }),
            Self::Page { epoch: of, index, last, ref members } => {
                Message::MembersUpdate(message::MembersUpdate::Page {
                    epoch: epoch(of),
                    index: u32::from(index),
                    last,
                    members: members.iter().map(|who| member(*who)).collect(),
                })
            }
            Self::Delta { base, epoch: of, ref changes } => {
                let changes = changes.iter().map(|&(upsert, who)| match upsert {
                    true => Change::Upsert(member(who)),
                    false => Change::Remove { id: node(who, 1).id, reason: RemovalReason::Down },
                });
                Message::MembersUpdate(message::MembersUpdate::Delta {
                    base_by: None,
                    base: epoch(base),
                    epoch: epoch(of),
                    changes: changes.collect(),
                })
            }
            Self::VoteRequest(of, number, millis) => Message::VoteRequest(message::VoteRequest {
                term: term(of),
                number: u64::from(number),
                lease: lease(millis),
            }),
            Self::Vote(of, number, granted) => {
                Message::Vote(message::Vote { term: term(of), number: u64::from(number), granted })
            }
            Self::Release(of) => Message::Release(message::Release { term: term(of) }),
            Self::Heartbeat(of, number, millis) => Message::Heartbeat(message::Heartbeat {
                term: term(of),
                number: u64::from(number),
                lease: lease(millis),
            }),
            Self::HeartbeatAck(of, number, held, confirms) => Message::HeartbeatAck(message::HeartbeatAck {
                term: term(of),
                number: u64::from(number),
                epoch: epoch(held),
                confirms,
            }),
            Self::Ping => Message::Ping,
            Self::Leave => Message::Leave,
            Self::Resign(of) => Message::Resign(message::Resign { term: term(of) }),
            Self::Raw(ref bytes) => return Bytes::copy_from_slice(bytes),
        };
        message.to_frame()
    }
}
