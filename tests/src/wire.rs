//! One connection between two ends: a FIFO of bytes each way.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use formation_core::{CloseReason, ConnId, DialId};

use crate::host::RunId;

/// Names a connection of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WireId(pub(crate) usize);

/// Who sits at an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A run of a node.
    Node(RunId),
    /// The test itself.
    Test,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Opening,
    Open,
    Closed,
}

#[derive(Debug)]
pub(crate) enum Piece {
    Bytes(Bytes),
    End,
}

#[derive(Debug)]
pub(crate) struct End {
    pub(crate) owner: Owner,
    pub(crate) phase: Phase,
    /// The host's name for it, once it is open.
    pub(crate) conn: Option<ConnId>,
    /// What is on its way here, and when it arrives.
    pub(crate) arriving: VecDeque<(u64, Piece)>,
    /// Nothing arrives before this, so that nothing overtakes.
    pub(crate) not_before: u64,
    /// What a test's end has received.
    pub(crate) inbox: BytesMut,
    /// Why the core at this end closed it.
    pub(crate) reason: Option<CloseReason>,
    /// The peer of this end has closed.
    pub(crate) ended: bool,
}

impl End {
    pub(crate) fn new(owner: Owner) -> Self {
        Self {
            owner,
            phase: Phase::Opening,
            conn: None,
            arriving: VecDeque::new(),
            not_before: 0,
            inbox: BytesMut::new(),
            reason: None,
            ended: false,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Wire {
    /// The one that dialed, and the one that accepts.
    pub(crate) ends: [End; 2],
    /// The dial that it answers.
    pub(crate) dial: Option<DialId>,
    /// One-way, in microseconds.
    pub(crate) latency: u64,
    /// Whatever is sent is lost, and no end ever hears of it.
    pub(crate) dead: bool,
}

impl Wire {
    /// The nodes at both ends, the smaller first; `None` when a test holds one of them.
    pub(crate) fn pair(&self) -> Option<(usize, usize)> {
        match (self.ends[0].owner, self.ends[1].owner) {
            (Owner::Node(a), Owner::Node(b)) => Some((a.host.min(b.host), a.host.max(b.host))),
            _ => None,
        }
    }

    /// Both ends are open.
    pub(crate) fn whole(&self) -> bool {
        self.ends.iter().all(|end| end.phase == Phase::Open)
    }
}
