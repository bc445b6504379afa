//! Voters around the real [`Election`], and what carries their words: links that keep their order and lose what is under
//! way when they break, disks, and one clock of which each voter learns when something reaches it.

mod look;
mod words;

use alloc::{
    collections::{BTreeMap, VecDeque},
    format,
    string::String,
    sync::Arc,
    vec::Vec,
};
use core::time::Duration;

use super::super::{Effect, Election, Part, Stance};
use crate::{
    config::{Config, Timing},
    id::{Address, Incarnation, Node, NodeId, Term},
    interface::{HardState, LossReason, Start},
    message::{Heartbeat, HeartbeatAck, Release, Role, StatusReport, Vote, VoteRequest},
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
    Status(StatusReport),
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
    said: StatusReport,
    /// With which voters it has a link, and which one.
    links: Vec<Option<u8>>,
    last_beat: Option<u64>,
    /// Of whom it has a status: whether that is of another side than it, were it a solo master (E8).
    elsewhere: Vec<Option<bool>>,
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
    /// Enough votes outlive their voters for G1.
    votes_last: bool,
    pub(super) cuts: u8,
    pub(super) crashes: u8,
    /// How many links come back; `None`: as many as break.
    pub(super) mends: Option<u8>,
    /// How many disks fail.
    pub(super) failures: u8,
    /// How many leave.
    pub(super) leaves: u8,
    /// After how many units a voter goes on without a quorum (E8), if ever.
    solo_after: Option<u32>,
    /// To whom a solo master has given way in the last step.
    pub(super) gave_way: Option<To>,
    /// What should never have come to be.
    pub(super) broken: Option<String>,
}

/// Who goes on where a solo master gives way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum To {
    Quorum,
    Solo,
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

fn start(ix: usize, (voters, solo): (usize, Option<u32>), incarnation: u64, disk: &HardState, now: u64) -> Voter {
    let id = format!("n{ix}");
    let seeds = (0..voters).map(|ix| format!("h{ix}:1"));
    let config = Config::builder("model", id.as_str(), name(ix).as_str()).seeds(seeds).timing(timing());
    let config = match solo {
        Some(units) => config.solo_after(UNIT * units),
        None => config,
    };
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
        elsewhere: alloc::vec![None; voters],
        dead: false,
        claim: None,
    }
}

fn at(now: u64) -> Timestamp {
    Timestamp::ZERO + UNIT * u32::try_from(now).expect("a short run")
}

fn status(election: &Election) -> StatusReport {
    StatusReport {
        number: 0,
        term: election.term(),
        role: election.role(),
        abstains: election.abstains(),
        promise: election.promised_to().cloned(),
        view_id: Default::default(),
        metadata: Default::default(),
    }
}

impl World {
    fn begun(voters: usize, solo_after: Option<u32>) -> Self {
        let mut world = Self {
            now: 1,
            voters: (0..voters)
                .map(|ix| Arc::new(start(ix, (voters, solo_after), 1, &HardState::default(), 1)))
                .collect(),
            wires: alloc::vec![VecDeque::new(); voters * voters],
            links: alloc::vec![(0, false); voters * voters],
            masters: BTreeMap::new(),
            votes_last: true,
            cuts: 0,
            crashes: 0,
            mends: None,
            failures: 0,
            leaves: 0,
            solo_after,
            gave_way: None,
            broken: None,
        };
        for (a, b) in world.pairs() {
            world.connect(a, b);
        }
        world
    }

    /// All voters have just started, and their first words are under way.
    pub(super) fn fresh(voters: usize, cuts: u8, crashes: u8) -> Self {
        Self { cuts, crashes, ..Self::begun(voters, None) }
    }

    /// Without loss of time: the lowest id is the master.
    pub(super) fn formed(voters: usize, cuts: u8, crashes: u8) -> Self {
        let mut world = Self::fresh(voters, cuts, crashes);
        world.come_to_rest();
        world
    }

    /// A cluster of as many as there are in these groups, which have lost each other: so long ago that whoever has no quorum with it
    /// has lost its master, and will go on alone in one unit (E8).
    pub(super) fn parted(group: fn(usize) -> usize, solo_after: u32) -> Self {
        let mut world = Self::begun(3, Some(solo_after));
        world.come_to_rest();
        for (a, b) in world.pairs().filter(|(a, b)| group(*a) != group(*b)) {
            world.cut(a, b);
        }
        for _ in 0..5 * solo_after {
            let mut next = world.clone();
            next.take(Step::Pass, PROMPT);
            next.come_to_rest();
            if (0..3).any(|ix| next.is_solo(ix)) {
                return world;
            }
            world = next;
        }
        panic!("nobody goes on alone");
    }

    /// The second leads: it won while the first was away, which follows it by now. A heartbeat has reached both followers, and
    /// what they say to it is under way.
    pub(super) fn led_by_the_second() -> Self {
        let mut world = Self::begun(3, None);
        world.cut(0, 1);
        world.cut(0, 2);
        world.come_to_rest();
        while !world.leads(1) {
            world.take(Step::Pass, PROMPT);
            world.come_to_rest();
        }
        world.connect(0, 1);
        world.connect(0, 2);
        world.come_to_rest();
        for step in [Step::Pass, Step::Tick(1), Step::Deliver { from: 1, to: 0 }, Step::Deliver { from: 1, to: 2 }] {
            world.take(step, PROMPT);
        }
        world
    }

    /// The first leads. All others have confirmed its heartbeat, died and started again, and what they say to each other and to the
    /// first is under way.
    pub(super) fn restarted_around_its_master(voters: usize, rules: Rules) -> Self {
        let mut world = Self::formed(voters, 0, u8::try_from(voters - 1).expect("few voters"));
        world.votes_last = !rules.forget;
        world.take(Step::Pass, rules);
        world.come_to_rest();
        for ix in 1..voters {
            world.take(Step::Crash(ix), rules);
        }
        for ix in 1..voters {
            world.take(Step::Start(ix), rules);
        }
        for (a, b) in world.pairs() {
            world.connect(a, b);
        }
        world
    }

    /// All has been said that there is to say.
    fn come_to_rest(&mut self) {
        let quick = |step: &Step| matches!(step, Step::Deliver { .. } | Step::Persisted(_) | Step::Tick(_));
        while let Some(step) = self.steps(PROMPT).into_iter().find(quick) {
            self.take(step, PROMPT);
        }
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
                if !self.voters[a].dead && !self.voters[b].dead && self.mends != Some(0) {
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
        self.gave_way = None;
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
            Step::Mend(a, b) => {
                self.mends = self.mends.map(|mends| mends - 1);
                self.connect(a, b);
            }
            Step::Crash(ix) => {
                self.crashes -= 1;
                for other in (0..self.voters.len()).filter(|other| *other != ix) {
                    self.cut(ix.min(other), ix.max(other));
                    let wire = self.wire(other, ix);
                    self.wires[wire].clear();
                }
                let world = (self.voters.len(), self.solo_after);
                let voter = Arc::make_mut(&mut self.voters[ix]);
                let next = voter.election.me.incarnation.0 + 1;
                let disk = if rules.forget { HardState::default() } else { voter.disk.clone() };
                // What it knew is gone. Its lease ends when it starts again (G2): before that, nobody can know that it is dead.
                *voter = Voter { dead: true, claim: voter.claim, ..start(ix, world, next, &disk, 0) };
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
                let (world, now) = ((self.voters.len(), self.solo_after), self.now);
                let voter = Arc::make_mut(&mut self.voters[ix]);
                *voter = start(ix, world, voter.election.me.incarnation.0, &voter.disk.clone(), now);
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
}

fn place(address: &Address) -> usize {
    let host = address.as_str().split(':').next().unwrap_or_default();
    host[1..].parse().expect("hosts are h and a number")
}
