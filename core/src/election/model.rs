//! Tries every order in which a few voters can receive each other's messages, on the real election. This includes delays,
//! reordering between links, broken links and crashed voters. Time passes in whole units. A voter learns the time only when
//! something reaches it, so slow and suspended voters are included. `tests/README.md` has the numbers, and what is left
//! out.
//!
//! `FORMATION_MODEL=wide` goes further than the default run, and `FORMATION_MODEL=full` further than that.

extern crate std;

mod world;

use alloc::{collections::BTreeMap, format, string::String, vec::Vec};
use std::{env, println};

use crate::rng::Rng;
use stateright::{Checker, HasDiscoveries, Model, Property};
use world::{Frame, PROMPT, Rules, Step, To, World};

const SAFE: &str = "G1, G2, E4 and E6 hold";
const LEADS: &str = "a voter leads";
const LEADS_NEXT: &str = "another voter is master of a later term";
const LEADS_AGAIN: &str = "the same voter is master of a later term";
const EXPIRED: &str = "a lease expires";
const CONTESTED: &str = "there are two candidates at once";
const REFUSED: &str = "a vote is refused";
const RELEASED: &str = "a candidate releases its voters";
const DEFERRED: &str = "a request is deferred";
const RESIGNED: &str = "a master resigns";
const WITHOUT_DISK: &str = "a voter continues without a disk";
const VOTES_AGAIN: &str = "a restarted voter grants its vote";
const SOLO: &str = "a voter is a solo master";
const YIELDS_TO_A_QUORUM: &str = "a solo master gives way to a quorum's master";
const YIELDS_TO_ANOTHER: &str = "a solo master gives way to another solo master";
const CHANGED: &str = "a master has changed the voters";
const IN_COMPETITION: &str = "two masters have changed the voters";
const ROLLED_BACK: &str = "a newer term has undone a change of the voters";
const OUTDATED: &str = "a vote is refused because of an older electorate";
const FINISHED_BY_THE_NEXT: &str = "a master has finished the change of another";
const REMOVED_ITSELF: &str = "a master that is to be removed hands over";
const BESIDE_A_QUORUM: &str = "a quorum's master and a solo master lead at once";

/// How much is tried.
#[derive(Clone, Debug)]
struct Bounds {
    from: World,
    rules: Rules,
    /// The last term.
    terms: u64,
    /// How many units of time pass.
    time: u64,
    /// The largest number of steps; 0: no limit.
    depth: usize,
}

/// One run of the model.
#[derive(Clone, Debug)]
struct Run {
    bounds: Bounds,
    /// The properties that it has to show. To evaluate others in every state would take time.
    happens: &'static [&'static str],
}

fn was_sent(world: &World, wanted: impl Fn(&Frame) -> bool) -> bool {
    world.wires.iter().flat_map(|wire| wire.iter()).any(wanted)
}

impl Model for Run {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        Vec::from([self.bounds.from.clone()])
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        if world.broken.is_none() {
            steps.extend(world.steps(self.bounds.rules));
        }
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut next = world.clone();
        next.take(step, self.bounds.rules);
        Some(next)
    }

    fn within_boundary(&self, world: &World) -> bool {
        let Bounds { from, terms, time, .. } = &self.bounds;
        world.now <= from.now + time && world.voters.iter().all(|voter| voter.election.term().0 <= *terms)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        fn how_many(world: &World, like: impl Fn(usize) -> bool) -> usize {
            (0..world.voters.len()).filter(|ix| like(*ix)).count()
        }
        let all = [
            Property::always(SAFE, |_, world: &World| world.broken.is_none()),
            Property::sometimes(LEADS, |_, world: &World| how_many(world, |ix| world.leads(ix)) == 1),
            Property::sometimes(LEADS_NEXT, |_, world: &World| {
                world.masters.values().zip(world.masters.values().skip(1)).any(|(one, next)| one.id != next.id)
            }),
            Property::sometimes(LEADS_AGAIN, |_, world: &World| {
                world.masters.values().zip(world.masters.values().skip(1)).any(|(one, next)| one.id == next.id)
            }),
            Property::sometimes(EXPIRED, |_, world: &World| {
                !world.masters.is_empty() && how_many(world, |ix| world.voters[ix].election.is_master()) == 0
            }),
            Property::sometimes(CONTESTED, |_, world: &World| how_many(world, |ix| world.is_candidate(ix)) > 1),
            Property::sometimes(REFUSED, |_, world: &World| {
                was_sent(world, |frame| matches!(frame, Frame::Vote(vote) if !vote.granted))
            }),
            Property::sometimes(RELEASED, |_, world: &World| {
                was_sent(world, |frame| matches!(frame, Frame::Release(_)))
            }),
            Property::sometimes(RESIGNED, |_, world: &World| {
                was_sent(world, |frame| matches!(frame, Frame::Resign(_)))
            }),
            Property::sometimes(DEFERRED, |_, world: &World| how_many(world, |ix| world.defers(ix)) > 0),
            Property::sometimes(WITHOUT_DISK, |_, world: &World| how_many(world, |ix| world.has_no_disk(ix)) > 0),
            Property::sometimes(VOTES_AGAIN, |_, world: &World| {
                how_many(world, |ix| world.was_restarted(ix) && world.grants(ix)) > 0
            }),
            Property::sometimes(SOLO, |_, world: &World| how_many(world, |ix| world.is_solo(ix)) > 0),
            Property::sometimes(BESIDE_A_QUORUM, |_, world: &World| {
                how_many(world, |ix| world.is_solo(ix)) > 0
                    && how_many(world, |ix| world.leads(ix) && !world.is_solo(ix)) > 0
            }),
            Property::sometimes(CHANGED, |_, world: &World| world.seen.changed),
            Property::sometimes(IN_COMPETITION, |_, world: &World| world.seen.by.len() > 1),
            Property::sometimes(ROLLED_BACK, |_, world: &World| world.seen.rolled_back),
            Property::sometimes(OUTDATED, |_, world: &World| world.seen.refused),
            Property::sometimes(FINISHED_BY_THE_NEXT, |_, world: &World| world.seen.finished_by_another),
            Property::sometimes(REMOVED_ITSELF, |_, world: &World| world.seen.removed_itself),
            Property::sometimes(YIELDS_TO_A_QUORUM, |_, world: &World| world.gave_way == Some(To::Quorum)),
            Property::sometimes(YIELDS_TO_ANOTHER, |_, world: &World| world.gave_way == Some(To::Solo)),
        ];
        let is_shown = |property: &Property<Self>| property.name == SAFE || self.happens.contains(&property.name);
        all.into_iter().filter(is_shown).collect()
    }
}

/// Tries everything within the bounds.
fn explore(what: &str, bounds: Bounds, happens: &'static [&'static str]) {
    let depth = bounds.depth;
    let run = Run { bounds, happens };
    let begin = || run.clone().checker().finish_when(HasDiscoveries::AnyFailures);
    if depth > 0 {
        // Depth first, a state that is first reached along a detour would hide what is behind it.
        return judge(what, &begin().target_max_depth(depth).spawn_bfs().join(), happens);
    }
    // Depth first takes less time and memory, because it works on few states at a time.
    let all = begin().spawn_dfs().join();
    if all.discovery(SAFE).is_none() {
        judge(what, &all, happens);
    } else {
        // Breadth first finds the shortest way there.
        judge(what, &begin().spawn_bfs().join(), happens);
    }
}

/// Fails unless everything was tried, nothing is violated, and all of this happens somewhere.
fn judge(what: &str, checker: &impl Checker<Run>, happens: &[&'static str]) {
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    let mut found: Vec<_> = checker.discoveries().into_keys().collect();
    found.sort_unstable();
    println!("{what}: {states} states, depth {depth}; {}", found.join(", "));
    if let Some(path) = checker.discovery(SAFE) {
        let broken = path.last_state().broken.clone().unwrap_or_default();
        let steps: Vec<String> = path.into_actions().iter().map(|step| format!("    {step:?}")).collect();
        panic!("{what}\n{broken}\n{}", steps.join("\n"));
    }
    assert!(checker.is_done(), "{what}: not everything was tried");
    let missing: Vec<_> = happens.iter().filter(|what| checker.discovery(what).is_none()).collect();
    assert!(missing.is_empty(), "{what}: this never happens: {missing:?}");
}

/// The value for the default run, for the wide run, or for the full run.
fn far<T>(default: T, wide: T, full: T) -> T {
    match env::var("FORMATION_MODEL").as_deref() {
        Err(_) => default,
        Ok("wide") => wide,
        Ok("full") => full,
        Ok(other) => panic!("FORMATION_MODEL={other}: the values are 'wide' and 'full'"),
    }
}

#[test]
fn g1_g2_hold_whatever_a_slow_master_misses() {
    let bounds = Bounds {
        from: World::formed(3, 0, 0),
        rules: Rules { slow: |from, to| from == 0 || to == 0, ..PROMPT },
        terms: 2,
        time: far(3, 3, 4),
        depth: 0,
    };
    explore("a slow master", bounds, &[LEADS, LEADS_AGAIN, EXPIRED]);
}

/// E6: a lease runs from when the heartbeats were sent, however late they are confirmed.
#[test]
fn g1_g2_e6_hold_however_late_confirmations_come() {
    let bounds = Bounds {
        from: World::led_by_the_second(),
        rules: Rules { slow: |from, to| from == 1 || to == 1, ..PROMPT },
        terms: 2,
        time: 3,
        depth: 0,
    };
    explore("late confirmations", bounds, &[LEADS, LEADS_NEXT, EXPIRED]);
}

#[test]
fn g1_g2_hold_whatever_a_slow_follower_misses() {
    for (what, slow) in [
        ("the next in rank is slow", (|from, to| from == 1 || to == 1) as fn(usize, usize) -> bool),
        ("the last in rank is slow", |from, to| from == 2 || to == 2),
    ] {
        let bounds =
            Bounds { from: World::formed(3, 0, 0), rules: Rules { slow, ..PROMPT }, terms: 3, time: 7, depth: 0 };
        explore(what, bounds, &[LEADS]);
    }
}

#[test]
fn g1_g2_hold_however_links_break() {
    let bounds = Bounds { from: World::formed(3, 2, 0), rules: PROMPT, terms: 2, time: far(4, 5, 5), depth: 0 };
    explore("links break", bounds, &[LEADS, LEADS_NEXT, EXPIRED, CONTESTED, REFUSED, RELEASED, DEFERRED]);
}

#[test]
fn g1_g2_e4_hold_when_a_voter_dies_and_keeps_its_disk() {
    let bounds =
        Bounds { from: World::formed(3, 0, 1), rules: PROMPT, terms: far(2, 2, 3), time: far(4, 5, 7), depth: 0 };
    const HAPPENS: &[&str] = &[LEADS, LEADS_NEXT, EXPIRED, CONTESTED, REFUSED, RELEASED, DEFERRED, VOTES_AGAIN];
    explore("a voter crashes", bounds, HAPPENS);
}

/// The voter may restart with the state that its disk failed to keep, or without it.
#[test]
fn g1_g2_e4_hold_when_a_disk_fails_and_its_voter_dies() {
    let mut from = World::formed(3, 0, 1);
    from.failures = 1;
    let bounds = Bounds { from, rules: PROMPT, terms: 2, time: far(3, 3, 4), depth: 0 };
    explore("a disk fails", bounds, &[LEADS, LEADS_NEXT, EXPIRED, REFUSED, WITHOUT_DISK, VOTES_AGAIN]);
}

#[test]
fn e1_g2_hold_when_a_voter_dies_and_forgets_its_votes() {
    let bounds = Bounds {
        from: World::formed(3, 0, 1),
        rules: Rules { forget: true, ..PROMPT },
        terms: far(2, 2, 3),
        time: far(3, 4, 7),
        depth: 0,
    };
    const HAPPENS: &[&str] = &[LEADS, LEADS_NEXT, EXPIRED, CONTESTED, REFUSED, RELEASED, DEFERRED, VOTES_AGAIN];
    explore("a voter forgets", bounds, HAPPENS);
}

/// The faults that the runs above try one by one happen at once here.
#[test]
fn g1_g2_e4_hold_when_a_slow_master_a_cut_and_a_death_meet() {
    let bounds = Bounds {
        from: World::formed(3, 1, 1),
        rules: Rules { slow: |from, to| from == 0 || to == 0, ..PROMPT },
        terms: 2,
        time: far(1, 1, 2),
        depth: 0,
    };
    explore("a slow master, a cut and a crash", bounds, &[LEADS, EXPIRED]);
}

/// E1: all voters but the master have crashed and restarted, and the master is slow.
#[test]
fn e1_g2_hold_when_all_but_the_master_restart() {
    let slow = |from, to| from == 0 || to == 0;
    let rules = Rules { slow, ..PROMPT };
    let bounds =
        Bounds { from: World::restarted_around_its_master(3, rules), rules, terms: 2, time: far(2, 2, 3), depth: 0 };
    explore("all but the master restart", bounds, &[LEADS]);
    // Voters that forget their votes begin with the first term again.
    let rules = Rules { forget: true, slow, ..PROMPT };
    let bounds = Bounds { from: World::restarted_around_its_master(3, rules), rules, terms: 1, time: 3, depth: 0 };
    explore("all but the master restart and forget", bounds, &[LEADS, EXPIRED, DEFERRED, VOTES_AGAIN]);
}

/// E1: what was promised with longer times holds after a restart with shorter ones.
#[test]
fn e1_g2_hold_when_times_are_lowered_at_a_restart() {
    let rules = Rules { slow: |from, to| from == 0 || to == 0, ..PROMPT };
    let from = World::restarted_with_shorter_times(3, rules);
    let bounds = Bounds { from, rules, terms: 2, time: far(4, 4, 5), depth: 0 };
    explore("times are lowered", bounds, &[LEADS]);
}

/// E5: a resignation ends promises that a reported lease may depend on.
#[test]
fn g1_g2_hold_when_a_voter_leaves() {
    let mut from = World::formed(3, 1, 0);
    from.leaves = 1;
    let bounds = Bounds { from, rules: PROMPT, terms: far(2, 3, 3), time: far(3, 3, 5), depth: 0 };
    explore("a voter leaves", bounds, &[LEADS, LEADS_NEXT, RESIGNED, DEFERRED]);
}

/// L7: a master that has resigned votes, and may be a candidate again.
#[test]
fn l7_g1_g2_hold_when_a_master_resigns_and_stays() {
    let mut from = World::formed(3, far(0, 1, 1), 0);
    from.resigns = 1;
    let bounds = Bounds { from, rules: PROMPT, terms: 3, time: far(3, 3, 5), depth: 0 };
    explore("a master resigns and stays", bounds, &[LEADS, LEADS_NEXT, LEADS_AGAIN, RESIGNED, DEFERRED]);
}

#[test]
fn g1_g2_hold_from_the_first_message_on() {
    let bounds = Bounds { from: World::fresh(3, 0, 0), rules: PROMPT, terms: 2, time: 3, depth: 0 };
    explore("all have just started", bounds, &[LEADS]);
    let rules = Rules { bursts: false, ..PROMPT };
    let bounds = Bounds { from: World::fresh(far(2, 3, 3), 0, 0), rules, terms: 2, time: far(3, 1, 1), depth: 0 };
    explore("all have just started, frame by frame", bounds, &[LEADS]);
}

/// E7. It also tries what a reported lease means after a newer term (E5, E6).
#[test]
fn g1_g2_e7_hold_when_a_master_meets_a_newer_term() {
    let from = World::formed_beside_a_newer_term(0);
    let bounds = Bounds { from, rules: PROMPT, terms: 4, time: 3, depth: 0 };
    explore("a newer term", bounds, &[LEADS, LEADS_AGAIN, RELEASED, REFUSED]);
}

/// E8: the promises behind a quorum's master hold. A solo master beside it may meet it at any time, or never.
#[test]
fn g1_g2_e8_hold_when_a_solo_master_meets_a_quorums() {
    let mut from = World::partitioned(|ix| ix / 2, 3);
    (from.cuts, from.repairs) = (far(1, 1, 0), Some(far(1, 1, 2)));
    let bounds = Bounds { from, rules: PROMPT, terms: 4, time: far(2, 2, 1), depth: 0 };
    const HAPPENS: &[&str] = &[LEADS, LEADS_AGAIN, SOLO, BESIDE_A_QUORUM, YIELDS_TO_A_QUORUM];
    explore("a solo master meets a quorum's master", bounds, HAPPENS);
}

/// E8: every voter has lost all others, and two or more of them meet.
#[test]
fn g1_g2_e8_hold_when_solo_masters_meet() {
    let mut from = World::partitioned(|ix| ix, 3);
    (from.cuts, from.repairs) = (far(1, 1, 0), Some(far(1, 1, 2)));
    let bounds = Bounds { from, rules: PROMPT, terms: 4, time: far(3, 3, 2), depth: 0 };
    explore("solo masters meet", bounds, &[LEADS, LEADS_NEXT, SOLO, BESIDE_A_QUORUM, YIELDS_TO_ANOTHER]);
}

/// This space is not tried to its end, but as deep as reasonable time allows.
#[test]
fn g1_g2_hold_for_five_voters_within_the_bounds() {
    let rules = Rules { slow: |from, to| from == 0 || to == 0, ..PROMPT };
    let bounds = Bounds { from: World::formed(5, 1, 1), rules, terms: 3, time: 8, depth: far(8, 8, 9) };
    explore("five voters", bounds, &[LEADS]);
}

/// E10: nodes of which the first `first` are voters. A master is asked for other voters.
fn changing(places: usize, first: usize, (changes, cuts, crashes): (u8, u8, u8)) -> World {
    let mut world = World::formed_with_members(places, first);
    (world.changes, world.cuts, world.crashes) = (changes, cuts, crashes);
    world
}

#[test]
fn e10_g1_g2_hold_when_one_node_grows() {
    let rules = Rules { targets: &[&[0, 1, 2]], ..PROMPT };
    let bounds = Bounds { from: changing(3, 1, (1, far(0, 0, 1), 0)), rules, terms: 2, time: far(0, 0, 1), depth: 0 };
    explore("one node grows to three", bounds, &[LEADS, CHANGED]);
}

#[test]
fn e10_g1_g2_hold_when_a_voter_is_removed() {
    let rules = Rules { targets: &[&[0, 1]], ..PROMPT };
    let bounds = Bounds { from: changing(3, 3, (1, 0, 0)), rules, terms: 2, time: far(1, 2, 3), depth: 0 };
    explore("a voter is removed", bounds, &[LEADS, CHANGED]);
}

#[test]
fn e10_g1_g2_hold_when_the_master_is_removed() {
    let rules = Rules { targets: &[&[1, 2]], ..PROMPT };
    let bounds = Bounds { from: changing(3, 3, (1, 0, 0)), rules, terms: 2, time: far(0, 0, 1), depth: 0 };
    explore("the master is removed", bounds, &[LEADS, REMOVED_ITSELF]);
}

#[test]
fn e10_g1_g2_hold_when_a_master_that_changes_voters_is_slow() {
    let slow = |from, to| from == 0 || to == 0;
    let rules = Rules { targets: &[&[0, 1]], slow, ..PROMPT };
    let bounds = Bounds { from: changing(3, 3, (1, 0, 0)), rules, terms: 2, time: far(1, 2, 3), depth: 0 };
    explore("a slow master removes a voter", bounds, &[LEADS, CHANGED]);
}

/// Long random walks, with more nodes and more changes than can be tried exhaustively. A walk that finds a violation prints its steps.
fn walk(seed: u64, steps: usize) -> World {
    let mut rng = Rng::new(seed);
    let mut below = |limit: usize| usize::try_from(rng.up_to(limit as u64 - 1)).expect("it is small");
    let (places, first) = NODES[below(NODES.len())];
    let slow = WALKS[below(WALKS.len())];
    let mut world = World::formed_with_members(places, first);
    (world.changes, world.cuts, world.crashes, world.resigns) = (u8::MAX, u8::MAX, u8::MAX, 20);
    let rules = Rules { slow, targets: TARGETS[places - 3], ..PROMPT };
    let mut trail = Trail { seed, steps: Vec::new() };
    for _ in 0..steps {
        let Some(step) = pick(&mut rng, world.steps(rules)) else { break };
        trail.steps.push(step);
        world.take(step, rules);
        assert_eq!(world.broken, None);
    }
    world
}

/// The steps of a walk, which are printed if it fails.
struct Trail {
    seed: u64,
    steps: Vec<Step>,
}

impl Drop for Trail {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let steps: Vec<String> = self.steps.iter().map(|step| format!("    {step:?}")).collect();
            println!("seed {}\n{}", self.seed, steps.join("\n"));
        }
    }
}

/// Faults and changes are rarer than messages, so that something comes of a change.
fn pick(rng: &mut Rng, steps: Vec<Step>) -> Option<Step> {
    let weight = |step: &Step| match step {
        Step::Deliver { .. } | Step::Persisted(_) | Step::Tick(_) => 40,
        Step::Pass => 40,
        Step::Start(_) | Step::Repair(..) => 8,
        Step::SetVoters { .. } => 3,
        Step::Cut(..) | Step::Crash(_) | Step::Leave(_) | Step::Resign(_) | Step::PersistFails { .. } => 1,
    };
    let total: u64 = steps.iter().map(weight).sum();
    let mut at = rng.up_to(total.checked_sub(1)?);
    steps.into_iter().find(|step| {
        let is_it = at < weight(step);
        at = at.saturating_sub(weight(step));
        is_it
    })
}

const NODES: [(usize, usize); 7] = [(4, 3), (3, 1), (5, 3), (4, 2), (5, 4), (6, 3), (4, 4)];

const WALKS: &[fn(usize, usize) -> bool] = &[
    |_, _| false,
    |from, to| from == 0 || to == 0,
    |from, to| from == 1 || to == 1,
    |from, to| from != to,
    |_, _| true,
];

const TARGETS: [&[&[usize]]; 4] = [
    &[&[0], &[0, 1], &[0, 1, 2], &[1, 2], &[2]],
    &[&[0, 1, 2], &[0, 1, 2, 3], &[1, 2, 3], &[2, 3], &[0, 3], &[1]],
    &[&[0, 1, 2], &[0, 1, 2, 3, 4], &[2, 3, 4], &[1, 4], &[0, 3], &[3]],
    &[&[0, 1, 2], &[3, 4, 5], &[0, 1, 2, 3, 4, 5], &[1, 5], &[0, 3], &[2, 4, 5]],
];

#[test]
fn e10_g1_g2_hold_on_long_random_walks() {
    let (walks, steps) = far((500, 600), (3_000, 2_000), (60_000, 2_000));
    let mut seen = BTreeMap::new();
    for seed in 0..walks {
        let world = walk(seed, steps);
        let happened = [
            (CHANGED, world.seen.changed),
            (IN_COMPETITION, world.seen.by.len() > 1),
            (FINISHED_BY_THE_NEXT, world.seen.finished_by_another),
            (OUTDATED, world.seen.refused),
            (ROLLED_BACK, world.seen.rolled_back),
            (REMOVED_ITSELF, world.seen.removed_itself),
        ];
        for (what, has_happened) in happened {
            *seen.entry(what).or_insert(0) += u64::from(has_happened);
        }
    }
    println!("{walks} walks of {steps} steps: {seen:?}");
    assert!(seen.values().all(|count| *count > 0), "something never happens: {seen:?}");
}
