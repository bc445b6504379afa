//! A cloned machine: two copies of one voter, with one id, one address and a disk of their own each. A supervisor starts each of them
//! again whenever it has stopped (PROTOCOL, I1).

use std::time::Duration;

use formation_core::{Config, Event, Incarnation, Input, Phase, RejectReason, Remote};
use formation_tests::{Crash, Net, NetSettings, Peer, Rig, Settings, Target, for_each_seed};

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
    let settings = Settings {
        votes_last: false,
        leases_never_overlap: false,
        ..NetSettings { certified, ..NetSettings::default() }.into()
    };
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

/// A node that has once replaced a linked run of itself, by an attacker, is kept out by no claim to its name after that.
#[test]
fn t2_i1_a_claim_to_be_a_node_keeps_no_place() {
    let mut rig = Rig::new(Config::builder("test", "a", "a:1").seeds(["a:1", "b:1", "c:1"]).build().unwrap());
    let config = rig.formation.config().clone();
    let run = |incarnation| {
        let mut peer = Peer::of(&config, "x", "x:1");
        peer.node.incarnation = Incarnation(incarnation);
        // Each run has nonces of its own.
        (0..incarnation).for_each(|_| drop(peer.hello()));
        peer
    };
    let greet = |rig: &mut Rig, peer: &mut Peer| {
        let conn = rig.accept_from(Remote::default());
        rig.receive(conn, peer.hello());
        rig.receive(conn, peer.joining());
        conn
    };
    let attacker = greet(&mut rig, &mut run(10));
    let mut owner = run(20);
    let claim = rig.accept_from(Remote::default());
    rig.receive(claim, owner.hello());
    let reached = rig.answer("x:1");
    rig.receive(reached, owner.hello());
    rig.receive(reached, owner.joining());
    assert!(rig.closed(attacker).is_some(), "the owner has the place of the one that only claims it");
    for conn in [claim, reached] {
        if rig.closed(conn).is_none() {
            rig.give(Input::Closed { conn });
        }
    }
    rig.advance(10 * SECOND);
    greet(&mut rig, &mut run(30));
    let again = rig.accept_from(Remote::default());
    rig.receive(again, run(40).hello());
    assert_eq!(rig.closed(again), None);
    assert!(rig.dialing().iter().any(|dialed| dialed.as_str() == "x:1"), "its address is asked");
}
