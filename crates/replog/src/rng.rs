//! The only randomness of a core: a small generator that starts from [`crate::Setup::seed`] and is part of the
//! state, so that a model checker and a replay see the same numbers.

use core::time::Duration;

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): one word of state, enough for jitter, useless for secrets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rng(u64);

impl Rng {
    /// Starts from `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `n` (0 when `n` is 0).
    pub fn below(&mut self, n: u64) -> u64 {
        // Multiply-shift instead of modulo: no division, bias below 2^-64 × n.
        ((u128::from(self.bits()) * u128::from(n)) >> 64) as u64
    }

    /// True once in `n` calls on average; never when `n` is 0.
    pub fn one_in(&mut self, n: u64) -> bool {
        n != 0 && self.below(n) == 0
    }

    /// A duration in `[least, least + spread)`.
    pub fn duration(&mut self, least: Duration, spread: Duration) -> Duration {
        let nanos = u64::try_from(spread.as_nanos()).unwrap_or(u64::MAX);
        least + Duration::from_nanos(self.below(nanos))
    }

    /// As [`Self::duration`], but draws nothing when there is nothing to choose: a core whose spreads are zero never
    /// changes its generator, so a model checker need not tell apart how often it was asked.
    pub fn wait(&mut self, least: Duration, spread: Duration) -> Duration {
        if spread.is_zero() { least } else { self.duration(least, spread) }
    }
}
