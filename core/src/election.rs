//! Electing one master: terms, votes, promises and leases (PROTOCOL.md, rules E1–E10).
//!
//! [`Election`] is a state machine of its own. Its inputs are method calls. Its results are [`Effect`]s, carried out in order.
//!
//! Every node has one, voter or not: it also knows which master this node follows. A voter that follows one is no candidate.
//!
//! | module | contents |
//! | --- | --- |
//! | `state` | what this node does in its election, and what it has to remember for that |
//! | `voter` | what this node knows about another voter, and how voters rank |
//! | `times` | E1, E5: the leases that are promised, and the times of other voters |
//! | `reach` | E7: how far a node goes towards the term of one voter, and when it goes back |
//! | `resigning` | L3, L7: a master that hands its mastership over |
//! | `better` | L8: the voters that are preferred to this master |
//! | `rules` | E1–E7: what follows from what is known |
//! | `solo` | E8: a master without a quorum, and masters that meet |
//! | `held` | E9: another seed list has a master |
//! | `electorate` | E10: the voters change |
//! | `following` | accepting a master, and following it |
//! | `explain` | why this node is no candidate |
//! | `persisting` | E4: what the embedder has answered to a `Persist` |
//! | `invariants` | what holds between the fields after every input |
//! | `model` | tries every order in which a few voters can receive each other's messages |

mod better;
mod electorate;
mod explain;
mod following;
mod held;
mod invariants;
mod persisting;
mod reach;
mod resigning;
mod rules;
mod solo;
mod state;
mod times;
mod voter;

pub(crate) use self::electorate::{ElectorateStep, Roster};
use alloc::collections::{BTreeMap, VecDeque};
use core::time::Duration;

use self::{
    state::{Candidacy, Followed, Mastership, Persistence, Promise, State},
    voter::{LastReport, Rank, RoleKind, Voter},
};
use crate::{
    api::config::{Bootstrap, Config, Timing},
    api::durable::HardState,
    api::electorate::Electorate,
    api::event::LossReason,
    api::input::Start,
    api::status::Leadership,
    id::{Address, Node, NodeId, Term},
    rng::Rng,
    time::Timestamp,
    wire::message::{Heartbeat, HeartbeatAck, Release, Role, StatusReport, Vote, VoteRequest},
    wire::voting::Voting,
};

/// What the node has to do for its election. Effects are carried out in the order in which they are returned.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(crate) enum Effect {
    /// E4: make this state durable, then call [`Election::persisted`] or [`Election::persist_failed`].
    Persist { seq: u64, state: HardState },
    /// E2: send a vote request to the linked voter at this address. [`Election::request_for`] returns the request.
    Ask(Address),
    /// E3: send this vote to the candidate.
    Answer { to: Node, vote: Vote },
    /// E2: report to the linked voter at this address that this candidate gave up.
    Release { to: Address, release: Release },
    /// This node has a master, or its master has a new term. The master may be this node.
    Found { term: Term, master: Node, address: Address },
    /// E7: this node has gone back to a lower term.
    WentBack { from: Term, to: Term },
    /// E5: one voter asks for a lease that the other does not confirm, because its `bootstrap_wait` is shorter.
    LeaseTooLong { candidate: (Node, Duration), voter: (Node, Duration) },
    /// E10: this node has another electorate now.
    ElectorateChanged,
    /// This node has lost its master, or is no longer the master itself.
    Lost { term: Term, master: Node, reason: LossReason },
}

/// The election of one node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Election {
    me: Node,
    address: Address,
    timing: Timing,
    /// E10: the electorate by which this node acts. It is durable, where votes are.
    electorate: Electorate,
    /// How many voters elect a master.
    quorum: usize,
    is_voter: bool,
    bootstrap: Bootstrap,
    priority: u8,
    /// The embedder stores what it is asked to persist.
    is_durable: bool,
    started: Timestamp,
    /// E1: the longest lease that an earlier run of this node may have promised, as far as that is durable.
    inherited_lease: Duration,
    now: Timestamp,
    rng: Rng,
    /// The newest state, durable or not. The term never goes back.
    hard: HardState,
    persistence: Persistence,
    state: State,
    solo: solo::Solo,
    following: Option<Followed>,
    /// The last master that this node has followed or been, and its term.
    known_master: Option<(Term, Node)>,
    /// E5: the newest promise of this voter, to itself or to another node. It is dropped when it has ended.
    promise: Option<Promise>,
    /// Every voter except this node.
    others: BTreeMap<Address, Voter>,
    /// E3: the requests that cannot be answered yet, the newest one of each candidate. They are judged again whenever
    /// something changes.
    deferred: BTreeMap<NodeId, (Node, VoteRequest)>,
    /// E4: a vote for another node that is sent once it is durable.
    pending_vote: Option<(Node, Vote)>,
    /// E2: since when this voter could be a candidate, if it were its turn.
    free_since: Option<Timestamp>,
    /// E2: this voter yields to a candidate that ranks before it.
    yields: bool,
    /// L3, L7: the term that this node has resigned from. It is kept until this node has a master again or is a candidate.
    resigned: Option<Term>,
    /// E2: the end of the wait after a failed candidacy, its own or one that it has yielded to.
    not_before: Timestamp,
    /// How many candidacies in a row have failed.
    failures: u32,
    /// The term of the last failed candidacy, and until when a vote of that term may bind a voter.
    given_up: Option<(Term, Timestamp)>,
    /// E6: the end of the last lease of this node. Until then it votes for nobody else.
    lease_end: Timestamp,
    /// E7: when this node may next take over a term that is far ahead.
    jump_at: Timestamp,
    /// E7: since when a quorum of linked voters has had lower terms than this node, which is no voter and has no master.
    ahead_since: Option<Timestamp>,
    /// The last number that was given to a request or a heartbeat.
    number: u64,
    /// How many candidacies there were since the start.
    candidacies: u64,
    /// E10: the electorate that a node at a configured address holds, while no voter of this node's electorate is linked.
    offer: electorate::Offer,
    /// E10: when this node has last resigned because it is to be removed.
    handed_over: Option<Timestamp>,
    effects: VecDeque<Effect>,
}

impl Election {
    /// The election of a node that has just started. A voter that is the only seed has an effect at once.
    pub(crate) fn new(config: &Config, start: &Start, rng: Rng, now: Timestamp) -> Self {
        let me = Node { id: config.id().clone(), incarnation: start.incarnation };
        let first = || Electorate::first(config.seeds());
        let electorate = start.hard_state.electorate.clone().unwrap_or_else(first);
        let others = electorate.voters.iter().filter(|voter| *voter != config.address());
        let hard = start.hard_state.clone().promising(config.timing().lease);
        let mut election = Self {
            me,
            address: config.address().clone(),
            timing: config.timing().clone(),
            quorum: electorate.quorum(),
            is_voter: electorate.voters.contains(config.address()),
            bootstrap: config.bootstrap(),
            priority: config.priority(),
            is_durable: start.is_durable,
            started: now,
            inherited_lease: start.hard_state.promised_lease,
            now,
            rng,
            persistence: Persistence { durable: hard.clone(), ..Persistence::default() },
            hard,
            state: State::Idle,
            solo: solo::Solo::new(config.solo_after()),
            following: None,
            known_master: None,
            promise: None,
            others: others.map(|voter| (voter.clone(), Voter::default())).collect(),
            electorate,
            deferred: BTreeMap::new(),
            pending_vote: None,
            free_since: None,
            yields: false,
            resigned: None,
            not_before: now,
            failures: 0,
            given_up: None,
            lease_end: Timestamp::ZERO,
            jump_at: Timestamp::ZERO,
            ahead_since: None,
            number: 0,
            candidacies: 0,
            offer: electorate::Offer::default(),
            handed_over: None,
            effects: VecDeque::new(),
        };
        election.note_surplus();
        election.settle();
        election
    }

    /// The next effect to carry out; `None` until the next input.
    pub(crate) fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// The newest term that this node knows.
    pub(crate) fn term(&self) -> Term {
        self.hard.term
    }

    /// How many candidacies there were since the start, without those of a solo master.
    pub(crate) fn candidacies(&self) -> u64 {
        self.candidacies
    }

    /// Whether this node is master, with a quorum or without (E8).
    pub(crate) fn is_master(&self) -> bool {
        self.state.mastership().is_some()
    }

    /// The master of this node, which may be this node itself.
    pub(crate) fn master(&self) -> Option<(&Node, &Address)> {
        match &self.state {
            State::Master(_) => Some((&self.me, &self.address)),
            State::Idle | State::Candidate(_) | State::Leaving => {
                self.following.as_ref().map(|following| (&following.master, &following.address))
            }
        }
    }

    /// The term in which this node has accepted its master, or is the master itself.
    pub(crate) fn master_term(&self) -> Option<Term> {
        match &self.state {
            State::Master(_) => Some(self.hard.term),
            State::Idle | State::Candidate(_) | State::Leaving => self.following.as_ref().map(|f| f.term),
        }
    }

    /// The role in this node's status.
    pub(crate) fn role(&self) -> Role {
        match &self.state {
            State::Leaving => Role::Leaving,
            State::Master(mastership) if mastership.solo => Role::Solo { members: self.members() },
            State::Master(_) => Role::Master,
            State::Candidate(_) => Role::Candidate,
            State::Idle => match &self.following {
                Some(f) => Role::Follower { master: f.master.clone(), address: f.address.clone() },
                None => Role::Joining,
            },
        }
    }

    /// The node to which a promise binds this voter now.
    pub(crate) fn promised_to(&self) -> Option<&Node> {
        self.live_promise().map(|promise| &promise.to)
    }

    /// Whether this node could not grant a vote to anybody now: it is in grace towards every candidate (E1), or cannot
    /// vote.
    pub(crate) fn abstains(&self) -> bool {
        let may_have_my_vote = |voter: &Voter| !voter.cleared && voter.role().is_none_or(RoleKind::is_quorum_master);
        !self.can_vote() || (!self.bootstrap_over() && self.others.values().any(may_have_my_vote))
    }

    /// E2: the request for the voter at this address, while this node is a candidate and that voter has not answered.
    pub(crate) fn request_for(&self, voter: &Address) -> Option<VoteRequest> {
        let candidacy = self.state.candidacy().filter(|candidacy| !candidacy.solo)?;
        candidacy.requested_at?;
        let has_answered = candidacy.granted.contains(voter) || candidacy.refused.contains(voter);
        let electorate = self.electorate.version;
        let request =
            VoteRequest { term: self.hard.term, number: candidacy.number, lease: self.timing.lease, electorate };
        (!has_answered).then_some(request)
    }

    /// E6: the mastership of this node, while its lease is valid at `now`.
    pub(crate) fn leadership(&self, now: Timestamp) -> Option<Leadership> {
        let valid_until = self.lease_until(self.state.mastership()?, now);
        (now < valid_until).then_some(Leadership { term: self.hard.term, valid_until })
    }

    /// When to call [`advance`](Self::advance) at the latest. At any time before that it would change nothing.
    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        let own = match &self.state {
            State::Master(mastership)
                if (self.needs_confirmations() && !mastership.solo) || mastership.ends_at.is_some() =>
            {
                Some(self.lease_until(mastership, self.now))
            }
            State::Candidate(candidacy) => Some(candidacy.deadline),
            State::Idle | State::Master(_) | State::Leaving => None,
        };
        let following = self.following.as_ref().map(|following| following.deadline);
        let bootstrap = self.electorate.may_become_voter(&self.address).then(|| self.bootstrap_end());
        let promise = self.promise.as_ref().map(|promise| promise.until);
        let (solo, held) = (self.solo_at(), self.held_until());
        let mut next = None;
        let mut consider = |at: Timestamp| {
            if at > self.now && next.is_none_or(|next| at < next) {
                next = Some(at);
            }
        };
        let times = [self.climbs_at(), self.goes_back_at(), held, self.offer_due(), self.hands_over_at()];
        for at in [own, following, bootstrap, promise, solo].into_iter().chain(times) {
            at.into_iter().for_each(&mut consider);
        }
        if let Some(since) = self.free_since {
            let turn = since + self.wait_of(self.own_rank());
            consider(turn.max(self.not_before));
            if !self.deferred.is_empty() {
                // In its own turn this voter grants a deferred request, even if it does not become a candidate yet.
                consider(turn);
            }
            for (candidate, _) in self.deferred.values() {
                consider(since + self.wait_of(self.rank_of(&candidate.id)));
            }
        }
        next
    }

    /// Reports a time at which nothing is due.
    pub(crate) fn pass_time(&mut self, now: Timestamp) {
        self.now = now;
    }

    /// Reports the time. E6: an expired lease ends before any other input is handled, so this is called first.
    pub(crate) fn advance(&mut self, now: Timestamp) {
        self.now = now;
        if let State::Master(mastership) = &self.state
            && self.lease_until(mastership, now) <= now
        {
            match mastership.ends_at {
                Some(_) => self.resign_to_be_removed(),
                None => self.end_mastership(LossReason::LeaseExpired),
            }
        }
        self.settle();
    }

    /// The first link to the node is up. `address` is the address of the node, which may be no voter.
    pub(crate) fn link_up(&mut self, address: &Address, node: &Node, voting: Option<&Voting>) {
        // A newer run of the master. Another node with its id is at another address.
        let is_newer_run = |f: &Followed| f.master.id == node.id && f.master != *node && f.address == *address;
        if self.following.as_ref().is_some_and(is_newer_run) {
            self.lose_master(LossReason::Ended);
        }
        // The requests of an earlier run of the node are void.
        self.deferred.retain(|id, (candidate, _)| *id != node.id || candidate == node);
        if let Some(voter) = self.others.get_mut(address) {
            if voter.last_report.as_ref().is_some_and(|report| report.node != *node) {
                voter.last_report = None;
                voter.resigned = false;
            }
            voter.linked = Some(node.clone());
            voter.other_master = None;
            voter.voting = voting.cloned();
            self.compare_times(address);
            self.relinked(address);
        }
        self.settle();
    }

    /// There is a new connection to a linked voter. Messages on another one may be lost, so they are sent again.
    pub(crate) fn relinked(&mut self, voter: &Address) {
        if self.request_for(voter).is_some() {
            self.effects.push_back(Effect::Ask(voter.clone()));
        }
        if let Some((term, _)) = self.given_up.filter(|(_, until)| *until > self.now) {
            self.effects.push_back(Effect::Release { to: voter.clone(), release: Release { term } });
        }
    }

    /// The last link to the node at this address is down. Its newest status is kept (E1).
    pub(crate) fn link_down(&mut self, address: &Address) {
        self.remove_rival(address);
        if let Some(node) = self.others.get_mut(address).and_then(|voter| voter.linked.take()) {
            self.deferred.remove(&node.id);
        }
        self.settle();
    }

    /// Receives the status of a master that has not shown yet that it has the link, too. Until then this node does not follow it: no
    /// heartbeat might come.
    pub(crate) fn master_greets(&mut self, from: &Node, address: &Address, status: &StatusReport) {
        self.record_report(from, address, status);
        self.settle();
    }

    pub(super) fn record_report(&mut self, from: &Node, address: &Address, status: &StatusReport) {
        let keeps_term = self.keeps_term(status.term);
        if let Some(voter) = self.others.get_mut(address) {
            let report = LastReport::new(from, status, keeps_term);
            voter.cleared |= report.is_free();
            let has_joined = voter.voting.as_ref().is_some_and(|voting| !voting.may_form) && report.role.has_master();
            voter.has_joined |= has_joined;
            voter.last_report = Some(report);
        }
    }

    /// Receives a status, newer than all before from that node.
    pub(crate) fn status_received(&mut self, from: &Node, address: &Address, status: &StatusReport) {
        let is_voter = self.others.contains_key(address);
        let knew = self.electorate_of(address);
        self.record_report(from, address, status);
        self.compare_electorates(address, (knew, status.electorate));
        if is_voter {
            self.record_rival(from, address, (status.term, &status.role));
        }
        let was_master = self.following.as_ref().is_some_and(|f| f.master == *from && f.term <= status.term);
        match RoleKind::from(&status.role) {
            RoleKind::Master => {
                if is_voter {
                    self.accept_master_for(from, address, (status.term, None));
                }
            }
            // E7: the term of a candidate is judged with its request (E3). Its status alone must not end a mastership.
            RoleKind::Candidate => {
                if was_master {
                    self.lose_master(LossReason::Ended);
                }
            }
            // E8: followers of a solo master take over its term when they accept it. Other masters judge it as a rival.
            RoleKind::Solo => {
                let accepted = is_voter && self.accept_master_for(from, address, (status.term, None));
                if !accepted && was_master {
                    self.lose_master(LossReason::Ended);
                }
            }
            RoleKind::Leaving if was_master => self.lose_master(LossReason::Resigned),
            RoleKind::Joining | RoleKind::Follower if was_master => {
                self.drop_solo_promise();
                self.lose_master(LossReason::Ended);
                self.learn(status.term);
            }
            RoleKind::Leaving | RoleKind::Joining | RoleKind::Follower => {
                // E7: only voters count about terms.
                if is_voter && self.takes_term_of(status) {
                    self.learn(status.term);
                }
            }
        }
        self.settle();
    }

    /// E3: receives a request for a vote. The newest request of a candidate replaces the older one.
    pub(crate) fn vote_request(&mut self, from: &Node, request: VoteRequest) {
        self.deferred.insert(from.id.clone(), (from.clone(), request));
        self.settle();
    }

    /// Receives the answer of a voter. An answer to an earlier candidacy only shows the voter's term (E2).
    pub(crate) fn vote(&mut self, voter: &Address, vote: Vote) {
        if let State::Candidate(candidacy) = &mut self.state
            && candidacy.number == vote.number
        {
            if vote.granted && vote.term == self.hard.term {
                candidacy.granted.insert(voter.clone());
            } else if !vote.granted {
                candidacy.refused.insert(voter.clone());
            }
        }
        self.learn(vote.term);
        self.settle();
    }

    /// E2, E5: a candidate gave up its term. This ends what was promised in that term.
    pub(crate) fn release(&mut self, from: &Node, release: Release) {
        self.deferred.retain(|_, (candidate, request)| candidate != from || request.term > release.term);
        if self.pending_vote.as_ref().is_some_and(|(to, vote)| to == from && vote.term == release.term) {
            self.pending_vote = None;
        }
        if let Some(promise) = &mut self.promise
            && promise.to == *from
            && promise.term == release.term
        {
            promise.until = promise.until_after_release;
        }
        self.settle();
    }

    /// Receives a heartbeat. Returns whether the sender is this node's master, and whether this voter has promised it the
    /// lease that the heartbeat names (E5). Only a voter promises, only a lease of at most its own `bootstrap_wait`, and only while no
    /// promise binds it to another node.
    pub(crate) fn heartbeat(&mut self, from: &Node, address: &Address, heartbeat: Heartbeat) -> (bool, bool) {
        let accepted = self.accept_master_for(from, address, (heartbeat.term, Some(heartbeat.lease)));
        // With votes in memory, terms begin again after all voters were down at once. A late message of an earlier run may then name
        // a newer term than the living master has, and must not end the promise to that master.
        let is_bound = self.live_promise().is_some_and(|promise| promise.to != *from);
        let may_vote = self.electorate.may_become_voter(&self.address) && self.stays_voter(address);
        let may_promise = accepted && may_vote && !is_bound && heartbeat.lease <= self.timing.bootstrap_wait;
        if may_promise {
            let (until, lease) = (self.now + heartbeat.lease, heartbeat.lease);
            match &mut self.promise {
                Some(promise) if promise.to == *from => {
                    promise.until = promise.until.max(until);
                    promise.term = heartbeat.term;
                    promise.lease = promise.lease.max(lease);
                }
                other => {
                    let (to, term) = (from.clone(), heartbeat.term);
                    *other = Some(Promise { to, term, until, until_after_release: Timestamp::ZERO, lease });
                }
            }
            self.persist();
        }
        // The next run of this node has to know how long to wait for the end of the promise (E1).
        let confirms = may_promise && heartbeat.lease <= self.persistence.durable.promised_lease;
        if confirms {
            self.clear(from);
        }
        if let Some(following) = self.following.as_mut().filter(|_| accepted) {
            following.heartbeat = Some(heartbeat);
        }
        self.settle();
        (accepted, confirms)
    }

    /// E6: receives the answer to a heartbeat. Only that of a voter counts. A confirmation counts for the time at which the heartbeat was
    /// sent.
    pub(crate) fn heartbeat_ack(&mut self, voter: &Address, ack: &HeartbeatAck) {
        let is_voter = self.others.contains_key(voter);
        if !is_voter && !self.electorate.may_become_voter(voter) {
            return;
        }
        if let State::Master(mastership) = &mut self.state
            && ack.confirms
            && let Some((_, sent)) = mastership.sent.iter().find(|(number, _)| *number == ack.number)
        {
            let newest = mastership.confirmed.entry(voter.clone()).or_insert(*sent);
            *newest = (*newest).max(*sent);
            // E10: this heartbeat was sent when the electorate was durable here, and it is durable there.
            if is_voter && ack.electorate == self.electorate.version && ack.number > mastership.changed_at {
                mastership.installed.insert(voter.clone());
            }
        }
        // E8: a former member of a solo master may follow another master by now, and have that one's term.
        if is_voter && !self.is_solo() {
            self.learn(ack.term);
        }
        self.settle();
    }

    /// When a heartbeat of this number was sent, if a lease that begins with it may still run.
    pub(crate) fn sent_at(&self, number: u64) -> Option<Timestamp> {
        let State::Master(mastership) = &self.state else { return None };
        mastership.sent.iter().find(|(sent, _)| *sent == number).map(|(_, at)| *at)
    }

    /// The last number that was given to a request or a heartbeat.
    pub(crate) fn newest_number(&self) -> u64 {
        self.number
    }

    /// The next heartbeat of a master, to be sent now. `None` if this node is no master.
    pub(crate) fn next_heartbeat(&mut self) -> Option<Heartbeat> {
        let State::Master(mastership) = &mut self.state else { return None };
        self.number += 1;
        let is_over = |sent: Timestamp| sent + self.timing.lease <= self.now;
        while mastership.sent.front().is_some_and(|(_, sent)| is_over(*sent)) {
            mastership.sent.pop_front();
        }
        mastership.sent.push_back((self.number, self.now));
        let heartbeat = Heartbeat { term: self.hard.term, number: self.number, lease: self.timing.lease };
        self.settle();
        Some(heartbeat)
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
