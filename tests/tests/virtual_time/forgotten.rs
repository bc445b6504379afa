//! Where voters have forgotten their votes, two masters may have written views of one epoch (G1 is lost). Nobody takes one
//! for the other (G5). Found by the simulator.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use bytes::Bytes;
use formation_core::{
    Change, Config, ConnId, Epoch, Input, Node, RemovalReason, Term,
    message::{Heartbeat, HeartbeatAck, MembersUpdate, Message},
};
use formation_tests::{Bench, Net, Peer};

const LEASE: Duration = Duration::from_secs(1);

fn config() -> Config {
    Net::config(0, 3)
}

fn epoch(term: u64, version: u64) -> Epoch {
    Epoch { term: Term(term), version }
}

fn beat(term: u64, number: u64) -> Bytes {
    Message::Heartbeat(Heartbeat { term: Term(term), number, lease: LEASE }).to_frame()
}

fn delta(base: Epoch, base_by: Option<&Node>, epoch: Epoch, changes: Vec<Change>) -> Bytes {
    Message::MembersUpdate(MembersUpdate::Delta { base, base_by: base_by.cloned(), epoch, changes }).to_frame()
}

fn link(bench: &mut Bench, peer: &mut Peer) -> ConnId {
    let conn = bench.accept();
    let hello = peer.hello();
    bench.receive(conn, hello);
    conn
}

/// What the node said that it holds, in its last acknowledgement.
fn acked(bench: &mut Bench, conn: ConnId) -> HeartbeatAck {
    let acks = bench.messages(conn).into_iter().filter_map(|message| match message {
        Message::HeartbeatAck(ack) => Some(ack),
        _ => None,
    });
    acks.last().unwrap()
}

/// A node that holds a view of three, written by `first` in term 1, and is linked to `second`, whose master it lost.
fn orphaned(first: &mut Peer, second: &mut Peer) -> (Bench, ConnId) {
    let mut bench = Bench::new(config());
    let conn = link(&mut bench, first);
    let mut me = Peer::of(&config(), "n0", "h0:1");
    me.node = bench.formation.node().clone();
    let members = vec![me.member(), first.member(), second.member()];
    bench.receive(conn, first.master(1));
    bench.receive(conn, Peer::page(epoch(1, 4), members));
    assert_eq!(bench.formation.view().epoch(), epoch(1, 4));
    let other = link(&mut bench, second);
    bench.give(Input::Closed { conn });
    bench.advance(LEASE);
    assert_eq!(bench.formation.status().master, None);
    (bench, other)
}

fn peers() -> (Peer, Peer) {
    (Peer::of(&config(), "n1", "h1:1"), Peer::of(&config(), "n2", "h2:1"))
}

/// Seed 3292.
#[test]
fn a_second_master_of_one_term_is_not_followed_and_is_told_of_the_next() {
    let (mut first, mut second) = peers();
    let (mut bench, conn) = orphaned(&mut first, &mut second);
    bench.receive(conn, second.master(1));
    bench.receive(conn, beat(1, 1));
    assert_eq!(bench.formation.status().master, None);
    let ack = acked(&mut bench, conn);
    assert_eq!((ack.term, ack.confirms), (Term(2), false));
    bench.receive(conn, second.master(3));
    assert_eq!(bench.formation.status().master.unwrap().0, second.node);
}

/// Seed 84.
#[test]
fn a_delta_on_somebody_elses_view_of_the_same_epoch_is_not_taken_and_a_snapshot_mends_it() {
    let (mut first, mut second) = peers();
    let (mut bench, conn) = orphaned(&mut first, &mut second);
    let gone = Change::Remove { id: first.node.id.clone(), reason: RemovalReason::Down };
    bench.receive(conn, second.master(2));
    bench.receive(conn, delta(epoch(1, 4), Some(&second.node), epoch(2, 1), vec![gone]));
    assert_eq!(bench.formation.view().epoch(), epoch(1, 4));
    bench.receive(conn, beat(2, 1));
    assert_eq!(acked(&mut bench, conn).epoch, Epoch::default(), "it holds nothing of use");
    // A delta from the beginning is as good as a snapshot.
    let mut from_nothing = bench.clone();
    let all = delta(Epoch::default(), None, epoch(2, 1), vec![Change::Upsert(second.member())]);
    for (bench, update) in [(&mut bench, Peer::page(epoch(2, 1), vec![second.member()])), (&mut from_nothing, all)] {
        bench.receive(conn, update);
        assert!(bench.formation.view().iter().eq([&second.member()]), "{:?}", bench.formation.view());
        bench.receive(conn, beat(2, 2));
        assert_eq!(acked(bench, conn).epoch, epoch(2, 1));
        bench.receive(conn, delta(epoch(2, 1), None, epoch(2, 2), vec![Change::Upsert(first.member())]));
        assert_eq!(bench.formation.view().len(), 2, "deltas follow");
    }
}

#[test]
fn a_delta_on_a_view_of_the_last_master_is_taken_from_the_next() {
    let (mut first, mut second) = peers();
    let (mut bench, conn) = orphaned(&mut first, &mut second);
    let gone = Change::Remove { id: first.node.id.clone(), reason: RemovalReason::Down };
    bench.receive(conn, second.master(2));
    bench.receive(conn, delta(epoch(1, 4), Some(&first.node), epoch(2, 1), vec![gone]));
    assert_eq!((bench.formation.view().epoch(), bench.formation.view().len()), (epoch(2, 1), 2));
}
