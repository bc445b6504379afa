//! Continuing without a quorum, and merging again (E8). The unit tests of the core show each rule of the comparison.
//! Here, whole clusters split and meet.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod sides;

use std::time::Duration;

use formation_core::{
    Command, ConnId, Event, Input, LossReason, Output, Phase, Term, ViewId,
    message::{Heartbeat, HeartbeatAck, Message, Role},
};
use formation_tests::{Crash, Cut, Net, NodeIx, Peer, Rig, Settings, for_each_seed};

const SECOND: Duration = Duration::from_secs(1);
const AFTER: Duration = Duration::from_secs(4);

/// A network of `voters` voters and `others` other nodes. None of them is started.
fn net(seed: u64, voters: usize, others: usize) -> Net {
    let mut net = Net::new(seed, Settings::default());
    for ix in 0..voters + others {
        net.add(Net::builder(ix, voters).solo_after(AFTER).build().expect("a valid configuration"));
    }
    net
}

fn formed(seed: u64, voters: usize, others: usize) -> Net {
    let mut net = net(seed, voters, others);
    net.start_all();
    net.converge(2 * SECOND);
    net.run_for(4 * SECOND);
    net
}

/// Cuts the groups off from each other, and waits until each has its own master.
fn split(net: &mut Net, groups: &[&[NodeIx]]) {
    let how = if net.rng.one_in(2) { Cut::Hold } else { Cut::Lose };
    for (at, group) in groups.iter().enumerate() {
        for other in groups[at + 1..].iter().copied().flatten() {
            group.iter().for_each(|ix| net.cut(*ix, *other, how));
        }
    }
    let done = net.run_until(6 * AFTER, |net| groups.iter().all(|group| master_of(net, group).is_some()));
    net.expect(done, "a group has no master");
    net.run_for(4 * SECOND);
}

/// The master that the whole group follows.
fn master_of(net: &Net, group: &[NodeIx]) -> Option<NodeIx> {
    let of = |ix: NodeIx| net.status(ix).master.map(|(master, _)| master);
    let first = of(group[0])?;
    let master = group.iter().copied().find(|ix| net.node(*ix) == first)?;
    group.iter().all(|ix| of(*ix).as_ref() == Some(&first)).then_some(master)
}

fn term(net: &Net, ix: NodeIx) -> Term {
    net.status(ix).term
}

fn view_id(net: &Net, ix: NodeIx) -> ViewId {
    net.host(ix).formation.as_ref().map(|formation| formation.view().id()).unwrap_or_default()
}

/// Ends all cuts, and checks that all living nodes have the same master. The nodes of the losing sides report `Merged`
/// once, with both view ids.
fn heal_and_check(net: &mut Net, winner: NodeIx, losers: &[NodeIx]) {
    let before: Vec<_> =
        (0..net.len()).map(|ix| net.living().contains(&ix).then(|| (net.node(ix), view_id(net, ix)))).collect();
    let highest = net.living().into_iter().map(|ix| term(net, ix)).max();
    net.heal_all();
    net.converge(20 * SECOND);
    net.expect(net.master() == Some(winner), "the wrong side continues");
    net.expect(Some(term(net, winner)) >= highest, "the winner's term is older than another one");
    for ix in net.living() {
        let Some((node, held)) = before[ix].clone() else { continue };
        net.expect(net.node(ix) == node, "a node was restarted");
        let events = net.host(ix).events.iter();
        let merged: Vec<_> = events
            .filter_map(|(_, event)| if let Event::Merged { from, to } = event { Some((*from, *to)) } else { None })
            .collect();
        match (losers.contains(&ix), &merged[..]) {
            (true, [(from, to)]) => {
                net.expect(*from >= held, "the first id is not that of the last view of the losing side");
                net.expect(
                    to > from && *to <= view_id(net, winner),
                    "the second id is not that of a view of the winner",
                );
            }
            (false, []) => {}
            _ => net.fail(&format!("node {ix} reports these merges: {merged:?}")),
        }
    }
}

/// Raises the term of a group without a quorum above that of the others.
fn raise_term(net: &mut Net, ix: NodeIx) {
    for _ in 0..2 {
        let before = term(net, ix);
        net.crash(ix, Crash::Process);
        net.start(ix);
        let done = net.run_until(3 * AFTER, |net| net.status(ix).phase == Phase::Solo);
        net.expect(done && term(net, ix) > before, "the node does not continue alone in a new term");
    }
}

#[test]
fn e8_a_lone_node_leads_after_solo_after_and_not_before() {
    for_each_seed(10, |seed| {
        let mut net = net(seed, 3, 0);
        net.start(2);
        net.run_for(AFTER.mul_f64(0.98));
        net.expect(net.masters().is_empty(), "there is a master before solo_after");
        let done = net.run_until(AFTER / 10, |net| net.master() == Some(2));
        net.expect(done && net.status(2).phase == Phase::Solo, "there is no solo master after solo_after");
        net.expect(net.host(2).formation.as_ref().unwrap().view().len() == 1, "the view has more than one member");
    });
}

#[test]
fn e8_without_solo_after_no_node_leads_alone() {
    for_each_seed(5, |seed| {
        let mut net = Net::of_voters(seed, 3, Settings::default());
        net.start(0);
        net.run_for(120 * SECOND);
        net.expect(
            net.masters().is_empty() && net.status(0).phase == Phase::Joining,
            "there is a master without a quorum",
        );
    });
}

/// A solo master needs no restart when a quorum appears: it becomes a candidate, and no node changes sides.
#[test]
fn e8_a_solo_master_that_finds_a_quorum_becomes_its_master() {
    for_each_seed(20, |seed| {
        let mut net = net(seed, 3, 1);
        net.start(1);
        net.start(3);
        let done = net.run_until(2 * AFTER, |net| net.agree(&[1, 3]));
        net.expect(done && net.status(1).phase == Phase::Solo, "there is no solo master with a member");
        let before = term(&net, 1);
        net.start(0);
        net.start(2);
        let done = net.run_until(10 * SECOND, |net| net.converged() && net.status(1).phase == Phase::Master);
        net.expect(done && net.master() == Some(1), "the solo master is not the quorum's master");
        net.expect(term(&net, 1) > before, "the term is not new");
        let merged = |event: &Event| matches!(event, Event::Merged { .. });
        net.expect((0..4).all(|ix| !net.saw(ix, merged)), "a node has changed sides");
    });
}

#[test]
fn e8_a_quorums_master_wins_over_a_solo_one_of_higher_term() {
    for_each_seed(20, |seed| {
        let mut net = formed(seed, 5, 2);
        // Each side has a member that is not a voter.
        split(&mut net, &[&[0, 1, 5], &[2, 3, 4, 6]]);
        net.crash(1, Crash::Process);
        raise_term(&mut net, 0);
        let done = net.run_until(4 * SECOND, |net| master_of(net, &[0, 5]) == Some(0));
        net.expect(done, "the member does not follow the solo master");
        let winner = master_of(&net, &[2, 3, 4, 6]).unwrap();
        let phases = [net.status(0).phase, net.status(winner).phase];
        net.expect(phases == [Phase::Solo, Phase::Master], "there are not one solo master and one quorum's master");
        net.expect(term(&net, 0) > term(&net, winner), "the solo master has no higher term");
        heal_and_check(&mut net, winner, &[0, 5]);
        net.expect(net.status(winner).phase == Phase::Master, "the winner is no longer a quorum's master");
    });
}

/// Three of seven voters are left, and two of them are together.
#[test]
fn e8_of_two_solo_masters_the_one_with_more_members_wins() {
    for_each_seed(20, |seed| {
        let mut net = formed(seed, 7, 1);
        (3..7).for_each(|ix| net.crash(ix, Crash::Machine));
        split(&mut net, &[&[0], &[1, 2, 7]]);
        raise_term(&mut net, 0);
        let winner = master_of(&net, &[1, 2, 7]).unwrap();
        net.expect(term(&net, 0) > term(&net, winner), "the smaller side has no higher term");
        heal_and_check(&mut net, winner, &[0]);
        net.expect(net.status(winner).phase == Phase::Solo, "three of seven voters have a quorum's master");
    });
}

#[test]
fn e8_of_two_solo_masters_of_equal_size_the_higher_term_wins() {
    for_each_seed(20, |seed| {
        let mut net = formed(seed, 5, 2);
        (2..5).for_each(|ix| net.crash(ix, Crash::Process));
        split(&mut net, &[&[0, 5], &[1, 6]]);
        raise_term(&mut net, 1);
        net.run_for(4 * SECOND);
        net.expect(term(&net, 1) > term(&net, 0), "the higher id has no higher term");
        heal_and_check(&mut net, 1, &[0, 5]);
    });
}

#[test]
fn e8_of_two_solo_masters_of_one_term_the_lower_id_wins() {
    for_each_seed(20, |seed| {
        let mut net = formed(seed, 5, 0);
        (2..5).for_each(|ix| net.crash(ix, Crash::Process));
        split(&mut net, &[&[0], &[1]]);
        net.expect(term(&net, 0) == term(&net, 1), "the terms differ");
        heal_and_check(&mut net, 0, &[1]);
    });
}

/// The winner is a candidate in the next term for a moment, and its member has no master then. If the loser does not know of the winner
/// yet and is linked to the member, it admits it, and has more members now.
#[test]
fn e8_of_equal_sides_the_lower_id_wins_unless_a_member_moves() {
    for_each_seed(20, |seed| {
        let mut net = formed(seed, 5, 2);
        (2..5).for_each(|ix| net.crash(ix, Crash::Process));
        split(&mut net, &[&[0, 5], &[1, 6]]);
        net.expect(term(&net, 0) == term(&net, 1), "the terms differ");
        let since = net.now();
        net.heal_all();
        net.converge(20 * SECOND);
        let first = |ix: NodeIx, is_meant: &dyn Fn(&Event) -> bool| {
            let mut events = net.host(ix).events.iter().filter(|(at, _)| *at > since.as_micros() as u64);
            events.find(|(_, event)| is_meant(event)).map(|(at, _)| *at)
        };
        let gave_way = first(0, &|event| matches!(event, Event::MasterLost { reason: LossReason::GaveWay, .. }));
        let moved = first(1, &|event| match event {
            Event::ViewChanged { changes, .. } => changes.iter().any(|change| *change.id() == net.node(5).id),
            _ => false,
        });
        let has_reason = moved.zip(gave_way).is_some_and(|(moved, gave_way)| moved < gave_way);
        net.expect(net.master() == Some(0) || (net.master() == Some(1) && has_reason), "the wrong side continues");
    });
}

/// Three clusters at once, each with one more member. The winner depends on which ones meet first.
#[test]
fn e8_any_number_of_clusters_that_meet_become_one() {
    for_each_seed(20, |seed| {
        let mut net = formed(seed, 7, 3);
        (3..7).for_each(|ix| net.crash(ix, Crash::Machine));
        let groups: [&[NodeIx]; 3] = [&[0, 7], &[1, 8], &[2, 9]];
        split(&mut net, &groups);
        net.heal_all();
        net.converge(20 * SECOND);
        let winner = net.master().unwrap();
        let merged = |event: &Event| matches!(event, Event::Merged { .. });
        for ix in groups.into_iter().filter(|group| !group.contains(&winner)).flatten().copied() {
            net.expect(net.saw(ix, merged), "a node that changed sides did not report Merged");
        }
    });
}

#[test]
fn e8_the_losing_master_reports_why_it_stepped_down() {
    let mut net = formed(1, 2, 0);
    split(&mut net, &[&[0], &[1]]);
    let before = term(&net, 1);
    net.heal_all();
    net.converge(10 * SECOND);
    let gave_way =
        |event: &Event| matches!(event, Event::MasterLost { term, reason: LossReason::GaveWay, .. } if *term == before);
    let counts = [0, 1].map(|ix| net.count(ix, Duration::ZERO, gave_way));
    net.expect(counts == [0, 1], "GaveWay was not reported once, by the loser only");
}

/// A follower of a solo master keeps looking for a quorum, even if it is not a voter.
#[test]
fn d2_e8_a_follower_of_a_solo_master_keeps_dialing_all_seeds() {
    let config = Net::builder(5, 3).solo_after(AFTER).build().unwrap();
    let mut rig = Rig::new(config.clone());
    let mut master = Peer::of(&config, "n0", "h0:1");
    let conn = rig.answer("h0:1");
    let role = Role::Solo { members: 1 };
    let first = [master.hello(), master.status(1, role, ViewId::default()), Peer::accepted(1)].concat();
    rig.receive(conn, first);
    assert_eq!(rig.formation.status().master.map(|(node, _)| node), Some(master.node.clone()));
    for number in 1..=10 {
        rig.advance(SECOND / 4);
        let heartbeat = Message::Heartbeat(Heartbeat { term: Term(1), number, lease: SECOND });
        rig.receive(conn, heartbeat.to_frame());
    }
    assert_eq!(rig.formation.status().phase, Phase::Follower);
    // The first dial started before, and was given up after `handshake_timeout`.
    for seed in ["h1:1", "h2:1"] {
        let dials = rig.outputs.iter().filter(|o| matches!(o, Output::Dial { addr, .. } if addr.as_str() == seed));
        assert_eq!(dials.count(), 2, "{seed}");
    }
}

/// Without `solo_after`, a node relies on G2, so it must never follow a solo master.
#[test]
fn e8_without_solo_after_a_solo_master_is_ignored_and_reported() {
    let config = Net::config(1, 3);
    let mut rig = Rig::new(config.clone());
    let mut solo = Peer::of(&config, "n0", "h0:1");
    let conn = rig.answer("h0:1");
    let mut status = |members| solo.status(1, Role::Solo { members }, ViewId::default());
    let (first, again) = (status(1), status(2));
    let hello = solo.hello();
    let ignored = |rig: &Rig| {
        let ignored = |event: &&Event| matches!(event, Event::SoloMasterIgnored { node, .. } if *node == solo.node);
        rig.events().filter(ignored).count()
    };
    rig.receive(conn, [hello, first, Peer::accepted(1)].concat());
    assert_eq!(ignored(&rig), 1);
    rig.receive(conn, again);
    let status = rig.formation.status();
    assert_eq!((status.phase, status.term, status.master), (Phase::Joining, Term(0), None));
    assert_eq!(ignored(&rig), 1, "reported again after a change of the number of members");
}

/// The number of view updates that a solo master sends to a member that always acknowledges the view `held`.
fn updates(rig: &mut Rig, (conn, peer): (ConnId, &Peer), held: ViewId) -> usize {
    let mut updates = 0;
    for _ in 0..10 {
        rig.advance(SECOND / 5);
        for message in rig.messages(conn) {
            updates += usize::from(matches!(message, Message::MembersUpdate(_)));
            if let Message::Heartbeat(heartbeat) = message {
                let ack = HeartbeatAck {
                    term: Term(9),
                    number: heartbeat.number,
                    view_id: held,
                    confirms: false,
                    electorate: Default::default(),
                };
                rig.receive(conn, Message::HeartbeatAck(ack).to_frame());
            }
        }
    }
    assert_eq!(rig.closed(conn), None, "{peer:?}");
    updates
}

/// Such a member takes only views from its own master. It gets views again once it is joining again.
#[test]
fn e8_a_solo_master_sends_no_views_to_followers_of_another() {
    let config = Net::builder(0, 3).solo_after(AFTER).build().unwrap();
    let mut rig = Rig::new(config.clone());
    rig.advance(2 * AFTER);
    assert_eq!(rig.formation.status().phase, Phase::Solo);
    let mut peer = Peer::of(&config, "n1", "h1:1");
    let mut conn = rig.joined_by(&mut peer);
    let other = Peer::of(&config, "n2", "h2:1");
    let follows = Role::Follower { master: other.node, address: other.address };
    let (older, newer) = (ViewId::default(), ViewId { term: Term(9), version: 4 });
    for (role, theirs) in [(follows.clone(), newer), (follows, older), (Role::Solo { members: 0 }, older)] {
        let first = rig.messages(conn);
        assert!(first.iter().any(|message| matches!(message, Message::MembersUpdate(_))), "{first:?}");
        let status = peer.status(9, role.clone(), theirs);
        rig.receive(conn, status);
        rig.messages(conn);
        rig.command(Command::SetMetadata("news".into()));
        assert_eq!(updates(&mut rig, (conn, &peer), theirs), 0, "{role:?}");
        rig.give(Input::Closed { conn });
        conn = rig.hello_from(&mut peer);
        assert_eq!(updates(&mut rig, (conn, &peer), theirs), 0, "views before the status of the peer is known");
        let joining = peer.joining();
        rig.receive(conn, joining);
    }
    let again = rig.messages(conn);
    let contains = |like: fn(&Message) -> bool| again.iter().any(like);
    assert!(contains(|message| matches!(message, Message::JoinResponse(_))), "{again:?}");
    assert!(contains(|message| matches!(message, Message::MembersUpdate(_))), "{again:?}");
}

/// The view may be in flight when the receiver changes sides. Only a view of the own master must have a known term.
#[test]
fn e8_a_view_of_an_unfollowed_solo_master_is_ignored() {
    let config = Net::builder(0, 3).solo_after(AFTER).build().unwrap();
    let mut rig = Rig::new(config.clone());
    let [mut master, mut solo] = [("n1", "h1:1"), ("n2", "h2:1")].map(|(id, at)| Peer::of(&config, id, at));
    let (followed, ignored) = (rig.hello_from(&mut master), rig.hello_from(&mut solo));
    let leads = master.master(4);
    rig.receive(followed, leads);
    let role = Role::Solo { members: 2 };
    let view_id = |term| ViewId { term: Term(term), version: 1 };
    let status = solo.status(7, role, view_id(7));
    rig.receive(ignored, [status, Peer::page(view_id(7), vec![solo.member()])].concat());
    assert_eq!((rig.closed(ignored), rig.formation.view().len()), (None, 0));
    rig.receive(followed, Peer::page(view_id(4), vec![master.member()]));
    assert_eq!((rig.closed(followed), rig.formation.view().len()), (None, 1));
}

/// The solo master and the quorum's master cannot reach each other, but they have a neighbour in common. The solo
/// master has learned a newer term from other nodes, so that its views are newer than that of the neighbour.
#[test]
fn e8_a_node_that_changed_to_a_quorums_master_gets_no_views() {
    for_each_seed(10, |seed| {
        let mut net = formed(seed, 7, 1);
        split(&mut net, &[&[0, 1, 7], &[2, 3, 4, 5], &[6]]);
        raise_term(&mut net, 6);
        (2..6).for_each(|ix| net.heal(1, ix));
        let done = net.run_until(20 * SECOND, |net| master_of(net, &[1, 2, 3, 4, 5]).is_some());
        net.expect(done && net.status(0).phase == Phase::Solo, "no node has changed to the quorum's master");
        // Only the solo master itself can then report its new term to the neighbour.
        net.cut(1, 7, Cut::Lose);
        let since = net.now() + Duration::from_micros(1);
        net.heal(0, 6);
        let done = net.run_until(20 * SECOND, |net| master_of(net, &[0, 6, 7]) == Some(0));
        net.expect(done && view_id(&net, 0) > view_id(&net, 1), "the solo master has no newer term and view");
        net.run_for(4 * SECOND);
        let views = |net: &Net| net.watch.tally.of("snapshot page sent") + net.watch.tally.of("delta sent");
        let before = views(&net);
        net.run_for(10 * SECOND);
        net.expect(
            views(&net) == before,
            &format!("{} views were sent, although nothing has changed", views(&net) - before),
        );
        let one = net.node(1);
        let unlinked = |event: &Event| matches!(event, Event::Unlinked { node, .. } if *node == one);
        net.expect(net.count(0, since, unlinked) == 0, "the solo master and the neighbour have lost their link");
        net.heal_all();
        net.converge(20 * SECOND);
    });
}
