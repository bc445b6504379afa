//! Rejections that a node makes from its view alone: they keep a node outside while the entry is there, and never stop it (PROTOCOL.md,
//! I3 and I5).

use std::{collections::BTreeSet, time::Duration};

use formation_core::{
    Address, Command, Config, Event, Incarnation, Member, Node, Phase, RejectReason, StopReason, Term, ViewId,
    message::{Holder, Message, Rejected},
};
use formation_tests::{Crash, Cut, Net, NodeIx, Peer, Settings, Target, for_each_seed};

const SECOND: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_millis(200);

/// A node that is no voter, in a cluster of three voters.
const PLAIN: NodeIx = 3;

fn stopped(event: &Event) -> bool {
    matches!(event, Event::Stopped { .. })
}

/// The voters that have rejected the node because of this holder in the view, once for each report.
fn reports(net: &Net, ix: NodeIx, since: Duration, held_at: &str) -> Vec<Address> {
    let since = since.as_micros() as u64;
    let events = net.host(ix).events.iter().filter(|(at, _)| u128::from(*at) >= u128::from(since));
    let reports = events.filter_map(|(_, event)| match event {
        Event::RejectedByPeer { address, reason: RejectReason::IdInView, holder: Some(holder), .. } => {
            let is_named = holder.node.id == *net.host(ix).config.id() && holder.address.as_str() == held_at;
            is_named.then(|| address.clone())
        }
        _ => None,
    });
    reports.collect()
}

/// It says so once per voter.
fn expect_reported_once(net: &Net, ix: NodeIx, since: Duration, (held_at, voters): (&str, usize)) {
    let reports = reports(net, ix, since, held_at);
    net.expect(reports.len() == voters, &format!("{voters} voters reject the node, and it reports {reports:?}"));
    let distinct: BTreeSet<_> = reports.iter().collect();
    net.expect(distinct.len() == voters, &format!("the node repeats itself: {reports:?}"));
}

/// The node says from time to time that it has no master, and that its id is the reason.
fn says_why(net: &Net, ix: NodeIx, since: Duration) -> bool {
    let reason = RejectReason::IdInView.to_string();
    net.count(ix, since, |event| matches!(event, Event::NoMaster { why, .. } if why.to_string().contains(&reason))) > 0
}

fn member(net: &Net, ix: NodeIx) -> Member {
    let address = net.host(ix).config.address().clone();
    Member::new(net.node(ix), address)
}

/// A member with the id of this node, at another address.
fn false_entry(net: &Net, ix: NodeIx, address: &str) -> Member {
    let node = Node { id: net.host(ix).config.id().clone(), incarnation: Incarnation(1) };
    let address = Address::new(address).expect("a valid address");
    Member::new(node, address)
}

/// The compromised voter n2 is the master of the nodes `first`. Its view names another node under the id of `victim`. The victim starts
/// when that view is there. The voter is gone after a time.
fn under_a_false_master(victim: NodeIx, held_at: &str, first: &[NodeIx]) -> (Net, Duration) {
    let mut net = Net::new(1, Settings { views_of_others: true, ..Settings::calm() });
    for ix in 0..4 {
        net.add(Net::config(ix, 3));
    }
    let mut hostile = Peer::of(&net.host(0).config, "n2", "h2:1");
    net.redirect("h2:1", Some(Target::Test));
    first.iter().for_each(|ix| net.start(*ix));
    net.run_for(INTERVAL);
    let mut members: Vec<_> = first.iter().map(|ix| member(&net, *ix)).collect();
    let false_entry = false_entry(&net, victim, held_at);
    let false_holder = Holder { node: false_entry.node.clone(), address: false_entry.address.clone() };
    members.extend([hostile.member(), false_entry]);
    members.sort_by(|a, b| a.node.id.cmp(&b.node.id));
    let (view_id, mut wires) = (ViewId { term: Term(1), version: 1 }, Vec::new());
    let since = net.now();
    for number in 1..100 {
        for wire in net.accepted() {
            if !first.iter().any(|ix| net.open_at(wire, *ix)) {
                // One voter's own lie alone stops nobody.
                let (reason, holder) = (RejectReason::IdInUse, Some(false_holder.clone()));
                net.send(wire, Message::Rejected(Rejected { reason, holder }).to_frame());
                net.close(wire);
                continue;
            }
            let words = [hostile.hello(), hostile.master(1), Peer::accepted(1), Peer::page(view_id, members.clone())];
            net.send(wire, words.concat());
            wires.push(wire);
        }
        for wire in &wires {
            net.send(*wire, Peer::heartbeat(1, number));
        }
        net.run_for(INTERVAL);
        if number == 5 {
            let views = first.iter().map(|ix| net.host(*ix).formation.as_ref().expect("it runs").view().id());
            assert!(views.clone().all(|id| id == view_id), "{:?}", views.collect::<Vec<_>>());
            net.start(victim);
        }
    }
    for wire in net.accepted().into_iter().chain(wires) {
        net.close(wire);
    }
    net.redirect("h2:1", Some(Target::Node(2)));
    (net, since)
}

#[test]
fn t3_i5_a_false_entry_of_a_master_stops_no_plain_node() {
    let (mut net, since) = under_a_false_master(PLAIN, "false:1", &[0, 1]);
    net.expect(!net.saw(PLAIN, stopped), "the false view has stopped the node");
    expect_reported_once(&net, PLAIN, since, ("false:1", 2));
    net.expect(says_why(&net, PLAIN, since), "the node does not say why it has no master");
    let whole = net.run_until(12 * SECOND, |net| net.agree(&[0, 1, PLAIN]));
    net.expect(whole, "the node is still outside after the false master has gone");
}

/// The false entry has the address of another voter, so that it does not give way (I4).
#[test]
fn t3_i5_a_false_entry_of_a_master_stops_no_voter() {
    for held_at in ["h0:1", "h2:1"] {
        let (mut net, since) = under_a_false_master(1, held_at, &[0, PLAIN]);
        net.expect(!net.saw(1, stopped), "the false view has stopped the voter");
        expect_reported_once(&net, 1, since, (held_at, 1));
        let whole = net.run_until(12 * SECOND, |net| net.agree(&[0, 1, PLAIN]));
        net.expect(whole, "the voter is still outside after the false master has gone");
    }
}

/// A cluster of three voters and a plain node, and a twin of this node.
fn with_a_twin(seed: u64) -> (Net, NodeIx) {
    let mut net = Net::formed(seed, (3, 1), Settings::default());
    let config = Config::builder("test", format!("n{PLAIN}"), "twin:1").seeds((0..3).map(Net::address));
    let twin = net.add(config.build().expect("a valid configuration"));
    (net, twin)
}

/// Another member takes the id of a node that is away. When the node is back, it reaches a quorum of voters, and not the master.
#[test]
fn t2_i5_an_id_taken_at_the_master_stops_no_node() {
    for_each_seed(20, |seed| {
        let (mut net, thief) = with_a_twin(seed);
        let master = net.master().expect("there is one");
        net.crash(PLAIN, Crash::Process);
        net.run_until(8 * SECOND, |net| net.agree(&[0, 1, 2]));
        net.start(thief);
        net.run_until(8 * SECOND, |net| net.agree(&[0, 1, 2, thief]));
        net.expect(net.agree(&[0, 1, 2, thief]), "the thief is not a member");
        net.run_for(SECOND);
        net.cut(PLAIN, master, Cut::Lose);
        let since = net.now();
        net.start(PLAIN);
        net.run_for(20 * SECOND);
        net.expect(!net.saw(PLAIN, stopped), "the entry of the thief has stopped the node");
        expect_reported_once(&net, PLAIN, since, ("twin:1", 2));
        net.expect(says_why(&net, PLAIN, since), "the node does not say why it has no master");
        net.crash(thief, Crash::Process);
        net.heal_all();
        net.run_until(12 * SECOND, |net| net.agree(&[0, 1, 2, PLAIN]));
        net.expect(net.agree(&[0, 1, 2, PLAIN]), "the node is still outside after the thief has gone");
    });
}

/// Only the master has a link to a member that is no voter, so only the master can know that it lives.
#[test]
fn i5_a_twin_of_a_plain_member_joins_when_that_has_left() {
    for_each_seed(20, |seed| {
        let (mut net, twin) = with_a_twin(seed);
        net.run_for(SECOND);
        let (masters, since) = (net.masters(), net.now());
        net.start(twin);
        net.run_for(20 * SECOND);
        net.expect(!net.saw(twin, stopped) && !net.saw(PLAIN, stopped), "one of the two has stopped");
        net.expect(net.masters() == masters && net.agree(&[0, 1, 2, PLAIN]), "the cluster was affected");
        expect_reported_once(&net, twin, since, (&Net::address(PLAIN), 2));
        net.expect(says_why(&net, twin, since), "the twin does not say why it has no master");
        let in_use = |event: &Event| matches!(event, Event::RejectedByPeer { reason: RejectReason::IdInUse, .. });
        net.expect(net.count(twin, since, in_use) == 1, "the master does not say that the other node lives");
        net.command(PLAIN, Command::Leave);
        net.run_until(8 * SECOND, |net| net.agree(&[0, 1, 2, twin]));
        net.expect(net.agree(&[0, 1, 2, twin]), "the twin is still outside after the other node has left");
        net.expect(net.status(PLAIN).phase == Phase::Stopped, "the first node has left");
    });
}

/// A single voter is the master, and all the voters that there are.
#[test]
fn i5_a_twin_stops_where_the_master_is_the_quorum() {
    let mut net = Net::formed(1, (1, 1), Settings::default());
    let config = Config::builder("test", "n1", "twin:1").seeds([Net::address(0)]).build();
    let twin = net.add(config.expect("a valid configuration"));
    net.start(twin);
    let has_stopped = |event: &Event| matches!(event, Event::Stopped { reason: StopReason::IdInUse });
    net.run_until(10 * SECOND, |net| net.saw(twin, has_stopped));
    net.expect(net.saw(twin, has_stopped) && net.agree(&[0, 1]), "two nodes with one id live");
}
