//! One connection, and what a peer is still owed (PROTOCOL.md, "Two connections", "One send in flight").

use alloc::{boxed::Box, vec::Vec};

use bytes::Bytes;

use crate::{
    decoder::Decoder,
    error::{CloseReason, TlsFailure},
    id::{Address, ConnId, Node, NodeId},
    interface::Origin,
    message::{HeartbeatAck, Hello, JoinResponse, Rejected, Release, Resign, Role, StatusReport, Vote},
    proof::ClusterKey,
    time::Timestamp,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Link {
    pub(crate) origin: Origin,
    /// The address that was dialed.
    pub(crate) dialed: Option<Address>,
    /// That of our own `Hello`, by which a node that dialed itself knows it again.
    pub(crate) nonce: [u8; 16],
    pub(crate) decoder: Decoder,
    /// What the decoder held after the last chunk, as counted against the limit over all links.
    pub(crate) held_bytes: usize,
    pub(crate) phase: Phase,
    /// A `Send` is not flushed yet.
    pub(crate) in_flight: bool,
    pub(crate) silent_at: Timestamp,
    pub(crate) ping_at: Timestamp,
    pub(crate) ping_owed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// The peer's `Hello` has not come.
    Opening { hello_owed: bool },
    /// With a cluster key: its `Hello` has come, its proof has not. Nothing that it says of itself is believed.
    Proving(Box<Proving>),
    Established {
        peer: NodeId,
        /// Said before anything else: one end is established before it has answered with its own `Hello`, or its proof.
        first: Bytes,
        /// The newest protocol version that both ends speak.
        version: u16,
        /// The number of the last status said on it; 0 before the first.
        status_said: u64,
        /// Something has come behind the handshake, so the peer has established it too.
        heard: bool,
    },
    /// Refused; it closes once that is written.
    Refusing {
        rejected: Rejected,
        /// Our own proof, without which the peer would not believe us.
        first: Bytes,
        said: bool,
    },
}

/// What is known of a peer whose proof has not come.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Proving {
    pub(crate) hello: Hello,
    /// What the proofs are over.
    pub(crate) hellos: Bytes,
    /// What they are made with.
    pub(crate) key: ClusterKey,
    /// Who accepts answers with its own `Hello` and proves itself at once; who dials waits for that.
    pub(crate) answer: Bytes,
}

impl Link {
    pub(crate) fn new(origin: Origin, dialed: Option<Address>, nonce: [u8; 16], now: Timestamp) -> Self {
        Self {
            origin,
            dialed,
            nonce,
            decoder: Decoder::new(),
            held_bytes: 0,
            phase: Phase::Opening { hello_owed: matches!(origin, Origin::Dialed(_)) },
            in_flight: false,
            silent_at: now,
            ping_at: now,
            ping_owed: false,
        }
    }

    pub(crate) fn peer(&self) -> Option<&NodeId> {
        match &self.phase {
            Phase::Established { peer, .. } => Some(peer),
            _ => None,
        }
    }

    pub(crate) fn is_established(&self) -> bool {
        self.peer().is_some()
    }
}

/// Another node, as long as it has an established link. What is known of it is kept here, not by connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Peer {
    pub(crate) node: Node,
    pub(crate) address: Address,
    /// Its address is a seed.
    pub(crate) is_voter: bool,
    /// Its established connections, in the order in which they were established.
    pub(crate) links: Vec<ConnId>,
    pub(crate) status: Option<StatusReport>,
    /// So that it is not kept: the status has none.
    pub(crate) metadata_too_long: bool,
    pub(crate) owed: Owed,
}

impl Peer {
    /// It says that it is a master, of a quorum or without one.
    pub(crate) fn leads(&self) -> bool {
        self.status.as_ref().is_some_and(|status| matches!(status.role, Role::Master | Role::Solo { .. }))
    }

    /// It says that it leaves.
    pub(crate) fn leaves(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.role == Role::Leaving)
    }
}

/// What the next `Send` to a peer carries: the newest of each kind replaces the older, so nothing queues.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Owed {
    pub(crate) request: bool,
    pub(crate) vote: Option<Vote>,
    pub(crate) release: Option<Release>,
    pub(crate) resign: Option<Resign>,
    pub(crate) leave: bool,
    pub(crate) join: Option<JoinResponse>,
    pub(crate) ack: Option<HeartbeatAck>,
    pub(crate) heartbeat: bool,
}

/// What ends with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The host says so.
    ByHost,
    /// It could not be secured, and the host has closed it.
    TlsFailed(TlsFailure),
    /// The core closes it.
    Ours(CloseReason),
}
