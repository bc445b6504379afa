mod handing_over;
mod voters;

use std::{convert::identity, sync::Mutex, time::Duration};

use formation_core::{
    Address, ConnId, DialId, DialProblem, Event, HardState, Incarnation, Phase, Problem, Start, Timing,
};
use futures_lite::{
    future::yield_now,
    io::{AsyncReadExt, AsyncWriteExt},
};

use super::*;
use crate::testing::{Pipes, Smol, pipes};
use crate::{
    driver::{Io, SharedStore},
    ending::{LeaveError, Unfinished},
    events::RecvError,
    handle::{CommandError, Stopped},
    permits::Permits,
};

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
    handle: ClusterHandle,
    calls: channel::Sender<Pipes>,
    reports: Receiver<Report<Pipes>>,
    to_driver: channel::Sender<Report<Pipes>>,
}

/// Its clock counts from the boot, and the timers of the node from `now`.
fn node(config: Config, now: Timestamp) -> (TestNode, Ends) {
    node_with(config, (Start::new(Incarnation(1), 1), None), now)
}

fn node_with(config: Config, (start, store): (Start, Option<Store>), now: Timestamp) -> (TestNode, Ends) {
    let formation = Formation::new(config, start, now);
    let log = Log::new(formation.node());
    let clock = Clock::start();
    let (publisher, shared, events) = Publisher::new(&formation, clock.clone());
    let (handle, requests) = ClusterHandle::new(&formation, shared, events);
    let (calls, called) = channel::unbounded();
    let (to_driver, reports) = channel::unbounded();
    let places = AcceptPlaces::new(formation.config().limits(), formation.config().timing());
    let settings = (publisher.shared(), formation.config().timing());
    let tasks = Tasks::new(Arc::new(Switchboard(called)), settings, identity, to_driver.clone(), log.clone());
    let driver = Driver::new(formation, tasks, store, log, publisher);
    let sources = Sources { turns: Turns::new(), requests: Inbox(requests), reports: Inbox(reports.clone()) };
    let node = Node { clock, places, sources, handover: None, keeper: None, driver };
    (node, Ends { handle, calls, reports, to_driver })
}

fn single() -> Config {
    Config::single("test", "a", "a:1").local().build().unwrap()
}

/// Puts the request into the queue of the driver.
fn leave(handle: &ClusterHandle) {
    assert!(future::block_on(future::poll_once(pin!(handle.leave()))).is_none());
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
    leave(&ends.handle);
    ends.to_driver.try_send(Report::Closed { conn: ConnId(1), error: None }).unwrap();
    let (deadline, clock) = (node.driver.next_deadline(), node.clock.clone());
    let mut took: Vec<_> = (0..3)
        .map(|_| smol::block_on(node.sources.next(due::<Smol>(deadline, &clock), pending())))
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
    let timing = Timing::local().with_handshake_timeout(Duration::from_secs(3600));
    let config = Config::builder("test", "a", "a:1").seeds(["a:1", "b:1"]).timing(timing).build().unwrap();
    let (node, Ends { handle, calls, reports, to_driver }) = node(config, Clock::start().now());
    drop(to_driver);
    let running = smol::spawn(node.run());
    let (theirs, _unauthenticated) = pipes(64);
    calls.send(theirs).await.unwrap();
    // The driver has one sender, the dial and the connection have two each.
    while reports.sender_count() < 5 {
        yield_now().await;
    }
    if by_leaving {
        handle.leave().await.unwrap();
        running.await;
    } else {
        drop(running);
    }
    while reports.sender_count() > 0 {
        yield_now().await;
    }
}

/// Before it takes a new connection, the driver handles what the older ones have reported.
#[test]
fn a_node_that_a_panic_has_ended_stays_stopped() {
    let (mut node, ends) = node(single(), Clock::start().now());
    node.driver.handle_own(node.clock.now(), Input::Tick);
    assert_eq!(ends.handle.status().phase, Phase::Master);
    ends.to_driver.try_send(Report::Panicked).unwrap();
    ends.to_driver.try_send(Report::PersistDelayed { seq: 0 }).unwrap();
    let place = future::block_on(node.places.take());
    let (stream, _peer) = pipes(64);
    node.accepted(Ok((Opening::ready(stream), place)));
    assert_eq!((ends.handle.status().phase, ends.handle.leadership()), (Phase::Stopped, None));
    assert_eq!(node.driver.end().open.len(), 0);
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
        let (handle, driver) = start_node::<Smol, _, _>(single(), transport, &Environment::system(), identity).unwrap();
        let _running = smol::spawn(driver);
        handle.wait_for_master().await.unwrap();
        let (stream, mut peer) = pipes(64);
        calls.send(stream).await.unwrap();
        // Garbage closes the connection.
        peer.write_all(&[0; 4]).await.unwrap();
        peer.read_to_end(&mut Vec::new()).await.unwrap();
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

/// A transport with a bug at the place that is named.
struct Faulty {
    place: FaultPlace,
    calls: Switchboard,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FaultPlace {
    Accept,
    Connect,
    Opening,
}

impl Transport for Faulty {
    type Stream = Pipes;

    async fn accept(&self) -> io::Result<Opening<Pipes>> {
        let opening = self.calls.accept().await?;
        match self.place {
            FaultPlace::Accept => bug(),
            FaultPlace::Opening => Ok(Opening::new(async { bug() })),
            FaultPlace::Connect => Ok(opening),
        }
    }

    async fn connect(&self, _: &Address, _: Duration) -> io::Result<Opening<Pipes>> {
        match self.place {
            FaultPlace::Connect => bug(),
            FaultPlace::Accept | FaultPlace::Opening => pending().await,
        }
    }
}

/// Panics without a report to the standard error. With `RUST_BACKTRACE`, on a busy machine, the report takes longer than a dial may take.
fn bug() -> ! {
    std::panic::resume_unwind(Box::new("a bug"))
}

async fn last_event(handle: &ClusterHandle) -> Event {
    let (mut events, mut last) = (handle.events(), None);
    loop {
        match events.recv().await {
            Ok(event) => last = Some(event),
            Err(RecvError::Stopped) => return last.unwrap(),
            Err(error) => panic!("{error}"),
        }
    }
}

fn is_over(handle: &ClusterHandle) {
    let status = handle.status();
    assert_eq!((status.phase, status.master, handle.leadership()), (Phase::Stopped, None, None));
    assert_eq!(smol::block_on(handle.wait_for_master()), Err(Stopped));
    assert_eq!(smol::block_on(handle.wait_for_members(1)), Err(Stopped));
}

fn start_faulty(place: FaultPlace, config: Config) -> (ClusterHandle, smol::Task<()>, channel::Sender<Pipes>) {
    let (calls, called) = channel::unbounded();
    let transport = Faulty { place, calls: Switchboard(called) };
    let (handle, driver) = start_node::<Smol, _, _>(config, transport, &Environment::system(), identity).unwrap();
    (handle, smol::spawn(driver), calls)
}

#[test]
fn a_panic_of_the_listener_ends_the_node_and_its_handle_says_so() {
    let ends = async {
        let (handle, running, calls) = start_faulty(FaultPlace::Accept, single());
        handle.wait_for_master().await.unwrap();
        calls.send(pipes(64).0).await.unwrap();
        assert_eq!(last_event(&handle).await, Event::Stopped { reason: StopReason::Failed });
        running.await;
        is_over(&handle);
    };
    smol::block_on(future::or(ends, too_long("a node goes on without its listener")));
}

/// A peer may have caused it.
#[test]
fn a_panic_on_one_connection_ends_only_that_connection() {
    let goes_on = async {
        let (handle, _running, calls) = start_faulty(FaultPlace::Opening, single());
        handle.wait_for_master().await.unwrap();
        for _ in 0..3 {
            let (ours, mut theirs) = pipes(64);
            calls.send(ours).await.unwrap();
            assert_eq!(theirs.read(&mut [0]).await.unwrap(), 0, "the connection is closed");
        }
        assert!(handle.leadership().is_some(), "the node is master as before");
    };
    smol::block_on(future::or(goes_on, too_long("the connection stays open")));
}

#[test]
fn a_panic_of_a_dial_is_a_dial_that_has_failed() {
    let fails = async {
        let config = Config::builder("test", "a", "a:1").seeds(["a:1", "b:1"]).local().build().unwrap();
        let (handle, _running, _calls) = start_faulty(FaultPlace::Connect, config);
        let problem = loop {
            let explanation = handle.explain().await.unwrap();
            if let Some(problem) = explanation.voters.iter().find_map(|voter| voter.problem) {
                break problem;
            }
            yield_now().await;
        };
        assert_eq!(problem, Problem::NotReached(DialProblem::Other));
    };
    smol::block_on(future::or(fails, too_long("the dial has no result")));
}

#[test]
fn a_handle_says_that_its_dropped_node_is_over() {
    let ends = async {
        let (_calls, called) = channel::unbounded();
        let (handle, driver) =
            start_node::<Smol, _, _>(single(), Switchboard(called), &Environment::system(), identity).unwrap();
        let running = smol::spawn(driver);
        handle.wait_for_master().await.unwrap();
        drop(running);
        assert_eq!(last_event(&handle).await, Event::Stopped { reason: StopReason::ShutDown });
        is_over(&handle);
        handle.shutdown().await;
    };
    smol::block_on(future::or(ends, too_long("the node goes on")));
}

#[test]
fn a_node_starts_again_at_once_after_it_was_shut_down() {
    let again = async {
        let dir = tempfile::tempdir().unwrap();
        let seeds = ["a:1", "b:1"];
        for _ in 0..10 {
            let dir = dir.path();
            let config = Config::builder("test", "a", "a:1").seeds(seeds).local().state_dir(dir).build().unwrap();
            let (calls, called) = channel::unbounded();
            let (handle, driver) =
                start_node::<Smol, _, _>(config, Switchboard(called), &Environment::system(), identity).unwrap();
            let running = smol::spawn(driver);
            calls.send(pipes(64).0).await.unwrap();
            handle.shutdown().await;
            assert!(calls.is_closed(), "the listener is closed");
            assert_eq!(last_event(&handle).await, Event::Stopped { reason: StopReason::ShutDown });
            is_over(&handle);
            running.await;
        }
    };
    smol::block_on(future::or(again, too_long("the node does not end")));
}

/// A disk that does not answer before the lock of the store is released.
fn hung_disk() -> (tempfile::TempDir, SharedStore) {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::single("test", "a", "a:1").state_dir(dir.path()).build().unwrap();
    let (_, store) = crate::begin(&config).unwrap();
    (dir, Arc::new(Mutex::new(store.expect("there is a state_dir"))))
}

#[expect(clippy::await_holding_lock, reason = "only the thread that writes waits for it")]
#[test]
fn a_stopped_node_answers_while_its_disk_hangs() {
    let answers = async {
        let (mut node, Ends { handle, .. }) = node(single(), Clock::start().now());
        let (_dir, store) = hung_disk();
        let disk = store.lock().unwrap();
        node.driver.io.persist(&store, 1, HardState::default());
        let running = smol::spawn(node.run());
        handle.wait_for_master().await.unwrap();
        let (mut watch, mut events) = (handle.watch(), handle.events());
        let (mut leaving, mut waiting) = (pin!(handle.leave()), pin!(handle.wait_for_members(2)));
        assert!(future::poll_once(&mut waiting).await.is_none());
        assert!(future::poll_once(&mut leaving).await.is_none());
        while events.recv().await != Ok(Event::Stopped { reason: StopReason::Left }) {}
        assert_eq!(waiting.await, Err(Stopped));
        assert_eq!(handle.wait_for_master().await, Err(Stopped));
        assert_eq!(watch.changed().await, Err(Stopped));
        assert_eq!(handle.explain().await, Err(Stopped));
        assert_eq!(handle.set_metadata("new").await, Err(CommandError::Stopped(Stopped)));
        assert_eq!(handle.add_contacts([]).await, Err(CommandError::Stopped(Stopped)));
        let (mut again, mut shutdown) = (pin!(handle.leave()), pin!(handle.shutdown()));
        assert!(future::poll_once(&mut leaving).await.is_none(), "the directory is not free yet");
        assert!(future::poll_once(&mut again).await.is_none());
        assert!(future::poll_once(&mut shutdown).await.is_none());
        drop(disk);
        assert_eq!((leaving.await, again.await, shutdown.await), (Ok(()), Err(Stopped), ()));
        running.await;
    };
    smol::block_on(future::or(answers, too_long("it waits for the disk")));
}

/// Each limit has to be waited for, and after it only the directory is in use.
#[expect(clippy::await_holding_lock, reason = "only the thread that writes waits for it")]
#[test]
fn a_limit_ends_the_wait_for_a_hung_disk() {
    let ends = async {
        for by_leaving in [true, false] {
            let (mut node, Ends { handle, calls, .. }) = node(single(), Clock::start().now());
            let (_dir, store) = hung_disk();
            let disk = store.lock().unwrap();
            node.driver.io.persist(&store, 1, HardState::default());
            let running = smol::spawn(node.run());
            handle.wait_for_master().await.unwrap();
            let write = Unfinished { leave: false, write: true };
            // The first limit is enough to leave, even on a busy machine.
            for millis in [1000, 10] {
                let (limit, begun) = (Duration::from_millis(millis), handle.now());
                if by_leaving {
                    assert_eq!(handle.leave_within(limit).await, Err(LeaveError::Unfinished(write)));
                } else {
                    assert_eq!(handle.shutdown_within(limit).await, Err(write));
                }
                assert!(handle.now() >= begun + limit, "the disk had less time");
                assert!(calls.is_closed(), "the port is free");
                assert_eq!((handle.status().phase, handle.leadership()), (Phase::Stopped, None));
            }
            let (mut late, mut early) = (
                pin!(handle.shutdown_within(Duration::from_secs(3600))),
                pin!(handle.shutdown_within(Duration::from_millis(1))),
            );
            assert!(future::poll_once(&mut late).await.is_none());
            assert_eq!(early.as_mut().await, Err(write));
            assert!(future::poll_once(&mut late).await.is_none(), "its own limit has not passed");
            drop(disk);
            assert_eq!(late.await, Ok(()));
            assert_eq!(handle.leave_within(Duration::ZERO).await, Err(LeaveError::Stopped(Stopped)));
            running.await;
        }
    };
    smol::block_on(future::or(ends, too_long("it waits for the disk")));
}

/// Two nodes that reach each other by pipes.
struct Network {
    own: Receiver<Pipes>,
    other: channel::Sender<Pipes>,
}

impl Transport for Network {
    type Stream = Pipes;

    async fn accept(&self) -> io::Result<Opening<Pipes>> {
        received_or_closed(&self.own).await
    }

    async fn connect(&self, _: &Address, _: Duration) -> io::Result<Opening<Pipes>> {
        let (ours, theirs) = pipes(64 * 1024);
        self.other.send(theirs).await.map_err(io::Error::other)?;
        Ok(Opening::ready(ours))
    }
}

/// Without its master it would wait for the next one, to be removed from its view.
#[test]
fn a_node_that_leaves_too_slowly_ends_without_leaving() {
    let ends = async {
        let timing = Timing::local().with_down_after(Duration::from_secs(3600));
        let [(to_a, at_a), (to_b, at_b)] = [channel::unbounded(), channel::unbounded()];
        let nodes = [("a", at_a, to_b), ("b", at_b, to_a)].map(|(id, own, other)| {
            let seeds = ["a:1", "b:1"];
            let config = Config::builder("test", id, format!("{id}:1")).seeds(seeds).timing(timing.clone());
            let network = Network { own, other };
            let (handle, driver) =
                start_node::<Smol, _, _>(config.build().unwrap(), network, &Environment::system(), identity).unwrap();
            (handle, smol::spawn(driver))
        });
        for (handle, _) in &nodes {
            handle.wait_for_members(2).await.unwrap();
        }
        let [first, second] = nodes;
        let (master, (left, runs)) = if first.0.leadership().is_some() { (first, second) } else { (second, first) };
        master.0.shutdown().await;
        let mut leaving = pin!(left.leave());
        assert!(future::poll_once(&mut leaving).await.is_none());
        let unfinished = Unfinished { leave: true, write: false };
        assert_eq!(left.leave_within(Duration::from_millis(10)).await, Err(LeaveError::Unfinished(unfinished)));
        assert_eq!(leaving.await, Err(Stopped), "it has not left");
        assert_eq!(last_event(&left).await, Event::Stopped { reason: StopReason::ShutDown });
        is_over(&left);
        assert_eq!(left.leave_within(Duration::ZERO).await, Err(LeaveError::Stopped(Stopped)));
        runs.await;
    };
    smol::block_on(future::or(ends, too_long("it waits for the next master")));
}

/// Its sender lives on, as the task does that waits for a hung disk.
#[test]
fn a_connection_in_the_queue_closes_with_its_node() {
    let closes = async {
        let (node, Ends { to_driver, .. }) = node(single(), Clock::start().now());
        let (ours, mut theirs) = pipes(64);
        let address = Address::new("b:1").unwrap();
        to_driver.try_send(Report::Dialed { dial: DialId(1), address, result: Ok(Opening::ready(ours)) }).unwrap();
        drop(node);
        assert_eq!(theirs.read(&mut [0]).await.unwrap(), 0);
    };
    smol::block_on(future::or(closes, too_long("the socket stays open")));
}

#[test]
fn a_request_that_waits_ends_with_its_node() {
    let ends = async {
        let (node, Ends { handle, .. }) = node(single(), Clock::start().now());
        let (mut explaining, mut setting) = (pin!(handle.explain()), pin!(handle.set_metadata("new")));
        assert!(future::poll_once(&mut explaining).await.is_none());
        assert!(future::poll_once(&mut setting).await.is_none());
        drop(node);
        assert_eq!(explaining.await, Err(Stopped));
        assert_eq!(setting.await, Err(CommandError::Stopped(Stopped)));
    };
    smol::block_on(future::or(ends, too_long("it waits for an answer")));
}

#[test]
fn a_node_does_not_start_where_it_cannot_run() {
    /// A runtime that has nothing.
    struct Nothing;

    impl Runtime for Nothing {
        type Task = smol::Task<()>;

        fn check() -> Result<(), &'static str> {
            Err("there are no timers")
        }

        fn spawn(_: impl Future<Output = ()> + Send + 'static) -> Self::Task {
            unreachable!("nothing is started")
        }

        fn is_finished(_: &Self::Task) -> bool {
            unreachable!("nothing is started")
        }

        async fn cancel(_: Self::Task) {
            unreachable!("nothing is started")
        }

        async fn sleep(_: Duration) {
            unreachable!("nothing is started")
        }

        async fn unblock<T: Send + 'static>(_: impl FnOnce() -> T + Send + 'static) -> T {
            unreachable!("nothing is started")
        }
    }

    let (_calls, called) = channel::unbounded();
    let error = start_node::<Nothing, _, _>(single(), Switchboard(called), &Environment::system(), identity)
        .map(|_| ())
        .unwrap_err();
    assert_eq!(error.to_string(), "there are no timers");
}

#[test]
fn a_limit_that_is_turned_off_starts() {
    let limits = formation_core::Limits::new().with_pending_connections(usize::MAX);
    let config = Config::single("test", "a", "a:1").local().limits(limits).build().unwrap();
    let (_calls, called) = channel::unbounded();
    let (handle, driver) =
        start_node::<Smol, _, _>(config, Switchboard(called), &Environment::system(), identity).unwrap();
    let _running = smol::spawn(driver);
    smol::block_on(handle.wait_for_master()).unwrap();
}

#[test]
fn only_the_own_machine_reaches_a_loopback_address() {
    for (address, is_own) in [
        ("127.0.0.1:1", true),
        ("127.9.9.9:1", true),
        ("[::1]:1", true),
        ("localhost:1", true),
        ("a.localhost:1", true),
        ("10.0.0.1:1", false),
        ("[fe80::1]:1", false),
        ("db-1:1", false),
    ] {
        assert_eq!(is_on_this_machine(&Address::new(address).unwrap()), is_own, "{address}");
    }
}
