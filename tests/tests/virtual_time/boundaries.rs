//! Rules at their exact boundaries: the last value before a rule applies, and the first one at which it does. One node
//! on the test rig.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use bytes::Bytes;
use formation_core::{
    CloseReason, Config, ConnId, Event, Input, RejectReason, StopReason, Term, Timestamp, ViewId,
    message::{Holder, Message, Rejected, Role},
};
use formation_tests::{Peer, Rig};

const SECOND: Duration = Duration::from_secs(1);
const MICROSECOND: Duration = Duration::from_micros(1);
/// Twice `down_after`.
const ID_TIMEOUT: Duration = Duration::from_secs(6);

/// A node in the cluster of the voters n0, n1 and n2.
fn config(id: &str, address: &str) -> Config {
    Config::builder("test", id, address).seeds(["h0:1", "h1:1", "h2:1"]).build().unwrap()
}

/// The node n9, which is not a voter.
fn non_voter() -> Rig {
    Rig::new(config("n9", "h9:1"))
}

fn peer(id: &str, address: &str) -> Peer {
    Peer::of(&config("n9", "h9:1"), id, address)
}

/// The voters at these addresses reject the node for its id whenever it dials them, for this long. Returns when it has stopped.
fn rejected_for_its_id(rig: &mut Rig, voters: &[&str], during: Duration) -> Option<Duration> {
    let holder = peer("n9", "h8:1");
    let holder = Holder { node: holder.node, address: holder.address };
    let until = rig.now + during;
    while rig.now < until {
        for voter in voters {
            if rig.dialing().iter().any(|dialed| dialed.as_str() == *voter) {
                let conn = rig.answer(voter);
                rig.receive(conn, rejected_frame(RejectReason::IdInUse, Some(holder.clone())));
            }
        }
        if rig.events().any(|event| matches!(event, Event::Stopped { reason: StopReason::IdInUse })) {
            return Some(rig.now.since(Timestamp::ZERO));
        }
        rig.advance(Duration::from_millis(10));
    }
    None
}

/// Waits for a dial of this address, and lets it succeed.
fn dial_succeeds(rig: &mut Rig, address: &str) -> ConnId {
    loop {
        while !rig.dialing().iter().any(|dialed| dialed.as_str() == address) {
            rig.advance(Duration::from_millis(10));
        }
        let conn = rig.answer(address);
        if rig.closed(conn) != Some(CloseReason::DialGivenUp) {
            return conn;
        }
    }
}

fn rejected_frame(reason: RejectReason, holder: Option<Holder>) -> Bytes {
    Message::Rejected(Rejected { reason, holder }).to_frame()
}

#[test]
fn i5_a_node_stops_after_id_rejections_for_twice_down_after() {
    let mut rig = non_voter();
    let at = rejected_for_its_id(&mut rig, &["h0:1", "h1:1"], 10 * SECOND);
    assert!(at.is_some_and(|at| (ID_TIMEOUT..ID_TIMEOUT + 2 * SECOND).contains(&at)), "{at:?}");
    assert_eq!(rig.events().filter(|event| matches!(event, Event::Stopped { .. })).count(), 1);
}

/// One voter may lie.
#[test]
fn i5_the_rejections_of_one_voter_stop_nobody() {
    assert_eq!(rejected_for_its_id(&mut non_voter(), &["h1:1"], 30 * SECOND), None);
}

#[test]
fn i5_an_id_rejection_expires_after_twice_down_after() {
    let mut rig = non_voter();
    let voters = ["h0:1", "h1:1"];
    for _ in 0..3 {
        assert_eq!(rejected_for_its_id(&mut rig, &voters, ID_TIMEOUT / 2), None);
        rig.advance(ID_TIMEOUT);
    }
}

#[test]
fn i5_a_node_with_a_master_does_not_stop_for_its_id() {
    let mut rig = non_voter();
    let mut master = peer("n1", "h1:1");
    let conn = rig.hello_from(&mut master);
    rig.receive(conn, master.master(7));
    for number in 1..40 {
        let stopped = rejected_for_its_id(&mut rig, &["h0:1", "h2:1"], SECOND / 2);
        assert_eq!(stopped, None, "the master has the node as a member");
        rig.receive(conn, Peer::heartbeat(7, number));
    }
    assert!(rig.formation.status().master.is_some());
}

#[test]
fn i5_a_node_stops_only_for_its_id() {
    let mut rig = non_voter();
    let holder = peer("x", "h9:1");
    let holder = Holder { node: holder.node, address: holder.address };
    while rig.now.as_micros() < 20_000_000 {
        let conn = dial_succeeds(&mut rig, "h0:1");
        rig.receive(conn, rejected_frame(RejectReason::AddressInUse, Some(holder.clone())));
    }
    assert!(!rig.events().any(|event| matches!(event, Event::Stopped { .. })));
}

/// A service compares the term of its master with others. The node may know a newer one.
#[test]
fn e7_the_status_has_the_term_of_the_master_beside_the_newest() {
    let mut rig = non_voter();
    let (mut master, mut other) = (peer("n1", "h1:1"), peer("n2", "h2:1"));
    let conn = rig.hello_from(&mut master);
    rig.receive(conn, master.master(1));
    let conn = rig.hello_from(&mut other);
    rig.receive(conn, other.status(5, Role::Joining, ViewId::default()));
    let status = rig.formation.status();
    assert_eq!((status.term, status.master_term), (Term(5), Some(Term(1))));
}

/// A voter that lies must not use up the terms, and whoever it has led far ahead must be followed again in the end.
#[test]
fn e7_a_term_that_is_far_ahead_is_reached_in_steps() {
    const NEAR: u64 = 1 << 10;
    const STEP: u64 = 1 << 32;
    let mut rig = Rig::new(config("n0", "h0:1"));
    let mut voter = peer("n1", "h1:1");
    let conn = rig.hello_from(&mut voter);
    let term = |rig: &Rig| rig.formation.status().term.0;
    let lease = config("n9", "h9:1").timing().lease;
    rig.receive(conn, voter.status(NEAR, Role::Joining, ViewId::default()));
    assert_eq!(term(&rig), NEAR, "near terms are taken over at once");
    rig.receive(conn, voter.status(NEAR + 2 * STEP + 5, Role::Joining, ViewId::default()));
    let mut steps = vec![term(&rig)];
    for _ in 0..4 {
        rig.receive(conn, Message::Ping.to_frame());
        rig.advance(lease / 2);
        steps.push(term(&rig));
    }
    let (first, second, last) = (NEAR + STEP, NEAR + 2 * STEP, NEAR + 2 * STEP + 5);
    assert_eq!(steps, [first, first, second, second, last], "one step in each lease, and the rest is near");
    assert_eq!(rig.closed(conn), None);
}

#[test]
fn h3_a_vote_request_to_a_node_without_a_vote_is_unexpected() {
    for (id, address, reason) in [("n0", "h0:1", None), ("n9", "h9:1", Some(CloseReason::UnexpectedMessage))] {
        let mut rig = Rig::new(config(id, address));
        let conn = rig.hello_from(&mut peer("n1", "h1:1"));
        rig.receive(conn, Peer::vote_request(1, SECOND));
        assert_eq!(rig.closed(conn), reason, "{id}");
    }
}

/// A different seed list or a full cluster may change soon, so the address is retried normally. A wrong cluster name
/// may not.
#[test]
fn d6_an_address_with_a_permanent_rejection_is_retried_rarely() {
    let dialed_within = |reason, within: Duration| {
        let mut rig = non_voter();
        let conn = dial_succeeds(&mut rig, "h0:1");
        rig.receive(conn, rejected_frame(reason, None));
        rig.advance(within);
        rig.dialing().iter().filter(|address| address.as_str() == "h0:1").count() > 0
    };
    let timing = config("n9", "h9:1").timing().clone();
    for reason in [RejectReason::ElectorateMismatch, RejectReason::ClusterFull] {
        assert!(dialed_within(reason, timing.dial_backoff_min * 3 / 2), "{reason}");
    }
    for reason in [RejectReason::WrongCluster, RejectReason::IdInUse, RejectReason::MetadataTooLong] {
        assert!(!dialed_within(reason, timing.dial_backoff_max / 2 - MICROSECOND), "{reason}");
    }
}

/// The former rejections are forgotten: a new one is reported again.
#[test]
fn h10_an_address_that_accepts_the_node_starts_afresh() {
    let mut rig = non_voter();
    let reported = |rig: &Rig| rig.events().filter(|event| matches!(event, Event::RejectedByPeer { .. })).count();
    for expected in [1, 2] {
        for _ in 0..3 {
            let conn = dial_succeeds(&mut rig, "h0:1");
            rig.receive(conn, rejected_frame(RejectReason::WrongCluster, None));
            assert_eq!(reported(&rig), expected);
        }
        let conn = dial_succeeds(&mut rig, "h0:1");
        let mut voter = peer("n0", "h0:1");
        // What follows the first status shows that the peer has established the link, too.
        rig.receive(conn, [voter.hello(), voter.joining(), Message::Ping.to_frame()].concat());
        rig.give(Input::Closed { conn });
    }
}

#[test]
fn h10_a_rejection_is_reported_again_after_a_link() {
    let mut rig = non_voter();
    let mut other = peer("x", "x:1");
    for expected in [1, 2] {
        other.cluster = "other".parse().unwrap();
        for _ in 0..2 {
            rig.hello_from(&mut other);
            let rejections = rig.events().filter(|event| matches!(event, Event::PeerRejected { .. }));
            assert_eq!(rejections.count(), expected);
        }
        other.cluster = "test".parse().unwrap();
        let conn = rig.hello_from(&mut other);
        let linked = |event: &&Event| matches!(event, Event::Linked { node, .. } if *node == other.node);
        assert_eq!(rig.events().filter(linked).count(), expected);
        rig.give(Input::Closed { conn });
    }
}

#[test]
fn i8_an_echo_of_a_former_hello_is_closed_and_reported() {
    let mut rig = non_voter();
    let dialed = dial_succeeds(&mut rig, "h0:1");
    let own = rig.messages(dialed).remove(0).to_frame();
    rig.give(Input::Closed { conn: dialed });
    let conn = rig.accept();
    rig.receive(conn, own);
    let reason = CloseReason::SelfDial;
    assert_eq!(rig.closed(conn), Some(reason));
    assert!(rig.events().any(|event| *event == Event::ConnClosed { conn, dialed: None, peer_addr: None, reason }));
}

/// The write never completes, because the embedder or the peer is stuck. The connection then closes with the named
/// reason.
#[test]
fn h10_an_unwritten_rejection_ends_at_handshake_timeout() {
    let mut rig = non_voter();
    rig.hold_answers();
    let mut other = peer("x", "x:1");
    other.cluster = "other".parse().unwrap();
    let conn = rig.hello_from(&mut other);
    let timeout = config("n9", "h9:1").timing().handshake_timeout;
    rig.advance(timeout - MICROSECOND);
    assert_eq!(rig.closed(conn), None);
    rig.advance(MICROSECOND);
    assert_eq!(rig.closed(conn), Some(CloseReason::Rejected(RejectReason::WrongCluster)));
}

/// During its own pause, a node cannot receive anything, so silence in that time says nothing about the others.
#[test]
fn d5_after_its_own_pause_a_node_restarts_silence_timeouts() {
    let timing = config("n9", "h9:1").timing().clone();
    for (pause, anew) in [(timing.suspect_after, false), (timing.suspect_after + MICROSECOND, true)] {
        let mut rig = non_voter();
        let conn = rig.hello_from(&mut peer("n1", "h1:1"));
        rig.now = rig.now + pause;
        rig.give(Input::Tick);
        let silent = if anew { timing.down_after } else { timing.down_after - pause };
        rig.advance(silent - MICROSECOND);
        assert_eq!(rig.closed(conn), None, "{pause:?}");
        rig.advance(MICROSECOND);
        assert_eq!(rig.closed(conn), Some(CloseReason::Silent), "{pause:?}");
    }
}
