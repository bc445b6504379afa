//! Times that are changed node by node (PROTOCOL, E1 and E5), and wall clocks that are wrong (I1).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use formation_core::{Event, Term, Timing};
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

fn lease_too_long(event: &Event) -> bool {
    matches!(event, Event::LeaseTooLong { .. })
}

/// The voter with the lowest id asks for a lease that the others do not confirm. It never stands, and both ends say why.
#[test]
fn e2_a_voter_whose_lease_nobody_confirms_burns_no_terms() {
    for_each_seed(20, |seed| {
        let mut net = Net::of_voters(seed, 3, Settings::default());
        net.set_timing(0, Timing::wan());
        net.set_timing(1, Timing::local());
        net.set_timing(2, Timing::local());
        net.start_all();
        let done = net.run_until(SECOND, |net| net.master() == Some(1) && net.agree(&[0, 1, 2]));
        net.expect(done, "the next voter is not the master at once");
        net.expect(net.status(1).term == Term(1), "a term was burnt");
        net.run_for(SECOND);
        for ix in 0..3 {
            net.expect(
                net.count(ix, Duration::ZERO, lease_too_long) == if ix == 0 { 2 } else { 1 },
                "each end reports it once",
            );
        }
    });
}

/// A follower judges its master by the lease that the master names, not by its own times.
#[test]
fn v10_members_with_shorter_leases_keep_a_master_that_is_well() {
    let mut net = Net::of_voters(1, 3, Settings::default());
    let joining = net.add(Net::config(3, 3));
    for (ix, timing) in [(0, Timing::wan()), (1, Timing::wan()), (2, Timing::lan()), (joining, Timing::lan())] {
        net.set_timing(ix, timing);
    }
    net.start_all();
    net.converge(20 * SECOND);
    let since = net.now();
    net.run_for(30 * SECOND);
    let lost = |event: &Event| matches!(event, Event::MasterLost { .. });
    net.expect((0..4).all(|ix| net.count(ix, since, lost) == 0), "a member has lost a master that is well");
}

fn stopped(event: &Event) -> bool {
    matches!(event, Event::Stopped { .. })
}

/// The others remember the earlier runs, whose incarnations are higher. None of these runs lives.
#[test]
fn i1_nodes_that_come_back_with_slow_clocks_form_a_cluster() {
    for_each_seed(20, |seed| {
        let mut net = Net::formed(seed, (3, 0), Settings::default());
        net.run_for(10 * SECOND);
        for ix in [0, 1] {
            net.crash(ix, Crash::Machine);
            net.slow_wall_clock(ix, 3600 * SECOND);
        }
        net.run_for(seed as u32 % 5 * SECOND);
        net.start(0);
        net.start(1);
        let done = net.run_until(10 * SECOND, |net| net.agree(&[0, 1, 2]));
        net.expect(done, "there is no master");
        net.expect((0..3).all(|ix| !net.saw(ix, stopped)), "a node has stopped");
    });
}

/// The master still has the member's earlier run in its view, and perhaps its link.
#[test]
fn i1_a_quick_restart_with_a_slow_clock_is_let_in() {
    for_each_seed(40, |seed| {
        let mut net = Net::formed(seed, (3, 1), Settings::default());
        net.run_for(10 * SECOND);
        // A voter, or a member that is none.
        let ix = [2, 3][seed as usize % 2];
        net.crash(ix, if seed % 4 < 2 { Crash::Process } else { Crash::Machine });
        net.slow_wall_clock(ix, 3600 * SECOND);
        net.start(ix);
        let done = net.run_until(10 * SECOND, |net| net.agree(&[0, 1, 2, 3]));
        net.expect(done, "the node is not let in");
        net.expect(!net.saw(ix, stopped), "the node has stopped");
    });
}
