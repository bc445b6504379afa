//! A peer without Formation, built from a plain `LengthDelimitedCodec` and postcard: the wire format is that of
//! PROTOCOL.md.

use std::net::TcpListener;

use ::tokio::net::{TcpSocket, TcpStream};
use ::tokio_util::codec::{Framed, LengthDelimitedCodec};
use bytes::Bytes;
use formation_core::{
    Address, Config, Incarnation, Member, Node, NodeId, Term, ViewId,
    message::{
        Heartbeat, HeartbeatAck, Hello, JoinResponse, MAGIC, MembersUpdate, Message, PROTOCOL, Role, StatusReport,
    },
};
use futures_util::{SinkExt, StreamExt};

use crate::{
    adapters::Adapter,
    support::{CLUSTER, ids, listen, to_address},
};

/// The number of repetitions, so that the frames arrive in different chunks.
const ROUNDS: usize = 20;
const VIEW_ID: ViewId = ViewId { term: Term(1), version: 2 };

with_each_adapter!(
    h2_a_node_takes_response_and_view_from_one_write,
    h2_a_node_takes_handshake_and_view_from_one_write,
    v2_a_foreign_client_gets_the_view_right_after_the_response,
);

/// One connection of a peer that a test plays.
pub(crate) struct WirePeer {
    stream: Framed<TcpStream, LengthDelimitedCodec>,
    pub(crate) member: Member,
    config: Config,
}

impl WirePeer {
    fn new(stream: TcpStream, config: Config) -> Self {
        let node = Node { id: config.id().clone(), incarnation: Incarnation(7) };
        let member = Member::new(node, config.address().clone());
        Self { stream: Framed::new(stream, LengthDelimitedCodec::new()), member, config }
    }

    /// Waits for a node to dial.
    pub(crate) async fn accept(listener: TcpListener, config: Config) -> Self {
        listener.set_nonblocking(true).unwrap();
        let listener = ::tokio::net::TcpListener::from_std(listener).unwrap();
        Self::new(listener.accept().await.unwrap().0, config)
    }

    /// Dials a node, with a small receive buffer.
    pub(crate) async fn dial(address: &str, config: Config) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        Self::new(socket.connect(address.parse().unwrap()).await.unwrap(), config)
    }

    /// Ends the connection with a reset, so that its ports are free at once.
    pub(crate) fn reset(self) {
        self.stream.get_ref().set_zero_linger().unwrap();
    }

    /// Sends several messages in one write.
    pub(crate) async fn send(&mut self, messages: impl IntoIterator<Item = Message>) {
        for message in messages {
            let body: Bytes = postcard::to_allocvec(&message).unwrap().into();
            self.stream.feed(body).await.unwrap();
        }
        SinkExt::<Bytes>::flush(&mut self.stream).await.unwrap();
    }

    pub(crate) async fn receive(&mut self) -> Message {
        let body = self.stream.next().await.expect("the node keeps the connection").unwrap();
        postcard::from_bytes(&body).unwrap()
    }

    /// Sends several messages, unless the node has closed the connection.
    pub(crate) async fn try_send(&mut self, messages: impl IntoIterator<Item = Message>) {
        for message in messages {
            let body: Bytes = postcard::to_allocvec(&message).unwrap().into();
            if self.stream.send(body).await.is_err() {
                return;
            }
        }
    }

    /// The next message. `None` once the node has closed the connection.
    pub(crate) async fn try_receive(&mut self) -> Option<Message> {
        let body = self.stream.next().await?.ok()?;
        Some(postcard::from_bytes(&body).unwrap())
    }

    /// Waits until the node closes the connection. Returns what it has sent before.
    pub(crate) async fn read_to_end(mut self) -> Vec<Message> {
        let mut received = Vec::new();
        while let Some(message) = self.try_receive().await {
            received.push(message);
        }
        received
    }

    async fn receive_hello(&mut self) -> Hello {
        match self.receive().await {
            Message::Hello(hello) => hello,
            other => panic!("not a Hello: {other:?}"),
        }
    }

    async fn receive_status(&mut self) -> StatusReport {
        match self.receive().await {
            Message::Status(status) => status,
            other => panic!("not a Status: {other:?}"),
        }
    }

    pub(crate) fn hello(&self) -> Message {
        Message::Hello(Hello {
            magic: MAGIC,
            protocol: PROTOCOL,
            cluster: self.config.cluster().clone(),
            electorate: self.config.electorate(),
            id: self.member.node.id.clone(),
            incarnation: self.member.node.incarnation,
            address: self.member.address.clone(),
            nonce: [7; 16],
            extensions: Bytes::new(),
        })
    }

    pub(crate) fn status(term: Term, role: Role, view_id: ViewId) -> Message {
        let (abstains, promise, metadata) = (false, None, Bytes::new());
        Message::Status(StatusReport {
            number: 1,
            term,
            role,
            abstains,
            promise,
            view_id,
            metadata,
            electorate: Default::default(),
        })
    }

    /// Sends `Hello` and the status of a joining node.
    pub(crate) async fn send_hello_and_status(&mut self) {
        self.send([self.hello(), Self::status(Term(0), Role::Joining, ViewId::default())]).await;
    }

    /// Joins the cluster. Returns the members of the received view.
    pub(crate) async fn join(&mut self) -> Vec<Member> {
        self.send_hello_and_status().await;
        self.receive_hello().await;
        let master = self.receive_status().await;
        assert_eq!(master.role, Role::Master);
        let mut answer = self.receive().await;
        // The view may change first, and with it the status.
        while let Message::Status(_) = answer {
            answer = self.receive().await;
        }
        assert_eq!(answer, Message::JoinResponse(JoinResponse::Accepted { term: master.term }));
        match self.receive().await {
            Message::MembersUpdate(MembersUpdate::Page { view_id, index: 0, last: true, members }) => {
                assert_eq!(view_id.term, master.term);
                members
            }
            other => panic!("not a view right after the response: {other:?}"),
        }
    }
}

/// The response and the view arrive in one write, after the handshake (H2).
async fn h2_a_node_takes_response_and_view_from_one_write<A: Adapter>() {
    for _ in 0..ROUNDS {
        let (mut master, joiner, _) = dialed_master::<A>().await;
        master.send([master.hello(), WirePeer::status(Term(1), Role::Master, VIEW_ID)]).await;
        // The node sends its status once the link is established.
        master.receive_status().await;
        let admission = admission(&master, &joiner);
        master.send(admission).await;
        assert_joined(master, joiner).await;
    }
}

/// The worst case: everything that a master has to send arrives in one write.
async fn h2_a_node_takes_handshake_and_view_from_one_write<A: Adapter>() {
    for _ in 0..ROUNDS {
        let (mut master, joiner, _) = dialed_master::<A>().await;
        let welcome = [master.hello(), WirePeer::status(Term(1), Role::Master, VIEW_ID)];
        let admission = admission(&master, &joiner);
        master.send(welcome.into_iter().chain(admission)).await;
        assert_joined(master, joiner).await;
    }
}

/// The peer at a seed, the node that has dialed it and sent its `Hello`, and the address of that node.
async fn dialed_master<A: Adapter>() -> (WirePeer, A, Address) {
    let ((listener, address), (own_listener, own_address)) = (listen(), listen());
    // Long times, so that no repetition can hide a lost frame.
    let config = Config::builder(CLUSTER, "joiner", own_address).seeds([address.as_str()]).wan().build().unwrap();
    let joiner = A::start(config, own_listener);
    let mut master = WirePeer::accept(listener, Config::single(CLUSTER, "master", address).build().unwrap()).await;
    let hello = master.receive_hello().await;
    assert_eq!((&hello.id, hello.incarnation), (&joiner.node().id, joiner.node().incarnation));
    assert_eq!(hello.electorate, master.config.electorate());
    (master, joiner, hello.address)
}

fn admission<A: Adapter>(master: &WirePeer, joiner: &A) -> [Message; 2] {
    let joiner = Member::new(joiner.node().clone(), to_address("127.0.0.1:1"));
    [
        Message::JoinResponse(JoinResponse::Accepted { term: VIEW_ID.term }),
        Message::MembersUpdate(MembersUpdate::Page {
            view_id: VIEW_ID,
            index: 0,
            last: true,
            members: vec![joiner, master.member.clone()],
        }),
    ]
}

async fn assert_joined<A: Adapter>(mut master: WirePeer, joiner: A) {
    let view = joiner.wait_for_members(2).await;
    assert_eq!(view.id(), VIEW_ID);
    assert_eq!(ids(&view), ["joiner", "master"]);
    assert_eq!(joiner.wait_for_master().await, (master.member.node.clone(), VIEW_ID.term));

    let lease = master.config.timing().lease;
    master.send([Message::Heartbeat(Heartbeat { term: VIEW_ID.term, number: 9, lease })]).await;
    let ack = loop {
        match master.receive().await {
            Message::HeartbeatAck(ack) => break ack,
            Message::Status(status) => assert!(matches!(status.role, Role::Joining | Role::Follower { .. })),
            other => panic!("not a message of a member: {other:?}"),
        }
    };
    // The node is not a voter, so it confirms nothing.
    assert_eq!(
        ack,
        HeartbeatAck {
            term: VIEW_ID.term,
            number: 9,
            view_id: VIEW_ID,
            confirms: false,
            electorate: Default::default()
        }
    );
}

/// In the other direction: the node is the master.
async fn v2_a_foreign_client_gets_the_view_right_after_the_response<A: Adapter>() {
    for _ in 0..ROUNDS {
        let ((listener, address), (_own_listener, own_address)) = (listen(), listen());
        let node = A::start(Config::single(CLUSTER, "master", address.as_str()).wan().build().unwrap(), listener);
        let config = Config::builder(CLUSTER, "client", own_address).seeds([address.as_str()]).build().unwrap();
        node.wait_for_master().await;
        let mut client = WirePeer::dial(&address, config).await;
        let members = client.join().await;
        assert_eq!(members, node.wait_for_members(2).await.iter().cloned().collect::<Vec<_>>());
        assert_eq!(members[0], client.member);
        assert_eq!(members[1].node.id, NodeId::new("master").unwrap());
    }
}
