use std::{convert::identity, time::Duration};

use formation_core::{Address, Command, ConnId, Incarnation, Start, Timing};
use futures_lite::io::AsyncWriteExt;

use super::*;
use crate::testing::{Pipes, Smol, pipes};

/// A node that is reached by pipes in memory. Its dials never end.
struct Switchboard(Receiver<Pipes>);

impl Transport for Switchboard {
    type Stream = Pipes;

    async fn accept(&self) -> io::Result<Opening<Pipes>> {
        received_or_closed(&self.0).await
    }

    async fn connect(&self, _: &Address, _: Duration) -> io::Result<Opening<Pipes>> {
        pending().await
    }
}

async fn received_or_closed(calls: &Receiver<Pipes>) -> io::Result<Opening<Pipes>> {
    calls.recv().await.map(Opening::ready).map_err(io::Error::other)
}

type TestNode = Node<Smol, Switchboard, Pipes>;

/// What a test keeps of a node that runs.
struct Ends {
    calls: channel::Sender<Pipes>,
    requests: channel::Sender<Request>,
    reports: Receiver<Report<Pipes>>,
    to_driver: channel::Sender<Report<Pipes>>,
}

/// Its clock counts from the boot, and the timers of the node from `now`.
fn node(config: Config, now: Timestamp) -> (TestNode, Ends) {
    let formation = Formation::new(config, Start::new(Incarnation(1), 1), now);
    let log = Log::new(formation.node());
    let (publisher, _, _) = Publisher::new(&formation, now);
    let (calls, called) = channel::unbounded();
    let (requests, incoming) = channel::bounded(16);
    let (to_driver, reports) = channel::unbounded();
    let permits = unread(formation.config().limits());
    let seeds = formation.config().seeds().clone();
    let tasks = Tasks::new(Arc::new(Switchboard(called)), seeds, identity, to_driver.clone(), log.clone());
    let driver = Driver::new(formation, tasks, None, log, publisher);
    let sources = Sources { turns: Turns::new(), requests: incoming, reports: reports.clone() };
    let node = Node { clock: Clock::start(), permits, sources, driver };
    (node, Ends { calls, requests, reports, to_driver })
}

fn single() -> Config {
    Config::single("test", "a", "a:1").local().build().unwrap()
}

fn leave(requests: &channel::Sender<Request>) {
    let (reply, _) = channel::bounded(1);
    requests.try_send(Request { command: Command::Leave, reply }).unwrap();
}

/// Far more than any test takes: it makes a test fail that would hang.
async fn too_long(what: &str) {
    smol::Timer::after(Duration::from_secs(20)).await;
    panic!("{what}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_node_late_for_every_deadline_serves_requests_and_peers() {
    let (mut node, ends) = node(single(), Timestamp::ZERO);
    leave(&ends.requests);
    ends.to_driver.try_send(Report::Closed { conn: ConnId(1), error: None }).unwrap();
    let (deadline, clock) = (node.driver.next_deadline(), node.clock);
    let mut took: Vec<_> = (0..3)
        .map(|_| smol::block_on(node.sources.next(due::<Smol>(deadline, clock), pending())))
        .map(|next| match next {
            Next::Due => 0,
            Next::Request(_) => 1,
            Next::Report(_) => 2,
            Next::Accepted(_) => 3,
        })
        .collect();
    took.sort_unstable();
    assert_eq!(took, [0, 1, 2], "each has its turn");
}

/// Every task except the driver can report something.
#[test]
fn no_task_outlives_its_driver() {
    let both = async {
        ends(true).await;
        ends(false).await;
    };
    smol::block_on(future::or(both, too_long("a task is left")));
}

async fn ends(by_leaving: bool) {
    // No task ends because its time is up.
    let timing = Timing { handshake_timeout: Duration::from_secs(3600), ..Timing::local() };
    let config = Config::builder("test", "a", "a:1").seeds(["a:1", "b:1"]).timing(timing).build().unwrap();
    let (node, Ends { calls, requests, reports, to_driver }) = node(config, Clock::start().now());
    drop(to_driver);
    let running = smol::spawn(node.run());
    let (theirs, _unauthenticated) = pipes(64);
    calls.send(theirs).await.unwrap();
    // The driver has one sender, the dial and the connection have one each.
    while reports.sender_count() < 3 {
        yield_now().await;
    }
    if by_leaving {
        leave(&requests);
        running.await;
    } else {
        drop(running);
    }
    while reports.sender_count() > 0 {
        yield_now().await;
    }
}

/// A peer that sends faster than the node reads can cause this at any moment.
#[test]
fn a_node_whose_peer_floods_it_can_leave() {
    let leaves = async {
        let (mut node, ends) = node(single(), Clock::start().now());
        let (stream, mut peer) = pipes(64 * 1024);
        node.driver.opened(node.clock.now(), Opening::ready(stream), Origin::Accepted, None);
        // More than one read takes, so the reader waits until the driver has handled the first chunk.
        peer.write_all(&[0; 64 * 1024]).await.unwrap();
        while ends.reports.is_empty() {
            yield_now().await;
        }
        leave(&ends.requests);
        node.run().await;
    };
    smol::block_on(future::or(leaves, too_long("the driver waits for a reader that waits for the driver")));
}

#[test]
fn accepting_goes_on_after_a_failure() {
    struct FailsOnce(std::sync::atomic::AtomicBool, Switchboard);

    impl Transport for FailsOnce {
        type Stream = Pipes;

        async fn accept(&self) -> io::Result<Opening<Pipes>> {
            if !self.0.swap(true, std::sync::atomic::Ordering::Relaxed) {
                return Err(io::Error::other("too many open files"));
            }
            self.1.accept().await
        }

        async fn connect(&self, _: &Address, _: Duration) -> io::Result<Opening<Pipes>> {
            pending().await
        }
    }

    let accepts = async {
        let (calls, called) = channel::unbounded();
        let transport = FailsOnce(Default::default(), Switchboard(called));
        let (handle, driver) = start_node::<Smol, _, _>(single(), transport, identity).unwrap();
        let _running = smol::spawn(driver);
        handle.wait_for_master().await.unwrap();
        let (stream, mut peer) = pipes(64);
        calls.send(stream).await.unwrap();
        // Garbage closes the connection.
        peer.write_all(&[0; 4]).await.unwrap();
        futures_lite::io::AsyncReadExt::read_to_end(&mut peer, &mut Vec::new()).await.unwrap();
    };
    smol::block_on(future::or(accepts, too_long("nothing is accepted any more")));
}

#[test]
fn a_turn_ends_after_so_many_inputs_or_bytes() {
    let turn = |len: usize| {
        let mut spent = Spent::default();
        let mut handled = 1;
        loop {
            let permit = future::block_on(Permits::new(1).take());
            spent.received(&Report::<()>::Received { conn: ConnId(1), chunk: vec![0; len].into(), permit });
            if spent.turn_is_over() {
                assert_eq!((spent.inputs, spent.bytes), (0, 0));
                return handled;
            }
            handled += 1;
        }
    };
    assert_eq!(turn(0), INPUTS_AT_ONCE);
    assert_eq!(turn(BYTES_AT_ONCE / 4), 4);
}
