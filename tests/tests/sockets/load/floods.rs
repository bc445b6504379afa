//! Members that send as fast as they can.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use ::tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinSet};
use bytes::{BufMut, BytesMut};
use formation_core::{Config, message::Message};
use formation_tests::Peer;

use super::{LoadedCluster, scaled};
use crate::adapters::Adapter;

with_each_adapter!(; alone: g7_a_flood_on_some_links_delays_nobody);

/// The number of links that carry a flood.
const FLOODS: usize = 3;

/// Establishes a link, and sends pings until it is closed. Then it connects again. `written` counts the bytes.
async fn flood(config: Config, address: String, written: Arc<AtomicU64>) {
    let ping = postcard::to_allocvec(&Message::Ping).unwrap();
    let mut pings = BytesMut::new();
    while pings.len() < 64 << 10 {
        pings.put_u32(ping.len() as u32);
        pings.put_slice(&ping);
    }
    loop {
        let mut peer = Peer::of(&config, config.id().as_str(), config.address().as_str());
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let handshake = [peer.hello(), peer.joining()].concat();
        // The node may close the connection at any time.
        if stream.write_all(&handshake).await.is_ok() {
            while stream.write_all(&pings).await.is_ok() {
                written.fetch_add(pings.len() as u64, Ordering::Relaxed);
            }
        }
    }
}

async fn g7_a_flood_on_some_links_delays_nobody<A: Adapter>() {
    let mut cluster = LoadedCluster::<A>::form().await;
    let written = Arc::new(AtomicU64::new(0));
    let mut floods = JoinSet::new();
    for number in 0..FLOODS {
        let config = cluster.member(&format!("flood-{number}"), &format!("127.0.0.1:{}", 1 + number));
        // The voter with the lowest id is the master.
        floods.spawn(flood(config.build().unwrap(), cluster.seeds[0].clone(), written.clone()));
    }
    // The node handles only what `Limits::messages` allows.
    while written.load(Ordering::Relaxed) < scaled(256 << 20, 8 << 20) as u64 {
        cluster.join("beside floods").await;
    }
    floods.shutdown().await;
    cluster.keeps_its_master().await;
}
