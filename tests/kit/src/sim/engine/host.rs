//! A simulated machine: one node with its connections, its disk, its clock, and what it has reported.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use bytes::BytesMut;
use formation_core::{
    CloseReason, Config, ConnId, DialId, Event, Formation, HardState, Node, StreamFailure, StreamId, StreamName,
    Timestamp,
};

use super::{clock::Clock, wire::WireId};

/// The index of a node in the network.
pub type NodeIx = usize;

/// One run of a node, from its start to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunId {
    /// The node.
    pub host: NodeIx,
    /// The number of the run.
    pub generation: u32,
}

/// The IP address of a machine.
pub(super) fn ip(host: NodeIx) -> IpAddr {
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

/// A stream that a node has given to its service.
#[derive(Clone, Debug)]
pub struct Stream {
    /// The number of the stream, if this node has opened it.
    pub stream: Option<StreamId>,
    /// The other end.
    pub peer: Node,
    /// The name of the stream.
    pub name: StreamName,
    /// Everything that the service has read.
    pub read: BytesMut,
    /// The peer has closed its end.
    pub ended: bool,
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
    /// The node says that its votes are durable (E10).
    pub is_durable: bool,
    /// Every write from now on fails.
    pub disk_fails: bool,
    /// The clock of the node.
    pub clock: Clock,
    /// The number of bytes sent in all runs.
    pub bytes_sent: u64,
    /// Grows with each start and each end of a run.
    pub generation: u32,
    /// By how much its wall clock, which incarnations come from, is slow, in microseconds.
    pub(super) wall_clock_slow_by: u64,
    /// The machine has died: dials hang.
    pub(super) vanished: bool,
    /// The open connections, with the side of the node: 0 if it has dialed.
    pub conns: BTreeMap<ConnId, (WireId, usize)>,
    /// The connections among them that are streams of the service.
    pub streams: BTreeMap<ConnId, Stream>,
    /// The streams of this run that were not opened.
    pub failed_streams: Vec<(StreamId, StreamFailure)>,
    pub(super) next_conn: u64,
    pub(super) in_flight: BTreeSet<ConnId>,
    pub(super) dials: BTreeMap<DialId, WireId>,
    /// The write in flight, with its number.
    pub persisting: Option<(u64, HardState)>,
    pub(super) armed: Option<Timestamp>,
    pub(super) idle_ticks: u32,
    /// The time of the simulation until which the node is paused.
    pub paused_until: u64,
}

impl Host {
    pub(super) fn new(config: Config, clock: Clock) -> Self {
        Self {
            config,
            formation: None,
            events: Vec::new(),
            closes: Vec::new(),
            disk: HardState::default(),
            is_durable: true,
            disk_fails: false,
            clock,
            bytes_sent: 0,
            wall_clock_slow_by: 0,
            generation: 0,
            vanished: false,
            conns: BTreeMap::new(),
            streams: BTreeMap::new(),
            failed_streams: Vec::new(),
            next_conn: 1,
            in_flight: BTreeSet::new(),
            dials: BTreeMap::new(),
            persisting: None,
            armed: None,
            idle_ticks: 0,
            paused_until: 0,
        }
    }

    /// Clears everything that belongs to the run that has ended.
    pub(super) fn reset(&mut self) {
        self.generation += 1;
        self.formation = None;
        self.closes.clear();
        self.conns.clear();
        self.streams.clear();
        self.failed_streams.clear();
        self.in_flight.clear();
        self.dials.clear();
        self.persisting = None;
        self.disk_fails = false;
        self.armed = None;
        self.paused_until = 0;
        self.idle_ticks = 0;
    }
}
