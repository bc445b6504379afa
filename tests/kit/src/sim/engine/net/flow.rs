//! The simulation loop: takes one event after the other, and applies it to the network and its nodes.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use formation_core::{
    Address, CloseReason, Command, ConnId, DialId, DialProblem, Event, HardState, Input, Origin, Output, Remote,
};

use super::{Cut, Net, SimEvent, Target};
use crate::sim::engine::{
    host::{self, NodeIx, RunId, Stream},
    watch::Watch,
    wire::{Owner, Phase, Piece, WireId},
};

/// How long a service needs to end its work as the master.
const END_OF_WORK: Duration = Duration::from_millis(20);
/// How long a disk may take before its host reports it.
const SLOW_DISK: Duration = Duration::from_millis(50);

impl<W: Watch> Net<W> {
    pub(super) fn plan(&mut self, delay: Duration, event: SimEvent) {
        self.plan_at(self.world.now + delay.as_micros() as u64, event);
    }

    fn plan_at(&mut self, at: u64, event: SimEvent) {
        self.world.sequence += 1;
        self.world.queue.insert((at.max(self.world.now), self.world.sequence), event);
    }

    /// Handles the next event, unless it is due after `until`.
    pub(super) fn step_until(&mut self, until: u64) -> bool {
        let Some(((at, _), _)) = self.world.queue.first_key_value() else { return false };
        if *at > until {
            return false;
        }
        let ((at, _), event) = self.world.queue.pop_first().expect("the queue is not empty");
        self.world.now = at;
        let receiver = match &event {
            SimEvent::Start(_) | SimEvent::DialArrives(..) => None,
            SimEvent::Tick(run, _)
            | SimEvent::DialFails(run, _)
            | SimEvent::Persists(run, _)
            | SimEvent::PersistIsSlow(run, _)
            | SimEvent::HandsOver(run) => Some(*run),
            SimEvent::Opens(wire, side) | SimEvent::Arrives(wire, side) | SimEvent::Flushes(wire, side) => {
                match self.world.wires[wire.0].ends[*side].owner {
                    Owner::Node(run) => Some(run),
                    Owner::Test => None,
                }
            }
        };
        if let Some(run) = receiver {
            if !self.runs(run) {
                return true;
            }
            let paused = self.world.hosts[run.host].paused_until;
            if paused > self.world.now {
                self.plan_at(paused, event);
                return true;
            }
        }
        self.handle(event);
        true
    }

    fn runs(&self, run: RunId) -> bool {
        let host = &self.world.hosts[run.host];
        host.generation == run.generation && host.formation.is_some()
    }

    fn handle(&mut self, event: SimEvent) {
        match event {
            // The test may already have started it.
            SimEvent::Start(ix) if self.world.hosts[ix].formation.is_some() => {}
            SimEvent::Start(ix) => self.start(ix),
            SimEvent::Tick(run, due) => {
                let host = &mut self.world.hosts[run.host];
                if host.armed == Some(due) {
                    host.armed = None;
                    self.give(run.host, Input::Tick);
                    self.rearm(run.host);
                }
            }
            SimEvent::DialArrives(wire, target) => self.dial_arrives(wire, target),
            SimEvent::Opens(wire, side) => self.opens(wire, side),
            SimEvent::DialFails(run, dial) => {
                if let Some(wire) = self.world.hosts[run.host].dials.remove(&dial) {
                    self.world.wires[wire.0].ends[0].phase = Phase::Closed;
                    self.transmit(wire, 0, Piece::End);
                    self.give(run.host, Input::DialFailed { dial, problem: DialProblem::Refused });
                }
            }
            SimEvent::Arrives(wire, side) => self.arrives(wire, side),
            SimEvent::Flushes(wire, side) => self.flushes(wire, side),
            SimEvent::HandsOver(run) => self.command(run.host, Command::Resign),
            SimEvent::PersistIsSlow(run, seq) => {
                if self.world.hosts[run.host].persisting.as_ref().is_some_and(|(in_flight, _)| *in_flight == seq) {
                    self.give(run.host, Input::PersistDelayed { seq });
                }
            }
            SimEvent::Persists(run, seq) => {
                let host = &mut self.world.hosts[run.host];
                let (expected, state) = host.persisting.take().expect("one persist is in flight");
                assert_eq!(expected, seq);
                if host.disk_fails {
                    // A failed write may have reached the disk or not.
                    if self.world.rng.one_in(2) {
                        host.disk = state;
                    }
                    return self.give(run.host, Input::PersistFailed { seq });
                }
                host.disk = state;
                self.give(run.host, Input::Persisted { seq });
            }
        }
    }

    /// A dial arrives at the target of its address.
    fn dial_arrives(&mut self, wire: WireId, target: Target) {
        let latency = Duration::from_micros(self.world.wires[wire.0].latency);
        if self.world.wires[wire.0].ends[0].phase == Phase::Closed || self.world.wires[wire.0].ends[1].dead {
            return;
        }
        match target {
            Target::Nowhere => {}
            Target::Test => {
                self.world.wires[wire.0].ends[1].phase = Phase::Open;
                self.world.accepted.push(wire);
                self.plan(latency, SimEvent::Opens(wire, 0));
            }
            Target::Node(ix) => {
                self.world.wires[wire.0].ends[1].owner = Owner::Node(self.run_id(ix));
                let is_cut =
                    |side| self.world.wires[wire.0].towards(side).is_some_and(|way| self.world.cuts.contains_key(&way));
                if is_cut(0) || is_cut(1) {
                    self.world.waiting_dials.push((wire, target));
                } else if self.world.hosts[ix].formation.is_some() {
                    // Because of the backlog, the node may accept before or after the dialing node sees the connection.
                    let accept = self.world.rng.within(self.world.settings.jitter);
                    self.plan(accept, SimEvent::Opens(wire, 1));
                    if self.world.wires[wire.0].ends[0].phase == Phase::Opening {
                        self.plan(latency, SimEvent::Opens(wire, 0));
                    }
                } else if !self.world.hosts[ix].vanished {
                    self.refuse(wire, latency);
                }
            }
        }
    }

    fn refuse(&mut self, wire: WireId, after: Duration) {
        let end = &mut self.world.wires[wire.0].ends[0];
        end.ended = true;
        if let (Owner::Node(run), Some(dial)) = (end.owner, self.world.wires[wire.0].dial) {
            self.plan(after, SimEvent::DialFails(run, dial));
        }
    }

    fn opens(&mut self, wire: WireId, side: usize) {
        let Owner::Node(run) = self.world.wires[wire.0].ends[side].owner else {
            self.world.wires[wire.0].ends[side].phase = Phase::Open;
            return;
        };
        if self.world.wires[wire.0].ends[side].phase != Phase::Opening {
            return;
        }
        let origin = if side == 0 {
            let dial = self.world.wires[wire.0].dial.expect("a node's own connection has a dial");
            if self.world.hosts[run.host].dials.remove(&dial).is_none() {
                return;
            }
            Origin::Dialed(dial)
        } else {
            Origin::Accepted
        };
        let host = &mut self.world.hosts[run.host];
        let conn = ConnId(host.next_conn);
        host.next_conn += 1;
        host.conns.insert(conn, (wire, side));
        let end = &mut self.world.wires[wire.0].ends[side];
        end.phase = Phase::Open;
        end.conn = Some(conn);
        if !end.arriving.is_empty() {
            self.plan(Duration::ZERO, SimEvent::Arrives(wire, side));
        }
        let remote = match self.world.wires[wire.0].ends[1 - side].owner {
            Owner::Node(peer) => {
                let address =
                    self.world.settings.certified.then(|| self.world.hosts[peer.host].config.address().clone());
                Remote::at((host::ip(peer.host), 1)).with_certified(address)
            }
            Owner::Test => self.world.settings.test_ip.map_or_else(Remote::default, |ip| Remote::at((ip, 1))),
        };
        self.give(run.host, Input::Opened { conn, origin, remote });
    }

    /// Sends bytes, or the end of the stream, to the other end.
    pub(super) fn transmit(&mut self, wire: WireId, from: usize, piece: Piece) {
        let to = 1 - from;
        if let Piece::Bytes(bytes) = &piece {
            self.watch.carries(wire, from, bytes);
        }
        let pieces = match piece {
            Piece::Bytes(bytes) if self.world.settings.segment => {
                self.segments(bytes).into_iter().map(Piece::Bytes).collect()
            }
            whole => vec![whole],
        };
        for piece in pieces {
            let jitter = self.world.rng.within(self.world.settings.jitter).as_micros() as u64;
            let late = match self.world.wires[wire.0].ends[from].owner {
                Owner::Node(run) => self.world.slow.get(&run.host).copied().unwrap_or_default(),
                Owner::Test => 0,
            };
            let end = &self.world.wires[wire.0].ends[to];
            let at = (self.world.now + self.world.wires[wire.0].latency + jitter + late).max(end.not_before);
            let end = &mut self.world.wires[wire.0].ends[to];
            end.not_before = at;
            if let Piece::Bytes(bytes) = &piece {
                end.unread += bytes.len();
            }
            end.arriving.push_back((at, piece));
            self.plan_at(at, SimEvent::Arrives(wire, to));
        }
    }

    fn segments(&mut self, mut bytes: Bytes) -> Vec<Bytes> {
        let longest = match self.world.rng.below(4) {
            0 => 3 + bytes.len() / 20,
            1 => 40 + bytes.len() / 20,
            _ => usize::MAX,
        };
        let mut out = Vec::new();
        while !bytes.is_empty() {
            let len = if longest == usize::MAX { bytes.len() } else { 1 + self.world.rng.below(longest) };
            out.push(bytes.split_to(len.min(bytes.len())));
        }
        out
    }

    fn arrives(&mut self, wire: WireId, side: usize) {
        let held =
            self.world.wires[wire.0].towards(side).is_some_and(|way| self.world.cuts.get(&way) == Some(&Cut::Hold));
        let end = &mut self.world.wires[wire.0].ends[side];
        if end.dead {
            // Lost bytes are never acknowledged, so the socket buffer stays as full as it is.
            end.arriving.clear();
            return;
        }
        if held || end.stops_reading || end.phase == Phase::Opening {
            return;
        }
        let join = !self.world.rng.one_in(3);
        let mut bytes = BytesMut::new();
        let mut ended = false;
        while end.arriving.front().is_some_and(|(at, _)| *at <= self.world.now) {
            match end.arriving.pop_front() {
                Some((_, Piece::Bytes(piece))) => bytes.extend_from_slice(&piece),
                Some((_, Piece::End)) => ended = true,
                None => break,
            }
            if !join {
                break;
            }
        }
        if end.arriving.front().is_some_and(|(at, _)| *at <= self.world.now) {
            self.plan(Duration::ZERO, SimEvent::Arrives(wire, side));
        }
        let end = &mut self.world.wires[wire.0].ends[side];
        end.ended |= ended;
        end.unread -= bytes.len();
        if self.has_room(wire, side) && std::mem::take(&mut self.world.wires[wire.0].ends[1 - side].blocked) {
            self.plan(Duration::ZERO, SimEvent::Flushes(wire, 1 - side));
        }
        let end = &mut self.world.wires[wire.0].ends[side];
        let Owner::Node(run) = end.owner else {
            end.inbox.extend_from_slice(&bytes);
            return;
        };
        let Some(conn) = end.conn else { return };
        if let Some(stream) = self.world.hosts[run.host].streams.get_mut(&conn) {
            stream.read.extend_from_slice(&bytes);
            stream.ended |= ended;
            self.world.activity += 1;
            return;
        }
        // After a close, bytes that were read earlier sometimes still reach the node through its embedder.
        let late = end.phase == Phase::Closed;
        if !bytes.is_empty() && (!late || self.world.rng.one_in(2)) {
            self.give(run.host, Input::Received { conn, chunk: bytes.freeze() });
        }
        if ended && (!late || self.world.rng.one_in(2)) {
            self.world.wires[wire.0].ends[side].phase = Phase::Closed;
            // The node handles due timers before the input, so it may still send on this connection. Nobody receives
            // that.
            self.give(run.host, Input::Closed { conn });
            self.world.hosts[run.host].conns.remove(&conn);
            self.world.hosts[run.host].in_flight.remove(&conn);
        }
    }

    /// Whether the socket buffer towards this end has room.
    fn has_room(&self, wire: WireId, side: usize) -> bool {
        self.world.wires[wire.0].ends[side].unread <= self.world.settings.socket_buffer
    }

    fn flushes(&mut self, wire: WireId, side: usize) {
        if !self.has_room(wire, 1 - side) {
            self.world.wires[wire.0].ends[side].blocked = true;
            self.watch.counts("send waits for room in the socket buffer");
            return;
        }
        let end = &self.world.wires[wire.0].ends[side];
        let (Owner::Node(run), Some(conn)) = (end.owner, end.conn) else { return };
        let host = &mut self.world.hosts[run.host];
        if host.in_flight.remove(&conn) {
            self.give(run.host, Input::Flushed { conn });
        }
    }

    /// Gives a node one input.
    pub(super) fn give(&mut self, ix: NodeIx, input: Input) {
        let host = &self.world.hosts[ix];
        if host.formation.is_none() {
            return;
        }
        let local = host.clock.local(self.world.now);
        self.watch.receives(&self.world, ix, local, &input);
        let Some(formation) = &mut self.world.hosts[ix].formation else { return };
        if let Err(misuse) = formation.handle_input(local, input) {
            self.fail(&format!("node {ix}: {misuse}"));
        }
        self.drain(ix);
    }

    /// Carries out all outputs of a node, and has them checked.
    pub(super) fn drain(&mut self, ix: NodeIx) {
        while let Some(output) = self.world.hosts[ix].formation.as_mut().and_then(|f| f.poll_output()) {
            if let Err(why) = self.watch.gives(&self.world, ix, &output) {
                self.fail(&why);
            }
            match output {
                Output::Dial { dial, addr, timeout } => self.dials(ix, dial, &addr, timeout),
                Output::Send { conn, bytes } => self.sends(ix, conn, bytes),
                Output::Close { conn, reason } => self.closes(ix, conn, reason),
                Output::Handoff { conn, stream, peer, name, unread } => {
                    let read = BytesMut::from(&unread[..]);
                    let stream = Stream { stream, peer, name, read, ended: false };
                    self.hands_off(ix, conn, stream);
                }
                Output::StreamFailed { stream, failure } => {
                    self.world.activity += 1;
                    self.world.hosts[ix].failed_streams.push((stream, failure));
                }
                Output::Persist { seq, state } => self.persists(ix, seq, state),
                Output::Event(event) => {
                    self.world.activity += 1;
                    if let Event::BetterMaster { .. } = &event
                        && self.world.settings.hands_over
                    {
                        self.plan(END_OF_WORK, SimEvent::HandsOver(self.run_id(ix)));
                    }
                    self.world.hosts[ix].events.push((self.world.now, event));
                }
            }
        }
        if let Err(why) = self.watch.settles(&self.world, ix) {
            self.fail(&why);
        }
        self.rearm(ix);
    }

    fn sends(&mut self, ix: NodeIx, conn: ConnId, bytes: Bytes) {
        let host = &mut self.world.hosts[ix];
        host.bytes_sent += bytes.len() as u64;
        let Some((wire, side)) = host.conns.get(&conn).copied() else {
            self.fail(&format!("node {ix} sends on {conn}, which is not open"));
        };
        if !host.in_flight.insert(conn) {
            self.fail(&format!("node {ix} has two sends in flight on {conn}"));
        }
        self.transmit(wire, side, Piece::Bytes(bytes));
        let flush = self.world.rng.within(self.world.settings.flush);
        self.plan(flush, SimEvent::Flushes(wire, side));
    }

    fn closes(&mut self, ix: NodeIx, conn: ConnId, reason: CloseReason) {
        let host = &mut self.world.hosts[ix];
        let Some((wire, side)) = host.conns.remove(&conn) else {
            self.fail(&format!("node {ix} closes {conn}, which is not open"));
        };
        host.closes.push((conn, reason));
        let end = &mut self.world.wires[wire.0].ends[side];
        end.reason = Some(reason);
        end.phase = Phase::Closed;
        self.world.activity += 1;
        self.transmit(wire, side, Piece::End);
    }

    fn persists(&mut self, ix: NodeIx, seq: u64, state: HardState) {
        if self.world.hosts[ix].persisting.replace((seq, state)).is_some() {
            self.fail(&format!("E4: node {ix} has two persists in flight"));
        }
        let delay = self.world.rng.within(self.world.settings.persist);
        let run = self.run_id(ix);
        self.plan(delay, SimEvent::Persists(run, seq));
        if delay > SLOW_DISK {
            self.plan(SLOW_DISK, SimEvent::PersistIsSlow(run, seq));
        }
    }

    fn dials(&mut self, ix: NodeIx, dial: DialId, addr: &Address, timeout: Duration) {
        let run = self.run_id(ix);
        let target = self.world.names.get(addr).copied();
        let wire = self.wire(Owner::Node(run), Some(dial));
        if self.world.hosts[ix].dials.insert(dial, wire).is_some() {
            self.fail(&format!("node {ix} uses {dial:?} twice"));
        }
        // The time limit is on the node's own clock.
        let clock = self.world.hosts[ix].clock;
        self.plan_at(clock.reaches(clock.local(self.world.now) + timeout), SimEvent::DialFails(run, dial));
        let latency = Duration::from_micros(self.world.wires[wire.0].latency);
        match target {
            Some(target) => self.plan(latency, SimEvent::DialArrives(wire, target)),
            None => self.refuse(wire, 2 * latency),
        }
    }

    /// Sets the node's timer to its next deadline.
    fn rearm(&mut self, ix: NodeIx) {
        let run = self.run_id(ix);
        let host = &mut self.world.hosts[ix];
        let Some(due) = host.formation.as_ref().and_then(|f| f.next_deadline()) else { return };
        if host.armed == Some(due) {
            return;
        }
        host.armed = Some(due);
        let local = host.clock.local(self.world.now);
        if due > local {
            host.idle_ticks = 0;
        } else {
            host.idle_ticks += 1;
            if host.idle_ticks > 10_000 {
                self.fail(&format!("node {ix}: the deadline {due:?} stays due after many ticks"));
            }
        }
        let late = self.world.rng.within(self.world.settings.tick_late).as_micros() as u64;
        let at = self.world.hosts[ix].clock.reaches(due) + late;
        self.plan_at(at, SimEvent::Tick(run, due));
    }
}
