//! Sessions that a leader has ended, and since when: no server may go on answering their clients as if they lived.
//!
//! 1. S1 is cut off with client C, who holds a lock. 2. The leader ends C's session, D takes the lock. 3. S1 answers C's
//!    pings, and C works on as the holder. A server without a leader lets its clients go after a third of their timeout,
//!    before the leader, who lost sight of them no earlier, can have ended them.
//!
//! Source: contract-schedules §7 (a, b), reliability.md C7.

use replog::{Body, Entry, Epoch};
use std::collections::BTreeMap;
use znode::{Command, Decision};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    /// Highest index looked at, and the highest epoch up to there.
    top: u64,
    passed: Epoch,
    /// Session → ns of the first apply of its end.
    since: BTreeMap<i64, u64>,
}

impl Ended {
    /// Some node has applied these.
    pub(crate) fn applied(&mut self, now: u64, entries: &[Entry]) {
        for entry in entries {
            if entry.id.index.0 <= self.top {
                continue;
            }
            self.top = entry.id.index.0;
            self.passed = self.passed.max(entry.id.epoch);
            // Version, kind: only decisions need a closer look.
            let Body::Command(command) = &entry.body else { continue };
            if command.get(1) != Some(&2) {
                continue;
            }
            let Ok(Command::Decision { epoch, decision: Decision::Expire { session } }) =
                Command::decode(command)
            else {
                continue;
            };
            if (epoch.round, epoch.proposer) >= (self.passed.round, self.passed.proposer) {
                self.since.entry(session).or_insert(now);
            }
        }
    }

    /// Since when a session is over, if a leader has ended it.
    pub(crate) fn since(&self, session: i64) -> Option<u64> {
        self.since.get(&session).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use replog::{Index, LogId, Stamp};

    fn expire(index: u64, of: u32, session: i64) -> Entry {
        let mut bytes = Vec::new();
        let epoch = znode::Epoch::new(of, 0);
        Command::Decision { epoch, decision: Decision::Expire { session } }.encode(&mut bytes);
        let id = LogId::new(Epoch::of(of), Index(index));
        Entry { id, ballot: id.epoch, stamp: Stamp(0), body: Body::Command(Bytes::from(bytes)) }
    }

    // requirement: S7
    #[test]
    fn the_first_apply_counts_and_a_reign_that_is_over_decides_nothing() {
        let mut ended = Ended::default();
        ended.applied(10, &[expire(1, 2, 7)]);
        ended.applied(20, &[expire(1, 2, 7), expire(2, 1, 8), expire(3, 2, 9)]);
        assert_eq!([7, 8, 9].map(|s| ended.since(s)), [Some(10), None, Some(20)]);
    }
}
