//! Rule E8: a master without a quorum, where it is configured, and masters that meet.

use alloc::collections::BTreeMap;
use core::{cmp::Ordering, time::Duration};

use super::{Election, Followed, Mastership, RoleKind, Voter};
use crate::{
    api::event::LossReason,
    id::{Address, Node, NodeId, Term},
    time::Timestamp,
    wire::message::{Role, StatusReport},
};

/// What rule E8 has to remember. Without `solo_after`, none of it ever changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Solo {
    after: Option<Duration>,
    /// Since when this voter has had neither a master nor a quorum.
    since: Option<Timestamp>,
    /// How many members this node has as a solo master, itself included.
    members: u32,
    /// The linked voters that are masters. A claim ends with its link: otherwise an outdated one could end a mastership.
    rivals: BTreeMap<Address, Claim>,
    /// The newest term of the joining nodes that this node could admit as a solo master.
    newest_joining_term: Term,
    /// The last solo master of this node, or this node as a solo master, has given way to another master, and no view of
    /// that one has arrived yet. A master that is merely silent has not given way.
    gave_way: bool,
}

/// What decides which one of two masters that meet continues.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
struct Claim {
    by_quorum: bool,
    members: u32,
    term: Term,
    id: NodeId,
}

impl Claim {
    /// Whether the master of this claim continues, and the other one gives way.
    fn wins_over(&self, other: &Self) -> bool {
        let size = |claim: &Self| (claim.by_quorum, claim.members, claim.term);
        match size(self).cmp(&size(other)) {
            Ordering::Greater => true,
            // Not by priority: of two equal sides it does not matter which one continues, and with a quorum the preferred voter becomes
            // the master anyway (L8).
            Ordering::Equal => self.id < other.id,
            Ordering::Less => false,
        }
    }
}

impl Solo {
    pub(super) fn new(after: Option<Duration>) -> Self {
        Self { after, members: 1, ..Self::default() }
    }

    /// Whether solo masters are configured.
    pub(super) fn is_enabled(&self) -> bool {
        self.after.is_some()
    }

    /// Checks what holds between two inputs, for voters of which `is_voter` is true.
    ///
    /// # Panics
    /// When something does not hold.
    pub(super) fn check(&self, is_voter: impl Fn(&Address) -> bool) {
        let is_unused = *self == Self::new(None);
        assert!(self.is_enabled() || is_unused, "E8: without solo_after nothing is remembered");
        assert!(self.rivals.keys().all(is_voter), "E8: only other voters are rivals");
    }
}

impl Election {
    /// Whether this node is a master without a quorum.
    pub(crate) fn is_solo(&self) -> bool {
        self.state.mastership().is_some_and(|mastership| mastership.solo)
    }

    /// Whether this node follows a master without a quorum.
    pub(crate) fn follows_solo(&self) -> bool {
        self.following.as_ref().is_some_and(|following| following.solo)
    }

    /// How many members this node has as a solo master.
    pub(super) fn members(&self) -> u32 {
        self.solo.members
    }

    /// Reports how many members this solo master has, itself included. With fewer members it may have to give way.
    pub(crate) fn set_members(&mut self, members: u32) {
        if self.solo.members != members {
            self.solo.members = members;
            self.settle();
        }
    }

    /// Whether the solo master of the last view has given way to another master. This is called
    /// with the first view of another master, and resets the answer.
    pub(crate) fn take_gave_way(&mut self) -> bool {
        core::mem::take(&mut self.solo.gave_way)
    }

    /// Remembers whether a linked voter is a master, by its newest status.
    pub(super) fn record_rival(&mut self, from: &Node, address: &Address, (term, role): (Term, &Role)) {
        if !self.solo.is_enabled() {
            return;
        }
        let (by_quorum, members) = match role {
            Role::Master => (true, 0),
            Role::Solo { members } => (false, *members),
            Role::Joining | Role::Candidate | Role::Follower { .. } | Role::Leaving => {
                return self.remove_rival(address);
            }
        };
        let claim = Claim { by_quorum, members, term, id: from.id.clone() };
        self.solo.rivals.insert(address.clone(), claim);
    }

    pub(super) fn remove_rival(&mut self, address: &Address) {
        self.solo.rivals.remove(address);
    }

    /// *Meeting*: of two masters that are linked, the loser steps down, and the winner continues with a term above both.
    pub(super) fn resolve_rivals(&mut self) {
        let Some(mastership) = self.state.mastership() else { return };
        if mastership.sent.is_empty() {
            // Nobody knows about this mastership yet, not even the embedder.
            return;
        }
        if mastership.solo {
            let (members, term, id) = (self.solo.members, self.hard.term, self.me.id.clone());
            let own = Claim { by_quorum: false, members, term, id };
            if self.solo.rivals.values().any(|rival| rival.wins_over(&own)) {
                return self.give_way();
            }
            if self.has_found_a_quorum(mastership) {
                return self.continue_above(self.hard.term, false);
            }
            // A newer term would end the candidacy of a voter that may soon have a quorum.
            if self.solo.newest_joining_term > self.hard.term && !self.knows_a_candidate() {
                return self.continue_above(self.solo.newest_joining_term, true);
            }
        }
        let solo = mastership.solo;
        let highest = self.solo.rivals.values().filter(|rival| !rival.by_quorum).map(|rival| rival.term).max();
        // E7: a term that is far ahead is reached in steps, and not because a voter claims to lead it.
        if let Some(term) = highest.filter(|term| *term >= self.hard.term && self.is_near(*term)) {
            self.continue_above(term, solo);
        }
    }

    /// Whether a quorum's master is linked. This node will follow it, or has just given way to it. It does not become a
    /// candidate against it, even if the voters of that master do not report yet that they follow it.
    pub(super) fn knows_a_quorum_master(&self) -> bool {
        self.solo.rivals.values().any(|rival| rival.by_quorum)
    }

    /// *A quorum appears*: whether a quorum, this solo master included, has confirmed its heartbeats and could vote for it. A
    /// confirmation counts for as long as a lease.
    fn has_found_a_quorum(&self, mastership: &Mastership) -> bool {
        let counts = |(voter, sent): &(&Address, &Timestamp)| {
            self.others.get(*voter).is_some_and(Voter::may_vote) && **sent + self.timing.safe_lease() > self.now
        };
        self.can_vote() && mastership.confirmed.iter().filter(counts).count() + 1 >= self.quorum
    }

    /// This master becomes a candidate in the term after this one (E7), or continues there as a solo master.
    fn continue_above(&mut self, term: Term, solo: bool) {
        self.end_mastership(LossReason::NewerTerm);
        self.enter(term, None);
        if self.can_vote() {
            self.become_candidate(solo);
        } else {
            self.persist();
        }
    }

    /// This solo master steps down for another master. It need not wait for `solo_after` again. If two masters have both
    /// given way, because each knew an older state of the other, the first one whose turn it is continues without a delay.
    pub(super) fn give_way(&mut self) {
        self.end_mastership(LossReason::GaveWay);
        self.solo.gave_way = true;
        self.solo.since = Some(Timestamp::ZERO);
    }

    /// A solo master has stepped down without becoming a candidate: the promise to it ends. The lease of a solo master
    /// never depended on it.
    pub(super) fn drop_solo_promise(&mut self) {
        if let Some(Followed { master, .. }) = self.following.as_ref().filter(|following| following.solo)
            && self.promise.as_ref().is_some_and(|promise| promise.to == *master)
        {
            self.promise = None;
        }
    }

    /// The master that this node has followed is lost. A silent one may return. One that has ended has given way if another
    /// master follows.
    pub(super) fn record_loss(&mut self, lost: &Followed, reason: LossReason) {
        let has_ended = match reason {
            LossReason::Ended => true,
            LossReason::Silent
            | LossReason::LeaseExpired
            | LossReason::NewerTerm
            | LossReason::Resigned
            | LossReason::GaveWay => false,
        };
        self.solo.gave_way |= lost.solo && has_ended;
        // Its last status may come from a link that is dead by now. It must not keep another master from taking its place.
        self.remove_rival(&lost.address);
    }

    /// Whether this node is a solo master by its newest status.
    pub(super) fn reports_solo(&self, master: &Node, address: &Address) -> bool {
        let report = self.others.get(address).and_then(|voter| voter.last_report.as_ref());
        report.is_some_and(|report| report.role.is_solo() && report.node == *master)
    }

    /// *Following a solo master*: whether this node may follow this one. A node that already has another master, is or knows a
    /// candidate, knows a quorum's master, or is bound by a promise to another node may not: the confirmation of a
    /// heartbeat would end that promise.
    pub(super) fn may_follow_solo(&self, master: &Node) -> bool {
        let has_nobody_better = match &self.following {
            Some(following) => following.master == *master,
            None => !self.knows_a_quorum_master() && !self.knows_a_candidate(),
        };
        self.solo.is_enabled()
            && self.state.is_idle()
            && has_nobody_better
            && self.live_promise().is_none_or(|promise| promise.to == *master)
    }

    /// Whether a linked voter is a candidate.
    pub(crate) fn knows_a_candidate(&self) -> bool {
        self.others.values().any(|voter| voter.linked_role().is_some_and(RoleKind::is_candidate))
    }

    /// Whether this node takes over the term of this status at once. A solo master does so only for joining nodes that it
    /// could admit (see `resolve_rivals`), and its followers only for the solo master. Otherwise two clusters whose masters
    /// cannot reach each other, but have neighbours in common, would raise each other's term for ever.
    pub(super) fn takes_term_of(&mut self, status: &StatusReport) -> bool {
        // The node sends this status once, and perhaps before this node is a solo master.
        if self.solo.is_enabled()
            && RoleKind::from(&status.role).is_joining()
            && status.promise.is_none()
            && self.is_near(status.term)
        {
            self.solo.newest_joining_term = self.solo.newest_joining_term.max(status.term);
        }
        !self.follows_solo() && !self.is_solo()
    }

    /// Measures for how long this voter has had neither a master nor a quorum.
    pub(super) fn watch_quorum(&mut self) {
        if self.solo.is_enabled() {
            let alone = self.following.is_none() && self.state.is_searching() && !self.enough_without_master();
            self.solo.since = alone.then(|| self.solo.since.unwrap_or(self.now));
        }
    }

    /// Starts a candidacy that is won once this node's vote for itself is durable (E4).
    pub(super) fn become_solo(&mut self) {
        self.solo.members = 1;
        self.become_candidate(true);
    }

    /// When this voter may become a solo master. The lowest rank of the linked voters goes first, and the others follow it.
    pub(super) fn solo_at(&self) -> Option<Timestamp> {
        let since = self.solo.since.filter(|_| self.free_since.is_some())?;
        Some((since + self.solo.after? + self.wait_of(self.own_rank())).max(self.not_before))
    }

    /// Whether this voter becomes a solo master now. It does not while a linked voter has a master, or may soon be one.
    pub(super) fn solo_is_due(&self) -> bool {
        let prevents = |voter: &Voter| voter.linked_role().is_some_and(RoleKind::prevents_solo);
        self.solo_at().is_some_and(|at| at <= self.now) && !self.others.values().any(prevents)
    }
}
