//! A thundering herd: many nodes join at once.

use std::time::Instant;

use futures_util::{StreamExt, stream::FuturesUnordered};

use super::{LoadedCluster, VOTERS, scaled, start};
use crate::{
    adapters::Adapter,
    support::{agreed_view, listen},
};

with_each_adapter!(;
    alone: g5_a_thundering_herd_joins_and_keeps_the_master,
    g5_a_thundering_herd_on_tls_joins_and_keeps_the_master,
);

async fn g5_a_thundering_herd_joins_and_keeps_the_master<A: Adapter>() {
    herd_joins(LoadedCluster::<A>::form().await).await;
}

async fn g5_a_thundering_herd_on_tls_joins_and_keeps_the_master<A: Adapter>() {
    herd_joins(LoadedCluster::<A>::form_secured(|config| config).await).await;
}

/// 1,000 complete nodes join at once.
async fn herd_joins<A: Adapter>(mut cluster: LoadedCluster<A>) {
    let count = scaled(1_000, 100);
    let places: Vec<_> = (0..count).map(|_| listen()).collect();
    let begin = Instant::now();
    let mut joining = FuturesUnordered::new();
    for (number, (listener, address)) in places.into_iter().enumerate() {
        let node: A = start(cluster.member(&format!("one-{number:04}"), &address), listener, cluster.tls.as_ref());
        joining.push(async move {
            let (started, id) = (Instant::now(), node.node().id.clone());
            node.wait_for_view(|view| view.get(&id).is_some()).await;
            let joined = started.elapsed();
            node.wait_for_members(count + VOTERS).await;
            (node, joined, started.elapsed())
        });
    }
    let started = begin.elapsed();
    let mut herd = Vec::new();
    while let Some((node, joined, whole)) = joining.next().await {
        cluster.times.add("joined", joined);
        cluster.times.add("until it knew all", whole);
        herd.push(node);
    }
    herd.append(&mut cluster.voters);
    agreed_view(&herd, count + VOTERS).await;
    let agreed = begin.elapsed();
    cluster.voters = herd.split_off(count);
    drop(herd);

    println!("{count} started within {started:?}, and agreed after {agreed:?}");
    cluster.keeps_its_master().await;
}
