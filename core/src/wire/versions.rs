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
            | Self::Voucher(_) => FIRST,
            Self::Rejected(Rejected { reason, holder: _ }) => reason.since(),
            Self::Status(StatusReport { role, .. }) => role.since(),
            Self::JoinResponse(JoinResponse::Accepted { term: _ }) => FIRST,
            Self::JoinResponse(JoinResponse::Rejected { term: _, reason }) => reason.since(),
            Self::MembersUpdate(MembersUpdate::Page { members, .. }) => newest(members.iter().map(Member::since)),
            Self::MembersUpdate(MembersUpdate::Delta { changes, .. }) => newest(changes.iter().map(Change::since)),
        }
    }
}

impl Role {
    fn since(&self) -> u16 {
        match self {
            Self::Joining
            | Self::Candidate
            | Self::Follower { .. }
            | Self::Master
            | Self::Leaving
            | Self::Solo { .. } => FIRST,
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
            | Self::BadProof
            | Self::Unproven
            | Self::Unresponsive => FIRST,
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
            Self::Active | Self::Suspect => FIRST,
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
            Self::Left | Self::Down => FIRST,
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use bytes::BytesMut;

    use super::*;
    use crate::{
        id::{NodeId, Term, ViewId},
        wire::frame::SharedFrame,
    };

    /// A message of each kind that contains an enum.
    fn nested() -> [Message; 3] {
        let reason = RejectReason::ClusterFull;
        let removal = Change::Remove { id: NodeId::new("a").unwrap(), reason: RemovalReason::Left };
        let (base, view_id) = (ViewId::default(), ViewId { term: Term(1), version: 1 });
        [
            Message::Rejected(Rejected { reason, holder: None }),
            Message::JoinResponse(JoinResponse::Rejected { term: Term(1), reason }),
            Message::MembersUpdate(MembersUpdate::Delta { base, base_by: None, view_id, changes: vec![removal] }),
        ]
    }

    #[test]
    fn h4_a_message_newer_than_a_link_is_not_sent_on_it() {
        for message in nested() {
            let mut out = BytesMut::new();
            message.encode_for(FIRST - 1, &mut out);
            assert!(out.is_empty(), "{message:?}");
            assert!(SharedFrame::new(&message).in_version(FIRST - 1).is_empty(), "{message:?}");
            message.encode_for(FIRST, &mut out);
            assert_eq!(out, message.to_frame());
            assert_eq!(SharedFrame::new(&message).in_version(FIRST), message.to_frame());
        }
    }

    #[test]
    fn a_message_is_as_new_as_its_newest_part() {
        assert_eq!(newest([]), FIRST);
        assert_eq!(newest([FIRST, 3, 2]), 3);
    }
}
