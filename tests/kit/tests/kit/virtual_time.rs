//! What virtual time adds: runs that repeat, and processes that stand still.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use formation_core::{Fence, Term};
use formation_testing::{
    TestNode,
    tokio::{Network, Tokio},
};
use tokio::time::{Instant, sleep};

use crate::support::{STEP, panic_of, service};

const SECOND: Duration = Duration::from_secs(1);

/// A run with all faults, and all that is known of it.
fn run(seed: u64) -> (Vec<String>, u64, Vec<String>) {
    Network::new(seed).run(async |network| {
        let mut said = Vec::new();
        let cluster = network.services(5, async |node: TestNode| service::<Tokio>(&node).await).await;
        for fault in 0..5 {
            let master = cluster.assert_one_master();
            let id = &master.node.id;
            match fault {
                0 => cluster.kill(id),
                1 => cluster.power_off(id),
                2 => cluster.pause(id),
                3 => cluster.slow(id, SECOND),
                _ => cluster.partition([id]),
            }
            cluster.wait_for_new_master(master.term).await;
            cluster.advance(SECOND).await;
            // It has the random times of the next dials.
            said.push(cluster.explain().await);
            cluster.heal();
            cluster.ids().iter().for_each(|id| cluster.restart(id));
            cluster.ids().iter().for_each(|id| cluster.resume(id));
            cluster.wait_for_members(5).await;
        }
        let counters = |id: &String| format!("{:?}", cluster.node(id).status().counters);
        said.extend(cluster.ids().iter().map(counters));
        (cluster.history(), cluster.steps(), said)
    })
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let first = run(1);
    assert!(first.0.len() > 100 && first.1 > 500, "{first:?}");
    assert_eq!(first, run(1));
    assert_ne!(first, run(2));
}

/// Only the master measures, and only what the network takes: nothing waits for anything else here.
#[test]
fn a_heartbeat_takes_twice_the_latency() {
    let latency = Duration::from_millis(5);
    Network::new(1).latency(latency..=latency).run(async |network| {
        let cluster = network.cluster(3).await;
        cluster.advance(SECOND).await;
        let master = cluster.assert_one_master().node.id;
        for id in cluster.ids() {
            let members = cluster.node(&id).explain().await.unwrap().members;
            let measured: Vec<_> = members.iter().map(|member| member.round_trip.unwrap()).collect();
            let expected = if id == master.as_str() { vec![2 * latency; 2] } else { vec![] };
            assert_eq!(measured, expected, "{id}");
        }
    });
}

fn note(saw: &Mutex<(Duration, usize)>, elapsed: Duration) {
    let mut saw = saw.lock().unwrap();
    *saw = (elapsed, saw.1 + 1);
}

#[test]
fn a_paused_process_stands_still_and_its_clock_goes_on() {
    Network::new(1).run(async |network| {
        let seen = Arc::new(Mutex::new((Duration::ZERO, 0)));
        let saw = seen.clone();
        let counts = async move |node: TestNode| {
            let (saw, began) = (saw.clone(), Instant::now());
            if node.id() == "node-a" {
                // The whole process stands still, whatever task it is.
                tokio::spawn(async move {
                    loop {
                        note(&saw, began.elapsed());
                        sleep(STEP).await;
                    }
                });
            }
            node.stopped().await;
        };
        let cluster = network.services(3, counts).await;
        let (paused_at, before) = (cluster.now(), *seen.lock().unwrap());
        cluster.pause("node-a");
        cluster.advance(10 * SECOND).await;
        assert_eq!(*seen.lock().unwrap(), before);
        assert!(cluster.explain().await.contains("node-a is paused"));
        cluster.resume("node-a");
        cluster.advance(STEP).await;
        let (elapsed, count) = *seen.lock().unwrap();
        assert!(elapsed >= paused_at + 10 * SECOND, "its clock shows {elapsed:?}");
        assert!(count <= before.1 + 2, "it has not made up for what it has missed");
        cluster.wait_for_members(3).await;
    });
}

#[test]
fn a_node_that_does_not_run_is_not_paused() {
    let found = panic_of(|| {
        Network::new(1).run(async |network| {
            let cluster = network.cluster(2).await;
            cluster.kill("node-a");
            cluster.pause("node-a");
        });
    });
    assert_eq!(found, "node-a does not run: it was killed");
}

#[test]
fn the_clocks_of_a_process_agree() {
    Network::new(1).run(async |network| {
        let agrees = async |node: TestNode| {
            let (began, at) = (Instant::now(), node.now());
            loop {
                assert_eq!(began.elapsed(), node.now().since(at));
                sleep(Duration::from_millis(7)).await;
            }
        };
        let cluster = network.services(3, agrees).await;
        let before = Instant::now();
        cluster.advance(SECOND).await;
        cluster.pause("node-b");
        cluster.advance(SECOND).await;
        cluster.resume("node-b");
        cluster.advance(SECOND).await;
        assert_eq!(before.elapsed(), 3 * SECOND, "the time of the test is the same");
    });
}

#[test]
fn a_task_that_panics_fails_the_test() {
    let spawns = async |node: TestNode| {
        let is_b = node.id() == "node-b";
        tokio::spawn(async move {
            sleep(SECOND).await;
            assert!(!is_b, "a bug");
        });
        node.stopped().await;
    };
    let found = panic_of(|| {
        Network::new(1).run(async |network| {
            let cluster = network.services(3, spawns).await;
            cluster.advance(2 * SECOND).await;
        });
    });
    assert!(found.starts_with("a task of node-b: a panic at ") && found.ends_with(": a bug"), "{found}");
}

#[test]
fn a_killed_process_leaves_no_task_behind() {
    Network::new(1).run(async |network| {
        let counter = Arc::new(AtomicUsize::new(0));
        let counted = counter.clone();
        let spawns = async move |node: TestNode| {
            let counted = counted.clone();
            tokio::spawn(async move {
                loop {
                    counted.fetch_add(1, Ordering::Relaxed);
                    sleep(STEP).await;
                }
            });
            node.stopped().await;
        };
        let cluster = network.services(3, spawns).await;
        cluster.advance(SECOND).await;
        assert!(counter.load(Ordering::Relaxed) > 100);
        cluster.ids().iter().for_each(|id| cluster.kill(id));
        cluster.advance(STEP).await;
        let then = counter.load(Ordering::Relaxed);
        cluster.advance(SECOND).await;
        assert_eq!(counter.load(Ordering::Relaxed), then);
    });
}

/// What a service writes to. Without a fence it takes everything.
struct Store {
    fence: Option<Fence>,
    refused: usize,
}

impl Store {
    fn write(&mut self, node: &TestNode, term: Term) {
        match self.fence.as_mut().map_or(Ok(()), |fence| fence.admit(term)) {
            Ok(()) => node.record(term),
            Err(_) => self.refused += 1,
        }
    }
}

/// The master is paused while its writes are under way. Returns how many writes were refused.
fn pause_during_a_write(fence: Option<Fence>) -> usize {
    Network::new(1).run(async |network| {
        let store = Arc::new(Mutex::new(Store { fence, refused: 0 }));
        let at = store.clone();
        let writes = async move |node: TestNode| {
            let work = node.run_while_master(async |lease| {
                loop {
                    let (at, node, term) = (at.clone(), node.clone(), lease.term());
                    // A request that is on its way does not end with the lease.
                    tokio::spawn(async move {
                        sleep(STEP).await;
                        at.lock().unwrap().write(&node, term);
                    });
                    sleep(STEP).await;
                }
            });
            work.await
        };
        let cluster = network.services(3, writes).await;
        let first = cluster.assert_one_master();
        cluster.advance(SECOND).await;
        cluster.pause(&first.node.id);
        let next = cluster.wait_for_new_master(first.term).await;
        cluster.wait_until("a write of the next", || cluster.last_step().unwrap().term == next.term).await;
        cluster.resume(&first.node.id);
        cluster.advance(SECOND).await;
        store.lock().unwrap().refused
    })
}

#[test]
fn a_fence_refuses_a_write_from_before_a_pause() {
    assert_eq!(pause_during_a_write(Some(Fence::default())), 1);
}

#[test]
fn a_write_from_before_a_pause_is_found_without_a_fence() {
    let found = panic_of(|| pause_during_a_write(None));
    assert!(found.starts_with("a step of node-a in term 1, at "), "{found}");
}

#[test]
fn a_run_in_a_runtime_says_what_to_do() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let found = panic_of(|| runtime.block_on(async { Network::new(1).run(async |_| ()) }));
    assert!(found.starts_with("call `run` in a plain #[test], not in a #[tokio::test]"), "{found}");
}

#[test]
fn a_run_without_a_cluster_is_a_run() {
    let done = Network::new(1).run(async |_| {
        sleep(SECOND).await;
        7
    });
    assert_eq!(done, 7);
}
