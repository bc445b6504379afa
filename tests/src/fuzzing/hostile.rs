//! One hostile peer of a small cluster.

use std::time::Duration;

use crate::{
    Dice, Net, Settings,
    hostile::{Place, attack_healthy},
};

/// The longest attack. A fuzzer's input is shorter.
const TURNS: usize = 300;

/// A hostile member of a healthy cluster, whose choices are the bytes (T2): whom it dials, as whom, and what it says.
pub fn hostile(data: &[u8]) {
    let mut net = Net::formed(1, (3, 1), Settings::calm());
    // Links that nobody needs close in this time.
    net.run_for(Duration::from_secs(1));
    attack_healthy(&mut net, Place::Member, (Dice::of_bytes(data), TURNS));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_peer_without_choices_changes_nothing() {
        hostile(&[]);
    }
}
