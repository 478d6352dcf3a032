//! The ids of a log in a few words: the epoch-start table, and the sizes of its newest entries.
//!
//! Indexes are dense and epochs never decrease along a log, so the id of any entry follows from the list of
//! (epoch, first index). The base is the first row, so the table also answers for the base itself.
//!
//! ```text
//!  base 3:40                                   last 7:95
//!   │ 40 … 52 │ 53 … 80 │ 81 ……………………… 95 │        starts = [(3,40) (5,53) (7,81)]
//!     epoch 3    epoch 5     epoch 7
//! ```
//!
//! Prefix property: two logs that both hold (e, i) are equal up to i. Every log that holds an entry of epoch e was
//! made identical to the history of e's leader before, and got e's entries in order after. So the last common entry
//! of two logs is the smaller end of the highest epoch that both hold: one comparison instead of a search.
// spec-deviates: zookeeper LearnerHandler.syncFollower because zxids have gaps at epoch changes and need a search
// (kept as an option, see `crate::sync`).

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use replog::{Entry, EntryMeta, Epoch, Index, LogId, Span};
use serde::{Deserialize, Serialize};

/// Entries below the committed prefix whose sizes stay known, so that a follower that is a little behind is served
/// in counted frames.
const COUNTED_BELOW_COMMIT: u64 = 4096;

/// Rows of a table that travel; one row per reign, so this is more reigns than a log between two snapshots has.
const ROWS_SENT: usize = 4096;

/// An epoch-start table as it travels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Table {
    /// (epoch, first index), ascending; the first row is the base, or the oldest row that fits.
    pub starts: Vec<(Epoch, Index)>,
    /// Index of the last entry.
    pub last: Index,
}

impl Table {
    /// The last entry.
    #[must_use]
    pub fn last_id(&self) -> LogId {
        self.starts.last().map_or(LogId::ZERO, |&(epoch, _)| LogId::new(epoch, self.last))
    }
}

/// The ids of this replica's log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct History {
    /// (epoch, first index), ascending; never empty; the first row is the base.
    starts: VecDeque<(Epoch, Index)>,
    last: Index,
    /// Running total of bytes after each entry above `counted_from`.
    totals: VecDeque<u64>,
    counted_from: Index,
    /// The total at `counted_from`.
    total_before: u64,
}

/// Keeps the entries up to the first gap, if there is one: where it begins.
///
/// 1. The frame of 55 rots, with its id. 2. The log reports 1-54 and 56-90. 3. Kept, 56-90 would be counted from 55 on.
// trap: protocol-traps §1.13
pub(crate) fn cut_at_gap(base: LogId, entries: &mut Vec<EntryMeta>) -> Option<Index> {
    let whole = entries.iter().zip(base.index.0 + 1..).take_while(|(e, i)| e.id.index.0 == *i).count();
    let gap = (whole < entries.len()).then_some(Index(base.index.0 + 1 + whole as u64));
    entries.truncate(whole);
    gap
}

impl History {
    pub(crate) fn new(base: LogId, entries: &[EntryMeta]) -> Self {
        let mut history = Self {
            starts: VecDeque::from([(base.epoch, base.index)]),
            last: base.index,
            totals: VecDeque::new(),
            counted_from: base.index,
            total_before: 0,
        };
        for meta in entries {
            history.push(meta.id, meta.bytes);
        }
        history
    }

    pub(crate) fn base(&self) -> LogId {
        self.starts.front().map_or(LogId::ZERO, |&(epoch, index)| LogId::new(epoch, index))
    }

    pub(crate) fn last(&self) -> LogId {
        self.starts.back().map_or(LogId::ZERO, |&(epoch, _)| LogId::new(epoch, self.last))
    }

    /// The id of the entry at `index`, `None` below the base and above the end.
    pub(crate) fn id_at(&self, index: Index) -> Option<LogId> {
        if index > self.last || index < self.base().index {
            return None;
        }
        // Nearly always the newest epoch.
        let &(epoch, from) = self.starts.back()?;
        if from <= index {
            return Some(LogId::new(epoch, index));
        }
        let row = self.starts.partition_point(|&(_, from)| from <= index).checked_sub(1)?;
        self.starts.get(row).map(|&(epoch, _)| LogId::new(epoch, index))
    }

    /// Whether this log holds `id` (the base counts).
    pub(crate) fn contains(&self, id: LogId) -> bool {
        self.id_at(id.index) == Some(id)
    }

    /// Appends the next entry.
    pub(crate) fn push(&mut self, id: LogId, bytes: u32) {
        let last = self.last();
        // Trap 1.13: a hole in the log is forwarded by a later leader.
        assert!(
            id.index == last.index.next() && id.epoch >= last.epoch,
            "entry {id} does not continue the log, which ends at {last}"
        );
        if id.epoch > last.epoch {
            self.starts.push_back((id.epoch, id.index));
        }
        self.last = id.index;
        let total = self.total() + u64::from(bytes);
        self.totals.push_back(total);
    }

    /// Appends entries that were checked to continue the log.
    pub(crate) fn extend(&mut self, entries: &[Entry]) {
        for entry in entries {
            self.push(entry.id, entry.bytes());
        }
    }

    /// Drops everything above `to`.
    pub(crate) fn truncate(&mut self, to: Index) {
        let to = to.max(self.base().index).min(self.last);
        while self.starts.len() > 1 && self.starts.back().is_some_and(|&(_, from)| from > to) {
            self.starts.pop_back();
        }
        self.last = to;
        let keep = usize::try_from(to.0.saturating_sub(self.counted_from.0)).unwrap_or(usize::MAX);
        self.totals.truncate(keep);
        self.counted_from = self.counted_from.min(to);
    }

    /// Moves the base up to `upto`, which may lie beyond the end.
    pub(crate) fn purge(&mut self, upto: LogId) {
        if upto.index >= self.last {
            *self = Self::new(upto, &[]);
            return;
        }
        while self.starts.front().is_some_and(|&(_, from)| from <= upto.index) {
            self.starts.pop_front();
        }
        self.starts.push_front((upto.epoch, upto.index));
        self.forget_sizes(upto.index);
    }

    /// Forgets sizes that no window and no nearby follower needs.
    pub(crate) fn settle(&mut self, committed: Index) {
        let keep_from = committed.0.saturating_sub(COUNTED_BELOW_COMMIT);
        if keep_from > self.counted_from.0 + COUNTED_BELOW_COMMIT {
            self.forget_sizes(Index(keep_from));
        }
    }

    /// Whether the sizes of all entries above `index` are known.
    pub(crate) fn counts_from(&self, index: Index) -> bool {
        index >= self.counted_from && index <= self.last
    }

    /// Bytes of the entries above `from` up to `to`; 0 where they are not known.
    pub(crate) fn bytes(&self, from: Index, to: Index) -> u64 {
        self.total_at(to).saturating_sub(self.total_at(from))
    }

    /// The last index of a frame of at most `max` bytes that starts after `from` and ends at `end` at the latest; at
    /// least one entry.
    pub(crate) fn frame_end(&self, from: Index, end: Index, max: u64) -> Index {
        let limit = self.total_at(from).saturating_add(max);
        if self.total_at(end) <= limit {
            return end;
        }
        let fits = self.totals.partition_point(|&total| total <= limit) as u64;
        Index(self.counted_from.0 + fits).max(from.next()).min(end)
    }

    /// The table as it travels.
    pub(crate) fn table(&self) -> Table {
        let skip = self.starts.len().saturating_sub(ROWS_SENT);
        Table { starts: self.starts.iter().skip(skip).copied().collect(), last: self.last }
    }

    /// The last entry that both logs hold, if both still know it.
    pub(crate) fn common(&self, other: &Table) -> Option<LogId> {
        let mut mine = self.starts.iter().rev();
        let mut theirs = other.starts.iter().rev();
        let (mut a, mut b) = (mine.next(), theirs.next());
        let (mut end_a, mut end_b) = (self.last, other.last);
        while let (Some(&(epoch_a, from_a)), Some(&(epoch_b, from_b))) = (a, b) {
            if epoch_a == epoch_b {
                let end = end_a.min(end_b);
                // Else one log's part of that epoch was purged beyond the other's end.
                return (end >= from_a.max(from_b)).then(|| LogId::new(epoch_a, end));
            }
            if epoch_a > epoch_b {
                (a, end_a) = (mine.next(), from_a.prev());
            } else {
                (b, end_b) = (theirs.next(), from_b.prev());
            }
        }
        None
    }

    /// ZooKeeper's search for `last`, the end of the other log, with the number of entries that it looks at.
    ///
    /// `Ok` is the entry to go on from (`last` itself: DIFF, an earlier one: TRUNC), `Err` asks for a snapshot.
    // spec: zookeeper LearnerHandler.syncFollower, zookeeper-reference §7.5
    pub(crate) fn search(&self, last: LogId) -> (Result<LogId, ()>, u64) {
        let end = self.last();
        if last == end {
            return (Ok(last), 1);
        }
        if last.epoch == end.epoch && last > end {
            return (Ok(end), 1);
        }
        if last.index < self.base().index || last > end {
            return (Err(()), 1);
        }
        // Walk up from the base to the last entry not above `last`, as over the committed log.
        let base = self.base();
        let mut probes = 0;
        let log = (base.index.0..).map_while(|index| self.id_at(Index(index)));
        let found = log.inspect(|_| probes += 1).take_while(|id| *id <= last).last().unwrap_or(base);
        (if found.epoch == last.epoch { Ok(found) } else { Err(()) }, probes)
    }

    /// Epochs ascend, and so do their first indexes.
    pub(crate) fn is_ordered(&self) -> bool {
        let ascends = |((e1, i1), (e2, i2)): (&(Epoch, Index), &(Epoch, Index))| e1 < e2 && i1 < i2;
        self.starts.iter().zip(self.starts.iter().skip(1)).all(ascends)
            && self.starts.back().is_some_and(|&(_, from)| from <= self.last)
            && self.counted_from.0 + self.totals.len() as u64 == self.last.0
    }

    fn total(&self) -> u64 {
        self.totals.back().copied().unwrap_or(self.total_before)
    }

    fn total_at(&self, index: Index) -> u64 {
        match index.0.checked_sub(self.counted_from.0) {
            None | Some(0) => self.total_before,
            Some(n) => {
                let at = usize::try_from(n - 1).unwrap_or(usize::MAX);
                self.totals.get(at).copied().unwrap_or_else(|| self.total())
            }
        }
    }

    fn forget_sizes(&mut self, upto: Index) {
        let count = upto.0.saturating_sub(self.counted_from.0);
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(self.totals.len());
        if let Some(total) = self.totals.drain(..count).next_back() {
            self.total_before = total;
        }
        self.counted_from = Index(self.counted_from.0 + count as u64);
    }
}

/// Whether entries continue each other, none of an epoch above `epoch`: what a follower asks of an attachment before
/// it looks at it.
pub(crate) fn is_contiguous(entries: &[Entry], epoch: Epoch) -> bool {
    let continues = |(a, b): (&Entry, &Entry)| b.id.index == a.id.index.next() && b.id.epoch >= a.id.epoch;
    entries.iter().zip(entries.iter().skip(1)).all(continues)
        && entries.last().is_none_or(|e| e.id.epoch <= epoch)
        && entries.first().is_none_or(|e| e.id.index > Index::ZERO)
}

/// `from..=to` without what `have` covers already, as the part of a span that is wanted.
pub(crate) fn above(span: Span, have: Index) -> Option<Span> {
    Span::new(span.from.max(have.next()), span.to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(epoch: u32, index: u64) -> EntryMeta {
        let id = LogId::new(Epoch::of(epoch), Index(index));
        EntryMeta { id, ballot: id.epoch, bytes: 100, configuration: None }
    }

    /// A log of the given epochs from index 1.
    fn log(epochs: &[u32]) -> History {
        let metas: Vec<_> = epochs.iter().zip(1..).map(|(&e, i)| meta(e, i)).collect();
        History::new(LogId::ZERO, &metas)
    }

    fn id(epoch: u32, index: u64) -> LogId {
        LogId::new(Epoch::of(epoch), Index(index))
    }

    #[test]
    fn ids_follow_from_the_table() {
        let h = log(&[1, 1, 3, 3, 3, 7]);
        let ids: Vec<_> = (0..=7).map(|i| h.id_at(Index(i))).collect();
        let known = [(0, 0), (1, 1), (1, 2), (3, 3), (3, 4), (3, 5), (7, 6)].map(|(e, i)| Some(id(e, i)));
        assert_eq!(ids[..7], known);
        assert_eq!(ids[7], None);
        assert!(h.is_ordered());
    }

    /// requirement: S40
    #[test]
    fn one_comparison_finds_the_common_point() {
        let leader = log(&[1, 1, 3, 3, 3, 7]);
        let cases: [(&[u32], (u32, u64)); 7] = [
            (&[1, 1, 3, 3, 3, 7], (7, 6)),
            (&[1, 1, 3], (3, 3)),
            (&[1, 1, 3, 3, 3, 7, 7, 7], (7, 6)),
            (&[1, 1, 1, 1, 1, 1, 1, 1], (1, 2)),
            (&[1, 1, 2, 2], (1, 2)),
            (&[2, 2, 2], (0, 0)),
            (&[], (0, 0)),
        ];
        for (other, (epoch, index)) in cases {
            assert_eq!(leader.common(&log(other).table()), Some(id(epoch, index)), "{other:?}");
        }
    }

    #[test]
    fn a_purged_part_has_no_common_point() {
        let mut leader = log(&[1, 1, 1, 3, 3]);
        leader.purge(id(1, 3));
        assert_eq!(leader.base(), id(1, 3));
        assert_eq!(leader.common(&log(&[1, 1]).table()), None, "the follower ends below the base");
        assert_eq!(leader.common(&log(&[1, 1, 1]).table()), Some(id(1, 3)), "the base itself is known");
        assert_eq!(leader.common(&log(&[1, 1, 1, 2]).table()), Some(id(1, 3)));
        leader.purge(id(9, 50));
        assert_eq!((leader.base(), leader.last()), (id(9, 50), id(9, 50)));
    }

    #[test]
    fn frames_are_cut_by_counted_bytes() {
        let mut h = log(&[1; 10]);
        assert_eq!(h.bytes(Index(2), Index(5)), 300);
        assert_eq!(h.frame_end(Index(2), Index(10), 250), Index(4));
        assert_eq!(h.frame_end(Index(2), Index(10), 10), Index(3), "at least one");
        assert_eq!(h.frame_end(Index(2), Index(3), 999), Index(3));
        h.truncate(Index(4));
        h.push(id(2, 5), 7);
        assert_eq!(h.bytes(Index(3), Index(5)), 107);
        h.purge(id(1, 3));
        assert_eq!(h.bytes(Index(3), Index(5)), 107);
        assert!(h.counts_from(Index(3)) && !h.counts_from(Index(2)));
        assert!(h.is_ordered());
    }

    #[test]
    fn sizes_far_below_the_commit_are_forgotten() {
        let mut h = log(&vec![1; 10_000]);
        h.settle(Index(9_990));
        assert!(!h.counts_from(Index(100)) && h.counts_from(Index(9_000)));
        assert_eq!(h.bytes(Index(9_990), Index(10_000)), 1000);
        assert!(h.is_ordered());
    }

    /// requirement: S40
    #[test]
    fn zookeepers_search_needs_many_probes_and_sometimes_a_snapshot() {
        let leader = log(&[1, 1, 3, 3, 3, 7]);
        assert_eq!(leader.search(id(7, 6)), (Ok(id(7, 6)), 1));
        assert_eq!(leader.search(id(7, 9)), (Ok(id(7, 6)), 1));
        assert_eq!(leader.search(id(3, 4)), (Ok(id(3, 4)), 6));
        assert_eq!(leader.search(id(1, 5)).0, Ok(id(1, 2)));
        assert_eq!(leader.search(id(2, 4)).0, Err(()), "a tail of an epoch that the leader never saw");
    }

    #[test]
    fn a_gap_ends_what_is_kept() {
        let meta = |i| EntryMeta { id: id(1, i), ballot: Epoch::of(1), bytes: 50, configuration: None };
        let mut entries: Vec<EntryMeta> = [4, 5, 7, 8].map(meta).to_vec();
        assert_eq!(cut_at_gap(id(1, 3), &mut entries), Some(Index(6)));
        assert_eq!(entries.len(), 2);
        assert_eq!(cut_at_gap(id(1, 3), &mut entries), None);
    }

    #[test]
    #[should_panic(expected = "does not continue the log")]
    fn a_hole_is_never_appended() {
        log(&[1, 1]).push(id(1, 4), 1);
    }
}
