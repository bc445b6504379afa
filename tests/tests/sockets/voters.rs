//! The voters change while the cluster runs (E10).

use std::{collections::BTreeSet, net::TcpListener};

use formation_core::{Address, Config, Misuse};
use formation_tokio::VotersError;

use crate::{
    adapters::Adapter,
    support::{CLUSTER, agreed_view, id, listen, to_address},
};

with_each_adapter!(e10_a_node_that_is_no_master_names_it);

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

    fn voters(&self, numbers: &[usize]) -> BTreeSet<Address> {
        numbers.iter().map(|number| to_address(&self.addresses[*number])).collect()
    }
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
