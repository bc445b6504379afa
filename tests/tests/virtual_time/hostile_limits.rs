//! Attacks on the memory, the time and the views of others, each by name. T2 is a member that is no voter, T3 a voter.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use formation_core::{
    Address, CloseReason, Command, Config, ConnId, Event, Incarnation, Input, Limits, Member, MemberState, Node,
    NodeId, Output, RejectReason, Remote, Term, ViewId,
    message::{HeartbeatAck, MembersUpdate, Message, Proof, Role},
};
use formation_tests::{Net, Peer, Rig, Settings, Target};

const SECOND: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_millis(200);

fn single(limits: Limits) -> Rig {
    let mut rig = Rig::new(Config::single("test", "m", "m:1").limits(limits).build().unwrap());
    rig.advance(Duration::from_millis(1));
    assert!(rig.formation.leadership(rig.now).is_some(), "a single node is master at once");
    rig
}

fn joins(rig: &mut Rig, id: &str) -> (ConnId, Peer) {
    let mut peer = Peer::of(rig.formation.config(), id, &format!("{id}:1"));
    let conn = rig.joined_by(&mut peer);
    (conn, peer)
}

fn id(id: &str) -> NodeId {
    NodeId::new(id).unwrap()
}

fn member(id: &str, metadata: usize) -> Member {
    let node = Node { id: NodeId::new(id).unwrap(), incarnation: Incarnation(1) };
    let address = Address::new(format!("{id}:1")).unwrap();
    Member::new(node, address).with_metadata(vec![7; metadata])
}

fn ack(number: u64, view_id: ViewId) -> Bytes {
    Message::HeartbeatAck(HeartbeatAck {
        term: Term(1),
        number,
        view_id,
        confirms: false,
        electorate: Default::default(),
    })
    .to_frame()
}

/// The members on the pages that were sent on a connection.
fn members_on_pages(sent: &[Message]) -> Vec<&Member> {
    let pages = sent.iter().filter_map(|message| match message {
        Message::MembersUpdate(MembersUpdate::Page { members, .. }) => Some(members),
        _ => None,
    });
    pages.flatten().collect()
}

/// A hostile voter leads a node and a voter, and writes different members under one view id. Then it is gone.
#[test]
fn t3_v9_views_that_a_master_has_split_become_one_again() {
    let mut net = Net::new(1, Settings { views_of_others: true, ..Settings::calm() });
    for ix in 0..4 {
        net.add(Net::builder(ix, 3).build().unwrap());
    }
    let mut hostile = Peer::of(&net.host(0).config, "n2", "h2:1");
    net.redirect("h2:1", Some(Target::Test));
    net.start(0);
    net.start(3);
    // Node 3 dials one seed after the other.
    let mut wires = Vec::new();
    net.run_until(2 * SECOND, |net| {
        wires.extend(net.accepted());
        wires.len() == 2
    });
    let honest = [0, 3].map(|ix| Member::new(net.node(ix), net.host(ix).config.address().clone()));
    let view_id = ViewId { term: Term(1), version: 1 };
    let mut first = honest.to_vec();
    first.push(hostile.member());
    let with_ghost = [first.clone(), vec![member("ghost", 0)]].concat();
    for wire in wires {
        let members = if net.open_at(wire, 0) { first.clone() } else { with_ghost.clone() };
        let words = [hostile.hello(), hostile.master(1), Peer::accepted(1), Peer::page(view_id, members)];
        net.send(wire, words.concat());
    }
    net.run_for(INTERVAL);
    for (ix, count) in [(0, 3), (3, 4)] {
        let view = net.host(ix).formation.as_ref().unwrap().view();
        assert_eq!((view.id(), view.len()), (view_id, count), "the view of node {ix}");
    }
    for wire in net.accepted() {
        net.close(wire);
    }
    net.redirect("h2:1", Some(Target::Node(2)));
    net.start(1);
    let whole = net.run_until(8 * SECOND, |net| {
        let view = |ix| net.host(ix).formation.as_ref().unwrap().view();
        net.agree(&[0, 1, 3]) && view(0) == view(1) && view(0) == view(3)
    });
    net.expect(whole, "the views differ after the false master has gone");
}

/// A hostile voter writes a member that is too large for a write of the next master. Then it is gone.
#[test]
fn t3_v6_an_entry_too_large_to_send_on_blocks_no_view() {
    let config = Net::builder(0, 3).build().unwrap();
    let mut rig = Rig::new(config.clone());
    let (mut hostile, mut voter) = (Peer::of(&config, "n1", "h1:1"), Peer::of(&config, "n2", "h2:1"));
    let conn = rig.hello_from(&mut hostile);
    rig.receive(conn, hostile.master(1));
    rig.receive(conn, Peer::page(ViewId { term: Term(1), version: 1 }, vec![member("large", 100_000)]));
    rig.give(Input::Closed { conn });
    // Its accomplice is this member, and lives.
    let mut large = Peer::of(&config, "large", "large:1");
    large.node.incarnation = Incarnation(1);
    large.metadata = vec![7; 100_000].into();
    let other = rig.joined_by(&mut large);
    let conn = rig.joined_by(&mut voter);
    let mut sent = Vec::new();
    for _ in 0..60 {
        rig.advance(INTERVAL / 2);
        for message in rig.messages(conn) {
            match &message {
                Message::VoteRequest(request) => rig.receive(conn, Peer::vote(request)),
                Message::Heartbeat(heartbeat) => rig.receive(
                    conn,
                    Message::HeartbeatAck(HeartbeatAck {
                        term: heartbeat.term,
                        number: heartbeat.number,
                        view_id: ViewId::default(),
                        confirms: true,
                        electorate: Default::default(),
                    })
                    .to_frame(),
                ),
                _ => {}
            }
            sent.push(message);
        }
        if rig.closed(other).is_none() {
            for message in rig.messages(other) {
                if let Message::Heartbeat(heartbeat) = message {
                    rig.receive(other, ack(heartbeat.number, ViewId::default()));
                }
            }
        }
        let ping = Message::Ping.to_frame();
        rig.receive(conn, ping);
    }
    assert!(rig.formation.leadership(rig.now).is_some(), "the node is the next master: {:?}", rig.formation.status());
    let own = rig.formation.node().clone();
    let pages = members_on_pages(&sent);
    assert!(pages.iter().any(|member| member.node == own), "the voter gets no view");
}

#[test]
fn t2_v8_flips_of_metadata_are_one_change_per_heartbeat() {
    let mut rig = single(Limits::default());
    joins(&mut rig, "a");
    let (conn, mut peer) = joins(&mut rig, "z");
    let master = (rig.formation.node().clone(), rig.formation.config().address().clone());
    rig.advance(2 * INTERVAL);
    let before = rig.events().count();
    for round in 0..5_u8 {
        for flip in 0..20 {
            peer.metadata = vec![round, flip].into();
            let (master, address) = master.clone();
            let status = peer.status(1, Role::Follower { master, address }, ViewId::default());
            rig.receive(conn, status);
        }
        rig.advance(INTERVAL);
        let known = rig.formation.view().get(&peer.node.id).unwrap().metadata.clone();
        assert_eq!(known, vec![round, 19], "the newest wins");
    }
    let is_change = |event: &&Event| match event {
        Event::ViewChanged { changes, .. } => changes.iter().any(|change| *change.id() == peer.node.id),
        _ => false,
    };
    let changes = rig.events().skip(before).filter(is_change).count();
    assert!(changes <= 8, "{changes} changes of one member in 5 heartbeats");
}

/// It says in turn that it leaves and that it joins.
#[test]
fn t2_v8_a_member_that_leaves_and_joins_in_turn_is_slowed_down() {
    let mut rig = single(Limits::default());
    let (conn, mut peer) = joins(&mut rig, "z");
    rig.advance(2 * INTERVAL);
    let before = rig.events().count();
    for _ in 0..5 {
        for _ in 0..20 {
            let leaving = peer.status(1, Role::Leaving, ViewId::default());
            rig.receive(conn, leaving);
            let joining = peer.joining();
            rig.receive(conn, joining);
        }
        rig.advance(INTERVAL);
    }
    let changes = rig.events().skip(before).filter(|event| matches!(event, Event::ViewChanged { .. })).count();
    assert!(changes <= 24, "{changes} changes in 5 heartbeats");
}

/// It reads nothing of its snapshot, and the change log does not reach back for others.
#[test]
fn t2_v7_a_stuck_reader_of_a_snapshot_starves_nobody() {
    let mut rig = single(Limits::new().with_pinned_views(1).with_change_log(1).with_send(4_096));
    for at in 0..100 {
        joins(&mut rig, &format!("member-with-a-long-name-{at}"));
    }
    rig.hold_answers();
    let (stuck, _) = joins(&mut rig, "stuck");
    rig.flush(stuck);
    let (reader, _) = joins(&mut rig, "reader");
    while rig.flush(reader) {}
    for name in ["b", "c", "d"] {
        joins(&mut rig, name);
    }
    let newest = rig.formation.view().id();
    let mut got = None;
    for _ in 0..5 {
        rig.advance(INTERVAL);
        while rig.flush(reader) {}
        for message in rig.messages(reader) {
            if let Message::MembersUpdate(
                MembersUpdate::Page { view_id, last: true, .. } | MembersUpdate::Delta { view_id, .. },
            ) = message
            {
                got = Some(view_id);
            }
        }
    }
    assert!(got >= Some(newest), "the reader has {got:?}, and {newest:?} is older than a second");
    while rig.flush(stuck) {}
    let sent = rig.messages(stuck);
    let members = members_on_pages(&sent);
    assert!(members.iter().any(|member| member.node.id == id("d")), "the reader that was stuck starts again");
}

#[test]
fn t2_g7_a_flood_of_messages_closes_its_link_only() {
    for flood in ["pings", "statuses", "acknowledgements"] {
        let mut rig = single(Limits::default());
        let (innocent, _) = joins(&mut rig, "a");
        let (conn, mut peer) = joins(&mut rig, "z");
        for count in 0..20_000 {
            if rig.closed(conn).is_some() {
                assert!(count > 200, "{count} {flood} are no flood");
                break;
            }
            let message = match flood {
                "pings" => Message::Ping.to_frame(),
                "statuses" => peer.joining(),
                _ => ack(1, ViewId::default()),
            };
            rig.receive(conn, message);
        }
        assert!(rig.closed(conn).is_some(), "20000 {flood} at once are handled");
        assert_eq!(rig.closed(innocent), None);
    }
}

/// A member repeats the same acknowledgement, or one of no heartbeat.
#[test]
fn t2_v11_an_old_acknowledgement_keeps_no_member_active() {
    for is_zero in [true, false] {
        let mut rig = single(Limits::default());
        let (conn, _) = joins(&mut rig, "z");
        rig.advance(INTERVAL);
        let sent = rig.messages(conn).into_iter().filter_map(|message| match message {
            Message::Heartbeat(heartbeat) => Some(heartbeat.number),
            _ => None,
        });
        let number = if is_zero { 0 } else { sent.last().unwrap() };
        for _ in 0..10 {
            rig.advance(INTERVAL);
            rig.receive(conn, ack(number, rig.formation.view().id()));
        }
        let state = rig.formation.view().get(&id("z")).map(|member| member.state);
        assert_ne!(state, Some(MemberState::Active), "it has received no heartbeat for 2 s");
    }
}

#[test]
fn t2_g7_a_frame_that_never_ends_closes_its_link() {
    let mut rig = single(Limits::default());
    let (_, mut peer) = joins(&mut rig, "z");
    // Of two links that are proven, one goes on acknowledging.
    let other = rig.reached_by(&mut peer);
    let conn = rig.hello_again(&mut peer, other);
    let mut begun = BytesMut::new();
    begun.put_u32(100_000);
    rig.receive(conn, begun.freeze());
    for _ in 0..60 {
        rig.advance(INTERVAL);
        if let Some(reason) = rig.closed(conn) {
            return assert_eq!(reason, CloseReason::FrameTooSlow);
        }
        rig.receive(conn, vec![0; 10]);
        let sent = [rig.messages(conn), rig.messages(other)].concat();
        for message in sent {
            if let Message::Heartbeat(heartbeat) = message {
                rig.receive(other, ack(heartbeat.number, rig.formation.view().id()));
            }
        }
    }
    panic!("the frame is not complete after 12 s, and the link is open");
}

/// What a peer does not read must not keep more memory than its own bytes.
#[test]
fn t2_g7_a_small_write_keeps_no_large_buffer() {
    let mut rig = single(Limits::default());
    for at in 0..200 {
        joins(&mut rig, &format!("member-with-a-long-name-{at}"));
    }
    rig.hold_answers();
    rig.outputs.clear();
    joins(&mut rig, "z");
    rig.advance(INTERVAL);
    let sends = rig.outputs.iter().filter_map(|output| match output {
        Output::Send { bytes, .. } => Some(bytes),
        _ => None,
    });
    // A heartbeat alone is shared by all that get it.
    let mut sends: Vec<_> = sends.filter(|bytes| bytes.len() > 64).cloned().collect();
    rig.outputs.clear();
    assert!(!sends.is_empty());
    assert!(sends.iter_mut().all(|bytes| bytes.is_unique()), "two writes share a buffer");
}

/// The bytes of a chunk are free again once it is handled, whatever the node keeps of it.
#[test]
fn t2_g7_a_small_frame_keeps_no_large_chunk() {
    let mut rig = single(Limits::default());
    let mut peer = Peer::of(rig.formation.config(), "z", "z:1");
    peer.metadata = vec![7; 20].into();
    let conn = rig.accept();
    for words in [vec![peer.hello(), peer.joining()], vec![peer.joining(), Message::Ping.to_frame()]] {
        let chunk = Bytes::from(words.concat());
        rig.receive(conn, chunk.clone());
        rig.inputs.clear();
        assert!(chunk.is_unique(), "the chunk is kept");
    }
    assert_eq!(rig.closed(conn), None::<CloseReason>);
}

/// Readers that take nothing keep the room for writes from those that read.
#[test]
fn g7_unsent_bytes_have_a_limit_and_slow_readers_go() {
    let mut rig = single(Limits::new().with_send(4_096).with_unsent_bytes(8_192));
    for at in 0..100 {
        joins(&mut rig, &format!("member-with-a-long-name-{at}"));
    }
    rig.hold_answers();
    let slow = ["x", "y", "z"].map(|name| {
        let (conn, _) = joins(&mut rig, name);
        rig.flush(conn);
        conn
    });
    let (reader, _) = joins(&mut rig, "reader");
    while rig.flush(reader) {}
    let sent = rig.messages(reader);
    assert!(members_on_pages(&sent).is_empty(), "the limit is reached, and the view waits");
    let mut all = Vec::new();
    for _ in 0..6 {
        rig.advance(INTERVAL);
        while rig.flush(reader) {}
        all.extend(rig.messages(reader));
    }
    assert!(members_on_pages(&all).iter().any(|member| member.node.id == id("reader")), "the reader gets no view");
    let closed = slow.map(|conn| rig.closed(conn));
    assert!(closed.contains(&Some(CloseReason::TooManyUnsentBytes)), "{closed:?}");
    assert_eq!(rig.closed(reader), None);
}

/// The view for a member waits. The member is linked and not proven, and then it is reached at its address.
#[test]
fn g7_a_view_may_wait_on_a_link_that_becomes_a_claim() {
    let mut rig = single(Limits::new().with_send(4_096).with_unsent_bytes(8_192));
    for at in 0..30 {
        let mut peer = Peer::of(rig.formation.config(), &format!("large-{at}"), &format!("large-{at}:1"));
        peer.metadata = vec![7; 500].into();
        rig.joined_by(&mut peer);
    }
    rig.hold_answers();
    for name in ["x", "y", "z"] {
        let (conn, _) = joins(&mut rig, name);
        rig.flush(conn);
    }
    let (withheld, mut peer) = joins(&mut rig, "w");
    while rig.flush(withheld) {}
    let sent = rig.messages(withheld);
    assert!(members_on_pages(&sent).is_empty(), "the limit is reached, and the view waits");
    let dialed = rig.reached_by(&mut peer);
    assert_eq!([withheld, dialed].map(|conn| rig.closed(conn)), [None, None]);
    rig.advance(2 * SECOND);
    while rig.flush(withheld) {}
    assert_eq!(rig.closed(withheld), Some(CloseReason::Rejected(RejectReason::Unproven)), "it was a claim");
}

/// A ping is due on a link while a write is in flight. Then the node is reached at its address.
#[test]
fn d5_no_ping_is_due_on_a_link_that_becomes_a_claim() {
    let mut rig = single(Limits::default());
    rig.hold_answers();
    let (conn, mut peer) = joins(&mut rig, "a");
    rig.advance(INTERVAL);
    let dialed = rig.reached_by(&mut peer);
    assert_eq!([conn, dialed].map(|conn| rig.closed(conn)), [None, None]);
    rig.advance(2 * SECOND);
    while rig.flush(conn) {}
    assert_eq!(rig.closed(conn), Some(CloseReason::Rejected(RejectReason::Unproven)), "it was a claim");
}

/// A crowd that reads is slowed down, and nobody is closed.
#[test]
fn g7_a_crowd_within_the_limit_of_unsent_bytes_is_served() {
    let mut rig = single(Limits::new().with_send(4_096).with_unsent_bytes(8_192));
    for at in 0..60 {
        joins(&mut rig, &format!("member-with-a-long-name-{at}"));
    }
    rig.hold_answers();
    let crowd: Vec<_> = (0..40).map(|at| joins(&mut rig, &format!("crowd-{at}")).0).collect();
    for conn in 1..=60 {
        rig.flush(ConnId(conn));
    }
    // Each takes one write in turn.
    for _ in 0..40 {
        for conn in &crowd {
            rig.flush(*conn);
        }
    }
    for conn in crowd {
        assert_eq!(rig.closed(conn), None);
        let sent = rig.messages(conn);
        assert!(!members_on_pages(&sent).is_empty(), "{conn} has no view");
    }
}

/// Each write that is flushed makes room for one page of the view.
#[test]
fn g7_readers_take_turns_when_the_room_is_short() {
    let mut rig = single(Limits::new().with_send(4_096).with_unsent_bytes(4_096));
    for at in 0..300 {
        joins(&mut rig, &format!("member-with-a-long-name-{at}"));
    }
    (1..=300).for_each(|conn| rig.give(Input::Closed { conn: ConnId(conn) }));
    rig.hold_answers();
    let crowd = ["w", "x", "y", "z"].map(|name| joins(&mut rig, name).0);
    let mut pages = [0; 4];
    for _ in 0..4 {
        for (conn, pages) in crowd.iter().zip(&mut pages) {
            rig.flush(*conn);
            let sent = rig.messages(*conn);
            *pages += usize::from(!members_on_pages(&sent).is_empty());
        }
    }
    assert!(pages.iter().all(|pages| *pages > 0), "the readers have {pages:?} pages after four rounds");
}

#[test]
fn v8_new_metadata_is_reported_once_per_heartbeat() {
    let mut rig = single(Limits::default());
    let (conn, _) = joins(&mut rig, "a");
    rig.messages(conn);
    let mut count = 0;
    for round in 0..3_u8 {
        for change in 0..20 {
            rig.command(Command::SetMetadata(vec![round, change].into()));
        }
        rig.advance(INTERVAL);
        let metadata = rig.messages(conn).into_iter().filter_map(|message| match message {
            Message::Status(status) => Some(status.metadata),
            _ => None,
        });
        let metadata: Vec<_> = metadata.collect();
        assert_eq!(metadata.last().unwrap(), &vec![round, 19], "the newest is reported");
        let own = rig.formation.node().id.clone();
        assert_eq!(rig.formation.view().get(&own).unwrap().metadata, vec![round, 19]);
        count += metadata.len();
    }
    assert!(count <= 4, "{count} reports in 3 heartbeats");
}

/// Its neighbour of another address is not harmed.
#[test]
fn t1_a_source_of_wrong_proofs_goes_first() {
    let key = [7; 32];
    let limits = Limits::new().with_pending_connections(3);
    let config = Config::single("test", "m", "m:1").limits(limits).key(key).build().unwrap();
    for fails in [false, true] {
        let mut rig = Rig::new(config.clone());
        rig.advance(Duration::from_millis(1));
        let begins = |rig: &mut Rig, last: u8| {
            let conn = rig.accept_from(Remote::at(([192, 0, 2, last], 1)));
            let hello = Peer::of(&config, "z", "z:1").holding(&key).hello();
            rig.receive(conn, hello);
            conn
        };
        if fails {
            let conn = begins(&mut rig, 66);
            rig.receive(conn, Message::Proof(Proof { mac: [0; 32] }).to_frame());
            assert_eq!(rig.closed(conn), Some(CloseReason::Rejected(RejectReason::BadProof)));
        }
        let conns = [1, 66, 2].map(|last| begins(&mut rig, last));
        begins(&mut rig, 3);
        let closed = conns.map(|conn| rig.closed(conn).is_some());
        assert_eq!(closed, if fails { [false, true, false] } else { [true, false, false] });
    }
}
