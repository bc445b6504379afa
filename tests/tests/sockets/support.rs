//! Helpers: addresses on the loopback interface, configurations, logs, and waiting for clusters.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use formation_core::{Address, Config, ConfigBuilder, Event, MembersView, Term};
use tokio::net::TcpSocket;
use tracing::{Level, Subscriber};
use tracing_subscriber::fmt::format::FmtSpan;

use crate::adapters::{Adapter, Mastership};

pub(crate) const CLUSTER: &str = "sockets";

/// A listener at a free port, with the backlog of tokio's own listeners, and its address. The port is none of those that the system gives
/// to clients, and no other test gets it: a node that is started again finds it free.
pub(crate) fn listen() -> (TcpListener, String) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let offset = std::process::id().wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let address = format!("127.0.0.1:{}", 20_000 + offset % 12_000);
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        if socket.bind(address.parse().unwrap()).is_ok()
            && let Ok(listener) = socket.listen(1024)
        {
            return (listener.into_std().unwrap(), address);
        }
    }
}

/// A subscriber that keeps the log, and a function that reads it.
pub(crate) fn log() -> (impl Subscriber + Send + Sync, impl Fn() -> String) {
    log_at(Level::INFO)
}

/// The same with the lines for debugging.
pub(crate) fn debug_log() -> (impl Subscriber + Send + Sync, impl Fn() -> String) {
    log_at(Level::DEBUG)
}

fn log_at(level: Level) -> (impl Subscriber + Send + Sync, impl Fn() -> String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let writer = Arc::new(file.reopen().unwrap());
    let subscriber = tracing_subscriber::fmt().with_max_level(level).with_ansi(false).with_writer(writer);
    // A line for each span that has closed.
    let subscriber = subscriber.with_span_events(FmtSpan::CLOSE).finish();
    (subscriber, move || fs::read_to_string(file.path()).unwrap())
}

/// The id of the node with this number. Ids have the order of the numbers.
pub(crate) fn id(number: usize) -> String {
    format!("node-{number}")
}

/// The configuration of the voter with this number.
pub(crate) fn voter(number: usize, seeds: &[String]) -> ConfigBuilder {
    Config::builder(CLUSTER, id(number), seeds[number].as_str()).seeds(seeds).single()
}

/// Starts this many voters, and waits until they agree. Also returns their seeds.
pub(crate) async fn form<A: Adapter>(count: usize) -> (Vec<A>, Vec<String>) {
    form_as(count, |_, config| config.local()).await
}

/// As `form`. `shape` completes the configuration of the voter with this number.
pub(crate) async fn form_as<A: Adapter>(
    count: usize,
    shape: impl Fn(usize, ConfigBuilder) -> ConfigBuilder,
) -> (Vec<A>, Vec<String>) {
    let (listeners, seeds): (Vec<_>, Vec<_>) = (0..count).map(|_| listen()).unzip();
    let start = |(number, listener)| A::start(shape(number, voter(number, &seeds)).build().unwrap(), listener);
    let nodes: Vec<A> = listeners.into_iter().enumerate().map(start).collect();
    agreed_view(&nodes, count).await;
    (nodes, seeds)
}

/// An address at which nothing listens, and which no other program can get. Dials are refused at once.
pub(crate) struct Dead {
    socket: TcpSocket,
    pub(crate) address: SocketAddr,
}

impl Dead {
    pub(crate) fn anywhere() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        Self { socket, address }
    }

    /// Takes the address of a node that was just dropped, as soon as the runtime has closed its listener.
    pub(crate) async fn instead_of(address: &str) -> Self {
        let address = address.parse().unwrap();
        loop {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_reuseaddr(true).unwrap();
            if socket.bind(address).is_ok() {
                return Self { socket, address };
            }
            tokio::task::yield_now().await;
        }
    }

    /// Listens at the address again.
    pub(crate) fn revive(self) -> TcpListener {
        self.socket.listen(128).unwrap().into_std().unwrap()
    }
}

/// Waits until all nodes hold the same view with exactly `count` members, all active, and returns it.
pub(crate) async fn agreed_view<A: Adapter>(nodes: &[A], count: usize) -> MembersView {
    let mut newest = MembersView::default();
    loop {
        let mut agreed = true;
        for node in nodes {
            // The view may change again while the other nodes are checked, so wait for at least the newest view so far.
            let minimum = newest.id();
            node.wait_for_view(|view| view.id() >= minimum).await;
            let view = node.wait_for_members(count).await;
            agreed &= view == newest;
            newest = view;
        }
        if agreed {
            return newest;
        }
    }
}

/// Waits until this node reports a master with a term after `before`.
pub(crate) async fn elected_after<A: Adapter>(events: &mut A::Events, before: Term) -> Mastership {
    loop {
        match A::next(events).await.expect("the node runs") {
            Event::MasterElected { term, master, .. } if term > before => return (master, term),
            _ => {}
        }
    }
}

/// Crashes the node, and returns all masters that it has reported.
pub(crate) async fn masters_of<A: Adapter>(node: A) -> Vec<Mastership> {
    let mut events = node.events();
    drop(node);
    let mut masters = Vec::new();
    while let Some(event) = A::next(&mut events).await {
        if let Event::MasterElected { term, master, .. } = event {
            masters.push((master, term));
        }
    }
    masters
}

/// The ids of a view's members.
pub(crate) fn ids(view: &MembersView) -> Vec<&str> {
    view.iter().map(|member| member.node.id.as_str()).collect()
}

/// Parses an address.
pub(crate) fn to_address(text: &str) -> Address {
    Address::new(text).unwrap()
}
