//! The rules by name, each on one voter that is told what the others say. `core/PROTOCOL.md` states them.

mod durability;
mod hearing;
mod knowledge;
mod solo;

use alloc::vec::Vec;

use super::*;
use crate::{Incarnation, ViewId};

const MS: u64 = 1_000;

struct Voting {
    election: Election,
    now: u64,
}

fn node(id: &str) -> Node {
    Node { id: NodeId::new(id).unwrap(), incarnation: Incarnation(1) }
}

fn at(id: &str) -> Address {
    Address::new(alloc::format!("{id}:1")).unwrap()
}

fn request(term: u64) -> VoteRequest {
    VoteRequest { term: Term(term), number: 7, lease: core::time::Duration::from_secs(1) }
}

impl Voting {
    /// The voter `me` of a, b and c, just started.
    fn new(me: &str) -> Self {
        let config = Config::builder("test", me, at(me).as_str()).seeds(["a:1", "b:1", "c:1"]).build().unwrap();
        let start = Start::new(Incarnation(1), 1);
        Self { election: Election::new(&config, &start, Rng::new(1), Timestamp::ZERO), now: 0 }
    }

    /// The same, linked to the others, after `bootstrap_wait`.
    fn seasoned(me: &str) -> Self {
        let mut voting = Self::new(me);
        for other in ["a", "b", "c"].into_iter().filter(|other| *other != me) {
            voting.election.link_up(&at(other), &node(other));
        }
        voting.wait(3_000);
        voting
    }

    fn wait(&mut self, ms: u64) -> Vec<Effect> {
        self.now += ms * MS;
        self.election.advance(Timestamp::from_micros(self.now));
        self.effects()
    }

    fn says(&mut self, id: &str, role: Role, promise: Option<&str>) -> Vec<Effect> {
        self.says_in(0, id, role, promise)
    }

    fn says_in(&mut self, term: u64, id: &str, role: Role, promise: Option<&str>) -> Vec<Effect> {
        let status = StatusReport {
            number: 1,
            term: Term(term),
            role,
            abstains: false,
            promise: promise.map(node),
            view_id: ViewId::default(),
            metadata: bytes::Bytes::new(),
        };
        self.election.heard_status(&node(id), &at(id), &status);
        self.effects()
    }

    fn asks(&mut self, id: &str, term: u64) -> Vec<Effect> {
        self.election.vote_request(&node(id), request(term));
        self.effects()
    }

    fn grants(&mut self, id: &str) -> Vec<Effect> {
        let (term, number) = (self.election.term(), self.election.number);
        self.election.vote(&at(id), Vote { term, number, granted: true });
        self.effects()
    }

    /// Everything that follows, with each `Persist` durable at once.
    fn effects(&mut self) -> Vec<Effect> {
        let mut all = Vec::new();
        while let Some(effect) = self.election.next_effect() {
            if let Effect::Persist { .. } = effect {
                self.election.persisted();
            }
            all.push(effect);
            assert!(all.len() < 100, "without end: {all:?}");
        }
        all
    }
}

/// What was answered to a request: granted or refused; nothing while it is kept.
fn answer(effects: &[Effect]) -> Option<bool> {
    effects.iter().find_map(|effect| match effect {
        Effect::Answer { vote, .. } => Some(vote.granted),
        _ => None,
    })
}

fn is_elected(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::Found { .. }))
}

fn asked(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::Ask(_))).count()
}

/// The voter a, elected with the vote of b in term 1.
fn master() -> Voting {
    let mut voting = Voting::seasoned("a");
    voting.says("b", Role::Joining, None);
    voting.says("c", Role::Joining, None);
    assert!(is_elected(&voting.grants("b")));
    voting
}

#[test]
fn e1_a_voter_just_started_stands_once_all_others_have_shown_themselves_free() {
    let mut voting = Voting::new("a");
    voting.election.link_up(&at("b"), &node("b"));
    voting.election.link_up(&at("c"), &node("c"));
    assert_eq!(asked(&voting.says("b", Role::Joining, None)), 0);
    assert_eq!(asked(&voting.says("c", Role::Joining, None)), 2);
}

#[test]
fn e1_a_promise_of_another_holds_until_bootstrap_wait() {
    let mut voting = Voting::new("b");
    voting.election.link_up(&at("a"), &node("a"));
    voting.election.link_up(&at("c"), &node("c"));
    voting.says("a", Role::Candidate, Some("a"));
    voting.says("c", Role::Joining, Some("x"));
    assert_eq!(answer(&voting.asks("a", 1)), None);
    assert_eq!(answer(&voting.wait(2_999)), None);
    assert_eq!(answer(&voting.wait(1)), Some(true));
}

/// A voter once seen free cannot rest on a vote forgotten before: its later mastership holds nobody.
#[test]
fn e1_a_master_elected_since_the_start_holds_nobody_when_it_is_lost() {
    let mut voting = Voting::new("b");
    voting.election.link_up(&at("a"), &node("a"));
    voting.election.link_up(&at("c"), &node("c"));
    voting.says("a", Role::Joining, None);
    voting.says("c", Role::Joining, None);
    voting.says_in(1, "a", Role::Master, None);
    voting.election.link_down(&at("a"));
    voting.says("c", Role::Joining, None);
    assert_eq!(asked(&voting.wait(1_000)), 1);
}

/// The vote's own promise ends with `Release`; the forgotten one, behind the lease of before, does not.
#[test]
fn e1_a_vote_for_a_master_that_stood_again_does_not_make_up_for_a_forgotten_promise() {
    let mut voting = Voting::new("c");
    voting.election.link_up(&at("b"), &node("b"));
    voting.says("b", Role::Candidate, Some("b"));
    voting.election.link_up(&at("a"), &node("a"));
    voting.says("a", Role::Joining, None);
    voting.election.link_down(&at("a"));
    assert_eq!(answer(&voting.asks("b", 9)), Some(true));
    voting.election.link_up(&at("a"), &node("a"));
    voting.election.release(&node("b"), Release { term: Term(9) });
    voting.says_in(9, "b", Role::Joining, Some("b"));
    assert_eq!(answer(&voting.asks("a", 10)), None, "b's reported lease may be alive");
    assert_eq!(answer(&voting.says_in(9, "b", Role::Joining, None)), Some(true));
}

#[test]
fn e2_rank_decides_whose_turn_it_is() {
    let mut voting = Voting::seasoned("b");
    voting.says("a", Role::Joining, None);
    voting.says("c", Role::Joining, None);
    assert_eq!(asked(&voting.wait(99)), 0);
    assert_eq!(asked(&voting.wait(1)), 2);
}

#[test]
fn e2_nobody_stands_while_too_few_are_masterless() {
    let mut voting = Voting::seasoned("a");
    let follows = || Role::Follower { master: node("x"), address: at("x") };
    voting.says("b", follows(), Some("x"));
    voting.says("c", follows(), Some("x"));
    assert_eq!(asked(&voting.wait(10_000)), 0);
}

#[test]
fn e2_a_candidate_that_gave_up_ignores_late_votes_of_that_term() {
    let mut voting = Voting::seasoned("a");
    assert_eq!(asked(&voting.says("b", Role::Joining, None)), 2);
    let released = voting.wait(500).iter().filter(|effect| matches!(effect, Effect::Release { .. })).count();
    assert_eq!(released, 2, "it gives up after election_timeout");
    assert!(!is_elected(&voting.grants("b")));
    assert!(!voting.election.is_master());
}

/// Two voters whose turn comes at one moment: the votes were split, and both waited out their candidacy (seed 46).
#[test]
fn e2_a_voter_does_not_stand_against_a_lower_id_that_stands() {
    let mut voting = Voting::seasoned("b");
    voting.wait(5_000);
    voting.says("c", Role::Leaving, None);
    assert_eq!(asked(&voting.says("a", Role::Candidate, Some("a"))), 0);
    assert_eq!(answer(&voting.asks("a", 1)), Some(true));
}

/// A half-open link made a higher id seem out of turn, and the voter stood against the request that it kept (seed 647).
#[test]
fn e3_a_voter_whose_own_turn_has_come_grants_what_it_kept_instead_of_standing() {
    let mut voting = Voting::seasoned("b");
    assert_eq!(answer(&voting.asks("c", 1)), None);
    voting.says("c", Role::Candidate, Some("c"));
    let effects = voting.wait(100);
    assert_eq!((answer(&effects), asked(&effects)), (Some(true), 0));
}

#[test]
fn e2_a_candidate_gives_up_when_a_quorum_refuses_and_releases_its_voters() {
    let mut voting = Voting::seasoned("a");
    voting.says("b", Role::Joining, None);
    let number = voting.election.number;
    let refused = Vote { term: Term(1), number, granted: false };
    voting.election.vote(&at("b"), refused);
    assert_eq!(voting.election.role(), Role::Candidate);
    voting.election.vote(&at("c"), refused);
    assert_eq!(voting.election.role(), Role::Joining);
    let released = voting.effects().iter().filter(|effect| matches!(effect, Effect::Release { .. })).count();
    assert_eq!(released, 2);
    assert!(!is_elected(&voting.grants("b")), "late votes of that term are ignored");
}

#[test]
fn e3_one_vote_per_term_to_the_first_that_asks() {
    let mut voting = Voting::seasoned("c");
    assert_eq!(answer(&voting.asks("a", 1)), Some(true));
    assert_eq!(answer(&voting.asks("b", 1)), Some(false));
    assert_eq!(answer(&voting.asks("a", 1)), Some(true), "a repeated request is answered again");
    voting.election.release(&node("a"), Release { term: Term(1) });
    voting.election.link_down(&at("a"));
    assert_eq!(answer(&voting.asks("b", 1)), Some(false), "the vote is spent even where the promise has ended");
}

#[test]
fn e5_a_promise_refuses_others_until_it_ends_or_is_released() {
    let mut voting = Voting::seasoned("c");
    voting.asks("a", 1);
    assert_eq!(answer(&voting.asks("b", 2)), Some(false));
    voting.wait(950);
    assert_eq!(answer(&voting.asks("b", 2)), None, "with at most a stagger left the request is kept");
    voting.election.release(&node("a"), Release { term: Term(1) });
    voting.election.link_down(&at("a"));
    assert_eq!(answer(&voting.effects()), Some(true));
}

/// A master that stood again and gave up released more than that candidacy: its reported lease was still alive.
#[test]
fn e5_a_release_leaves_an_earlier_promise_to_the_same_node_in_force() {
    let mut voting = Voting::seasoned("c");
    let heartbeat = Heartbeat { term: Term(1), number: 1, lease: core::time::Duration::from_secs(1) };
    assert_eq!(voting.election.heartbeat(&node("a"), &at("a"), heartbeat), (true, true));
    assert_eq!(answer(&voting.asks("a", 2)), Some(true));
    voting.election.release(&node("a"), Release { term: Term(2) });
    assert_eq!(voting.election.promised_to(), Some(&node("a")));
    voting.wait(1_000);
    assert_eq!(voting.election.promised_to(), None);
}

#[test]
fn e5_a_lease_longer_than_bootstrap_wait_is_neither_granted_nor_confirmed() {
    let long = core::time::Duration::from_secs(4);
    let mut voting = Voting::seasoned("c");
    voting.election.vote_request(&node("a"), VoteRequest { lease: long, ..request(1) });
    assert_eq!(answer(&voting.effects()), Some(false));
    let heartbeat = Heartbeat { term: Term(1), number: 1, lease: long };
    assert_eq!(voting.election.heartbeat(&node("a"), &at("a"), heartbeat), (true, false));
}

#[test]
fn e6_the_first_lease_runs_from_when_the_votes_were_asked_for() {
    let mut voting = Voting::seasoned("a");
    voting.says("b", Role::Joining, None);
    voting.says("c", Role::Joining, None);
    let asked_at = voting.now;
    voting.wait(200);
    assert!(is_elected(&voting.grants("b")));
    let lease = voting.election.leadership(Timestamp::from_micros(voting.now)).map(|lease| lease.valid_until);
    assert_eq!(lease, Some(Timestamp::from_micros(asked_at + 990 * MS)), "what b has promised ends no later");
}

#[test]
fn e6_the_lease_runs_from_the_sending_time_and_lapses_before_anything_else() {
    let mut voting = master();
    let until = |voting: &Voting| voting.election.leadership(Timestamp::from_micros(voting.now)).map(|l| l.valid_until);
    assert_eq!(voting.election.master(), Some((&node("a"), &at("a"))));
    let asked_at = voting.now;
    assert_eq!(until(&voting), Some(Timestamp::from_micros(asked_at + 990 * MS)));
    voting.wait(200);
    let heartbeat = voting.election.next_heartbeat().unwrap();
    voting.wait(100);
    let (term, number, view_id) = (heartbeat.term, heartbeat.number, ViewId::default());
    voting.election.heartbeat_ack(&at("c"), &HeartbeatAck { term, number, view_id, confirms: true });
    assert_eq!(until(&voting), Some(Timestamp::from_micros(asked_at + 1_190 * MS)), "from when it was sent");
    assert!(voting.wait(889).is_empty());
    let lost = voting.wait(1);
    assert!(matches!(lost.first(), Some(Effect::Lost { reason: LossReason::LeaseLapsed, .. })), "{lost:?}");
    assert_eq!(until(&voting), None);
}

#[test]
fn e7_a_master_that_learns_a_newer_term_stands_at_once_in_the_next() {
    let mut voting = master();
    let follows = || Role::Follower { master: node("a"), address: at("a") };
    voting.says_in(1, "b", follows(), Some("a"));
    voting.says_in(1, "c", follows(), Some("a"));
    let effects = voting.says_in(5, "c", follows(), Some("a"));
    assert!(matches!(effects.first(), Some(Effect::Lost { reason: LossReason::NewerTerm, .. })), "{effects:?}");
    assert_eq!((voting.election.term(), asked(&effects)), (Term(6), 2));
    assert_eq!(answer(&voting.asks("b", 7)), Some(false), "what was reported as valid stays true (E6)");
}

#[test]
fn e6_a_master_that_stepped_down_early_grants_to_nobody_until_its_last_lease_is_over() {
    let mut voting = master();
    voting.wait(500);
    voting.says_in(5, "c", Role::Joining, None);
    let refused = Vote { term: Term(6), number: voting.election.number, granted: false };
    voting.election.vote(&at("b"), refused);
    voting.election.vote(&at("c"), refused);
    assert_eq!(voting.election.role(), Role::Joining, "its second candidacy failed");
    assert_eq!(voting.election.promised_to(), Some(&node("a")));
    assert_eq!(answer(&voting.asks("b", 7)), Some(false));
    voting.wait(489);
    assert_eq!(voting.election.promised_to(), Some(&node("a")));
    voting.wait(1);
    assert_ne!(voting.election.promised_to().filter(|_| voting.election.role() == Role::Joining), Some(&node("a")));
}

#[test]
fn e7_the_term_of_a_candidate_alone_unseats_no_master() {
    let mut voting = master();
    for beat in 0..6 {
        voting.wait(200);
        let heartbeat = voting.election.next_heartbeat().unwrap();
        let (term, number, view_id) = (heartbeat.term, heartbeat.number, ViewId::default());
        voting.election.heartbeat_ack(&at("b"), &HeartbeatAck { term, number, view_id, confirms: true });
        voting.says_in(9 + beat, "c", Role::Candidate, Some("c"));
        assert_eq!(answer(&voting.asks("c", 9 + beat)), Some(false));
        assert!(voting.election.is_master());
    }
}

#[test]
fn e7_a_message_of_an_older_term_is_answered_with_the_newer() {
    let mut voting = Voting::seasoned("c");
    voting.says_in(4, "b", Role::Joining, None);
    voting.election.vote_request(&node("a"), request(3));
    let older = Vote { term: Term(4), number: 7, granted: false };
    assert!(voting.effects().contains(&Effect::Answer { to: node("a"), vote: older }));
    let heartbeat = Heartbeat { term: Term(3), number: 1, lease: core::time::Duration::from_secs(1) };
    assert_eq!(voting.election.heartbeat(&node("a"), &at("a"), heartbeat), (false, false));
}
