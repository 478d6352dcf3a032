//! The zxid: a fold over committed commands, the same on every replica and under every protocol.
//!
//! ```text
//!  zxid = high word (the reign) │ low word (a counter)
//!
//!  command of a higher epoch than any command before  → (max(high + 1, its round), 1)
//!  any other command                                  → counter + 1
//!  the counter is at its end                          → (high + 1, 1)
//!  no-ops, configurations                             → nothing
//! ```
//!
//! Under Zab (one leader per round, first transaction of round e is (e, 1)) the result equals ZooKeeper's own zxid,
//! until a counter was exhausted once. Invariants: the zxid strictly increases with every command; it depends on
//! nothing but the epochs of the commands. Three schedules that a simpler rule fails:
//!
//! 1. *Zab*: NEWLEADER (e, 0) is no transaction. "Higher epoch → counter 0" would give the first one (e, 0).
//! 2. *Paxos*: ballots (5, node 1) and (5, node 2) are both reigns. "High word = round" would repeat zxids.
//! 3. *Rollover*: (5, max) → (6, 1) while the epoch is 5; then the real epoch 6 comes. "High word = round" again
//!    repeats (6, 1). Hence the `max(high + 1, …)`.

use crate::mutant::mutant;

/// The reign in which an entry was first proposed: ordered by round, then proposer (0 but in Multi-Paxos).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch {
    /// Zab's epoch, Raft's term, the round of a ballot.
    pub round: u32,
    /// Owner of the ballot, else 0.
    pub proposer: u32,
}

impl Epoch {
    /// Before any reign.
    pub const ZERO: Self = Self { round: 0, proposer: 0 };

    /// The reign (`round`, `proposer`).
    #[must_use]
    pub const fn new(round: u32, proposer: u32) -> Self {
        Self { round, proposer }
    }
}

/// Largest high word: zxids are signed on the wire and must stay positive.
const HIGH_MAX: u32 = i32::MAX as u32;

/// The fold's state: 16 bytes, part of every snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ZxidFold {
    /// High word of the last zxid.
    pub high: u32,
    /// Low word of the last zxid; 0 only before the first command.
    pub counter: u32,
    /// Highest epoch of any *command* so far. A no-op of the epoch does not count: the first command after it must
    /// still begin a new high word.
    pub epoch: Epoch,
}

impl ZxidFold {
    /// The last zxid, 0 before the first command.
    #[must_use]
    pub const fn last(&self) -> i64 {
        ((self.high as i64) << 32) | self.counter as i64
    }

    /// The zxid of a command of `epoch`, which becomes the last.
    ///
    /// # Panics
    /// When 2³¹ reigns are used up.
    pub fn next(&mut self, epoch: Epoch) -> i64 {
        if epoch > self.epoch {
            self.epoch = epoch;
            self.begin(epoch.round.min(HIGH_MAX));
        } else if self.counter == u32::MAX {
            self.begin(0);
        } else {
            self.counter += 1;
        }
        self.last()
    }

    fn begin(&mut self, at_least: u32) {
        assert!(self.high < HIGH_MAX, "the high word of the zxid is used up");
        self.high = if mutant!(ZxidByRound) { at_least } else { at_least.max(self.high + 1) };
        self.counter = 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn zxid(high: i64, low: i64) -> i64 {
        (high << 32) | low
    }

    // Schedule 8, first case: equal to ZooKeeper's zxids.
    #[test]
    fn zab_begins_each_epoch_at_one() {
        let mut fold = ZxidFold::default();
        assert_eq!(fold.last(), 0);
        assert_eq!(fold.next(Epoch::new(1, 0)), zxid(1, 1));
        assert_eq!(fold.next(Epoch::new(1, 0)), zxid(1, 2));
        assert_eq!(fold.next(Epoch::new(4, 0)), zxid(4, 1));
    }

    // Schedule 8, second case: two reigns of one round.
    #[test]
    fn equal_rounds_do_not_repeat() {
        let mut fold = ZxidFold::default();
        assert_eq!(fold.next(Epoch::new(5, 1)), zxid(5, 1));
        assert_eq!(fold.next(Epoch::new(5, 2)), zxid(6, 1));
        // An old value that is chosen late takes the next number of the reign that is folded.
        assert_eq!(fold.next(Epoch::new(5, 1)), zxid(6, 2));
        assert_eq!(fold.next(Epoch::new(6, 1)), zxid(7, 1));
        assert_eq!(fold.next(Epoch::new(9, 1)), zxid(9, 1));
    }

    // Schedule 8, third case: a counter at its end rolls over, and the real epoch comes later.
    #[test]
    fn an_exhausted_counter_rolls_the_high_word() {
        let epoch = Epoch::new(5, 0);
        let mut fold = ZxidFold { high: 5, counter: u32::MAX - 1, epoch };
        assert_eq!(fold.next(epoch), zxid(5, 0xffff_ffff));
        assert_eq!(fold.next(epoch), zxid(6, 1));
        assert_eq!(fold.next(Epoch::new(6, 0)), zxid(7, 1));
    }

    proptest! {
        #[test]
        fn strictly_increases(start in any::<u32>(), epochs in prop::collection::vec((0u32..9, 0u32..4), 1..200)) {
            let mut fold = ZxidFold { high: 1, counter: start, epoch: Epoch::new(1, 0) };
            let mut last = fold.last();
            for (round, proposer) in epochs {
                let next = fold.next(Epoch::new(round, proposer));
                prop_assert!(next > last);
                last = next;
            }
        }
    }
}
