//! Whose word counts, and for which term: of several voters and terms only the one that is meant is touched.

use super::*;

fn beat(term: u64) -> Heartbeat {
    Heartbeat { term: Term(term), number: 1, lease: core::time::Duration::from_secs(1) }
}

/// The voter c, which follows a, the master of term 2, and has confirmed its heartbeat.
fn follower() -> Voting {
    let mut voting = Voting::seasoned("c");
    assert_eq!(voting.election.heartbeat(&node("a"), &at("a"), beat(2)), (true, true));
    voting.effects();
    voting
}

fn lost(effects: &[Effect]) -> Option<LossReason> {
    effects.iter().find_map(|effect| match effect {
        Effect::Lost { reason, .. } => Some(*reason),
        _ => None,
    })
}

fn due(voting: &Voting) -> Option<u64> {
    voting.election.next_deadline().map(|at| at.as_micros() / MS)
}

#[test]
fn e2_a_candidate_is_due_when_it_has_to_give_up() {
    let mut voting = Voting::seasoned("a");
    voting.says("b", Role::Joining, None);
    assert_eq!(due(&voting), Some(3_500));
}

#[test]
fn e6_a_master_is_due_when_its_lease_lapses() {
    assert_eq!(due(&master()), Some(3_990));
}

#[test]
fn a_follower_is_due_when_it_has_heard_nothing_of_its_master_for_a_lease() {
    assert_eq!(due(&follower()), Some(4_000));
}

#[test]
fn e6_a_master_alone_has_no_lease_that_could_lapse() {
    let config = Config::single("test", "a", "a:1").build().unwrap();
    let start = Start::new(Incarnation(1), 1);
    let election = Election::new(&config, &start, Rng::new(1), Timestamp::ZERO);
    let mut voting = Voting { election, now: 0 };
    assert!(is_elected(&voting.effects()));
    for _ in 0..3 {
        assert!(voting.election.next_deadline().is_none_or(|at| at.as_micros() >= voting.now + 1_000 * MS));
        voting.wait(5_000);
        assert!(voting.election.leadership(Timestamp::from_micros(voting.now)).is_some());
    }
    assert_eq!(voting.election.next_deadline(), None);
}

#[test]
fn e6_a_lease_is_over_at_its_end() {
    let voting = master();
    let until = voting.election.leadership(Timestamp::from_micros(voting.now)).unwrap().valid_until;
    assert_eq!(voting.election.leadership(until), None);
    assert!(voting.election.leadership(Timestamp::from_micros(until.as_micros() - 1)).is_some());
}

#[test]
fn e2_every_candidacy_is_counted() {
    let mut voting = Voting::seasoned("a");
    assert_eq!(voting.election.candidacies(), 0);
    voting.says("b", Role::Joining, None);
    assert_eq!(voting.election.candidacies(), 1);
    voting.wait(500);
    voting.wait(2_000);
    assert_eq!(voting.election.candidacies(), 2);
}

#[test]
fn e2_a_voter_that_has_answered_is_not_asked_again() {
    let mut voting = Voting::seasoned("a");
    voting.says("b", Role::Joining, None);
    assert!(voting.election.request_for(&at("b")).is_some());
    let refused = Vote { term: Term(1), number: voting.election.number, granted: false };
    voting.election.vote(&at("b"), refused);
    assert_eq!(voting.election.request_for(&at("b")), None);
    assert!(voting.election.request_for(&at("c")).is_some());
}

#[test]
fn e2_a_voter_that_links_to_a_candidate_is_asked_and_one_that_links_after_it_gave_up_is_released() {
    let mut voting = Voting::new("a");
    voting.wait(3_000);
    voting.election.link_up(&at("b"), &node("b"));
    assert_eq!(asked(&voting.says("b", Role::Joining, None)), 1);
    voting.election.link_up(&at("c"), &node("c"));
    assert!(voting.effects().contains(&Effect::Ask(at("c"))));
    voting.wait(500);
    voting.election.link_down(&at("c"));
    voting.election.link_up(&at("c"), &node("c"));
    assert_eq!(released(&voting.effects()), 1);
}

#[test]
fn e3_a_request_waits_for_a_promise_to_another_that_has_at_most_a_stagger_left() {
    for (after, answered) in [(899, Some(false)), (900, None)] {
        let mut voting = Voting::seasoned("c");
        assert_eq!(answer(&voting.asks("a", 1)), Some(true));
        voting.wait(after);
        assert_eq!(answer(&voting.asks("b", 2)), answered, "after {after} ms of a second");
    }
}

#[test]
fn e7_a_newer_term_is_made_durable() {
    let mut voting = Voting::seasoned("c");
    let effects = voting.says_in(5, "b", Role::Joining, None);
    assert!(matches!(&effects[..], [Effect::Persist { state, .. }] if state.term == Term(5)), "{effects:?}");
}

#[test]
fn e3_who_accepts_a_master_makes_it_durable_that_its_vote_is_spent() {
    let mut voting = Voting::seasoned("c");
    let effects = voting.says_in(5, "b", Role::Master, None);
    let spent = HardState { term: Term(5), voted_for: Some(node("b")), joined: true };
    let durable = |effect: &Effect| matches!(effect, Effect::Persist { state, .. } if *state == spent);
    assert!(effects.iter().any(durable), "{effects:?}");
}

#[test]
fn e7_an_acknowledgement_tells_a_master_of_a_newer_term() {
    let mut voting = master();
    let ack = HeartbeatAck { term: Term(5), number: 0, view_id: ViewId::default(), confirms: false };
    voting.election.heartbeat_ack(&at("c"), &ack);
    assert_eq!((voting.election.role(), voting.election.term()), (Role::Candidate, Term(6)));
}

#[test]
fn e7_a_refusal_tells_a_candidate_of_a_newer_term() {
    let mut voting = Voting::seasoned("a");
    voting.says("b", Role::Joining, None);
    let number = voting.election.number;
    voting.election.vote(&at("b"), Vote { term: Term(5), number, granted: false });
    assert_eq!(voting.election.term(), Term(5));
}

#[test]
fn e3_a_request_that_is_kept_is_forgotten_with_the_link_of_its_candidate() {
    let mut voting = Voting::seasoned("c");
    assert_eq!(answer(&voting.asks("b", 1)), None, "it is not b's turn");
    voting.election.link_down(&at("b"));
    voting.wait(50);
    voting.election.link_up(&at("b"), &node("b"));
    assert_eq!(answer(&voting.wait(1_000)), None);
    assert_eq!((voting.election.promised_to(), voting.election.term()), (None, Term(0)));
}

/// A `Release` that comes late, by a link that is not in use any more.
#[test]
fn e5_a_release_of_an_earlier_term_ends_no_promise_to_the_master_of_a_later() {
    let mut voting = Voting::seasoned("c");
    assert_eq!(answer(&voting.asks("a", 1)), Some(true));
    assert_eq!(voting.election.heartbeat(&node("a"), &at("a"), beat(2)), (true, true));
    voting.election.release(&node("a"), Release { term: Term(1) });
    assert_eq!(voting.election.promised_to(), Some(&node("a")));
}

/// Its status, which says so too, may come later.
#[test]
fn e1_e2_who_has_resigned_holds_nobody_and_is_nobody_to_wait_for() {
    let mut voting = Voting::new("b");
    voting.election.link_up(&at("a"), &node("a"));
    voting.election.link_up(&at("c"), &node("c"));
    voting.says_in(1, "a", Role::Master, Some("a"));
    voting.says_in(1, "c", Role::Joining, None);
    voting.election.resigned(&node("a"), &at("a"), Term(1));
    assert_eq!(asked(&voting.effects()), 2);
}

#[test]
fn e1_a_voter_counts_as_held_until_it_has_heard_every_other_or_waited() {
    let mut voting = Voting::new("c");
    assert!(voting.election.abstains());
    voting.says("a", Role::Joining, None);
    assert!(voting.election.abstains());
    voting.says("b", Role::Master, None);
    assert!(voting.election.abstains(), "whoever votes may have been voted for");
    let mut other = Voting::new("c");
    other.says("a", Role::Joining, None);
    other.says("b", Role::Joining, None);
    assert!(!other.election.abstains());
    other.says("b", Role::Master, None);
    assert!(!other.election.abstains(), "it was elected since");
    voting.wait(3_000);
    assert!(!voting.election.abstains());
}

#[test]
fn e2_a_release_takes_back_a_kept_request_of_that_candidate_and_no_later_one() {
    let mut voting = Voting::new("c");
    for id in ["a", "b"] {
        voting.election.link_up(&at(id), &node(id));
    }
    assert_eq!(answer(&voting.asks("a", 1)), None, "held: the request is kept");
    assert_eq!(answer(&voting.asks("b", 2)), None);
    let kept = |voting: &Voting| {
        voting.election.kept.keys().map(|id| id.as_str().into()).collect::<Vec<alloc::string::String>>()
    };
    voting.election.release(&node("b"), Release { term: Term(1) });
    assert_eq!(kept(&voting), ["a", "b"], "an older candidacy was released");
    voting.election.release(&node("a"), Release { term: Term(1) });
    assert_eq!(kept(&voting), ["b"]);
    voting.election.release(&node("b"), Release { term: Term(2) });
    assert!(kept(&voting).is_empty());
}

#[test]
fn e2_a_vote_that_is_not_durable_yet_is_owed_to_nobody_who_has_given_up() {
    let given = |from: &str, term: u64| {
        let mut voting = Voting::seasoned("c");
        voting.election.vote_request(&node("a"), request(1));
        voting.election.release(&node(from), Release { term: Term(term) });
        while let Some(effect) = voting.election.next_effect() {
            assert!(matches!(effect, Effect::Persist { .. }));
        }
        voting.election.persisted();
        answer(&voting.effects())
    };
    assert_eq!(given("a", 1), None);
    assert_eq!(given("a", 2), Some(true), "another term was released");
    assert_eq!(given("b", 1), Some(true), "another candidate gave up");
}

#[test]
fn e5_a_release_ends_the_promise_to_that_candidate_and_term_alone() {
    for (from, term, bound) in [("a", 1, false), ("a", 2, true), ("b", 1, true)] {
        let mut voting = Voting::seasoned("c");
        assert_eq!(answer(&voting.asks("a", 1)), Some(true));
        voting.election.release(&node(from), Release { term: Term(term) });
        assert_eq!(voting.election.promised_to().is_some(), bound, "release of {from} for term {term}");
    }
}

#[test]
fn e5_a_resignation_ends_the_promise_and_the_following_of_that_master_and_term_alone() {
    for (from, term, ends) in [("a", 2, true), ("a", 3, true), ("a", 1, false), ("b", 2, false)] {
        let mut voting = follower();
        voting.election.resigned(&node(from), &at(from), Term(term));
        let effects = voting.effects();
        assert_eq!(voting.election.promised_to().is_none(), ends, "{from} resigns from term {term}");
        assert_eq!(lost(&effects), ends.then_some(LossReason::Resigned), "{from} resigns from term {term}");
        assert_eq!(voting.election.term(), Term(term.max(2)));
    }
}

#[test]
fn a_master_that_says_it_is_none_is_lost_and_why_is_told() {
    let ended = Some(LossReason::Ended);
    let cases = [
        (Role::Joining, 2, ended),
        (Role::Candidate, 3, ended),
        (Role::Follower { master: node("b"), address: at("b") }, 3, ended),
        (Role::Leaving, 2, Some(LossReason::Resigned)),
        (Role::Master, 2, None),
        // Said before it became the master.
        (Role::Joining, 1, None),
    ];
    for (role, term, reason) in cases {
        let effects = follower().says_in(term, "a", role.clone(), None);
        assert_eq!(lost(&effects), reason, "{role:?} in term {term}");
        if role != Role::Master {
            let effects = follower().says_in(2, "b", role.clone(), None);
            assert_eq!(lost(&effects), None, "another says {role:?}");
        }
    }
}

#[test]
fn e7_the_term_of_a_master_that_ended_is_taken_over() {
    let mut voting = follower();
    voting.says_in(5, "a", Role::Joining, None);
    assert_eq!(voting.election.term(), Term(5));
}

#[test]
fn a_status_from_no_voters_address_makes_no_master() {
    let mut voting = Voting::seasoned("c");
    assert!(!is_elected(&voting.says_in(4, "x", Role::Master, None)));
    assert_eq!(voting.election.master(), None);
}

#[test]
fn a_newer_run_of_the_master_ends_the_older_and_takes_back_what_that_one_asked() {
    let newer = Node { incarnation: Incarnation(2), ..node("a") };
    let mut voting = follower();
    voting.election.link_up(&at("b"), &node("b"));
    assert_eq!(lost(&voting.effects()), None, "another's link says nothing of it");
    voting.election.link_up(&at("a"), &node("a"));
    assert_eq!(lost(&voting.effects()), None, "it is the same run");
    voting.election.link_up(&at("a"), &newer);
    assert_eq!(lost(&voting.effects()), Some(LossReason::Ended));

    let mut held = Voting::new("c");
    held.asks("a", 1);
    held.asks("b", 1);
    held.election.link_up(&at("b"), &node("b"));
    assert_eq!(held.election.kept.len(), 2);
    held.election.link_up(&at("a"), &newer);
    assert!(held.election.kept.keys().map(NodeId::as_str).eq(["b"]));
}

#[test]
fn e2_a_release_is_said_again_on_a_new_link_while_it_may_matter() {
    let mut voting = Voting::seasoned("a");
    voting.says("b", Role::Joining, None);
    voting.wait(500);
    let again = |voting: &mut Voting| {
        voting.election.relinked(&at("b"));
        voting.effects().iter().filter(|effect| matches!(effect, Effect::Release { .. })).count()
    };
    assert_eq!(again(&mut voting), 1);
    voting.says_in(1, "b", Role::Follower { master: node("c"), address: at("c") }, None);
    voting.wait(999);
    assert_eq!(again(&mut voting), 1);
    voting.wait(1);
    assert_eq!(again(&mut voting), 0, "no promise to that candidacy is left");
}

fn found(effects: &[Effect]) -> Vec<(Term, &str)> {
    let found = |effect| match effect {
        &Effect::Found { term, ref master, .. } => Some((term, master.id.as_str())),
        _ => None,
    };
    effects.iter().filter_map(found).collect()
}

fn released(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::Release { .. })).count()
}

#[test]
fn e3_accepting_a_master_spends_the_vote_of_its_term_unless_it_was_given() {
    let mut voting = Voting::seasoned("c");
    assert_eq!(answer(&voting.asks("a", 1)), Some(true));
    voting.says_in(1, "b", Role::Master, None);
    assert_eq!(voting.election.hard.voted_for, Some(node("a")), "the vote was given to a");
    voting.says_in(2, "b", Role::Master, None);
    assert_eq!(voting.election.hard.voted_for, Some(node("b")));
    assert_eq!(voting.election.term(), Term(2));
}

#[test]
fn g1_another_master_in_the_term_of_a_known_one_leads_to_the_next_term() {
    let mut voting = follower();
    assert_eq!(voting.election.heartbeat(&node("b"), &at("b"), beat(2)), (false, false));
    assert_eq!(voting.election.term(), Term(3));
    let mut voting = follower();
    assert_eq!(voting.election.heartbeat(&node("b"), &at("b"), beat(3)), (true, true));
    assert_eq!(voting.election.term(), Term(3));
}

#[test]
fn a_master_that_goes_on_is_no_news_until_its_next_term() {
    let mut voting = follower();
    voting.wait(900);
    voting.election.heartbeat(&node("a"), &at("a"), beat(2));
    let effects = voting.effects();
    assert_eq!((found(&effects), lost(&effects), due(&voting)), (Vec::new(), None, Some(4_900)));
    voting.election.heartbeat(&node("a"), &at("a"), beat(3));
    let effects = voting.effects();
    assert_eq!((found(&effects), lost(&effects)), (Vec::from([(Term(3), "a")]), None));
    voting.election.heartbeat(&node("b"), &at("b"), beat(4));
    let effects = voting.effects();
    assert_eq!((found(&effects), lost(&effects)), (Vec::from([(Term(4), "b")]), Some(LossReason::Ended)));
}

#[test]
fn e7_a_master_and_a_candidate_end_when_they_hear_a_newer_master() {
    let mut voting = master();
    let effects = voting.says_in(5, "c", Role::Master, None);
    assert_eq!((lost(&effects), found(&effects)), (Some(LossReason::NewerTerm), Vec::from([(Term(5), "c")])));
    assert!(!voting.election.is_master());
    let mut voting = Voting::seasoned("a");
    voting.says("b", Role::Joining, None);
    let effects = voting.says_in(5, "c", Role::Master, None);
    assert_eq!((released(&effects), found(&effects)), (2, Vec::from([(Term(5), "c")])));
    assert!(matches!(voting.election.role(), Role::Follower { .. }));
}

#[test]
fn e5_a_confirmation_binds_to_the_master_of_now_and_never_for_less_than_before() {
    let mut voting = follower();
    voting.election.heartbeat(&node("b"), &at("b"), beat(3));
    assert_eq!(voting.election.promised_to(), Some(&node("b")));
    let mut voting = Voting::seasoned("c");
    for seconds in [3, 1] {
        let lease = core::time::Duration::from_secs(seconds);
        assert_eq!(voting.election.heartbeat(&node("a"), &at("a"), Heartbeat { lease, ..beat(1) }), (true, true));
    }
    voting.wait(2_999);
    assert_eq!(voting.election.promised_to(), Some(&node("a")));
    voting.wait(1);
    assert_eq!(voting.election.promised_to(), None);
}

#[test]
fn who_leaves_ends_what_it_is_first() {
    let mut voting = master();
    assert_eq!(voting.election.leave(), Some(Term(1)));
    assert_eq!(lost(&voting.effects()), Some(LossReason::Resigned));
    assert_eq!(voting.election.promised_to(), None, "what it resigned from binds it no more");
    let mut candidate = Voting::seasoned("a");
    candidate.says("b", Role::Joining, None);
    assert_eq!(candidate.election.leave(), None);
    assert_eq!(released(&candidate.effects()), 2);
    let mut follower = follower();
    assert_eq!(follower.election.leave(), None);
    for voting in [voting, candidate, follower] {
        assert_eq!(voting.election.role(), Role::Leaving);
    }
}

/// It reported no lease that could bind it to itself.
#[test]
fn e5_a_candidate_that_leaves_as_soon_as_it_stands_is_bound_to_nobody() {
    let mut voting = Voting::new("a");
    for other in ["b", "c"] {
        voting.election.link_up(&at(other), &node(other));
        voting.says(other, Role::Joining, None);
    }
    assert_eq!((voting.now, voting.election.promised_to()), (0, Some(&node("a"))));
    voting.election.leave();
    assert_eq!(voting.election.promised_to(), None);
}
