//! The sides of a split (E8): which members a solo master counts and admits, and when a node has changed sides. One
//! node on the test rig.

use formation_core::{ConnId, Incarnation, Input, MemberState};

use super::*;

/// The voter n0 of five as a solo master.
fn solo_master() -> Rig {
    let mut rig = Rig::new(Net::builder(0, 5).solo_after(AFTER).build().unwrap());
    rig.advance(AFTER);
    assert_eq!(rig.formation.status().phase, Phase::Solo);
    rig
}

fn peer(id: &str, address: &str) -> Peer {
    Peer::of(&Net::config(0, 5), id, address)
}

fn follows(master: &Peer) -> Role {
    Role::Follower { master: master.node.clone(), address: master.address.clone() }
}

/// The number of members in the last status of the node.
fn members(rig: &mut Rig, conn: ConnId) -> Option<u32> {
    let counted = |message: Message| match message {
        Message::Status(status) => match status.role {
            Role::Solo { members } => Some(members),
            _ => None,
        },
        _ => None,
    };
    rig.messages(conn).into_iter().filter_map(counted).last()
}

#[test]
fn e8_a_solo_master_does_not_count_followers_of_another() {
    let mut rig = solo_master();
    let (mut j, mut k, mut n1) = (peer("j", "j:1"), peer("k", "k:1"), peer("n1", "h1:1"));
    let ([to_j, to_k], to_n1) = ([&mut j, &mut k].map(|peer| rig.joined_by(peer)), rig.joined_by(&mut n1));
    assert_eq!(members(&mut rig, to_j), Some(4));
    let own = peer("n0", "h0:1");
    let own = Role::Follower { master: rig.formation.node().clone(), address: own.address };
    for (role, counted) in [(follows(&peer("x", "x:1")), 3), (own, 4)] {
        let status = j.status(1, role, ViewId::default());
        rig.receive(to_j, status);
        assert_eq!(members(&mut rig, to_j), Some(counted));
    }
    rig.give(Input::Closed { conn: to_k });
    assert_eq!(members(&mut rig, to_j), Some(3), "k is suspect");
    // n1 has fewer members and has to give way.
    let status = n1.status(1, Role::Solo { members: 1 }, ViewId::default());
    rig.receive(to_n1, status);
    assert_eq!(rig.formation.status().term, Term(2));
    assert_eq!(members(&mut rig, to_j), Some(2), "n1 is a master itself");
}

#[test]
fn e8_a_solo_master_admits_no_follower_of_another() {
    let mut rig = solo_master();
    let mut j = peer("j", "j:1");
    let conn = rig.hello_from(&mut j);
    for (role, admitted) in [(follows(&peer("x", "x:1")), false), (Role::Joining, true)] {
        let status = j.status(1, role, ViewId::default());
        rig.receive(conn, status);
        let accepted = rig.messages(conn).iter().any(|message| matches!(message, Message::JoinResponse(_)));
        assert_eq!((accepted, rig.formation.view().get(&j.node.id).is_some()), (admitted, admitted));
    }
}

/// What happens to n0, the solo master that the node follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Silent,
    GivesWay,
}

/// A node follows the solo master n0 and later n1. n0's view contains n1 as given. Returns whether the node reports
/// `Merged`.
fn changes_sides(end: End, n1_in_view: Option<(Incarnation, MemberState)>) -> bool {
    let mut rig = Rig::new(Net::builder(7, 5).solo_after(AFTER).build().unwrap());
    let (mut n0, mut n1) = (peer("n0", "h0:1"), peer("n1", "h1:1"));
    let conn = rig.answer("h0:1");
    let role = Role::Solo { members: 3 };
    let mut view = vec![n0.member()];
    if let Some((incarnation, state)) = n1_in_view {
        let mut listed = n1.member().with_state(state);
        listed.node.incarnation = incarnation;
        view.push(listed);
    }
    let status = n0.status(1, role, ViewId::default());
    let page = Peer::page(ViewId { term: Term(1), version: 1 }, view);
    rig.receive(conn, [n0.hello(), status, Peer::accepted(1), page].concat());
    assert_eq!(rig.formation.view().id().term, Term(1));
    if end == End::GivesWay {
        let status = n0.status(1, Role::Joining, ViewId::default());
        rig.receive(conn, status);
    }
    rig.advance(SECOND);
    assert_eq!(rig.formation.status().phase, Phase::Joining);
    let conn = rig.hello_from(&mut n1);
    let status = n1.status(2, Role::Solo { members: 1 }, ViewId::default());
    let page = Peer::page(ViewId { term: Term(2), version: 1 }, vec![n1.member()]);
    rig.receive(conn, [status, Peer::accepted(2), page].concat());
    assert_eq!(rig.formation.view().id().term, Term(2));
    rig.events().any(|event| matches!(event, Event::Merged { .. }))
}

#[test]
fn e8_a_successor_from_the_same_view_is_on_the_same_side() {
    use MemberState::{Active, Suspect};
    let n1 = peer("n1", "h1:1").node.incarnation;
    assert!(!changes_sides(End::Silent, Some((n1, Active))), "n1 succeeds n0 on the same side");
    assert!(changes_sides(End::GivesWay, Some((n1, Active))), "n1 has won over n0");
    assert!(changes_sides(End::Silent, Some((n1, Suspect))), "n1 was away");
    assert!(changes_sides(End::Silent, Some((Incarnation(1), Active))), "only an earlier run of n1 was a member");
    assert!(changes_sides(End::Silent, None), "n1 was not a member");
}
