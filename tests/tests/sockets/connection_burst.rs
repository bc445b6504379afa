//! Many correct peers connect at once. All of them are accepted, although fewer connections may be pending at a time.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    time::Duration,
};

use bytes::Bytes;
use formation_core::{Config, Event, Limits, Timing};
use formation_tests::Peer;

use crate::{
    adapters::Adapter,
    support::{CLUSTER, listen},
};

/// This many connections fit into the queue of a listener that does not accept yet.
const PEERS: usize = 100;
const PENDING: usize = 16;

with_each_adapter!(every_peer_of_a_burst_that_sent_its_hello_is_linked);

struct Burst {
    config: Config,
    listener: TcpListener,
    peers: Vec<(TcpStream, Bytes)>,
}

/// The node does not accept yet.
fn connect() -> Burst {
    let (listener, address) = listen();
    let limits = Limits::new().with_pending_connections(PENDING);
    // Nothing ends because a machine is slow.
    let timing = Timing::wan().with_handshake_timeout(Duration::from_secs(3_600));
    let config = Config::single(CLUSTER, "master", address.as_str()).timing(timing).limits(limits).build().unwrap();
    let connect = |number: usize| {
        let stream = TcpStream::connect(&address).unwrap();
        (stream, Peer::of(&config, &format!("peer-{number}"), &format!("127.0.0.1:{}", number + 1)).hello())
    };
    let peers = (0..PEERS).map(connect).collect();
    Burst { config, listener, peers }
}

async fn all_are_linked<A: Adapter>(node: &A, peers: Vec<(TcpStream, Bytes)>, events: &mut A::Events) {
    let mut linked = 0;
    while linked < PEERS {
        match A::next(events).await.expect("the node runs") {
            Event::Linked { .. } => linked += 1,
            Event::ConnClosed { conn, reason, .. } => panic!("{conn} is closed after {linked} links: {reason}"),
            _ => {}
        }
    }
    for (mut stream, _) in peers {
        stream.read_exact(&mut [0; 4]).unwrap();
    }
    assert_eq!(node.status().pending_connections, 0);
}

async fn every_peer_of_a_burst_that_sent_its_hello_is_linked<A: Adapter>() {
    let Burst { config, listener, mut peers } = connect();
    for (stream, hello) in &mut peers {
        stream.write_all(hello).unwrap();
    }
    let node = A::start(config, listener);
    let mut events = node.events();
    all_are_linked(&node, peers, &mut events).await;
}
