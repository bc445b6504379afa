//! Keeping as many voters as the configuration asks for (PROTOCOL.md, E10).

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};
use core::time::Duration;

use crate::{
    api::config::Autopilot as Settings,
    api::electorate::ElectorateVersion,
    api::event::Event,
    api::explain::Waiting,
    env::{Env, Sink},
    id::{Address, Node},
    reported::Reported,
    time::Timestamp,
    timers::{Timer, Timers},
};

/// For so many times `down_after` after a change, and at the beginning of a mastership, the voters stay as they are.
const SETTLES: u32 = 10;

/// How many members are dialed at a time, to see whether they are at their addresses.
const CHECKS: usize = 8;

/// Since when a master knows what it judges by. There are not more addresses than voters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "snapshot", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Autopilot {
    /// The electorate, and since when it is that one. `None` if this node is no master, or keeps no number of voters.
    seen: Option<(ElectorateVersion, Timestamp)>,
    /// The voters that had no link whenever this master has looked, and since when.
    away: BTreeMap<Address, Timestamp>,
    /// The zones of the voters, as far as they have been known.
    zones: BTreeMap<Address, String>,
    /// The last member that was dialed to see whether it is at its address.
    checked: Option<Address>,
    lacks: Reported<(usize, BTreeSet<Address>, Option<Address>)>,
}

/// A voter, as its master sees it.
pub(crate) struct Voter {
    pub(crate) address: Address,
    pub(crate) zone: Option<String>,
    /// It has a proven link, or is the master itself.
    pub(crate) is_linked: bool,
}

/// A member that could become a voter.
pub(crate) struct Spare {
    pub(crate) address: Address,
    pub(crate) node: Node,
    pub(crate) zone: Option<String>,
}

/// The voters, as their master sees them when it looks.
pub(crate) struct Sight {
    pub(crate) version: ElectorateVersion,
    pub(crate) voters: Vec<Voter>,
    /// The voters that were asked for last, if they are not all voters yet.
    pub(crate) target: Option<BTreeSet<Address>>,
    /// The reason why that waits, if it does.
    pub(crate) waits_for: Option<Waiting>,
    /// A voter that does not store its votes.
    pub(crate) in_memory: Option<Address>,
}

impl Autopilot {
    /// `kept`: the electorate, if this node is a master that keeps a number of voters.
    pub(crate) fn update(&mut self, env: &Env, sink: &mut Sink, kept: Option<ElectorateVersion>) {
        match (kept, &self.seen) {
            (Some(version), None) => {
                self.seen = Some((version, env.now));
                sink.set_timer(Timer::Autopilot, env.now + env.timing().down_after);
            }
            (None, Some(_)) => {
                *self = Self::default();
                sink.clear_timer(&Timer::Autopilot);
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
    }

    /// The timer is due. Returns the voters that the cluster should have, if these are others.
    pub(crate) fn look(
        &mut self,
        env: &Env,
        sink: &mut Sink,
        settings: &Settings,
        sight: &Sight,
        spares: impl FnOnce() -> Vec<Spare>,
    ) -> Option<BTreeSet<Address>> {
        sink.set_timer(Timer::Autopilot, env.now + env.timing().down_after);
        let since = match self.seen {
            Some((version, since)) if version == sight.version => since,
            Some(_) | None => env.now,
        };
        self.seen = Some((sight.version, since));
        let is_away = |address: &Address| sight.voters.iter().any(|it| it.address == *address && !it.is_linked);
        self.away.retain(|address, _| is_away(address));
        for voter in sight.voters.iter().filter(|voter| !voter.is_linked) {
            self.away.entry(voter.address.clone()).or_insert(env.now);
        }
        self.zones.retain(|address, _| sight.voters.iter().any(|voter| voter.address == *address));
        for voter in &sight.voters {
            if let Some(zone) = &voter.zone {
                self.zones.insert(voter.address.clone(), zone.clone());
            }
        }
        let settles = SETTLES * env.timing().down_after;
        let (patience, missing) = match (&sight.target, &sight.waits_for) {
            (None, _) => (settles, BTreeSet::new()),
            // They have had their chance.
            (Some(_), Some(Waiting::Members(missing))) => (settles.max(settings.replace_after), missing.clone()),
            (Some(_), _) => return None,
        };
        let is_lost = |(_, since): &(&Address, &Timestamp)| env.now.since(**since) >= settings.replace_after;
        let lost: BTreeSet<Address> = self.away.iter().filter(is_lost).map(|(address, _)| address.clone()).collect();
        let is_short = sight.voters.len() < settings.voters || !lost.is_empty();
        if env.now.since(since) < patience || !(is_short || sight.target.is_some()) {
            return None;
        }
        let present: BTreeSet<Address> = sight.voters.iter().map(|voter| voter.address.clone()).collect();
        if sight.in_memory.is_none() {
            let mut spares = spares();
            spares.retain(|spare| !missing.contains(&spare.address));
            let chosen = choose(settings.voters, (&present, &lost), &self.zones, spares);
            if chosen != *sight.target.as_ref().unwrap_or(&present) {
                sink.event(Event::VotersChosen { voters: chosen.clone(), away: lost });
                return Some(chosen);
            }
        }
        let lacking = (present.difference(&lost).count(), lost, sight.in_memory.clone());
        if lacking.0 < settings.voters && self.lacks.is_due(env.now, &lacking, PartialEq::eq) {
            let (living, away, in_memory) = lacking;
            sink.event(Event::VotersLacking { living, wanted: settings.voters, away, in_memory });
        }
        None
    }

    /// Which of these members are to be dialed now, to see whether they are at their addresses. All of them have their turns.
    pub(crate) fn next_checks(&mut self, unproven: BTreeSet<Address>) -> Vec<Address> {
        let is_later = |address: &&Address| self.checked.as_ref().is_none_or(|last| *address > last);
        let later = unproven.iter().filter(is_later);
        let checks: Vec<Address> =
            later.chain(unproven.iter().filter(|it| !is_later(it))).take(CHECKS).cloned().collect();
        if let Some(last) = checks.last() {
            self.checked = Some(last.clone());
        }
        checks
    }

    /// The voters that had no link when this master has looked last, and for how long.
    pub(crate) fn away(&self, now: Timestamp) -> Vec<(Address, Duration)> {
        self.away.iter().map(|(address, since)| (address.clone(), now.since(*since))).collect()
    }

    /// Checks what holds between two inputs.
    ///
    /// # Panics
    /// When something does not hold.
    pub(crate) fn check(&self, timers: &Timers) {
        assert_eq!(timers.is_set(&Timer::Autopilot), self.seen.is_some(), "E10: the timer is set iff voters are kept");
    }
}

/// The best voters of those that there are. `lost`: the voters that have been away for long. The others stay. `zones`: those of the voters,
/// as far as they are known.
fn choose(
    wanted: usize,
    (voters, lost): (&BTreeSet<Address>, &BTreeSet<Address>),
    zones: &BTreeMap<Address, String>,
    mut spares: Vec<Spare>,
) -> BTreeSet<Address> {
    let mut chosen: BTreeSet<Address> = voters.difference(lost).cloned().collect();
    let mut size = wanted.min(chosen.len() + spares.len()).max(chosen.len());
    let is_even = size.is_multiple_of(2) && size != wanted;
    if is_even && !lost.is_empty() {
        // With the lost one, there are as many that can fail.
        size += 1;
    } else if is_even && size > chosen.len() {
        size -= 1;
    }
    let mut counts: BTreeMap<Option<String>, usize> = BTreeMap::new();
    for voter in &chosen {
        *counts.entry(zones.get(voter).cloned()).or_insert(0) += 1;
    }
    while chosen.len() < size.min(wanted) {
        let in_zone = |spare: &Spare| counts.get(&spare.zone).copied().unwrap_or(0);
        let order = |a: &Spare, b: &Spare| {
            (in_zone(a), a.node.incarnation, &a.node.id).cmp(&(in_zone(b), b.node.incarnation, &b.node.id))
        };
        let Some(best) = (0..spares.len()).min_by(|a, b| order(&spares[*a], &spares[*b])) else { break };
        let Spare { address, zone, .. } = spares.swap_remove(best);
        *counts.entry(zone).or_insert(0) += 1;
        chosen.insert(address);
    }
    let left = size.saturating_sub(chosen.len());
    chosen.extend(lost.iter().rev().take(left).cloned());
    chosen
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;
    use crate::id::{Incarnation, NodeId};
    use crate::violations::{Violation, expect_all_listed, expect_violations};

    const VIOLATIONS: [Violation<Autopilot>; 1] = [(
        Autopilot::default,
        |autopilot| autopilot.seen = Some((ElectorateVersion::default(), Timestamp::ZERO)),
        "E10: the timer is set iff voters are kept",
    )];

    #[test]
    fn every_invariant_of_the_autopilot_notices_its_violation() {
        expect_violations(&VIOLATIONS, |autopilot| autopilot.check(&Timers::default()));
        expect_all_listed(include_str!("autopilot.rs"), &VIOLATIONS);
    }

    fn at(name: &str) -> Address {
        Address::new(format!("{name}:1")).unwrap()
    }

    /// `a` is a name, and `a@x` one in the zone x.
    fn named(text: &str) -> (Address, Option<String>) {
        match text.split_once('@') {
            Some((name, zone)) => (at(name), Some(zone.into())),
            None => (at(text), None),
        }
    }

    /// `voters`, of which `lost` have been away for long, and `spares` in the order of their ages, the oldest one first.
    fn chosen(wanted: usize, voters: &str, lost: &str, spares: &str) -> String {
        let voters: Vec<(Address, Option<String>)> = voters.split_whitespace().map(named).collect();
        let zones = voters.iter().filter_map(|(address, zone)| Some((address.clone(), zone.clone()?))).collect();
        let voters = voters.into_iter().map(|(address, _)| address).collect();
        let lost = lost.split_whitespace().map(at).collect();
        let spares = spares.split_whitespace().enumerate().map(|(age, text)| {
            let (address, zone) = named(text);
            // The names are in another order than the ages.
            let id = NodeId::new(format!("{}", 9 - age)).unwrap();
            Spare { address, zone, node: Node { id, incarnation: Incarnation(age as u64) } }
        });
        let chosen = choose(wanted, (&voters, &lost), &zones, spares.collect());
        let names: Vec<_> = chosen.iter().map(|address| address.as_str().replace(":1", "")).collect();
        names.join(" ")
    }

    #[test]
    fn e10_all_unproven_members_have_their_turns() {
        let mut autopilot = Autopilot::default();
        let unproven: BTreeSet<Address> = (10..30).map(|number| at(&format!("{number}"))).collect();
        let mut seen: Vec<Address> = (0..2).flat_map(|_| autopilot.next_checks(unproven.clone())).collect();
        assert_eq!(seen.len(), 2 * CHECKS);
        seen.extend(autopilot.next_checks(unproven.clone()));
        let seen: BTreeSet<Address> = seen.into_iter().collect();
        assert_eq!(seen, unproven);
        assert_eq!(autopilot.next_checks(BTreeSet::new()), []);
    }

    #[test]
    fn e10_the_autopilot_replaces_lost_voters_by_the_oldest_members() {
        assert_eq!(chosen(3, "a b c", "", "d e"), "a b c");
        assert_eq!(chosen(3, "a b c", "c", "e d"), "a b e");
        assert_eq!(chosen(3, "a b c", "b c", "e d f"), "a d e");
        assert_eq!(chosen(3, "a", "", "d e f"), "a d e");
        assert_eq!(chosen(5, "a b c", "", "d e f"), "a b c d e");
        assert_eq!(chosen(2, "a", "", "d e f"), "a d", "an even number that is asked for is one");
    }

    #[test]
    fn e10_the_autopilot_removes_no_living_voter() {
        assert_eq!(chosen(3, "a b c d e", "", "f"), "a b c d e");
        assert_eq!(
            chosen(3, "a b c d e", "e", "f"),
            "a b c d e",
            "four survive no more than five of which one is lost"
        );
        assert_eq!(chosen(3, "a b c d e", "d e", "f"), "a b c");
    }

    #[test]
    fn e10_the_autopilot_keeps_an_odd_number_where_it_can() {
        assert_eq!(chosen(3, "a", "", "d"), "a", "two survive no more than one");
        assert_eq!(chosen(5, "a b c", "", "d"), "a b c");
        assert_eq!(chosen(3, "a b c", "c", ""), "a b c", "two survive less than three of which one is lost");
        assert_eq!(chosen(5, "a b c d e", "d e", ""), "a b c");
        assert_eq!(chosen(5, "a b c d e", "d e", "f").split(' ').count(), 5);
        assert_eq!(chosen(3, "a b c d", "d", ""), "a b c");
        assert_eq!(chosen(3, "a b", "", ""), "a b");
    }

    #[test]
    fn e10_the_autopilot_spreads_the_voters_over_the_zones() {
        assert_eq!(chosen(3, "a@x b@y c@z", "c", "d@x e@y f@z g@z"), "a b f");
        assert_eq!(chosen(3, "a@x", "", "d@x e@x f@y g@z"), "a f g");
        assert_eq!(chosen(5, "a@x b@y c@z", "", "d@x e@x f@y"), "a b c d f");
        assert_eq!(chosen(3, "a@x b@x c@y", "c", "d"), "a b d", "a member without a zone is in none of the others");
    }
}
