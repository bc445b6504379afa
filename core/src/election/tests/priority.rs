//! E2, E3, L8: a priority comes before the id.

use super::*;

fn voting(priority: u8) -> Voting {
    let config = Config::builder("test", "a", "a:1").seeds(["a:1", "b:1", "c:1"]).priority(priority);
    Voting::of(&config.build().unwrap())
}

/// The voter `me` with a priority, `bootstrap_wait` after its start, and linked to the others with theirs.
fn rig(me: (&str, u8), others: [(&str, u8); 2]) -> Rig {
    let config = Config::builder("test", me.0, at(me.0).as_str()).seeds(["a:1", "b:1", "c:1"]).priority(me.1);
    let start = Start::new(Incarnation(1), 1);
    let election = Election::new(&config.build().unwrap(), &start, Rng::new(1), Timestamp::ZERO);
    let mut rig = Rig { election, now: 0 };
    for (other, priority) in others {
        rig.election.link_up(&at(other), &node(other), Some(&voting(priority)));
    }
    rig.wait(3_000);
    rig
}

#[test]
fn e2_the_highest_priority_has_the_first_turn() {
    let mut first = rig(("c", 1), [("a", 0), ("b", 0)]);
    first.report("a", Role::Joining, None);
    first.report("b", Role::Joining, None);
    assert_eq!(first.election.role(), Role::Candidate);
    for (me, others, turn) in
        [("a", [("b", 0), ("c", 1)], 100), ("b", [("a", 0), ("c", 1)], 200), ("a", [("b", 2), ("c", 1)], 200)]
    {
        let mut rig = rig((me, 0), others);
        for (other, _) in others {
            rig.report(other, Role::Joining, None);
        }
        // Its turns are counted from when it became free, which is now.
        assert_eq!(rig.election.wait_of(rig.election.own_rank()), Duration::from_millis(turn), "{me} {others:?}");
    }
}

#[test]
fn e2_with_equal_priorities_the_lowest_id_has_the_first_turn() {
    let mut rig = rig(("a", 7), [("b", 7), ("c", 7)]);
    rig.report("b", Role::Joining, None);
    rig.report("c", Role::Joining, None);
    assert_eq!(rig.election.role(), Role::Candidate);
}

#[test]
fn e2_the_newest_hello_of_a_voter_counts() {
    let mut rig = rig(("a", 0), [("b", 0), ("c", 1)]);
    assert_eq!(rig.election.wait_of(rig.election.own_rank()), Duration::from_millis(100));
    rig.election.link_down(&at("c"));
    assert_eq!(rig.election.wait_of(rig.election.own_rank()), Duration::ZERO, "only linked voters count");
    let restarted = Node { incarnation: Incarnation(2), ..node("c") };
    rig.election.link_up(&at("c"), &restarted, Some(&voting(0)));
    assert_eq!(rig.election.wait_of(rig.election.own_rank()), Duration::ZERO);
    rig.effects();
}

#[test]
fn e2_no_voter_stands_beside_a_preferred_candidate() {
    for (priority, role) in [(1, Role::Joining), (0, Role::Candidate)] {
        let mut rig = rig(("a", 0), [("b", 0), ("c", priority)]);
        rig.report_in(1, "c", Role::Candidate, None);
        rig.report("b", Role::Joining, None);
        // Its turn comes in this time, and a candidacy does not end.
        rig.wait(400);
        assert_eq!(rig.election.role(), role, "the priority of the candidate is {priority}");
    }
}

#[test]
fn e3_of_two_deferred_requests_the_preferred_one_is_granted() {
    let mut rig = rig(("b", 0), [("a", 0), ("c", 1)]);
    rig.report_in(1, "a", Role::Master, None);
    rig.election.heartbeat(&node("a"), &at("a"), heartbeat(1));
    // The promise to another run of the master has at most the stagger left, so both requests are deferred.
    rig.wait(950);
    let restarted = Node { incarnation: Incarnation(2), ..node("a") };
    rig.election.link_up(&at("a"), &restarted, Some(&voting(0)));
    rig.election.vote_request(&restarted, vote_request(2));
    rig.request("c", 2);
    assert_eq!(rig.election.deferred.len(), 2, "E3");
    rig.wait(50);
    assert_eq!(rig.election.promised_to(), Some(&node("c")));
}

/// L8: the voter a is the master, and both others follow it.
fn led(others: [(&str, u8); 2]) -> Rig {
    let mut rig = rig(("a", 1), others);
    rig.report("b", Role::Joining, None);
    rig.report("c", Role::Joining, None);
    rig.wait(300);
    assert!(is_elected(&rig.grant("b")));
    rig.report_in(1, "b", follows("a"), Some("a"));
    rig.report_in(1, "c", follows("a"), Some("a"));
    rig
}

fn better(rig: &Rig) -> Vec<(&str, bool)> {
    rig.election.better_masters().into_iter().map(|better| (better.node.id.as_str(), better.follows)).collect()
}

#[test]
fn l8_only_a_higher_priority_is_better() {
    assert_eq!(better(&led([("b", 0), ("c", 2)])), [("c", true)]);
    assert_eq!(better(&led([("b", 2), ("c", 3)])), [("c", true), ("b", true)], "in the order of the turns");
    assert_eq!(better(&led([("b", 2), ("c", 2)])), [("b", true), ("c", true)]);
    assert_eq!(better(&led([("b", 0), ("c", 1)])), []);
    let follower = rig(("a", 1), [("b", 0), ("c", 2)]);
    assert_eq!(better(&follower), [], "it is no master");
}

#[test]
fn l8_a_voter_that_cannot_be_the_next_master_is_not_better() {
    let others = [("b", 0), ("c", 2)];
    let mut down = led(others);
    down.election.link_down(&at("c"));
    assert_eq!(better(&down), [], "it is not linked");
    let mut leaves = led(others);
    leaves.report_in(1, "c", Role::Leaving, None);
    assert_eq!(better(&leaves), [], "it leaves");
    let mut abstains = led(others);
    let unsound = StatusReport { term: Term(1), abstains: true, ..status(follows("a")) };
    abstains.election.status_received(&node("c"), &at("c"), &unsound);
    assert_eq!(better(&abstains), [], "it cannot vote");
    let mut joins = led(others);
    joins.report_in(1, "c", Role::Joining, None);
    assert_eq!(better(&joins), [("c", false)], "it would have the first turn, and is no member");
    for (lease, bootstrap_wait, expected) in [(1_000, 900, &[("c", false)][..]), (4_000, 3_000, &[])] {
        let mut rig = led(others);
        let times = [lease, bootstrap_wait].map(Duration::from_millis);
        let voting = Voting { lease: times[0], bootstrap_wait: times[1], ..voting(2) };
        rig.election.link_up(&at("c"), &node("c"), Some(&voting));
        assert_eq!(better(&rig), expected, "it does not confirm the lease, or nobody confirms its lease");
    }
}

#[test]
fn l8_nobody_is_better_without_a_quorum_that_votes() {
    let mut rig = led([("b", 0), ("c", 2)]);
    rig.election.link_down(&at("b"));
    assert_eq!(better(&rig), [("c", true)], "this node and c are a quorum");
    rig.election.persistence.failed = true;
    assert_eq!(better(&rig), [], "this node cannot vote");
}
