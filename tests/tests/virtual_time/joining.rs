//! How a node finds its cluster (PROTOCOL, "Finding each other"): redirects, rejections, and its own address.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use formation_core::{Bootstrap, CloseReason, Config, Event, RejectReason};
use formation_tests::{Crash, Cut, Net, NodeIx, Settings, Target, for_each_seed};

const SECOND: Duration = Duration::from_secs(1);
const WRONG_CLUSTER: CloseReason = CloseReason::Rejected(RejectReason::WrongCluster);

fn elected(event: &Event) -> bool {
    matches!(event, Event::MasterElected { .. })
}

/// Three voters with a master.
fn formed(seed: u64) -> Net {
    let mut net = Net::of_voters(seed, 3, Settings::default());
    net.start_all();
    net.converge(SECOND);
    net
}

/// Adds a node that is not a voter and has a contact.
fn add_joining_node(net: &mut Net, id: &str, contact: &str) -> NodeIx {
    let config = Config::builder("test", id, "new:1").seeds((0..3).map(Net::address)).contacts([contact]);
    net.add(config.build().unwrap())
}

/// A known failure of other implementations: a rejected node waits, and then elects itself.
#[test]
fn h6_h10_a_rejected_node_never_becomes_master_by_itself() {
    for_each_seed(20, |seed| {
        let mut net = formed(seed);
        // The node has a voter's address, so that only the rejection keeps it from becoming a candidate.
        net.crash(0, Crash::Process);
        let config = Config::builder("other", "n0", "h0:1").seeds((0..3).map(Net::address)).build().unwrap();
        let other = net.add(config);
        net.start(other);
        net.run_for(30 * SECOND);
        net.expect(!net.saw(other, elected), "a rejected node is master");
        net.expect(net.agree(&[1, 2]), "the cluster was affected");
        let reported =
            |event: &Event| matches!(event, Event::RejectedByPeer { reason: RejectReason::WrongCluster, .. });
        let times = net.count(other, Duration::ZERO, reported);
        net.expect((1..=2).contains(&times), "a rejection was not reported once per address and reason");
    });
}

/// After a permanent rejection, the wait is the longest backoff, ± 50 %.
#[test]
fn d6_a_permanently_rejected_node_dials_rarely() {
    let mut net = formed(0);
    let config = Config::builder("other", "x", "hx:1").seeds((0..3).map(Net::address)).build().unwrap();
    let other = net.add(config);
    net.start(other);
    net.run_for(20 * SECOND);
    let count_closes = |ix| net.host(ix).closes.iter().filter(|(_, reason)| *reason == WRONG_CLUSTER).count();
    let rejections: usize = (0..3).map(count_closes).sum();
    // For each of the three seeds: the first dial, and at most one dial per half of the longest backoff.
    net.expect(rejections > 20 && rejections <= 3 * 42, &format!("{rejections} rejections in 20 s"));
    for ix in 0..3 {
        let reported = net.count(ix, Duration::ZERO, |event| matches!(event, Event::PeerRejected { .. }));
        net.expect(reported == 1, &format!("node {ix} reports it {reported} times"));
    }
}

/// A known failure of other implementations: a joining node with a lower id than the master takes over, or a node that
/// knows only a follower stays outside.
#[test]
fn d3_a_node_that_knows_only_a_follower_joins_the_master() {
    for_each_seed(30, |seed| {
        for id in ["a", "n0x", "z"] {
            let mut net = formed(seed);
            let new = add_joining_node(&mut net, id, "h2:1");
            net.cut(new, 0, Cut::Lose);
            net.cut(new, 1, Cut::Lose);
            let before = net.masters();
            net.start(new);
            net.run_for(4 * SECOND);
            let unreachable = |event: &Event| match event {
                Event::MasterUnreachable { master, address } => {
                    master.id.as_str() == "n0" && address.as_str() == "h0:1"
                }
                _ => false,
            };
            net.expect(net.saw(new, unreachable), "MasterUnreachable was not reported");
            net.expect(!net.saw(new, elected), "the node found a master that it cannot reach");
            net.heal(new, 0);
            net.converge(4 * SECOND);
            net.expect(net.masters() == before, "the master has changed");
        }
    });
}

/// A voter with the lowest id does not replace a living master.
#[test]
fn e2_a_late_voter_with_the_lowest_id_joins_the_master() {
    for_each_seed(30, |seed| {
        let mut net = Net::of_voters(seed, 3, Settings::default());
        net.start(1);
        net.start(2);
        net.converge(5 * SECOND);
        let before = net.masters();
        net.start(0);
        net.converge(2 * SECOND);
        net.expect(net.masters() == before, "the master has changed");
    });
}

#[test]
fn i8_a_seed_list_with_two_names_of_one_node_is_reported() {
    for_each_seed(10, |seed| {
        let mut net = Net::new(seed, Settings::default());
        let names = ["h0:1", "alias:1", "h1:1", "h2:1"];
        for ix in 0..3 {
            let config = Config::builder("test", format!("n{ix}"), Net::address(ix)).seeds(names).build().unwrap();
            net.add(config);
        }
        net.name("alias:1", Target::Node(0));
        net.start_all();
        net.run_for(10 * SECOND);
        let reported = |event: &Event| match event {
            Event::SelfDial { address, own } => address.as_str() == "alias:1" && own.as_str() == "h0:1",
            _ => false,
        };
        net.expect(net.count(0, Duration::ZERO, reported) == 1, "SelfDial was not reported once");
        // Three of four voters are still a quorum.
        net.expect(net.converged(), "the nodes do not agree");
    });
}

#[test]
fn i8_a_contact_that_is_the_node_is_dialed_every_down_after() {
    let mut net = Net::new(0, Settings::default());
    let config = Net::builder(0, 3).contacts(["alias:1"]).build().unwrap();
    net.add(config);
    net.name("alias:1", Target::Node(0));
    net.start(0);
    net.run_for(20 * SECOND);
    let own = |reason| reason == CloseReason::SelfDial;
    let closes = net.host(0).closes.iter().filter(|(_, reason)| own(*reason)).count();
    // Both ends of seven connections: one at once, and the others 3 s apart.
    net.expect(closes == 14, &format!("{closes} ends of connections to itself were closed"));
}

/// No timeout makes a join-only voter form a cluster.
#[test]
fn d7_join_only_voters_never_form_a_cluster() {
    let mut net = Net::new(0, Settings::default());
    for ix in 0..3 {
        net.add(Net::builder(ix, 3).bootstrap(Bootstrap::JoinOnly).build().unwrap());
    }
    net.start_all();
    net.run_for(60 * SECOND);
    net.expect((0..3).all(|ix| !net.saw(ix, elected)), "join-only voters formed a cluster");
}

/// It is no candidate, so nobody waits for its turn.
#[test]
fn e2_d7_a_join_only_voter_of_the_lowest_id_costs_no_time() {
    for_each_seed(10, |seed| {
        let mut net = Net::new(seed, Settings::default());
        for ix in 0..3 {
            let bootstrap = if ix == 0 { Bootstrap::JoinOnly } else { Bootstrap::Form };
            net.add(Net::builder(ix, 3).bootstrap(bootstrap).build().unwrap());
        }
        net.start_all();
        net.converge(SECOND / 2);
        net.expect(net.master() == Some(1), "the first voter that may form is not the master");
    });
}

/// Once a join-only voter has been a member, it votes: in the same run, and in a later run according to its durable
/// state.
#[test]
fn d7_a_join_only_voter_votes_once_it_has_joined() {
    for_each_seed(10, |seed| {
        let mut net = Net::new(seed, Settings::default());
        for ix in 0..3 {
            let bootstrap = if ix == 2 { Bootstrap::JoinOnly } else { Bootstrap::Form };
            net.add(Net::builder(ix, 3).bootstrap(bootstrap).build().unwrap());
        }
        net.start_all();
        net.converge(5 * SECOND);
        net.expect(net.master() != Some(2), "the join-only voter is master");
        net.crash(0, Crash::Process);
        net.run_until(10 * SECOND, |net| net.agree(&[1, 2]));
        net.expect(net.agree(&[1, 2]), "the join-only voter did not vote after it had joined");
        if seed % 2 == 0 {
            net.crash(1, Crash::Process);
            net.crash(2, Crash::Process);
            net.start(1);
            net.start(2);
            net.run_until(10 * SECOND, |net| net.agree(&[1, 2]));
            net.expect(
                net.agree(&[1, 2]),
                "the join-only voter did not vote, although its disk shows that it had joined",
            );
        }
    });
}
