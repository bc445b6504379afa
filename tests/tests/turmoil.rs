//! A whole service in the virtual time of tokio, on the simulated network of turmoil: as a service would test itself.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use formation_core::{Address, Config, Incarnation, Term};
use formation_tokio::{Cluster, MemoryStore, Opening, Transport, paused_environment};
use turmoil::net::{TcpListener, TcpStream};

const NODES: [&str; 3] = ["node-a", "node-b", "node-c"];
const PORT: u16 = 7000;

/// TCP of the simulated network.
struct Simulated(TcpListener);

impl Transport for Simulated {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<Opening<TcpStream>> {
        let (stream, peer) = self.0.accept().await?;
        Ok(Opening::ready(stream).with_addr(peer))
    }

    async fn connect(&self, address: &Address, _: Duration) -> io::Result<Opening<TcpStream>> {
        let stream = TcpStream::connect(address.as_str()).await?;
        let peer = stream.peer_addr()?;
        Ok(Opening::ready(stream).with_addr(peer))
    }
}

/// The steps of the masters: the time, the node and the term of each.
type Steps = Arc<Mutex<Vec<(Duration, &'static str, Term)>>>;

/// The service of one node: the master does a step in each 100 ms.
async fn service(name: &'static str, steps: Steps, store: MemoryStore) -> turmoil::Result {
    let seeds = NODES.map(|name| format!("{name}:{PORT}"));
    let config = Config::builder("simulated", name, format!("{name}:{PORT}")).seeds(seeds).build()?;
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    let now = turmoil::sim_elapsed().unwrap();
    let number = NODES.iter().position(|other| *other == name).unwrap() as u64;
    let environment = paused_environment()
        .incarnation(Incarnation(1 + u64::try_from(now.as_micros())?))
        .rng_seed(number << 32 | u64::try_from(now.as_micros())?)
        .store(store);
    let cluster = Cluster::start_with(config, Simulated(listener), &environment)?;
    cluster
        .run_while_master(async |lease| {
            loop {
                steps.lock().unwrap().push((turmoil::sim_elapsed().unwrap(), name, lease.term()));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })
        .await?
}

struct Service<'a> {
    sim: turmoil::Sim<'a>,
    steps: Steps,
}

impl Service<'_> {
    /// The nodes of the service, of which the first `running` have a process.
    fn new(seed: u64, running: usize) -> Self {
        let mut builder = turmoil::Builder::new();
        builder.rng_seed(seed).simulation_duration(Duration::from_secs(600)).tick_duration(Duration::from_millis(1));
        let mut sim = builder.build();
        let steps = Steps::default();
        for (number, name) in NODES.into_iter().enumerate() {
            let (steps, store) = (steps.clone(), MemoryStore::new());
            sim.host(name, move || {
                let (steps, store) = (steps.clone(), store.clone());
                async move {
                    match number < running {
                        true => service(name, steps, store).await,
                        false => std::future::pending().await,
                    }
                }
            });
        }
        Self { sim, steps }
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.sim.elapsed() + time;
        while self.sim.elapsed() < end {
            self.sim.step().unwrap();
        }
    }

    /// The last step so far.
    fn last(&self) -> (Duration, &'static str, Term) {
        *self.steps.lock().unwrap().last().expect("a master works")
    }

    /// All steps, and that no two masters have worked at once.
    fn steps(&self) -> Vec<(Duration, &'static str, Term)> {
        let steps = self.steps.lock().unwrap().clone();
        assert!(steps.is_sorted_by(|one, next| one.2 <= next.2), "a master of an earlier term works: {steps:?}");
        let is_of_one = |pair: &[(_, &str, Term)]| pair[0].2 != pair[1].2 || pair[0].1 == pair[1].1;
        assert!(steps.windows(2).all(is_of_one), "two masters of one term work: {steps:?}");
        steps
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn three_nodes_form_and_replace_a_master_that_is_cut_off() {
    let mut service = Service::new(1, 3);
    service.run_for(5 * SECOND);
    let (_, first, term) = service.last();
    assert_eq!(first, NODES[0], "the lowest id is the first master");
    let others = NODES.iter().copied().filter(|name| *name != first);
    let cut = service.sim.elapsed();
    others.clone().for_each(|other| service.sim.partition(first, other));
    service.run_for(5 * SECOND);
    let (_, second, next) = service.last();
    assert!(second != first && next > term, "the others have a master");
    let of_first = service.steps().into_iter().filter(|(_, name, _)| *name == first);
    let (ended, ..) = of_first.max().unwrap();
    assert!(ended < cut + SECOND, "the lease of the master that is cut off has lapsed, {ended:?} after {cut:?}");
    others.for_each(|other| service.sim.repair(first, other));
    service.run_for(10 * SECOND);
    assert_eq!(service.last().1, second, "the master that was cut off follows");
    service.steps();
}

#[test]
fn two_of_three_nodes_form_while_the_third_does_not_run() {
    let mut service = Service::new(2, 2);
    service.run_for(10 * SECOND);
    let (at, name, _) = service.last();
    assert_eq!(name, NODES[0]);
    assert!(service.sim.elapsed() - at <= Duration::from_millis(200), "it works up to now");
}

#[test]
fn a_master_that_crashes_comes_back_as_a_member() {
    let mut service = Service::new(3, 3);
    service.run_for(5 * SECOND);
    let (_, first, term) = service.last();
    service.sim.crash(first);
    service.run_for(5 * SECOND);
    assert_ne!(service.last().1, first);
    service.sim.bounce(first);
    service.run_for(5 * SECOND);
    let (_, now, newer) = service.last();
    assert!(now != first && newer > term);
    service.steps();
}

/// Everything that a node takes from its system is replaced.
#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let mut service = Service::new(4, 3);
        service.run_for(3 * SECOND);
        service.sim.crash(NODES[0]);
        service.run_for(10 * SECOND);
        service.steps()
    };
    let first = run();
    assert!(first.len() > 50);
    assert_eq!(first, run());
}
