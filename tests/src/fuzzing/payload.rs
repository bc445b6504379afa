//! Messages that are well formed, and true or not.

use std::time::Duration;

use arbitrary::Arbitrary;
use bytes::{BufMut, Bytes, BytesMut};
use formation_core::{
    Address, Change, ClusterName, Incarnation, Member, MemberState, Node, NodeId, RejectReason, RemovalReason, Term,
    ViewId, message, message::Message,
};

use super::{
    encode::{Spell, spelled},
    scene::{OWN, Place, Scene, config},
    transcript::{self, Secret, Talk},
};
use crate::Net;

/// What a peer says. Small numbers, so that the fuzzer finds those that matter.
#[derive(Arbitrary, Clone, Debug)]
pub(super) enum Say {
    /// The first word, true as long as the peer stays where it belongs.
    Hello(Someone),
    /// The first word with something wrong in it, or of another version.
    OddHello(Someone, Oddity),
    /// A refusal.
    Rejected(u8),
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
        promise: Option<Someone>,
        /// The view it holds.
        view_id: (u8, u8),
        /// How long its metadata is.
        metadata: u8,
    },
    /// A seeker is a member now.
    Admitted(u8),
    /// A seeker is none.
    TurnedAway(u8, u8),
    /// A page of a snapshot.
    Page {
        /// The view's view id.
        view_id: (u8, u8),
        /// The page's place.
        index: u8,
        /// Whether it is the last one.
        last: bool,
        /// Who is in it.
        members: Vec<Entry>,
    },
    /// A delta.
    Delta {
        /// The view it applies to.
        base: (u8, u8),
        /// Who wrote that.
        base_by: Option<Someone>,
        /// The view it makes.
        view_id: (u8, u8),
        /// Who comes or goes.
        changes: Vec<Difference>,
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
    LeaveAck,
    /// A master goes.
    Resign(u8),
    /// A message of a later version.
    Unknown(u8, Vec<u8>),
    /// A frame of anything.
    Frame(Vec<u8>),
    /// The start of something that never comes to its end, or only with what is said next.
    Start(Box<Say>, u8),
    /// So much of a frame that is said to be so long.
    Long(u16, u16),
    /// With one bit that is not what it was.
    Flipped(Box<Say>, u16),
    /// Anything else.
    Raw(Vec<u8>),
    /// The first word of somebody who holds these cluster keys.
    Keyed(Someone, Vec<Secret>),
    /// A proof that the peer holds this one; right, unless it comes out of its turn.
    Proof(Secret),
    /// What the node has said last.
    Echo,
    /// What the node wants to hear from somebody who holds this view: a vote, or that its heartbeat has come.
    Answer(u8, u8),
    /// A refusal that names who has what this node claims.
    Refused(u8, Someone),
}

spelled!(enum Say {
    Hello(someone),
    OddHello(someone, oddity),
    Rejected(why),
    Status { number, term, role, held, promise, view_id, metadata },
    Admitted(term),
    TurnedAway(term, why),
    Page { view_id, index, last, members },
    Delta { base, base_by, view_id, changes },
    VoteRequest(term, number, lease),
    Vote(term, number, granted),
    Release(term),
    Heartbeat(term, number, lease),
    HeartbeatAck(term, number, view_id, confirms),
    Ping,
    LeaveAck,
    Resign(term),
    Unknown(variant, rest),
    Frame(body),
    Start(whole, len),
    Long(len, come),
    Flipped(right, bit),
    Raw(bytes),
    Keyed(someone, secrets),
    Proof(secret),
    Echo,
    Answer(term, version),
    Refused(why, holder),
});

/// A node, or somebody who claims to be one.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) struct Someone {
    /// Its id, and its address unless it is elsewhere.
    pub(super) who: u8,
    /// Another's address.
    pub(super) elsewhere: Option<u8>,
    /// In which of its runs.
    pub(super) incarnation: u8,
}

spelled!(struct Someone { who, elsewhere, incarnation });

/// What is odd in a first word.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Oddity {
    /// Its first bytes.
    Magic,
    /// Its protocol versions.
    Protocol(u8, u8),
    /// Its cluster.
    Cluster,
    /// Its seed list, which is right to a node that is its own only seed.
    Electorate,
    /// More than this version knows, which is no fault.
    Extensions(u8),
    /// A nonce that may be one of the node under test.
    Nonce([u8; 16]),
}

spelled!(
    enum Oddity {
        Magic,
        Protocol(min, max),
        Cluster,
        Electorate,
        Extensions(len),
        Nonce(nonce),
    }
);

/// A member.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) struct Entry(pub(super) Someone, pub(super) bool, pub(super) u8);

impl Spell for Entry {
    fn spell(&self, into: &mut Vec<u8>) {
        let Self(someone, suspect, metadata) = self;
        someone.spell(into);
        suspect.spell(into);
        metadata.spell(into);
    }
}

/// One part of a delta.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Difference {
    /// A member comes, or changes.
    Upsert(Entry),
    /// A member goes.
    Remove(u8, bool),
}

spelled!(
    enum Difference {
        Upsert(entry),
        Remove(who, left),
    }
);

/// A role.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Part {
    /// Without a master.
    Joining,
    /// A candidate.
    Candidate,
    /// Following somebody.
    Follower(Someone),
    /// The master.
    Master,
    /// On its way out.
    Leaving,
    /// The master of so many, without a quorum.
    Solo(u8),
}

spelled!(
    enum Part {
        Joining,
        Candidate,
        Follower(whom),
        Master,
        Leaving,
        Solo(members),
    }
);

/// Small numbers for most of them, and those at which counting might fail.
fn number(n: u8) -> u64 {
    match n {
        0..=127 => u64::from(n % 8),
        128..=239 => u64::from(n),
        240..=247 => 1 << (8 * (n - 240)).max(31),
        248..=255 => u64::MAX - u64::from(255 - n),
    }
}

fn index(who: u8) -> usize {
    // Two other voters first, the node under test, and three that are no voters.
    [0, 2, OWN, 3, 4, 5][usize::from(who % 6)]
}

fn id(who: u8) -> NodeId {
    NodeId::new(format!("n{}", index(who))).expect("a valid id")
}

fn address(who: u8) -> Address {
    Address::new(Net::address(index(who))).expect("a valid address")
}

/// An address, known or new.
pub(super) fn contact(who: u8) -> Address {
    Address::new(Net::address(usize::from(who % 16))).expect("a valid address")
}

impl Someone {
    pub(super) fn node(self) -> Node {
        Node { id: id(self.who), incarnation: Incarnation(number(self.incarnation)) }
    }

    fn address(self) -> Address {
        address(self.elsewhere.unwrap_or(self.who))
    }
}

fn member(Entry(someone, suspect, metadata): Entry) -> Member {
    let state = if suspect { MemberState::Suspect } else { MemberState::Active };
    Member { node: someone.node(), address: someone.address(), state, metadata: bytes(metadata) }
}

/// So many bytes; the last few numbers stand for some that fill a page of a snapshot, or are over the limit of metadata.
pub(super) fn bytes(len: u8) -> Bytes {
    let long = usize::from(len.saturating_sub(239)) * 200;
    vec![len; usize::from(len).max(long)].into()
}

fn term(of: u8) -> Term {
    Term(number(of))
}

fn view_id((of, version): (u8, u8)) -> ViewId {
    ViewId { term: term(of), version: number(version) }
}

fn lease(millis: u16) -> Duration {
    if millis == u16::MAX { Duration::MAX } else { Duration::from_millis(u64::from(millis)) }
}

fn reason(which: u8) -> RejectReason {
    let all = [
        RejectReason::WrongCluster,
        RejectReason::NoCommonProtocol,
        RejectReason::ElectorateMismatch,
        RejectReason::Superseded,
        RejectReason::IdInUse,
        RejectReason::AddressInUse,
        RejectReason::ClusterFull,
        RejectReason::MetadataTooLong,
        RejectReason::KeyMismatch,
        RejectReason::BadProof,
    ];
    all[usize::from(which) % all.len()]
}

/// A true word of greeting by another node.
pub(super) fn greeting(who: u8) -> Message {
    Message::Hello(hello(Someone { who, elsewhere: None, incarnation: 1 }))
}

fn hello(someone: Someone) -> message::Hello {
    let Node { id, incarnation } = someone.node();
    message::Hello {
        magic: message::MAGIC,
        protocol: message::PROTOCOL,
        cluster: config().cluster().clone(),
        electorate: config().electorate(),
        id,
        incarnation,
        address: someone.address(),
        nonce: [someone.who; 16],
        extensions: Bytes::new(),
    }
}

/// What a first word says of the keys that its speaker holds, behind something of a later version.
fn announcement(secrets: &[Secret]) -> Bytes {
    match Message::decode(&transcript::holder(&secrets[..secrets.len().min(31)]).hello()[4..]) {
        Ok(Message::Hello(hello)) => [&[9, 2, 0, 0], &hello.extensions[..]].concat().into(),
        said => panic!("not a hello: {said:?}"),
    }
}

fn odd(mut hello: message::Hello, oddity: Oddity) -> message::Hello {
    match oddity {
        Oddity::Magic => hello.magic = *b"HTTP",
        Oddity::Protocol(min, max) => {
            hello.protocol = message::ProtocolRange { min: u16::from(min), max: u16::from(max) };
        }
        Oddity::Cluster => hello.cluster = ClusterName::new("another").expect("a valid name"),
        Oddity::Electorate => hello.electorate = Scene { place: Place::Single, ..Scene::of(0) }.config().electorate(),
        Oddity::Extensions(len) => hello.extensions = bytes(len),
        Oddity::Nonce(nonce) => hello.nonce = nonce,
    }
    hello
}

/// A body with its length in front.
pub(super) fn framed(body: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u32(body.len() as u32);
    frame.put_slice(body);
    frame.freeze()
}

impl Say {
    /// Its bytes on the wire, after all that was said there.
    pub(super) fn bytes(&self, talk: &Talk) -> Bytes {
        match *self {
            // Behind the newest variant of the first protocol.
            Self::Unknown(variant, ref rest) => framed(&[&[14 + variant % 100], &rest[..]].concat()),
            Self::Frame(ref body) => framed(body),
            Self::Start(ref whole, len) => {
                let mut start = whole.bytes(talk);
                start.truncate(usize::from(len));
                start
            }
            Self::Long(len, come) => {
                let mut start = BytesMut::new();
                // Every other number is about that of the longest frame.
                let size = |n: u16| if n.is_multiple_of(2) { 8_193 - n / 2 % 8 } else { n % 8_500 };
                start.put_u32(u32::from(size(len)));
                start.put_bytes(0, usize::from(size(come)));
                start.freeze()
            }
            Self::Flipped(ref right, bit) => {
                let mut wrong = BytesMut::from(right.bytes(talk));
                let bit = usize::from(bit) % (8 * wrong.len()).max(1);
                if let Some(byte) = wrong.get_mut(bit / 8) {
                    *byte ^= 1 << (bit % 8);
                }
                wrong.freeze()
            }
            Self::Raw(ref bytes) => Bytes::copy_from_slice(bytes),
            Self::Proof(secret) => talk.proof(secret).to_frame(),
            Self::Echo => talk.last(),
            Self::Answer(of, version) => talk.answer(view_id((of, version))).to_frame(),
            _ => self.message().to_frame(),
        }
    }

    fn message(&self) -> Message {
        match *self {
            Self::Hello(someone) => Message::Hello(hello(someone)),
            Self::OddHello(someone, oddity) => Message::Hello(odd(hello(someone), oddity)),
            Self::Keyed(someone, ref secrets) => {
                let mut keyed = hello(someone);
                keyed.extensions = announcement(secrets);
                Message::Hello(keyed)
            }
            Self::Refused(why, someone) => {
                let holder = message::Holder { node: someone.node(), address: someone.address() };
                Message::Rejected(message::Rejected { reason: reason(why), holder: Some(holder) })
            }
            Self::Rejected(why) => Message::Rejected(message::Rejected { reason: reason(why), holder: None }),
            Self::Status { number: count, term: of, role, held, promise, view_id: seen, metadata } => {
                Message::Status(message::StatusReport {
                    number: number(count),
                    term: term(of),
                    role: match role {
                        Part::Joining => message::Role::Joining,
                        Part::Candidate => message::Role::Candidate,
                        Part::Follower(whom) => {
                            message::Role::Follower { master: whom.node(), address: whom.address() }
                        }
                        Part::Master => message::Role::Master,
                        Part::Leaving => message::Role::Leaving,
                        Part::Solo(members) => message::Role::Solo { members: u32::from(members) },
                    },
                    abstains: held,
                    promise: promise.map(Someone::node),
                    view_id: view_id(seen),
                    metadata: bytes(metadata),
                })
            }
            Self::Admitted(of) => Message::JoinResponse(message::JoinResponse::Accepted { term: term(of) }),
            Self::TurnedAway(of, why) => {
                Message::JoinResponse(message::JoinResponse::Rejected { term: term(of), reason: reason(why) })
            }
            Self::Page { view_id: of, index, last, ref members } => {
                Message::MembersUpdate(message::MembersUpdate::Page {
                    view_id: view_id(of),
                    index: u32::from(index),
                    last,
                    members: members.iter().copied().map(member).collect(),
                })
            }
            Self::Delta { base, base_by, view_id: of, ref changes } => {
                let changes = changes.iter().map(|change| match *change {
                    Difference::Upsert(entry) => Change::Upsert(member(entry)),
                    Difference::Remove(who, left) => {
                        let reason = if left { RemovalReason::Left } else { RemovalReason::Down };
                        Change::Remove { id: id(who), reason }
                    }
                });
                Message::MembersUpdate(message::MembersUpdate::Delta {
                    base: view_id(base),
                    base_by: base_by.map(Someone::node),
                    view_id: view_id(of),
                    changes: changes.collect(),
                })
            }
            Self::VoteRequest(of, count, millis) => Message::VoteRequest(message::VoteRequest {
                term: term(of),
                number: number(count),
                lease: lease(millis),
            }),
            Self::Vote(of, count, granted) => {
                Message::Vote(message::Vote { term: term(of), number: number(count), granted })
            }
            Self::Release(of) => Message::Release(message::Release { term: term(of) }),
            Self::Heartbeat(of, count, millis) => {
                Message::Heartbeat(message::Heartbeat { term: term(of), number: number(count), lease: lease(millis) })
            }
            Self::HeartbeatAck(of, count, held, confirms) => Message::HeartbeatAck(message::HeartbeatAck {
                term: term(of),
                number: number(count),
                view_id: view_id(held),
                confirms,
            }),
            Self::LeaveAck => Message::LeaveAck,
            Self::Resign(of) => Message::Resign(message::Resign { term: term(of) }),
            // Those that are no message have bytes of their own.
            Self::Ping
            | Self::Unknown(..)
            | Self::Frame(_)
            | Self::Start(..)
            | Self::Long(..)
            | Self::Flipped(..)
            | Self::Raw(_)
            | Self::Proof(_)
            | Self::Echo
            | Self::Answer(..) => Message::Ping,
        }
    }
}
