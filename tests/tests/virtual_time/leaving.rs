//! Leaving (PROTOCOL, "Leaving"): it is confirmed, it takes a bounded time, and views show it as leaving. Also the cost
//! of a rolling restart.

use std::{collections::BTreeMap, time::Duration};

use formation_core::{
    Change, Command, Config, ConnId, Event, Input, Member, Node, NodeId, Phase, RemovalReason, StopReason, Term,
    ViewId,
    message::{Message, Resign, Role, Vote},
};
use formation_tests::{Crash, Net, NetSettings, NodeIx, Peer, Rig, Settings, for_each_seed};

const SECOND: Duration = Duration::from_secs(1);
const LATENCY: Duration = Duration::from_millis(10);
const ROUND_TRIP: Duration = Duration::from_millis(20);

/// Only the latency takes time, so that times can be counted in round trips.
fn latency_only() -> NetSettings {
    NetSettings { latency: (LATENCY, LATENCY), ..NetSettings::calm() }
}

fn formed(seed: u64, voters: usize, others: usize, settings: impl Into<Settings>) -> Net {
    let mut net = Net::formed(seed, (voters, others), settings);
    // E1: until `bootstrap_wait` has passed, voters are in grace. A master that is lost earlier is replaced only after
    // that.
    net.run_for(4 * SECOND);
    net
}

fn left(event: &Event) -> bool {
    matches!(event, Event::Stopped { reason: StopReason::Left })
}

fn removals<'a>(net: &'a Net, ix: NodeIx, of: &'a Node) -> impl Iterator<Item = RemovalReason> + 'a {
    let changes = net.host(ix).events.iter().flat_map(|(_, event)| match event {
        Event::ViewChanged { changes, .. } => &changes[..],
        _ => &[],
    });
    changes.filter_map(|change| match change {
        Change::Remove { id, reason } if *id == of.id => Some(*reason),
        _ => None,
    })
}

/// For how long a living node has been showing a node that is not there any more.
fn longest_shown(net: &Net, left_since: &BTreeMap<Node, Duration>) -> Duration {
    let views = net.living().into_iter().filter_map(|ix| net.host(ix).formation.as_ref());
    let shown = views.flat_map(|formation| formation.view().iter().filter_map(|member| left_since.get(&member.node)));
    shown.map(|since| net.now() - *since).max().unwrap_or_default()
}

/// The cost of a rolling restart.
#[derive(Debug, Default)]
struct Cost {
    /// The longest time without a master.
    masterless: Duration,
    /// The number of times without a master.
    gaps: u32,
    /// The longest time for which a view showed a node that was not there any more.
    shown: Duration,
}

/// Takes out one node after the other in this order, and starts it again after a time. Each node has to be back before
/// the next one is taken out.
fn roll_restarts(net: &mut Net, order: &[NodeIx], away: Duration, mut take_out: impl FnMut(&mut Net, NodeIx)) -> Cost {
    let (mut cost, mut left_since) = (Cost::default(), BTreeMap::new());
    let mut without_since = None;
    for ix in order {
        let node = net.node(*ix);
        take_out(net, *ix);
        // A node counts as gone from the moment of its command to leave.
        let since = net.now();
        left_since.insert(node, since);
        let mut back = false;
        let done = net.run_until(30 * SECOND, |net| {
            cost.shown = cost.shown.max(longest_shown(net, &left_since));
            match (net.masters().is_empty(), without_since) {
                (true, None) => without_since = Some(net.now()),
                (false, Some(since)) => {
                    cost.masterless = cost.masterless.max(net.now() - since);
                    (cost.gaps, without_since) = (cost.gaps + 1, None);
                }
                _ => {}
            }
            if !back && !net.living().contains(ix) && net.now() >= since + away {
                net.crash_if(*ix, |_, _| true, Crash::Process);
                net.start(*ix);
                back = true;
            }
            back && net.converged()
        });
        net.expect(done, "the restarted node is not back");
    }
    cost
}

fn orders(net: &mut Net, nodes: usize) -> [Vec<NodeIx>; 3] {
    let mut shuffled: Vec<_> = (0..nodes).collect();
    net.rng.shuffle(&mut shuffled);
    [(0..nodes).collect(), (0..nodes).rev().collect(), shuffled]
}

/// The resignation with the status reports takes one way, the request and the vote take the rest. No node waits for a
/// lease.
#[test]
fn l3_the_next_master_leads_after_two_round_trips() {
    for voters in 3..=7 {
        let mut net = formed(voters as u64, voters, 1, latency_only());
        let (master, since) = (net.master().unwrap(), net.now());
        let node = net.node(master);
        net.command(master, Command::Leave);
        net.expect(net.masters().is_empty(), "the mastership has not ended for the own embedder first");
        let done = net.run_until(SECOND, |net| !net.masters().is_empty());
        net.expect(done, "there is no new master after a lease");
        let without = net.now() - since;
        println!("{voters} voters: {without:?} without a master; a round trip takes {ROUND_TRIP:?}");
        net.expect(without <= 2 * ROUND_TRIP, &format!("{without:?} without a master"));
        let done = net.run_until(2 * ROUND_TRIP, |net| net.saw(master, left) && net.converged());
        net.expect(done, "the next master did not confirm the leave, or the nodes do not agree");
        for ix in net.living() {
            net.expect(
                removals(&net, ix, &node).eq([RemovalReason::Left]),
                "a node does not show the old master as left",
            );
        }
    }
}

#[test]
fn l3_a_rolling_restart_costs_two_round_trips_per_master() {
    for voters in 3..=7 {
        for which in 0..3 {
            let mut net = formed(which, voters, 1, latency_only());
            let order = orders(&mut net, voters + 1)[which as usize].clone();
            let cost = roll_restarts(&mut net, &order, Duration::ZERO, |net, ix| net.command(ix, Command::Leave));
            println!("{voters} voters, {order:?}: {cost:?}");
            net.expect(cost.gaps >= 1, "the master never left");
            net.expect(cost.masterless <= 2 * ROUND_TRIP, &format!("{cost:?}"));
            // The way of the status to the next master, its election, and the way of its view.
            net.expect(cost.shown <= 4 * ROUND_TRIP, &format!("a node that had left was shown for too long: {cost:?}"));
            let down = |event: &Event| match event {
                Event::ViewChanged { changes, .. } => {
                    changes.iter().any(|change| matches!(change, Change::Remove { reason: RemovalReason::Down, .. }))
                }
                _ => false,
            };
            net.expect((0..=voters).all(|ix| !net.saw(ix, down)), "a node that left is shown as down");
        }
    }
}

/// The same on a network where everything takes time. No view shows a node that has left for longer than `down_after`.
#[test]
fn l3_a_rolling_restart_never_waits_for_a_lease() {
    for_each_seed(20, |seed| {
        let voters = 3 + seed as usize % 5;
        let mut net = formed(seed, voters, 1, Settings::default());
        let order = orders(&mut net, voters + 1)[2].clone();
        let cost = roll_restarts(&mut net, &order, Duration::ZERO, |net, ix| net.command(ix, Command::Leave));
        let times = net.host(0).config.timing().clone();
        net.expect(cost.gaps >= 1 && cost.masterless < times.lease / 2, &format!("{cost:?}"));
        net.expect(cost.shown < times.down_after, &format!("{cost:?}"));
    });
}

/// A crash sends no message, so a lease has to expire, and the member has to be silent for `down_after`.
#[test]
fn a_rolling_restart_by_crashes_costs_two_leases_per_master() {
    for_each_seed(10, |seed| {
        let voters = 3 + seed as usize % 5;
        let mut net = formed(seed, voters, 1, Settings::default());
        let order = orders(&mut net, voters + 1)[2].clone();
        let times = net.host(0).config.timing().clone();
        // The node is back at once, or only after all others have marked it as down.
        let away = if seed % 2 == 0 { Duration::ZERO } else { 2 * times.down_after };
        let cost = roll_restarts(&mut net, &order, away, |net, ix| {
            // E1: a node that has just come back may have forgotten a promise, so its vote does not count earlier.
            net.run_for(times.bootstrap_wait);
            net.crash(ix, Crash::Process);
        });
        println!("{cost:?}");
        net.expect(cost.gaps >= 1 && cost.masterless < 2 * times.lease, &format!("{cost:?}"));
        net.expect(cost.shown < 2 * times.lease + times.down_after, &format!("{cost:?}"));
    });
}

/// What happens to a node that has just reported that it leaves.
#[derive(Clone, Copy, Debug)]
enum Mishap {
    Nothing,
    /// Its connection to the master is reset, and the bytes in flight are lost.
    Reset,
    /// The master dies.
    MasterDies(Crash),
    /// The master leaves too, just before or just after the node.
    MasterLeaves {
        first: bool,
    },
}

#[test]
fn l1_l2_a_leaving_node_has_left_in_time_despite_mishaps() {
    let mishaps = [
        Mishap::Nothing,
        Mishap::Reset,
        Mishap::MasterDies(Crash::Process),
        Mishap::MasterDies(Crash::Machine),
        Mishap::MasterLeaves { first: true },
        Mishap::MasterLeaves { first: false },
    ];
    for_each_seed(60, |seed| {
        let mishap = mishaps[seed as usize % mishaps.len()];
        let mut net = formed(seed, 5, 1, Settings::default());
        let master = net.master().unwrap();
        let leaver = if seed % 4 < 2 { 5 } else { (master + 1 + net.rng.below(4)) % 5 };
        let (node, since) = (net.node(leaver), net.now());
        if matches!(mishap, Mishap::MasterLeaves { first: true }) {
            net.command(master, Command::Leave);
        }
        net.command(leaver, Command::Leave);
        let pause = net.rng.within((Duration::ZERO, Duration::from_millis(3)));
        match mishap {
            Mishap::Nothing | Mishap::MasterLeaves { first: true } => {}
            Mishap::Reset => {
                net.run_for(pause);
                net.reset(master, leaver);
            }
            Mishap::MasterDies(how) => net.crash(master, how),
            Mishap::MasterLeaves { first: false } => {
                net.run_for(pause);
                net.command(master, Command::Leave);
            }
        }
        let done = net.run_until(4 * SECOND, |net| net.saw(leaver, left));
        net.expect(done, &format!("{mishap:?}: the node has not left"));
        let took = net.now() - since;
        net.expect(
            took < net.host(0).config.timing().down_after,
            &format!("{mishap:?}: no master confirmed the leave"),
        );
        net.converge(8 * SECOND);
        for ix in net.living() {
            let reasons: Vec<_> = removals(&net, ix, &node).collect();
            net.expect(
                reasons == [RemovalReason::Left],
                &format!("{mishap:?}: node {ix} shows the removals {reasons:?}"),
            );
        }
    });
}

/// A master whose resignation is lost with its connections sends it again on the next connections, so that no node
/// waits for the lease. A candidate may ask before the others have the resignation, which costs one round.
#[test]
fn l3_l4_a_resignation_lost_with_its_connections_is_repeated() {
    for_each_seed(40, |seed| {
        let mut net = formed(seed, 3 + 2 * (seed as usize % 2), 0, Settings::default());
        let (master, since) = (net.master().unwrap(), net.now());
        net.command(master, Command::Leave);
        for ix in (0..net.len()).filter(|ix| *ix != master) {
            // The bytes in flight are lost.
            net.reset(master, ix);
        }
        let done = net.run_until(8 * SECOND, |net| !net.masters().is_empty());
        net.expect(done, "there is no new master");
        let without = net.now() - since;
        let timing = net.host(0).config.timing();
        let one_round = timing.election_timeout + 2 * timing.stagger;
        assert!(one_round < timing.lease - timing.heartbeat_interval, "a node may wait for the lease");
        net.expect(without < one_round, &format!("{without:?} without a master"));
    });
}

/// No node waits for a next master, because there can be none.
#[test]
fn l5_a_whole_cluster_leaves_in_a_few_round_trips() {
    for voters in 1..=7 {
        let mut net = formed(voters as u64, voters, 0, latency_only());
        for ix in 0..voters {
            net.command(ix, Command::Leave);
        }
        let done = net.run_until(3 * ROUND_TRIP, |net| (0..voters).all(|ix| net.saw(ix, left)));
        net.expect(done, "a node still waits");
    }
}

/// The node is in no view, so no master has to remove it.
#[test]
fn l5_a_node_that_never_had_a_master_leaves_at_once() {
    let mut rig = Rig::new(Net::config(1, 3));
    let mut other = Peer::of(&Net::config(1, 3), "n2", "h2:1");
    let conn = rig.answer("h2:1");
    rig.receive(conn, [other.hello(), other.joining()].concat());
    assert_eq!(rig.formation.status().phase, Phase::Joining);
    rig.command(Command::Leave);
    assert!(rig.events().any(left));
    let sent = rig.messages(conn);
    assert!(matches!(sent.last(), Some(Message::Status(status)) if status.role == Role::Leaving), "{sent:?}");
}

/// The promises to a candidate end with its candidacy, and not a lease later.
#[test]
fn e2_a_leaving_candidate_releases_its_voters_first() {
    let config = Net::config(0, 3);
    let mut rig = Rig::new(config.clone());
    let peers = [("n1", "h1:1"), ("n2", "h2:1")].map(|(id, address)| {
        let mut peer = Peer::of(&config, id, address);
        let conn = rig.answer(address);
        rig.receive(conn, [peer.hello(), peer.joining()].concat());
        conn
    });
    assert_eq!(rig.formation.status().phase, Phase::Candidate);
    peers.iter().for_each(|conn| drop(rig.messages(*conn)));
    rig.command(Command::Leave);
    assert!(rig.events().any(left));
    for conn in peers {
        let sent = rig.messages(conn);
        assert!(sent.iter().any(|message| matches!(message, Message::Release(release) if release.term == Term(1))));
    }
}

/// A node that follows n0, and its connections to n0 and to n2.
fn follower() -> (Rig, Peer, [ConnId; 2]) {
    let config = Net::config(1, 3);
    let mut rig = Rig::new(config.clone());
    let (mut master, mut other) = (Peer::of(&config, "n0", "h0:1"), Peer::of(&config, "n2", "h2:1"));
    let to_master = rig.answer("h0:1");
    rig.receive(to_master, [master.hello(), master.master(1), Peer::accepted(1)].concat());
    let to_other = rig.answer("h2:1");
    rig.receive(to_other, [other.hello(), other.joining()].concat());
    (rig, master, [to_master, to_other])
}

#[test]
fn l2_only_a_master_can_confirm_a_leave() {
    let (mut rig, _, [to_master, to_other]) = follower();
    rig.receive(to_master, Message::LeaveAck.to_frame());
    assert_eq!(rig.formation.status().phase, Phase::Follower, "a LeaveAck has no effect without a leave");
    rig.command(Command::Leave);
    rig.receive(to_other, Message::LeaveAck.to_frame());
    assert_eq!(
        rig.formation.status().phase,
        Phase::Leaving,
        "a LeaveAck from a node that is not the master has no effect"
    );
    rig.receive(to_master, Message::LeaveAck.to_frame());
    assert_eq!(rig.formation.status().phase, Phase::Stopped);
}

#[test]
fn l4_an_unconfirmed_leave_ends_after_down_after() {
    let (mut rig, mut master, [to_master, _]) = follower();
    let down_after = Config::timing(&Net::config(1, 3)).down_after;
    rig.command(Command::Leave);
    let step = Duration::from_millis(500);
    for _ in 1..down_after.as_millis() / step.as_millis() {
        rig.advance(step);
        // The master is alive, but does not confirm the leave.
        let status = master.master(1);
        rig.receive(to_master, status);
        assert_eq!(rig.formation.status().phase, Phase::Leaving);
    }
    rig.advance(step);
    assert!(rig.events().any(left));
}

/// No single delivery matters: the leaving node reports the leave on each link and gets an answer on each.
#[test]
fn l2_a_master_confirms_a_leave_as_often_as_it_is_reported() {
    let config = Config::single("test", "n0", "h0:1").build().expect("a valid configuration");
    let mut rig = Rig::new(config.clone());
    let mut member = Peer::of(&config, "x", "hx:1");
    let joins = [member.hello(), member.joining()].concat();
    let conn = rig.accept();
    rig.receive(conn, joins);
    assert_eq!(rig.formation.view().len(), 2);
    let leaving = member.status(1, Role::Leaving, rig.formation.view().id());
    rig.receive(conn, leaving.clone());
    assert_eq!(rig.formation.view().len(), 1);
    assert!(rig.messages(conn).contains(&Message::LeaveAck));
    // The first answer may be lost with the connection.
    rig.give(Input::Closed { conn });
    let again = rig.accept();
    let hello = member.hello();
    rig.receive(again, [hello, leaving].concat().to_vec());
    assert!(rig.messages(again).contains(&Message::LeaveAck));
    assert_eq!(rig.formation.view().len(), 1);
}

fn changes_of(rig: &Rig) -> Vec<Change> {
    let changes = rig.events().filter_map(|event| match event {
        Event::ViewChanged { changes, .. } => Some(changes.to_vec()),
        _ => None,
    });
    changes.last().unwrap_or_default()
}

fn removed(id: &str, reason: RemovalReason) -> Change {
    Change::Remove { id: NodeId::new(id).expect("a valid id"), reason }
}

/// One of five voters that follows n0 in a view of all five, with its links to the others.
fn one_of_five() -> (Rig, Vec<(Peer, ConnId)>) {
    let config = Net::config(1, 5);
    let mut rig = Rig::new(config.clone());
    let mut peers = Vec::new();
    for ix in [0, 2, 3, 4] {
        let mut peer = Peer::of(&config, &format!("n{ix}"), &Net::address(ix));
        let conn = rig.answer(&Net::address(ix));
        rig.receive(conn, [peer.hello(), peer.joining()].concat());
        peers.push((peer, conn));
    }
    let own = Member::new(rig.formation.node().clone(), Peer::of(&config, "n1", "h1:1").member().address);
    let members = peers.iter().map(|(peer, _)| peer.member()).chain([own]).collect();
    let view_id = ViewId { term: Term(7), version: 3 };
    let (master, conn) = &mut peers[0];
    rig.receive(*conn, [master.master(7), Peer::accepted(7), Peer::page(view_id, members)].concat());
    assert_eq!(rig.formation.view().len(), 5);
    (rig, peers)
}

/// The old master has received the report too, but is lost before it sends its next view.
#[test]
fn l6_the_first_view_of_a_new_master_removes_leaving_members() {
    let (mut rig, mut peers) = one_of_five();
    let view_id = rig.formation.view().id();
    let (mut leaver, to_leaver) = peers.pop().expect("n4");
    let leaving = leaver.status(7, Role::Leaving, view_id);
    rig.receive(to_leaver, leaving);
    rig.give(Input::Closed { conn: to_leaver });
    let (mut master, to_master) = peers.remove(0);
    let leaving = master.status(7, Role::Leaving, view_id);
    rig.receive(to_master, [leaving, Message::Resign(Resign { term: Term(7) }).to_frame()].concat());
    rig.give(Input::Closed { conn: to_master });
    for (peer, conn) in &mut peers {
        let joining = peer.status(7, Role::Joining, view_id);
        rig.receive(*conn, joining);
    }
    for (_, conn) in &peers {
        let request = rig.messages(*conn).into_iter().find_map(|message| match message {
            Message::VoteRequest(request) => Some(request),
            _ => None,
        });
        let request = request.expect("the node is a candidate");
        let vote = Vote { term: request.term, number: request.number, granted: true };
        rig.receive(*conn, Message::Vote(vote).to_frame());
    }
    assert_eq!(rig.formation.status().phase, Phase::Master);
    assert_eq!(rig.formation.view().id().version, 1);
    assert_eq!(changes_of(&rig), [removed("n0", RemovalReason::Left), removed("n4", RemovalReason::Left)]);
}

#[test]
fn l6_a_snapshot_tells_who_is_missing_and_not_why() {
    let (mut rig, mut peers) = one_of_five();
    let own = rig.formation.view().get(&rig.formation.node().id).cloned().expect("it is a member");
    let (mut leaver, to_leaver) = peers.pop().expect("n4");
    let leaving = leaver.status(7, Role::Leaving, rig.formation.view().id());
    rig.receive(to_leaver, leaving);
    let (master, to_master) = &peers[0];
    let page = |version, members| Peer::page(ViewId { term: Term(7), version }, members);
    let stay = vec![master.member(), own, peers[1].0.member()];
    // The node remembers the leave across the views in between.
    let all = stay.iter().cloned().chain([peers[2].0.member(), leaver.member()]).collect();
    let before = rig.events().count();
    rig.receive(*to_master, page(8, all));
    assert_eq!((rig.formation.view().id().version, rig.events().count()), (8, before), "the members are the same");
    rig.receive(*to_master, page(9, stay));
    assert_eq!(changes_of(&rig), [removed("n3", RemovalReason::Unknown), removed("n4", RemovalReason::Left)]);
}
