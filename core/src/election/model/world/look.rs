//! What is looked at in every state: what should never come to be, and what should happen somewhere.

use super::*;

impl World {
    /// G2 and E6, by what every voter would be told now.
    pub(super) fn look(&mut self) {
        let now = at(self.now);
        for ix in 0..self.voters.len() {
            let election = &self.voters[ix].election;
            let leads = election.leadership(now);
            if election.now == now && election.is_master() && leads.is_none() {
                self.broken = Some(format!("E6: n{ix} is a master, and its lease has lapsed"));
            }
            // Nobody has promised a solo master anything that outlasts it (E8).
            let Some(leadership) = leads.filter(|_| !election.is_solo()) else { continue };
            if self.voters[ix].claim < Some(leadership.valid_until) {
                Arc::make_mut(&mut self.voters[ix]).claim = Some(leadership.valid_until);
            }
            let other = (0..self.voters.len()).find(|other| *other != ix && self.voters[*other].claim.is_some());
            if let Some(other) = other {
                self.broken = Some(format!("G2: n{ix} has a lease, and n{other} was told of one that is not over"));
            }
        }
    }

    pub(in super::super) fn leads(&self, ix: usize) -> bool {
        self.voters[ix].election.leadership(at(self.now)).is_some()
    }

    /// It goes on without a disk.
    pub(in super::super) fn keeps_nothing(&self, ix: usize) -> bool {
        !self.voters[ix].dead && self.voters[ix].election.persistence.failed
    }

    pub(in super::super) fn keeps(&self, ix: usize) -> bool {
        !self.voters[ix].election.kept.is_empty()
    }

    pub(in super::super) fn came_back(&self, ix: usize) -> bool {
        self.voters[ix].election.me.incarnation > Incarnation(1)
    }

    /// Its vote is under way.
    pub(in super::super) fn grants(&self, ix: usize) -> bool {
        let wires = (0..self.voters.len()).map(|to| &self.wires[self.wire(ix, to)]);
        wires.flatten().any(|frame| matches!(frame, Frame::Vote(vote) if vote.granted))
    }

    pub(in super::super) fn stands(&self, ix: usize) -> bool {
        matches!(self.voters[ix].election.part, Part::Candidate(_))
    }

    pub(in super::super) fn is_solo(&self, ix: usize) -> bool {
        self.voters[ix].election.is_solo()
    }
}
