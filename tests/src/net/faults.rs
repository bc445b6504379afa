//! What goes wrong: nodes that die, forget or stand still, and networks that lose, hold back or break off.

use std::time::Duration;

use formation_core::{Address, Bootstrap, ConfigBuilder, HardState, Timing, message::ProtocolRange};

use super::{Cut, Happening, Net, Target};
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
        self.hosts[ix].gone = how == Crash::Machine;
    }

    /// [`crash`](Self::crash) of a running node that is like this.
    pub fn crash_if(&mut self, ix: NodeIx, like: impl FnOnce(&Self, NodeIx) -> bool, how: Crash) {
        if self.hosts[ix].formation.is_some() && like(self, ix) {
            self.crash(ix, how);
        }
    }

    /// A second node of the same id, by mistake, at an address of its own.
    pub fn start_twin(&mut self, of: NodeIx) {
        let twin = self.len();
        let stage = self.hosts[of].key_stage;
        let twin = self.add(with_keys(&self.hosts[of].config, &Self::address(twin), stage));
        self.hosts[twin].key_stage = stage;
        self.start(twin);
    }

    /// A node of another id that claims a voter's address, which goes on leading where it leads. Two nodes at one seed address
    /// would have two votes where a quorum counts one, and G2 assumes that there is one: so it can keep no vote, and does
    /// not wait long enough to confirm the others' lease.
    pub fn start_liar(&mut self, of: NodeIx) {
        let (address, stage) = (self.hosts[of].config.address().clone(), self.hosts[of].key_stage);
        let timing = self.hosts[of].config.timing().clone();
        let lease = 3 * timing.heartbeat_interval;
        assert!(lease < timing.lease, "it would confirm a lease of {:?}", timing.lease);
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

    /// A node forgets what it had made durable; it does not run.
    pub fn forget(&mut self, ix: NodeIx) {
        assert!(self.hosts[ix].formation.is_none(), "node {ix} runs");
        self.hosts[ix].disk = HardState::default();
    }

    /// What a node wants to keep does not get through any more, until it is started again.
    pub fn fail_disk(&mut self, ix: NodeIx) {
        self.trace.note(self.now, ix, "its disk fails".into());
        self.hosts[ix].disk_fails = true;
    }

    /// A node that does not run speaks these protocol versions from its next start on.
    ///
    /// # Panics
    /// When there are none such.
    pub fn set_protocol(&mut self, ix: NodeIx, min: u16, max: u16) {
        assert!(self.hosts[ix].formation.is_none(), "node {ix} runs");
        let config = ConfigBuilder::from(self.hosts[ix].config.clone()).protocol(ProtocolRange { min, max });
        self.hosts[ix].config = config.build().expect("versions that there are");
    }

    /// A node stands still, as a suspended or swapped process does; its clock goes on, and what comes for it waits.
    pub fn pause(&mut self, ix: NodeIx, time: Duration) {
        self.trace.note(self.now, ix, format!("pauses for {time:?}"));
        let host = &mut self.hosts[ix];
        host.paused_until = self.now + time.as_micros() as u64;
        let (sleeps, wakes) = (host.clock.local(self.now), host.clock.local(host.paused_until));
        host.wakes_at = (wakes.since(sleeps) > host.config.timing().suspect_after).then_some(wakes);
    }

    /// What a node sends takes longer by this: it is slow for itself alone.
    pub fn slow_down(&mut self, ix: NodeIx, by: Duration) {
        self.trace.note(self.now, ix, format!("sends {by:?} late"));
        self.slow.insert(ix, by.as_micros() as u64);
    }

    /// From now on a name leads somewhere else, or nowhere at all: dials of it fail. Until the [healing](Self::heal_all).
    ///
    /// # Panics
    /// When it is no address.
    pub fn lead_astray(&mut self, address: &str, target: Option<Target>) {
        let address = Address::new(address).expect("a valid address");
        self.astray.entry(address.clone()).or_insert(self.names.get(&address).copied());
        match target {
            Some(target) => self.names.insert(address, target),
            None => self.names.remove(&address),
        };
    }

    /// Cuts two nodes from each other.
    pub fn cut(&mut self, a: NodeIx, b: NodeIx, how: Cut) {
        self.cut_one_way(a, b, how);
        self.cut_one_way(b, a, how);
    }

    /// What one node sends to another does not arrive; what comes back does. No connection comes up meanwhile.
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

    /// The connections of today between two nodes never carry anything again, and no end hears of it.
    pub fn kill_silently(&mut self, a: NodeIx, b: NodeIx) {
        self.trace.note(self.now, a, format!("and node {b}: their connections die unseen"));
        self.wires.iter_mut().filter(|wire| wire.joins(a, b)).for_each(|wire| wire.kill());
    }

    /// The connections of today between two nodes break off somewhere in what is on its way, in mid-frame as often as not.
    pub fn reset(&mut self, a: NodeIx, b: NodeIx) {
        self.trace.note(self.now, a, format!("and node {b}: their connections are reset"));
        for wire in self.between(a, b) {
            for side in 0..2 {
                let unread = self.wires[wire.0].ends[side].unread;
                let kept = self.rng.below(unread + 1);
                if (1..unread).contains(&kept) {
                    self.tally.count("stream broken off");
                }
                self.wires[wire.0].ends[side].lose_beyond(kept);
                self.transmit(wire, 1 - side, Piece::End);
            }
        }
    }

    /// Cuts a node from all others.
    pub fn isolate(&mut self, ix: NodeIx, how: Cut) {
        for other in (0..self.hosts.len()).filter(|other| *other != ix) {
            self.cut(ix, other, how);
        }
    }

    /// Ends a cut, both ways.
    pub fn heal(&mut self, a: NodeIx, b: NodeIx) {
        let cut = [self.cuts.remove(&(a, b)), self.cuts.remove(&(b, a))];
        if cut == [None, None] {
            return;
        }
        self.trace.note(self.now, a, format!("is not cut from node {b} any more"));
        for at in (0..self.wires.len()).filter(|at| self.wires[*at].joins(a, b)).collect::<Vec<_>>() {
            for side in 0..2 {
                self.plan(Duration::ZERO, Happening::Arrives(WireId(at), side));
            }
        }
        for (wire, target) in std::mem::take(&mut self.held) {
            if self.wires[wire.0].joins(a, b) {
                self.plan(Duration::ZERO, Happening::Knocks(wire, target));
            } else {
                self.held.push((wire, target));
            }
        }
    }

    /// Ends all cuts; nobody is slow, and names lead where they should.
    pub fn heal_all(&mut self) {
        self.slow.clear();
        for (address, target) in std::mem::take(&mut self.astray) {
            match target {
                Some(target) => self.names.insert(address, target),
                None => self.names.remove(&address),
            };
        }
        while let Some((a, b)) = self.cuts.keys().next().copied() {
            self.heal(a, b);
        }
    }

    /// A node reads nothing on a connection, until [`read_again`](Self::read_again): what is sent to it lies between the
    /// ends, and whoever sends waits once that is full.
    pub fn stop_reading(&mut self, ix: NodeIx, wire: WireId) {
        if let Some(side) = self.side_of(wire, ix) {
            self.wires[wire.0].ends[side].deaf = true;
        }
    }

    /// Ends [`stop_reading`](Self::stop_reading).
    pub fn read_again(&mut self, ix: NodeIx, wire: WireId) {
        if let Some(side) = self.side_of(wire, ix) {
            self.wires[wire.0].ends[side].deaf = false;
            self.plan(Duration::ZERO, Happening::Arrives(wire, side));
        }
    }

    /// Every node reads everything again.
    pub fn read_all(&mut self) {
        for at in 0..self.wires.len() {
            for side in 0..2 {
                if std::mem::take(&mut self.wires[at].ends[side].deaf) {
                    self.plan(Duration::ZERO, Happening::Arrives(WireId(at), side));
                }
            }
        }
    }
}
