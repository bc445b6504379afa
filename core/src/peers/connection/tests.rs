//! What a frame is in the states of a connection.

use super::*;
use crate::{
    api::config::Config,
    id::{DialId, Incarnation, Node, NodeId},
};
use alloc::vec::Vec;

fn env() -> Env {
    let config = Config::single("test", "a", "a:1").build().unwrap();
    let me = Node { id: NodeId::new("a").unwrap(), incarnation: Incarnation(1) };
    Env::new(config, me, Timestamp::ZERO)
}

fn classified(state: ConnectionState, message: &Message) -> Received {
    let voting = Voting::of(&env().config);
    let opened = (Origin::Dialed(DialId(1)), None, Remote::default());
    let mut connection = Connection::new(opened, ([0; 16], voting), Timestamp::ZERO);
    connection.state = state;
    let body = message.to_frame().slice(4..);
    connection.classify(&env(), body)
}

#[test]
fn h4_a_message_newer_than_its_link_is_malformed() {
    for (version, is_malformed) in [(0, true), (1, false)] {
        let link = Link::new(PeerKey(1), version, Bytes::new(), Vec::new());
        let is =
            classified(ConnectionState::Established(link), &Message::Ping) == Received::Fault(CloseReason::Malformed);
        assert_eq!(is, is_malformed, "on a link of version {version}");
    }
}

#[test]
fn the_first_message_on_a_link_confirms_it() {
    let link = Link::new(PeerKey(1), 1, Bytes::new(), Vec::new());
    let received = classified(ConnectionState::Established(link), &Message::Ping);
    assert_eq!(received, Received::Message { peer: PeerKey(1), confirms: true, message: Message::Ping });
}
