//! The addresses that are only dialed because peers claim them (PROTOCOL.md, H11). Claims from one network do not take the places
//! of the others.

use alloc::{collections::BTreeMap, vec::Vec};
use core::net::IpAddr;

use super::{Dialer, Target, TargetKind};
use crate::{id::Address, time::Timestamp};

/// How many such addresses may be remembered at a time, as far as no node was found there.
const MAX_CHECKED: usize = 64;

/// How many of them may be claimed from one network.
const MAX_OF_NETWORK: usize = 16;

/// How many addresses are remembered at which a node was found, so that they are not dialed too often.
const MAX_ANSWERED: usize = 64;

impl Target {
    /// The network from which the address is claimed, if no node was found there.
    fn unanswered(&self) -> Option<Option<IpAddr>> {
        match self.kind {
            TargetKind::Checked(network) => (!self.check.is_answered).then_some(network),
            TargetKind::Seed | TargetKind::Contact | TargetKind::Discovered | TargetKind::Gone(_) | TargetKind::Own => {
                None
            }
        }
    }

    /// Since when no discovery finds the address any more.
    fn gone_since(&self) -> Option<Timestamp> {
        match self.kind {
            TargetKind::Gone(since) => Some(since),
            TargetKind::Seed
            | TargetKind::Contact
            | TargetKind::Discovered
            | TargetKind::Own
            | TargetKind::Checked(_) => None,
        }
    }
}

impl Dialer {
    /// Whether one more address may be checked that a peer in this network claims. If all places are taken, one of the network that has
    /// most of them becomes free.
    pub(super) fn makes_room(&mut self, network: Option<IpAddr>, now: Timestamp) -> bool {
        self.forget_checked(now);
        let mut counts = BTreeMap::new();
        for network in self.targets.values().filter_map(Target::unanswered) {
            *counts.entry(network).or_insert(0_usize) += 1;
        }
        let (total, own) = (counts.values().sum::<usize>(), counts.get(&network).copied().unwrap_or(0));
        if own >= MAX_OF_NETWORK {
            return false;
        }
        if total < MAX_CHECKED {
            return true;
        }
        let largest = counts.into_iter().max_by_key(|(_, count)| *count).filter(|(_, count)| *count > own + 1);
        let Some((largest, _)) = largest else { return false };
        let is_meant = |target: &Target| target.unanswered() == Some(largest) && target.is_at_rest();
        self.forget_oldest(is_meant, |target| target.check.last, 1)
    }

    /// Forgets the addresses that were only checked, and those that a discovery does not find any more. Until then they are remembered,
    /// so that neither claims nor answers that vary make this node dial them too often.
    pub(super) fn forget_checked(&mut self, now: Timestamp) {
        let look_again = self.look_again;
        self.targets.retain(|_, target| {
            let may_return =
                target.gone_since().is_some_and(|since| now.since(since) < look_again || now < target.retry_at);
            let is_over = target.is_at_rest() && !may_return && now.since(target.check.last) >= look_again;
            target.kind.is_sought() || !is_over
        });
        let is_answered = |target: &Target| target.kind.is_checked() && target.check.is_answered && target.is_at_rest();
        let answered = self.targets.values().filter(|target| is_answered(target)).count();
        self.forget_oldest(is_answered, |target| target.check.last, answered.saturating_sub(MAX_ANSWERED));
        let has_gone = |target: &Target| target.gone_since().is_some() && target.is_at_rest();
        let gone = self.targets.values().filter(|target| has_gone(target)).count();
        self.forget_oldest(has_gone, Target::gone_since, gone.saturating_sub(self.max_discovered));
    }

    /// Forgets as many of these addresses, the one first that is the oldest. Returns whether there were any.
    fn forget_oldest<T: Ord>(
        &mut self,
        is_meant: impl Fn(&Target) -> bool,
        age: impl Fn(&Target) -> T,
        count: usize,
    ) -> bool {
        let mut addresses: Vec<(T, Address)> = Vec::new();
        if count > 0 {
            let meant = self.targets.iter().filter(|(_, target)| is_meant(target));
            addresses.extend(meant.map(|(address, target)| (age(target), address.clone())));
            addresses.sort_unstable();
            addresses.truncate(count);
        }
        addresses.iter().for_each(|(_, address)| drop(self.targets.remove(address)));
        !addresses.is_empty()
    }
}
