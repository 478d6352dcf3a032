//! Clocks of nodes: each runs at its own rate from its own start, and its wall clock may jump.
//!
//! The world's time is ns since the run began. A core sees only its node's monotonic clock, so deadlines are carried
//! over into the world's time before they are scheduled.

use replog::Time;

/// Where every node's clock starts, so that differences never go below zero.
const START_NS: u64 = 1_000_000_000;
/// Parts of a whole rate.
const WHOLE: u64 = 1_000_000;
/// Wall clock at the world's start: 2026-01-01, in ms since 1970.
const EPOCH_MS: i64 = 1_767_225_600_000;

/// A node's monotonic and wall clock.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    rate: u64,
    /// The world's time at which `local` was shown.
    anchor: u64,
    local: u64,
    wall_offset_ms: i64,
}

impl Clock {
    /// A clock that runs at `per_mille` of the true rate.
    pub(crate) fn new(node: u32, per_mille: u32) -> Self {
        let local = START_NS * u64::from(node + 1);
        Self { rate: rate(per_mille), anchor: 0, local, wall_offset_ms: 0 }
    }

    /// What the monotonic clock shows at `now`.
    pub(crate) fn local(&self, now: u64) -> Time {
        let passed = now - self.anchor;
        Time(self.local + if self.rate == WHOLE { passed } else { scale(passed, self.rate, WHOLE) })
    }

    /// The first moment of the world at which the clock shows `at` or later.
    pub(crate) fn world(&self, at: Time) -> u64 {
        let ahead = at.0.saturating_sub(self.local);
        self.anchor + if self.rate == WHOLE { ahead } else { scale(ahead, WHOLE, self.rate) + 1 }
    }

    /// The moment at which `ns` of the clock's own have passed after `now`.
    pub(crate) fn world_after(&self, now: u64, ns: u64) -> u64 {
        self.world(Time(self.local(now).0 + ns))
    }

    /// ms since 1970 as the node believes.
    pub(crate) fn wall_ms(&self, now: u64) -> u64 {
        let ms = EPOCH_MS + i64::try_from(now / 1_000_000).unwrap_or(0) + self.wall_offset_ms;
        u64::try_from(ms).unwrap_or(0)
    }

    /// Changes the rate from `now` on.
    pub(crate) fn set_rate(&mut self, now: u64, per_mille: u32) {
        (self.local, self.anchor) = (self.local(now).0, now);
        self.rate = rate(per_mille);
    }

    /// The wall clock jumps.
    pub(crate) fn jump(&mut self, ms: i64) {
        self.wall_offset_ms += ms;
    }
}

fn rate(per_mille: u32) -> u64 {
    u64::from(per_mille.clamp(100, 10_000)) * (WHOLE / 1000)
}

fn scale(of: u64, by: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(of) * u128::from(by) / u128::from(whole)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_come_back_and_rates_change_without_a_jump() {
        for per_mille in [900, 999, 1000, 1001, 1100] {
            let mut clock = Clock::new(1, per_mille);
            let at = clock.local(5_000_000_000);
            let world = clock.world(Time(at.0 + 1_234_567));
            assert!(clock.local(world) >= Time(at.0 + 1_234_567));
            assert!(clock.local(world - 2) < Time(at.0 + 1_234_567));
            clock.set_rate(world, 1100);
            assert!(clock.local(world).0.abs_diff(at.0 + 1_234_567) < 4);
        }
    }
}
