//! What this node knows about another voter, and how voters rank.

use core::{cmp::Reverse, time::Duration};

use crate::{
    api::electorate::{Electorate, ElectorateVersion},
    id::{Node, NodeId, Term},
    time::Timestamp,
    wire::message::{Role, StatusReport},
    wire::voting::Voting,
};

/// E2: the place of a voter among others. The smaller one has its turn first: a voter that is not to be removed (E10), then a higher
/// priority, then a lower id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank<'a> {
    is_surplus: bool,
    priority: Reverse<u8>,
    id: &'a NodeId,
}

impl<'a> Rank<'a> {
    pub(super) fn new(is_surplus: bool, priority: u8, id: &'a NodeId) -> Self {
        Self { is_surplus, priority: Reverse(priority), id }
    }
}

/// What is known about one of the other voters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Voter {
    /// The node at the other end of the link, while there is one.
    pub(super) linked: Option<Node>,
    /// The newest status since the start of this node. It is kept when the link ends (E1).
    pub(super) last_report: Option<LastReport>,
    /// E1: since the start of this node, this voter has shown a status after which no forgotten vote of this node can matter.
    pub(super) cleared: bool,
    /// E10: it is to be removed.
    pub(super) is_surplus: bool,
    /// It may only join, and has had a master since (D7).
    pub(super) has_joined: bool,
    /// How it votes, as its newest run has reported it.
    pub(super) voting: Option<Voting>,
    /// L7: it was the last master, and has resigned: the others have their turns first.
    pub(super) resigned: bool,
    /// Its lease and its `bootstrap_wait` that were compared with this node's.
    pub(super) compared: Option<(Duration, Duration)>,
    /// E10: the newest electorate that it has sent, until this node may take it.
    pub(super) offered: Option<Electorate>,
    /// E9: the node there has another seed list, and this master. It counts until then.
    pub(super) other_master: Option<(Node, Timestamp)>,
}

impl Voter {
    /// Whether it confirms this lease, as far as is known (E5).
    pub(super) fn confirms(&self, lease: Duration) -> bool {
        self.voting.as_ref().is_none_or(|voting| voting.bootstrap_wait >= lease)
    }

    /// D7: whether it may form a cluster, as far as is known. A voter with a master may do so from then on.
    pub(super) fn may_form(&self) -> bool {
        self.voting.as_ref().is_none_or(|voting| voting.may_form) || self.has_joined
    }

    /// E2: its rank, while it is linked. Until it has reported a priority, this is the default.
    pub(super) fn rank(&self) -> Option<Rank<'_>> {
        self.linked.as_ref().map(|node| Rank::new(self.is_surplus, self.priority(), &node.id))
    }

    pub(super) fn priority(&self) -> u8 {
        self.voting.as_ref().map_or(0, |voting| voting.priority)
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.role().is_some_and(RoleKind::is_leaving)
    }

    pub(super) fn is_linked(&self) -> bool {
        self.linked.is_some()
    }

    /// Its newest status says that it cannot vote now, or there is none.
    pub(super) fn abstains(&self) -> bool {
        self.last_report.as_ref().is_none_or(|report| report.abstains)
    }

    /// Whether it is linked and could vote.
    pub(super) fn may_vote(&self) -> bool {
        self.is_linked() && !self.abstains()
    }

    /// Whether it is linked, could vote, and has no master.
    pub(super) fn may_elect(&self) -> bool {
        self.may_vote() && self.linked_role().is_some_and(RoleKind::has_no_master)
    }

    /// E1: whether this node may have promised something that excludes the candidate, as far as this voter shows.
    pub(super) fn causes_grace_towards(&self, candidate: &Node) -> bool {
        !self.cleared && self.last_report.as_ref().is_none_or(|report| report.might_exclude(candidate))
    }

    /// The role in its newest status, if there is one.
    pub(super) fn role(&self) -> Option<RoleKind> {
        self.last_report.as_ref().map(|report| report.role)
    }

    /// The role in its newest status, if it is linked as well. Without a link, nobody knows whether the status still holds.
    pub(super) fn linked_role(&self) -> Option<RoleKind> {
        self.role().filter(|_| self.is_linked())
    }
}

/// The part of a voter's status that the rules use.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct LastReport {
    pub(super) node: Node,
    /// E7: its term, where that matters: on a node that is no voter, or if it was far ahead.
    pub(super) term: Option<Term>,
    pub(super) role: RoleKind,
    pub(super) abstains: bool,
    pub(super) promise: Option<Node>,
    /// E10: the electorate that it holds.
    pub(super) electorate: ElectorateVersion,
}

impl LastReport {
    pub(super) fn new(from: &Node, status: &StatusReport, keeps_term: bool) -> Self {
        let (role, promise) = (RoleKind::from(&status.role), status.promise.clone());
        let term = keeps_term.then_some(status.term);
        let (abstains, electorate) = (status.abstains, status.electorate);
        Self { node: from.clone(), term, role, abstains, promise, electorate }
    }

    /// E1: whether the voter cannot rely on a vote for itself, and is bound by no promise.
    pub(super) fn is_free(&self) -> bool {
        !self.role.relies_on_votes() && self.promise.is_none()
    }

    /// E1: whether a promise that the receiver of this status has forgotten might exclude the candidate.
    pub(super) fn might_exclude(&self, candidate: &Node) -> bool {
        self.role.is_quorum_master()
            || (self.role.is_candidate() && self.node != *candidate)
            || self.promise.as_ref().is_some_and(|to| to != candidate)
    }
}

/// A [`Role`] without its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(super) enum RoleKind {
    Joining,
    Candidate,
    Follower,
    Master,
    Leaving,
    Solo,
}

impl From<&Role> for RoleKind {
    fn from(role: &Role) -> Self {
        match role {
            Role::Joining => Self::Joining,
            Role::Candidate => Self::Candidate,
            Role::Follower { .. } => Self::Follower,
            Role::Master => Self::Master,
            Role::Leaving => Self::Leaving,
            Role::Solo { .. } => Self::Solo,
        }
    }
}

impl RoleKind {
    pub(super) fn is_joining(self) -> bool {
        match self {
            Self::Joining => true,
            Self::Candidate | Self::Follower | Self::Master | Self::Leaving | Self::Solo => false,
        }
    }

    pub(super) fn is_candidate(self) -> bool {
        match self {
            Self::Candidate => true,
            Self::Joining | Self::Follower | Self::Master | Self::Leaving | Self::Solo => false,
        }
    }

    pub(super) fn is_leaving(self) -> bool {
        match self {
            Self::Leaving => true,
            Self::Joining | Self::Candidate | Self::Follower | Self::Master | Self::Solo => false,
        }
    }

    pub(super) fn is_solo(self) -> bool {
        match self {
            Self::Solo => true,
            Self::Joining | Self::Candidate | Self::Follower | Self::Master | Self::Leaving => false,
        }
    }

    /// A master that a quorum has elected.
    pub(super) fn is_quorum_master(self) -> bool {
        match self {
            Self::Master => true,
            Self::Joining | Self::Candidate | Self::Follower | Self::Leaving | Self::Solo => false,
        }
    }

    /// A master of either kind.
    pub(super) fn is_master(self) -> bool {
        match self {
            Self::Master | Self::Solo => true,
            Self::Joining | Self::Candidate | Self::Follower | Self::Leaving => false,
        }
    }

    /// E1: somebody may have voted for it.
    pub(super) fn relies_on_votes(self) -> bool {
        match self {
            Self::Candidate | Self::Master => true,
            Self::Joining | Self::Follower | Self::Leaving | Self::Solo => false,
        }
    }

    /// E2: it has no master, and takes part in elections.
    pub(super) fn has_no_master(self) -> bool {
        match self {
            Self::Joining | Self::Candidate => true,
            Self::Follower | Self::Master | Self::Leaving | Self::Solo => false,
        }
    }

    /// It has a master, or is one.
    pub(super) fn has_master(self) -> bool {
        match self {
            Self::Follower | Self::Master | Self::Solo => true,
            Self::Joining | Self::Candidate | Self::Leaving => false,
        }
    }

    /// E8: it has a master, is one, or may soon be one. Nobody becomes a solo master while such a voter is linked.
    pub(super) fn prevents_solo(self) -> bool {
        match self {
            Self::Candidate | Self::Follower | Self::Master | Self::Solo => true,
            Self::Joining | Self::Leaving => false,
        }
    }
}
