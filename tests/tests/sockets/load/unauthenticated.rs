//! Unauthenticated peers: connections that never finish a handshake, and connections with garbage.

use std::time::Duration;

use ::tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::{JoinSet, yield_now},
    time::{interval, sleep},
};
use formation_core::{Config, ConfigBuilder, Limits};
use formation_tests::{Peer, Rng};

use super::{Heap, LoadedCluster, VOTERS, allowed_for_pending, scaled};
use crate::{adapters::Adapter, support::CLUSTER};

/// The heap usage of one unauthenticated peer of this test itself.
const PEER_HEAP: usize = 2 << 10;
/// The time until a closed peer connects again. In this time, as many new peers connect as were closed.
const RECONNECT: Duration = Duration::from_secs(1);
/// The time between the joins of two correct nodes.
const JOIN_INTERVAL: Duration = Duration::from_millis(100);
/// The time between two connections with garbage: 10,000 connections per minute.
const GARBAGE_INTERVAL: Duration = Duration::from_millis(6);

with_each_adapter!(;
    alone: g7_unfinished_handshakes_delay_nobody,
    g7_unfinished_handshakes_with_a_key_delay_nobody,
    g7_unfinished_handshakes_on_tls_delay_nobody,
    g7_garbage_costs_only_its_own_connection,
);

async fn read_to_end(stream: &mut TcpStream) {
    while stream.read(&mut [0; 64]).await.is_ok_and(|len| len > 0) {}
}

/// Sends a part of the handshake, or nothing, until the connection is closed. Then it connects again.
async fn never_finishes(number: usize, address: String, handshake: Vec<u8>) {
    loop {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let written = stream.write_all(&handshake[..number % handshake.len()]).await;
        // The node may close the connection at any time.
        if written.is_ok() {
            read_to_end(&mut stream).await;
        }
        sleep(RECONNECT).await;
    }
}

async fn g7_unfinished_handshakes_delay_nobody<A: Adapter>() {
    run_unfinished_handshakes(LoadedCluster::<A>::form().await, &hello(&[])).await;
}

/// An unauthenticated peer may even send a whole `Hello`.
async fn g7_unfinished_handshakes_with_a_key_delay_nobody<A: Adapter>() {
    const KEY: &[u8; 32] = b"a key of thirty-two bytes, so so";
    let keyed = |config: ConfigBuilder| config.key(KEY);
    run_unfinished_handshakes(LoadedCluster::<A>::form_as(keyed).await, &[&hello(KEY)[..], &[0]].concat()).await;
}

async fn g7_unfinished_handshakes_on_tls_delay_nobody<A: Adapter>() {
    // The start of a TLS record with the start of a handshake message.
    let handshake = [&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3][..], &[7; 32]].concat();
    run_unfinished_handshakes(LoadedCluster::<A>::form_secured().await, &handshake).await;
}

/// The first frame of a node of the cluster.
fn hello(key: &[u8]) -> Vec<u8> {
    let config = Config::builder(CLUSTER, "outsider", "127.0.0.1:1").seeds(["127.0.0.1:2"]).build().unwrap();
    let peer = Peer::of(&config, "outsider", "127.0.0.1:1");
    let mut peer = if key.is_empty() { peer } else { peer.holding(key) };
    peer.hello().to_vec()
}

/// 500 unfinished handshakes at each voter.
async fn run_unfinished_handshakes<A: Adapter>(mut cluster: LoadedCluster<A>, handshake: &[u8]) {
    let join_heap = cluster.measure_join("without unauthenticated peers").await;
    let count = VOTERS * scaled(500, 100);
    let heap = Heap::begin();
    let mut peers = JoinSet::new();
    for number in 0..count {
        peers.spawn(never_finishes(number, cluster.seeds[number % VOTERS].clone(), handshake.to_vec()));
    }
    let full = |node: &A| node.status().pending_connections == Limits::default().pending_connections;
    while !cluster.voters.iter().any(full) {
        yield_now().await;
    }
    let mut due = interval(JOIN_INTERVAL);
    for _ in 0..scaled(200, 20) {
        due.tick().await;
        cluster.join("beside unfinished handshakes").await;
    }
    assert!(peers.try_join_next().is_none(), "an unauthenticated peer has given up");
    peers.shutdown().await;
    let limit = VOTERS * allowed_for_pending(&Limits::default()) + count * PEER_HEAP + join_heap;
    heap.stays_below(limit, &format!("{count} unfinished handshakes at {VOTERS} voters"));
    cluster.keeps_its_master().await;
}

/// Sends garbage until the connection is closed.
async fn send_garbage(number: usize, address: String) {
    let mut rng = Rng::new(number as u64);
    let garbage: Vec<u8> = (0..1 + rng.below(4_096)).map(|_| rng.below(256) as u8).collect();
    let mut stream = TcpStream::connect(&address).await.unwrap();
    if stream.write_all(&garbage).await.is_ok() {
        let _ = stream.shutdown().await;
        read_to_end(&mut stream).await;
    }
}

/// 10,000 connections per minute.
async fn g7_garbage_costs_only_its_own_connection<A: Adapter>() {
    let mut cluster = LoadedCluster::<A>::form().await;
    let join_heap = cluster.measure_join("without garbage").await;
    let (count, seeds) = (scaled(10_000, 500), cluster.seeds.clone());
    let heap = Heap::begin();
    let garbage = ::tokio::spawn(async move {
        let mut peers = JoinSet::new();
        let mut due = interval(GARBAGE_INTERVAL);
        for number in 0..count {
            due.tick().await;
            peers.spawn(send_garbage(number, seeds[number % VOTERS].clone()));
            while let Some(ended) = peers.try_join_next() {
                ended.unwrap();
            }
        }
        peers.join_all().await;
    });
    let mut due = interval(JOIN_INTERVAL);
    while !garbage.is_finished() {
        due.tick().await;
        cluster.join("beside garbage").await;
    }
    garbage.await.unwrap();
    let limit = VOTERS * allowed_for_pending(&Limits::default()) + join_heap;
    heap.stays_below(limit, &format!("{count} connections with garbage"));
    cluster.keeps_its_master().await;
}
