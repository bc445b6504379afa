//! The rules by name. Each test is about one voter, and plays the messages of the others. PROTOCOL.md states the rules.

mod durability;
mod electorate;
mod invariants;
mod knowledge;
mod messages;
mod priority;
mod seed_lists;
mod solo;

use alloc::vec::Vec;

use super::*;
use crate::{Incarnation, ViewId, api::electorate::ElectorateVersion};

const MS: u64 = 1_000;

/// One voter, and its time.
struct Rig {
    election: Election,
    now: u64,
}

fn node(id: &str) -> Node {
    Node { id: NodeId::new(id).unwrap(), incarnation: Incarnation(1) }
}

fn at(id: &str) -> Address {
    Address::new(alloc::format!("{id}:1")).unwrap()
}

fn vote_request(term: u64) -> VoteRequest {
    let electorate = ElectorateVersion::default();
    VoteRequest { term: Term(term), number: 7, lease: Duration::from_secs(1), electorate }
}

fn heartbeat(term: u64) -> Heartbeat {
    Heartbeat { term: Term(term), number: 1, lease: Duration::from_secs(1) }
}

fn follows(id: &str) -> Role {
    Role::Follower { master: node(id), address: at(id) }
}

/// A status of term 0 without a promise.
fn status(role: Role) -> StatusReport {
    StatusReport {
        number: 1,
        term: Term(0),
        role,
        abstains: false,
        promise: None,
        view_id: ViewId::default(),
        electorate: ElectorateVersion::default(),
        metadata: bytes::Bytes::new(),
    }
}

impl Rig {
    /// The voter `me` of the voters a, b and c, which has just started.
    fn new(me: &str) -> Self {
        let config = Config::builder("test", me, at(me).as_str()).seeds(["a:1", "b:1", "c:1"]).build().unwrap();
        let start = Start::new(Incarnation(1), 1);
        Self { election: Election::new(&config, &start, Rng::new(1), Timestamp::ZERO), now: 0 }
    }

    /// The same voter `bootstrap_wait` later, linked to the others.
    fn past_bootstrap(me: &str) -> Self {
        let mut rig = Self::new(me);
        for other in ["a", "b", "c"].into_iter().filter(|other| *other != me) {
            rig.election.link_up(&at(other), &node(other), None);
        }
        rig.wait(3_000);
        rig
    }

    fn wait(&mut self, ms: u64) -> Vec<Effect> {
        self.now += ms * MS;
        self.election.advance(Timestamp::from_micros(self.now));
        self.effects()
    }

    /// A status of another voter arrives.
    fn report(&mut self, id: &str, role: Role, promise: Option<&str>) -> Vec<Effect> {
        self.report_in(0, id, role, promise)
    }

    fn report_in(&mut self, term: u64, id: &str, role: Role, promise: Option<&str>) -> Vec<Effect> {
        let status = StatusReport { term: Term(term), promise: promise.map(node), ..status(role) };
        self.election.status_received(&node(id), &at(id), &status);
        self.effects()
    }

    fn request(&mut self, id: &str, term: u64) -> Vec<Effect> {
        self.election.vote_request(&node(id), vote_request(term));
        self.effects()
    }

    /// A vote for the current candidacy arrives.
    fn grant(&mut self, id: &str) -> Vec<Effect> {
        let (term, number) = (self.election.term(), self.election.number);
        self.election.vote(&at(id), Vote { term, number, granted: true });
        self.effects()
    }

    /// All effects. Each `Persist` is durable at once.
    fn effects(&mut self) -> Vec<Effect> {
        let mut all = Vec::new();
        while let Some(effect) = self.election.next_effect() {
            if let Effect::Persist { .. } = effect {
                self.election.persisted();
            }
            all.push(effect);
            assert!(all.len() < 100, "the effects do not end: {all:?}");
        }
        self.election.check_invariants();
        all
    }
}

/// The answer to a request: granted or refused. `None` while it is deferred.
fn answer(effects: &[Effect]) -> Option<bool> {
    effects.iter().find_map(|effect| match effect {
        Effect::Answer { vote, .. } => Some(vote.granted),
        _ => None,
    })
}

fn is_elected(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| matches!(effect, Effect::Found { .. }))
}

fn requests(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::Ask(_))).count()
}

fn releases(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::Release { .. })).count()
}

/// The voter a, elected in term 1 with the vote of b.
fn master() -> Rig {
    let mut rig = Rig::past_bootstrap("a");
    rig.report("b", Role::Joining, None);
    rig.report("c", Role::Joining, None);
    assert!(is_elected(&rig.grant("b")));
    rig
}

#[test]
fn e1_a_new_voter_waits_until_all_others_are_free() {
    let mut rig = Rig::new("a");
    rig.election.link_up(&at("b"), &node("b"), None);
    rig.election.link_up(&at("c"), &node("c"), None);
    assert_eq!(requests(&rig.report("b", Role::Joining, None)), 0);
    assert_eq!(requests(&rig.report("c", Role::Joining, None)), 2);
}

#[test]
fn e1_a_promise_of_another_keeps_grace_until_bootstrap_wait() {
    let mut rig = Rig::new("b");
    rig.election.link_up(&at("a"), &node("a"), None);
    rig.election.link_up(&at("c"), &node("c"), None);
    rig.report("a", Role::Candidate, Some("a"));
    rig.report("c", Role::Joining, Some("x"));
    assert_eq!(answer(&rig.request("a", 1)), None);
    assert_eq!(answer(&rig.wait(2_999)), None);
    assert_eq!(answer(&rig.wait(1)), Some(true));
}

/// A voter that was once seen free cannot rely on a vote that was forgotten before. Its later mastership needs no grace.
#[test]
fn e1_a_lost_master_elected_since_the_start_causes_no_grace() {
    let mut rig = Rig::new("b");
    rig.election.link_up(&at("a"), &node("a"), None);
    rig.election.link_up(&at("c"), &node("c"), None);
    rig.report("a", Role::Joining, None);
    rig.report("c", Role::Joining, None);
    rig.report_in(1, "a", Role::Master, None);
    rig.election.link_down(&at("a"));
    rig.report("c", Role::Joining, None);
    assert_eq!(requests(&rig.wait(1_000)), 1);
}

/// A `Release` ends the promise of the vote. It does not end the forgotten promise behind an earlier lease.
#[test]
fn e1_a_vote_does_not_replace_a_forgotten_promise() {
    let mut rig = Rig::new("c");
    rig.election.link_up(&at("b"), &node("b"), None);
    rig.report("b", Role::Candidate, Some("b"));
    rig.election.link_up(&at("a"), &node("a"), None);
    rig.report("a", Role::Joining, None);
    rig.election.link_down(&at("a"));
    assert_eq!(answer(&rig.request("b", 9)), Some(true));
    rig.election.link_up(&at("a"), &node("a"), None);
    rig.election.release(&node("b"), Release { term: Term(9) });
    rig.report_in(9, "b", Role::Joining, Some("b"));
    assert_eq!(answer(&rig.request("a", 10)), None, "b may still have a reported lease");
    assert_eq!(answer(&rig.report_in(9, "b", Role::Joining, None)), Some(true));
}

#[test]
fn e2_rank_decides_whose_turn_it_is() {
    let mut rig = Rig::past_bootstrap("b");
    rig.report("a", Role::Joining, None);
    rig.report("c", Role::Joining, None);
    assert_eq!(requests(&rig.wait(99)), 0);
    assert_eq!(requests(&rig.wait(1)), 2);
}

#[test]
fn e2_no_candidate_while_too_few_have_no_master() {
    let mut rig = Rig::past_bootstrap("a");
    rig.report("b", follows("x"), Some("x"));
    rig.report("c", follows("x"), Some("x"));
    assert_eq!(requests(&rig.wait(10_000)), 0);
}

#[test]
fn e2_a_candidate_that_gave_up_ignores_late_votes_of_that_term() {
    let mut rig = Rig::past_bootstrap("a");
    assert_eq!(requests(&rig.report("b", Role::Joining, None)), 2);
    assert_eq!(releases(&rig.wait(500)), 2, "it gives up after election_timeout");
    assert!(!is_elected(&rig.grant("b")));
    assert!(!rig.election.is_master());
}

/// The turn of two voters came at the same moment. They split the votes, and both waited until their candidacy ended (seed
/// 46).
#[test]
fn e2_a_voter_yields_to_a_candidate_with_a_lower_id() {
    let mut rig = Rig::past_bootstrap("b");
    rig.wait(5_000);
    rig.report("c", Role::Leaving, None);
    assert_eq!(requests(&rig.report("a", Role::Candidate, Some("a"))), 0);
    assert_eq!(answer(&rig.request("a", 1)), Some(true));
}

/// Because of a half-open link it was not the turn of a higher id. The voter became a candidate against the deferred
/// request (seed 647).
#[test]
fn e3_a_voter_whose_turn_has_come_grants_a_deferred_request() {
    let mut rig = Rig::past_bootstrap("b");
    assert_eq!(answer(&rig.request("c", 1)), None);
    rig.report("c", Role::Candidate, Some("c"));
    let effects = rig.wait(100);
    assert_eq!((answer(&effects), requests(&effects)), (Some(true), 0));
}

#[test]
fn e2_a_candidate_refused_by_a_quorum_releases_its_voters() {
    let mut rig = Rig::past_bootstrap("a");
    rig.report("b", Role::Joining, None);
    let number = rig.election.number;
    let refused = Vote { term: Term(1), number, granted: false };
    rig.election.vote(&at("b"), refused);
    assert_eq!(rig.election.role(), Role::Candidate);
    rig.election.vote(&at("c"), refused);
    assert_eq!(rig.election.role(), Role::Joining);
    assert_eq!(releases(&rig.effects()), 2);
    assert!(!is_elected(&rig.grant("b")), "late votes of that term are ignored");
}

#[test]
fn e3_one_vote_per_term_to_the_first_that_asks() {
    let mut rig = Rig::past_bootstrap("c");
    assert_eq!(answer(&rig.request("a", 1)), Some(true));
    assert_eq!(answer(&rig.request("b", 1)), Some(false));
    assert_eq!(answer(&rig.request("a", 1)), Some(true), "a repeated request is answered again");
    rig.election.release(&node("a"), Release { term: Term(1) });
    rig.election.link_down(&at("a"));
    assert_eq!(answer(&rig.request("b", 1)), Some(false), "the vote is spent, although the promise has ended");
}

#[test]
fn e5_a_promise_refuses_others_until_it_ends_or_is_released() {
    let mut rig = Rig::past_bootstrap("c");
    rig.request("a", 1);
    assert_eq!(answer(&rig.request("b", 2)), Some(false));
    rig.wait(950);
    assert_eq!(answer(&rig.request("b", 2)), None, "a request is deferred while at most a stagger is left");
    rig.election.release(&node("a"), Release { term: Term(1) });
    rig.election.link_down(&at("a"));
    assert_eq!(answer(&rig.effects()), Some(true));
}

/// A master became a candidate again and gave up. Its release ended more than the promise of that candidacy, although its
/// reported lease was still valid.
#[test]
fn e5_a_release_keeps_an_earlier_promise_to_the_same_node() {
    let mut rig = Rig::past_bootstrap("c");
    assert_eq!(rig.election.heartbeat(&node("a"), &at("a"), heartbeat(1)), (true, true));
    assert_eq!(answer(&rig.request("a", 2)), Some(true));
    rig.election.release(&node("a"), Release { term: Term(2) });
    assert_eq!(rig.election.promised_to(), Some(&node("a")));
    rig.wait(1_000);
    assert_eq!(rig.election.promised_to(), None);
}

#[test]
fn e5_a_lease_longer_than_bootstrap_wait_is_not_promised() {
    let long = Duration::from_secs(4);
    let mut rig = Rig::past_bootstrap("c");
    rig.election.vote_request(&node("a"), VoteRequest { lease: long, ..vote_request(1) });
    assert_eq!(answer(&rig.effects()), Some(false));
    let heartbeat = Heartbeat { lease: long, ..heartbeat(1) };
    assert_eq!(rig.election.heartbeat(&node("a"), &at("a"), heartbeat), (true, false));
}

#[test]
fn e6_the_first_lease_runs_from_when_votes_were_requested() {
    let mut rig = Rig::past_bootstrap("a");
    rig.report("b", Role::Joining, None);
    rig.report("c", Role::Joining, None);
    let requested_at = rig.now;
    rig.wait(200);
    assert!(is_elected(&rig.grant("b")));
    let lease = rig.election.leadership(Timestamp::from_micros(rig.now)).map(|lease| lease.valid_until);
    assert_eq!(
        lease,
        Some(Timestamp::from_micros(requested_at + 990 * MS)),
        "the lease ends no later than b's promise"
    );
}

#[test]
fn e6_a_lease_runs_from_sending_and_expires_before_all_else() {
    let mut rig = master();
    let until = |rig: &Rig| rig.election.leadership(Timestamp::from_micros(rig.now)).map(|l| l.valid_until);
    assert_eq!(rig.election.master(), Some((&node("a"), &at("a"))));
    let requested_at = rig.now;
    assert_eq!(until(&rig), Some(Timestamp::from_micros(requested_at + 990 * MS)));
    rig.wait(200);
    let heartbeat = rig.election.next_heartbeat().unwrap();
    rig.wait(100);
    let (term, number, view_id) = (heartbeat.term, heartbeat.number, ViewId::default());
    rig.election.heartbeat_ack(
        &at("c"),
        &HeartbeatAck { term, number, view_id, confirms: true, electorate: Default::default() },
    );
    assert_eq!(until(&rig), Some(Timestamp::from_micros(requested_at + 1_190 * MS)), "from the sending time");
    assert!(rig.wait(889).is_empty());
    let lost = rig.wait(1);
    assert!(matches!(lost.first(), Some(Effect::Lost { reason: LossReason::LeaseExpired, .. })), "{lost:?}");
    assert_eq!(until(&rig), None);
}

#[test]
fn e7_a_master_that_learns_a_newer_term_is_a_candidate_next() {
    let mut rig = master();
    rig.report_in(1, "b", follows("a"), Some("a"));
    rig.report_in(1, "c", follows("a"), Some("a"));
    let effects = rig.report_in(5, "c", follows("a"), Some("a"));
    assert!(matches!(effects.first(), Some(Effect::Lost { reason: LossReason::NewerTerm, .. })), "{effects:?}");
    assert_eq!((rig.election.term(), requests(&effects)), (Term(6), 2));
    assert_eq!(answer(&rig.request("b", 7)), Some(false), "E6: the reported lease stays valid");
}

#[test]
fn e6_a_former_master_grants_nothing_until_its_lease_ends() {
    let mut rig = master();
    rig.wait(500);
    rig.report_in(5, "c", Role::Joining, None);
    let refused = Vote { term: Term(6), number: rig.election.number, granted: false };
    rig.election.vote(&at("b"), refused);
    rig.election.vote(&at("c"), refused);
    assert_eq!(rig.election.role(), Role::Joining, "its second candidacy failed");
    assert_eq!(rig.election.promised_to(), Some(&node("a")));
    assert_eq!(answer(&rig.request("b", 7)), Some(false));
    rig.wait(489);
    assert_eq!(rig.election.promised_to(), Some(&node("a")));
    rig.wait(1);
    assert_ne!(rig.election.promised_to().filter(|_| rig.election.role() == Role::Joining), Some(&node("a")));
}

#[test]
fn e7_the_term_of_a_candidate_alone_ends_no_mastership() {
    let mut rig = master();
    for beat in 0..6 {
        rig.wait(200);
        let heartbeat = rig.election.next_heartbeat().unwrap();
        let (term, number, view_id) = (heartbeat.term, heartbeat.number, ViewId::default());
        rig.election.heartbeat_ack(
            &at("b"),
            &HeartbeatAck { term, number, view_id, confirms: true, electorate: Default::default() },
        );
        rig.report_in(9 + beat, "c", Role::Candidate, Some("c"));
        assert_eq!(answer(&rig.request("c", 9 + beat)), Some(false));
        assert!(rig.election.is_master());
    }
}

#[test]
fn e7_a_message_of_an_older_term_is_answered_with_the_newer() {
    let mut rig = Rig::past_bootstrap("c");
    rig.report_in(4, "b", Role::Joining, None);
    rig.election.vote_request(&node("a"), vote_request(3));
    let older = Vote { term: Term(4), number: 7, granted: false };
    assert!(rig.effects().contains(&Effect::Answer { to: node("a"), vote: older }));
    assert_eq!(rig.election.heartbeat(&node("a"), &at("a"), heartbeat(3)), (false, false));
}
