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
    /// Bytes among them.
    pub(crate) unread: usize,
    /// Whoever sits here reads nothing for now.
    pub(crate) deaf: bool,
    /// The last `Send` of this end waits for room in the buffers between the ends.
    pub(crate) blocked: bool,
    /// Nothing that is sent towards this end arrives any more, and no end ever hears of it.
    pub(crate) dead: bool,
    /// The first words that were sent from here, where somebody listens.
    pub(crate) spoken: BytesMut,
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
            unread: 0,
            deaf: false,
            blocked: false,
            dead: false,
            spoken: BytesMut::new(),
            inbox: BytesMut::new(),
            reason: None,
            ended: false,
        }
    }

    /// Of what is on its way here, only so many bytes come.
    pub(crate) fn lose_beyond(&mut self, kept: usize) {
        let mut left = kept;
        for (_, piece) in &mut self.arriving {
            if let Piece::Bytes(bytes) = piece {
                bytes.truncate(left);
                left -= bytes.len();
            }
        }
        self.arriving.retain(|(_, piece)| !matches!(piece, Piece::Bytes(bytes) if bytes.is_empty()));
        self.unread = kept;
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
}

impl Wire {
    /// The nodes at the end that sends towards `side`, and at `side`; `None` when a test holds one of them.
    pub(crate) fn towards(&self, side: usize) -> Option<(usize, usize)> {
        match (self.ends[1 - side].owner, self.ends[side].owner) {
            (Owner::Node(from), Owner::Node(to)) => Some((from.host, to.host)),
            _ => None,
        }
    }

    /// Whether it is between these two nodes.
    pub(crate) fn joins(&self, a: usize, b: usize) -> bool {
        self.towards(0).is_some_and(|(from, to)| (from, to) == (a, b) || (from, to) == (b, a))
    }

    /// It is as if it had never been, but no end hears of it.
    pub(crate) fn kill(&mut self) {
        self.ends.iter_mut().for_each(|end| end.dead = true);
    }

    /// Both ends are open.
    pub(crate) fn whole(&self) -> bool {
        self.ends.iter().all(|end| end.phase == Phase::Open)
    }
}
