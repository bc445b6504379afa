//! Who is let in: each case of PROTOCOL, "The handshake" and "The same node again", on one node that is told who comes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use formation_core::{
    Address, CloseReason, Command, Config, ConnId, Event, Incarnation, Input, NodeId, Phase, RejectReason,
    message::Message,
};
use formation_tests::{Bench, Peer};

const SECOND: Duration = Duration::from_secs(1);
const ID_IN_USE: Option<CloseReason> = Some(CloseReason::Refused(RejectReason::IdInUse));
const ADDRESS_IN_USE: Option<CloseReason> = Some(CloseReason::Refused(RejectReason::AddressInUse));
const SUPERSEDED: Option<CloseReason> = Some(CloseReason::Refused(RejectReason::Superseded));

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

/// The dial of the address comes through, and this peer is there.
fn is_reached(bench: &mut Bench, at: &str, peer: &mut Peer) -> ConnId {
    let conn = bench.answer(at);
    let hello = peer.hello();
    bench.receive(conn, hello);
    conn
}

/// Whether the node lets a peer of this id, address and incarnation in; if not, why it closes the connection.
fn meets(mut bench: Bench, id: &str, address: &str, incarnation: u64) -> Option<CloseReason> {
    let conn = bench.greeted_by(&mut peer(id, address, incarnation));
    bench.closed(conn)
}

/// n0, which n1 has elected.
fn master() -> Bench {
    let mut bench = Bench::new(config());
    bench.advance(3 * SECOND);
    let conn = bench.sought_by(&mut peer("n1", "h1:1", 5));
    let asked = bench.messages(conn).into_iter().find_map(|message| match message {
        Message::VoteRequest(request) => Some(request),
        _ => None,
    });
    bench.receive(conn, Peer::vote(&asked.unwrap()));
    assert!(bench.formation.leadership(bench.now).is_some());
    bench
}

/// The same; somebody has joined it, and has lost its link.
fn left_by(id: &str, address: &str) -> Bench {
    let mut bench = master();
    let conn = bench.sought_by(&mut peer(id, address, 5));
    bench.give(Input::Closed { conn });
    assert!(is_member(&bench, id));
    bench
}

fn is_member(bench: &Bench, id: &str) -> bool {
    bench.formation.view().get(&NodeId::new(id).unwrap()).is_some()
}

#[test]
fn a_hello_with_the_own_id_comes_from_the_node_itself_or_another_run_of_it_or_its_namesake() {
    let cases = [
        ("h0:1", 10, Some(CloseReason::SelfDial), Phase::Seeking),
        ("h0:1", 11, Some(CloseReason::Superseded), Phase::Stopped),
        ("h0:1", 9, SUPERSEDED, Phase::Seeking),
        ("x:1", 9, ID_IN_USE, Phase::Seeking),
        ("x:1", 10, ID_IN_USE, Phase::Seeking),
        ("x:1", 11, ID_IN_USE, Phase::Seeking),
    ];
    for (address, incarnation, reason, phase) in cases {
        let mut bench = Bench::new(config());
        let conn = bench.greeted_by(&mut peer("n0", address, incarnation));
        assert_eq!(bench.closed(conn), reason, "{address}, {incarnation}");
        assert_eq!(bench.formation.status().phase, phase, "{address}, {incarnation}");
    }
}

/// Answers the dial of `alias:1`, which leads to the node itself.
fn dial_itself(bench: &mut Bench) -> [ConnId; 2] {
    let own = bench.answer("alias:1");
    let hello = bench.messages(own).pop().unwrap().to_frame();
    let far = bench.accept();
    bench.receive(far, hello);
    [own, far]
}

#[test]
fn a_node_that_dialed_itself_closes_both_ends_and_no_other_dial() {
    let mut bench = Bench::new(config());
    let other = bench.answer("h1:1");
    let [own, far] = dial_itself(&mut bench);
    let closed = [other, own, far].map(|conn| bench.closed(conn));
    assert_eq!(closed, [None, Some(CloseReason::SelfDial), Some(CloseReason::SelfDial)]);
}

/// Such a connection shows no address that leads to this node.
#[test]
fn who_only_repeats_the_hello_of_the_node_is_told_as_a_fault_of_that_connection() {
    let mut bench = Bench::new(config());
    let conn = bench.greeted_by(&mut peer("n0", "h0:1", 10));
    let said: Vec<_> = bench.events().collect();
    assert_eq!(said, [&Event::ConnClosed { conn, dialed: None, reason: CloseReason::SelfDial }]);
}

/// It may be anything that says back what it hears, over one connection or over another that leads there.
#[test]
fn what_only_echoes_at_a_dialed_address_is_not_the_node_itself() {
    let mut bench = Bench::new(config());
    let [conn, other] = ["h1:1", "alias:1"].map(|address| bench.answer(address));
    let [own, others] = [conn, other].map(|conn| bench.messages(conn).remove(0).to_frame());
    let crossed = {
        let mut bench = bench.clone();
        bench.receive(conn, others);
        (bench, [Some(CloseReason::SelfDial), None])
    };
    bench.receive(conn, own);
    for (bench, closed) in [(bench, [Some(CloseReason::SelfDial), None]), crossed] {
        assert_eq!([conn, other].map(|conn| bench.closed(conn)), closed);
        let dialed = Some(Address::new("h1:1").unwrap());
        let said: Vec<_> = bench.events().collect();
        assert_eq!(said, [&Event::ConnClosed { conn, dialed, reason: CloseReason::SelfDial }]);
    }
}

/// Names move: it may lead elsewhere by then, and if it does not, that is no news.
#[test]
fn an_address_that_leads_to_the_node_itself_is_looked_at_every_down_after_and_told_once_until_it_has_led_elsewhere() {
    let mut bench = Bench::new(config());
    let is_due = |bench: &Bench| bench.dialing().iter().any(|address| address.as_str() == "alias:1");
    let wait = config().timing().down_after;
    let told = |bench: &Bench| {
        assert!(!bench.events().any(|event| matches!(event, Event::ConnClosed { .. })), "one event is enough");
        bench.events().filter(|event| matches!(event, Event::SelfDial { .. })).count()
    };
    let looks_again = |bench: &mut Bench| {
        // Naming it anew makes it no busier.
        bench.give(Input::Command(Command::AddContacts(vec![Address::new("alias:1").unwrap()])));
        bench.advance(wait - Duration::from_micros(1));
        assert!(!is_due(bench), "busier than every down_after");
        bench.advance(Duration::from_micros(1));
        assert!(is_due(bench), "not looked at after down_after");
    };
    for _ in 0..3 {
        dial_itself(&mut bench);
        looks_again(&mut bench);
        assert_eq!(told(&bench), 1);
    }
    // Nowhere is not elsewhere.
    bench.fail_dial("alias:1");
    looks_again(&mut bench);
    dial_itself(&mut bench);
    looks_again(&mut bench);
    assert_eq!(told(&bench), 1);
    for (id, cluster) in [("x", "test"), ("y", "other")] {
        let before = told(&bench);
        let conn = bench.answer("alias:1");
        let theirs = Config::builder(cluster, id, format!("{id}:1")).seeds(["h0:1", "h1:1", "h2:1"]).build().unwrap();
        let hello = Peer::of(&theirs, id, &format!("{id}:1")).hello();
        bench.receive(conn, hello);
        bench.give(Input::Closed { conn });
        while !is_due(&bench) {
            bench.advance(Duration::from_millis(10));
        }
        dial_itself(&mut bench);
        assert_eq!(told(&bench), before + 1, "it has led to {id} of {cluster}");
        looks_again(&mut bench);
    }
}

#[test]
fn an_id_whose_holder_is_linked_is_free_to_its_own_address_and_newer_runs() {
    let mut bench = Bench::new(config());
    bench.greeted_by(&mut peer("n1", "h1:1", 5));
    for (address, incarnation, reason) in
        [("h1:1", 5, None), ("h1:1", 6, None), ("h1:1", 4, SUPERSEDED), ("x:1", 6, ID_IN_USE), ("x:1", 4, ID_IN_USE)]
    {
        assert_eq!(meets(bench.clone(), "n1", address, incarnation), reason, "{address}, {incarnation}");
    }
}

#[test]
fn a_master_keeps_the_id_of_a_member_without_a_link_for_it() {
    for (id, at) in [("n2", "h2:1"), ("j", "j:1")] {
        for (address, incarnation, reason) in
            [(at, 5, None), (at, 6, None), (at, 4, SUPERSEDED), ("x:1", 6, ID_IN_USE), ("x:1", 4, ID_IN_USE)]
        {
            assert_eq!(meets(left_by(id, at), id, address, incarnation), reason, "{id}, {address}, {incarnation}");
        }
    }
}

/// A view says nothing of who lives to a node that is not master (any more).
#[test]
fn an_id_in_the_view_of_no_master_is_free() {
    let mut bench = left_by("j", "j:1");
    bench.advance(SECOND);
    assert!(bench.formation.leadership(bench.now).is_none() && is_member(&bench, "j"));
    assert_eq!(meets(bench, "j", "x:1", 4), None);
}

#[test]
fn a_voter_takes_its_id_back_from_a_member_that_only_claimed_it() {
    assert_eq!(meets(left_by("n2", "x:1"), "n2", "h2:1", 4), None);
    assert_eq!(meets(left_by("n2", "x:1"), "n2", "y:1", 6), ID_IN_USE);
}

#[test]
fn an_address_stays_with_whom_it_was_claimed_by_first_until_an_own_dial_finds_another_there() {
    let mut bench = Bench::new(config());
    let liar = bench.greeted_by(&mut peer("liar", "h1:1", 5));
    let mut owner = peer("n1", "h1:1", 5);
    let refused = bench.greeted_by(&mut owner);
    assert_eq!((bench.closed(liar), bench.closed(refused)), (None, ADDRESS_IN_USE));
    let reached = is_reached(&mut bench, "h1:1", &mut owner);
    assert_eq!((bench.closed(liar), bench.closed(reached)), (ADDRESS_IN_USE, None));
    assert_eq!(meets(bench, "liar", "h1:1", 5), ADDRESS_IN_USE);
}

/// That another address leads to who claims this one says nothing of this one.
#[test]
fn an_own_dial_of_another_address_wins_no_address() {
    let mut bench = Bench::new(config());
    let first = bench.greeted_by(&mut peer("n1", "h1:1", 5));
    let second = is_reached(&mut bench, "alias:1", &mut peer("liar", "h1:1", 5));
    assert_eq!((bench.closed(first), bench.closed(second)), (None, ADDRESS_IN_USE));
}
