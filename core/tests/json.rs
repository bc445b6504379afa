//! The types that a service may show over HTTP, as JSON. Those who read it depend on these texts.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::fmt::Debug;

use formation_core::{
    Address, Change, CloseReason, Config, DialProblem, Event, Fence, Formation, Incarnation, Input, LossReason, Member,
    MemberState, Node, NodeId, Output, RejectReason, RemovalReason, Start, StopReason, Term, Timestamp, TlsFailure,
    TlsProblem,
};
use serde::{Serialize, de::DeserializeOwned};

#[track_caller]
fn is_json(value: &impl Serialize, expected: &str) {
    assert_eq!(serde_json::to_string(value).unwrap(), expected);
}

/// It is read again as the same value.
#[track_caller]
fn is_read_from_json<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T, expected: &str) {
    is_json(value, expected);
    assert_eq!(serde_json::from_str::<T>(expected).unwrap(), *value);
}

fn node(id: &str) -> Node {
    Node { id: NodeId::new(id).unwrap(), incarnation: Incarnation(7) }
}

/// A node that is alone, and the master.
fn single() -> Formation {
    let config = Config::single("test", "a", "a:1").build().unwrap();
    let mut formation = Formation::new(config, Start::new(Incarnation(7), 1), Timestamp::ZERO);
    while let Some(output) = formation.poll_output() {
        if let Output::Persist { seq, .. } = output {
            formation.handle_input(Timestamp::ZERO, Input::Persisted { seq }).unwrap();
        }
    }
    formation
}

#[test]
fn the_state_of_a_node_is_json() {
    let single = single();
    is_read_from_json(
        &single.status(),
        concat!(
            r#"{"phase":"Master","term":1,"master":[{"id":"a","incarnation":7},"a:1"],"master_term":1,"can_vote":true,"#,
            r#""storage":"Idle","links":0,"pending_connections":0,"partial_bytes":0,"#,
            r#""counters":{"bytes_sent":0,"bytes_received":0,"frames_received":0,"candidacies":1}}"#
        ),
    );
    is_read_from_json(&single.leadership(Timestamp::ZERO).unwrap(), r#"{"term":1,"valid_until":990000}"#);
    is_json(
        single.view(),
        concat!(
            r#"{"view_id":{"term":1,"version":1},"members":[{"node":{"id":"a","incarnation":7},"address":"a:1","#,
            r#""state":"Active","metadata":""}]}"#
        ),
    );
    is_json(
        &single.explain(),
        concat!(
            r#"{"node":{"id":"a","incarnation":7},"address":"a:1","phase":"Master","term":1,"master":[{"id":"a","#,
            r#""incarnation":7},"a:1"],"no_master":null,"voters":[{"address":"a:1","node":{"id":"a","incarnation":7},"#,
            r#""role":"Master","abstains":false,"problem":null,"dialed_again_in":null}],"quorum":1,"#,
            r#""electorate":{"term":0,"number":0},"target":null,"waits_for":null,"autopilot":null,"promise":[{"id":"a","#,
            r#""incarnation":7},{"secs":1,"nanos":0}],"storage":"Idle","without_master":[],"view_id":{"term":1,"#,
            r#""version":1},"members":[]}"#
        ),
    );
}

#[test]
fn a_member_and_its_changes_are_json() {
    let member = Member::new(node("a"), Address::new("a:1").unwrap()).with_state(MemberState::Suspect);
    let member = member.with_metadata("role=worker");
    is_read_from_json(
        &member,
        r#"{"node":{"id":"a","incarnation":7},"address":"a:1","state":"Suspect","metadata":"role=worker"}"#,
    );
    is_json(&member.tags().unwrap(), r#"{"role":"worker"}"#);
    let removed = Change::Remove { id: NodeId::new("b").unwrap(), reason: RemovalReason::Left };
    is_read_from_json(
        &[Change::Upsert(member), removed],
        concat!(
            r#"[{"Upsert":{"node":{"id":"a","incarnation":7},"address":"a:1","state":"Suspect","#,
            r#""metadata":"role=worker"}},{"Remove":{"id":"b","reason":"Left"}}]"#
        ),
    );
}

#[test]
fn an_event_is_json() {
    let master = node("a");
    for (event, severity, expected) in [
        (
            Event::MasterLost { term: Term(3), master, reason: LossReason::Silent },
            r#""Problem""#,
            r#"{"MasterLost":{"term":3,"master":{"id":"a","incarnation":7},"reason":"Silent"}}"#,
        ),
        (Event::Stopped { reason: StopReason::Left }, r#""Progress""#, r#"{"Stopped":{"reason":"Left"}}"#),
        (
            Event::Unlinked { node: node("b"), reason: None, peer_addr: None },
            r#""Detail""#,
            r#"{"Unlinked":{"node":{"id":"b","incarnation":7},"reason":null,"peer_addr":null}}"#,
        ),
    ] {
        is_read_from_json(&event, expected);
        is_read_from_json(&event.severity(), severity);
    }
}

#[test]
fn a_fence_and_what_it_refuses_are_json() {
    let mut fence = Fence::default();
    fence.admit(Term(4)).unwrap();
    is_read_from_json(&fence, r#"{"highest":4}"#);
    is_json(&fence.admit(Term(3)).unwrap_err(), r#"{"token":3,"highest":4}"#);
}

#[test]
fn a_reason_is_json() {
    is_read_from_json(&RejectReason::ClusterFull, r#""ClusterFull""#);
    is_read_from_json(
        &CloseReason::TlsFailed(TlsFailure::new(true, TlsProblem::Expired)),
        r#"{"TlsFailed":{"by_peer":true,"problem":"Expired"}}"#,
    );
    is_read_from_json(&DialProblem::Other, r#""Other""#);
}
