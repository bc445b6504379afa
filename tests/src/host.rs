//! What surrounds one node: its connections, its disk, its clock, and what it has said.

use std::collections::{BTreeMap, BTreeSet};

use formation_core::{Address, CloseReason, Config, ConnId, DialId, Event, Formation, HardState, Term, Timestamp};

use crate::{checks::Mirror, clock::Clock, replay::Run, wire::WireId};

/// A node's place in the network.
pub type NodeIx = usize;

/// One run of a node, from a start to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RunId {
    pub(crate) host: NodeIx,
    pub(crate) generation: u32,
}

/// How a node dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process: its peers see their connections end, and dials are refused.
    Process,
    /// The machine: nobody sees anything, and dials hang.
    Machine,
}

/// What surrounds one node.
pub struct Host {
    /// What the node is started with.
    pub config: Config,
    /// The node, while it runs.
    pub formation: Option<Formation>,
    /// All its events, and when, over all its runs.
    pub events: Vec<(u64, Event)>,
    /// All that its core has closed, in this run.
    pub closes: Vec<(ConnId, CloseReason)>,
    /// What its disk holds, for the next run to start with.
    pub disk: HardState,
    /// What this run was told is durable.
    pub(crate) durable: HardState,
    /// What is written from now on does not get through.
    pub(crate) disk_fails: bool,
    /// This run was told that it did not.
    pub(crate) persist_failed: bool,
    /// Its clock.
    pub clock: Clock,
    /// Its runs that have ended, and the one that goes on, when recording.
    pub runs: Vec<Run>,
    /// Bytes that it has handed out, over all its runs.
    pub bytes_sent: u64,
    /// How far a rolling change of key has come here; `None` without a key.
    pub key_stage: Option<u64>,
    pub(crate) generation: u32,
    pub(crate) gone: bool,
    pub(crate) conns: BTreeMap<ConnId, (WireId, usize)>,
    pub(crate) next_conn: u64,
    pub(crate) in_flight: BTreeSet<ConnId>,
    pub(crate) dials: BTreeMap<DialId, WireId>,
    pub(crate) persisting: Option<(u64, HardState)>,
    pub(crate) armed: Option<Timestamp>,
    pub(crate) idle_ticks: u32,
    pub(crate) paused_until: u64,
    /// Its clock at the end of a pause so long that the node has to notice, until it has been looked at.
    pub(crate) wakes_at: Option<Timestamp>,
    /// Until then it may take nobody for down, as it has slept.
    pub(crate) just_awake: Timestamp,
    /// Addresses at which this run has found itself, and that it has dialed nowhere else since.
    pub(crate) found_itself: BTreeSet<Address>,
    /// It has met a master, in this run or, by its disk, in an earlier one.
    pub(crate) has_joined: bool,
    /// When it has to have left.
    pub(crate) left_by: Option<Timestamp>,
    pub(crate) mirror: Mirror,
    /// The members and the term that it has last said it has as a solo master, if that is what it said last.
    pub(crate) solo_said: Option<(u32, Term)>,
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
            generation: 0,
            gone: false,
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
            left_by: None,
            mirror: Mirror::default(),
            solo_said: None,
        }
    }

    /// Forgets all that hangs on the run that has ended.
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
        self.left_by = None;
        self.mirror = Mirror::default();
        self.solo_said = None;
        self.idle_ticks = 0;
    }
}
