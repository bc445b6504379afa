//! Which addresses are dialed, and when again (PROTOCOL.md, "Finding each other").

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use core::time::Duration;

use crate::{
    api::config::Config,
    api::error::RejectReason,
    id::{Address, ConnId, DialId, NodeId},
    rng::Rng,
    time::Timestamp,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Dialer {
    targets: BTreeMap<Address, Target>,
    dials: BTreeMap<DialId, Address>,
    last_dial: u64,
    backoff_min: Duration,
    backoff_max: Duration,
    /// How long an address is left alone that led to a node of another address, or to this node itself.
    look_again: Duration,
    rng: Rng,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Target {
    is_seed: bool,
    state: TargetState,
    /// The peer that the last established connection led to. It may advertise another address than this one.
    found: Option<NodeId>,
    /// When to dial again to see where the address leads: the peer advertises another address, or it is this node itself.
    look_at: Option<Timestamp>,
    retry_at: Timestamp,
    backoff: Duration,
    /// It led to this node itself, and to no other node since.
    is_self: bool,
    /// The rejections by the node at this address that were reported.
    reported: BTreeSet<RejectReason>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum TargetState {
    Idle,
    Dialing,
    Connected(ConnId),
}

impl Target {
    /// When it may be dialed because there is no connection.
    fn retry_due(&self) -> Option<Timestamp> {
        (self.state == TargetState::Idle && !self.is_self).then_some(self.retry_at)
    }

    /// When it may be dialed to see where it leads now.
    fn look_due(&self) -> Option<Timestamp> {
        self.look_at.filter(|_| self.state != TargetState::Dialing)
    }

    /// An address whose node rejects this one for good is dialed as rarely as possible.
    fn slow_down(&mut self, reason: RejectReason, backoff_max: Duration) {
        if reason.is_permanent() {
            self.backoff = backoff_max;
        }
    }
}

impl Dialer {
    pub(crate) fn new(config: &Config, rng: Rng, now: Timestamp) -> Self {
        let (backoff_min, backoff_max) = (config.timing().dial_backoff_min, config.timing().dial_backoff_max);
        let look_again = config.timing().down_after;
        let (targets, dials) = (BTreeMap::new(), BTreeMap::new());
        let mut dialer = Self { targets, dials, last_dial: 0, backoff_min, backoff_max, look_again, rng };
        for seed in config.seeds().iter().filter(|seed| *seed != config.address()) {
            dialer.add(seed, true, now);
        }
        for contact in config.contacts().iter().filter(|contact| *contact != config.address()) {
            dialer.add(contact, false, now);
        }
        dialer
    }

    pub(crate) fn add(&mut self, address: &Address, is_seed: bool, now: Timestamp) {
        self.targets.entry(address.clone()).or_insert(Target {
            is_seed,
            state: TargetState::Idle,
            found: None,
            look_at: None,
            retry_at: now,
            backoff: self.backoff_min,
            is_self: false,
            reported: BTreeSet::new(),
        });
    }

    /// How many addresses there would be beside the seeds, with these added.
    pub(crate) fn contacts_with<'a>(&self, more: impl Iterator<Item = &'a Address>) -> usize {
        let known = self.targets.values().filter(|target| !target.is_seed).count();
        known + more.filter(|address| !self.targets.contains_key(address)).collect::<BTreeSet<_>>().len()
    }

    /// Dials the addresses that are wanted and due.
    pub(crate) fn dial_due(
        &mut self,
        now: Timestamp,
        wanted: impl Fn(&Address, bool, Option<&NodeId>) -> bool,
    ) -> Vec<(DialId, Address)> {
        let mut dials = Vec::new();
        for (address, target) in &mut self.targets {
            let retries = target.retry_due().is_some_and(|at| at <= now);
            let looks = target.look_due().is_some_and(|at| at <= now);
            let is_wanted = |found| wanted(address, target.is_seed, found);
            if (retries && is_wanted(target.found.as_ref())) || (looks && is_wanted(None)) {
                self.last_dial += 1;
                let dial = DialId(self.last_dial);
                target.state = TargetState::Dialing;
                target.look_at = target.look_at.map(|_| now + self.look_again);
                self.dials.insert(dial, address.clone());
                dials.push((dial, address.clone()));
            }
        }
        dials
    }

    /// When the next address that is wanted becomes due.
    pub(crate) fn next_retry(&self, wanted: impl Fn(&Address, bool, Option<&NodeId>) -> bool) -> Option<Timestamp> {
        let next = |(address, target): (&Address, &Target)| {
            let is_wanted = |found| wanted(address, target.is_seed, found);
            let retry = target.retry_due().filter(|_| is_wanted(target.found.as_ref()));
            let look = target.look_due().filter(|_| is_wanted(None));
            retry.into_iter().chain(look).min()
        };
        self.targets.iter().filter_map(next).min()
    }

    /// Whether this dial was ever asked for.
    pub(crate) fn knows(&self, dial: DialId) -> bool {
        (1..=self.last_dial).contains(&dial.0)
    }

    /// The dials under way.
    pub(crate) fn dials(&self) -> impl Iterator<Item = DialId> {
        self.dials.keys().copied()
    }

    /// Checks what holds between two inputs. `dialed`: the address that was dialed for a connection.
    ///
    /// # Panics
    /// When something does not hold.
    pub(crate) fn check<'a>(&self, dialed: impl Fn(ConnId) -> Option<&'a Address>) {
        let mut dialing: Vec<_> = self.dials.values().collect();
        dialing.sort_unstable();
        let is_dialing = |(_, target): &(&Address, &Target)| target.state == TargetState::Dialing;
        let expected = self.targets.iter().filter(is_dialing).map(|(address, _)| address);
        assert!(dialing.into_iter().eq(expected), "each address that is dialed has one dial under way");
        for (address, target) in &self.targets {
            if let TargetState::Connected(conn) = target.state {
                assert_eq!(dialed(conn), Some(address), "{conn} was dialed to {address}");
            }
        }
    }

    /// The dial has succeeded. `None` when it had been given up.
    pub(crate) fn opened(&mut self, dial: DialId, conn: ConnId) -> Option<Address> {
        let address = self.dials.remove(&dial)?;
        if let Some(target) = known(&mut self.targets, &address) {
            target.state = TargetState::Connected(conn);
        }
        Some(address)
    }

    /// The dial has failed, or has taken too long. `None` when that was known.
    pub(crate) fn failed(&mut self, dial: DialId, now: Timestamp) -> Option<Address> {
        let address = self.dials.remove(&dial)?;
        self.back_off(&address, now);
        Some(address)
    }

    /// The dialed address leads to this peer, which advertises an address of its own.
    pub(crate) fn established(&mut self, address: &Address, peer: &NodeId, advertised: &Address, now: Timestamp) {
        if let Some(target) = known(&mut self.targets, address) {
            target.found = Some(peer.clone());
            target.is_self = false;
            target.look_at = (address != advertised).then(|| now + self.look_again);
        }
    }

    /// H10: the peer at the address has accepted this node, too. What kept this node from a link is over.
    pub(crate) fn accepted(&mut self, address: &Address) {
        if let Some(target) = known(&mut self.targets, address) {
            target.reported.retain(|reason| reason.is_from_master());
            target.backoff = self.backoff_min;
        }
    }

    /// H10: the master at the address has made this node a member.
    pub(crate) fn admitted(&mut self, master: &Address) {
        if let Some(target) = known(&mut self.targets, master) {
            target.reported.retain(|reason| !reason.is_from_master());
        }
    }

    pub(crate) fn closed(&mut self, address: &Address, conn: ConnId, now: Timestamp) {
        if known(&mut self.targets, address).is_some_and(|target| target.state == TargetState::Connected(conn)) {
            self.back_off(address, now);
        }
    }

    /// The address leads to a node that this one rejects for this reason, or that rejects this one.
    pub(crate) fn led_to_rejection(&mut self, address: &Address, reason: RejectReason) {
        if let Some(target) = known(&mut self.targets, address) {
            target.is_self = false;
            target.slow_down(reason, self.backoff_max);
        }
    }

    /// TLS failed with the node at the address: only a person can repair that.
    pub(crate) fn tls_failed(&mut self, address: &Address) {
        if let Some(target) = known(&mut self.targets, address) {
            target.backoff = self.backoff_max;
        }
    }

    /// The node at the address has rejected this node. Returns true if this was not reported before.
    pub(crate) fn rejected(&mut self, address: &Address, reason: RejectReason) -> bool {
        let Some(target) = known(&mut self.targets, address) else { return true };
        target.slow_down(reason, self.backoff_max);
        target.reported.insert(reason)
    }

    /// The address leads to this node itself. Returns true if this was not known.
    pub(crate) fn is_self(&mut self, address: &Address, now: Timestamp) -> bool {
        let Some(target) = known(&mut self.targets, address) else { return false };
        target.look_at = Some(now + self.look_again);
        !core::mem::replace(&mut target.is_self, true)
    }

    fn back_off(&mut self, address: &Address, now: Timestamp) {
        let Some(target) = known(&mut self.targets, address) else { return };
        let wait = u64::try_from(target.backoff.as_micros()).unwrap_or(u64::MAX);
        // ±50 %, so that nodes that start together do not keep dialing together.
        let wait = wait / 2 + self.rng.up_to(wait);
        target.retry_at = now + Duration::from_micros(wait.max(1));
        target.backoff = target.backoff.saturating_mul(2).min(self.backoff_max);
        target.state = TargetState::Idle;
    }
}

/// The target at an address that was dialed, or at a seed other than this node's own. No target is ever removed.
fn known<'a>(targets: &'a mut BTreeMap<Address, Target>, address: &Address) -> Option<&'a mut Target> {
    let target = targets.get_mut(address);
    debug_assert!(target.is_some(), "{address} is a target");
    target
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::violations::{Violation, expect_all_listed, expect_violations};

    /// A dial to the seed b is in progress.
    fn dialing() -> Dialer {
        let config = Config::builder("test", "a", "a:1").seeds(["a:1", "b:1"]).build().unwrap();
        let mut dialer = Dialer::new(&config, Rng::new(1), Timestamp::ZERO);
        assert_eq!(dialer.dial_due(Timestamp::ZERO, |_, _, _| true).len(), 1);
        dialer
    }

    const VIOLATIONS: [Violation<Dialer>; 2] = [
        (dialing, |d| d.dials.clear(), "each address that is dialed has one dial under way"),
        (dialing, |d| drop(d.opened(DialId(1), ConnId(1))), "1 was dialed to b:1"),
    ];

    #[test]
    fn every_invariant_of_the_dialer_notices_its_violation() {
        expect_violations(&VIOLATIONS, |d| d.check(|_| None));
        expect_all_listed(include_str!("dialer.rs"), &VIOLATIONS);
    }
}
