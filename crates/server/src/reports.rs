//! Reports of touches: what this server has told the leader of its clients, and how much of it the leader has heard.
//!
//! Every half tick a server names the sessions whose clients it has heard to the leader, who confirms the report. What is
//! not confirmed is named again, with its age, so a lost report or a broken link takes nothing from a session:
//!
//! ```text
//!  gathered    1000   1500   2000   2500   2600 ms
//!  report       A  ──►  A,B ──✗  A,B ──►                    link breaks with the second report under way
//!  confirmed         1000                    2000           A and B are known to be alive at 2000
//! ```
//!
//! Who cannot make itself heard lets its clients go (`untold_for`, a third of the timeout), although it hears the leader:
//! 1. S1's frames to leader L are lost, L's to S1 arrive. 2. S1 answers C's pings, L hears nothing of C and expires it.
//! 3. D takes C's lock, and C works on as the holder.
//!
//! Invariant: a leader in contact with its quorum has heard of every touch gathered at or before `told`, or a leader has
//! begun its reign (with all clocks at full timeout) since. Source: contract-schedules.md §7 (a), protocol-traps.md §4.3.

use crate::forwarder::Millis;

/// A touch of a session: `age` ms before the report it is in.
pub(crate) type Touch = (i64, u32);

/// What a report is confirmed by: the process that sent it, and its time there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Tells this process from former lives of the same server.
    pub(crate) life: u64,
    /// When the report was made, ms on its maker's clock.
    pub(crate) at: Millis,
}

/// The server's side of the reports.
#[derive(Debug)]
pub(crate) struct Reports {
    life: u64,
    /// When the last report was made.
    made: Millis,
    /// When the last one was made that was confirmed.
    told: Millis,
    /// The first touch in the last report that was not told before, unless that report is confirmed.
    owed: Option<Millis>,
}

/// One connection's side: when its client was heard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Signs {
    /// The last time.
    pub(crate) last: Millis,
    /// The first time since everything was told.
    untold: Millis,
}

impl Reports {
    /// Nothing reported. `life`: random.
    pub(crate) fn new(life: u64) -> Self {
        Self { life, made: 0, told: 0, owed: None }
    }

    /// Whether a report is due, `period` after the last one.
    pub(crate) fn is_due(&self, now: Millis, period: Millis) -> bool {
        now >= self.made + period
    }

    /// A report is made now; what it is confirmed by.
    pub(crate) fn make(&mut self, now: Millis) -> Mark {
        (self.made, self.owed) = (now, None);
        Mark { life: self.life, at: now }
    }

    /// The last report has touches of which the leader has been missing one for so many ms.
    pub(crate) fn owe(&mut self, untold_for: Millis) {
        self.owed = Some(self.made - untold_for.min(self.made));
    }

    /// For how long, in ms, the leader has been missing a sign of some client; a bound on each one's
    /// [`Signs::untold_for`].
    pub(crate) fn owes_for(&self, now: Millis) -> Millis {
        self.owed.map_or(0, |since| now.saturating_sub(since))
    }

    /// Somebody confirms a report.
    pub(crate) fn confirm(&mut self, mark: Mark) {
        // 1. A report arrives. 2. Its maker dies and starts again. 3. The confirmation arrives there: of no report of its.
        if mark.life == self.life && mark.at <= self.made {
            self.told = self.told.max(mark.at);
            self.owed = self.owed.filter(|_| self.told < self.made);
        }
    }

    /// When the last report was made that was confirmed.
    pub(crate) fn told(&self) -> Millis {
        self.told
    }
}

impl Signs {
    /// The client was heard, and everything up to `told` is known to the leader.
    pub(crate) fn heard(&mut self, now: Millis, told: Millis) {
        if self.last <= told {
            self.untold = now;
        }
        self.last = now;
    }

    /// Its touch for a report made now, if the leader does not know of it.
    pub(crate) fn age(&self, now: Millis, told: Millis) -> Option<u32> {
        (self.last > told).then(|| u32::try_from(now.saturating_sub(self.last)).unwrap_or(u32::MAX))
    }

    /// For how long, in ms, the leader has been missing a sign of this client.
    pub(crate) fn untold_for(&self, now: Millis, told: Millis) -> Millis {
        if self.last > told { now.saturating_sub(self.untold.max(told)) } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // requirement: S6
    // trap: protocol-traps §4.3
    #[test]
    fn what_is_not_confirmed_is_told_again_with_its_age() {
        let mut reports = Reports::new(7);
        let (mut a, mut b) = (Signs::default(), Signs::default());
        a.heard(1000, reports.told());
        assert_eq!((a.age(1000, 0), b.age(1000, 0)), (Some(0), None));
        let first = reports.make(1000);
        reports.confirm(first);
        b.heard(1500, reports.told());
        a.heard(1500, reports.told());
        let lost = reports.make(1500);
        assert_eq!([a, b].map(|s| s.age(2000, reports.told())), [Some(500); 2]);
        let second = reports.make(2000);
        reports.owe(a.untold_for(2000, reports.told()));
        assert_eq!(reports.owes_for(2100), 600, "since both were heard at 1500");
        b.heard(2500, reports.told());
        assert_eq!(b.untold_for(2500, reports.told()), 1000, "since its first sign that was not confirmed");
        reports.confirm(second);
        reports.confirm(lost);
        assert_eq!(reports.told(), 2000, "confirmations may overtake each other");
        assert_eq!(reports.owes_for(9000), 0);
        assert_eq!([a, b].map(|s| s.untold_for(2600, reports.told())), [0, 600]);
    }

    #[test]
    fn a_confirmation_of_a_former_life_or_of_nothing_confirms_nothing() {
        let mut reports = Reports::new(7);
        let mark = reports.make(1000);
        reports.confirm(Mark { life: 8, ..mark });
        reports.confirm(Mark { at: 1001, ..mark });
        assert_eq!(reports.told(), 0);
    }

    #[test]
    fn reports_have_a_period() {
        let mut reports = Reports::new(7);
        reports.make(1000);
        assert!(!reports.is_due(1999, 1000) && reports.is_due(2000, 1000));
    }
}
