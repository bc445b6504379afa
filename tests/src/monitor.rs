//! Every check of the guarantees at every step of a simulated run, and the records of the run.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use bytes::{Bytes, BytesMut};
use formation_core::{
    Address, Bootstrap, Change, CloseReason, Command, ConnId, ElectorateDigest, ElectorateVersion, Event, Formation,
    HardState, Input, Output, Phase, RejectReason, RemovalReason, Start, Term, Timestamp,
    message::{Message, Role, StatusReport},
};
use formation_testing::sim::engine::{self, NodeIx, RunId, Target, WireId, World};

use crate::{
    checks::{Checks, Mirror, check_join_only, check_limits, check_stop, forms_cluster, vote_not_durable},
    digest, electorates, peer,
    replay::Run,
    settings::Settings,
    tally::Tally,
    trace::Trace,
};

/// How many bytes are kept of each connection for an intruder.
const OVERHEARD: usize = 1_024;

/// What is known about one node beside its host.
#[derive(Default)]
pub(crate) struct Known {
    /// All runs, including the current one, if they are recorded.
    pub(crate) runs: Vec<Run>,
    /// The stage of a rolling change of key on this node; `None` without a key.
    pub(crate) key_stage: Option<u64>,
    /// The electorate by which the node has acted last.
    electorate: ElectorateVersion,
    /// The node has joined a master, in this run or, according to its disk, in an earlier one.
    has_joined: bool,
    pub(crate) run: KnownRun,
}

/// What is known about the current run of a node.
#[derive(Default)]
pub(crate) struct KnownRun {
    /// The state that this run knows to be durable.
    durable: HardState,
    /// This run has received a `PersistFailed`.
    persist_failed: bool,
    /// The node's time at the end of a pause that is long enough for the node to notice; cleared at the first input
    /// after that.
    wakes_at: Option<Timestamp>,
    /// Until this time the node may mark nobody as down, because it has paused.
    just_awake: Timestamp,
    /// The addresses that led this run to itself, and that it has not dialed elsewhere since.
    found_itself: BTreeSet<Address>,
    /// This run has reported `Stopped`.
    stopped: bool,
    /// The time by which the node must have left.
    left_by: Option<Timestamp>,
    pub(crate) mirror: Mirror,
    /// The number of members and the term in the last status that the node sent, if that was the status of a solo
    /// master.
    pub(crate) solo_status: Option<(u32, Term)>,
    /// A view was reported since the last check.
    changed: bool,
    /// The number of new links since the last check.
    new_links: usize,
}

/// Checks and records a network.
pub struct Monitor {
    pub(crate) settings: Settings,
    pub(crate) nodes: BTreeMap<NodeIx, Known>,
    /// The checks of each cluster. Each electorate is its own cluster.
    checks: BTreeMap<ElectorateDigest, Checks>,
    pub(crate) trace: Trace,
    /// The counts of what happened in this run.
    pub tally: Tally,
    /// The first bytes of the dialing end of each connection, if they are recorded.
    pub(crate) first_bytes: BTreeMap<WireId, BytesMut>,
}

impl Monitor {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            nodes: BTreeMap::new(),
            checks: BTreeMap::new(),
            trace: Trace::default(),
            tally: Tally::default(),
            first_bytes: BTreeMap::new(),
        }
    }

    pub(crate) fn node(&mut self, ix: NodeIx) -> &mut Known {
        self.nodes.entry(ix).or_default()
    }

    pub(crate) fn checks_of(&mut self, electorate: ElectorateDigest) -> &mut Checks {
        self.checks.entry(electorate).or_default()
    }

    fn sends(&mut self, world: &World, ix: NodeIx, conn: ConnId, bytes: &Bytes) -> Result<(), String> {
        let host = world.host(ix);
        let messages = peer::messages(&mut BytesMut::from(&bytes[..]));
        for message in &messages {
            self.tally.message_sent(ix, message);
            let known = self.nodes.entry(ix).or_default();
            if let Message::Status(StatusReport { term, role, .. }) = message {
                known.run.solo_status = match role {
                    Role::Solo { members } => Some((*members, *term)),
                    _ => None,
                };
            }
            if known.run.persist_failed && matches!(message, Message::HeartbeatAck(ack) if ack.confirms) {
                self.tally.count("heartbeat confirmed without storage");
            }
            if host.config.bootstrap() == Bootstrap::JoinOnly && !known.has_joined {
                if forms_cluster(message) {
                    return Err(format!("JoinOnly: node {ix} has never joined, but sends {message:?}"));
                }
                if matches!(message, Message::Vote(_)) {
                    self.tally.count("join-only node refused its vote before it joined");
                }
            }
            if let Some(why) = vote_not_durable(message, &known.run.durable) {
                return Err(format!("E4: node {ix} {why}"));
            }
        }
        if bytes.len() > host.config.limits().send || bytes.is_empty() {
            return Err("G7: a Send is empty or exceeds Limits::send".into());
        }
        let newest = messages.iter().map(Message::since).max();
        let peer = host.conns.get(&conn).and_then(|(wire, side)| world.towards(*wire, 1 - side));
        let own = electorates::version(&host.disk);
        let electorates = &mut self.checks.entry(host.config.electorate()).or_default().electorates;
        for message in &messages {
            match (message, peer) {
                (Message::VoteRequest(it), Some((_, to))) => {
                    let held = electorates::version(&world.host(to).disk);
                    electorates.asks((ix, to), (it.term, it.number), (it.electorate, held));
                }
                (Message::Vote(it), Some((_, to))) => {
                    electorates.answers((to, ix), (it.term, it.number), (it.granted, own), &mut self.tally)?;
                }
                _ => {}
            }
        }
        if let Some((_, to)) = peer
            && newest > Some(world.host(to).config.protocol().max)
        {
            return Err(format!("node {ix} sends a message that node {to} cannot decode"));
        }
        Ok(())
    }

    fn closes(&mut self, world: &World, ix: NodeIx, conn: ConnId, reason: CloseReason) -> Result<(), String> {
        self.tally.connection_closed(reason);
        let ends = world.host(ix).conns.get(&conn).and_then(|(wire, _)| world.towards(*wire, 0));
        match ends.and_then(|ends| split_by_key(world, ends, reason)) {
            Some(why) => Err(why),
            None => Ok(()),
        }
    }

    fn dials(&mut self, world: &World, ix: NodeIx, addr: &Address) {
        let target = world.target(addr);
        match world.redirected(addr) {
            Some(original) if original != target && target.is_none() => {
                self.tally.count("dial of a name that does not resolve");
            }
            Some(original) if original != target => self.tally.count("dial of a redirected name"),
            _ => {}
        }
        if target.is_some_and(|target| target != Target::Node(ix)) && self.node(ix).run.found_itself.remove(addr) {
            self.tally.count("dial of a name that led to the node itself before");
        }
    }

    fn reports(&mut self, world: &World, ix: NodeIx, event: &Event) -> Result<(), String> {
        self.tally.event(event);
        self.follow_sides(world, ix, event)?;
        let host = world.host(ix);
        let known = self.nodes.entry(ix).or_default();
        match event {
            Event::MasterElected { master, .. } if master.id != *host.config.id() => {
                let had_joined = std::mem::replace(&mut known.has_joined, true);
                if !had_joined && host.config.bootstrap() == Bootstrap::JoinOnly {
                    self.tally.count("join-only node has joined");
                }
            }
            Event::Linked { .. } => known.run.new_links += 1,
            Event::VotersChosen { voters, away } => {
                let formation = host.formation.as_ref().expect("it runs");
                let mut removed = formation.electorate().voters.difference(voters);
                if let Some(voter) = removed.find(|voter| !away.contains(*voter)) {
                    return Err(format!("E10: node {ix} removes the voter {voter} by itself, which is not lost"));
                }
                self.tally.count("voters chosen by a master");
                self.checks_of(host.config.electorate()).electorates.wants(voters);
            }
            Event::SelfDial { address, .. } => {
                known.run.found_itself.insert(address.clone());
            }
            Event::TermWentBack { to, .. } => {
                known.run.mirror.went_back(*to);
                let has_honest_voters = self.settings.votes_last && !self.settings.views_of_others;
                // E10: a voter that was removed may be ahead of the others.
                let voters_have_changed = host
                    .formation
                    .as_ref()
                    .is_some_and(|formation| formation.electorate().version > ElectorateVersion::default());
                if has_honest_voters && host.config.solo_after().is_none() && !voters_have_changed {
                    return Err(format!("E7: node {ix} went back, although the voters keep their votes"));
                }
            }
            Event::ViewChanged { view_id, changes } => {
                known.run.changed = true;
                let formation = host.formation.as_ref().expect("it runs");
                let compare = self.settings.compare_views;
                known.run.mirror.changed(formation.node(), (*view_id, changes), compare)?;
                let has_paused = now(world, ix) < known.run.just_awake;
                let writes = formation.status().phase == Phase::Master;
                let down = |change: &Change| matches!(change, Change::Remove { reason: RemovalReason::Down, .. });
                if has_paused && writes && changes.iter().any(down) {
                    return Err(format!("V4: node {ix} has paused, and marks others as down"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl engine::Watch for Monitor {
    fn counts(&mut self, what: &'static str) {
        self.tally.count(what);
    }

    fn notes(&mut self, world: &World, ix: NodeIx, note: fmt::Arguments<'_>) {
        self.trace.note(micros(world), ix, note.to_string());
    }

    fn starts(&mut self, world: &World, ix: NodeIx, last: RunId, start: &Start, at: Timestamp) {
        // G2: a lease ends with its process. From the start of the next run on, another node may lead (E1), even before the
        // end that the last run has reported. Until then, that lease counts.
        self.checks_of(world.host(ix).config.electorate()).ended(last);
        let host = world.host(ix);
        let known = self.nodes.entry(ix).or_default();
        known.has_joined &= host.disk.joined;
        known.electorate = electorates::version(&host.disk);
        known.run = KnownRun { durable: host.disk.clone(), ..KnownRun::default() };
        if self.settings.record {
            let (config, start) = (host.config.clone(), start.clone());
            known.runs.push(Run { config, start, at, inputs: Vec::new(), outputs: Vec::new() });
        }
    }

    fn pauses(&mut self, world: &World, ix: NodeIx) {
        let host = world.host(ix);
        let (from, until) = (now(world, ix), host.clock.local(host.paused_until));
        self.node(ix).run.wakes_at = (until.since(from) > host.config.timing().suspect_after).then_some(until);
    }

    fn receives(&mut self, world: &World, ix: NodeIx, local: Timestamp, input: &Input) {
        let host = world.host(ix);
        let Some(formation) = &host.formation else { return };
        let known = self.nodes.entry(ix).or_default();
        match input {
            Input::PersistDelayed { .. } => self.tally.count("persist delayed"),
            Input::PersistFailed { .. } => {
                known.run.persist_failed = true;
                self.tally.count("persist failed");
            }
            Input::Persisted { .. } => known.run.durable = host.disk.clone(),
            _ => {}
        }
        if known.run.wakes_at.take_if(|at| *at <= local).is_some() {
            known.run.just_awake = local + host.config.timing().down_after;
            if formation.leadership(local).is_some() {
                self.tally.count("master wakes with a valid lease");
            } else if formation.status().phase == Phase::Master {
                self.tally.count("master wakes without a valid lease");
            }
        }
        self.trace.input(micros(world), ix, input);
        if let Some(run) = known.runs.last_mut().filter(|_| self.settings.record) {
            run.inputs.push((local, input.clone()));
        }
    }

    fn gives(&mut self, world: &World, ix: NodeIx, output: &Output) -> Result<(), String> {
        self.trace.output(micros(world), ix, output);
        digest::output(micros(world), ix, output);
        let known = self.nodes.entry(ix).or_default();
        if let Some(run) = known.runs.last_mut().filter(|_| self.settings.record) {
            run.outputs.push(output.clone());
        }
        check_stop(&mut known.run.stopped, output).map_err(|why| format!("node {ix}: {why}"))?;
        match output {
            Output::Dial { addr, .. } => self.dials(world, ix, addr),
            Output::Send { conn, bytes } => self.sends(world, ix, *conn, bytes)?,
            Output::Close { conn, reason } => self.closes(world, ix, *conn, *reason)?,
            Output::Persist { .. } | Output::Handoff { .. } | Output::StreamFailed { .. } => {}
            Output::Event(event) => self.reports(world, ix, event)?,
        }
        Ok(())
    }

    fn settles(&mut self, world: &World, ix: NodeIx) -> Result<(), String> {
        let known = self.nodes.entry(ix).or_default();
        let changed = std::mem::take(&mut known.run.changed);
        let new_links = std::mem::take(&mut known.run.new_links);
        let host = world.host(ix);
        let Some(formation) = &host.formation else { return Ok(()) };
        let is_comparable = !self.settings.views_of_others || has_honest_master(world, formation);
        let run = world.run_id(ix);
        let checks = self.checks.entry(host.config.electorate()).or_default();
        let compare = self.settings.compare_views;
        // E8 gives up G1 and G2 for solo masters, so their leases do not count.
        let phase = formation.status().phase;
        let leadership = formation.leadership(now(world, ix));
        if let Some(leadership) = leadership.filter(|_| phase != Phase::Solo) {
            let who = (run, formation.node(), host.clock);
            let wanted = (self.settings.votes_last, self.settings.leases_never_overlap);
            checks.leads(micros(world), who, leadership, wanted)?;
        }
        checks.stands(run, formation, (known.run.persist_failed, new_links))?;
        let electorate = formation.electorate().version;
        let last = std::mem::replace(&mut known.electorate, electorate);
        if last != electorate {
            checks.electorates.acts(world, (&host.config, formation), last, &mut self.tally)?;
        }
        check_join_only(&host.config, formation, known.has_joined)?;
        check_limits(&host.config, formation, host.conns.len())?;
        let late = world.now().saturating_sub(world.settings.tick_late.1);
        let late = host.clock.local(late.as_micros() as u64);
        if phase == Phase::Leaving && known.run.left_by.is_some_and(|by| by < late) && micros(world) > host.paused_until
        {
            return Err(format!("L4: {} has not left within down_after", formation.node()));
        }
        if matches!(phase, Phase::Master | Phase::Solo) && leadership.is_none() {
            return Err(format!("E6: {} has not stepped down, although its lease has expired", formation.node()));
        }
        let mirror = &mut known.run.mirror;
        if changed || formation.view().id() != mirror.view_id() {
            let (node, view) = (formation.node(), formation.view());
            let master = formation.status().master.map(|(master, _)| master);
            mirror.agrees((node, view), master.as_ref(), compare)?;
            if compare && self.settings.votes_last && host.config.solo_after().is_none() && is_comparable {
                checks.holds(node, view)?;
            }
        }
        mirror.reported_all(formation.node())
    }

    fn commanded(&mut self, world: &World, ix: NodeIx, command: &Command) {
        let ends_mastership = matches!(command, Command::Leave | Command::Resign);
        let host = world.host(ix);
        if *command == Command::Leave {
            let by = now(world, ix) + host.config.timing().down_after;
            self.node(ix).run.left_by.get_or_insert(by);
        }
        if let Command::SetVoters(voters) = command {
            self.checks_of(world.host(ix).config.electorate()).electorates.wants(voters);
        }
        let leads = |formation: &Formation| formation.leadership(now(world, ix)).is_some();
        if ends_mastership && host.formation.as_ref().is_some_and(|formation| !leads(formation)) {
            self.checks_of(world.host(ix).config.electorate()).ended(world.run_id(ix));
        }
    }

    fn carries(&mut self, wire: WireId, from: usize, bytes: &Bytes) {
        if self.settings.eavesdrop && from == 0 {
            let first_bytes = self.first_bytes.entry(wire).or_default();
            if first_bytes.len() < OVERHEARD {
                first_bytes.extend_from_slice(bytes);
            }
        }
    }
}

fn micros(world: &World) -> u64 {
    world.now().as_micros() as u64
}

/// The time of a node's clock.
fn now(world: &World, ix: NodeIx) -> Timestamp {
    world.host(ix).clock.local(micros(world))
}

/// Whether the master of a node is one of the hosts.
fn has_honest_master(world: &World, formation: &Formation) -> bool {
    let master = formation.status().master.map(|(master, _)| master);
    let nodes = (0..world.len()).filter_map(|ix| world.host(ix).formation.as_ref());
    nodes.into_iter().any(|other| Some(other.node()) == master.as_ref())
}

/// Describes a rejection for the key between two nodes that have a key in common, which must never happen.
fn split_by_key(world: &World, (a, b): (NodeIx, NodeIx), reason: CloseReason) -> Option<String> {
    let (CloseReason::Rejected(why) | CloseReason::RejectedByPeer(why)) = reason else { return None };
    let (a, b) = (&world.host(a).config, &world.host(b).config);
    let is_wrong = matches!(why, RejectReason::KeyMismatch | RejectReason::BadProof)
        && (a.keys().is_empty() && b.keys().is_empty() || a.keys().iter().any(|key| b.keys().contains(key)));
    is_wrong.then(|| format!("key: {} and {} have a key in common, but one rejects the other: {why}", a.id(), b.id()))
}
