//! The duties of a master for each linked node (PROTOCOL, "Members and views"). One node on the test rig.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use bytes::Bytes;
use formation_core::{
    Address, Command, Config, ConnId, Event, Incarnation, Input, Limits, Member, MemberState, Node, NodeId,
    RejectReason, StopReason, Term, Timing, ViewId,
    message::{JoinResponse, Message, Role, VoteRequest},
};
use formation_tests::{Peer, Rig};

const SECOND: Duration = Duration::from_secs(1);

/// A node that is alone in its cluster, so that it is master at once, in term 1.
fn master(limits: Limits) -> (Rig, Config) {
    let config = Config::single("test", "m", "m:1").limits(limits).build().unwrap();
    (Rig::new(config.clone()), config)
}

fn follows(master: &str, incarnation: u64) -> Role {
    let node = Node { id: NodeId::new(master).unwrap(), incarnation: Incarnation(incarnation) };
    Role::Follower { master: node, address: Address::new(format!("{master}:1")).unwrap() }
}

/// The answers to a joining node since the last call.
fn join_answers(rig: &mut Rig, conn: ConnId) -> Vec<Result<(), RejectReason>> {
    let answer = |message: Message| match message {
        Message::JoinResponse(JoinResponse::Accepted { term }) => {
            assert_eq!(term, Term(1));
            Some(Ok(()))
        }
        Message::JoinResponse(JoinResponse::Rejected { reason, .. }) => Some(Err(reason)),
        _ => None,
    };
    rig.messages(conn).into_iter().filter_map(answer).collect()
}

fn member<'a>(rig: &'a Rig, id: &str) -> Option<&'a Member> {
    rig.formation.view().get(&NodeId::new(id).unwrap())
}

fn views(rig: &Rig) -> usize {
    rig.events().filter(|event| matches!(event, Event::ViewChanged { .. })).count()
}

#[test]
fn v2_a_joining_node_is_admitted_each_time_it_asks() {
    let (mut rig, config) = master(Limits::default());
    let mut peer = Peer::of(&config, "j", "j:1");
    let conn = rig.joined_by(&mut peer);
    assert_eq!(join_answers(&mut rig, conn), [Ok(())]);
    let before = views(&rig);
    for (term, role, answers) in [
        (1, follows("m", 10), 0),
        (1, Role::Joining, 1),
        (0, follows("m", 10), 1),
        (1, follows("x", 10), 1),
        (1, follows("m", 9), 1),
    ] {
        let status = peer.status(term, role.clone(), ViewId::default());
        rig.receive(conn, status);
        assert_eq!(join_answers(&mut rig, conn).len(), answers, "{role:?} in term {term}");
    }
    assert_eq!(views(&rig), before, "the view has changed");
}

/// It can send, and perhaps not receive.
#[test]
fn v11_a_member_that_only_says_that_it_joins_is_removed() {
    let (mut rig, config) = master(Limits::default());
    let mut peer = Peer::of(&config, "j", "j:1");
    let conn = rig.joined_by(&mut peer);
    let steps = config.timing().down_after.as_millis() / config.timing().heartbeat_interval.as_millis();
    for _ in 0..=steps {
        rig.advance(config.timing().heartbeat_interval);
        for role in [Role::Joining, follows("m", 10)] {
            let status = peer.status(1, role, ViewId::default());
            rig.receive(conn, status);
        }
    }
    assert_eq!((member(&rig, "j"), rig.closed(conn).is_some()), (None, true));
    assert_eq!(views(&rig), 4, "own view, joined, suspect, down");
}

#[test]
fn v2_a_leaving_node_is_not_admitted() {
    let (mut rig, config) = master(Limits::default());
    let mut peer = Peer::of(&config, "j", "j:1");
    let conn = rig.hello_from(&mut peer);
    let status = peer.status(0, Role::Leaving, ViewId::default());
    rig.receive(conn, status);
    assert_eq!((join_answers(&mut rig, conn), member(&rig, "j")), (vec![], None));
}

#[test]
fn metadata_of_a_member_is_stored_if_it_is_not_too_long() {
    let (mut rig, config) = master(Limits::new().with_metadata(10));
    let mut peer = Peer::of(&config, "j", "j:1");
    let conn = rig.joined_by(&mut peer);
    rig.messages(conn);
    let mut rejections = 0;
    for (len, role, answers, written) in [
        (10, follows("m", 10), vec![], 10),
        (11, follows("m", 10), vec![], 10),
        (11, Role::Joining, vec![Err(RejectReason::MetadataTooLong)], 10),
        (9, Role::Joining, vec![Ok(())], 9),
    ] {
        peer.metadata = vec![7; len].into();
        // One change goes with each heartbeat.
        rig.advance(Timing::lan().heartbeat_interval);
        let status = peer.status(1, role, ViewId::default());
        rig.receive(conn, status);
        assert_eq!(join_answers(&mut rig, conn), answers, "{len} bytes");
        rejections += answers.iter().filter(|answer| answer.is_err()).count();
        let reported = rig.events().filter(|event| matches!(event, Event::PeerRejected { .. })).count();
        assert_eq!(
            reported, rejections,
            "{len} bytes: a member that keeps its old metadata is not reported as rejected"
        );
        assert_eq!(member(&rig, "j").unwrap().metadata.len(), written, "{len} bytes");
    }
}

/// A node stores no metadata over the limit of any peer, whether it is the master or not.
#[test]
fn g7_metadata_over_the_limit_is_not_kept() {
    let limits = Limits::new().with_metadata(10);
    let voter = Config::builder("test", "n0", "h0:1").seeds(["h0:1", "h1:1", "h2:1"]).limits(limits.clone());
    let (alone, config) = master(limits);
    let voter = voter.build().unwrap();
    for (mut rig, config) in [(alone, config), (Rig::new(voter.clone()), voter)] {
        let mut peer = Peer::of(&config, "j", "j:1");
        let conn = rig.hello_from(&mut peer);
        for (len, is_kept) in [(10, true), (11, false), (10_000, false), (9, true)] {
            peer.metadata = vec![b'#'; len].into();
            let joining = peer.joining();
            rig.receive(conn, joining);
            let kept = format!("{:?}", rig.formation.clone());
            let longest = kept.split(|c| c != '#').map(str::len).max();
            assert!(longest <= Some(10), "{len}: {longest:?}");
            assert_eq!(kept.contains(&"#".repeat(len)), is_kept, "{len}");
        }
    }
}

#[test]
fn a_full_cluster_still_serves_its_members() {
    let (mut rig, config) = master(Limits::new().with_members(2));
    let mut peer = Peer::of(&config, "j", "j:1");
    let conn = rig.joined_by(&mut peer);
    let more = rig.joined_by(&mut Peer::of(&config, "k", "k:1"));
    let answers = [join_answers(&mut rig, conn), join_answers(&mut rig, more)];
    assert_eq!(answers, [[Ok(())], [Err(RejectReason::ClusterFull)]]);
    peer.metadata = Bytes::from_static(b"new");
    let joining = peer.joining();
    rig.receive(conn, joining);
    assert_eq!(join_answers(&mut rig, conn), [Ok(())]);
    assert_eq!(member(&rig, "j").unwrap().metadata, "new");
    let leaving = peer.status(1, Role::Leaving, ViewId::default());
    rig.receive(conn, leaving);
    assert_eq!((join_answers(&mut rig, more), member(&rig, "j")), (vec![Ok(())], None));
}

#[test]
fn l2_a_leaving_node_is_removed_and_gets_a_leave_ack() {
    let (mut rig, config) = master(Limits::default());
    let mut peer = Peer::of(&config, "j", "j:1");
    let conn = rig.joined_by(&mut peer);
    let other = rig.joined_by(&mut Peer::of(&config, "k", "k:1"));
    let leaving = peer.status(1, Role::Leaving, ViewId::default());
    rig.receive(conn, leaving);
    assert!(rig.messages(conn).contains(&Message::LeaveAck) && !rig.messages(other).contains(&Message::LeaveAck));
    assert_eq!((rig.closed(conn), rig.closed(other)), (None, None));
    assert!(member(&rig, "j").is_none() && member(&rig, "k").is_some());
}

/// A node that receives a heartbeat must already know the role of its sender (G2, E8).
#[test]
fn e8_a_master_sends_its_status_before_its_heartbeat() {
    let (mut rig, config) = master(Limits::default());
    let conn = rig.joined_by(&mut Peer::of(&config, "j", "j:1"));
    rig.hold_answers();
    rig.command(Command::SetMetadata(Bytes::from_static(b"in flight")));
    rig.messages(conn);
    rig.command(Command::SetMetadata(Bytes::from_static(b"new")));
    rig.advance(config.timing().heartbeat_interval);
    assert_eq!(rig.messages(conn), [], "a second write is in flight");
    rig.flush(conn);
    let sent = rig.messages(conn);
    let status = sent.iter().position(|message| matches!(message, Message::Status(report) if report.metadata == "new"));
    let heartbeat = sent.iter().position(|message| matches!(message, Message::Heartbeat(_)));
    assert_eq!(status, Some(0), "{sent:?}");
    assert!(heartbeat > status, "{sent:?}");
}

/// A member restarts, is reached at its address, and has sent only its `Hello`.
fn restart(rig: &mut Rig, peer: &mut Peer) -> ConnId {
    let conn = rig.joined_by(peer);
    rig.give(Input::Closed { conn });
    peer.node.incarnation.0 += 1;
    rig.reached_by(peer)
}

/// The newer run has not sent its status yet.
#[test]
fn c5_the_end_of_an_earlier_run_keeps_the_link_of_the_next() {
    let (mut rig, config) = master(Limits::default());
    let mut peer = Peer::of(&config, "j", "j:1");
    let next = restart(&mut rig, &mut peer);
    for _ in 0..4 {
        rig.receive(next, Message::Ping.to_frame());
        rig.advance(SECOND);
    }
    assert_eq!((member(&rig, "j"), rig.closed(next)), (None, None));
}

/// The new run already follows the master before its status as a joining node has arrived.
#[test]
fn i1_the_next_run_of_a_member_takes_its_place() {
    let (mut rig, config) = master(Limits::default());
    let mut peer = Peer::of(&config, "j", "j:1");
    let next = restart(&mut rig, &mut peer);
    let status = peer.status(1, follows("m", 10), ViewId::default());
    rig.receive(next, status);
    assert_eq!(member(&rig, "j"), Some(&peer.member()));
}

#[test]
fn a_master_sends_every_member_a_heartbeat_per_interval() {
    let (mut rig, config) = master(Limits::default());
    let conn = rig.joined_by(&mut Peer::of(&config, "j", "j:1"));
    let other = rig.hello_from(&mut Peer::of(&config, "k", "k:1"));
    let heartbeats = |rig: &mut Rig, conn| {
        let sent = rig.messages(conn);
        sent.iter().filter(|message| matches!(message, Message::Heartbeat(_))).count()
    };
    rig.messages(conn);
    for _ in 0..5 {
        rig.advance(config.timing().heartbeat_interval);
        assert_eq!((heartbeats(&mut rig, conn), heartbeats(&mut rig, other)), (1, 0));
    }
}

#[test]
fn a_master_writes_its_own_changed_metadata() {
    let (mut rig, config) = master(Limits::default());
    rig.joined_by(&mut Peer::of(&config, "j", "j:1"));
    let before = views(&rig);
    for _ in 0..2 {
        rig.command(Command::SetMetadata(Bytes::from_static(b"new")));
        let [m, j] = ["m", "j"].map(|id| member(&rig, id).unwrap().metadata.clone());
        assert_eq!((m, j), (Bytes::from_static(b"new"), Bytes::new()));
        assert_eq!(views(&rig), before + 1);
    }
}

/// The voter n0 with its link to n1.
struct Voter {
    rig: Rig,
    config: Config,
    n1: Peer,
    conn: ConnId,
}

impl Voter {
    fn new() -> Self {
        let config = Config::builder("test", "n0", "n0:1").seeds(["n0:1", "n1:1", "n2:1"]).build().unwrap();
        let mut rig = Rig::new(config.clone());
        rig.advance(3 * SECOND);
        let mut n1 = Peer::of(&config, "n1", "n1:1");
        let conn = rig.hello_from(&mut n1);
        Self { rig, config, n1, conn }
    }

    /// n1 has no master and votes for n0.
    fn is_elected(&mut self) {
        let joining = self.n1.joining();
        self.rig.receive(self.conn, joining);
        let request = self.rig.messages(self.conn).into_iter().find_map(|message| match message {
            Message::VoteRequest(request) => Some(request),
            _ => None,
        });
        let request: VoteRequest = request.unwrap();
        self.rig.receive(self.conn, Peer::vote(&request));
        assert!(self.rig.formation.leadership(self.rig.now).is_some());
    }
}

/// The first confirmation may have been lost with its connection. Other nodes get no confirmation.
#[test]
fn c4_l2_a_leave_is_confirmed_on_the_next_connection_too() {
    let (mut rig, config) = master(Limits::default());
    let mut peers = ["j", "k"].map(|id| Peer::of(&config, id, &format!("{id}:1")));
    for peer in &mut peers {
        rig.joined_by(peer);
    }
    // Only a link that is proven vouches for another one.
    let conns = peers.each_mut().map(|peer| rig.reached_by(peer));
    let leaving = peers[0].status(1, Role::Leaving, ViewId::default());
    rig.receive(conns[0], leaving);
    let again = [0, 1].map(|ix| rig.hello_again(&mut peers[ix], conns[ix]));
    let confirmed = again.map(|conn| rig.messages(conn).contains(&Message::LeaveAck));
    assert_eq!(confirmed, [true, false]);
}

/// The previous master may not have reported the leave to any other node.
#[test]
fn l4_a_new_master_confirms_a_leave_reported_before() {
    let mut voter = Voter::new();
    let mut peer = Peer::of(&voter.config, "j", "j:1");
    let conn = voter.rig.hello_from(&mut peer);
    let leaving = peer.status(0, Role::Leaving, ViewId::default());
    voter.rig.receive(conn, leaving);
    voter.rig.messages(conn);
    voter.is_elected();
    assert!(voter.rig.messages(conn).contains(&Message::LeaveAck));
    assert_eq!(member(&voter.rig, "j"), None);
}

/// The newer run of the node may be elected.
#[test]
fn g2_i1_a_superseded_master_has_no_lease() {
    let mut voter = Voter::new();
    voter.is_elected();
    voter.rig.hello_from(&mut Peer::of(&voter.config, "n0", "n0:1"));
    let at_own_address = voter.rig.answer("n0:1");
    let hello = Peer::of(&voter.config, "n0", "n0:1").hello();
    voter.rig.receive(at_own_address, hello);
    assert_eq!(voter.rig.formation.leadership(voter.rig.now), None);
    assert!(voter.rig.events().any(|event| matches!(event, Event::MasterLost { .. })));
    assert!(matches!(voter.rig.events().last(), Some(Event::Stopped { reason: StopReason::Superseded })));
}

#[test]
fn a_node_counts_its_candidacies() {
    let mut voter = Voter::new();
    assert_eq!(voter.rig.formation.status().counters.candidacies, 0);
    voter.is_elected();
    assert_eq!(voter.rig.formation.status().counters.candidacies, 1);
}

#[test]
fn v1_the_first_view_of_a_term_has_linked_members_active() {
    let mut voter = Voter::new();
    let mut peer = Peer::of(&voter.config, "j", "j:1");
    let sent = voter.n1.master(1);
    let page = Peer::page(ViewId { term: Term(1), version: 1 }, vec![voter.n1.member(), peer.member()]);
    voter.rig.receive(voter.conn, [sent, page].concat());
    let conn = voter.rig.hello_from(&mut peer);
    let last = Role::Follower { master: voter.n1.node.clone(), address: voter.n1.address.clone() };
    let status = peer.status(1, last, ViewId::default());
    voter.rig.receive(conn, status);
    let ended = voter.n1.status(1, Role::Joining, ViewId::default());
    voter.rig.receive(voter.conn, ended);
    voter.is_elected();
    assert_eq!(member(&voter.rig, "j").map(|member| member.state), Some(MemberState::Active));
    assert_eq!(voter.rig.formation.view().id().version, 1, "the first view had to be corrected");
}

#[test]
fn v1_a_member_linked_only_as_another_run_is_suspect() {
    let mut voter = Voter::new();
    let sent = voter.n1.master(1);
    voter.rig.receive(voter.conn, sent);
    let mut peers = ["j", "k"].map(|id| Peer::of(&voter.config, id, &format!("{id}:1")));
    let all = [voter.n1.member(), peers[0].member(), peers[1].member()];
    voter.rig.receive(voter.conn, Peer::page(ViewId { term: Term(1), version: 1 }, all.to_vec()));
    peers[1].node.incarnation.0 += 1;
    for peer in &mut peers {
        voter.rig.hello_from(peer);
    }
    let ended = voter.n1.status(1, Role::Joining, ViewId::default());
    voter.rig.receive(voter.conn, ended);
    voter.is_elected();
    let state = |id: &str| member(&voter.rig, id).map(|member| member.state);
    let (active, suspect) = (Some(MemberState::Active), Some(MemberState::Suspect));
    assert_eq!(["n0", "n1", "j", "k"].map(state), [active, active, active, suspect]);
}

#[test]
fn v1_a_former_master_serves_nobody_and_keeps_its_view() {
    let mut voter = Voter::new();
    voter.is_elected();
    let conn = voter.rig.joined_by(&mut Peer::of(&voter.config, "j", "j:1"));
    assert_eq!(voter.rig.formation.view().len(), 3);
    voter.rig.advance(SECOND);
    assert_eq!(voter.rig.formation.leadership(voter.rig.now), None);
    let view = voter.rig.formation.view().clone();
    voter.rig.messages(conn);
    let more = voter.rig.joined_by(&mut Peer::of(&voter.config, "k", "k:1"));
    voter.rig.command(Command::SetMetadata(Bytes::from_static(b"new")));
    voter.rig.advance(SECOND);
    let served = |message: &Message| {
        matches!(message, Message::Heartbeat(_) | Message::JoinResponse(_) | Message::MembersUpdate(_))
    };
    for conn in [conn, more] {
        assert!(!voter.rig.messages(conn).iter().any(served));
    }
    voter.rig.give(Input::Closed { conn });
    assert_eq!(*voter.rig.formation.view(), view);
}
