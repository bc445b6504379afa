//! A digest of all outputs of all nodes. Two versions of the core behave in the same way if their digests are equal.
//!
//! Outputs and views are hashed in their wire encoding, which does not contain the names of types, variants and fields.

use std::cell::RefCell;

use formation_core::{Formation, Output};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

thread_local! {
    /// Set while this thread computes a digest.
    static HASHER: RefCell<Option<Sha256>> = const { RefCell::new(None) };
}

/// The digest of all outputs of the nodes on this thread while `run` runs, in hexadecimal digits.
pub fn digest(run: impl FnOnce()) -> String {
    HASHER.with_borrow_mut(|hasher| *hasher = Some(Sha256::new()));
    run();
    let hasher = HASHER.with_borrow_mut(Option::take).unwrap_or_default();
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn add(value: &impl Serialize) {
    HASHER.with_borrow_mut(|hasher| {
        if let Some(hasher) = hasher {
            hasher.update(postcard::to_stdvec(value).expect("plain data always encodes"));
        }
    });
}

/// Adds one output of the node with the number `node`, at the time `at`.
pub(crate) fn output(at: u64, node: usize, output: &Output) {
    add(&(at, node as u64, output));
}

/// Adds the final state of a node.
pub(crate) fn last_state(formation: &Formation) {
    let (view, status) = (formation.view(), formation.status());
    add(&(view.id(), view.iter().collect::<Vec<_>>()));
    add(&(status.phase as u8, status.term, status.master));
    add(&(status.counters.bytes_sent, status.counters.bytes_received, formation.next_deadline()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scenario;

    fn of_seed(seed: u64) -> String {
        digest(|| {
            Scenario::draw(seed, false).check();
        })
    }

    #[test]
    fn a_digest_depends_only_on_the_run() {
        assert_eq!(of_seed(3), of_seed(3));
        assert_ne!(of_seed(3), of_seed(4));
        assert_ne!(of_seed(3), digest(|| {}));
    }
}
