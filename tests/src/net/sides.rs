//! Nodes that change sides (E8).

use formation_core::{Event, Formation, LossReason, Phase as NodePhase};

use formation_testing::sim::engine::{NodeIx, World};

use crate::monitor::Monitor;

impl Monitor {
    /// E8: checks that a node that changes sides reports it.
    pub(crate) fn follow_sides(&mut self, world: &World, ix: NodeIx, event: &Event) -> Result<(), String> {
        let Some(formation) = &world.host(ix).formation else { return Ok(()) };
        let (node, master) = (formation.node().clone(), formation.status().master.map(|(master, _)| master));
        match event {
            Event::MasterLost { term, reason: LossReason::GaveWay, .. } => {
                self.tally_merge(world, ix);
                for other in 0..world.len() {
                    let follows = |f: &Formation| f.status().master.is_some_and(|(master, _)| master == node);
                    if other == ix || world.host(other).formation.as_ref().is_some_and(follows) {
                        self.node(other).run.mirror.gave_way(&node, *term);
                    }
                }
                Ok(())
            }
            Event::ViewChanged { view_id, .. } => {
                self.node(ix).run.mirror.expects_merged(&node, master.as_ref(), *view_id);
                Ok(())
            }
            Event::Merged { from, to } => self.node(ix).run.mirror.merged(&node, *from, *to),
            _ => Ok(()),
        }
    }

    /// Counts the criterion by which a solo master gave way, as far as it is visible from outside.
    fn tally_merge(&mut self, world: &World, ix: NodeIx) {
        let quorums = world.masters().into_iter().any(|(master, _)| world.status(master).phase == NodePhase::Master);
        let solo_status = |ix: NodeIx| self.nodes.get(&ix).and_then(|known| known.run.solo_status);
        let Some((members, term)) = solo_status(ix) else { return };
        let others = (0..world.len()).filter(|other| *other != ix && world.host(*other).formation.is_some());
        let others: Vec<_> = others.filter_map(solo_status).collect();
        let what = if quorums {
            "gave way to a quorum's master"
        } else if others.iter().any(|other| other.0 > members) {
            "gave way to more members"
        } else if others.iter().any(|other| *other > (members, term)) {
            "gave way to a higher term"
        } else if others.contains(&(members, term)) {
            "gave way to a lower id"
        } else {
            return;
        };
        self.tally.count(what);
    }
}
