//! Two nodes that claim one id, one address or one cluster: who stays, who goes, and what each is told.

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

/// A node of the cluster of three voters, with an id and an address of its choice.
fn claims(net: &mut Net, id: &str, address: &str) -> NodeIx {
    let config = Config::builder("test", id, address).seeds((0..3).map(Net::address));
    net.add(config.build().expect("a valid configuration"))
}

fn stopped(event: &Event) -> bool {
    matches!(event, Event::Stopped { reason: StopReason::IdInUse })
}

/// Whether the node was refused for this, because of that node.
fn told(net: &Net, ix: NodeIx, why: RejectReason, id: &str, at: &str) -> bool {
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
        let twin = claims(&mut net, &format!("n{of}"), "twin:1");
        net.start(twin);
        net.run_until(10 * SECOND, |net| net.saw(twin, stopped));
        net.expect(net.saw(twin, stopped), "two nodes of one id live");
        let told = told(&net, twin, RejectReason::IdInUse, &format!("n{of}"), &Net::address(of));
        net.expect(told, "it does not know who has its id");
        let named = (0..3).all(|ix| {
            net.saw(ix, |event| match event {
                Event::PeerRejected { address, holder: Some(holder), .. } => {
                    address.as_str() == "twin:1" && holder.address.as_str() == Net::address(of)
                }
                _ => false,
            })
        });
        net.expect(named, "those that refused it do not name both addresses");
        net.expect(net.masters() == masters && net.agree(&[0, 1, 2]), "the cluster noticed");
        let harm = |event: &Event| matches!(event, Event::MasterLost { .. } | Event::Unlinked { .. });
        net.expect((0..3).all(|ix| net.count(ix, since, harm) == 0), "somebody lost something");
    });
}

/// Both are configured wrongly, and one is enough to form a cluster with the third.
#[test]
fn i5_one_of_two_voters_with_one_id_stops_and_the_other_forms() {
    for_each_seed(20, |seed| {
        let mut net = Net::new(seed, Settings::default());
        for (id, ix) in [("n0", 0), ("n0", 1), ("n2", 2)] {
            claims(&mut net, id, &Net::address(ix));
            let delay = net.rng.within((Duration::ZERO, SECOND));
            net.start_in(ix, delay);
        }
        net.run_for(15 * SECOND);
        let gone: Vec<_> = (0..3).filter(|ix| net.saw(*ix, stopped)).collect();
        net.expect(matches!(gone[..], [0 | 1]), &format!("{gone:?} have stopped"));
        net.expect(net.agree(&[1 - gone[0], 2]), "the others are no cluster");
        let (lost, kept) = (gone[0], 1 - gone[0]);
        let told = told(&net, lost, RejectReason::IdInUse, "n0", &Net::address(kept));
        net.expect(told, "it does not know who has its id");
    });
}

/// With nobody else there to decide, the larger address gives way; it would be no master alone in any case.
#[test]
fn i5_of_two_voters_alone_the_larger_address_stops() {
    for_each_seed(10, |seed| {
        let mut net = Net::new(seed, Settings::default());
        for ix in 0..2 {
            let config = Config::builder("test", "n0", Net::address(ix)).seeds((0..3).map(Net::address));
            // With a key each end has judged the other before it hears of a refusal.
            let config = if seed % 2 == 0 { config } else { config.key(*b"as secret as it can be in a test") };
            net.add(config.build().expect("a valid configuration"));
        }
        net.start_all();
        net.run_for(30 * SECOND);
        net.expect(net.saw(1, stopped) && !net.saw(0, stopped), "not one of them has stopped, the larger");
    });
}

/// Its old self looks alive for a while, and so it is kept outside, but not for as long as a living one would keep it.
#[test]
fn i3_a_moved_node_joins_once_its_old_run_is_down() {
    for_each_seed(20, |seed| {
        let mut net = formed(seed, 3);
        let old = claims(&mut net, "x", "old:1");
        net.start(old);
        net.run_until(5 * SECOND, |net| net.agree(&[0, 1, 2, old]));
        net.crash(old, Crash::Machine);
        let new = claims(&mut net, "x", "new:1");
        net.start(new);
        net.run_until(15 * SECOND, |net| net.agree(&[0, 1, 2, new]));
        net.expect(net.agree(&[0, 1, 2, new]), "it is still outside");
        net.expect(told(&net, new, RejectReason::IdInUse, "x", "old:1"), "nothing kept it outside");
        // What it was refused then says nothing of what comes later.
        net.run_for(30 * SECOND);
        let (master, since) = (net.master().expect("there is one"), net.now());
        net.crash(master, Crash::Process);
        net.run_for(10 * SECOND);
        net.expect(net.count(new, since, stopped) == 0, "an old refusal has stopped it");
    });
}

#[test]
fn i6_i7_one_of_two_nodes_at_one_seed_address_is_rejected() {
    for_each_seed(20, |seed| {
        let mut net = formed(seed, 3);
        let masters = net.masters();
        let victim = net.rng.below(3);
        let liar = claims(&mut net, "liar", &Net::address(victim));
        // Its address leads to whom it led before.
        net.name(&Net::address(victim), Target::Node(victim));
        net.start(liar);
        net.run_for(8 * SECOND);
        let holder = format!("n{victim}");
        let is_told = told(&net, liar, RejectReason::AddressInUse, &holder, &Net::address(victim));
        net.expect(is_told, "it does not know who has its address");
        let named = |event: &Event| match event {
            Event::PeerRejected { node, holder: Some(by), reason: RejectReason::AddressInUse, .. } => {
                node.id.as_str() == "liar" && by.node.id.as_str() == holder
            }
            _ => false,
        };
        net.expect((0..3).any(|ix| net.saw(ix, named)), "those that refused it do not name both ids");
        net.expect(net.masters() == masters && net.agree(&[0, 1, 2]), "the cluster noticed");
    });
}

/// One's address was another's before: names alone would have made one of the two.
#[test]
fn h6_clusters_with_different_seed_lists_stay_apart() {
    for_each_seed(10, |seed| {
        let mut net = Net::of_voters(seed, 3, Settings::default());
        // Voters of the other cluster, whose list still has an address that has become the first one's.
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
        let refused = |event: &Event| matches!(event, Event::PeerRejected { reason, .. } if *reason == mismatch);
        let rejected = |event: &Event| matches!(event, Event::RejectedByPeer { reason, .. } if *reason == mismatch);
        net.expect(net.saw(2, refused), "the one that was there says nothing");
        net.expect((3..5).all(|ix| net.saw(ix, rejected)), "those that came say nothing");
    });
}

/// A seed that was away finds its cluster, and never makes another, for however long it is alone.
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
        let led = |event: &Event| matches!(event, Event::MasterElected { .. });
        net.expect(net.count(away, since, led) == 0, "it has founded an island");
        net.heal_all();
        net.run_until(10 * SECOND, |net| net.agree(&[0, 1, 2]));
        net.expect(net.agree(&[0, 1, 2]) && net.masters() == masters, "it did not rejoin");
    });
}
