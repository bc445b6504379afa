//! The times of a node, and how they have to relate (PROTOCOL.md, section 7).

use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    error::{ConfigError, size, time, times},
    setters::setters,
};

/// The times of a node (PROTOCOL.md, section 7). Start from a preset, and set what differs. No time is longer than an hour.
///
/// ```
/// use core::time::Duration;
///
/// use formation_core::{Config, Timing};
///
/// const PATIENT: Timing = Timing::lan().with_lease(Duration::from_secs(2)).with_down_after(Duration::from_secs(10));
///
/// let seeds = ["eu.example:7000", "us.example:7000", "asia.example:7000"];
/// let far = Config::builder("orders", "node-a", seeds[0]).seeds(seeds).wan().build()?;
/// assert!(far.timing().safe_lease() < Timing::wan().lease, "the clocks may differ");
/// // In a test, on one machine.
/// let near = Config::single("test", "node-a", "127.0.0.1:7000").local().build()?;
/// assert_eq!(near.timing(), &Timing::local());
/// // Where two masters are better than none: without a quorum for so long, a voter goes on alone.
/// let cache = Config::builder("cache", "node-a", seeds[0]).seeds(seeds).lan().solo_after(Timing::lan().bootstrap_wait).build()?;
/// assert!(cache.solo_after().is_some());
/// let patient = Config::builder("orders", "node-a", seeds[0]).seeds(seeds).timing(PATIENT).build()?;
/// assert_eq!(patient.timing().lease, Duration::from_secs(2));
/// # Ok::<(), formation_core::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Timing {
    /// The time between two heartbeats of the master to every member; at least 1 ms.
    pub heartbeat_interval: Duration,
    /// How long a master may act after a quorum last confirmed it (E6); at least 3 heartbeats.
    pub lease: Duration,
    /// The time without an acknowledgement until a member is suspect (V3); at least 2 heartbeats.
    pub suspect_after: Duration,
    /// The time without an acknowledgement until a member is removed (V3). A link on which nothing arrives for this time is
    /// closed (D5). It is more than `suspect_after`, and at least `lease`.
    pub down_after: Duration,
    /// How long a voter that has just started waits for all others (E1); at least `lease`.
    pub bootstrap_wait: Duration,
    /// The time between the turns of two candidates (E2), and between the dials of a joining node (D1).
    pub stagger: Duration,
    /// The time until a candidate gives up (E2). It should be longer than a round trip and a persist together. It has to be
    /// longer than `stagger`, and shorter than the [`safe_lease`](Self::safe_lease).
    pub election_timeout: Duration,
    /// The time from the opening of a connection, or from the start of a dial, to an established link (D1). A joining node
    /// waits half of it for a seed that answers, before it dials the next.
    pub handshake_timeout: Duration,
    /// The first wait before an address is dialed again (D1). It doubles with each failure, and has a jitter of ± 50 %.
    pub dial_backoff_min: Duration,
    /// The longest wait before an address is dialed again; at least `dial_backoff_min`.
    pub dial_backoff_max: Duration,
    /// How much the rates of two nodes' clocks may differ, in percent; at most 49. G2 depends on it.
    pub max_clock_drift_percent: u8,
}

setters! {
    Timing {
        with_heartbeat_interval: heartbeat_interval: Duration,
        with_lease: lease: Duration,
        with_suspect_after: suspect_after: Duration,
        with_down_after: down_after: Duration,
        with_bootstrap_wait: bootstrap_wait: Duration,
        with_stagger: stagger: Duration,
        with_election_timeout: election_timeout: Duration,
        with_handshake_timeout: handshake_timeout: Duration,
        with_dial_backoff_min: dial_backoff_min: Duration,
        with_dial_backoff_max: dial_backoff_max: Duration,
        with_max_clock_drift_percent: max_clock_drift_percent: u8,
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self::lan()
    }
}

impl Timing {
    /// For nodes in one data centre: a lease of 1 s. This is the default.
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

    /// For nodes on one machine, and for tests: a lease of 250 ms.
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

    /// For nodes in different regions: a lease of 5 s.
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

    /// The lease as the fastest clock measures it: `lease` × (1 − drift), in whole microseconds. A master acts for this
    /// time (E6).
    pub fn safe_lease(&self) -> Duration {
        let left = self.lease.as_micros() * u128::from(100_u8.saturating_sub(self.max_clock_drift_percent)) / 100;
        Duration::from_micros(u64::try_from(left).unwrap_or(u64::MAX))
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        // Timestamps count microseconds, so nothing shorter exists.
        let tick = Duration::from_micros(1);
        for (field, value, min) in [
            // With shorter intervals, a node would do little else.
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
        let heartbeat = ("heartbeat_interval", self.heartbeat_interval);
        let lease = ("lease", self.lease);
        let down = ("down_after", self.down_after);
        let election = ("election_timeout", self.election_timeout);
        // One lost heartbeat must neither end a lease nor make a member suspect.
        times(lease, "at least 3 times", heartbeat, lease.1 >= 3 * heartbeat.1)?;
        times(
            ("suspect_after", self.suspect_after),
            "at least 2 times",
            heartbeat,
            self.suspect_after >= 2 * heartbeat.1,
        )?;
        times(down, "more than", ("suspect_after", self.suspect_after), down.1 > self.suspect_after)?;
        times(down, "at least", lease, down.1 >= lease.1)?;
        // E1: a restarted voter has forgotten its promises, and must not vote before they have ended.
        times(("bootstrap_wait", self.bootstrap_wait), "at least", lease, self.bootstrap_wait >= lease.1)?;
        // E2: a candidate gives up before its promise to itself ends, by the clock of any node.
        let (left, election_timeout) = (self.safe_lease(), election.1);
        if left <= election_timeout {
            return Err(ConfigError::LeaseTooShort { left, election_timeout });
        }
        // E3: a deferred request is answered before its candidate gives up.
        times(election, "more than", ("stagger", self.stagger), election.1 > self.stagger)?;
        let (min, max) = (self.dial_backoff_min, self.dial_backoff_max);
        times(("dial_backoff_max", max), "at least", ("dial_backoff_min", min), max >= min)
    }
}
