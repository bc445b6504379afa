//! Whoever is no node of the cluster: connections on which nobody finishes a handshake, and garbage.

use std::time::Duration;

use ::tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::{JoinSet, yield_now},
    time::{interval, sleep},
};
use formation_core::{Config, ConfigBuilder, Limits};
use formation_tests::{Peer, Rng};

use super::{Besieged, Heap, VOTERS, allowed, scaled};
use crate::{adapters::Adapter, support::CLUSTER};

/// What a stranger of this test takes of the heap itself.
const STRANGER: usize = 2 << 10;
/// Until a stranger that was closed is back: so many new ones come in that time as are not let wait.
const BACK: Duration = Duration::from_secs(1);
/// Between two honest nodes that join.
const HONEST: Duration = Duration::from_millis(100);
/// Between two connections with garbage, which makes 10,000 in a minute.
const GARBAGE: Duration = Duration::from_millis(6);

with_each_adapter!(;
    alone: g7_unfinished_handshakes_delay_nobody,
    g7_unfinished_handshakes_with_a_key_delay_nobody,
    g7_unfinished_handshakes_on_tls_delay_nobody,
    g7_garbage_costs_only_its_own_connection,
);

async fn listen_to_the_end(stream: &mut TcpStream) {
    while stream.read(&mut [0; 64]).await.is_ok_and(|len| len > 0) {}
}

/// Says a part of this, or nothing, until it is closed; and comes back.
async fn never_finishes(number: usize, address: String, words: Vec<u8>) {
    loop {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let said = stream.write_all(&words[..number % words.len()]).await;
        // Closed it may be at any moment.
        if said.is_ok() {
            listen_to_the_end(&mut stream).await;
        }
        sleep(BACK).await;
    }
}

async fn g7_unfinished_handshakes_delay_nobody<A: Adapter>() {
    unfinished(Besieged::<A>::form().await, &hello(&[])).await;
}

/// A stranger may even say a whole hello, as anybody can.
async fn g7_unfinished_handshakes_with_a_key_delay_nobody<A: Adapter>() {
    const KEY: &[u8; 32] = b"a key of thirty-two bytes, so so";
    let keyed = |config: ConfigBuilder| config.key(KEY);
    unfinished(Besieged::<A>::form_as(keyed).await, &[&hello(KEY)[..], &[0]].concat()).await;
}

async fn g7_unfinished_handshakes_on_tls_delay_nobody<A: Adapter>() {
    // A record, and in it a message of the handshake, that go on.
    let words = [&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3][..], &[7; 32]].concat();
    unfinished(Besieged::<A>::form_secured().await, &words).await;
}

/// What a node of the cluster says first.
fn hello(key: &[u8]) -> Vec<u8> {
    let config = Config::builder(CLUSTER, "stranger", "127.0.0.1:1").seeds(["127.0.0.1:2"]).build().unwrap();
    let peer = Peer::of(&config, "stranger", "127.0.0.1:1");
    let mut peer = if key.is_empty() { peer } else { peer.holding(key) };
    peer.hello().to_vec()
}

/// 500 at each voter.
async fn unfinished<A: Adapter>(mut cluster: Besieged<A>, words: &[u8]) {
    let honest = cluster.weigh_join("without strangers").await;
    let count = VOTERS * scaled(500, 100);
    let heap = Heap::begin();
    let mut strangers = JoinSet::new();
    for number in 0..count {
        strangers.spawn(never_finishes(number, cluster.seeds[number % VOTERS].clone(), words.to_vec()));
    }
    let full = |node: &A| node.status().pending_connections == Limits::default().pending_connections;
    while !cluster.voters.iter().any(full) {
        yield_now().await;
    }
    let mut due = interval(HONEST);
    for _ in 0..scaled(200, 20) {
        due.tick().await;
        cluster.join("beside unfinished handshakes").await;
    }
    assert!(strangers.try_join_next().is_none(), "a stranger has given up");
    strangers.shutdown().await;
    let limit = VOTERS * allowed(&Limits::default()) + count * STRANGER + honest;
    heap.stays_below(limit, &format!("{count} unfinished handshakes at {VOTERS} voters"));
    cluster.keeps_its_master().await;
}

/// Says what is no frame, until it is closed.
async fn raves(number: usize, address: String) {
    let mut rng = Rng::new(number as u64);
    let garbage: Vec<u8> = (0..1 + rng.below(4_096)).map(|_| rng.below(256) as u8).collect();
    let mut stream = TcpStream::connect(&address).await.unwrap();
    if stream.write_all(&garbage).await.is_ok() {
        let _ = stream.shutdown().await;
        listen_to_the_end(&mut stream).await;
    }
}

/// 10,000 in a minute.
async fn g7_garbage_costs_only_its_own_connection<A: Adapter>() {
    let mut cluster = Besieged::<A>::form().await;
    let honest = cluster.weigh_join("without garbage").await;
    let (count, seeds) = (scaled(10_000, 500), cluster.seeds.clone());
    let heap = Heap::begin();
    let garbage = ::tokio::spawn(async move {
        let mut strangers = JoinSet::new();
        let mut due = interval(GARBAGE);
        for number in 0..count {
            due.tick().await;
            strangers.spawn(raves(number, seeds[number % VOTERS].clone()));
            while let Some(ended) = strangers.try_join_next() {
                ended.unwrap();
            }
        }
        strangers.join_all().await;
    });
    let mut due = interval(HONEST);
    while !garbage.is_finished() {
        due.tick().await;
        cluster.join("beside garbage").await;
    }
    garbage.await.unwrap();
    let limit = VOTERS * allowed(&Limits::default()) + honest;
    heap.stays_below(limit, &format!("{count} connections with garbage"));
    cluster.keeps_its_master().await;
}
