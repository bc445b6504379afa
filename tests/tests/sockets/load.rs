//! G7 on real sockets: strangers, members that never read, and a crowd that joins at once cost a cluster neither its master
//! nor more memory than its limits allow, and honest nodes join meanwhile in their time.

mod slow_readers;
mod thundering_herd;
mod unauthenticated;

use std::{env, net::TcpListener, time::Instant};

use formation_core::{Config, ConfigBuilder, Limits, Timing};
use formation_tokio::Credentials;

use crate::{
    HEAP,
    adapters::{Adapter, Mastership},
    authority::Authority,
    support::{CLUSTER, agreed_view, listen, voter},
    times::Times,
};

/// `full` for as much as the tests say.
const LOAD: &str = "FORMATION_LOAD";
const VOTERS: usize = 3;
/// What an adapter reads into for a connection, with what its tasks and channels take, in bytes.
const CONNECTION: usize = 24 << 10;

/// So many, or in a hurry fewer.
fn scaled(full: usize, hurried: usize) -> usize {
    match env::var(LOAD) {
        Ok(load) if load == "full" => full,
        Ok(load) => panic!("{LOAD}={load} is not full"),
        Err(_) => hurried,
    }
}

/// A cluster of three, and the master that it is to keep.
struct Besieged<A> {
    voters: Vec<A>,
    seeds: Vec<String>,
    shape: fn(ConfigBuilder) -> ConfigBuilder,
    tls: Option<Credentials>,
    master: Mastership,
    joined: usize,
    times: Times,
}

impl<A: Adapter> Besieged<A> {
    /// With the times and limits that are the default.
    async fn form() -> Self {
        Self::form_as(|config| config).await
    }

    async fn form_as(shape: fn(ConfigBuilder) -> ConfigBuilder) -> Self {
        Self::form_on(None, shape).await
    }

    async fn form_secured() -> Self {
        Self::form_on(Some(Credentials::new(Authority::new("the cluster's").config())), |config| config).await
    }

    async fn form_on(tls: Option<Credentials>, shape: fn(ConfigBuilder) -> ConfigBuilder) -> Self {
        let (listeners, seeds): (Vec<_>, Vec<_>) = (0..VOTERS).map(|_| listen()).unzip();
        let begin = |(number, listener)| start(shape(voter(number, &seeds)), listener, tls.as_ref());
        let voters: Vec<A> = listeners.into_iter().enumerate().map(begin).collect();
        agreed_view(&voters, VOTERS).await;
        let master = voters[0].wait_for_master().await;
        Self { voters, seeds, shape, tls, master, joined: 0, times: Times::default() }
    }

    fn member(&self, id: &str, address: &str) -> ConfigBuilder {
        (self.shape)(Config::builder(CLUSTER, id, address).seeds(&self.seeds))
    }

    /// An honest node joins, and leaves again. It joins before its first dial would be given up.
    async fn join(&mut self, what: &str) {
        self.joined += 1;
        let (listener, address) = listen();
        let config = self.member(&format!("honest-{}", self.joined), &address);
        let (limit, began) = (Timing::lan().handshake_timeout, Instant::now());
        let node: A = start(config, listener, self.tls.as_ref());
        let id = node.node().id.clone();
        node.wait_for_view(|view| view.get(&id).is_some()).await;
        let took = began.elapsed();
        assert!(took < limit, "to join took {took:?}, and should take less than {limit:?}");
        self.times.add(what, took);
        node.leave().await;
    }

    /// What an honest node that joins takes of the heap itself.
    async fn weigh_join(&mut self, what: &str) -> usize {
        let heap = Heap::begin();
        self.join(what).await;
        heap.peak()
    }

    /// The cluster has had one master all the time, as another would have another term.
    async fn keeps_its_master(self) {
        println!("{}", self.times);
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

/// What the heap takes more than at the beginning.
struct Heap {
    before: usize,
    began: Instant,
}

impl Heap {
    fn begin() -> Self {
        HEAP.reset_peak_usage();
        Self { before: HEAP.current_usage(), began: Instant::now() }
    }

    fn peak(&self) -> usize {
        HEAP.peak_usage().saturating_sub(self.before)
    }

    fn stays_below(self, limit: usize, what: &str) {
        let (peak, secs) = (self.peak(), self.began.elapsed().as_secs_f64());
        println!("{what}: {secs:.1} s, heap +{} KiB at most, of {} KiB that the limits allow", peak >> 10, limit >> 10);
        assert!(peak <= limit, "{what}: the heap has grown by {peak} bytes, over {limit}");
    }
}

/// What the limits of a node allow for strangers, in bytes.
fn allowed(limits: &Limits) -> usize {
    // Those whose end an adapter awaits, with what it writes and reads meanwhile.
    let closing = 256 * (8 << 10);
    // A refused one is heard of in an event, of which 1,024 wait for a slow host.
    let events = 1_024 * 512;
    limits.pending_connections * (CONNECTION + limits.frame_before_handshake) + closing + events
}
