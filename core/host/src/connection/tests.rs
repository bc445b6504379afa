use std::{
    pin::Pin,
    task::{Context, Poll},
};

use formation_core::{Incarnation, Node, NodeId};

use super::*;
use crate::{
    accept::AcceptPlaces,
    driver::Connection as _,
    log::Log,
    testing::{Pipes, Smol, pipes},
};

const CONN: ConnId = ConnId(1);

/// The peers of these tests have no certificates.
fn nothing<S>(_: &S) -> BTreeSet<Address> {
    BTreeSet::new()
}

/// Starts the tasks of a node that reports here.
fn spawner<S: Send + 'static>(to_driver: &Sender<Report<S>>) -> Spawner<S> {
    let node = Node { id: NodeId::new("a").unwrap(), incarnation: Incarnation(1) };
    Spawner::new(to_driver.clone(), Log::new(&node))
}

/// A connection that this node has opened, its peer, and what it reports.
fn open(capacity: usize) -> (Connection<Smol>, Pipes, Receiver<Report<Pipes>>) {
    let (ours, peer) = pipes(capacity);
    let (connection, reports) = open_on(ours);
    (connection, peer, reports)
}

fn open_on<S: ByteStream>(stream: S) -> (Connection<Smol>, Receiver<Report<S>>) {
    let (to_driver, reports) = channel::bounded(4);
    let opening = Opening::ready(stream);
    (Connection::open(CONN, opening, std::convert::identity, nothing, None, &spawner(&to_driver)), reports)
}

/// Waits until the writer has taken what was sent.
async fn taken(connection: &Connection<Smol>) {
    while !connection.open.as_ref().unwrap().outbox.is_empty() {
        future::yield_now().await;
    }
}

/// Reads from one stream and writes to another.
struct Halves(Pipes, Pipes);

impl AsyncRead for Halves {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Halves {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.1).poll_write(cx, bytes) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            poll => poll,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.1).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.1).poll_close(cx)
    }
}

#[test]
fn bytes_are_read_and_written_and_both_are_reported() {
    smol::block_on(async {
        let (connection, mut peer, reports) = open(64);
        connection.send(Bytes::from_static(b"question")).unwrap();
        let mut question = [0; 8];
        peer.read_exact(&mut question).await.unwrap();
        assert_eq!(&question, b"question");
        assert!(matches!(reports.recv().await, Ok(Report::Flushed { conn: CONN })));
        peer.write_all(b"answer").await.unwrap();
        let answer = reports.recv().await;
        assert!(matches!(&answer, Ok(Report::Received { conn: CONN, chunk, .. }) if chunk == "answer"));
        drop(answer);
        drop(peer);
        assert!(matches!(reports.recv().await, Ok(Report::Closed { conn: CONN, error: None })));
    });
}

/// The alert, for example, by which a peer says that it does not trust this node.
#[test]
fn the_last_bytes_of_a_peer_are_read_after_a_failed_write() {
    smol::block_on(async {
        let (ours, mut peer) = pipes(64);
        let (dead, _) = pipes(64);
        let (connection, reports) = open_on(Halves(ours, dead));
        connection.send(Bytes::from_static(b"anything")).unwrap();
        taken(&connection).await;
        peer.write_all(b"last words").await.unwrap();
        drop(peer);
        let first = reports.recv().await;
        assert!(matches!(&first, Ok(Report::Received { chunk, .. }) if chunk == "last words"));
        drop(first);
        assert!(matches!(reports.recv().await, Ok(Report::Closed { error: None, .. })));
    });
}

#[test]
fn a_closed_connection_delivers_its_last_bytes_silently() {
    smol::block_on(async {
        let (mut connection, mut peer, reports) = open(64);
        connection.send(Bytes::from_static(b"last words")).unwrap();
        taken(&connection).await;
        driver::Connection::close(&mut connection);
        let mut words = Vec::new();
        peer.read_to_end(&mut words).await.unwrap();
        assert_eq!(words, b"last words");
        // More than the pipe holds, so that it is read. Nobody wants to know of it.
        peer.write_all(&[0; 256]).await.unwrap();
        drop(peer);
        connection.finish(future::pending::<()>()).await;
        let reported = std::iter::from_fn(|| reports.try_recv().ok());
        assert!(reported.into_iter().all(|report| matches!(report, Report::Flushed { .. })));
    });
}

#[test]
fn a_second_send_is_refused_while_one_waits_for_the_writer() {
    smol::block_on(async {
        let (connection, _peer, _reports) = open(1);
        let mut sent = 0;
        // One fills the pipe, and one waits for it.
        while connection.send(Bytes::from_static(b"bytes")).is_ok() {
            sent += 1;
            future::yield_now().await;
        }
        assert!((1..=2).contains(&sent), "{sent}");
    });
}

#[test]
fn a_connection_that_cannot_be_secured_reports_why() {
    smol::block_on(async {
        let (to_driver, reports) = channel::bounded(4);
        let opening = Opening::<Pipes>::new(async { Err(io::ErrorKind::InvalidData.into()) });
        let _connection =
            Connection::<Smol>::open(CONN, opening, std::convert::identity, nothing, None, &spawner(&to_driver));
        let closed = reports.recv().await.unwrap();
        assert!(
            matches!(&closed, Report::Closed { error: Some(error), .. } if error.kind() == io::ErrorKind::InvalidData)
        );
    });
}

#[test]
fn certified_seeds_are_reported_before_the_first_bytes() {
    smol::block_on(async {
        let (ours, mut peer) = pipes(64);
        peer.write_all(b"hello").await.unwrap();
        let (to_driver, reports) = channel::bounded(4);
        let covered = BTreeSet::from([Address::new("a:1").unwrap()]);
        let certified = {
            let covered = covered.clone();
            move |_: &Pipes| covered
        };
        let opening = Opening::ready(ours);
        let _connection =
            Connection::<Smol>::open(CONN, opening, std::convert::identity, certified, None, &spawner(&to_driver));
        let first = reports.recv().await.unwrap();
        assert!(matches!(&first, Report::Certified { conn: CONN, seeds } if *seeds == covered));
        assert!(matches!(reports.recv().await, Ok(Report::Received { .. })));
    });
}

/// One inbox for all connections, so what lies in it is handled in the order of arrival.
#[test]
fn a_flood_has_at_most_one_chunk_in_the_inbox() {
    smol::block_on(async {
        let (to_driver, reports) = channel::unbounded();
        let open = |conn, stream| {
            Connection::<Smol>::open(
                conn,
                Opening::ready(stream),
                std::convert::identity,
                nothing,
                None,
                &spawner(&to_driver),
            )
        };
        let ((ours, mut flooding), (others, mut modest)) = (pipes(1 << 20), pipes(64));
        flooding.write_all(&[0; 1 << 20]).await.unwrap();
        let (_flooded, _other) = (open(ConnId(1), ours), open(ConnId(2), others));
        let mut waiting = Vec::new();
        for _ in 0..50 {
            modest.write_all(&[0]).await.unwrap();
            // The chunks of the flood wait. Only those of the other connection are handled.
            while let Ok(report) = reports.recv().await {
                match report {
                    Report::Received { conn: ConnId(2), .. } => break,
                    report => waiting.push(report),
                }
            }
        }
        assert_eq!(waiting.len(), 1);
    });
}

/// A connection that was accepted, the only place, its peer, and what it reports.
fn accepted(limit: Duration) -> (Connection<Smol>, AcceptPlaces, Pipes, Receiver<Report<Pipes>>) {
    let places = AcceptPlaces::one(limit);
    let place = future::block_on(places.take());
    let (ours, peer) = pipes(64);
    let (to_driver, reports) = channel::bounded(4);
    let (opening, spawner) = (Opening::ready(ours), spawner(&to_driver));
    let connection = Connection::open(CONN, opening, std::convert::identity, nothing, Some(place), &spawner);
    (connection, places, peer, reports)
}

#[test]
fn an_accepted_connection_has_a_place_until_its_first_bytes() {
    smol::block_on(async {
        let (_connection, places, mut peer, reports) = accepted(Duration::from_secs(3_600));
        peer.write_all(b"hello").await.unwrap();
        let first = reports.recv().await;
        assert!(matches!(first, Ok(Report::Received { .. })));
        assert!(future::poll_once(places.take()).await.is_none(), "its first bytes are not handled yet");
        drop(first);
        places.take().await;
    });
}

#[test]
fn an_accepted_connection_that_is_silent_loses_its_place() {
    smol::block_on(async {
        let (_connection, places, _peer, _reports) = accepted(Duration::from_millis(1));
        places.take().await;
    });
}

#[test]
fn an_accepted_connection_that_ends_leaves_its_place() {
    smol::block_on(async {
        let (_connection, places, peer, _reports) = accepted(Duration::from_secs(3_600));
        drop(peer);
        places.take().await;
    });
}

#[test]
fn a_read_buffer_is_large_only_while_much_is_read() {
    let mut buffer = ReadBuffer::new();
    let mut room = Vec::new();
    for _ in 0..4 {
        let length = buffer.room().len();
        room.push(length);
        buffer.room().fill(7);
        assert!(buffer.take(length).iter().eq(vec![7; length].iter()));
    }
    assert_eq!(room, [READ_AT_FIRST, 4 * READ_AT_FIRST, 16 * READ_AT_FIRST, READ_AT_MOST]);
    assert_eq!(buffer.room().len(), READ_AT_MOST);
    // A long read in between shows that the room is used.
    for length in [1, READ_AT_FIRST + 1].into_iter().chain([READ_AT_FIRST; SHORT_READS as usize - 1]) {
        buffer.take(length);
    }
    assert_eq!(buffer.room().len(), READ_AT_MOST);
    buffer.take(0);
    assert_eq!(buffer.room().len(), READ_AT_FIRST);
}

/// The core may send until it has handled the end of a connection.
#[test]
fn what_is_sent_after_the_end_of_a_connection_is_dropped() {
    smol::block_on(async {
        let (mut connection, peer, reports) = open(64);
        drop(peer);
        assert!(matches!(reports.recv().await, Ok(Report::Closed { error: None, .. })));
        for _ in 0..2 {
            connection.send(Bytes::from_static(b"late")).unwrap();
        }
        connection.close();
        connection.send(Bytes::from_static(b"later")).unwrap();
        assert!(reports.try_recv().is_err(), "neither a flush nor another end is reported");
    });
}

/// The stream that the task gives back.
async fn given_back(reports: &Receiver<Report<Pipes>>) -> Pipes {
    match reports.recv().await {
        Ok(Report::HandedOff { conn: CONN, io }) => *io.downcast().unwrap(),
        _ => panic!("something else is reported"),
    }
}

#[test]
fn s7_a_stream_is_given_back_with_what_nobody_has_read() {
    smol::block_on(async {
        let (connection, mut peer, reports) = open(64);
        peer.write_all(b"handshake").await.unwrap();
        let handshake = reports.recv().await;
        peer.write_all(b"first").await.unwrap();
        // The driver hands it off while it handles the chunk.
        connection.hand_off();
        drop(handshake);
        let mut stream = given_back(&reports).await;
        stream.write_all(b"answer").await.unwrap();
        let mut bytes = [0; 6];
        stream.read_exact(&mut bytes[..5]).await.unwrap();
        assert_eq!(&bytes[..5], b"first");
        peer.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"answer");
        assert!(connection.is_finished() || reports.is_empty(), "nothing else is reported");
    });
}

/// The last write is flushed, and the service at the other end has written already when the driver learns of that.
#[test]
fn s7_what_was_read_before_the_handoff_is_reported() {
    smol::block_on(async {
        let (connection, mut peer, reports) = open(64);
        peer.write_all(b"first").await.unwrap();
        let first = reports.recv().await;
        assert!(matches!(&first, Ok(Report::Received { chunk, .. }) if chunk == "first"));
        connection.hand_off();
        drop(first);
        peer.write_all(b"second").await.unwrap();
        let mut stream = given_back(&reports).await;
        drop(peer);
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"second");
    });
}

/// The peer has closed its end before the driver asks for the stream. It may read still.
#[test]
fn s7_a_stream_is_given_back_whose_peer_has_closed_its_end() {
    smol::block_on(async {
        let (connection, mut peer, reports) = open(64);
        peer.close().await.unwrap();
        assert!(matches!(reports.recv().await, Ok(Report::Closed { error: None, .. })));
        connection.hand_off();
        let mut stream = given_back(&reports).await;
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
        stream.write_all(b"answer").await.unwrap();
        let mut answer = [0; 6];
        peer.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"answer");
    });
}
