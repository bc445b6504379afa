//! The time, which the embedder reports to the core.

use core::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// A moment on the embedder's monotonic clock, in microseconds since an arbitrary start.
///
/// The clock has to keep running while the machine is suspended (`CLOCK_BOOTTIME` on Linux). Otherwise a lease could be
/// used after its end. Sums and differences saturate, and never panic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The start of the clock.
    pub const ZERO: Self = Self(0);

    /// A timestamp from microseconds.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// The microseconds since the start of the clock.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to `self`. It is zero if `earlier` is later than `self`.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// The time since the start of the clock, for example `12.5s`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.since(Self::ZERO))
    }
}

impl core::ops::Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_micros()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_instead_of_panicking() {
        let late = Timestamp::from_micros(u64::MAX);
        assert_eq!(late + Duration::MAX, late);
        assert_eq!(Timestamp::ZERO.since(late), Duration::ZERO);
        assert_eq!((Timestamp::ZERO + Duration::from_millis(3)).as_micros(), 3_000);
    }
}
