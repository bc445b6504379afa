//! Which addresses a node dials, and which of its links it keeps (PROTOCOL, "Dialing"). One node on the test rig.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use formation_core::{
    Address, CloseReason, Command, Config, ConfigBuilder, ConnId, DialId, DialProblem, Event, Input, Limits, Output,
    Phase, ViewId,
    message::{Message, Role},
};
use formation_tests::{Peer, Rig};

const SECOND: Duration = Duration::from_secs(1);
const NOT_NEEDED: Option<CloseReason> = Some(CloseReason::NotNeeded);

/// A node in the cluster of the voters n0, n1 and n2, with a contact that is not a voter.
fn config(id: &str, address: &str) -> ConfigBuilder {
    Config::builder("test", id, address).seeds(["h0:1", "h1:1", "h2:1"]).contacts(["c:1"])
}

/// It is dialing all its addresses.
fn node(id: &str, address: &str) -> Rig {
    let mut rig = Rig::new(config(id, address).build().unwrap());
    if !rig.formation.config().is_voter() {
        rig.advance(SECOND);
    }
    rig
}

fn peer(id: &str, address: &str) -> Peer {
    Peer::of(&config("x", "x:1").build().unwrap(), id, address)
}

/// The dial of the peer's address succeeds, and the peer sends its `Hello` and a status with this role.
fn answer_with(rig: &mut Rig, peer: &mut Peer, role: Role) -> ConnId {
    let conn = rig.answer(peer.address.as_str());
    rig.receive(conn, [peer.hello(), peer.status(0, role, ViewId::default())].concat());
    conn
}

fn follows(master: &Peer) -> Role {
    Role::Follower { master: master.node.clone(), address: master.address.clone() }
}

/// All dials of the address so far.
fn dials(rig: &Rig, of: &str) -> Vec<DialId> {
    let dial = |output: &Output| match output {
        Output::Dial { dial, addr, .. } if addr.as_str() == of => Some(*dial),
        _ => None,
    };
    rig.outputs.iter().filter_map(dial).collect()
}

/// The addresses in the `MasterUnreachable` events.
fn unreachable(rig: &Rig) -> Vec<String> {
    let address = |event: &Event| match event {
        Event::MasterUnreachable { address, .. } => Some(address.as_str().to_owned()),
        _ => None,
    };
    rig.events().filter_map(address).collect()
}

#[test]
fn d2_a_node_with_a_master_closes_unneeded_dialed_links() {
    for (mut rig, voter) in [(node("n0", "h0:1"), true), (node("x", "x:1"), false)] {
        let (mut master, mut other, mut contact) = (peer("n1", "h1:1"), peer("n2", "h2:1"), peer("c", "c:1"));
        let to_master = answer_with(&mut rig, &mut master, Role::Joining);
        let to_other = answer_with(&mut rig, &mut other, follows(&master));
        let to_contact = answer_with(&mut rig, &mut contact, Role::Joining);
        let accepted = rig.joined_by(&mut peer("y", "y:1"));
        assert_eq!([to_master, to_other, to_contact, accepted].map(|conn| rig.closed(conn)), [None; 4]);
        rig.receive(to_master, master.master(1));
        let closed = [to_master, to_other, to_contact, accepted].map(|conn| rig.closed(conn));
        assert_eq!(closed, [None, if voter { None } else { NOT_NEEDED }, NOT_NEEDED, None]);
    }
}

#[test]
fn d2_a_master_keeps_the_links_that_it_dialed() {
    let mut rig = node("n0", "h0:1");
    rig.advance(3 * SECOND);
    let to_contact = loop {
        let conn = rig.answer("c:1");
        if rig.closed(conn).is_none() {
            break conn;
        }
    };
    let mut contact = peer("c", "c:1");
    rig.receive(to_contact, [contact.hello(), contact.joining()].concat());
    let voter = rig.joined_by(&mut peer("n1", "h1:1"));
    let request = rig.messages(voter).into_iter().find_map(|message| match message {
        Message::VoteRequest(request) => Some(request),
        _ => None,
    });
    rig.receive(voter, Peer::vote(&request.unwrap()));
    assert_eq!((rig.formation.status().phase, rig.formation.view().len()), (Phase::Master, 3));
    assert_eq!(rig.closed(to_contact), None);
}

/// With the shortest backoff of 20 ms it would be some hundred dials.
#[test]
fn d1_links_that_end_at_once_do_not_reset_the_backoff() {
    let may_not_send = Message::LeaveAck;
    for message in [may_not_send, Message::Ping] {
        let mut rig = node("n0", "h0:1");
        let end = rig.now + 20 * SECOND;
        while rig.now < end {
            rig.advance(SECOND / 100);
            if rig.dialing().iter().any(|address| address.as_str() == "c:1") {
                let conn = answer_with(&mut rig, &mut peer("c", "c:1"), Role::Joining);
                rig.receive(conn, message.to_frame());
                rig.give(Input::Closed { conn });
            }
        }
        let count = dials(&rig, "c:1").len();
        assert!((10..50).contains(&count), "{count} dials, with {message:?}");
    }
}

#[test]
fn d1_a_link_that_has_stood_resets_the_backoff() {
    let down_after = config("n0", "h0:1").build().unwrap().timing().down_after;
    for (stands, is_reset) in [(down_after - SECOND / 5, false), (down_after + SECOND / 5, true)] {
        let mut rig = node("n0", "h0:1");
        while dials(&rig, "c:1").len() < 10 {
            if rig.dialing().iter().any(|address| address.as_str() == "c:1") {
                rig.fail_dial("c:1");
            }
            rig.advance(SECOND / 100);
        }
        let conn = answer_with(&mut rig, &mut peer("c", "c:1"), Role::Joining);
        let end = rig.now + stands;
        while rig.now < end {
            rig.advance(SECOND / 10);
            rig.receive(conn, Message::Ping.to_frame());
        }
        rig.give(Input::Closed { conn });
        rig.advance(SECOND / 25);
        assert_eq!(dials(&rig, "c:1").len() == 11, is_reset, "the link has stood for {stands:?}");
    }
}

/// It reports the leave to every linked node, and each of them may be the next master.
#[test]
fn d2_a_leaving_node_closes_no_unneeded_link() {
    let mut rig = node("x", "x:1");
    let mut master = peer("n1", "h1:1");
    let to_master = answer_with(&mut rig, &mut master, Role::Joining);
    rig.receive(to_master, master.master(1));
    rig.command(Command::Leave);
    let to_other = answer_with(&mut rig, &mut peer("n2", "h2:1"), follows(&master));
    assert_eq!((rig.formation.status().phase, rig.closed(to_other)), (Phase::Leaving, None));
}

#[test]
fn d2_a_linked_peer_is_not_dialed() {
    let mut rig = node("n0", "h0:1");
    rig.give(Input::DialFailed { dial: dials(&rig, "h1:1")[0], problem: DialProblem::Refused });
    rig.hello_from(&mut peer("n1", "h1:1"));
    rig.advance(2 * SECOND);
    assert_eq!(dials(&rig, "h1:1").len(), 1);
}

#[test]
fn d1_a_dial_takes_the_place_of_a_pending_connection() {
    let closed = |conn, dialed: Option<&str>, reason| {
        let dialed = dialed.map(|address| Address::new(address).unwrap());
        Event::ConnClosed { conn, dialed, peer_addr: None, reason }
    };
    let config = config("n0", "h0:1");
    let timeout = config.clone().build().unwrap().timing().handshake_timeout;
    let mut rig = Rig::new(config.limits(Limits::new().with_connections(4)).build().unwrap());
    rig.advance(timeout);
    let late = rig.answer("h1:1");
    let pending = [(); 4].map(|()| rig.accept());
    rig.fail_dial("h2:1");
    while dials(&rig, "h2:1").len() == 1 {
        rig.advance(Duration::from_millis(10));
    }
    let dialed = rig.answer("h2:1");
    assert_eq!(rig.closed(dialed), None);
    let reported: Vec<Event> = rig.events().cloned().collect();
    let expected =
        [closed(late, None, CloseReason::DialGivenUp), closed(pending[0], None, CloseReason::TooManyConnections)];
    assert_eq!(reported, expected);
}

#[test]
fn d3_a_master_whose_handshake_fails_is_unreachable() {
    let (mut master, mut follower) = (peer("n1", "h1:1"), peer("n2", "h2:1"));
    let mut rig = node("x", "x:1");
    answer_with(&mut rig, &mut follower, follows(&master));
    for address in ["h0:1", "h1:1"] {
        let conn = rig.answer(address);
        rig.give(Input::Closed { conn });
    }
    assert_eq!(unreachable(&rig), ["h1:1"]);

    // A master that was linked before is not reported.
    let mut rig = node("x", "x:1");
    let conn = answer_with(&mut rig, &mut master, Role::Joining);
    answer_with(&mut rig, &mut follower, follows(&master));
    rig.give(Input::Closed { conn });
    assert_eq!(unreachable(&rig), [""; 0]);
}

#[test]
fn d5_no_ping_is_sent_where_heartbeats_flow() {
    let config = Config::builder("test", "x", "x:1").seeds(["m:1"]).build().unwrap();
    let mut rig = Rig::new(config.clone());
    let conn = rig.answer("m:1");
    let mut master = Peer::of(&config, "m", "m:1");
    rig.receive(conn, [master.hello(), master.master(1), Peer::accepted(1)].concat());
    let pings = |rig: &mut Rig| rig.messages(conn).iter().filter(|message| **message == Message::Ping).count();
    let interval = config.timing().heartbeat_interval;
    for number in 1..50 {
        // Each other one is late by a fifth of the interval.
        rig.advance(if number % 2 == 0 { interval * 4 / 5 } else { interval * 6 / 5 });
        rig.receive(conn, Peer::heartbeat(1, number));
    }
    assert_eq!(pings(&mut rig), 0);
    for expected in [1, 1, 0] {
        rig.advance(if expected == 0 { interval } else { interval * 3 / 2 });
        assert_eq!(pings(&mut rig), expected);
    }
}
