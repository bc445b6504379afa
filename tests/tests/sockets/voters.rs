//! The voters change while the cluster runs (E10).

use std::{collections::BTreeSet, net::TcpListener};

use formation_core::{Address, Config, Electorate, Misuse};
use formation_tokio::VotersError;

use crate::{
    adapters::Adapter,
    support::{CLUSTER, agreed_view, id, listen, to_address},
};

with_each_adapter!(e10_a_single_node_grows_to_three_voters_and_goes, e10_a_node_that_is_no_master_names_it);

/// Nodes of which the first one forms a cluster alone. It is the only seed of the others, too.
struct Machines {
    dir: tempfile::TempDir,
    addresses: Vec<String>,
}

impl Machines {
    fn new(count: usize) -> (Self, Vec<TcpListener>) {
        let (listeners, addresses) = (0..count).map(|_| listen()).unzip();
        (Self { dir: tempfile::tempdir().unwrap(), addresses }, listeners)
    }

    fn config(&self, number: usize) -> Config {
        let (address, first) = (self.addresses[number].as_str(), self.addresses[0].as_str());
        let config = match number {
            0 => Config::single(CLUSTER, id(0), address),
            _ => Config::builder(CLUSTER, id(number), address).seeds([first]),
        };
        config.local().state_dir(self.dir.path().join(number.to_string())).build().unwrap()
    }

    fn start<A: Adapter>(&self, listeners: Vec<TcpListener>) -> Vec<A> {
        let started = listeners.into_iter().enumerate();
        started.map(|(number, listener)| A::start(self.config(number), listener)).collect()
    }

    fn start_again<A: Adapter>(&self, number: usize) -> A {
        A::start(self.config(number), TcpListener::bind(&self.addresses[number]).unwrap())
    }

    fn voters(&self, numbers: &[usize]) -> BTreeSet<Address> {
        numbers.iter().map(|number| to_address(&self.addresses[*number])).collect()
    }
}

/// Waits until the node knows exactly these voters, and no change.
async fn knows_voters<A: Adapter>(node: &A, voters: &BTreeSet<Address>) {
    let (handle, mut events) = (node.handle(), node.events());
    let is_there = |electorate: Electorate| electorate.voters == *voters && electorate.target.is_none();
    while !is_there(handle.voters()) {
        A::next(&mut events).await.expect("the node runs");
    }
}

/// A laptop becomes a cluster, and the laptop is gone at the end: also the only seed.
async fn e10_a_single_node_grows_to_three_voters_and_goes<A: Adapter>() {
    let (machines, listeners) = Machines::new(3);
    let mut nodes: Vec<A> = machines.start(listeners);
    agreed_view(&nodes, 3).await;
    let all = machines.voters(&[0, 1, 2]);
    let reached = nodes[0].handle().set_voters(all.clone()).await.unwrap();
    assert_eq!((&reached.voters, reached.target), (&all, None));
    for node in &nodes {
        knows_voters(node, &all).await;
    }
    // The master removes itself: it hands over, and learns from the next one that it is done.
    let rest = machines.voters(&[1, 2]);
    let reached = nodes[0].handle().set_voters(rest.clone()).await.unwrap();
    assert_eq!(reached.voters, rest);
    nodes.remove(0).leave().await;
    for node in &nodes {
        knows_voters(node, &rest).await;
        assert_ne!(node.wait_for_master().await.0.id.as_str(), id(0));
    }
    agreed_view(&nodes, 2).await;
    for node in nodes.drain(..) {
        node.shutdown().await;
    }
    // The seed is not there, and has no vote.
    let nodes: Vec<A> = [1, 2].map(|number| machines.start_again(number)).into();
    assert!(nodes.iter().all(|node| node.handle().voters().voters == rest), "from the disk");
    agreed_view(&nodes, 2).await;
    let first: A = machines.start_again(0);
    assert_ne!(first.wait_for_master().await.0.id.as_str(), id(0), "it has not formed a cluster of its own");
    knows_voters(&first, &rest).await;
}

async fn e10_a_node_that_is_no_master_names_it<A: Adapter>() {
    let (machines, listeners) = Machines::new(2);
    let nodes: Vec<A> = machines.start(listeners);
    agreed_view(&nodes, 2).await;
    let error = nodes[1].handle().set_voters(machines.voters(&[0, 1])).await.unwrap_err();
    let master = Some((nodes[0].node().clone(), to_address(&machines.addresses[0])));
    assert_eq!(error, VotersError::Misuse(Misuse::NotMaster { master }));
    assert!(error.to_string().ends_with(&format!("ask node-0 at {}", machines.addresses[0])), "{error}");
    assert_eq!(nodes[0].handle().voters().voters, machines.voters(&[0]), "nothing has changed");
}
