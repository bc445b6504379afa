//! A scenario with a hostile peer, and with faults of the honest nodes or without.

use std::{collections::BTreeSet, time::Duration};

use formation_core::ConfigBuilder;
use formation_testing::sim::engine::Fault as Of;

use super::{
    Dice, Hostile, Place,
    findings::{Findings, Healthy, check_stopped, check_whole},
};
use crate::{
    Crash, Cut, NodeIx, Rng,
    fault::Fault,
    net::Net,
    scenario::{Scenario, draw_settings},
};

const SECOND: Duration = Duration::from_secs(1);

/// How long the nodes may take until they are whole again: a link that died silently, a lease, `bootstrap_wait`, and
/// the longest backoff, several times over.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long the nodes may change their agreement after the last disturbance.
const SETTLING: Duration = Duration::from_secs(5);

/// The hostile peer of a scenario.
#[derive(Clone, Debug)]
pub struct Attack {
    /// Its place in the cluster.
    pub place: Place,
    /// Its own id. It is lower or higher than that of every honest node.
    pub id: &'static str,
    /// How many honest nodes are no voters.
    pub members: usize,
    /// Whether the cluster has formed before the hostile peer appears.
    pub formed: bool,
    /// How long the hostile peer is there.
    pub lasts: Duration,
    /// Whether it goes without a notice to anybody.
    pub vanishes: bool,
}

impl Attack {
    /// The address of the hostile peer.
    pub const ADDRESS: &'static str = "x:1";

    /// Adds what the honest nodes know of it.
    pub(crate) fn configure(&self, builder: ConfigBuilder) -> ConfigBuilder {
        match self.place {
            Place::Member => builder,
            Place::Voter => builder.seeds([Self::ADDRESS]),
        }
    }
}

/// The faults of honest nodes and of their network during an attack.
fn draw_fault(rng: &mut Rng, nodes: usize, forget: bool) -> Fault {
    let ix = rng.below(nodes);
    let other = (ix + 1 + rng.below(nodes - 1)) % nodes;
    let cut = if rng.one_in(2) { Cut::Hold } else { Cut::Lose };
    let how = if rng.one_in(2) { Crash::Process } else { Crash::Machine };
    Fault::Of(match rng.below(14) {
        0 | 1 => Of::Crash { ix, how, forget },
        2 if !forget => Of::CrashMaster(how),
        2 => Of::Crash { ix, how, forget },
        3..=6 => Of::Start(ix),
        7 => Of::Cut(ix, other, cut),
        8 => Of::CutOneWay(ix, other, cut),
        9 => Of::Isolate(ix, cut),
        10 => Of::IsolateMaster(cut),
        11 => Of::Heal,
        12 if rng.one_in(2) => Of::Reset(ix, other),
        12 => Of::HalfOpen(ix, other),
        _ => Of::Pause(ix, rng.within((Duration::from_millis(100), 2 * SECOND))),
    })
}

/// Attacks a healthy cluster for as many turns as there are choices, at most so many, and waits until the peer is
/// forgotten. Neither changes anything (T2).
pub(crate) fn attack_healthy(net: &mut Net, place: Place, (dice, turns): (Dice, usize)) {
    let mut findings = Findings::default();
    let healthy = Healthy::of(net);
    let config = net.host(0).config.clone();
    let mut hostile = Hostile::new(net, &config, place, ("evil", Attack::ADDRESS), dice);
    hostile.may_squat = true;
    for _ in 0..turns {
        if hostile.dice.is_used_up() {
            break;
        }
        let pause = hostile.pause();
        net.run_for(pause);
        hostile.turn(net);
        healthy.check(net, &mut findings);
    }
    hostile.leave(net, false);
    net.run_for(8 * SECOND);
    healthy.check(net, &mut findings);
    healthy.check_events(net, &mut findings);
    check_stopped(net, &mut findings);
    if let Some(found) = findings.text() {
        net.fail(&found);
    }
}

impl Scenario {
    /// The scenario of a seed with a hostile peer. In every other scenario there is no fault but this peer. In one of
    /// four, voters that die lose their votes.
    pub fn draw_hostile(seed: u64, place: Place) -> Self {
        let mut rng = Rng::new(seed ^ 0x0b05_711e);
        let voters = match place {
            Place::Member => [3, 3, 5][rng.below(3)],
            Place::Voter => [3, 3, 5, 2, 4][rng.below(5)],
        };
        let members = rng.below(4);
        let nodes = voters + members;
        let forget = rng.one_in(4);
        let lasts = rng.within((2 * SECOND, 12 * SECOND));
        let attack = Attack {
            place,
            id: ["evil", "zevil"][rng.below(2)],
            members,
            formed: rng.one_in(2),
            lasts,
            vanishes: rng.one_in(2),
        };
        let mut faults = Vec::new();
        if rng.one_in(2) {
            let count = 1 + rng.below(12);
            faults = (0..count)
                .map(|_| (rng.within((Duration::ZERO, 2 * lasts / count as u32)), draw_fault(&mut rng, nodes, forget)))
                .collect();
        }
        let splits = attack.may_split_quorums(voters);
        let mut settings = draw_settings(&mut rng);
        settings.votes_last = !(forget || splits);
        settings.leases_never_overlap = !splits;
        settings.views_of_others = place == Place::Voter;
        // Two honest masters of one term may write two views of one id (G3).
        settings.compare_views &= !splits;
        let spread = [Duration::ZERO, SECOND][rng.below(2)];
        let starts = (0..nodes).map(|_| rng.within((Duration::ZERO, spread))).collect();
        Self {
            seed,
            voters,
            others: members,
            settings,
            keyed: false,
            joins_only: None,
            priorities: Vec::new(),
            starts,
            solo: None,
            kept_voters: None,
            absent: BTreeSet::new(),
            faults,
            attack: Some(attack),
            last_voters: None,
        }
    }

    /// Runs the attack in a network with the nodes of the scenario.
    pub(crate) fn run_attack(&self, net: &mut Net, attack: &Attack) {
        let mut findings = Findings::default();
        let mut healthy = None;
        if attack.formed {
            let last_start = self.starts.iter().max().copied().unwrap_or_default();
            net.run_for(last_start);
            net.converge(PATIENCE);
            // Links that nobody needs close in this time.
            net.run_for(SECOND);
            let is_whole = self.faults.is_empty() && attack.place == Place::Member;
            healthy = is_whole.then(|| Healthy::of(net));
        }
        let config = net.host(0).config.clone();
        let dice = Dice::of_seed(!self.seed);
        let mut hostile = Hostile::new(net, &config, attack.place, (attack.id, Attack::ADDRESS), dice);
        hostile.may_squat = self.faults.is_empty() && attack.formed;
        let end = net.now() + attack.lasts;
        let mut faults = self.faults.iter();
        let mut next = faults.next().map(|(wait, fault)| (net.now() + *wait, *fault));
        while net.now() < end {
            let pause = hostile.pause();
            match next {
                Some((at, fault)) if at <= net.now() + pause => {
                    let wait = at.saturating_sub(net.now());
                    net.run_for(wait);
                    fault.apply(net);
                    next = faults.next().map(|(wait, fault)| (net.now() + *wait, *fault));
                }
                _ => net.run_for(pause),
            }
            hostile.turn(net);
            if let Some(healthy) = &healthy {
                healthy.check(net, &mut findings);
            }
        }
        hostile.leave(net, attack.vanishes);
        net.watch.tally.count("attack");
        self.check_aftermath(net, attack, &mut findings);
        if let Some(healthy) = &healthy {
            healthy.check(net, &mut findings);
            healthy.check_events(net, &mut findings);
            net.watch.tally.count("attack on a healthy cluster");
        }
        if let Some(found) = findings.text() {
            net.fail(&found);
        }
    }

    /// The honest nodes become whole without a restart. Only nodes that a fault has killed are started.
    fn check_aftermath(&self, net: &mut Net, attack: &Attack, findings: &mut Findings) {
        net.heal_all();
        net.settings.persist.1 = net.settings.persist.1.min(self.settings.network.persist.1);
        let is_down = |net: &Net, ix: NodeIx| net.host(ix).formation.is_none();
        for ix in 0..net.len() {
            if is_down(net, ix) {
                net.start(ix);
            }
        }
        // Pauses end, and nodes notice old losses: expired leases, and links that died silently.
        net.run_for(SETTLING);
        let whole = |net: &mut Net| net.living().len() == net.len() && net.converged();
        let is_whole = net.run_until(PATIENCE, whole);
        check_stopped(net, findings);
        if !is_whole {
            check_whole(attack, net, findings);
            return;
        }
        let masters = net.masters();
        net.run_for(5 * SECOND);
        check_stopped(net, findings);
        if !net.converged() || net.masters() != masters {
            check_whole(attack, net, findings);
        }
    }
}
