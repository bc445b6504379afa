//! Each invariant fails when its fields are changed.

use super::*;
use crate::violations::{self, expect_all_listed, expect_violations};

type Violation = violations::Violation<Election>;

/// The time of every election here, but for the first and the last one.
const NOW: Timestamp = Timestamp::from_micros(3_000 * MS);
const LATER: Timestamp = Timestamp::from_micros(4_000 * MS);

/// The voter c, which defers a request because it is in grace.
fn in_grace() -> Election {
    let mut rig = Rig::new("c");
    rig.election.link_up(&at("a"), &node("a"), None);
    assert_eq!(answer(&rig.request("a", 1)), None);
    rig.election
}

/// The voter c, whose vote for a is not durable yet.
fn pending() -> Election {
    let mut rig = Rig::past_bootstrap("c");
    rig.election.vote_request(&node("a"), vote_request(1));
    rig.election
}

/// The voter a, a candidate of term 1 whose own vote is not durable yet.
fn undecided() -> Election {
    let mut rig = Rig::past_bootstrap("a");
    rig.election.status_received(&node("b"), &at("b"), &status(Role::Joining));
    assert_eq!(rig.election.role(), Role::Candidate);
    rig.election
}

/// The same candidate, whose own vote is durable.
fn candidate() -> Election {
    let mut rig = Rig { election: undecided(), now: NOW.as_micros() };
    assert_eq!(requests(&rig.effects()), 2);
    rig.election
}

fn elected() -> Election {
    master().election
}

/// The voter c, which follows a.
fn follower() -> Election {
    let mut rig = Rig::past_bootstrap("c");
    assert_eq!(rig.election.heartbeat(&node("a"), &at("a"), heartbeat(1)), (true, true));
    rig.effects();
    rig.election
}

fn started() -> Election {
    Rig::new("c").election
}

fn with_solo_after() -> Election {
    let config = Config::builder("test", "a", "a:1").seeds(["a:1", "b:1"]);
    let config = config.solo_after(Duration::from_secs(5)).build().unwrap();
    Election::new(&config, &Start::new(Incarnation(1), 1), Rng::new(1), Timestamp::ZERO)
}

fn candidacy(election: &mut Election) -> &mut Candidacy {
    let State::Candidate(candidacy) = &mut election.state else { panic!("it is a candidate") };
    candidacy
}

fn mastership(election: &mut Election) -> &mut Mastership {
    let State::Master(mastership) = &mut election.state else { panic!("it is a master") };
    mastership
}

fn followed(election: &mut Election) -> &mut Followed {
    election.following.as_mut().expect("it has a master")
}

fn vote(election: &mut Election) -> &mut (Node, Vote) {
    election.pending_vote.as_mut().expect("a vote is pending")
}

fn promise(election: &mut Election) -> &mut Promise {
    election.promise.as_mut().expect("it is bound by a promise")
}

const PERSISTENCE: [Violation; 6] = [
    (
        pending,
        |e| e.persistence.in_flight = Some(e.persistence.durable.clone()),
        "E4: a Persist in flight changes something",
    ),
    (pending, |e| e.persistence.durable.term = Term(9), "E4: a Persist never lowers the durable term"),
    (candidate, |e| e.persistence.durable.term = Term(9), "E4: nothing newer than the hard state is made durable"),
    (follower, |e| e.persistence.delayed = true, "E4: only a Persist in flight is delayed"),
    (pending, |e| e.persistence.failed = true, "E4: after a failed Persist none is in flight"),
    (follower, |e| e.hard.voted_for = None, "E4: the hard state is durable, or a Persist is in flight"),
];

const STATE: [Violation; 8] = [
    (follower, |e| drop(e.others.insert(e.address.clone(), Voter::default())), "this node is none of the other voters"),
    (candidate, |e| e.is_voter = false, "only a voter is a candidate or a master"),
    (candidate, |e| e.following = follower().following, "E2: a candidate or a master follows nobody"),
    (candidate, |e| e.free_since = Some(e.now), "E2: a candidate or a master is not free to become a candidate"),
    (
        elected,
        |e| {
            e.hard.voted_for = None;
            e.persistence.durable.voted_for = None;
        },
        "E2: a candidate or a master has voted for itself in its term",
    ),
    (
        candidate,
        |e| e.given_up = Some((Term(1), e.now)),
        "E2: a candidacy is in a newer term than the one that was given up",
    ),
    (
        in_grace,
        |e| {
            e.is_voter = false;
            e.free_since = Some(e.now);
        },
        "E2: only a voter is free to become a candidate",
    ),
    (follower, |e| e.given_up = Some((Term(9), e.now)), "E2: no term was given up before its time"),
];

const CANDIDACY: [Violation; 9] = [
    (candidate, |e| candidacy(e).granted.extend([at("x")]), "E2: only other voters grant"),
    (candidate, |e| candidacy(e).refused.extend([at("x")]), "E2: only other voters refuse"),
    (candidate, |e| candidacy(e).number = 99, "E2: the requests have a number that was given out"),
    (candidate, |e| candidacy(e).deadline = e.now, "E2: a candidacy ends at its deadline"),
    (candidate, |e| e.promise = None, "E5: a candidate is bound by its promise to itself"),
    (
        candidate,
        |e| candidacy(e).refused.extend([at("b"), at("c")]),
        "E2: a candidate that can get no quorum has given up",
    ),
    (candidate, |e| candidacy(e).requested_at = None, "E4: a candidate asks once its own vote is durable"),
    (candidate, |e| candidacy(e).granted.extend([at("b")]), "E2: a candidate with a quorum of votes is master"),
    (undecided, |e| candidacy(e).solo = true, "E8: a solo candidacy is configured"),
];

const MASTERSHIP: [Violation; 8] = [
    (
        elected,
        |e| {
            e.persistence.durable.voted_for = None;
            e.persistence.in_flight = Some(e.hard.clone());
        },
        "E4: the vote of a master for itself is durable",
    ),
    (elected, |e| mastership(e).confirmed.clear(), "E6: the lease of a master is valid"),
    (elected, |e| mastership(e).confirmed.extend([(at("x"), NOW)]), "E6: only other voters confirm a lease"),
    (elected, |e| mastership(e).confirmed.extend([(at("c"), LATER)]), "E6: nothing is confirmed before it was sent"),
    (
        elected,
        |e| mastership(e).sent.extend([(1, NOW), (0, NOW)]),
        "E6: heartbeats are numbered in the order in which they were sent",
    ),
    (
        elected,
        |e| mastership(e).sent.push_back((99, NOW)),
        "E6: a heartbeat that was sent has a number that was given out",
    ),
    (elected, |e| e.deferred = in_grace().deferred, "E3: a master refuses every request at once"),
    (elected, |e| mastership(e).solo = true, "E8: a solo mastership is configured"),
];

const MASTER: [Violation; 6] = [
    (follower, |e| followed(e).master = e.me.clone(), "a node does not follow itself"),
    (follower, |e| followed(e).term = Term(9), "E7: a master was accepted in a term that this node knows"),
    (follower, |e| e.known_master = None, "the master that is followed is the last one known"),
    (follower, |e| followed(e).solo = true, "E8: following a solo master is configured"),
    (elected, |e| e.known_master = None, "a master is the last one that it knows"),
    (
        follower,
        |e| {
            e.hard.joined = false;
            e.persistence.durable.joined = false;
        },
        "D7: a node that has had a master has joined",
    ),
];

const VOTES: [Violation; 10] = [
    (
        in_grace,
        |e| drop(e.deferred.insert(e.me.id.clone(), (node("a"), vote_request(1)))),
        "E3: a deferred request is found by the id of its candidate",
    ),
    (in_grace, |e| e.is_voter = false, "E3: a node that cannot vote defers nothing"),
    (pending, |e| vote(e).1.granted = false, "E4: only a granted vote waits for its Persist"),
    (pending, |e| vote(e).1.term = Term(9), "E4: the pending vote is of the term of this node"),
    (pending, |e| vote(e).0 = node("b"), "E3: the pending vote is the vote of its term"),
    (
        pending,
        |e| e.persistence.durable = e.persistence.in_flight.take().unwrap_or_default(),
        "E4: a durable vote is sent at once",
    ),
    (
        pending,
        |e| {
            e.persistence.in_flight = None;
            e.persistence.failed = true;
        },
        "E4: a vote that cannot become durable is dropped",
    ),
    (
        follower,
        |e| {
            e.is_voter = false;
            e.free_since = None;
        },
        "E5: only a voter promises",
    ),
    (follower, |e| promise(e).term = Term(9), "E5: a promise is of a term that this node knows"),
    (
        follower,
        |e| promise(e).until_after_release = promise(e).until + e.timing.lease,
        "E5: a release never makes a promise longer",
    ),
];

const ELECTORATE: [Violation; 8] = [
    (
        started,
        |e| e.others.get_mut(&at("a")).expect("a voter").is_surplus = true,
        "E10: a voter that is to be removed is known",
    ),
    (elected, |e| mastership(e).changed_at = 99, "E10: an electorate is no newer than the newest heartbeat"),
    (follower, |e| e.quorum = 3, "E10: the quorum is that of the electorate"),
    (
        started,
        |e| {
            e.is_voter = false;
            e.free_since = None;
        },
        "E10: a voter is in the electorate",
    ),
    (
        started,
        |e| drop(e.others.insert(at("x"), Voter::default())),
        "E10: the other voters are those of the electorate",
    ),
    (started, |e| e.electorate.version.number = 1, "E10: a node acts by a durable electorate"),
    (
        started,
        |e| {
            let version = ElectorateVersion { term: Term(9), number: 1 };
            e.hard.electorate = Some(Electorate { version, ..e.electorate.clone() });
            e.persistence.in_flight = Some(e.hard.clone());
        },
        "E10: an electorate is of a term that this node knows",
    ),
    (
        elected,
        |e| {
            mastership(e).installed.insert(at("x"));
        },
        "E10: only other voters confirm an electorate",
    ),
];

const SOLO: [Violation; 2] = [
    (elected, |e| e.set_members(5), "E8: without solo_after nothing is remembered"),
    (
        with_solo_after,
        |e| e.record_rival(&node("x"), &at("x"), (Term(1), &Role::Master)),
        "E8: only other voters are rivals",
    ),
];

/// These violate `check_node`. The other ones violate `check_invariants`.
const NODE: [Violation; 3] = [
    (follower, |e| e.effects.push_back(Effect::Ask(at("a"))), "every effect is carried out"),
    (
        follower,
        |e| e.others.get_mut(&at("b")).expect("a voter").linked = None,
        "the voter at b:1 is linked iff it is a peer",
    ),
    (
        follower,
        |e| drop(e.deferred.insert(node("x").id, (node("x"), vote_request(1)))),
        "E3: only requests of linked voters are deferred",
    ),
];

fn violations() -> impl Iterator<Item = &'static Violation> + Clone {
    PERSISTENCE
        .iter()
        .chain(&STATE)
        .chain(&CANDIDACY)
        .chain(&MASTERSHIP)
        .chain(&MASTER)
        .chain(&VOTES)
        .chain(&ELECTORATE)
        .chain(&SOLO)
}

#[test]
fn every_invariant_notices_its_violation() {
    expect_violations(violations(), Election::check_invariants);
    let peers = ["a", "b"].map(|id| (at(id), node(id)));
    let peer_at = |address: &Address| peers.iter().find(|(at, _)| at == address).map(|(_, node)| node);
    expect_violations(&NODE, |election| election.check_node(peer_at));
}

#[test]
fn every_invariant_has_a_violation() {
    for source in [include_str!("../invariants.rs"), include_str!("../solo.rs")] {
        expect_all_listed(source, violations().chain(&NODE));
    }
}
