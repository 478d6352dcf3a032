//! Time and chance: the system's, or a simulator's.
//!
//! A service asks the clock and the system's randomness here and nowhere else. Under [`Environment::System`] that is
//! `Instant::now` and `getrandom`; under [`Environment::Virtual`] whoever holds the same [`Virtual`] sets both clocks and
//! a seed decides session ids' passwords and nonces, so that a run can be repeated.

use parking_lot::Mutex;
use replog::Rng;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// See the module.
#[derive(Clone, Debug, Default)]
pub enum Environment {
    /// The system's clocks and randomness.
    #[default]
    System,
    /// Somebody else's.
    Virtual(Arc<Virtual>),
}

impl Environment {
    /// Monotonic time.
    #[inline]
    pub(crate) fn now(&self) -> Instant {
        match self {
            Self::System => Instant::now(),
            Self::Virtual(world) => world.instant(Duration::from_nanos(world.now.load(Relaxed))),
        }
    }

    /// How long ago `then` was; zero if it is yet to come.
    pub(crate) fn since(&self, then: Instant) -> Duration {
        self.now().saturating_duration_since(then)
    }

    /// Wall-clock time: for what people read, and for session ids.
    pub(crate) fn wall(&self) -> SystemTime {
        match self {
            Self::System => SystemTime::now(),
            Self::Virtual(world) => UNIX_EPOCH + Duration::from_millis(world.wall_ms.load(Relaxed)),
        }
    }

    /// Fills `bytes` with randomness.
    ///
    /// # Errors
    /// The system has none to give.
    pub(crate) fn fill(&self, bytes: &mut [u8]) -> io::Result<()> {
        match self {
            Self::System => getrandom::fill(bytes).map_err(|e| io::Error::other(e.to_string())),
            Self::Virtual(world) => {
                let mut rng = world.rng.lock();
                bytes.iter_mut().for_each(|byte| *byte = rng.bits().to_le_bytes()[0]);
                Ok(())
            }
        }
    }
}

/// A virtual clock and virtual chance, shared by a simulated server and the simulator.
#[derive(Debug)]
pub struct Virtual {
    base: Instant,
    now: AtomicU64,
    wall_ms: AtomicU64,
    rng: Mutex<Rng>,
}

impl Virtual {
    /// Both clocks at zero.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // Only differences of instants are ever looked at.
        let base = Instant::now();
        Self { base, now: AtomicU64::new(0), wall_ms: AtomicU64::new(0), rng: Mutex::new(Rng::new(seed)) }
    }

    /// Sets the monotonic clock (since its start) and the wall clock (ms since 1970).
    pub fn set(&self, now: Duration, wall_ms: u64) {
        self.now.store(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        self.wall_ms.store(wall_ms, Relaxed);
    }

    /// The instant at which the monotonic clock shows `since`.
    #[must_use]
    pub fn instant(&self, since: Duration) -> Instant {
        self.base + since
    }
}
