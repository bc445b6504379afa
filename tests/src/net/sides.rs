//! Nodes that change sides (E8).

use formation_core::{Event, Formation, LossReason, Phase as NodePhase};

use super::{Net, NodeIx};

impl Net {
    /// E8: checks that a node that changes sides reports it.
    pub(super) fn follow_sides(&mut self, ix: NodeIx, event: &Event) {
        let Some(formation) = &self.hosts[ix].formation else { return };
        let (node, master) = (formation.node().clone(), formation.status().master.map(|(master, _)| master));
        match event {
            Event::MasterLost { term, reason: LossReason::GaveWay, .. } => {
                self.tally_merge(ix);
                for (other, host) in self.hosts.iter_mut().enumerate() {
                    let follows = |f: &Formation| f.status().master.is_some_and(|(master, _)| master == node);
                    if other == ix || host.formation.as_ref().is_some_and(follows) {
                        host.mirror.gave_way(&node, *term);
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

    /// Counts the criterion by which a solo master gave way, as far as it is visible from outside.
    fn tally_merge(&mut self, ix: NodeIx) {
        let quorums = self.masters().into_iter().any(|(master, _)| self.status(master).phase == NodePhase::Master);
        let Some((members, term)) = self.hosts[ix].solo_status else { return };
        let others: Vec<_> =
            (0..self.hosts.len()).filter(|other| *other != ix && self.hosts[*other].formation.is_some()).collect();
        let others: Vec<_> = others.into_iter().filter_map(|other| self.hosts[other].solo_status).collect();
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
