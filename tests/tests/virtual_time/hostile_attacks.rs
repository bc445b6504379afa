//! Single attacks of one peer on a cluster, each by name. T1 is an outsider, T2 a member that is no voter.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use formation_core::{
    Address, Change, CloseReason, Command, Config, Event, Incarnation, Limits, Member, MemberState, Node, NodeId,
    Phase, RejectReason, Term, ViewId,
    message::{HeartbeatAck, Holder, Message, Rejected, Role},
};
use formation_tests::{Crash, Cut, Net, NetSettings, Peer, Rig, Target, WireId};

const SECOND: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_millis(200);

/// Three voters and two other nodes that have formed a cluster.
pub(super) fn formed() -> Net {
    let mut net = Net::formed(1, (3, 2), NetSettings { test_ip: Some(ip()), ..NetSettings::calm() });
    // Links that nobody needs close in this time.
    net.run_for(SECOND);
    net
}

pub(super) fn ip() -> IpAddr {
    Ipv4Addr::new(192, 0, 2, 66).into()
}

pub(super) fn peer(net: &Net, id: &str, address: &str) -> Peer {
    Peer::of(&net.host(0).config, id, address)
}

/// A peer that claims to be a run of this node.
pub(super) fn claims(net: &Net, ix: usize, incarnation: Incarnation) -> Peer {
    let config = &net.host(ix).config;
    let mut peer = peer(net, config.id().as_str(), config.address().as_str());
    peer.node.incarnation = incarnation;
    peer
}

/// The peer connects and sends its `Hello` and these bytes.
pub(super) fn connect(net: &mut Net, to: usize, peer: &mut Peer, then: &[Bytes]) -> WireId {
    let wire = net.dial(to);
    let hello = peer.hello();
    net.send(wire, [&[hello], then].concat().concat());
    wire
}

/// The peer is a member with this one link, or at least is linked.
pub(super) fn joined(net: &mut Net, to: usize, peer: &mut Peer) -> WireId {
    let joining = peer.joining();
    let wire = connect(net, to, peer, &[joining]);
    net.run_for(INTERVAL);
    assert!(net.open_at(wire, to), "the peer is not linked: {:?}", net.closed(wire));
    wire
}

/// The state of each node: its phase, its term and its master.
pub(super) fn state(net: &Net) -> Vec<(Phase, Term, Option<Node>)> {
    let of = |ix| {
        let status = net.status(ix);
        (status.phase, status.term, status.master.map(|(node, _)| node))
    };
    (0..5).map(of).collect()
}

/// Nobody has stopped, lost its master, or lost its link to an honest node since then.
#[track_caller]
pub(super) fn check_unharmed(net: &mut Net, before: &[(Phase, Term, Option<Node>)], since: Duration) {
    assert_eq!(state(net), before);
    let nodes: Vec<_> = (0..5).map(|ix| net.node(ix)).collect();
    for ix in 0..5 {
        let harmed = |event: &Event| match event {
            Event::MasterLost { .. } | Event::Stopped { .. } => true,
            Event::Unlinked { node, .. } => nodes.contains(node),
            Event::ViewChanged { changes, .. } => changes.iter().any(|change| match change {
                Change::Upsert(member) => nodes.contains(&member.node) && member.state == MemberState::Suspect,
                Change::Remove { id, .. } => nodes.iter().any(|node| node.id == *id),
            }),
            _ => false,
        };
        let harm: Vec<_> =
            net.host(ix).events.iter().filter(|(at, event)| *at > since.as_micros() as u64 && harmed(event)).collect();
        assert!(harm.is_empty(), "node {ix}: {harm:?}");
        for other in &nodes {
            let view = net.host(ix).formation.as_ref().unwrap().view();
            let member = view.get(&other.id).unwrap_or_else(|| panic!("{other} is not in the view of node {ix}"));
            assert_eq!((&member.node, member.state), (other, MemberState::Active), "in the view of node {ix}");
        }
    }
}

/// The attack does not change anything, and everything is as before once the peer is gone.
pub(super) fn check_attack(net: &mut Net, attack: impl FnOnce(&mut Net) -> Vec<WireId>) {
    let (before, since) = (state(net), net.now());
    let wires = attack(net);
    check_unharmed(net, &before, since);
    wires.into_iter().for_each(|wire| net.close(wire));
    net.run_for(8 * SECOND);
    check_unharmed(net, &before, since);
    let config = Net::builder(net.len(), 3).build().unwrap();
    let ix = net.add(config);
    net.start(ix);
    assert!(net.run_until(5 * SECOND, |net| net.converged()), "a new node does not join after the attack");
}

/// The checks themselves find nothing.
#[test]
fn t2_a_member_that_only_joins_changes_nothing() {
    let mut net = formed();
    check_attack(&mut net, |net| {
        let mut peer = peer(net, "z", "z:1");
        vec![joined(net, 0, &mut peer)]
    });
}

pub(super) fn ack(term: u64, number: u64, confirms: bool) -> Bytes {
    let view_id = ViewId { term: Term(term), version: 1 };
    Message::HeartbeatAck(HeartbeatAck { term: Term(term), number, view_id, confirms, electorate: Default::default() })
        .to_frame()
}

/// The messages of a member that carry the term `term`.
fn with_term(peer: &mut Peer, term: u64) -> Vec<Bytes> {
    let view_id = ViewId { term: Term(term), version: 1 };
    let of_view = peer.status(1, Role::Joining, view_id);
    let follower = Role::Follower { master: peer.node.clone(), address: peer.address.clone() };
    let roles = [Role::Joining, follower].map(|role| peer.status(term, role, ViewId::default()));
    [vec![ack(term, 1, false), ack(term, 1, true), of_view], roles.to_vec()].concat()
}

#[test]
fn t2_a_jumped_term_of_a_member_changes_nothing() {
    let jumps: [u64; 6] = [1, 1 << 10, (1 << 32) - 1, 1 << 32, (1 << 32) + 1, u64::MAX - 1];
    for jump in jumps {
        for which in 0..5 {
            for to in [0, 1, 3] {
                let mut net = formed();
                check_attack(&mut net, |net| {
                    let mut peer = peer(net, "z", "z:1");
                    let wire = joined(net, to, &mut peer);
                    let frame = with_term(&mut peer, 1 + jump).swap_remove(which);
                    net.send(wire, frame);
                    net.run_for(SECOND);
                    vec![wire]
                });
            }
        }
    }
}

/// Steps that are each in reach of the term before.
#[test]
fn t2_a_hundred_jumps_of_a_member_change_nothing() {
    let mut net = formed();
    check_attack(&mut net, |net| {
        let mut wires = Vec::new();
        for step in 1..=100 {
            let to = step as usize % 3;
            let mut peer = peer(net, &format!("z{to}"), &format!("z{to}:1"));
            let wire = connect(net, to, &mut peer, &[ack(step * ((1 << 32) - 1), 1, false)]);
            net.run_for(Duration::from_millis(10));
            wires.push(wire);
        }
        wires
    });
}

#[test]
fn t2_a_copied_identity_with_a_larger_run_stops_nobody() {
    for (victim, incarnation) in [(0, u64::MAX), (1, u64::MAX), (3, u64::MAX), (0, 3_000), (3, 4_000)] {
        for to in 0..5 {
            let mut net = formed();
            check_attack(&mut net, |net| {
                let mut peer = claims(net, victim, Incarnation(incarnation));
                let joining = peer.joining();
                let wire = connect(net, to, &mut peer, &[joining]);
                net.run_for(8 * SECOND);
                vec![wire]
            });
        }
    }
}

#[test]
fn t2_a_rejection_on_a_link_stops_nobody() {
    for reason in [RejectReason::Superseded, RejectReason::IdInUse, RejectReason::AddressInUse] {
        for victim in 0..5 {
            let mut net = formed();
            check_attack(&mut net, |net| {
                let holder = Holder {
                    node: Node { incarnation: Incarnation(u64::MAX), ..net.node(victim) },
                    address: Address::new("z:1").unwrap(),
                };
                // Longer than the patience of I5.
                let mut wires = Vec::new();
                for _ in 0..40 {
                    let mut peer = peer(net, "z", "z:1");
                    let rejected = Rejected { reason, holder: Some(holder.clone()) };
                    wires.push(connect(net, victim, &mut peer, &[Message::Rejected(rejected).to_frame()]));
                    net.run_for(INTERVAL);
                }
                wires
            });
        }
    }
}

/// The claimed run has the same address as the real one, and was there first.
#[test]
fn t2_a_restarted_node_returns_despite_a_claim_to_it() {
    for victim in [0, 1, 3] {
        let mut net = formed();
        net.crash(victim, Crash::Process);
        let wires: Vec<_> = (0..5)
            .filter(|to| *to != victim)
            .map(|to| {
                let mut peer = claims(&net, victim, Incarnation(u64::MAX));
                let joining = peer.joining();
                connect(&mut net, to, &mut peer, &[joining])
            })
            .collect();
        net.run_for(SECOND);
        net.start(victim);
        let whole = |net: &mut Net| net.living().len() == 5 && net.converged();
        assert!(net.run_until(20 * SECOND, whole), "node {victim} is not back while the peer is there");
        wires.into_iter().for_each(|wire| net.close(wire));
        net.run_for(8 * SECOND);
        let is_whole = whole(&mut net);
        net.expect(is_whole, "the nodes are not whole when the peer is gone");
    }
}

/// The peer has the very identity of the member, and a status that is newer than any.
#[test]
fn t2_leaving_said_for_another_node_removes_nobody() {
    for victim in [1, 3] {
        for incarnation in [0, u64::MAX] {
            let mut net = formed();
            let master = net.master().unwrap();
            check_attack(&mut net, |net| {
                let run = net.node(victim).incarnation;
                let mut peer = claims(net, victim, run.max(Incarnation(incarnation)));
                peer.skip_to_status(u64::MAX);
                let leaving = peer.status(1, Role::Leaving, ViewId::default());
                let wire = connect(net, master, &mut peer, &[leaving]);
                net.run_for(6 * SECOND);
                vec![wire]
            });
            // The victim itself is still heard.
            let data = Bytes::from_static(b"changed");
            net.command(victim, Command::SetMetadata(data.clone()));
            net.run_for(2 * SECOND);
            let id = net.node(victim).id;
            for ix in net.living() {
                let metadata = net.host(ix).formation.as_ref().unwrap().view().get(&id).map(|m| m.metadata.clone());
                assert_eq!(metadata, Some(data.clone()), "node {ix} has not received what the victim reports");
            }
        }
    }
}

/// What a peer says to be taken for the master.
fn as_master(peer: &mut Peer, term: u64) -> Vec<Bytes> {
    let view_id = ViewId { term: Term(term), version: u64::MAX };
    let ghost = Node { id: NodeId::new("ghost").unwrap(), incarnation: Incarnation(1) };
    let address = Address::new("ghost:1").unwrap();
    let ghost = Member::new(ghost, address);
    let view = Peer::page(view_id, vec![ghost]);
    vec![peer.master(term), Peer::accepted(term), view, Peer::heartbeat(term, 1)]
}

fn master_by_word(is_cut: bool, id: Option<&str>) {
    for term in [1, 2, 1 << 32] {
        let mut net = formed();
        let master = net.master().unwrap();
        let victim = (master + 1) % 3;
        if is_cut {
            net.isolate(victim, Cut::Lose);
            // The link is closed and the member removed.
            net.run_for(7 * SECOND);
        }
        let targets: Vec<_> = (0..5).filter(|ix| *ix != victim).collect();
        let before = state(&net);
        for to in targets.iter().copied() {
            let mut peer = claims(&net, victim, Incarnation(u64::MAX));
            if let Some(id) = id {
                peer.node.id = NodeId::new(id).unwrap();
            }
            let words = as_master(&mut peer, term);
            connect(&mut net, to, &mut peer, &words);
        }
        net.run_for(3 * SECOND);
        for to in targets {
            assert_eq!(state(&net)[to], before[to], "node {to} and a false master of term {term}");
            let view = net.host(to).formation.as_ref().unwrap().view();
            assert_eq!(view.get(&NodeId::new("ghost").unwrap()), None, "node {to} has taken the view of term {term}");
        }
    }
}

#[test]
fn t2_a_claim_to_a_living_voter_is_no_master() {
    master_by_word(false, None);
    master_by_word(false, Some("z"));
    master_by_word(false, Some("a"));
}

#[test]
fn t2_a_claim_to_a_voter_that_is_cut_off_is_no_master() {
    master_by_word(true, None);
    master_by_word(true, Some("z"));
    master_by_word(true, Some("a"));
}

/// The quorum of a cut-off master must not come from claims.
#[test]
fn t2_g2_votes_and_confirmations_of_claimed_voters_are_void() {
    let mut net = formed();
    let master = net.master().unwrap();
    net.isolate(master, Cut::Lose);
    let mut claimed = Vec::new();
    for victim in (0..3).filter(|ix| *ix != master) {
        let mut peer = claims(&net, victim, Incarnation(u64::MAX));
        let joining = peer.joining();
        claimed.push(connect(&mut net, master, &mut peer, &[joining]));
    }
    let term = net.status(master).term.0;
    let done = net.run_until(5 * SECOND, |net| {
        // G2 is checked at every step.
        for wire in claimed.clone() {
            let numbers = net.messages(wire).into_iter().filter_map(|message| match message {
                Message::Heartbeat(heartbeat) => Some(heartbeat.number),
                _ => None,
            });
            for number in numbers.collect::<Vec<_>>() {
                net.send(wire, ack(term, number, true));
            }
        }
        net.status(master).phase != Phase::Master
    });
    net.expect(done, "a master that is cut off keeps its lease by the word of others");
}

#[test]
fn t2_links_under_one_identity_are_few() {
    let mut net = formed();
    let master = net.master().unwrap();
    check_attack(&mut net, |net| {
        let mut wires = Vec::new();
        for _ in 0..1_010 {
            let mut peer = peer(net, "z", "z:1");
            wires.push(connect(net, master, &mut peer, &[]));
            net.run_for(Duration::from_millis(1));
        }
        for _ in 0..3 {
            wires.iter().for_each(|wire| net.send(*wire, Message::Ping.to_frame()));
            net.run_for(SECOND);
        }
        let open = wires.iter().filter(|wire| net.open_at(**wire, master)).count();
        assert!(open <= 3, "{open} connections under one identity");
        wires
    });
}

/// A thousand silent connections a second from one source, 150 ms away.
#[test]
fn t1_silent_connections_do_not_keep_out_a_new_node() {
    let late = Duration::from_millis(75);
    let mut net = formed();
    net.settings.latency = (late, late);
    net.add(Net::builder(5, 3).build().unwrap());
    let mut wires = Vec::new();
    for step in 0..6_000 {
        (0..3).for_each(|to| wires.push(net.dial(to)));
        if step == 1_000 {
            net.start(5);
        }
        net.run_for(Duration::from_millis(1));
    }
    net.expect(net.status(5).phase == Phase::Follower, "the node has not joined within 5 s");
}

/// One source fills every place with links, each of another name.
#[test]
fn t1_links_of_one_source_leave_room_for_a_voter() {
    let mut net = Net::new(1, NetSettings { test_ip: Some(ip()), ..NetSettings::calm() });
    let limits = Limits::new().with_connections(40).with_pending_connections(10);
    for ix in 0..3 {
        net.add(Net::builder(ix, 3).limits(limits.clone()).build().unwrap());
    }
    net.start_all();
    net.converge(5 * SECOND);
    net.crash(2, Crash::Process);
    let mut wires = Vec::new();
    for step in 0..240 {
        let mut peer = peer(&net, &format!("z{step}"), &format!("z{step}:1"));
        wires.push(connect(&mut net, step % 2, &mut peer, &[]));
        net.run_for(Duration::from_millis(5));
    }
    net.start(2);
    let whole = net.run_until(5 * SECOND, |net| {
        wires.iter().for_each(|wire| net.send(*wire, Message::Ping.to_frame()));
        net.converged()
    });
    net.expect(whole, "the voter finds no place");
}

pub(super) fn single(limits: Limits) -> Rig {
    let mut rig = Rig::new(Config::single("test", "m", "m:1").limits(limits).build().unwrap());
    rig.advance(Duration::from_millis(1));
    assert!(rig.formation.leadership(rig.now).is_some(), "a single node is master at once");
    rig
}

pub(super) fn joins(rig: &mut Rig, id: &str) -> (formation_core::ConnId, Peer) {
    let mut peer = Peer::of(rig.formation.config(), id, &format!("{id}:1"));
    let conn = rig.joined_by(&mut peer);
    (conn, peer)
}

/// A frame that never ends: its length, and `len` bytes of its body.
pub(super) fn part(len: usize) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u32(100_000);
    bytes.put_bytes(0, len);
    bytes.freeze()
}

#[test]
fn g7_the_holder_of_most_partial_bytes_is_closed() {
    let mut rig = single(Limits::new().with_partial_bytes(140_000));
    let (hostile, _) = joins(&mut rig, "z");
    let (innocent, _) = joins(&mut rig, "a");
    rig.receive(hostile, part(99_000));
    rig.receive(innocent, part(42_000));
    assert_eq!([hostile, innocent].map(|conn| rig.closed(conn)), [Some(CloseReason::TooManyPartialBytes), None]);
}

/// Its acknowledgements name heartbeats that the master has never sent, so they do not show that it receives anything.
#[test]
fn t2_a_blind_acknowledgement_keeps_no_member_active() {
    let mut rig = single(Limits::default());
    let (conn, _) = joins(&mut rig, "z");
    for step in 0..40 {
        rig.advance(INTERVAL);
        if rig.closed(conn).is_some() {
            return;
        }
        let number = [u64::MAX, 1_000_000 + step][step as usize % 2];
        rig.receive(conn, ack(rig.formation.status().term.0, number, true));
    }
    let state = rig.formation.view().get(&NodeId::new("z").unwrap()).map(|member| member.state);
    assert_eq!(state, None, "a member that has acknowledged no heartbeat for 8 s");
}

/// It guesses the numbers, but nothing that was sent to it is ever written.
#[test]
fn g7_a_member_that_reads_nothing_is_closed() {
    let mut rig = single(Limits::default());
    let (conn, _) = joins(&mut rig, "z");
    rig.hold_answers();
    for number in 1..60 {
        rig.advance(INTERVAL);
        if rig.closed(conn).is_some() {
            return;
        }
        rig.receive(conn, ack(rig.formation.status().term.0, number, true));
    }
    panic!("the member has read nothing for 12 s, and is still linked");
}

/// It reports that it joins, and hears nothing: a path that drops large frames does this too.
#[test]
fn t2_a_member_that_never_acknowledges_does_not_flap() {
    let mut net = formed();
    let (master, since) = (net.master().unwrap(), net.now());
    let mut peer = peer(&net, "z", "z:1");
    let mut wire = joined(&mut net, master, &mut peer);
    for _ in 0..150 {
        if net.ended(wire) {
            net.close(wire);
            let joining = peer.joining();
            wire = connect(&mut net, master, &mut peer, &[joining]);
        }
        net.send(wire, Message::Ping.to_frame());
        net.run_for(INTERVAL);
    }
    let changed = |event: &Event| matches!(event, Event::ViewChanged { .. });
    let count = net.count(3, since, changed);
    // It is admitted twice, and each time it is active, suspect and down.
    assert!(count <= 6, "{count} changes of the view in 30 s because of one member");
}

/// Nothing that the outsider at an address of its own does while it is dialed counts as a voter.
#[test]
fn t2_a_master_at_the_address_that_a_follower_names_is_none() {
    let mut net = formed();
    net.name("z:1", Target::Test);
    let (before, since) = (state(&net), net.now());
    let mut false_follower = peer(&net, "y", "y:1");
    let mut master = peer(&net, "z", "z:1");
    let follows = Role::Follower { master: master.node.clone(), address: master.address.clone() };
    for to in 0..5 {
        let status = false_follower.status(1 << 20, follows.clone(), ViewId { term: Term(1 << 20), version: 9 });
        connect(&mut net, to, &mut false_follower, &[status]);
    }
    for _ in 0..20 {
        for wire in net.accepted() {
            let words = [vec![master.hello()], as_master(&mut master, 1 << 20)].concat();
            net.send(wire, words.concat());
        }
        net.run_for(INTERVAL);
    }
    check_unharmed(&mut net, &before, since);
}
