//! The sharded work in memory and in virtual time, under a fault that processes cannot play: a worker is cut off, and reaches the store.

use std::{sync::Arc, time::Duration};

use formation_recipes::Store;
use formation_testing::{TestNode, tokio::Network};
use formation_tokio::{Tags, ViewId};

use sharding::{Shards, serve};

#[expect(dead_code, reason = "its `main` runs in no test")]
#[path = "../../src/bin/sharding.rs"]
mod sharding;

const SHARDS: usize = 32;

#[test]
fn the_shards_of_a_worker_that_is_cut_off_have_new_owners() {
    let workers = Tags::new([("role", "worker")]).unwrap().to_bytes();
    Network::new(7).voters(3).configure(move |_, builder| builder.metadata(workers.clone())).run(async |network| {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<Store<Shards>> = Arc::new(Store::new(dir.path().join("shards.json")));
        let of_service = store.clone();
        let service = async move |node: TestNode| serve(&node, &of_service, std::future::pending::<()>()).await;
        let cluster = network.services(4, service).await;

        // The oldest view with which a shard was written last, once all of them were written.
        let oldest = async || {
            let shards = store.change(|shards| shards.clone()).await.unwrap();
            (shards.len() == SHARDS).then(|| shards.into_values().min()).flatten()
        };
        let written_with = async |view: ViewId| oldest().await.filter(|oldest| *oldest >= view);
        let whole = cluster.wait_for_members(4).await;
        cluster.wait_for("writes to all shards in the view of all", async || written_with(whole.id()).await).await;

        cluster.partition(["node-d"]);
        let others = cluster.node("node-a");
        let without =
            cluster.wait_for("a view without it", async || Some(others.view()).filter(|it| it.len() == 3)).await;
        cluster.wait_for("writes of the new owners", async || written_with(without.id()).await).await;
        // It is still at work, with its last view: nobody tells it that it has no shard any more.
        assert!(cluster.node("node-d").view().id() < without.id());
        for _ in 0..20 {
            cluster.advance(Duration::from_millis(50)).await;
            assert!(written_with(without.id()).await.is_some(), "a late write was not refused");
        }

        cluster.heal();
        let again = cluster.wait_for_members(4).await;
        cluster.wait_for("writes to all shards", async || written_with(again.id()).await).await;
    });
}
