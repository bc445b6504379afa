//! What one end writes behind the handshake is what the other one reads, in whatever chunks it comes (G4, S7).

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use formation_core::{ConnId, DialId, Formation, Input, Origin, Output, Remote, Timestamp};
use formation_tests::Net;
use quickcheck::{Gen, QuickCheck};

use super::{formed, node, open};

/// One of two nodes with a connection between them: the node, its service, and what is on the way to it.
struct Side {
    formation: Formation,
    now: Timestamp,
    conn: ConnId,
    /// What the service writes as soon as it has the stream.
    writes: Bytes,
    /// What the service has read, once it has the stream.
    read: Option<BytesMut>,
    arriving: BytesMut,
    /// The lengths of the next chunks.
    cuts: VecDeque<u8>,
    /// A `Send` is not flushed yet.
    in_flight: bool,
    /// For how many more chunks that is so.
    held: u8,
}

impl Side {
    fn of(net: &Net, ix: usize, (writes, cuts): (&[u8], &[u8])) -> Self {
        let host = net.host(ix);
        let formation = host.formation.clone().unwrap();
        let conn = ConnId(host.conns.keys().last().unwrap().0 + 1000);
        let now = host.clock.local(net.now().as_micros() as u64);
        Self {
            formation,
            now,
            conn,
            writes: Bytes::copy_from_slice(writes),
            read: None,
            arriving: BytesMut::new(),
            cuts: cuts.iter().copied().collect(),
            in_flight: false,
            held: 0,
        }
    }

    /// Gives an input, and returns what goes to the other end, and the dial of the stream.
    fn give(&mut self, input: Input) -> (Vec<Bytes>, Option<DialId>) {
        self.formation.handle_input(self.now, input).unwrap();
        let (mut sent, mut dial) = (Vec::new(), None);
        while let Some(output) = self.formation.poll_output() {
            match output {
                Output::Send { conn, bytes } if conn == self.conn => {
                    assert!(!self.in_flight && self.read.is_none(), "one send at a time, and none behind the handoff");
                    self.in_flight = true;
                    self.held = self.cuts.front().map_or(0, |cut| cut % 3);
                    sent.push(bytes);
                }
                Output::Handoff { conn, unread, .. } if conn == self.conn => {
                    assert!(!self.in_flight, "everything is flushed");
                    self.read = Some(BytesMut::from(&unread[..]));
                    sent.push(std::mem::take(&mut self.writes));
                }
                Output::Close { conn, reason } if conn == self.conn => panic!("closed: {reason}"),
                Output::StreamFailed { failure, .. } => panic!("failed: {failure}"),
                Output::Dial { dial: of, .. } => dial = Some(of),
                _ => {}
            }
        }
        (sent, dial)
    }

    /// Takes the next chunk, or flushes what is in flight. Returns what goes to the other end; `None` if there is nothing to be done.
    fn step(&mut self) -> Option<Vec<Bytes>> {
        if self.in_flight && (self.held == 0 || self.arriving.is_empty()) {
            self.in_flight = false;
            return Some(self.give(Input::Flushed { conn: self.conn }).0);
        }
        self.held = self.held.saturating_sub(1);
        if self.arriving.is_empty() {
            return None;
        }
        let length = self.cuts.pop_front().map_or(usize::MAX, |cut| usize::from(cut) + 1);
        let chunk = self.arriving.split_to(length.min(self.arriving.len())).freeze();
        match &mut self.read {
            Some(read) => {
                read.extend_from_slice(&chunk);
                Some(Vec::new())
            }
            None => Some(self.give(Input::Received { conn: self.conn, chunk }).0),
        }
    }
}

/// What the services of both ends have read.
fn exchange(net: &Net, ends: [(&[u8], &[u8]); 2]) -> [Vec<u8>; 2] {
    let [mut dialing, mut accepting] = [0, 1].map(|ix| Side::of(net, ix, ends[ix]));
    let to = node(net, 1);
    let (_, dial) = dialing.give(Input::Command(open(1, to)));
    let opened = |conn, origin| Input::Opened { conn, origin, remote: Remote::default() };
    let (hello, _) = dialing.give(opened(dialing.conn, Origin::Dialed(dial.unwrap())));
    accepting.give(opened(accepting.conn, Origin::Accepted));
    hello.iter().for_each(|bytes| accepting.arriving.extend_from_slice(bytes));
    loop {
        let to_dialing = accepting.step();
        let to_accepting = dialing.step();
        if to_dialing.is_none() && to_accepting.is_none() {
            break;
        }
        to_dialing.iter().flatten().for_each(|bytes| dialing.arriving.extend_from_slice(bytes));
        to_accepting.iter().flatten().for_each(|bytes| accepting.arriving.extend_from_slice(bytes));
    }
    [dialing, accepting].map(|side| side.read.expect("both ends have the stream").to_vec())
}

thread_local!(static NETS: [Net; 2] = [formed(0, (2, 0)), formed(1, (2, 0))]);

#[test]
fn g4_s7_what_is_written_is_read_in_any_cut() {
    fn property(with_key: bool, written: (Vec<u8>, Vec<u8>), cuts: (Vec<u8>, Vec<u8>)) -> bool {
        NETS.with(|nets| {
            let net = &nets[usize::from(!with_key)];
            let read = exchange(net, [(&written.0, &cuts.0), (&written.1, &cuts.1)]);
            read == [written.1.clone(), written.0.clone()]
        })
    }
    type Property = fn(bool, (Vec<u8>, Vec<u8>), (Vec<u8>, Vec<u8>)) -> bool;
    QuickCheck::new().rng(Gen::from_size_and_seed(200, 1)).tests(2_000).quickcheck(property as Property);
}
