//! The clock that the core is told: monotonic, and going on while the machine is suspended where the system has such a
//! clock, so that no lease outlives its end.

use formation_core::Timestamp;

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn now() -> Timestamp {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let secs = u64::try_from(time.tv_sec).expect("CLOCK_BOOTTIME counts from the boot");
    let nanos = u64::try_from(time.tv_nsec).expect("nanoseconds are never negative");
    Timestamp::from_micros(secs * 1_000_000 + nanos / 1_000)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn now() -> Timestamp {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    Timestamp::ZERO + START.get_or_init(std::time::Instant::now).elapsed()
}
