//! The network: nodes, connections and time. It is controlled with the methods here and in `net::faults`. The
//! simulation loop is in `net::flow`, and the queries are in `net::look`.

mod faults;
mod flow;
mod look;
mod streams;

use std::{
    collections::BTreeMap,
    ops::{Deref, DerefMut},
    panic,
    time::Duration,
};

use bytes::Bytes;
use formation_core::{Address, Command, Config, DialId, Formation, Incarnation, Input, Start, Timestamp};

use super::{
    clock::Clock,
    host::{Host, NodeIx, RunId},
    rng::Rng,
    settings::Settings,
    watch::Watch,
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

pub(super) enum SimEvent {
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

/// The state of a network. Time is in microseconds and starts at zero.
pub struct World {
    /// The settings. They may be changed at any time.
    pub settings: Settings,
    /// The random numbers of the network. A test uses them too, so that its own choices depend on the same seed.
    pub rng: Rng,
    /// A failure does not call the panic hook, because the caller catches it and reports it.
    pub catches_failures: bool,
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
    /// Increases with each event and each close of a node.
    activity: u64,
}

/// A network of real nodes in virtual time, and its watch.
pub struct Net<W> {
    world: World,
    /// Sees every step.
    pub watch: W,
}

impl<W> Deref for Net<W> {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl<W> DerefMut for Net<W> {
    fn deref_mut(&mut self) -> &mut World {
        &mut self.world
    }
}

impl<W: Watch> Net<W> {
    /// An empty network.
    pub fn new(seed: u64, settings: Settings, watch: W) -> Self {
        let world = World {
            settings,
            rng: Rng::new(seed),
            catches_failures: false,
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
            activity: 0,
        };
        Self { world, watch }
    }

    /// Starts a node now, as a new incarnation, with the content of its disk.
    pub fn start(&mut self, ix: NodeIx) {
        assert!(self.world.hosts[ix].formation.is_none(), "node {ix} is already running");
        let last = self.last_run(ix);
        let host = &mut self.world.hosts[ix];
        host.reset();
        host.vanished = false;
        // Unique across all nodes, because nodes may share an id.
        let wall = (self.world.now + 1 + u64::from(host.generation)).saturating_sub(host.wall_clock_slow_by);
        let incarnation = Incarnation(wall.max(1) * 1_000 + ix as u64);
        let mut start = Start::new(incarnation, self.world.rng.draw());
        start.hard_state = host.disk.clone();
        start.is_durable = host.is_durable;
        let at = host.clock.local(self.world.now);
        self.note(ix, format_args!("starts as incarnation {}", incarnation.0));
        self.watch.starts(&self.world, ix, last, &start, at);
        let host = &mut self.world.hosts[ix];
        host.formation = Some(Formation::new(host.config.clone(), start, at));
        self.drain(ix);
    }

    /// Starts a node after `delay`.
    pub fn start_in(&mut self, ix: NodeIx, delay: Duration) {
        self.plan(delay, SimEvent::Start(ix));
    }

    /// Starts all nodes that do not run.
    pub fn start_all(&mut self) {
        for ix in 0..self.world.hosts.len() {
            if self.world.hosts[ix].formation.is_none() {
                self.start(ix);
            }
        }
    }

    /// The embedder of a node gives a command.
    pub fn command(&mut self, ix: NodeIx, command: Command) {
        self.give(ix, Input::Command(command.clone()));
        self.watch.commanded(&self.world, ix, &command);
    }

    /// The test opens a connection to a node.
    pub fn dial(&mut self, ix: NodeIx) -> WireId {
        let wire = self.wire(Owner::Test, None);
        self.world.wires[wire.0].ends[0].phase = Phase::Open;
        self.plan(Duration::ZERO, SimEvent::DialArrives(wire, Target::Node(ix)));
        wire
    }

    /// The test dials an address. Returns `None` if no node has this address.
    pub fn dial_address(&mut self, address: &Address) -> Option<WireId> {
        match self.world.names.get(address) {
            Some(Target::Node(ix)) => Some(self.dial(*ix)),
            _ => None,
        }
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
        self.world.wires[wire.0].ends[side].phase = Phase::Closed;
        self.transmit(wire, side, Piece::End);
    }

    /// Handles the next event. Returns false if there is none until this time of the simulation. It is then this time.
    pub fn step(&mut self, until: Duration) -> bool {
        let until = until.as_micros() as u64;
        let has_stepped = self.step_until(until);
        if !has_stepped {
            self.world.now = until;
        }
        has_stepped
    }

    /// Runs for `time`.
    pub fn run_for(&mut self, time: Duration) {
        let until = self.now() + time;
        while self.step(until) {}
    }

    fn note(&mut self, ix: NodeIx, note: std::fmt::Arguments<'_>) {
        self.watch.notes(&self.world, ix, note);
    }
}

impl World {
    /// The time since the start of the simulation.
    pub fn now(&self) -> Duration {
        Duration::from_micros(self.now)
    }

    /// The time of the next event.
    pub fn next_event(&self) -> Option<Duration> {
        self.queue.keys().next().map(|(at, _)| Duration::from_micros(*at))
    }

    /// Lets time pass in which nothing happens.
    ///
    /// # Panics
    /// If there is an event before that time.
    pub fn wait_until(&mut self, time: Duration) {
        assert!(self.next_event().is_none_or(|next| time <= next), "something happens before {time:?}");
        self.now = self.now.max(time.as_micros() as u64);
    }

    /// The seed of the network.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A number that grows with each event and each close of a node.
    pub fn activity(&self) -> u64 {
        self.activity
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

    fn test_side(&self, wire: WireId) -> usize {
        let side = self.wires[wire.0].ends.iter().position(|end| end.owner == Owner::Test);
        side.expect("the test owns an end of this connection")
    }

    fn side_of(&self, wire: WireId, ix: NodeIx) -> Option<usize> {
        let run = self.run_id(ix);
        self.wires[wire.0].ends.iter().position(|end| end.owner == Owner::Node(run))
    }

    /// The run that a crash has ended.
    pub fn last_run(&self, ix: NodeIx) -> RunId {
        RunId { host: ix, generation: self.hosts[ix].generation.saturating_sub(1) }
    }

    /// The current run of a node.
    pub fn run_id(&self, ix: NodeIx) -> RunId {
        RunId { host: ix, generation: self.hosts[ix].generation }
    }

    fn wire(&mut self, from: Owner, dial: Option<DialId>) -> WireId {
        let latency = self.rng.within(self.settings.latency).as_micros() as u64;
        // The owner of the accepting end is known once the dial arrives.
        self.wires.push(Wire { ends: [End::new(from), End::new(Owner::Test)], dial, latency });
        WireId(self.wires.len() - 1)
    }

    /// Sets the target of an address.
    ///
    /// # Panics
    /// If the address is invalid.
    pub fn name(&mut self, address: &str, target: Target) {
        self.names.insert(Address::new(address).expect("a valid address"), target);
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

    /// The connection of the test carries nothing any more, and the node does not notice.
    pub fn vanish(&mut self, wire: WireId) {
        self.wires[wire.0].kill();
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
}
