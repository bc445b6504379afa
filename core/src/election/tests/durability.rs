//! E4: what a voter sends, and when, if its storage answers late or fails.

use super::*;

impl Rig {
    /// The effects before the storage has answered.
    fn at_once(&mut self) -> Vec<Effect> {
        self.election.check_invariants();
        core::iter::from_fn(|| self.election.next_effect()).collect()
    }

    /// A voter whose storage has failed at the first `Persist`.
    fn failing(me: &str) -> Self {
        let mut rig = Self::past_bootstrap(me);
        rig.election.learn(Term(1));
        rig.election.persist_failed();
        rig.at_once();
        rig
    }
}

#[test]
fn e4_a_vote_is_sent_after_it_is_durable() {
    let mut rig = Rig::past_bootstrap("b");
    rig.election.vote_request(&node("a"), vote_request(1));
    let effects = rig.at_once();
    assert!(matches!(effects.as_slice(), [Effect::Persist { state, .. }] if state.voted_for == Some(node("a"))));
    rig.election.persisted();
    assert_eq!(answer(&rig.effects()), Some(true));
}

#[test]
fn e4_a_vote_whose_term_has_passed_is_never_sent() {
    let mut rig = Rig::past_bootstrap("b");
    rig.election.vote_request(&node("a"), vote_request(1));
    rig.election.learn(Term(2));
    rig.election.persisted();
    assert_eq!(answer(&rig.effects()), None);
}

#[test]
fn e4_a_pending_vote_ends_with_its_term() {
    let ends: [fn(&mut Election); 3] = [
        |e| e.learn(Term(2)),
        |e| assert!(e.accept_master(&node("c"), &at("c"), Term(2))),
        |e| {
            e.status_received(&node("a"), &at("a"), &status(Role::Joining));
            // The promise ends, and then the turn of a.
            for seconds in [10, 20] {
                e.advance(Timestamp::from_micros(seconds * 1_000 * MS));
            }
            assert_eq!(e.role(), Role::Candidate);
        },
    ];
    for end in ends {
        let mut rig = Rig::past_bootstrap("b");
        rig.election.vote_request(&node("a"), vote_request(1));
        assert!(rig.election.pending_vote.is_some());
        end(&mut rig.election);
        assert_eq!(rig.election.pending_vote, None);
        rig.election.check_invariants();
    }
}

#[test]
fn e4_a_candidate_asks_nobody_before_its_own_vote_is_durable() {
    let mut rig = Rig::past_bootstrap("a");
    rig.election.status_received(&node("b"), &at("b"), &status(Role::Joining));
    let effects = rig.at_once();
    assert!(matches!(effects.as_slice(), [Effect::Persist { .. }]), "{effects:?}");
    rig.election.advance(Timestamp::from_micros(rig.now + 1));
    assert_eq!(rig.election.next_effect(), None);
    rig.election.persisted();
    assert_eq!(requests(&rig.effects()), 2);
}

#[test]
fn e4_after_a_failed_persist_no_vote_is_sent() {
    let mut rig = Rig::past_bootstrap("b");
    rig.election.vote_request(&node("a"), vote_request(1));
    assert!(matches!(rig.at_once().as_slice(), [Effect::Persist { .. }]));
    rig.election.persist_failed();
    assert_eq!(rig.at_once(), []);
    rig.election.vote_request(&node("a"), vote_request(2));
    assert_eq!(answer(&rig.at_once()), Some(false));
}

#[test]
fn e4_a_candidate_whose_storage_fails_gives_up_for_good() {
    let mut rig = Rig::past_bootstrap("a");
    rig.election.others.values_mut().for_each(|voter| {
        let report = LastReport {
            node: node("x"),
            term: None,
            role: RoleKind::Joining,
            abstains: false,
            promise: None,
            electorate: Default::default(),
        };
        voter.last_report = Some(report);
    });
    rig.election.advance(Timestamp::from_micros(rig.now));
    assert_eq!(rig.election.role(), Role::Candidate);
    rig.election.persist_failed();
    assert_eq!(rig.election.role(), Role::Joining);
    assert_eq!(requests(&rig.at_once()), 0);
    rig.wait(60_000);
    assert_eq!((rig.election.role(), rig.election.candidacies()), (Role::Joining, 1));
}

#[test]
fn e4_a_voter_without_storage_abstains_and_still_confirms() {
    let mut rig = Rig::failing("c");
    assert!(rig.election.abstains() && !rig.election.can_vote());
    assert_eq!(rig.election.heartbeat(&node("a"), &at("a"), heartbeat(1)), (true, true));
    assert_eq!(rig.election.promised_to(), Some(&node("a")));
}

#[test]
fn e4_a_master_without_storage_is_master_only_in_its_term() {
    let mut rig = Rig::past_bootstrap("a");
    rig.report("b", Role::Joining, None);
    rig.election.vote(&at("b"), Vote { term: Term(1), number: 1, granted: true });
    assert!(matches!(rig.at_once().as_slice(), [Effect::Persist { .. }, Effect::Found { .. }]));
    rig.election.persist_failed();
    assert!(rig.election.is_master());
    rig.election.learn(Term(7));
    assert_eq!((rig.election.role(), rig.election.term()), (Role::Joining, Term(7)));
}

#[test]
fn e4_nothing_is_persisted_after_a_failure() {
    let mut rig = Rig::failing("b");
    rig.election.learn(Term(5));
    assert_eq!(rig.at_once(), []);
    assert_eq!(rig.election.persisting(), None);
}

/// The next run does not vote before every promise of this one has ended, even if it has shorter times itself.
#[test]
fn e1_a_voter_waits_for_the_lease_that_it_has_promised() {
    let mut rig = Rig::past_bootstrap("c");
    let long = Heartbeat { lease: Duration::from_secs(3), ..heartbeat(1) };
    rig.election.heartbeat(&node("a"), &at("a"), long);
    rig.effects();
    let stored = rig.election.persistence.durable.clone();
    assert_eq!(stored.promised_lease, Duration::from_secs(3));
    let config = Config::builder("test", "c", "c:1").seeds(["a:1", "b:1", "c:1"]).local().build().unwrap();
    let start = Start { hard_state: stored, ..Start::new(Incarnation(2), 1) };
    let mut next = Rig { election: Election::new(&config, &start, Rng::new(1), Timestamp::ZERO), now: 0 };
    next.wait(2_999);
    assert!(!next.election.bootstrap_over());
    next.wait(1);
    assert!(next.election.bootstrap_over());
}

/// Votes are kept in memory only, so the voter has forgotten what it has promised. Others still know how long leases were.
#[test]
fn e1_a_voter_waits_for_the_longest_lease_that_others_name() {
    let config = || Config::builder("test", "c", "c:1").seeds(["a:1", "b:1", "c:1"]).local().build().unwrap();
    for (named, waited) in [(Duration::from_secs(5), 5_000), (Duration::MAX, 16_000)] {
        let start = Start::new(Incarnation(2), 1);
        let mut rig = Rig { election: Election::new(&config(), &start, Rng::new(1), Timestamp::ZERO), now: 0 };
        let voting = Voting { longest_lease: named, ..Voting::of(&config()) };
        rig.election.link_up(&at("a"), &node("a"), Some(&voting));
        assert_eq!(rig.election.voting().longest_lease, Duration::from_millis(waited), "it tells the others");
        rig.wait(waited - 1);
        assert!(!rig.election.bootstrap_over(), "{named:?}");
        rig.wait(1);
        assert!(rig.election.bootstrap_over(), "{named:?}");
    }
}

/// A voter that lies must not make the waits of later runs longer. This voter's own promise is durable.
#[test]
fn e1_a_lease_that_only_others_name_is_not_made_durable() {
    let config = Config::builder("test", "c", "c:1").seeds(["a:1", "b:1", "c:1"]).local().build().unwrap();
    let inherited = Duration::from_secs(2);
    let hard_state = HardState { promised_lease: inherited, ..HardState::default() };
    for (start, expected) in [
        (Start::new(Incarnation(2), 1), config.timing().lease),
        (Start { hard_state, ..Start::new(Incarnation(2), 1) }, inherited),
    ] {
        let mut rig = Rig { election: Election::new(&config, &start, Rng::new(1), Timestamp::ZERO), now: 0 };
        let voting = Voting { longest_lease: Duration::MAX, ..Voting::of(&config) };
        rig.election.link_up(&at("a"), &node("a"), Some(&voting));
        rig.election.learn(Term(1));
        let effects = rig.at_once();
        let [Effect::Persist { state, .. }] = effects.as_slice() else { panic!("{effects:?}") };
        assert_eq!((state.term, state.promised_lease), (Term(1), expected));
        rig.wait(15_000);
        assert!(!rig.election.bootstrap_over(), "this run waits all the same");
    }
}

/// A vote is sent once it is durable. Until then, nobody is to wait for this voter.
#[test]
fn e4_a_delayed_voter_abstains_until_its_vote_is_durable() {
    let mut rig = Rig::past_bootstrap("b");
    rig.election.vote_request(&node("a"), vote_request(1));
    rig.at_once();
    assert!(rig.election.persist_delayed());
    assert!(!rig.election.persist_delayed(), "it is no news any more");
    assert!(rig.election.abstains() && !rig.election.can_vote());
    rig.election.vote_request(&node("c"), vote_request(2));
    assert_eq!(answer(&rig.at_once()), Some(false));
    assert!(rig.election.persisted());
    assert_eq!(answer(&rig.effects()), Some(true));
    assert!(!rig.election.abstains() && rig.election.can_vote());
    assert!(!rig.election.persisted(), "nothing was delayed");
}

#[test]
fn e4_a_delayed_candidate_gives_up_and_stands_again_later() {
    let mut rig = Rig::past_bootstrap("a");
    rig.election.status_received(&node("b"), &at("b"), &status(Role::Joining));
    rig.at_once();
    assert_eq!(rig.election.role(), Role::Candidate);
    rig.election.persist_delayed();
    assert_eq!(rig.election.role(), Role::Joining);
    rig.wait(60_000);
    assert_eq!((rig.election.role(), rig.election.candidacies()), (Role::Joining, 1));
    rig.election.persisted();
    rig.at_once();
    assert_eq!((rig.election.role(), rig.election.candidacies()), (Role::Candidate, 2));
}

#[test]
fn e4_a_delayed_persist_may_still_fail_for_good() {
    let mut rig = Rig::past_bootstrap("b");
    rig.election.learn(Term(1));
    rig.election.persist_delayed();
    rig.election.persist_failed();
    rig.at_once();
    assert!(!rig.election.can_vote());
    assert_eq!(rig.election.persisting(), None);
}
