use std::time::Duration;
use std::{
    cell::RefCell,
    collections::BTreeMap,
    fmt,
    sync::{LazyLock, Once},
};

use formation_core::{
    ClusterName, Config, Formation, Incarnation, LossReason, NodeId, RejectReason, Start, StopReason, Timestamp,
    TlsFailure, TlsProblem, ViewId, ViewLimit, Waiting, message::Holder,
};
use tracing::{
    Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use super::*;
use crate::repeats::Source;

/// A log line: its target, its level, and its fields with the message.
pub(crate) struct Line(&'static str, Level, BTreeMap<&'static str, String>);

impl Line {
    pub(crate) fn message(&self) -> &str {
        &self.2["message"]
    }

    pub(crate) fn level(&self) -> Level {
        self.1
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.2.get(name).map(String::as_str)
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.2.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.2.insert(field.name(), value.to_owned());
    }
}

thread_local! {
    static LINES: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// Keeps the lines of each thread.
struct PerThread;

impl Subscriber for PerThread {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line(event.metadata().target(), *event.metadata().level(), BTreeMap::new());
        event.record(&mut line);
        LINES.with_borrow_mut(|lines| lines.push(line));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// What is logged meanwhile. The subscriber is global, as tests of other threads reach the same lines.
pub(crate) fn logged(log: impl FnOnce()) -> Vec<Line> {
    static GLOBAL: Once = Once::new();
    GLOBAL.call_once(|| tracing::subscriber::set_global_default(PerThread).unwrap());
    LINES.take();
    log();
    LINES.take()
}

/// How many lines of this thread [`logged`] has collected so far.
pub(crate) fn logged_so_far() -> usize {
    LINES.with_borrow(Vec::len)
}

const CONN: ConnId = ConnId(7);
const TERM: Term = Term(3);

fn node(id: &str) -> Node {
    Node { id: NodeId::new(id).unwrap(), incarnation: Incarnation(1) }
}

fn address() -> Address {
    Address::new("b:1").unwrap()
}

fn config() -> Config {
    Config::builder("test", "a", "a:1").seeds(["a:1", "b:1"]).build().unwrap()
}

fn about<'a>(config: &'a Config, peer_addr: Option<&'a str>) -> About<'a> {
    static NONE: LazyLock<Members> = LazyLock::new(Members::default);
    About { term: TERM, before: &NONE, config, peer_addr }
}

fn no_master() -> Event {
    let formation = Formation::new(config(), Start::new(Incarnation(1), 1), Timestamp::ZERO);
    Event::NoMaster { since: Duration::from_secs(4), why: formation.explain().no_master.unwrap() }
}

/// The first electorate.
fn electorate() -> Electorate {
    Formation::new(config(), Start::new(Incarnation(1), 1), Timestamp::ZERO).electorate().clone()
}

fn events() -> Vec<Event> {
    let (node, address, reason) = (node("b"), address(), RejectReason::IdInUse);
    let holder = Some(Holder { node: node.clone(), address: address.clone() });
    vec![
        Event::Linked { node: node.clone(), address: address.clone(), conn: CONN, peer_addr: None },
        Event::Unlinked { node: node.clone(), reason: Some(CloseReason::Silent), peer_addr: None },
        Event::ConnClosed {
            conn: CONN,
            dialed: Some(address.clone()),
            peer_addr: None,
            reason: CloseReason::WrongMagic,
        },
        Event::MasterElected { term: TERM, master: node.clone(), address: address.clone() },
        Event::MasterLost { term: TERM, master: node.clone(), reason: LossReason::Silent },
        Event::MasterUnreachable { master: node.clone(), address: address.clone() },
        Event::PeersWithoutMaster {
            master: node.clone(),
            address: address.clone(),
            peer: node.clone(),
            peer_address: address.clone(),
            peers: 1,
        },
        Event::ViewChanged { view_id: ViewId::default(), changes: [].into() },
        Event::RejectedByPeer { address: address.clone(), reason, holder: holder.clone(), peer_addr: None },
        Event::PeerRejected {
            node: node.clone(),
            address: address.clone(),
            reason,
            holder,
            cluster: None,
            peer_addr: None,
        },
        Event::SelfDial { address: address.clone(), own: address.clone() },
        Event::Merged { from: ViewId::default(), to: ViewId::default() },
        no_master(),
        Event::LeaseTooLong {
            candidate: node.clone(),
            lease: Duration::from_secs(5),
            voter: node.clone(),
            bootstrap_wait: Duration::from_secs(3),
        },
        Event::SoloMasterIgnored { node: node.clone(), address: address.clone() },
        Event::VotersWait { target: electorate().voters, waits_for: Waiting::Storage },
        Event::VotersChosen { voters: electorate().voters, away: electorate().voters },
        Event::VotersLacking { living: 2, wanted: 3, away: electorate().voters, in_memory: None },
        Event::ElectorateChanged { electorate: electorate() },
        Event::BetterMaster { node: node.clone(), address },
        Event::ViewTooLarge { master: node, limit: ViewLimit::Metadata },
        Event::PersistDelayed,
        Event::PersistRecovered,
        Event::PersistFailed,
        Event::Stopped { reason: StopReason::Left },
    ]
}

#[test]
fn every_line_names_its_node_and_events_have_their_own_target() {
    let log = Log::new(&node("a"));
    let error = io::Error::from(io::ErrorKind::TimedOut);
    let events = events();
    let lines = logged(|| {
        events.iter().for_each(|event| log.event(event, &about(&config(), None)));
        log.state_dir_is_empty("dir".as_ref());
        log.connections_lowered(Lowered { configured: 3, connections: 2, open_files: 4 });
        log.suppressed(Kind::AcceptFailed, 7);
        log.repeated(&(Source::Dialed(address()), CloseReason::WrongMagic), 7);
        log.accept_failed(&error);
        log.dial_failed(DialId(1), &address(), &error, true);
        log.dial_failed(DialId(1), &address(), &error, false);
        log.votes_in_memory();
        log.voters_are_not_the_seeds(&electorate(), &config());
        log.peers_prove_nothing(&address());
        log.opened(CONN, Origin::Accepted, None);
        log.ended(CONN, None, Some(&error));
        log.closing(CONN, None, CloseReason::Left);
        log.persist_failed(&StoreError::Foreign { path: "dir".into() });
        log.persist_delayed(&StoreError::Foreign { path: "dir".into() });
        log.persist_is_slow(Duration::from_secs(1));
        log.panicked("a message");
        log.transport_panicked("192.0.2.1:7", &TransportPanicked::new(&"a bug"));
        log.ended_without_leaving(StopReason::ShutDown);
        log.limit_passed();
        log.disk_is_late();
        log.misuse(&Misuse::UnknownConn(CONN));
        log.send_not_open(CONN);
        log.second_send(CONN);
    });
    assert_eq!(lines.len(), events.len() + 24);
    for (number, Line(target, _, fields)) in lines.iter().enumerate() {
        let expected = if number < events.len() { "formation::event" } else { "formation" };
        assert_eq!((*target, fields["node"].as_str()), (expected, "a#1"), "{fields:?}");
    }
}

#[test]
fn every_event_has_a_line_of_its_own_with_the_term() {
    let log = Log::new(&node("a"));
    let events = events();
    let lines = logged(|| events.iter().for_each(|event| log.event(event, &about(&config(), None))));
    let mut messages: Vec<_> = lines.iter().map(|Line(_, _, fields)| fields["message"].as_str()).collect();
    assert!(!messages.contains(&"unexpected event"), "{messages:?}");
    messages.sort_unstable();
    messages.dedup();
    assert_eq!(messages.len(), events.len());
    assert!(lines.iter().all(|Line(_, _, fields)| fields["term"] == "3"));
}

/// An operator reads the words of the documentation, and not the names of Rust's variants.
#[test]
fn reasons_are_logged_in_words() {
    let log = Log::new(&node("a"));
    let lost = Event::MasterLost { term: TERM, master: node("b"), reason: LossReason::LeaseExpired };
    let stopped = Event::Stopped { reason: StopReason::Left };
    let lines = logged(|| {
        [lost, stopped].iter().for_each(|event| log.event(event, &about(&config(), None)));
        log.ended_without_leaving(StopReason::ShutDown);
    });
    let reasons: Vec<_> = lines.iter().map(|Line(_, _, fields)| fields["reason"].as_str()).collect();
    assert_eq!(reasons, ["its lease has expired", "it has left the cluster", "it was ended without leaving"]);
}

#[test]
fn a_closed_connection_is_logged_with_both_addresses() {
    let failure = TlsFailure::new(false, TlsProblem::Expired);
    let closed = Event::ConnClosed {
        conn: CONN,
        dialed: Some(address()),
        peer_addr: None,
        reason: CloseReason::TlsFailed(failure),
    };
    let lines = logged(|| Log::new(&node("a")).event(&closed, &about(&config(), Some("10.0.0.1:7000"))));
    let [Line(_, level, fields)] = &lines[..] else { panic!("one line") };
    assert_eq!(*level, Level::WARN);
    assert_eq!((fields["dialed"].as_str(), fields["peer_addr"].as_str()), ("b:1", "10.0.0.1:7000"));
    assert_eq!(fields["reason"], failure.to_string());
}

/// Of two copies of one node, an operator has to find both machines.
#[test]
fn a_rejected_peer_is_logged_with_its_socket_address() {
    let (node, reason, peer_addr) = (node("b"), RejectReason::IdInUse, Some(([10, 0, 0, 1], 7_000).into()));
    let rejected = Event::PeerRejected { node, address: address(), reason, holder: None, cluster: None, peer_addr };
    let lines = logged(|| Log::new(&self::node("a")).event(&rejected, &about(&config(), None)));
    assert_eq!(lines[0].2["peer_addr"], "10.0.0.1:7000");
}

#[test]
fn a_wrong_configuration_is_logged_with_both_sides() {
    let rejected = |reason, cluster| Event::PeerRejected {
        node: node("b"),
        address: address(),
        reason,
        holder: None,
        cluster,
        peer_addr: None,
    };
    let other = Some(ClusterName::new("other").unwrap());
    let events = [
        rejected(RejectReason::WrongCluster, other),
        rejected(RejectReason::ElectorateMismatch, None),
        Event::RejectedByPeer {
            address: address(),
            reason: RejectReason::ElectorateMismatch,
            holder: None,
            peer_addr: None,
        },
        rejected(RejectReason::IdInUse, None),
    ];
    let lines = logged(|| events.iter().for_each(|event| Log::new(&node("a")).event(event, &about(&config(), None))));
    let fields = |name| lines.iter().map(|line| line.field(name)).collect::<Vec<_>>();
    assert_eq!(fields("peer_cluster"), [Some("other"), None, None, None]);
    assert_eq!(fields("own_cluster"), [Some("test"), None, None, None]);
    assert_eq!(fields("own_seeds"), [None, Some("a:1, b:1"), Some("a:1, b:1"), None]);
}

#[test]
fn a_lowered_limit_is_logged_with_all_numbers_and_the_remedy() {
    let lowered = Lowered { configured: 16_384, connections: 704, open_files: 1_024 };
    let lines = logged(|| Log::new(&node("a")).connections_lowered(lowered));
    let [Line(_, level, fields)] = &lines[..] else { panic!("one line") };
    assert_eq!(*level, Level::INFO);
    assert_eq!(["configured", "connections", "open_files"].map(|name| fields[name].as_str()), ["16384", "704", "1024"]);
    assert!(fields["message"].contains("ulimit -n"));
}

#[test]
fn voters_are_logged_with_the_ones_they_change_to() {
    let mut electorate = electorate();
    electorate.target = Some((10..40).map(|number| Address::new(format!("c{number}:1")).unwrap()).collect());
    let waits = Event::VotersWait { target: electorate.voters.clone(), waits_for: Waiting::NextMaster };
    let changed = Event::ElectorateChanged { electorate };
    let lines = logged(|| {
        [changed, waits].iter().for_each(|event| Log::new(&node("a")).event(event, &about(&config(), None)));
    });
    let [Line(_, Level::INFO, changed), Line(_, Level::WARN, waits)] = &lines[..] else { panic!("two lines") };
    assert_eq!((changed["message"].as_str(), changed["version"].as_str()), ("the voters are: a:1, b:1", "0.0"));
    assert!(changed["changing_to"].starts_with("c10:1, ") && changed["changing_to"].ends_with(" and 14 more"));
    assert_eq!(waits["changing_to"], "a:1, b:1");
    assert!(waits["message"].contains("waits for another master"), "{waits:?}");
}

#[test]
fn a_text_from_a_peer_forges_no_line() {
    let error = io::Error::other("not for \"a\nINFO forged\u{202e}\u{1b}[31m\"");
    let lines = logged(|| Log::new(&node("a")).dial_failed(DialId(1), &address(), &error, true));
    assert_eq!(lines[0].2["error"], r#"not for "a\nINFO forged\u{202e}\u{1b}[31m""#);
}

/// An address that does not answer is named where people look, and does not fill the log.
#[test]
fn the_first_failure_of_an_address_is_a_warning() {
    let error = io::Error::from(io::ErrorKind::ConnectionRefused);
    let log = Log::new(&node("a"));
    let lines = logged(|| {
        log.dial_failed(DialId(1), &address(), &error, true);
        log.dial_failed(DialId(2), &address(), &error, false);
    });
    let told: Vec<_> = lines.iter().map(|Line(_, level, fields)| (*level, fields["address"].as_str())).collect();
    assert_eq!(told, [(Level::WARN, "b:1"), (Level::DEBUG, "b:1")]);
}
