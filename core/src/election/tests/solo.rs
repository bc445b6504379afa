//! E8: which voter continues without a quorum, when, and which master continues when masters meet.

use super::*;
use crate::Bootstrap;

const AFTER: u64 = 5_000;

fn config(me: &str) -> crate::ConfigBuilder {
    let seeds = ["a:1", "b:1", "c:1", "d:1", "e:1"];
    let after = Duration::from_millis(AFTER);
    Config::builder("test", me, at(me).as_str()).seeds(seeds).solo_after(after)
}

impl Rig {
    fn built(config: crate::ConfigBuilder) -> Self {
        let start = Start::new(Incarnation(1), 1);
        Self { election: Election::new(&config.build().unwrap(), &start, Rng::new(1), Timestamp::ZERO), now: 0 }
    }

    /// The voter `me` of five voters, linked to these others.
    fn linked(me: &str, others: &[&str]) -> Self {
        let mut rig = Self::built(config(me));
        others.iter().for_each(|other| rig.election.link_up(&at(other), &node(other), None));
        rig
    }

    /// A solo master of term 1 that has sent its first heartbeat, linked to these others.
    fn solo(me: &str, others: &[&str]) -> Self {
        let mut rig = Self::built(config(me));
        assert!(is_elected(&rig.wait(AFTER)));
        rig.next_heartbeat();
        others.iter().for_each(|other| rig.election.link_up(&at(other), &node(other), None));
        rig
    }

    fn next_heartbeat(&mut self) -> Heartbeat {
        self.election.next_heartbeat().expect("it is a master")
    }

    fn confirm(&mut self, id: &str, heartbeat: Heartbeat) -> Vec<Effect> {
        let Heartbeat { term, number, .. } = heartbeat;
        self.election.heartbeat_ack(
            &at(id),
            &HeartbeatAck { term, number, view_id: ViewId::default(), confirms: true, electorate: Default::default() },
        );
        self.effects()
    }
}

fn gave_way(effects: &[Effect]) -> bool {
    matches!(effects.first(), Some(Effect::Lost { reason: LossReason::GaveWay, .. }))
}

#[test]
fn e8_a_lone_voter_leads_once_its_vote_is_durable() {
    let mut rig = Rig::built(config("c"));
    assert!(rig.wait(AFTER - 1).is_empty());
    rig.now += MS;
    rig.election.advance(Timestamp::from_micros(rig.now));
    assert!(matches!(rig.election.next_effect(), Some(Effect::Persist { .. })));
    assert_eq!((rig.election.next_effect(), rig.election.is_master()), (None, false), "E4");
    rig.election.persisted();
    assert!(is_elected(&rig.effects()));
    assert_eq!(rig.election.role(), Role::Solo { members: 1 });
    assert_eq!(rig.election.promised_to(), None, "nobody has to wait for its end");
    assert_eq!(rig.election.leadership(Timestamp::from_micros(rig.now)).map(|l| l.term), Some(Term(1)));
    assert!(rig.wait(3_600_000).is_empty(), "nobody has to confirm it");
}

#[test]
fn e8_solo_after_is_a_deadline() {
    let mut rig = Rig::linked("b", &["a"]);
    rig.report("a", Role::Joining, None);
    rig.wait(3_000);
    rig.wait(AFTER - 3_001);
    assert_eq!(rig.election.next_deadline(), Some(Timestamp::from_micros((AFTER + 100) * MS)));
}

#[test]
fn e8_without_solo_after_nobody_becomes_solo() {
    let mut rig = Rig::new("a");
    assert!(rig.wait(3_600_000).is_empty());
    assert_eq!(rig.election.role(), Role::Joining);
}

#[test]
fn e8_the_lowest_linked_id_goes_first() {
    for (me, wait) in [("a", 0), ("b", 100), ("c", 200)] {
        let others: Vec<_> = ["a", "b", "c"].into_iter().filter(|other| *other != me).collect();
        let mut rig = Rig::linked(me, &others);
        for other in &others {
            // Otherwise three of the five could elect one of them.
            let abstaining = StatusReport { abstains: true, ..status(Role::Joining) };
            rig.election.status_received(&node(other), &at(other), &abstaining);
        }
        assert!(rig.wait(AFTER + wait - 1).is_empty(), "{me}");
        assert!(is_elected(&rig.wait(1)), "{me}");
    }
}

#[test]
fn e8_a_quorum_restarts_the_clock_of_solo_after() {
    let mut rig = Rig::linked("a", &["b"]);
    rig.wait(4_000);
    rig.election.link_up(&at("c"), &node("c"), None);
    rig.report("b", Role::Joining, None);
    assert_eq!(requests(&rig.report("c", Role::Joining, None)), 2, "the count of E2 is met");
    rig.election.link_down(&at("c"));
    let since = rig.now;
    while !rig.election.is_master() && rig.now < since + 60_000 * MS {
        rig.wait(1);
    }
    assert!(rig.now >= since + AFTER * MS, "{} ms", (rig.now - since) / MS);
    assert!(rig.election.is_solo());
}

#[test]
fn e8_a_promise_a_master_or_a_lost_vote_prevents_solo() {
    let mut bound = Rig::linked("c", &["a"]);
    bound.wait(AFTER - 500);
    assert_eq!(answer(&bound.request("a", 1)), Some(true));
    bound.election.link_down(&at("a"));
    assert!(bound.wait(999).is_empty(), "E5");
    assert!(is_elected(&bound.wait(1)));
    for role in [follows("x"), Role::Master, Role::Candidate] {
        let mut rig = Rig::linked("c", &["a"]);
        // It is not followed, because its term is older than that of this voter.
        rig.report_in(7, "a", Role::Joining, None);
        rig.report_in(3, "a", role.clone(), None);
        assert!(rig.wait(60_000).is_empty(), "{role:?}");
        rig.election.link_down(&at("a"));
        assert!(is_elected(&rig.wait(1)), "{role:?}");
    }
    let mut rig = Rig::built(config("c").bootstrap(Bootstrap::JoinOnly));
    assert!(rig.wait(60_000).is_empty(), "JoinOnly");
    let mut rig = Rig::built(config("c"));
    rig.election.persistence.failed = true;
    assert!(rig.wait(60_000).is_empty(), "E4");
}

/// Each line has the status of another master, and the term in which this one continues, if it does. This one is b, with
/// two members, in term 1.
#[test]
fn e8_quorum_then_members_then_term_then_id_decide() {
    let solo = |members| Role::Solo { members };
    for (other, term, role, continues_in) in [
        ("c", 1, Role::Master, None),
        ("c", 9, solo(1), Some(10)),
        ("a", 0, solo(3), None),
        ("c", 2, solo(2), None),
        ("a", 0, solo(2), Some(1)),
        ("a", 1, solo(2), None),
        ("c", 1, solo(2), Some(2)),
    ] {
        let mut rig = Rig::solo("b", &[other]);
        let preferred = config(other).priority(9).build().unwrap();
        rig.election.link_up(&at(other), &node(other), Some(&Voting::of(&preferred)));
        rig.election.set_members(2);
        let effects = rig.report_in(term, other, role.clone(), None);
        let case = alloc::format!("{other} in term {term}: {role:?}");
        assert_eq!(rig.election.is_solo().then(|| rig.election.term().0), continues_in, "{case}");
        assert_eq!(gave_way(&effects), continues_in.is_none(), "{case}");
    }
}

#[test]
fn e8_a_loser_follows_once_the_winner_has_a_newer_term() {
    let mut rig = Rig::solo("b", &["a"]);
    assert!(gave_way(&rig.report_in(0, "a", Role::Solo { members: 2 }, None)));
    assert_eq!(rig.election.role(), Role::Joining, "the term of the winner is older");
    rig.report_in(2, "a", Role::Solo { members: 2 }, None);
    assert_eq!((rig.election.role(), rig.election.follows_solo()), (follows("a"), true));
    assert_eq!(rig.election.promised_to(), None);
    assert!(rig.election.take_gave_way());
}

#[test]
fn e8_a_loser_leads_again_at_once_when_the_winner_is_gone() {
    let mut rig = Rig::solo("b", &["a"]);
    rig.election.set_members(2);
    assert!(gave_way(&rig.report_in(0, "a", Role::Solo { members: 3 }, None)));
    rig.election.link_down(&at("a"));
    assert!(is_elected(&rig.wait(1)));
    assert_eq!(rig.election.role(), Role::Solo { members: 1 });
}

#[test]
fn e8_a_silent_master_does_not_prevent_following_a_solo_one() {
    let mut rig = Rig::linked("e", &["a", "d"]);
    rig.report_in(4, "a", Role::Master, None);
    rig.wait(1_000);
    assert_eq!(rig.election.role(), Role::Joining);
    rig.report_in(5, "d", Role::Solo { members: 1 }, None);
    assert!(rig.election.follows_solo());
}

#[test]
fn e8_a_solo_master_that_loses_members_may_give_way() {
    let mut rig = Rig::solo("b", &["c"]);
    rig.election.set_members(3);
    rig.report_in(0, "c", Role::Solo { members: 2 }, None);
    assert!(rig.election.is_solo());
    rig.election.set_members(1);
    assert!(gave_way(&rig.effects()));
}

#[test]
fn e8_a_status_of_an_earlier_link_ends_no_mastership() {
    let mut rig = Rig::solo("b", &["c"]);
    rig.election.set_members(3);
    rig.report_in(0, "c", Role::Solo { members: 2 }, None);
    rig.election.link_down(&at("c"));
    rig.election.set_members(1);
    assert!(rig.election.is_solo());
    let mut rig = Rig::solo("b", &["a"]);
    rig.election.link_down(&at("a"));
    rig.election.status_received(&node("a"), &at("a"), &StatusReport { term: Term(1), ..status(Role::Joining) });
    rig.effects();
    rig.election.others.get_mut(&at("a")).unwrap().last_report.as_mut().unwrap().role = RoleKind::Master;
    rig.election.link_up(&at("a"), &node("a"), None);
    rig.wait(200);
    assert!(rig.election.is_solo());
    assert!(gave_way(&rig.report_in(1, "a", Role::Master, None)));
}

#[test]
fn e8_a_quorums_master_takes_a_term_above_a_solo_master() {
    for (theirs, next) in [(7, 8), (1, 2)] {
        let mut rig = master_of_five();
        let effects = rig.report_in(theirs, "d", Role::Solo { members: 9 }, None);
        assert!(matches!(effects.first(), Some(Effect::Lost { reason: LossReason::NewerTerm, .. })), "{effects:?}");
        assert_eq!((rig.election.term(), rig.election.role()), (Term(next), Role::Candidate));
    }
    let mut rig = master_of_five();
    assert!(rig.report_in(0, "d", Role::Solo { members: 9 }, None).is_empty(), "its own term is higher already");
    assert_eq!(rig.election.heartbeat(&node("d"), &at("d"), heartbeat(5)), (false, false));
    assert_eq!((rig.election.role(), rig.election.term()), (Role::Master, Term(1)));
}

/// The voter a, elected by b and c in term 1, and linked to d.
fn master_of_five() -> Rig {
    let mut rig = Rig::linked("a", &["b", "c", "d"]);
    rig.wait(3_000);
    rig.report("b", Role::Joining, None);
    rig.report("c", Role::Joining, None);
    rig.grant("b");
    assert!(is_elected(&rig.grant("c")));
    rig.next_heartbeat();
    rig
}

#[test]
fn e8_a_solo_master_with_a_quorum_is_a_candidate_at_once() {
    let mut rig = Rig::solo("d", &["a", "b"]);
    ["a", "b"].iter().for_each(|other| drop(rig.report_in(1, other, follows("d"), Some("d"))));
    let heartbeat = rig.next_heartbeat();
    assert!(rig.confirm("a", heartbeat).is_empty());
    assert!(rig.confirm("a", heartbeat).is_empty(), "that is one voter of two");
    let effects = rig.confirm("b", heartbeat);
    assert_eq!((requests(&effects), rig.election.term()), (2, Term(2)));
    rig.grant("a");
    assert!(is_elected(&rig.grant("b")));
    assert_eq!(rig.election.role(), Role::Master);
}

#[test]
fn e8_a_confirmation_counts_for_as_long_as_a_lease() {
    // A lease of one second, minus the clock drift of one percent.
    for (ms, counts) in [(989, true), (990, false)] {
        let mut rig = Rig::solo("d", &["a", "b"]);
        ["a", "b"].iter().for_each(|other| drop(rig.report_in(1, other, follows("d"), Some("d"))));
        let first = rig.next_heartbeat();
        rig.confirm("a", first);
        rig.wait(ms);
        let second = rig.next_heartbeat();
        assert_eq!(requests(&rig.confirm("b", second)) == 2, counts, "after {ms} ms");
    }
}

#[test]
fn e8_a_quorums_master_or_a_candidate_prevents_following() {
    for (role, follows) in [(Role::Joining, true), (Role::Master, false), (Role::Candidate, false)] {
        let mut rig = Rig::linked("e", &["a", "d"]);
        // It is not followed, because its term is older than that of this voter.
        rig.report_in(7, "a", Role::Joining, None);
        rig.report_in(3, "a", role.clone(), None);
        rig.report_in(8, "d", Role::Solo { members: 1 }, None);
        assert_eq!(rig.election.follows_solo(), follows, "{role:?}");
    }
}

#[test]
fn e8_a_resigned_master_does_not_prevent_following() {
    let mut rig = Rig::linked("e", &["a", "d"]);
    rig.report_in(7, "a", Role::Joining, None);
    rig.report_in(3, "a", Role::Master, None);
    rig.election.resigned(&node("a"), &at("a"), Term(3));
    rig.report_in(8, "d", Role::Solo { members: 1 }, None);
    assert!(rig.election.follows_solo());
}

/// Its candidacy would fail, and its members would have no master in the meantime.
#[test]
fn e8_abstaining_voters_are_no_quorum() {
    let mut rig = Rig::solo("d", &["a", "b"]);
    for other in ["a", "b"] {
        rig.election.status_received(
            &node(other),
            &at(other),
            &StatusReport { term: Term(1), abstains: true, ..status(follows("d")) },
        );
    }
    let heartbeat = rig.next_heartbeat();
    rig.confirm("a", heartbeat);
    rig.confirm("b", heartbeat);
    assert!(rig.election.is_solo());
}

#[test]
fn e8_a_follower_grants_to_its_solo_master_at_once() {
    let mut rig = Rig::linked("a", &["d", "b"]);
    rig.report("b", Role::Joining, None);
    rig.wait(3_000);
    rig.report_in(1, "d", Role::Solo { members: 1 }, None);
    assert_eq!(rig.election.heartbeat(&node("d"), &at("d"), heartbeat(1)), (true, true));
    rig.report_in(2, "d", Role::Candidate, Some("d"));
    assert_eq!(rig.election.role(), Role::Joining);
    assert_eq!(answer(&rig.request("d", 2)), Some(true));
}

/// G2: the lease of a quorum's master may depend on the promise.
#[test]
fn e8_a_promise_is_never_broken_for_a_solo_master() {
    let mut rig = Rig::linked("e", &["a", "d"]);
    rig.wait(3_000);
    assert_eq!(answer(&rig.request("a", 1)), Some(true));
    rig.report_in(4, "d", Role::Solo { members: 3 }, None);
    assert_eq!(rig.election.heartbeat(&node("d"), &at("d"), heartbeat(4)), (false, false));
    assert_eq!(rig.election.promised_to(), Some(&node("a")));
    rig.wait(1_000);
    assert_eq!(rig.election.heartbeat(&node("d"), &at("d"), heartbeat(4)), (true, true));
}

#[test]
fn e8_a_follower_is_free_once_its_solo_master_gives_way() {
    let mut rig = Rig::linked("e", &["a", "d"]);
    rig.wait(3_000);
    rig.report_in(1, "d", Role::Solo { members: 1 }, None);
    rig.election.heartbeat(&node("d"), &at("d"), heartbeat(1));
    rig.report_in(2, "a", Role::Solo { members: 2 }, None);
    assert_eq!(rig.election.role(), follows("d"), "its master decides first");
    rig.report_in(1, "d", Role::Joining, None);
    assert_eq!(rig.election.promised_to(), None);
    assert_eq!(rig.election.heartbeat(&node("a"), &at("a"), heartbeat(2)), (true, true));
    assert!(rig.election.take_gave_way());
}

#[test]
fn e8_a_follower_changes_from_a_solo_to_a_quorums_master() {
    let mut rig = Rig::linked("e", &["a", "d"]);
    rig.wait(3_000);
    rig.report_in(3, "d", Role::Solo { members: 4 }, None);
    rig.report_in(2, "a", Role::Master, None);
    assert_eq!(rig.election.role(), follows("d"), "the term is older, and its master will rise above it");
    rig.report_in(4, "a", Role::Master, None);
    assert_eq!((rig.election.role(), rig.election.follows_solo()), (follows("a"), false));
    rig.report_in(9, "d", Role::Solo { members: 9 }, None);
    assert_eq!((rig.election.role(), rig.election.term()), (follows("a"), Term(4)), "it never changes back");
}

/// Otherwise two clusters with neighbours in common would raise each other's term for ever.
#[test]
fn e8_the_solo_side_takes_no_term_from_other_followers() {
    let mut rig = Rig::solo("b", &["c", "d"]);
    for promise in [Some("x"), None] {
        rig.report_in(8, "c", follows("x"), promise);
        assert_eq!((rig.election.is_solo(), rig.election.term()), (true, Term(1)));
    }
    rig.election.heartbeat_ack(
        &at("c"),
        &HeartbeatAck {
            term: Term(8),
            number: 1,
            view_id: ViewId::default(),
            confirms: false,
            electorate: Default::default(),
        },
    );
    assert_eq!((rig.election.is_solo(), rig.election.term()), (true, Term(1)));
    rig.report_in(8, "d", Role::Joining, None);
    assert_eq!((rig.election.is_solo(), rig.election.term()), (true, Term(9)), "a joining node could be admitted");
    let mut rig = Rig::linked("e", &["c", "d"]);
    rig.wait(3_000);
    rig.report_in(1, "d", Role::Solo { members: 1 }, None);
    rig.report_in(8, "c", follows("x"), Some("x"));
    rig.report_in(8, "c", Role::Joining, None);
    assert_eq!((rig.election.role(), rig.election.term()), (follows("d"), Term(1)));
}

/// A joining voter sends its status once. A node that became solo master only later did not rise above its term (seed 2564).
#[test]
fn e8_a_solo_master_rises_above_the_term_of_a_joining_node() {
    let mut rig = Rig::linked("e", &["d"]);
    rig.wait(3_000);
    rig.report_in(1, "d", Role::Solo { members: 1 }, None);
    rig.election.status_received(&node("b"), &at("b"), &StatusReport { term: Term(8), ..status(Role::Joining) });
    assert_eq!((rig.election.role(), rig.election.term()), (follows("d"), Term(1)));
    rig.election.link_down(&at("d"));
    rig.wait(1_000);
    assert!(is_elected(&rig.wait(AFTER)));
    rig.next_heartbeat();
    assert!(is_elected(&rig.effects()));
    assert_eq!((rig.election.is_solo(), rig.election.term()), (true, Term(9)));
}

/// G1 and G2 hold for it.
#[test]
fn e8_without_solo_after_solo_masters_are_ignored() {
    let mut rig = Rig::past_bootstrap("c");
    rig.report_in(5, "a", Role::Solo { members: 2 }, None);
    assert_eq!(rig.election.heartbeat(&node("a"), &at("a"), heartbeat(5)), (false, false));
    assert!(!rig.election.accept_master(&node("a"), &at("a"), Term(5)));
    assert_eq!((rig.election.role(), rig.election.term()), (Role::Joining, Term(0)));
    let mut rig = Rig::past_bootstrap("c");
    rig.report_in(1, "a", Role::Master, None);
    rig.report_in(5, "a", Role::Solo { members: 2 }, None);
    assert_eq!(
        (rig.election.role(), rig.election.term()),
        (Role::Joining, Term(1)),
        "the solo master was its master before"
    );
}
