//! Compares the two failure detectors: how often each one suspects a living member, and how soon it suspects a dead
//! one. The printed table is in `core/PROTOCOL.md`.

use std::time::Duration;

use formation_core::{Change, Detector, Event, MemberState, PhiAccrual};
use formation_tests::{Crash, Net, NetSettings};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The time without a failure.
const HEALTHY: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Outcome {
    false_suspicions: usize,
    /// The times from the death of a member to its suspicion.
    detection: Vec<Duration>,
}

impl Outcome {
    fn median(&mut self) -> Duration {
        self.detection.sort_unstable();
        self.detection[self.detection.len() / 2]
    }
}

fn suspects(event: &Event) -> bool {
    let suspect = |change: &Change| matches!(change, Change::Upsert(member) if member.state == MemberState::Suspect);
    matches!(event, Event::ViewChanged { changes, .. } if changes.iter().any(suspect))
}

/// Runs three voters over links with this jitter in each direction.
fn measure(detector: &Detector, jitter: Duration) -> Outcome {
    let mut outcome = Outcome::default();
    for seed in 0..30 {
        let mut net = Net::new(seed, NetSettings { jitter: (Duration::ZERO, jitter), ..NetSettings::default() });
        for ix in 0..3 {
            net.add(Net::builder(ix, 3).detector(detector.clone()).build().expect("a valid configuration"));
        }
        net.start_all();
        net.run_until(Duration::from_secs(20), |net| net.agree(&[0, 1, 2]));
        // The first lease runs from the votes. Over these links, it may be over before a heartbeat is confirmed.
        net.run_for(Duration::from_secs(2));
        net.run_until(Duration::from_secs(20), |net| net.agree(&[0, 1, 2]));
        let Some(master) = net.master() else { net.fail("no master") };
        let since = net.now();
        net.run_for(HEALTHY);
        net.expect(net.master() == Some(master), "the master changed, so the results cannot be compared");
        outcome.false_suspicions += net.count(master, since, suspects);
        let died = net.now();
        let victim = (master + 1) % 3;
        net.crash(victim, Crash::Machine);
        net.run_until(Duration::from_secs(5), |net| net.count(master, died, suspects) > 0);
        outcome.detection.push(net.now() - died);
    }
    outcome
}

#[test]
fn v5_phi_is_faster_on_even_links_and_calmer_on_uneven_ones() {
    let phi = Detector::PhiAccrual(PhiAccrual::default());
    println!("| jitter each way | false suspicions, deadlines | phi | detection, deadlines | phi |");
    let [even, _, uneven] = [ms(1), ms(100), ms(300)].map(|jitter| {
        let [mut deadlines, mut accrual] = [&Detector::Deadlines, &phi].map(|detector| measure(detector, jitter));
        let both = [&mut deadlines, &mut accrual].map(|outcome| (outcome.false_suspicions, outcome.median()));
        println!("| {jitter:?} | {} | {} | {:?} | {:?} |", both[0].0, both[1].0, both[0].1, both[1].1);
        both
    });
    assert_eq!((even[0].0, even[1].0), (0, 0), "no member is suspected on even links");
    assert!(even[1].1 < even[0].1 * 2 / 3, "{even:?}");
    assert!(uneven[0].0 > 0 && uneven[1].0 * 4 < uneven[0].0, "{uneven:?}");
}
