//! A member that is no master: it gets heartbeats and views.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use formation_core::{
    Change, Config, ConnId, Event, Formation, Incarnation, Input, MemberState, MembersView, Origin, Output, Remote,
    Start, Term, Timestamp, ViewId,
    message::{Heartbeat, Hello, JoinResponse, MAGIC, MembersUpdate, Message, PROTOCOL, Role, StatusReport},
};

use crate::{Names, address, id};

const TERM: Term = Term(3);
const MASTER: ConnId = ConnId(1);

/// A member of a view of so many members.
pub struct Follower {
    pub formation: Formation,
    now: Timestamp,
    version: u64,
    number: u64,
    names: Names,
    members: usize,
    in_flight: bool,
    /// The host holds the view that the last event has reported.
    holds: Option<MembersView>,
}

impl Follower {
    /// It has no view yet. `holds`: its host holds each view.
    pub fn without_view(members: usize, names: Names, holds: bool) -> Self {
        let config = Config::builder("bench", "x", "x:1").seeds(["m:1"]).build().expect("a valid configuration");
        let (cluster, electorate) = (config.cluster().clone(), config.electorate());
        let formation = Formation::new(config, Start::new(Incarnation(1), 7), Timestamp::ZERO);
        let holds = holds.then(MembersView::default);
        let now = Timestamp::ZERO;
        let mut follower = Self { formation, now, version: 0, number: 0, names, members, in_flight: false, holds };
        let mut dial = None;
        while let Some(output) = follower.formation.poll_output() {
            if let Output::Dial { dial: made, .. } = output {
                dial = Some(made);
            }
        }
        let origin = Origin::Dialed(dial.expect("it dials the seed"));
        follower.give(Input::Opened { conn: MASTER, origin, remote: Remote::default() });
        let hello = Message::Hello(Hello {
            magic: MAGIC,
            protocol: PROTOCOL,
            cluster,
            electorate,
            id: id("m"),
            incarnation: Incarnation(5),
            address: address("m:1"),
            nonce: [7; 16],
            extensions: Bytes::new(),
        });
        let status = Message::Status(StatusReport {
            number: 1,
            term: TERM,
            role: Role::Master,
            abstains: false,
            promise: None,
            view_id: ViewId { term: TERM, version: 1 },
            metadata: Bytes::new(),
            electorate: Default::default(),
        });
        for message in [hello, status, Message::JoinResponse(JoinResponse::Accepted { term: TERM })] {
            follower.receive(message.to_frame());
        }
        follower
    }

    pub fn new(members: usize, names: Names, holds: bool) -> Self {
        let mut follower = Self::without_view(members, names, holds);
        let snapshot = follower.snapshot(members);
        follower.receive(snapshot);
        assert_eq!(follower.formation.view().len(), members);
        follower
    }

    /// Gives one input, and does what a host does with the outputs. A write is flushed before the next input.
    pub fn give(&mut self, input: Input) {
        if std::mem::take(&mut self.in_flight) {
            self.input(Input::Flushed { conn: MASTER });
        }
        self.input(input);
    }

    fn input(&mut self, input: Input) {
        self.formation.handle_input(self.now, input).expect("no misuse");
        while let Some(output) = self.formation.poll_output() {
            match output {
                Output::Send { .. } => self.in_flight = true,
                Output::Event(Event::ViewChanged { .. }) if self.holds.is_some() => {
                    self.holds = Some(self.formation.view().clone());
                }
                Output::Persist { .. }
                | Output::Dial { .. }
                | Output::Close { .. }
                | Output::Event(_)
                | Output::Handoff { .. }
                | Output::StreamFailed { .. } => {}
            }
        }
    }

    pub fn receive(&mut self, chunk: Bytes) {
        self.give(Input::Received { conn: MASTER, chunk });
    }

    /// Everything is flushed, and a millisecond passes.
    pub fn settle(&mut self) {
        if std::mem::take(&mut self.in_flight) {
            self.input(Input::Flushed { conn: MASTER });
        }
        self.now = self.now + Duration::from_millis(1);
    }

    fn next_view(&mut self) -> ViewId {
        self.version += 1;
        ViewId { term: TERM, version: self.version }
    }

    /// The pages of the next view, which has all members.
    pub fn snapshot(&mut self, count: usize) -> Bytes {
        let view_id = self.next_view();
        let members = self.names.members(count);
        let mut frames = BytesMut::new();
        let pages = members.chunks(500).count();
        for (index, members) in members.chunks(500).enumerate() {
            let (index, last, members) = (index as u32, index + 1 == pages, members.to_vec());
            Message::MembersUpdate(MembersUpdate::Page { view_id, index, last, members }).encode(&mut frames);
        }
        frames.freeze()
    }

    /// A delta to the next view. `count` members change their states, evenly over the view.
    pub fn delta(&mut self, count: usize) -> Bytes {
        let base = ViewId { term: TERM, version: self.version };
        let view_id = self.next_view();
        let state = if self.version.is_multiple_of(2) { MemberState::Suspect } else { MemberState::Active };
        let step = (self.members / count).max(1);
        let change = |at: usize| {
            let ix = (at * step + self.version as usize / 2) % self.members;
            Change::Upsert(self.names.member(ix).with_state(state))
        };
        let changes: Vec<Change> = (0..count).map(change).collect();
        let mut changes = changes;
        changes.sort_by(|a, b| a.id().cmp(b.id()));
        Message::MembersUpdate(MembersUpdate::Delta { base, base_digest: None, view_id, changes }).to_frame()
    }

    pub fn heartbeat(&mut self) -> Bytes {
        self.number += 1;
        let heartbeat = Heartbeat { term: TERM, number: self.number, lease: Duration::from_secs(1) };
        Message::Heartbeat(heartbeat).to_frame()
    }

    /// One heartbeat, a millisecond after the last one, and the flush of the acknowledgement.
    pub fn beat(&mut self, heartbeat: Bytes) {
        self.receive(heartbeat);
        self.settle();
    }

    pub fn version(&self) -> u64 {
        self.formation.view().id().version
    }
}
