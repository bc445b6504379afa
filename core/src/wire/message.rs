//! The messages (PROTOCOL.md, section 3). A frame contains one [`Message`], encoded with postcard.
//!
//! The order of variants and fields *is* the format. New variants are only appended. A variant that is newer than the
//! negotiated protocol version is never sent. `Hello` never changes, except for its `extensions`.

use super::entries::MembersOut;
pub use super::voting::Voting;

use alloc::vec::Vec;
use core::{fmt, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::{
    api::electorate::{Electorate, ElectorateVersion},
    api::error::{CloseReason, RejectReason},
    api::status::Phase,
    id::{Address, ClusterName, ElectorateDigest, Incarnation, Node, NodeId, Term, ViewDigest, ViewId},
    membership::view::{Change, Member},
};

/// The first bytes of every [`Hello`].
pub const MAGIC: [u8; 4] = *b"FRMN";

/// The protocol versions that a node speaks by default.
pub const PROTOCOL: ProtocolRange = ProtocolRange { min: 1, max: 1 };

/// The protocol versions that this code knows.
pub const KNOWN_PROTOCOL: ProtocolRange =
    ProtocolRange { min: 1, max: if cfg!(feature = "unstable-next-protocol") { 2 } else { 1 } };

/// A message from one node to another.
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
    /// Sent on a link that has carried nothing of the sender's for 1.5 [`heartbeat_interval`](crate::Timing::heartbeat_interval)s (D5).
    Ping,
    /// The master's answer to a node whose status is `Leaving`: that node is in no view any more (L2).
    LeaveAck,
    Resign(Resign),
    Proof(Proof),
    Voucher(Voucher),
    /// The sender takes the stream that the receiver opens: the bytes that follow are those of the services (S3).
    StreamAccepted,
    /// The electorate that the sender holds, to a node that holds an older one (E10).
    Electorate(Electorate),
}

/// A range of protocol versions, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProtocolRange {
    /// The oldest version.
    pub min: u16,
    /// The newest version.
    pub max: u16,
}

impl ProtocolRange {
    /// The newest version that is in both ranges (H4). `None` if there is no such version.
    pub fn common(self, other: Self) -> Option<u16> {
        let newest = self.max.min(other.max);
        (newest >= self.min.max(other.min)).then_some(newest)
    }
}

/// The first message in each direction (H5).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Hello {
    /// [`MAGIC`].
    pub magic: [u8; 4],
    /// The protocol versions that the sender speaks.
    pub protocol: ProtocolRange,
    /// The name of the sender's cluster.
    pub cluster: ClusterName,
    /// The digest of the sender's seed list.
    pub electorate: ElectorateDigest,
    /// The id of the sender.
    pub id: NodeId,
    /// The run of the sender.
    pub incarnation: Incarnation,
    /// The address at which other nodes dial the sender.
    pub address: Address,
    /// A number that the sender has never used before.
    pub nonce: [u8; 16],
    /// What later versions have added, as a list of parts: one byte for the kind, one byte for the length, and that many
    /// bytes. Unknown kinds are ignored.
    pub extensions: Bytes,
}

/// The kind of a part of [`Hello::extensions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extension {
    /// The ids of the cluster keys that the sender holds.
    Keys = 1,
    /// How the sender votes.
    Voting = 2,
    /// The priority of the sender, where it is not 0.
    Priority = 3,
    /// The name of the stream that the sender opens.
    Stream = 4,
    /// What shows that the sender of a stream has a link to the receiver (S4).
    LinkTag = 5,
    /// The sender stores its votes (E10).
    Durable = 6,
}

impl Hello {
    /// The node that the sender claims to be.
    pub(crate) fn node(&self) -> Node {
        Node { id: self.id.clone(), incarnation: self.incarnation }
    }

    /// The first part of this kind. A part that is cut off does not count, and nor does what follows it.
    pub(crate) fn extension(&self, wanted: Extension) -> Option<&[u8]> {
        let mut rest = &self.extensions[..];
        while let [kind, len, after @ ..] = rest {
            let (part, next) = after.split_at_checked(usize::from(*len))?;
            if *kind == wanted as u8 {
                return Some(part);
            }
            rest = next;
        }
        None
    }
}

/// The sender rejects the receiver. The connection then closes (H10).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rejected {
    /// The reason.
    pub reason: RejectReason,
    /// The node that has the id or the address of the receiver, with `IdInUse`, `AddressInUse` and `IdInView`. The master of the sender,
    /// with `ElectorateMismatch`.
    pub holder: Option<Holder>,
}

/// A living node that has an id or an address that another node claims too (I7).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Holder {
    /// The node.
    pub node: Node,
    /// Its address.
    pub address: Address,
}

/// The report of a node about itself. It is sent on every link, when the link is established and whenever the report has
/// changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StatusReport {
    /// A number that grows with each change. The report with the largest number is the newest, on whichever connection it
    /// arrives.
    pub number: u64,
    /// The sender's term.
    pub term: Term,
    /// What the sender is doing.
    pub role: Role,
    /// Whether the sender could not grant a vote now: because of E1, because it may only join (D7), or because its storage
    /// has failed (E4).
    pub abstains: bool,
    /// The node to which a promise binds the sender (E5).
    pub promise: Option<Node>,
    /// The view that the sender has.
    pub view_id: ViewId,
    /// The electorate that the sender holds (E10). It is durable, where votes are.
    pub electorate: ElectorateVersion,
    /// The metadata of the sender in the member list.
    #[serde(with = "crate::metadata::readable")]
    pub metadata: Bytes,
}

/// What a node is doing, as its status reports it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// It has no master, and is no candidate.
    Joining,
    /// It is a candidate in the term of the status.
    Candidate,
    /// It follows a master.
    Follower {
        /// The master.
        master: Node,
        /// The address of the master.
        address: Address,
    },
    /// It is the master of the term of the status, elected by a quorum.
    Master,
    /// It leaves (L1).
    Leaving,
    /// It is the solo master of the term of the status (E8).
    Solo {
        /// How many members it has, itself included.
        members: u32,
    },
}

/// `node-a#7 at 10.0.0.1:7000`
impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.node, self.address)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Phase::from(self).fmt(f)
    }
}

/// The answer of a master to a joining node. If it accepts, the view follows in the same write (V2).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum JoinResponse {
    /// The joining node is a member.
    Accepted {
        /// The term of the master.
        term: Term,
    },
    /// The joining node is no member.
    Rejected {
        /// The term of the master.
        term: Term,
        /// The reason.
        reason: RejectReason,
    },
}

/// The master's view, or a change of it (V7).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MembersUpdate {
    /// One page of a whole view.
    Page {
        /// The id of the view.
        view_id: ViewId,
        /// The number of the page, from 0.
        index: u32,
        /// Whether this is the last page.
        last: bool,
        /// The members on this page, in the order of their ids.
        #[serde(with = "super::entries::members")]
        members: Vec<Member>,
    },
    /// The changes that turn the view `base` into the view `view_id`.
    Delta {
        /// The view to which the changes apply.
        base: ViewId,
        /// The digest of the base, if it is a view of an earlier term. Two views of earlier masters may have the same id
        /// (V9).
        base_digest: Option<ViewDigest>,
        /// The view that results.
        view_id: ViewId,
        /// The changes, in the order of the ids, at most one for each id.
        #[serde(with = "super::entries::changes")]
        changes: Vec<Change>,
    },
}

/// A candidate requests a vote (E3), and with it a promise (E5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VoteRequest {
    /// The term of the candidacy.
    pub term: Term,
    /// The number of the candidacy, which the answer repeats.
    pub number: u64,
    /// How long the promise is to last.
    pub lease: Duration,
    /// The electorate whose votes the candidate counts (E10).
    pub electorate: ElectorateVersion,
}

/// The answer to a [`VoteRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Vote {
    /// The term of the request if the vote is granted. Otherwise the voter's own term (E3).
    pub term: Term,
    /// The number of the request.
    pub number: u64,
    /// Whether the vote, and the promise, are given.
    pub granted: bool,
}

/// A candidate has given up, and releases its voters (E2, E5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Release {
    /// The term of the candidacy that has ended.
    pub term: Term,
}

/// The master is alive, and requests a confirmation of its lease (E6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The term of the master.
    pub term: Term,
    /// The number of the heartbeat, which the acknowledgement repeats.
    pub number: u64,
    /// How long the promise of a confirmation is to last (E5).
    pub lease: Duration,
}

/// The answer to a [`Heartbeat`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HeartbeatAck {
    /// The sender's term. If it is newer than the term of the heartbeat, the heartbeat is refused (E7).
    pub term: Term,
    /// The number of the heartbeat.
    pub number: u64,
    /// The view that the sender has.
    pub view_id: ViewId,
    /// Whether this confirms the lease: it is the promise of a voter (E5).
    pub confirms: bool,
    /// The electorate that the sender holds (E10).
    pub electorate: ElectorateVersion,
}

/// A leaving master ends its term, and every promise to it (L3, E5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Resign {
    /// The term that ends.
    pub term: Term,
}

/// The proof that the sender has the cluster key: an HMAC-SHA256 over its direction and both `Hello`s (H8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Proof {
    /// The message authentication code.
    pub mac: [u8; 32],
}

/// The sender has received this node's `Hello` on another connection: both connections lead to the same node (H11).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Voucher {
    /// The nonce of that `Hello`.
    pub nonce: [u8; 16],
}

impl Message {
    /// Appends the message as one frame, unless it is newer than this version. A peer that speaks this version could not
    /// read it.
    pub(crate) fn encode_for(&self, version: u16, into: &mut BytesMut) {
        if self.since() <= version {
            self.encode(into);
        }
    }

    /// Appends the message as one frame.
    ///
    /// # Panics
    /// If the message cannot be encoded. No value of these types causes this.
    pub fn encode(&self, into: &mut BytesMut) {
        append_frame(into, |into| append(self, into));
    }

    /// Appends a page of these members as one frame: the id of the view, the number of the page, and whether it is the last one. It makes
    /// no copy of the members.
    pub(crate) fn encode_page((view_id, index, last): (ViewId, u32, bool), members: &[&Member], into: &mut BytesMut) {
        let empty = Self::MembersUpdate(MembersUpdate::Page { view_id, index, last, members: Vec::new() });
        append_frame(into, |into| {
            append(&empty, into);
            // The list is the last field. The one byte of an empty list is its length.
            into.truncate(into.len() - 1);
            append(&MembersOut(members), into);
        });
    }

    /// The message as one frame.
    pub fn to_frame(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.encode(&mut out);
        out.freeze()
    }

    /// Reads the body of a frame: one message, and nothing after it.
    ///
    /// # Errors
    /// [`Malformed`](crate::CloseReason::Malformed) for an unknown variant, a field that is out of range, a message that is
    /// cut off, or bytes after the message.
    pub fn decode(body: &[u8]) -> Result<Self, CloseReason> {
        match postcard::take_from_bytes(body) {
            Ok((message, [])) => Ok(message),
            _ => Err(CloseReason::Malformed),
        }
    }
}

/// Appends what is written as the body of a frame.
fn append_frame(into: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    let start = into.len();
    into.put_u32(0);
    write(into);
    let body = u32::try_from(into.len() - start - 4).expect("a frame is far below 4 GiB");
    into[start..start + 4].copy_from_slice(&body.to_be_bytes());
}

fn append(value: &impl Serialize, into: &mut BytesMut) {
    // Only growing the buffer could fail here, and `BytesMut` grows or aborts.
    postcard::serialize_with_flavor(value, FrameWriter(into)).expect("a message of plain data always encodes");
}

struct FrameWriter<'a>(&'a mut BytesMut);

impl postcard::ser_flavors::Flavor for FrameWriter<'_> {
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
