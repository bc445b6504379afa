//! The types that a service may show over HTTP, as JSON. Those who read it depend on these texts.

use std::time::Duration;

use formation_core::{Address, Event, Incarnation, Node, NodeId, StopReason, Term, Timestamp};
use serde::Serialize;

use crate::{LeaseTooShort, Master, PastEvent, Unfinished};

#[track_caller]
fn is_json(value: &impl Serialize, expected: &str) {
    assert_eq!(serde_json::to_string(value).unwrap(), expected);
}

#[test]
fn a_master_is_json() {
    let node = Node { id: NodeId::new("a").unwrap(), incarnation: Incarnation(7) };
    let master = Master::new(node, Address::new("a:1").unwrap(), Term(3));
    let text = r#"{"node":{"id":"a","incarnation":7},"address":"a:1","term":3}"#;
    is_json(&master, text);
    assert_eq!(serde_json::from_str::<Master>(text).unwrap(), master);
}

#[test]
fn a_past_event_is_json() {
    let event = Event::Stopped { reason: StopReason::Left };
    let past = PastEvent { number: 12, at: Timestamp::from_micros(1_500_000), event };
    let text = r#"{"number":12,"at":1500000,"event":{"Stopped":{"reason":"Left"}}}"#;
    is_json(&past, text);
    assert_eq!(serde_json::from_str::<PastEvent>(text).unwrap(), past);
}

#[test]
fn what_was_refused_or_not_finished_is_json() {
    let refused = LeaseTooShort { needed: Duration::from_secs(2), left: Duration::from_millis(500) };
    is_json(&refused, r#"{"needed":{"secs":2,"nanos":0},"left":{"secs":0,"nanos":500000000}}"#);
    is_json(&Unfinished { leave: true, write: false }, r#"{"leave":true,"write":false}"#);
}
