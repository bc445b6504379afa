//! Voters around the real [`Election`], and what carries their words: links that keep their order and lose what is under
//! way when they break, disks, and one clock of which each voter learns when something reaches it.

use alloc::{
    collections::{BTreeMap, VecDeque},
    format,
    string::String,
    sync::Arc,
    vec::Vec,
};
use core::time::Duration;

use super::super::{Effect, Election, Part};
use crate::{
    config::{Config, Timing},
    id::{Address, Incarnation, Node, NodeId, Term},
    interface::{HardState, Start},
    message::{Heartbeat, HeartbeatAck, Release, Role, Status, Vote, VoteRequest},
    rng::Rng,
    time::Timestamp,
};

/// All times are multiples of this, so that no moment lies between two that are looked at.
const UNIT: Duration = Duration::from_millis(100);

/// What a voter says on a link, in the order in which it arrives.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Frame {
    /// The link breaks.
    Down,
    /// A new one is there.
    Hello(Node),
    Status(Status),
    Request(VoteRequest),
    Vote(Vote),
    Release(Release),
    /// It was master of this term, and leaves.
    Resign(Term),
    Beat(Heartbeat),
    Ack(HeartbeatAck),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Voter {
    pub(super) election: Election,
    pub(super) disk: HardState,
    /// What of it the voter was told is durable.
    durable: HardState,
    writing: Option<HardState>,
    /// The last status that it said.
    said: Status,
    /// With which voters it has a link, and which one.
    links: Vec<Option<u8>>,
    last_beat: Option<u64>,
    pub(super) dead: bool,
    /// Until when it has ever been told that it is the master, while that is to come.
    claim: Option<Timestamp>,
}

/// One state of the whole.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) now: u64,
    pub(super) voters: Vec<Arc<Voter>>,
    /// What is under way from each voter to each.
    pub(super) wires: Vec<VecDeque<Frame>>,
    /// How many links there have been between each two, and whether there is one.
    links: Vec<(u8, bool)>,
    pub(super) masters: BTreeMap<Term, Node>,
    pub(super) cuts: u8,
    pub(super) crashes: u8,
    /// How many disks fail.
    pub(super) failures: u8,
    /// How many leave.
    pub(super) leaves: u8,
    /// What should never have come to be.
    pub(super) broken: Option<String>,
}

/// How it goes on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Who crashes loses its disk.
    pub(super) forget: bool,
    /// Whether what the first says to the second may take as long as it likes; of a voter and itself, whether it may be late in
    /// learning of the time. All else has happened before time passes on.
    pub(super) slow: fn(usize, usize) -> bool,
    /// All that is under way on a link arrives together, as what is written together does; otherwise frame by frame.
    pub(super) bursts: bool,
}

/// Nobody is slow, no disk is lost.
pub(super) const PROMPT: Rules = Rules { forget: false, slow: |_, _| false, bursts: true };

/// What can happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// Time passes by one unit.
    Pass,
    /// A voter learns what time it is.
    Tick(usize),
    /// What was said first arrives.
    Deliver { from: usize, to: usize },
    /// What a voter writes is durable.
    Persisted(usize),
    /// It fails; whether it is there all the same is known to nobody.
    PersistFails { ix: usize, kept: bool },
    /// The link between two voters breaks, with what is under way on it.
    Cut(usize, usize),
    /// There is a link between them again.
    Mend(usize, usize),
    /// A voter dies.
    Crash(usize),
    /// It starts again.
    Start(usize),
    /// It leaves.
    Leave(usize),
}

pub(super) fn timing() -> Timing {
    Timing {
        heartbeat_interval: UNIT,
        stagger: UNIT,
        election_timeout: 2 * UNIT,
        lease: 3 * UNIT,
        bootstrap_wait: 3 * UNIT,
        suspect_after: 2 * UNIT,
        down_after: 3 * UNIT,
        // There is one clock.
        max_clock_drift_percent: 0,
        ..Timing::default()
    }
}

fn name(ix: usize) -> Address {
    Address::new(format!("h{ix}:1")).expect("a valid address")
}

fn index(id: &NodeId) -> usize {
    id.as_str()[1..].parse().expect("ids are n and a number")
}

fn start(ix: usize, voters: usize, incarnation: u64, disk: &HardState, now: u64) -> Voter {
    let id = format!("n{ix}");
    let seeds = (0..voters).map(|ix| format!("h{ix}:1"));
    let config = Config::builder("model", id.as_str(), name(ix).as_str()).seeds(seeds).timing(timing());
    let config = config.build().expect("a valid configuration");
    let start = Start { incarnation: Incarnation(incarnation), rng_seed: 0, hard_state: disk.clone() };
    let election = Election::new(&config, &start, Rng::new(0), at(now));
    let said = status(&election);
    Voter {
        election,
        disk: disk.clone(),
        durable: disk.clone(),
        writing: None,
        said,
        links: alloc::vec![None; voters],
        last_beat: None,
        dead: false,
        claim: None,
    }
}

fn at(now: u64) -> Timestamp {
    Timestamp::ZERO + UNIT * u32::try_from(now).expect("a short run")
}

fn status(election: &Election) -> Status {
    Status {
        number: 0,
        term: election.term(),
        role: election.role(),
        held: election.is_held(),
        promise: election.promised_to().cloned(),
        epoch: Default::default(),
        metadata: Default::default(),
    }
}

impl World {
    /// All voters have just started, and their first words are under way.
    pub(super) fn fresh(voters: usize, cuts: u8, crashes: u8) -> Self {
        let mut world = Self {
            now: 1,
            voters: (0..voters).map(|ix| Arc::new(start(ix, voters, 1, &HardState::default(), 1))).collect(),
            wires: alloc::vec![VecDeque::new(); voters * voters],
            links: alloc::vec![(0, false); voters * voters],
            masters: BTreeMap::new(),
            cuts,
            crashes,
            failures: 0,
            leaves: 0,
            broken: None,
        };
        for (a, b) in world.pairs() {
            world.connect(a, b);
        }
        world
    }

    /// All has been said that there is to say, without loss of time: the lowest id is the master.
    pub(super) fn formed(voters: usize, cuts: u8, crashes: u8) -> Self {
        let mut world = Self::fresh(voters, cuts, crashes);
        let quick = |step: &Step| matches!(step, Step::Deliver { .. } | Step::Persisted(_));
        while let Some(step) = world.steps(PROMPT).into_iter().find(quick) {
            world.take(step, PROMPT);
        }
        world
    }

    /// The same, but the second died when it had just voted for itself in the next term, and nobody heard of it.
    pub(super) fn formed_beside_a_newer_term(cuts: u8) -> Self {
        let mut world = Self::formed(3, cuts, 1);
        world.take(Step::Crash(1), PROMPT);
        let voter = Arc::make_mut(&mut world.voters[1]);
        let me = Node { incarnation: Incarnation(1), ..voter.election.me.clone() };
        voter.disk = HardState { term: Term(2), voted_for: Some(me), joined: true };
        world
    }

    fn pairs(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let voters = self.voters.len();
        (0..voters).flat_map(move |a| (a + 1..voters).map(move |b| (a, b)))
    }

    fn wire(&self, from: usize, to: usize) -> usize {
        from * self.voters.len() + to
    }

    /// All that can happen now.
    pub(super) fn steps(&self, rules: Rules) -> Vec<Step> {
        let mut steps = Vec::new();
        let alive = |ix: &usize| !self.voters[*ix].dead;
        let idle = (0..self.voters.len()).filter(alive).all(|ix| {
            let slow = |to: usize| (rules.slow)(ix, to);
            let said =
                (0..self.voters.len()).filter(alive).any(|to| !slow(to) && !self.wires[self.wire(ix, to)].is_empty());
            let late = self.voters[ix].writing.is_some() || self.voters[ix].election.now < at(self.now);
            !said && (slow(ix) || !late)
        });
        if idle {
            steps.push(Step::Pass);
        }
        for (ix, voter) in self.voters.iter().enumerate() {
            if voter.dead {
                steps.push(Step::Start(ix));
                continue;
            }
            if voter.election.now < at(self.now) {
                steps.push(Step::Tick(ix));
            }
            if voter.writing.is_some() {
                steps.push(Step::Persisted(ix));
                if self.failures > 0 {
                    steps.extend([false, true].map(|kept| Step::PersistFails { ix, kept }));
                }
            }
            if self.crashes > 0 {
                steps.push(Step::Crash(ix));
            }
            if self.leaves > 0 && voter.election.role() != Role::Leaving {
                steps.push(Step::Leave(ix));
            }
            for to in (0..self.voters.len()).filter(|to| !self.wires[self.wire(ix, *to)].is_empty()) {
                steps.push(Step::Deliver { from: ix, to });
            }
        }
        for (a, b) in self.pairs() {
            if !self.links[self.wire(a, b)].1 {
                if !self.voters[a].dead && !self.voters[b].dead {
                    steps.push(Step::Mend(a, b));
                }
            } else if self.cuts > 0 {
                steps.push(Step::Cut(a, b));
            }
        }
        steps
    }

    /// Lets it happen.
    pub(super) fn take(&mut self, step: Step, rules: Rules) {
        match step {
            Step::Pass => {
                self.now += 1;
                self.tick_idle();
            }
            Step::Tick(ix) => self.with(ix, |_| {}),
            Step::Persisted(ix) => {
                let voter = Arc::make_mut(&mut self.voters[ix]);
                voter.disk = voter.writing.take().expect("something is being written");
                voter.durable = voter.disk.clone();
                self.with(ix, Election::persisted);
            }
            Step::PersistFails { ix, kept } => {
                self.failures -= 1;
                let voter = Arc::make_mut(&mut self.voters[ix]);
                let state = voter.writing.take().expect("something is being written");
                if kept {
                    voter.disk = state;
                }
                self.with(ix, Election::persist_failed);
            }
            Step::Deliver { from, to } => {
                let wire = self.wire(from, to);
                let some = if rules.bursts { self.wires[wire].len() } else { 1 };
                for frame in self.wires[wire].drain(..some).collect::<Vec<_>>() {
                    self.deliver(from, to, frame);
                }
            }
            Step::Cut(a, b) => {
                self.cuts -= 1;
                self.cut(a, b);
            }
            Step::Mend(a, b) => self.connect(a, b),
            Step::Crash(ix) => {
                self.crashes -= 1;
                for other in (0..self.voters.len()).filter(|other| *other != ix) {
                    self.cut(ix.min(other), ix.max(other));
                    let wire = self.wire(other, ix);
                    self.wires[wire].clear();
                }
                let voters = self.voters.len();
                let voter = Arc::make_mut(&mut self.voters[ix]);
                let next = voter.election.me.incarnation.0 + 1;
                let disk = if rules.forget { HardState::default() } else { voter.disk.clone() };
                // What it knew is gone, and nobody acts on its lease.
                *voter = Voter { dead: true, ..start(ix, voters, next, &disk, 0) };
            }
            Step::Leave(ix) => {
                self.leaves -= 1;
                let mut resigned = None;
                self.with(ix, |election| resigned = election.leave());
                for to in 0..self.voters.len() {
                    if let Some(term) = resigned {
                        self.say(ix, to, Frame::Resign(term));
                    }
                }
                // Its host acts as the master no more.
                Arc::make_mut(&mut self.voters[ix]).claim = None;
            }
            Step::Start(ix) => {
                let (voters, now) = (self.voters.len(), self.now);
                let voter = Arc::make_mut(&mut self.voters[ix]);
                *voter = start(ix, voters, voter.election.me.incarnation.0, &voter.disk.clone(), now);
            }
        }
        for voter in &mut self.voters {
            if voter.claim.is_some_and(|until| until <= at(self.now)) {
                Arc::make_mut(voter).claim = None;
            }
        }
        self.look();
    }

    /// What is under way is lost, and each end hears that the link is down.
    fn cut(&mut self, a: usize, b: usize) {
        let pair = self.wire(a, b);
        self.links[pair].1 = false;
        for (from, to) in [(a, b), (b, a)] {
            let wire = self.wire(from, to);
            // A link that went down before is not heard of yet.
            let had = self.voters[to].links[from].is_some();
            self.wires[wire].clear();
            if had {
                self.wires[wire].push_back(Frame::Down);
            }
        }
    }

    fn connect(&mut self, a: usize, b: usize) {
        let pair = self.wire(a, b);
        self.links[pair] = (self.links[pair].0 + 1, true);
        for (from, to) in [(a, b), (b, a)] {
            let (wire, node) = (self.wire(from, to), self.voters[from].election.me.clone());
            self.wires[wire].push_back(Frame::Hello(node));
        }
    }

    fn say(&mut self, from: usize, to: usize, frame: Frame) {
        let (link, whole) = self.links[self.wire(from.min(to), from.max(to))];
        if !whole || self.voters[from].links[to] != Some(link) {
            // Said on a link that is gone already.
            return;
        }
        if let Frame::Request(VoteRequest { term, .. }) | Frame::Vote(Vote { term, granted: true, .. }) = &frame {
            let disk = &self.voters[from].durable;
            if disk.term < *term || (disk.term == *term && disk.voted_for.is_none()) {
                self.broken = Some(format!("E4: n{from} says {frame:?}, and what is durable is {disk:?}"));
            }
        }
        let wire = self.wire(from, to);
        let wire = &mut self.wires[wire];
        // Of those that wait for a slow link the newest replaces the older one.
        match frame {
            Frame::Status(_) => wire.retain(|frame| !matches!(frame, Frame::Status(_))),
            Frame::Beat(_) => wire.retain(|frame| !matches!(frame, Frame::Beat(_))),
            Frame::Ack(_) => wire.retain(|frame| !matches!(frame, Frame::Ack(_))),
            _ => {}
        }
        wire.push_back(frame);
    }

    /// A voter for which the time changes nothing learns of it at once: it could not tell when it did, since every input
    /// begins with it.
    fn tick_idle(&mut self) {
        for ix in 0..self.voters.len() {
            let voter = &self.voters[ix];
            if voter.dead || voter.election.is_master() {
                continue;
            }
            let mut next = voter.election.clone();
            next.advance(at(self.now));
            let told = core::mem::replace(&mut next.now, voter.election.now);
            if next == voter.election {
                next.now = told;
                Arc::make_mut(&mut self.voters[ix]).election = next;
            }
        }
    }

    /// One input to a voter, and all that follows from it.
    fn with(&mut self, ix: usize, input: impl FnOnce(&mut Election)) {
        let now = at(self.now);
        Arc::make_mut(&mut self.voters[ix]).election.advance(now);
        self.settle(ix);
        let voter = Arc::make_mut(&mut self.voters[ix]);
        input(&mut voter.election);
        voter.election.advance(now);
        self.settle(ix);
    }

    fn settle(&mut self, ix: usize) {
        while let Some(effect) = Arc::make_mut(&mut self.voters[ix]).election.next_effect() {
            match effect {
                Effect::Persist { state, .. } => Arc::make_mut(&mut self.voters[ix]).writing = Some(state),
                Effect::Ask(to) => {
                    if let Some(request) = self.voters[ix].election.request_for(&to) {
                        self.say(ix, place(&to), Frame::Request(request));
                    }
                }
                Effect::Answer { to, vote } => self.say(ix, index(&to.id), Frame::Vote(vote)),
                Effect::Release { to, release } => self.say(ix, place(&to), Frame::Release(release)),
                Effect::Found { term, master, .. } => {
                    if master == self.voters[ix].election.me {
                        self.elected(ix, term);
                    }
                }
                Effect::Lost { .. } => {}
            }
        }
        if self.voters[ix].election.is_master() && self.voters[ix].last_beat != Some(self.now) {
            self.beat(ix);
        }
        let said = status(&self.voters[ix].election);
        if said != self.voters[ix].said {
            Arc::make_mut(&mut self.voters[ix]).said = said.clone();
            for to in 0..self.voters.len() {
                self.say(ix, to, Frame::Status(said.clone()));
            }
        }
        // A random wait: here always one unit, however often it failed.
        let election = &mut Arc::make_mut(&mut self.voters[ix]).election;
        if election.not_before > election.now {
            election.not_before = election.now + UNIT;
        }
        election.rng = Rng::new(0);
    }

    fn elected(&mut self, ix: usize, term: Term) {
        let me = self.voters[ix].election.me.clone();
        let known = self.masters.entry(term).or_insert_with(|| me.clone());
        if *known != me {
            self.broken = Some(format!("G1: {known} and {me} are both masters of {term}"));
        }
    }

    fn beat(&mut self, ix: usize) {
        let voter = Arc::make_mut(&mut self.voters[ix]);
        voter.last_beat = Some(self.now);
        let Some(heartbeat) = voter.election.next_heartbeat() else { return };
        for to in 0..self.voters.len() {
            self.say(ix, to, Frame::Beat(heartbeat));
        }
    }

    fn deliver(&mut self, from: usize, to: usize, frame: Frame) {
        let address = name(from);
        let (link, _) = self.links[self.wire(from.min(to), from.max(to))];
        let peer = self.voters[from].election.me.clone();
        match frame {
            Frame::Down => {
                Arc::make_mut(&mut self.voters[to]).links[from] = None;
                self.with(to, |election| election.link_down(&address));
            }
            Frame::Hello(node) => {
                let voter = Arc::make_mut(&mut self.voters[to]);
                voter.links[from] = Some(link);
                let said = voter.said.clone();
                self.say(to, from, Frame::Status(said));
                self.with(to, |election| election.link_up(&address, &node));
            }
            Frame::Status(status) => self.with(to, |election| election.heard_status(&peer, &address, &status)),
            Frame::Request(request) => self.with(to, |election| election.vote_request(&peer, request)),
            Frame::Vote(vote) => self.with(to, |election| election.vote(&address, vote)),
            Frame::Release(release) => self.with(to, |election| election.release(&peer, release)),
            Frame::Resign(term) => self.with(to, |election| election.resigned(&peer, &address, term)),
            Frame::Beat(heartbeat) => {
                let mut confirms = false;
                self.with(to, |election| (_, confirms) = election.heartbeat(&peer, &address, heartbeat));
                let term = self.voters[to].election.term();
                let ack = HeartbeatAck { term, number: heartbeat.number, epoch: Default::default(), confirms };
                self.say(to, from, Frame::Ack(ack));
            }
            Frame::Ack(ack) => self.with(to, |election| election.heartbeat_ack(&address, &ack)),
        }
    }

    /// G2 and E6, by what every voter would be told now.
    fn look(&mut self) {
        let now = at(self.now);
        for ix in 0..self.voters.len() {
            let election = &self.voters[ix].election;
            let leads = election.leadership(now);
            if election.now == now && election.is_master() && leads.is_none() {
                self.broken = Some(format!("E6: n{ix} is a master, and its lease has lapsed"));
            }
            let Some(leadership) = leads else { continue };
            if self.voters[ix].claim < Some(leadership.valid_until) {
                Arc::make_mut(&mut self.voters[ix]).claim = Some(leadership.valid_until);
            }
            let other = (0..self.voters.len()).find(|other| *other != ix && self.voters[*other].claim.is_some());
            if let Some(other) = other {
                self.broken = Some(format!("G2: n{ix} has a lease, and n{other} was told of one that is not over"));
            }
        }
    }

    pub(super) fn leads(&self, ix: usize) -> bool {
        self.voters[ix].election.leadership(at(self.now)).is_some()
    }

    /// It goes on without a disk.
    pub(super) fn keeps_nothing(&self, ix: usize) -> bool {
        !self.voters[ix].dead && self.voters[ix].election.persistence.failed
    }

    pub(super) fn keeps(&self, ix: usize) -> bool {
        !self.voters[ix].election.kept.is_empty()
    }

    pub(super) fn came_back(&self, ix: usize) -> bool {
        self.voters[ix].election.me.incarnation > Incarnation(1)
    }

    /// Its vote is under way.
    pub(super) fn grants(&self, ix: usize) -> bool {
        let wires = (0..self.voters.len()).map(|to| &self.wires[self.wire(ix, to)]);
        wires.flatten().any(|frame| matches!(frame, Frame::Vote(vote) if vote.granted))
    }

    pub(super) fn stands(&self, ix: usize) -> bool {
        matches!(self.voters[ix].election.part, Part::Candidate(_))
    }
}

fn place(address: &Address) -> usize {
    let host = address.as_str().split(':').next().unwrap_or_default();
    host[1..].parse().expect("hosts are h and a number")
}
