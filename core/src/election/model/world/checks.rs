//! What is checked in every state: what must never happen, and what has to happen somewhere.

use super::*;

impl World {
    /// G2 and E6, by what `leadership` reports to every voter now.
    pub(super) fn check(&mut self) {
        let now = at(self.now);
        for ix in 0..self.voters.len() {
            let election = &self.voters[ix].election;
            let leads = election.leadership(now);
            if election.now == now && election.is_master() && leads.is_none() {
                self.broken = Some(format!("E6: n{ix} is a master, and its lease has expired"));
            }
            // E8: G2 does not cover the lease of a solo master.
            let Some(leadership) = leads.filter(|_| !election.is_solo()) else { continue };
            if self.voters[ix].claim < Some(leadership.valid_until) {
                self.voters[ix].claim = Some(leadership.valid_until);
            }
            let other = (0..self.voters.len()).find(|other| *other != ix && self.voters[*other].claim.is_some());
            if let Some(other) = other {
                self.broken = Some(format!("G2: n{ix} has a lease, and the reported lease of n{other} has not ended"));
            }
        }
    }

    pub(in super::super) fn leads(&self, ix: usize) -> bool {
        self.voters[ix].election.leadership(at(self.now)).is_some()
    }

    /// The voter continues although its disk has failed.
    pub(in super::super) fn has_no_disk(&self, ix: usize) -> bool {
        !self.voters[ix].dead && self.voters[ix].election.persistence.failed
    }

    pub(in super::super) fn defers(&self, ix: usize) -> bool {
        !self.voters[ix].election.deferred.is_empty()
    }

    pub(in super::super) fn was_restarted(&self, ix: usize) -> bool {
        self.voters[ix].election.me.incarnation > Incarnation(1)
    }

    /// A vote that the voter has granted is in transit.
    pub(in super::super) fn grants(&self, ix: usize) -> bool {
        let wires = (0..self.voters.len()).map(|to| &self.wires[self.wire(ix, to)]);
        wires.flat_map(|wire| wire.iter()).any(|frame| matches!(frame, Frame::Vote(vote) if vote.granted))
    }

    pub(in super::super) fn is_candidate(&self, ix: usize) -> bool {
        self.voters[ix].election.state.candidacy().is_some()
    }

    pub(in super::super) fn is_solo(&self, ix: usize) -> bool {
        self.voters[ix].election.is_solo()
    }
}
