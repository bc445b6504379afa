//! G4: chunking never matters. These tests record whole runs, cut the received bytes in other ways, and replay them.

use std::time::Duration;

use formation_core::{Command, Input, Term, ViewId, message::Message};
use formation_tests::{Crash, Net, Peer, Recut, Rig, Rng, Run, Settings, difference, for_each_seed, replay, seeds};
use quickcheck::{Gen, QuickCheck, TestResult};

/// The runs of all nodes of a cluster with a failover, a joining node and a leaving node. Every other cluster has a
/// key.
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
    (0..net.len()).flat_map(|ix| net.runs(ix).to_vec()).collect()
}

fn assert_same(run: &Run, recut: &Recut) {
    let (outputs, state) = replay(run, &run.inputs);
    assert_eq!(outputs, run.outputs, "the replay of the same inputs differs");
    let again = recut.apply(&run.inputs);
    let (others, other) = replay(run, &again);
    let (id, start) = (run.config.id(), &run.start);
    for (at, (cut, whole)) in others.iter().zip(&outputs).enumerate() {
        assert_eq!(cut, whole, "output {at} of {id}, started with {start:?}, cut by {recut:?}");
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
        assert!(chunks > 200, "a run with only {chunks} chunks");
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
    // A property is a plain function, so it gets the recorded runs from a thread-local variable.
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

/// Messages of a peer, expected or not, sometimes with flipped bits.
fn stream(rng: &mut Rng, peer: &mut Peer) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..rng.below(8) {
        let noise = rng.bytes(30);
        let view_id = ViewId { term: Term(1), version: 1 };
        let bytes = match rng.below(9) {
            0..=2 => peer.hello(),
            3 => peer.joining(),
            4 => peer.master(1),
            5 => Peer::accepted(1),
            6 => Peer::page(view_id, vec![peer.member()]),
            7 => Message::Ping.to_frame(),
            _ => noise.into(),
        };
        out.extend_from_slice(&bytes);
        if rng.one_in(10) {
            let at = rng.below(out.len());
            out[at] ^= 1 << rng.below(8);
        }
    }
    out
}

/// A fault is found at the same byte and has the same result, whatever the chunks.
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
        let mut bytes = peer.hello().to_vec();
        if rng.one_in(4) {
            bytes.clear();
        }
        bytes.extend(stream(&mut rng, &mut peer));
        if bytes.is_empty() {
            return;
        }
        let mut whole = rig.clone();
        whole.receive(conn, bytes.clone());
        let mut cut = rig;
        while !bytes.is_empty() {
            let rest = bytes.split_off(1 + rng.below(bytes.len()));
            cut.receive(conn, std::mem::replace(&mut bytes, rest));
        }
        assert_eq!(cut.outputs, whole.outputs, "seed {seed}");
        if cut.formation != whole.formation {
            panic!("seed {seed}: the states differ\n{}", difference(&cut.formation, &whole.formation));
        }
    });
}
