//! How a master notices that a member is silent (PROTOCOL.md, "Members and views").

use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::{ConfigError, size, time};

/// When a silent member is suspect. Removed it is after `down_after` in any case, and no lease hangs on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Detector {
    /// After `suspect_after`.
    #[default]
    Deadlines,
    /// When its silence is unlikely, by how its acknowledgements came before. Quicker where they come regularly, more
    /// patient where they do not.
    PhiAccrual(PhiAccrual),
}

/// The φ accrual failure detector of Hayashibara et al. (SRDS 2004). Start from the default:
/// `PhiAccrual { threshold: 6, ..PhiAccrual::default() }`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PhiAccrual {
    /// The φ at which a member is suspect, 1 to 12: a chance of one in 10^φ to be wrong, were intervals normally distributed.
    pub threshold: u8,
    /// How many intervals are remembered of each member, at most 1,000; 4 bytes each.
    pub window: usize,
    /// The least deviation that is reckoned with: what a busy machine or network may add at any time.
    pub min_deviation: Duration,
}

impl Default for PhiAccrual {
    fn default() -> Self {
        Self { threshold: 8, window: 100, min_deviation: Duration::from_millis(20) }
    }
}

impl PhiAccrual {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        size("threshold", self.threshold.into(), 1, 12)?;
        size("window", self.window, 2, 1_000)?;
        time("min_deviation", self.min_deviation, Duration::from_micros(1))
    }
}
