//! When a leaving node has left (PROTOCOL, "Leaving"): which messages must be written or confirmed first.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use formation_core::{
    Command, Config, ConnId, Event, Input, Phase,
    message::{Message, VoteRequest},
};
use formation_tests::{Peer, Rig};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// The node n0 of the voters n0, n1 and n2, after `bootstrap_wait`.
fn voter() -> (Rig, Config) {
    let config = Config::builder("test", "n0", "h0:1").seeds(["h0:1", "h1:1", "h2:1"]).build().unwrap();
    let mut rig = Rig::new(config.clone());
    rig.advance(3 * SECOND);
    (rig, config)
}

fn link(rig: &mut Rig, peer: &mut Peer, first_status: fn(&mut Peer) -> bytes::Bytes) -> ConnId {
    let conn = rig.accept();
    let frames = [peer.hello(), first_status(peer)].concat();
    rig.receive(conn, frames);
    conn
}

/// n0 is a candidate and has asked n1 for its vote.
fn candidate() -> (Rig, Config, ConnId, VoteRequest) {
    let (mut rig, config) = voter();
    let conn = link(&mut rig, &mut Peer::of(&config, "n1", "h1:1"), Peer::joining);
    let request = rig.messages(conn).into_iter().find_map(|message| match message {
        Message::VoteRequest(request) => Some(request),
        _ => None,
    });
    (rig, config, conn, request.unwrap())
}

fn phase(rig: &Rig) -> Phase {
    rig.formation.status().phase
}

#[test]
fn l5_a_node_without_a_link_leaves_at_once() {
    let (mut rig, _) = voter();
    rig.command(Command::Leave);
    assert_eq!(phase(&rig), Phase::Stopped);
}

#[test]
fn l3_a_master_has_left_once_the_next_master_confirms_it() {
    let (mut rig, config, n1, request) = candidate();
    rig.receive(n1, Peer::vote(&request));
    let n2 = link(&mut rig, &mut Peer::of(&config, "n2", "h2:1"), Peer::joining);
    let member = link(&mut rig, &mut Peer::of(&config, "j", "j:1"), Peer::joining);
    assert_eq!((phase(&rig), rig.formation.view().len()), (Phase::Master, 4));
    for conn in [n1, n2, member] {
        rig.messages(conn);
    }
    rig.hold_answers();
    // Another write is already in flight.
    rig.command(Command::SetMetadata(bytes::Bytes::from_static(b"new")));
    rig.command(Command::Leave);
    let resigned = |rig: &mut Rig, conn| {
        rig.messages(conn)
            .iter()
            .any(|message| matches!(message, Message::Resign(resign) if resign.term == request.term))
    };
    for conn in [n1, n2] {
        assert!(!resigned(&mut rig, conn));
        assert!(rig.flush(conn));
        assert!(resigned(&mut rig, conn));
    }
    assert_eq!(rig.formation.leadership(rig.now), None, "the mastership has ended for the own embedder first");
    assert!(rig.flush(n1));
    assert_eq!(phase(&rig), Phase::Leaving);
    assert!(rig.flush(n2));
    assert_eq!(phase(&rig), Phase::Leaving, "a written resignation is not enough");
    // The next master has removed the node from the view.
    let mut next = Peer::of(&config, "n1", "h1:1");
    let elected = [next.joining(), next.master(2)].concat();
    rig.receive(n1, [elected.into(), Message::LeaveAck.to_frame()].concat());
    assert_eq!(phase(&rig), Phase::Stopped);
}

#[test]
fn l5_a_candidate_has_left_once_its_release_is_written() {
    let (mut rig, _, n1, request) = candidate();
    rig.hold_answers();
    rig.command(Command::Leave);
    let released = |message: &Message| matches!(message, Message::Release(release) if release.term == request.term);
    assert!(rig.messages(n1).iter().any(released));
    assert_eq!(phase(&rig), Phase::Leaving);
    assert!(rig.flush(n1));
    assert_eq!(phase(&rig), Phase::Stopped);
}

#[test]
fn l4_a_master_that_cannot_write_has_left_after_down_after() {
    let (mut rig, _, n1, request) = candidate();
    rig.receive(n1, Peer::vote(&request));
    rig.hold_answers();
    rig.command(Command::Leave);
    for _ in 0..3 {
        rig.advance(MS * 999);
        rig.receive(n1, Message::Ping.to_frame());
        assert_eq!(phase(&rig), Phase::Leaving);
    }
    rig.advance(MS * 2);
    assert_eq!(phase(&rig), Phase::Leaving);
    rig.advance(MS);
    assert_eq!(phase(&rig), Phase::Stopped);
}

/// The link falls silent 1 ms before the time for leaving is over. One late tick reports both.
#[test]
fn l5_a_node_stops_once_when_two_timers_are_late() {
    let config = Config::builder("test", "a", "a:1").seeds(["a:1", "b:1"]).build().unwrap();
    let mut rig = Rig::new(config.clone());
    rig.hold_answers();
    rig.now = rig.now + 10 * MS;
    rig.hello_from(&mut Peer::of(&config, "b", "b:1"));
    rig.now = rig.now + MS;
    rig.command(Command::Leave);
    assert_eq!(phase(&rig), Phase::Leaving);
    for _ in 0..7 {
        rig.now = rig.now + 500 * MS;
        rig.give(Input::Tick);
    }
    let stopped = rig.events().filter(|event| matches!(event, Event::Stopped { .. })).count();
    assert_eq!((phase(&rig), stopped), (Phase::Stopped, 1));
}
