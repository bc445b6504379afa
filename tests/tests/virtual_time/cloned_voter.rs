//! A cloned machine: two copies of one voter, with one id, one address and a disk of their own each. A supervisor starts each of them
//! again whenever it has stopped (PROTOCOL, I1).

use std::time::Duration;

use formation_core::{Event, Phase, RejectReason};
use formation_tests::{Crash, Net, Settings, Target, for_each_seed};

const SECOND: Duration = Duration::from_secs(1);

/// Where the address of the two copies leads.
#[derive(Clone, Copy, Debug)]
enum LeadsTo {
    First,
    Second,
    LastStarted,
}

/// Three voters with a master. G1 and G2 assume one living process per seed address.
fn formed(seed: u64, certified: bool) -> Net {
    let settings = Settings { certified, votes_last: false, leases_never_overlap: false, ..Settings::default() };
    let mut net = Net::formed(seed, (3, 0), settings);
    net.run_for(5 * SECOND);
    net
}

/// Starts a copy of the first voter, and supervises both for this time.
fn supervise_two_copies(net: &mut Net, leads: LeadsTo, time: Duration) {
    let copies = [0, net.add(Net::config(0, 3))];
    let until = net.now() + time;
    while net.now() < until {
        for ix in copies {
            if net.host(ix).formation.is_none() {
                net.start(ix);
                let led = match leads {
                    LeadsTo::First => copies[0],
                    LeadsTo::Second => copies[1],
                    LeadsTo::LastStarted => ix,
                };
                net.name("h0:1", Target::Node(led));
            } else if net.status(ix).phase == Phase::Stopped {
                net.crash(ix, Crash::Process);
            }
        }
        net.run_for(SECOND / 2);
    }
}

fn lost(event: &Event) -> bool {
    matches!(event, Event::MasterLost { .. })
}

/// The two other voters are a quorum, and keep a master.
#[test]
fn i1_two_copies_of_one_voter_cost_few_masters() {
    for certified in [false, true] {
        for leads in [LeadsTo::First, LeadsTo::Second, LeadsTo::LastStarted] {
            for_each_seed(20, |seed| {
                let mut net = formed(seed, certified);
                let since = net.now();
                supervise_two_copies(&mut net, leads, 20 * SECOND);
                let lost = [1, 2].map(|ix| net.count(ix, since, lost));
                let what = format!("{leads:?}, certified: {certified}");
                net.expect(lost.iter().all(|lost| *lost <= 3), &format!("{what}: {lost:?} masters were lost"));
                net.expect(!net.masters().is_empty(), &format!("{what}: there is no master"));
            });
        }
    }
}

/// An operator has to find both machines.
#[test]
fn i1_the_run_that_keeps_its_place_and_the_newer_one_are_named() {
    for_each_seed(20, |seed| {
        let mut net = formed(seed, seed % 2 == 0);
        supervise_two_copies(&mut net, LeadsTo::LastStarted, 20 * SECOND);
        let names_both = |event: &Event| match event {
            Event::PeerRejected {
                node,
                address,
                reason: RejectReason::IdInUse,
                holder: Some(holder),
                peer_addr,
                ..
            } => holder.node.id == node.id && holder.address == *address && holder.node < *node && peer_addr.is_some(),
            _ => false,
        };
        net.expect([1, 2].iter().any(|ix| net.saw(*ix, names_both)), "no voter names both runs");
    });
}

/// A run that died without a notice keeps nobody outside for longer than it takes to notice that.
#[test]
fn i1_a_voter_whose_machine_dies_again_and_again_comes_back() {
    for_each_seed(20, |seed| {
        let mut net = formed(seed, seed % 2 == 0);
        for _ in 0..4 {
            net.crash(2, Crash::Machine);
            net.start(2);
            net.converge(6 * SECOND);
        }
    });
}
