//! The addresses beside the seeds: those that people name, and those that a discovery finds (PROTOCOL.md, D8).

use alloc::{collections::BTreeSet, vec::Vec};

use super::{Dialer, TargetKind};
use crate::{api::config::Config, id::Address, time::Timestamp};

impl TargetKind {
    /// What the address becomes that somebody names.
    fn named(self, as_kind: Self) -> Self {
        match self {
            Self::Seed | Self::Contact | Self::Own => self,
            Self::Discovered | Self::Gone(_) | Self::Checked(_) => as_kind,
        }
    }
}

impl Dialer {
    pub(crate) fn add_contact(&mut self, address: &Address, now: Timestamp) {
        self.name(address, TargetKind::Contact, now);
    }

    /// E10: exactly these are the voters. A seed that is none of them is dialed like a contact.
    pub(crate) fn set_voters(&mut self, config: &Config, voters: &BTreeSet<Address>, now: Timestamp) {
        let own = config.address();
        for (address, target) in self.targets.iter_mut().filter(|(_, target)| target.kind == TargetKind::Seed) {
            target.kind = match config.seeds().contains(address) {
                true => TargetKind::Contact,
                false => TargetKind::Gone(now),
            };
        }
        for voter in voters.iter().filter(|voter| *voter != own) {
            self.add(voter, TargetKind::Seed, now);
            if let Some(target) = self.targets.get_mut(voter) {
                target.kind = TargetKind::Seed;
            }
        }
        // D1: a voter dials all at once.
        self.stagger = (!voters.contains(own)).then_some(config.timing().stagger);
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

    /// D8: exactly these addresses are discovered. The others of the last time are not dialed again. Returns the new ones.
    pub(crate) fn set_discovered<'a>(
        &mut self,
        found: impl Iterator<Item = &'a Address>,
        now: Timestamp,
    ) -> Vec<Address> {
        let old = self.targets.iter_mut().filter(|(_, target)| target.kind == TargetKind::Discovered);
        let mut before = BTreeSet::new();
        for (address, target) in old {
            target.kind = TargetKind::Gone(now);
            before.insert(address.clone());
        }
        let mut new = Vec::new();
        for address in found {
            self.name(address, TargetKind::Discovered, now);
            if self.is_discovered(address) && !before.contains(address) {
                new.push(address.clone());
            }
        }
        for target in self.targets.values_mut().filter(|target| target.kind == TargetKind::Gone(now)) {
            // It is not dialed, and takes the turn of no other address.
            target.take_turn(now);
        }
        self.forget_checked(now);
        new
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::config::{Config, Limits},
        api::error::DialProblem,
        id::DialId,
        rng::Rng,
    };

    const START: Timestamp = Timestamp::ZERO;

    /// A voter whose discovery may find two addresses. A dial to its seed is under way.
    fn dialer() -> Dialer {
        let limits = Limits::new().with_discovered(2);
        let config = Config::builder("test", "a", "a:1").seeds(["a:1", "s:1"]).limits(limits).build().unwrap();
        let mut dialer = Dialer::new(&config, Rng::new(1), START);
        assert_eq!(dialed(&mut dialer, START).len(), 1);
        dialer
    }

    fn discover(dialer: &mut Dialer, found: &[&str], now: Timestamp) -> Vec<(DialId, Address)> {
        let found: Vec<Address> = found.iter().map(|address| Address::new(address).unwrap()).collect();
        dialer.set_discovered(found.iter(), now);
        dialed(dialer, now)
    }

    fn dialed(dialer: &mut Dialer, now: Timestamp) -> Vec<(DialId, Address)> {
        dialer.dial_due(now, |_, _, _| true, |_| true).dials
    }

    #[test]
    fn d8_dials_to_addresses_that_have_gone_count_until_they_end() {
        let mut dialer = dialer();
        let first = discover(&mut dialer, &["b:1", "c:1"], START);
        assert_eq!(first.len(), 2);
        assert_eq!(discover(&mut dialer, &["d:1", "e:1"], START), [], "the limit is 2");
        assert_eq!(dialer.next_retry(|_, _, _| true), None, "nothing is due before a dial ends");
        dialer.failed(first[0].0, DialProblem::Refused, START);
        assert_eq!(dialed(&mut dialer, START).len(), 1);
    }

    #[test]
    fn d8_an_address_that_returns_is_dialed_after_its_backoff() {
        let mut dialer = dialer();
        let [(dial, _)] = discover(&mut dialer, &["b:1"], START)[..] else { panic!("one") };
        dialer.failed(dial, DialProblem::Refused, START);
        assert_eq!(discover(&mut dialer, &[], START), []);
        assert_eq!(discover(&mut dialer, &["b:1"], START), []);
        let again = dialer.next_retry(|_, _, _| true).unwrap();
        assert!(again > START);
        assert_eq!(dialed(&mut dialer, again).len(), 1);
    }

    #[test]
    fn d8_only_so_many_addresses_that_have_gone_are_remembered() {
        let mut dialer = dialer();
        for number in 0..10_u32 {
            let dials = discover(&mut dialer, &[&alloc::format!("b{number}:1")], START);
            dials.iter().for_each(|(dial, _)| drop(dialer.failed(*dial, DialProblem::Refused, START)));
        }
        discover(&mut dialer, &[], START);
        assert_eq!(dialer.targets.len(), 1 + 2);
        let late = START + dialer.look_again + dialer.backoff_max * 2;
        discover(&mut dialer, &[], late);
        assert_eq!(dialer.targets.len(), 1);
    }
}
