//! Attacks of a compromised master on the identity of honest nodes, by what it writes into its view.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use bytes::Bytes;
use formation_core::{Address, Incarnation, Member, MemberState, Node, NodeId, Term, ViewId, message::Message};
use formation_tests::{Net, Peer, Rig};

fn at(id: &str, address: &str) -> Member {
    let node = Node { id: NodeId::new(id).unwrap(), incarnation: Incarnation(1) };
    let address = Address::new(address).unwrap();
    Member { node, address, state: MemberState::Active, metadata: Bytes::new() }
}

/// The view of a compromised master says that the voter n1 is at the address of another voter. Two such rejections would stop n1 (I5).
#[test]
fn t3_i3_a_view_gives_no_id_to_the_address_of_another_voter() {
    for false_address in ["h0:1", "h2:1"] {
        let config = Net::builder(0, 3).build().unwrap();
        let mut rig = Rig::new(config.clone());
        let (mut hostile, mut voter) = (Peer::of(&config, "n2", "h2:1"), Peer::of(&config, "n1", "h1:1"));
        let conn = rig.hello_from(&mut hostile);
        rig.receive(conn, hostile.master(1));
        rig.receive(conn, Peer::accepted(1));
        let view_id = ViewId { term: Term(1), version: 1 };
        rig.receive(conn, Peer::page(view_id, vec![at("n0", "h0:1"), at("n1", false_address)]));
        assert_eq!(rig.formation.view().id(), view_id, "the false view is taken");
        let conn = rig.answer("h1:1");
        let hello = voter.hello();
        rig.receive(conn, hello);
        let is_rejected = rig.messages(conn).iter().any(|message| matches!(message, Message::Rejected(_)));
        assert!(!is_rejected, "the voter is rejected: {false_address}");
    }
}
