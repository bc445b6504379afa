//! Rules E1 and E5, where the voters have different times: the leases that are promised, and how long a voter waits after its start.

use core::time::Duration;

use super::{Effect, Election, Voter};
use crate::{id::Address, time::Timestamp, wire::voting::Voting};

/// How much longer than its own `bootstrap_wait` a voter waits because another voter names a long lease. A voter that lies must not keep
/// the others waiting for ever, and what was promised is durable where votes are.
const LONGEST_WAIT: u32 = 16;

impl Election {
    /// How this node votes, for its next `Hello`s.
    pub(crate) fn voting(&self) -> Voting {
        Voting {
            lease: self.timing.lease,
            bootstrap_wait: self.timing.bootstrap_wait,
            longest_lease: self.longest_lease(),
            may_form: self.may_form(),
            priority: self.priority,
            is_durable: self.is_durable,
        }
    }

    /// E1: the longest lease of a promise that may still run, of this run or of an earlier one, as far as this voter knows that itself. Only
    /// this is made durable: one lie of another voter would otherwise make all later runs wait longer.
    pub(super) fn promised_lease(&self) -> Duration {
        let own = self.live_promise().map(|promise| promise.lease);
        let inherited = (!self.bootstrap_over()).then_some(self.inherited_lease);
        [own, inherited].into_iter().flatten().max().unwrap_or_default().max(self.timing.lease)
    }

    /// E1: the same, or what the other voters name while this one may have forgotten a promise. They may have forgotten theirs, too.
    fn longest_lease(&self) -> Duration {
        let forgotten = (!self.bootstrap_over()).then(|| self.forgotten_lease());
        self.promised_lease().max(forgotten.unwrap_or_default())
    }

    /// E1: the longest lease that an earlier run of this voter may have promised, as its disk and the other voters name it. This voter
    /// does not know whether what it has persisted was stored.
    fn forgotten_lease(&self) -> Duration {
        let longest = self.timing.bootstrap_wait.saturating_mul(LONGEST_WAIT);
        let named = self.others.values().filter_map(|voter| voter.voting.as_ref()).map(|voting| voting.longest_lease);
        self.inherited_lease.max(named.max().unwrap_or_default().min(longest))
    }

    /// E1: the time from which on no forgotten promise can still be in force.
    pub(super) fn bootstrap_end(&self) -> Timestamp {
        self.started + self.timing.bootstrap_wait.max(self.forgotten_lease())
    }

    /// E2: whether enough voters confirm the lease that this node asks for. It would only burn terms otherwise.
    pub(super) fn can_win(&self) -> bool {
        let lease = self.timing.lease;
        1 + self.others.values().filter(|voter| voter.confirms(lease)).count() >= self.quorum
    }

    /// E2: whether the voter at this address counts in the order of turns: it does not leave, has not resigned (L7), may form a cluster, and
    /// asks for a lease that enough voters confirm.
    pub(super) fn may_stand(&self, address: &Address, voter: &Voter) -> bool {
        !voter.is_leaving() && !voter.resigned && voter.may_form() && self.may_win(address, voter)
    }

    fn may_win(&self, address: &Address, voter: &Voter) -> bool {
        let Some(lease) = voter.voting.as_ref().map(|voting| voting.lease) else { return true };
        let confirm = |(other, voter): &(&Address, &Voter)| *other != address && voter.confirms(lease);
        let own = usize::from(self.is_voter && self.timing.bootstrap_wait >= lease);
        1 + own + self.others.iter().filter(confirm).count() >= self.quorum
    }

    /// E5: says which of the two voters asks for a lease that the other does not confirm, once until one of them has other times.
    pub(super) fn compare_times(&mut self, address: &Address) {
        let Some(voter) = self.others.get_mut(address).filter(|_| self.is_voter) else { return };
        let (Some(node), Some(voting)) = (voter.linked.clone(), &voter.voting) else { return };
        let (lease, wait) = (voting.lease, voting.bootstrap_wait);
        if voter.compared.replace((lease, wait)) == Some((lease, wait)) {
            return;
        }
        let own = (self.timing.lease, self.timing.bootstrap_wait);
        let pairs = [((&node, lease), (&self.me, own.1)), ((&self.me, own.0), (&node, wait))];
        for ((candidate, lease), (voter, wait)) in pairs.into_iter().filter(|((_, lease), (_, wait))| lease > wait) {
            let (candidate, voter) = ((candidate.clone(), lease), (voter.clone(), wait));
            self.effects.push_back(Effect::LeaseTooLong { candidate, voter });
        }
    }

    /// V10: a node that is no voter, and has paused, follows its master until then at least. What the master has sent meanwhile may be
    /// the next input.
    pub(crate) fn excuse_master(&mut self, until: Timestamp) {
        if let (false, Some(following)) = (self.is_voter, &mut self.following)
            && !core::mem::replace(&mut following.is_excused, true)
        {
            following.deadline = following.deadline.max(until);
        }
    }

    /// How long this node follows the master at this address without hearing from it: for the lease that the master names, because it
    /// does not act for longer. No voter confirms a lease longer than its own `bootstrap_wait`, so nobody waits for longer, either.
    pub(super) fn patience_with(&self, master: &Address, named: Option<Duration>) -> Duration {
        let known = || self.others.get(master)?.voting.as_ref().map(|voting| voting.lease);
        named.or_else(known).unwrap_or(self.timing.lease).min(self.timing.bootstrap_wait)
    }
}
