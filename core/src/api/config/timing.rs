//! The times of a node, and how they have to relate (PROTOCOL.md, "Times").

use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::{ConfigError, size, time, times};

/// The times. Start from a preset: `Timing { lease, ..Timing::lan() }`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timing {
    /// From the master to every member.
    pub heartbeat_interval: Duration,
    /// How long a master may act after a quorum last confirmed it; at least 3 heartbeats.
    pub lease: Duration,
    /// A member that has not acknowledged for this long is suspect; at least 2 heartbeats.
    pub suspect_after: Duration,
    /// A member that has not acknowledged for this long is removed, and a silent connection closed.
    pub down_after: Duration,
    /// How long a voter that has just started waits for all others; at least a lease.
    pub bootstrap_wait: Duration,
    /// Between the turns of two candidates.
    pub stagger: Duration,
    /// After this long a candidate gives up: more than a round trip and a persist.
    pub election_timeout: Duration,
    /// From the opening of a connection, or the start of a dial, to an established link.
    pub handshake_timeout: Duration,
    /// The first wait before an address is dialed again; it doubles from there.
    pub dial_backoff_min: Duration,
    /// The longest wait before an address is dialed again.
    pub dial_backoff_max: Duration,
    /// By how much the rates of any two nodes' clocks may differ, in percent.
    pub max_clock_drift_percent: u8,
}

impl Default for Timing {
    fn default() -> Self {
        Self::lan()
    }
}

impl Timing {
    /// For nodes in one data centre.
    pub const fn lan() -> Self {
        Self {
            heartbeat_interval: Duration::from_millis(200),
            lease: Duration::from_secs(1),
            suspect_after: Duration::from_millis(600),
            down_after: Duration::from_secs(3),
            bootstrap_wait: Duration::from_secs(3),
            stagger: Duration::from_millis(100),
            election_timeout: Duration::from_millis(500),
            handshake_timeout: Duration::from_secs(2),
            dial_backoff_min: Duration::from_millis(20),
            dial_backoff_max: Duration::from_secs(1),
            max_clock_drift_percent: 1,
        }
    }

    /// For nodes on one machine, and for tests.
    pub const fn local() -> Self {
        Self {
            heartbeat_interval: Duration::from_millis(50),
            lease: Duration::from_millis(250),
            suspect_after: Duration::from_millis(150),
            down_after: Duration::from_millis(750),
            bootstrap_wait: Duration::from_secs(1),
            stagger: Duration::from_millis(25),
            election_timeout: Duration::from_millis(120),
            handshake_timeout: Duration::from_millis(500),
            dial_backoff_min: Duration::from_millis(5),
            dial_backoff_max: Duration::from_millis(250),
            max_clock_drift_percent: 1,
        }
    }

    /// For nodes in different regions.
    pub const fn wan() -> Self {
        Self {
            heartbeat_interval: Duration::from_secs(1),
            lease: Duration::from_secs(5),
            suspect_after: Duration::from_secs(3),
            down_after: Duration::from_secs(15),
            bootstrap_wait: Duration::from_secs(15),
            stagger: Duration::from_millis(500),
            election_timeout: Duration::from_millis(2500),
            handshake_timeout: Duration::from_secs(10),
            dial_backoff_min: Duration::from_millis(100),
            dial_backoff_max: Duration::from_secs(10),
            max_clock_drift_percent: 1,
        }
    }

    /// What of a lease is left on the fastest clock: `lease` × (1 − drift), in whole microseconds.
    pub fn safe_lease(&self) -> Duration {
        let left = self.lease.as_micros() * u128::from(100_u8.saturating_sub(self.max_clock_drift_percent)) / 100;
        Duration::from_micros(u64::try_from(left).unwrap_or(u64::MAX))
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        // Timestamps count microseconds: less is no time at all.
        let tick = Duration::from_micros(1);
        for (field, value, min) in [
            // Faster than this, a node does little else.
            ("heartbeat_interval", self.heartbeat_interval, Duration::from_millis(1)),
            ("lease", self.lease, tick),
            ("suspect_after", self.suspect_after, tick),
            ("down_after", self.down_after, tick),
            ("bootstrap_wait", self.bootstrap_wait, tick),
            ("stagger", self.stagger, tick),
            ("election_timeout", self.election_timeout, tick),
            ("handshake_timeout", self.handshake_timeout, tick),
            ("dial_backoff_min", self.dial_backoff_min, tick),
            ("dial_backoff_max", self.dial_backoff_max, tick),
        ] {
            time(field, value, min)?;
        }
        size("max_clock_drift_percent", self.max_clock_drift_percent.into(), 0, 49)?;
        let beat = ("heartbeat_interval", self.heartbeat_interval);
        let lease = ("lease", self.lease);
        let down = ("down_after", self.down_after);
        let election = ("election_timeout", self.election_timeout);
        // One lost heartbeat must neither end a lease nor make a suspect.
        times(lease, "at least 3 times", beat, lease.1 >= 3 * beat.1)?;
        times(("suspect_after", self.suspect_after), "at least 2 times", beat, self.suspect_after >= 2 * beat.1)?;
        times(down, "more than", ("suspect_after", self.suspect_after), down.1 > self.suspect_after)?;
        times(down, "at least", lease, down.1 >= lease.1)?;
        // E1: a voter that forgot its promises in a restart must not vote before they have ended.
        times(("bootstrap_wait", self.bootstrap_wait), "at least", lease, self.bootstrap_wait >= lease.1)?;
        // E2: a candidate gives up before the promise to itself ends on anybody's clock.
        let safe = ("lease x (1 - max_clock_drift_percent)", self.safe_lease());
        times(safe, "more than", election, safe.1 > election.1)?;
        // E3: a request kept for the next turn is answered while its candidate still listens.
        times(election, "more than", ("stagger", self.stagger), election.1 > self.stagger)?;
        let (min, max) = (self.dial_backoff_min, self.dial_backoff_max);
        times(("dial_backoff_max", max), "at least", ("dial_backoff_min", min), max >= min)
    }
}
