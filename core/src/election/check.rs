//! The invariants of the election.

use super::{Election, Part};
use crate::id::{Address, Node};

impl Election {
    /// Checks what holds between two inputs. `linked`: the peer at an address.
    ///
    /// # Panics
    /// When something does not hold.
    pub(crate) fn check<'a>(&self, linked: impl Fn(&Address) -> Option<&'a Node>) {
        assert!(self.effects.is_empty(), "every effect is applied: {:?}", self.effects);
        for (address, voter) in &self.others {
            assert_eq!(voter.linked.as_ref(), linked(address), "the voter at {address} is linked iff it is a peer");
        }
        let is_linked = |node: &Node| self.others.values().any(|voter| voter.linked.as_ref() == Some(node));
        assert!(
            self.kept.values().all(|(node, _)| is_linked(node)),
            "requests are kept of linked voters: {:?}",
            self.kept
        );
        let persistence = &self.persistence;
        let is_kept = persistence.in_flight.is_some() || persistence.failed || persistence.durable == self.hard;
        assert!(is_kept, "a change of the hard state is persisted");
        match self.part {
            Part::Idle | Part::Leaving => {}
            Part::Candidate(_) | Part::Master(_) => {
                assert!(self.is_voter, "only a voter is a candidate or leads");
                assert_eq!(self.following, None, "a candidate or a master follows nobody");
            }
        }
    }
}
