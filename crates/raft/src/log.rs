//! The shape of the log: which term each entry has and how many bytes it takes, without the entries themselves.
//!
//! Terms are kept as runs, so the whole log of a reign costs 16 bytes; sizes as a running sum over the newest
//! entries, so the bytes of any counted span are one subtraction.
//!
//! ```text
//!   base        runs: (1 from 4) (3 from 6)              last
//!    3:1 │ 4:1 5:1 6:3 7:3 8:3 9:3                        9:3
//!                  └─ sums: counted entries ─┘
//! ```
//!
//! Invariants: run starts and run terms strictly increase; `base.index ≤ last.index`; the sums cover a suffix of
//! the log.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use replog::{Epoch, Index, LogId};

/// Entries of one term, from `from` to the next run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Run {
    pub(crate) epoch: Epoch,
    pub(crate) from: Index,
}

/// Ids and sizes of the log's entries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Log {
    base: LogId,
    last: LogId,
    runs: Vec<Run>,
    /// `sums[k]`: bytes of all counted entries up to index `sums_from + k`, on a scale that starts anywhere.
    sums: VecDeque<u64>,
    /// The scale's value just below `sums_from`.
    sums_before: u64,
    /// How many counted entries are kept at least.
    keep: usize,
}

impl Log {
    /// An empty log above `base` that keeps the sizes of at least `keep` entries.
    pub(crate) fn new(base: LogId, keep: u32) -> Self {
        let keep = usize::try_from(keep).unwrap_or(usize::MAX / 4);
        Self { base, last: base, runs: Vec::new(), sums: VecDeque::new(), sums_before: 0, keep }
    }

    pub(crate) fn base(&self) -> LogId {
        self.base
    }

    pub(crate) fn last(&self) -> LogId {
        self.last
    }

    pub(crate) fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The term of the entry at `index`; `None` below the base and above the end.
    pub(crate) fn term_at(&self, index: Index) -> Option<Epoch> {
        if index == self.last.index {
            return Some(self.last.epoch);
        }
        if index <= self.base.index || index > self.last.index {
            return (index == self.base.index).then_some(self.base.epoch);
        }
        let run = self.runs.partition_point(|r| r.from <= index).checked_sub(1)?;
        self.runs.get(run).map(|r| r.epoch)
    }

    /// The id of the entry at `index`, under the same limits.
    pub(crate) fn id_at(&self, index: Index) -> Option<LogId> {
        self.term_at(index).map(|epoch| LogId { epoch, index })
    }

    /// The highest entry at or below `index` whose term is at most `epoch`; `None` if that lies below the base.
    // spec: raft §5.3 (last paragraph: one probe per term instead of one per entry)
    pub(crate) fn last_not_above(&self, index: Index, epoch: Epoch) -> Option<LogId> {
        let mut at = index.min(self.last.index);
        for run in self.runs.iter().rev() {
            if run.from > at {
                continue;
            }
            if run.epoch <= epoch {
                return Some(LogId { epoch: run.epoch, index: at });
            }
            at = run.from.prev();
        }
        (at >= self.base.index && self.base.epoch <= epoch).then_some(self.base)
    }

    /// Appends an entry of `bytes`. Its index must be the next one.
    pub(crate) fn append(&mut self, id: LogId, bytes: u32) {
        debug_assert_eq!(id.index, self.last.index.next(), "the log is contiguous");
        if self.runs.last().is_none_or(|r| r.epoch != id.epoch) {
            self.runs.push(Run { epoch: id.epoch, from: id.index });
        }
        self.last = id;
        let before = self.sums.back().copied().unwrap_or(self.sums_before);
        self.sums.push_back(before + u64::from(bytes));
        if self.sums.len() >= self.keep.saturating_mul(2).max(2) {
            // Once per `keep` entries, so the cost per entry is constant.
            let drop = self.sums.len() - self.keep;
            self.sums_before = self.sums.get(drop.wrapping_sub(1)).copied().unwrap_or(self.sums_before);
            self.sums.drain(..drop);
        }
    }

    /// Drops every entry at or above `from`.
    pub(crate) fn truncate(&mut self, from: Index) {
        if from > self.last.index {
            return;
        }
        let from = from.max(self.base.index.next());
        let cut = usize::try_from(self.last.index.0 - from.prev().0).unwrap_or(usize::MAX);
        self.sums.truncate(self.sums.len().saturating_sub(cut));
        while self.runs.last().is_some_and(|r| r.from >= from) {
            self.runs.pop();
        }
        let epoch = self.runs.last().map_or(self.base.epoch, |r| r.epoch);
        self.last = LogId { epoch, index: from.prev() };
    }

    /// Forgets entries at or below `upto`, which may lie beyond the end: then the log is empty above it.
    pub(crate) fn purge(&mut self, upto: LogId) {
        if upto.index <= self.base.index {
            return;
        }
        self.base = upto;
        if upto.index >= self.last.index {
            self.last = upto;
            self.runs.clear();
            self.sums.clear();
            return;
        }
        let covering = self.runs.partition_point(|r| r.from <= upto.index.next()).saturating_sub(1);
        self.runs.drain(..covering);
        if let Some(first) = self.runs.first_mut() {
            first.from = first.from.max(upto.index.next());
        }
        let left = usize::try_from(self.last.index.0 - upto.index.0).unwrap_or(usize::MAX);
        while self.sums.len() > left {
            self.sums_before = self.sums.pop_front().unwrap_or(self.sums_before);
        }
    }

    /// First index whose size is known.
    pub(crate) fn counted_from(&self) -> Index {
        Index(self.last.index.0.saturating_sub(self.sums.len() as u64).saturating_add(1))
    }

    /// Bytes of the entries above `after` up to `upto`; `None` if some of them are not counted.
    pub(crate) fn bytes_between(&self, after: Index, upto: Index) -> Option<u64> {
        Some(self.sum(upto)?.saturating_sub(self.sum(after)?))
    }

    /// Last entry of a frame that starts at `from` and holds at most `bytes` (at least one entry); `None` if the
    /// entry at `from` is not counted or not there.
    pub(crate) fn frame_end(&self, from: Index, bytes: u64) -> Option<Index> {
        if from > self.last.index {
            return None;
        }
        let bound = self.sum(from.prev())?.saturating_add(bytes);
        if self.sums.back().is_some_and(|&total| total <= bound) {
            return Some(self.last.index);
        }
        let fits = self.sums.partition_point(|&sum| sum <= bound) as u64;
        Some(Index((self.counted_from().0 + fits).saturating_sub(1)).max(from))
    }

    /// The scale's value at `index`.
    fn sum(&self, index: Index) -> Option<u64> {
        let from = self.counted_from();
        if index.next() == from {
            return Some(self.sums_before);
        }
        self.sums.get(usize::try_from(index.0.checked_sub(from.0)?).ok()?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(epoch: u32, index: u64) -> LogId {
        LogId::new(Epoch::of(epoch), Index(index))
    }

    /// Base 3:1, then terms 1 1 3 3 3 6, each entry as many bytes as its index.
    fn log() -> Log {
        let mut log = Log::new(id(1, 3), 100);
        for (i, t) in (4..).zip([1, 1, 3, 3, 3, 6]) {
            log.append(id(t, i), u32::try_from(i).unwrap());
        }
        log
    }

    #[test]
    fn terms_are_found_in_runs() {
        let log = log();
        let terms: Vec<Option<u32>> = (2..=10).map(|i| log.term_at(Index(i)).map(|e| e.round)).collect();
        assert_eq!(terms, [None, Some(1), Some(1), Some(1), Some(3), Some(3), Some(3), Some(6), None]);
        assert_eq!(log.last(), id(6, 9));
    }

    #[test]
    fn truncate_and_append_again() {
        let mut log = log();
        log.truncate(Index(7));
        assert_eq!(log.last(), id(3, 6));
        log.truncate(Index(6));
        assert_eq!(log.last(), id(1, 5));
        log.append(id(7, 6), 1);
        assert_eq!(log.last_not_above(Index(9), Epoch::of(6)), Some(id(1, 5)));
        log.truncate(Index(1));
        assert_eq!((log.last(), log.runs().len()), (id(1, 3), 0));
    }

    #[test]
    fn purge_inside_and_beyond() {
        let mut inside = log();
        inside.purge(id(3, 7));
        assert_eq!((inside.base(), inside.last()), (id(3, 7), id(6, 9)));
        assert_eq!((inside.term_at(Index(6)), inside.term_at(Index(8))), (None, Some(Epoch::of(3))));
        assert_eq!(inside.bytes_between(Index(7), Index(9)), Some(17));
        inside.purge(id(3, 8));
        assert_eq!(inside.runs(), [Run { epoch: Epoch::of(6), from: Index(9) }]);
        let mut beyond = log();
        beyond.purge(id(8, 20));
        assert_eq!((beyond.base(), beyond.last()), (id(8, 20), id(8, 20)));
        beyond.append(id(8, 21), 5);
        assert_eq!(beyond.bytes_between(Index(20), Index(21)), Some(5));
    }

    #[test]
    fn conflicts_skip_whole_terms() {
        let log = log();
        assert_eq!(log.last_not_above(Index(8), Epoch::of(2)), Some(id(1, 5)));
        assert_eq!(log.last_not_above(Index(7), Epoch::of(3)), Some(id(3, 7)));
        assert_eq!(log.last_not_above(Index(99), Epoch::of(9)), Some(id(6, 9)));
        assert_eq!(log.last_not_above(Index(4), Epoch::ZERO), None);
    }

    #[test]
    fn frames_are_cut_by_bytes_and_hold_at_least_one() {
        let log = log();
        assert_eq!(log.frame_end(Index(4), 9), Some(Index(5)));
        assert_eq!(log.frame_end(Index(4), 8), Some(Index(4)));
        assert_eq!(log.frame_end(Index(4), 0), Some(Index(4)));
        assert_eq!(log.frame_end(Index(4), 999), Some(Index(9)));
        assert_eq!(log.frame_end(Index(6), 13), Some(Index(7)));
        assert_eq!(log.frame_end(Index(10), 99), None);
    }

    #[test]
    fn sizes_of_old_entries_are_forgotten() {
        let mut log = Log::new(LogId::ZERO, 4);
        for i in 1..=20 {
            log.append(id(1, i), 10);
        }
        let from = log.counted_from();
        assert!(from.0 > 10 && from.0 <= 17, "counted from {from}");
        assert_eq!(log.bytes_between(from.prev(), Index(20)), Some((21 - from.0) * 10));
        assert_eq!(log.bytes_between(Index(1), Index(20)), None);
        assert_eq!(log.frame_end(Index(2), 100), None);
    }
}
