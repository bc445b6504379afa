//! What a voter concludes from what it knows about each of the others.

use super::*;
use crate::Bootstrap;

impl Rig {
    fn with(config: &Config) -> Self {
        let start = Start::new(Incarnation(1), 1);
        Self { election: Election::new(config, &start, Rng::new(1), Timestamp::ZERO), now: 0 }
    }

    fn link(&mut self, id: &str) -> Vec<Effect> {
        self.election.link_up(&at(id), &node(id), None);
        self.effects()
    }

    /// A status arrives from a voter that has no master, but abstains.
    fn report_abstaining(&mut self, id: &str) -> Vec<Effect> {
        let status = StatusReport { abstains: true, ..status(Role::Joining) };
        self.election.status_received(&node(id), &at(id), &status);
        self.effects()
    }

    fn heartbeat(&mut self, id: &str, term: u64) -> (bool, bool) {
        let answer = self.election.heartbeat(&node(id), &at(id), heartbeat(term));
        self.effects();
        answer
    }

    fn refuse(&mut self, id: &str, term: u64, number: u64) -> Vec<Effect> {
        self.election.vote(&at(id), Vote { term: Term(term), number, granted: false });
        self.effects()
    }
}

fn released_terms(effects: &[Effect]) -> Vec<Term> {
    let term = |effect: &Effect| match effect {
        Effect::Release { release, .. } => Some(release.term),
        _ => None,
    };
    effects.iter().filter_map(term).collect()
}

#[test]
fn e1_a_voter_once_seen_free_never_causes_grace_again() {
    let mut rig = Rig::new("c");
    rig.report("a", Role::Joining, None);
    rig.report("b", Role::Joining, None);
    rig.report_in(1, "a", Role::Master, None);
    assert!(!rig.election.abstains());
    assert_eq!(rig.election.master().map(|(master, _)| master), Some(&node("a")));
}

#[test]
fn e1_a_candidate_does_not_make_this_voter_abstain() {
    let mut rig = Rig::new("c");
    rig.report("a", Role::Joining, None);
    rig.report("b", Role::Candidate, Some("b"));
    assert!(!rig.election.abstains(), "it could grant to b");
}

#[test]
fn e1_a_voter_bound_only_to_the_candidate_causes_no_grace() {
    let answer_to_b = |status: Option<(Role, Option<&str>)>| {
        let mut rig = Rig::new("c");
        if let Some((role, promise)) = status {
            rig.report("a", role, promise);
        }
        rig.link("b");
        rig.report("b", Role::Candidate, Some("b"));
        answer(&rig.request("b", 1))
    };
    assert_eq!(answer_to_b(None), None, "nothing is known about a");
    assert_eq!(answer_to_b(Some((Role::Joining, None))), Some(true));
    assert_eq!(answer_to_b(Some((Role::Joining, Some("b")))), Some(true), "bound to the candidate itself");
    assert_eq!(answer_to_b(Some((Role::Joining, Some("a")))), None, "bound to another node");
    assert_eq!(answer_to_b(Some((Role::Candidate, Some("a")))), None);
    assert_eq!(answer_to_b(Some((Role::Candidate, Some("b")))), None, "another voter is a candidate");
    assert_eq!(answer_to_b(Some((Role::Master, Some("b")))), None, "another voter is master");
}

#[test]
fn e1_a_confirmed_heartbeat_clears_that_master_only() {
    let mut rig = Rig::new("c");
    rig.link("a");
    rig.link("b");
    rig.report_in(1, "a", Role::Master, None);
    assert_eq!(rig.heartbeat("a", 1), (true, true));
    assert!(rig.election.abstains(), "no status of b has arrived");
    rig.report("b", Role::Joining, None);
    assert!(!rig.election.abstains());
}

#[test]
fn d7_e1_a_join_only_voter_abstains_until_it_has_joined() {
    let config = Config::builder("test", "c", "c:1").seeds(["a:1", "b:1", "c:1"]).bootstrap(Bootstrap::JoinOnly);
    let mut rig = Rig::with(&config.build().unwrap());
    rig.link("a");
    rig.link("b");
    rig.report("a", Role::Joining, None);
    rig.report("b", Role::Joining, None);
    assert_eq!(requests(&rig.wait(10_000)), 0);
    assert!(rig.election.abstains());
    assert_eq!(answer(&rig.request("a", 1)), Some(false));
    assert_eq!(rig.heartbeat("a", 1), (true, true));
    rig.wait(1_000);
    assert!(!rig.election.abstains());
    assert_eq!(answer(&rig.request("a", 2)), Some(true));
}

#[test]
fn e2_a_status_outlives_its_link_but_not_its_run() {
    let is_candidate_after_link_of = |incarnation: u64| {
        let mut rig = Rig::past_bootstrap("b");
        rig.report("a", Role::Joining, None);
        let again = Node { incarnation: Incarnation(incarnation), ..node("a") };
        rig.election.link_down(&at("a"));
        rig.election.link_up(&at("a"), &again, None);
        requests(&rig.effects()) + requests(&rig.wait(100)) > 0
    };
    assert!(is_candidate_after_link_of(1));
    assert!(!is_candidate_after_link_of(2));
}

#[test]
fn e2_only_linked_voters_with_a_status_count() {
    let mut rig = Rig::past_bootstrap("b");
    rig.report("a", Role::Joining, None);
    rig.election.link_down(&at("a"));
    assert_eq!(requests(&rig.effects()), 0);
    assert_eq!(requests(&rig.wait(10_000)), 0);
    assert_eq!(requests(&rig.report("c", Role::Joining, None)), 1);
}

#[test]
fn e2_abstaining_voters_count_only_when_all_are_linked() {
    let mut rig = Rig::past_bootstrap("a");
    assert_eq!(requests(&rig.report_abstaining("b")), 0);
    assert_eq!(requests(&rig.wait(10_000)), 0);
    assert_eq!(requests(&rig.report_abstaining("c")), 2);
}

#[test]
fn e2_no_candidacy_before_a_promise_to_another_ends() {
    let mut rig = Rig::past_bootstrap("a");
    assert_eq!(answer(&rig.request("c", 1)), Some(true));
    assert_eq!(requests(&rig.report("b", Role::Joining, None)), 0);
    assert_eq!(requests(&rig.wait(999)), 0);
    assert_eq!(requests(&rig.wait(1)), 2);
}

#[test]
fn e2_before_bootstrap_wait_only_the_lowest_id_is_candidate() {
    let mut rig = Rig::new("b");
    for id in ["a", "c"] {
        rig.link(id);
        assert_eq!(requests(&rig.report(id, Role::Joining, None)), 0);
    }
    assert_eq!(requests(&rig.wait(2_999)), 0);
    assert_eq!(requests(&rig.wait(1)), 2);
}

#[test]
fn e2_a_candidate_with_a_higher_id_prevents_no_candidacy() {
    let mut rig = Rig::past_bootstrap("a");
    assert_eq!(requests(&rig.report("c", Role::Candidate, Some("c"))), 2);
}

#[test]
fn e2_refusals_of_an_earlier_candidacy_do_not_end_a_later_one() {
    let mut rig = Rig::past_bootstrap("a");
    rig.report("b", Role::Joining, None);
    let first = rig.election.number;
    rig.wait(500);
    assert_eq!(requests(&rig.wait(2_000)), 2);
    rig.refuse("b", 1, first);
    rig.refuse("c", 1, first);
    assert_eq!(rig.election.role(), Role::Candidate);
}

#[test]
fn e2_a_wait_is_the_turns_of_all_and_up_to_twice_the_lease() {
    let mut rig = Rig::past_bootstrap("a");
    rig.report("b", Role::Joining, None);
    let mut waits = Vec::new();
    for _ in 0..20 {
        assert_eq!(rig.election.role(), Role::Candidate);
        let mut again = requests(&rig.wait(500));
        let gave_up = rig.now;
        while again == 0 {
            again = requests(&rig.wait(1));
            assert!(rig.now - gave_up <= 2_300 * MS, "no new candidacy after {waits:?}");
        }
        waits.push((rig.now - gave_up) / MS);
    }
    assert!(waits[0] <= 500, "{waits:?}");
    assert!(waits.iter().all(|wait| (300..=2_300).contains(wait)), "{waits:?}");
    assert!(waits.iter().any(|wait| *wait > 1_300), "{waits:?}");
    assert!(waits[10..].iter().any(|wait| *wait != waits[10]), "{waits:?}");
}

#[test]
fn e3_the_voter_judges_the_turn_by_its_links_and_clock() {
    let mut rig = Rig::past_bootstrap("c");
    assert_eq!(answer(&rig.request("b", 1)), None, "a is linked");
    assert_eq!(answer(&rig.wait(99)), None);
    assert_eq!(answer(&rig.wait(1)), Some(true));
}

#[test]
fn e3_a_lease_as_long_as_bootstrap_wait_is_promised() {
    let lease = Duration::from_secs(3);
    let mut rig = Rig::past_bootstrap("c");
    rig.election.vote_request(&node("a"), VoteRequest { lease, ..vote_request(1) });
    assert_eq!(answer(&rig.effects()), Some(true));
    let heartbeat = Heartbeat { term: Term(1), number: 1, lease };
    assert_eq!(rig.election.heartbeat(&node("a"), &at("a"), heartbeat), (true, true));
}

#[test]
fn e4_one_numbered_persist_is_in_flight_at_a_time() {
    let mut rig = Rig::past_bootstrap("c");
    let persists = |election: &mut Election| {
        let effects = core::iter::from_fn(|| election.next_effect());
        let persist = |effect| match effect {
            Effect::Persist { seq, state } => Some((seq, state.term)),
            _ => None,
        };
        effects.filter_map(persist).collect::<Vec<_>>()
    };
    rig.election.vote_request(&node("a"), vote_request(1));
    let first = persists(&mut rig.election);
    assert!(matches!(first.as_slice(), [(_, Term(1))]), "{first:?}");
    assert_eq!(rig.election.persisting(), Some(first[0].0));
    rig.election.learn(Term(5));
    assert_eq!(persists(&mut rig.election), []);
    rig.election.persisted();
    let second = persists(&mut rig.election);
    assert!(matches!(second.as_slice(), [(seq, Term(5))] if *seq > first[0].0), "{second:?}");
    rig.election.persisted();
    assert_eq!((persists(&mut rig.election), rig.election.persisting()), (Vec::new(), None));
}

#[test]
fn e4_a_durable_vote_is_for_that_term_and_that_node() {
    let mut known = Rig::past_bootstrap("c");
    known.report_in(1, "b", Role::Joining, None);
    let mut voted = Rig::past_bootstrap("c");
    assert_eq!(answer(&voted.request("a", 1)), Some(true));
    for (mut rig, term) in [(known, 1), (voted, 2)] {
        rig.election.vote_request(&node("a"), vote_request(term));
        let effects: Vec<Effect> = core::iter::from_fn(|| rig.election.next_effect()).collect();
        assert!(matches!(effects.as_slice(), [Effect::Persist { .. }]), "{effects:?}");
        rig.election.persisted();
        assert_eq!(answer(&rig.effects()), Some(true));
    }
}

#[test]
fn e5_a_release_ends_a_promise_that_was_requested_twice() {
    let mut rig = Rig::past_bootstrap("c");
    assert_eq!(answer(&rig.request("a", 1)), Some(true));
    rig.wait(200);
    assert_eq!(answer(&rig.request("a", 1)), Some(true));
    rig.election.release(&node("a"), Release { term: Term(1) });
    assert_eq!(rig.election.promised_to(), None);
}

#[test]
fn e5_an_earlier_promise_outlasts_a_repeated_request() {
    let mut rig = Rig::past_bootstrap("c");
    assert_eq!(rig.heartbeat("a", 1), (true, true));
    rig.wait(200);
    assert_eq!(answer(&rig.request("a", 2)), Some(true));
    assert_eq!(answer(&rig.request("a", 2)), Some(true));
    rig.election.release(&node("a"), Release { term: Term(2) });
    assert_eq!(rig.election.promised_to(), Some(&node("a")));
    rig.wait(799);
    assert_eq!(rig.election.promised_to(), Some(&node("a")));
    rig.wait(1);
    assert_eq!(rig.election.promised_to(), None);
}

#[test]
fn e6_a_lease_runs_from_what_a_whole_quorum_has_confirmed() {
    let config = Config::builder("test", "a", "a:1").seeds(["a:1", "b:1", "c:1", "d:1", "e:1"]).build().unwrap();
    let mut rig = Rig::with(&config);
    for id in ["b", "c", "d", "e"] {
        rig.link(id);
        rig.report(id, Role::Joining, None);
    }
    assert!(!is_elected(&rig.grant("b")), "two of five are no quorum");
    assert!(is_elected(&rig.grant("c")));
    let until = |rig: &Rig| {
        let leadership = rig.election.leadership(Timestamp::from_micros(rig.now));
        leadership.map(|leadership| leadership.valid_until.as_micros() / MS)
    };
    let confirms = |rig: &mut Rig, id: &str, heartbeat: &Heartbeat| {
        let (term, number, view_id) = (heartbeat.term, heartbeat.number, ViewId::default());
        rig.election.heartbeat_ack(
            &at(id),
            &HeartbeatAck { term, number, view_id, confirms: true, electorate: Default::default() },
        );
    };
    assert_eq!(until(&rig), Some(990));
    rig.wait(100);
    let first = rig.election.next_heartbeat().unwrap();
    rig.wait(100);
    let second = rig.election.next_heartbeat().unwrap();
    confirms(&mut rig, "d", &second);
    assert_eq!(until(&rig), Some(990), "one other has confirmed it");
    confirms(&mut rig, "e", &first);
    assert_eq!(until(&rig), Some(1_090), "two others have confirmed the first");
    confirms(&mut rig, "b", &second);
    assert_eq!(until(&rig), Some(1_190));
}

#[test]
fn e7_a_candidate_that_learns_a_newer_term_gives_up() {
    let mut rig = Rig::past_bootstrap("a");
    rig.report("b", Role::Joining, None);
    let effects = rig.report_in(5, "c", follows("x"), None);
    assert_eq!(released_terms(&effects), [Term(1), Term(1)]);
    assert_eq!((rig.election.term(), rig.election.role()), (Term(5), Role::Joining));
}

#[test]
fn e2_a_candidate_that_gave_up_is_no_longer_bound() {
    let mut rig = Rig::past_bootstrap("a");
    rig.report("b", Role::Joining, None);
    assert_eq!(answer(&rig.request("b", 2)), Some(false));
    rig.wait(500);
    assert_eq!(rig.election.role(), Role::Joining);
    assert_eq!(answer(&rig.request("b", 2)), Some(true));
}

/// The promise of its candidacy has ended by then. The lease that it has reported has not.
#[test]
fn e6_a_replaced_master_grants_nothing_until_its_lease_ends() {
    let mut rig = master();
    rig.wait(900);
    let heartbeat = rig.election.next_heartbeat().unwrap();
    let (term, number, view_id) = (heartbeat.term, heartbeat.number, ViewId::default());
    rig.election.heartbeat_ack(
        &at("b"),
        &HeartbeatAck { term, number, view_id, confirms: true, electorate: Default::default() },
    );
    rig.wait(200);
    assert!(rig.election.is_master());
    rig.report_in(5, "c", Role::Master, None);
    assert_eq!(answer(&rig.request("b", 6)), Some(false));
    rig.wait(789);
    assert_eq!(rig.election.promised_to(), Some(&node("a")));
    rig.wait(1);
    assert_eq!(rig.election.promised_to(), None);
}

#[test]
fn e3_a_vote_in_one_term_leaves_the_next_term_free() {
    let mut rig = Rig::past_bootstrap("c");
    assert_eq!(answer(&rig.request("a", 1)), Some(true));
    rig.report_in(2, "b", Role::Joining, None);
    rig.wait(1_000);
    rig.request("b", 2);
    assert_eq!(answer(&rig.wait(100)), Some(true));
}

#[test]
fn e3_before_bootstrap_wait_only_the_candidates_turn_counts() {
    let mut rig = Rig::new("a");
    rig.link("b");
    rig.link("c");
    rig.report("c", Role::Joining, None);
    rig.election.link_down(&at("c"));
    // It is no candidate, because b abstains.
    rig.report_abstaining("b");
    assert_eq!((rig.election.role(), rig.election.free_since.is_some()), (Role::Joining, true));
    assert_eq!(answer(&rig.request("b", 1)), None);
}

#[test]
fn e2_a_leaving_voter_has_no_rank() {
    let mut rig = Rig::past_bootstrap("b");
    rig.report("a", Role::Leaving, None);
    rig.report("c", Role::Joining, None);
    assert_eq!(rig.election.role(), Role::Candidate);
}

#[test]
fn e2_following_a_master_resets_the_random_wait() {
    let mut rig = Rig::past_bootstrap("a");
    rig.report("b", Role::Joining, None);
    rig.wait(500);
    assert_eq!(rig.election.failures, 1);
    rig.report_in(1, "b", Role::Master, None);
    assert_eq!(rig.election.failures, 0);
}

#[test]
fn e2_winning_resets_the_random_wait() {
    let mut rig = Rig::past_bootstrap("a");
    rig.report("b", Role::Joining, None);
    rig.wait(500);
    assert_eq!(rig.election.failures, 1);
    while rig.election.role() != Role::Candidate {
        rig.wait(10);
    }
    assert!(is_elected(&rig.grant("b")));
    assert_eq!(rig.election.failures, 0);
}
