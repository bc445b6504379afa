//! A master without a quorum, only where it was asked for, and how clusters that meet become one: rule E8.

use alloc::collections::BTreeMap;
use core::{cmp::Reverse, time::Duration};

use super::{Election, Followed, Mastership, Part, Stance, Voter};
use crate::{
    api::interface::LossReason,
    id::{Address, Node, NodeId, Term},
    time::Timestamp,
    wire::message::{Role, StatusReport},
};

/// What E8 has to remember. Without `solo_after` none of it ever changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Solo {
    after: Option<Duration>,
    /// Since when this voter has had neither a master nor a quorum.
    since: Option<Timestamp>,
    /// How many members this node has as a solo master, itself included.
    members: u32,
    /// The masters among the linked voters. What was said on a link that is gone would unseat a master for nothing.
    rivals: BTreeMap<Address, Claim>,
    /// The newest term of those that it could take in, were it a solo master.
    wanted: Term,
    /// The solo master that it was, or followed and did not merely hear no more, is none now, and no view has come since.
    gave_way: bool,
}

/// What decides between masters that meet: the greater one goes on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Claim {
    by_quorum: bool,
    members: u32,
    term: Term,
    lower: Reverse<NodeId>,
}

impl Solo {
    pub(super) fn new(after: Option<Duration>) -> Self {
        Self { after, members: 1, ..Self::default() }
    }
}

impl Election {
    pub(crate) fn is_solo(&self) -> bool {
        matches!(&self.part, Part::Master(mastership) if mastership.solo)
    }

    pub(crate) fn follows_solo(&self) -> bool {
        self.following.as_ref().is_some_and(|following| following.solo)
    }

    /// How many members this node has as a solo master.
    pub(super) fn members(&self) -> u32 {
        self.solo.members
    }

    pub(crate) fn set_members(&mut self, members: u32) {
        if self.solo.members != members {
            self.solo.members = members;
            self.settle();
        }
    }

    /// Whether the last view's solo master has given way. Asked with the first view of another.
    pub(crate) fn take_gave_way(&mut self) -> bool {
        core::mem::take(&mut self.solo.gave_way)
    }

    /// A linked voter says that it is a master, or that it is none.
    pub(super) fn note_rival(&mut self, from: &Node, address: &Address, (term, role): (Term, &Role)) {
        if self.solo.after.is_none() {
            return;
        }
        let (by_quorum, members) = match role {
            Role::Master => (true, 0),
            Role::Solo { members } => (false, *members),
            _ => return self.forget_rival(address),
        };
        let claim = Claim { by_quorum, members, term, lower: Reverse(from.id.clone()) };
        self.solo.rivals.insert(address.clone(), claim);
    }

    pub(super) fn forget_rival(&mut self, address: &Address) {
        self.solo.rivals.remove(address);
    }

    /// Masters that have met: the loser steps down, the winner goes on above the terms of both.
    pub(super) fn meet(&mut self) {
        let Part::Master(mastership) = &self.part else { return };
        if mastership.sent.is_empty() {
            // Nobody knows of it yet, not even this node's host.
            return;
        }
        if mastership.solo {
            let (members, term, lower) = (self.solo.members, self.hard.term, Reverse(self.me.id.clone()));
            let mine = Claim { by_quorum: false, members, term, lower };
            if self.solo.rivals.values().any(|rival| *rival > mine) {
                return self.give_way();
            }
            if self.has_found_a_quorum(mastership) {
                return self.go_on_above(self.hard.term, false);
            }
            // A newer term would end the candidacy of one that may lead a quorum at once.
            if self.solo.wanted > self.hard.term && !self.somebody_stands() {
                return self.go_on_above(self.solo.wanted, true);
            }
        }
        let solo = mastership.solo;
        let highest = self.solo.rivals.values().filter(|rival| !rival.by_quorum).map(|rival| rival.term).max();
        if let Some(term) = highest.filter(|term| *term >= self.hard.term) {
            self.go_on_above(term, solo);
        }
    }

    /// Who has just given way to it, or is about to follow it, does not stand against it, though its voters may not have heard
    /// yet that it leads them again.
    pub(super) fn has_met_a_quorums_master(&self) -> bool {
        self.solo.rivals.values().any(|rival| rival.by_quorum)
    }

    /// As many voters as a quorum needs have confirmed the heartbeats of this solo master, and could vote for it.
    fn has_found_a_quorum(&self, mastership: &Mastership) -> bool {
        let counts = |(voter, sent): &(&Address, &Timestamp)| {
            let known = self.others.get(*voter).filter(|known| known.linked.is_some());
            let able = known.and_then(|known| known.heard.as_ref()).is_some_and(|heard| !heard.held);
            able && **sent + self.timing.safe_lease() > self.now
        };
        self.can_vote() && mastership.confirmed.iter().filter(counts).count() + 1 >= self.quorum
    }

    /// A master stands at once in the next term (E7), or goes on as a solo one there.
    pub(super) fn go_on_above(&mut self, term: Term, solo: bool) {
        self.end_mastership(LossReason::NewerTerm);
        self.hard.term = term;
        self.hard.voted_for = None;
        if self.can_vote() {
            self.stand(solo);
        } else {
            self.persist();
        }
    }

    /// This solo master steps down for another master. It has waited once: should both have given way, by what each had heard
    /// of the other, the first whose turn it is goes on as soon as it knows.
    pub(super) fn give_way(&mut self) {
        self.end_mastership(LossReason::GaveWay);
        self.solo.gave_way = true;
        self.solo.since = Some(Timestamp::ZERO);
    }

    /// The master that this node follows is none any more, and does not stand: what was promised to a solo one binds nobody,
    /// as its lease never hung on it.
    pub(super) fn forget_solo_promise(&mut self) {
        if let Some(Followed { master, .. }) = self.following.as_ref().filter(|following| following.solo)
            && self.promise.as_ref().is_some_and(|promise| promise.to == *master)
        {
            self.promise = None;
        }
    }

    /// The master that this node has followed is lost. One that lives may come back; if another does, it has given way.
    pub(super) fn note_lost(&mut self, lost: &Followed, reason: LossReason) {
        self.solo.gave_way |= lost.solo && reason == LossReason::Ended;
        // What it last said of itself, on a link that may be dead, keeps nobody from taking its place.
        self.forget_rival(&lost.address);
    }

    /// Whether the voter at this address has last said that it is a solo master.
    pub(super) fn says_solo(&self, master: &Node, address: &Address) -> bool {
        let heard = self.others.get(address).and_then(|voter| voter.heard.as_ref());
        heard.is_some_and(|heard| heard.stance == Stance::Solo && heard.node == *master)
    }

    /// Only who has nobody better follows a solo master: no other master, linked or followed, no candidate, linked or itself, and
    /// no promise to another, which the confirmation of a heartbeat would end.
    pub(super) fn may_follow_solo(&self, master: &Node) -> bool {
        let has_nobody_better = match &self.following {
            Some(following) => following.master == *master,
            None => !self.has_met_a_quorums_master() && !self.somebody_stands(),
        };
        self.solo.after.is_some()
            && self.part == Part::Idle
            && has_nobody_better
            && self.live_promise().is_none_or(|promise| promise.to == *master)
    }

    fn somebody_stands(&self) -> bool {
        let stands = |voter: &Voter| {
            let heard = voter.heard.as_ref().filter(|_| voter.linked.is_some());
            heard.is_some_and(|heard| heard.stance == Stance::Candidate)
        };
        self.others.values().any(stands)
    }

    /// Whether to take over the term of who says this of itself at once. Where a solo master and a quorum's cannot reach each
    /// other but have neighbours in common, each would otherwise drive the other's term on for ever: a solo master goes by
    /// those alone that it could take in, and its followers by it alone.
    pub(super) fn listens_to(&mut self, status: &StatusReport) -> bool {
        // Said once, and perhaps before this node is a solo master.
        if self.solo.after.is_some() && status.role == Role::Joining && status.promise.is_none() {
            self.solo.wanted = self.solo.wanted.max(status.term);
        }
        !self.follows_solo() && !self.is_solo()
    }

    /// The clock of `solo_after`.
    pub(super) fn watch_quorum(&mut self) {
        if self.solo.after.is_some() {
            let alone = self.following.is_none()
                && matches!(self.part, Part::Idle | Part::Candidate(_))
                && !self.enough_are_masterless();
            self.solo.since = alone.then(|| self.solo.since.unwrap_or(self.now));
        }
    }

    /// Becomes a solo master once its vote for itself is durable (E4).
    pub(super) fn go_solo(&mut self) {
        self.solo.members = 1;
        self.stand(true);
    }

    /// When this voter may become a solo master: the lowest of those that are linked goes first, and the others follow it.
    pub(super) fn solo_at(&self) -> Option<Timestamp> {
        let since = self.solo.since.filter(|_| self.free_since.is_some())?;
        Some((since + self.solo.after? + self.wait_of(&self.me.id)).max(self.not_before))
    }

    /// Nobody becomes a solo master beside a voter that has a master, or is about to be one.
    pub(super) fn solo_is_due(&self) -> bool {
        let better_off = |voter: &Voter| {
            let heard = voter.heard.as_ref().filter(|_| voter.linked.is_some());
            heard.is_some_and(|heard| !matches!(heard.stance, Stance::Joining | Stance::Leaving))
        };
        self.solo_at().is_some_and(|at| at <= self.now) && !self.others.values().any(better_off)
    }
}
