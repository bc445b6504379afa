//! G7 on a real socket: a member that does not read delays nobody, and nothing queues for it.

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

/// Together more than the buffers of a connection hold; a few of them fit into one delta.
pub(crate) const UPDATES: u32 = 400;
pub(crate) const METADATA: usize = 16 << 10;

with_each_adapter!(c6_g7_a_member_that_stops_reading_delays_nobody);

/// Heartbeats so fast that many changes are told, but nobody waits for the stalled member to be taken for down.
pub(crate) fn patient(config: ConfigBuilder) -> ConfigBuilder {
    let (suspect_after, down_after) = (Duration::from_secs(100), Duration::from_secs(200));
    config.timing(Timing { suspect_after, down_after, ..Timing::local() }).limits(limits())
}

pub(crate) fn limits() -> Limits {
    Limits { metadata: METADATA, ..Limits::default() }
}

/// Each change of this node's metadata is a view of its own.
pub(crate) async fn change_often<A: Adapter>(node: &A) {
    for number in 0..UPDATES {
        let metadata: Bytes = number.to_be_bytes().repeat(METADATA / 4).into();
        node.set_metadata(metadata.clone()).await;
        node.wait_for_view(|view| view.get(&node.node().id).is_some_and(|own| own.metadata == metadata)).await;
    }
}

async fn c6_g7_a_member_that_stops_reading_delays_nobody<A: Adapter>() {
    let (listener, seed) = listen();
    let master = A::start(patient(Config::single(CLUSTER, "master", seed.as_str())).build().unwrap(), listener);
    master.wait_for_master().await;
    let (_own_listener, own_address) = listen();
    let member = |id: &str, address: String| {
        patient(Config::builder(CLUSTER, id, address).seeds([seed.as_str()])).build().unwrap()
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

    // It reads again, and finds what the connection still held; all else was merged meanwhile.
    let latest = nodes[0].view().id();
    let mut heard = 0;
    loop {
        if let Message::MembersUpdate(MembersUpdate::Delta { view_id, .. } | MembersUpdate::Page { view_id, .. }) =
            stalled.hear().await
        {
            heard += 1;
            if view_id >= latest {
                break;
            }
        }
    }
    assert!(heard < UPDATES, "all {heard} updates were in the connection's buffers: it never stalled");
}
