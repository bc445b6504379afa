//! What this node does in its election, and what it has to remember for that.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use core::time::Duration;

use crate::{
    api::durable::HardState,
    id::{Address, Node, Term},
    time::Timestamp,
    wire::message::Heartbeat,
};

/// What this node does in its election at the moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(super) enum State {
    /// Nothing: a follower, a joining node, or a node that is no voter.
    Idle,
    /// It asks for votes in the current term.
    Candidate(Candidacy),
    /// It is the master of the current term.
    Master(Mastership),
    /// It leaves, and is never a candidate or a master again. It may still have a master, until that one is lost.
    Leaving,
}

impl State {
    pub(super) fn mastership(&self) -> Option<&Mastership> {
        match self {
            Self::Master(mastership) => Some(mastership),
            Self::Idle | Self::Candidate(_) | Self::Leaving => None,
        }
    }

    pub(super) fn candidacy(&self) -> Option<&Candidacy> {
        match self {
            Self::Candidate(candidacy) => Some(candidacy),
            Self::Idle | Self::Master(_) | Self::Leaving => None,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        match self {
            Self::Idle => true,
            Self::Candidate(_) | Self::Master(_) | Self::Leaving => false,
        }
    }

    pub(super) fn is_leaving(&self) -> bool {
        match self {
            Self::Leaving => true,
            Self::Idle | Self::Candidate(_) | Self::Master(_) => false,
        }
    }

    /// E3: whether a request for a vote can be granted. A master here always has a valid lease, because an expired lease is
    /// handled first (E6).
    pub(super) fn may_grant(&self) -> bool {
        match self {
            Self::Idle | Self::Candidate(_) => true,
            Self::Master(_) | Self::Leaving => false,
        }
    }

    /// E8: whether the node looks for a master or a quorum, provided that it follows nobody.
    pub(super) fn is_searching(&self) -> bool {
        match self {
            Self::Idle | Self::Candidate(_) => true,
            Self::Master(_) | Self::Leaving => false,
        }
    }
}

/// E2: one attempt to become the master, in the current term.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Candidacy {
    /// E8: it needs no vote but its own.
    pub(super) solo: bool,
    /// The number in its requests, by which their answers are recognized.
    pub(super) number: u64,
    /// When the requests were sent. E4: not before the candidate's own vote is durable.
    pub(super) requested_at: Option<Timestamp>,
    /// When it gives up.
    pub(super) deadline: Timestamp,
    /// The voters that granted their vote, without this node.
    pub(super) granted: BTreeSet<Address>,
    /// The voters that refused.
    pub(super) refused: BTreeSet<Address>,
}

/// E6: the time as the master of one term.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Mastership {
    /// E8: it has no quorum, and therefore no lease that could expire.
    pub(super) solo: bool,
    /// For each other voter, and each node that is to become one (E10), the newest sending time that it has confirmed.
    pub(super) confirmed: BTreeMap<Address, Timestamp>,
    /// The numbers and sending times of the heartbeats that a confirmation may still name, oldest first.
    pub(super) sent: VecDeque<(u64, Timestamp)>,
    /// E10: the newest number that was given out when the present electorate became durable here.
    pub(super) changed_at: u64,
    /// E10: the other voters that have confirmed a later heartbeat with the present electorate.
    pub(super) installed: BTreeSet<Address>,
    /// E10: the voters that were asked for, until the electorate says so.
    pub(super) wanted: Option<BTreeSet<Address>>,
    /// E10: it is to be removed, and reports no lease that ends later than this.
    pub(super) ends_at: Option<Timestamp>,
    /// E10: another node holds a newer electorate than this master.
    pub(super) is_outdated: bool,
}

/// The master that this node follows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Followed {
    pub(super) master: Node,
    pub(super) address: Address,
    /// The term in which it was last accepted.
    pub(super) term: Term,
    /// It is a solo master (E8).
    pub(super) solo: bool,
    /// When it counts as lost, unless something arrives from it.
    pub(super) deadline: Timestamp,
    /// Its newest heartbeat.
    pub(super) heartbeat: Option<Heartbeat>,
    /// V10: nothing has arrived from it since this node has paused, and it has got more time for that.
    pub(super) is_excused: bool,
}

/// E5: a commitment not to vote for another node before a given time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Promise {
    pub(super) to: Node,
    /// The term of the vote or the heartbeat that it was given for.
    pub(super) term: Term,
    pub(super) until: Timestamp,
    /// The end of the promise once a `Release` of this term has arrived: what was promised to the same node in an earlier
    /// term stays in force.
    pub(super) until_after_release: Timestamp,
    /// The longest lease that it was given for.
    pub(super) lease: Duration,
}

/// What is durable, and what is being made durable. At most one `Persist` is in flight.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Persistence {
    pub(super) durable: HardState,
    pub(super) in_flight: Option<HardState>,
    /// The number of the last `Persist`.
    pub(super) seq: u64,
    /// The `Persist` in flight takes too long. Until it is durable, nobody can rely on a vote of this node.
    pub(super) delayed: bool,
    /// A `Persist` has failed. From then on nobody knows what is durable, and none is requested any more.
    pub(super) failed: bool,
}
