//! The same streams, cut in two ways (G4).

use super::{embedder::Embedder, scene::Scene, script::play};
use crate::{Recut, difference, replay};

/// G4: a script has the same outputs and the same final state, however its bytes are cut into chunks.
///
/// The first byte says how many chunk lengths follow. They repeat; without lengths there is one chunk. The rest is as
/// for [`script`](super::script()). The cuts decide how many bytes of unfinished frames are buffered, so the limit for
/// these is too high to be reached.
pub fn chunking(data: &[u8]) {
    let Some((lengths, script)) = parts(data) else { return };
    let Some((scene, rest)) = script.split_first() else { return };
    let mut embedder = Embedder::roomy(Scene::of(*scene));
    // Without the aftermath, because it would change the states that are compared.
    play(&mut embedder, rest);
    let run = embedder.run();
    let (outputs, state) = replay(run, &Recut::Lengths(lengths.to_vec()).apply(&run.inputs));
    for (at, (theirs, ours)) in outputs.iter().zip(&run.outputs).enumerate() {
        assert_eq!(theirs, ours, "output {at} differs when cut by {lengths:?}");
    }
    assert_eq!(outputs.len(), run.outputs.len(), "cut by {lengths:?}");
    if state != *embedder.node() {
        panic!("the states differ when cut by {lengths:?}\n{}", difference(&state, embedder.node()));
    }
}

/// The chunk lengths and the script.
pub(super) fn parts(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (count, rest) = data.split_first()?;
    rest.split_at_checked(usize::from(count % 16))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    #[test]
    fn g4_a_random_script_has_the_same_result_in_any_cut() {
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            for lengths in [&[][..], &[1], &[0, 3, 30]] {
                let mut data = vec![lengths.len() as u8];
                data.extend(lengths);
                data.extend(rng.bytes(1_000));
                chunking(&data);
            }
        }
    }
}
