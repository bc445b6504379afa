//! Arbitrary valid messages.

use std::time::Duration;

use arbitrary::{Arbitrary, Result, Unstructured};
use bytes::Bytes;
use formation_core::{
    Address, Change, ClusterName, ElectorateDigest, Incarnation, Member, MemberState, Node, NodeId, RejectReason,
    RemovalReason, Term, ViewDigest, ViewId,
    message::{
        Heartbeat, HeartbeatAck, Hello, Holder, JoinResponse, MembersUpdate, Message, Proof, ProtocolRange, Rejected,
        Release, Resign, Role, StatusReport, Vote, VoteRequest,
    },
};

type Source<'a, 'b> = &'a mut Unstructured<'b>;

pub(super) fn message(from: Source<'_, '_>) -> Result<Message> {
    Ok(match from.int_in_range(0..=14)? {
        0 => Message::Hello(Hello {
            magic: from.arbitrary()?,
            protocol: ProtocolRange { min: from.arbitrary()?, max: from.arbitrary()? },
            cluster: text(from, ClusterName::new, "a")?,
            electorate: ElectorateDigest(from.arbitrary()?),
            id: text(from, NodeId::new, "a")?,
            incarnation: Incarnation(from.arbitrary()?),
            address: address(from)?,
            nonce: from.arbitrary()?,
            extensions: bytes(from)?,
        }),
        1 => Message::Rejected(Rejected {
            reason: reason(from)?,
            holder: option(from, |from| Ok(Holder { node: node(from)?, address: address(from)? }))?,
        }),
        2 => Message::Status(StatusReport {
            number: from.arbitrary()?,
            term: term(from)?,
            role: role(from)?,
            abstains: from.arbitrary()?,
            promise: option(from, node)?,
            view_id: view_id(from)?,
            metadata: bytes(from)?,
            electorate: Default::default(),
        }),
        3 if from.arbitrary()? => Message::JoinResponse(JoinResponse::Accepted { term: term(from)? }),
        3 => Message::JoinResponse(JoinResponse::Rejected { term: term(from)?, reason: reason(from)? }),
        4 if from.arbitrary()? => Message::MembersUpdate(MembersUpdate::Page {
            view_id: view_id(from)?,
            index: from.arbitrary()?,
            last: from.arbitrary()?,
            members: list(from, member)?,
        }),
        4 => Message::MembersUpdate(MembersUpdate::Delta {
            base: view_id(from)?,
            base_digest: option(from, |from| Ok(ViewDigest(from.arbitrary()?)))?,
            view_id: view_id(from)?,
            changes: list(from, change)?,
        }),
        5 => Message::VoteRequest(VoteRequest {
            term: term(from)?,
            number: from.arbitrary()?,
            lease: lease(from)?,
            electorate: Default::default(),
        }),
        6 => Message::Vote(Vote { term: term(from)?, number: from.arbitrary()?, granted: from.arbitrary()? }),
        7 => Message::Release(Release { term: term(from)? }),
        8 => Message::Heartbeat(Heartbeat { term: term(from)?, number: from.arbitrary()?, lease: lease(from)? }),
        9 => Message::HeartbeatAck(HeartbeatAck {
            term: term(from)?,
            number: from.arbitrary()?,
            view_id: view_id(from)?,
            confirms: from.arbitrary()?,
            electorate: Default::default(),
        }),
        10 => Message::Ping,
        11 => Message::LeaveAck,
        12 => Message::Resign(Resign { term: term(from)? }),
        13 => Message::StreamAccepted,
        _ => Message::Proof(Proof { mac: from.arbitrary()? }),
    })
}

fn list<T>(from: Source<'_, '_>, item: fn(Source<'_, '_>) -> Result<T>) -> Result<Vec<T>> {
    let mut out = Vec::new();
    while out.len() < 200 && from.arbitrary()? {
        out.push(item(from)?);
    }
    Ok(out)
}

fn option<T>(from: Source<'_, '_>, item: fn(Source<'_, '_>) -> Result<T>) -> Result<Option<T>> {
    if from.arbitrary()? { item(from).map(Some) } else { Ok(None) }
}

/// A text that the constructor accepts. No other text can be in a message.
fn text<T, E: std::fmt::Debug>(
    from: Source<'_, '_>,
    new: fn(String) -> std::result::Result<T, E>,
    or: &str,
) -> Result<T> {
    let text = String::arbitrary(from)?;
    Ok(new(text).unwrap_or_else(|_| new(or.into()).expect("a valid text")))
}

fn address(from: Source<'_, '_>) -> Result<Address> {
    let (host, times, port) = (String::arbitrary(from)?, from.int_in_range(1..=130)?, u16::arbitrary(from)?);
    // The host is repeated, because a fuzzer rarely finds long addresses.
    let made = Address::new(format!("{}:{port}", host.repeat(times)));
    Ok(made.unwrap_or_else(|_| Address::new("a:1").expect("a valid address")))
}

fn bytes(from: Source<'_, '_>) -> Result<Bytes> {
    Ok(Vec::arbitrary(from)?.into())
}

fn term(from: Source<'_, '_>) -> Result<Term> {
    Ok(Term(from.arbitrary()?))
}

fn view_id(from: Source<'_, '_>) -> Result<ViewId> {
    Ok(ViewId { term: term(from)?, version: from.arbitrary()? })
}

fn lease(from: Source<'_, '_>) -> Result<Duration> {
    Ok(Duration::new(from.arbitrary()?, from.int_in_range(0..=999_999_999)?))
}

fn node(from: Source<'_, '_>) -> Result<Node> {
    Ok(Node { id: text(from, NodeId::new, "a")?, incarnation: Incarnation(from.arbitrary()?) })
}

fn role(from: Source<'_, '_>) -> Result<Role> {
    Ok(match from.int_in_range(0..=5)? {
        0 => Role::Joining,
        1 => Role::Candidate,
        2 => Role::Follower { master: node(from)?, address: address(from)? },
        3 => Role::Master,
        4 => Role::Leaving,
        _ => Role::Solo { members: from.arbitrary()? },
    })
}

fn member(from: Source<'_, '_>) -> Result<Member> {
    let state = if from.arbitrary()? { MemberState::Active } else { MemberState::Suspect };
    Ok(Member::new(node(from)?, address(from)?).with_state(state).with_metadata(bytes(from)?))
}

fn change(from: Source<'_, '_>) -> Result<Change> {
    if from.arbitrary()? {
        return member(from).map(Change::Upsert);
    }
    let reason = if from.arbitrary()? { RemovalReason::Left } else { RemovalReason::Down };
    Ok(Change::Remove { id: text(from, NodeId::new, "a")?, reason })
}

fn reason(from: Source<'_, '_>) -> Result<RejectReason> {
    from.choose(&[
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
        RejectReason::NotAMember,
        RejectReason::UnknownStream,
        RejectReason::TooManyStreams,
    ])
    .copied()
}
