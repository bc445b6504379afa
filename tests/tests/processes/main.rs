//! Real processes under real faults, checked from outside. Each node runs in a network namespace with its own address
//! and disk. The network delays, drops, limits or cuts packets, and processes are killed, stopped or made to leave. The
//! `--json` output of all nodes is one history, and the guarantees must hold in it.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

#[path = "../sockets/authority.rs"]
mod authority;
mod cluster;
mod handover;
mod history;
mod machine;
mod names;
mod pods;
mod record;
mod round;
mod router;
mod runner;
mod sandbox;
mod stateful_set;
mod times;

use std::{
    env,
    fmt::Debug,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use cluster::{Cluster, Size};
use formation_tests::{Rng, number};
use round::{FaultKind, Round};
use sandbox::print_line;
use times::Times;

/// The number of rounds over all sizes.
const ROUNDS: &str = "FORMATION_FAULT_ROUNDS";
/// The seed of the rounds.
const SEED: &str = "FORMATION_FAULT_SEED";
/// The node programs, for the test inside its sandbox.
const PROGRAMS: &str = "FORMATION_NODE_PROGRAMS";
const SIZES: [Size; 3] = [
    Size { machines: 3, voters: 3, secured: false },
    Size { machines: 5, voters: 5, secured: true },
    Size { machines: 9, voters: 7, secured: false },
];
/// In this number of rounds, every kind of fault must happen.
const ENOUGH: u64 = 200;
const DISK: &str = "whole again, after a full disk";
/// Far longer than a round takes, including all waits.
const ROUND: Duration = Duration::from_secs(60);
const TEST: &str = "g1_g2_g3_and_g5_hold_for_processes_under_faults";

#[test]
fn g1_g2_g3_and_g5_hold_for_processes_under_faults() {
    let Some(rounds) = number(ROUNDS) else {
        return skip(&format!("set {ROUNDS}, to 210 for instance"));
    };
    if let Some(programs) = env::var_os(PROGRAMS) {
        return run_all(&env::split_paths(&programs).collect::<Vec<_>>(), rounds, number(SEED).unwrap());
    }
    if let Some(reason) = sandbox::unavailable() {
        return skip(&reason);
    }
    let seed = number(SEED).unwrap_or_else(|| cluster::now() % 1_000_000);
    print_line(&format!("{ROUNDS}={rounds} {SEED}={seed} runs the same rounds"));
    // The nodes of a cluster use the two programs in turn.
    let vars = [
        (SEED, seed.to_string().into()),
        (PROGRAMS, env::join_paths(build(["formation-tokio-node", "formation-smol-node"])).unwrap()),
    ];
    sandbox::enter(TEST, &vars, ROUND * u32::try_from(rounds + SIZES.len() as u64).unwrap());
}

/// With a job that depends on the lease, on both adapters. `FORMATION_FAULT_ROUNDS` is the number of masters that end.
#[test]
fn the_work_of_two_masters_never_overlaps() {
    const TEST: &str = "the_work_of_two_masters_never_overlaps";
    let Some(rounds) = number(ROUNDS) else {
        return skip(&format!("set {ROUNDS}, to 102 for instance"));
    };
    if let Some(programs) = env::var_os(PROGRAMS) {
        sandbox::prepare();
        let (programs, seed) = (env::split_paths(&programs).collect::<Vec<_>>(), number(SEED).unwrap());
        let log_dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("handover-{seed}"));
        if let Err(problem) = handover::run(&programs, rounds, seed, &log_dir) {
            panic!("{problem}\n{SEED}={seed}; the output of each node is in {}", log_dir.display());
        }
        return fs::remove_dir_all(log_dir).unwrap();
    }
    if let Some(reason) = sandbox::unavailable() {
        return skip(&reason);
    }
    let seed = number(SEED).unwrap_or_else(|| cluster::now() % 1_000_000);
    let programs = env::join_paths(build(["fenced_job", "fenced_job_smol"])).unwrap();
    let limit = ROUND * u32::try_from(rounds + 1).unwrap();
    sandbox::enter(TEST, &[(SEED, seed.to_string().into()), (PROGRAMS, programs)], limit);
}

/// What the guide says about a StatefulSet of Kubernetes, with the flags and probes of its manifest.
#[test]
fn a_stateful_set_holds_what_the_guide_says() {
    const TEST: &str = "a_stateful_set_holds_what_the_guide_says";
    if number(ROUNDS).is_none() {
        return skip(&format!("set {ROUNDS}, to 1 for instance"));
    }
    if let Some(programs) = env::var_os(PROGRAMS) {
        sandbox::prepare();
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stateful-set");
        // Removes what an earlier run has left.
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        if let Err(problem) = stateful_set::run(&env::split_paths(&programs).collect::<Vec<_>>(), &dir) {
            panic!("{problem}\nthe output of each pod is in {}", dir.display());
        }
        return fs::remove_dir_all(dir).unwrap();
    }
    if let Some(reason) = sandbox::unavailable() {
        return skip(&reason);
    }
    let programs = env::join_paths(build(["formation-tokio-node", "formation-smol-node"])).unwrap();
    sandbox::enter(TEST, &[(PROGRAMS, programs)], ROUND * 3);
}

fn skip(reason: &str) {
    print_line(&format!("\n####\n#### NO REAL PROCESSES ARE TESTED: {reason}\n####\n"));
}

/// Builds the node programs and the examples of both adapters in the profile of this suite, and returns the paths of two of them.
fn build(names: [&str; 2]) -> [PathBuf; 2] {
    let mut command = Command::new(env!("CARGO"));
    // With the examples, cargo selects the features that it selects for tests, so that nothing is built twice.
    command.args(["build", "--workspace", "--bins", "--examples", "--message-format", "json"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    // What cargo tells this test about its package would look like a change to the build script of `ring`, which would then be built
    // again with everything on top of it.
    let of_package = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_package)) {
        command.env_remove(name);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let output = command.current_dir(root).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "the node programs do not build");
    let messages = String::from_utf8(output.stdout).unwrap();
    names.map(|program| {
        let mut programs = messages.lines().filter_map(|line| {
            let message: serde_json::Value = serde_json::from_str(line).ok()?;
            (message["target"]["name"] == program).then(|| message["executable"].as_str().map(PathBuf::from))?
        });
        programs.next_back().unwrap_or_else(|| panic!("cargo does not name the program {program}"))
    })
}

/// Runs this many rounds on clusters of all sizes.
fn run_all(programs: &[PathBuf], rounds: u64, seed: u64) {
    sandbox::prepare();
    let log_dirs = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("processes-{seed}"));
    let mut times = Times::default();
    for (place, size) in (0..).zip(SIZES) {
        let count = (rounds + place) / SIZES.len() as u64;
        let log_dir = log_dirs.join(size.machines.to_string());
        if let Err(problem) = run_rounds(programs, size, (count, seed), &log_dir, &mut times) {
            panic!("{problem}\n{SEED}={seed}; the output of each node is in {}", log_dir.display());
        }
    }
    print_line(&format!("{rounds} rounds held, seed {seed}\n{times}"));
    if rounds >= ENOUGH {
        let missed = never_happened(&times);
        assert!(missed.is_empty(), "these never happened in {rounds} rounds: {missed:?}; {SEED}={seed}");
    }
    fs::remove_dir_all(log_dirs).unwrap();
}

/// The rows that should be in the table after that many rounds, and are not.
fn never_happened(times: &Times) -> Vec<String> {
    let kinds = [
        FaultKind::Kill,
        FaultKind::Vanish,
        FaultKind::Stop,
        FaultKind::Leave,
        FaultKind::Partition,
        FaultKind::BlockOutgoing,
        FaultKind::BlockIncoming,
        FaultKind::Reset,
    ];
    let expected = kinds.map(|kind| vec![failover(kind, true), failover(kind, false)]).into_iter();
    let expected = expected.chain([vec![whole_again(FaultKind::CutTwo)], vec![DISK.into()]]);
    expected.filter(|rows| rows.iter().all(|row| times.count(row) == 0)).flatten().collect()
}

fn failover(cause: impl Debug, grace_over: bool) -> String {
    format!("new master, {cause:?}{}", if grace_over { "" } else { ", soon after a start" })
}

fn whole_again(cause: impl Debug) -> String {
    format!("whole again, {cause:?}")
}

fn run_rounds(
    programs: &[PathBuf],
    size: Size,
    (rounds, seed): (u64, u64),
    log_dir: &Path,
    times: &mut Times,
) -> Result<(), String> {
    // Removes the logs of an earlier run.
    let _ = fs::remove_dir_all(log_dir);
    let mut rng = Rng::new(seed ^ (size.machines as u64) << 56);
    let mut cluster = Cluster::new(size, programs, log_dir, Rng::new(rng.draw()));
    let Size { machines, voters, secured } = size;
    let size = format!("{machines} nodes{}", if secured { " on TLS" } else { "" });
    times.add(format!("formed, {size}"), runner::form(&mut cluster)?);
    for number in 1..=rounds {
        let round = Round::draw(&mut rng, (machines, voters));
        let title = format!("{size}, round {number}/{rounds}: {round}");
        let outcome = runner::run_round(&mut cluster, &round).map_err(|problem| format!("{title}\n{problem}"))?;
        let led =
            outcome.failover.map_or(String::new(), |time| format!("a master after {:.3} s, ", time.as_secs_f64()));
        print_line(&format!("{title} -> {led}whole after {:.3} s", outcome.whole.as_secs_f64()));
        if let Some(time) = outcome.failover {
            times.add(failover(format_args!("{size}"), round.grace_over), time);
            times.add(failover(round.faults[0].kind, round.grace_over), time);
        }
        times.add(whole_again(format_args!("{size}")), outcome.whole);
        times.add(whole_again(round.faults[0].kind), outcome.whole);
        if outcome.starved {
            times.add("whole again, without a fault", outcome.whole);
        }
        if round.faults.iter().any(|fault| fault.kind == FaultKind::Fill) {
            times.add(DISK, outcome.whole);
        }
    }
    runner::disband(&mut cluster)?;
    print_line(&format!("{size}: {} masters and {} views", cluster.history.terms(), cluster.history.views()));
    Ok(())
}
