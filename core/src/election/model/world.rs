//! Voters around the real [`Election`], with links, disks and a clock. A link keeps the order of its frames, and loses the
//! frames in transit when it breaks. There is one clock. A voter learns the time when something reaches it.

mod change;
mod checks;
mod messages;
mod shared;

use alloc::{
    collections::{BTreeMap, VecDeque},
    format,
    string::String,
    vec::Vec,
};
use core::time::Duration;

use self::shared::Shared;
use super::super::{Effect, Election, RoleKind};
use crate::{
    api::config::{Config, Timing},
    api::durable::HardState,
    api::electorate::Electorate,
    api::event::LossReason,
    api::input::Start,
    id::{Address, Incarnation, Node, NodeId, Term},
    rng::Rng,
    time::Timestamp,
    wire::message::{Heartbeat, HeartbeatAck, Release, Resign, Role, StatusReport, Vote, VoteRequest},
};

/// All times are multiples of this unit, so that no moment between two steps matters.
const UNIT: Duration = Duration::from_millis(100);

/// What a voter sends on a link. Frames arrive in the order in which they were sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Frame {
    /// The link is down.
    Down,
    /// A new link is up.
    Hello(Node),
    Status(StatusReport),
    Request(VoteRequest),
    Vote(Vote),
    Release(Release),
    /// The sender was master of this term, and leaves.
    Resign(Term),
    Heartbeat(Heartbeat),
    Ack(HeartbeatAck),
    Electorate(Electorate),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Voter {
    pub(super) election: Election,
    pub(super) disk: HardState,
    /// The part of the disk that was reported to the voter as durable.
    durable: HardState,
    writing: Option<HardState>,
    /// The last status that it sent.
    sent_status: StatusReport,
    /// The number of its link to each voter, while there is one.
    links: Vec<Option<u8>>,
    last_heartbeat: Option<u64>,
    /// For each voter whose status it has: whether that voter follows another master or is one (E8).
    elsewhere: Vec<Option<bool>>,
    /// Where the voters change: the newest status of each node that is linked.
    statuses: Vec<Option<StatusReport>>,
    /// Where the voters change: the electorate by which it has acted last.
    acted_by: Option<Electorate>,
    pub(super) dead: bool,
    /// The latest end of a lease that was ever reported to it, until that time has passed.
    claim: Option<Timestamp>,
}

/// One state of all voters and links.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) now: u64,
    pub(super) voters: Vec<Shared<Voter>>,
    /// The frames in transit from each voter to each.
    pub(super) wires: Vec<Shared<VecDeque<Frame>>>,
    /// How many links there were between each two voters, and whether there is one now.
    links: Vec<(u8, bool)>,
    /// The elected master of each term.
    pub(super) masters: BTreeMap<Term, Node>,
    /// Enough votes are durable for G1.
    votes_last: bool,
    /// How many links may still break.
    pub(super) cuts: u8,
    /// How many voters may still crash.
    pub(super) crashes: u8,
    /// How many links may still be repaired; `None`: as many as break.
    pub(super) repairs: Option<u8>,
    /// How many disks may still fail.
    pub(super) failures: u8,
    /// How many voters may still leave.
    pub(super) leaves: u8,
    /// How many masters may still resign and stay.
    pub(super) resigns: u8,
    /// After how many units a voter becomes a solo master (E8), if ever.
    solo_after: Option<u32>,
    /// How many nodes are voters at first. The others are members.
    first: usize,
    /// How many times a master may still be asked for other voters.
    pub(super) changes: u8,
    /// The voters may change.
    voters_change: bool,
    /// What has happened to the electorate.
    pub(super) seen: change::Seen,
    /// To which kind of master a solo master has given way in the last step.
    pub(super) gave_way: Option<To>,
    /// The violation of a guarantee.
    pub(super) broken: Option<String>,
}

/// The master that continues when a solo master gives way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum To {
    Quorum,
    Solo,
}

/// What can happen, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// A voter that crashes loses its disk.
    pub(super) forget: bool,
    /// Whether frames from the first voter to the second may take any time. For a voter and itself: whether it may learn
    /// the time late. Everything else happens before time passes.
    pub(super) slow: fn(usize, usize) -> bool,
    /// All frames in transit on a link arrive together, as if they were written together. Otherwise they arrive one by one.
    pub(super) bursts: bool,
    /// The voters that a master may be asked for.
    pub(super) targets: &'static [&'static [usize]],
}

/// No voter is slow, and no disk is lost.
pub(super) const PROMPT: Rules = Rules { forget: false, slow: |_, _| false, bursts: true, targets: &[] };

/// What can happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// Time passes by one unit.
    Pass,
    /// A voter learns the time.
    Tick(usize),
    /// The oldest frame arrives.
    Deliver { from: usize, to: usize },
    /// The write of a voter is durable.
    Persisted(usize),
    /// The write of a voter fails. The disk may have `kept` it, but nobody knows.
    PersistFails { ix: usize, kept: bool },
    /// The link between two voters breaks, and loses the frames in transit.
    Cut(usize, usize),
    /// There is a link between two voters again.
    Repair(usize, usize),
    /// A voter crashes.
    Crash(usize),
    /// A voter that has crashed starts again.
    Start(usize),
    /// A voter leaves.
    Leave(usize),
    /// A master resigns, and stays.
    Resign(usize),
    /// A master is asked for the voters with this index among the targets.
    SetVoters { ix: usize, target: usize },
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

/// The times of the first run of each voter, where they are lowered at its restart: its lease is longer than `bootstrap_wait` later.
fn longer() -> Timing {
    Timing { lease: 5 * UNIT, bootstrap_wait: 5 * UNIT, down_after: 5 * UNIT, ..timing() }
}

fn name(ix: usize) -> Address {
    Address::new(format!("h{ix}:1")).expect("a valid address")
}

fn index(id: &NodeId) -> usize {
    id.as_str()[1..].parse().expect("ids are n and a number")
}

fn start(
    ix: usize,
    (places, first, solo): (usize, usize, Option<u32>),
    incarnation: u64,
    (disk, timing): (&HardState, Timing),
    now: u64,
) -> Voter {
    let id = format!("n{ix}");
    let seeds = (0..first).map(|ix| format!("h{ix}:1"));
    let config = Config::builder("model", id.as_str(), name(ix).as_str()).seeds(seeds).single().timing(timing);
    let config = match solo {
        Some(units) => config.solo_after(UNIT * units),
        None => config,
    };
    let config = config.build().expect("a valid configuration");
    let start =
        Start { incarnation: Incarnation(incarnation), rng_seed: 0, hard_state: disk.clone(), is_durable: true };
    let election = Election::new(&config, &start, Rng::new(0), at(now));
    let sent_status = status(&election);
    Voter {
        election,
        disk: disk.clone(),
        durable: disk.clone(),
        writing: None,
        sent_status,
        links: alloc::vec![None; places],
        last_heartbeat: None,
        elsewhere: alloc::vec![None; places],
        statuses: alloc::vec![None; places],
        acted_by: None,
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
        electorate: election.electorate().version,
    }
}

impl World {
    fn begun(voters: usize, solo_after: Option<u32>) -> Self {
        Self::begun_with((voters, voters), solo_after, &timing())
    }

    fn begun_with((voters, first): (usize, usize), solo_after: Option<u32>, timing: &Timing) -> Self {
        let disk = HardState::default();
        let start = |ix| start(ix, (voters, first, solo_after), 1, (&disk, timing.clone()), 1);
        let mut world = Self {
            now: 1,
            voters: (0..voters).map(|ix| Shared::new(start(ix))).collect(),
            wires: alloc::vec![Shared::new(VecDeque::new()); voters * voters],
            links: alloc::vec![(0, false); voters * voters],
            masters: BTreeMap::new(),
            votes_last: true,
            cuts: 0,
            crashes: 0,
            repairs: None,
            failures: 0,
            leaves: 0,
            resigns: 0,
            solo_after,
            first,
            changes: 0,
            voters_change: false,
            seen: change::Seen::default(),
            gave_way: None,
            broken: None,
        };
        for (a, b) in world.pairs() {
            world.connect(a, b);
        }
        world
    }

    /// All voters have just started, and their first frames are in transit.
    pub(super) fn fresh(voters: usize, cuts: u8, crashes: u8) -> Self {
        Self { cuts, crashes, ..Self::begun(voters, None) }
    }

    /// The voter with the lowest id is the master. No time has passed.
    pub(super) fn formed(voters: usize, cuts: u8, crashes: u8) -> Self {
        let mut world = Self::fresh(voters, cuts, crashes);
        world.run_until_quiet();
        world
    }

    /// A cluster of three voters, partitioned into groups. A voter without a quorum in its group has lost its master, and
    /// is a solo master one unit later (E8).
    pub(super) fn partitioned(group: fn(usize) -> usize, solo_after: u32) -> Self {
        let mut world = Self::begun(3, Some(solo_after));
        world.run_until_quiet();
        for (a, b) in world.pairs().filter(|(a, b)| group(*a) != group(*b)) {
            world.cut(a, b);
        }
        for _ in 0..5 * solo_after {
            let mut next = world.clone();
            next.take(Step::Pass, PROMPT);
            next.run_until_quiet();
            if (0..3).any(|ix| next.is_solo(ix)) {
                return world;
            }
            world = next;
        }
        panic!("no voter becomes a solo master");
    }

    /// The second voter is the master. It was elected while the first one was cut off, which follows it now. A heartbeat
    /// has reached both followers, and their answers are in transit.
    pub(super) fn led_by_the_second() -> Self {
        let mut world = Self::begun(3, None);
        world.cut(0, 1);
        world.cut(0, 2);
        world.run_until_quiet();
        while !world.leads(1) {
            world.take(Step::Pass, PROMPT);
            world.run_until_quiet();
        }
        world.connect(0, 1);
        world.connect(0, 2);
        world.run_until_quiet();
        for step in [Step::Pass, Step::Tick(1), Step::Deliver { from: 1, to: 0 }, Step::Deliver { from: 1, to: 2 }] {
            world.take(step, PROMPT);
        }
        world
    }

    /// The first voter leads. All others have confirmed its heartbeat, crashed and restarted, and what they send to each other and to
    /// the first one is in transit.
    pub(super) fn restarted_around_its_master(voters: usize, rules: Rules) -> Self {
        Self::formed(voters, 0, 0).all_but_its_master_restart(rules)
    }

    /// The same, and the times of those that restart are shorter than those with which they have confirmed the heartbeat (E1).
    pub(super) fn restarted_with_shorter_times(voters: usize, rules: Rules) -> Self {
        let mut world = Self::begun_with((voters, voters), None, &longer());
        world.run_until_quiet();
        world.all_but_its_master_restart(rules)
    }

    fn all_but_its_master_restart(self, rules: Rules) -> Self {
        let voters = self.voters.len();
        let mut world = Self { crashes: u8::try_from(voters - 1).expect("few voters"), ..self };
        world.votes_last = !rules.forget;
        world.take(Step::Pass, rules);
        world.run_until_quiet();
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

    /// Delivers everything, until no frame is in transit.
    fn run_until_quiet(&mut self) {
        let quick = |step: &Step| matches!(step, Step::Deliver { .. } | Step::Persisted(_) | Step::Tick(_));
        while let Some(step) = self.steps(PROMPT).into_iter().find(quick) {
            self.take(step, PROMPT);
        }
    }

    /// The voter with the lowest id is the master. The second voter has crashed right after it had voted for itself in the
    /// next term, and nobody else knows that term.
    pub(super) fn formed_beside_a_newer_term(cuts: u8) -> Self {
        let mut world = Self::formed(3, cuts, 1);
        world.take(Step::Crash(1), PROMPT);
        let voter = &mut *world.voters[1];
        let me = Node { incarnation: Incarnation(1), ..voter.election.me.clone() };
        voter.disk = HardState { term: Term(2), voted_for: Some(me), joined: true, ..HardState::default() };
        world
    }

    fn pairs(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let voters = self.voters.len();
        (0..voters).flat_map(move |a| (a + 1..voters).map(move |b| (a, b)))
    }

    fn wire(&self, from: usize, to: usize) -> usize {
        from * self.voters.len() + to
    }

    /// Everything that can happen now.
    pub(super) fn steps(&self, rules: Rules) -> Vec<Step> {
        let mut steps = Vec::new();
        let alive = |ix: &usize| !self.voters[*ix].dead;
        let idle = (0..self.voters.len()).filter(alive).all(|ix| {
            let slow = |to: usize| (rules.slow)(ix, to);
            let in_transit =
                (0..self.voters.len()).filter(alive).any(|to| !slow(to) && !self.wires[self.wire(ix, to)].is_empty());
            let late = self.voters[ix].writing.is_some() || self.voters[ix].election.now < at(self.now);
            !in_transit && (slow(ix) || !late)
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
            if self.resigns > 0 && voter.election.is_master() {
                steps.push(Step::Resign(ix));
            }
            if self.changes > 0 && voter.election.is_master() {
                steps.extend((0..rules.targets.len()).map(|target| Step::SetVoters { ix, target }));
            }
            for to in (0..self.voters.len()).filter(|to| !self.wires[self.wire(ix, *to)].is_empty()) {
                steps.push(Step::Deliver { from: ix, to });
            }
        }
        for (a, b) in self.pairs() {
            if !self.links[self.wire(a, b)].1 {
                if !self.voters[a].dead && !self.voters[b].dead && self.repairs != Some(0) {
                    steps.push(Step::Repair(a, b));
                }
            } else if self.cuts > 0 {
                steps.push(Step::Cut(a, b));
            }
        }
        steps
    }

    /// Carries out a step.
    pub(super) fn take(&mut self, step: Step, rules: Rules) {
        self.gave_way = None;
        match step {
            Step::Pass => {
                self.now += 1;
                self.tick_idle();
            }
            Step::Tick(ix) => self.with(ix, |_| {}),
            Step::Persisted(ix) => {
                let voter = &mut *self.voters[ix];
                voter.disk = voter.writing.take().expect("something is being written");
                voter.durable = voter.disk.clone();
                self.with(ix, |election| {
                    election.persisted();
                });
            }
            Step::PersistFails { ix, kept } => {
                self.failures -= 1;
                let voter = &mut *self.voters[ix];
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
            Step::Repair(a, b) => {
                self.repairs = self.repairs.map(|repairs| repairs - 1);
                self.connect(a, b);
            }
            Step::Crash(ix) => {
                self.crashes -= 1;
                for other in (0..self.voters.len()).filter(|other| *other != ix) {
                    self.cut(ix.min(other), ix.max(other));
                    let wire = self.wire(other, ix);
                    self.wires[wire].clear();
                }
                let world = (self.voters.len(), self.first, self.solo_after);
                let voter = &mut *self.voters[ix];
                let next = voter.election.me.incarnation.0 + 1;
                let disk = if rules.forget { HardState::default() } else { voter.disk.clone() };
                // It has lost its memory. Its lease ends when it starts again (G2): before that, no other voter can know that it has crashed.
                *voter = Voter { dead: true, claim: voter.claim, ..start(ix, world, next, (&disk, timing()), 0) };
            }
            Step::Leave(ix) => {
                self.leaves -= 1;
                self.resign(ix, Election::leave);
            }
            Step::Resign(ix) => {
                self.resigns -= 1;
                self.resign(ix, |election| _ = election.resign());
            }
            Step::SetVoters { ix, target } => {
                self.changes -= 1;
                let target = rules.targets[target].iter().map(|ix| name(*ix)).collect();
                self.with(ix, |election| election.want_voters(target));
            }
            Step::Start(ix) => {
                let (world, now) = ((self.voters.len(), self.first, self.solo_after), self.now);
                let voter = &mut *self.voters[ix];
                *voter = start(ix, world, voter.election.me.incarnation.0, (&voter.disk.clone(), timing()), now);
            }
        }
        for voter in &mut self.voters {
            if voter.claim.is_some_and(|until| until <= at(self.now)) {
                voter.claim = None;
            }
        }
        self.check();
    }

    /// A voter ends its mastership, if it has one, and says so.
    fn resign(&mut self, ix: usize, how: impl Fn(&mut Election)) {
        // Its embedder no longer acts as the master.
        self.voters[ix].claim = None;
        self.with(ix, how);
    }

    /// The frames in transit are lost, and each end learns that the link is down.
    fn cut(&mut self, a: usize, b: usize) {
        let pair = self.wire(a, b);
        self.links[pair].1 = false;
        for (from, to) in [(a, b), (b, a)] {
            let wire = self.wire(from, to);
            // This end may not even know yet that the link was up.
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
