//! The master's side of a view: what each member is sent, and when it is judged.

#[path = "tracker_invariants.rs"]
mod invariants;

use alloc::{
    format,
    string::{String, ToString},
    vec,
};

use super::*;
use crate::{
    api::config::Limits,
    id::{Address, Incarnation},
    membership::follower::Outcome,
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
    rig.tracker.relinked(&id("a"));
    assert_eq!(rig.read("a"), ["3.3 to 3.4: +c"]);
    rig.ack("a", 2, view_id(3, 3));
    assert_eq!(rig.read("a"), [""; 0], "that heartbeat went out on the link that is gone");

    let mut rig = Rig::large(2 * FULL, Limits::default());
    rig.admit(member("r"));
    let first = rig.next("r");
    assert!(rig.next("r").is_some());
    rig.tracker.relinked(&id("r"));
    assert_eq!(rig.next("r"), first, "a series begins again");
}

#[test]
fn v7_a_page_is_as_full_as_the_limit_allows() {
    let mut rig = Rig::large(2 * FULL - 1, Limits::default());
    rig.tracker.write(&mut rig.held, sized("m", 512));
    let pages = rig.read("a00");
    assert_eq!(pages, ["3.15 page 0: a00 a01 a02 a03 a04 a05 a06 …", "3.15 page 1: a07 a08 a09 a10 a11 a12 m"]);
    rig.tracker.write(&mut rig.held, sized("a00", 513));
    let pages = rig.read("a01");
    let expected =
        ["3.16 page 0: a00 a01 a02 a03 a04 a05 …", "3.16 page 1: a06 a07 a08 a09 a10 a11 a12 …", "3.16 page 2: m"];
    assert_eq!(pages, expected);
}

#[test]
fn v7_a_delta_is_as_long_as_allowed_and_the_rest_follows() {
    let mut rig = Rig::joined(Limits { send: 4_096, ..Limits::default() }, &["a"]);
    rig.read("a");
    for ix in 0..=FULL {
        rig.admit(sized(&format!("b{ix}"), 511));
    }
    assert_eq!(rig.read("a"), ["3.2 to 3.9: +b0 +b1 +b2 +b3 +b4 +b5 +b6", "3.9 to 3.10: +b7"]);
    // A change of a member is one more in any case, whether an earlier one goes into it or not.
    let mut longer = rig.clone();
    for ix in 0..FULL {
        longer.tracker.write(&mut longer.held, sized(&format!("b{ix}"), 511 + usize::from(ix == 0)));
    }
    assert_eq!(longer.read("a"), ["3.10 to 3.16: +b0 +b1 +b2 +b3 +b4 +b5", "3.16 to 3.17: +b6"]);
}

#[test]
fn v7_a_change_too_long_for_a_delta_is_sent_as_a_snapshot() {
    let known = (0..10).map(|ix| sized(&format!("b{ix}"), 511)).chain([member("a")]);
    let mut rig = Rig::new(Limits { send: 4_096, ..Limits::default() }, MembersView::new(view_id(2, 7), known));
    rig.begin(None, &["a"]);
    assert_eq!(rig.read("a"), ["3.1 page 0: a b0 b1 b2 b3 b4 b5 …", "3.1 page 1: b6 b7 b8 b9 m"]);
}

#[test]
fn v7_a_snapshot_replaces_a_longer_delta() {
    for (left, expected) in [(2, "3.2 to 3.6: -b0 -b1"), (3, "3.8 page 0: a m")] {
        let mut rig = Rig::joined(Limits::default(), &["a"]);
        rig.read("a");
        for ix in 0..left {
            rig.admit(member(&format!("b{ix}")));
        }
        for ix in 0..left {
            rig.remove(&format!("b{ix}"));
        }
        assert_eq!(rig.read("a"), [expected]);
    }
}

#[test]
fn g7_v7_a_member_behind_the_change_log_is_sent_a_snapshot() {
    for (joined, expected) in [(2, "3.2 to 3.4: +b0 +b1"), (3, "3.5 page 0: a b0 b1 b2 m")] {
        let mut rig = Rig::joined(Limits { change_log: 2, ..Limits::default() }, &["a"]);
        rig.read("a");
        for ix in 0..joined {
            rig.admit(member(&format!("b{ix}")));
        }
        assert_eq!(rig.tracker.log.len(), 2);
        assert_eq!(rig.read("a"), [expected]);
    }
}

#[test]
fn v9_a_member_with_an_unknown_view_is_sent_a_snapshot() {
    let snapshot: &[&str] = &["3.2 page 0: a m"];
    for (held, expected) in [(view_id(2, 9), snapshot), (view_id(3, 0), snapshot), (view_id(3, 9), &[])] {
        let mut rig = Rig::joined(Limits::default(), &["a"]);
        rig.read("a");
        rig.beat("a", 1);
        rig.ack("a", 1, held);
        assert_eq!(rig.read("a"), expected, "{held:?}");
    }
}

#[test]
fn a_delta_is_encoded_once_for_all_members_that_need_it() {
    let mut rig = Rig::joined(Limits { pinned_views: 2, ..Limits::default() }, &["a", "b", "c", "d"]);
    for id in ["a", "b"] {
        rig.read(id);
    }
    rig.admit(member("e"));
    for id in ["c", "d"] {
        rig.read(id);
    }
    rig.admit(member("f"));
    let [a, c, b, d] = ["a", "c", "b", "d"].map(|id| rig.frame(id).unwrap());
    assert_eq!([text_of(&a), text_of(&c)], ["3.5 to 3.7: +e +f", "3.6 to 3.7: +f"]);
    assert_eq!((a.as_ptr(), c.as_ptr()), (b.as_ptr(), d.as_ptr()));
    // Who lacks something else does not make them more than allowed.
    rig.beat("a", 9);
    rig.ack("a", 9, view_id(3, 4));
    rig.tracker.relinked(&id("a"));
    assert_eq!(rig.next("a").unwrap(), "3.4 to 3.7: +d +e +f");
    assert_eq!(rig.tracker.deltas.len(), 1);
    rig.admit(member("g"));
    assert_eq!(rig.read("a"), ["3.7 to 3.8: +g"]);
}

#[test]
fn c6_an_update_that_does_not_fit_into_the_write_waits() {
    let mut rig = Rig::joined(Limits::default(), &["a"]);
    let fits = |rig: &mut Rig| {
        let len = rig.clone().frame("a").unwrap().len();
        assert_eq!(rig.tracker.next_update(rig.held.view(), &id("a"), (u16::MAX, len - 1)), None);
        let frame = rig.tracker.next_update(rig.held.view(), &id("a"), (u16::MAX, len));
        text_of(&frame.unwrap())
    };
    assert_eq!(fits(&mut rig), "3.2 page 0: a m");
    rig.admit(member("b"));
    assert_eq!(fits(&mut rig), "3.2 to 3.3: +b");
    assert_eq!(rig.read("a"), [""; 0]);
}

#[test]
fn a_snapshot_is_encoded_once_until_the_view_changes() {
    let mut rig = Rig::joined(Limits::default(), &["a", "b"]);
    let (a, b) = (rig.frame("a").unwrap(), rig.frame("b").unwrap());
    assert_eq!(a.as_ptr(), b.as_ptr());
    assert_eq!(rig.pinned(), ["3.3"]);
    rig.admit(member("c"));
    assert_eq!(rig.pinned(), [""; 0]);
}

/// A series once begun is finished; deltas follow it.
#[test]
fn g7_v7_slow_readers_share_the_newest_pinned_snapshot() {
    let mut rig = Rig::large(FULL, Limits { pinned_views: 2, change_log: 3, ..Limits::default() });
    let next = |rig: &mut Rig, id: &str, expected: &str| {
        let sent = rig.next(id).unwrap();
        assert!(sent.starts_with(expected), "{sent} to {id}, not {expected}");
    };
    next(&mut rig, "a01", "3.8 page 0");
    rig.admit(member("r"));
    next(&mut rig, "a02", "3.9 page 0");
    next(&mut rig, "a03", "3.9 page 0");
    rig.admit(member("s"));
    assert_eq!(rig.pinned(), ["3.8", "3.9"]);
    next(&mut rig, "a04", "3.9 page 0");
    next(&mut rig, "a04", "3.9 page 1");
    next(&mut rig, "a04", "3.9 to 3.10: +s");
    assert_eq!(rig.pinned(), ["3.8", "3.9"], "others still read them");
    // One that holds as much, and is out of reach of deltas, waits for a place.
    for id in ["t", "u", "v"] {
        rig.admit(member(id));
    }
    rig.beat("a05", 1);
    rig.ack("a05", 1, view_id(3, 9));
    rig.tracker.relinked(&id("a05"));
    assert_eq!(rig.next("a05"), None);
    next(&mut rig, "a01", "3.8 page 1");
    assert_eq!(rig.pinned(), ["3.9"], "nobody reads it, and it is not the present one");
    next(&mut rig, "a05", "3.13 page 0");
    assert_eq!(rig.pinned(), ["3.9", "3.13"]);
    // Readers that go free their places, however they go.
    rig.tracker.link_down(&mut rig.held, &id("a02"));
    assert_eq!(rig.pinned(), ["3.9", "3.13"]);
    rig.remove("a03");
    assert_eq!(rig.pinned(), ["3.13"]);
    rig.admit(Member { node: node("a05", 2), ..member("a05") });
    assert_eq!(rig.pinned(), [""; 0]);
}

#[test]
fn v7_a_stalled_reader_gives_its_place_to_those_that_wait() {
    let mut rig = Rig::large(FULL, Limits { pinned_views: 1, change_log: 1, ..Limits::default() });
    let mut idle = rig.clone();
    for rig in [&mut rig, &mut idle] {
        assert!(rig.next("a01").unwrap().starts_with("3.8 page 0"));
        rig.admit(member("s"));
        rig.admit(member("t"));
        rig.admit(member("u"));
    }
    rig.beat("a02", 1);
    rig.ack("a02", 1, view_id(3, 9));
    rig.tracker.relinked(&id("a02"));
    assert_eq!(rig.next("a02"), None, "there is no place");
    for round in 1..=STALLED {
        for rig in [&mut rig, &mut idle] {
            assert_eq!(rig.pinned(), ["3.8"], "in round {round}");
            rig.tracker.begin_round(rig.held.view());
        }
        assert_eq!(rig.next("a02").is_some(), round == STALLED);
    }
    assert_eq!(
        (rig.pinned(), idle.pinned()),
        (vec!["3.11".into()], vec!["3.8".into()]),
        "where nobody waits, it stays"
    );
    assert!(rig.next("a01").unwrap().starts_with("3.11 page 0"), "the reader begins again");
}
