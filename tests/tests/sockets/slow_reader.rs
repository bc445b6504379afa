//! A member that does not read, on a real socket (G7, C6): it delays no other node, and nothing queues for it.

use std::time::Duration;

use bytes::Bytes;
use formation_core::{
    Config, ConfigBuilder, Limits, Timing,
    message::{MembersUpdate, Message},
};

use crate::{
    adapters::Adapter,
    support::{CLUSTER, ids, listen},
    wire_peer::WirePeer,
};

/// Together, the updates exceed the buffers of a connection. A few of them fit into one delta.
pub(crate) const UPDATES: u32 = 400;
pub(crate) const METADATA: usize = 16 << 10;

with_each_adapter!(c6_g7_a_member_that_stops_reading_delays_nobody);

/// Fast heartbeats, because the changes go out with them. The suspicion is slow, so that the stalled member is not marked as down.
pub(crate) fn long_suspicion(config: ConfigBuilder) -> ConfigBuilder {
    let [heartbeat_interval, suspect_after, down_after] =
        [Duration::from_millis(10), Duration::from_secs(100), Duration::from_secs(200)];
    config
        .timing(
            Timing::local()
                .with_heartbeat_interval(heartbeat_interval)
                .with_suspect_after(suspect_after)
                .with_down_after(down_after),
        )
        .limits(limits())
}

pub(crate) fn limits() -> Limits {
    Limits::new().with_metadata(METADATA)
}

/// Changes the metadata of this node many times. Each change is a new view.
pub(crate) async fn change_often<A: Adapter>(node: &A) {
    for number in 0..UPDATES {
        let metadata: Bytes = number.to_be_bytes().repeat(METADATA / 4).into();
        node.set_metadata(metadata.clone()).await;
        node.wait_for_view(|view| view.get(&node.node().id).is_some_and(|own| own.metadata == metadata)).await;
    }
}

async fn c6_g7_a_member_that_stops_reading_delays_nobody<A: Adapter>() {
    let (listener, seed) = listen();
    let master = A::start(long_suspicion(Config::single(CLUSTER, "master", seed.as_str())).build().unwrap(), listener);
    master.wait_for_master().await;
    let (_own_listener, own_address) = listen();
    let member = |id: &str, address: String| {
        long_suspicion(Config::builder(CLUSTER, id, address).seeds([seed.as_str()])).build().unwrap()
    };
    let mut stalled = WirePeer::dial(&seed, member("stalled", own_address)).await;
    stalled.join().await;

    let start = |id: &str| {
        let (listener, address) = listen();
        A::start(member(id, address), listener)
    };
    let busy = start("busy");
    change_often(&busy).await;
    let nodes = [master, busy, start("late"), start("later")];
    for node in &nodes {
        let view = node.wait_for_view(|view| view.len() == 5).await;
        assert_eq!(ids(&view), ["busy", "late", "later", "master", "stalled"]);
    }

    // The member reads again and gets what was in the buffers. All other updates were merged in the meantime.
    let latest = nodes[0].view().id();
    let mut received = 0;
    loop {
        if let Message::MembersUpdate(MembersUpdate::Delta { view_id, .. } | MembersUpdate::Page { view_id, .. }) =
            stalled.receive().await
        {
            received += 1;
            if view_id >= latest {
                break;
            }
        }
    }
    assert!(received < UPDATES, "the connection never stalled: all {received} updates were in its buffers");
}
