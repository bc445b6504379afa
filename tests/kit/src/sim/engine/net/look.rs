//! Queries about a network.

use std::time::Duration;

use bytes::BytesMut;
use formation_core::{Address, CloseReason, Event, Node, Phase as NodePhase, Status, Term};

use super::{Cut, Target, World};
use crate::sim::engine::{
    host::{Host, NodeIx},
    wire::{Owner, Phase, WireId},
};

impl World {
    /// The host of a node.
    pub fn host(&self, ix: NodeIx) -> &Host {
        &self.hosts[ix]
    }

    /// The host of a node, to be changed.
    pub fn host_mut(&mut self, ix: NodeIx) -> &mut Host {
        &mut self.hosts[ix]
    }

    /// The number of nodes, whether they run or not.
    pub fn len(&self) -> usize {
        self.hosts.len()
    }

    /// Whether the network has no node.
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// The status of a running node.
    ///
    /// # Panics
    /// If the node does not run.
    pub fn status(&self, ix: NodeIx) -> Status {
        self.hosts[ix].formation.as_ref().expect("the node runs").status()
    }

    /// The id and incarnation of a running node.
    ///
    /// # Panics
    /// If the node does not run.
    pub fn node(&self, ix: NodeIx) -> Node {
        self.hosts[ix].formation.as_ref().expect("the node runs").node().clone()
    }

    /// Whether a node is paused.
    pub fn is_paused(&self, ix: NodeIx) -> bool {
        self.hosts[ix].paused_until > self.now
    }

    /// Whether the embedder of a node can give it a command: it runs, has not stopped, and is not paused.
    pub fn listens(&self, ix: NodeIx) -> bool {
        self.living().contains(&ix) && !self.is_paused(ix)
    }

    /// How two nodes are cut off from each other in this direction, if they are.
    pub fn cut_between(&self, from: NodeIx, to: NodeIx) -> Option<Cut> {
        self.cuts.get(&(from, to)).copied()
    }

    /// How much later everything that a node sends arrives.
    pub fn slowness(&self, ix: NodeIx) -> Duration {
        Duration::from_micros(self.slow.get(&ix).copied().unwrap_or_default())
    }

    /// The nodes that run and have not stopped.
    pub fn living(&self) -> Vec<NodeIx> {
        let runs = |host: &Host| host.formation.as_ref().is_some_and(|f| f.status().phase != NodePhase::Stopped);
        (0..self.hosts.len()).filter(|ix| runs(&self.hosts[*ix])).collect()
    }

    /// The nodes that have a valid lease now, with its term.
    pub fn masters(&self) -> Vec<(NodeIx, Term)> {
        let lease = |host: &Host| host.formation.as_ref()?.leadership(host.clock.local(self.now));
        (0..self.hosts.len()).filter_map(|ix| lease(&self.hosts[ix]).map(|l| (ix, l.term))).collect()
    }

    /// The node that has a valid lease now, if there is exactly one.
    pub fn master(&self) -> Option<NodeIx> {
        match self.masters()[..] {
            [(ix, _)] => Some(ix),
            _ => None,
        }
    }

    /// Whether a node has ever reported such an event.
    pub fn saw(&self, ix: NodeIx, condition: impl Fn(&Event) -> bool) -> bool {
        self.hosts[ix].events.iter().any(|(_, event)| condition(event))
    }

    /// How often a node has reported such an event since a time.
    pub fn count(&self, ix: NodeIx, since: Duration, condition: impl Fn(&Event) -> bool) -> usize {
        let since = since.as_micros() as u64;
        self.hosts[ix].events.iter().filter(|(at, event)| *at >= since && condition(event)).count()
    }

    /// The number of bytes that all nodes have sent so far.
    pub fn bytes_sent(&self) -> u64 {
        self.hosts.iter().map(|host| host.bytes_sent).sum()
    }

    /// The connections between two nodes that are open at both ends.
    pub fn between(&self, a: NodeIx, b: NodeIx) -> Vec<WireId> {
        let open = |at: &usize| self.wires[*at].joins(a, b) && self.wires[*at].is_open();
        (0..self.wires.len()).filter(open).map(WireId).collect()
    }

    /// The reason why the node at the other end closed a connection of the test.
    pub fn closed(&self, wire: WireId) -> Option<CloseReason> {
        self.wires[wire.0].ends.iter().find_map(|end| end.reason)
    }

    /// Whether the test has seen the end of its connection.
    pub fn ended(&self, wire: WireId) -> bool {
        self.wires[wire.0].ends.iter().any(|end| end.owner == Owner::Test && end.ended)
    }

    /// Whether a node's end of a connection is open.
    pub fn open_at(&self, wire: WireId, ix: NodeIx) -> bool {
        self.side_of(wire, ix).is_some_and(|side| self.wires[wire.0].ends[side].phase == Phase::Open)
    }

    /// The bytes that the test has received on its connection, and has not taken.
    pub fn inbox(&mut self, wire: WireId) -> &mut BytesMut {
        let side = self.test_side(wire);
        &mut self.wires[wire.0].ends[side].inbox
    }

    /// The number of connections so far.
    pub fn wires(&self) -> usize {
        self.wires.len()
    }

    /// The node that sends towards `side` of a connection, and the node at `side`. `None` if the test owns one of the ends.
    pub fn towards(&self, wire: WireId, side: usize) -> Option<(NodeIx, NodeIx)> {
        self.wires[wire.0].towards(side)
    }

    /// The target of an address.
    pub fn target(&self, address: &Address) -> Option<Target> {
        self.names.get(address).copied()
    }

    /// The original target of an address that is redirected.
    pub fn redirected(&self, address: &Address) -> Option<Option<Target>> {
        self.redirected.get(address).copied()
    }
}
