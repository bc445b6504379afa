//! The simulation loop: takes one event after the other, and applies it to the network and its nodes.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use formation_core::{
    Bootstrap, Change, Command, DialProblem, Event, Formation, Input, Origin, Output, Phase as NodePhase, Remote,
    RemovalReason,
    message::{Message, Role, StatusReport},
};

use super::{Cut, Net, SimEvent, Target};
use crate::{
    checks::{check_join_only, check_limits, check_stop, forms_cluster, vote_not_durable},
    digest,
    host::{self, Host, NodeIx, RunId},
    peer,
    wire::{Owner, Phase, Piece, WireId},
};

/// How long a service needs to end its work as the master.
const END_OF_WORK: Duration = Duration::from_millis(20);
/// How long a disk may take before its host reports it.
const SLOW_DISK: Duration = Duration::from_millis(50);

impl Net {
    pub(super) fn plan(&mut self, delay: Duration, event: SimEvent) {
        self.plan_at(self.now + delay.as_micros() as u64, event);
    }

    fn plan_at(&mut self, at: u64, event: SimEvent) {
        self.sequence += 1;
        self.queue.insert((at.max(self.now), self.sequence), event);
    }

    /// Handles the next event, unless it is due after `until`.
    pub(super) fn step(&mut self, until: u64) -> bool {
        let Some(((at, _), _)) = self.queue.first_key_value() else { return false };
        if *at > until {
            return false;
        }
        let ((at, _), event) = self.queue.pop_first().expect("the queue is not empty");
        self.now = at;
        let receiver = match &event {
            SimEvent::Start(_) | SimEvent::DialArrives(..) => None,
            SimEvent::Tick(run, _)
            | SimEvent::DialFails(run, _)
            | SimEvent::Persists(run, _)
            | SimEvent::PersistIsSlow(run, _)
            | SimEvent::HandsOver(run) => Some(*run),
            SimEvent::Opens(wire, side) | SimEvent::Arrives(wire, side) | SimEvent::Flushes(wire, side) => {
                match self.wires[wire.0].ends[*side].owner {
                    Owner::Node(run) => Some(run),
                    Owner::Test => None,
                }
            }
        };
        if let Some(run) = receiver {
            if !self.runs(run) {
                return true;
            }
            let paused = self.hosts[run.host].paused_until;
            if paused > self.now {
                self.plan_at(paused, event);
                return true;
            }
        }
        self.handle(event);
        true
    }

    fn runs(&self, run: RunId) -> bool {
        let host = &self.hosts[run.host];
        host.generation == run.generation && host.formation.is_some()
    }

    fn handle(&mut self, event: SimEvent) {
        match event {
            // The test may already have started it.
            SimEvent::Start(ix) if self.hosts[ix].formation.is_some() => {}
            SimEvent::Start(ix) => self.start(ix),
            SimEvent::Tick(run, due) => {
                let host = &mut self.hosts[run.host];
                if host.armed == Some(due) {
                    host.armed = None;
                    self.give(run.host, Input::Tick);
                    self.rearm(run.host);
                }
            }
            SimEvent::DialArrives(wire, target) => self.dial_arrives(wire, target),
            SimEvent::Opens(wire, side) => self.opens(wire, side),
            SimEvent::DialFails(run, dial) => {
                if let Some(wire) = self.hosts[run.host].dials.remove(&dial) {
                    self.wires[wire.0].ends[0].phase = Phase::Closed;
                    self.transmit(wire, 0, Piece::End);
                    self.give(run.host, Input::DialFailed { dial, problem: DialProblem::Refused });
                }
            }
            SimEvent::Arrives(wire, side) => self.arrives(wire, side),
            SimEvent::Flushes(wire, side) => self.flushes(wire, side),
            SimEvent::HandsOver(run) => self.command(run.host, Command::Resign),
            SimEvent::PersistIsSlow(run, seq) => {
                if self.hosts[run.host].persisting.as_ref().is_some_and(|(in_flight, _)| *in_flight == seq) {
                    self.tally.count("persist delayed");
                    self.give(run.host, Input::PersistDelayed { seq });
                }
            }
            SimEvent::Persists(run, seq) => {
                let host = &mut self.hosts[run.host];
                let (expected, state) = host.persisting.take().expect("one persist is in flight");
                assert_eq!(expected, seq);
                if host.disk_fails {
                    // A failed write may have reached the disk or not.
                    if self.rng.one_in(2) {
                        host.disk = state;
                    }
                    host.persist_failed = true;
                    self.tally.count("persist failed");
                    return self.give(run.host, Input::PersistFailed { seq });
                }
                host.disk = state.clone();
                host.durable = state;
                self.give(run.host, Input::Persisted { seq });
            }
        }
    }

    /// A dial arrives at the target of its address.
    fn dial_arrives(&mut self, wire: WireId, target: Target) {
        let latency = Duration::from_micros(self.wires[wire.0].latency);
        if self.wires[wire.0].ends[0].phase == Phase::Closed || self.wires[wire.0].ends[1].dead {
            return;
        }
        match target {
            Target::Nowhere => {}
            Target::Test => {
                self.wires[wire.0].ends[1].phase = Phase::Open;
                self.accepted.push(wire);
                self.plan(latency, SimEvent::Opens(wire, 0));
            }
            Target::Node(ix) => {
                self.wires[wire.0].ends[1].owner = Owner::Node(self.run_id(ix));
                let is_cut = |side| self.wires[wire.0].towards(side).is_some_and(|way| self.cuts.contains_key(&way));
                if is_cut(0) || is_cut(1) {
                    self.waiting_dials.push((wire, target));
                } else if self.hosts[ix].formation.is_some() {
                    // Because of the backlog, the node may accept before or after the dialing node sees the connection.
                    let accept = self.rng.within(self.settings.jitter);
                    self.plan(accept, SimEvent::Opens(wire, 1));
                    if self.wires[wire.0].ends[0].phase == Phase::Opening {
                        self.plan(latency, SimEvent::Opens(wire, 0));
                    }
                } else if !self.hosts[ix].vanished {
                    self.refuse(wire, latency);
                }
            }
        }
    }

    fn refuse(&mut self, wire: WireId, after: Duration) {
        let end = &mut self.wires[wire.0].ends[0];
        end.ended = true;
        if let (Owner::Node(run), Some(dial)) = (end.owner, self.wires[wire.0].dial) {
            self.plan(after, SimEvent::DialFails(run, dial));
        }
    }

    fn opens(&mut self, wire: WireId, side: usize) {
        let Owner::Node(run) = self.wires[wire.0].ends[side].owner else {
            self.wires[wire.0].ends[side].phase = Phase::Open;
            return;
        };
        if self.wires[wire.0].ends[side].phase != Phase::Opening {
            return;
        }
        let origin = if side == 0 {
            let dial = self.wires[wire.0].dial.expect("a node's own connection has a dial");
            if self.hosts[run.host].dials.remove(&dial).is_none() {
                return;
            }
            Origin::Dialed(dial)
        } else {
            Origin::Accepted
        };
        let host = &mut self.hosts[run.host];
        let conn = formation_core::ConnId(host.next_conn);
        host.next_conn += 1;
        host.conns.insert(conn, (wire, side));
        let end = &mut self.wires[wire.0].ends[side];
        end.phase = Phase::Open;
        end.conn = Some(conn);
        if !end.arriving.is_empty() {
            self.plan(Duration::ZERO, SimEvent::Arrives(wire, side));
        }
        let remote = match self.wires[wire.0].ends[1 - side].owner {
            Owner::Node(peer) => {
                let address = self.settings.certified.then(|| self.hosts[peer.host].config.address().clone());
                Remote { certified: address.into_iter().collect(), ..Remote::at((host::ip(peer.host), 1)) }
            }
            Owner::Test => Remote { addr: self.settings.test_ip.map(|ip| (ip, 1).into()), ..Remote::default() },
        };
        self.give(run.host, Input::Opened { conn, origin, remote });
    }

    /// Sends bytes, or the end of the stream, to the other end.
    pub(super) fn transmit(&mut self, wire: WireId, from: usize, piece: Piece) {
        let to = 1 - from;
        if let (Piece::Bytes(bytes), true) = (&piece, self.settings.eavesdrop) {
            let first_bytes = &mut self.wires[wire.0].ends[from].first_bytes;
            if first_bytes.len() < 1_024 {
                first_bytes.extend_from_slice(bytes);
            }
        }
        let pieces = match piece {
            Piece::Bytes(bytes) if self.settings.segment => {
                self.segments(bytes).into_iter().map(Piece::Bytes).collect()
            }
            whole => vec![whole],
        };
        for piece in pieces {
            let jitter = self.rng.within(self.settings.jitter).as_micros() as u64;
            let late = match self.wires[wire.0].ends[from].owner {
                Owner::Node(run) => self.slow.get(&run.host).copied().unwrap_or_default(),
                Owner::Test => 0,
            };
            let end = &self.wires[wire.0].ends[to];
            let at = (self.now + self.wires[wire.0].latency + jitter + late).max(end.not_before);
            let end = &mut self.wires[wire.0].ends[to];
            end.not_before = at;
            if let Piece::Bytes(bytes) = &piece {
                end.unread += bytes.len();
            }
            end.arriving.push_back((at, piece));
            self.plan_at(at, SimEvent::Arrives(wire, to));
        }
    }

    fn segments(&mut self, mut bytes: Bytes) -> Vec<Bytes> {
        let longest = match self.rng.below(4) {
            0 => 3 + bytes.len() / 20,
            1 => 40 + bytes.len() / 20,
            _ => usize::MAX,
        };
        let mut out = Vec::new();
        while !bytes.is_empty() {
            let len = if longest == usize::MAX { bytes.len() } else { 1 + self.rng.below(longest) };
            out.push(bytes.split_to(len.min(bytes.len())));
        }
        out
    }

    fn arrives(&mut self, wire: WireId, side: usize) {
        let held = self.wires[wire.0].towards(side).is_some_and(|way| self.cuts.get(&way) == Some(&Cut::Hold));
        let end = &mut self.wires[wire.0].ends[side];
        if end.dead {
            // Lost bytes are never acknowledged, so the socket buffer stays as full as it is.
            end.arriving.clear();
            return;
        }
        if held || end.stops_reading || end.phase == Phase::Opening {
            return;
        }
        let join = !self.rng.one_in(3);
        let mut bytes = BytesMut::new();
        let mut ended = false;
        while end.arriving.front().is_some_and(|(at, _)| *at <= self.now) {
            match end.arriving.pop_front() {
                Some((_, Piece::Bytes(piece))) => bytes.extend_from_slice(&piece),
                Some((_, Piece::End)) => ended = true,
                None => break,
            }
            if !join {
                break;
            }
        }
        if end.arriving.front().is_some_and(|(at, _)| *at <= self.now) {
            self.plan(Duration::ZERO, SimEvent::Arrives(wire, side));
        }
        let end = &mut self.wires[wire.0].ends[side];
        end.ended |= ended;
        end.unread -= bytes.len();
        if self.has_room(wire, side) && std::mem::take(&mut self.wires[wire.0].ends[1 - side].blocked) {
            self.plan(Duration::ZERO, SimEvent::Flushes(wire, 1 - side));
        }
        let end = &mut self.wires[wire.0].ends[side];
        let Owner::Node(run) = end.owner else {
            end.inbox.extend_from_slice(&bytes);
            return;
        };
        let Some(conn) = end.conn else { return };
        // After a close, bytes that were read earlier sometimes still reach the node through its embedder.
        let late = end.phase == Phase::Closed;
        if !bytes.is_empty() && (!late || self.rng.one_in(2)) {
            self.give(run.host, Input::Received { conn, chunk: bytes.freeze() });
        }
        if ended && (!late || self.rng.one_in(2)) {
            self.wires[wire.0].ends[side].phase = Phase::Closed;
            // The node handles due timers before the input, so it may still send on this connection. Nobody receives
            // that.
            self.give(run.host, Input::Closed { conn });
            self.hosts[run.host].conns.remove(&conn);
            self.hosts[run.host].in_flight.remove(&conn);
        }
    }

    /// Whether the socket buffer towards this end has room.
    fn has_room(&self, wire: WireId, side: usize) -> bool {
        self.wires[wire.0].ends[side].unread <= self.settings.socket_buffer
    }

    fn flushes(&mut self, wire: WireId, side: usize) {
        if !self.has_room(wire, 1 - side) {
            self.wires[wire.0].ends[side].blocked = true;
            self.tally.count("send waits for room in the socket buffer");
            return;
        }
        let end = &self.wires[wire.0].ends[side];
        let (Owner::Node(run), Some(conn)) = (end.owner, end.conn) else { return };
        let host = &mut self.hosts[run.host];
        if host.in_flight.remove(&conn) {
            self.give(run.host, Input::Flushed { conn });
        }
    }

    /// Gives a node one input.
    pub(super) fn give(&mut self, ix: NodeIx, input: Input) {
        let host = &mut self.hosts[ix];
        let Some(formation) = &mut host.formation else { return };
        let local = host.clock.local(self.now);
        if host.wakes_at.take_if(|at| *at <= local).is_some() {
            host.just_awake = local + host.config.timing().down_after;
            if formation.leadership(local).is_some() {
                self.tally.count("master wakes with a valid lease");
            } else if formation.status().phase == NodePhase::Master {
                self.tally.count("master wakes without a valid lease");
            }
        }
        self.trace.input(self.now, ix, &input);
        if let Some(run) = host.runs.last_mut().filter(|_| self.settings.record) {
            run.inputs.push((local, input.clone()));
        }
        if let Err(misuse) = formation.handle_input(local, input) {
            self.fail(&format!("node {ix}: {misuse}"));
        }
        self.drain(ix);
    }

    /// Carries out all outputs of a node, and checks them.
    pub(super) fn drain(&mut self, ix: NodeIx) {
        let (mut changed, mut new_links) = (false, 0);
        while let Some(output) = self.hosts[ix].formation.as_mut().and_then(|f| f.poll_output()) {
            self.trace.output(self.now, ix, &output);
            digest::output(self.now, ix, &output);
            let host = &mut self.hosts[ix];
            if let Some(run) = host.runs.last_mut().filter(|_| self.settings.record) {
                run.outputs.push(output.clone());
            }
            if let Err(why) = check_stop(&mut host.stopped, &output) {
                self.fail(&format!("node {ix}: {why}"));
            }
            let host = &mut self.hosts[ix];
            match output {
                Output::Dial { dial, addr, timeout } => self.dials(ix, dial, &addr, timeout),
                Output::Send { conn, bytes } => {
                    host.bytes_sent += bytes.len() as u64;
                    let messages = peer::messages(&mut BytesMut::from(&bytes[..]));
                    for message in &messages {
                        self.tally.message_sent(ix, message);
                        if let Message::Status(StatusReport { term, role, .. }) = message {
                            host.solo_status = match role {
                                Role::Solo { members } => Some((*members, *term)),
                                _ => None,
                            };
                        }
                        if host.persist_failed && matches!(message, Message::HeartbeatAck(ack) if ack.confirms) {
                            self.tally.count("heartbeat confirmed without storage");
                        }
                        if host.config.bootstrap() == Bootstrap::JoinOnly && !host.has_joined {
                            if forms_cluster(message) {
                                self.fail(&format!("JoinOnly: node {ix} has never joined, but sends {message:?}"));
                            }
                            if matches!(message, Message::Vote(_)) {
                                self.tally.count("join-only node refused its vote before it joined");
                            }
                        }
                        if let Some(why) = vote_not_durable(message, &host.durable) {
                            self.fail(&format!("E4: node {ix} {why}"));
                        }
                    }
                    let fits = bytes.len() <= host.config.limits().send && !bytes.is_empty();
                    let newest = messages.iter().map(Message::since).max();
                    let Some((wire, side)) = host.conns.get(&conn).copied() else {
                        self.fail(&format!("node {ix} sends on {conn}, which is not open"));
                    };
                    if let Owner::Node(to) = self.wires[wire.0].ends[1 - side].owner
                        && newest > Some(self.hosts[to.host].config.protocol().max)
                    {
                        self.fail(&format!("node {ix} sends a message that node {} cannot decode", to.host));
                    }
                    let host = &mut self.hosts[ix];
                    if !host.in_flight.insert(conn) {
                        self.fail(&format!("node {ix} has two sends in flight on {conn}"));
                    }
                    self.expect(fits, "G7: a Send is empty or exceeds Limits::send");
                    self.transmit(wire, side, Piece::Bytes(bytes));
                    let flush = self.rng.within(self.settings.flush);
                    self.plan(flush, SimEvent::Flushes(wire, side));
                }
                Output::Close { conn, reason } => {
                    let Some((wire, side)) = host.conns.remove(&conn) else {
                        self.fail(&format!("node {ix} closes {conn}, which is not open"));
                    };
                    host.closes.push((conn, reason));
                    self.tally.connection_closed(reason);
                    if let Some(why) = self.split_by_key(wire, reason) {
                        self.fail(&why);
                    }
                    let end = &mut self.wires[wire.0].ends[side];
                    end.reason = Some(reason);
                    end.phase = Phase::Closed;
                    self.activity += 1;
                    self.transmit(wire, side, Piece::End);
                }
                Output::Persist { seq, state } => {
                    if host.persisting.replace((seq, state)).is_some() {
                        self.fail(&format!("E4: node {ix} has two persists in flight"));
                    }
                    let delay = self.rng.within(self.settings.persist);
                    let run = self.run_id(ix);
                    self.plan(delay, SimEvent::Persists(run, seq));
                    if delay > SLOW_DISK {
                        self.plan(SLOW_DISK, SimEvent::PersistIsSlow(run, seq));
                    }
                }
                Output::Event(event) => {
                    self.activity += 1;
                    self.tally.event(&event);
                    self.follow_sides(ix, &event);
                    let host = &mut self.hosts[ix];
                    if let Event::MasterElected { master, .. } = &event
                        && master.id != *host.config.id()
                        && !std::mem::replace(&mut host.has_joined, true)
                        && host.config.bootstrap() == Bootstrap::JoinOnly
                    {
                        self.tally.count("join-only node has joined");
                    }
                    new_links += usize::from(matches!(event, Event::Linked { .. }));
                    if let Event::BetterMaster { .. } = &event
                        && self.settings.hands_over
                    {
                        self.plan(END_OF_WORK, SimEvent::HandsOver(self.run_id(ix)));
                    }
                    let host = &mut self.hosts[ix];
                    if let Event::SelfDial { address, .. } = &event {
                        host.found_itself.insert(address.clone());
                    }
                    if let Event::TermWentBack { to, .. } = &event {
                        let has_honest_voters = self.settings.votes_last && !self.settings.views_of_others;
                        let keeps = has_honest_voters && host.config.solo_after().is_none();
                        host.mirror.went_back(*to);
                        if keeps {
                            self.fail(&format!("E7: node {ix} went back, although the voters keep their votes"));
                        }
                    }
                    let host = &mut self.hosts[ix];
                    if let Event::ViewChanged { view_id, changes } = &event {
                        changed = true;
                        let formation = host.formation.as_ref().expect("it runs");
                        let compare = self.settings.compare_views;
                        if let Err(why) = host.mirror.changed(formation.node(), (*view_id, changes), compare) {
                            self.fail(&why);
                        }
                        let has_paused = host.clock.local(self.now) < host.just_awake;
                        let writes = formation.status().phase == NodePhase::Master;
                        let down =
                            |change: &Change| matches!(change, Change::Remove { reason: RemovalReason::Down, .. });
                        if has_paused && writes && changes.iter().any(down) {
                            self.fail(&format!("V4: node {ix} has paused, and marks others as down"));
                        }
                    }
                    self.hosts[ix].events.push((self.now, event));
                }
            }
        }
        self.check(ix, changed, new_links);
        self.rearm(ix);
    }

    fn check(&mut self, ix: NodeIx, changed: bool, new_links: usize) {
        let run = self.run_id(ix);
        let is_comparable = !self.settings.views_of_others
            || self.hosts[ix].formation.as_ref().is_some_and(|node| has_honest_master(&self.hosts, node));
        let host = &mut self.hosts[ix];
        let Some(formation) = &host.formation else { return };
        let checks = self.checks.entry(host.config.electorate()).or_default();
        let compare = self.settings.compare_views;
        let mut found = Ok(());
        // E8 gives up G1 and G2 for solo masters, so their leases do not count.
        let phase = formation.status().phase;
        if let Some(leadership) = formation.leadership(host.clock.local(self.now)).filter(|_| phase != NodePhase::Solo)
        {
            let who = (run, formation.node(), host.clock);
            found =
                checks.leads(self.now, who, leadership, (self.settings.votes_last, self.settings.leases_never_overlap));
        }
        found = found.and_then(|()| checks.stands(run, (&host.config, formation), (host.persist_failed, new_links)));
        found = found.and_then(|()| check_join_only(&host.config, formation, host.has_joined));
        found = found.and_then(|()| check_limits(&host.config, formation, host.conns.len()));
        let late = host.clock.local(self.now.saturating_sub(self.settings.tick_late.1.as_micros() as u64));
        if formation.status().phase == NodePhase::Leaving
            && host.left_by.is_some_and(|by| by < late)
            && self.now > host.paused_until
        {
            found = Err(format!("L4: {} has not left within down_after", formation.node()));
        }
        if matches!(phase, NodePhase::Master | NodePhase::Solo)
            && formation.leadership(host.clock.local(self.now)).is_none()
        {
            found = Err(format!("E6: {} has not stepped down, although its lease has expired", formation.node()));
        }
        if changed || formation.view().id() != host.mirror.view_id() {
            let (node, view) = (formation.node(), formation.view());
            let master = formation.status().master.map(|(master, _)| master);
            found = found.and_then(|()| host.mirror.agrees((node, view), master.as_ref(), compare));
            if compare && self.settings.votes_last && host.config.solo_after().is_none() && is_comparable {
                found = found.and_then(|()| checks.holds(node, view));
            }
        }
        found = found.and_then(|()| host.mirror.reported_all(formation.node()));
        if let Err(why) = found {
            self.fail(&why);
        }
    }

    fn dials(&mut self, ix: NodeIx, dial: formation_core::DialId, addr: &formation_core::Address, timeout: Duration) {
        let run = self.run_id(ix);
        let target = self.names.get(addr).copied();
        match self.redirected.get(addr) {
            Some(original) if *original != target && target.is_none() => {
                self.tally.count("dial of a name that does not resolve");
            }
            Some(original) if *original != target => self.tally.count("dial of a redirected name"),
            _ => {}
        }
        if target.is_some_and(|target| target != Target::Node(ix)) && self.hosts[ix].found_itself.remove(addr) {
            self.tally.count("dial of a name that led to the node itself before");
        }
        let wire = self.wire(Owner::Node(run), Some(dial));
        if self.hosts[ix].dials.insert(dial, wire).is_some() {
            self.fail(&format!("node {ix} uses {dial:?} twice"));
        }
        // The time limit is on the node's own clock.
        let clock = self.hosts[ix].clock;
        self.plan_at(clock.reaches(clock.local(self.now) + timeout), SimEvent::DialFails(run, dial));
        let latency = Duration::from_micros(self.wires[wire.0].latency);
        match target {
            Some(target) => self.plan(latency, SimEvent::DialArrives(wire, target)),
            None => self.refuse(wire, 2 * latency),
        }
    }

    /// Sets the node's timer to its next deadline.
    fn rearm(&mut self, ix: NodeIx) {
        let run = self.run_id(ix);
        let host = &mut self.hosts[ix];
        let Some(due) = host.formation.as_ref().and_then(|f| f.next_deadline()) else { return };
        if host.armed == Some(due) {
            return;
        }
        host.armed = Some(due);
        let local = host.clock.local(self.now);
        if due > local {
            host.idle_ticks = 0;
        } else {
            host.idle_ticks += 1;
            if host.idle_ticks > 10_000 {
                self.fail(&format!("node {ix}: the deadline {due:?} stays due after many ticks"));
            }
        }
        let late = self.rng.within(self.settings.tick_late).as_micros() as u64;
        let at = self.hosts[ix].clock.reaches(due) + late;
        self.plan_at(at, SimEvent::Tick(run, due));
    }
}

/// Whether the master of a node is one of these hosts.
fn has_honest_master(hosts: &[Host], formation: &Formation) -> bool {
    let master = formation.status().master.map(|(master, _)| master);
    hosts.iter().filter_map(|host| host.formation.as_ref()).any(|other| Some(other.node()) == master.as_ref())
}
