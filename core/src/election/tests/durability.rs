//! What leaves a voter, and when, as its storage answers late, well or not at all (E4).

use super::*;

impl Voting {
    /// What leaves before storage has answered.
    fn at_once(&mut self) -> Vec<Effect> {
        core::iter::from_fn(|| self.election.next_effect()).collect()
    }

    /// Its storage has failed at the first thing that there was to keep.
    fn failing(me: &str) -> Self {
        let mut voting = Self::seasoned(me);
        voting.election.learn(Term(1));
        voting.election.persist_failed();
        voting.at_once();
        voting
    }
}

#[test]
fn e4_a_vote_leaves_after_its_persist_is_durable() {
    let mut voting = Voting::seasoned("b");
    voting.election.vote_request(&node("a"), request(1));
    let effects: Vec<Effect> = core::iter::from_fn(|| voting.election.next_effect()).collect();
    assert!(matches!(effects.as_slice(), [Effect::Persist { state, .. }] if state.voted_for == Some(node("a"))));
    voting.election.persisted();
    assert_eq!(answer(&voting.effects()), Some(true));
}

#[test]
fn e4_a_vote_whose_term_passed_while_it_was_made_durable_never_leaves() {
    let mut voting = Voting::seasoned("b");
    voting.election.vote_request(&node("a"), request(1));
    voting.election.learn(Term(2));
    voting.election.persisted();
    assert_eq!(answer(&voting.effects()), None);
}

#[test]
fn e4_a_candidate_asks_nobody_before_its_own_vote_is_durable() {
    let mut voting = Voting::seasoned("a");
    let status = |election: &mut Election| {
        let role = Role::Joining;
        let (number, term, view_id) = (1, Term(0), ViewId::default());
        let metadata = bytes::Bytes::new();
        let status = StatusReport { number, term, role, abstains: false, promise: None, view_id, metadata };
        election.heard_status(&node("b"), &at("b"), &status);
    };
    status(&mut voting.election);
    let effects: Vec<Effect> = core::iter::from_fn(|| voting.election.next_effect()).collect();
    assert!(matches!(effects.as_slice(), [Effect::Persist { .. }]), "{effects:?}");
    voting.election.advance(Timestamp::from_micros(voting.now + 1));
    assert_eq!(voting.election.next_effect(), None);
    voting.election.persisted();
    assert_eq!(asked(&voting.effects()), 2);
}

#[test]
fn e4_a_vote_that_storage_refused_never_leaves_and_the_next_is_refused() {
    let mut voting = Voting::seasoned("b");
    voting.election.vote_request(&node("a"), request(1));
    assert!(matches!(voting.at_once().as_slice(), [Effect::Persist { .. }]));
    voting.election.persist_failed();
    assert_eq!(voting.at_once(), []);
    voting.election.vote_request(&node("a"), request(2));
    assert_eq!(answer(&voting.at_once()), Some(false));
}

#[test]
fn e4_a_candidate_whose_storage_fails_gives_up_and_never_stands_again() {
    let mut voting = Voting::seasoned("a");
    voting.election.others.values_mut().for_each(|voter| {
        let heard = Heard { node: node("x"), stance: Stance::Joining, held: false, promise: None };
        voter.heard = Some(heard);
    });
    voting.election.advance(Timestamp::from_micros(voting.now));
    assert_eq!(voting.election.role(), Role::Candidate);
    voting.election.persist_failed();
    assert_eq!(voting.election.role(), Role::Joining);
    assert_eq!(asked(&voting.at_once()), 0);
    voting.wait(60_000);
    assert_eq!((voting.election.role(), voting.election.candidacies()), (Role::Joining, 1));
}

#[test]
fn e4_a_voter_without_storage_says_that_it_is_held_and_still_confirms_its_master() {
    let mut voting = Voting::failing("c");
    assert!(voting.election.abstains() && !voting.election.can_vote());
    let heartbeat = Heartbeat { term: Term(1), number: 1, lease: core::time::Duration::from_secs(1) };
    assert_eq!(voting.election.heartbeat(&node("a"), &at("a"), heartbeat), (true, true));
    assert_eq!(voting.election.promised_to(), Some(&node("a")));
}

#[test]
fn e4_a_master_whose_storage_fails_keeps_its_term_and_does_not_stand_in_the_next() {
    let mut voting = Voting::seasoned("a");
    voting.says("b", Role::Joining, None);
    voting.election.vote(&at("b"), Vote { term: Term(1), number: 1, granted: true });
    assert!(matches!(voting.at_once().as_slice(), [Effect::Persist { .. }, Effect::Found { .. }]));
    voting.election.persist_failed();
    assert!(voting.election.is_master());
    voting.election.learn(Term(7));
    assert_eq!((voting.election.role(), voting.election.term()), (Role::Joining, Term(7)));
}

#[test]
fn e4_storage_that_has_failed_once_is_asked_for_nothing_more() {
    let mut voting = Voting::failing("b");
    voting.election.learn(Term(5));
    assert_eq!(voting.at_once(), []);
    assert_eq!(voting.election.persisting(), None);
}
