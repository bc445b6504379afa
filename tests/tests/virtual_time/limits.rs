//! G7: these tests reach each limit of PROTOCOL, "Limits", and check the named reason.
//!
//! Every simulated run checks that no `Send` is too long, and that at most one is in flight on a connection.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use formation_core::{
    Address, Change, CloseReason, Command, Config, ConfigBuilder, ConfigError, ConnId, Event, Input, Limits,
    MemberState, Misuse, RejectReason, Term, Timing, ViewId,
    message::{HeartbeatAck, JoinResponse, MembersUpdate, Message, Role},
};
use formation_tests::{Net, Peer, Rig, Settings};

const SECOND: Duration = Duration::from_secs(1);

fn with(limits: Limits) -> ConfigBuilder {
    Config::single("test", "m", "m:1").limits(limits)
}

/// A node that is alone in its cluster, so that it is master at once.
fn master(limits: Limits) -> Rig {
    let mut rig = Rig::new(with(limits).build().unwrap());
    rig.advance(Duration::from_millis(1));
    assert!(rig.formation.leadership(rig.now).is_some(), "a single node is master at once");
    rig
}

fn accept_hello(rig: &mut Rig, config: &Config, name: &str) -> (ConnId, Peer) {
    let mut peer = Peer::of(config, name, &format!("{name}:1"));
    let conn = rig.accept();
    let hello = peer.hello();
    rig.receive(conn, hello);
    (conn, peer)
}

fn join(rig: &mut Rig, name: &str) -> (ConnId, Peer) {
    let config = with(Limits::default()).build().unwrap();
    let (conn, mut peer) = accept_hello(rig, &config, name);
    let joining = peer.joining();
    rig.receive(conn, joining);
    (conn, peer)
}

fn length_prefix(len: usize) -> Bytes {
    Bytes::copy_from_slice(&(len as u32).to_be_bytes())
}

#[test]
fn g7_h1_a_frame_before_the_handshake_has_its_own_limit() {
    let limits = Limits::new().with_frame_before_handshake(700);
    let mut rig = master(limits);
    let (long, fits) = (rig.accept(), rig.accept());
    rig.receive(long, length_prefix(701));
    rig.receive(fits, length_prefix(700));
    assert_eq!(rig.closed(long), Some(CloseReason::FrameTooLong));
    assert_eq!(rig.closed(fits), None);
}

#[test]
fn g7_h1_a_frame_on_a_link_has_a_limit() {
    let limits = Limits::new().with_max_frame(70_000);
    let mut rig = master(limits);
    let (long, _) = join(&mut rig, "a");
    let (fits, _) = join(&mut rig, "b");
    rig.receive(long, length_prefix(70_001));
    rig.receive(fits, length_prefix(70_000));
    assert_eq!(rig.closed(long), Some(CloseReason::FrameTooLong));
    assert_eq!(rig.closed(fits), None);
}

#[test]
fn g7_v7_a_view_larger_than_a_send_comes_in_pages() {
    let limits = Limits::new().with_send(4_096);
    let mut net = Net::new(0, Settings::default());
    for ix in 0..40 {
        let builder = Net::builder(ix, 3).limits(limits.clone()).metadata(Bytes::from(vec![7; 500]));
        net.add(builder.build().unwrap());
    }
    net.start_all();
    net.converge(5 * SECOND);
    let mut peer = Peer::of(&net.host(0).config, "z", "z:1");
    let master = net.master().unwrap();
    let wire = net.dial(master);
    let first = [peer.hello(), peer.joining()].concat();
    net.send(wire, first);
    net.run_for(Duration::from_millis(100));
    let pages = net.messages(wire).into_iter().filter(|message| match message {
        Message::MembersUpdate(MembersUpdate::Page { index, .. }) => *index > 0,
        _ => false,
    });
    net.expect(pages.count() >= 4, "40 members with 500 bytes each do not fill five Sends of 4 KiB");
}

#[test]
fn g7_one_pending_connection_too_many_closes_the_oldest() {
    let mut rig = master(Limits::new().with_pending_connections(2));
    let conns: Vec<_> = (0..5).map(|_| rig.accept()).collect();
    let closed: Vec<_> = conns.iter().map(|conn| rig.closed(*conn)).collect();
    let evicted = Some(CloseReason::TooManyPending);
    assert_eq!(closed, [evicted, evicted, evicted, None, None]);
    // A connection with a `Hello` is not pending any more.
    let mut peer = Peer::of(&with(Limits::default()).build().unwrap(), "a", "a:1");
    let hello = peer.hello();
    rig.receive(conns[3], hello);
    rig.accept();
    rig.accept();
    assert_eq!(rig.closed(conns[3]), None);
    assert_eq!(rig.closed(conns[4]), evicted);
}

#[test]
fn g7_a_connection_over_the_limit_is_closed() {
    // One place is kept free.
    let mut rig = master(Limits::new().with_connections(4));
    let joined: Vec<_> = ["a", "b", "c"].map(|name| join(&mut rig, name).0).into();
    let (more, _) = join(&mut rig, "d");
    let reason = CloseReason::TooManyConnections;
    assert_eq!(rig.closed(more), Some(reason));
    assert!(
        rig.events().any(|event| *event == Event::ConnClosed { conn: more, dialed: None, peer_addr: None, reason })
    );
    assert!(joined.iter().all(|conn| rig.closed(*conn).is_none()), "the existing links stay open");
    rig.give(Input::Closed { conn: joined[0] });
    let (next, _) = join(&mut rig, "d");
    assert_eq!(rig.closed(next), None, "there is no room again");
}

#[test]
fn g7_bytes_of_unfinished_frames_have_a_common_limit() {
    let limits =
        Limits::new().with_send(4_096).with_max_frame(8_000).with_partial_bytes(8_000).with_frame_before_handshake(640);
    let mut rig = master(limits);
    let (a, _) = join(&mut rig, "a");
    let (b, mut peer) = join(&mut rig, "b");
    let mut most = BytesMut::from(&length_prefix(7_000)[..]);
    most.put_bytes(1, 5_000);
    rig.receive(a, most.clone());
    rig.receive(b, most.split_to(8_000 - most.len()));
    assert_eq!((rig.closed(a), rig.closed(b)), (None, None), "the limit itself is allowed");
    rig.receive(b, most.split_to(1));
    assert_eq!((rig.closed(a), rig.closed(b)), (Some(CloseReason::TooManyPartialBytes), None), "a has most of them");
    // The bytes of the closed connection are free again.
    let (c, _) = join(&mut rig, "c");
    let hello = peer.hello();
    rig.receive(c, hello.slice(..hello.len() - 1));
    assert_eq!(rig.closed(c), None);
}

#[test]
fn g7_a_full_cluster_rejects_a_node_until_there_is_room() {
    let limits = Limits::new().with_members(3);
    let mut net = Net::new(0, Settings::default());
    for ix in 0..4 {
        net.add(Net::builder(ix, 1).limits(limits.clone()).build().unwrap());
    }
    for ix in 0..3 {
        net.start(ix);
    }
    net.converge(SECOND);
    net.start(3);
    net.run_for(3 * SECOND);
    let full = |event: &Event| matches!(event, Event::RejectedByPeer { reason: RejectReason::ClusterFull, .. });
    net.expect(net.count(3, Duration::ZERO, full) == 1, "ClusterFull was not reported once");
    net.expect(net.agree(&[0, 1, 2]), "the cluster was affected");
    net.command(2, Command::Leave);
    let done = net.run_until(4 * SECOND, |net| net.agree(&[0, 1, 3]));
    net.expect(done, "the node did not join when there was room");
}

/// The limit of members is also the limit of remembered rejections. With one more, all can be reported again.
#[test]
fn g7_h10_reported_rejections_are_remembered_up_to_a_limit() {
    let mut rig = master(Limits::new().with_members(2));
    let other = Config::single("other", "x", "x:1").build().unwrap();
    let reported = ["a", "b", "a", "b", "c", "c", "a", "a"].map(|name| {
        let before = rig.events().count();
        let (conn, _) = accept_hello(&mut rig, &other, name);
        assert_eq!(rig.closed(conn), Some(CloseReason::Rejected(RejectReason::WrongCluster)));
        rig.events().count() - before
    });
    assert_eq!(reported, [1, 1, 0, 0, 1, 0, 1, 0]);
}

/// The peers in the `PeerRejected` events with this reason, in order.
fn rejected_peers(rig: &Rig, why: RejectReason) -> Vec<String> {
    let name = |event: &Event| match event {
        Event::PeerRejected { node, reason, holder: None, .. } if *reason == why => Some(node.id.as_str().to_owned()),
        _ => None,
    };
    rig.events().filter_map(name).collect()
}

#[test]
fn h10_a_full_master_reports_a_rejected_node_once() {
    let mut rig = master(Limits::new().with_members(2));
    let (member, _) = join(&mut rig, "a");
    let (conn, mut peer) = join(&mut rig, "b");
    assert_eq!(rejected_peers(&rig, RejectReason::ClusterFull), ["b"]);
    let joining = peer.joining();
    rig.receive(conn, joining);
    rig.give(Input::Closed { conn });
    let (conn, mut peer) = join(&mut rig, "b");
    assert_eq!(rejected_peers(&rig, RejectReason::ClusterFull), ["b"], "not reported again after a new link");
    rig.give(Input::Closed { conn: member });
    while rig.formation.view().len() == 2 && rig.formation.view().get(&peer.node.id).is_none() {
        rig.advance(Duration::from_millis(100));
        let ping = Message::Ping.to_frame();
        rig.receive(conn, ping);
    }
    assert!(rig.formation.view().get(&peer.node.id).is_some(), "the peer did not join when there was room");
    let leaving = peer.status(1, Role::Leaving, ViewId::default());
    rig.receive(conn, leaving);
    rig.give(Input::Closed { conn });
    join(&mut rig, "c");
    join(&mut rig, "b");
    assert_eq!(rejected_peers(&rig, RejectReason::ClusterFull), ["b", "b"]);
}

/// A full master is linked again and again, and its first message on each link is no admission.
#[test]
fn h10_a_rejected_node_reports_a_full_master_once() {
    let config = Config::builder("test", "n0", "h0:1").seeds(["h0:1", "h1:1", "h2:1"]).build().unwrap();
    let mut rig = Rig::new(config.clone());
    let mut master = Peer::of(&config, "n1", "h1:1");
    let full = JoinResponse::Rejected { term: Term(1), reason: RejectReason::ClusterFull };
    let full = Message::JoinResponse(full).to_frame();
    let mut conn = None;
    let reported = [false, true, false].map(|is_admitted| {
        if let Some(conn) = conn {
            rig.give(Input::Closed { conn });
            rig.advance(Duration::from_secs(2));
        }
        let dialed = rig.answer("h1:1");
        rig.receive(dialed, [master.hello(), Message::Ping.to_frame(), full.clone()].concat());
        conn = Some(dialed);
        if is_admitted {
            rig.receive(dialed, [master.master(1), Peer::accepted(1), full.clone()].concat());
        }
        rig.events().filter(|event| matches!(event, Event::RejectedByPeer { .. })).count()
    });
    assert_eq!(reported, [1, 2, 2]);
}

#[test]
fn g7_metadata_over_the_masters_limit_is_rejected() {
    let mut rig = master(Limits::new().with_metadata(10));
    let config = with(Limits::default()).build().unwrap();
    let (conn, _) = accept_hello(&mut rig, &config, "a");
    let status = formation_core::message::StatusReport {
        number: 1,
        term: Term(0),
        role: Role::Joining,
        abstains: false,
        promise: None,
        view_id: ViewId::default(),
        metadata: Bytes::from(vec![0; 11]),
        electorate: Default::default(),
    };
    rig.receive(conn, Message::Status(status).to_frame());
    assert_eq!(rejected_peers(&rig, RejectReason::MetadataTooLong), ["a"]);
    let sent = rig.messages(conn);
    let rejected = sent.iter().any(|message| match message {
        Message::JoinResponse(JoinResponse::Rejected { reason, .. }) => *reason == RejectReason::MetadataTooLong,
        Message::Rejected(rejected) => rejected.reason == RejectReason::MetadataTooLong,
        _ => false,
    });
    assert!(rejected, "{sent:?}");
    assert_eq!(rig.formation.view().len(), 1);
}

/// A mistake of the embedder, which leaves the state unchanged.
#[test]
fn metadata_over_the_own_limit_is_misuse() {
    let mut rig = master(Limits::new().with_metadata(10));
    let before = rig.formation.clone();
    let long = Input::Command(Command::SetMetadata(Bytes::from(vec![0; 11])));
    let result = rig.formation.handle_input(rig.now, long);
    assert_eq!(result, Err(Misuse::MetadataTooLong { len: 11, limit: 10 }));
    assert_eq!(rig.formation, before);
    let fits = Input::Command(Command::SetMetadata(Bytes::from(vec![0; 10])));
    assert_eq!(rig.formation.handle_input(rig.now, fits), Ok(()));
    let config = with(Limits::new().with_metadata(10)).metadata(Bytes::from(vec![0; 11])).build();
    assert!(matches!(config, Err(ConfigError::Sizes { field: "metadata", .. })), "{config:?}");
}

#[test]
fn contacts_over_the_limit_are_misuse() {
    let limits = Limits::new().with_contacts(2);
    let config = Net::builder(0, 3).limits(limits.clone()).contacts(["a:1"]).build().unwrap();
    let mut rig = Rig::new(config);
    let contacts = |names: &[&str]| {
        let addresses = names.iter().map(|name| Address::new(name).unwrap()).collect();
        Input::Command(Command::AddContacts(addresses))
    };
    let before = rig.formation.clone();
    let result = rig.formation.handle_input(rig.now, contacts(&["b:1", "c:1"]));
    assert_eq!(result, Err(Misuse::TooManyContacts { count: 3, limit: 2 }));
    assert_eq!(rig.formation, before);
    // Known contacts and seeds do not count.
    rig.give(contacts(&["a:1", "b:1", "h1:1"]));
    assert!(rig.dialing().iter().any(|address| address.as_str() == "b:1"), "a new contact is dialed at once");
    let config = Net::builder(0, 3).limits(limits).contacts(["a:1", "b:1", "c:1"]).build();
    assert!(matches!(config, Err(ConfigError::Sizes { field: "contacts", .. })), "{config:?}");
}

/// Several members join while a write to one member is in flight. Returns the messages that this member gets then.
fn messages_after_three_joins(limits: Limits) -> Vec<Message> {
    let mut rig = master(limits);
    let (slow, _) = join(&mut rig, "a");
    rig.messages(slow);
    rig.hold_answers();
    let others: Vec<_> = ["b", "c", "d", "e"].map(|name| join(&mut rig, name).0).into();
    for conn in others {
        while rig.flush(conn) {}
    }
    while rig.flush(slow) {}
    assert_eq!(rig.formation.view().len(), 6);
    rig.messages(slow)
}

#[test]
fn g7_v7_a_snapshot_replaces_a_delta_beyond_the_change_log() {
    let pages = |sent: &[Message]| {
        let page = |message: &&Message| matches!(message, Message::MembersUpdate(MembersUpdate::Page { .. }));
        sent.iter().filter(page).count()
    };
    let long = messages_after_three_joins(Limits::default());
    assert_eq!(pages(&long), 0, "the log reaches back: {long:?}");
    let short = messages_after_three_joins(Limits::new().with_change_log(1));
    assert_eq!(pages(&short), 1, "the log does not reach back: {short:?}");
}

/// Three slow readers join a cluster whose view has several pages, each after a change. Returns the number of different
/// view ids of the pages that they get.
fn count_pinned_views(limit: usize) -> usize {
    let mut rig = master(Limits::new().with_pinned_views(limit).with_send(4_096));
    for at in 0..300 {
        join(&mut rig, &format!("member-with-a-long-name-{at}"));
    }
    rig.hold_answers();
    let mut slow = Vec::new();
    for name in ["x", "y", "z"] {
        slow.push(join(&mut rig, name).0);
        // A snapshot serves those that join within the next few changes.
        for at in 0..5 {
            join(&mut rig, &format!("{name}-{at}"));
        }
        // After the `Hello`, the admission and the first page go out. The next page waits until this write is flushed.
        rig.flush(slow[slow.len() - 1]);
    }
    // Changes for this many members wait for the next heartbeat.
    rig.advance(Timing::lan().heartbeat_interval);
    let mut view_ids = std::collections::BTreeSet::new();
    for conn in slow {
        while rig.flush(conn) {}
        let sent = rig.messages(conn);
        let mut last = None;
        for message in &sent {
            match message {
                Message::MembersUpdate(MembersUpdate::Page { view_id, last: end, .. }) => {
                    view_ids.insert(*view_id);
                    last = end.then_some(*view_id);
                }
                Message::MembersUpdate(MembersUpdate::Delta { base, view_id, .. }) => {
                    assert!(last >= Some(*base), "{base} is newer than the view before it, {last:?}");
                    last = Some(*view_id);
                }
                _ => {}
            }
        }
        assert_eq!(last, Some(rig.formation.view().id()), "{conn} does not have the latest view");
    }
    view_ids.len()
}

#[test]
fn g7_v7_slow_readers_share_pinned_views_and_get_everything() {
    assert_eq!(count_pinned_views(4), 3);
    assert_eq!(count_pinned_views(2), 2);
    assert_eq!(count_pinned_views(1), 1);
}

/// The ids of the members that have become suspect, in this order.
fn suspected(rig: &Rig) -> Vec<String> {
    let changes = rig.events().filter_map(|event| match event {
        Event::ViewChanged { changes, .. } => Some(changes.iter()),
        _ => None,
    });
    let suspect = |change: &Change| match change {
        Change::Upsert(member) if member.state == MemberState::Suspect => Some(member.node.id.to_string()),
        _ => None,
    };
    changes.flatten().filter_map(suspect).collect()
}

/// Thirty members are silent at once. The half that joined first answers, and is silent again.
#[test]
fn g7_v3_suspicions_beyond_the_limit_wait_or_end() {
    let times = Timing::lan();
    let mut rig = master(Limits::new().with_suspicions(3));
    let ids = |from: u32, to: u32| (from..to).map(|at| format!("member-{at}"));
    let conns: Vec<ConnId> = ids(10, 40).map(|id| join(&mut rig, &id).0).collect();
    rig.advance(times.suspect_after);
    let mut expected: Vec<String> = ids(10, 13).collect();
    assert_eq!(suspected(&rig), expected);
    for (id, conn) in ids(10, 25).zip(conns) {
        let sent = rig.messages(conn);
        let beat = sent.iter().rev().find_map(|message| match message {
            Message::Heartbeat(beat) => Some(*beat),
            _ => None,
        });
        let (beat, view_id) = (beat.unwrap(), rig.formation.view().id());
        let ack = HeartbeatAck {
            term: beat.term,
            number: beat.number,
            view_id,
            confirms: false,
            electorate: Default::default(),
        };
        rig.receive(conn, Message::HeartbeatAck(ack).to_frame());
        assert!(rig.formation.view().get(id.as_str()).unwrap().state.is_active());
    }
    // In the last of these rounds, those that have answered are due again. The others have been silent for longer.
    for from in [25, 28, 31] {
        rig.advance(times.heartbeat_interval);
        expected.extend(ids(from, from + 3));
        assert_eq!(suspected(&rig), expected);
    }
    rig.advance(times.down_after - times.suspect_after - 3 * times.heartbeat_interval);
    let left: Vec<String> = rig.formation.view().iter().map(|member| member.node.id.to_string()).collect();
    let answered = ["m".to_owned()].into_iter().chain(ids(10, 25));
    assert_eq!(left, answered.collect::<Vec<_>>(), "those that are down are removed in time");
}
