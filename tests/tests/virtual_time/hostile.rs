//! Random scenarios with one hostile peer that is there for some seconds, says anything under any identity, and is
//! gone. T2 and T3 are the rows of the threat model.

use formation_tests::{Place, Scenario, Tally, for_each_seed, seeds};

/// Runs the scenarios of these seeds, and fails if one of these things never happened.
fn explore(per_thousand: u64, draw: impl Fn(u64) -> Option<Scenario>, expected: &[&str]) {
    let mut tally = Tally::default();
    for_each_seed(per_thousand, |seed| {
        if let Some(scenario) = draw(seed) {
            tally.add(&scenario.check());
        }
    });
    println!("{}", tally.table());
    let ran = seeds(per_thousand).end - seeds(per_thousand).start;
    let missing = tally.missing(expected);
    assert!(missing.is_empty() || ran < per_thousand, "these never happened in {ran} runs: {missing:?}");
}

/// Only the scenarios with faults of honest nodes, or only those without.
fn with_faults(seed: u64, place: Place, wanted: bool) -> Option<Scenario> {
    Some(Scenario::draw_hostile(seed, place)).filter(|scenario| scenario.faults.is_empty() != wanted)
}

/// What any hostile peer reaches, because any member may.
const REACHED: [&str; 5] = [
    "hostile peer: was admitted",
    "hostile peer: was rejected",
    "hostile peer: received a hello",
    "hostile peer: received a status",
    "hostile peer: received a heartbeat",
];

/// What a hostile voter reaches, because any voter may.
const OF_VOTERS: [&str; 4] = [
    "hostile peer: was dialed",
    "hostile peer: was asked for its vote",
    "hostile peer: was granted a vote",
    "hostile peer: received an acknowledgement",
];

const FAULTS: [&str; 4] =
    ["fault: restart", "fault: crash of a process", "fault: crash of a machine", "fault: node isolated"];

/// No term, master, lease, link or entry of an honest node changes, and nobody stops.
#[test]
fn t2_a_hostile_member_changes_nothing() {
    let expected = [&REACHED[..], &["attack on a healthy cluster"]].concat();
    explore(100, |seed| with_faults(seed, Place::Member, false), &expected);
}

/// G1, G2 and G3 hold all the time, and G5 once the hostile peer is gone.
#[test]
fn t2_g1_g2_g3_g5_hold_with_a_hostile_member_and_faults() {
    explore(100, |seed| with_faults(seed, Place::Member, true), &[&REACHED[..], &FAULTS].concat());
}

/// A hostile voter may be the master. When it is gone, the honest nodes are whole again without a restart.
#[test]
fn t3_honest_nodes_recover_from_a_hostile_voter() {
    explore(100, |seed| with_faults(seed, Place::Voter, false), &[&REACHED[..], &OF_VOTERS].concat());
}

#[test]
fn t3_honest_nodes_recover_from_a_hostile_voter_and_faults() {
    explore(100, |seed| with_faults(seed, Place::Voter, true), &[&REACHED[..], &OF_VOTERS, &FAULTS].concat());
}
