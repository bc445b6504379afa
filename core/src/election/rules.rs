//! The conclusions that a voter draws from what it knows: rules E1–E7 one by one, and where E8 joins in.

use alloc::{
    collections::{BTreeSet, VecDeque},
    vec::Vec,
};
use core::time::Duration;

use super::{Candidacy, Effect, Election, Mastership, Part, Persistence, Promise, Stance, Voter};
use crate::{
    api::config::Bootstrap,
    api::interface::{HardState, LossReason},
    id::{Address, Node, NodeId, Term},
    time::Timestamp,
    wire::message::{Release, Vote, VoteRequest},
};

enum Verdict {
    Grant,
    Keep,
    Refuse,
}

impl Election {
    /// Draws every conclusion from what is known now.
    pub(super) fn settle(&mut self) {
        if self.following.as_ref().is_some_and(|following| following.deadline <= self.now) {
            self.lose_master(LossReason::Silent);
        }
        if self.promise.as_ref().is_some_and(|promise| promise.until <= self.now) {
            self.promise = None;
        }
        self.say_what_is_durable();
        if let Part::Candidate(candidacy) = &self.part {
            let reachable = 1 + self.others.len() - candidacy.refused.len();
            if candidacy.asked.is_some() && (candidacy.solo || candidacy.granted.len() + 1 >= self.quorum) {
                self.win();
            } else if candidacy.deadline <= self.now || reachable < self.quorum {
                self.give_up();
            }
        }
        self.meet();
        self.watch_quorum();
        let bound_to_another = self.live_promise().is_some_and(|promise| promise.to != self.me);
        let free = self.can_vote()
            && self.part == Part::Idle
            && self.following.is_none()
            && !bound_to_another
            && !self.held_towards(&self.me);
        self.free_since = free.then(|| self.free_since.unwrap_or(self.now));
        let candidates: Vec<NodeId> = self.kept.keys().cloned().collect();
        for candidate in candidates {
            self.judge(&candidate);
        }
        // A vote for another has ended that freedom.
        if self.free_since.is_some()
            && self.not_before <= self.now
            && self.turn_has_come(&self.me.id)
            && self.enough_are_masterless()
            && !self.yields()
            && !self.has_met_a_quorums_master()
        {
            self.stand(false);
        } else if self.solo_is_due() {
            self.go_solo();
        }
    }

    /// A voter that may form a cluster, and can keep what it votes (E4).
    pub(crate) fn can_vote(&self) -> bool {
        self.is_voter && (self.bootstrap == Bootstrap::Form || self.hard.joined) && !self.persistence.failed
    }

    pub(super) fn bootstrap_over(&self) -> bool {
        self.now >= self.started + self.timing.bootstrap_wait
    }

    pub(super) fn live_promise(&self) -> Option<&Promise> {
        self.promise.as_ref().filter(|promise| promise.until > self.now)
    }

    /// E1: whether a promise that this voter has forgotten might exclude the candidate.
    pub(super) fn held_towards(&self, candidate: &Node) -> bool {
        !self.bootstrap_over()
            && self.others.values().filter(|voter| !voter.cleared).any(|voter| match &voter.heard {
                None => true,
                Some(heard) => {
                    heard.stance == Stance::Master
                        || (heard.stance == Stance::Candidate && heard.node != *candidate)
                        || heard.promise.as_ref().is_some_and(|to| to != candidate)
                }
            })
    }

    /// E1: a new promise to this voter outlasts any forgotten one.
    pub(super) fn clear(&mut self, node: &Node) {
        for voter in self.others.values_mut().filter(|voter| voter.linked.as_ref() == Some(node)) {
            voter.cleared = true;
        }
    }

    /// Whether it has followed a master, or been one: who has not is in no view.
    pub(crate) fn has_known_a_master(&self) -> bool {
        self.known_master.is_some()
    }

    /// Whether there is a master, or can be one, without this node: not when too many others leave as well.
    pub(crate) fn others_may_lead(&self) -> bool {
        let stance = |voter: &Voter| voter.heard.as_ref().map(|heard| heard.stance);
        let staying = self.others.values().filter(|voter| stance(voter) != Some(Stance::Leaving)).count();
        staying >= self.quorum
            || self.others.values().any(|voter| matches!(stance(voter), Some(Stance::Master | Stance::Solo)))
    }

    /// E2: how long after it is free a voter of this id has to wait.
    pub(super) fn wait_of(&self, candidate: &NodeId) -> Duration {
        let lower = |voter: &&Voter| match (&voter.linked, &voter.heard) {
            (Some(node), heard) => {
                node.id < *candidate && heard.as_ref().is_none_or(|heard| heard.stance != Stance::Leaving)
            }
            (None, _) => false,
        };
        let rank = self.others.values().filter(lower).count() + usize::from(self.me.id < *candidate);
        self.timing.stagger.saturating_mul(u32::try_from(rank).unwrap_or(u32::MAX))
    }

    /// E2, E3: whether the turn of a candidate has come, by this voter's own links and clock.
    pub(super) fn turn_has_come(&self, candidate: &NodeId) -> bool {
        let wait = self.wait_of(candidate);
        wait.is_zero() || (self.bootstrap_over() && self.free_since.is_some_and(|since| since + wait <= self.now))
    }

    /// E3: this voter's own turn has come. It votes for who stands already, rather than split the votes by standing too.
    fn would_stand_against(&self) -> bool {
        self.bootstrap_over() && self.free_since.is_some() && self.turn_has_come(&self.me.id)
    }

    /// E2: enough voters that could grant are linked, or all are there.
    pub(super) fn enough_are_masterless(&self) -> bool {
        let masterless = |voter: &&Voter| {
            voter.linked.is_some()
                && voter.heard.as_ref().is_some_and(|h| matches!(h.stance, Stance::Joining | Stance::Candidate))
        };
        let all = self.others.values().filter(masterless).count();
        let ready = self.others.values().filter(masterless).filter(|v| v.heard.as_ref().is_some_and(|h| !h.held));
        all == self.others.len() || ready.count() + 1 >= self.quorum
    }

    /// E2: a linked voter of a lower id stands already; standing against it would only split the votes.
    pub(super) fn yields(&self) -> bool {
        let ahead = |voter: &Voter| match (&voter.linked, &voter.heard) {
            (Some(node), Some(heard)) => heard.stance == Stance::Candidate && node.id < self.me.id,
            _ => false,
        };
        self.others.values().any(ahead)
    }

    /// E2; alone, and without asking anybody, where E8 says so.
    pub(super) fn stand(&mut self, solo: bool) {
        self.hard.term = self.hard.term.next();
        self.hard.voted_for = Some(self.me.clone());
        let until = (self.now + self.timing.lease).max(self.lease_end);
        self.promise = Some(Promise { to: self.me.clone(), term: self.hard.term, until, floor: self.lease_end });
        self.free_since = None;
        self.number += 1;
        self.candidacies += u64::from(!solo);
        self.part = Part::Candidate(Candidacy {
            solo,
            number: self.number,
            asked: None,
            deadline: self.now + self.timing.election_timeout,
            granted: BTreeSet::new(),
            refused: BTreeSet::new(),
        });
        self.persist();
    }

    pub(super) fn win(&mut self) {
        let Part::Candidate(candidacy) = core::mem::replace(&mut self.part, Part::Idle) else { return };
        let asked = candidacy.asked.unwrap_or(self.now);
        let confirmed = candidacy.granted.into_iter().map(|voter| (voter, asked)).collect();
        // Its lease has not run out: a candidate gives up before (E2), and lets no vote count after.
        self.part = Part::Master(Mastership { solo: candidacy.solo, confirmed, sent: VecDeque::new() });
        if candidacy.solo {
            // It grants to nobody while it is master, and nobody has to wait for it after that.
            self.promise = None;
        }
        self.failures = 0;
        self.hard.joined = true;
        self.known_master = Some((self.hard.term, self.me.clone()));
        self.persist();
        let (master, address) = (self.me.clone(), self.address.clone());
        self.effects.push_back(Effect::Found { term: self.hard.term, master, address });
    }

    /// E2: frees the voters, and waits a random time before the next try.
    pub(super) fn give_up(&mut self) {
        self.part = Part::Idle;
        let term = self.hard.term;
        self.given_up = Some((term, self.now + self.timing.lease));
        let linked = self.others.iter().filter(|(_, voter)| voter.linked.is_some());
        let release = |(to, _): (&Address, _)| Effect::Release { to: to.clone(), release: Release { term } };
        self.effects.extend(linked.map(release));
        self.bind_to_self();
        self.failures = self.failures.saturating_add(1);
        let longest = self.timing.lease.saturating_mul(2);
        let span = self.timing.stagger.saturating_mul(1 << self.failures.min(16)).min(longest);
        let wait = self.rng.up_to(u64::try_from(span.as_micros()).unwrap_or(u64::MAX));
        self.not_before = self.now + Duration::from_micros(wait);
    }

    /// E3, on a request that is kept.
    fn judge(&mut self, candidate: &NodeId) {
        let Some((node, request)) = self.kept.get(candidate).cloned() else { return };
        let verdict = self.verdict(&node, &request);
        if matches!(verdict, Verdict::Keep) {
            return;
        }
        self.kept.remove(candidate);
        if matches!(verdict, Verdict::Refuse) {
            let vote = Vote { term: self.hard.term, number: request.number, granted: false };
            return self.effects.push_back(Effect::Answer { to: node, vote });
        }
        self.hard.term = request.term;
        self.hard.voted_for = Some(node.clone());
        let floor = self.live_promise().filter(|p| p.to == node && p.term < request.term).map(|p| p.until);
        let floor = floor.or(self.promise.as_ref().filter(|p| p.to == node).map(|p| p.floor));
        let until = (self.now + request.lease).max(floor.unwrap_or_default());
        self.promise = Some(Promise { to: node.clone(), term: request.term, until, floor: floor.unwrap_or_default() });
        self.free_since = None;
        self.owed_vote = Some((node, Vote { term: request.term, number: request.number, granted: true }));
        self.persist();
        self.say_what_is_durable();
    }

    fn verdict(&self, candidate: &Node, request: &VoteRequest) -> Verdict {
        let spent = request.term == self.hard.term
            && self.hard.voted_for.as_ref().is_some_and(|voted_for| voted_for != candidate);
        // Lapses are judged before any input, so a master here has a live lease.
        let never = request.term < self.hard.term
            || spent
            || !self.can_vote()
            || matches!(self.part, Part::Master(_) | Part::Leaving)
            || request.lease > self.timing.bootstrap_wait;
        if never {
            return Verdict::Refuse;
        }
        if self.held_towards(candidate) {
            return Verdict::Keep;
        }
        match self.live_promise() {
            Some(promise) if promise.to == *candidate => Verdict::Grant,
            Some(promise) if promise.until.since(self.now) <= self.timing.stagger => Verdict::Keep,
            Some(_) => Verdict::Refuse,
            None if self.turn_has_come(&candidate.id) || self.would_stand_against() => Verdict::Grant,
            None => Verdict::Keep,
        }
    }

    /// E4: what depends on a `Persist` leaves the node after its `Persisted`.
    pub(super) fn say_what_is_durable(&mut self) {
        let durable =
            |node: &Node, term: Term, state: &HardState| state.term == term && state.voted_for.as_ref() == Some(node);
        if let Some((to, vote)) = &self.owed_vote {
            if vote.term < self.hard.term {
                self.owed_vote = None;
            } else if durable(to, vote.term, &self.persistence.durable) {
                self.effects.extend(self.owed_vote.take().map(|(to, vote)| Effect::Answer { to, vote }));
            }
        }
        if let Part::Candidate(candidacy) = &mut self.part
            && candidacy.asked.is_none()
            && durable(&self.me, self.hard.term, &self.persistence.durable)
        {
            candidacy.asked = Some(self.now);
            let solo = candidacy.solo;
            let linked = self.others.iter().filter(|(_, voter)| voter.linked.is_some() && !solo);
            self.effects.extend(linked.map(|(address, _)| Effect::Ask(address.clone())));
        }
    }

    pub(super) fn persist(&mut self) {
        let Persistence { durable, in_flight, failed, .. } = &self.persistence;
        if in_flight.is_none() && *durable != self.hard && !failed {
            self.persistence.seq += 1;
            self.persistence.in_flight = Some(self.hard.clone());
            self.effects.push_back(Effect::Persist { seq: self.persistence.seq, state: self.hard.clone() });
        }
    }

    /// The end of the lease: it runs from the newest sending time that a quorum, this node included, has confirmed (E6).
    pub(super) fn lease_until(&self, mastership: &Mastership, now: Timestamp) -> Timestamp {
        let confirmed = mastership.confirmed.values().copied();
        let start = match self.quorum.checked_sub(2) {
            _ if mastership.solo => now,
            None => now,
            // The newest time that is confirmed by as many others as a quorum needs beside this node.
            Some(fewer) => confirmed
                .clone()
                .filter(|at| confirmed.clone().filter(|other| other >= at).count() > fewer)
                .max()
                .unwrap_or(Timestamp::ZERO),
        };
        start + self.timing.safe_lease()
    }

    /// E7: takes over a newer term. A master stands at once in the next.
    pub(crate) fn learn(&mut self, term: Term) {
        if term <= self.hard.term {
            return;
        }
        let (was_master, solo) = (self.is_master(), self.is_solo());
        match self.part {
            Part::Master(_) => self.end_mastership(LossReason::NewerTerm),
            Part::Candidate(_) => self.give_up(),
            _ => {}
        }
        self.hard.term = term;
        self.hard.voted_for = None;
        self.persist();
        if was_master && self.can_vote() {
            self.stand(solo);
        }
    }

    pub(super) fn end_mastership(&mut self, reason: LossReason) {
        if let Part::Master(mastership) = &self.part {
            // What a solo master reported binds nobody (E8).
            if !mastership.solo {
                self.lease_end = self.lease_until(mastership, self.now);
            }
            self.bind_to_self();
            self.part = Part::Idle;
            self.effects.push_back(Effect::Lost { term: self.hard.term, master: self.me.clone(), reason });
        }
    }

    /// E6: what was once reported as valid stays true.
    pub(super) fn bind_to_self(&mut self) {
        let (to, term, until) = (self.me.clone(), self.hard.term, self.lease_end);
        self.promise = Some(Promise { to, term, until, floor: until });
    }

    pub(super) fn lose_master(&mut self, reason: LossReason) {
        if let Some(lost) = self.following.take() {
            self.note_lost(&lost, reason);
            self.effects.push_back(Effect::Lost { term: lost.term, master: lost.master, reason });
        }
    }
}
