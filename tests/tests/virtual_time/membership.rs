//! Who is a member, and what it costs to say so (PROTOCOL, "Members and views"; G3 is checked at every step).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use bytes::Bytes;
use formation_core::{Change, Command, Config, Event, MemberState, RejectReason, RemovalReason};
use formation_tests::{Crash, Net, NodeIx, Peer, Settings, for_each_seed};

const SECOND: Duration = Duration::from_secs(1);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn formed(seed: u64, voters: usize, others: usize) -> Net {
    let mut net = Net::formed(seed, (voters, others), Settings::default());
    // Who has joined closes what it needs no more.
    net.run_for(SECOND);
    net
}

/// G5: 400 nodes, most of which die, leave and come again while others do the same.
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
        println!("{living} of 400 live");
        net.expect((100..400).contains(&living), "a test of nothing");
    });
}

/// The bytes of `n` joins, one every 5 ms, until all agree.
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

/// Each of n members has to hear of each of n joins, so that the square is the least; a snapshot for each would be the cube.
#[test]
fn v8_the_bytes_of_n_joins_grow_with_the_square_of_n() {
    let bytes = [25, 50, 100, 200].map(|n| (n, bytes_of_joins(n)));
    for (n, bytes) in bytes {
        println!("{n} joins: {bytes} bytes, {} for each member and join", bytes / (n * n) as u64);
    }
    let ratio = bytes[3].1 as f64 / bytes[1].1 as f64;
    assert!(ratio < 24.0, "four times as many joins cost {ratio:.1} times as much");
}

/// How many views all members see in a second in which n more join, and until all agree.
fn views_of_a_crowd(n: usize) -> usize {
    let mut net = Net::of_voters(1, 3, Settings { compare_views: false, ..Settings::default() });
    net.start_all();
    net.converge(SECOND);
    let since = net.now();
    for ix in 3..3 + n {
        net.add(Net::config(ix, 3));
        net.start_in(ix, SECOND * (ix - 3) as u32 / n as u32);
    }
    net.run_for(SECOND);
    // Two heartbeats, and what a dial takes.
    net.converge(ms(500));
    let master = net.master().unwrap();
    let changed = |event: &Event| matches!(event, Event::ViewChanged { .. });
    (0..3 + n).filter(|ix| *ix != master).map(|ix| net.count(ix, since, changed)).sum()
}

/// Of each to each would be 80,000; there are five heartbeats in a second, and two in the time in which all come to agree.
#[test]
fn g5_v8_a_thundering_herd_is_announced_with_heartbeats() {
    let views = views_of_a_crowd(400);
    println!("when 400 join in a second, all that they see is {views} views");
    assert!(views <= 7 * (512 + 400), "each is told of each: {views} views");
}

fn claims(net: &mut Net, victim: NodeIx, address: &str) -> NodeIx {
    let id = net.host(victim).config.id().to_string();
    let config = Config::builder("test", id, address).seeds((0..3).map(Net::address)).build().unwrap();
    net.add(config)
}

/// A known failure of other implementations: the view then names the newcomer, and the victim's link is closed.
#[test]
fn i3_a_joining_node_with_the_id_of_another_harms_nobody() {
    for_each_seed(30, |seed| {
        let mut net = formed(seed, 3, 1);
        let before = net.masters();
        let master = before[0].0;
        for victim in [master, (master + 1) % 3, 3] {
            let since = net.now();
            let thief = claims(&mut net, victim, &format!("thief{victim}:1"));
            net.start(thief);
            net.run_for(4 * SECOND);
            net.expect(net.masters() == before, "the master has changed");
            net.expect(net.agree(&[0, 1, 2, 3]), "the cluster noticed");
            let harm = |event: &Event| {
                matches!(event, Event::MasterLost { .. } | Event::Unlinked { .. } | Event::Stopped { .. })
            };
            net.expect((0..4).all(|ix| net.count(ix, since, harm) == 0), "somebody lost something");
            let told = |event: &Event| matches!(event, Event::RejectedByPeer { reason: RejectReason::IdInUse, .. });
            net.expect(net.saw(thief, told), "the reason is named");
            net.crash(thief, Crash::Process);
        }
    });
}

/// The address of a living node, claimed under another id: who our own dials reach there wins.
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
        net.expect(net.masters() == before && net.agree(&[0, 1, 2]), "the cluster noticed");
        let changed = |event: &Event| matches!(event, Event::ViewChanged { .. } | Event::MasterLost { .. });
        net.expect((0..3).all(|ix| net.count(ix, since, changed) == 0), "the view has changed");
        net.expect(
            net.closed(liar) == Some(formation_core::CloseReason::Rejected(RejectReason::AddressInUse)),
            "the reason is named",
        );
    });
}

/// PROTOCOL, "Members and views": active, suspect, down and removed, each at its time; and a closed link makes suspect at once.
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
        let found = |wanted: &dyn Fn(&Change) -> bool| {
            let events = net.host(master).events.iter().filter(|(at, _)| Duration::from_micros(*at) >= since);
            let mut hits = events.filter(|(_, event)| match event {
                Event::ViewChanged { changes, .. } => changes.iter().any(wanted),
                _ => false,
            });
            hits.next().map(|(at, _)| Duration::from_micros(*at) - since)
        };
        let suspect = found(
            &|change| matches!(change, Change::Upsert(m) if m.node.id == dead && m.state == MemberState::Suspect),
        );
        let removed =
            found(&|change| matches!(change, Change::Remove { id, reason: RemovalReason::Down } if *id == dead));
        let (Some(suspect), Some(removed)) = (suspect, removed) else { net.fail("not suspect, or not removed") };
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
        net.expect(done, "half a second is much less than down_after");
        let left = |event: &Event| match event {
            Event::ViewChanged { changes, .. } => {
                changes.contains(&Change::Remove { id: id.clone(), reason: RemovalReason::Left })
            }
            _ => false,
        };
        net.expect(rest.iter().all(|ix| net.count(*ix, since, left) == 1), "everybody hears that it left");
        let done = net.run_until(4 * SECOND, |net| {
            net.saw(leaver, |event| matches!(event, Event::Stopped { reason: formation_core::StopReason::Left }))
        });
        net.expect(done, "the leaver is done");
        net.expect(net.agree(&rest), "what was agreed did not last");
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
    net.expect(net.converged(), "G5: no agreement after two heartbeats");
    let view = net.host(1).formation.as_ref().unwrap().view();
    let data: Vec<_> = view.iter().map(|m| m.metadata.clone()).collect();
    assert_eq!(data, [Bytes::from_static(b"master's"), Bytes::from(vec![1; 20]), Bytes::from_static(b"changed")]);
}

/// A slow reader costs no memory and no time of others: it gets one delta for all that it missed.
#[test]
fn c6_a_member_that_stops_reading_for_a_while_catches_up() {
    for_each_seed(20, |seed| {
        let mut net = formed(seed, 3, 1);
        let master = net.master().unwrap();
        let wires = net.between(master, 3);
        net.expect(wires.len() == 1, "one link");
        net.stop_reading(3, wires[0]);
        for ix in 4..12 {
            net.add(Net::config(ix, 3));
            net.start(ix);
            net.run_for(ms(50));
        }
        // It acknowledges nothing, as it hears nothing; the others are not kept waiting.
        let others = (4..12).all(|ix| net.host(ix).formation.as_ref().is_some_and(|f| f.view().len() == 12));
        net.expect(others, "the others wait for the slow one");
        net.resume_reading(3, wires[0]);
        net.converge(SECOND);
    });
}
