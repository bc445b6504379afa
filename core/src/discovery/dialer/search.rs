//! In which order a node that is no voter looks for the master (PROTOCOL.md, D1).
//!
//! Each of a thousand joining nodes needs one link, to the master. If all of them dialed all seeds at once, most of the work would be
//! for links that are closed again.

use alloc::vec::Vec;
use core::time::Duration;

use super::{Dialer, Target, TargetKind, TargetState};
use crate::{id::Address, time::Timestamp};

impl Target {
    /// Its turn has come, if it waits for one.
    pub(super) fn take_turn(&mut self, now: Timestamp) {
        if core::mem::take(&mut self.waits_for_turn) {
            self.retry_at = now;
        }
    }
}

impl Dialer {
    /// The node starts, or has not heard from its master for too long. It dials one address at once, and after each `stagger` twice as
    /// many, seeds first, each in a random order. Addresses that wait for the end of their backoff are left alone.
    pub(crate) fn wait_for_turns(&mut self, now: Timestamp) {
        let Some(stagger) = self.stagger else { return };
        let of_kind = |kind| {
            let is_open =
                move |target: &Target| target.retry_due().is_some_and(|at| target.waits_for_turn || at <= now);
            let is_meant = move |(_, target): &(&Address, &Target)| target.kind == kind && is_open(target);
            self.targets.iter().filter(is_meant).map(|(address, _)| address.clone()).collect::<Vec<_>>()
        };
        let mut kinds = [TargetKind::Seed, TargetKind::Contact, TargetKind::Discovered].map(of_kind);
        kinds.iter_mut().for_each(|addresses| self.shuffle(addresses));
        for (place, address) in kinds.into_iter().flatten().enumerate() {
            let Some(target) = self.targets.get_mut(&address) else { continue };
            let wait = turn(place, stagger);
            (target.retry_at, target.waits_for_turn) = (now + wait, !wait.is_zero());
        }
    }

    /// These addresses are new. Their turns come behind those of the others that wait, and behind the node that answers at the moment.
    pub(crate) fn queue(&mut self, mut new: Vec<Address>, now: Timestamp) {
        let Some(stagger) = self.stagger else { return };
        let is_open = |target: &Target| !target.waits_for_turn && target.retry_due().is_some_and(|at| at <= now);
        new.retain(|address| self.targets.get(address).is_some_and(is_open));
        self.shuffle(&mut new);
        let sought = || self.targets.values().filter(|target| target.kind.is_sought());
        let has_answered = |target: &Target| match target.state {
            TargetState::Connected { .. } => true,
            TargetState::Idle | TargetState::Dialing { .. } => false,
        };
        let answered = sought().any(has_answered).then(|| now + self.patience);
        let latest = sought().filter(|target| target.waits_for_turn).map(|target| target.retry_at).max();
        let after = usize::from(latest.is_some() || sought().any(Target::is_dialing));
        let begin = latest.into_iter().chain(answered).fold(now, Timestamp::max);
        for (place, address) in new.into_iter().enumerate() {
            let Some(target) = self.targets.get_mut(&address) else { continue };
            target.retry_at = begin + turn(place + after, stagger);
            target.waits_for_turn = target.retry_at > now;
        }
    }

    fn shuffle(&mut self, addresses: &mut [Address]) {
        for end in (1..addresses.len()).rev() {
            let other = usize::try_from(self.rng.up_to(end as u64)).unwrap_or(end);
            addresses.swap(end, other);
        }
    }

    /// The turn of this address has come: a voter names it as the master's.
    pub(crate) fn take_turn(&mut self, address: &Address, now: Timestamp) {
        if let Some(target) = self.targets.get_mut(address) {
            target.take_turn(now);
        }
    }

    /// There is a master: nobody waits for a turn any more.
    pub(crate) fn end_turns(&mut self, now: Timestamp) {
        self.targets.values_mut().for_each(|target| target.take_turn(now));
    }

    /// A node answers at an address: the next turn, and with it all further ones, waits until the node has had time to show which one
    /// it is.
    pub(super) fn await_answer(&mut self, now: Timestamp) {
        let waiting = || self.targets.values().filter(|target| target.waits_for_turn);
        let Some(next) = waiting().map(|target| target.retry_at).min() else { return };
        let by = (now + self.patience).since(next);
        for target in self.targets.values_mut().filter(|target| target.waits_for_turn) {
            target.retry_at = target.retry_at + by;
        }
    }

    /// The turn of the next address has come: one before it has led to nothing.
    pub(crate) fn next_turn(&mut self, now: Timestamp) {
        let waiting = self.targets.iter().filter(|(_, target)| target.waits_for_turn);
        let next = waiting.min_by_key(|(_, target)| target.retry_at).map(|(address, _)| address.clone());
        if let Some(address) = next {
            self.take_turn(&address, now);
        }
    }
}

/// When the address of this place is dialed: the first at once, the second after one `stagger`, the third and fourth after two.
fn turn(place: usize, stagger: Duration) -> Duration {
    stagger.saturating_mul(usize::BITS - place.leading_zeros())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::config::Config,
        api::error::DialProblem,
        id::{ConnId, DialId},
        rng::Rng,
    };

    const STAGGER: Duration = Duration::from_millis(100);

    /// A node that is no voter, with three seeds and five contacts.
    fn dialer() -> Dialer {
        let seeds = ["a:1", "b:1", "c:1"];
        let contacts = ["x0:1", "x1:1", "x2:1", "x3:1", "x4:1"];
        let config = Config::builder("test", "j", "j:1").seeds(seeds).contacts(contacts).build().unwrap();
        Dialer::new(&config, Rng::new(1), Timestamp::ZERO)
    }

    fn dialed(dialer: &mut Dialer, now: Timestamp) -> Vec<(DialId, Address)> {
        dialer.dial_due(now, |_, _, _| true, |_| true).dials
    }

    fn at(turns: u32) -> Timestamp {
        Timestamp::ZERO + STAGGER * turns
    }

    #[test]
    fn d1_a_joining_node_dials_twice_as_many_after_each_stagger() {
        let mut dialer = dialer();
        let counts = [0, 1, 2, 3, 4].map(|turns| {
            let dialed = dialed(&mut dialer, at(turns));
            let seeds = dialed.iter().filter(|(_, address)| !address.as_str().starts_with('x')).count();
            (dialed.len(), seeds)
        });
        assert_eq!(counts, [(1, 1), (1, 1), (2, 1), (4, 0), (0, 0)], "the seeds first");
    }

    #[test]
    fn d1_the_first_address_is_random() {
        let first = |seed| {
            let config = Config::builder("test", "j", "j:1").seeds(["a:1", "b:1", "c:1"]).build().unwrap();
            dialed(&mut Dialer::new(&config, Rng::new(seed), Timestamp::ZERO), Timestamp::ZERO)[0].1.clone()
        };
        let firsts: alloc::collections::BTreeSet<Address> = (0..30).map(first).collect();
        assert_eq!(firsts.len(), 3);
    }

    #[test]
    fn d1_after_a_failure_the_next_address_is_dialed_at_once() {
        let mut dialer = dialer();
        let [(dial, first)] = &dialed(&mut dialer, Timestamp::ZERO)[..] else { panic!("one at first") };
        assert_eq!(dialer.failed(*dial, DialProblem::Refused, Timestamp::ZERO).as_ref(), Some(first));
        let next = dialed(&mut dialer, Timestamp::ZERO);
        assert!(next.len() == 1 && next[0].1 != *first, "{next:?}");
    }

    #[test]
    fn d1_the_address_that_a_voter_names_is_dialed_at_once() {
        let mut dialer = dialer();
        let first = dialed(&mut dialer, Timestamp::ZERO)[0].1.clone();
        let named = ["a:1", "b:1"].map(|seed| Address::new(seed).unwrap()).into_iter().find(|seed| *seed != first);
        let named = named.unwrap();
        dialer.take_turn(&named, Timestamp::ZERO);
        let next: Vec<Address> = dialed(&mut dialer, Timestamp::ZERO).into_iter().map(|(_, address)| address).collect();
        assert_eq!(next, [named]);
    }

    #[test]
    fn d1_a_new_search_leaves_an_address_alone_that_has_just_failed() {
        let mut dialer = dialer();
        let (dial, first) = dialed(&mut dialer, Timestamp::ZERO)[0].clone();
        dialer.failed(dial, DialProblem::Refused, Timestamp::ZERO);
        dialer.wait_for_turns(Timestamp::ZERO);
        let now = dialed(&mut dialer, Timestamp::ZERO);
        assert!(now.len() == 1 && now[0].1 != first, "{now:?}");
    }

    #[test]
    fn d8_new_addresses_wait_behind_the_others() {
        let mut dialer = dialer();
        let (dial, _) = dialed(&mut dialer, Timestamp::ZERO)[0].clone();
        dialer.opened(dial, ConnId(1), Timestamp::ZERO);
        let found = ["y:1", "z:1"].map(|address| Address::new(address).unwrap());
        let new = dialer.set_discovered(found.iter(), Timestamp::ZERO);
        dialer.queue(new, Timestamp::ZERO);
        let counts = [0, 10, 11, 12, 13, 14].map(|turns| dialed(&mut dialer, at(turns)).len());
        assert_eq!(counts, [0, 1, 2, 4, 1, 1], "the turns of the others stay as they are");
    }

    #[test]
    fn d1_while_a_node_answers_the_next_address_waits() {
        let mut dialer = dialer();
        let (dial, _) = dialed(&mut dialer, Timestamp::ZERO)[0].clone();
        dialer.opened(dial, ConnId(1), Timestamp::ZERO);
        let counts = [9, 10, 11, 12].map(|turns| dialed(&mut dialer, at(turns)).len());
        assert_eq!(counts, [0, 1, 2, 4], "half of the time for a handshake, and then as before");
    }
}
