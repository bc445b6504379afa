//! How a simulated network and its hosts behave.

use std::time::Duration;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Ranges are drawn from anew each time, both ends included.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A connection's one-way latency, drawn once for each.
    pub latency: (Duration, Duration),
    /// What each piece of a stream takes on top; it never overtakes.
    pub jitter: (Duration, Duration),
    /// From a `Send` to its `Flushed`, where there is room.
    pub flush: (Duration, Duration),
    /// Bytes that lie between the two ends of a connection before whoever sends has to wait for whoever reads.
    pub socket_buffer: usize,
    /// From a `Persist` to its `Persisted`.
    pub persist: (Duration, Duration),
    /// How much later than due a node's timer rings.
    pub tick_late: (Duration, Duration),
    /// Nodes' clocks run up to this many millionths fast or slow.
    pub drift_ppm: u32,
    /// Cut what is sent into random pieces. Pieces that arrive together are sometimes joined.
    pub segment: bool,
    /// Keep every input and output of every node.
    pub record: bool,
    /// Somebody listens to what is said first on each connection, and may say it again.
    pub eavesdrop: bool,
    /// Check that one term has one master, and one view id one member list. Off for voters that lose their votes (G1).
    pub votes_last: bool,
    /// Compare views member by member and follow the reported changes; off where members are many.
    pub compare_views: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            latency: (Duration::from_micros(100), ms(3)),
            jitter: (Duration::ZERO, ms(1)),
            flush: (Duration::ZERO, ms(1)),
            socket_buffer: 4_096,
            persist: (Duration::ZERO, ms(2)),
            tick_late: (Duration::ZERO, ms(1)),
            drift_ppm: 4_900,
            segment: true,
            record: false,
            eavesdrop: false,
            votes_last: true,
            compare_views: true,
        }
    }
}

impl Settings {
    /// Everything takes the same short time, nothing is cut, and clocks agree.
    pub fn calm() -> Self {
        Self {
            latency: (Duration::from_micros(500), Duration::from_micros(500)),
            jitter: (Duration::ZERO, Duration::ZERO),
            flush: (Duration::ZERO, Duration::ZERO),
            persist: (Duration::ZERO, Duration::ZERO),
            tick_late: (Duration::ZERO, Duration::ZERO),
            drift_ppm: 0,
            segment: false,
            ..Self::default()
        }
    }
}
