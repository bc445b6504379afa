//! What goes wrong in one round. It is drawn before anything happens, and depends on the seed alone.

use std::{fmt, time::Duration};

use formation_tests::Rng;

/// One round.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    /// Whether every voter has run for so long before that none is held as one that has just started (E1, E2).
    pub(crate) rested: bool,
    pub(crate) strikes: Vec<Strike>,
    pub(crate) weather: Option<Weather>,
    /// Whether what is left has to have a master before the faults end; otherwise they end whenever it is.
    pub(crate) awaits: bool,
    /// How long the faults last, behind that.
    pub(crate) lasts: Duration,
    /// Who is struck first, and next.
    pub(crate) order: Vec<usize>,
}

/// A fault of some machines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strike {
    pub(crate) blow: Blow,
    pub(crate) count: usize,
    /// The master is the first of them.
    pub(crate) aimed: bool,
}

/// What happens to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Blow {
    /// `kill -9`; the kernel closes the connections.
    Kill,
    /// No word of the death gets out: the connections stay open, and are dead.
    Vanish,
    /// SIGSTOP.
    Stop,
    /// SIGTERM.
    Leave,
    /// They are parted from the others.
    Part,
    /// Nothing gets through from them.
    Mute,
    /// Nothing gets through to them.
    Deafen,
    /// The last of them does not reach the first, nor is reached: all others reach both.
    Split,
    /// Their connections are reset, the new ones too.
    Reset,
    /// Their disks have no room for a vote.
    Fill,
}

/// What the network is like, for everybody.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Weather {
    Late { delay: Duration, jitter: Duration },
    Lossy { percent: usize },
    Narrow { kbit: usize },
}

const BLOWS: [Blow; 9] =
    [Blow::Kill, Blow::Vanish, Blow::Stop, Blow::Leave, Blow::Part, Blow::Mute, Blow::Deafen, Blow::Split, Blow::Reset];

impl Round {
    /// For so many machines, of which a quorum of `voters` has to be left in most rounds.
    pub(crate) fn draw(rng: &mut Rng, (machines, voters): (usize, usize)) -> Self {
        let spare = (voters - 1) / 2;
        let mut order: Vec<usize> = (0..machines).collect();
        rng.shuffle(&mut order);
        let blow = BLOWS[rng.below(BLOWS.len())];
        let count = match blow {
            Blow::Split => 2,
            // Too many.
            _ if rng.one_in(5) => 1 + rng.below(machines),
            _ => 1 + rng.below(spare),
        };
        let mut strikes = vec![Strike { blow, count, aimed: !rng.one_in(3) }];
        let left = spare.saturating_sub(count);
        if rng.one_in(4) {
            // A vote has to be kept where the master is lost.
            strikes[0] = Strike { blow: Blow::Kill, count: 1, aimed: true };
            strikes.push(Strike { blow: Blow::Fill, count: 1 + rng.below(spare), aimed: false });
        } else if left > 0 && rng.one_in(3) {
            let blow = BLOWS[rng.below(4)];
            strikes.push(Strike { blow, count: 1 + rng.below(left), aimed: false });
        }
        let weather = rng.one_in(3).then(|| Weather::draw(rng));
        let awaits = !rng.one_in(3);
        // Bad weather takes its time, and so does what nobody waits for.
        let most = Duration::from_millis(if awaits && weather.is_none() { 500 } else { 4_000 });
        Self { rested: rng.one_in(2), strikes, weather, awaits, lasts: rng.within((Duration::ZERO, most)), order }
    }
}

impl Weather {
    fn draw(rng: &mut Rng) -> Self {
        let millis = |rng: &mut Rng, most| Duration::from_millis(rng.below(most) as u64);
        match rng.below(3) {
            0 => Self::Late { delay: millis(rng, 100), jitter: millis(rng, 200) },
            1 => Self::Lossy { percent: 1 + rng.below(30) },
            _ => Self::Narrow { kbit: 32 + rng.below(480) },
        }
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, strike) in self.strikes.iter().enumerate() {
            let (and, whom) =
                (if place > 0 { " and " } else { "" }, if strike.aimed { ", the master first" } else { "" });
            write!(f, "{and}{:?} {}{whom}", strike.blow, strike.count)?;
        }
        if self.rested {
            f.write_str(", rested")?;
        }
        if let Some(weather) = self.weather {
            write!(f, "; {weather:?}")?;
        }
        Ok(())
    }
}
