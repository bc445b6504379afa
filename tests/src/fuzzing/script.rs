//! A list of inputs in any order.

use std::{collections::BTreeSet, slice, time::Duration};

use arbitrary::{Arbitrary, Unstructured};
use bytes::{Bytes, BytesMut};
use formation_core::{
    Change, Command, ConnId, DialId, DialProblem, Event, Input, MemberState, Origin, Output, Remote,
    message::{JoinResponse, MembersUpdate, Message},
};

use super::{
    chunking,
    embedder::Embedder,
    encode::{Encode, impl_encode},
    payload::{self, Payload, contact},
    scene::Scene,
};
use crate::messages;

/// One step of a script. A number selects one of the existing connections or dials.
#[derive(Arbitrary, Clone, Debug)]
pub(super) enum Step {
    /// Time passes without ticks, in milliseconds.
    Sleep(u16),
    /// Time passes with a tick at each deadline, in twentieths of a second.
    Pass(u8),
    /// Time runs backwards, in milliseconds.
    Rewind(u16),
    /// A tick.
    Tick,
    /// A peer opens a connection.
    Accept,
    /// A dial succeeds.
    Dialed(u8),
    /// A dial fails.
    DialFailed(u8),
    /// The node receives a payload in chunks of this length; 0 means one chunk.
    Receive(u8, Payload, u8),
    /// The node receives several payloads in one chunk.
    Burst(u8, Vec<Payload>),
    /// A write is done.
    Flush(u8),
    /// A connection ends.
    Close(u8),
    /// The hard state is durable.
    Persisted,
    /// All open operations complete.
    Settle,
    /// The embedder commands the node to leave.
    Leave,
    /// The embedder changes the metadata.
    Metadata(Vec<u8>),
    /// The embedder adds the first half of these as contacts, and has discovered the others. As many names of streams are served, and the
    /// last one says to whom a stream is opened.
    Contacts(Vec<u8>),
    /// An input that may be misuse by the embedder.
    Mistake(Mistake, u8),
    /// The hard state cannot be made durable.
    PersistFailed,
    /// An input that was on its way when the node closed the connection.
    Late(Late, u8),
}

impl_encode!(
    enum Step {
        Sleep(millis),
        Pass(twentieths),
        Rewind(millis),
        Tick,
        Accept,
        Dialed(which),
        DialFailed(which),
        Receive(which, payload, cut),
        Burst(which, payloads),
        Flush(which),
        Close(which),
        Persisted,
        Settle,
        Leave,
        Metadata(bytes),
        Contacts(addresses),
        Mistake(fault, number),
        PersistFailed,
        Late(what, which),
    }
);

/// A mistake of the embedder.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Mistake {
    /// A new connection with an id that was used before.
    Opened,
    /// The success of an unknown dial.
    Dialed,
    /// The failure of an unknown dial.
    DialFailed,
    /// Bytes on an unknown connection.
    Received,
    /// A flush of an unknown connection.
    Flushed,
    /// The success of an unknown persist.
    Persisted,
    /// The failure of an unknown persist.
    PersistFailed,
    /// A flush of a connection without a `Send` in flight.
    FlushedTwice,
}

impl_encode!(
    enum Mistake {
        Opened,
        Dialed,
        DialFailed,
        Received,
        Flushed,
        Persisted,
        PersistFailed,
        FlushedTwice,
    }
);

/// An input about a connection that the node has closed, but the embedder has not yet.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Late {
    /// Bytes have arrived.
    Received,
    /// A write is done.
    Flushed,
    /// The peer has closed it.
    Closed,
}

impl_encode!(
    enum Late {
        Received,
        Flushed,
        Closed,
    }
);

/// Reads steps until the bytes end. For a `Vec`, the fuzzer would have to guess its length.
fn decode_steps(data: &[u8]) -> Vec<Step> {
    let mut source = Unstructured::new(data);
    let next = || if source.is_empty() { None } else { Step::arbitrary(&mut source).ok() };
    std::iter::from_fn(next).collect()
}

/// Any inputs in any order, from peers and from a correct or faulty embedder. The first byte chooses the scene, and the
/// rest is the script.
///
/// The checks run at every step: no panic, no lost or duplicate answer, no view id that decreases (G3, G8), no state
/// change by misuse, no vote that is used before it is durable (E4), and with a key, no effect of an unauthenticated
/// peer.
pub fn script(data: &[u8]) {
    let Some((scene, rest)) = data.split_first() else { return };
    let mut embedder = Embedder::new(Scene::of(*scene));
    play(&mut embedder, rest);
    embedder.aftermath();
}

/// The outcomes of an input of `script` or `chunking`. A test checks that the kept scripts reach all important
/// outcomes.
pub fn outcomes(target: &str, data: &[u8]) -> BTreeSet<String> {
    let script = match target {
        "chunking" => chunking::parts(data).map_or(&[][..], |(_, script)| script),
        _ => data,
    };
    let Some((scene, rest)) = script.split_first() else { return BTreeSet::new() };
    let mut embedder = Embedder::new(Scene::of(*scene));
    play(&mut embedder, rest);
    let own = embedder.node().node();
    let phases = embedder.phases().iter().map(|phase| format!("was {phase:?}"));
    let sent = embedder.run().outputs.iter().filter_map(|output| match output {
        Output::Send { bytes, .. } => Some(messages(&mut BytesMut::from(&bytes[..]))),
        _ => None,
    });
    let sent = sent.flatten().filter_map(|message| match message {
        Message::JoinResponse(JoinResponse::Rejected { reason, .. }) => Some(format!("rejects a join: {reason:?}")),
        Message::MembersUpdate(MembersUpdate::Page { last: false, .. }) => Some("sends its view in pages".into()),
        Message::MembersUpdate(MembersUpdate::Delta { .. }) => Some("sends a delta".into()),
        _ => None,
    });
    let outputs = embedder.run().outputs.iter().filter_map(|output| match output {
        Output::Close { reason, .. } => Some(format!("closed: {reason:?}")),
        Output::Event(Event::MasterElected { master, .. }) if master == own => Some("is the master".into()),
        Output::Event(Event::MasterElected { .. }) => Some("follows a master".into()),
        Output::Event(Event::MasterLost { reason, .. }) => Some(format!("lost its master: {reason:?}")),
        Output::Event(Event::ViewChanged { changes, .. }) if changes.iter().any(is_suspect) => {
            Some("suspects a member".into())
        }
        Output::Event(Event::ViewChanged { changes, .. }) if embedder.node().view().get(&own.id).is_some() => {
            Some(format!("is in a view that changed by {}", changes.len().min(3)))
        }
        Output::Event(Event::Stopped { reason }) => Some(format!("stopped: {reason:?}")),
        Output::Event(Event::Linked { .. }) if !embedder.scene().keys.is_empty() => Some("is linked with a key".into()),
        Output::Event(Event::PersistFailed) => Some("failed to persist".into()),
        Output::Event(Event::RejectedByPeer { reason, .. }) => Some(format!("was rejected: {reason:?}")),
        Output::Event(Event::Merged { .. }) => Some("merged".into()),
        Output::Event(Event::SoloMasterIgnored { .. }) => Some("ignored a solo master".into()),
        _ => None,
    });
    outputs.chain(phases).chain(sent).collect()
}

fn is_suspect(change: &Change) -> bool {
    matches!(change, Change::Upsert(member) if member.state == MemberState::Suspect)
}

/// The bytes of a script.
pub(super) fn encode_script(scene: u8, script: &[Step]) -> Vec<u8> {
    let mut bytes = vec![scene];
    script.iter().for_each(|step| step.encode(&mut bytes));
    bytes
}

pub(super) fn play(embedder: &mut Embedder, data: &[u8]) {
    for step in decode_steps(data) {
        run(embedder, &step);
    }
}

fn run(embedder: &mut Embedder, step: &Step) {
    match *step {
        Step::Sleep(millis) => embedder.sleep(Duration::from_millis(u64::from(millis))),
        Step::Pass(twentieths) => embedder.advance(Duration::from_millis(50 * u64::from(twentieths))),
        Step::Rewind(millis) => embedder.rewind(Duration::from_millis(u64::from(millis))),
        Step::Tick => embedder.input(Input::Tick),
        Step::Accept => {
            embedder.open(Origin::Accepted);
        }
        Step::Dialed(which) => {
            if let Some(dial) = embedder.take_dial(which) {
                embedder.open(Origin::Dialed(dial));
            }
        }
        Step::DialFailed(which) => {
            if let Some(dial) = embedder.take_dial(which) {
                embedder.input(Input::DialFailed { dial, problem: DialProblem::Refused });
            }
        }
        Step::Receive(which, ref payload, cut) => {
            if let Some(conn) = embedder.conn(which) {
                let bytes = embedder.payload_bytes(conn, slice::from_ref(payload));
                let cut = if cut == 0 { bytes.len().max(1) } else { usize::from(cut) };
                for chunk in bytes.chunks(cut) {
                    embedder.receive(conn, bytes.slice_ref(chunk));
                }
            }
        }
        Step::Burst(which, ref payloads) => {
            if let Some(conn) = embedder.conn(which) {
                embedder.receive(conn, embedder.payload_bytes(conn, payloads));
            }
        }
        Step::Flush(which) => {
            if let Some(conn) = embedder.conn(which) {
                embedder.flush(conn);
            }
        }
        Step::Close(which) => {
            if let Some(conn) = embedder.conn(which) {
                embedder.close(conn);
            }
        }
        Step::Persisted => embedder.persisted(),
        Step::PersistFailed => embedder.persist_failed(),
        Step::Late(what, which) => {
            if let Some(conn) = embedder.closed_conn(which) {
                embedder.input(match what {
                    Late::Received => Input::Received { conn, chunk: Bytes::from_static(b"late") },
                    Late::Flushed => Input::Flushed { conn },
                    Late::Closed => Input::Closed { conn },
                });
            }
        }
        Step::Settle => embedder.settle(),
        Step::Leave => embedder.input(Input::Command(Command::Leave)),
        Step::Metadata(ref bytes) => {
            let metadata = match bytes[..] {
                [len] => payload::bytes(len),
                _ => Bytes::copy_from_slice(bytes),
            };
            // Metadata over the limit is misuse.
            let _ = embedder.try_input(Input::Command(Command::SetMetadata(metadata)));
        }
        Step::Contacts(ref places) => {
            let (contacts, found) = places.split_at(places.len().div_ceil(2));
            let addresses = |places: &[u8]| places.iter().copied().map(contact).collect();
            let _ = embedder.try_input(Input::Command(Command::AddContacts(addresses(contacts))));
            let _ = embedder.try_input(Input::Command(Command::SetDiscovered(addresses(found))));
            // A step of its own would give another meaning to every script that is kept.
            if let [.., which] = places[..] {
                embedder.use_streams(places.len() as u8, which);
            }
        }
        Step::Mistake(mistake, number) => {
            let number = u64::from(number);
            // Unknown ids, or operations that are not open: always misuse.
            let unknown = ConnId(u64::MAX - number);
            let input = match mistake {
                Mistake::Opened => {
                    Input::Opened { conn: embedder.used_conn(), origin: Origin::Accepted, remote: Remote::default() }
                }
                Mistake::Dialed => {
                    let origin = Origin::Dialed(DialId(u64::MAX - number));
                    Input::Opened { conn: embedder.unused_conn(), origin, remote: Remote::default() }
                }
                Mistake::DialFailed => {
                    Input::DialFailed { dial: DialId(u64::MAX - number), problem: DialProblem::Refused }
                }
                Mistake::Received => Input::Received { conn: unknown, chunk: Bytes::from_static(b"x") },
                Mistake::Flushed => Input::Flushed { conn: unknown },
                Mistake::Persisted => Input::Persisted { seq: u64::MAX - number },
                Mistake::PersistFailed => Input::PersistFailed { seq: u64::MAX - number },
                Mistake::FlushedTwice => Input::Flushed { conn: embedder.idle_conn(number as u8).unwrap_or(unknown) },
            };
            let result = embedder.try_input(input);
            assert!(result.is_err() || embedder.is_stopped(), "{mistake:?} was not reported as misuse");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    #[test]
    fn a_random_script_keeps_every_invariant() {
        for seed in 0..200 {
            let noise = Rng::new(seed).bytes(2_000);
            let count = decode_steps(&noise[1..]).len();
            assert!(count > 50, "a script of {count} steps is too short");
            script(&noise);
        }
    }

    /// A member with a certificate opens a stream, and its service writes at once. In a script, the same bytes are cut in several ways.
    #[test]
    fn g4_s7_a_script_hands_off_a_stream_in_any_cut() {
        let member = payload::Identity { who: 0, elsewhere: None, incarnation: 1 };
        let hello = Payload::FlawedHello(member, payload::HelloFlaw::Extensions(224));
        let script = [
            Step::Contacts(vec![0, 1]),
            Step::Accept,
            Step::Burst(1, vec![hello, Payload::Raw(vec![7; 40])]),
            Step::Flush(1),
            Step::Settle,
        ];
        let bytes = encode_script(4, &script);
        let mut embedder = Embedder::new(Scene::of(4));
        play(&mut embedder, &bytes[1..]);
        let handoffs = embedder.run().outputs.iter().filter(|output| matches!(output, Output::Handoff { .. }));
        assert_eq!(handoffs.count(), 1);
        let opened = embedder.run().outputs.iter().filter(|output| matches!(output, Output::StreamFailed { .. }));
        assert_eq!(opened.count(), 1, "the stream to another member is dialed");
        for lengths in [&[0_u8][..], &[1, 1], &[2, 0, 50]] {
            chunking(&[&[lengths.len() as u8], lengths, &bytes].concat());
        }
    }

    #[test]
    fn an_encoded_script_is_read_as_the_same_script() {
        for seed in 0..200 {
            let original = decode_steps(&Rng::new(seed).bytes(2_000));
            let read = decode_steps(&encode_script(0, &original)[1..]);
            assert_eq!(format!("{read:#?}"), format!("{original:#?}"));
        }
    }
}
