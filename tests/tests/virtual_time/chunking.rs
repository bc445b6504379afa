//! G4: chunking never matters. What a whole formation received is cut again in other ways.

use std::time::Duration;

use formation_core::{Command, Input, Term, ViewId, message::Message};
use formation_tests::{Crash, Net, Peer, Recut, Rig, Rng, Run, Settings, difference, for_each_seed, replay, seeds};
use quickcheck::{Gen, QuickCheck, TestResult};

/// The runs of all nodes of a formation, with a failover, a joiner and a leaver; every other one with a cluster key.
fn recorded(seed: u64, voters: usize) -> Vec<Run> {
    let settings = Settings { record: true, ..Settings::default() };
    let mut net = Net::of_voters(seed, voters, settings);
    let extra = net.add(Net::config(voters, voters));
    for ix in 0..=extra {
        net.set_keys(ix, seed.is_multiple_of(2).then_some(0));
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

fn explore(voters: usize) {
    for seed in seeds(15) {
        let runs = recorded(seed, voters);
        let received = |run: &Run| run.inputs.iter().filter(|(_, i)| matches!(i, Input::Received { .. })).count();
        let chunks: usize = runs.iter().map(received).sum();
        assert!(chunks > 200, "{chunks} chunks are no formation");
        for run in &runs {
            assert_same(run, &Recut::Bytes);
            assert_same(run, &Recut::Join);
        }
    }
}

#[test]
fn g4_three_nodes_behave_the_same_byte_by_byte_and_joined() {
    explore(3);
}

#[test]
fn g4_five_nodes_behave_the_same_byte_by_byte_and_joined() {
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
    QuickCheck::new().rng(Gen::from_size_and_seed(100, 1)).tests(tests).quickcheck(property as fn(u64) -> TestResult);
}

#[test]
fn g4_three_nodes_behave_the_same_in_any_cut() {
    random_cuts(3, 150);
}

#[test]
fn g4_five_nodes_behave_the_same_in_any_cut() {
    random_cuts(5, 75);
}

/// What a peer might say, in place or not, with some bits flipped now and then.
fn stream(rng: &mut Rng, peer: &mut Peer) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..rng.below(8) {
        let noise = rng.bytes(30);
        let view_id = ViewId { term: Term(1), version: 1 };
        let said = match rng.below(9) {
            0..=2 => peer.hello(),
            3 => peer.joining(),
            4 => peer.master(1),
            5 => Peer::accepted(1),
            6 => Peer::page(view_id, vec![peer.member()]),
            7 => Message::Ping.to_frame(),
            _ => noise.into(),
        };
        out.extend_from_slice(&said);
        if rng.one_in(10) {
            let at = rng.below(out.len());
            out[at] ^= 1 << rng.below(8);
        }
    }
    out
}

/// G4 and G8 together: a fault is found at the same byte, with the same outcome, however the bytes come.
#[test]
fn g4_g8_faulty_streams_have_the_same_result_in_any_cut() {
    let config = Net::config(1, 3);
    for_each_seed(3_000, |seed| {
        let mut rng = Rng::new(seed);
        let mut peer = Peer::of(&config, "n0", "h0:1");
        let mut rig = Rig::new(config.clone());
        rig.hold_answers();
        let conn = if rng.one_in(2) { rig.answer("h0:1") } else { rig.accept() };
        rig.flush(conn);
        let mut said = peer.hello().to_vec();
        if rng.one_in(4) {
            said.clear();
        }
        said.extend(stream(&mut rng, &mut peer));
        if said.is_empty() {
            return;
        }
        let mut whole = rig.clone();
        whole.receive(conn, said.clone());
        let mut cut = rig;
        while !said.is_empty() {
            let rest = said.split_off(1 + rng.below(said.len()));
            cut.receive(conn, std::mem::replace(&mut said, rest));
        }
        assert_eq!(cut.outputs, whole.outputs, "seed {seed}");
        if cut.formation != whole.formation {
            panic!("seed {seed}: the states differ\n{}", difference(&cut.formation, &whole.formation));
        }
    });
}
