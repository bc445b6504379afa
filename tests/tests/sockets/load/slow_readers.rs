//! Members that never read.

use super::{CONNECTION, Heap, LoadedCluster, scaled, start};
use crate::{
    adapters::Adapter,
    slow_reader::{METADATA, UPDATES, change_often, limits, long_suspicion},
    support::listen,
    wire_peer::WirePeer,
};

with_each_adapter!(; alone: g7_members_that_never_read_cost_one_send_each);

/// The view of the cluster changes many times, while this many members never read. Returns the heap usage.
async fn heap_for_changes<A: Adapter>(slow: usize, cluster: &mut LoadedCluster<A>) -> usize {
    let heap = Heap::begin();
    let mut members = Vec::new();
    for number in 0..slow {
        let (listener, address) = listen();
        let config = cluster.member(&format!("slow-{number}"), &address).build().unwrap();
        // The voter with the lowest id is the master.
        let mut member = WirePeer::dial(&cluster.seeds[0], config).await;
        member.join().await;
        members.push((listener, member));
    }
    let (listener, address) = listen();
    let busy: A = start(cluster.member("busy", &address), listener, None);
    change_often(&busy).await;
    let peak = heap.peak();
    cluster.join(&format!("beside {slow} members that never read")).await;
    peak
}

async fn g7_members_that_never_read_cost_one_send_each<A: Adapter>() {
    let slow = scaled(50, 10);
    let without = {
        let mut cluster = LoadedCluster::<A>::form_as(long_suspicion).await;
        heap_for_changes(0, &mut cluster).await
    };
    let mut cluster = LoadedCluster::<A>::form_as(long_suspicion).await;
    let with = heap_for_changes(slow, &mut cluster).await;
    let (more, limit) = (with.saturating_sub(without), slow * (limits().send + CONNECTION));
    println!(
        "{slow} members that never read, {UPDATES} updates of {METADATA} bytes: heap +{} KiB instead of +{} KiB; this is \
         {} KiB more, and the limits allow {} KiB",
        with >> 10,
        without >> 10,
        more >> 10,
        limit >> 10
    );
    assert!(more <= limit, "unread updates queue up");
    cluster.keeps_its_master().await;
}
