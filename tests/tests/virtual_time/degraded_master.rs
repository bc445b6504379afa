//! A degraded master (V4): a master that has paused, or whose messages are late, must not mark other nodes as down.

use std::time::Duration;

use formation_core::{
    Change, Config, Detector, Event, LossReason, MemberState, PhiAccrual, RemovalReason, Timestamp, Timing,
};
use formation_tests::{Cut, Net, Settings, for_each_seed};

const SECOND: Duration = Duration::from_secs(1);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The times of a LAN, all different, and times with a lease as long as `down_after`.
fn timings() -> [Timing; 2] {
    let lan = Timing::lan().with_bootstrap_wait(4 * SECOND);
    let down_after = lan.down_after;
    [lan.clone(), lan.with_lease(down_after)]
}

/// Durations just before, at, and just after each timeout.
fn around_each_timeout(times: &Timing) -> Vec<Duration> {
    let timeouts = [times.heartbeat_interval, times.suspect_after, times.lease, times.down_after, times.bootstrap_wait];
    timeouts.into_iter().flat_map(|timeout| [timeout - ms(1), timeout, timeout + ms(1)]).collect()
}

/// Three voters and two other nodes that have been members for a long time.
fn formed(seed: u64, times: &Timing) -> Net {
    let mut net = Net::new(seed, Settings::default());
    for ix in 0..5 {
        net.add(Net::builder(ix, 3).timing(times.clone()).build().expect("a valid configuration"));
    }
    net.start_all();
    net.converge(2 * SECOND);
    let more = net.rng.within((5 * SECOND, 5 * SECOND + times.heartbeat_interval));
    net.run_for(more);
    net
}

/// Checks that no node shows another as down, except the degraded node itself.
fn check_nobody_is_down(net: &Net, since: Duration, degraded: usize, what: &str) {
    let degraded = net.node(degraded).id;
    let down = |event: &Event| match event {
        Event::ViewChanged { changes, .. } => changes.iter().any(|change| match change {
            Change::Remove { id, reason: RemovalReason::Down } => *id != degraded,
            _ => false,
        }),
        _ => false,
    };
    let by = (0..net.len()).find(|ix| net.count(*ix, since, down) > 0);
    net.expect(by.is_none(), &format!("{what}: node {by:?} shows a healthy node as down"));
}

/// A member that was silent before the pause has sent something since. These bytes wait in the queue of the paused
/// master.
#[test]
fn v4_a_master_that_paused_marks_nobody_as_down() {
    let (mut kept, mut lost, mut would_be_down) = (0, 0, 0);
    for_each_seed(4, |seed| {
        for times in timings() {
            for pause in around_each_timeout(&times) {
                for silent_before in [false, true] {
                    let mut net = formed(seed, &times);
                    let before = net.masters()[0];
                    // The master does not notice a shorter pause, and rightly counts the silence through it.
                    let silent_before = silent_before && pause > times.suspect_after;
                    let silence = times.down_after - times.heartbeat_interval - ms(50);
                    if silent_before {
                        net.cut(before.0, 4, Cut::Hold);
                        net.run_for(silence);
                    }
                    let since = net.now();
                    net.pause(before.0, pause);
                    net.run_for(pause / 2);
                    net.heal_all();
                    net.run_for(pause - pause / 2 + ms(1));
                    if net.masters() == [before] {
                        kept += 1;
                        would_be_down += u32::from(silent_before && silence + pause > times.down_after);
                    } else {
                        lost += 1;
                    }
                    net.converge(20 * SECOND);
                    net.run_for(5 * SECOND);
                    check_nobody_is_down(&net, since, before.0, &format!("paused for {pause:?}, {silent_before}"));
                }
            }
        }
    });
    println!("{kept} kept their lease, {lost} lost it, {would_be_down} would have marked a node as down");
    assert!(kept > 0 && lost > 0 && would_be_down > 0, "a case never happened: {kept}, {lost}, {would_be_down}");
}

#[test]
fn v4_a_master_with_late_messages_marks_nobody_as_down() {
    let (mut kept, mut expired, mut suspected) = (0, 0, 0);
    for_each_seed(4, |seed| {
        for times in timings() {
            for late in around_each_timeout(&times).into_iter().chain([times.lease / 2]) {
                let mut net = formed(seed, &times);
                let before = net.masters()[0];
                let since = net.now();
                net.slow_down(before.0, late);
                net.run_for(15 * SECOND);
                check_nobody_is_down(&net, since, before.0, &format!("late by {late:?}"));
                kept += u32::from(net.masters() == [before]);
                let lease = |event: &Event| matches!(event, Event::MasterLost { reason: LossReason::LeaseExpired, .. });
                expired += net.count(before.0, since, lease);
                let suspect = |event: &Event| match event {
                    Event::ViewChanged { changes, .. } => changes
                        .iter()
                        .any(|change| matches!(change, Change::Upsert(m) if m.state == MemberState::Suspect)),
                    _ => false,
                };
                suspected += net.count(before.0, since, suspect);
                net.heal_all();
                net.converge(20 * SECOND);
                check_nobody_is_down(&net, since, before.0, &format!("late by {late:?}, and healthy again"));
            }
        }
    });
    println!("{kept} kept their lease, {expired} leases expired, {suspected} members were suspected");
    assert!(kept > 0 && expired > 0 && suspected > 0, "a case never happened: {kept}, {expired}, {suspected}");
}

/// The time on the clock of the first node.
fn node_time(net: &Net) -> Timestamp {
    net.host(0).clock.local(u64::try_from(net.now().as_micros()).expect("a short run"))
}

/// The lease of the only voter needs no confirmation, so the voter stays master through many pauses.
#[test]
fn v4_an_only_voter_that_pauses_stays_master() {
    let single = Config::single("test", "n0", "h0:1").build().expect("a valid configuration");
    assert_eq!(single, Net::config(0, 1), "single() differs from a seed list with one address");
    let (mut pauses, mut unlinked) = (0, 0);
    for_each_seed(24, |seed| {
        for times in timings() {
            let mut net = Net::new(seed, Settings::default());
            for ix in 0..3 {
                let phi = Detector::PhiAccrual(PhiAccrual::default());
                let detector = if seed % 2 == 0 { Detector::Deadlines } else { phi };
                let builder = Net::builder(ix, 1).timing(times.clone()).detector(detector);
                let builder = if seed % 3 == 0 { builder.solo_after(5 * SECOND) } else { builder };
                net.add(builder.build().expect("a valid configuration"));
            }
            net.start_all();
            net.converge(2 * SECOND);
            net.run_for(5 * SECOND);
            let (before, since) = (net.masters(), net.now());
            let lengths = around_each_timeout(&times);
            for _ in 0..40 {
                let pause = lengths[net.rng.below(lengths.len())];
                net.pause(0, pause);
                let longest = [ms(1), times.heartbeat_interval, times.down_after][net.rng.below(3)];
                let awake = net.rng.within((Duration::ZERO, longest));
                net.run_for(pause + awake);
                pauses += 1;
                let leads = net.host(0).formation.as_ref().and_then(|node| node.leadership(node_time(&net)));
                net.expect(net.masters() == before && leads.is_some(), "the voter is not master all the time");
            }
            net.converge(20 * SECOND);
            net.expect(net.masters() == before, "the term has changed");
            let lost = |event: &Event| matches!(event, Event::MasterLost { .. });
            net.expect(net.count(0, since, lost) == 0, "the voter has lost its mastership");
            check_nobody_is_down(&net, since, 0, "paused repeatedly");
            unlinked += net.count(0, since, |event| matches!(event, Event::Unlinked { .. }));
        }
    });
    println!("{pauses} pauses, {unlinked} links lost");
    assert!(unlinked > 0, "no member ever noticed a pause");
}
