//! Streams between services over real sockets: plain, with a cluster key, and on TLS.

use bytes::Bytes;
use formation_core::{Misuse, Node, RejectReason, StreamFailure};
use formation_tests::Rng;
use formation_tokio::{Credentials, IncomingError, OpenError, StreamEnd};

use crate::{
    adapters::Adapter,
    authority::Authority,
    support::{agreed_view, form, form_as, listen, voter},
};

with_each_adapter!(
    s7_what_is_written_is_read_on_plain_connections,
    s7_what_is_written_is_read_with_a_key,
    s7_what_is_written_is_read_on_tls,
    a_service_that_only_answers_is_read_to_the_end,
    s5_a_name_that_nobody_takes_is_refused,
    a_name_is_taken_once_and_free_again,
    a_stream_to_no_member_is_misuse,
    g7_s6_streams_over_the_limit_are_refused_by_name,
    s8_a_stream_ends_on_request_when_its_peer_is_gone,
    s8_a_stream_ends_on_request_when_its_peer_is_replaced,
    streams_outlive_the_interest_of_their_opener,
);

/// Reads until the end.
async fn read_all<A: Adapter>(stream: &mut A::Stream) -> Vec<u8> {
    let (mut all, mut buffer) = (Vec::new(), [0; 3_000]);
    loop {
        match A::read(stream, &mut buffer).await.unwrap() {
            0 => return all,
            length => all.extend_from_slice(&buffer[..length]),
        }
    }
}

/// Some bytes, and how they are cut into writes.
fn writes(rng: &mut Rng) -> (Vec<Bytes>, Vec<u8>) {
    let longest = [1, 50, 5_000, 40_000][rng.below(4)];
    let writes: Vec<Bytes> = (0..rng.below(6))
        .map(|_| {
            let length = 1 + rng.below(longest);
            rng.bytes(length).into()
        })
        .collect();
    let all = writes.concat();
    (writes, all)
}

/// Each end writes at once, and reads what the other one has written, to its end.
async fn exchange<A: Adapter>(seed: u64, one: &A, other: &A, incoming: &mut A::Incoming) {
    let mut rng = Rng::new(seed);
    let ((ours, all_ours), (theirs, all_theirs)) = (writes(&mut rng), writes(&mut rng));
    let talk = async |mut stream: A::Stream, writes: Vec<Bytes>| {
        for bytes in writes {
            A::write(&mut stream, &bytes).await.unwrap();
        }
        A::close(&mut stream).await.unwrap();
        read_all::<A>(&mut stream).await
    };
    let (one_id, other_id) = (one.node().clone(), other.node().clone());
    let opening = async {
        let stream = one.open(&other_id, "kv").await.unwrap();
        assert_eq!(A::peer(&stream), other_id);
        talk(stream, ours).await
    };
    let accepting = async {
        let stream = A::accept(incoming).await.unwrap();
        assert_eq!(A::peer(&stream), one_id);
        talk(stream, theirs).await
    };
    let (read_by_one, read_by_other) = ::smol::future::zip(opening, accepting).await;
    assert!(read_by_one == all_theirs, "seed {seed}: {} bytes of {}", read_by_one.len(), all_theirs.len());
    assert!(read_by_other == all_ours, "seed {seed}: {} bytes of {}", read_by_other.len(), all_ours.len());
}

async fn exchanges<A: Adapter>(nodes: Vec<A>) {
    let [one, other] = &nodes[..] else { panic!("two nodes") };
    let links = [one.status().links, other.status().links];
    let mut incoming = other.incoming("kv").await.unwrap();
    for seed in 0..60 {
        exchange(seed, one, other, &mut incoming).await;
    }
    assert_eq!([one.status().links, other.status().links], links, "the links are as before");
}

async fn s7_what_is_written_is_read_on_plain_connections<A: Adapter>() {
    exchanges(form::<A>(2).await.0).await;
}

async fn s7_what_is_written_is_read_with_a_key<A: Adapter>() {
    let nodes = form_as::<A>(2, |_, config| config.local().key("sixteen bytes at least")).await.0;
    exchanges(nodes).await;
}

async fn s7_what_is_written_is_read_on_tls<A: Adapter>() {
    let authority = Authority::new("one");
    let listeners: Vec<_> = (0..2).map(|_| listen()).collect();
    let seeds: Vec<_> = listeners.iter().map(|(_, address)| address.clone()).collect();
    let start = |(number, (listener, _))| {
        let config = voter(number, &seeds).local().build().unwrap();
        A::start_secured(config, listener, Credentials::new(authority.config()))
    };
    let nodes: Vec<A> = listeners.into_iter().enumerate().map(start).collect();
    agreed_view(&nodes, 2).await;
    exchanges(nodes).await;
}

/// The opener closes its end at once. The answer and its end may come together with the acceptance.
async fn a_service_that_only_answers_is_read_to_the_end<A: Adapter>() {
    let (nodes, _) = form::<A>(2).await;
    let mut incoming = nodes[1].incoming("kv").await.unwrap();
    // Only so many may be opened within a heartbeat interval.
    for _ in 0..50 {
        let asking = async {
            let mut stream = nodes[0].open(nodes[1].node(), "kv").await.unwrap();
            A::close(&mut stream).await.unwrap();
            read_all::<A>(&mut stream).await
        };
        let answering = async {
            let mut stream = A::accept(&mut incoming).await.unwrap();
            A::write(&mut stream, b"the answer").await.unwrap();
            A::close(&mut stream).await.unwrap();
            // Unread bytes, the end of the peer too, could reset the connection.
            read_all::<A>(&mut stream).await
        };
        let (answer, question) = ::smol::future::zip(asking, answering).await;
        assert_eq!((&answer[..], question.len()), (&b"the answer"[..], 0));
    }
}

fn rejected<S>(result: Result<S, OpenError>) -> RejectReason {
    match result {
        Err(OpenError::Failed(StreamFailure::Rejected(reason))) => reason,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it is opened"),
    }
}

async fn s5_a_name_that_nobody_takes_is_refused<A: Adapter>() {
    let (nodes, _) = form::<A>(2).await;
    let _other = nodes[1].incoming("kv").await.unwrap();
    assert_eq!(rejected(nodes[0].open(nodes[1].node(), "kw").await), RejectReason::UnknownStream);
    assert!(matches!(nodes[0].open(nodes[1].node(), " ").await, Err(OpenError::Name(_))));
}

async fn a_name_is_taken_once_and_free_again<A: Adapter>() {
    let (nodes, _) = form::<A>(2).await;
    let incoming = nodes[1].incoming("kv").await.unwrap();
    assert!(matches!(nodes[1].incoming("kv").await, Err(IncomingError::Taken(name)) if name.as_str() == "kv"));
    assert!(matches!(nodes[1].incoming("").await, Err(IncomingError::Name(_))));
    drop(incoming);
    let mut incoming = nodes[1].incoming("kv").await.unwrap();
    let opened = nodes[0].open(nodes[1].node(), "kv").await.unwrap();
    assert_eq!(A::peer(&A::accept(&mut incoming).await.unwrap()), *nodes[0].node());
    drop((opened, incoming));
    // Nobody takes them any more, as soon as the node knows.
    loop {
        let opened = nodes[0].open(nodes[1].node(), "kv").await;
        if opened.is_err_and(|error| error == OpenError::Failed(StreamFailure::Rejected(RejectReason::UnknownStream))) {
            break;
        }
    }
}

async fn a_stream_to_no_member_is_misuse<A: Adapter>() {
    let (nodes, _) = form::<A>(2).await;
    let mut newer: Node = nodes[1].node().clone();
    newer.incarnation.0 += 1;
    for to in [nodes[0].node(), &newer] {
        let misuse = nodes[0].open(to, "kv").await.err();
        assert_eq!(misuse, Some(OpenError::Misuse(Misuse::NotAMember(to.clone()))));
    }
}

async fn g7_s6_streams_over_the_limit_are_refused_by_name<A: Adapter>() {
    let limits = formation_core::Limits::new().with_streams_per_member(2);
    let nodes = form_as::<A>(2, |number, config| {
        let config = config.local();
        if number == 1 { config.limits(limits.clone()) } else { config }
    });
    let nodes = nodes.await.0;
    let mut incoming = nodes[1].incoming("kv").await.unwrap();
    let to = nodes[1].node();
    let opened = [nodes[0].open(to, "kv").await.unwrap(), nodes[0].open(to, "kv").await.unwrap()];
    assert_eq!(rejected(nodes[0].open(to, "kv").await), RejectReason::TooManyStreams);
    drop(A::accept(&mut incoming).await);
    // It counts until the node knows that its service has dropped it.
    while nodes[0].open(to, "kv").await.is_err() {}
    drop(opened);
}

async fn s8_a_stream_ends_on_request_when_its_peer_is_gone<A: Adapter>() {
    let (mut nodes, _) = form::<A>(3).await;
    let leaver = nodes.pop().unwrap();
    let mut incoming = leaver.incoming("kv").await.unwrap();
    let stream = nodes[0].open(leaver.node(), "kv").await.unwrap();
    let theirs = A::accept(&mut incoming).await.unwrap();
    leaver.leave().await;
    assert_eq!(A::ended(&stream).await, StreamEnd::Removed);
    assert_eq!(A::ended(&theirs).await, StreamEnd::Stopped);
    assert!(A::accept(&mut incoming).await.is_none());
}

async fn s8_a_stream_ends_on_request_when_its_peer_is_replaced<A: Adapter>() {
    let (mut nodes, seeds) = form::<A>(3).await;
    let replaced = nodes.pop().unwrap();
    let incoming = replaced.incoming("kv").await.unwrap();
    let stream = nodes[0].open(replaced.node(), "kv").await.unwrap();
    replaced.shutdown().await;
    drop(incoming);
    let listener = std::net::TcpListener::bind(&seeds[2]).unwrap();
    let _next = A::start(voter(2, &seeds).local().build().unwrap(), listener);
    assert_eq!(A::ended(&stream).await, StreamEnd::Superseded);
}

/// A stream whose opener has given up is closed, and the next one is not mixed up with it.
async fn streams_outlive_the_interest_of_their_opener<A: Adapter>() {
    let (nodes, _) = form::<A>(2).await;
    let mut incoming = nodes[1].incoming("kv").await.unwrap();
    for _ in 0..20 {
        let opening = nodes[0].open(nodes[1].node(), "kv");
        drop(::smol::future::poll_once(std::pin::pin!(opening)).await);
    }
    let mut stream = nodes[0].open(nodes[1].node(), "kv").await.unwrap();
    A::write(&mut stream, b"last").await.unwrap();
    A::close(&mut stream).await.unwrap();
    loop {
        let mut accepted = A::accept(&mut incoming).await.unwrap();
        if read_all::<A>(&mut accepted).await == b"last" {
            break;
        }
    }
}
