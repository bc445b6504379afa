//! Whole processes under faults of real machines, judged from outside: nodes in network namespaces, each with an address and a
//! disk of its own, on a network that is late, lossy, narrow or cut, and processes that are killed, stopped or told to leave. What
//! all of them say with `--json` is one history, and the guarantees have to hold in it.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

#[path = "../sockets/authority.rs"]
mod authority;
mod cluster;
mod history;
mod machine;
mod play;
mod record;
mod round;
mod router;
mod sandbox;
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
use round::{Blow, Round};
use sandbox::tell;
use times::Times;

/// How many rounds are played, over all sizes.
const ROUNDS: &str = "FORMATION_FAULT_ROUNDS";
/// What they are drawn from.
const SEED: &str = "FORMATION_FAULT_SEED";
/// The programs, for the suite inside its sandbox.
const PROGRAMS: &str = "FORMATION_NODE_PROGRAMS";
const SIZES: [Size; 3] = [
    Size { machines: 3, voters: 3, secured: false },
    Size { machines: 5, voters: 5, secured: true },
    Size { machines: 9, voters: 7, secured: false },
];
/// In so many rounds everything happens.
const ENOUGH: u64 = 200;
const DISK: &str = "whole again, where a vote could not be kept";
/// Far more than a round takes, with all that it waits for.
const ROUND: Duration = Duration::from_secs(60);
const TEST: &str = "g1_g2_g3_and_g5_hold_for_processes_under_faults";

#[test]
fn g1_g2_g3_and_g5_hold_for_processes_under_faults() {
    let Some(rounds) = number(ROUNDS) else {
        return skip(&format!("set {ROUNDS}, to 210 for instance"));
    };
    if let Some(programs) = env::var_os(PROGRAMS) {
        return play_all(&env::split_paths(&programs).collect::<Vec<_>>(), rounds, number(SEED).unwrap());
    }
    if let Some(reason) = sandbox::unavailable() {
        return skip(&reason);
    }
    let seed = number(SEED).unwrap_or_else(|| cluster::now() % 1_000_000);
    tell(&format!("{ROUNDS}={rounds} {SEED}={seed} plays the same rounds"));
    // In one cluster, by turns.
    let programs = ["formation-tokio-node", "formation-smol-node"].map(build);
    let vars = [(SEED, seed.to_string().into()), (PROGRAMS, env::join_paths(programs).unwrap())];
    sandbox::enter(TEST, &vars, ROUND * u32::try_from(rounds + SIZES.len() as u64).unwrap());
}

fn skip(reason: &str) {
    tell(&format!("\n####\n#### NO REAL PROCESSES ARE TESTED: {reason}\n####\n"));
}

/// Builds the program of this package in the profile of this suite, and returns its path.
fn build(package: &str) -> PathBuf {
    let mut command = Command::new(env!("CARGO"));
    command.args(["build", "--message-format", "json", "--package", package]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let output = command.current_dir(root).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "the program {package} does not build");
    let messages = String::from_utf8(output.stdout).unwrap();
    let mut programs = messages.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        (message["target"]["name"] == package).then(|| message["executable"].as_str().map(PathBuf::from))?
    });
    programs.next_back().unwrap_or_else(|| panic!("cargo does not say where the program {package} is"))
}

/// Plays so many rounds on clusters of all sizes.
fn play_all(programs: &[PathBuf], rounds: u64, seed: u64) {
    sandbox::furnish();
    let homes = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("processes-{seed}"));
    let mut times = Times::default();
    for (place, size) in (0..).zip(SIZES) {
        let count = (rounds + place) / SIZES.len() as u64;
        let home = homes.join(size.machines.to_string());
        if let Err(problem) = play_some(programs, size, (count, seed), &home, &mut times) {
            panic!("{problem}\n{SEED}={seed}; what each node has said is in {}", home.display());
        }
    }
    tell(&format!("{rounds} rounds held, seed {seed}\n{times}"));
    if rounds >= ENOUGH {
        let missed = never(&times);
        assert!(missed.is_empty(), "in {rounds} rounds it never came to: {missed:?}; {SEED}={seed}");
    }
    fs::remove_dir_all(homes).unwrap();
}

/// What should come to pass in that many rounds, and did not.
fn never(times: &Times) -> Vec<String> {
    let lost = [Blow::Kill, Blow::Vanish, Blow::Stop, Blow::Leave, Blow::Part, Blow::Mute, Blow::Deafen, Blow::Reset];
    let wanted = lost.map(|blow| vec![failover(blow, true), failover(blow, false)]).into_iter();
    let wanted = wanted.chain([vec![whole_again(Blow::Split)], vec![DISK.into()]]);
    wanted.filter(|rows| rows.iter().all(|row| times.count(row) == 0)).flatten().collect()
}

fn failover(blow: impl Debug, rested: bool) -> String {
    format!("another master, {blow:?}{}", if rested { "" } else { ", soon after a start" })
}

fn whole_again(blow: impl Debug) -> String {
    format!("whole again, {blow:?}")
}

fn play_some(
    programs: &[PathBuf],
    size: Size,
    (rounds, seed): (u64, u64),
    home: &Path,
    times: &mut Times,
) -> Result<(), String> {
    // Of an earlier run.
    let _ = fs::remove_dir_all(home);
    let mut rng = Rng::new(seed ^ (size.machines as u64) << 56);
    let mut cluster = Cluster::new(size, programs, home, Rng::new(rng.draw()));
    let Size { machines, voters, secured } = size;
    let size = format!("{machines} nodes{}", if secured { " on TLS" } else { "" });
    times.add(format!("formed, {size}"), play::form(&mut cluster)?);
    for number in 1..=rounds {
        let round = Round::draw(&mut rng, (machines, voters));
        let title = format!("{size}, round {number}/{rounds}: {round}");
        let outcome = play::play(&mut cluster, &round).map_err(|problem| format!("{title}\n{problem}"))?;
        let led =
            outcome.failover.map_or(String::new(), |time| format!("a master after {:.3} s, ", time.as_secs_f64()));
        tell(&format!("{title} -> {led}whole after {:.3} s", outcome.whole.as_secs_f64()));
        if let Some(time) = outcome.failover {
            times.add(failover(format_args!("{size}"), round.rested), time);
            times.add(failover(round.strikes[0].blow, round.rested), time);
        }
        times.add(whole_again(format_args!("{size}")), outcome.whole);
        times.add(whole_again(round.strikes[0].blow), outcome.whole);
        if outcome.starved {
            times.add("whole again, though nothing had happened", outcome.whole);
        }
        if outcome.disk_failed {
            times.add(DISK, outcome.whole);
        }
    }
    play::disband(&mut cluster)?;
    tell(&format!("{size}: {} masters and {} views", cluster.history.terms(), cluster.history.views()));
    Ok(())
}
