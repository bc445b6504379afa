//! The addresses beside the seeds: those that people name, and those that a discovery finds (PROTOCOL.md, D8).

use alloc::collections::BTreeSet;

use super::{Dialer, TargetKind};
use crate::{id::Address, time::Timestamp};

impl TargetKind {
    /// What the address becomes that somebody names.
    fn named(self, as_kind: Self) -> Self {
        match self {
            Self::Seed | Self::Contact | Self::Own => self,
            Self::Discovered | Self::Gone | Self::Checked(_) => as_kind,
        }
    }
}

impl Dialer {
    pub(crate) fn add_contact(&mut self, address: &Address, now: Timestamp) {
        self.name(address, TargetKind::Contact, now);
    }

    /// How many contacts there would be, with these added.
    pub(crate) fn contacts_with<'a>(&self, more: impl Iterator<Item = &'a Address>) -> usize {
        let becomes_one = |address: &Address| match self.targets.get(address).map(|target| target.kind) {
            Some(kind) => kind != TargetKind::Contact && kind.named(TargetKind::Contact) == TargetKind::Contact,
            None => true,
        };
        let known = self.targets.values().filter(|target| target.kind == TargetKind::Contact).count();
        known + more.filter(|address| becomes_one(address)).collect::<BTreeSet<_>>().len()
    }

    /// D8: exactly these addresses are discovered. The others of the last time are not dialed again. Returns whether there is a new one.
    pub(crate) fn set_discovered<'a>(&mut self, found: impl Iterator<Item = &'a Address>, now: Timestamp) -> bool {
        let old = self.targets.iter_mut().filter(|(_, target)| target.kind == TargetKind::Discovered);
        let mut before = BTreeSet::new();
        for (address, target) in old {
            target.kind = TargetKind::Gone;
            before.insert(address.clone());
        }
        let mut has_new = false;
        for address in found {
            self.name(address, TargetKind::Discovered, now);
            has_new |= self.is_discovered(address) && !before.contains(address);
        }
        self.forget_checked(now);
        has_new
    }

    pub(crate) fn is_discovered(&self, address: &Address) -> bool {
        self.targets.get(address).is_some_and(|target| target.kind == TargetKind::Discovered)
    }

    fn name(&mut self, address: &Address, kind: TargetKind, now: Timestamp) {
        self.add(address, kind, now);
        if let Some(target) = self.targets.get_mut(address) {
            target.kind = target.kind.named(kind);
        }
    }
}
