//! Voters that a cluster keeps by itself (PROTOCOL.md, E10).

use core::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    MAX_VOTERS,
    error::{ConfigError, size, time_within},
    setters::setters,
    timing::Timing,
};

/// The longest wait before a voter is replaced.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// How many voters a cluster keeps by itself (PROTOCOL.md, E10): the master makes members voters when there are fewer, and replaces a voter
/// that has been away for long. Give all voters the same, because each may become the master. A member becomes a voter only if it stores
/// its votes ([`state_dir`](super::ConfigBuilder::state_dir)).
///
/// **Any member may become a voter.** Use it only where each node that has the key or a certificate may be trusted with a vote. A member says
/// itself how long it has been running and in which zone it is, so hostile ones can be the first to be chosen, until they are a quorum.
///
/// With fewer members than that, the cluster keeps an odd number of voters, because an even number survives no more than the odd one
/// below it; only if a member is lost during a change, it may stay an even one. A living voter is never removed. Voters are chosen from zones that have the fewest of them, if the members have the
/// [tag](crate::Tags) `zone`, and of these the one that has been running for longest.
///
/// ```
/// use core::time::Duration;
///
/// use formation_core::{Autopilot, Config, Tags};
///
/// let autopilot = Autopilot::keep(3).with_replace_after(Duration::from_secs(60));
/// let seeds = ["10.0.0.1:7000", "10.0.0.2:7000", "10.0.0.3:7000"];
/// let config = Config::builder("orders", "node-a", seeds[0])
///     .seeds(seeds)
///     .state_dir("/var/lib/orders")
///     .metadata(Tags::new([("zone", "eu-1")])?)
///     .autopilot(autopilot)
///     .build()?;
/// assert_eq!(config.autopilot(), Some(&autopilot));
/// assert_eq!(autopilot.to_string(), "keeps 3 voters, replaces one that is away for 60s");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Autopilot {
    /// How many voters the cluster keeps, from 1 to 64.
    pub voters: usize,
    /// How long a voter has been away when it is replaced: at least [`down_after`](Timing::down_after), at most 30 days. The default is 5
    /// minutes. A change that waits for a member is given up after this time, too, or after 10 × `down_after` if that is longer. Each master
    /// begins to count anew.
    #[serde(default = "replace_after")]
    pub replace_after: Duration,
}

fn replace_after() -> Duration {
    Autopilot::keep(1).replace_after
}

setters! {
    Autopilot {
        with_voters: voters: usize,
        with_replace_after: replace_after: Duration,
    }
}

impl Autopilot {
    /// Keeps so many voters, and replaces one that has been away for 5 minutes.
    pub const fn keep(voters: usize) -> Self {
        Self { voters, replace_after: Duration::from_secs(300) }
    }

    pub(super) fn check(&self, timing: &Timing, solo_after: Option<Duration>) -> Result<(), ConfigError> {
        size("autopilot.voters", self.voters, 1, MAX_VOTERS)?;
        if solo_after.is_some() {
            return Err(ConfigError::AutopilotOfSoloMasters);
        }
        time_within("autopilot.replace_after", self.replace_after, (timing.down_after, LONGEST))
    }
}

impl fmt::Display for Autopilot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "keeps {} voters, replaces one that is away for {:?}", self.voters, self.replace_after)
    }
}
