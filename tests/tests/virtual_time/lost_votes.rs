//! Two views with one view id (V9). If voters have forgotten their votes, G1 is lost, and two masters may have written
//! views with the same id. No node may confuse them (G5). The simulator found these cases.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use bytes::Bytes;
use formation_core::{
    Change, Config, ConnId, Input, RemovalReason, Term, ViewDigest, ViewId,
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

fn heartbeat(term: u64, number: u64) -> Bytes {
    Message::Heartbeat(Heartbeat { term: Term(term), number, lease: LEASE }).to_frame()
}

fn delta(base: ViewId, base_digest: Option<ViewDigest>, view_id: ViewId, changes: Vec<Change>) -> Bytes {
    Message::MembersUpdate(MembersUpdate::Delta { base, base_digest, view_id, changes }).to_frame()
}

fn link(rig: &mut Rig, peer: &mut Peer) -> ConnId {
    let conn = rig.accept();
    let hello = peer.hello();
    rig.receive(conn, hello);
    conn
}

/// The last acknowledgement of the node.
fn last_ack(rig: &mut Rig, conn: ConnId) -> HeartbeatAck {
    let acks = rig.messages(conn).into_iter().filter_map(|message| match message {
        Message::HeartbeatAck(ack) => Some(ack),
        _ => None,
    });
    acks.last().unwrap()
}

/// A node that holds a view of three members, written by `first` in term 1. It has lost this master and is linked to
/// `second`.
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

/// Found with seed 3292.
#[test]
fn v9_a_second_master_of_one_term_is_sent_to_the_next_term() {
    let (mut first, mut second) = peers();
    let (mut rig, conn) = orphaned(&mut first, &mut second);
    rig.receive(conn, second.master(1));
    rig.receive(conn, heartbeat(1, 1));
    assert_eq!(rig.formation.status().master, None);
    let ack = last_ack(&mut rig, conn);
    assert_eq!((ack.term, ack.confirms), (Term(2), false));
    rig.receive(conn, second.master(3));
    assert_eq!(rig.formation.status().master.unwrap().0, second.node);
}

/// The member then reports that it holds no view, and a snapshot repairs this. Found with seed 84.
#[test]
fn v9_a_delta_on_other_members_is_not_taken() {
    let (mut first, mut second) = peers();
    let (mut rig, conn) = orphaned(&mut first, &mut second);
    let removal = Change::Remove { id: first.node.id.clone(), reason: RemovalReason::Down };
    rig.receive(conn, second.master(2));
    rig.receive(conn, delta(view_id(1, 4), Some(ViewDigest([7; 16])), view_id(2, 1), vec![removal]));
    assert_eq!(rig.formation.view().id(), view_id(1, 4));
    rig.receive(conn, heartbeat(2, 1));
    assert_eq!(last_ack(&mut rig, conn).view_id, ViewId::default(), "the node reports that it holds no view");
    // A delta without a base is as good as a snapshot.
    let mut from_nothing = rig.clone();
    let all = delta(ViewId::default(), None, view_id(2, 1), vec![Change::Upsert(second.member())]);
    for (rig, update) in [(&mut rig, Peer::page(view_id(2, 1), vec![second.member()])), (&mut from_nothing, all)] {
        rig.receive(conn, update);
        assert!(rig.formation.view().iter().eq([&second.member()]), "{:?}", rig.formation.view());
        rig.receive(conn, heartbeat(2, 2));
        assert_eq!(last_ack(rig, conn).view_id, view_id(2, 1));
        rig.receive(conn, delta(view_id(2, 1), None, view_id(2, 2), vec![Change::Upsert(first.member())]));
        assert_eq!(rig.formation.view().len(), 2, "later deltas are taken");
    }
}

#[test]
fn v9_a_delta_on_the_same_members_is_taken() {
    let (mut first, mut second) = peers();
    let (mut rig, conn) = orphaned(&mut first, &mut second);
    let removal = Change::Remove { id: first.node.id.clone(), reason: RemovalReason::Down };
    rig.receive(conn, second.master(2));
    let digest = rig.formation.view().digest();
    rig.receive(conn, delta(view_id(1, 4), Some(digest), view_id(2, 1), vec![removal]));
    assert_eq!((rig.formation.view().id(), rig.formation.view().len()), (view_id(2, 1), 2));
}
