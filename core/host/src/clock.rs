//! The clock of a node: monotonic, and it keeps running while the machine is suspended, if the system has such a clock.

use std::{fmt, sync::Arc};

use formation_core::Timestamp;

/// A monotonic clock. A node uses one clock for its whole life. On Linux and Android all system clocks of a machine show the same
/// time, so a lease can be compared with any of them.
#[derive(Clone)]
pub struct Clock(Kind);

#[derive(Clone)]
enum Kind {
    System(System),
    /// A clock of a test.
    Other(Arc<dyn Fn() -> Timestamp + Send + Sync>),
}

impl Clock {
    /// The clock of the system.
    pub fn start() -> Self {
        Self(Kind::System(System::start()))
    }

    /// Another clock, which never goes back.
    pub(crate) fn of(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Kind::Other(Arc::new(now)))
    }

    /// This moment.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Kind::System(system) => system.now(),
            Kind::Other(now) => now(),
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::start()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}

#[derive(Clone, Copy)]
struct System {
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    start: std::time::Instant,
}

/// `CLOCK_BOOTTIME`: `std::time::Instant` stops while the machine is suspended, and a lease must not.
#[cfg(any(target_os = "linux", target_os = "android"))]
impl System {
    /// The system's clock, which counts from the boot.
    fn start() -> Self {
        Self {}
    }

    /// This moment.
    fn now(self) -> Timestamp {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let secs = u64::try_from(time.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
        Timestamp::from_micros(secs.saturating_mul(1_000_000).saturating_add(nanos / 1_000))
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
impl System {
    /// The standard library's clock, counted from now on. While the machine is suspended, it goes on on Windows, and stops on
    /// macOS: G2 does not cover a machine that sleeps there.
    fn start() -> Self {
        Self { start: std::time::Instant::now() }
    }

    /// This moment.
    fn now(self) -> Timestamp {
        Timestamp::ZERO + self.start.elapsed()
    }
}
