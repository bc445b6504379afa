//! Which protocol version each part of a message came with (PROTOCOL.md, H4).
//!
//! A new variant of any enum that a message may contain states its version here. A message that is newer than the version of a link
//! is never sent on it, and is malformed when it arrives. So each new variant also needs a decision what an older link gets instead:
//! nothing, an older variant, or (in place of a delta) a snapshot.

use crate::{
    api::error::RejectReason,
    membership::view::{Change, Member, MemberState, RemovalReason},
    wire::message::{JoinResponse, MembersUpdate, Message, Rejected, Role, StatusReport},
};

/// The version of everything that has been there from the beginning.
const FIRST: u16 = 1;

/// The version of one variant of each nested enum, which stands for a newer variant in the unit tests.
const NEWEST: u16 = if cfg!(test) { FIRST + 1 } else { FIRST };

fn newest(parts: impl IntoIterator<Item = u16>) -> u16 {
    parts.into_iter().fold(FIRST, u16::max)
}

impl Message {
    /// The protocol version that a peer has to speak to read the message.
    pub fn since(&self) -> u16 {
        match self {
            Self::Hello(_)
            | Self::VoteRequest(_)
            | Self::Vote(_)
            | Self::Release(_)
            | Self::Heartbeat(_)
            | Self::HeartbeatAck(_)
            | Self::Ping
            | Self::LeaveAck
            | Self::Resign(_)
            | Self::Proof(_)
            | Self::Voucher(_)
            | Self::StreamAccepted
            | Self::Electorate(_) => FIRST,
            Self::Rejected(Rejected { reason, holder: _ }) => reason.since(),
            Self::Status(StatusReport { role, .. }) => role.since(),
            Self::JoinResponse(JoinResponse::Accepted { term: _ }) => FIRST,
            Self::JoinResponse(JoinResponse::Rejected { term: _, reason }) => reason.since(),
            Self::MembersUpdate(MembersUpdate::Page { members, .. }) => newest(members.iter().map(Member::since)),
            Self::MembersUpdate(MembersUpdate::Delta { changes, .. }) => newest(changes.iter().map(Change::since)),
        }
    }
}

/// The protocol version that a peer has to speak to read a page of these members.
pub(super) fn since_of_page(members: &[&Member]) -> u16 {
    newest(members.iter().map(|member| member.since()))
}

impl Role {
    fn since(&self) -> u16 {
        match self {
            Self::Joining | Self::Candidate | Self::Follower { .. } | Self::Master | Self::Leaving => FIRST,
            Self::Solo { .. } => NEWEST,
        }
    }
}

impl RejectReason {
    fn since(self) -> u16 {
        match self {
            Self::WrongCluster
            | Self::NoCommonProtocol
            | Self::ElectorateMismatch
            | Self::Superseded
            | Self::IdInUse
            | Self::AddressInUse
            | Self::ClusterFull
            | Self::MetadataTooLong
            | Self::KeyMismatch
            | Self::Unproven
            | Self::Unresponsive
            | Self::IdInView
            | Self::NotAMember
            | Self::UnknownStream
            | Self::TooManyStreams => FIRST,
            Self::BadProof => NEWEST,
        }
    }
}

impl Member {
    fn since(&self) -> u16 {
        self.state.since()
    }
}

impl MemberState {
    fn since(self) -> u16 {
        match self {
            Self::Active => FIRST,
            Self::Suspect => NEWEST,
        }
    }
}

impl Change {
    fn since(&self) -> u16 {
        match self {
            Self::Upsert(member) => member.since(),
            Self::Remove { id: _, reason } => reason.since(),
        }
    }
}

impl RemovalReason {
    fn since(self) -> u16 {
        match self {
            Self::Left | Self::Unknown => FIRST,
            Self::Down => NEWEST,
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use bytes::{Bytes, BytesMut};

    use super::*;
    use crate::{
        id::{Address, Incarnation, Node, NodeId, Term, ViewId},
        wire::frame::SharedFrame,
    };

    fn member(state: MemberState) -> Member {
        let node = Node { id: NodeId::new("a").unwrap(), incarnation: Incarnation(1) };
        Member { node, address: Address::new("a:1").unwrap(), state, metadata: Bytes::new() }
    }

    fn status(role: Role) -> Message {
        let (term, view_id) = (Term(1), ViewId::default());
        let (promise, metadata) = (None, Bytes::new());
        Message::Status(StatusReport {
            number: 1,
            term,
            role,
            abstains: false,
            promise,
            view_id,
            metadata,
            electorate: Default::default(),
        })
    }

    fn page(states: &[MemberState]) -> Message {
        let members = states.iter().copied().map(member).collect();
        Message::MembersUpdate(MembersUpdate::Page { view_id: ViewId::default(), index: 0, last: true, members })
    }

    fn delta(changes: Vec<Change>) -> Message {
        let (base, view_id) = (ViewId::default(), ViewId { term: Term(1), version: 1 });
        Message::MembersUpdate(MembersUpdate::Delta { base, base_digest: None, view_id, changes })
    }

    fn removal(reason: RemovalReason) -> Change {
        Change::Remove { id: NodeId::new("b").unwrap(), reason }
    }

    /// For each place of a nested enum: a message without a newer variant, and one that has it.
    fn nested() -> [[Message; 2]; 6] {
        let rejections = |reason| Message::Rejected(Rejected { reason, holder: None });
        let responses = |reason| Message::JoinResponse(JoinResponse::Rejected { term: Term(1), reason });
        let upsert = |state| Change::Upsert(member(state));
        [
            [RejectReason::ClusterFull, RejectReason::BadProof].map(rejections),
            [RejectReason::ClusterFull, RejectReason::BadProof].map(responses),
            [Role::Joining, Role::Solo { members: 1 }].map(status),
            [page(&[MemberState::Active]), page(&[MemberState::Active, MemberState::Suspect])],
            [delta(vec![upsert(MemberState::Active)]), delta(vec![upsert(MemberState::Suspect)])],
            [
                delta(vec![removal(RemovalReason::Left)]),
                delta(vec![removal(RemovalReason::Left), removal(RemovalReason::Down)]),
            ],
        ]
    }

    /// What goes out on a link of this version.
    fn sent(message: &Message, version: u16) -> Bytes {
        let mut out = BytesMut::new();
        message.encode_for(version, &mut out);
        assert_eq!(out, SharedFrame::new(message).in_version(version));
        out.freeze()
    }

    #[test]
    fn h4_a_nested_variant_newer_than_a_link_is_not_sent() {
        for [older, newer] in nested() {
            assert_eq!(sent(&older, FIRST), older.to_frame());
            assert_eq!(sent(&newer, FIRST), Bytes::new(), "{newer:?}");
            assert_eq!(sent(&newer, NEWEST), newer.to_frame());
        }
    }

    #[test]
    fn h4_a_message_newer_than_a_link_is_not_sent_on_it() {
        assert_eq!(sent(&Message::Ping, FIRST - 1), Bytes::new());
        assert_eq!(sent(&Message::Ping, FIRST), Message::Ping.to_frame());
    }

    #[test]
    fn a_message_is_as_new_as_its_newest_part() {
        assert_eq!(newest([]), FIRST);
        assert_eq!(newest([FIRST, 3, 2]), 3);
    }
}
