//! The wire: one postcard-encoded [`Message`] to a frame (PROTOCOL.md, "The wire").
//!
//! The order of variants and fields *is* the format. New variants are only appended, and one newer than the negotiated
//! protocol is never sent; `Hello` never changes but for its `extensions`.

use alloc::vec::Vec;
use core::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::{
    api::error::{CloseReason, RejectReason},
    id::{Address, ClusterName, ElectorateDigest, Incarnation, Node, NodeId, Term, ViewId},
    membership::view::{Change, Member},
};

/// The first bytes of every [`Hello`].
pub const MAGIC: [u8; 4] = *b"FRMN";

/// The protocol versions that a node speaks unless its configuration says otherwise.
pub const PROTOCOL: ProtocolRange = ProtocolRange { min: 1, max: 1 };

/// The protocol versions that this code knows.
pub const KNOWN_PROTOCOL: ProtocolRange =
    ProtocolRange { min: 1, max: if cfg!(feature = "unstable-next-protocol") { 2 } else { 1 } };

/// Everything that one node says to another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each variant is documented at its payload")]
pub enum Message {
    Hello(Hello),
    Rejected(Rejected),
    Status(StatusReport),
    JoinResponse(JoinResponse),
    MembersUpdate(MembersUpdate),
    VoteRequest(VoteRequest),
    Vote(Vote),
    Release(Release),
    Heartbeat(Heartbeat),
    HeartbeatAck(HeartbeatAck),
    /// Said on a link that has carried nothing for a heartbeat interval.
    Ping,
    /// The master says to a node whose status is `Leaving` that it is in no view any more.
    LeaveAck,
    Resign(Resign),
    Proof(Proof),
}

/// A range of protocol versions, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProtocolRange {
    /// The oldest.
    pub min: u16,
    /// The newest.
    pub max: u16,
}

impl ProtocolRange {
    /// The newest version that both speak.
    pub fn common(self, other: Self) -> Option<u16> {
        let newest = self.max.min(other.max);
        (newest >= self.min.max(other.min)).then_some(newest)
    }
}

/// The first message each way.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Hello {
    /// [`MAGIC`].
    pub magic: [u8; 4],
    /// What the sender speaks.
    pub protocol: ProtocolRange,
    /// The sender's cluster.
    pub cluster: ClusterName,
    /// The digest of the sender's seed list.
    pub electorate: ElectorateDigest,
    /// The sender's name.
    pub id: NodeId,
    /// The sender's run.
    pub incarnation: Incarnation,
    /// Where others dial the sender.
    pub address: Address,
    /// Unlike any other that the sender has said.
    pub nonce: [u8; 16],
    /// What later versions add, in parts: what it is, its length (a byte each), and so many bytes. Unknown parts are ignored.
    pub extensions: Bytes,
}

/// What a part of [`Hello::extensions`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extension {
    /// The ids of the cluster keys that the sender holds.
    Keys = 1,
}

impl Hello {
    /// The first part of this kind.
    pub(crate) fn extension(&self, wanted: Extension) -> Option<&[u8]> {
        let mut rest = &self.extensions[..];
        while let [kind, len, behind @ ..] = rest {
            let (part, next) = behind.split_at_checked(usize::from(*len))?;
            if *kind == wanted as u8 {
                return Some(part);
            }
            rest = next;
        }
        None
    }
}

/// The receiver's connection is refused, and closes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rejected {
    /// Why.
    pub reason: RejectReason,
    /// Who has what the receiver claims: with `IdInUse` and `AddressInUse`.
    pub holder: Option<Holder>,
}

/// A living node that has an id or an address which another one claims as well.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Holder {
    /// Who.
    pub node: Node,
    /// Where.
    pub address: Address,
}

/// What a node says of itself on every link, when it is established and whenever it changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StatusReport {
    /// Grows with each change; the newest replaces the older, on whichever link it comes.
    pub number: u64,
    /// The sender's term.
    pub term: Term,
    /// What it is doing.
    pub role: Role,
    /// Held by E1, or not allowed to form: not to be counted as a voter that could grant.
    pub abstains: bool,
    /// To whom a live promise binds it (E5).
    pub promise: Option<Node>,
    /// The view it holds.
    pub view_id: ViewId,
    /// Its metadata, for the member list.
    pub metadata: Bytes,
}

/// A node's part in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Without a master.
    Joining,
    /// A candidate in the status's term.
    Candidate,
    /// Following a master.
    Follower {
        /// Whom.
        master: Node,
        /// Where it can be dialed.
        address: Address,
    },
    /// The master of the status's term.
    Master,
    /// On its way out.
    Leaving,
    /// The master of the status's term, without a quorum (E8).
    Solo {
        /// How many members it has, itself included.
        members: u32,
    },
}

/// A master's answer to a seeker; the view follows right behind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum JoinResponse {
    /// The seeker is a member.
    Accepted {
        /// The master's term.
        term: Term,
    },
    /// It is not.
    Rejected {
        /// The master's term.
        term: Term,
        /// Why.
        reason: RejectReason,
    },
}

/// A master's view, or what changed in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MembersUpdate {
    /// One page of a whole view.
    Page {
        /// Which view.
        view_id: ViewId,
        /// The page's place, from 0.
        index: u32,
        /// No page comes after this one.
        last: bool,
        /// In the order of their ids.
        members: Vec<Member>,
    },
    /// What turns the view `base` into `view_id`.
    Delta {
        /// The view that it applies to.
        base: ViewId,
        /// Who wrote that, when it was an earlier term's master: where votes were forgotten (G1), two may have written views
        /// of one view id.
        base_by: Option<Node>,
        /// The view that it makes.
        view_id: ViewId,
        /// In the order of ids, one for each.
        changes: Vec<Change>,
    },
}

/// A candidate asks for a vote, and with it for a promise (E5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VoteRequest {
    /// The term it stands in.
    pub term: Term,
    /// Echoed by the answer.
    pub number: u64,
    /// For how long the promise binds.
    pub lease: Duration,
}

/// The answer to a [`VoteRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Vote {
    /// The request's term when granted; otherwise the voter's own.
    pub term: Term,
    /// The request's number.
    pub number: u64,
    /// Whether this is a vote and a promise.
    pub granted: bool,
}

/// A candidate that gave up frees its voters (E2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Release {
    /// The term it stood in.
    pub term: Term,
}

/// The master lives, and asks for its lease to be confirmed (E6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The master's term.
    pub term: Term,
    /// Echoed by the acknowledgement.
    pub number: u64,
    /// For how long a confirmation binds.
    pub lease: Duration,
}

/// The answer to a [`Heartbeat`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HeartbeatAck {
    /// The sender's term; a newer one than the heartbeat's refuses it (E7).
    pub term: Term,
    /// The heartbeat's number.
    pub number: u64,
    /// The view that the sender holds.
    pub view_id: ViewId,
    /// Whether this is a voter's promise (E5).
    pub confirms: bool,
}

/// A leaving master ends its term, and with it every promise to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Resign {
    /// The term that ends.
    pub term: Term,
}

/// The sender holds the cluster key: an HMAC-SHA256 over its direction and both hellos.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Proof {
    /// The code.
    pub mac: [u8; 32],
}

impl Message {
    /// The highest term that the message speaks of.
    pub(crate) fn term(&self) -> Option<Term> {
        Some(match self {
            Self::Status(status) => status.term.max(status.view_id.term),
            Self::JoinResponse(JoinResponse::Accepted { term } | JoinResponse::Rejected { term, .. }) => *term,
            Self::MembersUpdate(MembersUpdate::Page { view_id, .. } | MembersUpdate::Delta { view_id, .. }) => {
                view_id.term
            }
            Self::VoteRequest(request) => request.term,
            Self::Vote(vote) => vote.term,
            Self::Release(release) => release.term,
            Self::Heartbeat(heartbeat) => heartbeat.term,
            Self::HeartbeatAck(ack) => ack.term.max(ack.view_id.term),
            Self::Resign(resign) => resign.term,
            Self::Hello(_) | Self::Rejected(_) | Self::Ping | Self::LeaveAck | Self::Proof(_) => return None,
        })
    }

    /// Appends the message as one frame, unless it is newer than this version: a peer that speaks the version could not read it.
    pub(crate) fn encode_for(&self, version: u16, into: &mut BytesMut) {
        if self.since() <= version {
            self.encode(into);
        }
    }

    /// Appends the message as one frame.
    ///
    /// # Panics
    /// When the message cannot be encoded, which no value of these types can cause.
    pub fn encode(&self, into: &mut BytesMut) {
        let start = into.len();
        into.put_u32(0);
        // Growing a buffer is the only fallible thing that postcard does here, and `BytesMut` grows or aborts.
        postcard::serialize_with_flavor(self, Sink(into)).expect("a message of plain data always encodes");
        let body = u32::try_from(into.len() - start - 4).expect("a frame is far below 4 GiB");
        into[start..start + 4].copy_from_slice(&body.to_be_bytes());
    }

    /// The message as one frame of its own.
    pub fn to_frame(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.encode(&mut out);
        out.freeze()
    }

    /// Reads the body of a frame: one message and nothing after it.
    ///
    /// # Errors
    /// [`Malformed`](crate::CloseReason::Malformed) for an unknown variant, a field out of range, a truncated message or bytes behind it.
    pub fn decode(body: &[u8]) -> Result<Self, CloseReason> {
        match postcard::take_from_bytes(body) {
            Ok((message, [])) => Ok(message),
            _ => Err(CloseReason::Malformed),
        }
    }
}

struct Sink<'a>(&'a mut BytesMut);

impl postcard::ser_flavors::Flavor for Sink<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.put_u8(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.put_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}
