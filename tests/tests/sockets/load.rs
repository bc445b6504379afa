//! Load tests on real sockets (G7): unauthenticated peers, claims, members that never read, floods, and a thundering herd. The
//! cluster keeps its master and its term, and uses no more memory than its limits allow, and correct nodes can join in time.

mod floods;
mod slow_readers;
mod thundering_herd;
mod unauthenticated;

use std::{env, net::TcpListener, sync::OnceLock, time::Instant};

use formation_core::{Config, ConfigBuilder, Limits, Timing};
use formation_tokio::Credentials;

use crate::{
    HEAP,
    adapters::{Adapter, Mastership},
    authority::Authority,
    support::{self, CLUSTER, agreed_view, listen, voter},
    times::Times,
};

/// `full` selects the full load.
const LOAD: &str = "FORMATION_LOAD";
const VOTERS: usize = 3;
/// The memory of an adapter for one connection, with its read buffer, tasks and channels, in bytes.
const CONNECTION: usize = 24 << 10;

/// The full number, or a smaller one by default.
fn scaled(full: usize, reduced: usize) -> usize {
    match env::var(LOAD) {
        Ok(load) if load == "full" => full,
        Ok(load) => panic!("{LOAD}={load}: the only value is 'full'"),
        Err(_) => reduced,
    }
}

/// Keeps the log of this process, and returns what was logged so far. Each load test has its own process.
fn log() -> String {
    static LOG: OnceLock<Box<dyn Fn() -> String + Send + Sync>> = OnceLock::new();
    let read = LOG.get_or_init(|| {
        let (subscriber, log) = support::log();
        tracing::subscriber::set_global_default(subscriber).unwrap();
        Box::new(log)
    });
    read()
}

/// A cluster of three voters under load, and the master that it must keep.
struct LoadedCluster<A> {
    voters: Vec<A>,
    seeds: Vec<String>,
    shape: fn(ConfigBuilder) -> ConfigBuilder,
    tls: Option<Credentials>,
    master: Mastership,
    /// The length of the log when the cluster was formed.
    logged: usize,
    joined: usize,
    times: Times,
}

impl<A: Adapter> LoadedCluster<A> {
    /// Forms a cluster with the default times and limits.
    async fn form() -> Self {
        Self::form_as(|config| config).await
    }

    async fn form_as(shape: fn(ConfigBuilder) -> ConfigBuilder) -> Self {
        Self::form_on(None, shape).await
    }

    async fn form_secured(shape: fn(ConfigBuilder) -> ConfigBuilder) -> Self {
        Self::form_on(Some(Credentials::new(Authority::new("the cluster's").config())), shape).await
    }

    async fn form_on(tls: Option<Credentials>, shape: fn(ConfigBuilder) -> ConfigBuilder) -> Self {
        log();
        let (listeners, seeds): (Vec<_>, Vec<_>) = (0..VOTERS).map(|_| listen()).unzip();
        let begin = |(number, listener)| start(shape(voter(number, &seeds)), listener, tls.as_ref());
        let voters: Vec<A> = listeners.into_iter().enumerate().map(begin).collect();
        agreed_view(&voters, VOTERS).await;
        let master = voters[0].wait_for_master().await;
        Self { voters, seeds, shape, tls, master, logged: log().len(), joined: 0, times: Times::default() }
    }

    fn member(&self, id: &str, address: &str) -> ConfigBuilder {
        (self.shape)(Config::builder(CLUSTER, id, address).seeds(&self.seeds))
    }

    /// A correct node joins and leaves again. It must join before its first dial would be given up.
    async fn join(&mut self, what: &str) {
        self.joined += 1;
        let (listener, address) = listen();
        let config = self.member(&format!("correct-{}", self.joined), &address);
        let (limit, start_time) = (Timing::lan().handshake_timeout, Instant::now());
        let node: A = start(config, listener, self.tls.as_ref());
        let id = node.node().id.clone();
        node.wait_for_view(|view| view.get(&id).is_some()).await;
        let took = start_time.elapsed();
        assert!(took < limit, "the join took {took:?}, which is not less than {limit:?}");
        self.times.add(what, took);
        node.leave().await;
    }

    /// The heap usage of a correct node that joins.
    async fn measure_join(&mut self, what: &str) -> usize {
        let heap = Heap::begin();
        self.join(what).await;
        heap.peak()
    }

    /// Checks that the cluster has kept its master, and that no voter knows a later term.
    async fn keeps_its_master(self) {
        println!("{}", self.times);
        let log = log().split_off(self.logged);
        let of_problems: usize = log.lines().filter(|line| line.contains(" WARN ")).map(|line| line.len() + 1).sum();
        let newest = self.voters.iter().map(|node| node.status().term.0).max().unwrap_or_default();
        let burnt = newest - self.master.1.0;
        println!("log: {of_problems} bytes of warnings, {} bytes in all; terms burnt: {burnt}", log.len());
        assert_eq!(burnt, 0, "the term has grown");
        for node in self.voters {
            assert_eq!(node.wait_for_master().await, self.master, "{} has another master", node.node());
        }
    }
}

fn start<A: Adapter>(config: ConfigBuilder, listener: TcpListener, tls: Option<&Credentials>) -> A {
    let config = config.build().unwrap();
    match tls {
        None => A::start(config, listener),
        Some(credentials) => A::start_secured(config, listener, credentials.clone()),
    }
}

/// The growth of the heap since a start time.
struct Heap {
    before: usize,
    start_time: Instant,
}

impl Heap {
    fn begin() -> Self {
        HEAP.reset_peak_usage();
        Self { before: HEAP.current_usage(), start_time: Instant::now() }
    }

    fn peak(&self) -> usize {
        HEAP.peak_usage().saturating_sub(self.before)
    }

    /// `hostile`: the number of hostile connections that were open at the same time.
    fn stays_below(self, limit: usize, hostile: usize, what: &str) {
        let (peak, secs) = (self.peak(), self.start_time.elapsed().as_secs_f64());
        let each = peak / hostile;
        println!(
            "{what}: {secs:.1} s, heap +{} KiB, {each} bytes for each of {hostile} at once; the limits allow {} KiB",
            peak >> 10,
            limit >> 10
        );
        assert!(peak <= limit, "{what}: the heap has grown by {peak} bytes, but only {limit} are allowed");
    }
}

/// The memory that the limits of a node allow for unauthenticated peers, in bytes.
fn allowed_for_pending(limits: &Limits) -> usize {
    // Connections that are closing, with the buffers of the adapter.
    let closing = 256 * (8 << 10);
    // Each rejected connection leads to an event. 1,024 events wait for a slow embedder.
    let events = 1_024 * 512;
    limits.pending_connections * (CONNECTION + limits.frame_before_handshake) + closing + events
}
