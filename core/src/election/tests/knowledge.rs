//! What a voter concludes from what it knows of each of the others: who holds it, who counts, and whose turn it is.

use super::*;
use crate::Bootstrap;

const LEASE: core::time::Duration = core::time::Duration::from_secs(1);

impl Voting {
    fn with(config: &Config) -> Self {
        let start = Start::new(Incarnation(1), 1);
        Self { election: Election::new(config, &start, Rng::new(1), Timestamp::ZERO), now: 0 }
    }

    fn links(&mut self, id: &str) -> Vec<Effect> {
        self.election.link_up(&at(id), &node(id));
        self.effects()
    }

    /// Says that it is without a master, but held.
    fn is_heard_held(&mut self, id: &str) -> Vec<Effect> {
        let (number, term, role) = (1, Term(0), Role::Joining);
        let (view_id, metadata) = (ViewId::default(), bytes::Bytes::new());
        let status = StatusReport { number, term, role, abstains: true, promise: None, view_id, metadata };
        self.election.heard_status(&node(id), &at(id), &status);
        self.effects()
    }

    fn beats(&mut self, id: &str, term: u64) -> (bool, bool) {
        let known =
            self.election.heartbeat(&node(id), &at(id), Heartbeat { term: Term(term), number: 1, lease: LEASE });
        self.effects();
        known
    }

    fn refuses(&mut self, id: &str, term: u64, number: u64) -> Vec<Effect> {
        self.election.vote(&at(id), Vote { term: Term(term), number, granted: false });
        self.effects()
    }
}

fn follows(id: &str) -> Role {
    Role::Follower { master: node(id), address: at(id) }
}

fn released(effects: &[Effect]) -> Vec<Term> {
    let term = |effect: &Effect| match effect {
        Effect::Release { release, .. } => Some(release.term),
        _ => None,
    };
    effects.iter().filter_map(term).collect()
}

#[test]
fn e1_a_voter_once_seen_free_makes_nobody_held_whatever_it_does_later() {
    let mut voting = Voting::new("c");
    voting.says("a", Role::Joining, None);
    voting.says("b", Role::Joining, None);
    voting.says_in(1, "a", Role::Master, None);
    assert!(!voting.election.abstains());
    assert_eq!(voting.election.master().map(|(master, _)| master), Some(&node("a")));
}

#[test]
fn e1_a_voter_that_stands_does_not_make_this_one_held_towards_everybody() {
    let mut voting = Voting::new("c");
    voting.says("a", Role::Joining, None);
    voting.says("b", Role::Candidate, Some("b"));
    assert!(!voting.election.abstains(), "it can be counted on by b");
}

#[test]
fn e1_another_voter_holds_unless_it_can_only_be_bound_to_the_candidate() {
    let answer_to_b = |heard: Option<(Role, Option<&str>)>| {
        let mut voting = Voting::new("c");
        if let Some((role, promise)) = heard {
            voting.says("a", role, promise);
        }
        voting.links("b");
        voting.says("b", Role::Candidate, Some("b"));
        answer(&voting.asks("b", 1))
    };
    assert_eq!(answer_to_b(None), None, "nothing is known of a");
    assert_eq!(answer_to_b(Some((Role::Joining, None))), Some(true));
    assert_eq!(answer_to_b(Some((Role::Joining, Some("b")))), Some(true), "bound to the candidate itself");
    assert_eq!(answer_to_b(Some((Role::Joining, Some("a")))), None, "bound to another");
    assert_eq!(answer_to_b(Some((Role::Candidate, Some("a")))), None);
    assert_eq!(answer_to_b(Some((Role::Candidate, Some("b")))), None, "another stands");
    assert_eq!(answer_to_b(Some((Role::Master, Some("b")))), None, "another is master");
}

#[test]
fn e1_a_master_whose_heartbeat_was_confirmed_holds_nobody_and_clears_no_other() {
    let mut voting = Voting::new("c");
    voting.links("a");
    voting.links("b");
    voting.says_in(1, "a", Role::Master, None);
    assert_eq!(voting.beats("a", 1), (true, true));
    assert!(voting.election.abstains(), "b has not been heard");
    voting.says("b", Role::Joining, None);
    assert!(!voting.election.abstains());
}

#[test]
fn e1_a_voter_that_may_not_form_stays_held_and_refuses_until_it_has_joined() {
    let config = Config::builder("test", "c", "c:1").seeds(["a:1", "b:1", "c:1"]).bootstrap(Bootstrap::JoinOnly);
    let mut voting = Voting::with(&config.build().unwrap());
    voting.links("a");
    voting.links("b");
    voting.says("a", Role::Joining, None);
    voting.says("b", Role::Joining, None);
    assert_eq!(asked(&voting.wait(10_000)), 0);
    assert!(voting.election.abstains());
    assert_eq!(answer(&voting.asks("a", 1)), Some(false));
    assert_eq!(voting.beats("a", 1), (true, true));
    voting.wait(1_000);
    assert!(!voting.election.abstains());
    assert_eq!(answer(&voting.asks("a", 2)), Some(true));
}

#[test]
fn e2_what_an_earlier_run_said_does_not_speak_for_a_newer_one_but_outlives_a_link_of_its_own() {
    let stands_after_a_new_link_of = |incarnation: u64| {
        let mut voting = Voting::seasoned("b");
        voting.says("a", Role::Joining, None);
        let again = Node { incarnation: Incarnation(incarnation), ..node("a") };
        voting.election.link_down(&at("a"));
        voting.election.link_up(&at("a"), &again);
        asked(&voting.effects()) + asked(&voting.wait(100)) > 0
    };
    assert!(stands_after_a_new_link_of(1));
    assert!(!stands_after_a_new_link_of(2));
}

#[test]
fn e2_a_voter_without_a_link_is_not_counted_nor_is_one_that_was_not_heard() {
    let mut voting = Voting::seasoned("b");
    voting.says("a", Role::Joining, None);
    voting.election.link_down(&at("a"));
    assert_eq!(asked(&voting.effects()), 0);
    assert_eq!(asked(&voting.wait(10_000)), 0);
    assert_eq!(asked(&voting.says("c", Role::Joining, None)), 1);
}

#[test]
fn e2_held_voters_count_only_when_all_are_there() {
    let mut voting = Voting::seasoned("a");
    assert_eq!(asked(&voting.is_heard_held("b")), 0);
    assert_eq!(asked(&voting.wait(10_000)), 0);
    assert_eq!(asked(&voting.is_heard_held("c")), 2);
}

#[test]
fn e2_a_voter_does_not_stand_before_its_promise_to_another_is_over() {
    let mut voting = Voting::seasoned("a");
    assert_eq!(answer(&voting.asks("c", 1)), Some(true));
    assert_eq!(asked(&voting.says("b", Role::Joining, None)), 0);
    assert_eq!(asked(&voting.wait(999)), 0);
    assert_eq!(asked(&voting.wait(1)), 2);
}

#[test]
fn e2_before_bootstrap_wait_only_the_lowest_id_stands() {
    let mut voting = Voting::new("b");
    for id in ["a", "c"] {
        voting.links(id);
        assert_eq!(asked(&voting.says(id, Role::Joining, None)), 0);
    }
    assert_eq!(asked(&voting.wait(2_999)), 0);
    assert_eq!(asked(&voting.wait(1)), 2);
}

#[test]
fn e2_a_higher_id_that_stands_keeps_nobody_from_standing() {
    let mut voting = Voting::seasoned("a");
    assert_eq!(asked(&voting.says("c", Role::Candidate, Some("c"))), 2);
}

#[test]
fn e2_refusals_of_an_earlier_candidacy_do_not_end_a_later_one() {
    let mut voting = Voting::seasoned("a");
    voting.says("b", Role::Joining, None);
    let first = voting.election.number;
    voting.wait(500);
    assert_eq!(asked(&voting.wait(2_000)), 2);
    voting.refuses("b", 1, first);
    voting.refuses("c", 1, first);
    assert_eq!(voting.election.role(), Role::Candidate);
}

#[test]
fn e2_the_wait_after_a_failure_is_random_from_a_span_that_grows_up_to_twice_the_lease() {
    let mut voting = Voting::seasoned("a");
    voting.says("b", Role::Joining, None);
    let mut waits = Vec::new();
    for _ in 0..20 {
        assert_eq!(voting.election.role(), Role::Candidate);
        let mut again = asked(&voting.wait(500));
        let gave_up = voting.now;
        while again == 0 {
            again = asked(&voting.wait(1));
            assert!(voting.now - gave_up <= 2_000 * MS, "it has not stood again after {waits:?}");
        }
        waits.push((voting.now - gave_up) / MS);
    }
    assert!(waits[0] <= 200, "{waits:?}");
    assert!(waits.iter().all(|wait| *wait <= 2_000), "{waits:?}");
    assert!(waits.iter().any(|wait| *wait > 1_000), "{waits:?}");
    assert!(waits[10..].iter().any(|wait| *wait != waits[10]), "{waits:?}");
}

#[test]
fn e3_the_turn_of_a_candidate_is_judged_by_the_links_and_the_clock_of_the_voter() {
    let mut voting = Voting::seasoned("c");
    assert_eq!(answer(&voting.asks("b", 1)), None, "a is linked");
    assert_eq!(answer(&voting.wait(99)), None);
    assert_eq!(answer(&voting.wait(1)), Some(true));
}

#[test]
fn e3_a_lease_as_long_as_bootstrap_wait_is_granted_and_confirmed() {
    let lease = core::time::Duration::from_secs(3);
    let mut voting = Voting::seasoned("c");
    voting.election.vote_request(&node("a"), VoteRequest { lease, ..request(1) });
    assert_eq!(answer(&voting.effects()), Some(true));
    let heartbeat = Heartbeat { term: Term(1), number: 1, lease };
    assert_eq!(voting.election.heartbeat(&node("a"), &at("a"), heartbeat), (true, true));
}

#[test]
fn e4_one_persist_is_in_flight_at_a_time_and_each_has_its_number() {
    let mut voting = Voting::seasoned("c");
    let persists = |election: &mut Election| {
        let effects = core::iter::from_fn(|| election.next_effect());
        let persist = |effect| match effect {
            Effect::Persist { seq, state } => Some((seq, state.term)),
            _ => None,
        };
        effects.filter_map(persist).collect::<Vec<_>>()
    };
    voting.election.vote_request(&node("a"), request(1));
    let first = persists(&mut voting.election);
    assert!(matches!(first.as_slice(), [(_, Term(1))]), "{first:?}");
    assert_eq!(voting.election.persisting(), Some(first[0].0));
    voting.election.learn(Term(5));
    assert_eq!(persists(&mut voting.election), []);
    voting.election.persisted();
    let second = persists(&mut voting.election);
    assert!(matches!(second.as_slice(), [(seq, Term(5))] if *seq > first[0].0), "{second:?}");
    voting.election.persisted();
    assert_eq!((persists(&mut voting.election), voting.election.persisting()), (Vec::new(), None));
}

#[test]
fn e4_neither_the_term_alone_nor_an_earlier_vote_for_the_same_node_makes_a_vote_durable() {
    let mut known = Voting::seasoned("c");
    known.says_in(1, "b", Role::Joining, None);
    let mut voted = Voting::seasoned("c");
    assert_eq!(answer(&voted.asks("a", 1)), Some(true));
    for (mut voting, term) in [(known, 1), (voted, 2)] {
        voting.election.vote_request(&node("a"), request(term));
        let effects: Vec<Effect> = core::iter::from_fn(|| voting.election.next_effect()).collect();
        assert!(matches!(effects.as_slice(), [Effect::Persist { .. }]), "{effects:?}");
        voting.election.persisted();
        assert_eq!(answer(&voting.effects()), Some(true));
    }
}

#[test]
fn e5_a_release_ends_a_promise_however_often_it_was_asked_for() {
    let mut voting = Voting::seasoned("c");
    assert_eq!(answer(&voting.asks("a", 1)), Some(true));
    voting.wait(200);
    assert_eq!(answer(&voting.asks("a", 1)), Some(true));
    voting.election.release(&node("a"), Release { term: Term(1) });
    assert_eq!(voting.election.promised_to(), None);
}

#[test]
fn e5_what_was_promised_in_an_earlier_term_outlasts_a_request_that_was_repeated() {
    let mut voting = Voting::seasoned("c");
    assert_eq!(voting.beats("a", 1), (true, true));
    voting.wait(200);
    assert_eq!(answer(&voting.asks("a", 2)), Some(true));
    assert_eq!(answer(&voting.asks("a", 2)), Some(true));
    voting.election.release(&node("a"), Release { term: Term(2) });
    assert_eq!(voting.election.promised_to(), Some(&node("a")));
    voting.wait(799);
    assert_eq!(voting.election.promised_to(), Some(&node("a")));
    voting.wait(1);
    assert_eq!(voting.election.promised_to(), None);
}

#[test]
fn e6_a_lease_runs_from_the_newest_time_that_a_whole_quorum_has_confirmed() {
    let config = Config::builder("test", "a", "a:1").seeds(["a:1", "b:1", "c:1", "d:1", "e:1"]).build().unwrap();
    let mut voting = Voting::with(&config);
    for id in ["b", "c", "d", "e"] {
        voting.links(id);
        voting.says(id, Role::Joining, None);
    }
    assert!(!is_elected(&voting.grants("b")), "two of five are no quorum");
    assert!(is_elected(&voting.grants("c")));
    let until = |voting: &Voting| {
        let leadership = voting.election.leadership(Timestamp::from_micros(voting.now));
        leadership.map(|leadership| leadership.valid_until.as_micros() / MS)
    };
    let confirms = |voting: &mut Voting, id: &str, heartbeat: &Heartbeat| {
        let (term, number, view_id) = (heartbeat.term, heartbeat.number, ViewId::default());
        voting.election.heartbeat_ack(&at(id), &HeartbeatAck { term, number, view_id, confirms: true });
    };
    assert_eq!(until(&voting), Some(990));
    voting.wait(100);
    let first = voting.election.next_heartbeat().unwrap();
    voting.wait(100);
    let second = voting.election.next_heartbeat().unwrap();
    confirms(&mut voting, "d", &second);
    assert_eq!(until(&voting), Some(990), "one other has confirmed it");
    confirms(&mut voting, "e", &first);
    assert_eq!(until(&voting), Some(1_090), "two others have confirmed the first");
    confirms(&mut voting, "b", &second);
    assert_eq!(until(&voting), Some(1_190));
}

#[test]
fn e7_a_candidate_that_learns_a_newer_term_gives_up() {
    let mut voting = Voting::seasoned("a");
    voting.says("b", Role::Joining, None);
    let effects = voting.says_in(5, "c", follows("x"), None);
    assert_eq!(released(&effects), [Term(1), Term(1)]);
    assert_eq!((voting.election.term(), voting.election.role()), (Term(5), Role::Joining));
}

#[test]
fn e2_a_candidate_that_gave_up_is_bound_to_itself_no_more() {
    let mut voting = Voting::seasoned("a");
    voting.says("b", Role::Joining, None);
    assert_eq!(answer(&voting.asks("b", 2)), Some(false));
    voting.wait(500);
    assert_eq!(voting.election.role(), Role::Joining);
    assert_eq!(answer(&voting.asks("b", 2)), Some(true));
}

/// The promise of its candidacy is over by then; the lease that it has reported is not.
#[test]
fn e6_a_master_that_follows_a_newer_one_grants_to_nobody_until_its_last_lease_is_over() {
    let mut voting = master();
    voting.wait(900);
    let beat = voting.election.next_heartbeat().unwrap();
    let (term, number, view_id) = (beat.term, beat.number, ViewId::default());
    voting.election.heartbeat_ack(&at("b"), &HeartbeatAck { term, number, view_id, confirms: true });
    voting.wait(200);
    assert!(voting.election.is_master());
    voting.says_in(5, "c", Role::Master, None);
    assert_eq!(answer(&voting.asks("b", 6)), Some(false));
    voting.wait(789);
    assert_eq!(voting.election.promised_to(), Some(&node("a")));
    voting.wait(1);
    assert_eq!(voting.election.promised_to(), None);
}

#[test]
fn e3_a_vote_is_of_its_term_and_leaves_the_next_one_free() {
    let mut voting = Voting::seasoned("c");
    assert_eq!(answer(&voting.asks("a", 1)), Some(true));
    voting.says_in(2, "b", Role::Joining, None);
    voting.wait(1_000);
    voting.asks("b", 2);
    assert_eq!(answer(&voting.wait(100)), Some(true));
}

#[test]
fn e3_before_bootstrap_wait_the_own_turn_waives_nobody_elses() {
    let mut voting = Voting::new("a");
    voting.links("b");
    voting.links("c");
    voting.says("c", Role::Joining, None);
    voting.election.link_down(&at("c"));
    // It does not stand, as b is held.
    voting.is_heard_held("b");
    assert_eq!((voting.election.role(), voting.election.free_since.is_some()), (Role::Joining, true));
    assert_eq!(answer(&voting.asks("b", 1)), None);
}

#[test]
fn e2_who_leaves_is_nobody_to_wait_for() {
    let mut voting = Voting::seasoned("b");
    voting.says("a", Role::Leaving, None);
    voting.says("c", Role::Joining, None);
    assert_eq!(voting.election.role(), Role::Candidate);
}

#[test]
fn e2_waits_are_short_again_after_a_master_was_followed() {
    let mut voting = Voting::seasoned("a");
    voting.says("b", Role::Joining, None);
    voting.wait(500);
    assert_eq!(voting.election.failures, 1);
    voting.says_in(1, "b", Role::Master, None);
    assert_eq!(voting.election.failures, 0);
}

#[test]
fn e2_waits_are_short_again_after_a_candidacy_that_was_won() {
    let mut voting = Voting::seasoned("a");
    voting.says("b", Role::Joining, None);
    voting.wait(500);
    assert_eq!(voting.election.failures, 1);
    while voting.election.role() != Role::Candidate {
        voting.wait(10);
    }
    assert!(is_elected(&voting.grants("b")));
    assert_eq!(voting.election.failures, 0);
}
