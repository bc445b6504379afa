//! `JoinResponse` and `MembersUpdate` in one chunk (H2). An earlier design lost the second frame; this shaped the
//! protocol.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use bytes::Bytes;
use formation_core::{Address, ConnId, Term, ViewId};
use formation_tests::{Net, Peer, Rig};

const VIEW_ID: ViewId = ViewId { term: Term(1), version: 2 };

/// A joining node that has dialed the master, the handshake of the master, and the two frames that the master
/// pipelines.
fn joining() -> (Rig, ConnId, Bytes, Bytes) {
    let config = Net::config(1, 3);
    let mut master = Peer::of(&config, "n0", "h0:1");
    let mut rig = Rig::new(config);
    let conn = rig.answer("h0:1");
    rig.messages(conn);
    // The time of a flush is an input too. Here it always comes after the last piece.
    rig.hold_answers();
    let handshake: Bytes = [master.hello(), master.master(1)].concat().into();
    let mut joiner = master.member();
    joiner.node = rig.formation.node().clone();
    joiner.address = Address::new("h1:1").unwrap();
    let admission: Bytes = [Peer::accepted(1), Peer::page(VIEW_ID, vec![master.member(), joiner])].concat().into();
    (rig, conn, handshake, admission)
}

fn feed(mut rig: Rig, conn: ConnId, pieces: &[&[u8]]) -> Rig {
    for piece in pieces {
        rig.receive(conn, Bytes::copy_from_slice(piece));
    }
    while rig.flush(conn) {}
    rig
}

fn assert_joined(rig: &Rig) {
    let view = rig.formation.view();
    assert_eq!(view.id(), VIEW_ID);
    let ids: Vec<_> = view.iter().map(|m| m.node.id.to_string()).collect();
    assert_eq!(ids, ["n0", "n1"]);
    assert_eq!(rig.formation.status().master.unwrap().0.id.as_str(), "n0");
}

fn assert_same(cut: &Rig, whole: &Rig, how: &str) {
    assert_eq!(cut.outputs, whole.outputs, "{how}");
    assert_eq!(cut.formation, whole.formation, "{how}");
}

/// The regression test for the bug, and G4.
#[test]
fn h2_a_view_right_after_the_response_is_kept_in_every_cut() {
    let (mut rig, conn, handshake, admission) = joining();
    rig.receive(conn, handshake);
    rig.flush(conn);
    let whole = feed(rig.clone(), conn, &[&admission]);
    assert_joined(&whole);
    for one in 0..=admission.len() {
        let (head, tail) = admission.split_at(one);
        let cut = feed(rig.clone(), conn, &[head, tail].into_iter().filter(|p| !p.is_empty()).collect::<Vec<_>>());
        assert_same(&cut, &whole, &format!("cut at {one}"));
        for two in one + 1..admission.len() {
            let (middle, end) = tail.split_at(two - one);
            if !head.is_empty() {
                let cut = feed(rig.clone(), conn, &[head, middle, end]);
                assert_same(&cut, &whole, &format!("cut at {one} and {two}"));
            }
        }
    }
    let bytes: Vec<&[u8]> = admission.chunks(1).collect();
    assert_same(&feed(rig, conn, &bytes), &whole, "byte by byte");
}

/// G4: the handshake may share a chunk with what follows it.
#[test]
fn h2_handshake_admission_and_view_may_share_one_chunk() {
    let (rig, conn, handshake, admission) = joining();
    let all = [handshake, admission].concat();
    let whole = feed(rig.clone(), conn, &[&all]);
    assert_joined(&whole);
    for at in 1..all.len() {
        let cut = feed(rig.clone(), conn, &[&all[..at], &all[at..]]);
        assert_same(&cut, &whole, &format!("cut at {at}"));
    }
    let bytes: Vec<&[u8]> = all.chunks(1).collect();
    assert_same(&feed(rig, conn, &bytes), &whole, "byte by byte");
}

/// The state of the decoder is compared too: an unfinished frame after the view has no effect.
#[test]
fn h2_the_start_of_the_next_frame_may_share_the_chunk() {
    let (mut rig, conn, handshake, admission) = joining();
    rig.receive(conn, handshake);
    rig.flush(conn);
    let next = formation_core::message::Message::Ping.to_frame();
    for part in 0..=next.len() {
        let joined = feed(rig.clone(), conn, &[&[&admission[..], &next[..part]].concat()]);
        assert_joined(&joined);
        let pieces: Vec<&[u8]> = [&admission[..], &next[..part]].into_iter().filter(|p| !p.is_empty()).collect();
        let apart = feed(rig.clone(), conn, &pieces);
        assert_same(&joined, &apart, &format!("{part} bytes of the next frame"));
    }
}
