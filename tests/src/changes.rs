//! Scenarios in which the voters change while the cluster runs (E10).

use std::{collections::BTreeSet, time::Duration};

use crate::{Crash, NodeIx, Rng, fault::Fault, net::Net, scenario::Scenario};

const SECOND: Duration = Duration::from_secs(1);

impl Scenario {
    /// The scenario of a seed in which the voters change. Some nodes are no voters at first. In every other scenario, only
    /// the last voters live on in the end, and all of them start again from their disks.
    pub fn draw_voters(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x0e10);
        let mut scenario = Self::draw_with(seed, false, 1 + rng.below(3));
        let nodes = scenario.voters + scenario.others;
        // A master adds only nodes that are known to be at their addresses: by their certificates, or because it reached them there.
        scenario.settings.network.certified = rng.one_in(2);
        // A preferred voter may be no voter in the end, and a liar at the address of a node may not become one.
        scenario.priorities.clear();
        scenario.faults.retain(|(_, fault)| !matches!(fault, Fault::Liar(_)));
        for _ in 0..2 + rng.below(8) {
            // Often in the middle of the last change.
            let longest = [Duration::from_millis(10), Duration::from_millis(100), 2 * SECOND, 5 * SECOND][rng.below(4)];
            let wait = rng.within((Duration::ZERO, longest));
            let at = rng.below(scenario.faults.len() + 1);
            scenario.faults.insert(at, (wait, Fault::draw_voters(&mut rng, nodes)));
        }
        // Otherwise most changes would come before there is a master.
        scenario.faults[0].0 = rng.within((Duration::ZERO, 6 * SECOND));
        if rng.one_in(2) {
            let most = 1 + rng.below(nodes.min(5));
            scenario.last_voters = Some((0..most).fold(0, |voters, _| voters | 1 << rng.below(nodes)));
        } else if rng.one_in(6) {
            scenario.kept_voters = Some(1 + rng.below(5));
            // A master acts only when the voters have not changed for a while.
            for _ in 0..2 + rng.below(4) {
                let wait = rng.within((Duration::ZERO, 60 * SECOND));
                let at = rng.below(scenario.faults.len());
                scenario.faults[at].0 += wait;
            }
        }
        scenario
    }

    /// The last change, after all faults. Then all others die for good, and the voters start again from their disks.
    pub(crate) fn check_last_voters(&self, net: &mut Net, last: u16) {
        let all = self.voters + self.others;
        let (voters, gone): (BTreeSet<NodeIx>, BTreeSet<NodeIx>) = (0..all).partition(|ix| last >> ix & 1 == 1);
        Fault::Voters(last).apply(net);
        let addresses: BTreeSet<_> = voters.iter().map(|ix| net.host(*ix).config.address().clone()).collect();
        let reached = |net: &mut Net| {
            let held = |ix: &NodeIx| net.host(*ix).formation.as_ref().map(|it| it.electorate());
            let is_last = |ix| held(&ix).is_some_and(|it| it.voters == addresses && it.target.is_none());
            net.converged() && net.living().into_iter().all(is_last)
        };
        if !net.run_until(30 * SECOND, reached) {
            net.fail("E10: the last voters are not reached");
        }
        for ix in 0..all {
            net.crash_if(ix, |_, _| true, if ix % 2 == 0 { Crash::Process } else { Crash::Machine });
        }
        let absent = Self { absent: gone, faults: vec![], priorities: vec![], ..self.clone() };
        absent.check_convergence(net);
        net.watch.tally.count("restarted with the last voters alone");
    }
}

/// Whether all living nodes hold one electorate, and nothing more is to change.
pub(crate) fn has_one_electorate(net: &Net) -> bool {
    let living = net.living();
    let mut held = living.iter().filter_map(|ix| net.host(*ix).formation.as_ref()).map(|it| it.electorate());
    let Some(first) = held.next() else { return true };
    first.target.is_none() && held.all(|other| other == first)
}
