//! The incremental decoder of one connection, compared with a simple model of the format.

use bytes::{Bytes, BytesMut};
use formation_core::{
    CloseReason, ConnId, Incarnation, Origin, Output, Term, ViewId,
    message::{MAGIC, Message, PROTOCOL, Role, StatusReport},
};

use super::{
    embedder::Embedder,
    payload::valid_hello,
    scene::{Scene, config},
};
use crate::difference;

/// A stream yields the same frames, the same fault and the same state, however it is cut into chunks (G4). Only the
/// start of one frame within the limit is buffered, and its length is checked as soon as it has arrived (G7).
///
/// The first byte chooses the phase of the connection, and whether the rest is the stream itself or a list of frames in
/// which only the lengths matter. The second byte says how many chunk lengths follow.
pub fn decoder(data: &[u8]) {
    let [mode, count, rest @ ..] = data else { return };
    let Some((lengths, rest)) = rest.split_at_checked(usize::from(count % 16)) else { return };
    let [established, starts_with_hello, is_raw] = [1, 2, 4].map(|bit| mode & bit != 0);
    let mut stream = BytesMut::new();
    if starts_with_hello {
        stream.extend_from_slice(&valid_hello(0).to_frame());
    }
    if is_raw {
        stream.extend_from_slice(rest);
    } else {
        rest.chunks(3).for_each(|piece| stream.extend_from_slice(&frame_from(piece)));
    }
    let stream = stream.freeze();
    let whole = feed(established, &stream, &[]);
    // Byte by byte is slow. For long streams it is not needed, because a fuzzer finds the same fault in a short one.
    let by_byte: &[u8] = if stream.len() <= 300 { &[1] } else { &[0] };
    for lengths in [by_byte, lengths] {
        let cut = feed(established, &stream, lengths);
        assert_eq!(cut.run().outputs, whole.run().outputs, "cut by {lengths:?}");
        if cut.node() != whole.node() {
            panic!("the states differ when cut by {lengths:?}\n{}", difference(cut.node(), whole.node()));
        }
    }
}

/// A frame that is valid on an established connection, or sometimes one that is not.
fn frame_from(piece: &[u8]) -> Bytes {
    match *piece {
        [kind @ 0..=99, high, low] => {
            // Most frames are short, for speed. Some are as long as the limit, or longer.
            let pages = if high < 240 { high / 120 } else { 26 + high % 8 };
            let len = usize::from(pages) * 256 + usize::from(low);
            let status = StatusReport {
                number: u64::from(kind),
                term: Term(0),
                role: Role::Joining,
                abstains: true,
                promise: None,
                view_id: ViewId::default(),
                metadata: vec![kind; len].into(),
                electorate: Default::default(),
            };
            Message::Status(status).to_frame()
        }
        [100..=249, ..] => Message::Ping.to_frame(),
        [250..=252, a, b] => Bytes::copy_from_slice(&u32::from_be_bytes([0, 0, a % 64, b]).to_be_bytes()),
        _ => Bytes::copy_from_slice(piece),
    }
}

/// Whether this is a `Hello` that the node answers with its own: of another node, or of one that has to prove an identity first.
fn is_valid_hello(body: &[u8]) -> bool {
    let (Ok(Message::Hello(hello)), config) = (Message::decode(body), config()) else { return false };
    hello.magic == MAGIC
        && hello.protocol.common(PROTOCOL).is_some()
        && hello.cluster == *config.cluster()
        && hello.electorate == config.electorate()
        && match (hello.id == *config.id(), hello.address == *config.address()) {
            (false, is_own_address) => !is_own_address,
            (true, false) => config.seeds().contains(&hello.address),
            // The node is run 5.
            (true, true) => hello.incarnation > Incarnation(5),
        }
}

/// The expected frames and faults of a stream.
struct Model {
    limit: usize,
    /// The position of the first byte of the unfinished frame.
    start: usize,
    frames: u64,
    fault: Option<CloseReason>,
}

impl Model {
    /// Takes all bytes of the stream so far.
    fn advance(&mut self, stream: &[u8]) {
        while self.fault.is_none()
            && let Some((prefix, rest)) = stream[self.start..].split_first_chunk::<4>()
        {
            let body = u32::from_be_bytes(*prefix) as usize;
            match body {
                0 => self.fault = Some(CloseReason::EmptyFrame),
                _ if body > self.limit => self.fault = Some(CloseReason::FrameTooLong),
                _ if body > rest.len() => return,
                _ => {
                    if self.start == 0 && is_valid_hello(&rest[..body]) {
                        self.limit = config().limits().max_frame;
                    }
                    self.frames += 1;
                    self.start += 4 + body;
                }
            }
        }
    }

    fn unfinished(&self, len: usize) -> usize {
        if self.fault.is_some() { 0 } else { len - self.start }
    }
}

/// Feeds the stream to a node in chunks of these lengths, which repeat. 0 means all remaining bytes.
fn feed(established: bool, stream: &Bytes, lengths: &[u8]) -> Embedder {
    let mut embedder = Embedder::roomy(Scene::of(0));
    let conn = embedder.open(Origin::Accepted);
    let limits = config().limits().clone();
    let mut limit = limits.frame_before_handshake;
    if established {
        embedder.receive(conn, valid_hello(0).to_frame());
        limit = limits.max_frame;
    }
    let frames = |embedder: &Embedder| embedder.node().status().counters.frames_received;
    let before = frames(&embedder);
    let mut model = Model { limit, start: 0, frames: 0, fault: None };
    let mut lengths = lengths.iter().map(|length| usize::from(*length)).cycle();
    let mut at = 0;
    while at < stream.len() {
        let left = stream.len() - at;
        let len = lengths.next().filter(|len| *len > 0).unwrap_or(left).min(left);
        // A copy, like one from a socket.
        embedder.receive(conn, Bytes::copy_from_slice(&stream[at..at + len]));
        at += len;
        let (seen, status) = (frames(&embedder) - before, embedder.node().status());
        let open = embedder.is_open(conn);
        assert!(status.partial_bytes <= 4 + limits.max_frame, "{} bytes are buffered", status.partial_bytes);
        model.advance(&stream[..at]);
        match closed(&embedder, conn) {
            None => {
                assert_eq!((seen, model.fault), (model.frames, None), "after {at} bytes");
                assert_eq!(status.partial_bytes, model.unfinished(at), "after {at} bytes");
                assert!(open);
            }
            Some(reason @ (CloseReason::EmptyFrame | CloseReason::FrameTooLong)) => {
                assert_eq!((seen, model.fault), (model.frames, Some(reason)), "after {at} bytes");
                assert_eq!(status.partial_bytes, 0, "after a fault, nothing stays buffered");
            }
            // The connection was closed because of a message. The model does not check messages.
            Some(_) => {
                assert!((1..=model.frames).contains(&seen), "{seen} frames after {at} bytes");
                assert_eq!(status.partial_bytes, 0, "after a fault, nothing stays buffered");
            }
        }
    }
    embedder
}

fn closed(embedder: &Embedder, conn: ConnId) -> Option<CloseReason> {
    embedder.run().outputs.iter().find_map(|output| match output {
        Output::Close { conn: closed, reason } if *closed == conn => Some(*reason),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    #[test]
    fn g4_any_stream_in_any_cut_matches_the_model() {
        for seed in 0..400 {
            let mut rng = Rng::new(seed);
            let mut data = vec![rng.draw() as u8, 3];
            data.extend(rng.bytes(80));
            decoder(&data);
        }
    }

    #[test]
    fn h1_a_frame_at_the_limit_is_accepted_and_a_longer_one_is_not() {
        let limit = config().limits().max_frame;
        let (mut taken, mut refused) = (0, 0);
        for body in limit - 2..=limit + 2 {
            // The number of bytes around the metadata.
            let around = frame_from(&[1, 245, 0]).len() - 31 * 256;
            let len = 4 + body - around;
            let stream = frame_from(&[1, 240 + (len / 256 - 26) as u8, (len % 256) as u8]);
            assert_eq!(stream.len(), 4 + body);
            let embedder = feed(true, &stream, &[255]);
            match closed(&embedder, ConnId(1)) {
                None => taken += 1,
                Some(reason) => {
                    assert_eq!(reason, CloseReason::FrameTooLong);
                    refused += 1;
                }
            }
        }
        assert_eq!((taken, refused), (3, 2));
    }
}
