//! Faults: nodes that die, forget or pause, and networks that lose bytes, hold them back or reset connections.

use std::time::Duration;

use formation_core::{Address, HardState};

use super::{Cut, Net, SimEvent, Target};
use crate::sim::engine::{
    host::{Crash, NodeIx},
    watch::Watch,
    wire::{Phase, Piece, WireId},
};

impl<W: Watch> Net<W> {
    /// A node dies.
    pub fn crash(&mut self, ix: NodeIx, how: Crash) {
        self.note(ix, format_args!("dies: {how:?}"));
        let ends: Vec<_> = self.world.hosts[ix].conns.values().copied().collect();
        for (wire, side) in ends {
            self.world.wires[wire.0].ends[side].phase = Phase::Closed;
            match how {
                Crash::Process => self.transmit(wire, side, Piece::End),
                Crash::Machine => self.world.wires[wire.0].kill(),
            }
        }
        if self.world.hosts[ix].persisting.is_some() {
            self.watch.counts("crash before the vote was durable");
        }
        for wire in self.world.hosts[ix].dials.values() {
            self.world.wires[wire.0].kill();
        }
        self.world.hosts[ix].reset();
        self.world.hosts[ix].vanished = how == Crash::Machine;
    }

    /// Erases the disk of a node that does not run.
    pub fn forget(&mut self, ix: NodeIx) {
        assert!(self.world.hosts[ix].formation.is_none(), "node {ix} is running");
        self.world.hosts[ix].disk = HardState::default();
    }

    /// All writes of a node fail until it is started again.
    pub fn fail_disk(&mut self, ix: NodeIx) {
        self.note(ix, format_args!("its disk fails"));
        self.world.hosts[ix].disk_fails = true;
    }

    /// The wall clock of a machine is slow from now on. The incarnations of the next runs come from it.
    pub fn slow_wall_clock(&mut self, ix: NodeIx, by: Duration) {
        self.world.hosts[ix].wall_clock_slow_by = by.as_micros() as u64;
    }

    /// Pauses a node, like a suspended or swapped-out process. Its clock continues, and its inputs wait.
    pub fn pause(&mut self, ix: NodeIx, time: Duration) {
        self.note(ix, format_args!("pauses for {time:?}"));
        let host = &mut self.world.hosts[ix];
        host.paused_until = self.world.now + time.as_micros() as u64;
        self.watch.pauses(&self.world, ix);
    }

    /// Everything that a node sends arrives this much later.
    pub fn slow_down(&mut self, ix: NodeIx, by: Duration) {
        self.note(ix, format_args!("sends {by:?} late"));
        self.world.slow.insert(ix, by.as_micros() as u64);
    }

    /// From now on, an address leads to another target, or does not resolve (`None`), so that dials of it fail. This
    /// ends with [`heal_all`](Self::heal_all).
    ///
    /// # Panics
    /// If the address is invalid.
    pub fn redirect(&mut self, address: &str, target: Option<Target>) {
        let address = Address::new(address).expect("a valid address");
        self.world.redirected.entry(address.clone()).or_insert(self.world.names.get(&address).copied());
        match target {
            Some(target) => self.world.names.insert(address, target),
            None => self.world.names.remove(&address),
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
        self.note(from, format_args!("does not reach node {to}: {how:?}"));
        self.world.cuts.insert((from, to), how);
        if how == Cut::Lose {
            for wire in &mut self.world.wires {
                for side in 0..2 {
                    wire.ends[side].dead |= wire.towards(side) == Some((from, to));
                }
            }
        }
    }

    /// The existing connections between two nodes never carry anything again, and neither end notices.
    pub fn kill_silently(&mut self, a: NodeIx, b: NodeIx) {
        self.note(a, format_args!("and node {b}: their connections die silently"));
        self.world.wires.iter_mut().filter(|wire| wire.joins(a, b)).for_each(|wire| wire.kill());
    }

    /// Resets the existing connections between two nodes. Only a random part of the bytes in flight arrives, often with
    /// a frame cut in the middle.
    pub fn reset(&mut self, a: NodeIx, b: NodeIx) {
        self.note(a, format_args!("and node {b}: their connections are reset"));
        for wire in self.between(a, b) {
            for side in 0..2 {
                let unread = self.world.wires[wire.0].ends[side].unread;
                let kept = self.world.rng.below(unread + 1);
                if (1..unread).contains(&kept) {
                    self.watch.counts("stream cut by a reset");
                }
                self.world.wires[wire.0].ends[side].lose_beyond(kept);
                self.transmit(wire, 1 - side, Piece::End);
            }
        }
    }

    /// Cuts a node off from all others.
    pub fn isolate(&mut self, ix: NodeIx, how: Cut) {
        for other in (0..self.world.hosts.len()).filter(|other| *other != ix) {
            self.cut(ix, other, how);
        }
    }

    /// Ends the cut between two nodes in both directions.
    pub fn heal(&mut self, a: NodeIx, b: NodeIx) {
        let cut = [self.world.cuts.remove(&(a, b)), self.world.cuts.remove(&(b, a))];
        if cut == [None, None] {
            return;
        }
        self.note(a, format_args!("is no longer cut off from node {b}"));
        for at in (0..self.world.wires.len()).filter(|at| self.world.wires[*at].joins(a, b)).collect::<Vec<_>>() {
            for side in 0..2 {
                self.plan(Duration::ZERO, SimEvent::Arrives(WireId(at), side));
            }
        }
        for (wire, target) in std::mem::take(&mut self.world.waiting_dials) {
            if self.world.wires[wire.0].joins(a, b) {
                self.plan(Duration::ZERO, SimEvent::DialArrives(wire, target));
            } else {
                self.world.waiting_dials.push((wire, target));
            }
        }
    }

    /// Ends all cuts, makes no node slow, and restores the targets of all names.
    pub fn heal_all(&mut self) {
        self.world.slow.clear();
        for (address, target) in std::mem::take(&mut self.world.redirected) {
            match target {
                Some(target) => self.world.names.insert(address, target),
                None => self.world.names.remove(&address),
            };
        }
        while let Some((a, b)) = self.world.cuts.keys().next().copied() {
            self.heal(a, b);
        }
    }

    /// A node stops reading on a connection, until [`resume_reading`](Self::resume_reading). The sender has to wait
    /// once the socket buffer is full.
    pub fn stop_reading(&mut self, ix: NodeIx, wire: WireId) {
        if let Some(side) = self.side_of(wire, ix) {
            self.world.wires[wire.0].ends[side].stops_reading = true;
        }
    }

    /// Ends [`stop_reading`](Self::stop_reading).
    pub fn resume_reading(&mut self, ix: NodeIx, wire: WireId) {
        if let Some(side) = self.side_of(wire, ix) {
            self.world.wires[wire.0].ends[side].stops_reading = false;
            self.plan(Duration::ZERO, SimEvent::Arrives(wire, side));
        }
    }

    /// Every node resumes reading on all connections.
    pub fn resume_all_reading(&mut self) {
        for at in 0..self.world.wires.len() {
            for side in 0..2 {
                if std::mem::take(&mut self.world.wires[at].ends[side].stops_reading) {
                    self.plan(Duration::ZERO, SimEvent::Arrives(WireId(at), side));
                }
            }
        }
    }
}
