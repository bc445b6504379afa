//! What holds on both runtimes.

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use formation_core::{Config, Event, Phase, StopReason, Timing};
use formation_host::{PastEvent, Runtime as _, Stopped};
use formation_testing::{TestNode, TestRuntime};

use crate::support::{STEP, network, on_both, panic_of, service};

on_both! {
    three_nodes_have_one_master
    a_killed_master_is_replaced_and_comes_back
    a_master_that_is_cut_off_loses_its_lease
    a_node_that_hears_nothing_comes_back
    a_master_that_is_slow_is_replaced
    a_node_without_power_is_found_by_its_silence
    broken_connections_are_made_again
    each_event_has_its_number_and_can_be_read_later
    a_whole_cluster_starts_again
    a_node_that_has_forgotten_joins_again
    a_process_ends_with_its_service
    only_the_first_nodes_vote
    work_without_a_lease_is_found
    two_masters_at_once_are_found
    a_wait_ends_with_what_each_node_says
    a_run_has_a_limit
    a_service_that_fails_fails_the_test
    a_service_that_panics_fails_the_test
    an_unknown_node_is_named
    a_network_has_one_cluster
}

const LEASE: Duration = Timing::local().lease;

fn three_nodes_have_one_master<R: TestRuntime>() {
    network::<R>().run(async |network| {
        let cluster = network.cluster(3).await;
        assert_eq!(cluster.ids(), ["node-a", "node-b", "node-c"]);
        let master = cluster.assert_one_master();
        for id in cluster.ids() {
            let node = cluster.node(&id);
            assert_eq!((node.id(), node.wait_for_master().await.unwrap()), (&*id, master.clone()));
            assert_eq!(node.master().as_ref(), Some(&master));
        }
    });
}

fn a_killed_master_is_replaced_and_comes_back<R: TestRuntime>() {
    network::<R>().run(async |network| {
        let cluster = network.services(3, async |node: TestNode| service::<R>(&node).await).await;
        let first = cluster.assert_one_master();
        cluster.wait_until("a step", || cluster.steps() > 0).await;
        let killed = cluster.node(&first.node.id);
        cluster.kill(&first.node.id);
        killed.stopped().await;
        let next = cluster.wait_for_new_master(first.term).await;
        assert_ne!(next.node.id, first.node.id);
        cluster.wait_until("a step of the next", || cluster.last_step().unwrap().term == next.term).await;
        assert_eq!(cluster.last_step().unwrap().node, next.node.id.as_str());
        cluster.restart(&first.node.id);
        cluster.wait_for_members(3).await;
        assert_eq!(cluster.node(&first.node.id).node().incarnation.0, 2);
        assert_eq!(cluster.assert_one_master().node.id, next.node.id);
    });
}

fn a_master_that_is_cut_off_loses_its_lease<R: TestRuntime>() {
    network::<R>().run(async |network| {
        let cluster = network.services(3, async |node: TestNode| service::<R>(&node).await).await;
        let first = cluster.assert_one_master();
        cluster.partition([&first.node.id]);
        let next = cluster.wait_for_new_master(first.term).await;
        assert!(cluster.node(&first.node.id).lease().is_none());
        cluster.wait_until("a step of the next", || cluster.last_step().unwrap().term == next.term).await;
        cluster.heal();
        cluster.wait_for_members(3).await;
        assert_eq!(cluster.node(&first.node.id).wait_for_master().await.unwrap().node, next.node);
    });
}

fn a_node_that_hears_nothing_comes_back<R: TestRuntime>() {
    network::<R>().run(async |network| {
        let cluster = network.cluster(3).await;
        let master = cluster.assert_one_master();
        cluster.cut(&master.node.id, "node-c");
        let deaf = cluster.node("node-c");
        assert_eq!(deaf.without_master_since(), None);
        cluster.wait_until("node-c misses its master", || deaf.master().is_none()).await;
        assert!(deaf.without_master_since().unwrap() <= deaf.now());
        assert_eq!(cluster.assert_one_master(), master);
        cluster.heal();
        cluster.wait_for_members(3).await;
        assert_eq!(deaf.without_master_since(), None);
    });
}

fn a_master_that_is_slow_is_replaced<R: TestRuntime>() {
    network::<R>().run(async |network| {
        let cluster = network.cluster(3).await;
        let first = cluster.assert_one_master();
        // Each confirmation of the lease comes too late.
        cluster.slow(&first.node.id, LEASE);
        let next = cluster.wait_for_new_master(first.term).await;
        assert_ne!(next.node.id, first.node.id);
        cluster.heal();
        cluster.wait_for_members(3).await;
    });
}

fn a_node_without_power_is_found_by_its_silence<R: TestRuntime>() {
    network::<R>().run(async |network| {
        let cluster = network.cluster(3).await;
        let master = cluster.assert_one_master();
        let (node, counters) = (cluster.node(&master.node.id), |node: &TestNode| node.status().counters);
        let before = counters(&node);
        cluster.power_off("node-c");
        cluster.wait_for_members(2).await;
        assert_eq!(cluster.assert_one_master(), master);
        assert_ne!(counters(&node), before);
        cluster.restart("node-c");
        cluster.wait_for_members(3).await;
    });
}

fn broken_connections_are_made_again<R: TestRuntime>() {
    network::<R>().run(async |network| {
        let cluster = network.cluster(3).await;
        let master = cluster.assert_one_master();
        let node = cluster.node(&master.node.id);
        cluster.break_connections(&master.node.id);
        cluster.wait_until("the links are gone", || node.status().links == 0).await;
        cluster.wait_until("the links are back", || node.status().links == 2).await;
        cluster.wait_for_members(3).await;
    });
}

fn each_event_has_its_number_and_can_be_read_later<R: TestRuntime>() {
    network::<R>().run(async |network| {
        let cluster = network.cluster(3).await;
        let (node, first) = (cluster.node("node-b"), cluster.assert_one_master());
        let seen = node.past_events(0);
        let numbers = |events: &[PastEvent]| events.iter().map(|event| event.number).collect::<Vec<_>>();
        let last = seen.len() as u64;
        assert_eq!(numbers(&seen), (1..=last).collect::<Vec<_>>());
        assert!(seen.is_sorted_by_key(|event| event.at) && seen[0].at <= node.now(), "{seen:?}");
        assert!(seen.iter().any(|past| matches!(past.event, Event::MasterElected { .. })), "{seen:?}");
        // To read them takes none away from the first subscriber.
        assert_eq!(node.events().recv().await.unwrap(), seen[0].event);

        cluster.kill(&first.node.id);
        let next = node.wait_for_events(last).await.unwrap();
        assert_eq!(next[0].number, last + 1);
        node.leave().await.unwrap();
        let stopped = node.past_events(0).pop().unwrap();
        assert_eq!(stopped.event, Event::Stopped { reason: StopReason::Left });
        assert_eq!(node.wait_for_events(stopped.number - 1).await, Ok(vec![stopped.clone()]));
        assert_eq!(node.wait_for_events(stopped.number).await, Err(Stopped));
    });
}

fn a_whole_cluster_starts_again<R: TestRuntime>() {
    network::<R>().run(async |network| {
        let cluster = network.cluster(3).await;
        let first = cluster.assert_one_master();
        cluster.ids().iter().for_each(|id| cluster.kill(id));
        cluster.assert_no_master();
        cluster.advance(LEASE).await;
        cluster.assert_no_master();
        cluster.ids().iter().for_each(|id| cluster.restart(id));
        cluster.wait_for_members(3).await;
        assert!(cluster.assert_one_master().term > first.term, "the votes were kept");
    });
}

fn a_node_that_has_forgotten_joins_again<R: TestRuntime>() {
    network::<R>().run(async |network| {
        let cluster = network.cluster(3).await;
        cluster.ids().iter().for_each(|id| cluster.kill(id));
        cluster.ids().iter().for_each(|id| cluster.forget(id));
        cluster.ids().iter().for_each(|id| cluster.restart(id));
        cluster.wait_for_members(3).await;
        assert_eq!(cluster.assert_one_master().term.0, 1, "nobody knows the term from before");
    });
    let forgets = || network::<R>().run(async |network| network.cluster(1).await.forget("node-a"));
    assert_eq!(panic_of(forgets), "node-a runs: kill it before it forgets");
}

fn a_process_ends_with_its_service<R: TestRuntime>() {
    network::<R>().run(async |network| {
        let starts = Arc::new(AtomicUsize::new(0));
        let counted = starts.clone();
        let leaves = async move |node: TestNode| {
            counted.fetch_add(1, Ordering::Relaxed);
            // It ends when somebody lets the node leave.
            node.stopped().await;
        };
        let cluster = network.services(3, leaves).await;
        cluster.node("node-c").leave().await.unwrap();
        cluster.wait_for_members(2).await;
        assert_eq!(starts.load(Ordering::Relaxed), 3);
        cluster.restart("node-c");
        cluster.wait_for_members(3).await;
        assert_eq!(starts.load(Ordering::Relaxed), 4);
    });
}

fn only_the_first_nodes_vote<R: TestRuntime>() {
    network::<R>().voters(3).run(async |network| {
        let cluster = network.cluster(5).await;
        let votes = |id: &String| cluster.node(id).config().is_voter();
        assert_eq!(cluster.ids().iter().map(votes).collect::<Vec<_>>(), [true, true, true, false, false]);
        cluster.kill("node-d");
        cluster.wait_for_members(4).await;
    });
}

/// It looks at its lease once, and never again.
async fn careless<R: TestRuntime>(node: &TestNode) {
    let Ok(lease) = node.wait_until_master().await else { return };
    loop {
        node.record(lease.term());
        R::Runtime::sleep(STEP).await;
    }
}

fn work_without_a_lease_is_found<R: TestRuntime>() {
    let test = || {
        network::<R>().run(async |network| {
            let cluster = network.services(3, async |node: TestNode| careless::<R>(&node).await).await;
            let first = cluster.assert_one_master();
            cluster.partition([&first.node.id]);
            cluster.wait_for_new_master(first.term).await;
            cluster.advance(2 * LEASE).await;
        });
    };
    let found = panic_of(test);
    assert!(found.starts_with("a step of node-a in term 1, at "), "{found}");
    assert!(found.contains("after one of another master: of node-b in term 2, at "), "{found}");
}

fn two_masters_at_once_are_found<R: TestRuntime>() {
    // Each node is a cluster of its own.
    let alone = |id: &str, _| Config::single("test", id, format!("{id}:7000")).local();
    let found = panic_of(|| network::<R>().configure(alone).run(async |network| drop(network.cluster(2).await)));
    let expected = "several nodes have a valid lease at once: node-a in term 1, node-b in term 1";
    assert_eq!(found, expected);
}

fn a_wait_ends_with_what_each_node_says<R: TestRuntime>() {
    let test = || {
        network::<R>().patience(2 * LEASE).run(async |network| {
            let cluster = network.cluster(3).await;
            let first = cluster.assert_one_master();
            cluster.kill("node-a");
            cluster.power_off("node-b");
            cluster.wait_for_new_master(first.term).await;
        });
    };
    let said = panic_of(test);
    assert!(said.starts_with("waited in vain for 500ms: a node is the master of a term after 1\n"), "{said}");
    for line in ["node-a does not run: it was killed", "node-b does not run: it has lost its power", "no master: "] {
        assert!(said.contains(line), "{line:?} in {said}");
    }
}

fn a_run_has_a_limit<R: TestRuntime>() {
    let test = || {
        network::<R>().limit(LEASE).run(async |network| {
            let cluster = network.cluster(3).await;
            let _ = cluster.node("node-a").wait_for_members(4).await;
        });
    };
    assert_eq!(panic_of(test), "the test has not ended within 250ms; it waits for something in vain");
}

fn a_service_that_fails_fails_the_test<R: TestRuntime>() {
    let fails = async |node: TestNode| {
        if node.id() == "node-b" {
            return ExitCode::FAILURE;
        }
        node.stopped().await;
        ExitCode::SUCCESS
    };
    let found = panic_of(|| network::<R>().run(async |network| drop(network.services(3, fails).await)));
    assert_eq!(found, "the service of node-b has failed");
}

fn a_service_that_panics_fails_the_test<R: TestRuntime>() {
    let panics = async |node: TestNode| {
        assert_ne!(node.id(), "node-b", "a bug");
        node.stopped().await;
    };
    let found = panic_of(|| network::<R>().run(async |network| drop(network.services(3, panics).await)));
    assert!(found.contains("a bug"), "{found}");
}

fn an_unknown_node_is_named<R: TestRuntime>() {
    let found = panic_of(|| network::<R>().run(async |network| network.cluster(2).await.kill("node-x")));
    assert_eq!(found, "there is no node `node-x`; there are: node-a, node-b");
    let found = panic_of(|| {
        network::<R>().run(async |network| {
            let cluster = network.cluster(3).await;
            cluster.kill("node-a");
            assert!(!cluster.node("node-b").status().phase.eq(&Phase::Stopped));
            cluster.node("node-a");
        });
    });
    assert_eq!(found, "node-a does not run: it was killed");
}

fn a_network_has_one_cluster<R: TestRuntime>() {
    let found = panic_of(|| {
        network::<R>().run(async |network| {
            network.cluster(1).await;
            network.cluster(1).await;
        });
    });
    assert_eq!(found, "a network has one cluster; start a new network for another one");
}
