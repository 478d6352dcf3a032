//! The entries that are still in memory: all that is not committed, applied and durable, and a bounded tail
//! below it, from which followers that are a little behind are served without touching the disk.

use crate::{Entry, Index, LogOp, Span};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Entries by index; may have holes (Paxos accepts out of order).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Recent {
    /// Index of `slots[0]`.
    first: Index,
    /// Everything at or below it was forgotten.
    floor: Index,
    slots: VecDeque<Option<Entry>>,
    bytes: u64,
    keep_bytes: u64,
}

impl Recent {
    /// Keeps at most `keep_bytes` of entries that could be forgotten.
    #[must_use]
    pub fn new(keep_bytes: u64) -> Self {
        Self { first: Index(1), floor: Index::ZERO, slots: VecDeque::new(), bytes: 0, keep_bytes }
    }

    /// Follows a write of the core.
    pub fn follow(&mut self, op: &LogOp) {
        match op {
            LogOp::HardState(_) => {}
            LogOp::Write(entries) => entries.iter().for_each(|e| self.insert(e.clone())),
            LogOp::Truncate { from } => {
                while self.end() > *from && !self.slots.is_empty() {
                    self.pop_back();
                }
            }
            LogOp::Purge { upto } => {
                while self.first <= upto.index && !self.slots.is_empty() {
                    self.pop_front();
                }
                self.floor = self.floor.max(upto.index);
            }
        }
    }

    /// Drops the oldest entries at or below `safe` while more than the bound is held.
    pub fn evict(&mut self, safe: Index) {
        while self.bytes > self.keep_bytes && self.first <= safe && !self.slots.is_empty() {
            self.pop_front();
        }
    }

    /// The entry at `index`, if it is in memory.
    #[must_use]
    pub fn entry(&self, index: Index) -> Option<&Entry> {
        self.slots.get(self.offset(index)?)?.as_ref()
    }

    /// Entries of `span` from its start, contiguous, up to `max_bytes` (at least one); empty if the first is not
    /// here.
    #[must_use]
    pub fn span(&self, span: Span, max_bytes: u64) -> Vec<Entry> {
        let mut found = Vec::new();
        let Some(offset) = self.offset(span.from) else { return found };
        let mut bytes = 0;
        let count = usize::try_from(span.count()).unwrap_or(usize::MAX);
        for entry in self.slots.iter().skip(offset).take(count) {
            let Some(entry) = entry else { break };
            bytes += u64::from(entry.bytes());
            if bytes > max_bytes && !found.is_empty() {
                break;
            }
            found.push(entry.clone());
        }
        found
    }

    /// The lowest position at or above `from` that is in memory.
    #[must_use]
    pub fn first_from(&self, from: Index) -> Option<Index> {
        let at = from.max(self.first);
        let held = self.slots.iter().skip(self.offset(at)?).position(Option::is_some)?;
        Some(Index(at.0 + held as u64))
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// One past the last slot.
    fn end(&self) -> Index {
        Index(self.first.0 + self.slots.len() as u64)
    }

    fn offset(&self, index: Index) -> Option<usize> {
        usize::try_from(index.0.checked_sub(self.first.0)?).ok()
    }

    fn insert(&mut self, entry: Entry) {
        let index = entry.id.index;
        if self.slots.is_empty() {
            self.first = index;
        }
        // A re-write of something already forgotten (a repair): it is on disk, that is enough.
        if index <= self.floor {
            return;
        }
        // Paxos, after a restart: slot 50 is accepted first, then 41-49 are fetched. They are not committed, so they
        // must be in memory: the log thread may not have them yet when they are wanted.
        while index < self.first {
            self.slots.push_front(None);
            self.first = self.first.prev();
        }
        let Some(offset) = self.offset(index) else { return };
        while self.slots.len() <= offset {
            self.slots.push_back(None);
        }
        self.bytes += u64::from(entry.bytes());
        if let Some(slot) = self.slots.get_mut(offset)
            && let Some(old) = slot.replace(entry)
        {
            self.bytes -= u64::from(old.bytes());
        }
    }

    fn pop_front(&mut self) {
        if let Some(Some(old)) = self.slots.pop_front() {
            self.bytes -= u64::from(old.bytes());
        }
        self.floor = self.floor.max(self.first);
        self.first = self.first.next();
    }

    fn pop_back(&mut self) {
        if let Some(Some(old)) = self.slots.pop_back() {
            self.bytes -= u64::from(old.bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Body, Epoch, LogId, Stamp};
    use alloc::vec;

    fn entry(i: u64) -> Entry {
        let epoch = Epoch::of(1);
        Entry { id: LogId::new(epoch, Index(i)), ballot: epoch, stamp: Stamp(0), body: Body::Noop }
    }

    fn indexes(r: &Recent, from: u64, to: u64) -> Vec<u64> {
        let span = Span::new(Index(from), Index(to)).unwrap();
        r.span(span, u64::MAX).iter().map(|e| e.id.index.0).collect()
    }

    #[test]
    fn follows_writes_truncations_and_purges() {
        let mut r = Recent::new(u64::MAX);
        r.follow(&LogOp::Write((5..=9).map(entry).collect()));
        assert_eq!(indexes(&r, 5, 99), [5, 6, 7, 8, 9]);
        assert!(indexes(&r, 4, 9).is_empty());
        r.follow(&LogOp::Truncate { from: Index(8) });
        assert_eq!(indexes(&r, 5, 99), [5, 6, 7]);
        r.follow(&LogOp::Purge { upto: LogId::new(Epoch::of(1), Index(5)) });
        assert_eq!(indexes(&r, 6, 99), [6, 7]);
        assert_eq!(r.bytes(), 2 * u64::from(Entry::OVERHEAD_BYTES));
    }

    #[test]
    fn a_hole_ends_a_span() {
        let mut r = Recent::new(u64::MAX);
        r.follow(&LogOp::Write(vec![entry(1), entry(2), entry(4)]));
        assert_eq!(indexes(&r, 1, 4), [1, 2]);
        assert_eq!(indexes(&r, 4, 4), [4]);
        r.follow(&LogOp::Write(vec![entry(3)]));
        assert_eq!(indexes(&r, 1, 4), [1, 2, 3, 4]);
    }

    #[test]
    fn an_earlier_slot_may_come_later_but_not_come_back() {
        let mut r = Recent::new(0);
        r.follow(&LogOp::Write(vec![entry(5)]));
        r.follow(&LogOp::Write(vec![entry(3)]));
        assert_eq!(indexes(&r, 3, 5), [3]);
        r.follow(&LogOp::Write(vec![entry(4)]));
        assert_eq!(indexes(&r, 3, 5), [3, 4, 5]);
        r.evict(Index(4));
        r.follow(&LogOp::Write(vec![entry(4)]));
        assert!(r.entry(Index(4)).is_none());
        assert_eq!(indexes(&r, 5, 5), [5]);
    }

    #[test]
    fn the_first_position_from_an_index_on() {
        let mut r = Recent::new(1 << 20);
        assert_eq!(r.first_from(Index(1)), None);
        r.follow(&LogOp::Write(vec![entry(5), entry(8)]));
        let first: Vec<_> = [1, 5, 6, 8, 9].map(|i| r.first_from(Index(i)).map(|i| i.0)).into();
        assert_eq!(first, [Some(5), Some(5), Some(8), Some(8), None]);
    }

    #[test]
    fn eviction_stops_at_what_is_still_needed() {
        let mut r = Recent::new(0);
        r.follow(&LogOp::Write((1..=5).map(entry).collect()));
        r.evict(Index(3));
        assert!(r.entry(Index(3)).is_none());
        assert!(r.entry(Index(4)).is_some());
        assert_eq!(r.span(Span { from: Index(4), to: Index(5) }, 1).len(), 1, "at least one entry per frame");
    }
}
