//! A whole run as plain data: how the network is, what goes wrong when, and what has to hold in the end.

use std::{collections::BTreeSet, panic, time::Duration};

use formation_core::{Bootstrap, Config, Detector, Event, Limits, NodeId, Phase, PhiAccrual, message::ProtocolRange};

use crate::{
    digest,
    fault::Fault,
    host::{Crash, NodeIx},
    net::Net,
    rng::Rng,
    seeds::number,
    settings::Settings,
    tally::Tally,
};

const SECOND: Duration = Duration::from_secs(1);

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A run that can be told again, whole or in part.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What delays and cuts of streams hang on.
    pub seed: u64,
    /// How many voters there are.
    pub voters: usize,
    /// How many nodes beside them.
    pub others: usize,
    /// How the network behaves.
    pub settings: Settings,
    /// Whether the nodes hold a cluster key.
    pub keyed: bool,
    /// Who forms no cluster, and only joins one; enough voters for a quorum are left that do.
    pub joins_only: Option<NodeIx>,
    /// When each node starts.
    pub starts: Vec<Duration>,
    /// After how long voters go on without a quorum (E8), if ever.
    pub solo: Option<Duration>,
    /// Who does not come back in the end.
    pub absent: BTreeSet<NodeIx>,
    /// What goes wrong, each after a wait.
    pub faults: Vec<(Duration, Fault)>,
}

/// Why a scenario failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What did not hold; it begins with the guarantee's name where there is one.
    pub why: String,
    /// The last that happened.
    pub report: String,
}

impl Failure {
    /// The same fault, rather than another that lurks behind it.
    fn is_like(&self, other: &Self) -> bool {
        let kind = |failure: &Self| failure.why.split([':', ' ']).next().map(String::from);
        kind(self) == kind(other)
    }
}

impl Scenario {
    /// The scenario of a seed. `forget`: voters that die lose their votes. `FORMATION_SIM_NODES` sets how many voters there are.
    pub fn draw(seed: u64, forget: bool) -> Self {
        let mut rng = Rng::new(seed);
        let voters = [3, 5, 2, 4, 3, 7, 1, 3][rng.below(8)];
        let voters = number("FORMATION_SIM_NODES").map_or(voters, |nodes| (nodes as usize).max(1));
        let others = rng.below(3);
        let nodes = voters + others;
        let settings = Settings { votes_last: !forget, ..conditions(&mut rng) };
        let spread = [Duration::ZERO, ms(50), SECOND, 5 * SECOND][rng.below(4)];
        let starts = (0..nodes).map(|_| rng.within((Duration::ZERO, spread))).collect();
        // One in eight runs without a fault.
        let count = if rng.one_in(8) { 0 } else { 1 + rng.below(20) };
        let fault = |rng: &mut Rng| {
            let longest = if rng.one_in(2) { ms(200) } else { 2 * SECOND };
            (rng.within((Duration::ZERO, longest)), Fault::draw(rng, nodes, forget))
        };
        let mut faults: Vec<_> = (0..count).map(|_| fault(&mut rng)).collect();
        // Of a stream of their own: what is drawn here does not shift what is drawn elsewhere.
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
        // Drawn last, so that all else is the same with keys and without.
        let keyed = rng.one_in(3);
        if keyed && !faults.is_empty() {
            for _ in 0..rng.below(8) {
                let wait = rng.within((Duration::ZERO, ms(200)));
                faults.insert(rng.below(faults.len() + 1), (wait, Fault::draw_keyed(&mut rng, nodes)));
            }
        }
        // Of a stream of its own, too, and in one of eleven.
        let mut lies = Rng::new(seed ^ 0x11a2);
        if seed % 11 == 4 && !faults.is_empty() {
            for _ in 0..1 + lies.below(2) {
                let wait = lies.within((Duration::ZERO, SECOND));
                faults.insert(lies.below(faults.len() + 1), (wait, Fault::Liar(lies.below(voters))));
            }
        }
        let settings = Settings { eavesdrop: keyed, ..settings };
        let (solo, absent) = (None, BTreeSet::new());
        let joins_only = draw_joins_only(seed, voters, others);
        Self { seed, voters, others, settings, keyed, joins_only, starts, solo, absent, faults }
    }

    /// The scenario of a seed in which voters go on without a quorum (E8): partitions that last, and in every other a
    /// majority of the voters that does not come back.
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
            scenario.faults.insert(at, (wait, Fault::draw_parting(&mut rng, nodes)));
        }
        // As few of them as are no quorum stay, and one at least.
        if rng.one_in(2) {
            let stay = 1 + rng.below((scenario.voters / 2).max(1));
            // They have to go on alone, and who only joins does not.
            scenario.joins_only = None;
            while scenario.voters - scenario.absent.len() > stay {
                scenario.absent.insert(rng.below(scenario.voters));
            }
        }
        scenario
    }

    /// Plays it, with every check at every step, and asks for agreement in the end.
    ///
    /// # Panics
    /// With the smallest part of it that still fails in the same way, and the last that happened there.
    pub fn check(&self) -> Tally {
        match self.play() {
            Ok(tally) => tally,
            Err(failure) => {
                let (smaller, failure) = self.shrink(failure);
                panic!("{}", smaller.explain(&failure));
            }
        }
    }

    /// Plays it.
    ///
    /// # Errors
    /// What did not hold.
    pub fn play(&self) -> Result<Tally, Failure> {
        let mut net = self.net();
        net.caught = true;
        match panic::catch_unwind(panic::AssertUnwindSafe(|| self.run(&mut net))) {
            Ok(()) => {
                (0..net.len()).filter_map(|ix| net.host(ix).formation.as_ref()).for_each(digest::last_state);
                Ok(std::mem::take(&mut net.tally))
            }
            Err(said) => {
                let text = said.downcast_ref::<String>().cloned();
                let why = text.or_else(|| said.downcast_ref::<&str>().map(|text| (*text).into()));
                Err(Failure { why: why.unwrap_or_else(|| "a panic".into()), report: net.report() })
            }
        }
    }

    /// An empty network in which to [`run`](Self::run) it.
    pub fn net(&self) -> Net {
        Net::new(self.seed, self.settings.clone())
    }

    /// Plays it in a network of its own.
    ///
    /// # Panics
    /// With what did not hold.
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
        for (wait, fault) in &self.faults {
            net.run_for(*wait);
            fault.strike(net);
        }
        self.calm_down(net);
        if self.faults.is_empty() {
            self.judge_undisturbed(net);
        }
    }

    /// In one of four scenarios all nodes learn how regular their members are; in one of five every other one speaks the next
    /// protocol, too.
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
        let builder = match self.solo {
            Some(after) => builder.solo_after(after),
            None => builder,
        };
        builder.build().expect("a valid configuration")
    }

    /// In one of six scenarios there is no more room than a cluster needs once it is formed, and so not always enough before; in one
    /// of five most changes of the view wait for a heartbeat.
    fn limits(&self) -> Limits {
        let updates_at_once = if self.seed % 5 == 2 { self.seed / 5 % 8 } else { 512 };
        let limits = Limits { updates_at_once: updates_at_once as usize, ..Limits::default() };
        if self.seed % 6 != 1 || self.faults.is_empty() {
            return limits;
        }
        let nodes = self.voters + self.others;
        Limits {
            pending_connections: 1,
            connections: nodes.max(self.voters + 1),
            members: nodes,
            change_log: 1,
            pinned_views: 1,
            ..limits
        }
    }

    /// G5: once it is quiet there is agreement, and it lasts.
    fn calm_down(&self, net: &mut Net) {
        net.heal_all();
        net.read_all();
        let all = self.voters + self.others;
        for ix in all..net.len() {
            // Nothing can be agreed on while two nodes claim one id or one address.
            net.crash_if(ix, |_, _| true, Crash::Process);
        }
        net.settings.persist.1 = net.settings.persist.1.min(self.settings.persist.1);
        let last_start = self.starts.iter().max().copied().unwrap_or_default();
        net.run_for(last_start.saturating_sub(net.now()));
        // Pauses end, and what was lost before the healing is noticed: a lease lapses, a link is half-open, a leaver has left.
        for time in [4 * SECOND, ms(500)] {
            for ix in self.absent.iter().copied() {
                net.crash_if(ix, |_, _| true, if ix % 2 == 0 { Crash::Process } else { Crash::Machine });
            }
            for ix in (0..all).filter(|ix| !self.absent.contains(ix)) {
                // Who votes no more is started again, as its event says.
                let is_over = |net: &Net, ix| !net.living().contains(&ix) || net.host(ix).disk_fails;
                net.crash_if(ix, is_over, Crash::Process);
                if net.host(ix).formation.is_none() {
                    net.start(ix);
                }
            }
            net.run_for(time);
        }
        let patience = 16 * SECOND + 2 * self.solo.unwrap_or_default();
        if !net.run_until(patience, |net| net.converged() && self.is_led_by_a_quorum(net) != Some(false)) {
            net.fail("G5: no agreement of all that live");
        }
        net.tally.count(if self.absent.is_empty() { "agreed with a quorum" } else { "agreed without a quorum" });
        let (since, masters) = (net.now(), net.masters());
        net.run_for(5 * SECOND);
        if !net.converged() || net.masters() != masters {
            net.fail(&format!("G5: {masters:?} was agreed since {since:?}, and did not last: {:?}", net.masters()));
        }
        let lost = |event: &Event| matches!(event, Event::MasterLost { .. });
        let any = (0..all).any(|ix| net.count(ix, since + ms(1), lost) > 0);
        net.expect(!any, "G5: a master was lost in a quiet network");
    }

    /// Whether the master is one of a quorum, where there should be one.
    fn is_led_by_a_quorum(&self, net: &Net) -> Option<bool> {
        let (ix, absent) = (net.master()?, !self.absent.is_empty());
        (!absent).then(|| net.status(ix).phase == Phase::Master)
    }

    /// Two connections between two voters become one, and never none. G6: the lowest id is the master, when all have started
    /// before the first has waited `bootstrap_wait`, unless it only joins.
    fn judge_undisturbed(&self, net: &mut Net) {
        let is_voter = |id: &NodeId| (0..self.voters).any(|ix| net.host(ix).config.id() == id);
        let parted = |event: &Event| matches!(event, Event::Unlinked { node, .. } if is_voter(&node.id));
        let any = (0..self.voters).find(|ix| net.saw(*ix, parted));
        net.expect(
            any.is_none(),
            &format!("two connections: node {any:?} lost its last one to a voter, and nothing went wrong"),
        );
        for a in 0..self.voters {
            for b in a + 1..self.voters {
                let links = net.between(a, b).len();
                net.expect(links == 1, &format!("two connections: nodes {a} and {b} have {links} in the end"));
            }
        }
        let voters = &self.starts[..self.voters];
        let spread = voters.iter().max().zip(voters.iter().min()).map(|(last, first)| *last - *first);
        // What the last has to do before the others have linked and heard it takes some time.
        if self.joins_only != Some(0)
            && spread.is_some_and(|spread| spread + SECOND < net.host(0).config.timing().bootstrap_wait)
        {
            net.expect(net.master() == Some(0), "G6: another than the lowest id is the master");
            net.tally.count("undisturbed formation");
        }
    }

    /// The smallest part that still fails in the same way.
    pub fn shrink(&self, failure: Failure) -> (Self, Failure) {
        let (mut best, mut last) = (self.clone(), failure);
        let mut tries = 400;
        let mut again = true;
        while std::mem::take(&mut again) {
            // Long stretches first, then fault by fault.
            let mut width = best.faults.len().max(1);
            while width > 0 {
                let mut at = 0;
                while at < best.faults.len() && tries > 0 {
                    tries -= 1;
                    let candidate = best.without(at, width);
                    match candidate.play() {
                        Err(failure) if failure.is_like(&last) => (best, last, again) = (candidate, failure, true),
                        _ => at += width,
                    }
                }
                width /= 2;
            }
        }
        (best, last)
    }

    /// The same without some faults; what follows them happens when it did.
    pub fn without(&self, at: usize, width: usize) -> Self {
        let mut smaller = self.clone();
        let end = (at + width).min(smaller.faults.len());
        let waited: Duration = smaller.faults.drain(at..end).map(|(wait, _)| wait).sum();
        if let Some((wait, _)) = smaller.faults.get_mut(at) {
            *wait += waited;
        }
        smaller
    }

    fn explain(&self, failure: &Failure) -> String {
        format!("{}\n--- the smallest part of it that fails:\n{self:#?}\n{}", failure.why, failure.report)
    }
}

/// In one of seven scenarios somebody, if there are enough others to form a cluster. Of a stream of its own.
fn draw_joins_only(seed: u64, voters: usize, others: usize) -> Option<NodeIx> {
    let mut rng = Rng::new(seed ^ 0x0010_14e5);
    if seed % 7 != 5 || voters < 3 {
        return None;
    }
    Some(if others > 0 && rng.one_in(4) { voters + rng.below(others) } else { rng.below(voters) })
}

/// From a calm network to one in which everything takes nearly as long as an election may.
fn conditions(rng: &mut Rng) -> Settings {
    let (latency, jitter, flush, persist, late) = match rng.below(4) {
        0 => (ms(1), ms(0), ms(0), ms(0), ms(0)),
        1 => (ms(3), ms(2), ms(2), ms(5), ms(2)),
        2 => (ms(20), ms(20), ms(30), ms(40), ms(20)),
        _ => (ms(30), ms(40), ms(60), ms(80), ms(50)),
    };
    let upto = |most| (Duration::ZERO, most);
    Settings {
        latency: upto(latency),
        jitter: upto(jitter),
        flush: upto(flush),
        persist: upto(persist),
        tick_late: upto(late),
        socket_buffer: [0, 512, 4_096, 65_536][rng.below(4)],
        ..Settings::default()
    }
}
