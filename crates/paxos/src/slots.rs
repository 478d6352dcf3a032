//! What a replica knows of its own log without holding a single body: where the chosen prefix ends, who first
//! proposed what (a table of runs), and above the prefix which slots were accepted in which ballot.
//!
//! ```text
//!   base          committed                         highest
//!    │ chosen: (from, epoch)… │ held: [11-14 e3 b5] . [16-20 e5 b5]   (15 is a hole)
//! ```
//!
//! Invariants: base ≤ committed; runs are ascending, disjoint and above `committed`; a slot's ballot never
//! decreases while it is above `committed`; `bytes` counts what lies above it, rounded up to whole marks.
//!
//! A [`LogId`] names a value: one proposer proposes one value per slot in one reign, so equal ids are equal values.
//! That is what lets a replica confirm a slot as chosen by its id, without its body.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use replog::{Epoch, Index, LogId, Span, mutant};
use serde::{Deserialize, Serialize};

/// Neighbouring slots that were first proposed in one epoch and last accepted in one ballot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Run {
    /// First slot.
    pub from: Index,
    /// Last slot.
    pub to: Index,
    /// Epoch of the first proposer.
    pub epoch: Epoch,
    /// Ballot of the last acceptance; [`Epoch::ZERO`] where it is not known (chosen slots).
    pub ballot: Epoch,
}

/// A group of neighbouring slots above the prefix, whose bytes are given back together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Mark {
    to: Index,
    slots: u32,
    bytes: u64,
}

/// The positions of one replica's log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Slots {
    base: LogId,
    committed: Index,
    /// First slot and epoch of each run in `base+1..=committed`.
    chosen: Vec<(Index, Epoch)>,
    held: Vec<Run>,
    marks: VecDeque<Mark>,
    bytes: u64,
    /// Positions whose bytes cannot be read, ascending.
    damaged: Vec<Span>,
}

impl Slots {
    /// Slots per mark at most.
    const MARK_SLOTS: u32 = 64;
    /// Bytes after which a new mark begins.
    const MARK_BYTES: u64 = 32 << 10;

    /// A log that begins after `base`.
    pub(crate) fn new(base: LogId) -> Self {
        Self {
            base,
            committed: base.index,
            chosen: Vec::new(),
            held: Vec::new(),
            marks: VecDeque::new(),
            bytes: 0,
            damaged: Vec::new(),
        }
    }

    /// Slots at or below it are gone.
    pub(crate) fn base(&self) -> LogId {
        self.base
    }

    /// End of the chosen prefix.
    pub(crate) fn committed(&self) -> Index {
        self.committed
    }

    /// Accepted slots above the prefix.
    pub(crate) fn held(&self) -> &[Run] {
        &self.held
    }

    /// Bytes above the prefix.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Highest slot held, at least the prefix's end.
    pub(crate) fn highest(&self) -> Index {
        self.held.last().map_or(self.committed, |r| r.to)
    }

    /// The run that holds `index`, above the prefix.
    pub(crate) fn run_at(&self, index: Index) -> Option<Run> {
        let at = self.held.partition_point(|r| r.to < index);
        self.held.get(at).copied().filter(|r| r.from <= index)
    }

    /// Epoch of the first proposer of `index`, if the slot is known.
    pub(crate) fn epoch_at(&self, index: Index) -> Option<Epoch> {
        if index > self.committed {
            return self.run_at(index).map(|r| r.epoch);
        }
        if index == self.base.index {
            return Some(self.base.epoch);
        }
        let at = self.chosen.partition_point(|(from, _)| *from <= index);
        self.chosen.get(at.checked_sub(1)?).map(|(_, epoch)| *epoch)
    }

    /// The id of the last chosen slot.
    pub(crate) fn committed_id(&self) -> LogId {
        LogId::new(self.epoch_at(self.committed).unwrap_or(Epoch::ZERO), self.committed)
    }

    /// The last slot with no hole below.
    pub(crate) fn last(&self) -> LogId {
        let end = self.end_where(|_| true);
        LogId::new(self.epoch_at(end).unwrap_or(Epoch::ZERO), end)
    }

    /// Last slot of the stretch after the prefix whose runs all satisfy `ok` and are undamaged.
    pub(crate) fn end_where(&self, ok: impl Fn(&Run) -> bool) -> Index {
        let mut end = self.committed;
        for run in &self.held {
            if run.from != end.next() || !ok(run) {
                break;
            }
            end = run.to;
        }
        match self.damaged.iter().find(|s| s.to > self.committed) {
            Some(span) => end.min(span.from.prev().max(self.committed)),
            None => end,
        }
    }

    /// Last slot of the gapless stretch that starts at `from`; `None` if `from` is not held.
    pub(crate) fn stretch(&self, from: Index) -> Option<Index> {
        let at = self.held.partition_point(|r| r.to < from);
        let mut end = self.held.get(at).filter(|r| r.from <= from)?.to;
        for run in self.held.iter().skip(at + 1) {
            if run.from != end.next() {
                break;
            }
            end = run.to;
        }
        Some(end)
    }

    /// Notes that `index` was accepted. Only above the prefix.
    pub(crate) fn put(&mut self, id: LogId, ballot: Epoch, bytes: u32) {
        let index = id.index;
        debug_assert!(index > self.committed, "slot {index} is chosen already");
        self.repair(index);
        let run = Run { from: index, to: index, epoch: id.epoch, ballot };
        match self.held.last_mut() {
            Some(last) if last.to.next() == index && last.epoch == id.epoch && last.ballot == ballot => {
                last.to = index;
            }
            Some(last) if last.to >= index => {
                if !self.put_inside(run) {
                    return;
                }
            }
            _ => self.held.push(run),
        }
        self.count(index, bytes);
    }

    /// Puts a run of one slot among the others; whether the slot is new.
    fn put_inside(&mut self, run: Run) -> bool {
        let at = self.held.partition_point(|r| r.to < run.from);
        let Some(old) = self.held.get(at).copied() else { return true };
        if old.from > run.from {
            self.held.insert(at, run);
            self.merge(at);
            return true;
        }
        let before = Run { to: run.from.prev(), ..old };
        let after = Run { from: run.to.next(), ..old };
        let parts = [before, run, after].into_iter().filter(|r| r.from <= r.to);
        self.held.splice(at..=at, parts);
        self.merge(at + usize::from(before.from <= before.to));
        false
    }

    /// Joins the run at `at` with equal neighbours.
    fn merge(&mut self, at: usize) {
        for left in [at, at.saturating_sub(1)] {
            if let (Some(a), Some(b)) = (self.held.get(left).copied(), self.held.get(left + 1).copied())
                && a.to.next() == b.from
                && (a.epoch, a.ballot) == (b.epoch, b.ballot)
            {
                self.held.remove(left + 1);
                if let Some(joined) = self.held.get_mut(left) {
                    joined.to = b.to;
                }
            }
        }
    }

    fn count(&mut self, index: Index, bytes: u32) {
        self.bytes += u64::from(bytes);
        if let Some(mark) = self.marks.back_mut()
            && mark.slots < Self::MARK_SLOTS
            && mark.bytes < Self::MARK_BYTES
        {
            mark.to = mark.to.max(index);
            mark.slots += 1;
            mark.bytes += u64::from(bytes);
            return;
        }
        self.marks.push_back(Mark { to: index, slots: 1, bytes: u64::from(bytes) });
    }

    /// Moves the end of the chosen prefix up to `upto`; every slot up to there must be held and undamaged.
    pub(crate) fn commit(&mut self, upto: Index) {
        let mut done = 0;
        for run in &mut self.held {
            if run.from > upto {
                break;
            }
            assert!(
                run.from == self.committed.next(),
                "commit to {upto} over a hole after {}",
                self.committed
            );
            if self.chosen.last().is_none_or(|(_, epoch)| *epoch != run.epoch) {
                self.chosen.push((run.from, run.epoch));
            }
            self.committed = run.to.min(upto);
            if run.to <= upto {
                done += 1;
            } else {
                run.from = upto.next();
            }
        }
        assert!(self.committed >= upto, "commit to {upto} beyond what is held ({})", self.committed);
        self.held.drain(..done);
        self.release();
    }

    fn release(&mut self) {
        while let Some(mark) = self.marks.front().copied().filter(|m| m.to <= self.committed) {
            self.bytes -= mark.bytes;
            self.marks.pop_front();
        }
    }

    /// The chosen prefix now ends at a snapshot taken at `at`. What was accepted above stays.
    // Contract schedule 4: 1. slot 12 is chosen by {A, B}; 2. A, prefix 5, installs a snapshot at 10; 3. were slot 12
    // dropped with the rest, the next phase 1 over {A, C} would fill it with a no-op.
    pub(crate) fn install(&mut self, at: LogId) {
        self.base = at;
        self.committed = at.index;
        self.chosen.clear();
        self.held.retain(|r| r.to > at.index && !mutant!(PaxosInstallForgetsAbove));
        if let Some(first) = self.held.first_mut() {
            first.from = first.from.max(at.index.next());
        }
        self.damaged.retain(|s| s.to > at.index);
        self.release();
    }

    /// Forgets chosen slots up to `upto`.
    pub(crate) fn purge(&mut self, upto: LogId) {
        debug_assert!(upto.index <= self.committed, "purge of what is not chosen");
        let keep = self.chosen.partition_point(|(from, _)| *from <= upto.index.next()).saturating_sub(1);
        self.chosen.drain(..keep);
        if let Some(first) = self.chosen.first_mut() {
            first.0 = first.0.max(upto.index.next());
        }
        self.base = upto;
        self.damaged.retain(|s| s.to > upto.index);
    }

    /// Runs of the chosen slots `from..=to`, as far as they are known.
    pub(crate) fn chosen_runs(&self, from: Index, to: Index) -> Vec<Run> {
        let to = to.min(self.committed);
        let mut at = self.chosen.partition_point(|(first, _)| *first <= from).saturating_sub(1);
        let mut runs = Vec::new();
        while let Some(&(first, epoch)) = self.chosen.get(at).filter(|(first, _)| *first <= to) {
            let end = self.chosen.get(at + 1).map_or(self.committed, |(next, _)| next.prev()).min(to);
            let first = first.max(from);
            if first <= end {
                runs.push(Run { from: first, to: end, epoch, ballot: Epoch::ZERO });
            }
            at += 1;
        }
        runs
    }

    /// Positions that cannot be read.
    pub(crate) fn damaged(&self) -> &[Span] {
        &self.damaged
    }

    /// Whether `index` cannot be read.
    pub(crate) fn is_damaged(&self, index: Index) -> bool {
        !self.damaged.is_empty() && self.damaged.iter().any(|s| s.contains(index))
    }

    /// Notes that `span` cannot be read.
    pub(crate) fn damage(&mut self, span: Span) {
        if span.to > self.base.index {
            self.damaged.push(Span { from: span.from.max(self.base.index.next()), to: span.to });
            self.damaged.sort_unstable();
        }
    }

    /// Notes that `index` was written again.
    pub(crate) fn repair(&mut self, index: Index) {
        if !self.is_damaged(index) {
            return;
        }
        let mut rest = Vec::new();
        for span in self.damaged.drain(..) {
            if span.contains(index) {
                rest.extend(Span::new(span.from, index.prev()));
                rest.extend(Span::new(index.next(), span.to));
            } else {
                rest.push(span);
            }
        }
        self.damaged = rest;
    }
}

/// Spans of `mine` that `have` lacks, or has only from a lower ballot; neighbours joined.
pub(crate) fn lacking(mine: &[Run], have: &[Run]) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut add = |from: Index, to: Index| match spans.last_mut() {
        Some(last) if last.to.next() == from => last.to = to,
        _ => spans.extend(Span::new(from, to)),
    };
    for run in mine {
        let mut from = run.from;
        for other in have.iter().filter(|o| o.ballot >= run.ballot && o.to >= run.from && o.from <= run.to) {
            if other.from > from {
                add(from, other.from.prev());
            }
            from = from.max(other.to.next());
        }
        if from <= run.to {
            add(from, run.to);
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn slots(base: u64, runs: &[(u64, u64, u32, u32)]) -> Slots {
        let mut s = Slots::new(LogId::new(Epoch::of(1), Index(base)));
        for &(from, to, epoch, ballot) in runs {
            (from..=to).for_each(|i| s.put(LogId::new(Epoch::of(epoch), Index(i)), Epoch::of(ballot), 10));
        }
        s
    }

    fn shown(s: &Slots) -> Vec<(u64, u64, u32)> {
        s.held().iter().map(|r| (r.from.0, r.to.0, r.ballot.round)).collect()
    }

    #[test]
    fn neighbours_of_one_ballot_are_one_run() {
        let mut s = slots(0, &[(1, 3, 1, 1), (7, 7, 1, 1), (5, 5, 1, 1)]);
        assert_eq!(shown(&s), [(1, 3, 1), (5, 5, 1), (7, 7, 1)]);
        s.put(LogId::new(Epoch::of(1), Index(6)), Epoch::of(1), 10);
        assert_eq!(shown(&s), [(1, 3, 1), (5, 7, 1)]);
        assert_eq!(s.last().index, Index(3));
        assert_eq!(s.highest(), Index(7));
        assert_eq!(s.stretch(Index(6)), Some(Index(7)));
        assert_eq!(s.stretch(Index(4)), None);
    }

    #[test]
    fn a_higher_ballot_splits_a_run_and_counts_no_bytes_twice() {
        let mut s = slots(0, &[(1, 5, 1, 1), (3, 3, 2, 2)]);
        assert_eq!(shown(&s), [(1, 2, 1), (3, 3, 2), (4, 5, 1)]);
        assert_eq!(s.bytes(), 50);
        for i in [2, 4, 1, 5] {
            s.put(LogId::new(Epoch::of(2), Index(i)), Epoch::of(2), 10);
        }
        assert_eq!(shown(&s), [(1, 5, 2)]);
        assert_eq!(s.bytes(), 50);
        s.commit(Index(5));
        assert_eq!(s.bytes(), 0);
    }

    #[test]
    fn commit_keeps_epochs_and_stops_at_holes() {
        let mut s = slots(0, &[(1, 2, 1, 1), (3, 4, 2, 3), (6, 6, 2, 3)]);
        assert_eq!(s.end_where(|r| r.ballot == Epoch::of(1)), Index(2));
        assert_eq!(s.end_where(|_| true), Index(4));
        s.commit(Index(3));
        assert_eq!(s.committed_id(), LogId::new(Epoch::of(2), Index(3)));
        assert_eq!(s.epoch_at(Index(2)), Some(Epoch::of(1)));
        assert_eq!(shown(&s), [(4, 4, 3), (6, 6, 3)]);
        let runs = s.chosen_runs(Index(2), Index(9));
        assert_eq!(
            runs.iter().map(|r| (r.from.0, r.to.0, r.epoch.round)).collect::<Vec<_>>(),
            [(2, 2, 1), (3, 3, 2)]
        );
        s.purge(LogId::new(Epoch::of(1), Index(2)));
        assert_eq!(s.epoch_at(Index(1)), None);
        assert_eq!(s.epoch_at(Index(3)), Some(Epoch::of(2)));
    }

    /// Contract schedule 4: an install keeps what was accepted above it.
    #[test]
    fn install_keeps_accepted_slots_above() {
        let mut s = slots(5, &[(8, 12, 1, 1)]);
        s.install(LogId::new(Epoch::of(1), Index(10)));
        assert_eq!(shown(&s), [(11, 12, 1)]);
        assert_eq!(s.committed(), Index(10));
        assert_eq!(s.epoch_at(Index(10)), Some(Epoch::of(1)));
    }

    #[test]
    fn damage_stops_the_prefix_until_it_is_written_again() {
        let mut s = slots(0, &[(1, 5, 1, 1)]);
        s.damage(Span { from: Index(2), to: Index(3) });
        assert_eq!(s.end_where(|_| true), Index(1));
        s.put(LogId::new(Epoch::of(1), Index(2)), Epoch::of(1), 10);
        assert_eq!(s.end_where(|_| true), Index(2));
        s.repair(Index(3));
        assert!(s.damaged().is_empty());
        assert_eq!(s.end_where(|_| true), Index(5));
    }

    #[test]
    fn only_what_the_proposer_lacks_is_sent() {
        let run = |from, to, ballot| Run {
            from: Index(from),
            to: Index(to),
            epoch: Epoch::of(1),
            ballot: Epoch::of(ballot),
        };
        let mine = [run(5, 9, 2), run(10, 12, 3)];
        let span = |from, to| Span { from: Index(from), to: Index(to) };
        assert_eq!(lacking(&mine, &[]), vec![span(5, 12)]);
        assert_eq!(lacking(&mine, &[run(5, 12, 2)]), vec![span(10, 12)]);
        assert_eq!(
            lacking(&mine, &[run(6, 7, 2), run(11, 11, 4)]),
            vec![span(5, 5), span(8, 10), span(12, 12)]
        );
    }
}
