//! Membership and its costs (PROTOCOL, "Members and views"). G3 is checked at every step.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use bytes::Bytes;
use formation_core::{Change, Command, Config, Event, MemberState, RejectReason, RemovalReason};
use formation_tests::{Crash, Net, NodeIx, Peer, Settings, for_each_seed};

const SECOND: Duration = Duration::from_secs(1);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn formed(seed: u64, voters: usize, others_have_all: usize) -> Net {
    let mut net = Net::formed(seed, (voters, others_have_all), Settings::default());
    // The nodes close the links that they do not need.
    net.run_for(SECOND);
    net
}

/// Most of 400 nodes die, leave and restart at the same time.
#[test]
fn g5_four_hundred_changing_nodes_end_in_one_correct_view() {
    for_each_seed(1, |seed| {
        let mut net = Net::of_voters(seed, 3, Settings { compare_views: false, ..Settings::default() });
        for ix in 3..400 {
            net.add(Net::config(ix, 3));
        }
        for ix in 0..400 {
            let delay = net.rng.within((Duration::ZERO, 2 * SECOND));
            net.start_in(ix, delay);
        }
        net.run_for(2 * SECOND);
        for _ in 0..400 {
            let ix = 3 + net.rng.below(397);
            let left = net.saw(ix, |event| matches!(event, Event::Stopped { .. }));
            match net.rng.below(3) {
                _ if net.host(ix).formation.is_none() => net.start(ix),
                0 if !left => net.command(ix, Command::Leave),
                1 => net.crash(ix, Crash::Machine),
                _ => net.crash(ix, Crash::Process),
            }
            net.run_for(ms(10));
        }
        net.converge(6 * SECOND);
        let living = net.living().len();
        println!("{living} of 400 nodes live");
        net.expect((100..400).contains(&living), "too few nodes live, or no node has died");
    });
}

/// The number of bytes for `n` joins, one every 5 ms, until all nodes agree.
fn bytes_of_joins(n: usize) -> u64 {
    let mut net = Net::of_voters(1, 3, Settings::default());
    net.start_all();
    net.converge(SECOND);
    let before = net.bytes_sent();
    for ix in 3..3 + n {
        net.add(Net::config(ix, 3));
        net.start_in(ix, ms(5) * (ix - 3) as u32);
    }
    net.run_for(ms(5) * n as u32);
    net.converge(2 * SECOND);
    net.bytes_sent() - before
}

/// Each of n members must learn of each of n joins, so the square is the minimum. A snapshot for each would cost the
/// cube.
#[test]
fn v8_the_bytes_of_n_joins_grow_with_the_square_of_n() {
    let bytes = [25, 50, 100, 200].map(|n| (n, bytes_of_joins(n)));
    for (n, bytes) in bytes {
        println!("{n} joins: {bytes} bytes, {} for each member and join", bytes / (n * n) as u64);
    }
    let ratio = bytes[3].1 as f64 / bytes[1].1 as f64;
    assert!(ratio < 24.0, "four times as many joins cost {ratio:.1} times as much");
}

/// The number of views that all members take while n nodes join within a second, and until all nodes agree.
fn views_of_a_herd(n: usize) -> usize {
    let mut net = Net::of_voters(1, 3, Settings { compare_views: false, ..Settings::default() });
    net.start_all();
    net.converge(SECOND);
    let since = net.now();
    for ix in 3..3 + n {
        net.add(Net::config(ix, 3));
        net.start_in(ix, SECOND * (ix - 3) as u32 / n as u32);
    }
    net.run_for(SECOND);
    // Two heartbeats, and the time of a dial.
    net.converge(ms(500));
    let master = net.master().unwrap();
    let changed = |event: &Event| matches!(event, Event::ViewChanged { .. });
    (0..3 + n).filter(|ix| *ix != master).map(|ix| net.count(ix, since, changed)).sum()
}

/// Announcing each join at once would need 80,000 views. There are five heartbeats in the second of the joins, and two
/// more until all nodes agree.
#[test]
fn g5_v8_a_thundering_herd_is_announced_with_heartbeats() {
    let views = views_of_a_herd(400);
    println!("400 joins in a second lead to {views} views");
    assert!(views <= 7 * (512 + 400), "{views} views are too many");
}

/// The time from the start of a crowd at a cluster of three until all nodes have one view, in round trips of 1 ms, if that of the
/// cluster's last heartbeat is so far away.
fn round_trips_of_a_crowd(n: usize, since_heartbeat: Duration) -> u128 {
    let mut net = Net::of_voters(1, 3, Settings::calm());
    net.start_all();
    net.converge(SECOND);
    let interval = net.host(0).config.timing().heartbeat_interval;
    let past = Duration::from_nanos((net.now().as_nanos() % interval.as_nanos()) as u64);
    net.run_for(2 * interval - past + since_heartbeat);
    let start = net.now();
    for ix in 3..3 + n {
        net.add(Net::config(ix, 3));
        net.start(ix);
    }
    net.converge(ms(300));
    (net.now() - start).as_millis()
}

/// Without waiting for a heartbeat, whenever the crowd comes.
#[test]
fn v8_a_crowd_has_one_view_within_ten_round_trips() {
    for since_heartbeat in [0, 50, 100, 150].map(ms) {
        let trips = round_trips_of_a_crowd(997, since_heartbeat);
        println!("997 nodes at three voters have one view after {trips} round trips");
        assert!(trips <= 10, "{trips} round trips, {since_heartbeat:?} behind a heartbeat");
    }
}

fn add_claimant(net: &mut Net, victim: NodeIx, address: &str) -> NodeIx {
    let id = net.host(victim).config.id().to_string();
    let config = Config::builder("test", id, address).seeds((0..3).map(Net::address)).build().unwrap();
    net.add(config)
}

/// A known failure of other implementations: the view then contains the joining node, and the victim's link is closed.
#[test]
fn i3_a_joining_node_with_the_id_of_another_harms_nobody() {
    for_each_seed(30, |seed| {
        let mut net = formed(seed, 3, 1);
        let before = net.masters();
        let master = before[0].0;
        for victim in [master, (master + 1) % 3, 3] {
            let since = net.now();
            let claimant = add_claimant(&mut net, victim, &format!("claimant{victim}:1"));
            net.start(claimant);
            net.run_for(4 * SECOND);
            net.expect(net.masters() == before, "the master has changed");
            net.expect(net.agree(&[0, 1, 2, 3]), "the cluster was affected");
            let harm = |event: &Event| {
                matches!(event, Event::MasterLost { .. } | Event::Unlinked { .. } | Event::Stopped { .. })
            };
            net.expect((0..4).all(|ix| net.count(ix, since, harm) == 0), "a node lost its master or a link");
            let reported = |event: &Event| matches!(event, Event::RejectedByPeer { reason: RejectReason::IdInUse, .. });
            net.expect(net.saw(claimant, reported), "the claimant did not report IdInUse");
            net.crash(claimant, Crash::Process);
        }
    });
}

/// The node that our own dials reach at the address keeps it.
#[test]
fn i6_a_joining_node_with_the_address_of_another_harms_nobody() {
    for_each_seed(20, |seed| {
        let mut net = formed(seed, 3, 0);
        let before = net.masters();
        let since = net.now();
        let victim = net.rng.below(3);
        let liar = net.dial(before[0].0);
        let mut peer = Peer::of(&net.host(0).config, "liar", &Net::address(victim));
        net.send(liar, peer.hello());
        net.send(liar, peer.joining());
        net.run_for(4 * SECOND);
        net.expect(net.masters() == before && net.agree(&[0, 1, 2]), "the cluster was affected");
        let changed = |event: &Event| matches!(event, Event::ViewChanged { .. } | Event::MasterLost { .. });
        net.expect((0..3).all(|ix| net.count(ix, since, changed) == 0), "the view has changed");
        net.expect(
            net.closed(liar) == Some(formation_core::CloseReason::Rejected(RejectReason::AddressInUse)),
            "the claimant was not rejected with AddressInUse",
        );
    });
}

/// A silent member becomes suspect and is removed as down, each at its time. A closed link makes it suspect at once.
#[test]
fn v3_a_silent_member_is_suspect_and_then_removed_as_down() {
    for_each_seed(20, |seed| {
        let mut net = formed(seed, 3, 1);
        let master = net.master().unwrap();
        let dead = net.node(3).id;
        let since = net.now();
        let machine = seed % 2 == 0;
        net.crash(3, if machine { Crash::Machine } else { Crash::Process });
        net.run_for(5 * SECOND);
        let first_change = |condition: &dyn Fn(&Change) -> bool| {
            let events = net.host(master).events.iter().filter(|(at, _)| Duration::from_micros(*at) >= since);
            let mut hits = events.filter(|(_, event)| match event {
                Event::ViewChanged { changes, .. } => changes.iter().any(condition),
                _ => false,
            });
            hits.next().map(|(at, _)| Duration::from_micros(*at) - since)
        };
        let suspect = first_change(
            &|change| matches!(change, Change::Upsert(m) if m.node.id == dead && m.state == MemberState::Suspect),
        );
        let removed =
            first_change(&|change| matches!(change, Change::Remove { id, reason: RemovalReason::Down } if *id == dead));
        let (Some(suspect), Some(removed)) = (suspect, removed) else {
            net.fail("the member was not suspect, or not removed")
        };
        let times = net.host(0).config.timing().clone();
        if machine {
            let from = times.suspect_after - times.heartbeat_interval - ms(50);
            net.expect((from..times.suspect_after + ms(50)).contains(&suspect), &format!("suspect after {suspect:?}"));
        } else {
            net.expect(suspect < ms(20), &format!("suspect after {suspect:?}"));
        }
        let from = times.down_after - times.heartbeat_interval - ms(50);
        let until = times.down_after + times.heartbeat_interval + ms(50);
        net.expect((from..until).contains(&removed), &format!("removed after {removed:?}"));
    });
}

#[test]
fn l2_a_leaving_member_is_removed_at_once_as_left() {
    for_each_seed(20, |seed| {
        let mut net = formed(seed, 3, 2);
        let leaver = if seed % 2 == 0 { 4 } else { (net.master().unwrap() + 1) % 3 };
        let id = net.node(leaver).id;
        let since = net.now();
        net.command(leaver, Command::Leave);
        let rest: Vec<_> = (0..5).filter(|ix| *ix != leaver).collect();
        let done = net.run_until(ms(500), |net| net.agree(&rest));
        net.expect(done, "the view still has the member after half a second, which is less than down_after");
        let left = |event: &Event| match event {
            Event::ViewChanged { changes, .. } => {
                changes.contains(&Change::Remove { id: id.clone(), reason: RemovalReason::Left })
            }
            _ => false,
        };
        net.expect(rest.iter().all(|ix| net.count(*ix, since, left) == 1), "a node did not report the member as left");
        let done = net.run_until(4 * SECOND, |net| {
            net.saw(leaver, |event| matches!(event, Event::Stopped { reason: formation_core::StopReason::Left }))
        });
        net.expect(done, "the leaving node has not stopped");
        net.expect(net.agree(&rest), "the agreement did not last");
    });
}

#[test]
fn metadata_and_its_changes_reach_every_member() {
    let mut net = Net::new(0, Settings::default());
    for ix in 0..3 {
        net.add(Net::builder(ix, 3).metadata(Bytes::from(vec![ix as u8; 20])).build().unwrap());
    }
    net.start_all();
    net.converge(SECOND);
    net.command(2, Command::SetMetadata(Bytes::from_static(b"changed")));
    net.command(0, Command::SetMetadata(Bytes::from_static(b"master's")));
    let two_heartbeats = 2 * net.host(0).config.timing().heartbeat_interval;
    net.run_for(two_heartbeats);
    net.expect(net.converged(), "G5: the nodes do not agree after two heartbeats");
    let view = net.host(1).formation.as_ref().unwrap().view();
    let data: Vec<_> = view.iter().map(|m| m.metadata.clone()).collect();
    assert_eq!(data, [Bytes::from_static(b"master's"), Bytes::from(vec![1; 20]), Bytes::from_static(b"changed")]);
}

/// A slow reader costs no memory and delays no other member. It gets one delta for everything that it missed.
#[test]
fn c6_a_member_that_stops_reading_for_a_while_catches_up() {
    for_each_seed(20, |seed| {
        let mut net = formed(seed, 3, 1);
        let master = net.master().unwrap();
        let wires = net.between(master, 3);
        net.expect(wires.len() == 1, "there is not exactly one link");
        net.stop_reading(3, wires[0]);
        for ix in 4..12 {
            net.add(Net::config(ix, 3));
            net.start(ix);
            net.run_for(ms(50));
        }
        // The slow reader receives and acknowledges nothing. The others do not wait for it.
        let others_have_all = (4..12).all(|ix| net.host(ix).formation.as_ref().is_some_and(|f| f.view().len() == 12));
        net.expect(others_have_all, "the others wait for the slow reader");
        net.resume_reading(3, wires[0]);
        net.converge(SECOND);
    });
}
