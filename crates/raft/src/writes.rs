//! What this replica has written, and how much of it is durable.
//!
//! All ops of a step become one `Persist`. For each ticket under way we remember how far the log reaches with it:
//!
//! ```text
//!   durable_index ──► 4   pending: (t7 → 6) (t8 → 9)      Persisted(t7) ──► durable_index 6
//! ```
//!
//! A truncation lowers what is under way. Without that:
//! 1. entry 5 of term 2 is written with ticket 3, still in the log thread;
//! 2. a leader of term 3 replaces it: ticket 4 writes 5 of term 3;
//! 3. ticket 3 completes, and a replica that remembers "3 → index 5" says that it holds 5 of term 3. It does not.
//!
//! So every truncation clamps the positions under way (the ABA race of asynchronous storage, protocol-traps 2.21).
//!
//! Invariants: pending tickets and positions do not decrease; `durable ≤ last`.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use replog::{Entry, HardState, Index, LogId, LogOp, Ticket, Time, mutant};

/// One `Persist` that is not durable yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pending {
    pub(crate) ticket: Ticket,
    pub(crate) since: Time,
    /// How far the log reaches once it is durable.
    pub(crate) upto: Index,
}

/// The write stream of one replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Writes {
    ops: Vec<LogOp>,
    hard_changed: bool,
    /// How far the log reaches with the ops of this step, if they touch it.
    step_upto: Option<Index>,
    last: Ticket,
    durable: Ticket,
    pending: VecDeque<Pending>,
    durable_index: Index,
    /// Ticket of the last change of term or vote.
    hard_ticket: Ticket,
    /// The commit index that the last hard state carried.
    hinted: Index,
}

impl Writes {
    /// A stream whose log is durable up to `durable_index`.
    pub(crate) fn new(durable_index: Index, hinted: Index) -> Self {
        Self {
            ops: Vec::new(),
            hard_changed: false,
            step_upto: None,
            last: Ticket::NONE,
            durable: Ticket::NONE,
            pending: VecDeque::new(),
            durable_index,
            hard_ticket: Ticket::NONE,
            hinted,
        }
    }

    /// The ticket of this step's `Persist`, if there will be one.
    pub(crate) fn step_ticket(&self) -> Ticket {
        self.last.next()
    }

    /// How far the log is durable.
    pub(crate) fn durable_index(&self) -> Index {
        self.durable_index
    }

    /// Whether the write with this ticket is done.
    pub(crate) fn is_durable(&self, ticket: Ticket) -> bool {
        ticket <= self.durable
    }

    /// Whether the ops of this step hold anything.
    pub(crate) fn is_idle(&self) -> bool {
        self.ops.is_empty() && !self.hard_changed
    }

    pub(crate) fn pending(&self) -> &VecDeque<Pending> {
        &self.pending
    }

    /// When the oldest unfinished write was asked for.
    pub(crate) fn oldest(&self) -> Option<Time> {
        self.pending.front().map(|p| p.since)
    }

    /// Term or vote changed.
    pub(crate) fn change_hard_state(&mut self) {
        self.hard_changed = true;
        self.hard_ticket = self.step_ticket();
    }

    /// Whether the current term and vote are durable.
    pub(crate) fn is_term_durable(&self) -> bool {
        self.hard_ticket <= self.durable
    }

    /// What a message must wait for that acts in the current term, or tells of the vote.
    pub(crate) fn term_gate(&self) -> Ticket {
        if self.is_term_durable() || mutant!(VoteBeforeDurable) { Ticket::NONE } else { self.hard_ticket }
    }

    /// What a message must wait for that claims the log up to `index`.
    pub(crate) fn log_gate(&self, index: Index) -> Ticket {
        if index <= self.durable_index {
            return Ticket::NONE;
        }
        let covering = self.pending.partition_point(|p| p.upto < index);
        self.pending.get(covering).map_or(self.step_ticket(), |p| p.ticket)
    }

    /// Adds entries at the end of the log, or in the place of damaged ones.
    pub(crate) fn write(&mut self, entries: Vec<Entry>) {
        let Some(end) = entries.last().map(|e| e.id.index) else { return };
        self.step_upto = Some(self.step_upto.unwrap_or_else(|| self.upto()).max(end));
        let start = entries.first().map_or(end, |e| e.id.index);
        match self.ops.last_mut() {
            Some(LogOp::Write(before)) if before.last().is_some_and(|e| e.id.index.next() == start) => {
                before.extend(entries);
            }
            _ => self.ops.push(LogOp::Write(entries)),
        }
    }

    /// Drops every entry at or above `from`.
    pub(crate) fn truncate(&mut self, from: Index) {
        if !mutant!(StaleWriteCounts) {
            self.clamp(from.prev());
        }
        self.step_upto = Some(self.upto());
        self.ops.push(LogOp::Truncate { from });
    }

    /// Moves the base of the log over entries that it holds.
    pub(crate) fn purge(&mut self, upto: LogId) {
        self.ops.push(LogOp::Purge { upto });
    }

    /// The log now starts at `at`, because a snapshot says so. What disagrees with it was truncated before, so that
    /// nothing of the old log is claimed until this step is durable.
    pub(crate) fn install(&mut self, at: LogId) {
        self.step_upto = Some(self.step_upto.unwrap_or_else(|| self.upto()).max(at.index));
        self.ops.push(LogOp::Purge { upto: at });
    }

    /// Ends the step: the `Persist` to ask for, with `hard` in front if it changed or its commit hint did.
    pub(crate) fn flush(&mut self, now: Time, hard: HardState) -> Option<(Ticket, Vec<LogOp>)> {
        if self.is_idle() {
            return None;
        }
        let mut ops = core::mem::take(&mut self.ops);
        if self.hard_changed || hard.committed != self.hinted {
            // All or nothing: the place inside one `Persist` does not matter, so the hard state goes first.
            ops.insert(0, LogOp::HardState(hard));
            self.hinted = hard.committed;
        }
        let upto = self.step_upto.take().unwrap_or_else(|| self.upto());
        self.hard_changed = false;
        self.last = self.last.next();
        self.pending.push_back(Pending { ticket: self.last, since: now, upto });
        Some((self.last, ops))
    }

    /// Everything up to `ticket` is durable.
    pub(crate) fn persisted(&mut self, ticket: Ticket) {
        let ticket = ticket.min(self.last);
        self.durable = self.durable.max(ticket);
        while self.pending.front().is_some_and(|p| p.ticket <= ticket)
            && let Some(done) = self.pending.pop_front()
        {
            self.durable_index = self.durable_index.max(done.upto);
        }
    }

    /// How far the log reaches with everything that is under way, without this step.
    fn upto(&self) -> Index {
        self.pending.back().map_or(self.durable_index, |p| p.upto.max(self.durable_index))
    }

    fn clamp(&mut self, upto: Index) {
        self.durable_index = self.durable_index.min(upto);
        self.step_upto = self.step_upto.map(|i| i.min(upto));
        self.pending.iter_mut().for_each(|p| p.upto = p.upto.min(upto));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use replog::{Body, Epoch, Stamp};

    fn entry(term: u32, index: u64) -> Entry {
        let id = LogId::new(Epoch::of(term), Index(index));
        Entry { id, ballot: id.epoch, stamp: Stamp(0), body: Body::Noop }
    }

    fn hard(committed: u64) -> HardState {
        HardState { committed: Index(committed), ..HardState::default() }
    }

    #[test]
    fn a_step_is_one_write_with_the_hard_state_in_front() {
        let mut w = Writes::new(Index(0), Index(0));
        assert_eq!(w.flush(Time(0), hard(0)), None);
        w.write(vec![entry(1, 1)]);
        w.write(vec![entry(1, 2)]);
        w.change_hard_state();
        assert_eq!(w.log_gate(Index(2)), Ticket(1), "the ticket that this step will draw");
        let (ticket, ops) = w.flush(Time(0), hard(0)).unwrap();
        assert_eq!(ticket, Ticket(1));
        assert_eq!(ops, [LogOp::HardState(hard(0)), LogOp::Write(vec![entry(1, 1), entry(1, 2)])]);
        w.write(vec![entry(1, 3)]);
        let (_, ops) = w.flush(Time(0), hard(0)).unwrap();
        assert_eq!(ops, [LogOp::Write(vec![entry(1, 3)])], "an unchanged hard state is not repeated");
        w.write(vec![entry(1, 4)]);
        let (_, ops) = w.flush(Time(0), hard(3)).unwrap();
        assert_eq!(ops.first(), Some(&LogOp::HardState(hard(3))), "the commit hint rides along");
    }

    #[test]
    fn entries_that_do_not_follow_are_another_op() {
        let mut w = Writes::new(Index(9), Index(0));
        w.write(vec![entry(1, 4)]);
        w.write(vec![entry(1, 10)]);
        let (_, ops) = w.flush(Time(0), hard(0)).unwrap();
        assert_eq!(ops, [LogOp::Write(vec![entry(1, 4)]), LogOp::Write(vec![entry(1, 10)])]);
    }

    #[test]
    fn gates_name_the_write_that_makes_a_claim_true() {
        let mut w = Writes::new(Index(5), Index(0));
        for i in 6..=8 {
            w.write(vec![entry(1, i)]);
            w.flush(Time(i), hard(0));
        }
        let gates: Vec<u64> = (4..=8).map(|i| w.log_gate(Index(i)).0).collect();
        assert_eq!(gates, [0, 0, 1, 2, 3]);
        w.persisted(Ticket(2));
        assert_eq!(
            (w.durable_index(), w.log_gate(Index(7)), w.log_gate(Index(8))),
            (Index(7), Ticket::NONE, Ticket(3))
        );
        assert_eq!(w.oldest(), Some(Time(8)));
    }

    // The schedule of the module's head.
    #[test]
    fn a_truncation_lowers_what_is_under_way() {
        let mut w = Writes::new(Index(4), Index(0));
        w.write(vec![entry(2, 5), entry(2, 6)]);
        w.flush(Time(0), hard(0));
        w.truncate(Index(5));
        w.write(vec![entry(3, 5)]);
        w.flush(Time(0), hard(0));
        w.persisted(Ticket(1));
        assert_eq!(w.durable_index(), Index(4));
        assert_eq!(w.log_gate(Index(5)), Ticket(2));
        w.persisted(Ticket(2));
        assert_eq!(w.durable_index(), Index(5));
    }

    #[test]
    fn an_install_claims_nothing_before_it_is_durable() {
        let at = LogId::new(Epoch::of(3), Index(20));
        let mut w = Writes::new(Index(9), Index(0));
        w.truncate(Index(5));
        w.install(at);
        assert_eq!(w.durable_index(), Index(4), "5 to 9 may be another leader's");
        w.flush(Time(0), hard(0));
        w.persisted(Ticket(1));
        assert_eq!(w.durable_index(), Index(20));
    }
}
