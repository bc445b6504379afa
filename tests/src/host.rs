//! A simulated machine: one node with its connections, its disk, its clock, and what it has reported.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use formation_core::{Address, CloseReason, Config, ConnId, DialId, Event, Formation, HardState, Term, Timestamp};

use crate::{checks::Mirror, clock::Clock, replay::Run, wire::WireId};

/// The index of a node in the network.
pub type NodeIx = usize;

/// One run of a node, from its start to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RunId {
    pub(crate) host: NodeIx,
    pub(crate) generation: u32,
}

/// The IP address of a machine.
pub(crate) fn ip(host: NodeIx) -> IpAddr {
    let [.., high, low] = host.to_be_bytes();
    Ipv4Addr::new(10, 0, high, low).into()
}

/// How a node dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process dies: the peers see their connections end, and dials are refused.
    Process,
    /// The machine dies: the peers see nothing, and dials hang.
    Machine,
}

/// A simulated machine with one node.
pub struct Host {
    /// The configuration of the node.
    pub config: Config,
    /// The node, while it runs.
    pub formation: Option<Formation>,
    /// All events of all runs, with their times.
    pub events: Vec<(u64, Event)>,
    /// All connections that the node has closed in this run.
    pub closes: Vec<(ConnId, CloseReason)>,
    /// The content of the disk. The next run starts with it.
    pub disk: HardState,
    /// The state that this run knows to be durable.
    pub(crate) durable: HardState,
    /// Every write from now on fails.
    pub(crate) disk_fails: bool,
    /// This run has received a `PersistFailed`.
    pub(crate) persist_failed: bool,
    /// The clock of the node.
    pub clock: Clock,
    /// All runs, including the current one, if the network records.
    pub runs: Vec<Run>,
    /// The number of bytes sent in all runs.
    pub bytes_sent: u64,
    /// The stage of a rolling change of key on this node; `None` without a key.
    pub key_stage: Option<u64>,
    pub(crate) generation: u32,
    /// By how much its wall clock, which incarnations come from, is slow, in microseconds.
    pub(crate) wall_clock_slow_by: u64,
    /// The machine has died: dials hang.
    pub(crate) vanished: bool,
    pub(crate) conns: BTreeMap<ConnId, (WireId, usize)>,
    pub(crate) next_conn: u64,
    pub(crate) in_flight: BTreeSet<ConnId>,
    pub(crate) dials: BTreeMap<DialId, WireId>,
    pub(crate) persisting: Option<(u64, HardState)>,
    pub(crate) armed: Option<Timestamp>,
    pub(crate) idle_ticks: u32,
    pub(crate) paused_until: u64,
    /// The node's time at the end of a pause that is long enough for the node to notice; cleared at the first input
    /// after that.
    pub(crate) wakes_at: Option<Timestamp>,
    /// Until this time the node may mark nobody as down, because it has paused.
    pub(crate) just_awake: Timestamp,
    /// The addresses that led this run to itself, and that it has not dialed elsewhere since.
    pub(crate) found_itself: BTreeSet<Address>,
    /// The node has joined a master, in this run or, according to its disk, in an earlier one.
    pub(crate) has_joined: bool,
    /// This run has reported `Stopped`.
    pub(crate) stopped: bool,
    /// The time by which the node must have left.
    pub(crate) left_by: Option<Timestamp>,
    pub(crate) mirror: Mirror,
    /// The number of members and the term in the last status that the node sent, if that was the status of a solo
    /// master.
    pub(crate) solo_status: Option<(u32, Term)>,
}

impl Host {
    pub(crate) fn new(config: Config, clock: Clock) -> Self {
        Self {
            config,
            formation: None,
            events: Vec::new(),
            closes: Vec::new(),
            disk: HardState::default(),
            durable: HardState::default(),
            disk_fails: false,
            persist_failed: false,
            clock,
            runs: Vec::new(),
            bytes_sent: 0,
            key_stage: None,
            wall_clock_slow_by: 0,
            generation: 0,
            vanished: false,
            conns: BTreeMap::new(),
            next_conn: 1,
            in_flight: BTreeSet::new(),
            dials: BTreeMap::new(),
            persisting: None,
            armed: None,
            idle_ticks: 0,
            paused_until: 0,
            wakes_at: None,
            just_awake: Timestamp::ZERO,
            found_itself: BTreeSet::new(),
            has_joined: false,
            stopped: false,
            left_by: None,
            mirror: Mirror::default(),
            solo_status: None,
        }
    }

    /// Clears everything that belongs to the run that has ended.
    pub(crate) fn reset(&mut self) {
        self.generation += 1;
        self.formation = None;
        self.closes.clear();
        self.conns.clear();
        self.in_flight.clear();
        self.dials.clear();
        self.persisting = None;
        self.disk_fails = false;
        self.persist_failed = false;
        self.armed = None;
        self.paused_until = 0;
        self.wakes_at = None;
        self.just_awake = Timestamp::ZERO;
        self.found_itself.clear();
        self.stopped = false;
        self.left_by = None;
        self.mirror = Mirror::default();
        self.solo_status = None;
        self.idle_ticks = 0;
    }
}
