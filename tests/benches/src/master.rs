//! A master and its members, which are played: they answer what the master sends.

use std::{collections::BTreeMap, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use formation_core::{
    Address, ClusterName, Config, ConnId, ElectorateDigest, Event, Formation, Incarnation, Input, MembersView, NodeId,
    Origin, Output, Remote, Start, Timestamp, ViewId,
    message::{HeartbeatAck, Hello, MAGIC, Message, PROTOCOL, Role, StatusReport, Vote},
};

use crate::{Names, address, id, recording::Recording};

/// A master of three voters.
pub struct Master {
    pub formation: Formation,
    pub now: Timestamp,
    cluster: ClusterName,
    electorate: ElectorateDigest,
    names: Names,
    newest_conn: u64,
    /// The writes in flight, in the order in which they were sent.
    sent: Vec<(ConnId, Bytes)>,
    /// The host holds the view that the last event has reported.
    holds: Option<MembersView>,
    /// Its inputs and outputs are recorded.
    pub recording: Option<Recording>,
    /// Room for what the members answer.
    answers: BytesMut,
}

impl Master {
    /// Two played voters have voted for it. `holds`: its host holds each view.
    pub fn new(names: Names, holds: bool) -> Self {
        let seeds = ["a:1", "b:1", "c:1"];
        let config = Config::builder("bench", "a", "a:1").seeds(seeds).build().expect("a valid configuration");
        let (cluster, electorate) = (config.cluster().clone(), config.electorate());
        let formation = Formation::new(config, Start::new(Incarnation(1), 7), Timestamp::ZERO);
        let mut master = Self {
            formation,
            now: Timestamp::ZERO,
            cluster,
            electorate,
            names,
            newest_conn: 0,
            sent: Vec::new(),
            holds: holds.then(MembersView::default),
            recording: None,
            answers: BytesMut::new(),
        };
        let mut dials = BTreeMap::new();
        while let Some(output) = master.formation.poll_output() {
            if let Output::Dial { dial, addr, .. } = output {
                dials.insert(addr, dial);
            }
        }
        for voter in ["b", "c"] {
            let at = address(&format!("{voter}:1"));
            let conn = master.next_conn();
            let origin = Origin::Dialed(dials[&at]);
            master.input(Input::Opened { conn, origin, remote: Remote::default() });
            let greeting = master.greeting(id(voter), at);
            master.input(Input::Received { conn, chunk: greeting });
        }
        while master.formation.leadership(master.now).is_none() {
            let sent = std::mem::take(&mut master.sent);
            assert!(!sent.is_empty(), "the voters elect a master");
            for (conn, bytes) in sent {
                master.input(Input::Flushed { conn });
                for message in messages(bytes) {
                    if let Message::VoteRequest(request) = message {
                        let vote = Vote { term: request.term, number: request.number, granted: true };
                        let chunk = Message::Vote(vote).to_frame();
                        master.input(Input::Received { conn, chunk });
                    }
                }
            }
            if master.sent.is_empty() && master.formation.leadership(master.now).is_none() {
                master.round();
            }
        }
        master.flush();
        master
    }

    /// It has so many members, and each of them holds the present view.
    pub fn with_members(count: usize, names: Names, holds: bool) -> Self {
        let mut master = Self::new(names, holds);
        for ix in 0..count - 3 {
            master.join(ix);
        }
        for _ in 0..4 {
            master.round();
        }
        let view = master.formation.view();
        assert_eq!((view.len(), view.iter().all(|member| member.state.is_active())), (count, true));
        master
    }

    fn next_conn(&mut self) -> ConnId {
        self.newest_conn += 1;
        ConnId(self.newest_conn)
    }

    /// What a joining node sends first.
    fn greeting(&self, id: NodeId, address: Address) -> Bytes {
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&self.newest_conn.to_be_bytes());
        let mut out = BytesMut::new();
        Message::Hello(Hello {
            magic: MAGIC,
            protocol: PROTOCOL,
            cluster: self.cluster.clone(),
            electorate: self.electorate,
            id,
            incarnation: Incarnation(5),
            address,
            nonce,
            extensions: Bytes::new(),
        })
        .encode(&mut out);
        Message::Status(StatusReport {
            number: 1,
            term: Default::default(),
            role: Role::Joining,
            abstains: false,
            promise: None,
            view_id: ViewId::default(),
            metadata: Bytes::new(),
            electorate: Default::default(),
        })
        .encode(&mut out);
        out.freeze()
    }

    /// One node joins, and has read its view.
    pub fn join(&mut self, ix: usize) {
        let conn = self.next_conn();
        self.input(Input::Opened { conn, origin: Origin::Accepted, remote: Remote::default() });
        let greeting = self.greeting(id(&self.names.id(ix)), address(&self.names.address(ix)));
        self.input(Input::Received { conn, chunk: greeting });
        self.flush();
    }

    /// Gives one input, and takes all outputs. As hosts do, it asks for the next deadline.
    fn input(&mut self, input: Input) {
        if let Some(recording) = &mut self.recording {
            recording.input(self.now, &input);
        }
        self.formation.handle_input(self.now, input).expect("no misuse");
        let mut persists = None;
        while let Some(output) = self.formation.poll_output() {
            if let Some(recording) = &mut self.recording {
                recording.output(&output);
            }
            match output {
                Output::Send { conn, bytes } => self.sent.push((conn, bytes)),
                Output::Persist { seq, .. } => persists = Some(seq),
                Output::Event(Event::ViewChanged { .. }) if self.holds.is_some() => {
                    self.holds = Some(self.formation.view().clone());
                }
                Output::Close { conn, reason } => panic!("{conn} is closed: {reason}"),
                Output::Dial { .. } | Output::Event(_) | Output::Handoff { .. } | Output::StreamFailed { .. } => {}
            }
        }
        if let Some(seq) = persists {
            self.input(Input::Persisted { seq });
        }
        std::hint::black_box(self.formation.next_deadline());
    }

    /// All writes are flushed, and nobody answers.
    pub fn flush(&mut self) {
        while !self.sent.is_empty() {
            for (conn, _) in std::mem::take(&mut self.sent) {
                self.input(Input::Flushed { conn });
            }
        }
    }

    /// One heartbeat: it goes to every member, each write is flushed, and every member acknowledges it.
    pub fn round(&mut self) {
        let end = self.now + Duration::from_millis(200);
        while let Some(due) = self.formation.next_deadline().filter(|due| *due <= end) {
            self.now = due;
            self.input(Input::Tick);
        }
        self.now = end;
        // A round trip later the answers come, one after the other.
        let mut sent = std::mem::take(&mut self.sent);
        for (conn, _) in &sent {
            self.now = self.now + Duration::from_micros(1);
            self.input(Input::Flushed { conn: *conn });
        }
        let view_id = self.formation.view().id();
        for (conn, bytes) in sent.drain(..) {
            self.now = self.now + Duration::from_micros(1);
            let Some(number) = heartbeat_in(&bytes) else { continue };
            let term = self.formation.status().term;
            // The first two connections are those of the voters.
            let ack = HeartbeatAck { term, number, view_id, confirms: conn.0 <= 2, electorate: Default::default() };
            Message::HeartbeatAck(ack).encode(&mut self.answers);
            let chunk = self.answers.split().freeze();
            self.input(Input::Received { conn, chunk });
        }
        if self.sent.is_empty() {
            self.sent = sent;
        } else {
            self.flush();
        }
        // The room for the next answers is there before they are needed.
        self.answers.reserve(64 << 10);
    }
}

/// The number of the heartbeat that ends a write.
fn heartbeat_in(bytes: &Bytes) -> Option<u64> {
    // A heartbeat alone is what a round sends nearly always: it is not read as a whole, so that the member costs little.
    let mut rest = &bytes[..];
    let mut number = None;
    while rest.len() >= 4 {
        let length = u32::from_be_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
        if rest[4] == 8
            && let Ok(Message::Heartbeat(heartbeat)) = Message::decode(&rest[4..4 + length])
        {
            number = Some(heartbeat.number);
        }
        rest = &rest[4 + length..];
    }
    number
}

fn messages(mut bytes: Bytes) -> Vec<Message> {
    let mut messages = Vec::new();
    while bytes.has_remaining() {
        let length = bytes.get_u32() as usize;
        messages.push(Message::decode(&bytes.split_to(length)).expect("a message"));
    }
    messages
}
