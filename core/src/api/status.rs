//! A look at a node from outside, for people and for metrics.

use crate::id::{Address, Node, Term};

/// What a node is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Without a master.
    Joining,
    /// A candidate.
    Candidate,
    /// Following a master.
    Follower,
    /// The master.
    Master,
    /// The master, without a quorum: there may be others (E8).
    Solo,
    /// On its way out.
    Leaving,
    /// Done.
    Stopped,
}

/// What has been counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Counters {
    /// Bytes handed out to be sent.
    pub bytes_sent: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Frames received.
    pub frames_received: u64,
    /// Candidacies begun.
    pub candidacies: u64,
}

/// A look inside.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Status {
    /// What the node is doing.
    pub phase: Phase,
    /// Its term.
    pub term: Term,
    /// The master that it follows or is, and that master's address.
    pub master: Option<(Node, Address)>,
    /// Whether it takes part in elections: a voter that may form a cluster, and whose votes can be kept (E4).
    pub can_vote: bool,
    /// How many established connections it has.
    pub links: usize,
    /// How many accepted connections are not established yet.
    pub pending_connections: usize,
    /// Bytes of unfinished frames, over all connections.
    pub partial_bytes: usize,
    /// What has been counted.
    pub counters: Counters,
}
