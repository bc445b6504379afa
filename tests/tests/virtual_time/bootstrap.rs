//! How a cluster forms (G6, E1, E2): with any start times, and with dead or silent seeds.

use std::time::Duration;

use formation_core::Event;
use formation_tests::{Net, Settings, Target, for_each_seed};

const SIZES: [usize; 5] = [1, 2, 3, 5, 7];

/// E1: `bootstrap_wait`, and one more second for the election itself.
fn time_limit(net: &Net) -> Duration {
    net.host(0).config.timing().bootstrap_wait + Duration::from_secs(1)
}

fn elected(event: &Event) -> bool {
    matches!(event, Event::MasterElected { .. })
}

/// 1,000 random orders of starts, over all sizes.
#[test]
fn g6_the_lowest_id_wins_in_any_order_of_starts() {
    for_each_seed(1_000, |seed| {
        let voters = SIZES[seed as usize % SIZES.len()];
        let mut net = Net::new(seed, Settings::default());
        // The order of the ids differs from the order of the addresses.
        let mut ids: Vec<_> = (0..voters).collect();
        net.rng.shuffle(&mut ids);
        for (at, id) in ids.iter().enumerate() {
            let seeds = (0..voters).map(Net::address);
            let config =
                formation_core::Config::builder("test", format!("n{id}"), Net::address(at)).seeds(seeds).single();
            net.add(config.build().unwrap());
        }
        let wait = net.host(0).config.timing().bootstrap_wait;
        // Some runs start all at once, some spread over the whole wait.
        let spread = [Duration::ZERO, Duration::from_millis(20), wait / 4, wait - Duration::from_millis(150)];
        let spread = spread[net.rng.below(spread.len())];
        for ix in 0..voters {
            let delay = net.rng.within((Duration::ZERO, spread));
            net.start_in(ix, delay);
        }
        net.run_for(spread);
        net.converge(Duration::from_secs(1));
        let lowest = ids.iter().position(|id| *id == 0).unwrap();
        net.expect(net.master() == Some(lowest), "G6: the master is not the lowest id");
        for ix in 0..voters {
            net.expect(net.count(ix, Duration::ZERO, elected) == 1, "G6: more than one election was needed");
        }
    });
}

/// E1: when all voters are there, the grace period costs no time.
#[test]
fn e1_nodes_that_start_together_form_in_a_few_round_trips() {
    for voters in SIZES {
        let mut net = Net::of_voters(0, voters, Settings::calm());
        net.start_all();
        net.converge(Duration::from_millis(50));
        // Connect, hello, vote and view take 3.5 round trips of 1 ms, plus a repeated dial.
        println!("{voters} voters: {:?}", net.now());
        net.expect(net.now() <= Duration::from_millis(10), "forming takes more than the 3.5 round trips of PROTOCOL");
    }
}

/// Two of three voters are a quorum.
#[test]
fn e1_e2_two_of_three_voters_elect_one_master_in_time() {
    for_each_seed(50, |seed| {
        let mut net = Net::of_voters(seed, 3, Settings::default());
        let down = net.rng.below(3);
        for ix in (0..3).filter(|ix| *ix != down) {
            let delay = net.rng.within((Duration::ZERO, Duration::from_millis(500)));
            net.start_in(ix, delay);
        }
        let time = time_limit(&net) + Duration::from_millis(500);
        let up: Vec<_> = (0..3).filter(|ix| *ix != down).collect();
        let done = net.run_until(time, |net| net.living() == up && net.converged());
        net.expect(done, "the two running voters have no master");
        net.run_for(Duration::from_secs(5));
        net.expect(net.converged(), "the agreement did not last");
        net.expect(
            up.iter().all(|ix| net.count(*ix, Duration::ZERO, elected) == 1),
            "there was more than one election",
        );
    });
}

/// One voter of three is not a quorum, so it never becomes master.
#[test]
fn e2_one_of_three_voters_never_forms_alone() {
    let mut net = Net::of_voters(0, 3, Settings::default());
    net.start(1);
    net.run_for(Duration::from_secs(60));
    net.expect(!net.saw(1, elected), "a voter formed a cluster alone");
}

fn forms_without_one(voters: usize, target: Option<Target>) {
    for_each_seed(40, |seed| {
        let mut net = Net::of_voters(seed, voters, Settings::default());
        let dead = net.rng.below(voters);
        if let Some(target) = target {
            net.name(&Net::address(dead), target);
        }
        let up: Vec<_> = (0..voters).filter(|ix| *ix != dead).collect();
        for ix in &up {
            net.start(*ix);
        }
        net.converge(time_limit(&net));
        net.run_for(Duration::from_secs(3));
        net.expect(net.agree(&up), "the agreement did not last");
        net.expect(
            up.iter().all(|ix| net.count(*ix, Duration::ZERO, elected) == 1),
            "there was more than one election",
        );
    });
}

/// A known failure of other implementations: every node becomes its own master, or there is no master at all.
#[test]
fn d1_a_dead_seed_delays_nobody_beyond_bootstrap_wait() {
    forms_without_one(3, None);
    forms_without_one(5, None);
}

#[test]
fn d1_a_silent_seed_delays_nobody_beyond_bootstrap_wait() {
    forms_without_one(3, Some(Target::Test));
    forms_without_one(5, Some(Target::Test));
}

#[test]
fn d1_a_hanging_seed_delays_nobody_beyond_bootstrap_wait() {
    forms_without_one(3, Some(Target::Nowhere));
    forms_without_one(5, Some(Target::Nowhere));
}

/// The whole cluster dies and starts again, with and without its durable state.
#[test]
fn g1_a_restarted_cluster_with_kept_votes_has_a_higher_term() {
    for_each_seed(30, |seed| {
        let forget = seed % 2 == 1;
        let settings = Settings { votes_last: !forget, ..Settings::default() };
        let mut net = Net::of_voters(seed, 3, settings);
        net.start_all();
        net.converge(Duration::from_secs(1));
        let before = net.masters()[0].1;
        for ix in 0..3 {
            net.crash(ix, formation_tests::Crash::Process);
            if forget {
                net.forget(ix);
            }
        }
        net.run_for(Duration::from_secs(2));
        net.start_all();
        net.converge(Duration::from_secs(2));
        net.expect(net.master() == Some(0), "the master is not the lowest id again");
        net.expect(forget || net.masters()[0].1 > before, "G1: the term is not higher than before");
    });
}
