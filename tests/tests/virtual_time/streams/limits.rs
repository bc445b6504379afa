//! The limits of streams, each reached (S6, G7).

use std::time::Duration;

use formation_core::{Command, Config, Input, Limits, Misuse, Output, RejectReason, StreamName};
use formation_tests::{Peer, Rig};

use super::{
    open,
    refused::{master, refusal},
};

fn config(limits: Limits) -> Config {
    Config::single("test", "m", "m:1").limits(limits).build().unwrap()
}

/// A master, and the members `a` and `b`. Their links are gone, so streams need no tag.
fn with_members(limits: Limits) -> (Rig, Peer, Peer) {
    let mut rig = master(config(limits.clone()));
    let [a, b] = ["a", "b"].map(|id| {
        let mut peer = Peer::of(&config(limits.clone()), id, &format!("{id}:1"));
        let link = rig.joined_by(&mut peer);
        rig.give(Input::Closed { conn: link });
        peer
    });
    assert_eq!(rig.formation.view().len(), 3);
    (rig, a, b)
}

fn misuse(rig: &mut Rig, input: Input) -> Option<Misuse> {
    rig.formation.handle_input(rig.now, input).err()
}

fn taken(rig: &Rig) -> Vec<formation_core::ConnId> {
    let of = |output: &Output| if let Output::Handoff { conn, .. } = output { Some(*conn) } else { None };
    rig.outputs.iter().filter_map(of).collect()
}

#[test]
fn g7_s6_streams_have_a_limit_in_all() {
    let (mut rig, mut a, mut b) = with_members(Limits::new().with_streams(3));
    let full = Some(RejectReason::TooManyStreams);
    assert_eq!(refusal(&mut rig, a.stream_hello(b"kv", None)), None);
    assert_eq!(refusal(&mut rig, b.stream_hello(b"kv", None)), None);
    // Those that this node opens count from the command on.
    rig.command(open(1, a.node.clone()));
    assert_eq!(refusal(&mut rig, a.stream_hello(b"kv", None)), full);
    let too_many = Misuse::TooManyStreams { with: None, limit: 3 };
    assert_eq!(misuse(&mut rig, Input::Command(open(2, a.node.clone()))), Some(too_many.clone()));
    assert!(too_many.to_string().ends_with("raise Limits::streams"), "{too_many}");
    // One that has failed, or that its service has dropped, counts no more.
    rig.fail_dial("a:1");
    assert_eq!(refusal(&mut rig, a.stream_hello(b"kv", None)), None);
    assert_eq!(refusal(&mut rig, a.stream_hello(b"kv", None)), full);
    let conn = taken(&rig)[0];
    rig.give(Input::StreamEnded { conn });
    assert_eq!(refusal(&mut rig, a.stream_hello(b"kv", None)), None);
}

#[test]
fn g7_s6_streams_with_one_member_have_a_limit() {
    let (mut rig, mut a, mut b) = with_members(Limits::new().with_streams_per_member(2));
    assert_eq!(refusal(&mut rig, a.stream_hello(b"kv", None)), None);
    rig.command(open(1, a.node.clone()));
    assert_eq!(refusal(&mut rig, a.stream_hello(b"kv", None)), Some(RejectReason::TooManyStreams));
    let too_many = Misuse::TooManyStreams { with: Some(a.node.id.clone()), limit: 2 };
    assert_eq!(misuse(&mut rig, Input::Command(open(2, a.node.clone()))), Some(too_many.clone()));
    assert!(too_many.to_string().contains("with a; close some or raise Limits::streams_per_member"), "{too_many}");
    assert_eq!(refusal(&mut rig, b.stream_hello(b"kv", None)), None, "another member has its own");
}

/// A connection in its handshake counts, too.
#[test]
fn g7_s6_a_stream_counts_while_it_is_opened() {
    let (mut rig, a, _) = with_members(Limits::new().with_streams(1));
    rig.command(open(1, a.node.clone()));
    rig.answer("a:1");
    let too_many = Misuse::TooManyStreams { with: None, limit: 1 };
    assert_eq!(misuse(&mut rig, Input::Command(open(2, a.node))), Some(too_many));
}

#[test]
fn g7_s6_a_member_opens_only_so_many_streams_in_a_time() {
    let (mut rig, mut a, mut b) = with_members(Limits::new().with_stream_openings(4));
    let mut opens = |rig: &mut Rig| {
        let is_taken = refusal(rig, a.stream_hello(b"kv", None)).is_none();
        if let Some(conn) = taken(rig).last() {
            rig.give(Input::StreamEnded { conn: *conn });
        }
        is_taken
    };
    assert_eq!((0..10).filter(|_| opens(&mut rig)).count(), 4);
    assert_eq!(refusal(&mut rig, b.stream_hello(b"kv", None)), None, "another member has its own");
    rig.advance(rig.formation.config().timing().heartbeat_interval / 4 + Duration::from_micros(1));
    assert_eq!((0..10).filter(|_| opens(&mut rig)).count(), 1);
}

#[test]
fn g7_s5_the_names_have_a_limit() {
    let mut rig = master(config(Limits::new().with_stream_names(2)));
    let names = |count: usize| (0..count).map(|n| StreamName::new(n.to_string()).unwrap()).collect();
    assert_eq!(misuse(&mut rig, Input::Command(Command::ServeStreams(names(2)))), None);
    let too_many = Some(Misuse::TooManyStreamNames { count: 3, limit: 2 });
    assert_eq!(misuse(&mut rig, Input::Command(Command::ServeStreams(names(3)))), too_many);
}

/// All places for connections are taken, and all for pending ones.
#[test]
fn g7_s6_streams_take_no_place_of_a_connection() {
    let limits = Limits::new().with_connections(4).with_pending_connections(2);
    let (mut rig, mut a, _) = with_members(limits);
    rig.hold_answers();
    // They are accepted, and their last write is not flushed.
    let streams: Vec<_> = (0..20)
        .map(|_| {
            let conn = rig.accept();
            let hello = a.stream_hello(b"kv", None);
            rig.receive(conn, hello);
            conn
        })
        .collect();
    for stream in 1..=20 {
        rig.command(open(stream, a.node.clone()));
        rig.answer("a:1");
    }
    let (one, two) = (rig.accept(), rig.accept());
    for conn in streams.iter().chain([&one, &two]) {
        assert_eq!(rig.closed(*conn), None);
    }
    assert_eq!(rig.formation.status().pending_connections, 2);
}
