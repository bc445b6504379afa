//! How the network moves: one happening after the other, and what each does to the node that it hits.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use formation_core::{
    Bootstrap, Change, Event, Formation, Input, LossReason, Origin, Output, Phase as NodePhase, RemovalReason,
    message::{Message, Role, StatusReport},
};

use super::{Cut, Happening, Net, Target};
use crate::{
    checks::{forms, only_joins, says_too_early, stays_in_bounds},
    digest,
    host::{NodeIx, RunId},
    peer::messages,
    wire::{Owner, Phase, Piece, WireId},
};

impl Net {
    pub(super) fn plan(&mut self, delay: Duration, what: Happening) {
        self.plan_at(self.now + delay.as_micros() as u64, what);
    }

    fn plan_at(&mut self, at: u64, what: Happening) {
        self.sequence += 1;
        self.queue.insert((at.max(self.now), self.sequence), what);
    }

    /// Lets the next thing happen, unless that would be after `until`.
    pub(super) fn step(&mut self, until: u64) -> bool {
        let Some(((at, _), _)) = self.queue.first_key_value() else { return false };
        if *at > until {
            return false;
        }
        let ((at, _), what) = self.queue.pop_first().expect("the queue is not empty");
        self.now = at;
        let hit = match &what {
            Happening::Start(_) | Happening::Knocks(..) => None,
            Happening::Tick(run, _) | Happening::DialFails(run, _) | Happening::Persists(run, _) => Some(*run),
            Happening::Opens(wire, side) | Happening::Arrives(wire, side) | Happening::Flushes(wire, side) => {
                match self.wires[wire.0].ends[*side].owner {
                    Owner::Node(run) => Some(run),
                    Owner::Test => None,
                }
            }
        };
        if let Some(run) = hit {
            if !self.runs(run) {
                return true;
            }
            let paused = self.hosts[run.host].paused_until;
            if paused > self.now {
                self.plan_at(paused, what);
                return true;
            }
        }
        self.happen(what);
        true
    }

    fn runs(&self, run: RunId) -> bool {
        let host = &self.hosts[run.host];
        host.generation == run.generation && host.formation.is_some()
    }

    fn happen(&mut self, what: Happening) {
        match what {
            // Somebody may have been quicker.
            Happening::Start(ix) if self.hosts[ix].formation.is_some() => {}
            Happening::Start(ix) => self.start(ix),
            Happening::Tick(run, due) => {
                let host = &mut self.hosts[run.host];
                if host.armed == Some(due) {
                    host.armed = None;
                    self.give(run.host, Input::Tick);
                    self.rearm(run.host);
                }
            }
            Happening::Knocks(wire, target) => self.knocks(wire, target),
            Happening::Opens(wire, side) => self.opens(wire, side),
            Happening::DialFails(run, dial) => {
                if let Some(wire) = self.hosts[run.host].dials.remove(&dial) {
                    self.wires[wire.0].ends[0].phase = Phase::Closed;
                    self.transmit(wire, 0, Piece::End);
                    self.give(run.host, Input::DialFailed { dial });
                }
            }
            Happening::Arrives(wire, side) => self.arrives(wire, side),
            Happening::Flushes(wire, side) => self.flushes(wire, side),
            Happening::Persists(run, seq) => {
                let host = &mut self.hosts[run.host];
                let (wanted, state) = host.persisting.take().expect("one persist is in flight");
                assert_eq!(wanted, seq);
                if host.disk_fails {
                    // What the disk has taken all the same, nobody can say.
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

    /// A dial reaches what its address leads to.
    fn knocks(&mut self, wire: WireId, target: Target) {
        let latency = Duration::from_micros(self.wires[wire.0].latency);
        if self.wires[wire.0].ends[0].phase == Phase::Closed || self.wires[wire.0].ends[1].dead {
            return;
        }
        match target {
            Target::Nowhere => {}
            Target::Test => {
                self.wires[wire.0].ends[1].phase = Phase::Open;
                self.accepted.push(wire);
                self.plan(latency, Happening::Opens(wire, 0));
            }
            Target::Node(ix) => {
                self.wires[wire.0].ends[1].owner = Owner::Node(self.run_id(ix));
                let is_cut = |side| self.wires[wire.0].towards(side).is_some_and(|way| self.cuts.contains_key(&way));
                if is_cut(0) || is_cut(1) {
                    self.held.push((wire, target));
                } else if self.hosts[ix].formation.is_some() {
                    // A backlog accepts later than the dialer knows, or sooner.
                    let accept = self.rng.within(self.settings.jitter);
                    self.plan(accept, Happening::Opens(wire, 1));
                    if self.wires[wire.0].ends[0].phase == Phase::Opening {
                        self.plan(latency, Happening::Opens(wire, 0));
                    }
                } else if !self.hosts[ix].gone {
                    self.refuse(wire, latency);
                }
            }
        }
    }

    fn refuse(&mut self, wire: WireId, after: Duration) {
        let end = &mut self.wires[wire.0].ends[0];
        end.ended = true;
        if let (Owner::Node(run), Some(dial)) = (end.owner, self.wires[wire.0].dial) {
            self.plan(after, Happening::DialFails(run, dial));
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
            self.plan(Duration::ZERO, Happening::Arrives(wire, side));
        }
        self.give(run.host, Input::Opened { conn, origin });
    }

    /// Puts something on its way to the other end.
    pub(super) fn transmit(&mut self, wire: WireId, from: usize, piece: Piece) {
        let to = 1 - from;
        if let (Piece::Bytes(bytes), true) = (&piece, self.settings.eavesdrop) {
            let spoken = &mut self.wires[wire.0].ends[from].spoken;
            if spoken.len() < 1_024 {
                spoken.extend_from_slice(bytes);
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
            self.plan_at(at, Happening::Arrives(wire, to));
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
            // What was sent is never acknowledged: the sender's buffer stays as full as it is.
            end.arriving.clear();
            return;
        }
        if held || end.deaf || end.phase == Phase::Opening {
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
            self.plan(Duration::ZERO, Happening::Arrives(wire, side));
        }
        let end = &mut self.wires[wire.0].ends[side];
        end.ended |= ended;
        end.unread -= bytes.len();
        if self.has_room(wire, side) && std::mem::take(&mut self.wires[wire.0].ends[1 - side].blocked) {
            self.plan(Duration::ZERO, Happening::Flushes(wire, 1 - side));
        }
        let end = &mut self.wires[wire.0].ends[side];
        let Owner::Node(run) = end.owner else {
            end.inbox.extend_from_slice(&bytes);
            return;
        };
        let Some(conn) = end.conn else { return };
        // After a close, what was read before is sometimes still on its way through the host.
        let late = end.phase == Phase::Closed;
        if !bytes.is_empty() && (!late || self.rng.one_in(2)) {
            self.give(run.host, Input::Received { conn, chunk: bytes.freeze() });
        }
        if ended && (!late || self.rng.one_in(2)) {
            self.wires[wire.0].ends[side].phase = Phase::Closed;
            // What is due by now comes before the input, so the node may still speak on it: nobody hears that.
            self.give(run.host, Input::Closed { conn });
            self.hosts[run.host].conns.remove(&conn);
            self.hosts[run.host].in_flight.remove(&conn);
        }
    }

    /// Whether what lies on its way to this end leaves room for more.
    fn has_room(&self, wire: WireId, side: usize) -> bool {
        self.wires[wire.0].ends[side].unread <= self.settings.socket_buffer
    }

    fn flushes(&mut self, wire: WireId, side: usize) {
        if !self.has_room(wire, 1 - side) {
            self.wires[wire.0].ends[side].blocked = true;
            self.tally.count("sender waits for room");
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
                self.tally.count("master awake with its lease");
            } else if formation.status().phase == NodePhase::Master {
                self.tally.count("master awake without");
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

    /// Does all that a node wants, and checks what it claims.
    pub(super) fn drain(&mut self, ix: NodeIx) {
        let mut changed = false;
        while let Some(output) = self.hosts[ix].formation.as_mut().and_then(|f| f.poll_output()) {
            self.trace.output(self.now, ix, &output);
            digest::output(self.now, ix, &output);
            let host = &mut self.hosts[ix];
            if let Some(run) = host.runs.last_mut().filter(|_| self.settings.record) {
                run.outputs.push(output.clone());
            }
            match output {
                Output::Dial { dial, addr, timeout } => self.dials(ix, dial, &addr, timeout),
                Output::Send { conn, bytes } => {
                    host.bytes_sent += bytes.len() as u64;
                    let said = messages(&mut BytesMut::from(&bytes[..]));
                    for message in &said {
                        self.tally.said(ix, message);
                        if let Message::Status(StatusReport { term, role, .. }) = message {
                            host.solo_said = match role {
                                Role::Solo { members } => Some((*members, *term)),
                                _ => None,
                            };
                        }
                        if host.persist_failed && matches!(message, Message::HeartbeatAck(ack) if ack.confirms) {
                            self.tally.count("lease confirmed without a disk");
                        }
                        if host.config.bootstrap() == Bootstrap::JoinOnly && !host.has_joined {
                            if forms(message) {
                                self.fail(&format!("JoinOnly: node {ix} has never joined, and says {message:?}"));
                            }
                            if matches!(message, Message::Vote(_)) {
                                self.tally.count("a node that only joins refused its vote before");
                            }
                        }
                        if let Some(why) = says_too_early(message, &host.durable) {
                            self.fail(&format!("E4: node {ix} {why}"));
                        }
                    }
                    let fits = bytes.len() <= host.config.limits().send && !bytes.is_empty();
                    let newest = said.iter().map(Message::since).max();
                    let Some((wire, side)) = host.conns.get(&conn).copied() else {
                        self.fail(&format!("node {ix} sends on {conn}, which is not open"));
                    };
                    if let Owner::Node(to) = self.wires[wire.0].ends[1 - side].owner
                        && newest > Some(self.hosts[to.host].config.protocol().max)
                    {
                        self.fail(&format!("node {} is told something that it cannot read by node {ix}", to.host));
                    }
                    let host = &mut self.hosts[ix];
                    if !host.in_flight.insert(conn) {
                        self.fail(&format!("node {ix} has two sends in flight on {conn}"));
                    }
                    self.expect(fits, "G7: a Send of more than Limits::send, or of nothing");
                    self.transmit(wire, side, Piece::Bytes(bytes));
                    let flush = self.rng.within(self.settings.flush);
                    self.plan(flush, Happening::Flushes(wire, side));
                }
                Output::Close { conn, reason } => {
                    let Some((wire, side)) = host.conns.remove(&conn) else {
                        self.fail(&format!("node {ix} closes {conn}, which is not open"));
                    };
                    host.closes.push((conn, reason));
                    self.tally.closed(reason);
                    if let Some(why) = self.parted_by_key(wire, reason) {
                        self.fail(&why);
                    }
                    let end = &mut self.wires[wire.0].ends[side];
                    end.reason = Some(reason);
                    end.phase = Phase::Closed;
                    self.news += 1;
                    self.transmit(wire, side, Piece::End);
                }
                Output::Persist { seq, state } => {
                    if host.persisting.replace((seq, state)).is_some() {
                        self.fail(&format!("E4: node {ix} has two persists in flight"));
                    }
                    let delay = self.rng.within(self.settings.persist);
                    let run = self.run_id(ix);
                    self.plan(delay, Happening::Persists(run, seq));
                }
                Output::Event(event) => {
                    self.news += 1;
                    self.tally.told(&event);
                    self.follow_sides(ix, &event);
                    let host = &mut self.hosts[ix];
                    if let Event::MasterElected { master, .. } = &event
                        && master.id != *host.config.id()
                        && !std::mem::replace(&mut host.has_joined, true)
                        && host.config.bootstrap() == Bootstrap::JoinOnly
                    {
                        self.tally.count("a node that only joins has joined");
                    }
                    if let Event::SelfDial { address, .. } = &event {
                        host.found_itself.insert(address.clone());
                    }
                    if let Event::ViewChanged { view_id, changes } = &event {
                        changed = true;
                        let formation = host.formation.as_ref().expect("it runs");
                        let compare = self.settings.compare_views;
                        if let Err(why) = host.mirror.changed(formation.node(), (*view_id, changes), compare) {
                            self.fail(&why);
                        }
                        let slept = host.clock.local(self.now) < host.just_awake;
                        let writes = formation.status().phase == NodePhase::Master;
                        let down =
                            |change: &Change| matches!(change, Change::Remove { reason: RemovalReason::Down, .. });
                        if slept && writes && changes.iter().any(down) {
                            self.fail(&format!("sick: node {ix} has slept, and takes others for down"));
                        }
                    }
                    self.hosts[ix].events.push((self.now, event));
                }
            }
        }
        self.check(ix, changed);
        self.rearm(ix);
    }

    /// E8: who has changed sides says so.
    fn follow_sides(&mut self, ix: NodeIx, event: &Event) {
        let Some(formation) = &self.hosts[ix].formation else { return };
        let (node, master) = (formation.node().clone(), formation.status().master.map(|(master, _)| master));
        match event {
            Event::MasterLost { term, reason: LossReason::GaveWay, .. } => {
                self.tally_merge(ix);
                for (other, host) in self.hosts.iter_mut().enumerate() {
                    let follows = |f: &Formation| f.status().master.is_some_and(|(master, _)| master == node);
                    if other == ix || host.formation.as_ref().is_some_and(follows) {
                        host.mirror.leaves(&node, *term);
                    }
                }
            }
            Event::ViewChanged { view_id, .. } => {
                self.hosts[ix].mirror.expects_merged(&node, master.as_ref(), *view_id);
            }
            Event::Merged { from, to } => {
                if let Err(why) = self.hosts[ix].mirror.merged(&node, *from, *to) {
                    self.fail(&why);
                }
            }
            _ => {}
        }
    }

    /// Why a solo master has given way, as far as it can be seen from outside.
    fn tally_merge(&mut self, ix: NodeIx) {
        let quorums = self.masters().into_iter().any(|(master, _)| self.status(master).phase == NodePhase::Master);
        let Some((members, term)) = self.hosts[ix].solo_said else { return };
        let others: Vec<_> =
            (0..self.hosts.len()).filter(|other| *other != ix && self.hosts[*other].formation.is_some()).collect();
        let said: Vec<_> = others.into_iter().filter_map(|other| self.hosts[other].solo_said).collect();
        let what = if quorums {
            "gave way to a quorum"
        } else if said.iter().any(|other| other.0 > members) {
            "gave way to more members"
        } else if said.iter().any(|other| *other > (members, term)) {
            "gave way to a higher term"
        } else if said.contains(&(members, term)) {
            "gave way to a lower id"
        } else {
            return;
        };
        self.tally.count(what);
    }

    fn check(&mut self, ix: NodeIx, changed: bool) {
        let run = self.run_id(ix);
        let host = &self.hosts[ix];
        let Some(formation) = &host.formation else { return };
        let checks = self.checks.entry(host.config.electorate()).or_default();
        let compare = self.settings.compare_views;
        let mut found = Ok(());
        // What a solo master claims is no breach of G1 or G2: that is what E8 gives up, and nothing more.
        let phase = formation.status().phase;
        if let Some(leadership) = formation.leadership(host.clock.local(self.now)).filter(|_| phase != NodePhase::Solo)
        {
            let who = (run, formation.node(), host.clock);
            found = checks.leads(self.now, who, leadership, self.settings.votes_last);
        }
        found = found.and_then(|()| checks.stands(run, (&host.config, formation), host.persist_failed));
        found = found.and_then(|()| only_joins(&host.config, formation, host.has_joined));
        found = found.and_then(|()| stays_in_bounds(&host.config, formation, host.conns.len()));
        found = found.and_then(|()| host.mirror.said_all(formation.node()));
        let late = host.clock.local(self.now.saturating_sub(self.settings.tick_late.1.as_micros() as u64));
        if formation.status().phase == NodePhase::Leaving
            && host.left_by.is_some_and(|by| by < late)
            && self.now > host.paused_until
        {
            found = Err(format!("leaving: {} has not left within down_after", formation.node()));
        }
        if matches!(phase, NodePhase::Master | NodePhase::Solo)
            && formation.leadership(host.clock.local(self.now)).is_none()
        {
            found = Err(format!("E6: {} has not stepped down, though its lease has lapsed", formation.node()));
        }
        if changed {
            let (node, view) = (formation.node(), formation.view());
            found = found.and_then(|()| host.mirror.agrees(node, view, compare));
            if compare && self.settings.votes_last && host.config.solo_after().is_none() {
                found = found.and_then(|()| checks.holds(node, view));
            }
        }
        if let Err(why) = found {
            self.fail(&why);
        }
    }

    fn dials(&mut self, ix: NodeIx, dial: formation_core::DialId, addr: &formation_core::Address, timeout: Duration) {
        let run = self.run_id(ix);
        let target = self.names.get(addr).copied();
        match self.astray.get(addr) {
            Some(should) if *should != target && target.is_none() => self.tally.count("dial of a name that is gone"),
            Some(should) if *should != target => self.tally.count("dial led astray"),
            _ => {}
        }
        if target.is_some_and(|target| target != Target::Node(ix)) && self.hosts[ix].found_itself.remove(addr) {
            self.tally.count("dial of a name that led to the node itself");
        }
        let wire = self.wire(Owner::Node(run), Some(dial));
        if self.hosts[ix].dials.insert(dial, wire).is_some() {
            self.fail(&format!("node {ix} uses {dial:?} twice"));
        }
        // The time limit is on the node's own clock.
        let clock = self.hosts[ix].clock;
        self.plan_at(clock.reaches(clock.local(self.now) + timeout), Happening::DialFails(run, dial));
        let latency = Duration::from_micros(self.wires[wire.0].latency);
        match target {
            Some(target) => self.plan(latency, Happening::Knocks(wire, target)),
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
                self.fail(&format!("node {ix}: its deadline {due:?} stays due"));
            }
        }
        let late = self.rng.within(self.settings.tick_late).as_micros() as u64;
        let at = self.hosts[ix].clock.reaches(due) + late;
        self.plan_at(at, Happening::Tick(run, due));
    }
}
