//! Rules just where they begin to hold, and just where they cease to, on one node that is told everything.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use bytes::Bytes;
use formation_core::{
    CloseReason, Config, ConnId, Epoch, Event, Input, RejectReason, StopReason,
    message::{Holder, Message, Rejected, Role},
};
use formation_tests::{Bench, Peer};

const SECOND: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_micros(1);
/// Twice `down_after`.
const PATIENCE: Duration = Duration::from_secs(6);

/// A node of the cluster of the voters n0, n1 and n2.
fn config(id: &str, address: &str) -> Config {
    Config::builder("test", id, address).seeds(["h0:1", "h1:1", "h2:1"]).build().unwrap()
}

/// The node n9, which is no voter.
fn outsider() -> Bench {
    Bench::new(config("n9", "h9:1"))
}

fn peer(id: &str, address: &str) -> Peer {
    Peer::of(&config("n9", "h9:1"), id, address)
}

/// Somebody else who has the outsider's id comes by. Of the two, the outsider is the one that would have to go.
fn meets_its_rival(bench: &mut Bench) -> bool {
    bench.greeted_by(&mut peer("n9", "h8:1"));
    bench.events().any(|event| matches!(event, Event::Stopped { reason: StopReason::IdInUse }))
}

/// A dial to this address comes through.
fn reaches(bench: &mut Bench, address: &str) -> ConnId {
    loop {
        while !bench.dialing().iter().any(|dialed| dialed.as_str() == address) {
            bench.advance(Duration::from_millis(10));
        }
        let conn = bench.answer(address);
        if bench.closed(conn) != Some(CloseReason::DialGivenUp) {
            return conn;
        }
    }
}

fn rejected(reason: RejectReason, holder: Option<Holder>) -> Bytes {
    Message::Rejected(Rejected { reason, holder }).to_frame()
}

#[test]
fn a_node_stops_for_its_id_when_it_was_refused_for_twice_down_after_and_no_sooner() {
    let mut bench = outsider();
    assert!(!meets_its_rival(&mut bench));
    bench.advance(PATIENCE - MOMENT);
    assert!(!meets_its_rival(&mut bench));
    bench.advance(MOMENT);
    assert!(meets_its_rival(&mut bench));
    assert_eq!(bench.events().filter(|event| matches!(event, Event::Stopped { .. })).count(), 1);
}

#[test]
fn a_refusal_for_an_id_counts_no_more_after_twice_down_after_without_another() {
    let mut bench = outsider();
    assert!(!meets_its_rival(&mut bench));
    bench.advance(PATIENCE);
    assert!(!meets_its_rival(&mut bench));
}

#[test]
fn a_node_with_a_master_does_not_stop_for_its_id_whoever_claims_it() {
    let mut bench = outsider();
    let mut master = peer("n1", "h1:1");
    let conn = bench.greeted_by(&mut master);
    bench.receive(conn, master.master(7));
    for number in 1..40 {
        bench.advance(SECOND / 2);
        bench.receive(conn, Peer::heartbeat(7, number));
        assert!(!meets_its_rival(&mut bench), "the master has it as a member");
    }
    assert!(bench.formation.status().master.is_some());
}

#[test]
fn a_node_does_not_stop_for_another_reason_than_its_id() {
    let mut bench = outsider();
    let holder = peer("x", "h9:1");
    let holder = Holder { node: holder.node, address: holder.address };
    while bench.now.as_micros() < 20_000_000 {
        let conn = reaches(&mut bench, "h0:1");
        bench.receive(conn, rejected(RejectReason::AddressInUse, Some(holder.clone())));
    }
    assert!(!bench.events().any(|event| matches!(event, Event::Stopped { .. })));
}

/// No count of elections leads further ahead.
#[test]
fn g8_a_term_is_believed_up_to_two_to_the_32_above_ones_own() {
    for (ahead, reason) in [(1 << 32, None), ((1 << 32) + 1, Some(CloseReason::TermOutOfReach))] {
        let mut bench = outsider();
        let mut voter = peer("n1", "h1:1");
        let conn = bench.greeted_by(&mut voter);
        bench.receive(conn, voter.status(ahead, Role::Seeking, Epoch::default()));
        assert_eq!(bench.closed(conn), reason, "{ahead}");
        assert_eq!(bench.formation.status().term.0, if reason.is_none() { ahead } else { 0 });
    }
}

#[test]
fn a_vote_is_asked_of_voters_only() {
    for (id, address, reason) in [("n0", "h0:1", None), ("n9", "h9:1", Some(CloseReason::UnexpectedMessage))] {
        let mut bench = Bench::new(config(id, address));
        let conn = bench.greeted_by(&mut peer("n1", "h1:1"));
        bench.receive(conn, Peer::vote_request(1, SECOND));
        assert_eq!(bench.closed(conn), reason, "{id}");
    }
}

/// A seed list is changed node by node, and a cluster has room again: that is tried as soon as ever. A wrong name is not.
#[test]
fn an_address_that_refuses_for_now_is_dialed_again_sooner_than_one_that_refuses_for_good() {
    let dialed_within = |reason, within: Duration| {
        let mut bench = outsider();
        let conn = reaches(&mut bench, "h0:1");
        bench.receive(conn, rejected(reason, None));
        bench.advance(within);
        bench.dialing().iter().filter(|address| address.as_str() == "h0:1").count() > 0
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
fn an_address_that_has_taken_the_node_in_starts_anew() {
    let mut bench = outsider();
    let told = |bench: &Bench| bench.events().filter(|event| matches!(event, Event::Rejected { .. })).count();
    for rejections in [1, 2] {
        for _ in 0..3 {
            let conn = reaches(&mut bench, "h0:1");
            bench.receive(conn, rejected(RejectReason::WrongCluster, None));
            assert_eq!(told(&bench), rejections);
        }
        let conn = reaches(&mut bench, "h0:1");
        let mut voter = peer("n0", "h0:1");
        bench.receive(conn, [voter.hello(), voter.seeking()].concat());
        bench.give(Input::Closed { conn });
        bench.advance(config("n9", "h9:1").timing().dial_backoff_min * 3 / 2);
        assert!(bench.dialing().iter().any(|address| address.as_str() == "h0:1"));
    }
}

#[test]
fn a_link_is_news_and_so_is_a_refusal_of_who_was_taken_in_before() {
    let mut bench = outsider();
    let mut other = peer("x", "x:1");
    for refusals in [1, 2] {
        other.cluster = "other".parse().unwrap();
        for _ in 0..2 {
            bench.greeted_by(&mut other);
            let refused = bench.events().filter(|event| matches!(event, Event::Refused { .. }));
            assert_eq!(refused.count(), refusals);
        }
        other.cluster = "test".parse().unwrap();
        let conn = bench.greeted_by(&mut other);
        let linked = |event: &&Event| matches!(event, Event::Linked { node, .. } if *node == other.node);
        assert_eq!(bench.events().filter(linked).count(), refusals);
        bench.give(Input::Closed { conn });
    }
}

#[test]
fn who_repeats_what_the_node_has_said_is_closed_and_that_is_said() {
    let mut bench = outsider();
    let dialed = reaches(&mut bench, "h0:1");
    let own = bench.messages(dialed).remove(0).to_frame();
    bench.give(Input::Closed { conn: dialed });
    let conn = bench.accept();
    bench.receive(conn, own);
    let reason = CloseReason::SelfDial;
    assert_eq!(bench.closed(conn), Some(reason));
    assert!(bench.events().any(|event| *event == Event::ConnClosed { conn, dialed: None, reason }));
}

/// The host reads nothing any more, or the peer does not: the words of the refusal stay unwritten.
#[test]
fn a_refusal_that_cannot_be_written_ends_after_handshake_timeout_for_the_reason_that_it_names() {
    let mut bench = outsider();
    bench.hold_answers();
    let mut stranger = peer("x", "x:1");
    stranger.cluster = "other".parse().unwrap();
    let conn = bench.greeted_by(&mut stranger);
    let timeout = config("n9", "h9:1").timing().handshake_timeout;
    bench.advance(timeout - MOMENT);
    assert_eq!(bench.closed(conn), None);
    bench.advance(MOMENT);
    assert_eq!(bench.closed(conn), Some(CloseReason::Refused(RejectReason::WrongCluster)));
}

/// What it did not hear while it stood still says nothing of the others.
#[test]
fn a_node_that_stood_still_for_longer_than_suspect_after_lets_others_be_silent_anew() {
    let timing = config("n9", "h9:1").timing().clone();
    for (pause, anew) in [(timing.suspect_after, false), (timing.suspect_after + MOMENT, true)] {
        let mut bench = outsider();
        let conn = bench.greeted_by(&mut peer("n1", "h1:1"));
        bench.now = bench.now + pause;
        bench.give(Input::Tick);
        let silent = if anew { timing.down_after } else { timing.down_after - pause };
        bench.advance(silent - MOMENT);
        assert_eq!(bench.closed(conn), None, "{pause:?}");
        bench.advance(MOMENT);
        assert_eq!(bench.closed(conn), Some(CloseReason::Silent), "{pause:?}");
    }
}
