//! The web service as a whole, in memory and in virtual time: what its processes do, and faults that processes cannot play.

use std::sync::Arc;

use formation_recipes::Store;
use formation_testing::{
    TestNode,
    tokio::{Network, TestCluster},
};
use formation_tokio::{Member, Term, Timing};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::watch,
};

use web_service::{Shop, serve};

#[expect(dead_code, reason = "its `main` runs in no test")]
#[path = "../../src/bin/web_service.rs"]
mod web_service;

const PORT: u16 = 80;

/// Three replicas, and their database.
struct Shops {
    cluster: TestCluster,
    shop: Arc<Store<Shop>>,
    /// The id of the replica that is told to end.
    terminated: watch::Sender<String>,
    _dir: TempDir,
}

impl Shops {
    async fn start(network: &Network) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let shop = Arc::new(Store::new(dir.path().join("shop.json")));
        let (terminated, signal) = watch::channel(String::new());
        let shop_of_service = shop.clone();
        let service = async move |node: TestNode| {
            let mut signal = signal.clone();
            let terminated = signal.wait_for(|id| id == node.id());
            serve(&node, node.listen(PORT)?, shop_of_service.clone(), terminated).await
        };
        Self { cluster: network.services(3, service).await, shop, terminated, _dir: dir }
    }

    /// Sends a request to a replica, from the same machine, and returns the answer.
    async fn ask(&self, id: &str, request: &str, body: &str) -> String {
        let mut connection = self.cluster.node(id).connect(&format!("{id}:{PORT}")).await.unwrap();
        let length = body.len();
        let request =
            format!("{request} HTTP/1.1\r\nHost: {id}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn order(&self, id: &str, what: &str) {
        let answer = self.ask(id, "POST /orders", what).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with(&format!("you get {what}\n")), "{answer}");
    }

    async fn shipped(&self) -> Vec<(Term, String)> {
        self.shop.change(|shop| shop.shipped.clone()).await.unwrap()
    }

    /// Waits until this order is shipped, and returns the term.
    async fn wait_until_shipped(&self, what: &str) -> Term {
        let is_it = |(term, shipped): (Term, String)| (shipped == what).then_some(term);
        let find = async || self.shipped().await.into_iter().find_map(is_it);
        self.cluster.wait_for(what, find).await
    }
}

#[test]
fn each_order_is_shipped_once_by_one_master_after_the_other() {
    Network::new(7).run(async |network| {
        let shops = Shops::start(network).await;
        let first = shops.cluster.assert_one_master();
        shops.order("node-c", "tea").await;
        assert_eq!(shops.wait_until_shipped("tea").await, first.term);

        shops.cluster.kill(&first.node.id);
        shops.order("node-c", "milk").await;
        let next = shops.wait_until_shipped("milk").await;
        assert!(next > first.term);
        shops.cluster.restart(&first.node.id);
        shops.cluster.wait_for_members(3).await;
        shops.order(first.node.id.as_str(), "sugar").await;
        shops.wait_until_shipped("sugar").await;
        let shipped = shops.shipped().await.into_iter().map(|(_, what)| what);
        assert_eq!(shipped.collect::<Vec<_>>(), ["tea", "milk", "sugar"]);

        // A write of the first master that arrives only now.
        let late = shops.shop.change(move |shop| shop.ship(first.term)).await.unwrap();
        assert!(late.is_err(), "{late:?}");
    });
}

#[test]
fn a_master_that_is_cut_off_ships_nothing_and_says_why() {
    Network::new(7).run(async |network| {
        let shops = Shops::start(network).await;
        let first = shops.cluster.assert_one_master();
        let id = first.node.id.as_str();
        shops.cluster.partition([id]);
        let next = shops.cluster.wait_for_new_master(first.term).await;
        // It still reaches its database, and takes orders.
        shops.order(id, "tea").await;
        assert_eq!(shops.wait_until_shipped("tea").await, next.term);
        let page = shops.ask(id, "GET /formation/cluster", "").await;
        assert!(page.contains("1 of 3 voters reachable"), "{page}");
        shops.cluster.heal();
        shops.cluster.wait_for_members(3).await;
    });
}

#[test]
fn a_replica_that_is_told_to_end_hands_the_job_over() {
    Network::new(7).run(async |network| {
        let shops = Shops::start(network).await;
        let first = shops.cluster.assert_one_master();
        let begin = shops.cluster.now();
        shops.terminated.send(first.node.id.to_string()).unwrap();
        let next = shops.cluster.wait_for_new_master(first.term).await;
        let took = shops.cluster.now() - begin;
        assert!(took < Timing::lan().lease, "the others need not wait for the end of the lease, and it took {took:?}");
        let view = shops.cluster.wait_for_members(2).await;
        assert!(view.iter().all(|member: &Member| member.node != first.node), "it has left");
        shops.order(next.node.id.as_str(), "tea").await;
        assert_eq!(shops.wait_until_shipped("tea").await, next.term);
    });
}
