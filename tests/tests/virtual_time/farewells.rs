//! Leaving: who has to hear of it first (PROTOCOL, "Members and views").

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use formation_core::{
    Command, Config, ConnId, Phase,
    message::{Message, VoteRequest},
};
use formation_tests::{Bench, Peer};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// The node n0 of the voters n0, n1 and n2, after `bootstrap_wait`.
fn voter() -> (Bench, Config) {
    let config = Config::builder("test", "n0", "h0:1").seeds(["h0:1", "h1:1", "h2:1"]).build().unwrap();
    let mut bench = Bench::new(config.clone());
    bench.advance(3 * SECOND);
    (bench, config)
}

fn comes(bench: &mut Bench, peer: &mut Peer, says: fn(&mut Peer) -> bytes::Bytes) -> ConnId {
    let conn = bench.accept();
    let said = [peer.hello(), says(peer)].concat();
    bench.receive(conn, said);
    conn
}

/// n0 stands, n1 is asked for its vote.
fn candidate() -> (Bench, Config, ConnId, VoteRequest) {
    let (mut bench, config) = voter();
    let conn = comes(&mut bench, &mut Peer::of(&config, "n1", "h1:1"), Peer::seeking);
    let asked = bench.messages(conn).into_iter().find_map(|message| match message {
        Message::VoteRequest(request) => Some(request),
        _ => None,
    });
    (bench, config, conn, asked.unwrap())
}

fn phase(bench: &Bench) -> Phase {
    bench.formation.status().phase
}

#[test]
fn a_node_without_a_link_has_left_at_once() {
    let (mut bench, _) = voter();
    bench.command(Command::Leave);
    assert_eq!(phase(&bench), Phase::Stopped);
}

#[test]
fn a_master_has_left_once_its_resignation_is_written_to_every_voter_and_the_next_has_confirmed_it() {
    let (mut bench, config, n1, asked) = candidate();
    bench.receive(n1, Peer::vote(&asked));
    let n2 = comes(&mut bench, &mut Peer::of(&config, "n2", "h2:1"), Peer::seeking);
    let member = comes(&mut bench, &mut Peer::of(&config, "j", "j:1"), Peer::seeking);
    assert_eq!((phase(&bench), bench.formation.view().len()), (Phase::Master, 4));
    for conn in [n1, n2, member] {
        bench.messages(conn);
    }
    bench.hold_answers();
    // Something else is in flight already.
    bench.command(Command::SetMetadata(bytes::Bytes::from_static(b"new")));
    bench.command(Command::Leave);
    let resigned = |bench: &mut Bench, conn| {
        bench
            .messages(conn)
            .iter()
            .any(|message| matches!(message, Message::Resign(resign) if resign.term == asked.term))
    };
    for conn in [n1, n2] {
        assert!(!resigned(&mut bench, conn));
        assert!(bench.flush(conn));
        assert!(resigned(&mut bench, conn));
    }
    assert_eq!(bench.formation.leadership(bench.now), None, "its host has heard it first");
    assert!(bench.flush(n1));
    assert_eq!(phase(&bench), Phase::Leaving);
    assert!(bench.flush(n2));
    assert_eq!(phase(&bench), Phase::Leaving, "that it is written is not enough");
    // The next master has taken it out of the view.
    let mut next = Peer::of(&config, "n1", "h1:1");
    let elected = [next.seeking(), next.master(2)].concat();
    bench.receive(n1, [elected.into(), Message::Leave.to_frame()].concat());
    assert_eq!(phase(&bench), Phase::Stopped);
}

#[test]
fn a_candidate_has_left_once_its_release_is_written() {
    let (mut bench, _, n1, asked) = candidate();
    bench.hold_answers();
    bench.command(Command::Leave);
    let released = |message: &Message| matches!(message, Message::Release(release) if release.term == asked.term);
    assert!(bench.messages(n1).iter().any(released));
    assert_eq!(phase(&bench), Phase::Leaving);
    assert!(bench.flush(n1));
    assert_eq!(phase(&bench), Phase::Stopped);
}

#[test]
fn a_master_whose_resignation_cannot_be_written_has_left_after_down_after() {
    let (mut bench, _, n1, asked) = candidate();
    bench.receive(n1, Peer::vote(&asked));
    bench.hold_answers();
    bench.command(Command::Leave);
    for _ in 0..3 {
        bench.advance(MS * 999);
        bench.receive(n1, Message::Ping.to_frame());
        assert_eq!(phase(&bench), Phase::Leaving);
    }
    bench.advance(MS * 2);
    assert_eq!(phase(&bench), Phase::Leaving);
    bench.advance(MS);
    assert_eq!(phase(&bench), Phase::Stopped);
}
