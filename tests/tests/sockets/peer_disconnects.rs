//! A peer that disconnects is not an error of the adapter.

use std::time::Duration;

use formation_core::{Config, Event, Timing};

use crate::{
    adapters::Adapter,
    support::{self, CLUSTER, listen},
    wire_peer::WirePeer,
};

/// In most rounds, a heartbeat is due when the end of the connection is noticed.
const ROUNDS: usize = 200;

with_each_adapter!(; alone: a_send_to_a_closed_connection_logs_no_error);

async fn a_send_to_a_closed_connection_logs_no_error<A: Adapter>() {
    let (subscriber, log) = support::log();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let timing = Timing::local().with_heartbeat_interval(Duration::from_millis(1));
    let (listener, address) = listen();
    let node = A::start(Config::single(CLUSTER, "master", address.as_str()).timing(timing).build().unwrap(), listener);
    node.wait_for_master().await;
    let mut events = node.events();
    for round in 0..ROUNDS {
        let (_own_listener, own_address) = listen();
        let config = Config::builder(CLUSTER, format!("peer-{round}"), own_address).seeds([address.as_str()]);
        let mut peer = WirePeer::dial(&address, config.build().unwrap()).await;
        peer.join().await;
        drop(peer);
        while !matches!(A::next(&mut events).await.expect("the node runs"), Event::Unlinked { .. }) {}
    }
    let log = log();
    assert!(log.contains("view changed") && !log.contains("ERROR"), "{log}");
}
