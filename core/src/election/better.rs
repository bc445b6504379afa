//! Rule L8: the voters that are preferred to this master.

use alloc::vec::Vec;

use super::{Election, RoleKind, Voter};
use crate::id::{Address, Node};

/// A linked voter with a higher priority than this master, which has a turn before it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Better<'a> {
    pub(crate) node: &'a Node,
    pub(crate) address: &'a Address,
    /// It reports that it has a master, and confirms the lease of this one.
    pub(crate) follows: bool,
}

impl Election {
    /// L8: the voters that are preferred to this master and could be the next one, in the order of their turns. Without a quorum of linked
    /// voters that can vote there is none.
    pub(crate) fn better_masters(&self) -> Vec<Better<'_>> {
        let is_preferred = |voter: &Voter| voter.is_linked() && voter.priority() > self.priority;
        if !self.is_master() || self.is_solo() || !self.others.values().any(is_preferred) {
            return Vec::new();
        }
        let votes = self.others.values().filter(|voter| voter.may_vote()).count();
        if usize::from(self.can_vote()) + votes < self.quorum {
            return Vec::new();
        }
        let mut better = Vec::new();
        for (address, voter) in &self.others {
            if let Some(node) = &voter.linked
                && is_preferred(voter)
                && voter.may_vote()
                && self.may_stand(address, voter)
            {
                let follows = voter.role().is_some_and(RoleKind::has_master) && voter.confirms(self.timing.lease);
                better.push((voter.rank(), Better { node, address, follows }));
            }
        }
        better.sort_by_key(|(rank, _)| *rank);
        better.into_iter().map(|(_, voter)| voter).collect()
    }
}
