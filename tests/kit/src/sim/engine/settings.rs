//! The settings of a simulated network and its hosts.

use std::{net::IpAddr, time::Duration};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A range is drawn from anew each time, both ends included.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The one-way latency of a connection, drawn once for each connection.
    pub latency: (Duration, Duration),
    /// The extra delay of each piece of a stream. The pieces keep their order.
    pub jitter: (Duration, Duration),
    /// The time from a `Send` to its `Flushed`, while the socket buffer has room.
    pub flush: (Duration, Duration),
    /// How many unread bytes a connection holds in one direction before the sender has to wait for the reader.
    pub socket_buffer: usize,
    /// The time from a `Persist` to its `Persisted`.
    pub persist: (Duration, Duration),
    /// How late a node's timer fires.
    pub tick_late: (Duration, Duration),
    /// How much faster or slower than the simulator's time a node's clock may run, in parts per million.
    pub drift_ppm: u32,
    /// Cut the sent bytes into random pieces. Pieces that arrive together are sometimes joined again.
    pub segment: bool,
    /// The transport proves addresses, as TLS does: each end has a certificate for the address that it advertises.
    pub certified: bool,
    /// The IP address of the test's ends of connections, if nodes know it.
    pub test_ip: Option<IpAddr>,
    /// Embedders hand over to a better master (L8).
    pub hands_over: bool,
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
            certified: false,
            test_ip: None,
            hands_over: true,
        }
    }
}

impl Settings {
    /// Every delay is the same and short, no bytes are cut, and the clocks agree.
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
