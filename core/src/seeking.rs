//! Finding each other: which addresses are dialed, and when again (PROTOCOL.md, "Finding each other").

use alloc::collections::{BTreeMap, BTreeSet};
use core::time::Duration;

use crate::{
    config::Config,
    error::RejectReason,
    id::{Address, ConnId, DialId, NodeId},
    rng::Rng,
    time::Timestamp,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Seeking {
    targets: BTreeMap<Address, Target>,
    dials: BTreeMap<DialId, Address>,
    last_dial: u64,
    backoff_min: Duration,
    backoff_max: Duration,
    rng: Rng,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Target {
    is_seed: bool,
    state: State,
    /// Whom the last established connection led to: the address need not be the one that the peer advertises.
    found: Option<NodeId>,
    retry_at: Timestamp,
    backoff: Duration,
    /// It leads to this node itself.
    is_self: bool,
    reported: BTreeSet<RejectReason>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    Idle,
    Dialing,
    Connected(ConnId),
}

impl Seeking {
    pub(crate) fn new(config: &Config, rng: Rng, now: Timestamp) -> Self {
        let (backoff_min, backoff_max) = (config.timing().dial_backoff_min, config.timing().dial_backoff_max);
        let mut seeking =
            Self { targets: BTreeMap::new(), dials: BTreeMap::new(), last_dial: 0, backoff_min, backoff_max, rng };
        for seed in config.seeds().iter().filter(|seed| *seed != config.address()) {
            seeking.add(seed, true, now);
        }
        for contact in config.contacts().iter().filter(|contact| *contact != config.address()) {
            seeking.add(contact, false, now);
        }
        seeking
    }

    pub(crate) fn add(&mut self, address: &Address, is_seed: bool, now: Timestamp) {
        self.targets.entry(address.clone()).or_insert(Target {
            is_seed,
            state: State::Idle,
            found: None,
            retry_at: now,
            backoff: self.backoff_min,
            is_self: false,
            reported: BTreeSet::new(),
        });
    }

    /// How many addresses beside the seeds there are, with these added.
    pub(crate) fn contacts_with<'a>(&self, more: impl Iterator<Item = &'a Address>) -> usize {
        let known = self.targets.values().filter(|target| !target.is_seed).count();
        known + more.filter(|address| !self.targets.contains_key(address)).collect::<BTreeSet<_>>().len()
    }

    /// Dials whatever is wanted and due.
    pub(crate) fn dial_due(
        &mut self,
        now: Timestamp,
        wanted: impl Fn(&Address, bool, Option<&NodeId>) -> bool,
    ) -> alloc::vec::Vec<(DialId, Address)> {
        let mut dials = alloc::vec::Vec::new();
        for (address, target) in &mut self.targets {
            let due = target.state == State::Idle && target.retry_at <= now && !target.is_self;
            if due && wanted(address, target.is_seed, target.found.as_ref()) {
                self.last_dial += 1;
                let dial = DialId(self.last_dial);
                target.state = State::Dialing;
                self.dials.insert(dial, address.clone());
                dials.push((dial, address.clone()));
            }
        }
        dials
    }

    /// When to look again for what is wanted but not due yet.
    pub(crate) fn next_retry(
        &self,
        now: Timestamp,
        wanted: impl Fn(&Address, bool, Option<&NodeId>) -> bool,
    ) -> Option<Timestamp> {
        let waiting =
            |(_, target): &(&Address, &Target)| target.state == State::Idle && target.retry_at > now && !target.is_self;
        let wanted = |(address, target): &(&Address, &Target)| wanted(address, target.is_seed, target.found.as_ref());
        self.targets.iter().filter(waiting).filter(wanted).map(|(_, target)| target.retry_at).min()
    }

    /// Whether the core has asked for this dial, ever.
    pub(crate) fn knows(&self, dial: DialId) -> bool {
        (1..=self.last_dial).contains(&dial.0)
    }

    /// The dial succeeded. `None` when it had been given up.
    pub(crate) fn opened(&mut self, dial: DialId, conn: ConnId) -> Option<Address> {
        let address = self.dials.remove(&dial)?;
        if let Some(target) = self.targets.get_mut(&address) {
            target.state = State::Connected(conn);
        }
        Some(address)
    }

    /// The dial failed, or took too long. `None` when that was known.
    pub(crate) fn failed(&mut self, dial: DialId, now: Timestamp) -> Option<Address> {
        let address = self.dials.remove(&dial)?;
        self.back_off(&address, now);
        Some(address)
    }

    pub(crate) fn established(&mut self, address: &Address, peer: &NodeId) {
        if let Some(target) = self.targets.get_mut(address) {
            target.found = Some(peer.clone());
        }
    }

    /// Who was found at the address has taken this node in, too: what stood in the way before is over.
    pub(crate) fn taken_in(&mut self, address: &Address) {
        if let Some(target) = self.targets.get_mut(address) {
            target.reported.clear();
            target.backoff = self.backoff_min;
        }
    }

    pub(crate) fn closed(&mut self, address: &Address, conn: ConnId, now: Timestamp) {
        if self.targets.get(address).is_some_and(|target| target.state == State::Connected(conn)) {
            self.back_off(address, now);
        }
    }

    /// This end or the other refused the link: whether that is news. A permanent refusal is retried as seldom as possible.
    pub(crate) fn refused(&mut self, address: &Address, reason: RejectReason) -> bool {
        let Some(target) = self.targets.get_mut(address) else { return true };
        if reason.is_permanent() {
            target.backoff = self.backoff_max;
        }
        target.reported.insert(reason)
    }

    /// The address leads to this node itself: whether that is news.
    pub(crate) fn is_self(&mut self, address: &Address) -> bool {
        self.targets.get_mut(address).is_some_and(|target| !core::mem::replace(&mut target.is_self, true))
    }

    fn back_off(&mut self, address: &Address, now: Timestamp) {
        let Some(target) = self.targets.get_mut(address) else { return };
        let wait = u64::try_from(target.backoff.as_micros()).unwrap_or(u64::MAX);
        // ±50 %, so that nodes that start together do not go on dialing together.
        let wait = wait / 2 + self.rng.up_to(wait);
        target.retry_at = now + Duration::from_micros(wait.max(1));
        target.backoff = target.backoff.saturating_mul(2).min(self.backoff_max);
        target.state = State::Idle;
    }
}
