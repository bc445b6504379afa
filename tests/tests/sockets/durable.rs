//! The durable state of a node in its `state_dir` (E4, I9).

use std::{fs, net::TcpListener, path::Path};

use formation_core::{ConfigBuilder, Event};

use crate::{
    adapters::Adapter,
    support::{agreed_view, listen, log, voter},
};

with_each_adapter!(
    e4_a_restarted_cluster_continues_in_a_higher_term,
    i9_a_state_dir_belongs_to_one_node_until_it_has_left,
    e4_a_voter_with_failed_storage_reports_it_and_never_votes,
    i9_a_node_with_the_state_of_another_seed_list_cannot_start;
    // Tracing decides once per log line whether it is enabled, on the first thread that reaches it.
    alone: a_start_from_an_empty_state_dir_is_logged_once,
);

/// The voter with this number and its own directory.
fn durable(number: usize, seeds: &[String], dir: &Path) -> ConfigBuilder {
    voter(number, seeds).local().state_dir(dir.join(number.to_string()))
}

fn listen_at(address: &str) -> TcpListener {
    TcpListener::bind(address).unwrap()
}

async fn e4_a_restarted_cluster_continues_in_a_higher_term<A: Adapter>() {
    let dir = tempfile::tempdir().unwrap();
    let (listeners, seeds): (Vec<_>, Vec<_>) = (0..2).map(|_| listen()).unzip();
    let mut last = 0;
    let mut listeners = Some(listeners);
    for _ in 0..3 {
        let again = || seeds.iter().map(|address| listen_at(address)).collect();
        let start = |(number, listener)| A::start(durable(number, &seeds, dir.path()).build().unwrap(), listener);
        let nodes: Vec<A> = listeners.take().unwrap_or_else(again).into_iter().enumerate().map(start).collect();
        agreed_view(&nodes, 2).await;
        let (_, term) = nodes[0].wait_for_master().await;
        assert!(term.0 > last, "{term} comes after {last}");
        last = term.0;
        for node in nodes {
            node.leave().await;
        }
    }
}

async fn i9_a_state_dir_belongs_to_one_node_until_it_has_left<A: Adapter>() {
    let dir = tempfile::tempdir().unwrap();
    let (listener, address) = listen();
    let seeds = [address];
    let config = || durable(0, &seeds, dir.path()).build().unwrap();
    let node = A::start(config(), listener);
    node.wait_for_master().await;
    let error = A::try_start(config(), listen().0).err().map(|error| error.to_string());
    assert!(error.as_ref().is_some_and(|error| error.contains("is locked")), "{error:?}");
    node.leave().await;
    A::start(config(), listen_at(&seeds[0])).wait_for_master().await;
}

async fn e4_a_voter_with_failed_storage_reports_it_and_never_votes<A: Adapter>() {
    let dir = tempfile::tempdir().unwrap();
    let (mut listeners, seeds): (Vec<_>, Vec<_>) = (0..2).map(|_| listen()).unzip();
    let failing = A::start(durable(1, &seeds, dir.path()).build().unwrap(), listeners.remove(1));
    fs::remove_dir_all(dir.path().join("1")).unwrap();
    let mut events = failing.events();
    let candidate = A::start(durable(0, &seeds, dir.path()).build().unwrap(), listeners.remove(0));
    loop {
        match A::next(&mut events).await.expect("the node runs") {
            Event::PersistFailed => break,
            event => {
                assert!(!matches!(event, Event::MasterElected { .. }), "{event:?} with a vote that is not durable");
            }
        }
    }
    // Started again with a working disk, it votes.
    failing.leave().await;
    let repaired = A::start(durable(1, &seeds, dir.path()).build().unwrap(), listen_at(&seeds[1]));
    assert_eq!(repaired.wait_for_master().await.0.id, candidate.node().id);
}

async fn i9_a_node_with_the_state_of_another_seed_list_cannot_start<A: Adapter>() {
    let dir = tempfile::tempdir().unwrap();
    let ((listener, own), other) = (listen(), "127.0.0.1:1".to_owned());
    A::start(durable(0, std::slice::from_ref(&own), dir.path()).build().unwrap(), listener).leave().await;
    let seeds = [own.clone(), other.clone()];
    let error = A::try_start(durable(0, &seeds, dir.path()).build().unwrap(), listen_at(&own)).err();
    let error = error.map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains(&format!("with the seeds {own}, but now they are {other}, {own}")), "{error}");
    let changed = durable(0, &seeds, dir.path()).former_seeds([own.as_str()]);
    A::start(changed.build().unwrap(), listen_at(&own)).leave().await;
}

/// With a mistyped directory, a node has forgotten its votes. The log line shows this.
async fn a_start_from_an_empty_state_dir_is_logged_once<A: Adapter>() {
    let dir = tempfile::tempdir().unwrap();
    let (listener, address) = listen();
    let seeds = [address];
    let config = || durable(0, &seeds, dir.path()).build().unwrap();
    let path = config().state_dir().unwrap().to_string();
    let count_lines = |log: &str| {
        log.lines().filter(|line| line.contains(" INFO ") && line.contains(&path) && line.contains("node-0")).count()
    };
    let (node, log) = logged(|| A::start(config(), listener));
    assert_eq!(count_lines(&log), 1, "{log}");
    node.leave().await;
    let (node, log) = logged(|| A::start(config(), listen_at(&seeds[0])));
    assert_eq!(count_lines(&log), 0, "{log}");
    node.leave().await;
}

/// Calls `action`, and returns its result and what it logs on this thread.
fn logged<T>(action: impl FnOnce() -> T) -> (T, String) {
    let (subscriber, log) = log();
    let done = tracing::subscriber::with_default(subscriber, action);
    (done, log())
}
