//! G4: chunking never matters. What a whole formation received is cut again in other ways.

use std::time::Duration;

use formation_core::{Command, Formation, Input};
use formation_tests::{Crash, Net, Recut, Run, Settings, replay, seeds};
use quickcheck::{QuickCheck, TestResult};

/// The runs of all nodes of a formation, with a failover, a joiner and a leaver.
fn recorded(seed: u64, voters: usize) -> Vec<Run> {
    let settings = Settings { record: true, ..Settings::default() };
    let mut net = Net::of_voters(seed, voters, settings);
    let extra = net.add(Net::config(voters, voters));
    for ix in 0..=extra {
        let delay = net.rng.within((Duration::ZERO, Duration::from_millis(300)));
        net.start_in(ix, delay);
    }
    net.run_for(Duration::from_millis(300));
    net.converge(Duration::from_secs(2));
    net.crash(0, Crash::Process);
    net.run_for(Duration::from_secs(4));
    net.start(0);
    net.converge(Duration::from_secs(3));
    net.command(extra, Command::Leave);
    net.run_for(Duration::from_millis(500));
    (0..net.len()).flat_map(|ix| net.host(ix).runs.clone()).collect()
}

fn assert_same(run: &Run, recut: &Recut) {
    let (outputs, state) = replay(run, &run.inputs);
    assert_eq!(outputs, run.outputs, "a replay is exact");
    let again = recut.apply(&run.inputs);
    let (others, other) = replay(run, &again);
    let (id, start) = (run.config.id(), &run.start);
    for (at, (theirs, ours)) in others.iter().zip(&outputs).enumerate() {
        assert_eq!(theirs, ours, "output {at} of {id}, started with {start:?}, cut by {recut:?}");
    }
    assert_eq!(others.len(), outputs.len(), "{id}, started with {start:?}, cut by {recut:?}");
    if other != state {
        panic!("{id}, started with {start:?}, cut by {recut:?}: the states differ\n{}", difference(&other, &state));
    }
}

/// The lines in which two states differ.
fn difference(left: &Formation, right: &Formation) -> String {
    let (left, right) = (format!("{left:#?}"), format!("{right:#?}"));
    let pairs = left.lines().zip(right.lines()).filter(|(left, right)| left != right).take(12);
    pairs.map(|(left, right)| format!("{left}   instead of {right}\n")).collect()
}

fn explore(voters: usize) {
    for seed in seeds(4) {
        let runs = recorded(seed, voters);
        for run in &runs {
            let chunks = run.inputs.iter().filter(|(_, input)| matches!(input, Input::Received { .. })).count();
            assert!(chunks > 10, "{chunks} chunks are no run");
            assert_same(run, &Recut::Bytes);
            assert_same(run, &Recut::Join);
        }
    }
}

#[test]
fn a_formation_of_three_is_the_same_byte_by_byte_and_joined() {
    explore(3);
}

#[test]
fn a_formation_of_five_is_the_same_byte_by_byte_and_joined() {
    explore(5);
}

fn random_cuts(voters: usize, tests: u64) {
    let runs = recorded(voters as u64, voters);
    // A property is a plain function: the recorded runs reach it by their place.
    thread_local!(static RUNS: std::cell::RefCell<Vec<Run>> = const { std::cell::RefCell::new(Vec::new()) });
    RUNS.with(|cell| *cell.borrow_mut() = runs);
    fn property(cuts: u64) -> TestResult {
        RUNS.with(|runs| runs.borrow().iter().for_each(|run| assert_same(run, &Recut::Random(cuts))));
        TestResult::passed()
    }
    QuickCheck::new().tests(tests).quickcheck(property as fn(u64) -> TestResult);
}

#[test]
fn a_formation_of_three_is_the_same_in_any_cut() {
    random_cuts(3, 40);
}

#[test]
fn a_formation_of_five_is_the_same_in_any_cut() {
    random_cuts(5, 20);
}
