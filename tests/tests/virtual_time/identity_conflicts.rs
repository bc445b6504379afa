//! Two nodes that claim one id, one address or one cluster name: which node stays, which one stops, and what both
//! report.

use std::time::Duration;

use formation_core::{Config, Event, RejectReason, StopReason};
use formation_tests::{Crash, Net, NodeIx, Settings, Target, for_each_seed};

const SECOND: Duration = Duration::from_secs(1);

fn formed(seed: u64, voters: usize) -> Net {
    let mut net = Net::of_voters(seed, voters, Settings::default());
    net.start_all();
    net.converge(10 * SECOND);
    net
}

/// Adds a node to the cluster of three voters, with any id and address.
fn add_claimant(net: &mut Net, id: &str, address: &str) -> NodeIx {
    let config = Config::builder("test", id, address).seeds((0..3).map(Net::address));
    net.add(config.build().expect("a valid configuration"))
}

fn stopped(event: &Event) -> bool {
    matches!(event, Event::Stopped { reason: StopReason::IdInUse })
}

/// Whether the node has reported its rejection with this reason and this holder.
fn is_reported(net: &Net, ix: NodeIx, why: RejectReason, id: &str, at: &str) -> bool {
    net.saw(ix, |event| match event {
        Event::RejectedByPeer { reason, holder: Some(holder), .. } => {
            *reason == why && holder.node.id.as_str() == id && holder.address.as_str() == at
        }
        _ => false,
    })
}

#[test]
fn i5_i7_the_later_of_two_living_nodes_with_one_id_stops() {
    for_each_seed(20, |seed| {
        let mut net = formed(seed, 3);
        let (masters, since) = (net.masters(), net.now());
        let of = net.rng.below(3);
        let twin = add_claimant(&mut net, &format!("n{of}"), "twin:1");
        net.start(twin);
        net.run_until(10 * SECOND, |net| net.saw(twin, stopped));
        net.expect(net.saw(twin, stopped), "two nodes with one id live");
        let reported = is_reported(&net, twin, RejectReason::IdInUse, &format!("n{of}"), &Net::address(of));
        net.expect(reported, "the twin does not report the holder of its id");
        let named = (0..3).all(|ix| {
            net.saw(ix, |event| match event {
                Event::PeerRejected { address, holder: Some(holder), .. } => {
                    address.as_str() == "twin:1" && holder.address.as_str() == Net::address(of)
                }
                _ => false,
            })
        });
        net.expect(named, "the rejecting nodes do not report both addresses");
        net.expect(net.masters() == masters && net.agree(&[0, 1, 2]), "the cluster was affected");
        let harm = |event: &Event| matches!(event, Event::MasterLost { .. } | Event::Unlinked { .. });
        net.expect((0..3).all(|ix| net.count(ix, since, harm) == 0), "a node lost a master or a link");
    });
}

/// Two of three voters have the same id by mistake. One of them is enough to form a cluster with the third.
#[test]
fn i5_one_of_two_voters_with_one_id_stops_and_the_other_forms() {
    for_each_seed(20, |seed| {
        let mut net = Net::new(seed, Settings::default());
        for (id, ix) in [("n0", 0), ("n0", 1), ("n2", 2)] {
            add_claimant(&mut net, id, &Net::address(ix));
            let delay = net.rng.within((Duration::ZERO, SECOND));
            net.start_in(ix, delay);
        }
        net.run_for(15 * SECOND);
        let have_stopped: Vec<_> = (0..3).filter(|ix| net.saw(*ix, stopped)).collect();
        net.expect(matches!(have_stopped[..], [0 | 1]), &format!("{have_stopped:?} have stopped"));
        net.expect(net.agree(&[1 - have_stopped[0], 2]), "the others have formed no cluster");
        let (lost, kept) = (have_stopped[0], 1 - have_stopped[0]);
        let reported = is_reported(&net, lost, RejectReason::IdInUse, "n0", &Net::address(kept));
        net.expect(reported, "the stopped voter does not report the holder of its id");
    });
}

/// Without a third node to decide, the node with the larger address stops. It could not become master alone anyway.
#[test]
fn i5_two_voters_alone_with_one_id_stop_neither() {
    for_each_seed(10, |seed| {
        let mut net = Net::new(seed, Settings::default());
        for ix in 0..2 {
            let config = Config::builder("test", "n0", Net::address(ix)).seeds((0..3).map(Net::address));
            // With a key, each end has checked the other before it receives the rejection.
            let config = if seed % 2 == 0 { config } else { config.key(*b"as secret as it can be in a test") };
            net.add(config.build().expect("a valid configuration"));
        }
        net.start_all();
        net.run_for(30 * SECOND);
        net.expect(!net.saw(0, stopped) && !net.saw(1, stopped), "one voter alone has stopped the other");
        for (ix, other) in [(0, 1), (1, 0)] {
            let rejects = |event: &Event| match event {
                Event::PeerRejected { node, address, reason, .. } => {
                    (node.id.as_str(), address.as_str(), *reason)
                        == ("n0", Net::address(other).as_str(), RejectReason::IdInUse)
                }
                _ => false,
            };
            net.expect(net.saw(ix, rejects), "a voter does not report the other one with its id");
        }
    });
}

/// The old run seems alive for a while and keeps the new one outside. This must not be long enough to stop the new one.
#[test]
fn i3_a_moved_node_joins_once_its_old_run_is_down() {
    for_each_seed(20, |seed| {
        let mut net = formed(seed, 3);
        let old = add_claimant(&mut net, "x", "old:1");
        net.start(old);
        net.run_until(5 * SECOND, |net| net.agree(&[0, 1, 2, old]));
        net.crash(old, Crash::Machine);
        let new = add_claimant(&mut net, "x", "new:1");
        net.start(new);
        net.run_until(15 * SECOND, |net| net.agree(&[0, 1, 2, new]));
        net.expect(net.agree(&[0, 1, 2, new]), "the moved node is still outside");
        net.expect(is_reported(&net, new, RejectReason::IdInView, "x", "old:1"), "the moved node was never rejected");
        // The old rejections must not count later.
        net.run_for(30 * SECOND);
        let (master, since) = (net.master().expect("there is one"), net.now());
        net.crash(master, Crash::Process);
        net.run_for(10 * SECOND);
        net.expect(net.count(new, since, stopped) == 0, "an old rejection has stopped the node");
    });
}

#[test]
fn i6_i7_one_of_two_nodes_at_one_seed_address_is_rejected() {
    for_each_seed(20, |seed| {
        let mut net = formed(seed, 3);
        let masters = net.masters();
        let victim = net.rng.below(3);
        let liar = add_claimant(&mut net, "liar", &Net::address(victim));
        // The address still leads to the victim.
        net.name(&Net::address(victim), Target::Node(victim));
        net.start(liar);
        net.run_for(8 * SECOND);
        let holder = format!("n{victim}");
        let reported = is_reported(&net, liar, RejectReason::AddressInUse, &holder, &Net::address(victim));
        net.expect(reported, "the liar does not report the holder of its address");
        let named = |event: &Event| match event {
            Event::PeerRejected { node, holder: Some(by), reason: RejectReason::AddressInUse, .. } => {
                node.id.as_str() == "liar" && by.node.id.as_str() == holder
            }
            _ => false,
        };
        net.expect((0..3).any(|ix| net.saw(ix, named)), "the rejecting nodes do not report both ids");
        net.expect(net.masters() == masters && net.agree(&[0, 1, 2]), "the cluster was affected");
    });
}

/// Two clusters with the same name: an address of one belonged to the other before. If only the names were compared,
/// they would merge.
#[test]
fn h6_clusters_with_different_seed_lists_stay_apart() {
    for_each_seed(10, |seed| {
        let mut net = Net::of_voters(seed, 3, Settings::default());
        // Voters of the other cluster. Their seed list still has an address that now belongs to the first cluster.
        let seeds = ["o0:1", "o1:1", "h2:1"];
        for ix in 0..2 {
            let config = Config::builder("test", format!("o{ix}"), format!("o{ix}:1")).seeds(seeds);
            net.add(config.build().expect("a valid configuration"));
        }
        net.start_all();
        net.run_for(20 * SECOND);
        for cluster in [&[0, 1, 2][..], &[3, 4]] {
            let ids: Vec<_> = cluster.iter().map(|ix| net.host(*ix).config.id().clone()).collect();
            for ix in cluster {
                let formation = net.host(*ix).formation.as_ref().expect("it runs");
                let members = formation.view().iter().map(|member| &member.node.id);
                net.expect(members.eq(&ids), &format!("node {ix} has {:?}", formation.view()));
            }
        }
        let mismatch = RejectReason::ElectorateMismatch;
        let reported_by_rejecting =
            |event: &Event| matches!(event, Event::PeerRejected { reason, .. } if *reason == mismatch);
        let reported_by_rejected =
            |event: &Event| matches!(event, Event::RejectedByPeer { reason, .. } if *reason == mismatch);
        net.expect(net.saw(2, reported_by_rejecting), "the dialed node does not report the mismatch");
        net.expect((3..5).all(|ix| net.saw(ix, reported_by_rejected)), "the dialing nodes do not report the mismatch");
    });
}

/// A voter that was away finds its cluster again. It never forms another one, however long it is alone.
#[test]
fn e2_a_restarted_voter_rejoins_and_never_forms_alone() {
    for_each_seed(10, |seed| {
        let mut net = formed(seed, 3);
        let masters = net.masters();
        let away = (masters[0].0 + 1 + net.rng.below(2)) % 3;
        net.crash(away, Crash::Process);
        net.isolate(away, formation_tests::Cut::Lose);
        net.start(away);
        let since = net.now() + Duration::from_millis(1);
        net.run_for(60 * SECOND);
        let elected = |event: &Event| matches!(event, Event::MasterElected { .. });
        net.expect(net.count(away, since, elected) == 0, "the voter formed a cluster alone");
        net.heal_all();
        net.run_until(10 * SECOND, |net| net.agree(&[0, 1, 2]));
        net.expect(net.agree(&[0, 1, 2]) && net.masters() == masters, "the voter did not rejoin");
    });
}
