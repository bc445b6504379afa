//! Attacks of a peer that takes the identity of another node. T2 is a member that is no voter.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use bytes::Bytes;
use formation_core::{
    Address, CloseReason, Command, Config, ConnId, Event, Incarnation, Input, Limits, NodeId, RejectReason, Remote,
    Term, ViewId,
    message::{Message, Role},
};
use formation_tests::{Cut, Peer, Rig, Target};

use super::hostile_attacks::{ack, check_attack, connect, formed, single};

const SECOND: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_millis(200);
const ID_IN_USE: Option<CloseReason> = Some(CloseReason::Rejected(RejectReason::IdInUse));
const UNPROVEN: Option<CloseReason> = Some(CloseReason::Rejected(RejectReason::Unproven));

/// The node n0 of the voters n0, n1 and n2.
fn config() -> Config {
    Config::builder("test", "n0", "h0:1").seeds(["h0:1", "h1:1", "h2:1"]).build().unwrap()
}

fn peer_of(config: &Config, id: &str, address: &str) -> Peer {
    let mut peer = Peer::of(config, id, address);
    peer.node.incarnation = Incarnation(5);
    peer
}

fn peer(id: &str, address: &str) -> Peer {
    peer_of(&config(), id, address)
}

/// n0 as the master, elected by n1.
fn master() -> Rig {
    let mut rig = Rig::new(config());
    rig.advance(3 * SECOND);
    let conn = rig.joined_by(&mut peer("n1", "h1:1"));
    let request = rig.messages(conn).into_iter().find_map(|message| match message {
        Message::VoteRequest(request) => Some(request),
        _ => None,
    });
    rig.receive(conn, Peer::vote(&request.unwrap()));
    assert!(rig.formation.leadership(rig.now).is_some());
    rig
}

fn hello(rig: &mut Rig, peer: &mut Peer) -> ConnId {
    let conn = rig.accept_from(Remote::default());
    rig.receive(conn, peer.hello());
    conn
}

/// The newest dial of the address reaches this peer.
fn reach(rig: &mut Rig, peer: &mut Peer) -> ConnId {
    let conn = rig.answer(peer.address.as_str());
    let frames = [peer.hello(), peer.joining()].concat();
    rig.receive(conn, frames);
    conn
}

fn is_linked(rig: &mut Rig, conn: ConnId) -> bool {
    rig.closed(conn).is_none() && rig.messages(conn).iter().any(|message| matches!(message, Message::JoinResponse(_)))
}

/// The owner has lost its link for a moment, and this node its master.
#[test]
fn t2_i3_nobody_takes_the_id_of_an_unlinked_member() {
    let mut rig = master();
    let owner = &mut peer("j", "j:1");
    let conn = rig.joined_by(owner);
    rig.give(Input::Closed { conn });
    rig.advance(SECOND);
    assert!(rig.formation.leadership(rig.now).is_none());
    let thief = &mut peer("j", "x:1");
    let claim = hello(&mut rig, thief);
    let dialed = reach(&mut rig, thief);
    assert_eq!(rig.closed(dialed), UNPROVEN, "the node of the view may live");
    let back = rig.joined_by(owner);
    assert_eq!([claim, back].map(|conn| rig.closed(conn)), [None, None]);
    assert_eq!(rig.formation.status().links, 2, "n1 and the owner, and not the thief");
}

/// This node never dials a member by itself. The reason why another node cannot have its id has to show first.
#[test]
fn t2_i3_who_cannot_be_reached_gives_the_id_to_who_can() {
    let mut rig = single(Limits::default());
    let thief = &mut peer_of(rig.formation.config(), "j", "x:1");
    let taken = rig.joined_by(thief);
    let owner = &mut peer_of(rig.formation.config(), "j", "j:1");
    for _ in 0..40 {
        let claim = hello(&mut rig, owner);
        assert_eq!(rig.closed(claim), None, "only a node that was reached may keep another one out");
        for address in rig.dialing() {
            match address.as_str() {
                "j:1" => drop(reach(&mut rig, owner)),
                "x:1" => rig.fail_dial("x:1"),
                _ => {}
            }
        }
        rig.advance(INTERVAL);
        if rig.closed(taken).is_some() {
            break;
        }
        for message in rig.messages(taken) {
            if let Message::Heartbeat(heartbeat) = message {
                rig.receive(taken, ack(heartbeat.term.0, heartbeat.number, true));
            }
        }
        if rig.closed(claim).is_none() {
            rig.give(Input::Closed { conn: claim });
        }
    }
    assert_eq!(rig.closed(taken), ID_IN_USE, "the owner has proven that it is at its address");
    let member = rig.formation.view().get(&NodeId::new("j").unwrap()).unwrap();
    assert_eq!(member.address, owner.address);
}

/// The thief answers faster than the owner, who is linked and was never dialed.
#[test]
fn t2_i3_a_linked_node_that_is_reached_keeps_its_id() {
    let mut rig = single(Limits::default());
    let owner = &mut peer_of(rig.formation.config(), "j", "j:1");
    let conn = rig.joined_by(owner);
    let thief = &mut peer_of(rig.formation.config(), "j", "x:1");
    let claim = hello(&mut rig, thief);
    let dialed = reach(&mut rig, thief);
    assert_eq!([conn, dialed].map(|conn| rig.closed(conn)), [None, UNPROVEN]);
    rig.advance(SECOND / 2);
    let reached = reach(&mut rig, owner);
    assert_eq!([claim, reached].map(|conn| rig.closed(conn)), [ID_IN_USE, None]);
    let next = hello(&mut rig, thief);
    assert_eq!(rig.closed(next), ID_IN_USE, "the owner is verified");
}

/// The peer can be reached at an address of its own, and claims the ids of the nodes there.
#[test]
fn t2_a_reachable_peer_takes_no_id_of_a_living_node() {
    for victim in [0, 1, 3, 4] {
        let mut net = formed();
        net.name("z:1", Target::Test);
        check_attack(&mut net, |net| {
            let id = net.node(victim).id;
            let mut wires = Vec::new();
            for _ in 0..40 {
                for to in 0..5 {
                    let mut peer = Peer::of(&net.host(0).config, id.as_str(), "z:1");
                    let joining = peer.joining();
                    wires.push(connect(net, to, &mut peer, &[joining]));
                }
                net.run_for(INTERVAL);
                for wire in net.accepted() {
                    let mut peer = Peer::of(&net.host(0).config, id.as_str(), "z:1");
                    let frames = [peer.hello(), peer.joining()].concat();
                    net.send(wire, frames);
                    wires.push(wire);
                }
            }
            wires
        });
    }
}

/// The peer has the very identity of a member that is not linked at the moment, and a status that is newer than any.
#[test]
fn t2_i6_a_copied_identity_ends_when_its_owner_is_back() {
    for role in [Role::Leaving, Role::Joining] {
        let mut net = formed();
        let (master, victim) = (net.master().unwrap(), 3);
        (0..5).filter(|ix| *ix != victim).for_each(|ix| net.cut(victim, ix, Cut::Lose));
        net.run_for(7 * SECOND);
        let run = net.node(victim);
        let wires: Vec<_> = (0..3)
            .map(|to| {
                let mut peer =
                    Peer::of(&net.host(0).config, run.id.as_str(), net.host(victim).config.address().as_str());
                peer.node.incarnation = run.incarnation;
                peer.skip_to_status(u64::MAX);
                let status = peer.status(1, role.clone(), ViewId::default());
                connect(&mut net, to, &mut peer, &[status])
            })
            .collect();
        net.run_for(INTERVAL);
        net.heal_all();
        let data = Bytes::from_static(b"changed");
        net.command(victim, Command::SetMetadata(data.clone()));
        let is_back = net.run_until(10 * SECOND, |net| {
            wires.iter().for_each(|wire| net.send(*wire, Message::Ping.to_frame()));
            let view = net.host(master).formation.as_ref().unwrap().view();
            let is_new = view.get(&run.id).is_some_and(|m| m.node == run && m.metadata == data);
            is_new && net.converged() && !wires.iter().any(|wire| net.open_at(*wire, master))
        });
        net.expect(is_back, "the peer is an end of the identity still");
    }
}

/// An unverified link shows nothing about another connection.
#[test]
fn t2_h11_a_link_that_was_not_proven_vouches_for_nobody() {
    let mut rig = single(Limits::default());
    let copy = &mut peer_of(rig.formation.config(), "j", "j:1");
    let first = rig.joined_by(copy);
    let second = rig.hello_again(copy, first);
    assert_eq!(rig.formation.status().links, 1, "the second connection is a claim");
    // The owner is reached at its address: the first link is a claim from now on, and its status is forgotten.
    let owner = &mut peer_of(rig.formation.config(), "j", "j:1");
    let reached = reach(&mut rig, owner);
    assert!(is_linked(&mut rig, reached));
    rig.advance(INTERVAL);
    rig.receive(reached, Message::Ping.to_frame());
    rig.advance(2 * SECOND);
    assert_eq!([first, second].map(|conn| rig.closed(conn)), [UNPROVEN; 2]);
    assert_eq!(rig.closed(reached), None);
    assert_eq!(
        rig.formation.view().get(&NodeId::new("j").unwrap()).map(|m| &m.address),
        Some(&Address::new("j:1").unwrap())
    );
}

/// The owner names the nonce of this node's dial on its first link.
#[test]
fn h11_a_voucher_proves_a_link_that_exists() {
    for is_late in [false, true] {
        let mut rig = single(Limits::default());
        // It has the higher id, so that this node closes none of the two.
        let owner = &mut peer_of(rig.formation.config(), "z", "z:1");
        let first = rig.joined_by(owner);
        hello(&mut rig, owner);
        let dialed = rig.answer("z:1");
        let Some(Message::Hello(mine)) = rig.messages(dialed).pop() else { panic!("a dial begins with a hello") };
        let voucher = Message::Voucher(formation_core::message::Voucher { nonce: mine.nonce }).to_frame();
        let frames = [owner.hello(), owner.joining()].concat();
        if is_late {
            rig.receive(dialed, frames);
            rig.receive(first, voucher);
        } else {
            rig.receive(first, voucher);
            rig.receive(dialed, frames);
        }
        assert_eq!(rig.formation.status().links, 2, "both links to the owner; late: {is_late}");
        rig.advance(SECOND);
        let unlinked = |event: &Event| matches!(event, Event::Unlinked { .. });
        assert!(!rig.events().any(unlinked), "late: {is_late}");
    }
}

/// A run that has replaced a linked one keeps its place (I1). Then it is gone, and another member takes its name without a proof.
#[test]
fn t2_i1_only_a_proven_run_keeps_its_place() {
    let mut rig = single(Limits::default());
    let owner = &mut peer_of(rig.formation.config(), "j", "j:1");
    rig.joined_by(owner);
    owner.node.incarnation.0 += 1;
    hello(&mut rig, owner);
    let second = reach(&mut rig, owner);
    assert!(is_linked(&mut rig, second));
    let thief = &mut owner.clone();
    rig.give(Input::Closed { conn: second });
    assert_eq!(rig.formation.status().links, 0);
    let stolen = rig.joined_by(thief);
    assert_eq!(
        (rig.closed(stolen), rig.formation.status().links),
        (None, 1),
        "believed until another one claims the id"
    );
    owner.node.incarnation.0 += 1;
    let third = hello(&mut rig, owner);
    assert_eq!(rig.closed(third), None, "the owner may prove itself");
    rig.advance(SECOND);
    reach(&mut rig, owner);
    assert_eq!(
        (rig.closed(stolen), rig.formation.status().links),
        (Some(CloseReason::Superseded), 1),
        "the owner is back"
    );
}

/// A joining node that is told about a master that it cannot reach.
fn has_reported_a_master_of(id: &str, address: &str) -> bool {
    let mut rig = Rig::new(config());
    let mut follower = peer(id, address);
    let conn = rig.hello_from(&mut follower);
    let master = peer("n1", "h1:1");
    let follows = Role::Follower { master: master.node, address: master.address };
    let status = follower.status(1, follows, ViewId::default());
    rig.receive(conn, status);
    rig.fail_dial("h1:1");
    rig.events().any(|event| matches!(event, Event::MasterUnreachable { .. }))
}

#[test]
fn t2_d3_only_voters_are_believed_about_a_master() {
    assert!(has_reported_a_master_of("n2", "h2:1"));
    assert!(!has_reported_a_master_of("x", "x:1"));
}

/// The node knows of a later term, in which somebody else may be the master.
#[test]
fn t3_v6_a_master_writes_no_view_of_a_later_term() {
    let mut rig = Rig::new(config());
    let (mut master, mut voter) = (peer("n1", "h1:1"), peer("n2", "h2:1"));
    let conn = rig.hello_from(&mut master);
    let joins = [master.master(5), Peer::accepted(5)].concat();
    rig.receive(conn, joins);
    let other = rig.hello_from(&mut voter);
    let later = voter.status(7, Role::Joining, ViewId::default());
    rig.receive(other, later);
    assert_eq!(rig.formation.status().term, Term(7));
    assert_eq!(rig.formation.status().master_term, Some(Term(5)));
    for term in [7, 5] {
        rig.receive(conn, Peer::page(ViewId { term: Term(term), version: 1 }, vec![master.member()]));
        assert_eq!(rig.formation.view().is_empty(), term == 7, "a view of term {term}");
    }
}
