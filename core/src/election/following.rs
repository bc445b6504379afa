//! Accepting a master, and following it.

use core::time::Duration;

use super::{Effect, Election, Followed};
use crate::{
    api::event::LossReason,
    id::{Address, Node, Term},
};

impl Election {
    /// A node has shown that it is a master, by a join response. Returns whether this node follows it.
    pub(crate) fn accept_master(&mut self, master: &Node, address: &Address, term: Term) -> bool {
        let accepted = self.accept_master_for(master, address, (term, None));
        self.settle();
        accepted
    }

    /// A node has shown that it is a master, by a status, a join response or a heartbeat. `lease`: the lease that a heartbeat names.
    /// Returns whether this node follows it.
    pub(super) fn accept_master_for(
        &mut self,
        master: &Node,
        address: &Address,
        (term, lease): (Term, Option<Duration>),
    ) -> bool {
        if term < self.hard.term || self.state.is_leaving() {
            return false;
        }
        let solo = self.reports_solo(master, address);
        if solo && !self.may_follow_solo(master) {
            return false;
        }
        let reach = self.within_reach(term);
        if reach < term {
            self.take_over(reach);
            return false;
        }
        if self.is_solo() {
            self.give_way();
        }
        if self.known_master.as_ref().is_some_and(|(known, node)| *known == term && node != master) {
            // Two masters of one term: a restarted voter has forgotten its vote (G1). Their views must not be confused, so
            // this node moves to the next term (V9).
            self.learn(term.next());
            return false;
        }
        self.step_down(LossReason::NewerTerm);
        if term != self.hard.term {
            self.enter(term, None);
        }
        // E3: accepting a master spends the vote of its term.
        self.hard.voted_for.get_or_insert_with(|| master.clone());
        self.hard.joined = true;
        self.known_master = Some((term, master.clone()));
        self.persist();
        self.end_resignations();
        self.handed_over = None;
        if self.following.as_ref().is_some_and(|f| f.master != *master) {
            self.lose_master(LossReason::Ended);
        }
        let deadline = self.now + self.patience_with(address, lease);
        self.failures = 0;
        match &mut self.following {
            Some(known) if known.master == *master && known.term == term => {
                (known.deadline, known.is_excused) = (deadline, false);
            }
            other => {
                let (master, address) = (master.clone(), address.clone());
                *other = Some(Followed {
                    master: master.clone(),
                    address: address.clone(),
                    term,
                    solo,
                    deadline,
                    is_excused: false,
                    heartbeat: None,
                });
                self.effects.push_back(Effect::Found { term, master, address });
            }
        }
        true
    }
}
