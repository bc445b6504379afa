//! The bodies of the fuzz targets, as plain functions: what a fuzzer found, a test can run again.
#![forbid(unsafe_code)]

mod host;
mod say;
mod script;

use bytes::{BufMut, Bytes, BytesMut};
use formation_core::Origin;

use crate::{host::Host, say::hello};
pub use crate::{
    say::{Part, Say},
    script::{Step, script, steps},
};

/// One peer that says anything at all (G8). The first byte chooses what kind of connection, the second how its bytes are
/// cut, the rest is what comes.
pub fn formation(data: &[u8]) {
    let [mode, cut, bytes @ ..] = data else { return };
    let [dialed, established, framed] = [1, 2, 4].map(|bit| mode & bit != 0);
    let mut host = Host::new();
    let origin = match host.take_dial(0) {
        Some(dial) if dialed => Origin::Dialed(dial),
        _ => Origin::Accepted,
    };
    let conn = host.open(origin);
    if established {
        host.receive(conn, hello(0, 1).to_frame());
        host.settle();
    }
    let stream = if framed { frames(bytes) } else { Bytes::copy_from_slice(bytes) };
    for chunk in stream.chunks(usize::from(*cut).max(1)) {
        host.receive(conn, stream.slice_ref(chunk));
        host.settle();
    }
    host.aftermath();
}

/// Bodies with the right length in front, since a fuzzer rarely guesses four bytes: each begins with its own length.
fn frames(mut bytes: &[u8]) -> Bytes {
    let mut stream = BytesMut::new();
    while let [len, rest @ ..] = bytes {
        let (body, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        stream.put_u32(body.len() as u32);
        stream.put_slice(body);
        bytes = rest;
    }
    stream.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fixed, well-mixed stream of bytes.
    fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    #[test]
    fn every_kind_of_connection_survives_noise() {
        for mode in 0..8 {
            for seed in 0..50 {
                let mut data = vec![mode, (seed * 5) as u8];
                data.extend(noise(seed, 300));
                formation(&data);
            }
        }
    }

    #[test]
    fn a_script_of_noise_holds_every_invariant() {
        for seed in 0..200 {
            let steps = steps(&noise(seed, 2_000));
            assert!(steps.len() > 100, "too short to show anything: {} steps", steps.len());
            script(&steps);
        }
    }

    /// The connection ends while the frame that it was waiting for is being read: whose bytes are those now?
    #[test]
    fn a_fault_in_two_chunks_gives_back_its_bytes() {
        formation(&[4, 3, 2, 0xff, 0xff]);
        formation(&[0, 3, 0, 0, 0, 2, 0xff, 0xff]);
        formation(&[0, 3, 0xff, 0xff, 0xff, 0xff]);
    }

    #[test]
    fn a_framed_stream_has_the_length_in_front_of_each_body() {
        assert_eq!(&frames(&[2, 7, 8, 1, 9])[..], [0, 0, 0, 2, 7, 8, 0, 0, 0, 1, 9]);
        assert_eq!(&frames(&[5, 1])[..], [0, 0, 0, 1, 1]);
    }
}
