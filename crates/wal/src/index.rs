//! Where each entry lies: 12 bytes per entry in memory, shared between the log thread and readers.
//!
//! The log thread changes it under the write lock once per append; a reader copies the few locations it wants under
//! the read lock and reads the bytes outside of it, from a file handle that outlives the removal of its segment.

use replog::{Index, LogId, LogOp};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// A core writes at most a window beyond its log; a gap beyond this is a bug, not a hole.
const HOLE_LIMIT: u64 = 1 << 24;

/// Bytes between two records (frame headers, records that were superseded) that a read rather takes along.
const GAP_LIMIT: u32 = 1 << 10;

/// Place of an entry's record. Segment 0 is "none".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) segment: u32,
    pub(crate) offset: u32,
    pub(crate) length: u32,
}

/// Locations above the base.
#[derive(Debug)]
pub(crate) struct LogIndex<F> {
    base: LogId,
    /// `slots[i]` is index `base + 1 + i`.
    slots: VecDeque<Location>,
    /// Open segments.
    files: BTreeMap<u32, Arc<F>>,
    /// The segment that is being written, and how much of it has reached the file.
    active: u32,
    flushed: u64,
}

impl<F> LogIndex<F> {
    pub(crate) fn new(base: LogId) -> Self {
        Self { base, slots: VecDeque::new(), files: BTreeMap::new(), active: 0, flushed: 0 }
    }

    pub(crate) fn add_segment(&mut self, number: u32, file: Arc<F>) {
        self.files.insert(number, file);
    }

    pub(crate) fn remove_segment(&mut self, number: u32) {
        self.files.remove(&number);
    }

    /// Bytes of segment `number` up to `flushed` can be read.
    pub(crate) fn set_flushed(&mut self, number: u32, flushed: u64) {
        self.active = number;
        self.flushed = flushed;
    }

    /// The entry at `index` lies at `location` now. At or below the base it is forgotten.
    ///
    /// # Panics
    /// If it lies absurdly far beyond the end.
    pub(crate) fn put(&mut self, index: Index, location: Location) {
        let Some(slot) = self.slot(index) else { return };
        let length = self.slots.len();
        if slot < length {
            if let Some(place) = self.slots.get_mut(slot) {
                *place = location;
            }
            return;
        }
        let hole = slot - length;
        assert!(
            (hole as u64) < HOLE_LIMIT,
            "entry {index} is written {hole} positions beyond the end of the log"
        );
        self.slots.extend(std::iter::repeat_n(Location::default(), hole));
        self.slots.push_back(location);
    }

    /// Follows truncations and purges; writes come through [`Self::put`].
    pub(crate) fn follow(&mut self, op: &LogOp) {
        match op {
            LogOp::HardState(_) | LogOp::Write(_) => {}
            LogOp::Truncate { from } => {
                let keep = self.slot(*from).unwrap_or(0);
                self.slots.truncate(keep);
            }
            LogOp::Purge { upto } => {
                if upto.index <= self.base.index {
                    return;
                }
                let gone = upto.index.0 - self.base.index.0;
                let gone = usize::try_from(gone).unwrap_or(usize::MAX).min(self.slots.len());
                self.slots.drain(..gone);
                self.base = *upto;
            }
        }
    }

    /// Where `index` and its successors lie, as far as one read of one file gets them: ascending, close together,
    /// within `max_bytes` of records (but at least one) and at most `count`.
    pub(crate) fn run(&self, index: Index, count: u64, max_bytes: u64) -> Option<(Arc<F>, Vec<Location>)> {
        let start = self.slot(index)?;
        let first = *self.slots.get(start)?;
        let file = self.files.get(&first.segment)?;
        let mut run: Vec<Location> = Vec::new();
        let mut left = max_bytes;
        for next in self.slots.range(start..) {
            let end = run.last().map_or(next.offset, |l| l.offset + l.length);
            let near = next.offset.checked_sub(end).is_some_and(|gap| gap <= GAP_LIMIT);
            let fits = run.is_empty() || u64::from(next.length) <= left;
            let enough = run.len() as u64 == count;
            if enough || next.segment != first.segment || !near || !fits || !self.readable(*next) {
                break;
            }
            left = left.saturating_sub(u64::from(next.length));
            run.push(*next);
        }
        if run.is_empty() { None } else { Some((Arc::clone(file), run)) }
    }

    fn readable(&self, at: Location) -> bool {
        at.segment != self.active || u64::from(at.offset) + u64::from(at.length) <= self.flushed
    }

    fn slot(&self, index: Index) -> Option<usize> {
        let above = index.0.checked_sub(self.base.index.0)?.checked_sub(1)?;
        usize::try_from(above).ok()
    }
}
