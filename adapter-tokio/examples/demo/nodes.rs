//! The nodes of the demo: who runs, and what all of them agree on.

use std::{collections::BTreeMap, fmt, sync::Arc};

use formation_tokio::{Address, Cluster, Config, Master, NodeId};
use tokio::net::TcpListener;

use crate::timeline::Timeline;

pub(crate) struct Nodes {
    cluster: &'static str,
    timeline: Arc<Timeline>,
    seeds: Vec<Address>,
    /// Where each node listens, running or not.
    addresses: Vec<Address>,
    running: BTreeMap<NodeId, Cluster>,
}

impl Nodes {
    /// Binds the seeds' listeners first: that is how their addresses, the seed list, are known.
    pub(crate) async fn bind(
        cluster: &'static str,
        count: usize,
        timeline: &Arc<Timeline>,
    ) -> Result<(Self, Vec<TcpListener>), String> {
        let mut listeners = Vec::new();
        for _ in 0..count {
            listeners.push(bind("127.0.0.1:0").await?);
        }
        let seeds = listeners.iter().map(address_of).collect::<Result<Vec<_>, _>>()?;
        let timeline = Arc::clone(timeline);
        Ok((Self { cluster, timeline, addresses: seeds.clone(), seeds, running: BTreeMap::new() }, listeners))
    }

    /// Makes room for a node that is no seed, and returns its index.
    pub(crate) fn add(&mut self, listener: &TcpListener) -> Result<usize, String> {
        self.addresses.push(address_of(listener)?);
        Ok(self.addresses.len() - 1)
    }

    pub(crate) fn start(&mut self, index: usize, listener: TcpListener) -> Result<(), String> {
        let address = &self.addresses[index];
        let config = Config::builder(self.cluster, name(index), address.as_str())
            .seeds(self.seeds.iter().map(Address::as_str))
            .build()
            .map_err(|error| error.to_string())?;
        let id = config.id().clone();
        self.timeline.print(&id, &format!("starts at {address}"));
        let cluster = Cluster::start(config, listener).map_err(|error| format!("{id} does not start: {error}"))?;
        let (timeline, node, events) = (Arc::clone(&self.timeline), cluster.node().clone(), cluster.events());
        tokio::spawn(async move { timeline.follow(node, events).await });
        self.running.insert(id, cluster);
        Ok(())
    }

    /// Ends a node as a crash would. Returns its index and address.
    pub(crate) fn kill(&mut self, id: &NodeId) -> Result<(usize, Address), String> {
        let index = (0..self.addresses.len()).find(|index| name(*index) == id.as_str());
        let index = index.ok_or_else(|| format!("{id} is none of the nodes"))?;
        self.timeline.print(id, "KILLED");
        self.forget(id);
        Ok((index, self.addresses[index].clone()))
    }

    pub(crate) async fn leave(&self, id: &NodeId) -> Result<(), String> {
        self.running[id].leave().await.map_err(|error| format!("{id} cannot leave: {error}"))
    }

    pub(crate) fn forget(&mut self, id: &NodeId) {
        self.running.remove(id);
    }

    /// The last of the running seed nodes that follow.
    pub(crate) fn last_follower(&self, master: &Master) -> Result<NodeId, String> {
        let mut seeds = self.running.keys().filter(|id| (0..self.seeds.len()).any(|index| name(index) == id.as_str()));
        seeds.rfind(|id| **id != master.node.id).cloned().ok_or_else(|| "nobody follows".to_owned())
    }

    /// Waits until all running nodes follow the same one of them, another than `before`.
    pub(crate) async fn followed(&self, before: Option<&Master>) -> Result<Master, String> {
        self.timeline.until(|| self.common_master().filter(|master| Some(master) != before)).await
    }

    /// Waits until all running nodes follow the same master, and hold the same view, of exactly them, all active.
    pub(crate) async fn agreed(&self) -> Result<Master, String> {
        self.timeline.until(|| self.common_master().filter(|_| self.views_are_complete())).await
    }

    fn common_master(&self) -> Option<Master> {
        let mut masters = self.running.values().map(|cluster| cluster.master());
        let first = masters.next()??;
        let runs = self.running.get(&first.node.id)?.node() == &first.node;
        (runs && masters.all(|master| master.as_ref() == Some(&first))).then_some(first)
    }

    fn views_are_complete(&self) -> bool {
        let mut views = self.running.values().map(|node| node.view());
        let Some(first) = views.next() else { return false };
        let members = first.iter().filter(|member| member.state.is_active()).map(|member| &member.node);
        first.len() == self.running.len()
            && members.eq(self.running.values().map(|node| node.node()))
            && views.all(|view| view == first)
            // The timeline shows it before the story goes on.
            && self.running.values().all(|cluster| self.timeline.has_printed(cluster.node(), &first))
    }

    /// G6: with all voters there in time, the lowest id is elected.
    pub(crate) fn expect_lowest(&self, master: &Master) -> Result<(), String> {
        match self.running.keys().next() {
            Some(lowest) if *lowest == master.node.id => Ok(()),
            lowest => Err(format!("{} was elected, not the lowest id, {lowest:?}", master.node.id)),
        }
    }

    pub(crate) fn expect_same(&self, before: &Master, after: &Master) -> Result<(), String> {
        if before == after {
            return Ok(());
        }
        Err(format!(
            "the master changed from {} (term {}) to {} (term {}) without need",
            before.node, before.term, after.node, after.term
        ))
    }
}

impl fmt::Display for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (id, cluster) in &self.running {
            let (status, view) = (cluster.status(), cluster.view());
            let members: Vec<_> = view.iter().map(|m| format!("{} {}", m.node.id, m.state)).collect();
            writeln!(f, "  {id}: {status:?}\n    view {}: {}", view.id(), members.join(", "))?;
        }
        Ok(())
    }
}

pub(crate) async fn bind(address: &str) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| format!("cannot listen at {address}: {error}"))
}

fn address_of(listener: &TcpListener) -> Result<Address, String> {
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    Address::new(address.to_string()).map_err(|error| error.to_string())
}

/// Two digits, so that the bytewise order is that of the numbers.
pub(crate) fn name(index: usize) -> String {
    format!("node-{:02}", index + 1)
}
