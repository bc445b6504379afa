//! Which addresses are dialed, and when again (PROTOCOL.md, "Finding each other").

mod checked;
mod contacts;
mod search;

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use core::{net::IpAddr, time::Duration};

use crate::{
    api::config::Config,
    api::error::{CloseReason, DialProblem, RejectReason},
    api::explain::Problem,
    id::{Address, ConnId, DialId, Node, NodeId},
    rng::Rng,
    time::Timestamp,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Dialer {
    targets: BTreeMap<Address, Target>,
    dials: BTreeMap<DialId, Address>,
    last_dial: u64,
    backoff_min: Duration,
    backoff_max: Duration,
    /// How long an address is left alone that led to a node of another address, or to this node itself.
    look_again: Duration,
    /// How long a dial or a connection in progress may take to show which node is at an address, before the address is dialed again.
    patience: Duration,
    /// D1: a node that is no voter dials one address first, and after each of these times twice as many. A voter dials all at once.
    stagger: Option<Duration>,
    /// How many addresses a discovery may find, and how many of those that it has found before are remembered.
    max_discovered: usize,
    rng: Rng,
}

/// What to dial, and which dials to forget.
#[derive(Debug, Default)]
pub(crate) struct Due {
    pub(crate) dials: Vec<(DialId, Address)>,
    pub(crate) given_up: Vec<DialId>,
}

/// Why an address is dialed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
enum TargetKind {
    Seed,
    Contact,
    /// The discovery of the embedder has found it.
    Discovered,
    /// The discovery does not find it any more, since this time. It is not dialed again, and remembered for a while: an answer that
    /// varies must not make it new each time.
    Gone(Timestamp),
    /// This node's own address, only to see which run of the node is there.
    Own,
    /// Only to see which node is there, because a peer in this network claims it. It is forgotten a while after the last claim.
    Checked(Option<IpAddr>),
}

impl TargetKind {
    /// The configuration or a command names the address.
    fn is_configured(self) -> bool {
        match self {
            Self::Seed | Self::Contact => true,
            Self::Discovered | Self::Gone(_) | Self::Own | Self::Checked(_) => false,
        }
    }

    /// The address is dialed again and again, and not only because of a claim.
    fn is_sought(self) -> bool {
        match self {
            Self::Seed | Self::Contact | Self::Discovered => true,
            Self::Gone(_) | Self::Own | Self::Checked(_) => false,
        }
    }

    /// A discovery finds it, or has found it before.
    fn is_of_discovery(self) -> bool {
        match self {
            Self::Discovered | Self::Gone(_) => true,
            Self::Seed | Self::Contact | Self::Own | Self::Checked(_) => false,
        }
    }

    fn is_checked(self) -> bool {
        match self {
            Self::Checked(_) => true,
            Self::Seed | Self::Contact | Self::Discovered | Self::Gone(_) | Self::Own => false,
        }
    }
}

/// Why an address is to be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It is this node's own address.
    Own,
    /// A peer in this network claims it, or the id of the node there.
    Claim(Option<IpAddr>),
}

/// When an address is dialed to see which node is there, because a peer claims it (H11).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
struct Check {
    due: Option<Timestamp>,
    /// When the last check began, or when it ended, if it was short.
    last: Timestamp,
    /// The shortest time between the last check and the next.
    spacing: Duration,
    /// The last check has found a node that is at this address.
    is_answered: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
struct Target {
    kind: TargetKind,
    check: Check,
    /// The last node that was linked from this address, and the nonce in its `Hello`.
    nonce: Option<(Node, [u8; 16])>,
    state: TargetState,
    /// The peer that the last established connection led to. It may advertise another address than this one.
    found: Option<NodeId>,
    /// When to dial again to see where the address leads: the peer advertises another address, or it is this node itself.
    look_at: Option<Timestamp>,
    retry_at: Timestamp,
    /// D1: it is dialed at `retry_at` because others have their turn before it. No dial has failed.
    waits_for_turn: bool,
    backoff: Duration,
    /// What was found there the last time, if that was not the node that is wanted.
    problem: Option<Problem>,
    /// It led to this node itself, and to no other node since.
    is_self: bool,
    /// The rejections by the node at this address that were reported.
    reported: BTreeSet<RejectReason>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
enum TargetState {
    Idle,
    /// `is_check`: because of a claim. Such a dial has all its time, so that no further claim can keep a slow node from being reached.
    Dialing {
        is_check: bool,
    },
    Connected {
        conn: ConnId,
        /// It has led to a node of another address, or to this node itself. How it ends says less about the address.
        is_elsewhere: bool,
    },
}

impl Target {
    /// When it may be dialed because there is no connection.
    fn retry_due(&self) -> Option<Timestamp> {
        (self.kind.is_sought() && self.state == TargetState::Idle && !self.is_self).then_some(self.retry_at)
    }

    /// When it may be dialed to see where it leads now.
    fn look_due(&self) -> Option<Timestamp> {
        self.look_at.filter(|_| !self.is_dialing() && self.kind.is_sought())
    }

    fn is_dialing(&self) -> bool {
        match self.state {
            TargetState::Dialing { .. } => true,
            TargetState::Idle | TargetState::Connected { .. } => false,
        }
    }

    /// It is not checked at the moment, and no check is planned.
    fn is_at_rest(&self) -> bool {
        self.state == TargetState::Idle && self.check.due.is_none()
    }

    /// A claim to the address has come, and is not proven.
    fn plan_check(
        &mut self,
        now: Timestamp,
        patience: Duration,
        look_again: Duration,
        is_open: impl Fn(ConnId) -> bool,
    ) {
        let wait = match self.state {
            TargetState::Dialing { is_check: true } => return,
            TargetState::Idle => Duration::ZERO,
            TargetState::Connected { conn, .. } if !is_open(conn) => Duration::ZERO,
            // The dial in progress may wait for a node that was not there when it began.
            TargetState::Dialing { is_check: false } | TargetState::Connected { .. } => patience,
        };
        if now.since(self.check.last) >= look_again {
            self.check.spacing = Duration::ZERO;
        }
        self.check.due.get_or_insert((now + wait).max(self.check.last + self.check.spacing));
    }

    /// A connection to the address has shown which node is there: the one that is wanted, or another one.
    fn leads(&mut self, elsewhere: bool) {
        self.problem = elsewhere.then_some(Problem::AnotherNode);
        if let TargetState::Connected { is_elsewhere, .. } = &mut self.state {
            *is_elsewhere = elsewhere;
        }
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
        let patience = config.timing().handshake_timeout / 2;
        let stagger = (!config.is_voter()).then_some(config.timing().stagger);
        let max_discovered = config.limits().discovered;
        let last_dial = 0;
        let mut dialer = Self {
            targets,
            dials,
            last_dial,
            backoff_min,
            backoff_max,
            look_again,
            patience,
            stagger,
            max_discovered,
            rng,
        };
        for seed in config.seeds().iter().filter(|seed| *seed != config.address()) {
            dialer.add(seed, TargetKind::Seed, now);
        }
        for contact in config.contacts().iter().filter(|contact| *contact != config.address()) {
            dialer.add_contact(contact, now);
        }
        dialer.wait_for_turns(now);
        dialer
    }

    fn add(&mut self, address: &Address, kind: TargetKind, now: Timestamp) {
        self.targets.entry(address.clone()).or_insert(Target {
            kind,
            check: Check::default(),
            nonce: None,
            state: TargetState::Idle,
            found: None,
            look_at: None,
            retry_at: now,
            waits_for_turn: false,
            backoff: self.backoff_min,
            problem: None,
            is_self: false,
            reported: BTreeSet::new(),
        });
    }

    /// Dials the addresses that are wanted and due.
    pub(crate) fn dial_due(
        &mut self,
        now: Timestamp,
        wanted: impl Fn(&Address, bool, Option<&NodeId>) -> bool,
        needs_check: impl Fn(&Address) -> bool,
    ) -> Due {
        let mut due = Due::default();
        let mut room = self.room_of_discovery();
        for (address, target) in &mut self.targets {
            let is_held = target.kind == TargetKind::Discovered && room == 0;
            let retries = target.retry_due().is_some_and(|at| at <= now);
            let looks = target.look_due().is_some_and(|at| at <= now);
            let is_wanted = |found| wanted(address, target.kind == TargetKind::Seed, found);
            let checks = target.check.due.is_some_and(|at| at <= now);
            if checks {
                target.check.due = None;
            }
            let checks = checks && needs_check(address);
            let is_sought = !is_held && ((retries && is_wanted(target.found.as_ref())) || (looks && is_wanted(None)));
            if is_sought || checks {
                if target.is_dialing() {
                    let of_address = |dial: &DialId| self.dials.get(dial) == Some(address);
                    let old: Vec<DialId> = self.dials.keys().copied().filter(of_address).collect();
                    old.iter().for_each(|dial| drop(self.dials.remove(dial)));
                    due.given_up.extend(old);
                }
                if checks {
                    target.check.last = now;
                    target.check.spacing = (target.check.spacing * 2).clamp(self.backoff_min, self.backoff_max);
                    target.check.is_answered = false;
                }
                self.last_dial += 1;
                let dial = DialId(self.last_dial);
                if target.kind == TargetKind::Discovered && !target.is_dialing() {
                    room = room.saturating_sub(1);
                }
                target.state = TargetState::Dialing { is_check: checks };
                target.waits_for_turn = false;
                target.look_at = target.look_at.map(|_| now + self.look_again);
                self.dials.insert(dial, address.clone());
                due.dials.push((dial, address.clone()));
            }
        }
        self.forget_checked(now);
        due
    }

    /// How many more discovered addresses may be dialed now. The dials to those that have gone count until they end, so that a source
    /// with other addresses in each answer does not cause any number of dials.
    fn room_of_discovery(&self) -> usize {
        let dialing = self.targets.values().filter(|target| target.kind.is_of_discovery() && target.is_dialing());
        self.max_discovered.saturating_sub(dialing.count())
    }

    /// When the next address that is wanted becomes due. Those that wait for the end of another dial have no such time.
    pub(crate) fn next_retry(&self, wanted: impl Fn(&Address, bool, Option<&NodeId>) -> bool) -> Option<Timestamp> {
        let has_room = self.room_of_discovery() > 0;
        let next = |(address, target): (&Address, &Target)| {
            let is_free = has_room || target.kind != TargetKind::Discovered;
            let is_wanted = |found| wanted(address, target.kind == TargetKind::Seed, found);
            let retry = target.retry_due().filter(|_| is_wanted(target.found.as_ref()));
            let look = target.look_due().filter(|_| is_wanted(None));
            retry.into_iter().chain(look).filter(|_| is_free).chain(target.check.due).min()
        };
        self.targets.iter().filter_map(next).min()
    }

    /// The address is dialed to see which node is there. `is_open`: a connection that was dialed to it may still show that. Claims cost
    /// at most one dial per `dial_backoff_max` in the long run. Returns false if too many addresses are checked already.
    pub(crate) fn check_address(
        &mut self,
        address: &Address,
        reason: Reason,
        now: Timestamp,
        is_open: impl Fn(ConnId) -> bool,
    ) -> bool {
        if !self.targets.contains_key(address) {
            match reason {
                Reason::Own => self.add(address, TargetKind::Own, now),
                Reason::Claim(network) if self.makes_room(network, now) => {
                    self.add(address, TargetKind::Checked(network), now);
                }
                Reason::Claim(_) => return false,
            }
        }
        if let Some(target) = self.targets.get_mut(address) {
            target.plan_check(now, self.patience, self.look_again, is_open);
        }
        true
    }

    /// The address is claimed still. If nothing is under way that shows which node is there, it is dialed again. Returns false if too
    /// many addresses are checked already.
    pub(crate) fn recheck_address(&mut self, address: &Address, reason: Reason, now: Timestamp) -> bool {
        match self.targets.get(address).map(|target| target.state) {
            None | Some(TargetState::Idle) => self.check_address(address, reason, now, |_| true),
            Some(TargetState::Dialing { .. } | TargetState::Connected { .. }) => true,
        }
    }

    /// Whether the configuration or a command names the address.
    pub(crate) fn is_configured(&self, address: &Address) -> bool {
        self.targets.get(address).is_some_and(|target| target.kind.is_configured())
    }

    /// How long a claim waits for its address to be checked, if there was no room.
    pub(crate) fn wait_for_room(&self) -> Duration {
        self.backoff_max
    }

    /// The nonce of the last `Hello` of this node on a link.
    pub(crate) fn voucher(&self, address: &Address, node: &Node) -> Option<[u8; 16]> {
        let (known, nonce) = self.targets.get(address)?.nonce.as_ref()?;
        (known == node).then_some(*nonce)
    }

    pub(crate) fn note_nonce(&mut self, address: &Address, node: &Node, nonce: [u8; 16]) {
        if let Some(target) = self.targets.get_mut(address) {
            target.nonce = Some((node.clone(), nonce));
        }
    }

    /// A number for a dial of a stream, which has nothing to do with the addresses here.
    pub(crate) fn next_dial(&mut self) -> DialId {
        self.last_dial += 1;
        DialId(self.last_dial)
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
        let is_dialing = |(_, target): &(&Address, &Target)| target.is_dialing();
        let expected = self.targets.iter().filter(is_dialing).map(|(address, _)| address);
        assert!(dialing.into_iter().eq(expected), "each address that is dialed has one dial under way");
        for (address, target) in &self.targets {
            if let TargetState::Connected { conn, .. } = target.state {
                assert_eq!(dialed(conn), Some(address), "{conn} was dialed to {address}");
            }
        }
    }

    /// The dial has succeeded. `None` when it had been given up.
    pub(crate) fn opened(&mut self, dial: DialId, conn: ConnId, now: Timestamp) -> Option<Address> {
        let address = self.dials.remove(&dial)?;
        let is_check = |target: &Target| target.state == TargetState::Dialing { is_check: true };
        if self.targets.get(&address).is_some_and(|target| target.kind.is_sought() && !is_check(target)) {
            self.await_answer(now);
        }
        if let Some(target) = self.targets.get_mut(&address) {
            target.state = TargetState::Connected { conn, is_elsewhere: false };
        }
        Some(address)
    }

    /// The dial has failed, or has taken too long. `None` when that was known.
    pub(crate) fn failed(&mut self, dial: DialId, problem: DialProblem, now: Timestamp) -> Option<Address> {
        let address = self.dials.remove(&dial)?;
        self.found(&address, Some(Problem::NotReached(problem)));
        self.back_off(&address, now);
        Some(address)
    }

    /// The dialed address leads to this peer, which advertises an address of its own.
    pub(crate) fn established(&mut self, address: &Address, peer: &NodeId, advertised: &Address, now: Timestamp) {
        if let Some(target) = self.targets.get_mut(address) {
            target.found = Some(peer.clone());
            let is_elsewhere = address != advertised;
            target.leads(is_elsewhere);
            target.is_self = false;
            target.check.is_answered = !is_elsewhere;
            target.look_at = is_elsewhere.then(|| now + self.look_again);
        }
    }

    /// H10: the peer at the address has accepted this node, too. The reason that kept this node from a link is gone.
    pub(crate) fn accepted(&mut self, address: &Address) {
        if let Some(target) = self.targets.get_mut(address) {
            target.reported.retain(|reason| reason.is_from_master());
        }
    }

    /// D1: a link to the node at this address has stood. A shorter one shows nothing: its peer may have ended it at once.
    pub(crate) fn stood(&mut self, address: &Address) {
        if let Some(target) = self.targets.get_mut(address) {
            target.backoff = self.backoff_min;
        }
    }

    /// H10: the master at the address has made this node a member.
    pub(crate) fn admitted(&mut self, master: &Address) {
        if let Some(target) = self.targets.get_mut(master) {
            target.reported.retain(|reason| !reason.is_from_master());
        }
    }

    pub(crate) fn closed(&mut self, address: &Address, conn: ConnId, reason: Option<CloseReason>, now: Timestamp) {
        match self.targets.get(address).map(|target| target.state) {
            Some(TargetState::Connected { conn: known, is_elsewhere }) if known == conn => {
                let problem =
                    if is_elsewhere { Problem::AnotherNode } else { reason.map_or(Problem::Ended, Problem::Closed) };
                self.found(address, Some(problem));
                self.back_off(address, now);
            }
            Some(TargetState::Connected { .. } | TargetState::Dialing { .. } | TargetState::Idle) | None => {}
        }
    }

    /// The address leads to a node that this one rejects for this reason, or that rejects this one.
    pub(crate) fn led_to_rejection(&mut self, address: &Address, reason: RejectReason) {
        if let Some(target) = self.targets.get_mut(address) {
            target.is_self = false;
            target.slow_down(reason, self.backoff_max);
        }
    }

    /// TLS failed with the node at the address: only a person can repair that.
    pub(crate) fn tls_failed(&mut self, address: &Address) {
        if let Some(target) = self.targets.get_mut(address) {
            target.backoff = self.backoff_max;
        }
    }

    /// The node at the address has rejected this node. Returns true if this was not reported before.
    pub(crate) fn rejected(&mut self, address: &Address, reason: RejectReason) -> bool {
        let Some(target) = self.targets.get_mut(address) else { return true };
        target.slow_down(reason, self.backoff_max);
        target.reported.insert(reason)
    }

    /// The address leads to this node itself. Returns true if this was not known.
    pub(crate) fn is_self(&mut self, address: &Address, now: Timestamp) -> bool {
        let Some(target) = self.targets.get_mut(address) else { return false };
        target.look_at = Some(now + self.look_again);
        target.leads(true);
        !core::mem::replace(&mut target.is_self, true)
    }

    fn found(&mut self, address: &Address, problem: Option<Problem>) {
        if let Some(target) = self.targets.get_mut(address) {
            target.problem = problem;
        }
    }

    /// What was found at the address the last time, if that was not the node that is wanted.
    pub(crate) fn problem(&self, address: &Address) -> Option<Problem> {
        self.targets.get(address)?.problem
    }

    /// When the address is dialed again.
    pub(crate) fn dialed_again_at(&self, address: &Address) -> Option<Timestamp> {
        let target = self.targets.get(address)?;
        target.retry_due().into_iter().chain(target.look_due()).min()
    }

    /// Why the master at this address does not admit this node, if it has said so.
    pub(crate) fn not_admitted_because(&self, master: &Address) -> Option<RejectReason> {
        self.targets.get(master)?.reported.iter().copied().find(|reason| reason.is_from_master())
    }

    fn back_off(&mut self, address: &Address, now: Timestamp) {
        let Some(target) = self.targets.get_mut(address) else { return };
        let wait = u64::try_from(target.backoff.as_micros()).unwrap_or(u64::MAX);
        // ±50 %, so that nodes that start together do not keep dialing together.
        let wait = wait / 2 + self.rng.up_to(wait);
        target.retry_at = now + Duration::from_micros(wait.max(1));
        target.backoff = target.backoff.saturating_mul(2).min(self.backoff_max);
        target.state = TargetState::Idle;
        if now.since(target.check.last) < self.look_again {
            target.check.last = now;
        }
        self.next_turn(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::violations::{Violation, expect_all_listed, expect_violations};

    /// A dial to the seed b is in progress.
    fn dialing() -> Dialer {
        let config = Config::builder("test", "a", "a:1").seeds(["a:1", "b:1"]).build().unwrap();
        let mut dialer = Dialer::new(&config, Rng::new(1), Timestamp::ZERO);
        assert_eq!(dialer.dial_due(Timestamp::ZERO, |_, _, _| true, |_| true).dials.len(), 1);
        dialer
    }

    const VIOLATIONS: [Violation<Dialer>; 2] = [
        (dialing, |d| d.dials.clear(), "each address that is dialed has one dial under way"),
        (dialing, |d| drop(d.opened(DialId(1), ConnId(1), Timestamp::ZERO)), "1 was dialed to b:1"),
    ];

    #[test]
    fn every_invariant_of_the_dialer_notices_its_violation() {
        expect_violations(&VIOLATIONS, |d| d.check(|_| None));
        expect_all_listed(include_str!("dialer.rs"), &VIOLATIONS);
    }
}
