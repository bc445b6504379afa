//! Electing one master: terms, votes, promises and leases (PROTOCOL.md, rules E1–E8). No links, no bytes.
//!
//! The node's own view of who is master lives here too, for voters and all others: having none is what lets a voter stand.

mod check;
mod rules;
mod solo;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::{
    api::config::{Bootstrap, Config, Timing},
    api::interface::{HardState, Leadership, LossReason, Start},
    id::{Address, Node, NodeId, Term},
    rng::Rng,
    time::Timestamp,
    wire::message::{Heartbeat, HeartbeatAck, Release, Role, StatusReport, Vote, VoteRequest},
};

/// What has to be done about it, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Effect {
    Persist {
        seq: u64,
        state: HardState,
    },
    /// Ask this linked voter for its vote.
    Ask(Address),
    Answer {
        to: Node,
        vote: Vote,
    },
    Release {
        to: Address,
        release: Release,
    },
    /// There is a master: another, or this node.
    Found {
        term: Term,
        master: Node,
        address: Address,
    },
    /// There is none any more: another, or this node.
    Lost {
        term: Term,
        master: Node,
        reason: LossReason,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Election {
    me: Node,
    address: Address,
    timing: Timing,
    quorum: usize,
    is_voter: bool,
    bootstrap: Bootstrap,
    started: Timestamp,
    now: Timestamp,
    rng: Rng,
    hard: HardState,
    persistence: Persistence,
    part: Part,
    solo: solo::Solo,
    following: Option<Followed>,
    /// The last master that it has followed or been, and its term.
    known_master: Option<(Term, Node)>,
    promise: Option<Promise>,
    /// Every seed but this node's own.
    others: BTreeMap<Address, Voter>,
    /// Requests that are judged again when something changes, the newest of each candidate.
    kept: BTreeMap<NodeId, (Node, VoteRequest)>,
    /// A vote that waits for its `Persisted`.
    owed_vote: Option<(Node, Vote)>,
    /// Since when this voter could stand, but for its turn.
    free_since: Option<Timestamp>,
    /// The random wait after a failed candidacy.
    not_before: Timestamp,
    failures: u32,
    /// The term of the last candidacy that was given up, and until when its votes may bind someone.
    given_up: Option<(Term, Timestamp)>,
    /// The end of the last lease of its own: until then nobody else gets its vote (E6).
    lease_end: Timestamp,
    /// The last number given to a request or a heartbeat.
    number: u64,
    candidacies: u64,
    effects: VecDeque<Effect>,
}

/// One `Persist` in flight at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Persistence {
    durable: HardState,
    in_flight: Option<HardState>,
    seq: u64,
    /// One has failed, so nothing is durable any more.
    failed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Part {
    /// Neither of the others.
    Idle,
    Candidate(Candidacy),
    Master(Mastership),
    Leaving,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Candidacy {
    /// Without a quorum: only its own vote counts (E8).
    solo: bool,
    number: u64,
    /// When the requests went out: once the own vote was durable (E4).
    asked: Option<Timestamp>,
    deadline: Timestamp,
    granted: BTreeSet<Address>,
    refused: BTreeSet<Address>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Mastership {
    /// Without a quorum, and so without a lease that could lapse (E8).
    solo: bool,
    /// The newest sending time that each other voter has confirmed.
    confirmed: BTreeMap<Address, Timestamp>,
    /// The numbers of the heartbeats that a confirmation may still name, with their sending times.
    sent: VecDeque<(u64, Timestamp)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Followed {
    master: Node,
    address: Address,
    term: Term,
    /// It is a solo master (E8).
    solo: bool,
    /// When it counts as lost, unless it is heard.
    deadline: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Promise {
    to: Node,
    term: Term,
    until: Timestamp,
    /// The end of a promise to the same node from an earlier term, which a `Release` of this term leaves in force.
    floor: Timestamp,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Voter {
    linked: Option<Node>,
    /// The newest status since this node's start. It outlives the link (E1).
    heard: Option<Heard>,
    /// E1: it has been seen, since this node's start, not to rest on a vote that this node may have forgotten.
    cleared: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Heard {
    node: Node,
    stance: Stance,
    held: bool,
    promise: Option<Node>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stance {
    Joining,
    Candidate,
    Follower,
    Master,
    Leaving,
    Solo,
}

impl Election {
    pub(crate) fn new(config: &Config, start: &Start, rng: Rng, now: Timestamp) -> Self {
        let me = Node { id: config.id().clone(), incarnation: start.incarnation };
        let others = config.seeds().iter().filter(|seed| *seed != config.address());
        let mut election = Self {
            me,
            address: config.address().clone(),
            timing: config.timing().clone(),
            quorum: config.quorum(),
            is_voter: config.is_voter(),
            bootstrap: config.bootstrap(),
            started: now,
            now,
            rng,
            hard: start.hard_state.clone(),
            persistence: Persistence { durable: start.hard_state.clone(), ..Persistence::default() },
            part: Part::Idle,
            solo: solo::Solo::new(config.solo_after()),
            following: None,
            known_master: None,
            promise: None,
            others: others.map(|seed| (seed.clone(), Voter::default())).collect(),
            kept: BTreeMap::new(),
            owed_vote: None,
            free_since: None,
            not_before: now,
            failures: 0,
            given_up: None,
            lease_end: Timestamp::ZERO,
            number: 0,
            candidacies: 0,
            effects: VecDeque::new(),
        };
        election.settle();
        election
    }

    pub(crate) fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    pub(crate) fn term(&self) -> Term {
        self.hard.term
    }

    pub(crate) fn candidacies(&self) -> u64 {
        self.candidacies
    }

    pub(crate) fn is_master(&self) -> bool {
        matches!(self.part, Part::Master(_))
    }

    /// The master that is followed, or this node when it is master.
    pub(crate) fn master(&self) -> Option<(&Node, &Address)> {
        match (&self.part, &self.following) {
            (Part::Master(_), _) => Some((&self.me, &self.address)),
            (_, Some(following)) => Some((&following.master, &following.address)),
            _ => None,
        }
    }

    pub(crate) fn role(&self) -> Role {
        match (&self.part, &self.following) {
            (Part::Leaving, _) => Role::Leaving,
            (Part::Master(mastership), _) if mastership.solo => Role::Solo { members: self.members() },
            (Part::Master(_), _) => Role::Master,
            (Part::Candidate(_), _) => Role::Candidate,
            (Part::Idle, Some(f)) => Role::Follower { master: f.master.clone(), address: f.address.clone() },
            (Part::Idle, None) => Role::Joining,
        }
    }

    /// To whom a promise that is still alive binds this voter.
    pub(crate) fn promised_to(&self) -> Option<&Node> {
        self.live_promise().map(|promise| &promise.to)
    }

    /// Not to be counted on by any candidate: held by E1 whoever it is, or not able to vote at all.
    pub(crate) fn abstains(&self) -> bool {
        let doubtful =
            |voter: &Voter| !voter.cleared && voter.heard.as_ref().is_none_or(|heard| heard.stance == Stance::Master);
        !self.can_vote() || (!self.bootstrap_over() && self.others.values().any(doubtful))
    }

    /// The request that a linked voter is to be sent, while this node stands and has not its answer.
    pub(crate) fn request_for(&self, voter: &Address) -> Option<VoteRequest> {
        let Part::Candidate(candidacy) = &self.part else { return None };
        candidacy.asked.filter(|_| !candidacy.solo)?;
        let open = !candidacy.granted.contains(voter) && !candidacy.refused.contains(voter);
        open.then_some(VoteRequest { term: self.hard.term, number: candidacy.number, lease: self.timing.lease })
    }

    /// The mastership and the end of its lease, if that is still to come (E6).
    pub(crate) fn leadership(&self, now: Timestamp) -> Option<Leadership> {
        let Part::Master(mastership) = &self.part else { return None };
        let valid_until = self.lease_until(mastership, now);
        (now < valid_until).then_some(Leadership { term: self.hard.term, valid_until })
    }

    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        let part = match &self.part {
            Part::Master(mastership) if self.quorum > 1 && !mastership.solo => {
                Some(self.lease_until(mastership, self.now))
            }
            Part::Candidate(candidacy) => Some(candidacy.deadline),
            _ => None,
        };
        let following = self.following.as_ref().map(|following| following.deadline);
        let bootstrap = self.is_voter.then(|| self.started + self.timing.bootstrap_wait);
        let promise = self.promise.as_ref().map(|promise| promise.until);
        let turns = self.free_since.into_iter().flat_map(|since| {
            let own = (since + self.wait_of(&self.me.id)).max(self.not_before);
            let kept = self.kept.values().map(move |(candidate, _)| since + self.wait_of(&candidate.id));
            kept.chain([own])
        });
        let all = [part, following, bootstrap, promise, self.solo_at()].into_iter().flatten().chain(turns);
        all.filter(|at| *at > self.now).min()
    }

    /// Time has come to `now`: judges a lapse before anything else is handled (E6).
    pub(crate) fn advance(&mut self, now: Timestamp) {
        self.now = now;
        if let Part::Master(mastership) = &self.part
            && self.lease_until(mastership, now) <= now
        {
            self.end_mastership(LossReason::LeaseLapsed);
        }
        self.settle();
    }

    pub(crate) fn link_up(&mut self, voter: &Address, node: &Node) {
        if self.following.as_ref().is_some_and(|f| f.master.id == node.id && f.master != *node) {
            self.lose_master(LossReason::Ended);
        }
        self.kept.retain(|id, (candidate, _)| *id != node.id || candidate == node);
        if let Some(known) = self.others.get_mut(voter) {
            if known.heard.as_ref().is_some_and(|heard| heard.node != *node) {
                known.heard = None;
            }
            known.linked = Some(node.clone());
            self.relinked(voter);
        }
        self.settle();
    }

    /// What hung on another connection to this voter may be lost with it: ask and release again.
    pub(crate) fn relinked(&mut self, voter: &Address) {
        if self.request_for(voter).is_some() {
            self.effects.push_back(Effect::Ask(voter.clone()));
        }
        if let Some((term, _)) = self.given_up.filter(|(_, until)| *until > self.now) {
            self.effects.push_back(Effect::Release { to: voter.clone(), release: Release { term } });
        }
    }

    pub(crate) fn link_down(&mut self, voter: &Address) {
        self.forget_rival(voter);
        if let Some(node) = self.others.get_mut(voter).and_then(|known| known.linked.take()) {
            self.kept.remove(&node.id);
        }
        self.settle();
    }

    pub(crate) fn heard_status(&mut self, from: &Node, address: &Address, status: &StatusReport) {
        let stance = match &status.role {
            Role::Joining => Stance::Joining,
            Role::Candidate => Stance::Candidate,
            Role::Follower { .. } => Stance::Follower,
            Role::Master => Stance::Master,
            Role::Leaving => Stance::Leaving,
            Role::Solo { .. } => Stance::Solo,
        };
        let is_voter = self.others.contains_key(address);
        if let Some(voter) = self.others.get_mut(address) {
            voter.cleared |= !matches!(stance, Stance::Master | Stance::Candidate) && status.promise.is_none();
            voter.heard =
                Some(Heard { node: from.clone(), stance, held: status.abstains, promise: status.promise.clone() });
            self.note_rival(from, address, (status.term, &status.role));
        }
        let was_master = self.following.as_ref().is_some_and(|f| f.master == *from && f.term <= status.term);
        match stance {
            Stance::Master if is_voter => {
                self.accept_master(from, address, status.term);
            }
            // A candidate's new term is judged with its request (E3); a status alone must not unseat a master.
            Stance::Candidate if was_master => self.lose_master(LossReason::Ended),
            Stance::Solo if is_voter && self.accept_master(from, address, status.term) => {}
            // Its term is taken over by who follows it, and by masters as E8 says.
            Stance::Solo if was_master => self.lose_master(LossReason::Ended),
            Stance::Candidate | Stance::Master | Stance::Solo => {}
            Stance::Leaving if was_master => self.lose_master(LossReason::Resigned),
            Stance::Joining | Stance::Follower if was_master => {
                self.forget_solo_promise();
                self.lose_master(LossReason::Ended);
                self.learn(status.term);
            }
            _ if self.listens_to(status) => self.learn(status.term),
            _ => {}
        }
        self.settle();
    }

    pub(crate) fn vote_request(&mut self, from: &Node, request: VoteRequest) {
        self.kept.insert(from.id.clone(), (from.clone(), request));
        self.settle();
    }

    pub(crate) fn vote(&mut self, voter: &Address, vote: Vote) {
        if let Part::Candidate(candidacy) = &mut self.part
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

    /// E2, E5: the candidate gave up its term.
    pub(crate) fn release(&mut self, from: &Node, release: Release) {
        self.kept.retain(|_, (candidate, request)| candidate != from || request.term > release.term);
        if self.owed_vote.as_ref().is_some_and(|(to, vote)| to == from && vote.term == release.term) {
            self.owed_vote = None;
        }
        if let Some(promise) = &mut self.promise
            && promise.to == *from
            && promise.term == release.term
        {
            promise.until = promise.floor;
        }
        self.settle();
    }

    /// E5: the master ended its term by its own wish.
    pub(crate) fn resigned(&mut self, from: &Node, address: &Address, term: Term) {
        self.forget_rival(address);
        if let Some(heard) = self.others.get_mut(address).and_then(|voter| voter.heard.as_mut()) {
            heard.stance = Stance::Leaving;
            heard.promise = None;
        }
        if self.promise.as_ref().is_some_and(|promise| promise.to == *from && promise.term <= term) {
            self.promise = None;
        }
        if self.following.as_ref().is_some_and(|f| f.master == *from && f.term <= term) {
            self.lose_master(LossReason::Resigned);
        }
        self.learn(term);
        self.settle();
    }

    /// Whether the sender is this node's master; and if so whether it was given a promise (E5).
    pub(crate) fn heartbeat(&mut self, from: &Node, address: &Address, heartbeat: Heartbeat) -> (bool, bool) {
        let accepted = self.accept_master(from, address, heartbeat.term);
        let confirms = accepted && self.is_voter && heartbeat.lease <= self.timing.bootstrap_wait;
        if confirms {
            self.clear(from);
            let until = self.now + heartbeat.lease;
            match &mut self.promise {
                Some(promise) if promise.to == *from => {
                    promise.until = promise.until.max(until);
                    promise.term = heartbeat.term;
                }
                other => {
                    *other = Some(Promise { to: from.clone(), term: heartbeat.term, until, floor: Timestamp::ZERO });
                }
            }
        }
        self.settle();
        (accepted, confirms)
    }

    pub(crate) fn heartbeat_ack(&mut self, voter: &Address, ack: &HeartbeatAck) {
        if let Part::Master(mastership) = &mut self.part
            && ack.confirms
            && let Some((_, sent)) = mastership.sent.iter().find(|(number, _)| *number == ack.number)
            && let Some(newest) = self.others.contains_key(voter).then(|| mastership.confirmed.entry(voter.clone()))
        {
            let newest = newest.or_insert(*sent);
            *newest = (*newest).max(*sent);
        }
        // Whom a solo master has once taken in may follow another by now.
        if !self.is_solo() {
            self.learn(ack.term);
        }
        self.settle();
    }

    /// The next heartbeat, sent now.
    pub(crate) fn next_heartbeat(&mut self) -> Option<Heartbeat> {
        let Part::Master(mastership) = &mut self.part else { return None };
        self.number += 1;
        let outlived = |sent: Timestamp| sent + self.timing.lease <= self.now;
        while mastership.sent.front().is_some_and(|(_, sent)| outlived(*sent)) {
            mastership.sent.pop_front();
        }
        mastership.sent.push_back((self.number, self.now));
        let heartbeat = Heartbeat { term: self.hard.term, number: self.number, lease: self.timing.lease };
        self.meet();
        Some(heartbeat)
    }

    /// Accepts a master by its word: a status, a join response or a heartbeat.
    pub(crate) fn accept_master(&mut self, master: &Node, address: &Address, term: Term) -> bool {
        if term < self.hard.term || matches!(self.part, Part::Leaving) {
            return false;
        }
        let solo = self.says_solo(master, address);
        if solo && !self.may_follow_solo(master) {
            return false;
        }
        if self.is_solo() {
            self.give_way();
        }
        if self.known_master.as_ref().is_some_and(|(known, node)| *known == term && node != master) {
            // Two masters in a term: votes were lost with the memory of a restarted voter (G1). Views of both would be taken
            // for one another, so a new term decides.
            self.learn(term.next());
            return false;
        }
        match self.part {
            Part::Master(_) => self.end_mastership(LossReason::NewerTerm),
            Part::Candidate(_) => self.give_up(),
            _ => {}
        }
        if term > self.hard.term {
            self.hard.voted_for = None;
        }
        self.hard.term = term;
        // Accepting a master spends the vote of its term (E3).
        self.hard.voted_for.get_or_insert_with(|| master.clone());
        self.hard.joined = true;
        self.known_master = Some((term, master.clone()));
        self.persist();
        if self.following.as_ref().is_some_and(|f| f.master != *master) {
            self.lose_master(LossReason::Ended);
        }
        let deadline = self.now + self.timing.lease;
        self.failures = 0;
        match &mut self.following {
            Some(known) if known.master == *master && known.term == term => known.deadline = deadline,
            other => {
                let (master, address) = (master.clone(), address.clone());
                *other = Some(Followed { master: master.clone(), address: address.clone(), term, solo, deadline });
                self.effects.push_back(Effect::Found { term, master, address });
            }
        }
        true
    }

    /// The number of the `Persist` in flight.
    pub(crate) fn persisting(&self) -> Option<u64> {
        self.persistence.in_flight.as_ref().map(|_| self.persistence.seq)
    }

    /// The `Persist` in flight is durable.
    pub(crate) fn persisted(&mut self) {
        if let Some(durable) = self.persistence.in_flight.take() {
            self.persistence.durable = durable;
        }
        self.persist();
        self.settle();
    }

    /// The `Persist` in flight has failed. Storage may hold it or not, so nothing that hangs on it is ever said (E4).
    pub(crate) fn persist_failed(&mut self) {
        self.persistence.in_flight = None;
        self.persistence.failed = true;
        self.owed_vote = None;
        if matches!(&self.part, Part::Candidate(candidacy) if candidacy.asked.is_none()) {
            self.give_up();
        }
        self.settle();
    }

    /// Ends every part in elections. The term to resign from, if this node was master.
    pub(crate) fn leave(&mut self) -> Option<Term> {
        let resigned = self.is_master().then_some(self.hard.term);
        match self.part {
            Part::Master(_) => self.end_mastership(LossReason::Resigned),
            Part::Candidate(_) => self.give_up(),
            _ => {}
        }
        if resigned.is_some() {
            // What it resigns from binds it no more, and nobody has to wait for the end of it (E1, E5).
            self.promise = None;
        }
        self.part = Part::Leaving;
        resigned
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
