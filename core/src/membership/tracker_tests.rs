//! The master's side of a view: what each member is sent, and when it is judged.

#[path = "tracker_invariants.rs"]
mod invariants;
#[path = "tracker_updates.rs"]
mod updates;

use alloc::{
    format,
    string::{String, ToString},
    vec,
};

use bytes::Bytes;

use super::*;
use crate::{
    api::config::Limits,
    id::{Address, Incarnation},
    membership::follower::Outcome,
    wire::message::{MembersUpdate, Message},
};

/// Of members of 512 bytes, as the tracker counts, this many fit in a page.
const FULL: usize = 7;

fn node(id: &str, incarnation: u64) -> Node {
    Node { id: NodeId::new(id).unwrap(), incarnation: Incarnation(incarnation) }
}

fn id(id: &str) -> NodeId {
    NodeId::new(id).unwrap()
}

fn member(id: &str) -> Member {
    let address = Address::new(format!("{id}:1")).unwrap();
    Member { node: node(id, 1), address, state: MemberState::Active, metadata: Bytes::new() }
}

fn suspect(id: &str) -> Member {
    Member { state: MemberState::Suspect, ..member(id) }
}

/// A member that counts as so many bytes.
fn sized(id: &str, size: usize) -> Member {
    let member = member(id);
    let metadata = vec![7; size - member.wire_size()].into();
    Member { metadata, ..member }
}

fn view_id(term: u64, version: u64) -> ViewId {
    ViewId { term: Term(term), version }
}

fn at(ms: u64) -> Timestamp {
    Timestamp::from_micros(ms * 1_000)
}

fn names(view_id: ViewId) -> String {
    format!("{}.{}", view_id.term.0, view_id.version)
}

fn changed(change: &Change) -> String {
    match change {
        Change::Upsert(member) if member.state == MemberState::Suspect => format!("?{}", member.node.id),
        Change::Upsert(member) => format!("+{}", member.node.id),
        Change::Remove { id, .. } => format!("-{id}"),
    }
}

/// As in `2.7# to 3.1: +a ?b -c`: c is gone and b suspect, and there is a digest of the base; or `3.1 page 0: a b c`.
fn text_of(frame: &Bytes) -> String {
    let Ok(Message::MembersUpdate(update)) = Message::decode(&frame[4..]) else { panic!("no update") };
    match update {
        MembersUpdate::Page { view_id, index, last, members } => {
            let ids: Vec<String> = members.iter().map(|member| member.node.id.to_string()).collect();
            let more = if last { "" } else { " …" };
            format!("{} page {index}: {}{more}", names(view_id), ids.join(" "))
        }
        MembersUpdate::Delta { base, base_digest, view_id, changes } => {
            let digest = if base_digest.is_some() { "#" } else { "" };
            let changes: Vec<String> = changes.iter().map(changed).collect();
            format!("{}{digest} to {}: {}", names(base), names(view_id), changes.join(" "))
        }
    }
}

/// The tracker of the master m of term 3, and its view.
#[derive(Clone)]
struct Rig {
    tracker: Tracker,
    held: HeldView,
}

impl Rig {
    fn new(limits: Limits, view: MembersView) -> Self {
        let config = Config::single("test", "m", "m:1").limits(limits).build().unwrap();
        let mut held = HeldView::new(&Limits { members: usize::MAX, ..Limits::default() });
        if !view.is_empty() {
            let (view_id, members) = (view.id(), view.iter().cloned().collect());
            let page = MembersUpdate::Page { view_id, index: 0, last: true, members };
            assert!(matches!(held.update((&node("x", 1), false), page), Outcome::Taken(_)));
        }
        Self { tracker: Tracker::new(&config), held }
    }

    fn begin(&mut self, gone: Option<&Node>, linked: &[&str]) -> Vec<Change> {
        let linked = |node: &Node| linked.contains(&node.id.as_str());
        self.tracker.begin(&mut self.held, Term(3), member("m"), |node| gone == Some(node), linked, at(0))
    }

    /// Nobody was known; these have joined, one by one, in 3.2 and the next.
    fn joined(limits: Limits, ids: &[&str]) -> Self {
        let mut rig = Self::new(limits, MembersView::default());
        rig.begin(None, &[]);
        for id in ids {
            rig.admit(member(id));
        }
        rig
    }

    /// Limits under which a page holds [`FULL`] of these; they have joined, and nobody has read anything.
    fn large(count: usize, limits: Limits) -> Self {
        let mut rig = Self::joined(Limits { send: 4_096, ..limits }, &[]);
        for ix in 0..count {
            rig.admit(sized(&format!("a{ix:02}"), 512));
        }
        rig
    }

    fn relink(&mut self, name: &str) {
        self.tracker.relinked(&id(name), at(0));
    }

    fn admit(&mut self, member: Member) -> Vec<Change> {
        let changes = self.tracker.admit(&mut self.held, member, at(0));
        self.check();
        changes
    }

    fn remove(&mut self, id: &str) -> Vec<Change> {
        let changes = self.tracker.remove(&mut self.held, &NodeId::new(id).unwrap(), RemovalReason::Left);
        self.check();
        changes
    }

    fn frame(&mut self, member: &str) -> Option<Bytes> {
        let frame = self.tracker.next_update(self.held.view(), &id(member), (u16::MAX, usize::MAX));
        self.check();
        frame
    }

    /// Every node is a peer here.
    fn check(&self) {
        self.tracker.check(self.held.view(), |_| true);
    }

    /// The next that the member is sent.
    fn next(&mut self, member: &str) -> Option<String> {
        self.frame(member).as_ref().map(text_of)
    }

    /// Everything that the member lacks is sent.
    fn read(&mut self, member: &str) -> Vec<String> {
        core::iter::from_fn(|| self.next(member)).take(20).collect()
    }

    fn ack(&mut self, member: &str, number: u64, view_id: ViewId) -> Ack {
        self.tracker.ack(self.held.view(), &id(member), number, view_id, at(0))
    }

    fn beat(&mut self, member: &str, number: u64) {
        self.tracker.heartbeat_sent(&id(member), number);
    }

    fn due(&self, member: &str) -> Option<Timestamp> {
        self.tracker.deadline(self.held.view(), &id(member))
    }

    fn pinned(&self) -> Vec<String> {
        self.tracker.pinned.keys().copied().map(names).collect()
    }
}

#[test]
fn v1_the_first_view_of_a_term_keeps_the_known_members() {
    for (gone, expected) in [(1, "?b +c -e +m"), (2, "?b +c ?e +m")] {
        let before = [member("a"), member("b"), suspect("c"), suspect("d"), member("e"), suspect("m")];
        let mut rig = Rig::new(Limits::default(), MembersView::new(view_id(2, 7), before));
        let changes = rig.begin(Some(&node("e", gone)), &["a", "c"]);
        assert_eq!(changes.iter().map(changed).collect::<Vec<_>>().join(" "), expected);
        let members: Vec<&str> = rig.tracker.members().map(NodeId::as_str).collect();
        let view: Vec<&str> = rig.held.view().iter().map(|member| member.node.id.as_str()).collect();
        let all: &[&str] = if gone == 1 { &["a", "b", "c", "d", "m"] } else { &["a", "b", "c", "d", "e", "m"] };
        assert_eq!((members.as_slice(), view.as_slice()), (&all[..all.len() - 1], all));
        assert_eq!(rig.held.view().id(), view_id(3, 1));
        assert!(rig.tracker.tracks(&id("a")) && !rig.tracker.tracks(&id("m")));
    }
    let mut rig = Rig::new(Limits::default(), MembersView::new(view_id(2, 7), [member("a"), member("m")]));
    assert_eq!(rig.begin(None, &["a"]), [], "nothing is new but the term");
    assert_eq!(rig.read("a"), ["2.7# to 3.1: "]);
}

#[test]
fn v9_a_delta_on_a_view_of_an_earlier_term_has_its_digest() {
    let known = MembersView::new(view_id(2, 7), [member("a"), member("b"), member("c")]);
    let mut rig = Rig::new(Limits::default(), known);
    rig.begin(None, &["a", "b"]);
    assert_eq!(rig.read("a"), ["2.7# to 3.1: ?c +m"]);
    rig.admit(member("j"));
    assert_eq!(rig.read("a"), ["3.1 to 3.2: +j"]);
    assert_eq!(rig.read("b"), ["2.7# to 3.2: ?c +j +m"]);
    assert_eq!(rig.read("b"), [""; 0]);
}

#[test]
fn v8_changes_beyond_the_limit_wait_for_the_next_heartbeat() {
    let limits = Limits { updates_at_once: 5, ..Limits::default() };
    let mut rig = Rig::joined(limits, &["a", "b", "c", "d", "e"]);
    rig.tracker.begin_round(rig.held.view());
    rig.read("a");
    rig.remove("e");
    assert_eq!(rig.read("a"), ["3.6 to 3.7: -e"], "four updates are within the limit");
    rig.remove("d");
    assert!(!rig.tracker.is_due(rig.held.view()), "three more are not");
    assert_eq!(rig.read("a"), [""; 0]);
    assert_eq!(rig.read("b").len(), 1, "a member that is behind gets everything");
    rig.admit(member("late"));
    assert_eq!(rig.read("late").len(), 1, "a joining node waits for nothing");
    for member in ["late", "a", "b"] {
        assert_eq!(rig.read(member), [""; 0], "{member}");
    }
    rig.tracker.begin_round(rig.held.view());
    assert_eq!(rig.read("late"), [""; 0]);
    assert_eq!(rig.read("a"), ["3.7 to 3.9: -d +late"]);
    rig.remove("late");
    assert!(rig.tracker.is_due(rig.held.view()), "a heartbeat later it begins anew");
}

#[test]
fn v8_a_burst_is_told_to_all_when_it_is_over() {
    let mut rig = Rig::joined(Limits { updates_at_once: 0, ..Limits::default() }, &["a"]);
    rig.tracker.begin_round(rig.held.view());
    rig.read("a");
    for ix in 0..BURST {
        assert!(!rig.tracker.has_burst(rig.held.view()), "{ix} changes are few");
        rig.admit(member(&format!("b{ix}")));
    }
    assert!(rig.tracker.has_burst(rig.held.view()));
    assert_eq!(rig.read("a"), [""; 0]);
    rig.tracker.end_burst(rig.held.view());
    assert_eq!(rig.read("a"), ["3.2 to 3.10: +b0 +b1 +b2 +b3 +b4 +b5 +b6 +b7"]);
    assert!(!rig.tracker.has_burst(rig.held.view()), "nothing waits any more");
    // With so many members, eight changes are not worth an update to each.
    let names: Vec<String> = (0..9 * BURST).map(|ix| format!("c{ix:02}")).collect();
    names.iter().for_each(|name| drop(rig.admit(member(name))));
    rig.tracker.begin_round(rig.held.view());
    for (ix, name) in names.iter().take(11).enumerate() {
        assert_eq!(rig.tracker.has_burst(rig.held.view()), ix >= 9, "{ix} changes");
        rig.remove(name);
    }
}

#[test]
fn v2_a_joining_node_gets_the_view_and_then_the_changes() {
    let mut rig = Rig::joined(Limits::default(), &[]);
    assert_eq!(rig.admit(member("a")), [Change::Upsert(member("a"))]);
    assert_eq!(rig.read("a"), ["3.2 page 0: a m"]);
    assert_eq!(rig.admit(member("b")), [Change::Upsert(member("b"))]);
    assert_eq!(rig.remove("b"), [Change::Remove { id: id("b"), reason: RemovalReason::Left }]);
    assert_eq!(rig.remove("b"), [], "it is gone");
    rig.admit(member("c"));
    assert_eq!(rig.read("a"), ["3.2 to 3.5: -b +c"]);
    assert_eq!(rig.held.view().id(), view_id(3, 5));
}

#[test]
fn v2_a_member_admitted_again_is_not_sent_everything_again() {
    let mut rig = Rig::joined(Limits::default(), &["a"]);
    rig.read("a");
    rig.beat("a", 1);
    rig.ack("a", 1, view_id(3, 2));
    let again = |rig: &mut Rig, member: Member| rig.tracker.admit(&mut rig.held, member, at(900));
    assert_eq!(again(&mut rig, member("a")), []);
    assert_eq!(rig.due("a"), Some(at(1_500)));
    assert!(rig.tracker.is_down(&id("a"), at(3_900)) && !rig.tracker.is_down(&id("a"), at(3_899)));
    assert_eq!(rig.read("a"), [""; 0]);
    let changed = Member { metadata: Bytes::from_static(b"new"), ..member("a") };
    assert_eq!(again(&mut rig, changed.clone()), [Change::Upsert(changed)]);
    assert_eq!(rig.read("a"), ["3.2 to 3.3: +a"]);
}

#[test]
fn v7_a_restarted_or_relinked_member_is_sent_everything() {
    let mut rig = Rig::joined(Limits::default(), &["a"]);
    rig.read("a");
    rig.admit(Member { node: node("a", 2), ..member("a") });
    assert_eq!(rig.read("a"), ["3.3 page 0: a m"]);

    let mut rig = Rig::new(Limits::default(), MembersView::new(view_id(2, 7), [member("b")]));
    rig.begin(None, &[]);
    assert_eq!(rig.admit(member("b")), [Change::Upsert(member("b"))]);
    assert_eq!(rig.read("b"), ["3.2 page 0: b m"], "it need not hold the view that was known");
}

#[test]
fn v3_a_member_that_loses_its_link_is_suspect_at_once() {
    let mut rig = Rig::joined(Limits::default(), &["a", "b"]);
    rig.read("a");
    let lost = |rig: &mut Rig| rig.tracker.link_down(&mut rig.held, &id("a"));
    assert_eq!(lost(&mut rig), [Change::Upsert(suspect("a"))]);
    assert_eq!(lost(&mut rig), [], "it is already");
    assert_eq!(rig.tracker.link_down(&mut rig.held, &id("z")), []);
    assert_eq!(rig.due("a"), Some(at(3_000)));
    assert_eq!(rig.read("a"), ["3.4 page 0: a b m"]);
}

/// E8: what it was sent it has not taken, and what it takes from another is not known.
#[test]
fn v7_a_member_back_from_another_master_is_sent_everything() {
    let mut rig = Rig::large(FULL, Limits::default());
    assert!(rig.next("a01").unwrap().starts_with("3.8 page 0"));
    rig.admit(member("r"));
    assert_eq!(rig.pinned(), ["3.8"]);
    rig.tracker.has_gone_over(&id("a01"));
    rig.tracker.begin_round(rig.held.view());
    rig.tracker.begin_round(rig.held.view());
    assert_eq!(rig.pinned(), [""; 0], "it reads nothing to its end");
    for _ in 0..2 {
        rig.admit(sized("a01", 512));
        let read = rig.read("a01");
        assert!(read[0].starts_with("3.9 page 0") && read[1].starts_with("3.9 page 1"), "{read:?}");
        rig.tracker.has_gone_over(&id("a01"));
    }
    rig.tracker.has_gone_over(&id("z"));
}

#[test]
fn v3_a_member_becomes_due_as_suspect_and_then_as_down() {
    let mut rig = Rig::joined(Limits::default(), &["a"]);
    assert_eq!((rig.due("a"), rig.due("m"), rig.due("z")), (Some(at(600)), None, None));
    let state = |rig: &mut Rig, state| rig.tracker.set_state(&mut rig.held, &id("a"), state);
    assert_eq!(state(&mut rig, MemberState::Active), []);
    assert_eq!(state(&mut rig, MemberState::Suspect), [Change::Upsert(suspect("a"))]);
    assert_eq!(rig.due("a"), Some(at(3_000)));
    assert!(!rig.tracker.is_down(&id("a"), at(2_999)));
    assert!(rig.tracker.is_down(&id("a"), at(3_000)));
    assert!(!rig.tracker.is_down(&id("z"), at(9_000)));
    rig.tracker.reset_allowances(at(5_000));
    assert_eq!(rig.due("a"), Some(at(8_000)));
    assert_eq!(state(&mut rig, MemberState::Active), [Change::Upsert(member("a"))]);
    assert_eq!(rig.due("a"), Some(at(5_600)));
}

#[test]
fn v3_an_acknowledgement_gives_a_member_a_new_allowance() {
    let mut rig = Rig::joined(Limits::default(), &["a"]);
    let ack = |rig: &mut Rig, number, ms| {
        rig.beat("a", number);
        rig.tracker.ack(rig.held.view(), &id("a"), number, view_id(3, 2), at(ms))
    };
    assert_eq!(ack(&mut rig, 1, 500), Ack::Expected);
    assert_eq!(rig.due("a"), Some(at(1_100)));
    rig.tracker.set_state(&mut rig.held, &id("a"), MemberState::Suspect);
    assert_eq!(ack(&mut rig, 2, 2_000), Ack::Revived);
    assert_eq!(rig.due("a"), Some(at(5_000)));
    assert_eq!(rig.ack("z", 1, view_id(3, 2)), Ack::Old);
}

#[test]
fn v11_only_a_new_answer_to_a_heartbeat_that_was_sent_counts() {
    let mut rig = Rig::joined(Limits::default(), &["a"]);
    assert_eq!(rig.ack("a", 0, view_id(3, 2)), Ack::Old, "nothing was sent");
    rig.beat("a", 5);
    rig.beat("a", 7);
    for (number, expected) in [
        (0, Ack::Old),
        (4, Ack::Old),
        (5, Ack::Expected),
        (5, Ack::Old),
        (8, Ack::Old),
        (7, Ack::Expected),
        (6, Ack::Old),
    ] {
        let has_acked = rig.tracker.has_acked(&id("a"));
        assert_eq!(rig.ack("a", number, view_id(3, 2)), expected, "{number}");
        assert_eq!(rig.tracker.has_acked(&id("a")), has_acked || expected == Ack::Expected);
    }
    rig.remove("a");
    rig.admit(member("a"));
    assert_eq!(rig.ack("a", 7, view_id(3, 2)), Ack::Old, "it has become a member again since");
}

/// The heartbeat went out behind the update, so its acknowledgement shows whether that came.
#[test]
fn v6_an_update_that_a_member_does_not_hold_is_sent_again() {
    let mut rig = Rig::joined(Limits::default(), &["a", "b"]);
    rig.read("a");
    rig.beat("a", 5);
    rig.beat("a", 6);
    rig.ack("a", 4, ViewId::default());
    assert_eq!(rig.read("a"), [""; 0], "that heartbeat was sent before");
    let mut lost = rig.clone();
    lost.ack("a", 5, ViewId::default());
    assert_eq!(lost.read("a"), ["0.0 to 3.3: +a +b +m"]);
    let mut behind = rig.clone();
    behind.ack("a", 6, view_id(3, 2));
    assert_eq!(behind.read("a"), ["3.2 to 3.3: +b"]);
    rig.ack("a", 5, view_id(3, 3));
    assert_eq!(rig.read("a"), [""; 0]);
    // The heartbeat behind a later update checks that one.
    rig.admit(member("c"));
    rig.read("a");
    rig.ack("a", 6, view_id(3, 3));
    assert_eq!(rig.read("a"), [""; 0]);
    rig.beat("a", 7);
    rig.ack("a", 7, view_id(3, 3));
    assert_eq!(rig.read("a"), ["3.3 to 3.4: +c"]);
}

#[test]
fn c4_an_unacknowledged_update_is_sent_on_another_link() {
    let mut rig = Rig::joined(Limits::default(), &["a", "b"]);
    rig.read("a");
    rig.beat("a", 1);
    rig.ack("a", 1, view_id(3, 3));
    rig.admit(member("c"));
    rig.read("a");
    rig.beat("a", 2);
    rig.relink("a");
    assert_eq!(rig.read("a"), ["3.3 to 3.4: +c"]);
    rig.ack("a", 2, view_id(3, 3));
    assert_eq!(rig.read("a"), [""; 0], "that heartbeat went out on the link that is gone");

    let mut rig = Rig::large(2 * FULL, Limits::default());
    rig.admit(member("r"));
    let first = rig.next("r");
    assert!(rig.next("r").is_some());
    rig.relink("r");
    assert_eq!(rig.next("r"), first, "a series begins again");
}

#[test]
fn v3_a_replaced_link_alone_makes_nobody_suspect() {
    let mut rig = Rig::joined(Limits::default(), &["a"]);
    let deadline = |rig: &Rig| rig.tracker.deadline(rig.held.view(), &id("a"));
    assert_eq!(deadline(&rig), Some(at(600)));
    rig.tracker.relinked(&id("a"), at(500));
    assert_eq!(deadline(&rig), Some(at(1_100)));
    rig.tracker.relinked(&id("a"), at(1_000));
    assert_eq!(deadline(&rig), Some(at(1_100)), "links that are replaced again and again hide no silence");
    rig.beat("a", 1);
    rig.ack("a", 1, view_id(3, 2));
    let answered = deadline(&rig);
    rig.tracker.relinked(&id("a"), at(1_000));
    assert_eq!((answered, deadline(&rig)), (Some(at(600)), Some(at(1_600))), "an answer allows it again");

    let mut rig = Rig::joined(Limits::default(), &["a"]);
    rig.tracker.relinked(&id("a"), at(2_900));
    assert_eq!(deadline(&rig), Some(at(3_000)), "it is down no later than before");
}
