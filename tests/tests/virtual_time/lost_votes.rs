//! Where voters have forgotten their votes, two masters may have written views of one view id (G1 is lost). Nobody takes one
//! for the other (G5). Found by the simulator.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use bytes::Bytes;
use formation_core::{
    Change, Config, ConnId, Input, Node, RemovalReason, Term, ViewId,
    message::{Heartbeat, HeartbeatAck, MembersUpdate, Message},
};
use formation_tests::{Net, Peer, Rig};

const LEASE: Duration = Duration::from_secs(1);

fn config() -> Config {
    Net::config(0, 3)
}

fn view_id(term: u64, version: u64) -> ViewId {
    ViewId { term: Term(term), version }
}

fn beat(term: u64, number: u64) -> Bytes {
    Message::Heartbeat(Heartbeat { term: Term(term), number, lease: LEASE }).to_frame()
}

fn delta(base: ViewId, base_by: Option<&Node>, view_id: ViewId, changes: Vec<Change>) -> Bytes {
    Message::MembersUpdate(MembersUpdate::Delta { base, base_by: base_by.cloned(), view_id, changes }).to_frame()
}

fn link(rig: &mut Rig, peer: &mut Peer) -> ConnId {
    let conn = rig.accept();
    let hello = peer.hello();
    rig.receive(conn, hello);
    conn
}

/// What the node said that it holds, in its last acknowledgement.
fn acked(rig: &mut Rig, conn: ConnId) -> HeartbeatAck {
    let acks = rig.messages(conn).into_iter().filter_map(|message| match message {
        Message::HeartbeatAck(ack) => Some(ack),
        _ => None,
    });
    acks.last().unwrap()
}

/// A node that holds a view of three, written by `first` in term 1, and is linked to `second`, whose master it lost.
fn orphaned(first: &mut Peer, second: &mut Peer) -> (Rig, ConnId) {
    let mut rig = Rig::new(config());
    let conn = link(&mut rig, first);
    let mut me = Peer::of(&config(), "n0", "h0:1");
    me.node = rig.formation.node().clone();
    let members = vec![me.member(), first.member(), second.member()];
    rig.receive(conn, first.master(1));
    rig.receive(conn, Peer::page(view_id(1, 4), members));
    assert_eq!(rig.formation.view().id(), view_id(1, 4));
    let other = link(&mut rig, second);
    rig.give(Input::Closed { conn });
    rig.advance(LEASE);
    assert_eq!(rig.formation.status().master, None);
    (rig, other)
}

fn peers() -> (Peer, Peer) {
    (Peer::of(&config(), "n1", "h1:1"), Peer::of(&config(), "n2", "h2:1"))
}

/// Seed 3292.
#[test]
fn v9_a_second_master_of_one_term_is_sent_to_the_next_term() {
    let (mut first, mut second) = peers();
    let (mut rig, conn) = orphaned(&mut first, &mut second);
    rig.receive(conn, second.master(1));
    rig.receive(conn, beat(1, 1));
    assert_eq!(rig.formation.status().master, None);
    let ack = acked(&mut rig, conn);
    assert_eq!((ack.term, ack.confirms), (Term(2), false));
    rig.receive(conn, second.master(3));
    assert_eq!(rig.formation.status().master.unwrap().0, second.node);
}

/// Seed 84.
#[test]
fn v9_a_delta_on_the_view_of_another_writer_is_not_taken() {
    let (mut first, mut second) = peers();
    let (mut rig, conn) = orphaned(&mut first, &mut second);
    let gone = Change::Remove { id: first.node.id.clone(), reason: RemovalReason::Down };
    rig.receive(conn, second.master(2));
    rig.receive(conn, delta(view_id(1, 4), Some(&second.node), view_id(2, 1), vec![gone]));
    assert_eq!(rig.formation.view().id(), view_id(1, 4));
    rig.receive(conn, beat(2, 1));
    assert_eq!(acked(&mut rig, conn).view_id, ViewId::default(), "it holds nothing of use");
    // A delta from the beginning is as good as a snapshot.
    let mut from_nothing = rig.clone();
    let all = delta(ViewId::default(), None, view_id(2, 1), vec![Change::Upsert(second.member())]);
    for (rig, update) in [(&mut rig, Peer::page(view_id(2, 1), vec![second.member()])), (&mut from_nothing, all)] {
        rig.receive(conn, update);
        assert!(rig.formation.view().iter().eq([&second.member()]), "{:?}", rig.formation.view());
        rig.receive(conn, beat(2, 2));
        assert_eq!(acked(rig, conn).view_id, view_id(2, 1));
        rig.receive(conn, delta(view_id(2, 1), None, view_id(2, 2), vec![Change::Upsert(first.member())]));
        assert_eq!(rig.formation.view().len(), 2, "deltas follow");
    }
}

#[test]
fn v9_a_delta_on_the_view_of_the_last_master_is_taken() {
    let (mut first, mut second) = peers();
    let (mut rig, conn) = orphaned(&mut first, &mut second);
    let gone = Change::Remove { id: first.node.id.clone(), reason: RemovalReason::Down };
    rig.receive(conn, second.master(2));
    rig.receive(conn, delta(view_id(1, 4), Some(&first.node), view_id(2, 1), vec![gone]));
    assert_eq!((rig.formation.view().id(), rig.formation.view().len()), (view_id(2, 1), 2));
}
