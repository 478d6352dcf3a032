//! The watchdog: ends the node when the core thread is stuck inside one turn. A core that hangs keeps its sockets
//! open, so its peers learn of it by their timeouts only, and nothing would ever end it.
//!
//! It counts its own ticks and looks at no clock: a process that was stopped for a minute stopped its watchdog too,
//! and must not be ended for that.
// spec: reliability §4 rule 10

use crate::Fatal;
use crate::config::OnFatal;
use crate::handle::Shared;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

const TICK: Duration = Duration::from_secs(1);
/// Ticks inside one turn after which the core counts as stuck.
const TICKS: u32 = 10;

/// Counts the beginnings and the ends of turns: odd inside one.
#[derive(Debug, Default)]
pub(crate) struct Pulse(AtomicU64);

impl Pulse {
    /// A turn begins or ends.
    pub(crate) fn beat(&self) {
        self.0.fetch_add(1, Relaxed);
    }
}

/// Ends the watchdog.
#[derive(Debug, Default)]
pub(crate) struct Leash {
    closed: Mutex<bool>,
    moved: Condvar,
}

impl Leash {
    pub(crate) fn close(&self) {
        *self.closed.lock() = true;
        self.moved.notify_all();
    }

    /// Waits for a tick. False once closed.
    fn tick(&self) -> bool {
        let mut closed = self.closed.lock();
        if !*closed {
            self.moved.wait_for(&mut closed, TICK);
        }
        !*closed
    }
}

/// How long the core has been seen inside the same turn.
#[derive(Debug, Default)]
struct Suspicion {
    turn: u64,
    ticks: u32,
}

impl Suspicion {
    /// One tick later the pulse reads `turn`. Whether that is too long.
    fn look(&mut self, turn: u64) -> bool {
        self.ticks = if turn == self.turn && turn % 2 == 1 { self.ticks + 1 } else { 0 };
        self.turn = turn;
        self.ticks >= TICKS
    }
}

/// What the thread works with.
pub(crate) struct Watchdog {
    pub(crate) leash: Arc<Leash>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) on_fatal: OnFatal,
}

impl Watchdog {
    /// Runs until the leash is closed, or the core is stuck.
    pub(crate) fn run(self) {
        let mut suspicion = Suspicion::default();
        while self.leash.tick() {
            if suspicion.look(self.shared.pulse.0.load(Relaxed)) {
                (self.on_fatal)(&Fatal::Stalled { node: self.shared.id });
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_turn_that_does_not_end_is_suspicious() {
        let mut suspicion = Suspicion::default();
        assert!((0..100).all(|_| !suspicion.look(4)), "asleep");
        assert!((0..100).all(|i| !suspicion.look(5 + 2 * i)), "busy, but moving");
        assert!((0..TICKS).all(|_| !suspicion.look(301)));
        assert!(suspicion.look(301));
    }
}
