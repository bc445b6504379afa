//! E9: a voter that meets another seed list, and that list's master.

use super::*;
use crate::wire::message::Holder;

fn master(id: &str) -> Holder {
    Holder { node: node(id), address: at(id) }
}

/// The voter a, which is linked to b and dials c.
fn alone_with_b() -> Rig {
    let mut rig = Rig::past_bootstrap("a");
    rig.election.link_down(&at("c"));
    rig
}

#[test]
fn e9_a_voter_is_held_beside_the_master_of_another_list() {
    let mut rig = alone_with_b();
    rig.election.met_other_seed_list(&at("c"), Some(&master("c")));
    rig.report("b", Role::Joining, None);
    assert_eq!((rig.election.role(), rig.election.abstains()), (Role::Joining, true), "E9");
    rig.election.vote_request(&node("b"), vote_request(1));
    assert_eq!(answer(&rig.effects()), Some(false), "E9");
    // Two backoffs and a handshake later nobody has repeated it.
    rig.wait(3_999);
    assert_eq!(rig.election.role(), Role::Joining, "E9");
    rig.wait(1);
    assert_eq!(rig.election.role(), Role::Candidate);
}

#[test]
fn e9_a_candidate_that_becomes_held_gives_up() {
    let mut rig = alone_with_b();
    rig.report("b", Role::Joining, None);
    assert_eq!(rig.election.role(), Role::Candidate);
    rig.election.met_other_seed_list(&at("c"), Some(&master("c")));
    assert_eq!(rig.election.role(), Role::Joining, "E9");
}

#[test]
fn e9_another_list_without_its_own_master_holds_nobody() {
    let mut rig = alone_with_b();
    rig.election.met_other_seed_list(&at("c"), Some(&master("c")));
    rig.election.met_other_seed_list(&at("c"), None);
    assert!(!rig.election.abstains());
    rig.election.met_other_seed_list(&at("c"), Some(&master("x")));
    assert!(!rig.election.abstains(), "x:1 is no seed");
    rig.election.met_other_seed_list(&at("x"), Some(&master("c")));
    assert!(!rig.election.abstains(), "x:1 is no seed");
}

#[test]
fn e9_a_link_or_a_master_of_its_own_ends_it() {
    let mut rig = alone_with_b();
    rig.election.met_other_seed_list(&at("c"), Some(&master("c")));
    rig.election.accept_master(&node("b"), &at("b"), Term(1));
    assert!(!rig.election.abstains());
    let mut rig = alone_with_b();
    rig.election.met_other_seed_list(&at("c"), Some(&master("c")));
    rig.election.link_up(&at("c"), &node("c"), None);
    assert!(!rig.election.abstains());
}
