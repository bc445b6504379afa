//! Preferred masters (PROTOCOL.md, E2 and L8): a priority comes before the id.

use std::time::Duration;

use formation_core::{Event, Phase, Timing};
use formation_tests::{Crash, Net, NetSettings, NodeIx, Settings, for_each_seed};

const SECOND: Duration = Duration::from_secs(1);
/// 10 × `down_after`.
const STABLE: Duration = Duration::from_secs(10);
/// 100 × `down_after`.
const AGAIN: Duration = Duration::from_secs(100);

/// Few heartbeats in a `down_after`, because the tests take many of these.
fn timing() -> Timing {
    let (heartbeat_interval, suspect_after) = (Duration::from_millis(330), Duration::from_millis(700));
    Timing::lan().with_heartbeat_interval(heartbeat_interval).with_suspect_after(suspect_after).with_down_after(SECOND)
}

/// Voters with these priorities, of which none is started.
fn voters(seed: u64, priorities: &[u8], settings: impl Into<Settings>) -> Net {
    let mut net = Net::new(seed, settings);
    for (ix, priority) in priorities.iter().enumerate() {
        net.add(
            Net::builder(ix, priorities.len())
                .timing(timing())
                .priority(*priority)
                .build()
                .expect("a valid configuration"),
        );
    }
    net
}

/// The same, when they have formed a cluster.
fn formed(seed: u64, priorities: &[u8]) -> Net {
    let mut net = voters(seed, priorities, Settings::default());
    net.start_all();
    net.converge(2 * SECOND);
    net
}

fn reports(net: &Net) -> usize {
    (0..net.len()).map(|ix| net.count(ix, Duration::ZERO, |event| matches!(event, Event::BetterMaster { .. }))).sum()
}

/// How many masterships of these nodes have ended since then.
fn ended(net: &Net, nodes: &[NodeIx], since: Duration) -> usize {
    let own = |ix: NodeIx| move |event: &Event| matches!(event, Event::MasterLost { master, .. } if master.id.as_str() == format!("n{ix}"));
    nodes.iter().map(|ix| net.count(*ix, since, own(*ix))).sum()
}

#[test]
fn g6_the_preferred_voter_leads_when_all_start_together() {
    for_each_seed(20, |seed| {
        let net = formed(seed, &[0, 3, 9, 3, 9]);
        assert_eq!(net.master(), Some(2), "the highest priority, and of these the lowest id");
        assert_eq!(reports(&net), 0);
    });
}

#[test]
fn e2_the_next_master_is_the_next_by_priority() {
    for_each_seed(10, |seed| {
        let mut net = formed(seed, &[0, 1, 2]);
        net.run_for(4 * SECOND);
        net.crash(2, Crash::Process);
        net.run_for(4 * SECOND);
        assert_eq!(net.master(), Some(1));
    });
}

#[test]
fn l8_a_restarted_preferred_voter_leads_again_once() {
    for_each_seed(10, |seed| {
        let mut net = formed(seed, &[0, 0, 1]);
        net.run_for(4 * SECOND);
        net.crash(2, Crash::Process);
        net.run_for(4 * SECOND);
        assert_eq!(net.master(), Some(0));
        let restarted = net.now();
        net.start(2);
        net.run_for(STABLE - SECOND);
        assert_eq!((net.master(), reports(&net)), (Some(0), 0), "it is not stable yet");
        net.run_for(3 * SECOND);
        assert_eq!((net.master(), reports(&net)), (Some(2), 1), "it leads again");
        net.run_for(4 * AGAIN);
        assert_eq!((net.master(), reports(&net), ended(&net, &[0, 1, 2], restarted)), (Some(2), 1, 1), "exactly once");
        assert!(net.converged());
    });
}

/// The preferred voter is the only one that is restarted.
#[test]
fn l8_a_voter_that_restarts_often_costs_no_mastership() {
    for_each_seed(5, |seed| {
        let mut net = formed(seed, &[0, 0, 1]);
        net.crash(2, Crash::Process);
        net.run_for(8 * SECOND);
        let (master, since) = (net.master().expect("there is a master"), net.now());
        for _ in 0..60 {
            net.start(2);
            net.run_for(8 * SECOND);
            net.crash(2, Crash::Process);
            net.run_for(SECOND);
        }
        assert_eq!((net.master(), reports(&net), ended(&net, &[0, 1], since)), (Some(master), 0, 0));
    });
}

/// It lives just long enough to get the mastership, and loses it at once.
#[test]
fn l8_a_voter_that_loses_the_mastership_gets_it_rarely() {
    for_each_seed(3, |seed| {
        let mut net = formed(seed, &[0, 0, 1]);
        net.crash(2, Crash::Process);
        net.run_for(8 * SECOND);
        let since = net.now();
        while net.now() < since + 32 * AGAIN {
            net.start(2);
            net.run_for(STABLE + 4 * SECOND);
            net.crash(2, Crash::Process);
            net.run_for(4 * SECOND);
        }
        // The waits are 1, 2, 4, 8 and 16 times the shortest one.
        assert!((5..=6).contains(&reports(&net)), "{}", reports(&net));
        assert_eq!(ended(&net, &[0, 1], since), reports(&net));
    });
}

#[test]
fn l8_a_voter_that_loses_its_links_costs_no_mastership() {
    for_each_seed(5, |seed| {
        let mut net = formed(seed, &[0, 0, 1]);
        net.crash(2, Crash::Process);
        net.run_for(8 * SECOND);
        net.start(2);
        let (master, since) = (net.master().expect("there is a master"), net.now());
        for _ in 0..60 {
            net.run_for(8 * SECOND);
            net.reset(master, 2);
        }
        assert_eq!((net.master(), reports(&net), ended(&net, &[0, 1], since)), (Some(master), 0, 0));
    });
}

/// Its storage fails with the vote for itself, so nothing shows that before it is a candidate.
#[test]
fn l8_a_voter_with_a_bad_disk_costs_a_mastership_once() {
    for_each_seed(5, |seed| {
        let mut net = formed(seed, &[0, 0, 1]);
        net.run_for(4 * SECOND);
        net.crash(2, Crash::Process);
        net.run_for(4 * SECOND);
        net.start(2);
        net.run_for(STABLE - SECOND);
        let since = net.now();
        net.fail_disk(2);
        net.run_for(20 * AGAIN);
        assert_eq!((reports(&net), net.status(2).phase), (1, Phase::Follower));
        assert_eq!(ended(&net, &[0, 1], since), 1);
        assert!(matches!(net.master(), Some(0 | 1)));
    });
}

/// The embedder of the master does not hand over.
#[test]
fn l8_a_better_master_is_reported_more_and_more_rarely() {
    let mut net = voters(1, &[0, 0, 1], NetSettings { hands_over: false, ..NetSettings::calm() });
    for ix in [0, 1] {
        net.start(ix);
    }
    net.run_for(8 * SECOND);
    net.start(2);
    net.run_for(193 * AGAIN);
    let master = net.master().expect("there is a master");
    let reported =
        |(_, event): &&(u64, Event)| matches!(event, Event::BetterMaster { node, .. } if node.id.as_str() == "n2");
    let times: Vec<u64> = net.host(master).events.iter().filter(reported).map(|(at, _)| *at).collect();
    let waits: Vec<u64> = times.windows(2).map(|pair| (pair[1] - pair[0]) / 1_000_000 / AGAIN.as_secs()).collect();
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 64]);
    assert_eq!(ended(&net, &[0, 1, 2], Duration::ZERO), 0, "nobody loses a mastership by a report");
}

#[test]
fn l8_equal_priorities_never_change_a_master() {
    for_each_seed(5, |seed| {
        let mut net = formed(seed, &[5, 5, 5]);
        assert_eq!(net.master(), Some(0), "G6");
        net.run_for(4 * SECOND);
        net.crash(0, Crash::Process);
        net.run_for(4 * SECOND);
        net.start(0);
        let since = net.now();
        net.run_for(10 * AGAIN);
        assert_eq!((net.master(), reports(&net), ended(&net, &[1, 2], since)), (Some(1), 0, 0));
    });
}
