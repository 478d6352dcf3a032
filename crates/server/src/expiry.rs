//! The leader's session clocks.
//!
//! Only a leader expires sessions, and only by a logged command: the clock decides, `apply` carries it out everywhere
//! (protocol-traps.md §4.1). Deadlines are rounded up to whole ticks, so a session lives between its timeout and its
//! timeout plus one tick after its last touch, never less. Followers report touches every half tick.
//!
//! ```text
//!  not leading ──begin: all sessions at full timeout──► reigning ──due: proposes Expire──► closing ──closed──► gone
//!      ▲                                                   │ ▲                                │ not applied within a
//!      └──────────────────── end ──────────────────────────┘ └── touch ── (not when closing) ◄┘ timeout: proposed again
//! ```
//!
//! Time that must not count against the clients, because nobody's touches were heard in it, is cut out of the clock:
//! 1. the leader is stopped (SIGSTOP, a laptop's lid) for a minute; 2. it goes on, and all sessions look silent, while
//!    their pings wait in socket buffers. The same when it had lost contact to its quorum and finds it again.
//!
//! Invariant: `buckets[d]` names every session whose `deadline` was `d` when it was put there; a session whose deadline
//! moved on is put into its new bucket when the old one falls due (a touch costs one map access).

use replog::mutant;
use std::collections::{BTreeMap, HashMap};
use znode::Epoch;

/// A moment in ms on this server's monotonic clock.
pub type Millis = u64;

/// See the module.
#[derive(Debug)]
pub struct Expiry {
    tick: Millis,
    reign: Option<Reign>,
}

#[derive(Debug, Default)]
struct Reign {
    epoch: Epoch,
    sessions: HashMap<i64, Clock>,
    buckets: BTreeMap<Millis, Vec<i64>>,
    /// When `due` was last called.
    called: Millis,
    /// Time cut out so far.
    skipped: Millis,
}

#[derive(Debug, Clone, Copy)]
struct Clock {
    timeout: Millis,
    deadline: Millis,
    /// Proposed for expiry: touches no longer help (ZooKeeper's `isClosing`).
    closing: bool,
}

impl Expiry {
    /// Clocks of `tick_ms` granularity; not leading.
    #[must_use]
    pub fn new(tick_ms: u32) -> Self {
        Self { tick: Millis::from(tick_ms.max(1)), reign: None }
    }

    /// Whether this server leads and its clocks run.
    #[must_use]
    pub fn is_reigning(&self) -> bool {
        self.reign.is_some()
    }

    /// Whether the reign of this epoch has begun.
    #[must_use]
    pub fn is_reigning_in(&self, epoch: Epoch) -> bool {
        self.reign.as_ref().is_some_and(|reign| reign.epoch == epoch)
    }

    /// This server leads now: every known session (id, timeout in ms) starts with its full timeout.
    pub fn begin(&mut self, now: Millis, epoch: Epoch, sessions: impl Iterator<Item = (i64, u32)>) {
        self.reign = Some(Reign { epoch, called: now, ..Reign::default() });
        for (session, timeout_ms) in sessions {
            let since = if mutant!(ClocksGoOn) { now.saturating_sub(timeout_ms.into()) } else { now };
            self.opened(since, session, timeout_ms);
        }
    }

    /// It leads no longer.
    pub fn end(&mut self) {
        self.reign = None;
    }

    /// A session was opened (or attached: its timeout may be new).
    pub fn opened(&mut self, now: Millis, session: i64, timeout_ms: u32) {
        let tick = self.tick;
        let Some(reign) = &mut self.reign else { return };
        let timeout = Millis::from(timeout_ms);
        let deadline = reign.deadline(now, timeout, tick);
        let before = reign.sessions.insert(session, Clock { timeout, deadline, closing: false });
        // It stays in an earlier bucket if it is in one; a later one would come too late.
        if before.is_none_or(|clock| clock.deadline > deadline) {
            reign.buckets.entry(deadline).or_default().push(session);
        }
    }

    /// A session was closed or expired.
    pub fn closed(&mut self, session: i64) {
        if let Some(reign) = &mut self.reign {
            reign.sessions.remove(&session);
        }
    }

    /// Something was heard from a session's client at `now`, or then: older news change nothing.
    pub fn touch(&mut self, now: Millis, session: i64) {
        let tick = self.tick;
        let Some(reign) = &mut self.reign else { return };
        let skipped = reign.skipped;
        if let Some(clock) = reign.sessions.get_mut(&session)
            && !clock.closing
        {
            clock.deadline = clock.deadline.max(deadline(now - skipped.min(now), clock.timeout, tick));
        }
    }

    /// The sessions to propose for expiry. Call at least once per tick; `in_contact`: whether this leader has lately
    /// heard a quorum.
    pub fn due(&mut self, now: Millis, in_contact: bool) -> Vec<i64> {
        let tick = self.tick;
        let Some(reign) = &mut self.reign else { return Vec::new() };
        let passed = now.saturating_sub(reign.called);
        reign.called = now;
        if !in_contact && !mutant!(StalledLeaderExpires) {
            reign.skipped += passed;
            return Vec::new();
        }
        if passed > 2 * tick && !mutant!(StalledLeaderExpires) {
            // Stopped: what waits in the sockets is heard before the next call.
            reign.skipped += passed;
            return Vec::new();
        }
        let clock_now = now - reign.skipped.min(now);
        let mut expired = Vec::new();
        while let Some(entry) = reign.buckets.first_entry()
            && *entry.key() <= clock_now
        {
            let bucket = *entry.key();
            for session in entry.remove() {
                let Some(clock) = reign.sessions.get_mut(&session) else { continue };
                if clock.deadline <= bucket {
                    expired.push(session);
                    clock.closing = true;
                    // The proposal may be lost with a change of mind about who leads: ask again after a timeout.
                    clock.deadline = deadline(clock_now, clock.timeout, tick);
                }
                reign.buckets.entry(clock.deadline).or_default().push(session);
            }
        }
        expired
    }
}

impl Reign {
    fn deadline(&self, now: Millis, timeout: Millis, tick: Millis) -> Millis {
        deadline(now - self.skipped.min(now), timeout, tick)
    }
}

/// The end of the bucket in which a session with this timeout that was touched at `now` falls due.
fn deadline(now: Millis, timeout: Millis, tick: Millis) -> Millis {
    ((now + timeout) / tick + 1) * tick
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls `due` every half tick up to `until`; gives the time of each expiry.
    fn run(
        expiry: &mut Expiry,
        from: Millis,
        until: Millis,
        mut each: impl FnMut(&mut Expiry, Millis),
    ) -> Vec<(Millis, i64)> {
        let mut found = vec![];
        for now in (from..=until).step_by(50) {
            each(expiry, now);
            found.extend(expiry.due(now, true).into_iter().map(|s| (now, s)));
        }
        found
    }

    // requirement: S7
    #[test]
    fn a_session_lives_its_timeout_and_at_most_a_tick_and_a_half_more() {
        for start in [0, 1, 49, 99, 100] {
            let mut expiry = Expiry::new(100);
            expiry.begin(start, Epoch::new(1, 0), std::iter::empty());
            expiry.opened(start, 1, 1000);
            let found = run(&mut expiry, start, 1500 + start, |_, _| ());
            assert_eq!(found.len(), 1);
            assert!((1000 + start..=1150 + start).contains(&found[0].0), "{start}: {found:?}");
        }
    }

    // requirement: S6, S7
    #[test]
    fn a_touch_restarts_the_clock() {
        let mut expiry = Expiry::new(100);
        expiry.begin(0, Epoch::new(1, 0), [(1, 1000), (2, 1000)].into_iter());
        let found = run(&mut expiry, 0, 5000, |e, now| {
            if now <= 3000 && now % 900 == 0 {
                e.touch(now, 1);
            }
        });
        let first: Vec<_> = found.iter().map(|f| f.1).collect();
        assert_eq!(first[0], 2);
        let one = found.iter().find(|f| f.1 == 1).unwrap().0;
        assert!((3700..=3850).contains(&one), "{found:?}");
    }

    #[test]
    fn expiry_is_asked_for_again_until_it_is_applied_and_touches_are_too_late() {
        let mut expiry = Expiry::new(100);
        expiry.begin(0, Epoch::new(1, 0), [(1, 500)].into_iter());
        let found = run(&mut expiry, 0, 2000, |e, now| {
            if now > 650 {
                e.touch(now, 1);
            }
        });
        assert_eq!(found.iter().map(|f| f.1).collect::<Vec<_>>(), [1, 1, 1]);
        expiry.closed(1);
        assert_eq!(run(&mut expiry, 2050, 5000, |_, _| ()), []);
    }

    #[test]
    fn nobody_expires_without_a_reign_and_a_new_reign_starts_full() {
        let mut expiry = Expiry::new(100);
        expiry.opened(0, 1, 500);
        assert_eq!(run(&mut expiry, 0, 2000, |_, _| ()), []);
        expiry.begin(2000, Epoch::new(1, 0), [(1, 500)].into_iter());
        expiry.end();
        assert_eq!(run(&mut expiry, 2000, 4000, |_, _| ()), []);
        expiry.begin(4000, Epoch::new(1, 0), [(1, 500)].into_iter());
        let found = run(&mut expiry, 4000, 4700, |_, _| ());
        assert!(found[0].0 >= 4500);
    }

    // trap: protocol-traps §4.2
    #[test]
    fn a_stopped_leader_hears_the_news_before_it_acts_on_the_clock() {
        let mut expiry = Expiry::new(100);
        expiry.begin(0, Epoch::new(1, 0), [(1, 1000), (2, 1000)].into_iter());
        assert_eq!(run(&mut expiry, 0, 500, |_, _| ()), []);
        // Stopped for a minute.
        let back = 60_500;
        assert!(expiry.due(back, true).is_empty());
        expiry.touch(back + 10, 1);
        let found = run(&mut expiry, back + 50, back + 2000, |_, _| ());
        let at = |session| found.iter().find(|f| f.1 == session).unwrap().0;
        assert!((back + 500..=back + 700).contains(&at(2)), "the rest of its timeout: {found:?}");
        assert!(at(1) >= back + 1010, "{found:?}");
    }

    // trap: protocol-traps §4.2
    #[test]
    fn time_without_contact_does_not_count() {
        let mut expiry = Expiry::new(100);
        expiry.begin(0, Epoch::new(1, 0), [(1, 1000)].into_iter());
        assert_eq!(run(&mut expiry, 0, 900, |_, _| ()), []);
        for now in (950..20_000).step_by(50) {
            assert!(expiry.due(now, false).is_empty());
        }
        assert_eq!(run(&mut expiry, 20_000, 20_050, |_, _| ()), []);
        assert_eq!(run(&mut expiry, 20_100, 20_400, |_, _| ()).len(), 1);
    }

    #[test]
    fn a_shorter_timeout_after_an_attach_counts() {
        let mut expiry = Expiry::new(100);
        expiry.begin(0, Epoch::new(1, 0), [(1, 10_000)].into_iter());
        expiry.opened(100, 1, 500);
        let found = run(&mut expiry, 100, 1000, |_, _| ());
        assert!((600..=800).contains(&found[0].0), "{found:?}");
    }
}
