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

/// As in `2.7 to 3.1 by x: +a ?b -c`: c is gone and b suspect; or `3.1 page 0: a b c`.
fn told(frame: &Bytes) -> String {
    let Ok(Message::MembersUpdate(update)) = Message::decode(&frame[4..]) else { panic!("no update") };
    match update {
        MembersUpdate::Page { view_id, index, last, members } => {
            let ids: Vec<String> = members.iter().map(|member| member.node.id.to_string()).collect();
            let more = if last { "" } else { " …" };
            format!("{} page {index}: {}{more}", names(view_id), ids.join(" "))
        }
        MembersUpdate::Delta { base, base_by, view_id, changes } => {
            let by = base_by.map(|by| format!(" by {}", by.id)).unwrap_or_default();
            let changes: Vec<String> = changes.iter().map(changed).collect();
            format!("{} to {}{by}: {}", names(base), names(view_id), changes.join(" "))
        }
    }
}

/// What the master m of term 3 keeps.
#[derive(Clone)]
struct Kept {
    tracker: Tracker,
    view: MembersView,
}

impl Kept {
    fn new(limits: Limits, view: MembersView) -> Self {
        let config = Config::single("test", "m", "m:1").limits(limits).build().unwrap();
        Self { tracker: Tracker::new(&config), view }
    }

    fn begin(&mut self, gone: Option<&Node>, linked: &[&str]) -> Vec<Change> {
        let linked = |node: &Node| linked.contains(&node.id.as_str());
        let writer = (!self.view.is_empty()).then(|| node("x", 1));
        let view = (&mut self.view, writer);
        self.tracker.begin(view, Term(3), member("m"), |node| gone == Some(node), linked, at(0))
    }

    /// Nobody was known; these have joined, one by one, in 3.2 and the next.
    fn joined(limits: Limits, ids: &[&str]) -> Self {
        let mut kept = Self::new(limits, MembersView::default());
        kept.begin(None, &[]);
        for id in ids {
            kept.admit(member(id));
        }
        kept
    }

    /// Limits under which a page holds [`FULL`] of these; they have joined, and nobody has read anything.
    fn large(count: usize, limits: Limits) -> Self {
        let mut kept = Self::joined(Limits { send: 4_096, ..limits }, &[]);
        for ix in 0..count {
            kept.admit(sized(&format!("a{ix:02}"), 512));
        }
        kept
    }

    fn admit(&mut self, member: Member) -> Vec<Change> {
        let changes = self.tracker.admit(&mut self.view, member, at(0));
        self.check();
        changes
    }

    fn remove(&mut self, id: &str) -> Vec<Change> {
        let changes = self.tracker.remove(&mut self.view, &NodeId::new(id).unwrap(), RemovalReason::Left);
        self.check();
        changes
    }

    fn frame(&mut self, member: &str) -> Option<Bytes> {
        let frame = self.tracker.next_update(&self.view, &id(member), (1, usize::MAX));
        self.check();
        frame
    }

    /// Every node is a peer here.
    fn check(&self) {
        self.tracker.check(&self.view, |_| true);
    }

    /// The next that the member is sent.
    fn next(&mut self, member: &str) -> Option<String> {
        self.frame(member).as_ref().map(told)
    }

    /// Everything that the member lacks is sent.
    fn read(&mut self, member: &str) -> Vec<String> {
        core::iter::from_fn(|| self.next(member)).take(20).collect()
    }

    fn ack(&mut self, member: &str, number: u64, view_id: ViewId) -> Ack {
        self.tracker.ack(&self.view, &id(member), number, view_id, at(0))
    }

    fn beat(&mut self, member: &str, number: u64) {
        self.tracker.heartbeat_sent(&id(member), number);
    }

    fn due(&self, member: &str) -> Option<Timestamp> {
        self.tracker.deadline(&self.view, &id(member))
    }

    fn pinned(&self) -> Vec<String> {
        self.tracker.pinned.keys().copied().map(names).collect()
    }
}

#[test]
fn v1_the_first_view_of_a_term_keeps_the_known_members() {
    for (gone, expected) in [(1, "?b +c -e +m"), (2, "?b +c ?e +m")] {
        let before = [member("a"), member("b"), suspect("c"), suspect("d"), member("e"), suspect("m")];
        let mut kept = Kept::new(Limits::default(), MembersView::new(view_id(2, 7), before));
        let changes = kept.begin(Some(&node("e", gone)), &["a", "c"]);
        assert_eq!(changes.iter().map(changed).collect::<Vec<_>>().join(" "), expected);
        let members: Vec<&str> = kept.tracker.members().map(NodeId::as_str).collect();
        let view: Vec<&str> = kept.view.iter().map(|member| member.node.id.as_str()).collect();
        let all: &[&str] = if gone == 1 { &["a", "b", "c", "d", "m"] } else { &["a", "b", "c", "d", "e", "m"] };
        assert_eq!((members.as_slice(), view.as_slice()), (&all[..all.len() - 1], all));
        assert_eq!(kept.view.id(), view_id(3, 1));
        assert!(kept.tracker.tracks(&id("a")) && !kept.tracker.tracks(&id("m")));
    }
    let mut kept = Kept::new(Limits::default(), MembersView::new(view_id(2, 7), [member("a"), member("m")]));
    assert_eq!(kept.begin(None, &["a"]), [], "nothing is new but the term");
    assert_eq!(kept.read("a"), ["2.7 to 3.1 by x: "]);
}

#[test]
fn v9_a_delta_on_a_view_of_an_earlier_term_names_its_writer() {
    let known = MembersView::new(view_id(2, 7), [member("a"), member("b"), member("c")]);
    let mut kept = Kept::new(Limits::default(), known);
    kept.begin(None, &["a", "b"]);
    assert_eq!(kept.read("a"), ["2.7 to 3.1 by x: ?c +m"]);
    kept.admit(member("j"));
    assert_eq!(kept.read("a"), ["3.1 to 3.2: +j"]);
    assert_eq!(kept.read("b"), ["2.7 to 3.2 by x: ?c +j +m"]);
    assert_eq!(kept.read("b"), [""; 0]);
}

#[test]
fn v8_changes_beyond_the_limit_wait_for_the_next_heartbeat() {
    let limits = Limits { updates_at_once: 5, ..Limits::default() };
    let mut kept = Kept::joined(limits, &["a", "b", "c", "d", "e"]);
    kept.tracker.begin_round(&kept.view);
    kept.read("a");
    kept.remove("e");
    assert_eq!(kept.read("a"), ["3.6 to 3.7: -e"], "to tell four is within the limit");
    kept.remove("d");
    assert!(!kept.tracker.is_due(&kept.view), "to tell three more is not");
    assert_eq!(kept.read("a"), [""; 0]);
    assert_eq!(kept.read("b").len(), 1, "who is behind is told all");
    kept.admit(member("late"));
    assert_eq!(kept.read("late").len(), 1, "who joins waits for nothing");
    for member in ["late", "a", "b"] {
        assert_eq!(kept.read(member), [""; 0], "{member}");
    }
    kept.tracker.begin_round(&kept.view);
    assert_eq!(kept.read("late"), [""; 0]);
    assert_eq!(kept.read("a"), ["3.7 to 3.9: -d +late"]);
    kept.remove("late");
    assert!(kept.tracker.is_due(&kept.view), "a heartbeat later it begins anew");
}

#[test]
fn v2_a_joining_node_gets_the_view_and_then_the_changes() {
    let mut kept = Kept::joined(Limits::default(), &[]);
    assert_eq!(kept.admit(member("a")), [Change::Upsert(member("a"))]);
    assert_eq!(kept.read("a"), ["3.2 page 0: a m"]);
    assert_eq!(kept.admit(member("b")), [Change::Upsert(member("b"))]);
    assert_eq!(kept.remove("b"), [Change::Remove { id: id("b"), reason: RemovalReason::Left }]);
    assert_eq!(kept.remove("b"), [], "it is gone");
    kept.admit(member("c"));
    assert_eq!(kept.read("a"), ["3.2 to 3.5: -b +c"]);
    assert_eq!(kept.view.id(), view_id(3, 5));
}

#[test]
fn v2_a_member_admitted_again_is_not_sent_everything_again() {
    let mut kept = Kept::joined(Limits::default(), &["a"]);
    kept.read("a");
    let again = |kept: &mut Kept, member: Member| kept.tracker.admit(&mut kept.view, member, at(900));
    assert_eq!(again(&mut kept, member("a")), []);
    assert_eq!(kept.due("a"), Some(at(1_500)));
    assert!(kept.tracker.is_down(&id("a"), at(3_900)) && !kept.tracker.is_down(&id("a"), at(3_899)));
    assert_eq!(kept.read("a"), [""; 0]);
    let said = Member { metadata: Bytes::from_static(b"new"), ..member("a") };
    assert_eq!(again(&mut kept, said.clone()), [Change::Upsert(said)]);
    assert_eq!(kept.read("a"), ["3.2 to 3.3: +a"]);
}

#[test]
fn v7_a_restarted_or_relinked_member_is_sent_everything() {
    let mut kept = Kept::joined(Limits::default(), &["a"]);
    kept.read("a");
    kept.admit(Member { node: node("a", 2), ..member("a") });
    assert_eq!(kept.read("a"), ["3.3 page 0: a m"]);

    let mut kept = Kept::new(Limits::default(), MembersView::new(view_id(2, 7), [member("b")]));
    kept.begin(None, &[]);
    assert_eq!(kept.admit(member("b")), [Change::Upsert(member("b"))]);
    assert_eq!(kept.read("b"), ["3.2 page 0: b m"], "it need not hold the view that was known");
}

#[test]
fn v3_a_member_that_loses_its_link_is_suspect_at_once() {
    let mut kept = Kept::joined(Limits::default(), &["a", "b"]);
    kept.read("a");
    let lost = |kept: &mut Kept| kept.tracker.link_down(&mut kept.view, &id("a"));
    assert_eq!(lost(&mut kept), [Change::Upsert(suspect("a"))]);
    assert_eq!(lost(&mut kept), [], "it is already");
    assert_eq!(kept.tracker.link_down(&mut kept.view, &id("z")), []);
    assert_eq!(kept.due("a"), Some(at(3_000)));
    assert_eq!(kept.read("a"), ["3.4 page 0: a b m"]);
}

/// E8: what it was sent it has not taken, and what it takes from another is not known.
#[test]
fn v7_a_member_back_from_another_master_is_sent_everything() {
    let mut kept = Kept::large(FULL, Limits::default());
    assert!(kept.next("a01").unwrap().starts_with("3.8 page 0"));
    kept.admit(member("r"));
    assert_eq!(kept.pinned(), ["3.8"]);
    kept.tracker.has_gone_over(&id("a01"));
    assert_eq!(kept.pinned(), [""; 0], "it reads nothing to its end");
    for _ in 0..2 {
        kept.admit(sized("a01", 512));
        let read = kept.read("a01");
        assert!(read[0].starts_with("3.9 page 0") && read[1].starts_with("3.9 page 1"), "{read:?}");
        kept.tracker.has_gone_over(&id("a01"));
    }
    kept.tracker.has_gone_over(&id("z"));
}

#[test]
fn v3_a_member_becomes_due_as_suspect_and_then_as_down() {
    let mut kept = Kept::joined(Limits::default(), &["a"]);
    assert_eq!((kept.due("a"), kept.due("m"), kept.due("z")), (Some(at(600)), None, None));
    let state = |kept: &mut Kept, state| kept.tracker.set_state(&mut kept.view, &id("a"), state);
    assert_eq!(state(&mut kept, MemberState::Active), []);
    assert_eq!(state(&mut kept, MemberState::Suspect), [Change::Upsert(suspect("a"))]);
    assert_eq!(kept.due("a"), Some(at(3_000)));
    assert!(!kept.tracker.is_down(&id("a"), at(2_999)));
    assert!(kept.tracker.is_down(&id("a"), at(3_000)));
    assert!(!kept.tracker.is_down(&id("z"), at(9_000)));
    kept.tracker.reset_allowances(at(5_000));
    assert_eq!(kept.due("a"), Some(at(8_000)));
    assert_eq!(state(&mut kept, MemberState::Active), [Change::Upsert(member("a"))]);
    assert_eq!(kept.due("a"), Some(at(5_600)));
}

#[test]
fn v3_an_acknowledgement_gives_a_member_a_new_allowance() {
    let mut kept = Kept::joined(Limits::default(), &["a"]);
    let ack = |kept: &mut Kept, ms| kept.tracker.ack(&kept.view, &id("a"), 1, view_id(3, 2), at(ms));
    assert_eq!(ack(&mut kept, 500), Ack::Expected);
    assert_eq!(kept.due("a"), Some(at(1_100)));
    kept.tracker.set_state(&mut kept.view, &id("a"), MemberState::Suspect);
    assert_eq!(ack(&mut kept, 2_000), Ack::Revived);
    assert_eq!(kept.due("a"), Some(at(5_000)));
    assert_eq!(kept.ack("z", 1, view_id(3, 2)), Ack::Expected);
}

/// The heartbeat went out behind the update, so its acknowledgement shows whether that came.
#[test]
fn v6_an_update_that_a_member_does_not_hold_is_sent_again() {
    let mut kept = Kept::joined(Limits::default(), &["a", "b"]);
    kept.read("a");
    kept.beat("a", 5);
    kept.beat("a", 6);
    kept.ack("a", 4, ViewId::default());
    assert_eq!(kept.read("a"), [""; 0], "that heartbeat was sent before");
    let mut lost = kept.clone();
    lost.ack("a", 5, ViewId::default());
    assert_eq!(lost.read("a"), ["0.0 to 3.3: +a +b +m"]);
    let mut behind = kept.clone();
    behind.ack("a", 6, view_id(3, 2));
    assert_eq!(behind.read("a"), ["3.2 to 3.3: +b"]);
    kept.ack("a", 5, view_id(3, 3));
    assert_eq!(kept.read("a"), [""; 0]);
    // What comes later is checked by the heartbeat behind that.
    kept.admit(member("c"));
    kept.read("a");
    kept.ack("a", 6, view_id(3, 3));
    assert_eq!(kept.read("a"), [""; 0]);
    kept.beat("a", 7);
    kept.ack("a", 7, view_id(3, 3));
    assert_eq!(kept.read("a"), ["3.3 to 3.4: +c"]);
}

#[test]
fn c4_an_unacknowledged_update_is_sent_on_another_link() {
    let mut kept = Kept::joined(Limits::default(), &["a", "b"]);
    kept.read("a");
    kept.ack("a", 1, view_id(3, 3));
    kept.admit(member("c"));
    kept.read("a");
    kept.beat("a", 2);
    kept.tracker.relinked(&id("a"));
    assert_eq!(kept.read("a"), ["3.3 to 3.4: +c"]);
    kept.ack("a", 2, view_id(3, 3));
    assert_eq!(kept.read("a"), [""; 0], "that heartbeat went out on the link that is gone");

    let mut kept = Kept::large(2 * FULL, Limits::default());
    kept.admit(member("r"));
    let first = kept.next("r");
    assert!(kept.next("r").is_some());
    kept.tracker.relinked(&id("r"));
    assert_eq!(kept.next("r"), first, "a series begins again");
}

#[test]
fn v7_a_page_is_as_full_as_the_limit_allows() {
    let mut kept = Kept::large(2 * FULL - 1, Limits::default());
    kept.tracker.write(&mut kept.view, sized("m", 512));
    let pages = kept.read("a00");
    assert_eq!(pages, ["3.15 page 0: a00 a01 a02 a03 a04 a05 a06 …", "3.15 page 1: a07 a08 a09 a10 a11 a12 m"]);
    kept.tracker.write(&mut kept.view, sized("a00", 513));
    let pages = kept.read("a01");
    let expected =
        ["3.16 page 0: a00 a01 a02 a03 a04 a05 …", "3.16 page 1: a06 a07 a08 a09 a10 a11 a12 …", "3.16 page 2: m"];
    assert_eq!(pages, expected);
}

#[test]
fn v7_a_delta_is_as_long_as_allowed_and_the_rest_follows() {
    let mut kept = Kept::joined(Limits { send: 4_096, ..Limits::default() }, &["a"]);
    kept.read("a");
    for ix in 0..=FULL {
        kept.admit(sized(&format!("b{ix}"), 511));
    }
    assert_eq!(kept.read("a"), ["3.2 to 3.9: +b0 +b1 +b2 +b3 +b4 +b5 +b6", "3.9 to 3.10: +b7"]);
    // A change of a member is one more in any case, whether an earlier one goes into it or not.
    let mut longer = kept.clone();
    for ix in 0..FULL {
        longer.tracker.write(&mut longer.view, sized(&format!("b{ix}"), 511 + usize::from(ix == 0)));
    }
    assert_eq!(longer.read("a"), ["3.10 to 3.16: +b0 +b1 +b2 +b3 +b4 +b5", "3.16 to 3.17: +b6"]);
}

#[test]
fn v7_a_change_too_long_for_a_delta_is_sent_as_a_snapshot() {
    let known = (0..10).map(|ix| sized(&format!("b{ix}"), 511)).chain([member("a")]);
    let mut kept = Kept::new(Limits { send: 4_096, ..Limits::default() }, MembersView::new(view_id(2, 7), known));
    kept.begin(None, &["a"]);
    assert_eq!(kept.read("a"), ["3.1 page 0: a b0 b1 b2 b3 b4 b5 …", "3.1 page 1: b6 b7 b8 b9 m"]);
}

#[test]
fn v7_a_snapshot_replaces_a_longer_delta() {
    for (left, expected) in [(2, "3.2 to 3.6: -b0 -b1"), (3, "3.8 page 0: a m")] {
        let mut kept = Kept::joined(Limits::default(), &["a"]);
        kept.read("a");
        for ix in 0..left {
            kept.admit(member(&format!("b{ix}")));
        }
        for ix in 0..left {
            kept.remove(&format!("b{ix}"));
        }
        assert_eq!(kept.read("a"), [expected]);
    }
}

#[test]
fn g7_v7_a_member_behind_the_change_log_is_sent_a_snapshot() {
    for (joined, expected) in [(2, "3.2 to 3.4: +b0 +b1"), (3, "3.5 page 0: a b0 b1 b2 m")] {
        let mut kept = Kept::joined(Limits { change_log: 2, ..Limits::default() }, &["a"]);
        kept.read("a");
        for ix in 0..joined {
            kept.admit(member(&format!("b{ix}")));
        }
        assert_eq!(kept.tracker.log.len(), 2);
        assert_eq!(kept.read("a"), [expected]);
    }
}

#[test]
fn v9_a_member_with_an_unknown_view_is_sent_a_snapshot() {
    let snapshot: &[&str] = &["3.2 page 0: a m"];
    for (held, expected) in [(view_id(2, 9), snapshot), (view_id(3, 0), snapshot), (view_id(3, 9), &[])] {
        let mut kept = Kept::joined(Limits::default(), &["a"]);
        kept.read("a");
        kept.beat("a", 1);
        kept.ack("a", 1, held);
        assert_eq!(kept.read("a"), expected, "{held:?}");
    }
}

#[test]
fn a_delta_is_encoded_once_for_all_members_that_need_it() {
    let mut kept = Kept::joined(Limits { pinned_views: 2, ..Limits::default() }, &["a", "b", "c", "d"]);
    for id in ["a", "b"] {
        kept.read(id);
    }
    kept.admit(member("e"));
    for id in ["c", "d"] {
        kept.read(id);
    }
    kept.admit(member("f"));
    let [a, c, b, d] = ["a", "c", "b", "d"].map(|id| kept.frame(id).unwrap());
    assert_eq!([told(&a), told(&c)], ["3.5 to 3.7: +e +f", "3.6 to 3.7: +f"]);
    assert_eq!((a.as_ptr(), c.as_ptr()), (b.as_ptr(), d.as_ptr()));
    // Who lacks something else does not make them more than allowed.
    kept.ack("a", 9, view_id(3, 4));
    kept.tracker.relinked(&id("a"));
    assert_eq!(kept.next("a").unwrap(), "3.4 to 3.7: +d +e +f");
    assert_eq!(kept.tracker.deltas.len(), 1);
    kept.admit(member("g"));
    assert_eq!(kept.read("a"), ["3.7 to 3.8: +g"]);
}

#[test]
fn c6_an_update_that_does_not_fit_into_the_write_waits() {
    let mut kept = Kept::joined(Limits::default(), &["a"]);
    let fits = |kept: &mut Kept| {
        let len = kept.clone().frame("a").unwrap().len();
        assert_eq!(kept.tracker.next_update(&kept.view, &id("a"), (1, len - 1)), None);
        let frame = kept.tracker.next_update(&kept.view, &id("a"), (1, len));
        told(&frame.unwrap())
    };
    assert_eq!(fits(&mut kept), "3.2 page 0: a m");
    kept.admit(member("b"));
    assert_eq!(fits(&mut kept), "3.2 to 3.3: +b");
    assert_eq!(kept.read("a"), [""; 0]);
}

#[test]
fn a_snapshot_is_encoded_once_until_the_view_changes() {
    let mut kept = Kept::joined(Limits::default(), &["a", "b"]);
    let (a, b) = (kept.frame("a").unwrap(), kept.frame("b").unwrap());
    assert_eq!(a.as_ptr(), b.as_ptr());
    assert_eq!(kept.pinned(), ["3.3"]);
    kept.admit(member("c"));
    assert_eq!(kept.pinned(), [""; 0]);
}

/// A series once begun is finished; deltas follow it.
#[test]
fn g7_v7_slow_readers_share_the_newest_pinned_snapshot() {
    let mut kept = Kept::large(FULL, Limits { pinned_views: 2, change_log: 3, ..Limits::default() });
    let next = |kept: &mut Kept, id: &str, expected: &str| {
        let said = kept.next(id).unwrap();
        assert!(said.starts_with(expected), "{said} to {id}, not {expected}");
    };
    next(&mut kept, "a01", "3.8 page 0");
    kept.admit(member("r"));
    next(&mut kept, "a02", "3.9 page 0");
    next(&mut kept, "a03", "3.9 page 0");
    kept.admit(member("s"));
    assert_eq!(kept.pinned(), ["3.8", "3.9"]);
    next(&mut kept, "a04", "3.9 page 0");
    next(&mut kept, "a04", "3.9 page 1");
    next(&mut kept, "a04", "3.9 to 3.10: +s");
    assert_eq!(kept.pinned(), ["3.8", "3.9"], "others still read them");
    // One that holds as much, and is out of reach of deltas, waits for a place.
    for id in ["t", "u", "v"] {
        kept.admit(member(id));
    }
    kept.ack("a05", 1, view_id(3, 9));
    kept.tracker.relinked(&id("a05"));
    assert_eq!(kept.next("a05"), None);
    next(&mut kept, "a01", "3.8 page 1");
    assert_eq!(kept.pinned(), ["3.9"], "nobody reads it, and it is not the present one");
    next(&mut kept, "a05", "3.13 page 0");
    assert_eq!(kept.pinned(), ["3.9", "3.13"]);
    // Readers that go free their places, however they go.
    kept.tracker.link_down(&mut kept.view, &id("a02"));
    assert_eq!(kept.pinned(), ["3.9", "3.13"]);
    kept.remove("a03");
    assert_eq!(kept.pinned(), ["3.13"]);
    kept.admit(Member { node: node("a05", 2), ..member("a05") });
    assert_eq!(kept.pinned(), [""; 0]);
}
