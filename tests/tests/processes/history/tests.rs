//! Tests of the checker on hand-written histories: each one breaks one guarantee, and a similar one does not.

use formation_core::{Address, Incarnation, LossReason, RemovalReason};
use serde_json::json;

use super::*;

fn node(id: &str) -> Node {
    Node { id: NodeId::new(id).unwrap(), incarnation: Incarnation(1) }
}

/// A line that the program prints.
fn line(at: u64, id: &str, what: serde_json::Value) -> Record {
    let mut line = json!({ "monotonic_us": at, "wall_us": 0, "node": node(id) });
    line.as_object_mut().unwrap().extend(what.as_object().unwrap().clone());
    serde_json::from_value(line).unwrap()
}

fn event(at: u64, id: &str, event: Event) -> Record {
    line(at, id, json!({ "event": event }))
}

fn lease(at: u64, id: &str, term: u64, until: u64) -> Record {
    line(at, id, json!({ "lease": { "term": term, "valid_until_us": until } }))
}

fn elected(at: u64, id: &str, term: u64, master: &str) -> Record {
    let address = Address::new("a:1").unwrap();
    event(at, id, Event::MasterElected { term: Term(term), master: node(master), address })
}

fn view_id(term: u64, version: u64) -> ViewId {
    ViewId { term: Term(term), version }
}

fn member(id: &str, state: MemberState) -> Change {
    let address = Address::new(format!("{id}:1")).unwrap();
    Change::Upsert(Member::new(node(id), address).with_state(state))
}

fn view(at: u64, id: &str, view_id: ViewId, changes: &[Change]) -> Record {
    event(at, id, Event::ViewChanged { view_id, changes: changes.into() })
}

/// The result of the checker for these lines.
fn judge(lines: &[Record]) -> Result<(), String> {
    let mut history = History::default();
    lines.iter().try_for_each(|line| history.take(line))?;
    history.one_master_at_a_time()
}

fn breaks(guarantee: &str, lines: &[Record]) {
    let problem = judge(lines).unwrap_err();
    assert!(problem.starts_with(guarantee), "{problem}");
}

#[test]
fn g1_is_broken_by_two_leases_of_one_term() {
    assert_eq!(judge(&[lease(0, "a", 1, 10), lease(20, "b", 2, 30)]), Ok(()));
    breaks("G1", &[lease(0, "a", 1, 10), lease(20, "b", 1, 30)]);
}

#[test]
fn g1_is_broken_by_followers_of_two_masters_in_one_term() {
    assert_eq!(judge(&[elected(0, "a", 1, "c"), elected(0, "b", 1, "c")]), Ok(()));
    breaks("G1", &[elected(0, "a", 1, "c"), elected(0, "b", 1, "d")]);
}

#[test]
fn g2_is_broken_by_overlapping_leases_in_either_order() {
    let (early, late) = (lease(0, "a", 1, 10), lease(9, "b", 2, 20));
    breaks("G2", &[early.clone(), late.clone()]);
    breaks("G2", &[late, early]);
    assert_eq!(judge(&[lease(10, "b", 2, 20), lease(0, "a", 1, 10)]), Ok(()));
}

#[test]
fn g2_is_broken_by_a_short_lease_inside_a_long_one() {
    let mut lines = vec![lease(0, "a", 1, 10), lease(5, "a", 1, 100), lease(50, "b", 2, 60)];
    breaks("G2", &lines);
    lines.remove(1);
    assert_eq!(judge(&lines), Ok(()));
}

/// The next run of a node.
fn next_run(id: &str) -> Node {
    Node { incarnation: Incarnation(2), ..node(id) }
}

fn restarted(at: u64, id: &str) -> Record {
    Record { node: next_run(id), ..line(at, id, json!({ "started": {} })) }
}

fn lease_of_next_run(at: u64, id: &str, term: u64, until: u64) -> Record {
    Record { node: next_run(id), ..lease(at, id, term, until) }
}

#[test]
fn g2_a_lease_ends_when_its_node_starts_again() {
    let (old, next, new) = (lease(0, "a", 1, 10), restarted(5, "a"), lease_of_next_run(5, "b", 2, 20));
    let (address, conn) = (Address::new("a:1").unwrap(), formation_core::ConnId(1));
    let reported = event(5, "b", Event::Linked { node: next_run("a"), address, conn, peer_addr: None });
    for next in [next, reported] {
        let lines = [old.clone(), next, new.clone()];
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            assert_eq!(judge(&order.map(|place| lines[place].clone())), Ok(()), "{order:?}");
        }
    }
    breaks("G2", &[old, restarted(6, "a"), new]);
}

#[test]
fn g2_a_killed_master_that_stays_down_keeps_its_lease() {
    let others = [lease(0, "a", 1, 10), restarted(3, "b"), restarted(3, "c")];
    let led_from = |at| [&others[..], &[lease_of_next_run(at, "b", 2, 20)]].concat();
    assert_eq!(judge(&led_from(10)), Ok(()));
    breaks("G2", &led_from(9));
}

#[test]
fn g2_a_living_master_is_overlapped_by_a_restarted_node() {
    let mut lines = vec![lease(0, "a", 1, 10), restarted(3, "b"), restarted(3, "c"), lease(7, "a", 1, 17)];
    lines.push(lease_of_next_run(16, "b", 2, 30));
    breaks("G2", &lines);
    // A second process of the node does not end the first.
    lines.push(restarted(6, "a"));
    breaks("G2", &lines);
}

#[test]
fn a_lease_that_is_reported_after_its_end_does_not_count() {
    assert_eq!(judge(&[lease(0, "a", 1, 50), lease(60, "b", 2, 55), lease(10, "b", 2, 5)]), Ok(()));
}

#[test]
fn a_lease_ends_when_its_node_leaves() {
    let leaves = line(5, "a", json!({ "leaving": null }));
    assert_eq!(judge(&[lease(0, "a", 1, 10), leaves.clone(), lease(5, "b", 2, 20)]), Ok(()));
    assert_eq!(judge(&[leaves.clone(), lease(0, "a", 1, 10), lease(5, "b", 2, 20)]), Ok(()));
    breaks("G2", &[lease(0, "a", 1, 10), leaves, lease(4, "b", 2, 20)]);
}

#[test]
fn g3_is_broken_by_a_view_that_is_not_newer() {
    let first = view(0, "a", view_id(1, 2), &[member("a", MemberState::Active)]);
    assert_eq!(judge(&[first.clone(), view(1, "a", view_id(2, 1), &[])]), Ok(()));
    for older in [view_id(1, 2), view_id(1, 1)] {
        breaks("G3", &[first.clone(), view(1, "a", older, &[])]);
    }
}

#[test]
fn g3_is_broken_by_two_member_lists_with_one_view_id() {
    let a = || member("a", MemberState::Active);
    let b = |state| member("b", state);
    let at_once = view(0, "a", view_id(1, 2), &[a(), b(MemberState::Suspect)]);
    let one_by_one = |state| [view(0, "b", view_id(1, 1), &[a()]), view(0, "b", view_id(1, 2), &[b(state)])];
    let [first, second] = one_by_one(MemberState::Suspect);
    assert_eq!(judge(&[at_once.clone(), first, second]), Ok(()));
    let [first, second] = one_by_one(MemberState::Active);
    breaks("G3", &[at_once.clone(), first, second]);
    let removed = Change::Remove { id: NodeId::new("b").unwrap(), reason: RemovalReason::Down };
    breaks("G3", &[at_once, view(0, "b", view_id(1, 2), &[a(), b(MemberState::Suspect), removed])]);
}

#[test]
fn a_history_with_skipped_events_is_an_error() {
    breaks("a#1 has skipped 3 events", &[line(0, "a", json!({ "skipped": 3 }))]);
}

/// Two nodes that hold one view and follow the first node.
fn agreed() -> Vec<Record> {
    let members = [member("a", MemberState::Active), member("b", MemberState::Active)];
    vec![
        elected(0, "a", 1, "a"),
        elected(0, "b", 1, "a"),
        lease(0, "a", 1, 100),
        view(0, "a", view_id(1, 1), &members),
        view(0, "b", view_id(1, 1), &members),
    ]
}

fn agree(lines: &[Record], nodes: &[&str], at: u64) -> bool {
    let mut history = History::default();
    lines.iter().try_for_each(|line| history.take(line)).unwrap();
    let nodes: Vec<Node> = nodes.iter().map(|id| node(id)).collect();
    history.agree(&nodes.iter().collect::<Vec<_>>(), at)
}

#[test]
fn g5_nodes_agree_with_one_view_and_a_master_with_a_lease() {
    assert!(agree(&agreed(), &["a", "b"], 99));
    assert!(!agree(&agreed(), &["a", "b"], 100), "the lease has expired");
    assert!(!agree(&agreed(), &["a"], 50), "the view has one more member");
    assert!(!agree(&agreed(), &["a", "b", "c"], 50), "the view has one member less");
    assert!(!agree(&[], &[], 50), "no nodes are not a cluster");
    let lost = Event::MasterLost { term: Term(1), master: node("a"), reason: LossReason::Silent };
    let stopped = Event::Stopped { reason: formation_core::StopReason::Left };
    let updated = [Change::Remove { id: node("b").id, reason: RemovalReason::Unknown }];
    let changes: [(&str, Record); 4] = [
        ("a node follows no master", event(1, "b", lost)),
        ("a node has stopped", event(1, "b", stopped)),
        ("a node holds another view", view(1, "a", view_id(1, 2), &updated)),
        ("a node follows another master", elected(1, "b", 2, "b")),
    ];
    for (why, change) in changes {
        let lines = [agreed(), vec![change]].concat();
        assert!(!agree(&lines, &["a", "b"], 50), "{why}");
    }
    let suspect = [member("b", MemberState::Suspect)];
    let lines = [agreed(), vec![view(1, "a", view_id(1, 2), &suspect), view(1, "b", view_id(1, 2), &suspect)]].concat();
    assert!(!agree(&lines, &["a", "b"], 50), "a member is suspect");
}
