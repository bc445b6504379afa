//! Rule E10: the voters change while the cluster runs.
//!
//! A node acts by its newest electorate that is durable. A newer one waits in the hard state until its `Persist` is answered.

use alloc::{collections::BTreeSet, vec::Vec};

use super::{Effect, Election, Mastership, State, Voter};
use crate::{
    api::electorate::{Electorate, ElectorateVersion},
    api::event::LossReason,
    api::explain::Waiting,
    id::{Address, Node, Term},
    time::Timestamp,
    wire::message::{Heartbeat, StatusReport},
    wire::voting::Voting,
};

/// How many times `down_after` a master that is to be removed waits before it hands over again.
const AGAIN: u32 = 3;

/// What a node may take that can reach no voter of its electorate: all of them may have been replaced while it was down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Offer {
    /// The newest electorate that a node at a configured address holds.
    electorate: Option<Electorate>,
    /// Since when this node has had no master and no link to a voter.
    alone_since: Option<Timestamp>,
}

/// What the embedder's view says about the nodes at the addresses of voters.
pub(crate) trait Roster {
    /// Whether an active member is there, which is linked and proven.
    fn is_active(&self, address: &Address) -> bool;
    /// Whether that member stores its votes.
    fn is_durable(&self, address: &Address) -> bool;
}

impl Election {
    /// The electorate by which this node acts.
    pub(crate) fn electorate(&self) -> &Electorate {
        &self.electorate
    }

    /// The newest electorate that this node has taken, which may not be durable yet. A vote must not depend on an older one.
    pub(super) fn newest_version(&self) -> ElectorateVersion {
        let newest = self.hard.electorate.as_ref().map(|electorate| electorate.version);
        newest.unwrap_or_default().max(self.electorate.version)
    }

    /// Receives the electorate that another node holds. Only a voter of this node's own electorate is believed. `is_configured`: the node was
    /// reached at an address of this node's configuration.
    pub(crate) fn electorate_received(&mut self, from: &Address, electorate: Electorate, is_configured: bool) {
        let (version, newest) = (electorate.version, self.newest_version());
        // In the term 0, no master has written it.
        if version.term == Term::default() || !self.is_near(version.term) {
            return;
        }
        if let Some(voter) = self.others.get_mut(from) {
            if version > newest {
                voter.offered = Some(electorate);
            }
        } else if is_configured && electorate.voters.contains(from) {
            let known = self.offer.electorate.as_ref().map(|known| known.version);
            if known < Some(version) {
                self.offer.electorate = Some(electorate);
            }
        }
        self.settle();
    }

    /// E1: a voter that starts again asks the voters of its electorate whether it may have promised them something. So a promise always binds
    /// it to one of them.
    fn keeps_promise_by(&self, electorate: &Electorate) -> bool {
        let may_have_forgotten = !self.bootstrap_over() && self.electorate.may_become_voter(&self.address);
        let is_missing = |address: &Address| !electorate.voters.contains(address);
        if may_have_forgotten && self.others.iter().any(|(address, voter)| !voter.cleared && is_missing(address)) {
            return false;
        }
        let Some(promise) = self.live_promise().filter(|promise| promise.to != self.me) else { return true };
        let is_promised = |voter: &Voter| {
            let reported = voter.last_report.as_ref().map(|report| &report.node);
            voter.linked.as_ref() == Some(&promise.to) || reported == Some(&promise.to)
        };
        let mut holders = self.others.iter().filter(|(_, voter)| is_promised(voter));
        holders.any(|(address, _)| electorate.voters.contains(address))
    }

    /// Whether the node at this address is still a voter in the newest electorate, which may not be durable yet.
    pub(super) fn stays_voter(&self, address: &Address) -> bool {
        self.hard.electorate.as_ref().is_none_or(|newest| newest.voters.contains(address))
    }

    /// Takes what voters have offered, as soon as the term of this node and its promises allow it.
    pub(super) fn take_offered(&mut self) {
        if self.others.values().all(|voter| voter.offered.is_none()) {
            return;
        }
        self.drop_old_offers();
        if self.is_master() {
            // It takes none. It may when it is no master any more.
            return;
        }
        let offers = self.others.values().filter_map(|voter| voter.offered.as_ref());
        let may_be_taken = |offer: &&Electorate| offer.version.term <= self.hard.term && self.keeps_promise_by(offer);
        if let Some(offer) = offers.filter(may_be_taken).max_by_key(|offer| offer.version).cloned() {
            self.take_electorate(offer);
            self.drop_old_offers();
        }
    }

    fn drop_old_offers(&mut self) {
        let newest = self.newest_version();
        for voter in self.others.values_mut() {
            voter.offered.take_if(|offered| offered.version <= newest);
        }
    }

    /// Whether the node is no voter any more in the newest electorate, which may not be durable yet.
    pub(super) fn is_removed(&self, node: &Node) -> bool {
        let is_it =
            |(address, voter): (&Address, &Voter)| voter.linked.as_ref() == Some(node) && !self.stays_voter(address);
        self.others.iter().any(is_it)
    }

    /// A master keeps the electorate that it writes.
    fn take_electorate(&mut self, electorate: Electorate) {
        if !self.is_master() {
            if self.state.candidacy().is_some() {
                // It has asked for votes by another electorate, and must not win with them.
                self.give_up();
            }
            if self.is_voter && !electorate.voters.contains(&self.address) {
                // E7: it may go back to a lower term, and must not vote twice in one when it is a voter again. From now on it votes no more.
                self.hard.spent = self.hard.term;
            }
            self.hard.electorate = Some(electorate);
            self.persist();
        }
    }

    /// A node that has reached no voter of its electorate for `bootstrap_wait` takes the one that it was offered. E7: it has never heard of the
    /// terms of those voters, and takes over that of the electorate.
    pub(super) fn take_offer(&mut self) {
        let is_alone = !self.is_master() && self.following.is_none() && !self.others.values().any(Voter::is_linked);
        self.offer.alone_since = is_alone.then(|| self.offer.alone_since.unwrap_or(self.now));
        if self.offer_due().is_some_and(|at| at <= self.now)
            && self.live_promise().is_none()
            && let Some(offer) = self.offer.electorate.take()
            && offer.version > self.newest_version()
            && self.is_near(offer.version.term)
        {
            if offer.version.term > self.hard.term {
                self.step_down(LossReason::NewerTerm);
                self.enter(offer.version.term, None);
            }
            self.take_electorate(offer);
        }
    }

    /// When this node takes the electorate that it was offered.
    pub(super) fn offer_due(&self) -> Option<Timestamp> {
        let since = self.offer.alone_since.filter(|_| self.offer.electorate.is_some())?;
        Some((since + self.timing.bootstrap_wait).max(self.bootstrap_end()))
    }

    /// A linked node holds this electorate. A master that holds an older one writes its own anew in its term. A candidate asks a voter again
    /// that knows its electorate now.
    pub(super) fn compare_electorates(
        &mut self,
        address: &Address,
        (knew, version): (Option<ElectorateVersion>, ElectorateVersion),
    ) {
        let own = self.electorate.version;
        if let State::Master(mastership) = &mut self.state {
            mastership.is_outdated |= version > own;
        }
        if version == own && knew.is_some_and(|knew| knew < own) && self.request_for(address).is_some() {
            self.effects.push_back(Effect::Ask(address.clone()));
        }
    }

    /// The electorate that the voter at this address holds, by its newest status.
    pub(super) fn electorate_of(&self, voter: &Address) -> Option<ElectorateVersion> {
        self.others.get(voter)?.last_report.as_ref().map(|report| report.electorate)
    }

    /// The hard state is durable. From now on this node acts by its electorate.
    pub(super) fn act_by_durable(&mut self) {
        let durable = self.persistence.durable.electorate.as_ref();
        let Some(electorate) = durable.filter(|durable| durable.version > self.electorate.version).cloned() else {
            return;
        };
        if self.state.candidacy().is_some() {
            self.give_up();
        }
        if let State::Master(mastership) = &self.state {
            // E6: a lease that was reported by the last electorate stays valid.
            self.lease_end = self.lease_end.max(self.lease_until(mastership, self.now));
        }
        self.quorum = electorate.quorum();
        self.is_voter = electorate.voters.contains(&self.address);
        let removed = |address: &Address| !electorate.voters.contains(address);
        let gone: BTreeSet<Address> = self.others.keys().filter(|address| removed(address)).cloned().collect();
        for address in &gone {
            self.remove_rival(address);
            if let Some(node) = self.others.remove(address).and_then(|voter| voter.linked) {
                self.deferred.remove(&node.id);
            }
        }
        for address in electorate.voters.iter().filter(|address| **address != self.address) {
            self.others.entry(address.clone()).or_default();
        }
        if let State::Master(mastership) = &mut self.state {
            mastership.confirmed.retain(|address, _| electorate.may_become_voter(address));
            mastership.changed_at = self.number;
            mastership.installed.clear();
            mastership.is_outdated = false;
        }
        if !self.is_voter {
            self.free_since = None;
            self.deferred.clear();
        }
        self.electorate = electorate;
        self.note_surplus();
        self.effects.push_back(Effect::ElectorateChanged);
    }

    /// A node at the address of a voter is linked, which was no voter before.
    pub(crate) fn voter_is_linked(
        &mut self,
        address: &Address,
        node: &Node,
        (voting, status): (Option<&Voting>, Option<&StatusReport>),
    ) {
        if self.others.get(address).is_some_and(|voter| voter.linked.is_none()) {
            self.link_up(address, node, voting);
            if let Some(status) = status {
                self.record_report(node, address, status);
                self.settle();
            }
        }
    }

    /// E2: the voters that are to be removed have their turns last.
    pub(super) fn note_surplus(&mut self) {
        for (address, voter) in &mut self.others {
            voter.is_surplus = self.electorate.is_surplus(address);
        }
    }

    /// The newest heartbeat of the master that this node follows. It is acknowledged again when the electorate has become durable: the master
    /// waits for that.
    pub(crate) fn newest_heartbeat(&self) -> Option<(&Node, Heartbeat)> {
        let following = self.following.as_ref()?;
        Some((&following.master, following.heartbeat?))
    }

    /// The voters that this master is asked to change to.
    pub(crate) fn want_voters(&mut self, voters: BTreeSet<Address>) {
        if let State::Master(mastership) = &mut self.state {
            if voters.contains(&self.address) {
                mastership.ends_at = None;
            }
            mastership.wanted = Some(voters);
        }
        self.settle();
    }

    /// The end of the lease by this electorate.
    pub(super) fn lease_by(&self, mastership: &Mastership, electorate: &Electorate) -> Timestamp {
        let own = usize::from(electorate.voters.contains(&self.address));
        // Without a target, only voters confirm.
        let is_voter = |address: &Address| self.electorate.target.is_none() || electorate.voters.contains(address);
        let confirmed = mastership.confirmed.iter().filter(|(address, _)| is_voter(address)).map(|(_, at)| *at);
        let start = match electorate.quorum() - own {
            0 => self.now,
            others => confirmed
                .clone()
                .filter(|at| confirmed.clone().filter(|other| other >= at).count() >= others)
                .max()
                .unwrap_or(Timestamp::ZERO),
        };
        start + self.timing.safe_lease()
    }

    /// Whether a quorum has confirmed, in this term, a heartbeat with the present electorate. Then no other node can be elected by an older
    /// electorate, nor by one that another master has made of it.
    fn is_installed(&self, mastership: &Mastership) -> bool {
        mastership.installed.len() + usize::from(self.is_voter) >= self.quorum
    }

    /// The voters to which the cluster is changing.
    pub(crate) fn target(&self) -> Option<&BTreeSet<Address>> {
        let wanted = self.state.mastership().and_then(|mastership| mastership.wanted.as_ref());
        wanted.or(self.electorate.target.as_ref())
    }

    /// What this master does for its electorate now, if anything.
    pub(crate) fn next_electorate_step(&self, roster: &impl Roster) -> ElectorateStep {
        let Some(mastership) = self.state.mastership().filter(|mastership| !mastership.solo) else {
            return ElectorateStep::None;
        };
        let target = self.target();
        let is_own = self.electorate.version.term == self.hard.term;
        let must_write_anew = mastership.is_outdated && !is_own;
        if target.is_none() && !must_write_anew {
            return ElectorateStep::None;
        }
        if self.persistence.failed || self.newest_version() > self.electorate.version {
            return ElectorateStep::Wait(Waiting::Storage);
        }
        let is_recorded = mastership.wanted.is_none() || mastership.wanted == self.electorate.target;
        if !is_own || !is_recorded {
            let voters = self.electorate.voters.clone();
            return ElectorateStep::Write(self.written(voters, target));
        }
        let Some(target) = target else { return ElectorateStep::None };
        if !self.is_installed(mastership) {
            let missing = self.others.keys().filter(|address| !mastership.installed.contains(*address));
            return ElectorateStep::Wait(Waiting::Voters(missing.cloned().collect()));
        }
        self.next_voters(mastership, target, roster)
    }

    /// The next electorate on the way to the target: voters are added before others are removed.
    fn next_voters(&self, mastership: &Mastership, target: &BTreeSet<Address>, roster: &impl Roster) -> ElectorateStep {
        let voters = &self.electorate.voters;
        let is_alive = |address: &Address| *address == self.address || roster.is_active(address);
        let keeps_a_quorum = |next: &Electorate| {
            let alive = next.voters.iter().filter(|address| is_alive(address)).count();
            alive >= next.quorum() && self.lease_by(mastership, next) > self.now
        };
        let missing = || target.iter().filter(|address| !voters.contains(*address));
        let is_fit = |address: &Address| roster.is_active(address) && roster.is_durable(address);
        let mut added = missing().filter(|address| is_fit(address));
        let with = |address: &Address| self.written(voters.iter().chain([address]).cloned().collect(), Some(target));
        if let Some(next) = added.find_map(|address| Some(with(address)).filter(keeps_a_quorum)) {
            return ElectorateStep::Write(next);
        }
        let unfit: BTreeSet<Address> = missing().filter(|address| !is_fit(address)).cloned().collect();
        if !unfit.is_empty() {
            return ElectorateStep::Wait(Waiting::Members(unfit));
        }
        let away = || voters.iter().chain(target).filter(|address| !is_alive(address)).cloned().collect();
        if missing().next().is_some() {
            return ElectorateStep::Wait(Waiting::Quorum(away()));
        }
        if mastership.ends_at.is_some() {
            return ElectorateStep::None;
        }
        let is_surplus = |address: &&Address| **address != self.address && self.electorate.is_surplus(address);
        let mut surplus: Vec<&Address> = voters.iter().filter(is_surplus).collect();
        if surplus.is_empty() {
            // The next master removes this one.
            let has_waited = self.hands_over_at().is_none_or(|at| at <= self.now);
            // A successor with an older electorate would not be elected.
            let successors = || target.iter().filter(|address| **address != self.address && is_alive(address));
            let has_successor =
                successors().next().is_some() && successors().all(|address| mastership.installed.contains(address));
            return match has_waited && has_successor {
                true => ElectorateStep::HandOver,
                false => ElectorateStep::Wait(Waiting::NextMaster),
            };
        }
        // Those that are away first.
        surplus.sort_by_key(|address| is_alive(address));
        let without = |address: &Address| {
            self.written(voters.iter().filter(|voter| *voter != address).cloned().collect(), Some(target))
        };
        match surplus.into_iter().map(without).find(keeps_a_quorum) {
            Some(next) => ElectorateStep::Write(next),
            None => ElectorateStep::Wait(Waiting::Quorum(away())),
        }
    }

    fn written(&self, voters: BTreeSet<Address>, target: Option<&BTreeSet<Address>>) -> Electorate {
        let target = target.filter(|target| **target != voters).cloned();
        Electorate { version: self.newest_version().next(self.hard.term), voters, target }
    }

    /// A master that is to be removed, and has handed over in vain, does so again at this time.
    pub(super) fn hands_over_at(&self) -> Option<Timestamp> {
        self.handed_over.map(|at| at + AGAIN * self.timing.down_after)
    }

    /// This master is to be removed. It reports no lease that ends later than the present one. When that ends, it resigns, and the next master
    /// removes it.
    pub(crate) fn hand_over(&mut self) {
        let ends_at = self.state.mastership().map(|mastership| self.lease_until(mastership, self.now));
        if let State::Master(mastership) = &mut self.state {
            mastership.ends_at = ends_at;
            self.handed_over = Some(self.now);
        }
    }

    /// This master writes the next electorate, and acts by it once it is durable. Returns whether it is a newer one.
    pub(crate) fn write_electorate(&mut self, electorate: Electorate) -> bool {
        if electorate.version <= self.newest_version() {
            return false;
        }
        if let State::Master(mastership) = &mut self.state {
            mastership.wanted.take_if(|wanted| electorate.target.as_ref().is_none_or(|target| target == wanted));
        }
        self.hard.electorate = Some(electorate);
        self.persist();
        self.settle();
        true
    }
}

/// What a master does for its electorate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ElectorateStep {
    /// Nothing: it has reached its target.
    None,
    /// It writes this electorate.
    Write(Electorate),
    /// It waits.
    Wait(Waiting),
    /// It is to be removed itself, and all else is done: it hands over.
    HandOver,
}

impl ElectorateStep {
    pub(crate) fn waits_for(&self) -> Option<&Waiting> {
        match self {
            Self::Wait(waits_for) => Some(waits_for),
            Self::None | Self::Write(_) | Self::HandOver => None,
        }
    }
}
