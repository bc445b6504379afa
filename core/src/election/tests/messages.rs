//! Each message affects only the voter and the term that it names.

use super::*;
use crate::message::Resign;

/// The voter c. It follows a, the master of term 2, and has confirmed its heartbeat.
fn follower() -> Rig {
    let mut rig = Rig::past_bootstrap("c");
    assert_eq!(rig.election.heartbeat(&node("a"), &at("a"), heartbeat(2)), (true, true));
    rig.effects();
    rig
}

fn lost(effects: &[Effect]) -> Option<LossReason> {
    effects.iter().find_map(|effect| match effect {
        Effect::Lost { reason, .. } => Some(*reason),
        _ => None,
    })
}

/// The next deadline in milliseconds.
fn deadline(rig: &Rig) -> Option<u64> {
    rig.election.next_deadline().map(|at| at.as_micros() / MS)
}

#[test]
fn e2_a_candidate_has_the_deadline_of_its_candidacy() {
    let mut rig = Rig::past_bootstrap("a");
    rig.report("b", Role::Joining, None);
    assert_eq!(deadline(&rig), Some(3_500));
}

#[test]
fn e6_a_master_has_the_deadline_of_its_lease() {
    assert_eq!(deadline(&master()), Some(3_990));
}

#[test]
fn v10_a_follower_has_a_deadline_one_lease_after_a_heartbeat() {
    assert_eq!(deadline(&follower()), Some(4_000));
}

#[test]
fn e6_the_lease_of_a_single_voter_never_expires() {
    let config = Config::single("test", "a", "a:1").build().unwrap();
    let start = Start::new(Incarnation(1), 1);
    let election = Election::new(&config, &start, Rng::new(1), Timestamp::ZERO);
    let mut rig = Rig { election, now: 0 };
    assert!(is_elected(&rig.effects()));
    for _ in 0..3 {
        assert!(rig.election.next_deadline().is_none_or(|at| at.as_micros() >= rig.now + 1_000 * MS));
        rig.wait(5_000);
        assert!(rig.election.leadership(Timestamp::from_micros(rig.now)).is_some());
    }
    assert_eq!(rig.election.next_deadline(), None);
}

#[test]
fn e6_a_lease_is_over_at_its_end() {
    let rig = master();
    let until = rig.election.leadership(Timestamp::from_micros(rig.now)).unwrap().valid_until;
    assert_eq!(rig.election.leadership(until), None);
    assert!(rig.election.leadership(Timestamp::from_micros(until.as_micros() - 1)).is_some());
}

#[test]
fn e2_every_candidacy_is_counted() {
    let mut rig = Rig::past_bootstrap("a");
    assert_eq!(rig.election.candidacies(), 0);
    rig.report("b", Role::Joining, None);
    assert_eq!(rig.election.candidacies(), 1);
    rig.wait(500);
    rig.wait(2_000);
    assert_eq!(rig.election.candidacies(), 2);
}

#[test]
fn e2_a_voter_that_has_answered_is_not_asked_again() {
    let mut rig = Rig::past_bootstrap("a");
    rig.report("b", Role::Joining, None);
    assert!(rig.election.request_for(&at("b")).is_some());
    let refused = Vote { term: Term(1), number: rig.election.number, granted: false };
    rig.election.vote(&at("b"), refused);
    assert_eq!(rig.election.request_for(&at("b")), None);
    assert!(rig.election.request_for(&at("c")).is_some());
}

#[test]
fn e2_a_new_link_gets_the_request_or_the_release() {
    let mut rig = Rig::new("a");
    rig.wait(3_000);
    rig.election.link_up(&at("b"), &node("b"), None);
    assert_eq!(requests(&rig.report("b", Role::Joining, None)), 1);
    rig.election.link_up(&at("c"), &node("c"), None);
    assert!(rig.effects().contains(&Effect::Ask(at("c"))));
    rig.wait(500);
    rig.election.link_down(&at("c"));
    rig.election.link_up(&at("c"), &node("c"), None);
    assert_eq!(releases(&rig.effects()), 1);
}

#[test]
fn e3_a_request_waits_for_a_promise_that_ends_in_a_stagger() {
    for (after, answered) in [(899, Some(false)), (900, None)] {
        let mut rig = Rig::past_bootstrap("c");
        assert_eq!(answer(&rig.request("a", 1)), Some(true));
        rig.wait(after);
        assert_eq!(answer(&rig.request("b", 2)), answered, "after {after} ms of a second");
    }
}

#[test]
fn e7_a_newer_term_is_made_durable() {
    let mut rig = Rig::past_bootstrap("c");
    let effects = rig.report_in(5, "b", Role::Joining, None);
    assert!(matches!(&effects[..], [Effect::Persist { state, .. }] if state.term == Term(5)), "{effects:?}");
}

#[test]
fn e3_accepting_a_master_makes_the_spent_vote_durable() {
    let mut rig = Rig::past_bootstrap("c");
    let effects = rig.report_in(5, "b", Role::Master, None);
    let promised_lease = Timing::lan().lease;
    let spent = HardState {
        term: Term(5),
        voted_for: Some(node("b")),
        joined: true,
        promised_lease,
        electorate: None,
        spent: Term(0),
    };
    let durable = |effect: &Effect| matches!(effect, Effect::Persist { state, .. } if *state == spent);
    assert!(effects.iter().any(durable), "{effects:?}");
}

#[test]
fn e7_a_master_learns_a_newer_term_from_an_acknowledgement() {
    let mut rig = master();
    let ack = HeartbeatAck {
        term: Term(5),
        number: 0,
        view_id: ViewId::default(),
        confirms: false,
        electorate: Default::default(),
    };
    rig.election.heartbeat_ack(&at("c"), &ack);
    assert_eq!((rig.election.role(), rig.election.term()), (Role::Candidate, Term(6)));
}

#[test]
fn e7_a_candidate_learns_a_newer_term_from_a_refusal() {
    let mut rig = Rig::past_bootstrap("a");
    rig.report("b", Role::Joining, None);
    let number = rig.election.number;
    rig.election.vote(&at("b"), Vote { term: Term(5), number, granted: false });
    assert_eq!(rig.election.term(), Term(5));
}

#[test]
fn e3_a_deferred_request_is_dropped_with_its_link() {
    let mut rig = Rig::past_bootstrap("c");
    assert_eq!(answer(&rig.request("b", 1)), None, "it is not the turn of b");
    rig.election.link_down(&at("b"));
    rig.wait(50);
    rig.election.link_up(&at("b"), &node("b"), None);
    assert_eq!(answer(&rig.wait(1_000)), None);
    assert_eq!((rig.election.promised_to(), rig.election.term()), (None, Term(0)));
}

/// The `Release` arrives late, on a link that is no longer in use.
#[test]
fn e5_a_release_of_an_earlier_term_ends_no_later_promise() {
    let mut rig = Rig::past_bootstrap("c");
    assert_eq!(answer(&rig.request("a", 1)), Some(true));
    assert_eq!(rig.election.heartbeat(&node("a"), &at("a"), heartbeat(2)), (true, true));
    rig.election.release(&node("a"), Release { term: Term(1) });
    assert_eq!(rig.election.promised_to(), Some(&node("a")));
}

/// Its status may arrive later.
#[test]
fn e1_e2_a_resigned_master_delays_no_election() {
    let mut rig = Rig::new("b");
    rig.election.link_up(&at("a"), &node("a"), None);
    rig.election.link_up(&at("c"), &node("c"), None);
    rig.report_in(1, "a", Role::Master, Some("a"));
    rig.report_in(1, "c", Role::Joining, None);
    rig.election.resigned(&node("a"), &at("a"), Term(1));
    assert_eq!(requests(&rig.effects()), 2);
}

#[test]
fn e1_a_voter_abstains_until_it_knows_all_others() {
    let mut rig = Rig::new("c");
    assert!(rig.election.abstains());
    rig.report("a", Role::Joining, None);
    assert!(rig.election.abstains());
    rig.report("b", Role::Master, None);
    assert!(rig.election.abstains(), "the sender may have this voter's forgotten vote");
    let mut other = Rig::new("c");
    other.report("a", Role::Joining, None);
    other.report("b", Role::Joining, None);
    assert!(!other.election.abstains());
    other.report("b", Role::Master, None);
    assert!(!other.election.abstains(), "b was elected since the start");
    rig.wait(3_000);
    assert!(!rig.election.abstains());
}

#[test]
fn e2_a_release_drops_the_deferred_request_of_its_term() {
    let mut rig = Rig::new("c");
    for id in ["a", "b"] {
        rig.election.link_up(&at(id), &node(id), None);
    }
    assert_eq!(answer(&rig.request("a", 1)), None, "in grace: the request is deferred");
    assert_eq!(answer(&rig.request("b", 2)), None);
    let deferred =
        |rig: &Rig| rig.election.deferred.keys().map(|id| id.as_str().into()).collect::<Vec<alloc::string::String>>();
    rig.election.release(&node("b"), Release { term: Term(1) });
    assert_eq!(deferred(&rig), ["a", "b"], "an older candidacy was released");
    rig.election.release(&node("a"), Release { term: Term(1) });
    assert_eq!(deferred(&rig), ["b"]);
    rig.election.release(&node("b"), Release { term: Term(2) });
    assert!(deferred(&rig).is_empty());
}

#[test]
fn e2_a_release_drops_the_pending_vote_of_its_term() {
    let after_release = |from: &str, term: u64| {
        let mut rig = Rig::past_bootstrap("c");
        rig.election.vote_request(&node("a"), vote_request(1));
        rig.election.release(&node(from), Release { term: Term(term) });
        while let Some(effect) = rig.election.next_effect() {
            assert!(matches!(effect, Effect::Persist { .. }));
        }
        rig.election.persisted();
        answer(&rig.effects())
    };
    assert_eq!(after_release("a", 1), None);
    assert_eq!(after_release("a", 2), Some(true), "another term was released");
    assert_eq!(after_release("b", 1), Some(true), "another candidate gave up");
}

#[test]
fn e5_a_release_ends_only_the_promise_of_its_term() {
    for (from, term, bound) in [("a", 1, false), ("a", 2, true), ("b", 1, true)] {
        let mut rig = Rig::past_bootstrap("c");
        assert_eq!(answer(&rig.request("a", 1)), Some(true));
        rig.election.release(&node(from), Release { term: Term(term) });
        assert_eq!(rig.election.promised_to().is_some(), bound, "release of {from} for term {term}");
    }
}

#[test]
fn e5_a_resignation_ends_only_what_concerns_that_master() {
    for (from, term, ends) in [("a", 2, true), ("a", 3, true), ("a", 1, false), ("b", 2, false)] {
        let mut rig = follower();
        rig.election.resigned(&node(from), &at(from), Term(term));
        let effects = rig.effects();
        assert_eq!(rig.election.promised_to().is_none(), ends, "{from} resigns from term {term}");
        assert_eq!(lost(&effects), ends.then_some(LossReason::Resigned), "{from} resigns from term {term}");
        assert_eq!(rig.election.term(), Term(term.max(2)));
    }
}

#[test]
fn v10_a_master_that_reports_another_role_is_lost() {
    let ended = Some(LossReason::Ended);
    let cases = [
        (Role::Joining, 2, ended),
        (Role::Candidate, 3, ended),
        (follows("b"), 3, ended),
        (Role::Leaving, 2, Some(LossReason::Resigned)),
        (Role::Master, 2, None),
        // A status from before it became master.
        (Role::Joining, 1, None),
    ];
    for (role, term, reason) in cases {
        let effects = follower().report_in(term, "a", role.clone(), None);
        assert_eq!(lost(&effects), reason, "{role:?} in term {term}");
        if role != Role::Master {
            let effects = follower().report_in(2, "b", role.clone(), None);
            assert_eq!(lost(&effects), None, "another node reports {role:?}");
        }
    }
}

#[test]
fn e7_the_term_of_a_master_that_ended_is_taken_over() {
    let mut rig = follower();
    rig.report_in(5, "a", Role::Joining, None);
    assert_eq!(rig.election.term(), Term(5));
}

#[test]
fn h3_a_master_status_from_a_non_voter_is_ignored() {
    let mut rig = Rig::past_bootstrap("c");
    assert!(!is_elected(&rig.report_in(4, "x", Role::Master, None)));
    assert_eq!(rig.election.master(), None);
}

#[test]
fn i1_a_newer_run_ends_the_mastership_of_the_older() {
    let newer = Node { incarnation: Incarnation(2), ..node("a") };
    let mut rig = follower();
    rig.election.link_up(&at("b"), &node("b"), None);
    assert_eq!(lost(&rig.effects()), None, "the link is to another node");
    rig.election.link_up(&at("a"), &node("a"), None);
    assert_eq!(lost(&rig.effects()), None, "it is the same run");
    rig.election.link_up(&at("a"), &newer, None);
    assert_eq!(lost(&rig.effects()), Some(LossReason::Ended));

    let mut new = Rig::new("c");
    new.request("a", 1);
    new.request("b", 1);
    new.election.link_up(&at("b"), &node("b"), None);
    assert_eq!(new.election.deferred.len(), 2);
    new.election.link_up(&at("a"), &newer, None);
    assert!(new.election.deferred.keys().map(NodeId::as_str).eq(["b"]));
}

#[test]
fn c4_e2_a_release_is_repeated_on_a_new_link_while_it_matters() {
    let mut rig = Rig::past_bootstrap("a");
    rig.report("b", Role::Joining, None);
    rig.wait(500);
    let again = |rig: &mut Rig| {
        rig.election.relinked(&at("b"));
        releases(&rig.effects())
    };
    assert_eq!(again(&mut rig), 1);
    rig.report_in(1, "b", follows("c"), None);
    rig.wait(999);
    assert_eq!(again(&mut rig), 1);
    rig.wait(1);
    assert_eq!(again(&mut rig), 0, "no promise of that candidacy is in force");
}

fn found(effects: &[Effect]) -> Vec<(Term, &str)> {
    let found = |effect| match effect {
        &Effect::Found { term, ref master, .. } => Some((term, master.id.as_str())),
        _ => None,
    };
    effects.iter().filter_map(found).collect()
}

#[test]
fn e3_accepting_a_master_spends_the_vote_of_its_term() {
    let mut rig = Rig::past_bootstrap("c");
    assert_eq!(answer(&rig.request("a", 1)), Some(true));
    rig.report_in(1, "b", Role::Master, None);
    assert_eq!(rig.election.hard.voted_for, Some(node("a")), "the vote was given to a");
    rig.report_in(2, "b", Role::Master, None);
    assert_eq!(rig.election.hard.voted_for, Some(node("b")));
    assert_eq!(rig.election.term(), Term(2));
}

#[test]
fn g1_v9_a_second_master_of_one_term_leads_to_the_next_term() {
    let mut rig = follower();
    assert_eq!(rig.election.heartbeat(&node("b"), &at("b"), heartbeat(2)), (false, false));
    assert_eq!(rig.election.term(), Term(3));
    let mut rig = follower();
    assert_eq!(rig.election.heartbeat(&node("b"), &at("b"), heartbeat(3)), (true, false), "it is bound to a (E5)");
    assert_eq!(rig.election.term(), Term(3));
}

#[test]
fn a_master_is_reported_once_per_term() {
    let mut rig = follower();
    rig.wait(900);
    rig.election.heartbeat(&node("a"), &at("a"), heartbeat(2));
    let effects = rig.effects();
    assert_eq!((found(&effects), lost(&effects), deadline(&rig)), (Vec::new(), None, Some(4_900)));
    rig.election.heartbeat(&node("a"), &at("a"), heartbeat(3));
    let effects = rig.effects();
    assert_eq!((found(&effects), lost(&effects)), (Vec::from([(Term(3), "a")]), None));
    rig.election.heartbeat(&node("b"), &at("b"), heartbeat(4));
    let effects = rig.effects();
    assert_eq!((found(&effects), lost(&effects)), (Vec::from([(Term(4), "b")]), Some(LossReason::Ended)));
}

#[test]
fn e7_a_newer_master_ends_a_mastership_and_a_candidacy() {
    let mut rig = master();
    let effects = rig.report_in(5, "c", Role::Master, None);
    assert_eq!((lost(&effects), found(&effects)), (Some(LossReason::NewerTerm), Vec::from([(Term(5), "c")])));
    assert!(!rig.election.is_master());
    let mut rig = Rig::past_bootstrap("a");
    rig.report("b", Role::Joining, None);
    let effects = rig.report_in(5, "c", Role::Master, None);
    assert_eq!((releases(&effects), found(&effects)), (2, Vec::from([(Term(5), "c")])));
    assert!(matches!(rig.election.role(), Role::Follower { .. }));
}

/// Without this, a late heartbeat of a run that all others have forgotten ends the promise to the living master (G2).
#[test]
fn e5_a_promise_to_another_is_not_moved_by_a_newer_master() {
    let mut rig = follower();
    let until = rig.election.promise.as_ref().map(|promise| promise.until);
    assert_eq!(rig.election.heartbeat(&node("b"), &at("b"), heartbeat(3)), (true, false));
    assert_eq!(rig.election.promised_to(), Some(&node("a")));
    assert_eq!(rig.election.promise.as_ref().map(|promise| promise.until), until);
    while rig.election.promised_to().is_some() {
        rig.wait(100);
    }
    assert_eq!(rig.election.heartbeat(&node("b"), &at("b"), heartbeat(3)), (true, true));
    assert_eq!(rig.election.promised_to(), Some(&node("b")));
}

#[test]
fn e5_a_confirmation_extends_the_promise() {
    let mut rig = Rig::past_bootstrap("c");
    for (seconds, confirms) in [(3, false), (3, true), (1, true)] {
        let lease = Duration::from_secs(seconds);
        let answer = rig.election.heartbeat(&node("a"), &at("a"), Heartbeat { lease, ..heartbeat(1) });
        assert_eq!(
            answer,
            (true, confirms),
            "a lease longer than this voter's own is confirmed once that is durable (E1)"
        );
        rig.effects();
    }
    rig.wait(2_999);
    assert_eq!(rig.election.promised_to(), Some(&node("a")));
    rig.wait(1);
    assert_eq!(rig.election.promised_to(), None);
}

#[test]
fn l1_leaving_ends_a_mastership_or_a_candidacy_first() {
    let mut rig = master();
    rig.election.leave();
    assert_eq!(rig.election.resignation(), Some(Resign { term: Term(1) }));
    assert_eq!(lost(&rig.effects()), Some(LossReason::Resigned));
    assert_eq!(rig.election.promised_to(), None, "the resignation has ended its own promise");
    let mut candidate = Rig::past_bootstrap("a");
    candidate.report("b", Role::Joining, None);
    candidate.election.leave();
    assert_eq!(candidate.election.resignation(), None);
    assert_eq!(releases(&candidate.effects()), 2);
    let mut follower = follower();
    follower.election.leave();
    assert_eq!(follower.election.resignation(), None);
    for rig in [rig, candidate, follower] {
        assert_eq!(rig.election.role(), Role::Leaving);
    }
}

/// L7: the other voters have their turns before the one that has resigned, whatever the order of their ids.
#[test]
fn l7_a_resigned_master_is_the_last_to_be_a_candidate() {
    let mut rig = master();
    rig.election.resign();
    assert_eq!(lost(&rig.effects()), Some(LossReason::Resigned));
    assert_eq!(rig.election.leadership(rig.election.now), None);
    assert_eq!(rig.election.promised_to(), None, "the resignation has ended its own promise");
    assert_eq!(rig.election.resignation(), Some(Resign { term: Term(1) }));
    rig.request("c", 2);
    assert_eq!(rig.election.promised_to(), Some(&node("c")), "it votes at once, also for the highest id");
}

/// L7: nobody else becomes the master.
#[test]
fn l7_a_resigned_master_is_a_candidate_again_after_all_turns() {
    let mut rig = master();
    rig.election.resign();
    rig.effects();
    for other in ["b", "c"] {
        rig.report(other, Role::Joining, None);
    }
    rig.wait(299);
    assert_eq!(rig.election.role(), Role::Joining);
    rig.wait(1);
    assert_eq!(rig.election.role(), Role::Candidate);
    assert_eq!(rig.election.resignation(), None);
}

/// L7: a resignation counts until there is a master again.
#[test]
fn l7_the_next_voter_has_its_turn_at_once() {
    let mut rig = Rig::past_bootstrap("b");
    rig.report_in(1, "a", Role::Master, None);
    assert_eq!(rig.election.heartbeat(&node("a"), &at("a"), heartbeat(1)), (true, true));
    rig.effects();
    rig.report("c", Role::Joining, None);
    rig.report_in(1, "a", Role::Joining, None);
    assert_eq!(rig.election.role(), Role::Joining, "it is bound by its promise");
    rig.election.resigned(&node("a"), &at("a"), Term(1));
    assert_eq!(rig.election.role(), Role::Candidate, "it does not wait for the turn of the lowest id");
}

/// It has reported no lease.
#[test]
fn e5_a_candidate_that_leaves_at_once_is_bound_to_nobody() {
    let mut rig = Rig::new("a");
    for other in ["b", "c"] {
        rig.election.link_up(&at(other), &node(other), None);
        rig.report(other, Role::Joining, None);
    }
    assert_eq!((rig.now, rig.election.promised_to()), (0, Some(&node("a"))));
    rig.election.leave();
    assert_eq!(rig.election.promised_to(), None);
}

/// It may not become a candidate yet.
#[test]
fn e3_a_deferred_request_is_due_at_the_voters_own_turn() {
    let mut rig = Rig::past_bootstrap("b");
    rig.election.not_before = Timestamp::from_micros(60_000 * MS);
    assert_eq!(answer(&rig.request("c", 1)), None);
    assert_eq!(rig.election.next_deadline(), Some(Timestamp::from_micros(3_100 * MS)));
    assert_eq!(answer(&rig.wait(100)), Some(true));
}
