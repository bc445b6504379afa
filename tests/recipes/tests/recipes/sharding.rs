//! The sharded work.

use std::collections::{BTreeMap, BTreeSet};

use crate::replicas::{Line, Replicas, VOTERS, lock};

const SHARDS: u32 = 32;

fn start() -> Replicas {
    let mut replicas = Replicas::new(env!("CARGO_BIN_EXE_sharding"));
    for id in VOTERS {
        start_one(&mut replicas, id, "worker");
    }
    replicas
}

fn start_one(replicas: &mut Replicas, id: &str, role: &str) {
    let store = replicas.path("shards.json");
    replicas.start(id, &["--role", role, "--store", store.to_str().unwrap()]);
}

/// The shards that a node has from now on: `owns [1, 2] of 3 workers in view 1.4`.
fn owned(line: &Line) -> Option<(BTreeSet<u32>, String)> {
    let (shards, rest) = line.text.strip_prefix("owns [")?.split_once(']')?;
    let shards = shards.split(", ").filter(|shard| !shard.is_empty()).map(|shard| shard.parse().unwrap()).collect();
    let workers = rest.strip_prefix(" of ")?.split(' ').next()?;
    Some((shards, workers.into()))
}

/// Waits until each of these nodes knows so many workers, and returns the shards of each.
fn wait_for_owners(replicas: &mut Replicas, nodes: &[&str], workers: usize) -> BTreeMap<String, BTreeSet<u32>> {
    let mut all = BTreeMap::new();
    replicas.wait_for(&format!("{nodes:?} with {workers} workers"), |line| {
        match owned(line) {
            Some((shards, known)) if known == workers.to_string() => drop(all.insert(line.id.clone(), shards)),
            Some(_) => drop(all.remove(&line.id)),
            None => {}
        }
        nodes.iter().all(|node| all.contains_key(*node)).then_some(())
    });
    let count: usize = all.values().map(BTreeSet::len).sum();
    let together: BTreeSet<u32> = all.values().flatten().copied().collect();
    assert!(count == SHARDS as usize && together == (0..SHARDS).collect(), "{all:?}");
    all
}

#[test]
fn only_the_shards_of_a_killed_worker_move() {
    let mut replicas = start();
    start_one(&mut replicas, "web", "web");
    let before = wait_for_owners(&mut replicas, &["a", "b", "c", "web"], 3);
    assert!(before["web"].is_empty(), "{before:?}");
    // Each has some of them.
    assert!(VOTERS.iter().all(|id| !before[*id].is_empty()), "{before:?}");
    // The first master, which is the voter with the lowest id.
    replicas.kill("a");
    let after = wait_for_owners(&mut replicas, &["b", "c", "web"], 2);
    for id in ["b", "c"] {
        assert!(after[id].is_superset(&before[id]), "{id} has lost a shard: {before:?}, {after:?}");
    }
    assert!(after["web"].is_empty(), "{after:?}");
}

/// The shard of a write that begins: `writes shard 7 in view 1.4`.
fn write(line: &Line) -> Option<u32> {
    let words = line.words();
    (words[0] == "writes").then(|| words[2].parse().unwrap())
}

#[test]
fn a_late_write_of_the_old_owner_of_a_shard_is_refused() {
    let mut replicas = start();
    wait_for_owners(&mut replicas, &VOTERS, 3);
    let locked = lock(&replicas.path("shards.json"));
    // Each write that is done has its second line by now.
    replicas.catch_up();
    let shard = match replicas.seen().iter().rfind(|line| line.id == "c").and_then(write) {
        Some(shard) => shard,
        None => replicas.wait_for("a write", |line| if line.id == "c" { write(line) } else { None }),
    };
    // The write waits for the lock.
    replicas.signal("c", "STOP");
    drop(locked);
    let words = format!("has written shard {shard}");
    replicas.wait_for("a write of the next owner", |line| (line.id != "c" && line.text == words).then_some(()));
    replicas.signal("c", "CONT");
    let words = ["is refused: ", "has written "];
    let ends = |line: &Line| line.id == "c" && words.iter().any(|words| line.text.starts_with(words));
    let late = replicas.wait_for("the late write", |line| ends(line).then(|| line.text.clone()));
    assert!(late.starts_with(&format!("is refused: shard {shard} was written with view ")), "{late}");
    // It is back in a newer view, with the workers that it has known before, and goes on with its shards.
    let words = format!("has written shard {shard}");
    replicas.wait_for("a new write", |line| (line.id == "c" && line.text == words).then_some(()));
}
