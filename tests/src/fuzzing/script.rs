//! A list of inputs in any order.

use std::{collections::BTreeSet, slice, time::Duration};

use arbitrary::{Arbitrary, Unstructured};
use bytes::{Bytes, BytesMut};
use formation_core::{
    Change, Command, ConnId, DialId, Event, Input, MemberState, Origin, Output,
    message::{JoinResponse, MembersUpdate, Message},
};

use super::{
    chunking,
    embedder::Embedder,
    encode::{Spell, spelled},
    payload::{self, Say, contact},
    scene::Scene,
};
use crate::messages;

/// One thing that happens. Connections and dials are chosen among those there are.
#[derive(Arbitrary, Clone, Debug)]
pub(super) enum Step {
    /// Time passes, in milliseconds.
    Sleep(u16),
    /// Time passes, in twentieths of a second, with every tick in its time.
    Pass(u8),
    /// Time runs backwards.
    Back(u16),
    /// Time has passed.
    Tick,
    /// A peer connects.
    Accept,
    /// A dial succeeds.
    Dialed(u8),
    /// A dial fails.
    DialFailed(u8),
    /// A peer says something, in chunks of so many bytes; 0 is one chunk.
    Receive(u8, Say, u8),
    /// A peer says several things in one chunk.
    Burst(u8, Vec<Say>),
    /// A write is done.
    Flush(u8),
    /// A connection ends.
    Close(u8),
    /// A vote is durable.
    Persisted,
    /// All that is under way is done.
    Settle,
    /// The embedder wants to leave.
    Leave,
    /// The embedder says something else of itself.
    Metadata(Vec<u8>),
    /// The embedder knows more addresses.
    Contacts(Vec<u8>),
    /// An input that may be the embedder's fault.
    Misuse(Fault, u8),
    /// A vote cannot be made durable.
    PersistFailed,
    /// Something that was on its way when the node closed the connection.
    Late(Late, u8),
}

spelled!(
    enum Step {
        Sleep(millis),
        Pass(twentieths),
        Back(millis),
        Tick,
        Accept,
        Dialed(which),
        DialFailed(which),
        Receive(which, say, cut),
        Burst(which, says),
        Flush(which),
        Close(which),
        Persisted,
        Settle,
        Leave,
        Metadata(bytes),
        Contacts(addresses),
        Misuse(fault, number),
        PersistFailed,
        Late(what, which),
    }
);

/// What a careless embedder says of something that there may not be.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Fault {
    /// A connection under a used name.
    Opened,
    /// A dial that was never asked for.
    Dialed,
    /// Its failure.
    DialFailed,
    /// Bytes on a connection.
    Received,
    /// A flush of a connection.
    Flushed,
    /// A write that was never asked for.
    Persisted,
    /// Its failure.
    PersistFailed,
    /// A flush of a connection on which nothing was to be sent.
    FlushedTwice,
}

spelled!(
    enum Fault {
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

/// What an embedder says of a connection that it has not closed yet.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Late {
    /// Bytes have come.
    Received,
    /// A write is done.
    Flushed,
    /// Its peer has closed it.
    Closed,
}

spelled!(
    enum Late {
        Received,
        Flushed,
        Closed,
    }
);

/// As many steps as the bytes yield: unlike a `Vec`'s, its length needs no luck.
fn steps(data: &[u8]) -> Vec<Step> {
    let mut source = Unstructured::new(data);
    let next = || if source.is_empty() { None } else { Step::arbitrary(&mut source).ok() };
    std::iter::from_fn(next).collect()
}

/// Any inputs in any order, by peers and by an embedder of any quality. The first byte chooses who the node is, the rest what
/// happens. What must hold whatever comes is checked all the while: no panic, no lost or doubled answer, no view that goes
/// back (G3, G8), no state that a misuse has changed, no vote that is used before it is durable (E4), and with a key no word of
/// a stranger that counts.
pub fn script(data: &[u8]) {
    let Some((scene, rest)) = data.split_first() else { return };
    let mut embedder = Embedder::new(Scene::of(*scene));
    play(&mut embedder, rest);
    embedder.aftermath();
}

/// What an input of `script` or `chunking` has led to, for those who ask whether scripts lead anywhere.
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
    let said = embedder.run().outputs.iter().filter_map(|output| match output {
        Output::Send { bytes, .. } => Some(messages(&mut BytesMut::from(&bytes[..]))),
        _ => None,
    });
    let said = said.flatten().filter_map(|message| match message {
        Message::JoinResponse(JoinResponse::Rejected { reason, .. }) => Some(format!("turns away: {reason:?}")),
        Message::MembersUpdate(MembersUpdate::Page { last: false, .. }) => Some("says its view in pages".into()),
        Message::MembersUpdate(MembersUpdate::Delta { .. }) => Some("says what has changed".into()),
        message if message.since() > 1 => Some("speaks the next protocol".into()),
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
        Output::Event(Event::Linked { .. }) if !embedder.scene().keys.is_empty() => Some("is linked by a key".into()),
        Output::Event(Event::PersistFailed) => Some("failed to persist".into()),
        Output::Event(Event::RejectedByPeer { reason, .. }) => Some(format!("was rejected: {reason:?}")),
        Output::Event(Event::Merged { .. }) => Some("merged".into()),
        Output::Event(Event::SoloMasterIgnored { .. }) => Some("ignored a solo master".into()),
        _ => None,
    });
    outputs.chain(phases).chain(said).collect()
}

fn is_suspect(change: &Change) -> bool {
    matches!(change, Change::Upsert(member) if member.state == MemberState::Suspect)
}

/// The bytes of a script.
pub(super) fn spell(scene: u8, steps: &[Step]) -> Vec<u8> {
    let mut script = vec![scene];
    steps.iter().for_each(|step| step.spell(&mut script));
    script
}

pub(super) fn play(embedder: &mut Embedder, data: &[u8]) {
    for step in steps(data) {
        run(embedder, &step);
    }
}

fn run(embedder: &mut Embedder, step: &Step) {
    match *step {
        Step::Sleep(millis) => embedder.sleep(Duration::from_millis(u64::from(millis))),
        Step::Pass(twentieths) => embedder.pass(Duration::from_millis(50 * u64::from(twentieths))),
        Step::Back(millis) => embedder.back(Duration::from_millis(u64::from(millis))),
        Step::Tick => embedder.must(Input::Tick),
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
                embedder.must(Input::DialFailed { dial });
            }
        }
        Step::Receive(which, ref say, cut) => {
            if let Some(conn) = embedder.conn(which) {
                let bytes = embedder.words(conn, slice::from_ref(say));
                let cut = if cut == 0 { bytes.len().max(1) } else { usize::from(cut) };
                for chunk in bytes.chunks(cut) {
                    embedder.receive(conn, bytes.slice_ref(chunk));
                }
            }
        }
        Step::Burst(which, ref says) => {
            if let Some(conn) = embedder.conn(which) {
                embedder.receive(conn, embedder.words(conn, says));
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
                embedder.must(match what {
                    Late::Received => Input::Received { conn, chunk: Bytes::from_static(b"late") },
                    Late::Flushed => Input::Flushed { conn },
                    Late::Closed => Input::Closed { conn },
                });
            }
        }
        Step::Settle => embedder.settle(),
        Step::Leave => embedder.must(Input::Command(Command::Leave)),
        Step::Metadata(ref bytes) => {
            let metadata = match bytes[..] {
                [len] => payload::bytes(len),
                _ => Bytes::copy_from_slice(bytes),
            };
            // A fuzzer can exceed the limit, which is a misuse like any other.
            let _ = embedder.may(Input::Command(Command::SetMetadata(metadata)));
        }
        Step::Contacts(ref addresses) => {
            let contacts = addresses.iter().copied().map(contact).collect();
            let _ = embedder.may(Input::Command(Command::AddContacts(contacts)));
        }
        Step::Misuse(fault, number) => {
            let number = u64::from(number);
            // Of names that were never given, or of things that are not under way: always refused.
            let unknown = ConnId(u64::MAX - number);
            let input = match fault {
                Fault::Opened => Input::Opened { conn: embedder.used_conn(), origin: Origin::Accepted },
                Fault::Dialed => {
                    let origin = Origin::Dialed(DialId(u64::MAX - number));
                    Input::Opened { conn: embedder.unused_conn(), origin }
                }
                Fault::DialFailed => Input::DialFailed { dial: DialId(u64::MAX - number) },
                Fault::Received => Input::Received { conn: unknown, chunk: Bytes::from_static(b"x") },
                Fault::Flushed => Input::Flushed { conn: unknown },
                Fault::Persisted => Input::Persisted { seq: u64::MAX - number },
                Fault::PersistFailed => Input::PersistFailed { seq: u64::MAX - number },
                Fault::FlushedTwice => Input::Flushed { conn: embedder.idle_conn(number as u8).unwrap_or(unknown) },
            };
            let said = embedder.may(input);
            assert!(said.is_err() || embedder.is_stopped(), "{fault:?} was taken for good");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    #[test]
    fn a_script_of_noise_holds_every_invariant() {
        for seed in 0..200 {
            let noise = Rng::new(seed).bytes(2_000);
            let steps = steps(&noise[1..]).len();
            assert!(steps > 50, "too short to show anything: {steps} steps");
            script(&noise);
        }
    }

    #[test]
    fn what_is_spelled_is_read_as_the_same() {
        for seed in 0..200 {
            let told = steps(&Rng::new(seed).bytes(2_000));
            let read = steps(&spell(0, &told)[1..]);
            assert_eq!(format!("{read:#?}"), format!("{told:#?}"));
        }
    }
}
