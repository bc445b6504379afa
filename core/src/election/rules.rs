//! Rules E1–E7 one by one: what follows from what this node knows. Rule E8 is in `solo`, and is called from here.

use alloc::{
    collections::{BTreeSet, VecDeque},
    vec::Vec,
};
use core::time::Duration;

use super::{Candidacy, Effect, Election, Mastership, Persistence, Promise, Rank, RoleKind, State, Voter};
use crate::{
    api::config::Bootstrap,
    api::durable::HardState,
    api::event::LossReason,
    env::never,
    id::{Address, Node, NodeId, Term},
    time::Timestamp,
    wire::message::{Release, Vote, VoteRequest},
};

/// E3: the three ways to answer a request.
enum Verdict {
    Grant,
    /// Not yet: the request is judged again later.
    Defer,
    Refuse,
}

/// E4: whether a vote for the candidate in this term is durable.
pub(super) fn is_durable(candidate: &Node, term: Term, durable: &HardState) -> bool {
    durable.term == term && durable.voted_for.as_ref() == Some(candidate)
}

impl Election {
    /// Applies every rule to what this node knows now. The order matters: what has ended comes first.
    pub(super) fn settle(&mut self) {
        if self.following.as_ref().is_some_and(|following| following.deadline <= self.now) {
            self.lose_master(LossReason::Silent);
        }
        self.drop_ended_promise();
        self.take_offered();
        self.take_offer();
        self.climb();
        self.go_back();
        self.send_durable_votes();
        self.finish_candidacy();
        self.resolve_rivals();
        self.watch_quorum();
        self.free_since = self.is_free().then(|| self.free_since.unwrap_or(self.now));
        self.judge_requests();
        self.await_turn_again();
        if self.may_become_candidate() {
            self.become_candidate(false);
            self.judge_requests();
        } else if self.solo_is_due() {
            self.become_solo();
            self.judge_requests();
        }
        self.take_offered();
        self.drop_ended_promise();
    }

    /// E3: judges the deferred requests again. A vote for one of them may decide about the others.
    fn judge_requests(&mut self) {
        let mut votes = true;
        while core::mem::take(&mut votes) && !self.deferred.is_empty() {
            let mut candidates: Vec<NodeId> = self.deferred.keys().cloned().collect();
            // Of two requests that can be granted now, the one of the voter that ranks first gets the vote.
            candidates.sort_by(|a, b| self.rank_of(a).cmp(&self.rank_of(b)));
            for candidate in candidates {
                votes |= self.judge_request(&candidate);
            }
        }
    }

    fn drop_ended_promise(&mut self) {
        self.promise.take_if(|promise| promise.until <= self.now);
    }

    /// Whether this node votes and may become a candidate: it is a voter, may form a cluster (D7), can make its votes
    /// durable (E4), and is not held (E9).
    pub(crate) fn can_vote(&self) -> bool {
        let has_storage = !self.persistence.failed && !self.persistence.delayed;
        let stays_voter = self.is_voter && self.stays_voter(&self.address);
        stays_voter && self.may_form() && has_storage && !self.is_held()
    }

    /// D7: whether this node may form a cluster, or has joined one before.
    pub(super) fn may_form(&self) -> bool {
        match self.bootstrap {
            Bootstrap::Form => true,
            Bootstrap::JoinOnly => self.hard.joined,
        }
    }

    /// E1: whether this node has waited so long that no forgotten promise can still be in force.
    pub(super) fn bootstrap_over(&self) -> bool {
        self.now >= self.bootstrap_end()
    }

    /// E5: the promise that binds this voter now.
    pub(super) fn live_promise(&self) -> Option<&Promise> {
        self.promise.as_ref().filter(|promise| promise.until > self.now)
    }

    /// E1: whether this voter is in grace towards the candidate. It may then have forgotten a promise that excludes the
    /// candidate.
    pub(super) fn in_grace_towards(&self, candidate: &Node) -> bool {
        !self.bootstrap_over() && self.others.values().any(|voter| voter.causes_grace_towards(candidate))
    }

    /// E1: a new promise to this voter lasts longer than any forgotten one.
    pub(super) fn clear(&mut self, node: &Node) {
        for voter in self.others.values_mut().filter(|voter| voter.linked.as_ref() == Some(node)) {
            voter.cleared = true;
        }
    }

    /// Whether this node has followed a master or been one. A node that has not is in no view (L5).
    pub(crate) fn has_known_a_master(&self) -> bool {
        self.known_master.is_some()
    }

    /// L5: whether there is a master, or can be one, without this node. There can be none if too many others leave as well.
    pub(crate) fn others_may_lead(&self) -> bool {
        let leaves = |voter: &&Voter| voter.role().is_some_and(RoleKind::is_leaving);
        let staying = self.others.len() - self.others.values().filter(leaves).count();
        staying >= self.quorum || self.others.values().any(|voter| voter.role().is_some_and(RoleKind::is_master))
    }

    /// E2: whether this voter could become a candidate, if it were its turn.
    fn is_free(&self) -> bool {
        let bound_to_another = self.live_promise().is_some_and(|promise| promise.to != self.me);
        self.can_vote()
            && self.state.is_idle()
            && self.following.is_none()
            && !bound_to_another
            && !self.in_grace_towards(&self.me)
    }

    /// E2: the rank of this voter.
    pub(super) fn own_rank(&self) -> Rank<'_> {
        Rank::new(self.electorate.is_surplus(&self.address), self.priority, &self.me.id)
    }

    /// E2: the rank of the linked voter with this id.
    pub(super) fn rank_of<'a>(&self, id: &'a NodeId) -> Rank<'a> {
        let is_linked = |voter: &&Voter| voter.linked.as_ref().is_some_and(|node| node.id == *id);
        let linked = || self.others.values().filter(is_linked);
        let priority = linked().map(Voter::priority).max();
        Rank::new(linked().any(|voter| voter.is_surplus), priority.unwrap_or_default(), id)
    }

    /// E2: how long a voter of this rank has to wait after it has become free, by this voter's links: its place times the
    /// stagger.
    pub(super) fn wait_of(&self, candidate: Rank<'_>) -> Duration {
        let is_ahead = |(address, voter): &(&Address, &Voter)| {
            voter.rank().is_some_and(|rank| rank < candidate) && self.may_stand(address, voter)
        };
        let may_stand = self.can_vote() && self.can_win() && self.resigned.is_none();
        let is_own_ahead = self.own_rank() < candidate && may_stand;
        let ahead = self.others.iter().filter(is_ahead).count() + usize::from(is_own_ahead);
        self.timing.stagger.saturating_mul(u32::try_from(ahead).unwrap_or(u32::MAX))
    }

    /// E2, E3: whether the turn of a candidate has come, by this voter's links and clock.
    pub(super) fn turn_has_come(&self, candidate: Rank<'_>) -> bool {
        let wait = self.wait_of(candidate);
        wait.is_zero() || (self.bootstrap_over() && self.free_since.is_some_and(|since| since + wait <= self.now))
    }

    /// E3: whether this voter's own turn has come. It then grants its vote to a candidate, because becoming a candidate too
    /// would split the votes.
    fn own_turn_has_come(&self) -> bool {
        self.bootstrap_over() && self.free_since.is_some() && self.turn_has_come(self.own_rank())
    }

    /// E2: whether enough voters have no master. These are a quorum, this node included, of linked voters that do not
    /// abstain; or all voters.
    pub(super) fn enough_without_master(&self) -> bool {
        let without_master = |voter: &&Voter| voter.linked_role().is_some_and(RoleKind::has_no_master);
        let all = self.others.values().filter(without_master).count();
        let voting = self.others.values().filter(|voter| voter.may_elect()).count();
        all == self.others.len() || voting + 1 >= self.quorum
    }

    /// E2: a candidate that this voter has yielded to is no candidate any more. The turns begin again: those of all who have yielded
    /// have come by now, and they would all become candidates at once.
    fn await_turn_again(&mut self) {
        let yields = self.knows_a_better_candidate();
        if core::mem::replace(&mut self.yields, yields) && !yields {
            self.not_before = self.not_before.max(self.now + self.wait_of(self.own_rank()));
        }
    }

    /// E2: whether a linked voter that ranks before this one is a candidate. Becoming one too would only split the votes.
    fn knows_a_better_candidate(&self) -> bool {
        self.others.values().any(|voter| {
            voter.rank().is_some_and(|rank| rank < self.own_rank()) && voter.role().is_some_and(RoleKind::is_candidate)
        })
    }

    /// E2: whether this voter becomes a candidate now. A vote that it has just granted to another one has ended its
    /// freedom.
    fn may_become_candidate(&self) -> bool {
        self.free_since.is_some()
            && self.not_before <= self.now
            && self.turn_has_come(self.own_rank())
            && self.can_win()
            && self.enough_without_master()
            && !self.yields
            && !self.knows_a_quorum_master()
    }

    /// E2: starts a candidacy in the next term. With `solo`, it asks nobody (E8).
    pub(super) fn become_candidate(&mut self, solo: bool) {
        self.enter(self.hard.term.max(self.hard.spent).next(), Some(self.me.clone()));
        self.resigned = None;
        let until = (self.now + self.timing.lease).max(self.lease_end);
        let (to, term) = (self.me.clone(), self.hard.term);
        let lease = self.timing.lease;
        self.promise = Some(Promise { to, term, until, until_after_release: self.lease_end, lease });
        self.free_since = None;
        self.number += 1;
        self.candidacies += u64::from(!solo);
        self.state = State::Candidate(Candidacy {
            solo,
            number: self.number,
            requested_at: None,
            deadline: self.now + self.timing.election_timeout,
            granted: BTreeSet::new(),
            refused: BTreeSet::new(),
        });
        self.persist();
    }

    /// E2: a candidate wins with a quorum of votes, and gives up when it can get none any more or has waited too long.
    fn finish_candidacy(&mut self) {
        let Some(candidacy) = self.state.candidacy() else { return };
        let reachable = 1 + self.others.len() - candidacy.refused.len();
        let has_quorum = candidacy.solo || candidacy.granted.len() + 1 >= self.quorum;
        if candidacy.requested_at.is_some() && has_quorum {
            self.win();
        } else if candidacy.deadline <= self.now || reachable < self.quorum {
            self.give_up();
        }
    }

    fn win(&mut self) {
        let Some(candidacy) = self.state.candidacy().cloned() else { return never!("only a candidate wins") };
        // E6: the first lease runs from when the votes were requested. It is still valid: a candidacy is shorter than a
        // lease, and a late vote does not count.
        let requested_at = candidacy.requested_at.unwrap_or(self.now);
        let confirmed = candidacy.granted.into_iter().map(|voter| (voter, requested_at)).collect();
        self.state = State::Master(Mastership {
            solo: candidacy.solo,
            confirmed,
            sent: VecDeque::new(),
            changed_at: self.number,
            installed: BTreeSet::new(),
            wanted: None,
            ends_at: None,
            is_outdated: false,
        });
        if candidacy.solo {
            // It grants no vote while it is master, and its lease binds nobody after that (E8).
            self.promise = None;
        }
        self.failures = 0;
        self.end_resignations();
        self.hard.joined = true;
        self.known_master = Some((self.hard.term, self.me.clone()));
        self.persist();
        let (master, address) = (self.me.clone(), self.address.clone());
        self.effects.push_back(Effect::Found { term: self.hard.term, master, address });
    }

    /// E2: ends a candidacy, releases the voters, and waits for the turns of the others and a random time before the next one.
    pub(super) fn give_up(&mut self) {
        self.state = State::Idle;
        let term = self.hard.term;
        self.given_up = Some((term, self.now + self.timing.lease));
        let linked = self.others.iter().filter(|(_, voter)| voter.is_linked());
        let release = |(to, _): (&Address, _)| Effect::Release { to: to.clone(), release: Release { term } };
        self.effects.extend(linked.map(release));
        self.promise_to_self();
        self.failures = self.failures.saturating_add(1);
        let longest = self.timing.lease.saturating_mul(2);
        let span = self.timing.stagger.saturating_mul(1 << self.failures.min(16)).min(longest);
        let wait = self.rng.up_to(u64::try_from(span.as_micros()).unwrap_or(u64::MAX));
        // The others have their turns first. Otherwise a voter that gets no votes would stand again and again.
        self.not_before = self.now + self.turns_of_others() + Duration::from_micros(wait);
    }

    /// E2: the time in which every other linked voter has its turn.
    pub(super) fn turns_of_others(&self) -> Duration {
        let others = self.others.values().filter(|voter| voter.is_linked()).count();
        self.timing.stagger.saturating_mul(u32::try_from(others + 1).unwrap_or(u32::MAX))
    }

    /// E3: answers the deferred request of this candidate, if it can be answered now. Returns whether it gets the vote.
    fn judge_request(&mut self, candidate: &NodeId) -> bool {
        let Some((node, request)) = self.deferred.get(candidate).cloned() else { return false };
        match self.verdict(&node, &request) {
            Verdict::Defer => false,
            Verdict::Refuse => {
                self.deferred.remove(candidate);
                let vote = Vote { term: self.hard.term, number: request.number, granted: false };
                self.effects.push_back(Effect::Answer { to: node, vote });
                false
            }
            Verdict::Grant => {
                self.deferred.remove(candidate);
                self.grant(node, request);
                true
            }
        }
    }

    /// This node is in this term now. A vote of another term is not sent any more (E4).
    pub(super) fn enter(&mut self, term: Term, voted_for: Option<Node>) {
        if term != self.hard.term {
            self.pending_vote = None;
        }
        self.hard.term = term;
        self.hard.voted_for = voted_for;
    }

    /// E3, E5: votes for the candidate, which is also a promise. The vote is sent once it is durable (E4).
    fn grant(&mut self, node: Node, request: VoteRequest) {
        self.within_reach(request.term);
        self.enter(request.term, Some(node.clone()));
        // A promise to this node from an earlier term stays in force after a `Release` of this one.
        let earlier = self.live_promise().filter(|p| p.to == node && p.term < request.term).map(|p| p.until);
        let repeated = || self.promise.as_ref().filter(|p| p.to == node).map(|p| p.until_after_release);
        let until_after_release = earlier.or_else(repeated).unwrap_or_default();
        let until = (self.now + request.lease).max(until_after_release);
        let earlier_lease = self.live_promise().filter(|p| p.to == node).map(|p| p.lease);
        let lease = earlier_lease.map_or(request.lease, |lease| lease.max(request.lease));
        self.promise = Some(Promise { to: node.clone(), term: request.term, until, until_after_release, lease });
        self.free_since = None;
        self.pending_vote = Some((node, Vote { term: request.term, number: request.number, granted: true }));
        self.persist();
        self.send_durable_votes();
    }

    fn verdict(&self, candidate: &Node, request: &VoteRequest) -> Verdict {
        let spent = request.term == self.hard.term
            && self.hard.voted_for.as_ref().is_some_and(|voted_for| voted_for != candidate);
        let never = request.term < self.hard.term
            || spent
            || !self.can_vote()
            || !self.state.may_grant()
            || request.lease > self.timing.bootstrap_wait
            || request.electorate < self.newest_version()
            || (self.hard.term < self.hard.spent && request.term <= self.hard.spent)
            || self.is_removed(candidate)
            || !self.is_within_reach(request.term);
        if never {
            return Verdict::Refuse;
        }
        if self.in_grace_towards(candidate) {
            return Verdict::Defer;
        }
        match self.live_promise() {
            Some(promise) if promise.to == *candidate => Verdict::Grant,
            Some(promise) if promise.until.since(self.now) <= self.timing.stagger => Verdict::Defer,
            Some(_) => Verdict::Refuse,
            None if self.turn_has_come(self.rank_of(&candidate.id)) || self.own_turn_has_come() => Verdict::Grant,
            None => Verdict::Defer,
        }
    }

    /// E4: sends the votes that have become durable: the pending vote for another node, and a candidate's requests, which
    /// contain its vote for itself.
    pub(super) fn send_durable_votes(&mut self) {
        let durable = &self.persistence.durable;
        let answered = self.pending_vote.take_if(|(to, vote)| is_durable(to, vote.term, durable));
        self.effects.extend(answered.map(|(to, vote)| Effect::Answer { to, vote }));
        if let State::Candidate(candidacy) = &mut self.state
            && candidacy.requested_at.is_none()
            && is_durable(&self.me, self.hard.term, durable)
        {
            candidacy.requested_at = Some(self.now);
            let solo = candidacy.solo;
            let linked = self.others.iter().filter(|(_, voter)| voter.is_linked() && !solo);
            self.effects.extend(linked.map(|(address, _)| Effect::Ask(address.clone())));
        }
    }

    /// E4: requests that the newest state is made durable, unless it is or a `Persist` is in flight.
    pub(super) fn persist(&mut self) {
        self.hard.promised_lease = self.promised_lease();
        let Persistence { durable, in_flight, failed, .. } = &self.persistence;
        if in_flight.is_none() && *durable != self.hard && !failed {
            self.persistence.seq += 1;
            self.persistence.in_flight = Some(self.hard.clone());
            self.effects.push_back(Effect::Persist { seq: self.persistence.seq, state: self.hard.clone() });
        }
    }

    /// E6: the end of the lease. It runs from the newest sending time that a quorum, this node included, has confirmed. The
    /// lease of a solo master and of a single voter runs from `now`, because nobody has to confirm it.
    pub(super) fn lease_until(&self, mastership: &Mastership, now: Timestamp) -> Timestamp {
        let until = match mastership.solo || !self.needs_confirmations() {
            true => now + self.timing.safe_lease(),
            false => self.lease_by(mastership, &self.electorate),
        };
        mastership.ends_at.map_or(until, |ends_at| ends_at.min(until))
    }

    /// Whether the lease of this master runs only while others confirm it.
    pub(super) fn needs_confirmations(&self) -> bool {
        self.quorum > usize::from(self.is_voter)
    }

    /// E7: a voter has named this term.
    pub(super) fn learn(&mut self, term: Term) {
        let reach = self.within_reach(term);
        self.take_over(reach);
    }

    /// E7: takes over a newer term. A master becomes a candidate in the next term at once.
    pub(super) fn take_over(&mut self, term: Term) {
        if term <= self.hard.term {
            return;
        }
        let (was_master, solo) = (self.is_master(), self.is_solo());
        self.step_down(LossReason::NewerTerm);
        self.enter(term, None);
        self.persist();
        if was_master && self.can_vote() {
            self.become_candidate(solo);
        }
    }

    /// Ends a candidacy, or a mastership for the given reason.
    pub(super) fn step_down(&mut self, reason: LossReason) {
        match self.state {
            State::Master(_) => self.end_mastership(reason),
            State::Candidate(_) => self.give_up(),
            State::Idle | State::Leaving => {}
        }
    }

    pub(super) fn end_mastership(&mut self, reason: LossReason) {
        if let State::Master(mastership) = &self.state {
            // The lease of a solo master binds nobody (E8).
            if !mastership.solo {
                self.lease_end = self.lease_end.max(self.lease_until(mastership, self.now));
            }
            self.promise_to_self();
            self.state = State::Idle;
            self.effects.push_back(Effect::Lost { term: self.hard.term, master: self.me.clone(), reason });
        }
    }

    /// E6: a lease that this node has once reported stays valid until its end.
    fn promise_to_self(&mut self) {
        let (to, term, until) = (self.me.clone(), self.hard.term, self.lease_end);
        let lease = self.timing.lease;
        self.promise = Some(Promise { to, term, until, until_after_release: until, lease });
    }

    /// This node has no master any more. It stays in its term.
    pub(super) fn lose_master(&mut self, reason: LossReason) {
        if let Some(lost) = self.following.take() {
            self.record_loss(&lost, reason);
            self.effects.push_back(Effect::Lost { term: lost.term, master: lost.master, reason });
        }
    }
}
