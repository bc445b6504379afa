//! Discovery: addresses that sources find while a node runs, and names with several addresses.
//!
//! A listener of the test stands for another node: a connection to it shows that its address is dialed.

use std::{
    collections::BTreeSet,
    fs,
    future::pending,
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use ::tokio::task::yield_now;
use formation_core::{Address, Config, Limits, Timing};
use formation_tokio::{Discovery, MAX_SOURCES, NameServers, Source};
use simple_dns::{
    CLASS, Name, Packet, RCODE, ResourceRecord,
    rdata::{RData, SRV},
};

use crate::{
    adapters::Adapter,
    support::{CLUSTER, Dead, agreed_view, id, listen, log, to_address},
};
#[cfg(target_os = "linux")]
use crate::{shim, support::ids};

with_each_adapter!(
    addresses_of_a_file_come_and_go,
    targets_of_srv_records_come_and_go,
    a_source_that_never_answers_blocks_nothing,
    a_bad_source_leaves_room_for_the_others,
    sources_over_the_limit_are_refused;
    alone: a_source_that_fails_is_named_once_and_keeps_its_addresses,
);

#[cfg(target_os = "linux")]
mod names {
    use super::{a_silent_first_address_costs_no_connect_timeout, a_silent_name_blocks_nothing};
    with_each_adapter!(;
        alone: a_silent_first_address_costs_no_connect_timeout,
        a_silent_name_blocks_nothing,
    );
}

/// A node that has no master: nothing listens at its only seed. It may dial so many discovered addresses.
fn searching<A: Adapter>(discovered: usize) -> (A, Dead) {
    let dead = Dead::anywhere();
    let (listener, own) = listen();
    let config = Config::builder(CLUSTER, "searching", own).seeds([dead.address]).local();
    (A::start(config.limits(Limits::new().with_discovered(discovered)).build().unwrap(), listener), dead)
}

/// Another node, of which there is only the port.
struct Other {
    listener: TcpListener,
    address: String,
}

impl Other {
    fn new() -> Self {
        let (listener, address) = listen();
        listener.set_nonblocking(true).unwrap();
        Self { listener, address }
    }

    /// Ends the connections that were dialed to it, and returns how many there were.
    fn end_all(&self) -> usize {
        std::iter::from_fn(|| self.listener.accept().ok()).count()
    }

    /// Waits until it was dialed so many times.
    async fn is_dialed(&self, times: usize) {
        let mut dialed = 0;
        while dialed < times {
            dialed += self.end_all();
            yield_now().await;
        }
    }
}

/// Only one of the two was discovered. Returns once the other one is not dialed any more.
async fn expect_only(found: &Other, gone: &Other) {
    // What was under way has ended by the second connection.
    found.is_dialed(2).await;
    gone.end_all();
    found.is_dialed(5).await;
    assert_eq!(gone.end_all(), 0, "an address that is gone was dialed");
}

async fn addresses_of_a_file_come_and_go<A: Adapter>() {
    let dir = tempfile::tempdir().unwrap();
    let (path, [one, two]) = (dir.path().join("nodes"), [Other::new(), Other::new()]);
    fs::write(&path, format!("# The nodes\n{}\n", one.address)).unwrap();
    let (node, _dead) = searching::<A>(8);
    node.handle().discover(Source::file(&path).every(Duration::ZERO)).await.unwrap();
    expect_only(&one, &two).await;
    let next = dir.path().join("next");
    fs::write(&next, format!("{}\n", two.address)).unwrap();
    fs::rename(&next, &path).unwrap();
    expect_only(&two, &one).await;
    node.leave().await;
}

/// A name server whose records the test may change.
fn name_server(targets: Arc<Mutex<Vec<u16>>>) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 1024];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let query = Packet::parse(&buffer[..length]).unwrap();
            let mut reply = Packet::new_reply(query.id());
            let ports = targets.lock().unwrap().clone();
            if ports.is_empty() {
                *reply.rcode_mut() = RCODE::NameError;
            }
            reply.questions = query.questions.clone();
            for port in ports {
                let target = Name::new("localhost").unwrap();
                let srv = SRV { priority: 0, weight: 0, port, target };
                let name = query.questions[0].qname.clone();
                reply.answers.push(ResourceRecord::new(name, CLASS::IN, 1, RData::SRV(srv)));
            }
            socket.send_to(&reply.build_bytes_vec().unwrap(), peer).unwrap();
        }
    });
    address
}

async fn targets_of_srv_records_come_and_go<A: Adapter>() {
    let others = [Other::new(), Other::new()];
    let [one, two] = others.each_ref().map(|other| to_address(&other.address).port());
    let targets = Arc::new(Mutex::new(vec![one]));
    let servers = NameServers::at([name_server(targets.clone())]);
    let (node, _dead) = searching::<A>(8);
    let source = Source::srv_from("_peer._tcp.nodes.internal", servers).unwrap().every(Duration::ZERO);
    node.handle().discover(source).await.unwrap();
    expect_only(&others[0], &others[1]).await;
    *targets.lock().unwrap() = vec![two];
    expect_only(&others[1], &others[0]).await;
    // A name that has no records for a while is no reason to forget the addresses.
    targets.lock().unwrap().clear();
    expect_only(&others[1], &others[0]).await;
    node.leave().await;
}

/// A source with answers of the test. After the last one it never answers.
struct Scripted {
    answers: Vec<io::Result<BTreeSet<Address>>>,
    asked: Arc<AtomicUsize>,
}

impl Scripted {
    fn new(answers: impl IntoIterator<Item = io::Result<BTreeSet<Address>>>) -> Self {
        let mut answers: Vec<_> = answers.into_iter().collect();
        answers.reverse();
        Self { answers, asked: Arc::default() }
    }
}

impl Discovery for Scripted {
    fn name(&self) -> String {
        "the script".to_owned()
    }

    async fn find(&mut self) -> io::Result<BTreeSet<Address>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        match self.answers.pop() {
            Some(answer) => answer,
            None => pending().await,
        }
    }

    fn refresh(&self) -> Duration {
        Duration::ZERO
    }
}

/// The end of the test shows that the node does not wait for it at its end, either.
async fn a_source_that_never_answers_blocks_nothing<A: Adapter>() {
    let other = Other::new();
    let (node, _dead) = searching::<A>(8);
    node.handle().discover(Scripted::new([])).await.unwrap();
    node.handle().discover(Source::fixed([to_address(&other.address)])).await.unwrap();
    other.is_dialed(3).await;
    node.leave().await;
}

async fn a_bad_source_leaves_room_for_the_others<A: Adapter>() {
    let other = Other::new();
    let (node, _dead) = searching::<A>(4);
    // Their text comes before that of the good one.
    let many = (1..=1000).map(|number| to_address(&format!("127.0.0.1:{number}")));
    node.handle().discover(Source::fixed(many)).await.unwrap();
    node.handle().discover(Source::fixed([to_address(&other.address)])).await.unwrap();
    other.is_dialed(3).await;
    node.leave().await;
}

async fn sources_over_the_limit_are_refused<A: Adapter>() {
    let (node, _dead) = searching::<A>(8);
    for _ in 0..MAX_SOURCES {
        node.handle().discover(Scripted::new([])).await.unwrap();
    }
    let error = node.handle().discover(Scripted::new([])).await.unwrap_err().to_string();
    assert!(error.contains("8 sources") && error.contains("fewer"), "{error}");
    let handle = node.handle();
    node.leave().await;
    let error = handle.discover(Scripted::new([])).await.unwrap_err().to_string();
    assert!(error.contains("stopped"), "{error}");
}

async fn a_source_that_fails_is_named_once_and_keeps_its_addresses<A: Adapter>() {
    let (subscriber, log) = log();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let other = Other::new();
    let (node, _dead) = searching::<A>(8);
    let found = BTreeSet::from([to_address(&other.address)]);
    let down = || Err(io::Error::other("the registry\nis down"));
    let source = Scripted::new([Ok(found), down(), down()]);
    let asked = source.asked.clone();
    node.handle().discover(source).await.unwrap();
    // It was asked for the fourth time, so both failures were handled.
    while asked.load(Ordering::Relaxed) < 4 {
        other.end_all();
        yield_now().await;
    }
    other.is_dialed(3).await;
    let reports: Vec<_> = node.handle().sources().iter().map(ToString::to_string).collect();
    assert_eq!(reports, ["the script: 1 address, which may be old: the registry is down"]);
    node.leave().await;
    let log = log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("the script")).collect();
    let [found, failed] = lines[..] else { panic!("{log}") };
    assert!(found.contains(" INFO ") && found.contains(&other.address), "{found}");
    let parts = [" WARN ", "the registry is down", "its last ones are kept", "count=1", "check"];
    assert!(parts.iter().all(|part| failed.contains(part)), "{failed}");
}

/// Names with `several` lead to two addresses, of which the first one does not answer. Lookups of names with `silent` never return.
#[cfg(target_os = "linux")]
const RESOLVER: &str = r#"
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>

int getaddrinfo(const char *name, const char *port, const struct addrinfo *hints, struct addrinfo **found) {
    static int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    if (!real) real = dlsym(RTLD_NEXT, "getaddrinfo");
    if (name && strstr(name, "silent")) for (;;) pause();
    if (!name || !strstr(name, "several")) return real(name, port, hints, found);
    int failed = real("127.0.0.2", port, hints, found);
    struct addrinfo *last = *found;
    while (!failed && last->ai_next) last = last->ai_next;
    return failed ? failed : real("127.0.0.1", port, hints, &last->ai_next);
}
"#;

/// A listener that answers no further connection: as many wait to be accepted as may.
#[cfg(target_os = "linux")]
async fn full(port: u16) -> (TcpListener, Vec<::tokio::net::TcpStream>) {
    let socket = ::tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 2], port))).unwrap();
    let listener = socket.listen(0).unwrap().into_std().unwrap();
    let waiting = ::tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (listener, vec![waiting])
}

/// The time for a connection is an hour. A share of it would be far too long for a test.
#[cfg(target_os = "linux")]
async fn a_silent_first_address_costs_no_connect_timeout<A: Adapter>() {
    if !shim::is_preloaded(RESOLVER, &[]) {
        return;
    }
    let (listener, address) = listen();
    let seed = address.replace("127.0.0.1", "several.example");
    let _silent = full(to_address(&address).port()).await;
    let timing = || Timing::local().with_handshake_timeout(Duration::from_secs(3600));
    let master = Config::single(CLUSTER, id(0), seed.as_str()).timing(timing()).build().unwrap();
    let (own_listener, own) = listen();
    let member = Config::builder(CLUSTER, id(1), own).seeds([seed]).timing(timing()).build().unwrap();
    let nodes = [A::start(master, listener), A::start(member, own_listener)];
    assert_eq!(ids(&agreed_view(&nodes, 2).await), [id(0), id(1)]);
}

#[cfg(target_os = "linux")]
async fn a_silent_name_blocks_nothing<A: Adapter>() {
    if !shim::is_preloaded(RESOLVER, &[("BLOCKING_MAX_THREADS", "4")]) {
        return;
    }
    let other = Other::new();
    let (node, _dead) = searching::<A>(8);
    for number in 1..MAX_SOURCES {
        let name = to_address(&format!("silent-{number}.example:7000"));
        node.handle().discover(Source::dns(name)).await.unwrap();
    }
    let name = to_address(&other.address.replace("127.0.0.1", "several.example"));
    node.handle().discover(Source::dns(name)).await.unwrap();
    other.is_dialed(3).await;
    node.leave().await;
}
