//! Each invariant of the membership fails when its fields are changed.

use super::*;
use crate::{
    api::config::Config,
    api::input::{Origin, Remote, Start},
    discovery::Rejections,
    id::{Address, ConnId, Incarnation, Term, ViewDigest},
    membership::view::RemovalReason,
    rng::Rng,
    time::Timestamp,
    violations::{Violation, expect_all_listed, expect_violations},
    wire::message::{Hello, Role, StatusReport},
};

/// The membership of the node m, and what is checked with it.
struct Parts {
    env: Env,
    membership: Membership,
    election: Election,
    peers: PeerTable,
    sink: Sink,
}

impl Parts {
    /// The node has just started. It is the only voter.
    fn new() -> Self {
        let config = Config::single("test", "m", "m:1").build().unwrap();
        let (now, start) = (Timestamp::ZERO, Start::new(Incarnation(1), 1));
        let election = Election::new(&config, &start, Rng::new(1), now);
        let env = Env::new(config, node("m"), now);
        let (peers, sink) = (PeerTable::new(Rng::new(1)), Sink::default());
        Self { env, membership: Membership::new(&Limits { members: 8, ..Limits::default() }), election, peers, sink }
    }

    fn context(&mut self) -> (&mut Membership, Context<'_>) {
        let Self { env, membership, election, peers, sink } = self;
        (membership, Context { env, election, peers, sink })
    }

    fn check(&self) {
        self.membership.check(&self.env, &self.election, &self.peers, self.sink.timers());
    }

    /// Changes the members of the view, and keeps its id.
    fn change_view(&mut self, change: Change) {
        let held = &mut self.membership.held;
        held.apply(held.view().id(), &[change]);
    }
}

fn node(id: &str) -> Node {
    Node { id: NodeId::new(id).unwrap(), incarnation: Incarnation(1) }
}

fn started() -> Parts {
    Parts::new()
}

/// The node is master, and b is a member.
fn master() -> Parts {
    let mut parts = Parts::new();
    parts.election.persisted();
    let term = parts.election.term();
    let heartbeat = parts.election.next_heartbeat().unwrap();
    let (membership, mut context) = parts.context();
    membership.begin_term(&mut context, term, &Bytes::new());
    membership.beat(&mut context, heartbeat);

    let hello = Hello {
        id: node("b").id,
        address: Address::new("b:1").unwrap(),
        ..context.env.own_hello([0; 16], &context.election.voting())
    };
    let voting = context.election.voting();
    let opened = (Origin::Accepted, None, Remote::default());
    context.peers.open(context.env, context.sink, ConnId(1), opened, voting);
    let hello = (hello, Bytes::new(), None, false);
    let key = context.peers.establish(context.env, context.sink, ConnId(1), hello).unwrap().peer;
    let (view_id, metadata) = (ViewId::default(), Bytes::new());
    let status = StatusReport {
        number: 1,
        term,
        role: Role::Joining,
        abstains: false,
        promise: None,
        view_id,
        metadata,
        electorate: Default::default(),
    };
    assert!(context.peers.receive_status(context.env, key, status));
    membership.admit(&mut context, &mut Rejections::new(8), key);
    assert!(membership.take_announced());
    parts
}

fn removal(id: &str) -> Change {
    Change::Remove { id: node(id).id, reason: RemovalReason::Left }
}

/// Shows that the view is not the one that its writer takes it for.
fn diverge(parts: &mut Parts) {
    let base = parts.membership.view().id();
    let view_id = ViewId { version: base.version + 1, ..base };
    let delta = MembersUpdate::Delta { base, base_digest: Some(ViewDigest([0; 16])), view_id, changes: Vec::new() };
    assert_eq!(parts.membership.held.update((&node("x"), false), delta), Outcome::Ignored);
}

const VIOLATIONS: [Violation<Parts>; 14] = [
    (master, |p| p.membership.mastering = None, "members are tracked exactly on a master"),
    (
        master,
        |p| {
            p.election.leave();
        },
        "members are tracked exactly on a master",
    ),
    (started, |p| p.membership.announced = true, "every new view is handled"),
    (
        master,
        |p| {
            p.membership.held.note_leaver(&node("b"));
            p.change_view(removal("b"));
        },
        "leavers are members",
    ),
    (master, diverge, "a master holds its own view"),
    (master, |p| p.membership.held.written_by((&node("x"), false)), "a master has written the view that it holds"),
    (
        master,
        |p| drop(p.membership.held.apply(ViewId { term: Term(9), version: 1 }, &[])),
        "a master's view is of its term",
    ),
    (master, |p| p.change_view(removal("b")), "exactly the other members are tracked"),
    (master, |p| p.change_view(removal("m")), "a master is a member of its view"),
    (master, |p| p.sink.clear_timer(&Timer::Members), "the members have a deadline, if there are any"),
    (master, |p| p.sink.clear_timer(&Timer::Heartbeat), "the next heartbeat has a deadline"),
    (started, |p| p.sink.set_timer(Timer::Members, Timestamp::ZERO), "only a master judges members"),
    (started, |p| p.sink.set_timer(Timer::Burst, Timestamp::ZERO), "only a master waits for the end of a burst"),
    (started, |p| p.sink.set_timer(Timer::Heartbeat, Timestamp::ZERO), "only a master sends heartbeats"),
];

#[test]
fn every_invariant_of_the_membership_notices_its_violation() {
    expect_violations(&VIOLATIONS, Parts::check);
    for source in [include_str!("../membership.rs"), include_str!("master.rs")] {
        expect_all_listed(source, &VIOLATIONS);
    }
}
