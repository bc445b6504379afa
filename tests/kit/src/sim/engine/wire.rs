//! One connection between two ends, with a FIFO of bytes in each direction.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use formation_core::{CloseReason, ConnId, DialId};

use super::host::RunId;

/// Identifies a connection of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WireId(pub(super) usize);

/// The owner of one end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// A run of a node.
    Node(RunId),
    /// The test itself.
    Test,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Opening,
    Open,
    Closed,
}

#[derive(Debug)]
pub(super) enum Piece {
    Bytes(Bytes),
    End,
}

#[derive(Debug)]
pub(super) struct End {
    pub(super) owner: Owner,
    pub(super) phase: Phase,
    /// The host's id for this end, once it is open.
    pub(super) conn: Option<ConnId>,
    /// The pieces on their way to this end, with their arrival times.
    pub(super) arriving: VecDeque<(u64, Piece)>,
    /// The earliest arrival time of the next piece. It keeps the pieces in order.
    pub(super) not_before: u64,
    /// The number of bytes in `arriving`.
    pub(super) unread: usize,
    /// The owner of this end reads nothing for now.
    pub(super) stops_reading: bool,
    /// The last `Send` of this end waits for room in the socket buffer.
    pub(super) blocked: bool,
    /// Bytes that are sent to this end are lost, and neither end notices.
    pub(super) dead: bool,
    /// The bytes that the test has received at its end.
    pub(super) inbox: BytesMut,
    /// The reason for which the node at this end closed it.
    pub(super) reason: Option<CloseReason>,
    /// The peer has closed its end.
    pub(super) ended: bool,
}

impl End {
    pub(super) fn new(owner: Owner) -> Self {
        Self {
            owner,
            phase: Phase::Opening,
            conn: None,
            arriving: VecDeque::new(),
            not_before: 0,
            unread: 0,
            stops_reading: false,
            blocked: false,
            dead: false,
            inbox: BytesMut::new(),
            reason: None,
            ended: false,
        }
    }

    /// Drops all bytes on their way to this end, except the first `kept` ones.
    pub(super) fn lose_beyond(&mut self, kept: usize) {
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
pub(super) struct Wire {
    /// The dialing end, then the accepting end.
    pub(super) ends: [End; 2],
    /// The dial that opened the connection, if a node dialed.
    pub(super) dial: Option<DialId>,
    /// The one-way latency in microseconds.
    pub(super) latency: u64,
}

impl Wire {
    /// The node that sends towards `side`, and the node at `side`. `None` if the test owns one of the ends.
    pub(super) fn towards(&self, side: usize) -> Option<(usize, usize)> {
        match (self.ends[1 - side].owner, self.ends[side].owner) {
            (Owner::Node(from), Owner::Node(to)) => Some((from.host, to.host)),
            _ => None,
        }
    }

    /// Whether the connection is between these two nodes.
    pub(super) fn joins(&self, a: usize, b: usize) -> bool {
        self.towards(0).is_some_and(|(from, to)| (from, to) == (a, b) || (from, to) == (b, a))
    }

    /// The connection carries nothing any more, and neither end notices.
    pub(super) fn kill(&mut self) {
        self.ends.iter_mut().for_each(|end| end.dead = true);
    }

    /// Whether both ends are open.
    pub(super) fn is_open(&self) -> bool {
        self.ends.iter().all(|end| end.phase == Phase::Open)
    }
}
