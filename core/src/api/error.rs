//! What can go wrong, by who is to blame: the embedder ([`Misuse`]) or a peer ([`CloseReason`]). [`RejectReason`] is sent
//! on the wire. Configuration errors are at [`ConfigError`](crate::ConfigError).

use alloc::{borrow::ToOwned, format, string::String};

use serde::{Deserialize, Serialize};

use crate::id::{Address, ConnId, DialId, Node, NodeId, StreamId};

/// A fault of the embedder. The input was ignored: the state has not changed, and there are no new outputs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Misuse {
    /// An input names a connection with a larger number than any that was opened. A connection with a smaller number counts
    /// as one that has ended. Late inputs for it are allowed, and ignored.
    #[error("connection {0} was never opened; report Input::Opened first")]
    UnknownConn(ConnId),
    /// A connection was opened with a number that is not larger than all before.
    #[error("connection {conn} was opened after {newest}; give each connection a larger number than any before")]
    ReusedConn {
        /// The number of the new connection.
        conn: ConnId,
        /// The largest number before.
        newest: ConnId,
    },
    /// An input answers a dial that the core has never requested.
    #[error("dial {} was never requested; answer each Output::Dial once, with its own id", .0.0)]
    UnknownDial(DialId),
    /// A `Flushed` names a connection that has no `Send` in flight.
    #[error("connection {0} has no Send in flight; report Input::Flushed once for each Output::Send")]
    NotInFlight(ConnId),
    /// A `Persisted` or `PersistFailed` names a `Persist` that is not in flight.
    #[error("Persist {seq} is not in flight, {}; answer each Output::Persist once", in_flight_text(*in_flight))]
    NotPersisting {
        /// The number in the input.
        seq: u64,
        /// The number of the `Persist` in flight, if there is one.
        in_flight: Option<u64>,
    },
    /// The metadata exceeds [`Limits::metadata`](crate::Limits::metadata).
    #[error("metadata of {len} bytes exceeds the limit of {limit}; shorten it or raise Limits::metadata on every node")]
    MetadataTooLong {
        /// The length of the metadata in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// There would be more contacts than [`Limits::contacts`](crate::Limits::contacts).
    #[error("{count} contacts exceed the limit of {limit}; add fewer or raise Limits::contacts")]
    TooManyContacts {
        /// How many contacts there would be.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// Only the master changes the voters.
    #[error("only the master changes the voters: {}", named(master.as_ref()))]
    NotMaster {
        /// The master of this node, and its address, if it has one.
        master: Option<(Node, Address)>,
    },
    /// A cluster has at least one voter, and at most so many.
    #[error("{count} voters were asked for; a cluster has 1 to {limit}")]
    NumberOfVoters {
        /// How many were asked for.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// A node that is a voter, or is to become one, keeps its votes in memory. After a restart it would not know who votes.
    #[error("the node at {address} keeps its votes in memory; give it a state directory first")]
    VotesInMemory {
        /// The address of the node.
        address: Address,
    },
    /// With `solo_after`, the voters cannot change.
    #[error("solo_after is configured, and a cluster with solo masters cannot change its voters")]
    SoloMasters,
    /// More addresses were discovered than [`Limits::discovered`](crate::Limits::discovered).
    #[error("{count} discovered addresses exceed the limit of {limit}; pass on fewer or raise Limits::discovered")]
    TooManyDiscovered {
        /// How many addresses there would be.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// A stream is to be opened to a node that the view does not have in this run, or to this node itself.
    #[error("{0} is not another member; open streams to the nodes of the newest view")]
    NotAMember(Node),
    /// A stream was opened with a number that is not larger than all before.
    #[error("stream {stream} was opened after {newest}; give each stream a larger number than any before")]
    ReusedStream {
        /// The number of the new stream.
        stream: StreamId,
        /// The largest number before.
        newest: StreamId,
    },
    /// There are as many streams as [`Limits::streams`](crate::Limits::streams) allows, or, with this node, as
    /// [`streams_per_member`](crate::Limits::streams_per_member).
    #[error("there are {limit} streams already{}; close some or raise Limits::{}", of_text(with.as_ref()), limit_text(with.is_some()))]
    TooManyStreams {
        /// The node, if the limit is that of one node.
        with: Option<NodeId>,
        /// The limit.
        limit: usize,
    },
    /// More names of streams are served than [`Limits::stream_names`](crate::Limits::stream_names).
    #[error("{count} names of streams exceed the limit of {limit}; serve fewer or raise Limits::stream_names")]
    TooManyStreamNames {
        /// How many names there would be.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// Bytes were reported of a connection that an [`Output::Handoff`](crate::Output::Handoff) has given to the services.
    #[error("connection {0} was handed off; its bytes belong to the service, behind those of Output::Handoff")]
    HandedOff(ConnId),
}

/// Whom to ask.
fn named(master: Option<&(Node, Address)>) -> String {
    match master {
        Some((node, address)) => format!("ask {} at {address}", node.id),
        None => "this node has none; ask it again later".to_owned(),
    }
}

/// Why there is no connection to a dialed address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum DialProblem {
    /// The name has no address.
    #[error("its name does not resolve")]
    Unresolved,
    /// Nothing listens there.
    #[error("it refuses the connection")]
    Refused,
    /// There is no way to it.
    #[error("the network does not reach it")]
    Unreachable,
    /// It has not answered in time.
    #[error("it does not answer")]
    TimedOut,
    /// Anything else. The embedder's log has the error.
    #[error("the connection failed")]
    Other,
}

fn in_flight_text(in_flight: Option<u64>) -> String {
    in_flight.map_or_else(|| "and no other is".into(), |seq| format!("but Persist {seq} is"))
}

fn of_text(with: Option<&NodeId>) -> String {
    with.map_or_else(String::new, |id| format!(" with {id}"))
}

fn limit_text(is_of_one: bool) -> &'static str {
    if is_of_one { "streams_per_member" } else { "streams" }
}

/// Why the core closed a connection (PROTOCOL.md, "Why a connection closes"). Nothing else is affected.
///
/// ```
/// use formation_core::{CloseReason, TlsFailure, TlsProblem};
///
/// fn advice(reason: CloseReason) -> String {
///     match reason {
///         CloseReason::TlsFailed(TlsFailure { problem: TlsProblem::Expired, .. }) => "renew the certificate".to_owned(),
///         CloseReason::FrameTooLong | CloseReason::Malformed => "another program is there".to_owned(),
///         other => other.to_string(),
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer sent a frame of length zero.
    #[error("the peer sent an empty frame")]
    EmptyFrame,
    /// The peer sent a frame that exceeds the limit of the connection's phase.
    #[error("the peer sent a frame that exceeds the limit")]
    FrameTooLong,
    /// The peer sent a frame that is not a message: an unknown variant, bytes after the message, or a field out of range.
    #[error("the peer sent a frame that is not a message")]
    Malformed,
    /// The peer sent a message that does not belong in the connection's phase, or that this peer may not send.
    #[error("the peer sent a message that it may not send now")]
    UnexpectedMessage,
    /// The peer does not speak this protocol: its first bytes are wrong.
    #[error("the peer does not speak this protocol")]
    WrongMagic,
    /// The peer speaks TLS, and this node does not: only one of the two is configured with TLS.
    #[error("the peer speaks TLS, and this node does not")]
    SpeaksTls,
    /// The peer speaks HTTP: it is a health check, a proxy or a browser, and no node.
    #[error("the peer speaks HTTP: it is no node")]
    SpeaksHttp,
    /// The connection was not established within [`handshake_timeout`](crate::Timing::handshake_timeout).
    #[error("the handshake took longer than handshake_timeout")]
    HandshakeTimeout,
    /// Nothing arrived on the link for [`down_after`](crate::Timing::down_after).
    #[error("nothing arrived for down_after")]
    Silent,
    /// The peer has read nothing of a write for twice [`down_after`](crate::Timing::down_after).
    #[error("the peer reads nothing: a write took twice down_after")]
    Stalled,
    /// The peer has begun a frame, and has not completed it within twice [`down_after`](crate::Timing::down_after).
    #[error("the peer sends too slowly: a frame took twice down_after")]
    FrameTooSlow,
    /// The peer sends more messages than [`Limits::messages`](crate::Limits::messages) allows.
    #[error("the peer sends more messages than the limit allows")]
    TooManyMessages,
    /// The limit of bytes in writes is reached ([`Limits::unsent_bytes`](crate::Limits::unsent_bytes)), and the peer reads slowly.
    #[error("the limit of unsent bytes is reached, and the peer reads slowly")]
    TooManyUnsentBytes,
    /// This node rejected the peer. In the handshake it has sent the reason. On a link whose place another node takes it has not.
    #[error("this node rejected the peer: {0}")]
    Rejected(RejectReason),
    /// The peer rejected this node, and sent it the reason.
    #[error("the peer rejected this node: {0}")]
    RejectedByPeer(RejectReason),
    /// The connection could not be secured below this protocol.
    #[error("{0}")]
    TlsFailed(TlsFailure),
    /// Another connection to the same node is kept (C2).
    #[error("another connection to the same node is kept")]
    Duplicate,
    /// A newer incarnation of the same node has appeared (I1).
    #[error("a newer incarnation of the same node has appeared")]
    Superseded,
    /// The node dialed itself, or receives an echo of its own messages (I8).
    #[error("the connection leads back to this node, or the peer repeats its messages")]
    SelfDial,
    /// Too many accepted connections are not established, and most of them come from where this one came from
    /// ([`Limits::pending_connections`](crate::Limits::pending_connections)).
    #[error(
        "too many accepted connections wait for their handshake, and most of them come from where this one came from"
    )]
    TooManyPending,
    /// The limit of connections is reached ([`Limits::connections`](crate::Limits::connections)).
    #[error("the limit of connections is reached")]
    TooManyConnections,
    /// The limit of bytes in unfinished frames is reached ([`Limits::partial_bytes`](crate::Limits::partial_bytes)).
    #[error("the limit of bytes in unfinished frames is reached")]
    TooManyPartialBytes,
    /// The dial had already been given up when it succeeded.
    #[error("the dial had already been given up")]
    DialGivenUp,
    /// Neither end needs the link, now that there is a master (D2).
    #[error("the link is no longer needed")]
    NotNeeded,
    /// One of the two nodes leaves.
    #[error("one of the two nodes leaves the cluster")]
    Left,
}

impl CloseReason {
    /// For a connection that was not established: whether another event reports its close, so that
    /// [`Event::ConnClosed`](crate::Event::ConnClosed) does not. Such an event is not repeated for each connection.
    pub(crate) fn has_own_event(self, is_dialed: bool) -> bool {
        match self {
            Self::Rejected(_) | Self::SelfDial => true,
            // `Event::RejectedByPeer` names the address that was dialed.
            Self::RejectedByPeer(_) => is_dialed,
            Self::EmptyFrame
            | Self::FrameTooLong
            | Self::Malformed
            | Self::UnexpectedMessage
            | Self::WrongMagic
            | Self::SpeaksTls
            | Self::SpeaksHttp
            | Self::HandshakeTimeout
            | Self::Silent
            | Self::Stalled
            | Self::FrameTooSlow
            | Self::TooManyMessages
            | Self::TooManyUnsentBytes
            | Self::TlsFailed(_)
            | Self::Duplicate
            | Self::Superseded
            | Self::TooManyPending
            | Self::TooManyConnections
            | Self::TooManyPartialBytes
            | Self::DialGivenUp
            | Self::NotNeeded
            | Self::Left => false,
        }
    }
}

/// A connection could not be secured, for example by TLS: which end does not trust the other, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, thiserror::Error)]
#[error("{}: {problem}", if *by_peer { "the peer does not trust this node" } else { "this node does not trust the peer" })]
#[non_exhaustive]
pub struct TlsFailure {
    /// The peer does not trust this node. Otherwise this node does not trust the peer.
    pub by_peer: bool,
    /// What is wrong with the end that is not trusted.
    pub problem: TlsProblem,
}

impl TlsFailure {
    /// A failure that the transport reports. With `by_peer`, the peer does not trust this node.
    ///
    /// ```
    /// use formation_core::{TlsFailure, TlsProblem};
    ///
    /// let failure = TlsFailure::new(true, TlsProblem::Expired);
    /// assert!(failure.to_string().starts_with("the peer does not trust this node: its certificate has expired"));
    /// ```
    pub const fn new(by_peer: bool, problem: TlsProblem) -> Self {
        Self { by_peer, problem }
    }
}

/// Why an end of a connection is not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum TlsProblem {
    /// It does not use TLS: it is a node that is configured without TLS, or no node, such as a health check.
    #[error("it does not use TLS")]
    NotSecured,
    /// It has not sent a certificate.
    #[error("it has not sent a certificate")]
    NoCertificate,
    /// No trusted authority has issued its certificate.
    #[error("no trusted authority has issued its certificate")]
    UnknownIssuer,
    /// Its certificate has expired.
    #[error("its certificate has expired, or the clock is wrong")]
    Expired,
    /// Its certificate is not valid yet.
    #[error("its certificate is not valid yet, or the clock is wrong")]
    NotYetValid,
    /// Its certificate is not for the name that was dialed.
    #[error("its certificate is not for the name that was dialed")]
    WrongName,
    /// Its certificate was revoked.
    #[error("its certificate was revoked")]
    Revoked,
    /// Another problem: no version or cipher in common, a certificate for another purpose, a wrong signature.
    #[error("the connection could not be secured; see the log of the end that does not trust the other")]
    Other,
}

/// Why a node is rejected. This is sent on the wire (PROTOCOL.md, "Rejections").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum RejectReason {
    /// The clusters have different names.
    #[error("the clusters have different names")]
    WrongCluster,
    /// No protocol version is common to both.
    #[error("no protocol version is common to both")]
    NoCommonProtocol,
    /// The seed lists differ.
    #[error("the seed lists differ")]
    ElectorateMismatch,
    /// A newer incarnation of the same node is known (I2).
    #[error("a newer incarnation of the same node is known")]
    Superseded,
    /// A living node has the same id and another address (I3).
    #[error("a living node has the same id")]
    IdInUse,
    /// A living node has the same address and another id (I6).
    #[error("a living node has the same address")]
    AddressInUse,
    /// The cluster has as many members as it may have.
    #[error("the cluster is full")]
    ClusterFull,
    /// The metadata of the node exceeds the master's limit.
    #[error("the metadata exceeds the limit of the master")]
    MetadataTooLong,
    /// The nodes have no cluster key in common, or only one of them has any.
    #[error("the nodes have no cluster key in common")]
    KeyMismatch,
    /// The proof of the cluster key is wrong.
    #[error("the proof of the cluster key is wrong")]
    BadProof,
    /// The node claims a seed's address, or the identity of a linked node, and has not proven it (H11).
    #[error("its address is not proven: it has to be reachable at the address that it advertises")]
    Unproven,
    /// The node was a member more than once and acknowledged no heartbeat. It is admitted later (V11).
    #[error("it has acknowledged no heartbeat while it was a member, so it is admitted later")]
    Unresponsive,
    /// The view names another node under this id, at another address (I3). The sender has no proven link to that node. So this never
    /// stops the rejected node, which joins once the entry is gone.
    #[error("the view has another node under its id")]
    IdInView,
    /// The view does not have this run of the node at this address, so it opens no stream (S4).
    #[error("it is not a member, as far as the other node knows")]
    NotAMember,
    /// Nothing on the node takes streams of this name (S5).
    #[error("nothing there takes streams of this name")]
    UnknownStream,
    /// The node has as many streams as it may have, or as it may have with this peer, or the peer opens them too fast (S6).
    #[error("it has too many streams there, or opens them too fast")]
    TooManyStreams,
}

impl RejectReason {
    /// Whether only a person can repair this. The address is then retried rarely: after the longest backoff each time, with
    /// the usual jitter of ± 50 % (PROTOCOL.md, D6).
    ///
    /// ```
    /// use formation_core::RejectReason;
    ///
    /// assert!(RejectReason::KeyMismatch.is_permanent(), "a person has to correct the key");
    /// assert!(!RejectReason::ClusterFull.is_permanent(), "a member may leave");
    /// ```
    pub fn is_permanent(self) -> bool {
        match self {
            Self::WrongCluster
            | Self::NoCommonProtocol
            | Self::Superseded
            | Self::IdInUse
            | Self::AddressInUse
            | Self::MetadataTooLong
            | Self::KeyMismatch
            | Self::BadProof
            | Self::IdInView => true,
            Self::ElectorateMismatch
            | Self::ClusterFull
            | Self::Unproven
            | Self::Unresponsive
            | Self::NotAMember
            | Self::UnknownStream
            | Self::TooManyStreams => false,
        }
    }

    /// H10: whether the reason is about membership, and not about the link: a master sends it to a node that stays linked, and a new
    /// link does not end such a rejection.
    pub(crate) fn is_from_master(self) -> bool {
        match self {
            Self::ClusterFull | Self::MetadataTooLong | Self::Unresponsive => true,
            Self::WrongCluster
            | Self::NoCommonProtocol
            | Self::ElectorateMismatch
            | Self::Superseded
            | Self::IdInUse
            | Self::AddressInUse
            | Self::KeyMismatch
            | Self::BadProof
            | Self::Unproven
            | Self::IdInView
            | Self::NotAMember
            | Self::UnknownStream
            | Self::TooManyStreams => false,
        }
    }

    /// H10: whether this is decided before the proof of the cluster key, so that an unauthenticated peer may send it.
    pub(crate) fn may_precede_proof(self) -> bool {
        match self {
            Self::WrongCluster
            | Self::NoCommonProtocol
            | Self::ElectorateMismatch
            | Self::KeyMismatch
            | Self::BadProof => true,
            Self::Superseded
            | Self::IdInUse
            | Self::AddressInUse
            | Self::ClusterFull
            | Self::MetadataTooLong
            | Self::Unproven
            | Self::Unresponsive
            | Self::IdInView
            | Self::NotAMember
            | Self::UnknownStream
            | Self::TooManyStreams => false,
        }
    }
}
