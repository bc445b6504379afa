//! E8: who goes on without a quorum, when, and who wins when masters meet.

use super::*;
use crate::Bootstrap;

const AFTER: u64 = 5_000;

fn config(me: &str) -> crate::ConfigBuilder {
    let seeds = ["a:1", "b:1", "c:1", "d:1", "e:1"];
    let after = core::time::Duration::from_millis(AFTER);
    Config::builder("test", me, at(me).as_str()).seeds(seeds).solo_after(after)
}

impl Voting {
    fn built(config: crate::ConfigBuilder) -> Self {
        let start = Start::new(Incarnation(1), 1);
        Self { election: Election::new(&config.build().unwrap(), &start, Rng::new(1), Timestamp::ZERO), now: 0 }
    }

    /// Of five voters, linked to these.
    fn beside(me: &str, others: &[&str]) -> Self {
        let mut voting = Self::built(config(me));
        others.iter().for_each(|other| voting.election.link_up(&at(other), &node(other)));
        voting
    }

    /// A solo master in term 1 whose first heartbeat has gone out, linked to these.
    fn solo(me: &str, others: &[&str]) -> Self {
        let mut voting = Self::built(config(me));
        assert!(is_elected(&voting.wait(AFTER)));
        voting.beat();
        others.iter().for_each(|other| voting.election.link_up(&at(other), &node(other)));
        voting
    }

    fn beat(&mut self) -> Heartbeat {
        self.election.next_heartbeat().expect("it is a master")
    }

    fn confirms(&mut self, id: &str, heartbeat: Heartbeat) -> Vec<Effect> {
        let Heartbeat { term, number, .. } = heartbeat;
        self.election
            .heartbeat_ack(&at(id), &HeartbeatAck { term, number, view_id: ViewId::default(), confirms: true });
        self.effects()
    }
}

fn follows(id: &str) -> Role {
    Role::Follower { master: node(id), address: at(id) }
}

fn heartbeat(term: u64) -> Heartbeat {
    Heartbeat { term: Term(term), number: 1, lease: core::time::Duration::from_secs(1) }
}

fn gave_way(effects: &[Effect]) -> bool {
    matches!(effects.first(), Some(Effect::Lost { reason: LossReason::GaveWay, .. }))
}

#[test]
fn e8_a_voter_alone_leads_after_solo_after_once_its_vote_is_durable() {
    let mut voting = Voting::built(config("c"));
    assert!(voting.wait(AFTER - 1).is_empty());
    voting.now += MS;
    voting.election.advance(Timestamp::from_micros(voting.now));
    assert!(matches!(voting.election.next_effect(), Some(Effect::Persist { .. })));
    assert_eq!((voting.election.next_effect(), voting.election.is_master()), (None, false), "E4");
    voting.election.persisted();
    assert!(is_elected(&voting.effects()));
    assert_eq!(voting.election.role(), Role::Solo { members: 1 });
    assert_eq!(voting.election.promised_to(), None, "nobody has to wait for the end of it");
    assert_eq!(voting.election.leadership(Timestamp::from_micros(voting.now)).map(|l| l.term), Some(Term(1)));
    assert!(voting.wait(3_600_000).is_empty(), "nobody has to confirm it");
}

#[test]
fn e8_the_time_is_a_deadline_of_its_own() {
    let mut voting = Voting::beside("b", &["a"]);
    voting.says("a", Role::Joining, None);
    voting.wait(3_000);
    voting.wait(AFTER - 3_001);
    assert_eq!(voting.election.next_deadline(), Some(Timestamp::from_micros((AFTER + 100) * MS)));
}

#[test]
fn e8_without_solo_after_nobody_goes_on_alone() {
    let mut voting = Voting::new("a");
    assert!(voting.wait(3_600_000).is_empty());
    assert_eq!(voting.election.role(), Role::Joining);
}

#[test]
fn e8_the_lowest_of_the_linked_goes_first() {
    for (me, wait) in [("a", 0), ("b", 100), ("c", 200)] {
        let others: Vec<_> = ["a", "b", "c"].into_iter().filter(|other| *other != me).collect();
        let mut voting = Voting::beside(me, &others);
        for other in &others {
            // Three of five that could vote would elect one of them.
            let held = StatusReport { abstains: true, ..status_of(Role::Joining) };
            voting.election.heard_status(&node(other), &at(other), &StatusReport { term: Term(0), ..held });
        }
        assert!(voting.wait(AFTER + wait - 1).is_empty(), "{me}");
        assert!(is_elected(&voting.wait(1)), "{me}");
    }
}

#[test]
fn e8_a_quorum_that_was_there_begins_the_time_anew() {
    let mut voting = Voting::beside("a", &["b"]);
    voting.wait(4_000);
    voting.election.link_up(&at("c"), &node("c"));
    voting.says("b", Role::Joining, None);
    assert_eq!(asked(&voting.says("c", Role::Joining, None)), 2, "E2's count is met");
    voting.election.link_down(&at("c"));
    let since = voting.now;
    while !voting.election.is_master() && voting.now < since + 60_000 * MS {
        voting.wait(1);
    }
    assert!(voting.now >= since + AFTER * MS, "{} ms", (voting.now - since) / MS);
    assert!(voting.election.is_solo());
}

#[test]
fn e8_nobody_goes_on_alone_who_is_bound_or_knows_of_a_master_or_may_not_vote() {
    let mut bound = Voting::beside("c", &["a"]);
    bound.wait(AFTER - 500);
    assert_eq!(answer(&bound.asks("a", 1)), Some(true));
    bound.election.link_down(&at("a"));
    assert!(bound.wait(999).is_empty(), "E5");
    assert!(is_elected(&bound.wait(1)));
    for role in [follows("x"), Role::Master, Role::Candidate] {
        let mut voting = Voting::beside("c", &["a"]);
        // In an older term than its own, so that it is not followed.
        voting.says_in(7, "a", Role::Joining, None);
        voting.says_in(3, "a", role.clone(), None);
        assert!(voting.wait(60_000).is_empty(), "{role:?}");
        voting.election.link_down(&at("a"));
        assert!(is_elected(&voting.wait(1)), "{role:?}");
    }
    let mut voting = Voting::built(config("c").bootstrap(Bootstrap::JoinOnly));
    assert!(voting.wait(60_000).is_empty(), "JoinOnly");
    let mut voting = Voting::built(config("c"));
    voting.election.persistence.failed = true;
    assert!(voting.wait(60_000).is_empty(), "E4");
}

/// Each line: what the other says, and the term in which this one goes on, if it does. It is b with two members, in term 1.
#[test]
fn e8_a_quorum_then_more_members_then_the_higher_term_then_the_lower_id_wins() {
    let solo = |members| Role::Solo { members };
    for (other, term, role, goes_on) in [
        ("c", 1, Role::Master, None),
        ("c", 9, solo(1), Some(10)),
        ("a", 0, solo(3), None),
        ("c", 2, solo(2), None),
        ("a", 0, solo(2), Some(1)),
        ("a", 1, solo(2), None),
        ("c", 1, solo(2), Some(2)),
    ] {
        let mut voting = Voting::solo("b", &[other]);
        voting.election.set_members(2);
        let effects = voting.says_in(term, other, role.clone(), None);
        let case = alloc::format!("{other} in term {term}: {role:?}");
        assert_eq!(voting.election.is_solo().then(|| voting.election.term().0), goes_on, "{case}");
        assert_eq!(gave_way(&effects), goes_on.is_none(), "{case}");
    }
}

#[test]
fn e8_a_loser_follows_as_soon_as_the_winner_goes_on_above_it() {
    let mut voting = Voting::solo("b", &["a"]);
    assert!(gave_way(&voting.says_in(0, "a", Role::Solo { members: 2 }, None)));
    assert_eq!(voting.election.role(), Role::Joining, "the winner's term is an older one");
    voting.says_in(2, "a", Role::Solo { members: 2 }, None);
    assert_eq!((voting.election.role(), voting.election.follows_solo()), (follows("a"), true));
    assert_eq!(voting.election.promised_to(), None);
    assert!(voting.election.take_gave_way());
}

#[test]
fn e8_who_gave_way_to_a_master_that_is_gone_leads_again_without_waiting_and_counts_anew() {
    let mut voting = Voting::solo("b", &["a"]);
    voting.election.set_members(2);
    assert!(gave_way(&voting.says_in(0, "a", Role::Solo { members: 3 }, None)));
    voting.election.link_down(&at("a"));
    assert!(is_elected(&voting.wait(1)));
    assert_eq!(voting.election.role(), Role::Solo { members: 1 });
}

#[test]
fn e8_a_master_that_was_lost_in_silence_keeps_nobody_from_following_a_solo_one() {
    let mut voting = Voting::beside("e", &["a", "d"]);
    voting.says_in(4, "a", Role::Master, None);
    voting.wait(1_000);
    assert_eq!(voting.election.role(), Role::Joining);
    voting.says_in(5, "d", Role::Solo { members: 1 }, None);
    assert!(voting.election.follows_solo());
}

#[test]
fn e8_a_solo_master_is_judged_again_when_it_has_fewer_members() {
    let mut voting = Voting::solo("b", &["c"]);
    voting.election.set_members(3);
    voting.says_in(0, "c", Role::Solo { members: 2 }, None);
    assert!(voting.election.is_solo());
    voting.election.set_members(1);
    assert!(gave_way(&voting.effects()));
}

#[test]
fn e8_what_was_said_on_a_link_of_before_unseats_nobody() {
    let mut voting = Voting::solo("b", &["c"]);
    voting.election.set_members(3);
    voting.says_in(0, "c", Role::Solo { members: 2 }, None);
    voting.election.link_down(&at("c"));
    voting.election.set_members(1);
    assert!(voting.election.is_solo());
    let mut voting = Voting::solo("b", &["a"]);
    voting.election.link_down(&at("a"));
    voting.election.heard_status(&node("a"), &at("a"), &status_of(Role::Joining));
    voting.effects();
    voting.election.others.get_mut(&at("a")).unwrap().heard.as_mut().unwrap().stance = Stance::Master;
    voting.election.link_up(&at("a"), &node("a"));
    voting.wait(200);
    assert!(voting.election.is_solo());
    assert!(gave_way(&voting.says_in(1, "a", Role::Master, None)));
}

fn status_of(role: Role) -> StatusReport {
    let (view_id, metadata) = (ViewId::default(), bytes::Bytes::new());
    StatusReport { number: 1, term: Term(1), role, abstains: false, promise: None, view_id, metadata }
}

#[test]
fn e8_a_quorums_master_stands_above_the_term_of_a_solo_one_and_follows_it_never() {
    for (theirs, next) in [(7, 8), (1, 2)] {
        let mut voting = master_of_five();
        let effects = voting.says_in(theirs, "d", Role::Solo { members: 9 }, None);
        assert!(matches!(effects.first(), Some(Effect::Lost { reason: LossReason::NewerTerm, .. })), "{effects:?}");
        assert_eq!((voting.election.term(), voting.election.role()), (Term(next), Role::Candidate));
    }
    let mut voting = master_of_five();
    assert!(voting.says_in(0, "d", Role::Solo { members: 9 }, None).is_empty(), "its term is the higher one anyway");
    assert_eq!(voting.election.heartbeat(&node("d"), &at("d"), heartbeat(5)), (false, false));
    assert_eq!((voting.election.role(), voting.election.term()), (Role::Master, Term(1)));
}

/// The voter a, elected by b and c in term 1 and linked to d, too.
fn master_of_five() -> Voting {
    let mut voting = Voting::beside("a", &["b", "c", "d"]);
    voting.wait(3_000);
    voting.says("b", Role::Joining, None);
    voting.says("c", Role::Joining, None);
    voting.grants("b");
    assert!(is_elected(&voting.grants("c")));
    voting.beat();
    voting
}

#[test]
fn e8_a_solo_master_that_a_quorum_confirms_stands_at_once() {
    let mut voting = Voting::solo("d", &["a", "b"]);
    ["a", "b"].iter().for_each(|other| drop(voting.says_in(1, other, follows("d"), Some("d"))));
    let heartbeat = voting.beat();
    assert!(voting.confirms("a", heartbeat).is_empty());
    assert!(voting.confirms("a", heartbeat).is_empty(), "that is one of two");
    let effects = voting.confirms("b", heartbeat);
    assert_eq!((asked(&effects), voting.election.term()), (2, Term(2)));
    voting.grants("a");
    assert!(is_elected(&voting.grants("b")));
    assert_eq!(voting.election.role(), Role::Master);
}

/// A confirmation counts for as long as the lease that it would have been of.
#[test]
fn e8_a_solo_master_that_a_quorum_has_confirmed_at_different_times_stands_while_all_of_them_count() {
    // A lease of a second, but for the hundredth by which clocks may differ.
    for (ms, stands) in [(989, true), (990, false)] {
        let mut voting = Voting::solo("d", &["a", "b"]);
        ["a", "b"].iter().for_each(|other| drop(voting.says_in(1, other, follows("d"), Some("d"))));
        let first = voting.beat();
        voting.confirms("a", first);
        voting.wait(ms);
        let second = voting.beat();
        assert_eq!(asked(&voting.confirms("b", second)) == 2, stands, "after {ms} ms");
    }
}

#[test]
fn e8_nobody_follows_a_solo_master_beside_a_quorums_or_beside_who_stands() {
    for (role, follows) in [(Role::Joining, true), (Role::Master, false), (Role::Candidate, false)] {
        let mut voting = Voting::beside("e", &["a", "d"]);
        // In an older term than its own, so that it is not followed.
        voting.says_in(7, "a", Role::Joining, None);
        voting.says_in(3, "a", role.clone(), None);
        voting.says_in(8, "d", Role::Solo { members: 1 }, None);
        assert_eq!(voting.election.follows_solo(), follows, "{role:?}");
    }
}

#[test]
fn e8_who_has_resigned_is_no_quorums_master_to_wait_for() {
    let mut voting = Voting::beside("e", &["a", "d"]);
    voting.says_in(7, "a", Role::Joining, None);
    voting.says_in(3, "a", Role::Master, None);
    voting.election.resigned(&node("a"), &at("a"), Term(3));
    voting.says_in(8, "d", Role::Solo { members: 1 }, None);
    assert!(voting.election.follows_solo());
}

/// It would stand in vain, and its members would be without a master for as long.
#[test]
fn e8_voters_that_could_not_vote_are_no_quorum() {
    let mut voting = Voting::solo("d", &["a", "b"]);
    for other in ["a", "b"] {
        voting.election.heard_status(
            &node(other),
            &at(other),
            &StatusReport { abstains: true, ..status_of(follows("d")) },
        );
    }
    let heartbeat = voting.beat();
    voting.confirms("a", heartbeat);
    voting.confirms("b", heartbeat);
    assert!(voting.election.is_solo());
}

#[test]
fn e8_a_follower_grants_its_solo_master_at_once_and_does_not_stand_against_it() {
    let mut voting = Voting::beside("a", &["d", "b"]);
    voting.says("b", Role::Joining, None);
    voting.wait(3_000);
    voting.says_in(1, "d", Role::Solo { members: 1 }, None);
    assert_eq!(voting.election.heartbeat(&node("d"), &at("d"), heartbeat(1)), (true, true));
    voting.says_in(2, "d", Role::Candidate, Some("d"));
    assert_eq!(voting.election.role(), Role::Joining);
    assert_eq!(answer(&voting.asks("d", 2)), Some(true));
}

/// G2: the lease of a quorum's master may hang on it.
#[test]
fn e8_a_promise_to_another_is_never_given_up_for_a_solo_master() {
    let mut voting = Voting::beside("e", &["a", "d"]);
    voting.wait(3_000);
    assert_eq!(answer(&voting.asks("a", 1)), Some(true));
    voting.says_in(4, "d", Role::Solo { members: 3 }, None);
    assert_eq!(voting.election.heartbeat(&node("d"), &at("d"), heartbeat(4)), (false, false));
    assert_eq!(voting.election.promised_to(), Some(&node("a")));
    voting.wait(1_000);
    assert_eq!(voting.election.heartbeat(&node("d"), &at("d"), heartbeat(4)), (true, true));
}

#[test]
fn e8_a_follower_is_free_as_soon_as_its_solo_master_has_given_way() {
    let mut voting = Voting::beside("e", &["a", "d"]);
    voting.wait(3_000);
    voting.says_in(1, "d", Role::Solo { members: 1 }, None);
    voting.election.heartbeat(&node("d"), &at("d"), heartbeat(1));
    voting.says_in(2, "a", Role::Solo { members: 2 }, None);
    assert_eq!(voting.election.role(), follows("d"), "it waits for its master to judge");
    voting.says_in(1, "d", Role::Joining, None);
    assert_eq!(voting.election.promised_to(), None);
    assert_eq!(voting.election.heartbeat(&node("a"), &at("a"), heartbeat(2)), (true, true));
    assert!(voting.election.take_gave_way());
}

#[test]
fn e8_a_follower_of_a_solo_master_goes_over_to_a_quorums() {
    let mut voting = Voting::beside("e", &["a", "d"]);
    voting.wait(3_000);
    voting.says_in(3, "d", Role::Solo { members: 4 }, None);
    voting.says_in(2, "a", Role::Master, None);
    assert_eq!(
        voting.election.role(),
        follows("d"),
        "that term is an older one, and its master will stand above this one"
    );
    voting.says_in(4, "a", Role::Master, None);
    assert_eq!((voting.election.role(), voting.election.follows_solo()), (follows("a"), false));
    voting.says_in(9, "d", Role::Solo { members: 9 }, None);
    assert_eq!((voting.election.role(), voting.election.term()), (follows("a"), Term(4)), "and never back");
}

/// Two clusters with neighbours in common would drive each other's term on for ever.
#[test]
fn e8_the_solo_side_takes_over_no_term_from_who_follows_another() {
    let mut voting = Voting::solo("b", &["c", "d"]);
    for promise in [Some("x"), None] {
        voting.says_in(8, "c", follows("x"), promise);
        assert_eq!((voting.election.is_solo(), voting.election.term()), (true, Term(1)));
    }
    voting.election.heartbeat_ack(
        &at("c"),
        &HeartbeatAck { term: Term(8), number: 1, view_id: ViewId::default(), confirms: false },
    );
    assert_eq!((voting.election.is_solo(), voting.election.term()), (true, Term(1)));
    voting.says_in(8, "d", Role::Joining, None);
    assert_eq!((voting.election.is_solo(), voting.election.term()), (true, Term(9)), "whom it could take in");
    let mut voting = Voting::beside("e", &["c", "d"]);
    voting.wait(3_000);
    voting.says_in(1, "d", Role::Solo { members: 1 }, None);
    voting.says_in(8, "c", follows("x"), Some("x"));
    voting.says_in(8, "c", Role::Joining, None);
    assert_eq!((voting.election.role(), voting.election.term()), (follows("d"), Term(1)));
}

/// Who seeks says so once: it was never taken in by one that was no master yet when it heard of it (seed 2564).
#[test]
fn e8_a_solo_master_takes_in_who_was_ahead_of_it_before_it_was_one() {
    let mut voting = Voting::beside("e", &["d"]);
    voting.wait(3_000);
    voting.says_in(1, "d", Role::Solo { members: 1 }, None);
    voting.election.heard_status(&node("x"), &at("x"), &StatusReport { term: Term(8), ..status_of(Role::Joining) });
    assert_eq!((voting.election.role(), voting.election.term()), (follows("d"), Term(1)));
    voting.election.link_down(&at("d"));
    voting.wait(1_000);
    assert!(is_elected(&voting.wait(AFTER)));
    voting.beat();
    assert!(is_elected(&voting.effects()));
    assert_eq!((voting.election.is_solo(), voting.election.term()), (true, Term(9)));
}

/// G1 and G2 are promised to it.
#[test]
fn e8_a_node_without_solo_after_neither_follows_a_solo_master_nor_takes_over_its_term() {
    let mut voting = Voting::seasoned("c");
    voting.says_in(5, "a", Role::Solo { members: 2 }, None);
    assert_eq!(voting.election.heartbeat(&node("a"), &at("a"), heartbeat(5)), (false, false));
    assert!(!voting.election.accept_master(&node("a"), &at("a"), Term(5)));
    assert_eq!((voting.election.role(), voting.election.term()), (Role::Joining, Term(0)));
    let mut voting = Voting::seasoned("c");
    voting.says_in(1, "a", Role::Master, None);
    voting.says_in(5, "a", Role::Solo { members: 2 }, None);
    assert_eq!((voting.election.role(), voting.election.term()), (Role::Joining, Term(1)), "it was its master");
}
