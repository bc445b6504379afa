//! The job that runs at fixed times.

use std::{fs, path::Path};

use serde_json::Value;

use crate::replicas::{Line, Replicas, VOTERS, lock};

const EVERY: u64 = 200;

fn start() -> Replicas {
    let mut replicas = Replicas::new(env!("CARGO_BIN_EXE_cron"));
    for id in VOTERS {
        start_one(&mut replicas, id);
    }
    replicas
}

fn start_one(replicas: &mut Replicas, id: &str) {
    let ledger = replicas.path("ledger.json");
    replicas.start(id, &["--every", &format!("{EVERY}ms"), "--ledger", ledger.to_str().unwrap()]);
}

/// The time of a run that begins with this line.
fn run(line: &Line) -> Option<u64> {
    let words = line.words();
    (words[0] == "runs").then(|| words[1].parse().unwrap())
}

/// Waits until one of these nodes begins a run, and returns the line and the time of the run.
fn wait_for_run(replicas: &mut Replicas, nodes: impl Fn(&str) -> bool) -> (Line, u64) {
    replicas.wait_for("a run", |line| {
        let time = run(line)?;
        nodes(&line.id).then(|| (line.clone(), time))
    })
}

/// The newest run that the ledger has as done.
fn done(ledger: &Path) -> Option<u64> {
    let ledger: Value = serde_json::from_slice(&fs::read(ledger).unwrap()).unwrap();
    ledger["done"].as_u64()
}

/// Fails if a run is missing, or runs twice in one term. The last run of a term may run again in the next one.
fn assert_complete(lines: &[Line]) {
    let runs: Vec<(u64, u64)> = lines.iter().filter_map(|line| Some((run(line)?, line.term().unwrap()))).collect();
    assert!(runs.len() > 1);
    for pair in runs.windows(2) {
        let [(time, term), (next, next_term)] = pair else { unreachable!() };
        let is_again = next == time && next_term > term;
        let is_next = *next == time + EVERY && next_term >= term;
        assert!(is_again || is_next, "{next} in term {next_term} after {time} in term {term}: {runs:?}");
    }
}

#[test]
fn no_run_is_lost_when_a_master_is_killed_or_leaves() {
    let mut replicas = start();
    wait_for_run(&mut replicas, |_| true);
    let (first, _) = wait_for_run(&mut replicas, |_| true);
    replicas.kill(&first.id);
    let (second, _) = wait_for_run(&mut replicas, |id| id != first.id);
    // In the middle of the run.
    replicas.signal(&second.id, "TERM");
    start_one(&mut replicas, &first.id);
    assert_eq!(replicas.wait_for_end(&second.id).code(), Some(0));
    replicas.catch_up();
    // It has ended the run that was under way.
    let last = replicas.seen().iter().rfind(|line| line.id == second.id).unwrap();
    assert!(last.text.starts_with("has run"), "{last:?}");
    wait_for_run(&mut replicas, |id| id != second.id);
    wait_for_run(&mut replicas, |id| id != second.id);
    assert_complete(replicas.seen());
}

#[test]
fn a_paused_master_does_not_set_the_ledger_back() {
    let mut replicas = start();
    let ledger = replicas.path("ledger.json");
    // The store is locked while a master is in the middle of a run.
    let (paused, time, locked) = loop {
        let (paused, time) = wait_for_run(&mut replicas, |_| true);
        let locked = lock(&ledger);
        if done(&ledger) < Some(time) {
            break (paused, time, locked);
        }
    };
    replicas.wait_for("the end of the run", |line| {
        (line.id == paused.id && line.text.starts_with(&format!("has run {time}"))).then_some(())
    });
    // Now its change of the ledger is on the way.
    replicas.signal(&paused.id, "STOP");
    drop(locked);
    let (_, again) = wait_for_run(&mut replicas, |id| id != paused.id);
    assert_eq!(again, time, "the next master cannot know that it is done");
    wait_for_run(&mut replicas, |id| id != paused.id);
    let (_, newest) = wait_for_run(&mut replicas, |id| id != paused.id);
    replicas.signal(&paused.id, "CONT");
    let late = replicas.wait_for("the late change", |line| {
        let goes_back = run(line).is_some_and(|time| time < newest);
        (line.id == paused.id || goes_back).then(|| line.text.clone())
    });
    let term = paused.term().unwrap();
    assert!(late.starts_with(&format!("is refused: the write with {term} is too late")), "{late}");
    wait_for_run(&mut replicas, |_| true);
    assert_complete(replicas.seen());
}
