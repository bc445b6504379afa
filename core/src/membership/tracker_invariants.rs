//! Each invariant of the tracker fails when its fields are changed.

use super::*;
use crate::violations::{Violation, expect_all_listed, expect_violations};

/// A master with members on two pages. The first member has read the first page.
fn reading() -> Rig {
    let mut rig = Rig::large(FULL + 1, Limits::default());
    assert!(rig.frame("a00").is_some());
    rig
}

fn first(rig: &mut Rig) -> &mut Tracked {
    rig.tracker.tracked.get_mut(&id("a00")).unwrap()
}

const VIOLATIONS: [Violation<Rig>; 10] = [
    (reading, |k| k.tracker.log_limit = 0, "the log of changes is within its limit"),
    (reading, |k| k.tracker.pin_limit = 0, "the pinned views are within their limit"),
    (reading, |k| k.tracker.log[0].view_id = view_id(9, 9), "each step of the log follows the last"),
    (reading, |k| k.tracker.log.clear(), "the log leads to the present view"),
    (reading, |k| drop(k.tracker.ids.insert(MemberKey(99), id("a00"))), "each key is that of a member"),
    (reading, |k| first(k).key = MemberKey(99), "keys name members, and these know their keys"),
    (
        reading,
        |k| {
            let removal = Change::Remove { id: id("a00"), reason: RemovalReason::Left };
            k.held.apply(k.held.view().id(), &[removal]);
        },
        "a member is linked only while it is a peer",
    ),
    (reading, |k| k.tracker.pinned.values_mut().for_each(|pinned| pinned.readers += 1), "readers of 3.9"),
    (reading, |k| first(k).series = Some((k.held.view().id(), 99)), "a series that is read is pinned"),
    (
        reading,
        |k| {
            first(k).series = Some((view_id(9, 9), 0));
            k.tracker.pinned.values_mut().for_each(|pinned| pinned.readers = 0);
        },
        "a series that is read is pinned",
    ),
];

#[test]
fn every_invariant_of_the_tracker_notices_its_violation() {
    expect_violations(&VIOLATIONS, Rig::check);
    expect_all_listed(include_str!("tracker.rs"), &VIOLATIONS);
}
