//! Misuse by the embedder: each case has its own error and leaves the state of the node unchanged.

use bytes::Bytes;
use formation_core::{
    Config, ConnId, DialId, DialProblem, Formation, Incarnation, Input, Misuse, Origin, Output, Remote, Start,
    Timestamp,
};

fn started(config: Config) -> Formation {
    Formation::new(config, Start::new(Incarnation(1), 1), Timestamp::ZERO)
}

/// A node that is alone in its cluster, so that it dials nobody.
fn single() -> Formation {
    started(Config::single("test", "m", "m:1").build().expect("a valid configuration"))
}

#[track_caller]
fn is_misuse(node: &mut Formation, input: Input, misuse: Misuse) {
    let before = node.clone();
    assert_eq!(node.handle_input(Timestamp::from_micros(9), input), Err(misuse));
    assert_eq!(*node, before);
}

fn give(node: &mut Formation, input: Input) {
    node.handle_input(Timestamp::ZERO, input).expect("no misuse");
}

fn received(conn: ConnId) -> Input {
    Input::Received { conn, chunk: Bytes::new() }
}

#[test]
fn an_input_about_an_unknown_connection_is_misuse() {
    let mut node = single();
    let certified = |conn| Input::Certified { conn, seeds: Default::default() };
    let inputs = |conn| [received(conn), certified(conn), Input::Flushed { conn }, Input::Closed { conn }];
    for input in inputs(ConnId(5)) {
        is_misuse(&mut node, input, Misuse::UnknownConn(ConnId(5)));
    }
    give(&mut node, Input::Opened { conn: ConnId(5), origin: Origin::Accepted, remote: Remote::default() });
    for input in inputs(ConnId(6)) {
        is_misuse(&mut node, input, Misuse::UnknownConn(ConnId(6)));
    }
    // For a connection that the node may have closed already, these inputs are not misuse.
    for input in [received(ConnId(5)), Input::Closed { conn: ConnId(5) }, received(ConnId(5)), certified(ConnId(5))] {
        give(&mut node, input);
    }
}

#[test]
fn a_connection_id_that_is_not_the_largest_so_far_is_misuse() {
    let mut node = single();
    let opened = |conn| Input::Opened { conn: ConnId(conn), origin: Origin::Accepted, remote: Remote::default() };
    give(&mut node, opened(5));
    for conn in [4, 5] {
        is_misuse(&mut node, opened(conn), Misuse::ReusedConn { conn: ConnId(conn), newest: ConnId(5) });
    }
    give(&mut node, opened(6));
}

#[test]
fn the_result_of_an_unknown_dial_is_misuse() {
    let mut node =
        started(Config::builder("test", "a", "a:1").seeds(["a:1", "b:1"]).build().expect("a valid configuration"));
    for dial in [0, 2].map(DialId) {
        is_misuse(&mut node, Input::DialFailed { dial, problem: DialProblem::Refused }, Misuse::UnknownDial(dial));
        let opened = Input::Opened { conn: ConnId(1), origin: Origin::Dialed(dial), remote: Remote::default() };
        is_misuse(&mut node, opened, Misuse::UnknownDial(dial));
    }
    give(&mut node, Input::DialFailed { dial: DialId(1), problem: DialProblem::Refused });
}

#[test]
fn a_second_flush_of_a_send_is_misuse() {
    let mut node =
        started(Config::builder("test", "a", "a:1").seeds(["a:1", "b:1"]).build().expect("a valid configuration"));
    let conn = ConnId(1);
    give(&mut node, Input::Opened { conn, origin: Origin::Dialed(DialId(1)), remote: Remote::default() });
    let sent = core::iter::from_fn(|| node.poll_output()).any(|output| matches!(output, Output::Send { .. }));
    assert!(sent, "the dialing node sends first");
    give(&mut node, Input::Flushed { conn });
    is_misuse(&mut node, Input::Flushed { conn }, Misuse::NotInFlight(conn));
}

#[test]
fn e4_a_persist_is_answered_once_and_by_its_number() {
    let mut node = single();
    for (in_flight, numbers) in [(Some(1), [0, 2]), (Some(2), [1, 3]), (None, [2, 3])] {
        for seq in numbers {
            let misuse = Misuse::NotPersisting { seq, in_flight };
            is_misuse(&mut node, Input::Persisted { seq }, misuse.clone());
            is_misuse(&mut node, Input::PersistFailed { seq }, misuse);
        }
        // First its vote for itself, then that it has joined a cluster.
        if let Some(seq) = in_flight {
            give(&mut node, Input::Persisted { seq });
        }
    }
}
