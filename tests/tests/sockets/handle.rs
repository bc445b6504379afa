//! The handle of a node, as a service uses it.

use std::{io::ErrorKind, net::TcpListener, time::Duration};

use ::tokio::{io::AsyncReadExt, net::TcpStream, task::yield_now};
use formation_core::{Config, Event, Limits, NodeId, Phase, RejectReason, StopReason, Timing};
use futures_util::future::join;

use crate::{
    adapters::{self, Adapter},
    support::{self, CLUSTER, Dead, form, form_as, id, listen, to_address},
};

const STOPPED: &str = "the node has stopped";

with_each_adapter!(
    only_the_master_has_a_lease_and_all_nodes_have_its_term,
    leaving_updates_the_other_nodes_and_ends_every_handle,
    leave_closes_the_port_and_all_connections_before_it_returns,
    dropping_the_handle_closes_all_sockets_and_ends_all_waits,
    a_node_starts_again_at_once_after_its_shutdown,
    a_node_that_leaves_too_slowly_ends_without_leaving,
    a_node_without_a_master_explains_what_is_wrong,
    a_handle_neither_keeps_its_node_nor_ends_it,
    a_node_that_has_stopped_says_why_once_everything_is_free,
    the_first_subscriber_gets_all_events_and_others_new_ones,
    a_slow_subscriber_learns_how_many_events_it_missed,
    a_command_over_a_limit_is_an_error_and_changes_nothing,
    a_voter_at_a_contact_is_not_believed_and_that_is_reported,
    nodes_with_limits_that_are_turned_off_form_a_cluster;
    alone: the_log_shows_elections_view_changes_and_the_stop,
    the_span_of_a_node_outlives_the_span_of_its_start,
);

/// A service depends on its adapter only. Each argument of the builder has to have a name there.
#[test]
fn each_adapter_exports_the_range_of_protocol_versions() {
    use formation_smol::ProtocolRange as OnSmol;
    use formation_tokio::ProtocolRange as OnTokio;
    let config = || Config::single(CLUSTER, "only", "127.0.0.1:7000");
    let on_tokio = config().protocol(OnTokio { min: 1, max: 1 }).build();
    assert_eq!(on_tokio, config().protocol(OnSmol { min: 1, max: 1 }).build());
    assert!(on_tokio.is_ok());
}

/// Where a node cannot run, its start has to fail: nobody looks at the task that it would run in. Smol has timers of its own.
#[test]
fn a_node_does_not_start_on_a_runtime_without_timers() {
    let runtime = ::tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_io().build().unwrap();
    let single = || {
        let (listener, address) = listen();
        (Config::single(CLUSTER, "only", address).local().build().unwrap(), listener)
    };
    runtime.block_on(async {
        let (config, listener) = single();
        let error = adapters::Tokio::try_start(config, listener).err().expect("the start fails");
        assert!(error.to_string().contains("enable_time"), "{error}");
        let (config, listener) = single();
        adapters::Smol::start(config, listener).wait_for_master().await;
    });
}

/// A limit is turned off with the largest value that it may have.
async fn nodes_with_limits_that_are_turned_off_form_a_cluster<A: Adapter>() {
    let most = usize::MAX;
    let limits = || {
        Limits::new()
            .with_pending_connections(most)
            .with_connections(most)
            .with_partial_bytes(most)
            .with_unsent_bytes(most)
            .with_messages(u32::MAX as usize)
            .with_members(most)
            .with_change_log(most)
            .with_updates_at_once(most)
            .with_suspicions(most)
            .with_contacts(most)
            .with_discovered(most)
            .with_pinned_views(most)
            .with_streams(most)
            .with_streams_per_member(most)
            .with_stream_openings(most)
            .with_stream_names(most)
            .with_max_frame(1 << 30)
            .with_send(1 << 30)
            .with_frame_before_handshake(1 << 30)
            .with_metadata((1 << 30) - 1024)
    };
    form_as::<A>(3, |_, config| config.local().limits(limits())).await;
}

/// A node that is alone in its cluster, and its address.
async fn single<A: Adapter>() -> (A, String) {
    let (listener, address) = listen();
    let node = A::start(Config::single(CLUSTER, "only", address.as_str()).local().build().unwrap(), listener);
    node.wait_for_members(1).await;
    // A view is visible before its events are reported. The events of a command are reported before its answer.
    node.set_metadata("up".into()).await;
    (node, address)
}

/// Nothing listens at one seed, and the name of the other does not exist (RFC 6761).
async fn a_node_without_a_master_explains_what_is_wrong<A: Adapter>() {
    let (listener, address) = listen();
    let (closed, refused) = listen();
    drop(closed);
    let seeds = [address.as_str(), refused.as_str(), "no-such-node.invalid:1"];
    let node =
        A::start(Config::builder(CLUSTER, "a", address.as_str()).seeds(seeds).local().build().unwrap(), listener);
    let why = loop {
        let why = node.explain().await.unwrap().no_master.unwrap();
        if why.unreachable.iter().all(|(_, problem)| problem.is_some()) {
            break why.to_string();
        }
        yield_now().await;
    };
    assert!(why.starts_with("1 of 3 voters reachable, need 2; "), "{why}");
    assert!(why.contains(&format!("{refused}: it refuses the connection")), "{why}");
    assert!(why.contains("no-such-node.invalid:1: its name does not resolve"), "{why}");
    node.shutdown().await;
    assert_eq!(node.explain().await, Err(STOPPED.to_owned()));
}

/// All events that are not read yet.
async fn remaining_events<A: Adapter>(mut events: A::Events) -> Vec<Event> {
    let mut all = Vec::new();
    while let Some(event) = A::next(&mut events).await {
        all.push(event);
    }
    all
}

async fn only_the_master_has_a_lease_and_all_nodes_have_its_term<A: Adapter>() {
    let (nodes, _) = form::<A>(3).await;
    let (master, term) = nodes[0].wait_for_master().await;
    for node in &nodes {
        assert_eq!(node.status().term, term);
        let leadership = node.leadership();
        assert_eq!(leadership.map(|leadership| leadership.term), (*node.node() == master).then_some(term));
        assert!(leadership.is_none_or(|leadership| node.now() < leadership.valid_until));
    }
}

async fn leaving_updates_the_other_nodes_and_ends_every_handle<A: Adapter>() {
    let (nodes, _) = form::<A>(3).await;
    let (mut watch, events) = (nodes[2].watch(), nodes[2].events());
    nodes[2].try_leave().await.unwrap();
    let view = nodes[0].wait_for_view(|view| view.len() == 2).await;
    assert!(view.get(&nodes[2].node().id).is_none());

    while A::changed(&mut watch).await.is_some() {}
    let last = remaining_events::<A>(events).await.pop();
    assert!(matches!(last, Some(Event::Stopped { reason: StopReason::Left })), "{last:?}");
    assert!(remaining_events::<A>(nodes[2].events()).await.is_empty());
    assert!(nodes[2].leadership().is_none());
    assert_eq!(nodes[2].try_set_metadata("late".into()).await, Err(STOPPED.into()));
    assert_eq!(nodes[2].try_leave().await, Err(STOPPED.into()));
}

async fn leave_closes_the_port_and_all_connections_before_it_returns<A: Adapter>() {
    let (node, address) = single::<A>().await;
    let mut peer = TcpStream::connect(&address).await.unwrap();
    node.try_leave().await.unwrap();
    assert_eq!(node.try_leave().await, Err(STOPPED.into()));
    TcpListener::bind(&address).unwrap();
    read_to_end(&mut peer).await;
    assert!(node.leadership().is_none());
}

async fn dropping_the_handle_closes_all_sockets_and_ends_all_waits<A: Adapter>() {
    let (node, address) = single::<A>().await;
    let (mut watch, events) = (node.watch(), node.events());
    let mut peer = TcpStream::connect(&address).await.unwrap();
    drop(node);
    read_to_end(&mut peer).await;
    while A::changed(&mut watch).await.is_some() {}
    remaining_events::<A>(events).await;
    // The runtime drops cancelled tasks a moment later.
    while TcpListener::bind(&address).is_err() {
        yield_now().await;
    }
}

async fn a_node_starts_again_at_once_after_its_shutdown<A: Adapter>() {
    let dir = tempfile::tempdir().unwrap();
    let (listener, address) = listen();
    let config = Config::single(CLUSTER, "only", address.as_str()).local().state_dir(dir.path());
    let config = config.build().unwrap();
    let mut listener = Some(listener);
    for _ in 0..10 {
        let listener = listener.take().unwrap_or_else(|| TcpListener::bind(&address).unwrap());
        let node = A::start(config.clone(), listener);
        node.wait_for_master().await;
        let _peer = TcpStream::connect(&address).await.unwrap();
        let events = node.events();
        node.shutdown().await;
        assert_eq!((node.status().phase, node.leadership()), (Phase::Stopped, None));
        let last = remaining_events::<A>(events).await.pop();
        assert!(matches!(last, Some(Event::Stopped { reason: StopReason::ShutDown })), "{last:?}");
        node.shutdown().await;
    }
}

async fn a_handle_neither_keeps_its_node_nor_ends_it<A: Adapter>() {
    let (node, address) = single::<A>().await;
    let handle = node.handle();
    drop(handle.clone());
    assert_eq!((handle.node(), handle.config().address().as_str()), (node.node(), address.as_str()));
    handle.set_metadata("by the handle").await.unwrap();
    assert_eq!(&node.view().get("only").unwrap().metadata[..], b"by the handle");
    drop(node);
    assert_eq!(handle.stopped().await, StopReason::ShutDown);
    assert_eq!(handle.set_metadata("late").await.unwrap_err().to_string(), STOPPED);
    assert!(handle.wait_for_master().await.is_err());
    // It has ended the node and not only itself.
    assert_eq!(handle.clone().status().phase, Phase::Stopped);
}

async fn a_node_that_has_stopped_says_why_once_everything_is_free<A: Adapter>() {
    let (node, address) = single::<A>().await;
    let handle = node.handle();
    let (reason, left) = join(handle.stopped(), node.try_leave()).await;
    assert_eq!((reason, left), (StopReason::Left, Ok(())));
    TcpListener::bind(&address).unwrap();
    assert_eq!(handle.stopped().await, StopReason::Left);
}

/// Without its master it would wait for the next one, to be removed from its view.
async fn a_node_that_leaves_too_slowly_ends_without_leaving<A: Adapter>() {
    let timing = Timing::local().with_down_after(Duration::from_secs(3600));
    let (mut nodes, seeds) = form_as::<A>(2, |_, config| config.timing(timing.clone())).await;
    let at = nodes.iter().position(|node| node.leadership().is_some()).unwrap();
    nodes.remove(at).shutdown().await;
    let (node, address) = (nodes.remove(0), &seeds[1 - at]);
    let events = node.events();
    let error = node.leave_within(Duration::from_millis(10)).await.unwrap_err();
    assert!(error.to_string().contains("had not left"), "{error}");
    TcpListener::bind(address).unwrap();
    let last = remaining_events::<A>(events).await.pop();
    assert_eq!(last, Some(Event::Stopped { reason: StopReason::ShutDown }));
    assert_eq!(node.shutdown_within(Duration::ZERO).await, Ok(()));
}

/// A service exports its spans when they are closed.
async fn the_span_of_a_node_outlives_the_span_of_its_start<A: Adapter>() {
    let (subscriber, log) = support::log();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let (listener, address) = listen();
    let config = Config::single(CLUSTER, "only", address).local().build().unwrap();
    let node = tracing::info_span!("startup").in_scope(|| A::start(config, listener));
    node.wait_for_master().await;
    node.set_metadata("up".into()).await;
    let log = log();
    assert!(log.lines().any(|line| line.contains("startup: ") && line.contains(" close ")), "{log}");
    let elected = log.lines().find(|line| line.contains("master elected")).unwrap();
    assert!(elected.contains("formation{node=only#") && !elected.contains("startup"), "{elected}");
}

/// Reads to the end of the stream. A connection that was not accepted yet is reset instead.
async fn read_to_end(peer: &mut TcpStream) {
    if let Err(error) = peer.read_to_end(&mut Vec::new()).await {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}

async fn the_first_subscriber_gets_all_events_and_others_new_ones<A: Adapter>() {
    let (node, _) = single::<A>().await;
    let (mut first, mut second) = (node.events(), node.events());
    node.set_metadata("new".into()).await;
    loop {
        if let Event::MasterElected { master, .. } = A::next(&mut first).await.expect("the node was elected") {
            assert_eq!(master, *node.node());
            break;
        }
    }
    assert!(matches!(A::next(&mut second).await, Some(Event::ViewChanged { .. })));
}

async fn a_slow_subscriber_learns_how_many_events_it_missed<A: Adapter>() {
    const MISSED: usize = 7;
    let (node, _) = single::<A>().await;
    // Only the first subscriber gets the events since the start.
    let (_first, mut slow) = (node.events(), node.events());
    for number in 0..A::EVENT_BUFFER + MISSED {
        // Each change leads to a new view, and so to an event.
        node.set_metadata(number.to_string().into()).await;
    }
    assert_eq!(A::next_or_skipped(&mut slow).await, Some(Err(MISSED as u64)));
    for _ in 0..A::EVENT_BUFFER {
        assert!(matches!(A::next(&mut slow).await, Some(Event::ViewChanged { .. })));
    }
    drop(node);
    assert_eq!(remaining_events::<A>(slow).await, [Event::Stopped { reason: StopReason::ShutDown }]);
}

async fn a_command_over_a_limit_is_an_error_and_changes_nothing<A: Adapter>() {
    let (node, _) = single::<A>().await;
    let before = node.view();
    let result = node.try_set_metadata(vec![0; 100_000].into()).await;
    assert!(result.as_ref().is_err_and(|error| error.contains("exceeds the limit")), "{result:?}");
    let contacts = (1..10_000).map(|port| to_address(&format!("somewhere:{port}"))).collect();
    let result = node.try_add_contacts(contacts).await;
    assert!(result.as_ref().is_err_and(|error| error.contains("contacts")), "{result:?}");
    assert_eq!(node.view(), before);
}

/// The seed defines the voter, but the master listens at another address, where anybody could say that it is the voter (H11).
async fn a_voter_at_a_contact_is_not_believed_and_that_is_reported<A: Adapter>() {
    let dead = Dead::anywhere();
    let seed = dead.address.to_string();
    let (listener, contact) = listen();
    let _master = A::start(Config::single(CLUSTER, id(0), seed.as_str()).local().build().unwrap(), listener);
    let (own_listener, own) = listen();
    let config = Config::builder(CLUSTER, id(1), own).seeds([seed]).local().build().unwrap();
    let node = A::start(config, own_listener);
    let mut events = node.events();
    node.try_add_contacts(vec![to_address(&contact)]).await.unwrap();
    let rejection = loop {
        match A::next(&mut events).await {
            Some(Event::PeerRejected { node, reason, .. }) => break (node.id, reason),
            Some(_) => {}
            None => panic!("the node has stopped"),
        }
    };
    assert_eq!(rejection, (NodeId::new(id(0)).unwrap(), RejectReason::Unproven));
    assert_eq!(node.status().master, None);
}

async fn the_log_shows_elections_view_changes_and_the_stop<A: Adapter>() {
    let (subscriber, log) = support::log();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let (node, _) = single::<A>().await;
    let name = node.node().to_string();
    node.leave().await;
    let log = log();
    for happened in ["master elected", "view changed", "stopped"] {
        let matches_line = |line: &str| [" INFO ", happened, &name].iter().all(|part| line.contains(part));
        assert!(log.lines().any(matches_line), "{happened}:\n{log}");
    }
}
