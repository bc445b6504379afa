//! The faults of one run, drawn from its seed.

use std::{fmt, time::Duration};

use super::engine::{Crash, Cut, Fault, Rng, Settings};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A run as plain data: how fast everything is, and when what fails.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) settings: Settings,
    /// How long a request to the outside may take, in each direction.
    pub(super) outside_slowest: Duration,
    pub(super) starts: Vec<Duration>,
    /// In the order of their times.
    pub(super) faults: Vec<(Duration, Fault)>,
}

impl Plan {
    /// The plan of a seed.
    pub(super) fn draw(seed: u64, nodes: usize, most_faults: usize, lasts: Duration) -> Self {
        let mut rng = Rng::new(!seed);
        let settings = draw_settings(&mut rng);
        let outside_slowest = [ms(2), ms(100), ms(1_000), ms(3_000)][rng.below(4)];
        let spread = [Duration::ZERO, ms(500), ms(3_000)][rng.below(3)];
        let starts = (0..nodes).map(|_| rng.within((Duration::ZERO, spread))).collect();
        let count = rng.below(most_faults + 1);
        let mut faults: Vec<_> =
            (0..count).map(|_| (rng.within((Duration::ZERO, lasts)), draw_fault(&mut rng, nodes))).collect();
        faults.sort_by_key(|(at, _)| *at);
        Self { seed, settings, outside_slowest, starts, faults }
    }

    /// The same plan with these of its faults.
    pub(super) fn only(&self, kept: &[usize]) -> Self {
        let faults = kept.iter().filter_map(|ix| self.faults.get(*ix).copied()).collect();
        Self { faults, ..self.clone() }
    }
}

/// From a calm network to one in which a message takes a good part of a heartbeat interval.
fn draw_settings(rng: &mut Rng) -> Settings {
    let (latency, jitter, persist, late) =
        [(ms(1), ms(0), ms(1), ms(0)), (ms(5), ms(5), ms(10), ms(5)), (ms(30), ms(30), ms(60), ms(40))][rng.below(3)];
    let upto = |most| (Duration::ZERO, most);
    Settings {
        latency: upto(latency),
        jitter: upto(jitter),
        persist: upto(persist),
        tick_late: upto(late),
        ..Settings::default()
    }
}

/// A random fault. The master is hit as often as all others together.
fn draw_fault(rng: &mut Rng, nodes: usize) -> Fault {
    let ix = rng.below(nodes);
    let other = if nodes > 1 { (ix + 1 + rng.below(nodes - 1)) % nodes } else { ix };
    let cut = if rng.one_in(2) { Cut::Hold } else { Cut::Lose };
    let how = if rng.one_in(2) { Crash::Process } else { Crash::Machine };
    // Shorter and longer than a lease.
    let time = Duration::from_micros((300_000 << rng.below(4)) + rng.draw() % 300_000);
    match rng.below(20) {
        0 => Fault::Crash { ix, how, forget: false },
        1 | 2 => Fault::CrashMaster(how),
        3..=5 => Fault::Start(ix),
        6 => Fault::Cut(ix, other, cut),
        7 => Fault::CutOneWay(ix, other, cut),
        8 => Fault::Isolate(ix, cut),
        9 | 10 => Fault::IsolateMaster(cut),
        11 => Fault::Heal,
        12 => Fault::Pause(ix, time),
        13..=15 => Fault::PauseMaster(time),
        16 => Fault::Reset(ix, other),
        17 => Fault::SlowMaster(time / 4),
        _ => Fault::ResignMaster,
    }
}

/// A fault in words, with the names of the nodes.
pub(super) struct Words(pub(super) Fault);

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |ix: usize| super::id(ix);
        let loses = |how: Cut| if how == Cut::Lose { "data is lost" } else { "data waits" };
        let dies = |how: Crash| if how == Crash::Machine { "with its machine" } else { "as a process" };
        match self.0 {
            Fault::Crash { ix, how, .. } => write!(f, "{} dies {}", name(ix), dies(how)),
            Fault::CrashMaster(how) => write!(f, "the master dies {}", dies(how)),
            Fault::Start(ix) => write!(f, "{} starts again, if it is down", name(ix)),
            Fault::Cut(a, b, how) => {
                write!(f, "{} and {} are cut off from each other: {}", name(a), name(b), loses(how))
            }
            Fault::CutOneWay(a, b, how) => write!(f, "{} does not reach {}: {}", name(a), name(b), loses(how)),
            Fault::Isolate(ix, how) => write!(f, "{} is cut off from all others: {}", name(ix), loses(how)),
            Fault::IsolateMaster(how) => write!(f, "the master is cut off from all others: {}", loses(how)),
            Fault::Heal => write!(f, "all cuts end"),
            Fault::Pause(ix, time) => write!(f, "{} pauses for {time:?}", name(ix)),
            Fault::PauseMaster(time) => write!(f, "the master pauses for {time:?}"),
            Fault::Reset(a, b) => write!(f, "the connections between {} and {} are reset", name(a), name(b)),
            Fault::SlowMaster(by) => write!(f, "what the master sends arrives {by:?} later"),
            Fault::ResignMaster => write!(f, "the master resigns"),
            other @ (Fault::Split(..)
            | Fault::HalfOpen(..)
            | Fault::StopReading(..)
            | Fault::ResumeReading
            | Fault::Disks(_)
            | Fault::DiskFails(_)
            | Fault::Leave(_)
            | Fault::LeaveMaster) => write!(f, "{other:?}"),
        }
    }
}
