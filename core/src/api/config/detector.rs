//! How a master decides that a member is suspect (PROTOCOL.md, V5).

use core::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    error::{ConfigError, size, time},
    setters::setters,
};

/// How a master decides that a member is suspect. With every detector, a member is removed after
/// [`down_after`](super::Timing::down_after), and suspect no later than that. Leases do not depend on the detector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Detector {
    /// A member becomes suspect after [`suspect_after`](super::Timing::suspect_after) without an acknowledgement.
    #[default]
    Deadlines,
    /// A member becomes suspect when its silence is unlikely, given the intervals between its earlier acknowledgements.
    /// This is faster for regular acknowledgements, and more patient for irregular ones.
    PhiAccrual(PhiAccrual),
}

/// The settings of the φ accrual failure detector, by Hayashibara, Défago, Yared and Katayama (SRDS 2004). Start from the
/// default, and set what differs.
///
/// ```
/// use core::time::Duration;
///
/// use formation_core::{Detector, PhiAccrual};
///
/// let phi = PhiAccrual::new().with_threshold(6).with_window(200).with_min_deviation(Duration::from_millis(50));
/// let detector = Detector::PhiAccrual(phi);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct PhiAccrual {
    /// The φ at which a member becomes suspect, from 1 to 12. With normally distributed intervals, the probability of a
    /// false suspicion is 1 in 10^φ.
    pub threshold: u8,
    /// How many intervals are remembered for each member, from 2 to 1,000. Each takes 4 bytes.
    pub window: usize,
    /// The smallest standard deviation that is assumed. A busy machine or network can cause such a delay at any time.
    pub min_deviation: Duration,
}

setters! {
    PhiAccrual {
        with_threshold: threshold: u8,
        with_window: window: usize,
        with_min_deviation: min_deviation: Duration,
    }
}

impl Default for PhiAccrual {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for Detector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deadlines => f.pad("deadlines"),
            Self::PhiAccrual(PhiAccrual { threshold, .. }) => write!(f, "phi accrual, threshold {threshold}"),
        }
    }
}

impl Detector {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        match self {
            Self::Deadlines => Ok(()),
            Self::PhiAccrual(phi) => phi.check(),
        }
    }
}

impl PhiAccrual {
    /// The settings for an ordinary network. They are the default.
    pub const fn new() -> Self {
        Self { threshold: 8, window: 100, min_deviation: Duration::from_millis(20) }
    }

    fn check(&self) -> Result<(), ConfigError> {
        size("threshold", self.threshold.into(), 1, 12)?;
        size("window", self.window, 2, 1_000)?;
        time("min_deviation", self.min_deviation, Duration::from_micros(1))
    }
}
