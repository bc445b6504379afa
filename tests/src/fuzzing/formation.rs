//! One peer that says anything at all.

use bytes::{Bytes, BytesMut};
use formation_core::Origin;

use super::{
    embedder::Embedder,
    payload::{Part, Say, Someone, framed},
    scene::Scene,
    transcript::Secret,
};

/// One peer that says anything at all (G8). The first byte chooses what kind of connection, the second how its bytes are
/// cut, the rest is what comes.
pub fn formation(data: &[u8]) {
    let [mode, cut, bytes @ ..] = data else { return };
    let [dialed, established, with_lengths, follows, keyed, fails] = [1, 2, 4, 8, 16, 32].map(|bit| mode & bit != 0);
    let mut embedder = Embedder::new(Scene::of(if keyed { 8 } else { 0 }));
    let origin = match embedder.take_dial(0) {
        Some(dial) if dialed => Origin::Dialed(dial),
        _ => Origin::Accepted,
    };
    let conn = embedder.open(origin);
    let settle = |embedder: &mut Embedder| {
        if fails {
            embedder.persist_failed();
        }
        embedder.settle();
    };
    if established {
        embedder.scene().greet(&mut embedder, conn, 0);
        assert_eq!(embedder.node().status().links, 1, "who holds the key is linked");
        if follows {
            // The peer is the master, so that what it says of members is listened to.
            for say in [master(), Say::Admitted(1)] {
                embedder.say(conn, &say);
            }
        }
        settle(&mut embedder);
    } else if keyed && follows {
        // It holds the key, and what the fuzzer says comes before its proof.
        embedder.say(conn, &Say::Keyed(Someone { who: 0, elsewhere: None, incarnation: 1 }, vec![Secret::Current]));
        settle(&mut embedder);
    }
    let stream = if with_lengths { frames(bytes) } else { Bytes::copy_from_slice(bytes) };
    for chunk in stream.chunks(usize::from(*cut).max(1)) {
        embedder.receive(conn, stream.slice_ref(chunk));
        settle(&mut embedder);
        assert!(established || !keyed || embedder.node().status().links == 0, "linked without a proof");
    }
    embedder.aftermath();
}

fn master() -> Say {
    Say::Status { number: 1, term: 1, role: Part::Master, held: false, promise: None, view_id: (1, 1), metadata: 0 }
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
        for mode in 0..64 {
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
