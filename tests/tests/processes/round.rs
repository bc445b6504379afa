//! The faults of one round. They are drawn before the round starts, and depend only on the seed.

use std::{fmt, time::Duration};

use formation_tests::Rng;

/// One round.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    /// Whether all voters have been running for `bootstrap_wait` before the faults, so that none is in grace (E1).
    pub(crate) grace_over: bool,
    pub(crate) faults: Vec<Fault>,
    pub(crate) condition: Option<NetworkCondition>,
    /// Whether the round waits until the untouched nodes have a master.
    pub(crate) awaits_master: bool,
    /// How long the faults last after that.
    pub(crate) lasts: Duration,
    /// The order in which machines become victims.
    pub(crate) order: Vec<usize>,
}

/// A fault that hits some machines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    pub(crate) count: usize,
    /// Whether the master is the first of them.
    pub(crate) at_master: bool,
}

/// The kind of a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FaultKind {
    /// SIGKILL: the kernel closes the connections.
    Kill,
    /// The machines die: the connections stay open, but are dead.
    Vanish,
    /// SIGSTOP.
    Stop,
    /// SIGTERM.
    Leave,
    /// The machines are cut off from all others.
    Partition,
    /// Nothing that they send arrives.
    BlockOutgoing,
    /// Nothing arrives at them.
    BlockIncoming,
    /// The first and the last of them are cut off from each other. All others reach both.
    CutTwo,
    /// Their connections are reset, including new ones.
    Reset,
    /// Their disks are full.
    Fill,
}

/// The condition of the network for all machines.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NetworkCondition {
    Delayed { delay: Duration, jitter: Duration },
    Lossy { percent: usize },
    RateLimited { kbit: usize },
}

const FAULT_KINDS: [FaultKind; 9] = [
    FaultKind::Kill,
    FaultKind::Vanish,
    FaultKind::Stop,
    FaultKind::Leave,
    FaultKind::Partition,
    FaultKind::BlockOutgoing,
    FaultKind::BlockIncoming,
    FaultKind::CutTwo,
    FaultKind::Reset,
];

impl Round {
    /// Draws a round for this many machines. In most rounds, a quorum of `voters` is left.
    pub(crate) fn draw(rng: &mut Rng, (machines, voters): (usize, usize)) -> Self {
        let spare = (voters - 1) / 2;
        let mut order: Vec<usize> = (0..machines).collect();
        rng.shuffle(&mut order);
        let kind = FAULT_KINDS[rng.below(FAULT_KINDS.len())];
        let count = match kind {
            FaultKind::CutTwo => 2,
            // Possibly too many for a quorum.
            _ if rng.one_in(5) => 1 + rng.below(machines),
            _ => 1 + rng.below(spare),
        };
        let mut faults = vec![Fault { kind, count, at_master: !rng.one_in(3) }];
        let left = spare.saturating_sub(count);
        if rng.one_in(4) {
            // The loss of the master forces the others to persist a vote.
            faults[0] = Fault { kind: FaultKind::Kill, count: 1, at_master: true };
            faults.push(Fault { kind: FaultKind::Fill, count: 1 + rng.below(spare), at_master: false });
        } else if left > 0 && rng.one_in(3) {
            let kind = FAULT_KINDS[rng.below(4)];
            faults.push(Fault { kind, count: 1 + rng.below(left), at_master: false });
        }
        let condition = rng.one_in(3).then(|| NetworkCondition::draw(rng));
        let awaits_master = !rng.one_in(3);
        // Bad network conditions and rounds without a wait last longer.
        let most = Duration::from_millis(if awaits_master && condition.is_none() { 500 } else { 4_000 });
        Self {
            grace_over: rng.one_in(2),
            faults,
            condition,
            awaits_master,
            lasts: rng.within((Duration::ZERO, most)),
            order,
        }
    }
}

impl NetworkCondition {
    fn draw(rng: &mut Rng) -> Self {
        let millis = |rng: &mut Rng, most| Duration::from_millis(rng.below(most) as u64);
        match rng.below(3) {
            0 => Self::Delayed { delay: millis(rng, 100), jitter: millis(rng, 200) },
            1 => Self::Lossy { percent: 1 + rng.below(30) },
            _ => Self::RateLimited { kbit: 32 + rng.below(480) },
        }
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, fault) in self.faults.iter().enumerate() {
            let (and, target) =
                (if place > 0 { " and " } else { "" }, if fault.at_master { ", the master first" } else { "" });
            write!(f, "{and}{:?} {}{target}", fault.kind, fault.count)?;
        }
        if self.grace_over {
            f.write_str(", after the grace period")?;
        }
        if let Some(condition) = self.condition {
            write!(f, "; {condition:?}")?;
        }
        Ok(())
    }
}
