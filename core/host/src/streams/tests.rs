use formation_core::{Config, Formation, Incarnation, NodeId, Start, Timestamp};
use futures_lite::{
    StreamExt,
    future::{block_on, poll_once},
};

use super::*;
use crate::{clock::Clock, shared::Publisher};

/// It receives the notices of drops.
fn notifier() -> (Notifier, Receiver<Notice>) {
    let (sender, notices) = channel::unbounded();
    (Arc::new(move |notice| drop(sender.try_send(notice))), notices)
}

fn shared() -> (Publisher, Arc<Shared>) {
    let config = Config::single("test", "a", "a:1").build().unwrap();
    let node = Formation::new(config, Start::new(Incarnation(1), 1), Timestamp::ZERO);
    let (publisher, shared, _) = Publisher::new(&node, Clock::start());
    (publisher, shared)
}

fn peer() -> Node {
    Node { id: NodeId::new("b").unwrap(), incarnation: Incarnation(1) }
}

fn kv() -> StreamName {
    StreamName::new("kv").unwrap()
}

fn chunk(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

/// Hands a connection off, with these bytes, and gives it to the application.
fn hand_off(registry: &mut Registry<()>, (conn, stream): (ConnId, Option<StreamId>), notifier: &Notifier) -> Publisher {
    let (publisher, shared) = shared();
    registry.hand_off(conn, (), (stream, peer(), kv(), chunk("un")));
    assert!(registry.is_handing(conn));
    registry.read(conn, chunk(""));
    registry.read(conn, chunk("read"));
    registry.give(conn, Box::new(5_u8), (shared, notifier.clone()));
    assert!(!registry.is_handing(conn));
    publisher
}

#[test]
fn s7_what_was_read_meanwhile_comes_behind_the_unread_bytes() {
    let ((notifier, notices), mut registry) = (notifier(), Registry::<()>::default());
    let (reply, result) = channel::bounded(1);
    let stream = registry.wait(reply);
    let _publisher = hand_off(&mut registry, (ConnId(1), Some(stream)), &notifier);
    let Handoff { io, unread, peer: with } = result.try_recv().unwrap().unwrap();
    assert_eq!((&unread[..], *io.downcast::<u8>().unwrap()), (&b"unread"[..], 5));
    assert_eq!((with.peer(), with.name()), (&peer(), &kv()));
    assert!(notices.is_empty());
    drop(with);
    assert!(matches!(notices.try_recv(), Ok(Notice::StreamEnded(ConnId(1)))));
}

#[test]
fn a_stream_that_nobody_waits_for_is_dropped_and_reported() {
    let ((notifier, notices), mut registry) = (notifier(), Registry::<()>::default());
    let (reply, result) = channel::bounded(1);
    let stream = registry.wait(reply);
    drop(result);
    let _opened = hand_off(&mut registry, (ConnId(1), Some(stream)), &notifier);
    assert!(matches!(notices.try_recv(), Ok(Notice::StreamEnded(ConnId(1)))));
    let _accepted = hand_off(&mut registry, (ConnId(2), None), &notifier);
    assert!(matches!(notices.try_recv(), Ok(Notice::StreamEnded(ConnId(2)))));
}

#[test]
fn a_name_is_served_until_its_incoming_is_dropped() {
    let ((notifier, notices), mut registry) = (notifier(), Registry::<()>::default());
    let served = registry.serve(kv(), notifier.clone());
    assert!(registry.is_taken(&kv()) && !registry.not_served(&kv()));
    let mut incoming = Incoming { served, make: |handoff| handoff.unread, made: PhantomData };
    let _publisher = hand_off(&mut registry, (ConnId(1), None), &notifier);
    assert_eq!(block_on(incoming.next()), Some(chunk("unread")));
    assert_eq!(block_on(poll_once(incoming.accept())), None);
    assert!(matches!(notices.try_recv(), Ok(Notice::StreamEnded(ConnId(1)))));
    drop(incoming);
    assert!(matches!(notices.try_recv(), Ok(Notice::NotServed(name)) if name == kv()));
    // It may be served again before the driver knows.
    let again = registry.serve(kv(), notifier);
    assert!(!registry.not_served(&kv()), "the notice is late");
    drop(again);
    assert!(registry.not_served(&kv()));
    assert_eq!(registry.names().count(), 0);
}

#[test]
fn a_connection_that_is_lost_fails_its_opening() {
    let mut registry = Registry::<()>::default();
    let (reply, result) = channel::bounded(1);
    let stream = registry.wait(reply);
    registry.hand_off(ConnId(1), (), (Some(stream), peer(), kv(), Bytes::new()));
    assert!(registry.lost(ConnId(1)) && !registry.lost(ConnId(1)));
    assert_eq!(result.try_recv().unwrap().unwrap_err(), OpenError::Failed(StreamFailure::Ended));
}
