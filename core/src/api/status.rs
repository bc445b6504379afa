//! The status of a node, for people and for metrics, and its mastership.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    api::explain::Storage,
    id::{Address, Node, Term},
    time::Timestamp,
    wire::message::Role,
};

/// What a node is doing. Unlike the [`Role`](crate::message::Role) on the wire, it also covers a node that has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Phase {
    /// It has no master, and is no candidate.
    Joining,
    /// It asks for votes.
    Candidate,
    /// It follows a master.
    Follower,
    /// It is the master, elected by a quorum.
    Master,
    /// It is a solo master: a master without a quorum. There may be others (PROTOCOL.md, E8).
    Solo,
    /// It leaves.
    Leaving,
    /// It has stopped.
    Stopped,
}

impl From<&Role> for Phase {
    fn from(role: &Role) -> Self {
        match role {
            Role::Joining => Self::Joining,
            Role::Candidate => Self::Candidate,
            Role::Follower { .. } => Self::Follower,
            Role::Master => Self::Master,
            Role::Solo { .. } => Self::Solo,
            Role::Leaving => Self::Leaving,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Joining => "without a master",
            Self::Candidate => "candidate",
            Self::Follower => "follower",
            Self::Master => "master",
            Self::Solo => "master without a quorum",
            Self::Leaving => "leaving",
            Self::Stopped => "stopped",
        })
    }
}

/// Counts since the start of the node. They never decrease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Counters {
    /// Bytes of all [`Output::Send`](crate::Output::Send)s.
    pub bytes_sent: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Frames received.
    pub frames_received: u64,
    /// Candidacies, without those of a solo master (PROTOCOL.md, E8).
    pub candidacies: u64,
}

/// `sent 1200 bytes, received 900 bytes in 7 frames, candidacies: 1`
impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes_sent, bytes_received, frames_received, candidacies } = self;
        write!(
            f,
            "sent {bytes_sent} bytes, received {bytes_received} bytes in {frames_received} frames, candidacies: {candidacies}"
        )
    }
}

/// A snapshot of a node.
///
/// ```
/// use formation_core::{Counters, Phase, Status};
///
/// fn show(status: &Status) {
///     let Counters { bytes_sent, candidacies, .. } = status.counters;
///     match status.phase {
///         Phase::Master => println!("the master of term {}", status.term),
///         phase => println!("{phase}, with {} links, {bytes_sent} bytes sent, {candidacies} candidacies", status.links),
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Status {
    /// What the node is doing.
    pub phase: Phase,
    /// The newest term that it knows.
    pub term: Term,
    /// Its master, which may be the node itself, and the master's address.
    pub master: Option<(Node, Address)>,
    /// The term in which its master was last accepted. The node may know a newer term from another node.
    pub master_term: Option<Term>,
    /// Whether it takes part in elections: it is a voter, may form a cluster (PROTOCOL.md, D7), and its storage has not
    /// failed (E4).
    pub can_vote: bool,
    /// What is known of the storage of its votes (PROTOCOL.md, E4).
    pub storage: Storage,
    /// The number of established connections. There may be more than one to a peer for a short time.
    pub links: usize,
    /// The number of accepted connections that are not established.
    pub pending_connections: usize,
    /// The bytes of unfinished frames over all connections.
    pub partial_bytes: usize,
    /// Counts since the start.
    pub counters: Counters,
}

/// `follower in term 3 of node-a#7 at 10.0.0.1:7000, links: 2`
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in term {}", self.phase, self.term)?;
        if let (Phase::Follower, Some((master, address))) = (self.phase, &self.master) {
            write!(f, " of {master} at {address}")?;
        }
        write!(f, ", links: {}", self.links)
    }
}

/// A mastership with a valid lease (PROTOCOL.md, E6).
///
/// Use `term` as a fencing token: a resource that remembers the largest term that it has seen can refuse requests of an
/// earlier master. G1 says on which conditions a term has one master.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Leadership {
    /// The term of the mastership. It is larger than that of every earlier master.
    pub term: Term,
    /// The end of the lease. From this moment on, this node must not act as the master. The lease ends earlier if the node
    /// leaves or resigns, and it ends with its process (G2). A write that a killed process has started may take effect beside the next
    /// master, unless its receiver checks `term`.
    pub valid_until: Timestamp,
}

/// `master of term 3 until 12.5s`: the time is that of the node's clock.
impl fmt::Display for Leadership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "master of term {} until {}", self.term, self.valid_until)
    }
}
