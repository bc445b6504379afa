//! Connections of a service that have nothing to do with Formation.

use std::{
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake},
    time::Duration,
};

use formation_core::Timing;
use formation_host::Runtime as _;
use formation_testing::{TestCluster, TestNode, TestRuntime, TestStream};
use futures_lite::{
    AsyncReadExt, AsyncWriteExt,
    future::{or, poll_once},
};

use crate::support::{network, on_both};

on_both! {
    a_service_has_connections_of_its_own
    a_partition_holds_what_is_on_its_way
    a_writer_waits_for_a_reader
    a_connection_ends_with_its_process
    nobody_is_found_where_nobody_listens
    a_listener_has_a_limit
    what_a_node_without_power_has_sent_is_lost
    an_accept_ends_with_its_process
    everybody_who_accepts_is_woken
    an_old_listener_takes_no_connection_of_the_next
    a_run_that_is_over_has_no_network
}

const LEASE: Duration = Timing::local().lease;

/// A connection from `node-a` to `node-b`.
async fn connected(a: &TestNode, b: &TestNode) -> (TestStream, TestStream) {
    let listener = b.listen(9000).unwrap();
    let one = a.connect("node-b:9000").await.unwrap();
    let other = listener.accept().await.unwrap();
    assert_eq!((one.peer(), other.peer()), ("node-b", "node-a"));
    (one, other)
}

/// Whether it was woken.
#[derive(Default)]
struct Woken(AtomicBool);

impl Woken {
    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Polls a future that has to wait.
fn wait_for(future: Pin<&mut impl Future>) -> Arc<Woken> {
    let woken = Arc::new(Woken::default());
    assert!(future.poll(&mut Context::from_waker(&woken.clone().into())).is_pending());
    woken
}

fn an_accept_ends_with_its_process<R: TestRuntime>() {
    network::<R>().run(async |network| {
        let cluster = network.cluster(2).await;
        let ends: [fn(&TestCluster<R>); 2] = [|cluster| cluster.kill("node-b"), |cluster| cluster.power_off("node-b")];
        for end in ends {
            let listener = cluster.node("node-b").listen(9000).unwrap();
            let mut accept = pin!(listener.accept());
            let woken = wait_for(accept.as_mut());
            end(&cluster);
            assert!(woken.is_set());
            assert_eq!(accept.await.unwrap_err().kind(), io::ErrorKind::NotConnected);
            cluster.restart("node-b");
            cluster.wait_for_members(2).await;
        }
    });
}

fn everybody_who_accepts_is_woken<R: TestRuntime>() {
    network::<R>().run(async |network| {
        let cluster = network.cluster(2).await;
        let listener = cluster.node("node-b").listen(9000).unwrap();
        let (mut first, mut second) = (pin!(listener.accept()), pin!(listener.accept()));
        let (first, second) = (wait_for(first.as_mut()), wait_for(second.as_mut()));
        cluster.node("node-a").connect("node-b:9000").await.unwrap();
        assert_eq!((first.is_set(), second.is_set()), (true, true));
    });
}

fn an_old_listener_takes_no_connection_of_the_next<R: TestRuntime>() {
    network::<R>().run(async |network| {
        let cluster = network.cluster(2).await;
        let old = cluster.node("node-b").listen(9000).unwrap();
        cluster.kill("node-b");
        cluster.restart("node-b");
        cluster.wait_for_members(2).await;
        let next = cluster.node("node-b").listen(9000).unwrap();
        let stream = cluster.node("node-a").connect("node-b:9000").await.unwrap();
        assert_eq!(old.accept().await.unwrap_err().kind(), io::ErrorKind::NotConnected);
        drop(old);
        next.accept().await.unwrap();
        cluster.node("node-a").connect("node-b:9000").await.unwrap();
        drop(stream);
    });
}

fn a_run_that_is_over_has_no_network<R: TestRuntime>() {
    network::<R>().run(async |network| {
        let cluster = network.cluster(2).await;
        let listener = cluster.node("node-a").listen(9000).unwrap();
        let refused = async |node: &TestNode| {
            let errors = [node.listen(9000).unwrap_err(), node.connect("node-a:9000").await.unwrap_err()];
            assert_eq!(errors.map(|error| error.kind()), [io::ErrorKind::NotConnected; 2]);
        };
        let ends: [fn(&TestCluster<R>); 2] = [|cluster| cluster.kill("node-b"), |cluster| cluster.power_off("node-b")];
        for end in ends {
            let before = cluster.node("node-b");
            end(&cluster);
            refused(&before).await;
            cluster.restart("node-b");
            cluster.wait_for_members(2).await;
            refused(&before).await;
            cluster.node("node-b").connect("node-a:9000").await.unwrap();
        }
        drop(listener);
    });
}

/// Whether something does not happen for a while.
async fn never<R: TestRuntime>(future: impl Future) -> bool {
    let happens = async {
        future.await;
        false
    };
    let late = async {
        R::Runtime::sleep(LEASE).await;
        true
    };
    or(happens, late).await
}

fn a_service_has_connections_of_its_own<R: TestRuntime>() {
    let service = async |node: TestNode| -> io::Result<()> {
        let listener = node.listen(9000)?;
        assert_eq!(listener.address().as_str(), format!("{}:9000", node.id()));
        loop {
            let mut stream = listener.accept().await?;
            let mut question = [0; 5];
            stream.read_exact(&mut question).await?;
            stream.write_all(node.id().as_bytes()).await?;
        }
    };
    network::<R>().run(async |network| {
        let cluster = network.services(3, service).await;
        let mut stream = cluster.node("node-a").connect("node-c:9000").await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "node-c");
        assert_eq!(cluster.node("node-a").listen(9000).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    });
}

fn a_partition_holds_what_is_on_its_way<R: TestRuntime>() {
    network::<R>().run(async |network| {
        let cluster = network.cluster(3).await;
        let (a, b) = (cluster.node("node-a"), cluster.node("node-b"));
        let (mut one, mut other) = connected(&a, &b).await;
        cluster.partition(["node-a"]);
        one.write_all(b"held").await.unwrap();
        let mut read = [0; 4];
        assert!(never::<R>(other.read_exact(&mut read)).await);
        let listener = b.listen(9001).unwrap();
        assert!(never::<R>(a.connect("node-b:9001")).await);
        cluster.heal();
        other.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"held");
        a.connect("node-b:9001").await.unwrap();
        drop(listener);
        cluster.wait_for_members(3).await;
    });
}

fn a_writer_waits_for_a_reader<R: TestRuntime>() {
    network::<R>().run(async |network| {
        let cluster = network.cluster(3).await;
        let (mut one, mut other) = connected(&cluster.node("node-a"), &cluster.node("node-b")).await;
        let mut written = 0;
        while let Some(length) = poll_once(one.write(&[7; 10_000])).await {
            written += length.unwrap();
            assert!(written <= 1_000_000, "a pipe is full at some time");
        }
        let mut all = vec![0; written];
        other.read_exact(&mut all).await.unwrap();
        assert_eq!(all, vec![7; written]);
        assert!(poll_once(one.write(&[7])).await.is_some(), "there is room again");
    });
}

fn a_connection_ends_with_its_process<R: TestRuntime>() {
    network::<R>().run(async |network| {
        let cluster = network.cluster(3).await;
        let (mut one, mut other) = connected(&cluster.node("node-a"), &cluster.node("node-b")).await;
        one.write_all(b"last").await.unwrap();
        cluster.kill("node-a");
        let mut read = Vec::new();
        other.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"last");
        assert_eq!(other.write(b"late").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    });
}

fn nobody_is_found_where_nobody_listens<R: TestRuntime>() {
    network::<R>().run(async |network| {
        let cluster = network.cluster(2).await;
        let node = cluster.node("node-a");
        for (address, kind) in [
            ("node-b:1", io::ErrorKind::ConnectionRefused),
            ("node-x:1", io::ErrorKind::NotFound),
            ("node-b", io::ErrorKind::Other),
        ] {
            assert_eq!(node.connect(address).await.unwrap_err().kind(), kind, "{address}");
        }
    });
}

fn a_listener_has_a_limit<R: TestRuntime>() {
    network::<R>().run(async |network| {
        let cluster = network.cluster(2).await;
        let node = cluster.node("node-a");
        let listener = node.listen(1).unwrap();
        let mut open = Vec::new();
        let refused = loop {
            match node.connect("node-a:1").await {
                Ok(stream) => {
                    open.push(stream);
                    assert!(open.len() < 1000, "nothing refuses them");
                }
                Err(error) => break error,
            }
        };
        assert_eq!((open.len(), refused.kind()), (128, io::ErrorKind::ConnectionRefused));
        listener.accept().await.unwrap();
        node.connect("node-a:1").await.unwrap();
    });
}

fn what_a_node_without_power_has_sent_is_lost<R: TestRuntime>() {
    network::<R>().run(async |network| {
        let cluster = network.cluster(3).await;
        let (mut one, mut other) = connected(&cluster.node("node-a"), &cluster.node("node-b")).await;
        one.write_all(b"lost").await.unwrap();
        cluster.power_off("node-a");
        drop(one);
        assert!(never::<R>(other.read(&mut [0])).await);
        other.write_all(b"nobody takes it").await.unwrap();
        cluster.restart("node-a");
        assert_eq!(other.read(&mut [0]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        cluster.wait_for_members(3).await;
    });
}
