//! Going on without a quorum, and becoming one again (E8). Who wins is also shown rule by rule in the core's own tests; here whole
//! nodes part and meet.

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

/// `voters` and `others` beside them, none of them started.
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

/// Cuts the groups from each other, until each has a master of its own.
fn part(net: &mut Net, groups: &[&[NodeIx]]) {
    let how = if net.rng.one_in(2) { Cut::Hold } else { Cut::Lose };
    for (at, group) in groups.iter().enumerate() {
        for other in groups[at + 1..].iter().copied().flatten() {
            group.iter().for_each(|ix| net.cut(*ix, *other, how));
        }
    }
    let done = net.run_until(6 * AFTER, |net| groups.iter().all(|group| master_of(net, group).is_some()));
    net.expect(done, "each group has a master");
    net.run_for(4 * SECOND);
}

/// Whom all of them follow.
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

/// They meet, and all that live have the same master. Those who were of another side say so once, with both view ids.
fn meet(net: &mut Net, winner: NodeIx, losers: &[NodeIx]) {
    let before: Vec<_> =
        (0..net.len()).map(|ix| net.living().contains(&ix).then(|| (net.node(ix), view_id(net, ix)))).collect();
    let highest = net.living().into_iter().map(|ix| term(net, ix)).max();
    net.heal_all();
    net.converge(20 * SECOND);
    net.expect(net.master() == Some(winner), "the wrong side goes on");
    net.expect(Some(term(net, winner)) >= highest, "in a term that is no older than any");
    for ix in net.living() {
        let Some((node, held)) = before[ix].clone() else { continue };
        net.expect(net.node(ix) == node, "nobody was started again");
        let events = net.host(ix).events.iter();
        let merged: Vec<_> = events
            .filter_map(|(_, event)| if let Event::Merged { from, to } = event { Some((*from, *to)) } else { None })
            .collect();
        match (losers.contains(&ix), &merged[..]) {
            (true, [(from, to)]) => {
                net.expect(*from >= held, "from the last view of its side");
                net.expect(to > from && *to <= view_id(net, winner), "to a view of the winner");
            }
            (false, []) => {}
            _ => net.fail(&format!("node {ix} has merged: {merged:?}")),
        }
    }
}

/// Makes the term of a group that has no quorum higher than that of the others.
fn raise(net: &mut Net, ix: NodeIx) {
    for _ in 0..2 {
        let before = term(net, ix);
        net.crash(ix, Crash::Process);
        net.start(ix);
        let done = net.run_until(3 * AFTER, |net| net.status(ix).phase == Phase::Solo);
        net.expect(done && term(net, ix) > before, "it goes on alone in a new term");
    }
}

#[test]
fn e8_a_lone_node_leads_after_solo_after_and_not_before() {
    for_each_seed(10, |seed| {
        let mut net = net(seed, 3, 0);
        net.start(2);
        net.run_for(AFTER.mul_f64(0.98));
        net.expect(net.masters().is_empty(), "not before");
        let done = net.run_until(AFTER / 10, |net| net.master() == Some(2));
        net.expect(done && net.status(2).phase == Phase::Solo, "and then alone");
        net.expect(net.host(2).formation.as_ref().unwrap().view().len() == 1, "with itself as the only member");
    });
}

#[test]
fn e8_without_solo_after_no_node_leads_alone() {
    for_each_seed(5, |seed| {
        let mut net = Net::of_voters(seed, 3, Settings::default());
        net.start(0);
        net.run_for(120 * SECOND);
        net.expect(net.masters().is_empty() && net.status(0).phase == Phase::Joining, "no quorum, no master");
    });
}

/// One that waits for a quorum need not be restarted when it is there: it stands, and nobody has changed sides.
#[test]
fn e8_a_solo_master_that_finds_a_quorum_becomes_its_master() {
    for_each_seed(20, |seed| {
        let mut net = net(seed, 3, 1);
        net.start(1);
        net.start(3);
        let done = net.run_until(2 * AFTER, |net| net.agree(&[1, 3]));
        net.expect(done && net.status(1).phase == Phase::Solo, "a solo master with a member");
        let before = term(&net, 1);
        net.start(0);
        net.start(2);
        let done = net.run_until(10 * SECOND, |net| net.converged() && net.status(1).phase == Phase::Master);
        net.expect(done && net.master() == Some(1), "the same is the quorum's master");
        net.expect(term(&net, 1) > before, "in a new term");
        let merged = |event: &Event| matches!(event, Event::Merged { .. });
        net.expect((0..4).all(|ix| !net.saw(ix, merged)), "nobody has changed sides");
    });
}

#[test]
fn e8_a_quorums_master_wins_over_a_solo_one_of_higher_term() {
    for_each_seed(20, |seed| {
        let mut net = formed(seed, 5, 2);
        // A member without a vote on each side.
        part(&mut net, &[&[0, 1, 5], &[2, 3, 4, 6]]);
        net.crash(1, Crash::Process);
        raise(&mut net, 0);
        let done = net.run_until(4 * SECOND, |net| master_of(net, &[0, 5]) == Some(0));
        net.expect(done, "the member without a vote follows it");
        let winner = master_of(&net, &[2, 3, 4, 6]).unwrap();
        net.expect(net.status(0).phase == Phase::Solo && net.status(winner).phase == Phase::Master, "one of each");
        net.expect(term(&net, 0) > term(&net, winner), "the solo one has the higher term");
        meet(&mut net, winner, &[0, 5]);
        net.expect(net.status(winner).phase == Phase::Master, "it is still a quorum's");
    });
}

/// Three of seven are left; two of them together.
#[test]
fn e8_of_two_solo_masters_the_one_with_more_members_wins() {
    for_each_seed(20, |seed| {
        let mut net = formed(seed, 7, 1);
        (3..7).for_each(|ix| net.crash(ix, Crash::Machine));
        part(&mut net, &[&[0], &[1, 2, 7]]);
        raise(&mut net, 0);
        let winner = master_of(&net, &[1, 2, 7]).unwrap();
        net.expect(term(&net, 0) > term(&net, winner), "the other has the higher term");
        meet(&mut net, winner, &[0]);
        net.expect(net.status(winner).phase == Phase::Solo, "three of seven are no quorum");
    });
}

#[test]
fn e8_of_two_solo_masters_of_equal_size_the_higher_term_wins() {
    for_each_seed(20, |seed| {
        let mut net = formed(seed, 5, 2);
        (2..5).for_each(|ix| net.crash(ix, Crash::Process));
        part(&mut net, &[&[0, 5], &[1, 6]]);
        raise(&mut net, 1);
        net.run_for(4 * SECOND);
        net.expect(term(&net, 1) > term(&net, 0), "the higher id has the higher term");
        meet(&mut net, 1, &[0, 5]);
    });
}

#[test]
fn e8_of_two_solo_masters_of_one_term_the_lower_id_wins() {
    for_each_seed(20, |seed| {
        let mut net = formed(seed, 5, 2);
        (2..5).for_each(|ix| net.crash(ix, Crash::Process));
        part(&mut net, &[&[0, 5], &[1, 6]]);
        net.expect(term(&net, 0) == term(&net, 1), "both went one term on");
        meet(&mut net, 0, &[1, 6]);
    });
}

/// Three at once, each with a member of its own. Who goes on hangs on who meets first.
#[test]
fn e8_any_number_of_clusters_that_meet_become_one() {
    for_each_seed(20, |seed| {
        let mut net = formed(seed, 7, 3);
        (3..7).for_each(|ix| net.crash(ix, Crash::Machine));
        let groups: [&[NodeIx]; 3] = [&[0, 7], &[1, 8], &[2, 9]];
        part(&mut net, &groups);
        net.heal_all();
        net.converge(20 * SECOND);
        let winner = net.master().unwrap();
        let merged = |event: &Event| matches!(event, Event::Merged { .. });
        for ix in groups.into_iter().filter(|group| !group.contains(&winner)).flatten().copied() {
            net.expect(net.saw(ix, merged), "who has changed sides says so");
        }
    });
}

#[test]
fn e8_the_losing_master_reports_why_it_stepped_down() {
    let mut net = formed(1, 2, 0);
    part(&mut net, &[&[0], &[1]]);
    let before = term(&net, 1);
    net.heal_all();
    net.converge(10 * SECOND);
    let said =
        |event: &Event| matches!(event, Event::MasterLost { term, reason: LossReason::GaveWay, .. } if *term == before);
    net.expect(net.count(1, Duration::ZERO, said) == 1 && net.count(0, Duration::ZERO, said) == 0, "GaveWay, once");
}

/// A follower of a solo master keeps looking for a quorum, also one that has no vote.
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
        let beat = Message::Heartbeat(Heartbeat { term: Term(1), number, lease: SECOND });
        rig.receive(conn, beat.to_frame());
    }
    assert_eq!(rig.formation.status().phase, Phase::Follower);
    // The first is of before, and was given up after `handshake_timeout`.
    for seed in ["h1:1", "h2:1"] {
        let dials = rig.outputs.iter().filter(|o| matches!(o, Output::Dial { addr, .. } if addr.as_str() == seed));
        assert_eq!(dials.count(), 2, "{seed}");
    }
}

/// Otherwise two might lead it at the same time, which it has been promised is never so.
#[test]
fn e8_without_solo_after_a_solo_master_is_ignored_and_reported() {
    let config = Net::config(1, 3);
    let mut rig = Rig::new(config.clone());
    let mut solo = Peer::of(&config, "n0", "h0:1");
    let conn = rig.answer("h0:1");
    let mut say = |members| solo.status(1, Role::Solo { members }, ViewId::default());
    let (first, again) = (say(1), say(2));
    let hello = solo.hello();
    let ignored = |rig: &Rig| {
        let said = |event: &&Event| matches!(event, Event::SoloMasterIgnored { node, .. } if *node == solo.node);
        rig.events().filter(said).count()
    };
    rig.receive(conn, [hello, first, Peer::accepted(1)].concat());
    assert_eq!(ignored(&rig), 1);
    rig.receive(conn, again);
    let status = rig.formation.status();
    assert_eq!((status.phase, status.term, status.master), (Phase::Joining, Term(0), None));
    assert_eq!(ignored(&rig), 1, "once, however often the number of its members changes");
}

/// A solo master, and what it says to the one who joined it: who acknowledges `held`, whatever is said.
fn updates(rig: &mut Rig, (conn, peer): (ConnId, &Peer), held: ViewId) -> usize {
    let mut updates = 0;
    for _ in 0..10 {
        rig.advance(SECOND / 5);
        for message in rig.messages(conn) {
            updates += usize::from(matches!(message, Message::MembersUpdate(_)));
            if let Message::Heartbeat(beat) = message {
                let ack = HeartbeatAck { term: Term(9), number: beat.number, view_id: held, confirms: false };
                rig.receive(conn, Message::HeartbeatAck(ack).to_frame());
            }
        }
    }
    assert_eq!(rig.closed(conn), None, "{peer:?}");
    updates
}

/// Whose views it takes only if they come from that one.
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
        let said = peer.status(9, role.clone(), theirs);
        rig.receive(conn, said);
        rig.messages(conn);
        rig.command(Command::SetMetadata("news".into()));
        assert_eq!(updates(&mut rig, (conn, &peer), theirs), 0, "{role:?}");
        rig.give(Input::Closed { conn });
        conn = rig.hello_from(&mut peer);
        assert_eq!(updates(&mut rig, (conn, &peer), theirs), 0, "nor before it is known that it has none");
        let seeks = peer.joining();
        rig.receive(conn, seeks);
    }
    let again = rig.messages(conn);
    let told = |like: fn(&Message) -> bool| again.iter().any(like);
    assert!(told(|message| matches!(message, Message::JoinResponse(_))), "{again:?}");
    assert!(told(|message| matches!(message, Message::MembersUpdate(_))), "{again:?}");
}

/// It may be under way when the other goes over. Only a view of its own master has to be one of a term that the node knows.
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
    let said = solo.status(7, role, view_id(7));
    rig.receive(ignored, [said, Peer::page(view_id(7), vec![solo.member()])].concat());
    assert_eq!((rig.closed(ignored), rig.formation.view().len()), (None, 0));
    rig.receive(followed, Peer::page(view_id(4), vec![master.member()]));
    assert_eq!((rig.closed(followed), rig.formation.view().len()), (None, 1));
}

/// The solo master and the quorum's do not reach each other, and have a neighbour in common; and the former, by others, has
/// come to a newer term, so that its views are newer than that neighbour's.
#[test]
fn e8_a_node_that_changed_to_a_quorums_master_gets_no_views() {
    for_each_seed(10, |seed| {
        let mut net = formed(seed, 7, 1);
        part(&mut net, &[&[0, 1, 7], &[2, 3, 4, 5], &[6]]);
        raise(&mut net, 6);
        (2..6).for_each(|ix| net.heal(1, ix));
        let done = net.run_until(20 * SECOND, |net| master_of(net, &[1, 2, 3, 4, 5]).is_some());
        net.expect(done && net.status(0).phase == Phase::Solo, "one has gone over");
        // Nobody but the solo master itself could tell that neighbour of its new term.
        net.cut(1, 7, Cut::Lose);
        let since = net.now() + Duration::from_micros(1);
        net.heal(0, 6);
        let done = net.run_until(20 * SECOND, |net| master_of(net, &[0, 6, 7]) == Some(0));
        net.expect(done && view_id(&net, 0) > view_id(&net, 1), "another has come with a newer term");
        net.run_for(4 * SECOND);
        let views = |net: &Net| net.tally.of("snapshot page sent") + net.tally.of("delta sent");
        let before = views(&net);
        net.run_for(10 * SECOND);
        net.expect(views(&net) == before, &format!("{} views, and nothing has changed", views(&net) - before));
        let one = net.node(1);
        let parted = |event: &Event| matches!(event, Event::Unlinked { node, .. } if *node == one);
        net.expect(net.count(0, since, parted) == 0, "the two have lost their link");
        net.heal_all();
        net.converge(20 * SECOND);
    });
}
