//! Queries about a network.

use std::{collections::BTreeSet, env, fmt::Write as _, thread, time::Duration};

use bytes::Bytes;
use formation_core::{
    CloseReason, Event, MemberState, Node, Phase as NodePhase, RejectReason, Status, Term, message::Message,
};

use super::Net;
use crate::{
    host::{Host, NodeIx},
    peer::messages,
    wire::{Owner, Phase, Wire, WireId},
};

impl Net {
    /// The host of a node.
    pub fn host(&self, ix: NodeIx) -> &Host {
        &self.hosts[ix]
    }

    pub(crate) fn host_mut(&mut self, ix: NodeIx) -> &mut Host {
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

    /// Whether these nodes follow one master among them, and hold one view that contains exactly them, all active.
    pub fn agree(&self, nodes: &[NodeIx]) -> bool {
        let Some(master) = self.master().filter(|m| nodes.contains(m)) else { return false };
        let first = self.hosts[master].formation.as_ref().map(|f| f.view());
        let all: BTreeSet<_> = nodes.iter().map(|ix| self.node(*ix)).collect();
        let complete = first.is_some_and(|view| {
            view.len() == all.len() && view.iter().all(|m| m.state == MemberState::Active && all.contains(&m.node))
        });
        let leader = self.node(master);
        complete
            && nodes.iter().all(|ix| {
                let formation = self.hosts[*ix].formation.as_ref();
                formation.map(|f| f.view().id()) == first.map(|view| view.id())
                    && formation.is_some_and(|f| f.status().master.is_some_and(|(node, _)| node == leader))
            })
            && (!self.settings.compare_views
                || nodes.iter().all(|ix| self.hosts[*ix].formation.as_ref().map(|f| f.view()) == first))
    }

    /// Whether all living nodes [`agree`](Self::agree).
    pub fn converged(&self) -> bool {
        self.agree(&self.living())
    }

    /// Runs until all living nodes agree.
    ///
    /// # Panics
    /// If they do not agree within `time`.
    pub fn converge(&mut self, time: Duration) {
        if !self.run_until(time, |net| net.converged()) {
            self.fail(&format!("the living nodes do not agree within {time:?}"));
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

    /// The first bytes of a node that dialed this one, up to its proof. Chosen among the latest connections.
    pub(crate) fn overheard(&mut self, ix: NodeIx) -> Option<Bytes> {
        let proven = |wire: &&Wire| {
            let sent = messages(&mut wire.ends[0].first_bytes.clone());
            matches!(sent[..], [Message::Hello(_), Message::Proof(_), ..])
        };
        let to = |wire: &&Wire| wire.towards(1).is_some_and(|(_, to)| to == ix);
        let recorded = self.wires.iter().rev().filter(to).filter(proven).take(8);
        let recorded: Vec<Bytes> = recorded.map(|wire| Bytes::copy_from_slice(&wire.ends[0].first_bytes)).collect();
        let which = self.rng.below(recorded.len().max(1));
        recorded.get(which).cloned()
    }

    /// Describes a rejection for the key between two nodes that have a key in common, which must never happen.
    pub(super) fn split_by_key(&self, wire: WireId, reason: CloseReason) -> Option<String> {
        let (CloseReason::Rejected(why) | CloseReason::RejectedByPeer(why)) = reason else { return None };
        let (a, b) = self.wires[wire.0].towards(0)?;
        let (a, b) = (&self.hosts[a].config, &self.hosts[b].config);
        let is_wrong = matches!(why, RejectReason::KeyMismatch | RejectReason::BadProof)
            && (a.keys().is_empty() && b.keys().is_empty() || a.keys().iter().any(|key| b.keys().contains(key)));
        is_wrong
            .then(|| format!("key: {} and {} have a key in common, but one rejects the other: {why}", a.id(), b.id()))
    }

    /// The messages that the test has received on its connection since the last call.
    pub fn messages(&mut self, wire: WireId) -> Vec<Message> {
        let side = self.test_side(wire);
        messages(&mut self.wires[wire.0].ends[side].inbox)
    }

    /// The latest inputs and outputs, the state of the nodes, and the command that runs it again.
    pub(crate) fn report(&self) -> String {
        let seed = self.seed;
        let mut out = format!("--- seed {seed}; the latest events:\n{}--- the nodes:\n", self.trace.text());
        for ix in (0..self.hosts.len()).take(12) {
            let _ = writeln!(out, "{}", self.describe(ix));
        }
        let nodes = env::var("FORMATION_SIM_NODES").map(|nodes| format!(" FORMATION_SIM_NODES={nodes}"));
        let nodes = nodes.unwrap_or_default();
        let _ = write!(out, "--- again: FORMATION_SIM_SEED={seed}{nodes} cargo {}", again());
        out
    }

    fn describe(&self, ix: NodeIx) -> String {
        let host = &self.hosts[ix];
        let Some(formation) = &host.formation else { return format!("node {ix}: does not run") };
        let Status { phase, term, master, links, counters, .. } = formation.status();
        let members: Vec<_> = formation.view().iter().take(12).map(|m| format!("{}:{:?}", m.node, m.state)).collect();
        let mut out = format!(
            "node {ix} = {}: {phase:?} term {term} master {master:?} links {links} {counters:?}\n    view {} of {} {}",
            formation.node(),
            formation.view().id(),
            formation.view().len(),
            members.join(" "),
        );
        let elections = |event: &Event| {
            matches!(event, Event::MasterElected { .. } | Event::MasterLost { .. } | Event::Stopped { .. })
        };
        let latest: Vec<_> = host.events.iter().filter(|(_, event)| elections(event)).collect();
        for (at, event) in &latest[latest.len().saturating_sub(6)..] {
            let _ = write!(out, "\n    {:.6} {event:?}", *at as f64 / 1e6);
        }
        out
    }
}

/// The arguments with which cargo runs this program again: the same arguments, or only the test of this thread.
fn again() -> String {
    let program = env::current_exe().ok();
    match program.as_ref().and_then(|program| program.file_stem()?.to_str()) {
        Some("simulate") => {
            let arguments: Vec<String> = env::args().skip(1).collect();
            format!("run --release -p formation-tests --bin simulate -- {}", arguments.join(" "))
        }
        _ => {
            let test = thread::current().name().unwrap_or_default().to_owned();
            format!("test -p formation-tests --test virtual_time -- --exact {test}")
        }
    }
}
