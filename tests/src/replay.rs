//! Recorded runs, and replays with the bytes cut in a different way (G4).

use bytes::{Bytes, BytesMut};
use formation_core::{Config, Formation, Input, Misuse, Output, Start, Timestamp};

use crate::Rng;

/// All inputs and outputs of one run of a node.
#[derive(Clone, Debug)]
pub struct Run {
    /// The configuration of the node.
    pub config: Config,
    /// The start values of the run.
    pub start: Start,
    /// The time of the start, on the node's clock.
    pub at: Timestamp,
    /// The inputs, with their times on the node's clock.
    pub inputs: Vec<(Timestamp, Input)>,
    /// The outputs in order.
    pub outputs: Vec<Output>,
}

/// After so many inputs, a replayed node is turned into bytes and back.
const SNAPSHOT_EVERY: usize = 61;

/// Gives the inputs to a new node with the configuration and the start values of the run. Returns its outputs and its
/// final state. Every now and then the node goes on from its snapshot, with and without outputs that wait.
pub fn replay(run: &Run, inputs: &[(Timestamp, Input)]) -> (Vec<Output>, Formation) {
    let mut formation = Formation::new(run.config.clone(), run.start.clone(), run.at);
    let mut outputs = Vec::new();
    outputs.extend(std::iter::from_fn(|| formation.poll_output()));
    for (number, (at, input)) in inputs.iter().enumerate() {
        match formation.handle_input(*at, input.clone()) {
            Ok(()) => {}
            Err(Misuse::HandedOff(_)) => read_by_the_service(&mut outputs, input),
            Err(misuse) => panic!("{misuse} at {at:?} by {input:?}"),
        }
        if number % SNAPSHOT_EVERY == 0 {
            formation = restored(&formation);
        }
        outputs.extend(std::iter::from_fn(|| formation.poll_output()));
    }
    (outputs, restored(&formation))
}

/// Bytes have come on a connection that was handed off: the service reads them behind those of the handoff.
pub(crate) fn read_by_the_service(outputs: &mut [Output], input: &Input) {
    let Input::Received { conn: of, chunk } = input else { panic!("{input:?} brings no bytes") };
    let handoff = outputs.iter_mut().find_map(|output| match output {
        Output::Handoff { conn, unread, .. } if conn == of => Some(unread),
        _ => None,
    });
    let unread = handoff.expect("the connection was handed off");
    *unread = [&unread[..], chunk].concat().into();
}

/// The node, from its snapshot.
fn restored(formation: &Formation) -> Formation {
    match Formation::restore(&formation.snapshot(), formation.config().keys()) {
        Ok(restored) if restored == *formation => restored,
        Ok(restored) => panic!("another node is restored\n{}", difference(&restored, formation)),
        Err(error) => panic!("no node is restored: {error}"),
    }
}

/// A way to cut the streams of a run into different chunks.
#[derive(Clone, Debug)]
pub enum Recut {
    /// One byte per chunk.
    Bytes,
    /// Consecutive chunks on the same connection at the same time become one.
    Join,
    /// Joined, then cut at random places; the value is the seed.
    Random(u64),
    /// Joined, then cut into pieces of these lengths, which repeat. 0 means all remaining bytes.
    Lengths(Vec<u8>),
}

impl Recut {
    /// The same inputs, with their bytes cut in this way.
    pub fn apply(&self, inputs: &[(Timestamp, Input)]) -> Vec<(Timestamp, Input)> {
        match self {
            Self::Bytes => cut(inputs, |_| 1),
            Self::Join => join(inputs),
            Self::Random(seed) => {
                let mut rng = Rng::new(*seed);
                let longest = [2, 7, 40, 500][rng.below(4)];
                cut(&join(inputs), |left| (1 + rng.below(longest)).min(left))
            }
            Self::Lengths(lengths) => {
                let mut lengths = lengths.iter().copied().cycle();
                cut(&join(inputs), |left| match lengths.next() {
                    None | Some(0) => left,
                    Some(length) => left.min(usize::from(length)),
                })
            }
        }
    }
}

/// The first lines in which two states differ.
pub fn difference(left: &Formation, right: &Formation) -> String {
    let (left, right) = (format!("{left:#?}"), format!("{right:#?}"));
    let pairs = left.lines().zip(right.lines()).filter(|(left, right)| left != right).take(12);
    pairs.map(|(left, right)| format!("{left}   instead of {right}\n")).collect()
}

fn cut(inputs: &[(Timestamp, Input)], mut size: impl FnMut(usize) -> usize) -> Vec<(Timestamp, Input)> {
    let mut out = Vec::new();
    for (at, input) in inputs {
        if let Input::Received { conn, chunk } = input
            && !chunk.is_empty()
        {
            let mut rest = chunk.clone();
            while !rest.is_empty() {
                let piece = rest.split_to(size(rest.len()));
                // Like a socket, each piece has its own allocation.
                out.push((*at, Input::Received { conn: *conn, chunk: Bytes::copy_from_slice(&piece) }));
            }
        } else {
            out.push((*at, input.clone()));
        }
    }
    out
}

fn join(inputs: &[(Timestamp, Input)]) -> Vec<(Timestamp, Input)> {
    let mut out: Vec<(Timestamp, Input)> = Vec::new();
    for (at, input) in inputs {
        if let (Some((before, Input::Received { conn, chunk })), Input::Received { conn: next, chunk: more }) =
            (out.last_mut(), input)
            && conn == next
            && before == at
        {
            let mut both = BytesMut::from(&chunk[..]);
            both.extend_from_slice(more);
            *chunk = both.freeze();
        } else {
            out.push((*at, input.clone()));
        }
    }
    out
}
