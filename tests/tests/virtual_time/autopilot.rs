//! A cluster that keeps a number of voters by itself (PROTOCOL.md, E10).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use formation_core::{Autopilot, Command, Electorate, Event, Tags};
use formation_tests::{Crash, Cut, Net, NodeIx, for_each_seed};

use crate::voters::{addresses, settings};

const SECOND: Duration = Duration::from_secs(1);
/// The settling time is 10 × `down_after`, which is 3 s.
const SETTLED: Duration = Duration::from_secs(31);
const REPLACED: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(20);

/// `voters` seeds and `others` more nodes, in these zones, which keep `kept` voters.
fn nodes(seed: u64, (voters, others): (usize, usize), kept: usize, zones: &str) -> Net {
    let mut net = Net::new(seed, settings(seed));
    for ix in 0..voters + others {
        let autopilot = Autopilot::keep(kept).with_replace_after(REPLACED);
        let builder = Net::builder(ix, voters).autopilot(autopilot);
        let config = match zones.get(ix..=ix) {
            Some(zone) => builder.metadata(Tags::new([("zone", zone)]).unwrap()),
            None => builder,
        };
        net.add(config.build().unwrap());
    }
    net
}

fn formed(seed: u64, counts: (usize, usize), kept: usize, zones: &str) -> Net {
    let mut net = nodes(seed, counts, kept, zones);
    net.start_all();
    net.converge(PATIENCE);
    net
}

fn electorate(net: &Net) -> &Electorate {
    let master = net.master().or(net.living().first().copied()).unwrap();
    net.host(master).formation.as_ref().unwrap().electorate()
}

fn await_voters(net: &mut Net, nodes: &[NodeIx], time: Duration) {
    let expected = addresses(nodes);
    let is_there = |net: &mut Net| {
        let held = electorate(net);
        held.voters == expected && held.target.is_none() && net.converged()
    };
    let done = net.run_until(time, is_there);
    let held = electorate(net).to_string();
    net.expect(done, &format!("the voters {nodes:?} are not reached: {held}"));
}

fn stays(net: &mut Net, nodes: &[NodeIx], time: Duration) {
    let expected = addresses(nodes);
    let changes = net.run_until(time, |net| electorate(net).voters != expected || electorate(net).target.is_some());
    net.expect(!changes, "the voters change");
}

#[test]
fn e10_one_node_becomes_three_voters_as_others_join() {
    for_each_seed(10, |seed| {
        let mut net = formed(seed, (1, 3), 3, "");
        let expected = first_and_oldest(&net);
        stays(&mut net, &[0], SETTLED - 5 * SECOND);
        await_voters(&mut net, &expected, SETTLED);
    });
}

/// The first node, and the two others that have been running for longest.
fn first_and_oldest(net: &Net) -> Vec<NodeIx> {
    let mut others: Vec<NodeIx> = (1..net.len()).collect();
    others.sort_by_key(|ix| net.node(*ix).incarnation);
    [0].into_iter().chain(others.into_iter().take(2)).collect()
}

#[test]
fn e10_a_machine_that_is_lost_is_replaced() {
    for_each_seed(10, |seed| {
        let mut net = formed(seed, (3, 1), 3, "");
        net.run_for(SETTLED);
        let since = net.now();
        let master = net.master().unwrap();
        let lost = (master + 1) % 3;
        net.crash(lost, Crash::Machine);
        let before: Vec<NodeIx> = (0..3).collect();
        stays(&mut net, &before, REPLACED);
        let after: Vec<NodeIx> = (0..4).filter(|ix| *ix != lost).collect();
        await_voters(&mut net, &after, 2 * PATIENCE);
        let is_named = |event: &Event| matches!(event, Event::VotersChosen { away, .. } if *away == addresses(&[lost]));
        net.expect(net.count(master, since, is_named) == 1, "it does not say why the voters change");
        let lost_masters = net.count(master, since, |event| matches!(event, Event::MasterLost { .. }));
        net.expect(lost_masters == 0, "the master has changed");
        // The machine comes back as a member.
        net.start(lost);
        net.converge(PATIENCE);
        stays(&mut net, &after, 2 * SETTLED);
    });
}

#[test]
fn e10_a_voter_that_is_away_for_a_short_time_stays_one() {
    for_each_seed(10, |seed| {
        let mut net = formed(seed, (3, 1), 3, "");
        net.run_for(SETTLED);
        let lost = (net.master().unwrap() + 1) % 3;
        for _ in 0..3 {
            net.crash(lost, Crash::Machine);
            stays(&mut net, &[0, 1, 2], REPLACED - 5 * SECOND);
            net.start(lost);
            stays(&mut net, &[0, 1, 2], 10 * SECOND);
        }
    });
}

#[test]
fn e10_without_a_spare_the_voters_stay_and_the_master_says_so() {
    for_each_seed(10, |seed| {
        let mut net = formed(seed, (3, 0), 3, "");
        let master = net.master().unwrap();
        let lost = (master + 1) % 3;
        net.crash(lost, Crash::Machine);
        stays(&mut net, &[0, 1, 2], 2 * SETTLED);
        let says = |event: &Event| matches!(event, Event::VotersLacking { living: 2, wanted: 3, in_memory: None, away } if *away == addresses(&[lost]));
        net.expect(net.count(master, Duration::ZERO, says) == 1, "it does not say what is missing");
        let report = net.host(master).formation.as_ref().unwrap().explain();
        let text = report.to_string();
        net.expect(text.contains("keeps 3 voters; members that could become one: 0; away: h"), &text);
    });
}

#[test]
fn e10_the_small_side_of_a_partition_keeps_its_voters() {
    for_each_seed(10, |seed| {
        let mut net = formed(seed, (3, 3), 3, "");
        net.run_for(SETTLED);
        let small = net.master().unwrap();
        // The master and two spares are on the small side.
        let side = [small, 3, 4];
        for here in side {
            for there in (0..6).filter(|ix| !side.contains(ix)) {
                net.cut(here, there, Cut::Lose);
            }
        }
        net.run_for(2 * SETTLED + 2 * REPLACED);
        let held = |ix: NodeIx| net.host(ix).formation.as_ref().unwrap().electorate().clone();
        net.expect(held(small).voters == addresses(&[0, 1, 2]), "the small side changes the voters");
        let rest: Vec<NodeIx> = (0..6).filter(|ix| *ix != small && ![3, 4].contains(ix)).collect();
        net.expect(held(rest[0]).voters == addresses(&rest), "the large side does not replace its voter");
        net.heal_all();
        await_voters(&mut net, &rest, PATIENCE);
    });
}

#[test]
fn e10_new_voters_come_from_other_zones() {
    for_each_seed(10, |seed| {
        let mut net = formed(seed, (1, 4), 3, "aaabc");
        await_voters(&mut net, &[0, 3, 4], 2 * SETTLED);
    });
}

#[test]
fn e10_a_change_that_waits_for_a_dead_member_is_given_up() {
    for_each_seed(10, |seed| {
        let mut net = formed(seed, (3, 2), 3, "");
        let master = net.master().unwrap();
        let lost = (master + 1) % 3;
        let stay = (master + 2) % 3;
        net.crash(lost, Crash::Machine);
        net.crash(4, Crash::Machine);
        net.run_for(SECOND);
        net.command(master, Command::SetVoters(addresses(&[master, stay, 4])));
        let mut expected = vec![master, stay, 3];
        expected.sort_unstable();
        await_voters(&mut net, &expected, 3 * SETTLED);
    });
}

/// They dial the master, and nobody can dial them.
#[test]
fn t2_e10_members_at_other_addresses_keep_nobody_out() {
    for_each_seed(10, |seed| {
        let mut net = nodes(seed, (3, 3), 3, "");
        net.settings.certified = false;
        (0..6).for_each(|ix| net.set_keys(ix, Some(0)));
        for ix in [3, 4] {
            net.redirect(&Net::address(ix), None);
        }
        (0..5).for_each(|ix| net.start(ix));
        net.run_for(SECOND);
        // It is the youngest one.
        net.start(5);
        net.converge(PATIENCE);
        let lost = (net.master().unwrap() + 1) % 3;
        net.crash(lost, Crash::Machine);
        let after: Vec<NodeIx> = (0..6).filter(|ix| ![lost, 3, 4].contains(ix)).collect();
        await_voters(&mut net, &after, 2 * SETTLED);
    });
}

#[test]
fn e10_votes_in_memory_keep_the_voters() {
    for_each_seed(10, |seed| {
        let mut net = nodes(seed, (3, 1), 3, "");
        net.host_mut(0).is_durable = false;
        net.start_all();
        net.converge(PATIENCE);
        let master = net.master().unwrap();
        let lost = if master == 1 { 2 } else { 1 };
        net.crash(lost, Crash::Machine);
        stays(&mut net, &[0, 1, 2], 2 * SETTLED);
        let address = addresses(&[0]).pop_first();
        let says = |event: &Event| matches!(event, Event::VotersLacking { in_memory, .. } if *in_memory == address);
        net.expect(net.count(master, Duration::ZERO, says) == 1, "it does not name the voter");
    });
}
