//! A whole run as plain data: the network, the faults with their times, and the checks at the end.

use std::{cmp::Reverse, collections::BTreeSet, panic, time::Duration};

use formation_core::{
    Autopilot, Bootstrap, Config, Detector, Event, Limits, NodeId, Phase, PhiAccrual, Timing, message::ProtocolRange,
};

use formation_testing::sim::engine::smallest;

use crate::{
    Crash, NetSettings, NodeIx, Rng,
    changes::has_one_electorate,
    digest,
    fault::{Fault, Pace},
    hostile::Attack,
    net::Net,
    number,
    settings::Settings,
    tally::Tally,
};

const SECOND: Duration = Duration::from_secs(1);

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A run that can be repeated, as a whole or in part.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The seed of the network, from which delays and chunks are drawn.
    pub seed: u64,
    /// The number of voters.
    pub voters: usize,
    /// The number of nodes that are not voters.
    pub others: usize,
    /// The settings of the network.
    pub settings: Settings,
    /// Whether the nodes hold a cluster key.
    pub keyed: bool,
    /// The node with `Bootstrap::JoinOnly`, if any. The other voters are still a quorum.
    pub joins_only: Option<NodeIx>,
    /// The priority of each voter. A voter without one has the default.
    pub priorities: Vec<u8>,
    /// The start time of each node.
    pub starts: Vec<Duration>,
    /// `solo_after` of all nodes (E8), if configured.
    pub solo: Option<Duration>,
    /// How many voters the nodes keep by themselves (E10), if they do.
    pub kept_voters: Option<usize>,
    /// The nodes that stay down at the end.
    pub absent: BTreeSet<NodeIx>,
    /// The faults, each with the time to wait before it.
    pub faults: Vec<(Duration, Fault)>,
    /// The hostile peer, if there is one.
    pub attack: Option<Attack>,
    /// The voters change (E10). In the end, these are the voters: bit 0 stands for node 0, and so on. All others die for good.
    pub last_voters: Option<u16>,
}

/// The failure of a scenario.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The check that failed. It starts with the name of the guarantee or the rule, if there is one.
    pub why: String,
    /// The latest events before the failure.
    pub report: String,
}

impl Failure {
    /// Whether both failures are of the same kind. Another kind is a different fault.
    fn is_like(&self, other: &Self) -> bool {
        let kind = |failure: &Self| failure.why.split([':', ' ']).next().map(String::from);
        kind(self) == kind(other)
    }
}

impl Scenario {
    /// The scenario of a seed. With `forget`, voters that die lose their votes. `FORMATION_SIM_NODES` sets the number
    /// of voters.
    pub fn draw(seed: u64, forget: bool) -> Self {
        Self::draw_with(seed, forget, 0)
    }

    /// The same with so many more nodes that are no voters.
    pub(crate) fn draw_with(seed: u64, forget: bool, more_others: usize) -> Self {
        let mut rng = Rng::new(seed);
        let voters = [3, 5, 2, 4, 3, 7, 1, 3][rng.below(8)];
        let voters = number("FORMATION_SIM_NODES").map_or(voters, |nodes| (nodes as usize).max(1));
        let others = rng.below(3) + more_others;
        let nodes = voters + others;
        let settings = Settings { votes_last: !forget, ..draw_settings(&mut rng) };
        let spread = [Duration::ZERO, ms(50), SECOND, 5 * SECOND][rng.below(4)];
        let starts = (0..nodes).map(|_| rng.within((Duration::ZERO, spread))).collect();
        // One scenario in eight has no fault.
        let count = if rng.one_in(8) { 0 } else { 1 + rng.below(20) };
        let fault = |rng: &mut Rng| {
            let longest = if rng.one_in(2) { ms(200) } else { 2 * SECOND };
            (rng.within((Duration::ZERO, longest)), Fault::draw(rng, nodes, forget))
        };
        let mut faults: Vec<_> = (0..count).map(|_| fault(&mut rng)).collect();
        // From their own generator, so that these numbers do not shift the others.
        let mut more = Rng::new(!seed);
        if count > 0 && more.one_in(3) {
            for _ in 0..1 + more.below(4) {
                let fault = (more.within((Duration::ZERO, SECOND)), Fault::draw_more(&mut more, nodes, voters));
                faults.insert(more.below(faults.len() + 1), fault);
            }
        }
        if let Some((wait, _)) = faults.first_mut() {
            *wait = rng.within((Duration::ZERO, 5 * SECOND));
        }
        // Drawn last, so that everything else is the same with a key and without.
        let keyed = rng.one_in(3);
        if keyed && !faults.is_empty() {
            for _ in 0..rng.below(8) {
                let wait = rng.within((Duration::ZERO, ms(200)));
                faults.insert(rng.below(faults.len() + 1), (wait, Fault::draw_keyed(&mut rng, nodes)));
            }
        }
        // From their own generator too, in one scenario of eleven.
        let mut lies = Rng::new(seed ^ 0x11a2);
        if seed % 11 == 4 && !faults.is_empty() {
            for _ in 0..1 + lies.below(2) {
                let wait = lies.within((Duration::ZERO, SECOND));
                faults.insert(lies.below(faults.len() + 1), (wait, Fault::Liar(lies.below(voters))));
            }
        }
        // Likewise, in about one scenario of nine. G2 needs the disks then, and no node may have two votes.
        let mut times = Rng::new(seed ^ 0x71e5);
        if seed % 9 == 7 && seed % 11 != 4 && !faults.is_empty() && !forget {
            for _ in 0..1 + times.below(5) {
                let wait = times.within((Duration::ZERO, SECOND));
                faults.insert(times.below(faults.len() + 1), (wait, Fault::draw_times(&mut times, voters)));
            }
        }
        let settings = Settings { eavesdrop: keyed, ..settings };
        let (solo, kept_voters, absent) = (None, None, BTreeSet::new());
        let joins_only = draw_joins_only(seed, voters, others);
        let priorities = draw_priorities(seed, voters);
        let attack = None;
        let last_voters = None;
        Self {
            seed,
            voters,
            others,
            settings,
            keyed,
            joins_only,
            priorities,
            starts,
            solo,
            kept_voters,
            absent,
            faults,
            attack,
            last_voters,
        }
    }

    /// The scenario of a seed in which voters continue without a quorum (E8). It has long partitions. In every other
    /// scenario, a majority of the voters does not come back.
    pub fn draw_solo(seed: u64) -> Self {
        let mut scenario = Self::draw(seed, false);
        let mut rng = Rng::new(seed ^ 0x5010);
        if scenario.voters == 1 {
            scenario.voters = 4;
            scenario.starts.resize(scenario.voters + scenario.others, Duration::ZERO);
        }
        let nodes = scenario.voters + scenario.others;
        let after = rng.within((3 * SECOND, 5 * SECOND));
        scenario.solo = Some(after);
        for _ in 0..2 + rng.below(8) {
            let longest = if rng.one_in(3) { SECOND } else { after + 4 * SECOND };
            let wait = rng.within((Duration::ZERO, longest));
            let at = rng.below(scenario.faults.len() + 1);
            scenario.faults.insert(at, (wait, Fault::draw_partition(&mut rng, nodes)));
        }
        // At least one voter stays, but fewer than a quorum.
        if rng.one_in(2) {
            let stay = 1 + rng.below((scenario.voters / 2).max(1));
            // The remaining voters have to continue alone, and a join-only voter does not.
            scenario.joins_only = None;
            while scenario.voters - scenario.absent.len() > stay {
                scenario.absent.insert(rng.below(scenario.voters));
            }
        }
        scenario
    }

    /// Runs the scenario with every check at every step, and checks at the end that the nodes agree.
    ///
    /// # Panics
    /// If a check fails. The message has the smallest part of the scenario that still fails in the same way, and the
    /// latest events of that run.
    pub fn check(&self) -> Tally {
        match self.play() {
            Ok(tally) => tally,
            Err(failure) => {
                let (smaller, failure) = self.shrink(failure);
                panic!("{}", smaller.explain(&failure));
            }
        }
    }

    /// Runs the scenario and returns what happened.
    ///
    /// # Errors
    /// Returns the check that failed.
    pub fn play(&self) -> Result<Tally, Failure> {
        let mut net = self.net();
        net.catches_failures = true;
        match panic::catch_unwind(panic::AssertUnwindSafe(|| self.run(&mut net))) {
            Ok(()) => {
                (0..net.len()).filter_map(|ix| net.host(ix).formation.as_ref()).for_each(digest::last_state);
                Ok(std::mem::take(&mut net.watch.tally))
            }
            Err(payload) => {
                let text = payload.downcast_ref::<String>().cloned();
                let why = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).into()));
                Err(Failure { why: why.unwrap_or_else(|| "a panic".into()), report: net.report() })
            }
        }
    }

    /// An empty network for [`run`](Self::run).
    pub fn net(&self) -> Net {
        Net::new(self.seed, self.settings.clone())
    }

    /// Runs the scenario in this network.
    ///
    /// # Panics
    /// If a check fails.
    pub fn run(&self, net: &mut Net) {
        for ix in 0..self.voters + self.others {
            net.add(self.config(ix));
            if self.keyed {
                net.set_keys(ix, Some(0));
            }
        }
        for (ix, at) in self.starts.iter().enumerate() {
            net.start_in(ix, *at);
        }
        if let Some(attack) = &self.attack {
            return self.run_attack(net, attack);
        }
        for (wait, fault) in &self.faults {
            net.run_for(*wait);
            fault.apply(net);
        }
        self.check_convergence(net);
        if self.faults.is_empty() {
            self.check_undisturbed(net);
        }
        if let Some(last) = self.last_voters {
            self.check_last_voters(net, last);
        }
    }

    /// In one scenario of four, all nodes use the φ accrual detector. In one of five, every other node also supports
    /// the next protocol version.
    fn config(&self, ix: usize) -> Config {
        let detector = match self.seed % 4 {
            3 => Detector::PhiAccrual(PhiAccrual::default()),
            _ => Detector::Deadlines,
        };
        let protocol = ProtocolRange { min: 1, max: if self.seed % 5 == 4 && ix % 2 == 1 { 2 } else { 1 } };
        let builder = Net::builder(ix, self.voters).detector(detector).protocol(protocol);
        let builder = builder.limits(self.limits());
        let builder = match self.joins_only {
            Some(joins) if joins == ix => builder.bootstrap(Bootstrap::JoinOnly),
            _ => builder,
        };
        let builder = builder.priority(self.priorities.get(ix).copied().unwrap_or_default());
        let builder = match self.solo {
            Some(after) => builder.solo_after(after),
            None => builder,
        };
        let builder = match self.kept_voters {
            Some(voters) => builder.autopilot(Autopilot::keep(voters).with_replace_after(5 * SECOND)),
            None => builder,
        };
        let builder = match &self.attack {
            Some(attack) => attack.configure(builder),
            None => builder,
        };
        builder.build().expect("a valid configuration")
    }

    /// In one scenario of six, the limits leave just enough room for a formed cluster, and not always enough before. In
    /// one of five, most changes of the view wait for a heartbeat. In one of seven, suspicions wait for each other.
    fn limits(&self) -> Limits {
        let updates_at_once = if self.seed % 5 == 2 { self.seed / 5 % 8 } else { 512 };
        let suspicions = if self.seed % 7 == 3 { 1 } else { 16 };
        let limits = Limits::new().with_updates_at_once(updates_at_once as usize).with_suspicions(suspicions);
        if self.seed % 6 != 1 || self.faults.is_empty() || self.attack.is_some() {
            return limits;
        }
        let nodes = self.voters + self.others;
        limits
            .with_pending_connections(1)
            .with_connections(nodes.max(self.voters + 1))
            .with_members(nodes)
            .with_change_log(1)
            .with_pinned_views(1)
    }

    /// G5: once the network is quiet, the nodes agree, and the agreement lasts.
    pub(crate) fn check_convergence(&self, net: &mut Net) {
        net.heal_all();
        net.resume_all_reading();
        let all = self.voters + self.others;
        for ix in all..net.len() {
            // The nodes cannot agree while two of them claim one id or one address.
            net.crash_if(ix, |_, _| true, Crash::Process);
        }
        for ix in 0..all {
            // What is expected below is counted in the usual times.
            if *net.host(ix).config.timing() != Timing::default() {
                Fault::Times(ix, Pace::Usual).apply(net);
            }
        }
        net.settings.persist.1 = net.settings.persist.1.min(self.settings.network.persist.1);
        let last_start = self.starts.iter().max().copied().unwrap_or_default();
        let wait = last_start.saturating_sub(net.now());
        net.run_for(wait);
        // Wait until pauses end and nodes notice old losses: expired leases, half-open links, nodes that have left.
        for time in [4 * SECOND, ms(500)] {
            for ix in self.absent.iter().copied() {
                net.crash_if(ix, |_, _| true, if ix % 2 == 0 { Crash::Process } else { Crash::Machine });
            }
            for ix in (0..all).filter(|ix| !self.absent.contains(ix)) {
                // A node whose storage has failed is started again, as its event asks for.
                let is_over = |net: &Net, ix| !net.living().contains(&ix) || net.host(ix).disk_fails;
                net.crash_if(ix, is_over, Crash::Process);
                if net.host(ix).formation.is_none() {
                    net.start(ix);
                }
            }
            net.run_for(time);
        }
        let patience = 16 * SECOND + 2 * self.solo.unwrap_or_default();
        if !net.run_until(patience, |net| net.converged() && self.is_led_by_quorum(net) != Some(false)) {
            net.fail("G5: the living nodes do not agree");
        }
        if !net.run_until(patience, |net| net.converged() && has_one_electorate(net)) {
            let held = net.living().into_iter().filter_map(|ix| {
                let formation = net.host(ix).formation.as_ref()?;
                Some(format!("{ix}: {}, {:?}", formation.electorate(), formation.explain().waits_for))
            });
            let held: Vec<String> = held.collect();
            net.fail(&format!("E10: the living nodes do not agree on the voters: {}", held.join("; ")));
        }
        if !self.priorities.is_empty() {
            self.check_preference(net);
        }
        net.watch.tally.count(if self.absent.is_empty() { "agreed with a quorum" } else { "agreed without a quorum" });
        let (since, masters) = (net.now(), net.masters());
        net.run_for(5 * SECOND);
        if !net.converged() || net.masters() != masters {
            net.fail(&format!("G5: the agreement on {masters:?} at {since:?} did not last: {:?}", net.masters()));
        }
        let lost = |event: &Event| matches!(event, Event::MasterLost { .. });
        let any = (0..all).any(|ix| net.count(ix, since + ms(1), lost) > 0);
        net.expect(!any, "G5: a master was lost in a quiet network");
    }

    /// L8: a voter with the highest priority becomes the master, unless the master has reported a better one before, and waits. In a slow
    /// network, another voter may be faster than the one that was reported. It then reports that one later.
    fn check_preference(&self, net: &mut Net) {
        if !self.absent.is_empty() {
            return;
        }
        let better = |event: &Event| matches!(event, Event::BetterMaster { .. });
        let is_settled = |net: &mut Net| {
            let priority = |ix| net.host(ix).config.priority();
            let is_preferred = |master| (0..self.voters).all(|ix| priority(ix) <= priority(master));
            let is_last = net.master().is_some_and(|master| is_preferred(master) || net.saw(master, better));
            let lately = net.now().saturating_sub(4 * SECOND);
            is_last && net.converged() && (0..self.voters).all(|ix| net.count(ix, lately, better) == 0)
        };
        let patience = 12 * Timing::default().down_after * self.voters as u32;
        let has_settled = net.run_until(patience, is_settled);
        net.expect(has_settled, "L8: a voter has a higher priority than the master");
    }

    /// The voter with the highest priority, and with equal priorities the lowest id.
    fn ranks_first(&self, net: &Net) -> Option<NodeIx> {
        (0..self.voters).min_by_key(|ix| {
            let config = net.host(*ix).config.clone();
            (Reverse(config.priority()), config.id().clone())
        })
    }

    /// Whether a quorum has elected the master. `None` if there is no master, or if no quorum is left.
    fn is_led_by_quorum(&self, net: &Net) -> Option<bool> {
        let (ix, absent) = (net.master()?, !self.absent.is_empty());
        (!absent).then(|| net.status(ix).phase == Phase::Master)
    }

    /// Two connections between two voters become one, and never none. G6: the voter that ranks first is the master if all
    /// voters start before the first one has waited `bootstrap_wait`, unless it is join-only.
    fn check_undisturbed(&self, net: &mut Net) {
        let is_voter = |id: &NodeId| (0..self.voters).any(|ix| net.host(ix).config.id() == id);
        let unlinked = |event: &Event| matches!(event, Event::Unlinked { node, .. } if is_voter(&node.id));
        let any = (0..self.voters).find(|ix| net.saw(*ix, unlinked));
        net.expect(
            any.is_none(),
            &format!("two connections: node {any:?} lost its link to a voter, although there was no fault"),
        );
        for a in 0..self.voters {
            for b in a + 1..self.voters {
                let links = net.between(a, b).len();
                net.expect(links == 1, &format!("two connections: nodes {a} and {b} end with {links}"));
            }
        }
        let voters = &self.starts[..self.voters];
        let spread = voters.iter().max().zip(voters.iter().min()).map(|(last, first)| *last - *first);
        // The last node needs some time to link to the others.
        let first = self.ranks_first(net);
        if self.joins_only != first
            && spread.is_some_and(|spread| spread + SECOND < net.host(0).config.timing().bootstrap_wait)
        {
            net.expect(net.master() == first, "G6: the master does not rank first");
            net.watch.tally.count("undisturbed formation");
        }
    }

    /// Finds the smallest part of the scenario that still fails in the same way.
    pub fn shrink(&self, failure: Failure) -> (Self, Failure) {
        let mut last = failure;
        let kept = smallest(self.faults.len(), 400, |kept| match self.only(kept).play() {
            Err(failure) if failure.is_like(&last) => {
                last = failure;
                true
            }
            _ => false,
        });
        (self.only(&kept), last)
    }

    /// The same scenario with these faults only. Their times stay the same.
    fn only(&self, kept: &[usize]) -> Self {
        let (mut faults, mut waited) = (Vec::new(), Duration::ZERO);
        for (ix, (wait, fault)) in self.faults.iter().enumerate() {
            waited += *wait;
            if kept.contains(&ix) {
                faults.push((std::mem::take(&mut waited), *fault));
            }
        }
        Self { faults, ..self.clone() }
    }

    /// The same scenario without some faults. The times of all later faults stay the same.
    pub fn without(&self, at: usize, width: usize) -> Self {
        let kept: Vec<usize> = (0..self.faults.len()).filter(|ix| !(at..at + width).contains(ix)).collect();
        self.only(&kept)
    }

    fn explain(&self, failure: &Failure) -> String {
        format!("{}\n--- the smallest part that fails:\n{self:#?}\n{}", failure.why, failure.report)
    }
}

/// In one scenario of seven, draws a join-only node, if the other voters are still a quorum. It has its own generator.
fn draw_joins_only(seed: u64, voters: usize, others: usize) -> Option<NodeIx> {
    let mut rng = Rng::new(seed ^ 0x0010_14e5);
    if seed % 7 != 5 || voters < 3 {
        return None;
    }
    Some(if others > 0 && rng.one_in(4) { voters + rng.below(others) } else { rng.below(voters) })
}

/// In one scenario of eight, draws the priorities of the voters. They have their own generator.
fn draw_priorities(seed: u64, voters: usize) -> Vec<u8> {
    let mut rng = Rng::new(seed ^ 0x0000_9217);
    let draws = if seed % 8 == 6 { voters } else { 0 };
    (0..draws).map(|_| rng.below(3) as u8).collect()
}

/// From a calm network to one in which everything takes almost as long as an election may take.
pub(crate) fn draw_settings(rng: &mut Rng) -> Settings {
    let (latency, jitter, flush, persist, late) = match rng.below(4) {
        0 => (ms(1), ms(0), ms(0), ms(0), ms(0)),
        1 => (ms(3), ms(2), ms(2), ms(5), ms(2)),
        2 => (ms(20), ms(20), ms(30), ms(40), ms(20)),
        _ => (ms(30), ms(40), ms(60), ms(80), ms(50)),
    };
    let upto = |most| (Duration::ZERO, most);
    let network = NetSettings {
        latency: upto(latency),
        jitter: upto(jitter),
        flush: upto(flush),
        persist: upto(persist),
        tick_late: upto(late),
        socket_buffer: [0, 512, 4_096, 65_536][rng.below(4)],
        ..NetSettings::default()
    };
    network.into()
}
