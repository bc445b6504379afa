//! What a master does for each node that is linked to it (PROTOCOL, "Members and views").

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use bytes::Bytes;
use formation_core::{
    Address, Command, Config, ConnId, Epoch, Event, Incarnation, Input, Limits, Member, MemberState, Node, NodeId,
    RejectReason, StopReason, Term,
    message::{JoinResponse, Message, Role, VoteRequest},
};
use formation_tests::{Bench, Peer};

const SECOND: Duration = Duration::from_secs(1);

/// A node alone, so that it is master at once, in term 1.
fn master(limits: Limits) -> (Bench, Config) {
    let config = Config::single("test", "m", "m:1").limits(limits).build().unwrap();
    (Bench::new(config.clone()), config)
}

fn follows(master: &str, incarnation: u64) -> Role {
    let node = Node { id: NodeId::new(master).unwrap(), incarnation: Incarnation(incarnation) };
    Role::Following { master: node, address: Address::new(format!("{master}:1")).unwrap() }
}

/// What the node has answered to a seeker since the last look.
fn told(bench: &mut Bench, conn: ConnId) -> Vec<Result<(), RejectReason>> {
    let answer = |message: Message| match message {
        Message::JoinResponse(JoinResponse::Accepted { term }) => {
            assert_eq!(term, Term(1));
            Some(Ok(()))
        }
        Message::JoinResponse(JoinResponse::Rejected { reason, .. }) => Some(Err(reason)),
        _ => None,
    };
    bench.messages(conn).into_iter().filter_map(answer).collect()
}

fn member<'a>(bench: &'a Bench, id: &str) -> Option<&'a Member> {
    bench.formation.view().get(&NodeId::new(id).unwrap())
}

fn views(bench: &Bench) -> usize {
    bench.events().filter(|event| matches!(event, Event::ViewChanged { .. })).count()
}

#[test]
fn who_seeks_is_taken_in_as_often_as_it_says_so_and_who_follows_is_a_member_already() {
    let (mut bench, config) = master(Limits::default());
    let mut peer = Peer::of(&config, "j", "j:1");
    let conn = bench.sought_by(&mut peer);
    assert_eq!(told(&mut bench, conn), [Ok(())]);
    let before = views(&bench);
    for (term, role, answers) in [
        (1, follows("m", 10), 0),
        (1, Role::Seeking, 1),
        (0, follows("m", 10), 1),
        (1, follows("x", 10), 1),
        (1, follows("m", 9), 1),
    ] {
        let status = peer.status(term, role.clone(), Epoch::default());
        bench.receive(conn, status);
        assert_eq!(told(&mut bench, conn).len(), answers, "{role:?} in term {term}");
    }
    assert_eq!(views(&bench), before, "it is what it was");
}

#[test]
fn who_leaves_is_not_taken_in() {
    let (mut bench, config) = master(Limits::default());
    let mut peer = Peer::of(&config, "j", "j:1");
    let conn = bench.greeted_by(&mut peer);
    let status = peer.status(0, Role::Leaving, Epoch::default());
    bench.receive(conn, status);
    assert_eq!((told(&mut bench, conn), member(&bench, "j")), (vec![], None));
}

#[test]
fn what_a_member_says_of_itself_is_written_if_it_is_not_too_long() {
    let (mut bench, config) = master(Limits { metadata: 10, ..Limits::default() });
    let mut peer = Peer::of(&config, "j", "j:1");
    let conn = bench.sought_by(&mut peer);
    bench.messages(conn);
    let mut refusals = 0;
    for (len, role, answers, written) in [
        (10, follows("m", 10), vec![], 10),
        (11, follows("m", 10), vec![], 10),
        (11, Role::Seeking, vec![Err(RejectReason::MetadataTooLong)], 10),
        (9, Role::Seeking, vec![Ok(())], 9),
    ] {
        peer.metadata = vec![7; len].into();
        let status = peer.status(1, role, Epoch::default());
        bench.receive(conn, status);
        assert_eq!(told(&mut bench, conn), answers, "{len} bytes");
        refusals += answers.iter().filter(|answer| answer.is_err()).count();
        let refused = bench.events().filter(|event| matches!(event, Event::Refused { .. })).count();
        assert_eq!(refused, refusals, "{len} bytes: a member that goes on as one is not refused");
        assert_eq!(member(&bench, "j").unwrap().metadata.len(), written, "{len} bytes");
    }
}

/// No more is kept of a peer than a member may have, by nobody.
#[test]
fn g7_metadata_that_is_too_long_is_not_kept() {
    let limits = Limits { metadata: 10, ..Limits::default() };
    let voter = Config::builder("test", "n0", "h0:1").seeds(["h0:1", "h1:1", "h2:1"]).limits(limits.clone());
    let (alone, config) = master(limits);
    let voter = voter.build().unwrap();
    for (mut bench, config) in [(alone, config), (Bench::new(voter.clone()), voter)] {
        let mut peer = Peer::of(&config, "j", "j:1");
        let conn = bench.greeted_by(&mut peer);
        for (len, is_kept) in [(10, true), (11, false), (10_000, false), (9, true)] {
            peer.metadata = vec![b'#'; len].into();
            let seeking = peer.seeking();
            bench.receive(conn, seeking);
            let kept = format!("{:?}", bench.formation.clone());
            let longest = kept.split(|c| c != '#').map(str::len).max();
            assert!(longest <= Some(10), "{len}: {longest:?}");
            assert_eq!(kept.contains(&"#".repeat(len)), is_kept, "{len}");
        }
    }
}

#[test]
fn a_full_cluster_goes_on_serving_its_members() {
    let (mut bench, config) = master(Limits { members: 2, ..Limits::default() });
    let mut peer = Peer::of(&config, "j", "j:1");
    let conn = bench.sought_by(&mut peer);
    let more = bench.sought_by(&mut Peer::of(&config, "k", "k:1"));
    let answers = [told(&mut bench, conn), told(&mut bench, more)];
    assert_eq!(answers, [[Ok(())], [Err(RejectReason::ClusterFull)]]);
    peer.metadata = Bytes::from_static(b"new");
    let seeking = peer.seeking();
    bench.receive(conn, seeking);
    assert_eq!(told(&mut bench, conn), [Ok(())]);
    assert_eq!(member(&bench, "j").unwrap().metadata, "new");
    let leaving = peer.status(1, Role::Leaving, Epoch::default());
    bench.receive(conn, leaving);
    assert_eq!((told(&mut bench, more), member(&bench, "j")), (vec![Ok(())], None));
}

#[test]
fn who_leaves_is_removed_and_told_so() {
    let (mut bench, config) = master(Limits::default());
    let mut peer = Peer::of(&config, "j", "j:1");
    let conn = bench.sought_by(&mut peer);
    let other = bench.sought_by(&mut Peer::of(&config, "k", "k:1"));
    let leaving = peer.status(1, Role::Leaving, Epoch::default());
    bench.receive(conn, leaving);
    assert!(bench.messages(conn).contains(&Message::Leave) && !bench.messages(other).contains(&Message::Leave));
    assert_eq!((bench.closed(conn), bench.closed(other)), (None, None));
    assert!(member(&bench, "j").is_none() && member(&bench, "k").is_some());
}

/// Who hears the heartbeat knows by then what its sender has become (G2, E8).
#[test]
fn a_master_says_its_new_status_before_the_heartbeat_of_the_same_write() {
    let (mut bench, config) = master(Limits::default());
    let conn = bench.sought_by(&mut Peer::of(&config, "j", "j:1"));
    bench.hold_answers();
    bench.command(Command::SetMetadata(Bytes::from_static(b"in flight")));
    bench.messages(conn);
    bench.command(Command::SetMetadata(Bytes::from_static(b"new")));
    bench.advance(config.timing().heartbeat_interval);
    assert_eq!(bench.messages(conn), [], "one write at a time");
    bench.flush(conn);
    let said = bench.messages(conn);
    let status = said.iter().position(|message| matches!(message, Message::Status(said) if said.metadata == "new"));
    let heartbeat = said.iter().position(|message| matches!(message, Message::Heartbeat(_)));
    assert_eq!(status, Some(0), "{said:?}");
    assert!(heartbeat > status, "{said:?}");
}

/// A member starts again, and has said no more than its hello.
fn restarted(bench: &mut Bench, peer: &mut Peer) -> ConnId {
    let conn = bench.sought_by(peer);
    bench.give(Input::Closed { conn });
    peer.node.incarnation.0 += 1;
    bench.greeted_by(peer)
}

/// The newer run has not said yet that it seeks.
#[test]
fn the_end_of_an_earlier_run_leaves_the_link_of_the_next_one_alone() {
    let (mut bench, config) = master(Limits::default());
    let mut peer = Peer::of(&config, "j", "j:1");
    let next = restarted(&mut bench, &mut peer);
    for _ in 0..4 {
        bench.receive(next, Message::Ping.to_frame());
        bench.advance(SECOND);
    }
    assert_eq!((member(&bench, "j"), bench.closed(next)), (None, None));
}

/// It follows who said to be master, before anything that it says as a seeker has come.
#[test]
fn the_next_run_of_a_member_takes_its_place_though_it_follows_already() {
    let (mut bench, config) = master(Limits::default());
    let mut peer = Peer::of(&config, "j", "j:1");
    let next = restarted(&mut bench, &mut peer);
    let status = peer.status(1, follows("m", 10), Epoch::default());
    bench.receive(next, status);
    assert_eq!(member(&bench, "j"), Some(&peer.member()));
}

#[test]
fn a_master_beats_to_every_member_in_each_interval() {
    let (mut bench, config) = master(Limits::default());
    let conn = bench.sought_by(&mut Peer::of(&config, "j", "j:1"));
    let other = bench.greeted_by(&mut Peer::of(&config, "k", "k:1"));
    let beats = |bench: &mut Bench, conn| {
        let said = bench.messages(conn);
        said.iter().filter(|message| matches!(message, Message::Heartbeat(_))).count()
    };
    bench.messages(conn);
    for _ in 0..5 {
        bench.advance(config.timing().heartbeat_interval);
        assert_eq!((beats(&mut bench, conn), beats(&mut bench, other)), (1, 0));
    }
}

#[test]
fn a_masters_own_metadata_is_written_where_it_has_changed() {
    let (mut bench, config) = master(Limits::default());
    bench.sought_by(&mut Peer::of(&config, "j", "j:1"));
    let before = views(&bench);
    for _ in 0..2 {
        bench.command(Command::SetMetadata(Bytes::from_static(b"new")));
        let [m, j] = ["m", "j"].map(|id| member(&bench, id).unwrap().metadata.clone());
        assert_eq!((m, j), (Bytes::from_static(b"new"), Bytes::new()));
        assert_eq!(views(&bench), before + 1);
    }
}

/// The voter n0, to which n1 is linked, and what it has asked n1.
struct Voter {
    bench: Bench,
    config: Config,
    n1: Peer,
    conn: ConnId,
}

impl Voter {
    fn new() -> Self {
        let config = Config::builder("test", "n0", "n0:1").seeds(["n0:1", "n1:1", "n2:1"]).build().unwrap();
        let mut bench = Bench::new(config.clone());
        bench.advance(3 * SECOND);
        let mut n1 = Peer::of(&config, "n1", "n1:1");
        let conn = bench.greeted_by(&mut n1);
        Self { bench, config, n1, conn }
    }

    /// n1 is without a master, and gives n0 its vote.
    fn is_elected(&mut self) {
        let seeking = self.n1.seeking();
        self.bench.receive(self.conn, seeking);
        let asked = self.bench.messages(self.conn).into_iter().find_map(|message| match message {
            Message::VoteRequest(request) => Some(request),
            _ => None,
        });
        let asked: VoteRequest = asked.unwrap();
        self.bench.receive(self.conn, Peer::vote(&asked));
        assert!(self.bench.formation.leadership(self.bench.now).is_some());
    }
}

/// What was said on the last connection may be lost with it.
#[test]
fn a_master_lets_go_who_leaves_on_its_next_connection_too_and_nobody_else() {
    let (mut bench, config) = master(Limits::default());
    let mut peers = ["j", "k"].map(|id| Peer::of(&config, id, &format!("{id}:1")));
    let conns = peers.each_mut().map(|peer| bench.sought_by(peer));
    let leaving = peers[0].status(1, Role::Leaving, Epoch::default());
    bench.receive(conns[0], leaving);
    let again = peers.each_mut().map(|peer| bench.greeted_by(peer));
    let told = again.map(|conn| bench.messages(conn).contains(&Message::Leave));
    assert_eq!(told, [true, false]);
}

/// Its last master may have told nobody.
#[test]
fn a_new_master_lets_go_who_has_said_that_it_leaves() {
    let mut voter = Voter::new();
    let mut peer = Peer::of(&voter.config, "j", "j:1");
    let conn = voter.bench.greeted_by(&mut peer);
    let leaving = peer.status(0, Role::Leaving, Epoch::default());
    voter.bench.receive(conn, leaving);
    voter.bench.messages(conn);
    voter.is_elected();
    assert!(voter.bench.messages(conn).contains(&Message::Leave));
    assert_eq!(member(&voter.bench, "j"), None);
}

/// G2: the newer run of it may be elected.
#[test]
fn g2_a_master_that_is_superseded_leads_no_more() {
    let mut voter = Voter::new();
    voter.is_elected();
    voter.bench.greeted_by(&mut Peer::of(&voter.config, "n0", "n0:1"));
    assert_eq!(voter.bench.formation.leadership(voter.bench.now), None);
    assert!(voter.bench.events().any(|event| matches!(event, Event::MasterLost { .. })));
    assert!(matches!(voter.bench.events().last(), Some(Event::Stopped { reason: StopReason::Superseded })));
}

#[test]
fn a_node_counts_its_candidacies() {
    let mut voter = Voter::new();
    assert_eq!(voter.bench.formation.status().counters.candidacies, 0);
    voter.is_elected();
    assert_eq!(voter.bench.formation.status().counters.candidacies, 1);
}

#[test]
fn the_first_view_of_a_term_has_everybody_active_who_is_linked_whomever_it_follows_yet() {
    let mut voter = Voter::new();
    let mut peer = Peer::of(&voter.config, "j", "j:1");
    let said = voter.n1.master(1);
    let page = Peer::page(Epoch { term: Term(1), version: 1 }, vec![voter.n1.member(), peer.member()]);
    voter.bench.receive(voter.conn, [said, page].concat());
    let conn = voter.bench.greeted_by(&mut peer);
    let last = Role::Following { master: voter.n1.node.clone(), address: voter.n1.address.clone() };
    let status = peer.status(1, last, Epoch::default());
    voter.bench.receive(conn, status);
    let ended = voter.n1.status(1, Role::Seeking, Epoch::default());
    voter.bench.receive(voter.conn, ended);
    voter.is_elected();
    assert_eq!(member(&voter.bench, "j").map(|member| member.state), Some(MemberState::Active));
    assert_eq!(voter.bench.formation.view().epoch().version, 1, "nothing had to be set right");
}

#[test]
fn another_run_of_a_member_does_not_make_it_active_in_the_first_view_of_a_term() {
    let mut voter = Voter::new();
    let said = voter.n1.master(1);
    voter.bench.receive(voter.conn, said);
    let mut peers = ["j", "k"].map(|id| Peer::of(&voter.config, id, &format!("{id}:1")));
    let all = [voter.n1.member(), peers[0].member(), peers[1].member()];
    voter.bench.receive(voter.conn, Peer::page(Epoch { term: Term(1), version: 1 }, all.to_vec()));
    peers[1].node.incarnation.0 += 1;
    for peer in &mut peers {
        voter.bench.greeted_by(peer);
    }
    let ended = voter.n1.status(1, Role::Seeking, Epoch::default());
    voter.bench.receive(voter.conn, ended);
    voter.is_elected();
    let state = |id: &str| member(&voter.bench, id).map(|member| member.state);
    let (active, suspect) = (Some(MemberState::Active), Some(MemberState::Suspect));
    assert_eq!(["n0", "n1", "j", "k"].map(state), [active, active, active, suspect]);
}

#[test]
fn who_is_master_no_more_serves_nobody_and_keeps_the_view_as_it_is() {
    let mut voter = Voter::new();
    voter.is_elected();
    let conn = voter.bench.sought_by(&mut Peer::of(&voter.config, "j", "j:1"));
    assert_eq!(voter.bench.formation.view().len(), 3);
    voter.bench.advance(SECOND);
    assert_eq!(voter.bench.formation.leadership(voter.bench.now), None);
    let view = voter.bench.formation.view().clone();
    voter.bench.messages(conn);
    let more = voter.bench.sought_by(&mut Peer::of(&voter.config, "k", "k:1"));
    voter.bench.command(Command::SetMetadata(Bytes::from_static(b"new")));
    voter.bench.advance(SECOND);
    let served = |message: &Message| {
        matches!(message, Message::Heartbeat(_) | Message::JoinResponse(_) | Message::MembersUpdate(_))
    };
    for conn in [conn, more] {
        assert!(!voter.bench.messages(conn).iter().any(served));
    }
    voter.bench.give(Input::Closed { conn });
    assert_eq!(*voter.bench.formation.view(), view);
}
