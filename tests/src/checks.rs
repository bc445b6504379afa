//! The guarantees that hold at every step of every simulated run.

use std::collections::BTreeMap;

use formation_core::{Change, Epoch, Leadership, Member, MembersView, Node, NodeId, Term};

use crate::{clock::Clock, host::RunId};

/// What all nodes have claimed so far.
#[derive(Default)]
pub(crate) struct Checks {
    masters: BTreeMap<Term, Node>,
    /// Until when, in the simulation's time, a run has ever been told that it is the master.
    leases: BTreeMap<RunId, u64>,
    views: BTreeMap<Epoch, MembersView>,
}

impl Checks {
    /// G1 and G2: `node` says now that it is the master.
    pub(crate) fn leads(
        &mut self,
        now: u64,
        (run, node, clock): (RunId, &Node, Clock),
        leadership: Leadership,
        votes_last: bool,
    ) -> Result<(), String> {
        let Leadership { term, valid_until } = leadership;
        if votes_last
            && let known = self.masters.entry(term).or_insert_with(|| node.clone())
            && known != node
        {
            return Err(format!("G1: {known} and {node} are both masters of term {term}"));
        }
        let until = clock.reaches(valid_until);
        if until <= now {
            return Err(format!("leadership() of {node} reports a lease that ended at {until}"));
        }
        for (other, theirs) in &self.leases {
            if *other != run && *theirs > now {
                return Err(format!(
                    "G2: {node} has a lease for term {term}, while node {} has one until {theirs}",
                    other.host
                ));
            }
        }
        let mine = self.leases.entry(run).or_insert(0);
        *mine = until.max(*mine);
        Ok(())
    }

    /// The host of this run has ended its own mastership.
    pub(crate) fn ended(&mut self, run: RunId) {
        self.leases.remove(&run);
    }

    /// G3 between nodes: one epoch is one member list.
    pub(crate) fn holds(&mut self, node: &Node, view: &MembersView) -> Result<(), String> {
        let epoch = view.epoch();
        let known = self.views.entry(epoch).or_insert_with(|| view.clone());
        if known != view {
            return Err(format!("G3: {node} holds another view of {epoch} than others\n  {known:?}\n  {view:?}"));
        }
        if self.views.len() > 4_096 {
            self.views.pop_first();
        }
        Ok(())
    }
}

/// Follows one node's reported changes.
#[derive(Default)]
pub(crate) struct Mirror {
    epoch: Epoch,
    members: BTreeMap<NodeId, Member>,
}

impl Mirror {
    /// G3 at one node: epochs increase, and the reported changes lead to the view.
    pub(crate) fn changed(
        &mut self,
        node: &Node,
        (epoch, changes): (Epoch, &[Change]),
        compare: bool,
    ) -> Result<(), String> {
        if epoch <= self.epoch {
            return Err(format!("G3: {node} went from {} to {epoch}", self.epoch));
        }
        self.epoch = epoch;
        if compare {
            for change in changes {
                match change {
                    Change::Upsert(member) => drop(self.members.insert(member.node.id.clone(), member.clone())),
                    Change::Remove { id, .. } => drop(self.members.remove(id)),
                }
            }
        }
        Ok(())
    }

    /// Whether the view is the one that the changes made.
    pub(crate) fn agrees(&self, node: &Node, view: &MembersView, compare: bool) -> Result<(), String> {
        if view.epoch() != self.epoch {
            return Err(format!("{node} holds {}, but has reported {}", view.epoch(), self.epoch));
        }
        if compare && !view.iter().eq(self.members.values()) {
            return Err(format!("{node} holds {view:?}, but has reported {:?}", self.members));
        }
        Ok(())
    }
}
