//! Rule E9: a cluster of another seed list has a master.

use alloc::collections::BTreeSet;

use super::{Election, Voter};
use crate::{
    id::{Address, Node},
    time::Timestamp,
    wire::message::Holder,
};

impl Voter {
    /// E9: the master of another seed list that the node at this seed has named, while that counts.
    fn other_master(&self, now: Timestamp) -> Option<&Node> {
        self.other_master.as_ref().filter(|(_, until)| *until > now).map(|(master, _)| master)
    }
}

impl Election {
    /// E9: this node has dialed the seed at this address. The node there has another seed list, and names its master. A master at an
    /// address that is no seed here does not count: it leads another cluster, to which the address of the seed has belonged.
    pub(crate) fn met_other_seed_list(&mut self, seed: &Address, master: Option<&Holder>) {
        let master = master.filter(|master| self.others.contains_key(&master.address));
        // An address that is reached is dialed again within this time.
        let until = self.now + self.timing.dial_backoff_max.saturating_mul(2) + self.timing.handshake_timeout;
        let Some(voter) = self.others.get_mut(seed) else { return };
        voter.other_master = master.map(|master| (master.node.clone(), until));
        if self.is_held() && self.state.candidacy().is_some() {
            self.give_up();
        }
        self.settle();
    }

    /// E9: whether this node neither becomes a candidate nor votes, because it has no master and another seed list has one.
    pub(super) fn is_held(&self) -> bool {
        self.master().is_none() && self.others.values().any(|voter| voter.other_master(self.now).is_some())
    }

    /// E9: the seeds that have another seed list, and the master of that list.
    pub(crate) fn held_by(&self) -> Option<(BTreeSet<Address>, Node)> {
        let named = |(seed, voter): (&Address, &Voter)| Some((seed.clone(), voter.other_master(self.now)?.clone()));
        let named = || self.others.iter().filter_map(named);
        let (_, master) = named().next().filter(|_| self.is_held())?;
        Some((named().map(|(seed, _)| seed).collect(), master))
    }

    /// E9: when something that holds this node counts no more.
    pub(super) fn held_until(&self) -> Option<Timestamp> {
        let until = self.others.values().filter_map(|voter| voter.other_master.as_ref());
        until.map(|(_, until)| *until).filter(|until| *until > self.now).min()
    }
}
