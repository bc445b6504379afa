//! Attacks of one peer on a cluster of three voters (PROTOCOL.md, "Attackers"). There is no key, so anybody is a member (T2).
//!
//! A message has been handled once the node has reacted to it, or has closed the connection after it.

use std::{path::Path, time::Duration};

use ::tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};
use bytes::Bytes;
use formation_core::{
    Change, Config, ConfigBuilder, Event, Incarnation, Member, MemberState, Node, NodeId, RejectReason, Term, Timing,
    ViewId,
    message::{Heartbeat, HeartbeatAck, Holder, JoinResponse, MembersUpdate, Message, Rejected, Role, StatusReport},
};
use formation_tests::Peer;

use crate::{
    adapters::{Adapter, Mastership},
    support::{self, CLUSTER, Dead, agreed_view, elected_after, form_as, id, listen, to_address},
    wire_peer::WirePeer,
};

/// The longest jump of a term that a node would ever take from a voter's plain report.
const JUMP: u64 = (1 << 32) - 1;
/// The connections of a flood.
const FLOOD: usize = 1_000;

with_each_adapter!(
    t2_e7_a_member_with_a_huge_term_changes_no_term,
    t2_i1_a_copied_identity_and_a_rejection_stop_nobody,
    t2_i1_a_voter_restarts_while_claims_to_it_stay_open,
    t2_i6_a_member_restarts_while_another_has_its_identity,
    t2_h11_a_leaving_copy_of_a_node_removes_nobody,
    t2_h11_a_false_master_at_a_voters_address_leads_nobody;
    alone: t2_e4_a_vote_is_durable_beside_a_thousand_connections,
    t1_h1_an_id_with_a_line_feed_forges_no_log_line,
    t1_rejections_in_masses_fill_neither_log_nor_events,
);

/// A cluster of three voters, and its master before the attack.
struct Attacked<A: Adapter> {
    voters: Vec<A>,
    seeds: Vec<String>,
    master: Mastership,
    /// The events of each voter since it was formed.
    events: Vec<A::Events>,
    marks: usize,
}

/// A claim that nobody can prove ends soon. The leases are long enough for a busy machine.
fn shaped(config: ConfigBuilder) -> ConfigBuilder {
    config.timing(Timing::lan().with_handshake_timeout(Duration::from_millis(500)))
}

impl<A: Adapter> Attacked<A> {
    async fn form() -> Self {
        Self::form_as(|_, config| config).await
    }

    async fn form_as(shape: impl Fn(usize, ConfigBuilder) -> ConfigBuilder) -> Self {
        let (voters, seeds) = form_as::<A>(3, |number, config| shape(number, shaped(config))).await;
        let master = voters[0].wait_for_master().await;
        let events = voters.iter().map(A::events).collect();
        let mut cluster = Self { voters, seeds, master, events, marks: 0 };
        cluster.events_to_mark().await;
        cluster
    }

    fn is_master(&self, number: usize) -> bool {
        *self.voters[number].node() == self.master.0
    }

    fn master_number(&self) -> usize {
        (0..3).find(|number| self.is_master(*number)).unwrap()
    }

    fn follower_number(&self) -> usize {
        (0..3).find(|number| !self.is_master(*number)).unwrap()
    }

    /// A configuration of the same cluster.
    fn config(&self, id: &str, address: &str) -> Config {
        shaped(Config::builder(CLUSTER, id, address).seeds(&self.seeds)).build().unwrap()
    }

    /// Starts a node that is no voter. It becomes a member.
    async fn join(&self, id: &str) -> (A, String) {
        let (listener, address) = listen();
        let node = A::start(self.config(id, &address), listener);
        node.wait_for_view(|view| view.get(&node.node().id).is_some()).await;
        assert_eq!(node.wait_for_master().await, self.master);
        (node, address)
    }

    /// The hostile peer dials this voter.
    async fn dial(&self, to: usize, id: &str, address: &str, incarnation: u64) -> WirePeer {
        let mut peer = WirePeer::dial(&self.seeds[to], self.config(id, address)).await;
        peer.member.node.incarnation = Incarnation(incarnation);
        peer
    }

    /// The events of each voter up to a view that the master writes now.
    async fn events_to_mark(&mut self) -> Vec<Vec<Event>> {
        self.marks += 1;
        let mark = Bytes::from(format!("mark {}", self.marks));
        self.voters[self.master_number()].set_metadata(mark.clone()).await;
        let is_mark = |event: &Event| match event {
            Event::ViewChanged { changes, .. } => {
                changes.iter().any(|change| matches!(change, Change::Upsert(member) if member.metadata == mark))
            }
            _ => false,
        };
        let mut all = Vec::new();
        for events in &mut self.events {
            let mut before = Vec::new();
            loop {
                let event = A::next(events).await.unwrap_or_else(|| panic!("the node has stopped: {before:?}"));
                let is_last = is_mark(&event);
                before.push(event);
                if is_last {
                    break;
                }
            }
            all.push(before);
        }
        all
    }

    /// The attack has changed nothing for the voters and these members, and a new node joins.
    async fn check_unharmed(mut self, members: &[&A]) {
        let (_late, _) = self.join("late").await;
        let voters: Vec<Node> = self.voters.iter().map(|voter| voter.node().clone()).collect();
        let honest: Vec<Node> = voters.iter().cloned().chain(members.iter().map(|node| node.node().clone())).collect();
        let harms = |event: &Event| match event {
            Event::MasterElected { .. } | Event::MasterLost { .. } | Event::Stopped { .. } => true,
            Event::Unlinked { node, .. } => voters.contains(node),
            Event::ViewChanged { changes, .. } => changes.iter().any(|change| match change {
                Change::Upsert(member) => {
                    member.node.id.as_str() == "ghost"
                        || honest.iter().any(|node| node.id == member.node.id && *node != member.node)
                }
                Change::Remove { id, .. } => honest.iter().any(|node| node.id == *id),
            }),
            _ => false,
        };
        for (voter, events) in voters.iter().zip(self.events_to_mark().await) {
            let harm: Vec<_> = events.iter().filter(|event| harms(event)).collect();
            assert!(harm.is_empty(), "{voter}: {harm:?}");
        }
        for voter in &self.voters {
            assert_eq!(voter.status().term, self.master.1, "{} has changed its term", voter.node());
            assert_eq!(voter.wait_for_master().await, self.master, "{} has another master", voter.node());
            let view = voter.view();
            for node in &honest {
                assert_eq!(view.get(&node.id).map(|member| &member.node), Some(node), "the view of {}", voter.node());
            }
        }
    }
}

/// An address that no node has, for a peer that does not listen.
fn nowhere() -> (Dead, String) {
    let dead = Dead::anywhere();
    let address = dead.address.to_string();
    (dead, address)
}

/// A status that is newer than all before.
fn report(number: u64, term: Term, role: Role) -> Message {
    let (abstains, promise, view_id, metadata) = (false, None, ViewId::default(), Bytes::new());
    Message::Status(StatusReport {
        number,
        term,
        role,
        abstains,
        promise,
        view_id,
        metadata,
        electorate: Default::default(),
    })
}

/// Only a voter may send it, so the link closes once everything before it has been handled (H3).
fn forbidden(term: Term) -> Message {
    Message::Heartbeat(Heartbeat { term, number: 1, lease: Duration::from_secs(1) })
}

/// Waits for the next heartbeat of the master, and returns its number.
async fn heartbeat(member: &mut WirePeer) -> u64 {
    loop {
        if let Message::Heartbeat(heartbeat) = member.receive().await {
            return heartbeat.number;
        }
    }
}

/// Three steps, of which each is in reach of the one before.
async fn t2_e7_a_member_with_a_huge_term_changes_no_term<A: Adapter>() {
    let cluster = Attacked::<A>::form().await;
    let (_dead, address) = nowhere();
    let (master, term) = cluster.master.clone();
    let leads_at = cluster.seeds[cluster.master_number()].clone();
    for step in 1..=3 {
        let far = Term(term.0 + step * JUMP);
        for to in 0..3 {
            let mut member = cluster.dial(to, &format!("hostile-{to}-{step}"), &address, step).await;
            member.send_hello_and_status().await;
            // An acknowledgement of what was sent. A follower sends no heartbeats.
            let number = if cluster.is_master(to) { heartbeat(&mut member).await } else { 0 };
            let view_id = ViewId { term: far, version: 1 };
            let acks = [false, true].map(|confirms| {
                Message::HeartbeatAck(HeartbeatAck {
                    term: far,
                    number,
                    view_id,
                    confirms,
                    electorate: Default::default(),
                })
            });
            let follows = Role::Follower { master: master.clone(), address: to_address(&leads_at) };
            let reports = [report(2, far, Role::Joining), report(3, far, follows)];
            member.try_send(acks.into_iter().chain(reports).chain([forbidden(far)])).await;
            member.read_to_end().await;
            assert_eq!(cluster.voters[to].status().term, term, "step {step}");
        }
    }
    cluster.check_unharmed(&[]).await;
}

async fn t2_i1_a_copied_identity_and_a_rejection_stop_nobody<A: Adapter>() {
    let cluster = Attacked::<A>::form().await;
    let (_dead, address) = nowhere();
    for victim in 0..3 {
        for to in 0..3 {
            let mut copy = cluster.dial(to, &id(victim), &cluster.seeds[victim], u64::MAX).await;
            copy.try_send([copy.hello(), report(u64::MAX, Term(0), Role::Joining)]).await;
            copy.read_to_end().await;
        }
        let node = Node { incarnation: Incarnation(u64::MAX), ..cluster.voters[victim].node().clone() };
        for reason in [RejectReason::Superseded, RejectReason::IdInUse] {
            let mut member = cluster.dial(victim, "hostile", &address, 1).await;
            member.send_hello_and_status().await;
            // The link is established.
            while !matches!(member.receive().await, Message::Status(_)) {}
            let holder = Some(Holder { node: node.clone(), address: to_address(&address) });
            member.try_send([Message::Rejected(Rejected { reason, holder })]).await;
            member.read_to_end().await;
        }
    }
    cluster.check_unharmed(&[]).await;
}

/// Holds the connection. When the node closes it, the peer claims the same identity again.
async fn holds(mut peer: WirePeer, address: String, config: Config) {
    loop {
        let incarnation = peer.member.node.incarnation;
        peer.read_to_end().await;
        peer = WirePeer::dial(&address, config.clone()).await;
        peer.member.node.incarnation = incarnation;
        peer.try_send([peer.hello(), report(u64::MAX, Term(0), Role::Joining)]).await;
    }
}

async fn t2_i1_a_voter_restarts_while_claims_to_it_stay_open<A: Adapter>() {
    let mut cluster = Attacked::<A>::form().await;
    let victim = cluster.follower_number();
    let (address, config) = (cluster.seeds[victim].clone(), cluster.config(&id(victim), &cluster.seeds[victim]));
    drop(cluster.voters.remove(victim));
    let place = Dead::instead_of(&address).await;
    let mut claims = JoinSet::new();
    for to in (0..3).filter(|to| *to != victim) {
        let mut claim = cluster.dial(to, &id(victim), &address, u64::MAX).await;
        claim.try_send([claim.hello(), report(u64::MAX, Term(0), Role::Joining)]).await;
        // The claim is answered, and stays open.
        assert!(matches!(claim.receive().await, Message::Hello(_)));
        claims.spawn(holds(claim, cluster.seeds[to].clone(), config.clone()));
    }
    let back = A::start(config.clone(), place.revive());
    let run = back.node().clone();
    cluster.voters.push(back);
    for voter in &cluster.voters {
        voter.wait_for_view(|view| view.get(&run.id).is_some_and(|member| member.node == run)).await;
        assert_eq!(voter.wait_for_master().await, cluster.master);
    }
    assert!(claims.try_join_next().is_none(), "the peer has given up");
    claims.shutdown().await;
    agreed_view(&cluster.voters, 3).await;
}

async fn t2_i6_a_member_restarts_while_another_has_its_identity<A: Adapter>() {
    let cluster = Attacked::<A>::form().await;
    let (member, address) = cluster.join("member").await;
    let (name, to) = (member.node().id.clone(), cluster.master_number());
    drop(member);
    let place = Dead::instead_of(&address).await;
    // The master has noticed that the member is gone.
    let is_suspect = |member: &Member| member.state == MemberState::Suspect;
    cluster.voters[to].wait_for_view(|view| view.get(&name).is_some_and(is_suspect)).await;
    let mut thief = cluster.dial(to, "member", &address, u64::MAX).await;
    thief.try_send([thief.hello(), report(u64::MAX, Term(0), Role::Joining)]).await;
    // The claim is answered, and the thief is not admitted: the member may live.
    assert!(matches!(thief.receive().await, Message::Hello(_)));
    let mut claims = JoinSet::new();
    claims.spawn(holds(thief, cluster.seeds[to].clone(), cluster.config("member", &address)));
    let back = A::start(cluster.config("member", &address), place.revive());
    for voter in &cluster.voters {
        voter.wait_for_view(|view| view.get(&name).is_some_and(|member| member.node == *back.node())).await;
    }
    assert!(claims.try_join_next().is_none(), "the peer has given up");
    cluster.is_unharmed_by_restart(&back).await;
}

impl<A: Adapter> Attacked<A> {
    /// The master is the same, and the node that is back is heard.
    async fn is_unharmed_by_restart(&self, back: &A) {
        back.set_metadata("back".into()).await;
        for voter in &self.voters {
            voter.wait_for_view(|view| view.get(&back.node().id).is_some_and(|member| member.metadata == "back")).await;
            assert_eq!(voter.wait_for_master().await, self.master);
        }
    }
}

/// The copy has the very run of the node, and a status that is newer than any.
async fn t2_h11_a_leaving_copy_of_a_node_removes_nobody<A: Adapter>() {
    let cluster = Attacked::<A>::form().await;
    let (member, address) = cluster.join("member").await;
    let (to, follower) = (cluster.master_number(), cluster.follower_number());
    let voter = &cluster.voters[follower];
    for (node, address) in [(member.node(), &address), (voter.node(), &cluster.seeds[follower])] {
        let mut copy = cluster.dial(to, node.id.as_str(), address, node.incarnation.0).await;
        copy.try_send([copy.hello(), report(u64::MAX, cluster.master.1, Role::Leaving)]).await;
        copy.read_to_end().await;
    }
    // Both are still heard.
    for node in [&member, voter] {
        node.set_metadata("here".into()).await;
        for voter in &cluster.voters {
            let is_heard = |member: &Member| member.node == *node.node() && member.metadata == "here";
            voter.wait_for_view(|view| view.get(&node.node().id).is_some_and(is_heard)).await;
        }
    }
    cluster.check_unharmed(&[&member]).await;
}

/// What a peer says to be taken for the master of this term.
fn as_master(peer: &WirePeer, term: Term) -> Vec<Message> {
    let ghost = Node { id: NodeId::new("ghost").unwrap(), incarnation: Incarnation(1) };
    let view_id = ViewId { term, version: u64::MAX };
    let members = vec![Member::new(ghost, peer.member.address.clone()), peer.member.clone()];
    vec![
        peer.hello(),
        report(u64::MAX, term, Role::Master),
        Message::JoinResponse(JoinResponse::Accepted { term }),
        Message::MembersUpdate(MembersUpdate::Page { view_id, index: 0, last: true, members }),
        Message::Heartbeat(Heartbeat { term, number: 1, lease: Duration::from_secs(1) }),
    ]
}

async fn t2_h11_a_false_master_at_a_voters_address_leads_nobody<A: Adapter>() {
    let cluster = Attacked::<A>::form().await;
    let term = cluster.master.1.0;
    let mut false_masters = JoinSet::new();
    let victim = cluster.follower_number();
    for to in (0..3).filter(|to| *to != victim) {
        for (name, term) in [(id(victim), term), ("a".to_owned(), term + 1), ("z".to_owned(), term + JUMP)] {
            let mut peer = cluster.dial(to, &name, &cluster.seeds[victim], u64::MAX).await;
            false_masters.spawn(async move {
                peer.try_send(as_master(&peer, Term(term))).await;
                peer.read_to_end().await;
            });
        }
    }
    false_masters.join_all().await;
    cluster.check_unharmed(&[]).await;
}

/// A voter with a directory for its votes.
fn durable(dir: &Path, number: usize, config: ConfigBuilder) -> ConfigBuilder {
    config.state_dir(dir.join(number.to_string()))
}

async fn t2_e4_a_vote_is_durable_beside_a_thousand_connections<A: Adapter>() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Attacked::<A>::form_as(|number, config| durable(dir.path(), number, config)).await;
    let (_dead, address) = nowhere();
    // The voter with the lowest id of the others is the next candidate.
    let target = cluster.follower_number();
    let mut held = JoinSet::new();
    for _ in 0..FLOOD {
        let mut peer = cluster.dial(target, "hostile", &address, 1).await;
        peer.try_send([peer.hello(), report(1, Term(0), Role::Joining)]).await;
        // It is a link or a claim, or the node closes it.
        if peer.try_receive().await.is_some() {
            held.spawn(peer.read_to_end());
        }
        while held.try_join_next().is_some() {}
        let status = cluster.voters[target].status();
        // Two links to the other voters, and one connection that is being accepted.
        let (links, pending) = (status.links.saturating_sub(2), status.pending_connections);
        assert!(links <= 3 && pending <= 3, "{links} links and {pending} claims under one identity");
    }
    let crashed = cluster.master_number();
    drop(cluster.voters.remove(crashed));
    drop(cluster.events.remove(crashed));
    let mut next = Vec::new();
    for events in &mut cluster.events {
        next.push(elected_after::<A>(events, cluster.master.1).await);
    }
    assert_ne!(next[0].0, cluster.master.0);
    assert!(cluster.voters.iter().all(|voter| voter.status().can_vote), "the storage of a voter has failed");
    held.shutdown().await;
}

/// Sends these bytes, and waits until the node closes the connection.
async fn send_to_end(address: &str, frames: &[u8]) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    if stream.write_all(frames).await.is_ok() {
        while stream.read(&mut [0; 256]).await.is_ok_and(|len| len > 0) {}
    }
}

/// Logs everything in this process.
fn log_all() -> impl Fn() -> String {
    let (subscriber, log) = support::log();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    log
}

async fn t1_h1_an_id_with_a_line_feed_forges_no_log_line<A: Adapter>() {
    const FORGED: &str = "FORGED";
    let log = log_all();
    let cluster = Attacked::<A>::form().await;
    let (_dead, address) = nowhere();
    let config = cluster.config("hostile", &address);
    for to in 0..3 {
        // The same frame with a visible id is taken.
        for (id, is_linked) in [("hostile#FORGED", true), ("hostile\nFORGED", false)] {
            let mut frame = Peer::of(&config, "hostile#FORGED", &address).hello().to_vec();
            let at = frame.windows(id.len()).position(|part| part == b"hostile#FORGED").unwrap();
            frame[at..at + id.len()].copy_from_slice(id.as_bytes());
            let mut stream = TcpStream::connect(&cluster.seeds[to]).await.unwrap();
            stream.write_all(&frame).await.unwrap();
            let answered = stream.read(&mut [0; 256]).await.is_ok_and(|len| len > 0);
            assert_eq!(answered, is_linked, "{id:?}");
        }
    }
    cluster.check_unharmed(&[]).await;
    let log = log();
    assert!(log.contains("malformed") || log.contains("not a message"), "{log}");
    assert!(!log.lines().any(|line| line.starts_with(FORGED)), "{log}");
}

async fn t1_rejections_in_masses_fill_neither_log_nor_events<A: Adapter>() {
    let log = log_all();
    let cluster = Attacked::<A>::form().await;
    let to = cluster.follower_number();
    let address = &cluster.seeds[to];
    let (_late, mut unread) = (cluster.join("member").await, cluster.voters[to].events());
    let count = |log: &str| log.lines().filter(|line| line.contains("rejected")).count();
    let before = count(&log());
    // More than fit into the buffer of events.
    let flood = A::EVENT_BUFFER + 100;
    for number in 0..flood {
        let config = Config::builder("another cluster", format!("hostile-{number}"), "127.0.0.1:1");
        let config = config.seeds(&cluster.seeds).build().unwrap();
        send_to_end(address, &Peer::of(&config, config.id().as_str(), "127.0.0.1:1").hello()).await;
    }
    // Nobody has read the events meanwhile. None was missed, and few are about the peer.
    cluster.voters[to].set_metadata("after".into()).await;
    let mut rejected = 0;
    loop {
        match A::next(&mut unread).await.expect("the node runs") {
            Event::PeerRejected { .. } => rejected += 1,
            Event::ViewChanged { changes, .. }
                if changes.iter().any(|c| matches!(c, Change::Upsert(m) if m.metadata == "after")) =>
            {
                break;
            }
            _ => {}
        }
    }
    let lines = count(&log()) - before;
    assert!((1..flood / 10).contains(&rejected), "{rejected} of {flood} rejections were reported");
    assert!((1..flood / 10).contains(&lines), "{lines} log lines about {flood} rejections");
    cluster.check_unharmed(&[]).await;
}
