//! Rules L3 and L7: a master resigns, because it leaves or to let another voter be the master.

use core::time::Duration;

use super::{Election, RoleKind, State};
use crate::{
    api::event::LossReason,
    id::{Address, Node, Term},
    time::Timestamp,
    wire::message::Resign,
};

impl Election {
    /// Takes no part in elections any more (L1). A master resigns.
    pub(crate) fn leave(&mut self) {
        self.end_own_mastership();
        self.step_down(LossReason::Resigned);
        self.state = State::Leaving;
        self.settle();
    }

    /// L7: hands the mastership over, and stays a voter. Returns false and does nothing if this node is no master.
    pub(crate) fn resign(&mut self) -> bool {
        self.resign_for(self.turns_of_others())
    }

    /// E10: this master is to be removed. The others have several turns, because it would only hand over again.
    pub(super) fn resign_to_be_removed(&mut self) {
        self.resign_for(self.timing.down_after.max(self.turns_of_others()));
    }

    /// Afterwards this node is no candidate for this time.
    fn resign_for(&mut self, time: Duration) -> bool {
        let was_master = self.end_own_mastership();
        if was_master {
            self.not_before = self.now + time;
            self.settle();
        }
        was_master
    }

    /// Returns whether this node was master.
    fn end_own_mastership(&mut self) -> bool {
        let was_master = self.is_master();
        if was_master {
            self.resigned = Some(self.hard.term);
            self.end_mastership(LossReason::Resigned);
            // E5: a resignation ends every promise to the master, its own too. Otherwise others would wait for it (E1).
            self.promise = None;
            self.lease_end = Timestamp::ZERO;
        }
        was_master
    }

    /// L3, L7: the message for every voter that has a link, or gets one, if this node has resigned.
    pub(crate) fn resignation(&self) -> Option<Resign> {
        self.resigned.map(|term| Resign { term })
    }

    /// E5: a master has resigned. This ends every promise to it, and the others have their turns first (L7).
    pub(crate) fn resigned(&mut self, from: &Node, address: &Address, term: Term) {
        self.remove_rival(address);
        let is_newest = term >= self.hard.term;
        if let Some(voter) = self.others.get_mut(address).filter(|_| is_newest) {
            voter.resigned = true;
            if let Some(report) = &mut voter.last_report {
                // Its newest status may already show a vote for another node (E1).
                report.role = if report.role.is_master() { RoleKind::Joining } else { report.role };
                report.promise = report.promise.take().filter(|to| to != from);
            }
        }
        if self.promise.as_ref().is_some_and(|promise| promise.to == *from && promise.term <= term) {
            self.promise = None;
        }
        if self.following.as_ref().is_some_and(|f| f.master == *from && f.term <= term) {
            self.lose_master(LossReason::Resigned);
        }
        self.learn(term);
        self.settle();
    }

    /// L7: there is a next master, or this node is a candidate again. From now on every voter has its usual turn.
    pub(super) fn end_resignations(&mut self) {
        self.resigned = None;
        for voter in self.others.values_mut() {
            voter.resigned = false;
        }
    }
}
