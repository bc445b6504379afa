//! What errors say.

use formation_core::{CloseReason, Misuse};

#[test]
fn not_persisting_names_the_persist_in_flight() {
    let text = |in_flight| Misuse::NotPersisting { seq: 4, in_flight }.to_string();
    assert_eq!(text(Some(3)), "Persist 4 is not in flight, but Persist 3 is; answer each Output::Persist once");
    assert_eq!(text(None), "Persist 4 is not in flight, and no other is; answer each Output::Persist once");
}

/// The peer that repeats the messages of a node is another node.
#[test]
fn i8_a_self_dial_and_an_echo_have_one_close_reason() {
    let text = CloseReason::SelfDial.to_string();
    assert_eq!(text, "the connection leads back to this node, or the peer repeats its messages");
}
