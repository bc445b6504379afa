//! One peer that says anything at all.

use bytes::{Bytes, BytesMut};
use formation_core::{ConnId, Origin, Output, message::Message};

use super::{
    host::Host,
    say::{Part, Say, framed, greeting},
    scene::{KEY, Scene},
};
use crate::{Net, Peer, messages};

/// One peer that says anything at all (G8). The first byte chooses what kind of connection, the second how its bytes are
/// cut, the rest is what comes.
pub fn formation(data: &[u8]) {
    let [mode, cut, bytes @ ..] = data else { return };
    let [dialed, established, with_lengths, follows, keyed] = [1, 2, 4, 8, 16].map(|bit| mode & bit != 0);
    let mut host = Host::new(if keyed { Scene::Keyed } else { Scene::Voter });
    let origin = match host.take_dial(0) {
        Some(dial) if dialed => Origin::Dialed(dial),
        _ => Origin::Accepted,
    };
    let conn = host.open(origin);
    // With a key, what the fuzzer says may come before the proof, too.
    if established || (keyed && follows) {
        if keyed {
            greet_with_key(&mut host, conn, origin, established);
        } else {
            host.receive(conn, greeting(0).to_frame());
        }
        if follows && established {
            // The peer is the master, so that what it says of members is listened to.
            for say in [master(), Say::Admitted(1)] {
                host.receive(conn, say.bytes());
            }
        }
        host.settle();
    }
    let stream = if with_lengths { frames(bytes) } else { Bytes::copy_from_slice(bytes) };
    for chunk in stream.chunks(usize::from(*cut).max(1)) {
        host.receive(conn, stream.slice_ref(chunk));
        host.settle();
        assert!(established || !keyed || host.node().status().links == 0, "linked without a proof");
    }
    host.aftermath();
}

/// A peer that holds the key, and may prove it.
fn greet_with_key(host: &mut Host, conn: ConnId, origin: Origin, proves: bool) {
    let mut peer = Peer::of(&Scene::Keyed.config(), "n0", &Net::address(0)).holding(KEY);
    host.receive(conn, peer.hello());
    let sent = host.run().outputs.iter().find_map(|output| match output {
        Output::Send { conn: on, bytes } if *on == conn => Some(bytes),
        _ => None,
    });
    let said = messages(&mut BytesMut::from(&sent.expect("its hello")[..]));
    let [hello @ Message::Hello(_), ..] = &said[..] else { panic!("a hello comes first: {said:?}") };
    let proof = match origin {
        Origin::Accepted => peer.proof_dialing(hello),
        Origin::Dialed(_) => peer.proof_accepting(hello),
    };
    host.settle();
    if proves {
        host.receive(conn, proof.to_frame());
        host.settle();
        assert_eq!(host.node().status().links, 1, "who holds the key is linked");
    }
}

fn master() -> Say {
    Say::Status { number: 1, term: 1, role: Part::Master, held: false, promise: None, epoch: (1, 1), metadata: 0 }
}

/// Bodies with the right length in front, since a fuzzer rarely guesses four bytes: each begins with its own length.
fn frames(mut bytes: &[u8]) -> Bytes {
    let mut stream = BytesMut::new();
    while let [len, rest @ ..] = bytes {
        let (body, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        stream.extend_from_slice(&framed(body));
        bytes = rest;
    }
    stream.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    #[test]
    fn every_kind_of_connection_survives_noise() {
        for mode in 0..32 {
            for seed in 0..30 {
                let mut data = vec![mode, (seed * 5) as u8];
                data.extend(Rng::new(seed).bytes(300));
                formation(&data);
            }
        }
    }

    #[test]
    fn a_framed_stream_has_the_length_in_front_of_each_body() {
        assert_eq!(&frames(&[2, 7, 8, 1, 9])[..], [0, 0, 0, 2, 7, 8, 0, 0, 0, 1, 9]);
        assert_eq!(&frames(&[5, 1])[..], [0, 0, 0, 1, 1]);
    }
}
