//! Members that never read.

use super::{Besieged, CONNECTION, Heap, scaled, start};
use crate::{
    adapters::Adapter,
    slow_reader::{METADATA, UPDATES, change_often, limits, patient},
    support::listen,
    wire_peer::WirePeer,
};

with_each_adapter!(; alone: g7_members_that_never_read_cost_one_send_each);

/// The views of the cluster change again and again. Returns what that takes of the heap.
async fn changes<A: Adapter>(deaf: usize, cluster: &mut Besieged<A>) -> usize {
    let heap = Heap::begin();
    let mut members = Vec::new();
    for number in 0..deaf {
        let (listener, address) = listen();
        let config = cluster.member(&format!("deaf-{number}"), &address).build().unwrap();
        // The voter of the lowest id is the master.
        let mut member = WirePeer::dial(&cluster.seeds[0], config).await;
        member.join().await;
        members.push((listener, member));
    }
    let (listener, address) = listen();
    let busy: A = start(cluster.member("busy", &address), listener, None);
    change_often(&busy).await;
    let peak = heap.peak();
    cluster.join(&format!("beside {deaf} members that never read")).await;
    peak
}

async fn g7_members_that_never_read_cost_one_send_each<A: Adapter>() {
    let deaf = scaled(50, 10);
    let without = {
        let mut cluster = Besieged::<A>::form_as(patient).await;
        changes(0, &mut cluster).await
    };
    let mut cluster = Besieged::<A>::form_as(patient).await;
    let with = changes(deaf, &mut cluster).await;
    let (more, limit) = (with.saturating_sub(without), deaf * (limits().send + CONNECTION));
    println!(
        "{deaf} members that never read, {UPDATES} updates of {METADATA} bytes: heap +{} KiB instead of {} KiB, which is \
         {} KiB more, of {} KiB that the limits allow",
        with >> 10,
        without >> 10,
        more >> 10,
        limit >> 10
    );
    assert!(more <= limit, "what is not read queues");
    cluster.keeps_its_master().await;
}
