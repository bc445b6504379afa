//! E10: the voters change.

use alloc::collections::BTreeSet;

use super::*;
use crate::api::explain::Waiting;

/// Which members are active; all of them store their votes.
struct Active(&'static [&'static str]);

impl Roster for Active {
    fn is_active(&self, address: &Address) -> bool {
        self.0.iter().any(|id| at(id) == *address)
    }

    fn is_durable(&self, address: &Address) -> bool {
        self.is_active(address)
    }
}

fn voters(ids: &[&str]) -> BTreeSet<Address> {
    ids.iter().map(|id| at(id)).collect()
}

fn electorate(term: u64, number: u64, ids: &[&str]) -> Electorate {
    Electorate { version: ElectorateVersion { term: Term(term), number }, voters: voters(ids), target: None }
}

fn written(rig: &Rig, active: &'static [&'static str]) -> Electorate {
    match rig.election.next_electorate_step(&Active(active)) {
        ElectorateStep::Write(electorate) => electorate,
        other => panic!("{other:?}"),
    }
}

fn in_term(rig: &mut Rig, term: u64) {
    rig.election.learn(Term(term));
    rig.effects();
}

/// The master acts by this electorate, and the voters that are named have confirmed that.
fn install(rig: &mut Rig, next: Electorate, by: &[&str]) {
    let version = next.version;
    rig.election.write_electorate(next);
    rig.effects();
    assert_eq!(rig.election.electorate().version, version, "it is durable");
    let heartbeat = rig.election.next_heartbeat().unwrap();
    for id in by {
        confirm(rig, id, heartbeat, version);
    }
}

fn confirm(rig: &mut Rig, id: &str, heartbeat: Heartbeat, electorate: ElectorateVersion) {
    let (term, number, view_id) = (heartbeat.term, heartbeat.number, ViewId::default());
    rig.election.heartbeat_ack(&at(id), &HeartbeatAck { term, number, view_id, confirms: true, electorate });
}

/// The master a of the voters a, b and c is asked for these voters, and has written down that it is.
fn asked_for(ids: &[&str]) -> Rig {
    let mut rig = master();
    rig.election.want_voters(voters(ids));
    let record = written(&rig, &["b", "c", "d"]);
    assert_eq!((&record.voters, &record.target), (&voters(&["a", "b", "c"]), &Some(voters(ids))));
    assert_eq!(record.version, ElectorateVersion { term: rig.election.term(), number: 1 }, "in its own term");
    install(&mut rig, record, &["b", "c"]);
    rig
}

#[test]
fn e10_a_master_adds_a_voter_before_it_removes_one() {
    let mut rig = asked_for(&["a", "b", "d"]);
    let added = written(&rig, &["b", "c", "d"]);
    assert_eq!(added.voters, voters(&["a", "b", "c", "d"]));
    install(&mut rig, added, &["b", "c"]);
    let removed = written(&rig, &["b", "c", "d"]);
    assert_eq!((&removed.voters, &removed.target), (&voters(&["a", "b", "d"]), &None));
    install(&mut rig, removed, &["b"]);
    assert_eq!(rig.election.next_electorate_step(&Active(&["b", "c", "d"])), ElectorateStep::None);
}

#[test]
fn e10_the_next_step_waits_until_a_quorum_has_the_electorate() {
    let mut rig = asked_for(&["a", "b", "d"]);
    let added = written(&rig, &["b", "c", "d"]);
    let before = rig.election.electorate().version;
    let earlier = rig.election.next_heartbeat().unwrap();
    install(&mut rig, added.clone(), &["b"]);
    let wait = |rig: &Rig| rig.election.next_electorate_step(&Active(&["b", "c", "d"]));
    let missing = |ids: &[&str]| ElectorateStep::Wait(Waiting::Voters(voters(ids)));
    assert_eq!(wait(&rig), missing(&["c", "d"]));
    confirm(&mut rig, "c", earlier, added.version);
    assert_eq!(wait(&rig), missing(&["c", "d"]), "the heartbeat was sent before");
    let heartbeat = rig.election.next_heartbeat().unwrap();
    confirm(&mut rig, "c", heartbeat, before);
    assert_eq!(wait(&rig), missing(&["c", "d"]), "the electorate is an older one");
    confirm(&mut rig, "c", heartbeat, added.version);
    assert_eq!(written(&rig, &["b", "c", "d"]).voters, voters(&["a", "b", "d"]));
}

#[test]
fn e10_a_step_that_leaves_no_quorum_of_active_voters_waits() {
    let rig = asked_for(&["a", "b"]);
    assert_eq!(written(&rig, &["b"]).voters, voters(&["a", "b"]), "c is away");
    let waits = rig.election.next_electorate_step(&Active(&["c"]));
    assert_eq!(waits, ElectorateStep::Wait(Waiting::Quorum(voters(&["b"]))));
    let rig = asked_for(&["a", "b", "d"]);
    let waits = rig.election.next_electorate_step(&Active(&["b", "c"]));
    assert_eq!(waits, ElectorateStep::Wait(Waiting::Members(voters(&["d"]))));
}

#[test]
fn e10_a_master_that_is_to_be_removed_hands_over_last() {
    let mut rig = asked_for(&["b"]);
    let first = written(&rig, &["b", "c"]);
    assert_eq!(first.voters, voters(&["a", "b"]));
    install(&mut rig, first, &["b"]);
    assert_eq!(rig.election.next_electorate_step(&Active(&["b"])), ElectorateStep::HandOver);
    let reported = rig.election.leadership(rig.election.now).unwrap();
    rig.election.hand_over();
    rig.wait(100);
    let heartbeat = rig.election.next_heartbeat().unwrap();
    let version = rig.election.electorate().version;
    confirm(&mut rig, "b", heartbeat, version);
    assert_eq!(rig.election.leadership(rig.election.now), Some(reported), "its lease is not extended");
    let lost = rig.wait(reported.valid_until.since(rig.election.now).as_millis() as u64);
    assert!(lost.iter().any(|effect| matches!(effect, Effect::Lost { reason: LossReason::Resigned, .. })), "{lost:?}");
    assert!(rig.election.resignation().is_some() && !rig.election.is_master());
    let waits = rig.election.not_before.since(rig.election.now);
    assert_eq!(waits, rig.election.timing.down_after, "the others have several turns");
}

#[test]
fn e10_a_master_that_has_handed_over_in_vain_waits() {
    let mut rig = asked_for(&["b"]);
    let first = written(&rig, &["b", "c"]);
    install(&mut rig, first, &["b"]);
    rig.election.handed_over = Some(rig.election.now);
    assert_eq!(rig.election.next_electorate_step(&Active(&["b"])), ElectorateStep::Wait(Waiting::NextMaster));
}

#[test]
fn e10_a_request_with_an_older_electorate_is_refused() {
    let mut rig = Rig::past_bootstrap("c");
    in_term(&mut rig, 3);
    rig.election.electorate_received(&at("a"), electorate(3, 1, &["a", "b", "c", "d"]), false);
    rig.effects();
    assert_eq!(answer(&rig.request("b", 9)), Some(false));
    assert_eq!(rig.election.term(), Term(3));
    let newer = VoteRequest { electorate: ElectorateVersion { term: Term(3), number: 1 }, ..vote_request(9) };
    rig.election.vote_request(&node("a"), newer);
    assert_eq!(answer(&rig.effects()), Some(true));
}

#[test]
fn e10_only_a_voter_passes_on_an_electorate_of_a_known_term() {
    let mut rig = Rig::past_bootstrap("c");
    in_term(&mut rig, 3);
    let held = |rig: &mut Rig| {
        rig.effects();
        rig.election.electorate().version.number
    };
    rig.election.electorate_received(&at("d"), electorate(3, 1, &["d"]), false);
    assert_eq!(held(&mut rig), 0, "d is no voter");
    rig.election.electorate_received(&at("a"), electorate(4, 1, &["a", "c"]), false);
    assert_eq!(held(&mut rig), 0, "of a term that this node does not know");
    rig.election.electorate_received(&at("a"), electorate(3, 2, &["a", "c"]), false);
    assert_eq!(held(&mut rig), 2);
    rig.election.electorate_received(&at("a"), electorate(3, 1, &["a", "b", "c"]), false);
    assert_eq!(held(&mut rig), 2, "it is older");
}

#[test]
fn e10_a_voter_takes_no_electorate_without_its_master() {
    let mut rig = Rig::past_bootstrap("c");
    assert_eq!(rig.election.heartbeat(&node("a"), &at("a"), heartbeat(1)), (true, true));
    rig.election.electorate_received(&at("b"), electorate(1, 1, &["b", "c"]), false);
    rig.effects();
    assert_eq!(rig.election.electorate().version.number, 0);
    rig.election.electorate_received(&at("b"), electorate(1, 1, &["a", "c"]), false);
    rig.effects();
    assert_eq!(rig.election.electorate().version.number, 1);
}

#[test]
fn e10_a_master_with_an_older_electorate_writes_it_anew() {
    let mut rig = master();
    let newer = ElectorateVersion { term: rig.election.term(), number: 7 };
    let status = StatusReport { term: rig.election.term(), electorate: newer, ..status(follows("a")) };
    rig.election.status_received(&node("d"), &at("d"), &status);
    let record = written(&rig, &["b", "c"]);
    assert_eq!((record.voters, record.target), (voters(&["a", "b", "c"]), None));
}

#[test]
fn e10_a_node_without_its_voters_takes_a_configured_offer() {
    let mut rig = Rig::past_bootstrap("c");
    rig.election.link_down(&at("a"));
    rig.election.link_down(&at("b"));
    rig.effects();
    rig.election.electorate_received(&at("x"), electorate(9, 4, &["x", "y"]), true);
    assert_eq!(rig.election.electorate().version.number, 0, "a voter may only be slow");
    let wait = rig.election.next_deadline().unwrap().since(rig.election.now);
    assert!(wait <= rig.election.timing.bootstrap_wait);
    rig.wait(wait.as_millis() as u64);
    assert_eq!(rig.election.electorate(), &electorate(9, 4, &["x", "y"]));
    assert_eq!((rig.election.term(), rig.election.is_voter), (Term(9), false));
}

#[test]
fn e10_a_removed_voter_that_votes_again_votes_in_no_term_twice() {
    let mut rig = Rig::past_bootstrap("c");
    in_term(&mut rig, 5);
    rig.election.electorate_received(&at("a"), electorate(5, 1, &["a", "b"]), false);
    rig.effects();
    assert_eq!(rig.election.hard.spent, Term(5));
    // It has gone back, and is a voter again.
    let gone_back = HardState { electorate: None, term: Term(2), voted_for: None, ..rig.election.hard.clone() };
    let config = Config::builder("test", "c", "c:1").seeds(["a:1", "b:1", "c:1"]).build().unwrap();
    let start = Start { hard_state: gone_back, ..Start::new(Incarnation(2), 1) };
    let mut rig = Rig { election: Election::new(&config, &start, Rng::new(1), Timestamp::ZERO), now: 0 };
    rig.wait(3_000);
    for (term, granted) in [(4, false), (5, false), (6, true)] {
        rig.election.link_up(&at("a"), &node("a"), None);
        assert_eq!(answer(&rig.request("a", term)), Some(granted), "{term}");
    }
}

#[test]
fn e10_a_restarted_voter_keeps_promises_that_it_has_forgotten() {
    let mut rig = Rig::new("c");
    rig.election.link_up(&at("b"), &node("b"), None);
    rig.report_in(3, "b", Role::Joining, None);
    rig.election.electorate_received(&at("b"), electorate(3, 2, &["b", "c"]), false);
    rig.effects();
    assert_eq!(rig.election.electorate().version.number, 0, "it may have promised a something");
    rig.wait(3_000);
    assert_eq!(rig.election.electorate().version.number, 2, "no promise of an earlier run is left");
}

#[test]
fn e10_a_new_voter_takes_an_electorate_when_its_wait_ends() {
    let mut rig = Rig::new("d");
    rig.election.link_up(&at("b"), &node("b"), None);
    rig.report_in(3, "b", Role::Joining, None);
    let target = Some(voters(&["b", "c", "d"]));
    let first = Electorate { target, ..electorate(3, 1, &["a", "b", "c"]) };
    rig.election.electorate_received(&at("b"), first, false);
    rig.effects();
    rig.election.electorate_received(&at("b"), electorate(3, 2, &["b", "c", "d"]), false);
    rig.effects();
    assert_eq!(rig.election.electorate().version.number, 1, "it may have promised a something");
    let due = rig.election.next_deadline().unwrap();
    assert!(due <= rig.election.bootstrap_end());
    rig.wait(3_000);
    assert_eq!(rig.election.electorate().version.number, 2, "no promise of an earlier run is left");
}

#[test]
fn e10_a_former_master_takes_what_it_was_offered() {
    let mut rig = master();
    let term = rig.election.term().0;
    rig.election.electorate_received(&at("b"), electorate(term, 1, &["a", "b"]), false);
    rig.effects();
    assert_eq!(rig.election.electorate().version.number, 0, "a master writes its own");
    rig.wait(1_000);
    assert!(!rig.election.is_master());
    rig.wait(3_000);
    assert_eq!(rig.election.electorate().version.number, 1);
}

#[test]
fn e10_an_electorate_is_taken_when_the_promise_ends() {
    let mut rig = Rig::past_bootstrap("c");
    assert_eq!(rig.election.heartbeat(&node("a"), &at("a"), heartbeat(1)), (true, true));
    rig.election.electorate_received(&at("b"), electorate(1, 1, &["b", "c"]), false);
    rig.effects();
    assert_eq!(rig.election.electorate().version.number, 0);
    rig.wait(3_000);
    assert_eq!(rig.election.electorate().version.number, 1);
}

#[test]
fn e10_a_reported_lease_outlasts_a_step_that_shortens_it() {
    let mut rig = asked_for(&["a", "b"]);
    rig.wait(300);
    let heartbeat = rig.election.next_heartbeat().unwrap();
    let version = rig.election.electorate().version;
    confirm(&mut rig, "c", heartbeat, version);
    let reported = rig.election.leadership(rig.election.now).unwrap().valid_until;
    let next = written(&rig, &["b", "c"]);
    rig.election.write_electorate(next);
    rig.effects();
    let shorter = rig.election.leadership(rig.election.now).unwrap().valid_until;
    assert!(shorter < reported, "b has confirmed an earlier heartbeat");
    rig.wait(shorter.since(rig.election.now).as_millis() as u64);
    assert!(!rig.election.is_master());
    assert_eq!((rig.election.lease_end, rig.election.promised_to()), (reported, Some(&node("a"))));
}

#[test]
fn g8_no_number_of_an_electorate_keeps_a_master_busy() {
    let mut rig = Rig::past_bootstrap("a");
    in_term(&mut rig, 3);
    let target = Some(voters(&["a", "b"]));
    rig.election.electorate_received(
        &at("b"),
        Electorate { target, ..electorate(3, u64::MAX, &["a", "b", "c"]) },
        false,
    );
    rig.effects();
    assert_eq!(rig.election.electorate().version.number, u64::MAX);
    let next = rig.election.electorate().version.next(Term(4));
    assert_eq!(next, ElectorateVersion { term: Term(4), number: 1 });
}

#[test]
fn e10_a_node_acts_by_an_electorate_once_it_is_durable() {
    let mut rig = asked_for(&["a", "b"]);
    let held = rig.election.electorate().clone();
    let next = written(&rig, &["b", "c"]);
    assert!(rig.election.write_electorate(next.clone()));
    assert_eq!(rig.election.electorate(), &held, "the next one is not durable yet");
    rig.effects();
    assert_eq!(rig.election.electorate(), &next);
}

#[test]
fn e10_a_removed_voter_votes_no_more_before_that_is_durable() {
    for (left, granted) in [(&["a", "b", "c"][..], true), (&["a", "b"][..], false)] {
        let mut rig = Rig::past_bootstrap("c");
        in_term(&mut rig, 3);
        let taken = electorate(3, 1, left);
        let request = VoteRequest { electorate: taken.version, ..vote_request(4) };
        rig.election.electorate_received(&at("a"), taken, false);
        assert_eq!(rig.election.electorate().version.number, 0, "it is not durable yet");
        rig.election.vote_request(&node("a"), request);
        assert_eq!(answer(&rig.effects()), Some(granted), "{left:?}");
    }
}

#[test]
fn e10_a_step_needs_the_lease_by_the_next_electorate() {
    let mut rig = asked_for(&["a", "b"]);
    let version = rig.election.electorate().version;
    for _ in 0..5 {
        rig.wait(200);
        let heartbeat = rig.election.next_heartbeat().unwrap();
        confirm(&mut rig, "c", heartbeat, version);
    }
    assert!(rig.election.is_master(), "c confirms its lease");
    let waits = rig.election.next_electorate_step(&Active(&["b", "c"]));
    assert_eq!(waits, ElectorateStep::Wait(Waiting::Quorum(voters(&[]))), "without c, b has to confirm it");
    let heartbeat = rig.election.next_heartbeat().unwrap();
    confirm(&mut rig, "b", heartbeat, version);
    assert_eq!(written(&rig, &["b", "c"]).voters, voters(&["a", "b"]));
}

#[test]
fn e10_a_voter_that_is_to_be_removed_has_its_turn_last() {
    let mut rig = Rig::past_bootstrap("b");
    assert!(rig.election.rank_of(&node("a").id) < rig.election.own_rank());
    in_term(&mut rig, 3);
    let target = Some(voters(&["b", "c"]));
    rig.election.electorate_received(&at("c"), Electorate { target, ..electorate(3, 1, &["a", "b", "c"]) }, false);
    rig.effects();
    assert!(rig.election.own_rank() < rig.election.rank_of(&node("a").id));
    assert!(rig.election.rank_of(&node("c").id) < rig.election.rank_of(&node("a").id));
}
