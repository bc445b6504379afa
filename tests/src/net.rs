//! The network: nodes, connections and time. What it can be told is here and in `net::faults`; how it moves is in
//! `net::flow`, what can be seen of it in `net::look`.

mod faults;
mod flow;
mod look;

use std::{collections::BTreeMap, panic, time::Duration};

use bytes::Bytes;
use formation_core::{
    Address, Command, Config, DialId, ElectorateDigest, Formation, Incarnation, Input, Start, Timestamp,
};

use crate::{
    checks::Checks,
    clock::Clock,
    host::{Host, NodeIx, RunId},
    replay::Run,
    rng::Rng,
    settings::Settings,
    tally::Tally,
    trace::Trace,
    wire::{End, Owner, Phase, Piece, Wire, WireId},
};

/// What an address leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A node; refused while it does not run.
    Node(NodeIx),
    /// Somebody accepts, and the test plays it. Left alone, it never says a word.
    Test,
    /// Dials hang.
    Nowhere,
}

/// How two nodes are cut from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// What is sent arrives after the healing, as TCP's repetitions do.
    Hold,
    /// What is sent is lost, and the connections of today never carry anything again, though no end hears of it.
    Lose,
}

pub(crate) enum Happening {
    Start(NodeIx),
    Tick(RunId, Timestamp),
    Knocks(WireId, Target),
    Opens(WireId, usize),
    DialFails(RunId, DialId),
    Arrives(WireId, usize),
    Flushes(WireId, usize),
    Persists(RunId, u64),
}

/// A network of real nodes in virtual time, in microseconds from zero.
pub struct Net {
    /// How it behaves. May be changed at any time.
    pub settings: Settings,
    /// For the test's own choices, so that they hang on the same seed.
    pub rng: Rng,
    seed: u64,
    now: u64,
    sequence: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    hosts: Vec<Host>,
    wires: Vec<Wire>,
    names: BTreeMap<Address, Target>,
    /// Where names that lead astray should lead.
    astray: BTreeMap<Address, Option<Target>>,
    /// What these nodes send takes so much longer.
    slow: BTreeMap<NodeIx, u64>,
    /// From whom to whom.
    cuts: BTreeMap<(NodeIx, NodeIx), Cut>,
    /// Dials that wait for a cut to heal.
    held: Vec<(WireId, Target)>,
    accepted: Vec<WireId>,
    /// Each electorate is a cluster of its own.
    checks: BTreeMap<ElectorateDigest, Checks>,
    trace: Trace,
    /// What has happened in this run.
    pub tally: Tally,
    /// A failure is caught, and reported by who catches it.
    pub(crate) caught: bool,
    /// Grows whenever a node says something to its host.
    news: u64,
}

impl Net {
    /// An empty network.
    pub fn new(seed: u64, settings: Settings) -> Self {
        Self {
            settings,
            rng: Rng::new(seed),
            seed,
            now: 0,
            sequence: 0,
            queue: BTreeMap::new(),
            hosts: Vec::new(),
            wires: Vec::new(),
            names: BTreeMap::new(),
            astray: BTreeMap::new(),
            slow: BTreeMap::new(),
            cuts: BTreeMap::new(),
            held: Vec::new(),
            accepted: Vec::new(),
            checks: BTreeMap::new(),
            trace: Trace::default(),
            tally: Tally::default(),
            caught: false,
            news: 0,
        }
    }

    /// A network of `n` voters, `n0` at `h0:1` and so on, none of them started.
    pub fn of_voters(seed: u64, n: usize, settings: Settings) -> Self {
        let mut net = Self::new(seed, settings);
        for ix in 0..n {
            net.add(Self::config(ix, n));
        }
        net
    }

    /// A network of `voters` and `others` that has become a cluster.
    pub fn formed(seed: u64, (voters, others): (usize, usize), settings: Settings) -> Self {
        let mut net = Self::of_voters(seed, voters, settings);
        for ix in voters..voters + others {
            net.add(Self::config(ix, voters));
        }
        net.start_all();
        net.converge(Duration::from_secs(2));
        net
    }

    /// The configuration of node `ix` in a cluster of `n` voters; those from `n` on are no voters.
    ///
    /// # Panics
    /// Never: these configurations are valid.
    pub fn config(ix: usize, n: usize) -> Config {
        Self::builder(ix, n).build().expect("a valid configuration")
    }

    /// The same, to be changed further.
    pub fn builder(ix: usize, n: usize) -> formation_core::ConfigBuilder {
        Config::builder("test", format!("n{ix}"), Self::address(ix)).seeds((0..n).map(Self::address))
    }

    /// The address of node `ix`.
    pub fn address(ix: usize) -> String {
        format!("h{ix}:1")
    }

    /// Adds a node, reachable at its address once it runs.
    pub fn add(&mut self, config: Config) -> NodeIx {
        let ix = self.hosts.len();
        self.names.insert(config.address().clone(), Target::Node(ix));
        let drift = self.settings.drift_ppm as usize;
        let ppm = self.rng.below(2 * drift + 1) as i32 - drift as i32;
        let offset = self.rng.draw() % 1_000_000_000;
        self.hosts.push(Host::new(config, Clock { offset, ppm }));
        ix
    }

    /// Lets an address lead somewhere.
    ///
    /// # Panics
    /// When it is none.
    pub fn name(&mut self, address: &str, target: Target) {
        self.names.insert(Address::new(address).expect("a valid address"), target);
    }

    /// Starts a node now, as a new incarnation, with what its disk holds.
    pub fn start(&mut self, ix: NodeIx) {
        assert!(self.hosts[ix].formation.is_none(), "node {ix} runs already");
        // Nobody acts on a lease of a run that is over; that nobody else has one before it ends is E1's only while the
        // voter stays away.
        let last = self.last_run(ix);
        self.checks_of(ix).ended(last);
        let host = &mut self.hosts[ix];
        host.reset();
        host.gone = false;
        host.durable = host.disk.clone();
        host.has_joined &= host.disk.joined;
        // Unique, as nodes may share an id.
        let incarnation = Incarnation((self.now + 1 + u64::from(host.generation)) * 1_000 + ix as u64);
        let start = Start { incarnation, rng_seed: self.rng.draw(), hard_state: host.disk.clone() };
        let at = host.clock.local(self.now);
        self.trace.note(self.now, ix, format!("starts as incarnation {}", incarnation.0));
        if self.settings.record {
            let (config, start) = (host.config.clone(), start.clone());
            host.runs.push(Run { config, start, at, inputs: Vec::new(), outputs: Vec::new() });
        }
        host.formation = Some(Formation::new(host.config.clone(), start, at));
        self.drain(ix);
    }

    /// Starts a node after `delay`.
    pub fn start_in(&mut self, ix: NodeIx, delay: Duration) {
        self.plan(delay, Happening::Start(ix));
    }

    /// Starts all nodes that do not run.
    pub fn start_all(&mut self) {
        for ix in 0..self.hosts.len() {
            if self.hosts[ix].formation.is_none() {
                self.start(ix);
            }
        }
    }

    /// The host of a node wants something.
    pub fn command(&mut self, ix: NodeIx, command: Command) {
        let leaves = command == Command::Leave;
        if leaves {
            let host = &mut self.hosts[ix];
            host.left_by.get_or_insert(host.clock.local(self.now) + host.config.timing().down_after);
        }
        self.give(ix, Input::Command(command));
        let host = &self.hosts[ix];
        if leaves && host.formation.as_ref().is_some_and(|f| f.leadership(host.clock.local(self.now)).is_none()) {
            let run = self.run_id(ix);
            self.checks_of(ix).ended(run);
        }
    }

    /// The test connects to a node.
    pub fn dial(&mut self, ix: NodeIx) -> WireId {
        let wire = self.wire(Owner::Test, None);
        self.wires[wire.0].ends[0].phase = Phase::Open;
        self.plan(Duration::ZERO, Happening::Knocks(wire, Target::Node(ix)));
        wire
    }

    /// The connections that the test has accepted at its own addresses since the last call.
    pub fn accepted(&mut self) -> Vec<WireId> {
        std::mem::take(&mut self.accepted)
    }

    /// The test sends bytes on its connection.
    ///
    /// # Panics
    /// When it has none of its ends.
    pub fn send(&mut self, wire: WireId, bytes: impl Into<Bytes>) {
        let side = self.test_side(wire);
        self.transmit(wire, side, Piece::Bytes(bytes.into()));
    }

    /// The test closes its connection.
    ///
    /// # Panics
    /// When it has none of its ends.
    pub fn close(&mut self, wire: WireId) {
        let side = self.test_side(wire);
        self.wires[wire.0].ends[side].phase = Phase::Closed;
        self.transmit(wire, side, Piece::End);
    }

    fn test_side(&self, wire: WireId) -> usize {
        let side = self.wires[wire.0].ends.iter().position(|end| end.owner == Owner::Test);
        side.expect("the test holds an end of this connection")
    }

    fn side_of(&self, wire: WireId, ix: NodeIx) -> Option<usize> {
        let run = self.run_id(ix);
        self.wires[wire.0].ends.iter().position(|end| end.owner == Owner::Node(run))
    }

    fn checks_of(&mut self, ix: NodeIx) -> &mut Checks {
        self.checks.entry(self.hosts[ix].config.electorate()).or_default()
    }

    /// The run that a crash has ended.
    fn last_run(&self, ix: NodeIx) -> RunId {
        RunId { host: ix, generation: self.hosts[ix].generation.saturating_sub(1) }
    }

    fn run_id(&self, ix: NodeIx) -> RunId {
        RunId { host: ix, generation: self.hosts[ix].generation }
    }

    fn wire(&mut self, from: Owner, dial: Option<DialId>) -> WireId {
        let latency = self.rng.within(self.settings.latency).as_micros() as u64;
        // Who accepts is known once it has knocked.
        self.wires.push(Wire { ends: [End::new(from), End::new(Owner::Test)], dial, latency });
        WireId(self.wires.len() - 1)
    }

    /// Runs until `done`, or for `time`; whether it is done.
    pub fn run_until(&mut self, time: Duration, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let until = self.now + time.as_micros() as u64;
        let (mut news, mut looked) = (u64::MAX, self.now);
        loop {
            // Between two words of the nodes, conditions change only as time passes.
            if news != self.news || self.now > looked + 10_000 {
                (news, looked) = (self.news, self.now);
                if done(self) {
                    return true;
                }
            }
            if !self.step(until) {
                self.now = until;
                return done(self);
            }
        }
    }

    /// Runs for `time`.
    pub fn run_for(&mut self, time: Duration) {
        let until = self.now + time.as_micros() as u64;
        while self.step(until) {}
        self.now = until;
    }

    /// The time since the beginning.
    pub fn now(&self) -> Duration {
        Duration::from_micros(self.now)
    }

    /// Ends the test, with all that helps to understand why.
    pub fn fail(&self, why: &str) -> ! {
        let why = format!("{why}, at {:?}", self.now());
        if self.caught {
            // Without the hook, which would print each of the many attempts at a smaller failure.
            panic::resume_unwind(Box::new(why));
        }
        panic!("{why}");
    }

    /// [`fail`](Self::fail)s unless the condition holds.
    pub fn expect(&self, holds: bool, what: &str) {
        if !holds {
            self.fail(what);
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.report());
        }
    }
}
