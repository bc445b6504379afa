//! What can go wrong, split by who is to blame: the host ([`Misuse`]), a peer ([`CloseReason`]), or a refusal said on the
//! wire ([`RejectReason`]). Configuration errors are at [`ConfigError`](crate::ConfigError).

use serde::{Deserialize, Serialize};

use crate::id::{ConnId, DialId};

/// A fault of the host. The state is unchanged.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Misuse {
    /// An input names a connection that is newer than all that were opened. An older one, opened or not, counts as one that is
    /// over, of which late inputs may still come.
    #[error("connection {0} was never opened; say Input::Opened first")]
    UnknownConn(ConnId),
    /// A connection was opened under a name that is not larger than all before.
    #[error("connection {conn} was opened after {newest}; give each connection a larger number than any before")]
    ReusedConn {
        /// The name that was given.
        conn: ConnId,
        /// The largest before.
        newest: ConnId,
    },
    /// An input names a dial that the core never asked for.
    #[error("dial {} was never asked for; answer each Output::Dial once, with its own id", .0.0)]
    UnknownDial(DialId),
    /// A `Flushed` for a connection that has no `Send` in flight.
    #[error("connection {0} has no Send in flight; say Input::Flushed once for each Output::Send")]
    NotInFlight(ConnId),
    /// A `Persisted` or `PersistFailed` that is not the one in flight.
    #[error("{seq} is not the number of the Persist in flight ({in_flight:?}); answer each Output::Persist once")]
    NotPersisting {
        /// The number that was given.
        seq: u64,
        /// The number that is in flight.
        in_flight: Option<u64>,
    },
    /// Metadata over the configured limit.
    #[error("metadata of {len} bytes is over the limit of {limit}; shorten it or raise Limits::metadata on every node")]
    MetadataTooLong {
        /// Its length in bytes.
        len: usize,
        /// `Limits::metadata`.
        limit: usize,
    },
    /// More contacts than the configured limit.
    #[error("{count} contacts are over the limit of {limit}; add fewer or raise Limits::contacts")]
    TooManyContacts {
        /// How many there would be.
        count: usize,
        /// `Limits::contacts`.
        limit: usize,
    },
}

/// Why the core closed a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// A frame of length zero.
    #[error("the peer sent an empty frame")]
    EmptyFrame,
    /// A frame over the limit of the connection's phase.
    #[error("the peer announced a frame over the limit")]
    FrameTooLong,
    /// A frame that is no message: an unknown variant, bytes behind it, or a field out of range.
    #[error("the peer sent a frame that is no message")]
    Malformed,
    /// A message that has no place in the connection's phase, or that this peer may not send.
    #[error("the peer sent a message out of place")]
    UnexpectedMessage,
    /// A term so far above this node's own that no count of elections leads to it.
    #[error("the peer spoke of a term that no count of elections leads to")]
    TermOutOfReach,
    /// The first bytes are not those of this protocol.
    #[error("the peer does not speak this protocol")]
    WrongMagic,
    /// The link was not established in `handshake_timeout`.
    #[error("the handshake took longer than handshake_timeout")]
    HandshakeTimeout,
    /// Nothing came for `down_after`.
    #[error("nothing was heard for down_after")]
    Silent,
    /// This node refused the peer, and told it why.
    #[error("refused: {0}")]
    Rejected(RejectReason),
    /// The peer refused this node, and told it why.
    #[error("the peer refused: {0}")]
    RejectedByPeer(RejectReason),
    /// The connection was to be secured below this protocol, and one of its ends trusts the other not.
    #[error("{0}")]
    TlsFailed(TlsFailure),
    /// Another connection to the same node is kept.
    #[error("another connection to the same node is kept")]
    Duplicate,
    /// A newer incarnation of the same node has come.
    #[error("a newer incarnation of the same node has come")]
    Superseded,
    /// The node dialed itself.
    #[error("the node dialed itself")]
    SelfDial,
    /// Too many accepted connections are not yet established; this was the oldest of them.
    #[error("too many accepted connections wait for their handshake, and this was the oldest")]
    TooManyPending,
    /// Too many connections in all.
    #[error("the limit of links is reached")]
    TooManyConnections,
    /// Too many bytes of unfinished frames over all links.
    #[error("the limit of bytes in unfinished frames is reached")]
    TooManyPartialBytes,
    /// The dial had been given up when it succeeded.
    #[error("the dial had been given up")]
    DialGivenUp,
    /// A link that neither end needs, now that there is a master.
    #[error("the link is no longer needed")]
    NotNeeded,
    /// One of the two nodes leaves.
    #[error("one of the two nodes leaves the cluster")]
    Left,
}

/// A connection could not be secured, by TLS for example: who found what to be wrong with the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, thiserror::Error)]
#[error("{}: {problem}", if *by_peer { "the peer does not trust this node" } else { "this node does not trust the peer" })]
pub struct TlsFailure {
    /// The peer found it and told this node; otherwise this node did.
    pub by_peer: bool,
    /// What is wrong with the other end.
    pub problem: TlsProblem,
}

/// What is wrong with an end that is not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum TlsProblem {
    /// It does not secure its connections, or not in this way.
    #[error("it speaks no TLS")]
    NotSecured,
    /// It has shown no certificate.
    #[error("it has shown no certificate")]
    NoCertificate,
    /// Its certificate was issued by none of those that are trusted.
    #[error("its certificate was issued by nobody who is trusted")]
    UnknownIssuer,
    /// Its certificate has expired.
    #[error("its certificate has expired; or this clock is wrong")]
    Expired,
    /// Its certificate is not valid yet.
    #[error("its certificate is not valid yet; or this clock is wrong")]
    NotYetValid,
    /// Its certificate is not for the name that was dialed.
    #[error("its certificate is not for the name that was dialed")]
    WrongName,
    /// Its certificate was revoked.
    #[error("its certificate was revoked")]
    Revoked,
    /// Something else: no version or cipher in common, a certificate for another purpose, a broken signature.
    #[error("the connection could not be secured; see the log of the end that does not trust")]
    Other,
}

/// Why a node is refused, machine-readably, on the wire.
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
    /// A newer incarnation of the same node is known.
    #[error("a newer incarnation of the same node is known")]
    Superseded,
    /// A living node has the same id and another address.
    #[error("a living node has the same id")]
    IdInUse,
    /// A living node has the same address and another id.
    #[error("a living node has the same address")]
    AddressInUse,
    /// The cluster has as many members as it may.
    #[error("the cluster is full")]
    ClusterFull,
    /// The node's metadata is over the master's limit.
    #[error("the metadata is longer than the master allows")]
    MetadataTooLong,
    /// The nodes have no cluster key in common, or only one of them has any.
    #[error("the nodes have no cluster key in common")]
    KeyMismatch,
    /// The proof of the cluster key does not hold.
    #[error("the proof of the cluster key does not hold")]
    BadProof,
}

impl RejectReason {
    /// Whether only a person can mend it; then the address is retried after the longest backoff each time, ± 50 %.
    pub fn is_permanent(self) -> bool {
        !matches!(self, Self::ElectorateMismatch | Self::ClusterFull)
    }

    /// Whether it keeps a node that is linked from being a member, and is judged by the master alone.
    pub(crate) fn is_said_by_the_master(self) -> bool {
        matches!(self, Self::ClusterFull | Self::MetadataTooLong)
    }

    /// Whether it is judged before a proof of the cluster key, and so may be said by anybody.
    pub(crate) fn needs_no_proof(self) -> bool {
        matches!(
            self,
            Self::WrongCluster | Self::NoCommonProtocol | Self::ElectorateMismatch | Self::KeyMismatch | Self::BadProof
        )
    }
}
