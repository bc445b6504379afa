//! Faults: nodes that die, forget or pause, and networks that lose bytes, hold them back or reset connections.

use std::time::Duration;

use formation_core::{Address, Bootstrap, ConfigBuilder, HardState, Timing, message::ProtocolRange};

use super::{Cut, Net, SimEvent, Target};
use crate::{
    host::{Crash, NodeIx},
    keys::{under, with_keys},
    wire::{Phase, Piece, WireId},
};

impl Net {
    /// A node dies.
    pub fn crash(&mut self, ix: NodeIx, how: Crash) {
        self.trace.note(self.now, ix, format!("dies: {how:?}"));
        let ends: Vec<_> = self.hosts[ix].conns.values().copied().collect();
        for (wire, side) in ends {
            self.wires[wire.0].ends[side].phase = Phase::Closed;
            match how {
                Crash::Process => self.transmit(wire, side, Piece::End),
                Crash::Machine => self.wires[wire.0].kill(),
            }
        }
        if self.hosts[ix].persisting.is_some() {
            self.tally.count("crash before the vote was durable");
        }
        for wire in self.hosts[ix].dials.values() {
            self.wires[wire.0].kill();
        }
        self.hosts[ix].reset();
        self.hosts[ix].vanished = how == Crash::Machine;
    }

    /// [`crash`](Self::crash) of a node that runs and meets the condition.
    pub fn crash_if(&mut self, ix: NodeIx, condition: impl FnOnce(&Self, NodeIx) -> bool, how: Crash) {
        if self.hosts[ix].formation.is_some() && condition(self, ix) {
            self.crash(ix, how);
        }
    }

    /// Starts a second node with the same id at its own address, as a configuration mistake does.
    pub fn start_twin(&mut self, of: NodeIx) {
        let twin = self.len();
        let stage = self.hosts[of].key_stage;
        let twin = self.add(with_keys(&self.hosts[of].config, &Self::address(twin), stage));
        self.hosts[twin].key_stage = stage;
        self.start(twin);
    }

    /// Starts a node with another id that claims a voter's address. The address still leads to the same target. Two
    /// nodes at one seed address would have two votes, but G2 assumes one live node per seed address. Therefore the
    /// storage of this node fails, and its `bootstrap_wait` is too short to confirm the others' lease.
    pub fn start_liar(&mut self, of: NodeIx) {
        let (address, stage) = (self.hosts[of].config.address().clone(), self.hosts[of].key_stage);
        let timing = self.hosts[of].config.timing().clone();
        let lease = 3 * timing.heartbeat_interval;
        assert!(lease < timing.lease, "the node would confirm a lease of {:?}", timing.lease);
        let liar = under(&format!("liar{}", self.len()), &self.hosts[of].config, address.as_str(), stage);
        let liar = liar.timing(Timing { lease, bootstrap_wait: lease, ..timing }).bootstrap(Bootstrap::Form);
        let leads = self.names.get(&address).copied();
        let liar = self.add(liar.build().expect("a valid configuration"));
        match leads {
            Some(target) => self.names.insert(address, target),
            None => self.names.remove(&address),
        };
        self.start(liar);
        self.fail_disk(liar);
    }

    /// Erases the disk of a node that does not run.
    pub fn forget(&mut self, ix: NodeIx) {
        assert!(self.hosts[ix].formation.is_none(), "node {ix} is running");
        self.hosts[ix].disk = HardState::default();
    }

    /// All writes of a node fail until it is started again.
    pub fn fail_disk(&mut self, ix: NodeIx) {
        self.trace.note(self.now, ix, "its disk fails".into());
        self.hosts[ix].disk_fails = true;
    }

    /// Sets the protocol versions of a node that does not run.
    ///
    /// # Panics
    /// If the node is running, or if a version does not exist.
    pub fn set_protocol(&mut self, ix: NodeIx, min: u16, max: u16) {
        assert!(self.hosts[ix].formation.is_none(), "node {ix} runs");
        let config = ConfigBuilder::from(self.hosts[ix].config.clone()).protocol(ProtocolRange { min, max });
        self.hosts[ix].config = config.build().expect("versions that exist");
    }

    /// The wall clock of a machine is slow from now on. The incarnations of the next runs come from it.
    pub fn slow_wall_clock(&mut self, ix: NodeIx, by: Duration) {
        self.hosts[ix].wall_clock_slow_by = by.as_micros() as u64;
    }

    /// Sets the times of a node that does not run.
    ///
    /// # Panics
    /// If the node is running, or if the times do not fit together.
    pub fn set_timing(&mut self, ix: NodeIx, timing: Timing) {
        assert!(self.hosts[ix].formation.is_none(), "node {ix} runs");
        let config = ConfigBuilder::from(self.hosts[ix].config.clone()).timing(timing);
        self.hosts[ix].config = config.build().expect("times that fit together");
    }

    /// Gives a node that does not run another list of seeds: the addresses of the nodes `0..n`. Its disk is erased, because the state
    /// there belongs to the old list.
    ///
    /// # Panics
    /// If the node is running.
    pub fn set_seeds(&mut self, ix: NodeIx, n: usize) {
        self.forget(ix);
        let last = self.last_run(ix);
        self.checks_of(ix).ended(last);
        let timing = self.hosts[ix].config.timing().clone();
        let config = Self::builder(ix, n).timing(timing);
        self.hosts[ix].config = config.build().expect("a valid configuration");
    }

    /// Pauses a node, like a suspended or swapped-out process. Its clock continues, and its inputs wait.
    pub fn pause(&mut self, ix: NodeIx, time: Duration) {
        self.trace.note(self.now, ix, format!("pauses for {time:?}"));
        let host = &mut self.hosts[ix];
        host.paused_until = self.now + time.as_micros() as u64;
        let (from, until) = (host.clock.local(self.now), host.clock.local(host.paused_until));
        host.wakes_at = (until.since(from) > host.config.timing().suspect_after).then_some(until);
    }

    /// Everything that a node sends arrives this much later.
    pub fn slow_down(&mut self, ix: NodeIx, by: Duration) {
        self.trace.note(self.now, ix, format!("sends {by:?} late"));
        self.slow.insert(ix, by.as_micros() as u64);
    }

    /// From now on, an address leads to another target, or does not resolve (`None`), so that dials of it fail. This
    /// ends with [`heal_all`](Self::heal_all).
    ///
    /// # Panics
    /// If the address is invalid.
    pub fn redirect(&mut self, address: &str, target: Option<Target>) {
        let address = Address::new(address).expect("a valid address");
        self.redirected.entry(address.clone()).or_insert(self.names.get(&address).copied());
        match target {
            Some(target) => self.names.insert(address, target),
            None => self.names.remove(&address),
        };
    }

    /// Cuts two nodes off from each other.
    pub fn cut(&mut self, a: NodeIx, b: NodeIx, how: Cut) {
        self.cut_one_way(a, b, how);
        self.cut_one_way(b, a, how);
    }

    /// Bytes from one node to another do not arrive. Bytes in the other direction do. No new connection opens between
    /// the two.
    pub fn cut_one_way(&mut self, from: NodeIx, to: NodeIx, how: Cut) {
        self.trace.note(self.now, from, format!("does not reach node {to}: {how:?}"));
        self.cuts.insert((from, to), how);
        if how == Cut::Lose {
            for wire in &mut self.wires {
                for side in 0..2 {
                    wire.ends[side].dead |= wire.towards(side) == Some((from, to));
                }
            }
        }
    }

    /// The existing connections between two nodes never carry anything again, and neither end notices.
    pub fn kill_silently(&mut self, a: NodeIx, b: NodeIx) {
        self.trace.note(self.now, a, format!("and node {b}: their connections die silently"));
        self.wires.iter_mut().filter(|wire| wire.joins(a, b)).for_each(|wire| wire.kill());
    }

    /// Resets the existing connections between two nodes. Only a random part of the bytes in flight arrives, often with
    /// a frame cut in the middle.
    pub fn reset(&mut self, a: NodeIx, b: NodeIx) {
        self.trace.note(self.now, a, format!("and node {b}: their connections are reset"));
        for wire in self.between(a, b) {
            for side in 0..2 {
                let unread = self.wires[wire.0].ends[side].unread;
                let kept = self.rng.below(unread + 1);
                if (1..unread).contains(&kept) {
                    self.tally.count("stream cut by a reset");
                }
                self.wires[wire.0].ends[side].lose_beyond(kept);
                self.transmit(wire, 1 - side, Piece::End);
            }
        }
    }

    /// Cuts a node off from all others.
    pub fn isolate(&mut self, ix: NodeIx, how: Cut) {
        for other in (0..self.hosts.len()).filter(|other| *other != ix) {
            self.cut(ix, other, how);
        }
    }

    /// Ends the cut between two nodes in both directions.
    pub fn heal(&mut self, a: NodeIx, b: NodeIx) {
        let cut = [self.cuts.remove(&(a, b)), self.cuts.remove(&(b, a))];
        if cut == [None, None] {
            return;
        }
        self.trace.note(self.now, a, format!("is no longer cut off from node {b}"));
        for at in (0..self.wires.len()).filter(|at| self.wires[*at].joins(a, b)).collect::<Vec<_>>() {
            for side in 0..2 {
                self.plan(Duration::ZERO, SimEvent::Arrives(WireId(at), side));
            }
        }
        for (wire, target) in std::mem::take(&mut self.waiting_dials) {
            if self.wires[wire.0].joins(a, b) {
                self.plan(Duration::ZERO, SimEvent::DialArrives(wire, target));
            } else {
                self.waiting_dials.push((wire, target));
            }
        }
    }

    /// Ends all cuts, makes no node slow, and restores the targets of all names.
    pub fn heal_all(&mut self) {
        self.slow.clear();
        for (address, target) in std::mem::take(&mut self.redirected) {
            match target {
                Some(target) => self.names.insert(address, target),
                None => self.names.remove(&address),
            };
        }
        while let Some((a, b)) = self.cuts.keys().next().copied() {
            self.heal(a, b);
        }
    }

    /// A node stops reading on a connection, until [`resume_reading`](Self::resume_reading). The sender has to wait
    /// once the socket buffer is full.
    pub fn stop_reading(&mut self, ix: NodeIx, wire: WireId) {
        if let Some(side) = self.side_of(wire, ix) {
            self.wires[wire.0].ends[side].stops_reading = true;
        }
    }

    /// Ends [`stop_reading`](Self::stop_reading).
    pub fn resume_reading(&mut self, ix: NodeIx, wire: WireId) {
        if let Some(side) = self.side_of(wire, ix) {
            self.wires[wire.0].ends[side].stops_reading = false;
            self.plan(Duration::ZERO, SimEvent::Arrives(wire, side));
        }
    }

    /// Every node resumes reading on all connections.
    pub fn resume_all_reading(&mut self) {
        for at in 0..self.wires.len() {
            for side in 0..2 {
                if std::mem::take(&mut self.wires[at].ends[side].stops_reading) {
                    self.plan(Duration::ZERO, SimEvent::Arrives(WireId(at), side));
                }
            }
        }
    }
}
