//! Writes seeds for the fuzzers into `fuzz/corpus/`: the bytes that nodes receive in simulated runs, and the
//! hand-written scripts. Run it with `cargo run -p formation-tests --bin corpus`.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs, io,
    path::Path,
    process::ExitCode,
};

use bytes::{Bytes, BytesMut};
use formation_core::{ConnId, Input, Origin, message::Message};
use formation_tests::{
    Rng, Run, Scenario,
    fuzzing::{Story, TARGETS, cut, stories},
};

/// The rest of a long stream teaches a fuzzer little and slows it down.
const LONGEST: usize = 1_500;

fn main() -> io::Result<ExitCode> {
    if let Some(argument) = env::args_os().nth(1) {
        eprintln!("'{}': this program takes no arguments", argument.display());
        return Ok(ExitCode::FAILURE);
    }
    let mut seeds = BTreeSet::new();
    let solo = (0..4).map(Scenario::draw_solo);
    for mut scenario in (0..12).map(|seed| Scenario::draw(seed, false)).chain(solo) {
        scenario.settings.record = true;
        let mut net = scenario.net();
        scenario.run(&mut net);
        for ix in 0..net.len() {
            net.runs(ix).iter().for_each(|run| add_received(run, &mut seeds));
        }
    }
    for seed in 0..40 {
        let mut rng = Rng::new(seed);
        let len = 50 + rng.below(500);
        for target in ["script", "chunking", "hostile"] {
            seeds.insert((target, rng.bytes(len)));
        }
        let mut message = rng.bytes(len);
        message[0] &= !1;
        seeds.insert(("messages", message));
        let mut stream = vec![rng.below(4) as u8, 3];
        stream.extend(rng.bytes(len / 4));
        seeds.insert(("decoder", stream));
    }
    // Frames with a length close to the limit. A fuzzer would need many bytes to find these.
    for low in 220..=255 {
        seeds.insert(("decoder", vec![1, 1, 0, 1, 245, low]));
    }
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    for (target, _) in TARGETS {
        let seeds: Vec<_> = seeds.iter().filter(|(of, _)| of == target).collect();
        let folder = corpus.join(target);
        fs::create_dir_all(&folder)?;
        for (at, (_, data)) in seeds.iter().enumerate() {
            fs::write(folder.join(format!("seed-{at:04}")), data)?;
        }
        println!("{target}: {} files", seeds.len());
    }
    for Story { name, script, .. } in stories() {
        let name = name.replace(' ', "_");
        fs::write(corpus.join("chunking").join(&name), cut(&script))?;
        fs::write(corpus.join("script").join(name), script)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Adds the streams that a node has received, and each message in them.
fn add_received(run: &Run, seeds: &mut BTreeSet<(&'static str, Vec<u8>)>) {
    let mut streams: BTreeMap<ConnId, (Origin, BytesMut)> = BTreeMap::new();
    for (_, input) in &run.inputs {
        match input {
            Input::Opened { conn, origin, .. } => {
                streams.insert(*conn, (*origin, BytesMut::new()));
            }
            Input::Received { conn, chunk } => {
                if let Some((_, stream)) = streams.get_mut(conn) {
                    stream.extend_from_slice(chunk);
                }
            }
            _ => {}
        }
    }
    let fails = run.inputs.iter().any(|(_, input)| matches!(input, Input::PersistFailed { .. }));
    for (origin, stream) in streams.into_values() {
        let stream = stream.freeze();
        let dialed = u8::from(matches!(origin, Origin::Dialed(_)));
        let frames = frames(stream.clone());
        // Only whole frames, unless a crash has cut the first one.
        let end = frames.iter().map(|frame| 4 + frame.len()).scan(0, |at, len| {
            *at += len;
            Some(*at)
        });
        let end = end.take_while(|end| *end <= LONGEST).last().unwrap_or(stream.len().min(LONGEST));
        let short = &stream[..end];
        seeds.insert(("formation", [&[dialed, 0], short].concat()));
        // As a raw stream with one chunk length.
        seeds.insert(("decoder", [&[4, 1, 7], short].concat()));
        for body in &frames {
            seeds.insert(("messages", [&[1], &body[..]].concat()));
        }
        // On an established connection: the target adds the frame lengths. The disk of the node may have failed.
        let decoded = frames.iter().map(|body| (Message::decode(body), body));
        let (handshake, rest): (Vec<_>, Vec<_>) =
            decoded.partition(|(message, _)| matches!(message, Ok(Message::Hello(_) | Message::Proof(_))));
        let keyed = handshake.iter().any(|(message, _)| matches!(message, Ok(Message::Proof(_))));
        let short = rest.iter().map(|(_, body)| body).filter(|body| body.len() < 256).take(20);
        let rest: Vec<u8> = short.flat_map(|body| [&[body.len() as u8], &body[..]].concat()).collect();
        for follows in [0, 8] {
            let mode = dialed + 2 + 4 + follows + 16 * u8::from(keyed) + 32 * u8::from(fails);
            seeds.insert(("formation", [&[mode, 0], &rest[..]].concat()));
        }
    }
}

/// The bodies of the whole frames of a stream.
fn frames(mut stream: Bytes) -> Vec<Bytes> {
    let mut bodies = Vec::new();
    while let Some(prefix) = stream.first_chunk::<4>() {
        let len = u32::from_be_bytes(*prefix) as usize;
        if stream.len() < 4 + len {
            break;
        }
        bodies.push(stream.split_to(4 + len).split_off(4));
    }
    bodies
}
