//! The payloads that a peer sends: well-formed messages, true or false, and bytes that are not messages.

use std::time::Duration;

use arbitrary::Arbitrary;
use bytes::{BufMut, Bytes, BytesMut};
use formation_core::{
    Address, Change, ClusterName, Incarnation, Member, MemberState, Node, NodeId, RejectReason, RemovalReason, Term,
    ViewDigest, ViewId, message, message::Message,
};

use super::{
    encode::{Encode, impl_encode},
    scene::{OWN, Place, Scene, config},
    transcript::{self, Secret, Transcript},
};
use crate::Net;

/// A payload that a peer sends. The fields are small, so that a fuzzer finds the values that matter.
#[derive(Arbitrary, Clone, Debug)]
pub(super) enum Payload {
    /// A valid `Hello`, unless the identity has another node's address.
    Hello(Identity),
    /// A `Hello` with a flaw, or of another version.
    FlawedHello(Identity, HelloFlaw),
    /// A `Rejected` without a holder.
    Rejected(u8),
    /// A status.
    Status {
        /// Its number.
        number: u8,
        /// The peer's term.
        term: u8,
        /// The peer's role.
        role: PeerRole,
        /// Whether the peer abstains.
        abstains: bool,
        /// The node to which the peer is bound by a promise.
        promise: Option<Identity>,
        /// The view that the peer holds.
        view_id: (u8, u8),
        /// The length of the metadata.
        metadata: u8,
    },
    /// A `JoinResponse` that accepts.
    JoinAccepted(u8),
    /// A `JoinResponse` that rejects.
    JoinRejected(u8, u8),
    /// A page of a snapshot.
    Page {
        /// The view id.
        view_id: (u8, u8),
        /// The index of the page.
        index: u8,
        /// Whether it is the last page.
        last: bool,
        /// The members in it.
        members: Vec<MemberEntry>,
    },
    /// A delta.
    Delta {
        /// The id of the view to which it applies.
        base: (u8, u8),
        /// Whether the digest is that of another view. The identity does not matter.
        other_base: Option<Identity>,
        /// The id of the resulting view.
        view_id: (u8, u8),
        /// The changes.
        changes: Vec<MemberChange>,
    },
    /// A vote request: term, number and lease.
    VoteRequest(u8, u8, u16),
    /// A vote: term, number, and whether it is granted.
    Vote(u8, u8, bool),
    /// A release of this term.
    Release(u8),
    /// A heartbeat: term, number and lease.
    Heartbeat(u8, u8, u16),
    /// A heartbeat acknowledgement: term, number, view id, and whether it confirms.
    HeartbeatAck(u8, u8, (u8, u8), bool),
    /// A ping.
    Ping,
    /// A leave acknowledgement.
    LeaveAck,
    /// A resignation of this term.
    Resign(u8),
    /// A message of an unknown variant.
    UnknownVariant(u8, Vec<u8>),
    /// A frame with this body.
    Frame(Vec<u8>),
    /// Another payload, truncated to this length. The next payload may complete it.
    Truncated(Box<Payload>, u8),
    /// A frame with an announced length, and a number of bytes after it.
    Announced(u16, u16),
    /// Another payload with one bit flipped.
    Flipped(Box<Payload>, u16),
    /// Arbitrary bytes.
    Raw(Vec<u8>),
    /// The `Hello` of a peer that holds these cluster keys.
    HelloWithKeys(Identity, Vec<Secret>),
    /// A proof for this key. It is correct, unless it comes at the wrong time.
    Proof(Secret),
    /// The last message of the node, sent back to it.
    Echo,
    /// The answer that the node waits for, from a member that holds this view: a vote or a heartbeat acknowledgement.
    Answer(u8, u8),
    /// A `Rejected` that names the holder.
    RejectedWithHolder(u8, Identity),
}

impl_encode!(enum Payload {
    Hello(identity),
    FlawedHello(identity, flaw),
    Rejected(why),
    Status { number, term, role, abstains, promise, view_id, metadata },
    JoinAccepted(term),
    JoinRejected(term, why),
    Page { view_id, index, last, members },
    Delta { base, other_base, view_id, changes },
    VoteRequest(term, number, lease),
    Vote(term, number, granted),
    Release(term),
    Heartbeat(term, number, lease),
    HeartbeatAck(term, number, view_id, confirms),
    Ping,
    LeaveAck,
    Resign(term),
    UnknownVariant(variant, rest),
    Frame(body),
    Truncated(whole, len),
    Announced(len, come),
    Flipped(right, bit),
    Raw(bytes),
    HelloWithKeys(identity, secrets),
    Proof(secret),
    Echo,
    Answer(term, version),
    RejectedWithHolder(why, holder),
});

/// The identity that a peer claims.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) struct Identity {
    /// Its id, and its address unless `elsewhere` is set.
    pub(super) who: u8,
    /// The id of another node whose address it claims.
    pub(super) elsewhere: Option<u8>,
    /// Its incarnation.
    pub(super) incarnation: u8,
}

impl_encode!(struct Identity { who, elsewhere, incarnation });

/// A flaw in a `Hello`.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum HelloFlaw {
    /// The wrong magic.
    Magic,
    /// This range of protocol versions.
    Protocol(u8, u8),
    /// Another cluster name.
    Cluster,
    /// Another seed list. It is the right one for a node that is its own only seed.
    Electorate,
    /// Unknown extensions of this length, which are not an error. The longest ones stand for a `Hello` that opens a stream.
    Extensions(u8),
    /// This nonce, which may be one of the node under test.
    Nonce([u8; 16]),
}

impl_encode!(
    enum HelloFlaw {
        Magic,
        Protocol(min, max),
        Cluster,
        Electorate,
        Extensions(len),
        Nonce(nonce),
    }
);

/// A member: its identity, whether it is suspect, and the length of its metadata.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) struct MemberEntry(pub(super) Identity, pub(super) bool, pub(super) u8);

impl Encode for MemberEntry {
    fn encode(&self, into: &mut Vec<u8>) {
        let Self(identity, suspect, metadata) = self;
        identity.encode(into);
        suspect.encode(into);
        metadata.encode(into);
    }
}

/// One change of a delta.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum MemberChange {
    /// A member joins or changes.
    Upsert(MemberEntry),
    /// A member is removed. It has left, or else it is down.
    Remove(u8, bool),
}

impl_encode!(
    enum MemberChange {
        Upsert(entry),
        Remove(who, left),
    }
);

/// The role in a status.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum PeerRole {
    /// A joining node.
    Joining,
    /// A candidate.
    Candidate,
    /// A follower of this node.
    Follower(Identity),
    /// The master.
    Master,
    /// A leaving node.
    Leaving,
    /// A solo master with this number of members.
    Solo(u8),
}

impl_encode!(
    enum PeerRole {
        Joining,
        Candidate,
        Follower(master),
        Master,
        Leaving,
        Solo(members),
    }
);

/// Small numbers for most values, and numbers at which arithmetic may overflow for the rest.
fn number(n: u8) -> u64 {
    match n {
        0..=127 => u64::from(n % 8),
        128..=239 => u64::from(n),
        240..=247 => 1 << (8 * (n - 240)).max(31),
        248..=255 => u64::MAX - u64::from(255 - n),
    }
}

fn index(who: u8) -> usize {
    // The two other voters, the node under test, and three nodes that are not voters.
    [0, 2, OWN, 3, 4, 5][usize::from(who % 6)]
}

fn id(who: u8) -> NodeId {
    NodeId::new(format!("n{}", index(who))).expect("a valid id")
}

fn address(who: u8) -> Address {
    Address::new(Net::address(index(who))).expect("a valid address")
}

/// An address of a node, or an unknown address.
pub(super) fn contact(who: u8) -> Address {
    Address::new(Net::address(usize::from(who % 16))).expect("a valid address")
}

impl Identity {
    pub(super) fn node(self) -> Node {
        Node { id: id(self.who), incarnation: Incarnation(number(self.incarnation)) }
    }

    fn address(self) -> Address {
        address(self.elsewhere.unwrap_or(self.who))
    }
}

fn member(MemberEntry(identity, suspect, metadata): MemberEntry) -> Member {
    let state = if suspect { MemberState::Suspect } else { MemberState::Active };
    Member::new(identity.node(), identity.address()).with_state(state).with_metadata(bytes(metadata))
}

/// `len` bytes. The last few numbers stand for lengths that fill a page of a snapshot or exceed the limit of metadata.
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

/// The valid `Hello` of another node.
pub(super) fn valid_hello(who: u8) -> Message {
    Message::Hello(hello(Identity { who, elsewhere: None, incarnation: 1 }))
}

fn hello(identity: Identity) -> message::Hello {
    let Node { id, incarnation } = identity.node();
    message::Hello {
        magic: message::MAGIC,
        protocol: message::PROTOCOL,
        cluster: config().cluster().clone(),
        electorate: config().electorate(),
        id,
        incarnation,
        address: identity.address(),
        nonce: [identity.who; 16],
        extensions: Bytes::new(),
    }
}

/// The extensions of a `Hello` that names these keys, after an extension of a later version.
fn key_extensions(secrets: &[Secret]) -> Bytes {
    match Message::decode(&transcript::holder(&secrets[..secrets.len().min(31)]).hello()[4..]) {
        Ok(Message::Hello(hello)) => [&[9, 2, 0, 0], &hello.extensions[..]].concat().into(),
        other => panic!("not a Hello: {other:?}"),
    }
}

fn with_flaw(mut hello: message::Hello, flaw: HelloFlaw) -> message::Hello {
    match flaw {
        HelloFlaw::Magic => hello.magic = *b"HTTP",
        HelloFlaw::Protocol(min, max) => {
            hello.protocol = message::ProtocolRange { min: u16::from(min), max: u16::from(max) };
        }
        HelloFlaw::Cluster => hello.cluster = ClusterName::new("another").expect("a valid name"),
        HelloFlaw::Electorate => {
            hello.electorate = Scene { place: Place::Single, ..Scene::of(0) }.config().electorate();
        }
        // A stream, with or without a tag, and with a name that is valid or not.
        HelloFlaw::Extensions(len @ 224..) => {
            let name: &[u8] = [&b"kv"[..], b"log", b"", b" x"][usize::from(len % 4)];
            let tag: &[u8] = if len.is_multiple_of(8) {
                &[5, 16, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]
            } else {
                &[]
            };
            hello.extensions = [&[4, name.len() as u8], name, tag].concat().into();
        }
        HelloFlaw::Extensions(len) => hello.extensions = bytes(len),
        HelloFlaw::Nonce(nonce) => hello.nonce = nonce,
    }
    hello
}

/// A frame with this body.
pub(super) fn framed(body: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u32(body.len() as u32);
    frame.put_slice(body);
    frame.freeze()
}

impl Payload {
    /// The bytes of the payload on a connection with this transcript.
    pub(super) fn bytes(&self, transcript: &Transcript) -> Bytes {
        match *self {
            // After the last variant of protocol version 1.
            Self::UnknownVariant(variant, ref rest) => framed(&[&[14 + variant % 100], &rest[..]].concat()),
            Self::Frame(ref body) => framed(body),
            Self::Truncated(ref whole, len) => {
                let mut start = whole.bytes(transcript);
                start.truncate(usize::from(len));
                start
            }
            Self::Announced(len, come) => {
                let mut start = BytesMut::new();
                // Even numbers stand for lengths close to that of the longest frame.
                let size = |n: u16| if n.is_multiple_of(2) { 8_193 - n / 2 % 8 } else { n % 8_500 };
                start.put_u32(u32::from(size(len)));
                start.put_bytes(0, usize::from(size(come)));
                start.freeze()
            }
            Self::Flipped(ref right, bit) => {
                let mut wrong = BytesMut::from(right.bytes(transcript));
                let bit = usize::from(bit) % (8 * wrong.len()).max(1);
                if let Some(byte) = wrong.get_mut(bit / 8) {
                    *byte ^= 1 << (bit % 8);
                }
                wrong.freeze()
            }
            Self::Raw(ref bytes) => Bytes::copy_from_slice(bytes),
            Self::Proof(secret) => transcript.proof(secret).to_frame(),
            Self::Echo => transcript.last(),
            Self::Answer(of, version) => transcript.answer(view_id((of, version))).to_frame(),
            _ => self.message().to_frame(),
        }
    }

    fn message(&self) -> Message {
        match *self {
            Self::Hello(identity) => Message::Hello(hello(identity)),
            Self::FlawedHello(identity, flaw) => Message::Hello(with_flaw(hello(identity), flaw)),
            Self::HelloWithKeys(identity, ref secrets) => {
                let mut keyed = hello(identity);
                keyed.extensions = key_extensions(secrets);
                Message::Hello(keyed)
            }
            Self::RejectedWithHolder(why, holder) => {
                let holder = message::Holder { node: holder.node(), address: holder.address() };
                Message::Rejected(message::Rejected { reason: reason(why), holder: Some(holder) })
            }
            Self::Rejected(why) => Message::Rejected(message::Rejected { reason: reason(why), holder: None }),
            Self::Status { number: count, term: of, role, abstains, promise, view_id: seen, metadata } => {
                Message::Status(message::StatusReport {
                    number: number(count),
                    term: term(of),
                    role: match role {
                        PeerRole::Joining => message::Role::Joining,
                        PeerRole::Candidate => message::Role::Candidate,
                        PeerRole::Follower(master) => {
                            message::Role::Follower { master: master.node(), address: master.address() }
                        }
                        PeerRole::Master => message::Role::Master,
                        PeerRole::Leaving => message::Role::Leaving,
                        PeerRole::Solo(members) => message::Role::Solo { members: u32::from(members) },
                    },
                    abstains,
                    promise: promise.map(Identity::node),
                    view_id: view_id(seen),
                    metadata: bytes(metadata),
                    electorate: Default::default(),
                })
            }
            Self::JoinAccepted(of) => Message::JoinResponse(message::JoinResponse::Accepted { term: term(of) }),
            Self::JoinRejected(of, why) => {
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
            Self::Delta { base, other_base, view_id: of, ref changes } => {
                let changes = changes.iter().map(|change| match *change {
                    MemberChange::Upsert(entry) => Change::Upsert(member(entry)),
                    MemberChange::Remove(who, left) => {
                        let reason = if left { RemovalReason::Left } else { RemovalReason::Down };
                        Change::Remove { id: id(who), reason }
                    }
                });
                Message::MembersUpdate(message::MembersUpdate::Delta {
                    base: view_id(base),
                    base_digest: other_base.map(|_| ViewDigest([7; 16])),
                    view_id: view_id(of),
                    changes: changes.collect(),
                })
            }
            Self::VoteRequest(of, count, millis) => Message::VoteRequest(message::VoteRequest {
                term: term(of),
                number: number(count),
                lease: lease(millis),
                electorate: Default::default(),
            }),
            Self::Vote(of, count, granted) => {
                Message::Vote(message::Vote { term: term(of), number: number(count), granted })
            }
            Self::Release(of) => Message::Release(message::Release { term: term(of) }),
            Self::Heartbeat(of, count, millis) => {
                Message::Heartbeat(message::Heartbeat { term: term(of), number: number(count), lease: lease(millis) })
            }
            Self::HeartbeatAck(of, count, held_view, confirms) => Message::HeartbeatAck(message::HeartbeatAck {
                term: term(of),
                number: number(count),
                view_id: view_id(held_view),
                confirms,
                electorate: Default::default(),
            }),
            Self::LeaveAck => Message::LeaveAck,
            Self::Resign(of) => Message::Resign(message::Resign { term: term(of) }),
            // Payloads that are not a message: `bytes` builds them.
            Self::Ping
            | Self::UnknownVariant(..)
            | Self::Frame(_)
            | Self::Truncated(..)
            | Self::Announced(..)
            | Self::Flipped(..)
            | Self::Raw(_)
            | Self::Proof(_)
            | Self::Echo
            | Self::Answer(..) => Message::Ping,
        }
    }
}
