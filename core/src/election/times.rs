//! Rules E1 and E5, where the voters have different times: the leases that are promised, and how long a voter waits after its start.

use core::time::Duration;

use super::Election;
use crate::{id::Address, time::Timestamp, wire::voting::Voting};

/// How much longer than its own `bootstrap_wait` a voter waits because another voter names a long lease. A voter that lies must not keep
/// the others waiting for ever, and what was promised is durable where votes are.
const LONGEST_WAIT: u32 = 16;

impl Election {
    /// How this node votes, for its next `Hello`s.
    pub(crate) fn voting(&self) -> Voting {
        let Self { timing, .. } = self;
        let (lease, bootstrap_wait) = (timing.lease, timing.bootstrap_wait);
        Voting { lease, bootstrap_wait, longest_lease: self.longest_lease(), may_form: self.may_form() }
    }

    /// E1: the longest lease of a promise that may still run: of this run, or of an earlier one.
    pub(super) fn longest_lease(&self) -> Duration {
        let own = self.live_promise().map(|promise| promise.lease);
        let forgotten = (!self.bootstrap_over()).then(|| self.forgotten_lease());
        [own, forgotten].into_iter().flatten().max().unwrap_or_default().max(self.timing.lease)
    }

    /// E1: the longest lease that an earlier run of this voter may have promised, as its disk and the other voters name it.
    fn forgotten_lease(&self) -> Duration {
        let longest = self.timing.bootstrap_wait.saturating_mul(LONGEST_WAIT);
        let named = self.others.values().filter_map(|voter| voter.voting.as_ref()).map(|voting| voting.longest_lease);
        self.inherited_lease.max(named.max().unwrap_or_default().min(longest))
    }

    /// E1: the time from which on no forgotten promise can still be in force.
    pub(super) fn bootstrap_end(&self) -> Timestamp {
        self.started + self.timing.bootstrap_wait.max(self.forgotten_lease())
    }

    /// How long this node follows the master at this address without hearing from it: for the lease that the master names, because it
    /// does not act for longer. No voter confirms a lease longer than its own `bootstrap_wait`, so nobody waits for longer, either.
    pub(super) fn patience_with(&self, master: &Address, named: Option<Duration>) -> Duration {
        let known = || self.others.get(master)?.voting.as_ref().map(|voting| voting.lease);
        named.or_else(known).unwrap_or(self.timing.lease).min(self.timing.bootstrap_wait)
    }
}
