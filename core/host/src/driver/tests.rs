//! The driver without a runtime: its calls are recorded, each with the phase that was published when it was made.

use std::{
    cell::{Cell, RefCell},
    net::IpAddr,
    pin::pin,
    rc::Rc,
    task::{Context, Poll, Wake, Waker},
};

use formation_core::{
    Change, Command, Config, ConfigBuilder, Incarnation, Member, MemberState, Node, NodeId, Phase, Remote,
    RemovalReason, Start, Term, TlsProblem, ViewId,
};
use futures_lite::future::{block_on, poll_once};

use super::*;
use crate::{accept::AcceptPlace, log::tests::logged, permits::Permits, store::MemoryStore};

const NOW: Timestamp = Timestamp::ZERO;
const FAILURE: TlsFailure = TlsFailure::new(true, TlsProblem::Expired);

/// What a driver has called.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Call {
    Dial(Address),
    Open(ConnId),
    Send(ConnId, Bytes),
    HandOff(ConnId),
    Close(ConnId),
    Cut(ConnId),
    Persist(u64),
}

/// The calls of a driver, and the state that it publishes.
#[derive(Clone)]
struct Record {
    shared: Arc<Shared>,
    calls: Rc<RefCell<Vec<(Call, Phase)>>>,
}

impl Record {
    fn add(&self, call: Call) {
        self.calls.borrow_mut().push((call, self.phase()));
    }

    fn phase(&self) -> Phase {
        self.shared.lock().status.phase
    }

    fn bytes_received(&self) -> u64 {
        self.shared.lock().status.counters.bytes_received
    }

    /// The calls since the last look.
    fn take(&self) -> Vec<Call> {
        self.calls.take().into_iter().map(|(call, _)| call).collect()
    }
}

struct Recorded {
    conn: ConnId,
    record: Record,
    is_finished: Rc<Cell<bool>>,
}

impl Connection for Recorded {
    fn send(&self, bytes: Bytes) -> Result<(), SecondSend> {
        self.record.add(Call::Send(self.conn, bytes));
        Ok(())
    }

    fn hand_off(&self) {
        self.record.add(Call::HandOff(self.conn));
    }

    fn close(&mut self) {
        self.record.add(Call::Close(self.conn));
    }

    fn is_finished(&self) -> bool {
        self.is_finished.get()
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        self.record.add(Call::Cut(self.conn));
    }
}

struct Recorder {
    record: Record,
    /// Whether closed connections have nothing left to be done.
    is_finished: Rc<Cell<bool>>,
}

impl Io for Recorder {
    type Stream = ();
    type Connection = Recorded;

    fn dial(&mut self, _: DialId, address: Address, _: Duration, _: bool) {
        self.record.add(Call::Dial(address));
    }

    fn open(&mut self, conn: ConnId, _: Opening<()>, _: Option<AcceptPlace>) -> Recorded {
        self.record.add(Call::Open(conn));
        Recorded { conn, record: self.record.clone(), is_finished: self.is_finished.clone() }
    }

    fn discover(&mut self, _: usize, _: Box<dyn AnyDiscovery>) {}

    fn persist(&mut self, _: &SharedStore, seq: u64, _: HardState) {
        self.record.add(Call::Persist(seq));
    }

    fn notifier(&self) -> Notifier {
        Arc::new(|_| {})
    }

    fn tls_failure(&self, error: &io::Error) -> Option<TlsFailure> {
        (error.kind() == io::ErrorKind::InvalidData).then_some(FAILURE)
    }
}

struct Rig {
    driver: Driver<Recorder>,
    record: Record,
    events: async_broadcast::Receiver<Arc<Event>>,
}

impl Rig {
    /// A node that starts alone, with its votes in memory.
    fn single() -> Self {
        Self::new(Config::single("test", "a", "a:1"), None)
    }

    fn new(config: ConfigBuilder, store: Option<Store>) -> Self {
        let config = config.local().build().unwrap();
        let formation = Formation::new(config, Start::new(Incarnation(1), 1), NOW);
        let log = Log::new(formation.node());
        let (publisher, shared, events) = Publisher::new(&formation, crate::Clock::start());
        let record = Record { shared, calls: Rc::default() };
        let io = Recorder { record: record.clone(), is_finished: Rc::default() };
        let mut driver = Driver::new(formation, io, store, log, publisher);
        driver.handle(NOW, Input::Tick).unwrap();
        Self { driver, record, events }
    }

    /// A peer opens a connection.
    fn accept(&mut self) -> ConnId {
        self.driver.opened(NOW, Opening::ready(()), Origin::Accepted, None);
        self.driver.newest
    }

    /// A dial has succeeded.
    fn dialed(&mut self, dial: DialId, address: &str) {
        let (address, result) = (Address::new(address).unwrap(), Ok(Opening::ready(())));
        self.driver.report(NOW, Report::Dialed { dial, address, result });
    }

    /// Bytes arrive on a connection.
    fn received(&mut self, conn: ConnId, chunk: Bytes) {
        let permit = block_on(Permits::new(1).take());
        self.driver.report(NOW, Report::Received { conn, chunk, permit });
    }

    /// Something that is no node connects from 10.0.0.x.
    fn probe(&mut self, last: u8) {
        let opening = Opening::ready(()).with_addr(([10, 0, 0, last], 40_000).into());
        self.driver.opened(NOW, opening, Origin::Accepted, None);
        self.received(self.driver.newest, Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n"));
    }

    /// A peer joins on a connection of its own.
    fn join(&mut self) -> ConnId {
        let config = Config::builder("test", "b", "b:1").seeds(["a:1"]).local().build().unwrap();
        let mut peer = Formation::new(config, Start::new(Incarnation(1), 2), NOW);
        let conn = self.accept();
        self.record.take();
        let mut inputs = vec![Input::Opened { conn, origin: Origin::Dialed(DialId(1)), remote: Remote::default() }];
        while !inputs.is_empty() {
            for input in inputs.drain(..) {
                peer.handle_input(NOW, input).unwrap();
            }
            while let Some(output) = peer.poll_output() {
                if let Output::Send { bytes, .. } = output {
                    self.received(conn, bytes);
                    inputs.push(Input::Flushed { conn });
                }
            }
            for call in self.record.take() {
                if let Call::Send(_, chunk) = call {
                    inputs.push(Input::Received { conn, chunk });
                    self.driver.report(NOW, Report::Flushed { conn });
                }
            }
        }
        assert_eq!(self.record.shared.lock().view.len(), 2);
        conn
    }

    fn leave(&mut self) {
        self.driver.handle(NOW, Input::Command(Command::Leave)).unwrap();
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.events.try_recv().ok()).map(Arc::unwrap_or_clone).collect()
    }
}

#[test]
fn the_state_is_published_before_any_output_is_performed() {
    let mut rig = Rig::single();
    assert_eq!(rig.record.phase(), Phase::Master);
    let conn = rig.accept();
    rig.record.take();
    rig.leave();
    let calls = rig.record.calls.borrow();
    assert!(calls.contains(&(Call::Close(conn), Phase::Stopped)), "{calls:?}");
}

/// Notes the phase that is published when it is woken.
struct Observer {
    shared: Arc<Shared>,
    phase: Mutex<Option<Phase>>,
}

impl Wake for Observer {
    fn wake(self: Arc<Self>) {
        *self.phase.lock().unwrap() = Some(self.shared.lock().status.phase);
    }
}

#[test]
fn an_event_follows_the_state_that_it_led_to() {
    let mut rig = Rig::single();
    rig.events();
    let observer = Arc::new(Observer { shared: rig.record.shared.clone(), phase: Mutex::default() });
    let waker = Waker::from(observer.clone());
    let mut events = rig.events.clone();
    let mut next = pin!(events.recv());
    assert!(next.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    rig.leave();
    assert_eq!(*observer.phase.lock().unwrap(), Some(Phase::Stopped));
    assert!(matches!(next.poll(&mut Context::from_waker(&waker)), Poll::Ready(Ok(_))));
}

#[test]
fn outputs_are_performed_in_order() {
    let mut rig = Rig::new(Config::builder("test", "c", "c:1").seeds(["a:1", "b:1", "c:1"]), None);
    let dials = ["a:1", "b:1"].map(|address| Call::Dial(Address::new(address).unwrap()));
    assert_eq!(rig.record.take(), dials);
    rig.dialed(DialId(1), "a:1");
    assert!(matches!(rig.record.take()[..], [Call::Open(ConnId(1)), Call::Send(ConnId(1), _)]));
}

#[test]
fn connection_ids_grow() {
    let mut rig = Rig::new(Config::builder("test", "b", "b:1").seeds(["a:1", "b:1"]), None);
    let first = rig.accept();
    rig.driver.report(NOW, Report::Closed { conn: first, error: None });
    rig.dialed(DialId(1), "a:1");
    assert_eq!((first, rig.driver.newest), (ConnId(1), ConnId(2)));
    assert_eq!(rig.accept(), ConnId(3));
}

#[test]
fn reports_of_a_closed_connection_are_ignored() {
    let mut rig = Rig::single();
    let (ended, open) = (rig.accept(), rig.accept());
    rig.driver.report(NOW, Report::Closed { conn: ended, error: None });
    rig.record.take();
    let chunk = Bytes::from_static(&[0]);
    rig.received(ended, chunk.clone());
    rig.driver.report(NOW, Report::Flushed { conn: ended });
    rig.driver.report(NOW, Report::Closed { conn: ended, error: Some(io::ErrorKind::InvalidData.into()) });
    assert_eq!((rig.record.bytes_received(), rig.record.take()), (0, vec![]));
    rig.received(open, chunk);
    assert_eq!(rig.record.bytes_received(), 1);
}

#[test]
fn a_connection_is_open_until_its_end_was_handled() {
    let mut rig = Rig::single();
    let conn = rig.join();
    rig.record.take();
    // A heartbeat is due before the end of the connection.
    let due = rig.driver.next_deadline().unwrap();
    rig.driver.report(due, Report::Closed { conn, error: None });
    let calls = rig.record.take();
    assert!(matches!(calls[..], [Call::Send(_, _), Call::Cut(_)]), "{calls:?}");
}

#[test]
fn the_oldest_of_too_many_closing_connections_is_cut() {
    let mut rig = Rig::single();
    let garbage = Bytes::from_static(&[0; 4]);
    for number in 1..=CLOSING as u64 + 1 {
        assert!(!rig.record.take().contains(&Call::Cut(ConnId(1))), "before connection {number}");
        let conn = rig.accept();
        rig.received(conn, garbage.clone());
    }
    let calls = rig.record.take();
    assert!(calls.ends_with(&[Call::Close(ConnId(CLOSING as u64 + 1)), Call::Cut(ConnId(1))]), "{calls:?}");

    // Those that have finished take no room.
    rig.driver.io.is_finished.set(true);
    let conn = rig.accept();
    rig.received(conn, garbage);
    assert_eq!(rig.driver.end().closing.iter().map(|connection| connection.conn).collect::<Vec<_>>(), [conn]);
}

#[test]
fn a_vote_in_memory_is_persisted_at_once() {
    let mut rig = Rig::single();
    assert!(rig.record.take().is_empty());
    assert_eq!(rig.record.phase(), Phase::Master);
    let events = rig.events();
    assert!(matches!(events[..], [Event::MasterElected { .. }, Event::ViewChanged { .. }]), "{events:?}");
}

#[test]
fn a_vote_with_a_store_waits_for_its_report() {
    let dir = tempfile::tempdir().unwrap();
    let config = || Config::single("test", "a", "a:1").state_dir(dir.path());
    let (_, store) = crate::begin(&config().local().build().unwrap()).unwrap();
    let mut rig = Rig::new(config(), store);
    let [Call::Persist(seq)] = rig.record.take()[..] else { panic!("one Persist") };
    assert_eq!(rig.record.phase(), Phase::Candidate);
    rig.driver.report(NOW, Report::Persisted { seq });
    assert_eq!(rig.record.phase(), Phase::Master);
}

/// Nothing waits for a thread, so that the runs of a test do not differ.
#[test]
fn a_vote_in_a_memory_store_is_kept_at_once() {
    let config = || Config::single("test", "a", "a:1");
    let environment = crate::Environment::system().store(MemoryStore::new());
    let (_, opened) = environment.begin(&config().local().build().unwrap()).unwrap();
    let rig = Rig::new(config(), opened);
    assert_eq!((rig.record.take(), rig.record.phase()), (vec![], Phase::Master));
    drop(rig);
    let (start, _) = environment.begin(&config().local().build().unwrap()).unwrap();
    assert_eq!(start.hard_state.term, Term(1));
}

#[test]
fn a_tls_failure_is_reported_as_the_reason_of_the_end() {
    let mut rig = Rig::single();
    let (untrusted, reset) = (rig.accept(), rig.accept());
    rig.events();
    rig.driver.report(NOW, Report::Closed { conn: reset, error: Some(io::ErrorKind::ConnectionReset.into()) });
    assert_eq!(rig.events(), []);
    rig.driver.report(NOW, Report::Closed { conn: untrusted, error: Some(io::ErrorKind::InvalidData.into()) });
    let reason = CloseReason::TlsFailed(FAILURE);
    assert_eq!(rig.events(), [Event::ConnClosed { conn: untrusted, dialed: None, peer_addr: None, reason }]);
}

#[test]
fn a_node_that_has_left_opens_nothing() {
    let mut rig = Rig::single();
    rig.leave();
    assert!(rig.driver.is_stopped());
    rig.record.take();
    rig.accept();
    rig.driver.handle(NOW, Input::Tick).unwrap();
    assert_eq!(rig.record.take(), []);
}

/// Further reports may be in the queue then.
#[test]
fn a_node_that_a_panic_has_ended_handles_nothing_more() {
    let mut rig = Rig::single();
    let conn = rig.join();
    rig.record.take();
    rig.events();
    rig.driver.report(NOW, Report::Panicked);
    rig.received(conn, Bytes::from_static(&[0]));
    rig.dialed(DialId(1), "b:1");
    rig.accept();
    rig.driver.report(NOW, Report::Closed { conn, error: None });
    rig.driver.handle(NOW, Input::Command(Command::SetMetadata("new".into()))).unwrap();
    rig.driver.handle(NOW, Input::Tick).unwrap();
    assert_eq!(rig.record.take(), []);
    assert_eq!(rig.events(), [Event::Stopped { reason: StopReason::Failed }]);
    let state = rig.record.shared.lock();
    assert_eq!((state.status.phase, &state.status.master, state.leadership), (Phase::Stopped, &None, None));
}

#[test]
fn a_command_over_a_limit_is_returned_and_changes_nothing() {
    let mut rig = Rig::single();
    rig.events();
    let metadata = vec![0; 100_000].into();
    let result = rig.driver.handle(NOW, Input::Command(Command::SetMetadata(metadata)));
    assert!(matches!(result, Err(Misuse::MetadataTooLong { .. })), "{result:?}");
    assert_eq!((rig.record.take(), rig.events()), (vec![], vec![]));
}

#[test]
fn a_dropped_driver_ends_waits_and_events() {
    let mut rig = Rig::single();
    rig.events();
    assert!(rig.record.shared.lock().leadership.is_some());
    let shared = rig.record.shared.clone();
    drop(rig.driver);
    assert!(shared.lock().leadership.is_none());
    let waited = block_on(shared.wait(|_| None::<()>));
    assert_eq!(waited, Err(crate::Stopped));
    assert_eq!(rig.events.try_recv(), Ok(Event::Stopped { reason: StopReason::ShutDown }.into()));
    assert_eq!(rig.events.try_recv(), Err(async_broadcast::TryRecvError::Closed));
}

#[test]
fn the_seeds_of_a_certificate_reach_only_an_open_connection() {
    let mut rig = Rig::single();
    let (ended, open) = (rig.accept(), rig.accept());
    rig.driver.report(NOW, Report::Closed { conn: ended, error: None });
    for (conn, changes) in [(ended, false), (open, true)] {
        let before = rig.driver.formation.clone();
        let seeds = BTreeSet::from([Address::new("a:1").unwrap()]);
        rig.driver.report(NOW, Report::Certified { conn, seeds });
        assert_eq!(rig.driver.formation != before, changes, "{conn}");
    }
}

/// A listener for both versions of IP reports IPv4 addresses in IPv6 notation.
#[test]
fn the_peers_ip_reaches_the_core_in_one_notation() {
    let accepted_from = |ip: Option<&str>| {
        let mut rig = Rig::single();
        let opening = Opening::ready(());
        let opening = match ip {
            Some(ip) => opening.with_addr((ip.parse::<IpAddr>().unwrap(), 7).into()),
            None => opening,
        };
        rig.driver.opened(NOW, opening, Origin::Accepted, None);
        rig.driver.formation
    };
    assert_eq!(accepted_from(Some("::ffff:10.0.0.1")), accepted_from(Some("10.0.0.1")));
    assert_ne!(accepted_from(Some("10.0.0.2")), accepted_from(Some("10.0.0.1")));
    assert_ne!(accepted_from(None), accepted_from(Some("10.0.0.1")));
}

/// Otherwise it would stay unread for ever, or be read while its last chunk still waits.
#[test]
fn a_connection_is_read_again_once_its_chunk_was_handled() {
    let mut rig = Rig::single();
    let (ended, open) = (rig.accept(), rig.accept());
    rig.driver.report(NOW, Report::Closed { conn: ended, error: None });
    for conn in [ended, open] {
        let permits = Permits::new(1);
        let permit = block_on(permits.take());
        assert!(block_on(poll_once(permits.take())).is_none());
        rig.driver.report(NOW, Report::Received { conn, chunk: Bytes::from_static(&[0]), permit });
        assert!(block_on(poll_once(permits.take())).is_some());
    }
}

/// An unauthenticated peer can cause as many as it likes.
#[test]
fn events_about_unproven_peers_are_limited_and_displace_none() {
    let mut rig = Rig::single();
    let mut late = rig.events.clone();
    rig.join();
    rig.events();
    for _ in 0..3 * crate::EVENT_BUFFER {
        let conn = rig.accept();
        rig.received(conn, Bytes::from_static(&[0; 4]));
    }
    let reason = CloseReason::EmptyFrame;
    let events = rig.events();
    assert!(events.iter().all(|event| matches!(event, Event::ConnClosed { reason: found, .. } if *found == reason)));
    assert_eq!(events.len(), 10);
    assert_eq!(rig.record.shared.lock().suppressed, 3 * crate::EVENT_BUFFER as u64 - 10);
    // A subscriber that has read nothing still finds its first event.
    assert!(matches!(late.try_recv().as_deref(), Ok(Event::MasterElected { .. })));
    rig.leave();
    assert!(matches!(rig.events()[..], [.., Event::Stopped { .. }]));
}

/// Peers can claim as many addresses as they like, and the core dials them.
#[test]
fn only_dials_of_configured_addresses_fail_with_a_warning() {
    let mut rig = Rig::new(Config::builder("test", "b", "b:1").seeds(["a:1", "b:1"]), None);
    let mut fails = |address: &str| {
        let (address, result) = (Address::new(address).unwrap(), Err(io::ErrorKind::ConnectionRefused.into()));
        let lines = logged(|| rig.driver.report(NOW, Report::Dialed { dial: DialId(0), address, result }));
        lines.iter().filter(|line| line.level() == tracing::Level::WARN && line.field("address").is_some()).count()
    };
    assert_eq!(fails("a:1"), 1);
    assert_eq!((0..2_000).map(|number| fails(&format!("claimed-{number}:1"))).sum::<usize>(), 0);
    assert_eq!(fails("a:1"), 0, "it was reported before");
}

/// One chunk can bring several views.
#[test]
fn each_view_is_logged_against_the_one_before() {
    let mut rig = Rig::single();
    let node = Node { id: NodeId::new("c").unwrap(), incarnation: Incarnation(1) };
    let address = Address::new("c:1").unwrap();
    let active = Member::new(node, address);
    let suspect = active.clone().with_state(MemberState::Suspect);
    let newer = Member::new(Node { incarnation: Incarnation(2), ..active.node.clone() }, active.address.clone());
    let removed = Change::Remove { id: active.node.id.clone(), reason: RemovalReason::Left };
    let changes = [Change::Upsert(active), Change::Upsert(suspect.clone()), Change::Upsert(newer), removed];
    let changes = changes.into_iter().chain([Change::Upsert(suspect.clone())]);
    // The core has only the view of this node alone.
    let own = rig.driver.formation.view().get("a").unwrap().clone();
    let changes = changes.chain([Change::Upsert(own.with_metadata("x"))]);
    let event = |change| Event::ViewChanged { view_id: ViewId::default(), changes: [change].into() };
    let mut lines = logged(|| changes.for_each(|change| rig.driver.event(NOW, event(change))));
    // After an input, the view of the core is the one before.
    rig.driver.handle(NOW, Input::Tick).unwrap();
    lines.extend(logged(|| rig.driver.event(NOW, event(Change::Upsert(suspect)))));
    let told: Vec<_> = lines.iter().map(|line| line.message().trim_start_matches("view changed: ")).collect();
    assert_eq!(told, ["joined: c", "suspect: c", "restarted: c", "left: c", "joined: c", "updated: a", "joined: c"]);
}

/// A probe of the port, say. The count follows in the log.
#[test]
fn a_source_that_fails_again_and_again_is_reported_once() {
    let mut rig = Rig::single();
    rig.events();
    (0..40).for_each(|_| rig.probe(1));
    // Another source is reported all the same.
    rig.probe(2);
    let sources: Vec<_> = rig
        .events()
        .into_iter()
        .map(|event| match event {
            Event::ConnClosed { peer_addr: Some(addr), reason: CloseReason::SpeaksHttp, .. } => addr.ip().to_string(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(sources, ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(rig.record.shared.lock().suppressed, 39);
    let lines = logged(|| rig.driver.handle(NOW + Duration::from_secs(60), Input::Tick).unwrap());
    let counts: Vec<_> = lines.iter().filter_map(|line| Some((line.field("source")?, line.field("count")?))).collect();
    assert_eq!(counts, [("10.0.0.1", "39")]);
}

#[test]
fn what_was_not_reported_is_counted_at_any_end() {
    let ends: [fn(&mut Rig); 2] = [Rig::leave, |rig| rig.driver.stop(StopReason::Failed)];
    for end in ends {
        let mut rig = Rig::single();
        (0..5).for_each(|_| rig.probe(1));
        for _ in 0..17 {
            let conn = rig.accept();
            rig.received(conn, Bytes::from_static(&[0; 4]));
        }
        let lines = logged(|| end(&mut rig));
        let counts: Vec<_> = lines.iter().filter_map(|line| line.field("count")).collect();
        assert_eq!(counts, ["7", "4"]);
    }
}

#[test]
fn dials_writes_and_the_ends_of_connections_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let config = || Config::single("test", "a", "a:1").state_dir(dir.path());
    let (_, store) = crate::begin(&config().local().build().unwrap()).unwrap();
    let mut rig = Rig::new(config(), store);
    let [Call::Persist(seq)] = rig.record.take()[..] else { panic!("one Persist") };
    let later = NOW + Duration::from_millis(3);
    rig.driver.report(later, Report::Persisted { seq });
    rig.probe(1);
    let conn = rig.accept();
    rig.driver.report(NOW, Report::Closed { conn, error: None });
    let config = rig.driver.formation.config().clone();
    let node = rig.driver.formation.node().clone();
    let text = format!("{:?}", crate::metrics::samples(&rig.record.shared.lock(), &config, &node, later, None));
    let count = |name: &str, label: &str| {
        let of_metric =
            text.split("Sample { metric").find(|it| it.contains(name) && it.contains(&format!("{label:?}")));
        of_metric.and_then(|it| it.split("Number(").nth(1)?.split(')').next()).map(str::to_owned)
    };
    assert_eq!(count("formation_closed_connections_total", "speaks_http").as_deref(), Some("1.0"));
    assert_eq!(count("formation_closed_connections_total", "ended").as_deref(), Some("1.0"));
    assert!(text.contains("count: 1, sum: 0.003"), "{text}");
}
