//! Rules just where they begin to hold, and just where they cease to, on one node that is told everything.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use bytes::Bytes;
use formation_core::{
    CloseReason, Config, ConnId, Event, Input, RejectReason, StopReason, ViewId,
    message::{Holder, Message, Rejected, Role},
};
use formation_tests::{Peer, Rig};

const SECOND: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_micros(1);
/// Twice `down_after`.
const PATIENCE: Duration = Duration::from_secs(6);

/// A node of the cluster of the voters n0, n1 and n2.
fn config(id: &str, address: &str) -> Config {
    Config::builder("test", id, address).seeds(["h0:1", "h1:1", "h2:1"]).build().unwrap()
}

/// The node n9, which is no voter.
fn outsider() -> Rig {
    Rig::new(config("n9", "h9:1"))
}

fn peer(id: &str, address: &str) -> Peer {
    Peer::of(&config("n9", "h9:1"), id, address)
}

/// Somebody else who has the outsider's id comes by. Of the two, the outsider is the one that would have to go.
fn meets_its_rival(rig: &mut Rig) -> bool {
    rig.hello_from(&mut peer("n9", "h8:1"));
    rig.events().any(|event| matches!(event, Event::Stopped { reason: StopReason::IdInUse }))
}

/// A dial to this address comes through.
fn reaches(rig: &mut Rig, address: &str) -> ConnId {
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

fn rejected(reason: RejectReason, holder: Option<Holder>) -> Bytes {
    Message::Rejected(Rejected { reason, holder }).to_frame()
}

#[test]
fn i5_a_node_stops_after_id_rejections_for_twice_down_after() {
    let mut rig = outsider();
    assert!(!meets_its_rival(&mut rig));
    rig.advance(PATIENCE - MOMENT);
    assert!(!meets_its_rival(&mut rig));
    rig.advance(MOMENT);
    assert!(meets_its_rival(&mut rig));
    assert_eq!(rig.events().filter(|event| matches!(event, Event::Stopped { .. })).count(), 1);
}

#[test]
fn i5_an_id_rejection_expires_after_twice_down_after() {
    let mut rig = outsider();
    assert!(!meets_its_rival(&mut rig));
    rig.advance(PATIENCE);
    assert!(!meets_its_rival(&mut rig));
}

#[test]
fn i5_a_node_with_a_master_does_not_stop_for_its_id() {
    let mut rig = outsider();
    let mut master = peer("n1", "h1:1");
    let conn = rig.hello_from(&mut master);
    rig.receive(conn, master.master(7));
    for number in 1..40 {
        rig.advance(SECOND / 2);
        rig.receive(conn, Peer::heartbeat(7, number));
        assert!(!meets_its_rival(&mut rig), "the master has it as a member");
    }
    assert!(rig.formation.status().master.is_some());
}

#[test]
fn i5_a_node_stops_only_for_its_id() {
    let mut rig = outsider();
    let holder = peer("x", "h9:1");
    let holder = Holder { node: holder.node, address: holder.address };
    while rig.now.as_micros() < 20_000_000 {
        let conn = reaches(&mut rig, "h0:1");
        rig.receive(conn, rejected(RejectReason::AddressInUse, Some(holder.clone())));
    }
    assert!(!rig.events().any(|event| matches!(event, Event::Stopped { .. })));
}

/// No count of elections leads further ahead.
#[test]
fn g8_a_term_is_accepted_up_to_2_to_the_32_above_the_own() {
    for (ahead, reason) in [(1 << 32, None), ((1 << 32) + 1, Some(CloseReason::TermOutOfReach))] {
        let mut rig = outsider();
        let mut voter = peer("n1", "h1:1");
        let conn = rig.hello_from(&mut voter);
        rig.receive(conn, voter.status(ahead, Role::Joining, ViewId::default()));
        assert_eq!(rig.closed(conn), reason, "{ahead}");
        assert_eq!(rig.formation.status().term.0, if reason.is_none() { ahead } else { 0 });
    }
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

/// A seed list is changed node by node, and a cluster has room again: that is tried as soon as ever. A wrong name is not.
#[test]
fn d6_an_address_with_a_permanent_rejection_is_retried_rarely() {
    let dialed_within = |reason, within: Duration| {
        let mut rig = outsider();
        let conn = reaches(&mut rig, "h0:1");
        rig.receive(conn, rejected(reason, None));
        rig.advance(within);
        rig.dialing().iter().filter(|address| address.as_str() == "h0:1").count() > 0
    };
    let timing = config("n9", "h9:1").timing().clone();
    for reason in [RejectReason::ElectorateMismatch, RejectReason::ClusterFull] {
        assert!(dialed_within(reason, timing.dial_backoff_min * 3 / 2), "{reason}");
    }
    for reason in [RejectReason::WrongCluster, RejectReason::IdInUse, RejectReason::MetadataTooLong] {
        assert!(!dialed_within(reason, timing.dial_backoff_max / 2 - MOMENT), "{reason}");
    }
}

/// What stood in the way before is over: it is news again, and the address is dialed as if nothing had been.
#[test]
fn d1_h10_an_address_that_accepts_the_node_starts_afresh() {
    let mut rig = outsider();
    let told = |rig: &Rig| rig.events().filter(|event| matches!(event, Event::RejectedByPeer { .. })).count();
    for rejections in [1, 2] {
        for _ in 0..3 {
            let conn = reaches(&mut rig, "h0:1");
            rig.receive(conn, rejected(RejectReason::WrongCluster, None));
            assert_eq!(told(&rig), rejections);
        }
        let conn = reaches(&mut rig, "h0:1");
        let mut voter = peer("n0", "h0:1");
        rig.receive(conn, [voter.hello(), voter.joining()].concat());
        rig.give(Input::Closed { conn });
        rig.advance(config("n9", "h9:1").timing().dial_backoff_min * 3 / 2);
        assert!(rig.dialing().iter().any(|address| address.as_str() == "h0:1"));
    }
}

#[test]
fn h10_a_rejection_is_reported_again_after_a_link() {
    let mut rig = outsider();
    let mut other = peer("x", "x:1");
    for refusals in [1, 2] {
        other.cluster = "other".parse().unwrap();
        for _ in 0..2 {
            rig.hello_from(&mut other);
            let refused = rig.events().filter(|event| matches!(event, Event::PeerRejected { .. }));
            assert_eq!(refused.count(), refusals);
        }
        other.cluster = "test".parse().unwrap();
        let conn = rig.hello_from(&mut other);
        let linked = |event: &&Event| matches!(event, Event::Linked { node, .. } if *node == other.node);
        assert_eq!(rig.events().filter(linked).count(), refusals);
        rig.give(Input::Closed { conn });
    }
}

#[test]
fn i8_an_echo_of_a_former_hello_is_closed_and_reported() {
    let mut rig = outsider();
    let dialed = reaches(&mut rig, "h0:1");
    let own = rig.messages(dialed).remove(0).to_frame();
    rig.give(Input::Closed { conn: dialed });
    let conn = rig.accept();
    rig.receive(conn, own);
    let reason = CloseReason::SelfDial;
    assert_eq!(rig.closed(conn), Some(reason));
    assert!(rig.events().any(|event| *event == Event::ConnClosed { conn, dialed: None, reason }));
}

/// The host reads nothing any more, or the peer does not: the words of the refusal stay unwritten.
#[test]
fn h10_an_unwritten_rejection_ends_at_handshake_timeout() {
    let mut rig = outsider();
    rig.hold_answers();
    let mut stranger = peer("x", "x:1");
    stranger.cluster = "other".parse().unwrap();
    let conn = rig.hello_from(&mut stranger);
    let timeout = config("n9", "h9:1").timing().handshake_timeout;
    rig.advance(timeout - MOMENT);
    assert_eq!(rig.closed(conn), None);
    rig.advance(MOMENT);
    assert_eq!(rig.closed(conn), Some(CloseReason::Rejected(RejectReason::WrongCluster)));
}

/// What it did not hear while it stood still says nothing of the others.
#[test]
fn d5_after_its_own_pause_a_node_restarts_silence_timeouts() {
    let timing = config("n9", "h9:1").timing().clone();
    for (pause, anew) in [(timing.suspect_after, false), (timing.suspect_after + MOMENT, true)] {
        let mut rig = outsider();
        let conn = rig.hello_from(&mut peer("n1", "h1:1"));
        rig.now = rig.now + pause;
        rig.give(Input::Tick);
        let silent = if anew { timing.down_after } else { timing.down_after - pause };
        rig.advance(silent - MOMENT);
        assert_eq!(rig.closed(conn), None, "{pause:?}");
        rig.advance(MOMENT);
        assert_eq!(rig.closed(conn), Some(CloseReason::Silent), "{pause:?}");
    }
}
