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
            TargetKind::Seed | TargetKind::Contact | TargetKind::Discovered | TargetKind::Gone | TargetKind::Own => {
                None
            }
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
        self.forget_oldest(is_meant, 1)
    }

    /// Forgets the addresses that were only checked. Until then they are remembered, so that claims do not make this node dial them too
    /// often.
    pub(super) fn forget_checked(&mut self, now: Timestamp) {
        let look_again = self.look_again;
        self.targets.retain(|_, target| {
            let was_not_checked = target.kind == TargetKind::Gone && target.check.spacing.is_zero();
            let is_over = target.is_at_rest() && (was_not_checked || now.since(target.check.last) >= look_again);
            target.kind.is_sought() || !is_over
        });
        let is_answered = |target: &Target| target.kind.is_checked() && target.check.is_answered && target.is_at_rest();
        let answered = self.targets.values().filter(|target| is_answered(target)).count();
        self.forget_oldest(is_answered, answered.saturating_sub(MAX_ANSWERED));
    }

    /// Forgets as many of these addresses, the one first that was checked first. Returns whether there were any.
    fn forget_oldest(&mut self, is_meant: impl Fn(&Target) -> bool, count: usize) -> bool {
        let mut addresses: Vec<(Timestamp, Address)> = Vec::new();
        if count > 0 {
            let meant = self.targets.iter().filter(|(_, target)| is_meant(target));
            addresses.extend(meant.map(|(address, target)| (target.check.last, address.clone())));
            addresses.sort_unstable();
            addresses.truncate(count);
        }
        addresses.iter().for_each(|(_, address)| drop(self.targets.remove(address)));
        !addresses.is_empty()
    }
}
