//! What depends on tokio alone. The behaviour of a cluster is tested with the simulator and by the conformance suite.
#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use std::{future::Future, time::Duration};

use formation_tokio::{Cluster, Config, Event, Skipped, StopReason, Stopped};
use tokio::{net::TcpListener, runtime::Handle, task::yield_now, time::timeout};

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), what).await.expect("within 20 s")
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

async fn single() -> Cluster {
    let (listener, address) = listen().await;
    Cluster::start(Config::single("test", "a", address).local().build().unwrap(), listener).unwrap()
}

async fn three() -> Vec<Cluster> {
    let listeners = [listen().await, listen().await, listen().await];
    let seeds = listeners.each_ref().map(|(_, address)| address.clone());
    let start = |((listener, address), id)| {
        let config = Config::builder("test", id, address).seeds(seeds.clone()).local().build().unwrap();
        Cluster::start(config, listener).unwrap()
    };
    listeners.into_iter().zip(["a", "b", "c"]).map(start).collect()
}

/// Waits until every other task of this runtime has ended.
async fn alone() {
    soon(async {
        while Handle::current().metrics().num_alive_tasks() > 0 {
            yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_form_over_tcp() {
    let nodes = three().await;
    let mut views = Vec::new();
    for node in &nodes {
        views.push(soon(node.wait_for_members(3)).await.unwrap());
        let master = soon(node.wait_for_master()).await.unwrap();
        assert_eq!(&master.node, nodes[0].node());
        assert_eq!(node.leadership().map(|it| it.term), (node.node() == &master.node).then_some(master.term));
    }
    assert!(views.iter().all(|view| view == &views[0]));
}

#[tokio::test]
async fn dropping_a_cluster_leaves_no_task_behind() {
    let nodes = three().await;
    for node in &nodes {
        soon(node.wait_for_members(3)).await.unwrap();
    }
    let mut watch = nodes[0].watch();
    let mut events = nodes[0].events();
    drop(nodes);
    alone().await;
    // Whatever is unread may be read; then comes the end.
    while watch.changed().await.is_ok() {}
    while events.next().await.is_some() {}
}

#[tokio::test]
async fn leaving_ends_every_task_and_frees_the_port() {
    let (listener, address) = listen().await;
    let cluster = Cluster::start(Config::single("test", "a", address.clone()).build().unwrap(), listener).unwrap();
    soon(cluster.wait_for_master()).await.unwrap();
    soon(cluster.leave()).await.unwrap();
    alone().await;
    TcpListener::bind(address).await.unwrap();
    assert_eq!(cluster.leave().await, Err(Stopped));
    let mut events = cluster.events();
    let mut last = None;
    while let Some(event) = events.next().await {
        last = event.ok();
    }
    assert!(matches!(last, Some(Event::Stopped { reason: StopReason::Left })));
}

#[tokio::test]
async fn the_first_subscriber_misses_nothing_and_later_ones_start_where_they_come_in() {
    let cluster = single().await;
    soon(cluster.wait_for_members(1)).await.unwrap();
    let (mut first, mut second) = (cluster.events(), cluster.events());
    soon(cluster.set_metadata("new".into())).await.unwrap();
    let elected = soon(async {
        loop {
            if let Some(Ok(Event::MasterElected { master, .. })) = first.next().await {
                break master;
            }
        }
    });
    assert_eq!(&elected.await, cluster.node());
    assert!(matches!(soon(second.next()).await, Some(Ok(Event::ViewChanged { .. }))));
}

#[tokio::test]
async fn a_slow_subscriber_is_told_how_many_events_it_missed() {
    let cluster = single().await;
    soon(cluster.wait_for_members(1)).await.unwrap();
    let (_first, mut slow) = (cluster.events(), cluster.events());
    let sent = formation_tokio::EVENT_BUFFER as u64 + 7;
    for count in 0..sent {
        cluster.set_metadata(count.to_string().into()).await.unwrap();
    }
    let Some(Err(Skipped(missed))) = slow.next().await else { panic!("nothing was skipped") };
    drop(cluster);
    let mut seen = 0;
    while let Some(event) = soon(slow.next()).await {
        event.unwrap();
        seen += 1;
    }
    assert_eq!((missed, seen), (7, sent - 7));
}
