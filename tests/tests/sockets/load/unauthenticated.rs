//! Unauthenticated peers: connections that never finish a handshake, connections with garbage, and claims of voters' addresses.

use std::time::Duration;

use ::tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::{JoinSet, yield_now},
    time::{interval, sleep},
};
use formation_core::{Config, ConfigBuilder, Incarnation, Limits};
use formation_tests::{Peer, Rng};

use super::{Heap, LoadedCluster, VOTERS, allowed_for_pending, scaled};
use crate::{
    adapters::Adapter,
    support::{CLUSTER, id},
};

/// The heap usage of one unauthenticated peer of this test itself.
const PEER_HEAP: usize = 2 << 10;
/// How many connections may be pending at a voter with unfinished handshakes.
const PENDING: usize = 64;
/// The time until a closed peer connects again. In this time, as many new peers connect as were closed.
const RECONNECT: Duration = Duration::from_secs(1);
/// The time between the joins of two correct nodes.
const JOIN_INTERVAL: Duration = Duration::from_millis(100);
/// The time between two short connections: 10,000 connections per minute.
const CONNECT_INTERVAL: Duration = Duration::from_millis(6);

with_each_adapter!(;
    alone: g7_h11_claims_of_voters_addresses_delay_nobody,
    g7_unfinished_handshakes_delay_nobody,
    g7_unfinished_handshakes_with_a_key_delay_nobody,
    g7_unfinished_handshakes_on_tls_delay_nobody,
    g7_garbage_costs_only_its_own_connection,
);

/// Fewer connections may be pending than there are unfinished handshakes.
fn few_pending(config: ConfigBuilder) -> ConfigBuilder {
    config.limits(Limits::new().with_pending_connections(PENDING))
}

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
    run_unfinished_handshakes(LoadedCluster::<A>::form_as(few_pending).await, &hello(&[])).await;
}

/// An unauthenticated peer may even send a whole `Hello`.
async fn g7_unfinished_handshakes_with_a_key_delay_nobody<A: Adapter>() {
    const KEY: &[u8; 32] = b"a key of thirty-two bytes, so so";
    let keyed = |config: ConfigBuilder| few_pending(config).key(KEY);
    run_unfinished_handshakes(LoadedCluster::<A>::form_as(keyed).await, &[&hello(KEY)[..], &[0]].concat()).await;
}

async fn g7_unfinished_handshakes_on_tls_delay_nobody<A: Adapter>() {
    // The start of a TLS record with the start of a handshake message.
    let handshake = [&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3][..], &[7; 32]].concat();
    run_unfinished_handshakes(LoadedCluster::<A>::form_secured(few_pending).await, &handshake).await;
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
    let full = |node: &A| node.status().pending_connections == PENDING;
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
    let limit =
        VOTERS * allowed_for_pending(&Limits::new().with_pending_connections(PENDING)) + count * PEER_HEAP + join_heap;
    heap.stays_below(limit, count, &format!("{count} unfinished handshakes at {VOTERS} voters"));
    cluster.keeps_its_master().await;
}

/// Sends this until the connection is closed.
async fn send_to_end(address: String, bytes: Vec<u8>) {
    let mut stream = TcpStream::connect(&address).await.unwrap();
    if stream.write_all(&bytes).await.is_ok() {
        let _ = stream.shutdown().await;
        read_to_end(&mut stream).await;
    }
}

/// 10,000 connections per minute, with garbage of up to 4 KiB.
async fn g7_garbage_costs_only_its_own_connection<A: Adapter>() {
    run_short_connections(LoadedCluster::<A>::form().await, "garbage", |number, _| {
        let mut rng = Rng::new(number as u64);
        (0..1 + rng.below(4_096)).map(|_| rng.below(256) as u8).collect()
    })
    .await;
}

/// 10,000 connections per minute, each of which claims the id and the address of a voter, and reports that it is the master.
async fn g7_h11_claims_of_voters_addresses_delay_nobody<A: Adapter>() {
    run_short_connections(LoadedCluster::<A>::form().await, "claims", |number, seeds| {
        // The connection leads to another voter than the claimed one.
        let victim = (number + 1 + number / VOTERS % (VOTERS - 1)) % VOTERS;
        let config = Config::builder(CLUSTER, id(victim), seeds[victim].as_str()).seeds(seeds).build().unwrap();
        let mut peer = Peer::of(&config, config.id().as_str(), config.address().as_str());
        peer.node.incarnation = Incarnation(u64::MAX - number as u64);
        [peer.hello(), peer.master(1 << 32)].concat()
    })
    .await;
}

/// Many short connections while honest nodes join. `bytes`: what the connection with this number sends.
async fn run_short_connections<A: Adapter>(
    mut cluster: LoadedCluster<A>,
    what: &str,
    bytes: impl Fn(usize, &[String]) -> Vec<u8> + Send + 'static,
) {
    let join_heap = cluster.measure_join(&format!("without {what}")).await;
    let (count, seeds) = (scaled(10_000, 500), cluster.seeds.clone());
    let (heap, mut most) = (Heap::begin(), 0);
    let flood = ::tokio::spawn(async move {
        let mut peers = JoinSet::new();
        let mut due = interval(CONNECT_INTERVAL);
        for number in 0..count {
            due.tick().await;
            peers.spawn(send_to_end(seeds[number % VOTERS].clone(), bytes(number, &seeds)));
            while let Some(ended) = peers.try_join_next() {
                ended.unwrap();
            }
            most = most.max(peers.len());
        }
        peers.join_all().await;
        most
    });
    let mut due = interval(JOIN_INTERVAL);
    while !flood.is_finished() {
        due.tick().await;
        cluster.join(&format!("beside {what}")).await;
    }
    let most = flood.await.unwrap();
    let limit = VOTERS * allowed_for_pending(&Limits::new().with_pending_connections(PENDING)) + join_heap;
    heap.stays_below(limit, most.max(1), &format!("{count} connections with {what}"));
    cluster.keeps_its_master().await;
}
