//! One peer that sends arbitrary bytes.

use bytes::{Bytes, BytesMut};
use formation_core::Origin;

use super::{
    embedder::Embedder,
    payload::{Identity, Payload, PeerRole, framed},
    scene::Scene,
    transcript::Secret,
};

/// One peer that sends arbitrary bytes (G8). The first byte chooses the kind of connection, the second the length of
/// the chunks, and the rest is the stream.
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
        embedder.scene().establish(&mut embedder, conn, 0);
        assert_eq!(embedder.node().status().links, 1, "a peer with the key is linked");
        if follows {
            // The peer is the master, so that the node accepts its views.
            for payload in [master(), Payload::JoinAccepted(1)] {
                embedder.receive_payload(conn, &payload);
            }
        }
        settle(&mut embedder);
    } else if keyed && follows {
        // The peer names the key, and the bytes of the fuzzer come before its proof.
        let identity = Identity { who: 0, elsewhere: None, incarnation: 1 };
        embedder.receive_payload(conn, &Payload::HelloWithKeys(identity, vec![Secret::Current]));
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

fn master() -> Payload {
    let role = PeerRole::Master;
    Payload::Status { number: 1, term: 1, role, abstains: false, promise: None, view_id: (1, 1), metadata: 0 }
}

/// Frames with correct lengths, because a fuzzer rarely guesses the four bytes of a length. In the input, each body
/// starts with its length in one byte.
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
    fn g8_every_kind_of_connection_survives_random_bytes() {
        for mode in 0..64 {
            for seed in 0..30 {
                let mut data = vec![mode, (seed * 5) as u8];
                data.extend(Rng::new(seed).bytes(300));
                formation(&data);
            }
        }
    }

    #[test]
    fn a_framed_stream_has_a_length_before_each_body() {
        assert_eq!(&frames(&[2, 7, 8, 1, 9])[..], [0, 0, 0, 2, 7, 8, 0, 0, 0, 1, 9]);
        assert_eq!(&frames(&[5, 1])[..], [0, 0, 0, 1, 1]);
    }
}
