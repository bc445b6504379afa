//! Which peers a node accepts: each case of PROTOCOL, "The same node again". One node on the test rig.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use formation_core::{
    Address, CloseReason, Command, Config, ConnId, Event, Incarnation, Input, NodeId, Phase, RejectReason, StopReason,
    message::Message,
};
use formation_tests::{Peer, Rig};

const SECOND: Duration = Duration::from_secs(1);
const ID_IN_USE: Option<CloseReason> = Some(CloseReason::Rejected(RejectReason::IdInUse));
const ID_IN_VIEW: Option<CloseReason> = Some(CloseReason::Rejected(RejectReason::IdInView));
const ADDRESS_IN_USE: Option<CloseReason> = Some(CloseReason::Rejected(RejectReason::AddressInUse));
const SUPERSEDED: Option<CloseReason> = Some(CloseReason::Rejected(RejectReason::Superseded));

/// The node n0 of the voters n0, n1 and n2, with a contact.
fn config() -> Config {
    let seeds = ["h0:1", "h1:1", "h2:1"];
    Config::builder("test", "n0", "h0:1").seeds(seeds).contacts(["alias:1"]).build().unwrap()
}

fn peer(id: &str, address: &str, incarnation: u64) -> Peer {
    let mut peer = Peer::of(&config(), id, address);
    peer.node.incarnation = Incarnation(incarnation);
    peer
}

/// The dial of the address succeeds, and this peer answers.
fn dial_reaches(rig: &mut Rig, at: &str, peer: &mut Peer) -> ConnId {
    let conn = rig.answer(at);
    let hello = peer.hello();
    rig.receive(conn, hello);
    conn
}

/// Why the node closes the connection of a peer with this id, address and incarnation. `None` if it accepts the peer.
fn close_reason(mut rig: Rig, id: &str, address: &str, incarnation: u64) -> Option<CloseReason> {
    let conn = rig.hello_from(&mut peer(id, address, incarnation));
    rig.closed(conn)
}

/// n0 as the master, elected by n1.
fn master() -> Rig {
    let mut rig = Rig::new(config());
    rig.advance(3 * SECOND);
    let conn = rig.joined_by(&mut peer("n1", "h1:1", 5));
    let request = rig.messages(conn).into_iter().find_map(|message| match message {
        Message::VoteRequest(request) => Some(request),
        _ => None,
    });
    rig.receive(conn, Peer::vote(&request.unwrap()));
    assert!(rig.formation.leadership(rig.now).is_some());
    rig
}

/// The same, after a node has joined and has lost its link.
fn master_without_link_to(id: &str, address: &str) -> Rig {
    let mut rig = master();
    let conn = rig.joined_by(&mut peer(id, address, 5));
    rig.give(Input::Closed { conn });
    assert!(is_member(&rig, id));
    rig
}

fn is_member(rig: &Rig, id: &str) -> bool {
    rig.formation.view().get(&NodeId::new(id).unwrap()).is_some()
}

#[test]
fn i1_i2_i3_a_hello_with_the_own_id_is_a_run_or_a_conflict() {
    let cases = [
        ("h0:1", 10, Some(CloseReason::SelfDial), Phase::Joining),
        ("h0:1", 11, None, Phase::Joining),
        ("h0:1", 9, SUPERSEDED, Phase::Joining),
        ("x:1", 9, ID_IN_USE, Phase::Joining),
        ("x:1", 10, ID_IN_USE, Phase::Joining),
        ("x:1", 11, ID_IN_USE, Phase::Joining),
    ];
    for (address, incarnation, reason, phase) in cases {
        let mut rig = Rig::new(config());
        let conn = rig.hello_from(&mut peer("n0", address, incarnation));
        assert_eq!(rig.closed(conn), reason, "{address}, {incarnation}");
        assert_eq!(rig.formation.status().phase, phase, "{address}, {incarnation}");
    }
}

/// Nobody's word stops a node. It dials its own address, to see which run of it is there.
#[test]
fn i1_a_newer_run_at_the_own_address_stops_the_node() {
    let mut rig = Rig::new(config());
    rig.hello_from(&mut peer("n0", "h0:1", 11));
    dial_reaches(&mut rig, "h0:1", &mut peer("n0", "h0:1", 12));
    assert_eq!(rig.formation.status().phase, Phase::Stopped);
    assert!(rig.events().any(|event| matches!(event, Event::Stopped { reason: StopReason::Superseded })));
}

#[test]
fn i1_a_node_that_reaches_itself_rejects_who_claims_to_be_newer() {
    let mut rig = Rig::new(config());
    let claimant = rig.hello_from(&mut peer("n0", "h0:1", u64::MAX));
    dial_itself_at(&mut rig, "h0:1");
    assert_eq!((rig.closed(claimant), rig.formation.status().phase), (ID_IN_USE, Phase::Joining));
    let reported = |event: &&Event| matches!(event, Event::SelfDial { .. });
    assert_eq!(rig.events().filter(reported).count(), 0, "the address is the node's own");
}

/// Answers the dial of `alias:1`, which leads to the node itself.
fn dial_itself(rig: &mut Rig) -> [ConnId; 2] {
    dial_itself_at(rig, "alias:1")
}

fn dial_itself_at(rig: &mut Rig, address: &str) -> [ConnId; 2] {
    let own = rig.answer(address);
    let hello = rig.messages(own).pop().unwrap().to_frame();
    let far = rig.accept();
    rig.receive(far, hello);
    [own, far]
}

#[test]
fn i8_a_node_that_dials_itself_closes_only_those_two_ends() {
    let mut rig = Rig::new(config());
    let other = rig.answer("h1:1");
    let [own, far] = dial_itself(&mut rig);
    let closed = [other, own, far].map(|conn| rig.closed(conn));
    assert_eq!(closed, [None, Some(CloseReason::SelfDial), Some(CloseReason::SelfDial)]);
}

/// Such a connection does not show that an address leads to this node.
#[test]
fn i8_a_copied_hello_is_reported_for_its_connection() {
    let mut rig = Rig::new(config());
    let conn = rig.hello_from(&mut peer("n0", "h0:1", 10));
    let reported: Vec<_> = rig.events().collect();
    assert_eq!(reported, [&Event::ConnClosed { conn, dialed: None, peer_addr: None, reason: CloseReason::SelfDial }]);
}

/// The peer may be anything that sends back what it receives, on the same connection or on another one.
#[test]
fn i8_an_echo_at_a_dialed_address_is_not_the_node_itself() {
    let mut rig = Rig::new(config());
    let [conn, other] = ["h1:1", "alias:1"].map(|address| rig.answer(address));
    let [own, others] = [conn, other].map(|conn| rig.messages(conn).remove(0).to_frame());
    let crossed = {
        let mut rig = rig.clone();
        rig.receive(conn, others);
        (rig, [Some(CloseReason::SelfDial), None])
    };
    rig.receive(conn, own);
    for (rig, closed) in [(rig, [Some(CloseReason::SelfDial), None]), crossed] {
        assert_eq!([conn, other].map(|conn| rig.closed(conn)), closed);
        let dialed = Some(Address::new("h1:1").unwrap());
        let reported: Vec<_> = rig.events().collect();
        assert_eq!(reported, [&Event::ConnClosed { conn, dialed, peer_addr: None, reason: CloseReason::SelfDial }]);
    }
}

/// Names move, so the address may lead elsewhere later. If it does not, the node does not report it again.
#[test]
fn i8_self_dial_is_retried_every_down_after_and_reported_once() {
    let mut rig = Rig::new(config());
    let is_due = |rig: &Rig| rig.dialing().iter().any(|address| address.as_str() == "alias:1");
    let wait = config().timing().down_after;
    let reported = |rig: &Rig| {
        assert!(!rig.events().any(|event| matches!(event, Event::ConnClosed { .. })), "SelfDial is the only event");
        rig.events().filter(|event| matches!(event, Event::SelfDial { .. })).count()
    };
    let check_next_dial = |rig: &mut Rig| {
        // Adding the contact again does not make the dials more frequent.
        rig.give(Input::Command(Command::AddContacts(vec![Address::new("alias:1").unwrap()])));
        rig.advance(wait - Duration::from_micros(1));
        assert!(!is_due(rig), "dialed again before down_after");
        rig.advance(Duration::from_micros(1));
        assert!(is_due(rig), "not dialed again after down_after");
    };
    for _ in 0..3 {
        dial_itself(&mut rig);
        check_next_dial(&mut rig);
        assert_eq!(reported(&rig), 1);
    }
    // A failed dial does not mean that the address leads to another node.
    rig.fail_dial("alias:1");
    check_next_dial(&mut rig);
    dial_itself(&mut rig);
    check_next_dial(&mut rig);
    assert_eq!(reported(&rig), 1);
    for (id, cluster) in [("x", "test"), ("y", "other")] {
        let before = reported(&rig);
        let conn = rig.answer("alias:1");
        let theirs = Config::builder(cluster, id, format!("{id}:1")).seeds(["h0:1", "h1:1", "h2:1"]).build().unwrap();
        let hello = Peer::of(&theirs, id, &format!("{id}:1")).hello();
        rig.receive(conn, hello);
        rig.give(Input::Closed { conn });
        while !is_due(&rig) {
            rig.advance(Duration::from_millis(10));
        }
        dial_itself(&mut rig);
        assert_eq!(reported(&rig), before + 1, "the address has led to {id} of {cluster}");
        check_next_dial(&mut rig);
    }
}

#[test]
fn i1_i2_i3_the_id_of_a_linked_node_belongs_to_its_address() {
    let mut rig = Rig::new(config());
    rig.hello_from(&mut peer("n1", "h1:1", 5));
    for (address, incarnation, reason) in
        [("h1:1", 5, None), ("h1:1", 6, None), ("h1:1", 4, SUPERSEDED), ("x:1", 6, ID_IN_USE), ("x:1", 4, ID_IN_USE)]
    {
        assert_eq!(close_reason(rig.clone(), "n1", address, incarnation), reason, "{address}, {incarnation}");
    }
}

#[test]
fn i3_a_master_keeps_the_id_of_a_member_without_a_link() {
    for (id, at) in [("n2", "h2:1"), ("j", "j:1")] {
        for (address, incarnation, reason) in
            [(at, 5, None), (at, 6, None), (at, 4, None), ("x:1", 6, ID_IN_VIEW), ("x:1", 4, ID_IN_VIEW)]
        {
            assert_eq!(
                close_reason(master_without_link_to(id, at), id, address, incarnation),
                reason,
                "{id}, {address}, {incarnation}"
            );
        }
    }
}

/// A view shows who lives while there is a master, and for 2 × `down_after` after that.
#[test]
fn i3_an_id_in_the_view_of_a_former_master_is_free() {
    let mut rig = master_without_link_to("j", "j:1");
    rig.advance(SECOND);
    assert!(rig.formation.leadership(rig.now).is_none() && is_member(&rig, "j"));
    let is_free = |rig: &Rig| {
        let mut rig = rig.clone();
        let links = rig.formation.status().links;
        rig.hello_from(&mut peer("j", "x:1", 6));
        rig.formation.status().links > links
    };
    rig.advance(5 * SECOND - Duration::from_millis(1));
    assert!(!is_free(&rig), "its owner may be back any moment");
    rig.advance(2 * SECOND);
    assert!(is_free(&rig));
}

#[test]
fn i4_a_voter_takes_its_id_back_from_another_member() {
    assert_eq!(close_reason(master_without_link_to("n2", "x:1"), "n2", "h2:1", 4), None);
    assert_eq!(close_reason(master_without_link_to("n2", "x:1"), "n2", "y:1", 6), ID_IN_VIEW);
}

#[test]
fn i6_an_own_dial_decides_who_keeps_a_claimed_address() {
    let mut rig = Rig::new(config());
    let liar = rig.hello_from(&mut peer("liar", "h1:1", 5));
    let mut owner = peer("n1", "h1:1", 5);
    let rejected = rig.hello_from(&mut owner);
    assert_eq!((rig.closed(liar), rig.closed(rejected)), (None, ADDRESS_IN_USE));
    let reached = dial_reaches(&mut rig, "h1:1", &mut owner);
    assert_eq!((rig.closed(liar), rig.closed(reached)), (ADDRESS_IN_USE, None));
    assert_eq!(close_reason(rig, "liar", "h1:1", 5), ADDRESS_IN_USE);
}

/// The peer claims one address, but the node reached it at another. This does not decide about the claimed address.
#[test]
fn i6_a_dial_of_another_address_does_not_decide() {
    let mut rig = Rig::new(config());
    let first = rig.hello_from(&mut peer("n1", "h1:1", 5));
    let second = dial_reaches(&mut rig, "alias:1", &mut peer("liar", "h1:1", 5));
    assert_eq!((rig.closed(first), rig.closed(second)), (None, ADDRESS_IN_USE));
}

/// A master that has not proven this node's identity yet sends it no heartbeats.
#[test]
fn v10_a_node_takes_no_master_that_does_not_have_its_link() {
    let mut rig = Rig::new(config());
    let mut master = peer("n1", "h1:1", 5);
    let conn = dial_reaches(&mut rig, "h1:1", &mut master);
    rig.receive(conn, master.master(1));
    rig.advance(config().timing().lease);
    assert_eq!(rig.formation.status().master, None);
    assert!(!rig.events().any(|event| matches!(event, Event::MasterElected { .. } | Event::MasterLost { .. })));
    rig.receive(conn, Peer::heartbeat(1, 1));
    assert_eq!(rig.formation.status().master, Some((master.node, Address::new("h1:1").unwrap())));
}
