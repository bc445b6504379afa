//! A monotonic clock that goes on through suspend where the system has one.

use formation_core::Timestamp;

/// `CLOCK_BOOTTIME`: `std::time::Instant` stands still while the machine is suspended, and a lease must not.
#[cfg(any(target_os = "linux", target_os = "android"))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock;

#[cfg(any(target_os = "linux", target_os = "android"))]
impl Clock {
    pub(crate) fn start() -> Self {
        Self
    }

    pub(crate) fn now(self) -> Timestamp {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let secs = u64::try_from(time.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
        Timestamp::from_micros(secs.saturating_mul(1_000_000).saturating_add(nanos / 1_000))
    }
}

/// The standard library's clock, counted from the start of the node.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(std::time::Instant);

#[cfg(not(any(target_os = "linux", target_os = "android")))]
impl Clock {
    pub(crate) fn start() -> Self {
        Self(std::time::Instant::now())
    }

    pub(crate) fn now(self) -> Timestamp {
        Timestamp::ZERO + self.0.elapsed()
    }
}
