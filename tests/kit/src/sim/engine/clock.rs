//! A node's clock, with its own start and its own rate.

use formation_core::Timestamp;

/// Converts between the simulator's time, in microseconds, and the time of one node.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// The time that it shows at the start of the simulation.
    pub offset: u64,
    /// How much faster than the simulator's time it runs, in parts per million.
    pub ppm: i32,
}

impl Clock {
    fn elapsed(self, time: u64) -> u64 {
        (u128::from(time) * u128::from(1_000_000_u32.saturating_add_signed(self.ppm)) / 1_000_000) as u64
    }

    /// The time that it shows at a time of the simulation.
    pub fn local(self, time: u64) -> Timestamp {
        Timestamp::from_micros(self.offset + self.elapsed(time))
    }

    /// The first time of the simulation at which it shows `local` or later.
    pub fn reaches(self, local: Timestamp) -> u64 {
        let wanted = local.as_micros().saturating_sub(self.offset).min(u64::MAX >> 16);
        let rate = u128::from(1_000_000_u32.saturating_add_signed(self.ppm));
        (u128::from(wanted) * 1_000_000).div_ceil(rate) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_reaches_a_time_no_sooner_and_no_later() {
        for ppm in [-4_900, -1, 0, 3, 4_900] {
            let clock = Clock { offset: 77, ppm };
            for shown in [77, 78, 1_000, 1_234_567, 99_999_999] {
                let at = clock.reaches(Timestamp::from_micros(shown));
                assert!(clock.local(at).as_micros() >= shown);
                assert!(at == 0 || clock.local(at - 1).as_micros() < shown);
            }
        }
    }
}
