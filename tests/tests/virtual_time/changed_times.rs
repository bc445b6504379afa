//! Times that are changed node by node (PROTOCOL, E1 and E5).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use formation_core::Timing;
use formation_tests::{Crash, Cut, Net, Settings, for_each_seed};

const SECOND: Duration = Duration::from_secs(1);

/// Three voters with the times of a WAN and a master, and the other two.
fn formed(seed: u64, settings: Settings) -> (Net, usize, [usize; 2]) {
    let mut net = Net::of_voters(seed, 3, settings);
    for ix in 0..3 {
        net.set_timing(ix, Timing::wan());
    }
    net.start_all();
    net.converge(20 * SECOND);
    let master = net.master().unwrap();
    (net, master, [(master + 1) % 3, (master + 2) % 3])
}

/// The master is cut off. The others are started again with a much shorter lease, while the lease that they have promised runs on. The
/// network checks that no two leases overlap.
#[test]
fn g2_e1_a_promise_outlasts_a_restart_with_shorter_times() {
    for_each_seed(20, |seed| {
        let (mut net, master, others) = formed(seed, Settings::default());
        net.isolate(master, Cut::Lose);
        for ix in others {
            net.crash(ix, Crash::Process);
            net.set_timing(ix, Timing::local());
            net.start(ix);
        }
        let done = net.run_until(20 * SECOND, |net| net.agree(&others));
        net.expect(done, "the others have no master");
    });
}
