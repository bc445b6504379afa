//! Many correct peers connect at once. All of them are accepted, although fewer connections may be pending at a time.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use formation_core::{Config, Event, Limits};
use formation_tests::Peer;

use crate::{
    adapters::Adapter,
    support::{CLUSTER, listen},
};

/// This many connections fit into the queue of a listener that does not accept yet.
const PEERS: usize = 100;
const PENDING: usize = 16;

with_each_adapter!(every_peer_of_a_burst_that_sent_its_hello_is_linked);

async fn every_peer_of_a_burst_that_sent_its_hello_is_linked<A: Adapter>() {
    let (listener, address) = listen();
    let limits = Limits { pending_connections: PENDING, ..Limits::default() };
    let config = Config::single(CLUSTER, "master", address.as_str()).wan().limits(limits).build().unwrap();
    let connect = |number: usize| {
        let mut stream = TcpStream::connect(&address).unwrap();
        let hello = Peer::of(&config, &format!("peer-{number}"), &format!("127.0.0.1:{}", number + 1)).hello();
        stream.write_all(&hello).unwrap();
        stream
    };
    let peers: Vec<TcpStream> = (0..PEERS).map(connect).collect();
    let node = A::start(config, listener);
    let mut events = node.events();
    let mut linked = 0;
    while linked < PEERS {
        match A::next(&mut events).await.expect("the node runs") {
            Event::Linked { .. } => linked += 1,
            Event::ConnClosed { conn, reason, .. } => panic!("{conn} is closed after {linked} links: {reason}"),
            _ => {}
        }
    }
    for mut stream in peers {
        stream.read_exact(&mut [0; 4]).unwrap();
    }
}
