//! What a service reads first.

use alloc::vec::Vec;

use bytes::{Bytes, BytesMut};
use quickcheck::{Gen, QuickCheck};

use super::*;
use crate::{
    Command, Config, Incarnation, Input, NodeId, Start, Timestamp, ViewId,
    id::Term,
    wire::message::{Message, Role, StatusReport},
    wire::stream,
    wire::voting::Voting,
};

const LINK: ConnId = ConnId(1);
const STREAM: ConnId = ConnId(2);

fn name() -> StreamName {
    StreamName::new("kv").unwrap()
}

/// A node, and what a member of its view says in its `Hello`s.
struct Pair {
    node: Formation,
    hello: Hello,
}

impl Pair {
    /// The master `m`, which takes streams, and the member `a` with its link.
    fn new() -> Self {
        let config = Config::single("test", "m", "m:1").build().unwrap();
        let node = Formation::new(config, Start::new(Incarnation(1), 1), Timestamp::ZERO);
        let hello = node.env.own_hello([1; 16], &Voting::of(&node.env.config));
        let hello = Hello { id: NodeId::new("a").unwrap(), address: "a:1".parse().unwrap(), ..hello };
        let mut pair = Self { node, hello };
        for output in pair.give(Input::Command(Command::ServeStreams([name()].into()))) {
            if let Output::Persist { seq, .. } = output {
                pair.give(Input::Persisted { seq });
            }
        }
        pair.opened(LINK, Origin::Accepted);
        pair.received(LINK, Message::Hello(pair.hello.clone()).to_frame());
        let (view_id, promise, metadata) = (ViewId::default(), None, Bytes::new());
        let status = StatusReport {
            number: 1,
            term: Term(0),
            role: Role::Joining,
            abstains: false,
            promise,
            view_id,
            electorate: Default::default(),
            metadata,
        };
        pair.received(LINK, Message::Status(status).to_frame());
        assert!(pair.node.view().get(&pair.hello.id).is_some());
        pair
    }

    fn give(&mut self, input: Input) -> Vec<Output> {
        self.node.handle_input(Timestamp::from_micros(1), input).unwrap();
        core::iter::from_fn(|| self.node.poll_output()).collect()
    }

    fn opened(&mut self, conn: ConnId, origin: Origin) -> Vec<Output> {
        self.give(Input::Opened { conn, origin, remote: Remote::default() })
    }

    fn received(&mut self, conn: ConnId, chunk: Bytes) -> Vec<Output> {
        let mut outputs = self.give(Input::Received { conn, chunk });
        while self.node.peers.in_flight(conn) == Some(true) {
            outputs.extend(self.give(Input::Flushed { conn }));
        }
        outputs
    }

    /// The `Hello` with which the member opens a stream.
    fn stream_hello(&self) -> Bytes {
        let nonce = self.node.peers.connection(LINK).unwrap().nonce();
        let tag = crate::peers::proof::link_tag(&nonce, &[2; 16]);
        let mut extensions = BytesMut::from(&self.hello.extensions[..]);
        stream::encode(&name(), Some(&tag), &mut extensions);
        Message::Hello(Hello { nonce: [2; 16], extensions: extensions.freeze(), ..self.hello.clone() }).to_frame()
    }

    /// The node opens a stream to the member. What the member answers.
    fn open_stream(&mut self) -> Vec<u8> {
        let (stream, to) = (StreamId(1), self.hello.node());
        let outputs = self.give(Input::Command(Command::OpenStream { stream, to, name: name() }));
        let Some(Output::Dial { dial, .. }) = outputs.first() else { panic!("{outputs:?}") };
        self.opened(STREAM, Origin::Dialed(*dial));
        self.give(Input::Flushed { conn: STREAM });
        [Message::Hello(self.hello.clone()), Message::StreamAccepted].iter().flat_map(Message::to_frame).collect()
    }
}

/// Gives the bytes in chunks of these lengths. Returns what the service reads. `flush_at`: when the answer of the node is flushed.
fn read_by_the_service(pair: &mut Pair, bytes: Vec<u8>, cuts: &[u8], flush_at: u8) -> Vec<u8> {
    let (mut rest, mut read, mut cuts) = (Bytes::from(bytes), None, cuts.iter());
    let mut chunks = 0;
    while !rest.is_empty() {
        let length = cuts.next().map_or(rest.len(), |cut| usize::from(*cut) + 1).min(rest.len());
        let chunk = rest.split_to(length);
        let mut outputs = match &mut read {
            None => pair.give(Input::Received { conn: STREAM, chunk }),
            Some(read) => {
                BytesMut::extend_from_slice(read, &chunk);
                Vec::new()
            }
        };
        chunks += 1;
        if (chunks >= flush_at || rest.is_empty()) && pair.node.peers.in_flight(STREAM) == Some(true) {
            outputs.extend(pair.give(Input::Flushed { conn: STREAM }));
        }
        for output in outputs {
            if let Output::Handoff { conn: STREAM, unread, .. } = output {
                read = Some(BytesMut::from(&unread[..]));
            }
        }
    }
    read.expect("the connection is handed off").to_vec()
}

#[test]
fn s7_a_handed_off_stream_lacks_no_byte() {
    fn property(accepts: bool, written: Vec<u8>, cuts: Vec<u8>, flush_at: u8) -> bool {
        let mut pair = Pair::new();
        let handshake = if accepts {
            pair.opened(STREAM, Origin::Accepted);
            pair.stream_hello().to_vec()
        } else {
            pair.open_stream()
        };
        read_by_the_service(&mut pair, [&handshake[..], &written].concat(), &cuts, flush_at % 4) == written
    }
    type Property = fn(bool, Vec<u8>, Vec<u8>, u8) -> bool;
    QuickCheck::new().rng(Gen::from_size_and_seed(100, 1)).tests(500).quickcheck(property as Property);
}

#[test]
fn s4_a_stream_of_a_linked_member_needs_the_tag_of_its_link() {
    let mut pair = Pair::new();
    pair.opened(STREAM, Origin::Accepted);
    let mut extensions = BytesMut::from(&pair.hello.extensions[..]);
    stream::encode(&name(), Some(&[0; stream::TAG_LEN]), &mut extensions);
    let forged = Hello { extensions: extensions.freeze(), ..pair.hello.clone() };
    let outputs = pair.received(STREAM, Message::Hello(forged).to_frame());
    let is_handed_off = |output: &Output| matches!(output, Output::Handoff { .. });
    assert!(!outputs.iter().any(is_handed_off), "whoever knows the id opens a stream: {outputs:?}");
}
