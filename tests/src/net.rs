//! The network: nodes, connections and time. A test controls it with the methods here and in `net::faults`. The
//! simulation loop is in `net::flow`, and the queries are in `net::look`.

mod faults;
mod flow;
mod look;
mod sides;

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

/// The destination of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A node. Dials are refused while it does not run.
    Node(NodeIx),
    /// The test accepts the connection and plays the peer.
    Test,
    /// Dials hang.
    Nowhere,
}

/// The effect of a cut between two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Bytes arrive once the cut has healed, as with the retransmissions of TCP.
    Hold,
    /// Bytes are lost. The existing connections never carry anything again, and neither end notices.
    Lose,
}

pub(crate) enum SimEvent {
    Start(NodeIx),
    Tick(RunId, Timestamp),
    DialArrives(WireId, Target),
    Opens(WireId, usize),
    DialFails(RunId, DialId),
    Arrives(WireId, usize),
    Flushes(WireId, usize),
    Persists(RunId, u64),
    /// The disk takes so long that the host reports it.
    PersistIsSlow(RunId, u64),
    /// The service has ended its work as the master, for a better one.
    HandsOver(RunId),
}

/// A network of real nodes in virtual time. Time is in microseconds and starts at zero.
pub struct Net {
    /// The settings. They may be changed at any time.
    pub settings: Settings,
    /// The random numbers of the network. A test uses them too, so that its own choices depend on the same seed.
    pub rng: Rng,
    seed: u64,
    now: u64,
    sequence: u64,
    queue: BTreeMap<(u64, u64), SimEvent>,
    hosts: Vec<Host>,
    wires: Vec<Wire>,
    names: BTreeMap<Address, Target>,
    /// The original targets of the redirected names.
    redirected: BTreeMap<Address, Option<Target>>,
    /// The extra delay, in microseconds, of everything that these nodes send.
    slow: BTreeMap<NodeIx, u64>,
    /// The cuts, by sender and receiver.
    cuts: BTreeMap<(NodeIx, NodeIx), Cut>,
    /// Dials that wait for a cut to heal.
    waiting_dials: Vec<(WireId, Target)>,
    accepted: Vec<WireId>,
    /// The checks of each cluster. Each electorate is its own cluster.
    checks: BTreeMap<ElectorateDigest, Checks>,
    trace: Trace,
    /// The counts of what happened in this run.
    pub tally: Tally,
    /// The caller catches a failure and reports it.
    pub(crate) catches_failures: bool,
    /// Increases with each event and each close of a node.
    activity: u64,
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
            redirected: BTreeMap::new(),
            slow: BTreeMap::new(),
            cuts: BTreeMap::new(),
            waiting_dials: Vec::new(),
            accepted: Vec::new(),
            checks: BTreeMap::new(),
            trace: Trace::default(),
            tally: Tally::default(),
            catches_failures: false,
            activity: 0,
        }
    }

    /// A network of `n` voters, `n0` at `h0:1` and so on. None of them is started.
    pub fn of_voters(seed: u64, n: usize, settings: Settings) -> Self {
        let mut net = Self::new(seed, settings);
        for ix in 0..n {
            net.add(Self::config(ix, n));
        }
        net
    }

    /// A network of `voters` voters and `others` other nodes that have formed a cluster.
    pub fn formed(seed: u64, (voters, others): (usize, usize), settings: Settings) -> Self {
        let mut net = Self::of_voters(seed, voters, settings);
        for ix in voters..voters + others {
            net.add(Self::config(ix, voters));
        }
        net.start_all();
        net.converge(Duration::from_secs(2));
        net
    }

    /// The configuration of node `ix` in a cluster of `n` voters. Nodes from `n` on are not voters.
    ///
    /// # Panics
    /// Never, because these configurations are valid.
    pub fn config(ix: usize, n: usize) -> Config {
        Self::builder(ix, n).build().expect("a valid configuration")
    }

    /// The same, as a builder.
    pub fn builder(ix: usize, n: usize) -> formation_core::ConfigBuilder {
        Config::builder("test", format!("n{ix}"), Self::address(ix)).seeds((0..n).map(Self::address)).single()
    }

    /// The address of node `ix`.
    pub fn address(ix: usize) -> String {
        format!("h{ix}:1")
    }

    /// Adds a node. It is reachable at its address while it runs.
    pub fn add(&mut self, config: Config) -> NodeIx {
        let ix = self.hosts.len();
        self.names.insert(config.address().clone(), Target::Node(ix));
        let drift = self.settings.drift_ppm as usize;
        let ppm = self.rng.below(2 * drift + 1) as i32 - drift as i32;
        let offset = self.rng.draw() % 1_000_000_000;
        self.hosts.push(Host::new(config, Clock { offset, ppm }));
        ix
    }

    /// Sets the target of an address.
    ///
    /// # Panics
    /// If the address is invalid.
    pub fn name(&mut self, address: &str, target: Target) {
        self.names.insert(Address::new(address).expect("a valid address"), target);
    }

    /// Starts a node now, as a new incarnation, with the content of its disk.
    pub fn start(&mut self, ix: NodeIx) {
        assert!(self.hosts[ix].formation.is_none(), "node {ix} is already running");
        // G2: a lease ends with its process. From the start of the next run on, another node may lead (E1), even before the
        // end that the last run has reported. Until then, that lease counts.
        let last = self.last_run(ix);
        self.checks_of(ix).ended(last);
        let host = &mut self.hosts[ix];
        host.reset();
        host.vanished = false;
        host.durable = host.disk.clone();
        host.has_joined &= host.disk.joined;
        // Unique across all nodes, because nodes may share an id.
        let wall = (self.now + 1 + u64::from(host.generation)).saturating_sub(host.wall_clock_slow_by);
        let incarnation = Incarnation(wall.max(1) * 1_000 + ix as u64);
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
        self.plan(delay, SimEvent::Start(ix));
    }

    /// Starts all nodes that do not run.
    pub fn start_all(&mut self) {
        for ix in 0..self.hosts.len() {
            if self.hosts[ix].formation.is_none() {
                self.start(ix);
            }
        }
    }

    /// The embedder of a node gives a command.
    pub fn command(&mut self, ix: NodeIx, command: Command) {
        let leaves = command == Command::Leave;
        let ends_mastership = leaves || command == Command::Resign;
        if leaves {
            let host = &mut self.hosts[ix];
            host.left_by.get_or_insert(host.clock.local(self.now) + host.config.timing().down_after);
        }
        self.give(ix, Input::Command(command));
        let host = &self.hosts[ix];
        if ends_mastership
            && host.formation.as_ref().is_some_and(|f| f.leadership(host.clock.local(self.now)).is_none())
        {
            let run = self.run_id(ix);
            self.checks_of(ix).ended(run);
        }
    }

    /// The test opens a connection to a node.
    pub fn dial(&mut self, ix: NodeIx) -> WireId {
        let wire = self.wire(Owner::Test, None);
        self.wires[wire.0].ends[0].phase = Phase::Open;
        self.plan(Duration::ZERO, SimEvent::DialArrives(wire, Target::Node(ix)));
        wire
    }

    /// The test dials an address. Returns `None` if no node has this address.
    pub fn dial_address(&mut self, address: &Address) -> Option<WireId> {
        match self.names.get(address) {
            Some(Target::Node(ix)) => Some(self.dial(*ix)),
            _ => None,
        }
    }

    /// An address does not resolve any more.
    ///
    /// # Panics
    /// If the address is invalid.
    pub fn forget_name(&mut self, address: &str) {
        self.names.remove(&Address::new(address).expect("a valid address"));
    }

    /// The connections that the test has accepted since the last call.
    pub fn accepted(&mut self) -> Vec<WireId> {
        std::mem::take(&mut self.accepted)
    }

    /// The test sends bytes on its connection.
    ///
    /// # Panics
    /// If the test owns neither end.
    pub fn send(&mut self, wire: WireId, bytes: impl Into<Bytes>) {
        let side = self.test_side(wire);
        self.transmit(wire, side, Piece::Bytes(bytes.into()));
    }

    /// The test closes its connection.
    ///
    /// # Panics
    /// If the test owns neither end.
    pub fn close(&mut self, wire: WireId) {
        let side = self.test_side(wire);
        self.wires[wire.0].ends[side].phase = Phase::Closed;
        self.transmit(wire, side, Piece::End);
    }

    /// The connection of the test carries nothing any more, and the node does not notice.
    pub fn vanish(&mut self, wire: WireId) {
        self.wires[wire.0].kill();
    }

    fn test_side(&self, wire: WireId) -> usize {
        let side = self.wires[wire.0].ends.iter().position(|end| end.owner == Owner::Test);
        side.expect("the test owns an end of this connection")
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
        // The owner of the accepting end is known once the dial arrives.
        self.wires.push(Wire { ends: [End::new(from), End::new(Owner::Test)], dial, latency });
        WireId(self.wires.len() - 1)
    }

    /// Runs until `done` returns true, at most for `time`. Returns whether it did.
    pub fn run_until(&mut self, time: Duration, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let until = self.now + time.as_micros() as u64;
        let (mut activity, mut looked) = (u64::MAX, self.now);
        loop {
            // Without a new event, a condition can only change because time passes.
            if activity != self.activity || self.now > looked + 10_000 {
                (activity, looked) = (self.activity, self.now);
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

    /// The time since the start of the simulation.
    pub fn now(&self) -> Duration {
        Duration::from_micros(self.now)
    }

    /// Ends the test with a failure. The report shows what led to it.
    pub fn fail(&self, why: &str) -> ! {
        let why = format!("{why}, at {:?}", self.now());
        if self.catches_failures {
            // Without the panic hook, which would print every attempt to find a smaller failure.
            panic::resume_unwind(Box::new(why));
        }
        panic!("{why}");
    }

    /// Calls [`fail`](Self::fail) unless the condition holds.
    pub fn expect(&self, holds: bool, why: &str) {
        if !holds {
            self.fail(why);
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
