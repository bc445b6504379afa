//! How long an update is, and which members share one.

use super::*;

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
    assert_eq!(longer.read("a"), ["3.9 to 3.15: +b0 +b1 +b2 +b3 +b4 +b7", "3.15 to 3.17: +b5 +b6"]);
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
    // Members that lack something else do not make them more than allowed.
    rig.beat("a", 9);
    rig.ack("a", 9, view_id(3, 4));
    rig.relink("a");
    assert_eq!(rig.next("a").unwrap(), "3.4 to 3.7: +d +e +f");
    assert_eq!(rig.tracker.deltas.len(), 3, "of the views 3.4, 3.5 and 3.6");
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
fn v7_a_snapshot_is_encoded_once_for_several_joining_nodes() {
    let mut rig = Rig::joined(Limits::default(), &["a", "b"]);
    let (a, b) = (rig.frame("a").unwrap(), rig.frame("b").unwrap());
    assert_eq!(a.as_ptr(), b.as_ptr());
    let names: Vec<String> = (0..60).map(|ix| format!("n{ix:02}")).collect();
    for name in &names {
        rig.admit(member(name));
    }
    // 64 members: it serves those that join with the next two changes, too.
    for (name, behind) in
        [("x", ""), ("y", "3.64 to 3.65: +y"), ("z", "3.64 to 3.65: +y, 3.65 to 3.66: +z"), ("zz", "")]
    {
        rig.admit(member(name));
        let sent = rig.read(name);
        let page = if name == "zz" { "3.67 page 0: " } else { "3.64 page 0: " };
        assert!(sent[0].starts_with(page), "{name}: {sent:?}");
        assert_eq!(sent[1..].join(", "), behind, "{name}");
    }
    assert_eq!(rig.pinned(), ["3.67"], "only the newest one is kept for others");
    rig.tracker.begin_round(rig.held.view());
    assert_eq!(rig.pinned(), ["3.67"], "it was wanted since the last heartbeat");
    rig.tracker.begin_round(rig.held.view());
    assert_eq!(rig.pinned(), [""; 0]);
}

/// Nine members hold nine different views. Four deltas serve them, and each is sent at most twice as many changes as it lacks.
#[test]
fn v7_members_that_hold_different_views_share_deltas() {
    let names: Vec<String> = (0..9).map(|ix| format!("a{ix}")).collect();
    let mut rig = Rig::joined(Limits::default(), &[]);
    for name in &names {
        rig.admit(member(name));
        rig.read(name);
    }
    rig.tracker.begin_round(rig.held.view());
    let sent: Vec<String> = names.iter().map(|name| rig.read(name).join(", ")).collect();
    let to = |base: u64, first: usize| format!("3.{base} to 3.10: +{}", names[first..].join(" +"));
    // The view of a0 has eight changes less than the present one, that of a8 none.
    let expected = [to(2, 1), to(2, 1), to(2, 1), to(2, 1), to(6, 5), to(7, 6), to(8, 7), to(9, 8), String::new()];
    assert_eq!(sent, expected);
    assert_eq!(rig.tracker.deltas.len(), 5);
}

/// The write is too short for a delta that has more changes than the member lacks.
#[test]
fn v7_a_delta_that_ends_before_what_a_member_holds_is_not_sent() {
    let mut rig = Rig::joined(Limits { send: 4_096, ..Limits::default() }, &["a"]);
    rig.read("a");
    for ix in 0..FULL {
        rig.admit(sized(&format!("b{ix}"), 511));
    }
    rig.read("a");
    for ix in 0..9 {
        rig.admit(sized(&format!("c{ix}"), 511));
    }
    rig.tracker.begin_round(rig.held.view());
    assert_eq!(rig.read("a"), ["3.9 to 3.16: +c0 +c1 +c2 +c3 +c4 +c5 +c6", "3.16 to 3.18: +c7 +c8"]);
}

/// Its acknowledgement may be a lie. Or the voters have begun again with lower terms, and it has not gone back yet (E7).
#[test]
fn v7_a_member_that_names_a_view_of_a_later_term_costs_nothing() {
    let mut rig = Rig::large(FULL + 1, Limits::default());
    assert!(rig.next("a00").unwrap().starts_with("3.9 page 0"));
    rig.read("a01");
    rig.beat("a01", 1);
    rig.ack("a01", 1, view_id(9, 9));
    let before = rig.tracker.clone();
    assert_eq!(rig.next("a01"), None);
    assert_eq!(rig.tracker, before, "nothing is encoded for it");
    assert!(rig.next("a00").unwrap().starts_with("3.9 page 1"));
}

/// More changes than there are members: only a snapshot could replace a delta on the earlier view. The exact delta has the reasons.
#[test]
fn v7_a_shared_delta_that_is_longer_than_a_snapshot_is_not_sent() {
    let names: Vec<String> = (0..10).map(|ix| format!("b{ix}")).collect();
    let mut rig = Rig::joined(Limits::default(), &["a"]);
    for name in &names {
        rig.admit(member(name));
    }
    for name in &names[..3] {
        rig.tracker.write(&mut rig.held, sized(name, 100));
    }
    rig.read("a");
    for name in &names[5..] {
        rig.remove(name);
    }
    rig.tracker.begin_round(rig.held.view());
    assert_eq!(rig.read("a"), ["3.15 to 3.20: -b5 -b6 -b7 -b8 -b9"]);
}

/// A snapshot that nobody reads gives its place to another one.
#[test]
fn v7_a_snapshot_that_is_kept_takes_no_place_from_others() {
    let mut rig = Rig::joined(Limits { pinned_views: 1, ..Limits::default() }, &["a"]);
    rig.read("a");
    assert_eq!(rig.pinned(), ["3.2"]);
    rig.admit(member("b"));
    assert_eq!(rig.read("b"), ["3.3 page 0: a b m"]);
    assert_eq!(rig.pinned(), ["3.3"]);
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
    rig.relink("a05");
    assert_eq!(rig.next("a05"), None);
    next(&mut rig, "a01", "3.8 page 1");
    assert_eq!(rig.pinned(), ["3.9"], "nobody reads it, and it is not the newest");
    next(&mut rig, "a05", "3.13 page 0");
    assert_eq!(rig.pinned(), ["3.9", "3.13"]);
    // Readers that go free their places, however they go.
    rig.tracker.link_down(&mut rig.held, &id("a02"));
    assert_eq!(rig.pinned(), ["3.9", "3.13"]);
    rig.remove("a03");
    assert_eq!(rig.pinned(), ["3.13"]);
    rig.admit(Member { node: node("a05", 2), ..member("a05") });
    assert_eq!(rig.pinned(), ["3.13"]);
    // Without readers, a kept one gives its place to a newer one.
    next(&mut rig, "a05", "3.16 page 0");
    assert_eq!(rig.pinned(), ["3.16"]);
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
    rig.relink("a02");
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
