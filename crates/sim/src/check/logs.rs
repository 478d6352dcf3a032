//! What each node wrote, and what of it would survive a power cut at this moment.
//!
//! ```text
//!  Wrote(t, ops) ─► written            ops wait ─► durable  once Durable(≥ t) was told
//!  Crashed       ─► durable stays; at Started both become what the disk held, after it was compared:
//!                   what recovery found is `durable` after some of the writes that were still under way.
//! ```
//!
//! This is a second opinion, made from writes and completions alone: neither the outbox nor the log's own recovery is
//! asked. Bodies are kept as hashes.

use super::fact::{Event, Fact, Verdict, require};
use replog::{Body, Entry, EntryMeta, Epoch, HardState, Index, LogId, LogOp, NodeId, Ticket};
use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

const RECOVERY: &str = "C16 recovery";

/// One position of a log.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// Epoch of its first proposal.
    pub epoch: Epoch,
    /// Ballot of its last acceptance.
    pub ballot: Epoch,
    /// Which write of this life put it there; [`Ticket::NONE`]: found at the start.
    pub written: Ticket,
}

/// What lies on the disk; not since when.
impl PartialEq for Slot {
    fn eq(&self, other: &Self) -> bool {
        (self.epoch, self.ballot) == (other.epoch, other.ballot)
    }
}

impl Eq for Slot {}

/// What a disk holds, or will.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// The hard state.
    pub hard: HardState,
    /// The base.
    pub base: LogId,
    slots: VecDeque<Option<Slot>>,
}

impl Image {
    fn of(hard: HardState, base: LogId, entries: &[EntryMeta]) -> Self {
        let mut image = Self { hard, base, slots: VecDeque::new() };
        for e in entries {
            image.put(e.id.index, Slot { epoch: e.id.epoch, ballot: e.ballot, written: Ticket::NONE });
        }
        image
    }

    /// What lies at `index`; nothing at or below the base.
    #[must_use]
    pub fn at(&self, index: Index) -> Option<Slot> {
        let offset = index.0.checked_sub(self.base.index.0 + 1)?;
        self.slots.get(usize::try_from(offset).ok()?).copied().flatten()
    }

    /// The highest position written, or the base.
    #[must_use]
    pub fn last(&self) -> LogId {
        let top = Index(self.base.index.0 + self.slots.len() as u64);
        self.at(top).map_or(self.base, |s| LogId::new(s.epoch, top))
    }

    /// Whether this entry, or its compacted place, is here.
    #[must_use]
    pub fn holds(&self, id: LogId) -> bool {
        id.index <= self.base.index || self.at(id.index).is_some_and(|s| s.epoch == id.epoch)
    }

    /// Positions above `index` that are filled, ascending.
    pub fn above(&self, index: Index) -> impl Iterator<Item = (Index, Slot)> + '_ {
        let skip = usize::try_from(index.0.saturating_sub(self.base.index.0)).unwrap_or(usize::MAX);
        let first = self.base.index.0 + 1;
        let filled = self.slots.iter().enumerate().skip(skip);
        filled.filter_map(move |(i, s)| s.map(|s| (Index(first + i as u64), s)))
    }

    fn put(&mut self, index: Index, slot: Slot) {
        let Some(offset) = index.0.checked_sub(self.base.index.0 + 1) else { return };
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        while self.slots.len() <= offset {
            self.slots.push_back(None);
        }
        if let Some(place) = self.slots.get_mut(offset) {
            *place = Some(slot);
        }
    }

    fn trim(&mut self) {
        while self.slots.back().is_some_and(Option::is_none) {
            self.slots.pop_back();
        }
    }

    fn carry_out(&mut self, op: &Op) {
        match op {
            Op::Hard(hard) => self.hard = *hard,
            Op::Put(slots) => slots.iter().for_each(|(index, slot)| self.put(*index, *slot)),
            Op::Truncate(from) => {
                let keep = from.0.saturating_sub(self.base.index.0 + 1);
                self.slots.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
                self.trim();
            }
            Op::Purge(upto) => {
                if *upto > self.base || upto.index > self.base.index {
                    let gone = upto.index.0.saturating_sub(self.base.index.0).min(self.slots.len() as u64);
                    self.slots.drain(..usize::try_from(gone).unwrap_or(usize::MAX));
                    self.base = *upto;
                    self.trim();
                }
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Hard(HardState),
    Put(Vec<(Index, Slot)>),
    Truncate(Index),
    Purge(LogId),
}

impl Op {
    fn of(op: &LogOp, written: Ticket) -> Self {
        match op {
            LogOp::HardState(hard) => Self::Hard(*hard),
            LogOp::Write(entries) => Self::Put(
                entries
                    .iter()
                    .map(|e| (e.id.index, Slot { epoch: e.id.epoch, ballot: e.ballot, written }))
                    .collect(),
            ),
            LogOp::Truncate { from } => Self::Truncate(*from),
            LogOp::Purge { upto } => Self::Purge(*upto),
        }
    }
}

/// One node's disk.
#[derive(Clone, Debug, Default)]
pub struct NodeLog {
    /// Everything handed to the log.
    pub written: Image,
    /// What survives a power cut now.
    pub durable: Image,
    under_way: VecDeque<(Ticket, Vec<Op>)>,
    /// Promises of this life, ascending, and the writes that made them.
    promises: Vec<(Epoch, Ticket)>,
    /// Its disk was replaced, or damaged, once: it may have forgotten what it said.
    pub forgetful: bool,
    /// Whether a process runs.
    pub up: bool,
    started: bool,
}

impl NodeLog {
    fn start(&mut self, node: NodeId, found: Image, snapshot: LogId, whole: bool) -> Verdict {
        self.forgetful |= !whole;
        let compare = self.started && !self.forgetful;
        (self.started, self.up) = (true, true);
        let mut expected = std::mem::take(&mut self.durable);
        let durable = (expected.hard, expected.base, expected.last());
        // Where damage took ids that the own snapshot covers, the log begins behind it. The start that did so may have
        // been cut short (`sim replay 2010 --backend paxos`).
        let is_found = |image: &Image| {
            let mut covered = image.clone();
            covered.carry_out(&Op::Purge(snapshot));
            *image == found || covered == found
        };
        let mut equal = is_found(&expected);
        for (_, ops) in std::mem::take(&mut self.under_way) {
            if equal {
                break;
            }
            ops.iter().for_each(|op| expected.carry_out(op));
            equal = is_found(&expected);
        }
        let text = || {
            format!(
                "{node} found {:?}, base {}, last {}; durable when it ended were {:?}, base {}, last {}; written {:?}, base \
                 {}, last {}: no write in between left the disk so",
                found.hard,
                found.base,
                found.last(),
                durable.0,
                durable.1,
                durable.2,
                expected.hard,
                expected.base,
                expected.last()
            )
        };
        require(equal || !compare, RECOVERY, text)?;
        self.promises.clear();
        self.written = found.clone();
        self.durable = found;
        Ok(())
    }

    fn sync(&mut self, upto: Ticket) {
        while self.under_way.front().is_some_and(|(t, _)| *t <= upto)
            && let Some((_, ops)) = self.under_way.pop_front()
        {
            ops.iter().for_each(|op| self.durable.carry_out(op));
        }
    }

    /// The write of this life that promised `epoch`; [`Ticket::NONE`] if it was promised before.
    #[must_use]
    pub fn promised_by(&self, epoch: Epoch) -> Ticket {
        let found = self.promises.iter().rev().find(|(e, _)| *e <= epoch);
        found.map_or(Ticket::NONE, |(_, ticket)| *ticket)
    }

    /// Whether everything written is durable.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.under_way.is_empty()
    }
}

/// All nodes' disks.
#[derive(Clone, Debug, Default)]
pub struct Logs {
    nodes: BTreeMap<NodeId, NodeLog>,
}

impl Logs {
    /// One node's; `None` before its first start.
    #[must_use]
    pub fn of(&self, node: NodeId) -> Option<&NodeLog> {
        self.nodes.get(&node)
    }

    /// Follows an event; to be called before the checks see it.
    ///
    /// # Errors
    /// When a node finds on its disk what it cannot have left there.
    // spec: reliability.md §4 rules 2, 5; contract-schedules §5
    pub fn follow(&mut self, event: &Event<'_>) -> Verdict {
        match event.fact {
            Fact::Started { hard, base, snapshot, entries, whole, .. } => {
                let found = Image::of(hard, base, entries);
                return self.nodes.entry(event.node).or_default().start(event.node, found, snapshot, whole);
            }
            Fact::Wrote { ticket, ops } => {
                if let Some(log) = self.nodes.get_mut(&event.node) {
                    let ops: Vec<Op> = ops.iter().map(|op| Op::of(op, ticket)).collect();
                    let before = log.written.hard.promised;
                    ops.iter().for_each(|op| log.written.carry_out(op));
                    if log.written.hard.promised > before {
                        log.promises.push((log.written.hard.promised, ticket));
                    }
                    log.under_way.push_back((ticket, ops));
                }
            }
            Fact::Durable { ticket } => {
                if let Some(log) = self.nodes.get_mut(&event.node) {
                    log.sync(ticket);
                }
            }
            Fact::Crashed { .. } => {
                if let Some(log) = self.nodes.get_mut(&event.node) {
                    log.up = false;
                }
            }
            Fact::Replaced => self.nodes.entry(event.node).or_default().forgetful = true,
            _ => {}
        }
        Ok(())
    }
}

/// Identity of an entry's content.
#[must_use]
pub(super) fn body_hash(entry: &Entry) -> u64 {
    let mut hasher = DefaultHasher::new();
    match &entry.body {
        Body::Command(bytes) => hasher.write(bytes),
        other => other.hash(&mut hasher),
    }
    entry.stamp.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{entry, event, hard};
    use super::*;
    use crate::schedule::CrashKind;

    fn meta(round: u32, index: u64) -> EntryMeta {
        entry(round, index, "a").meta()
    }

    fn start(logs: &mut Logs, promised: u32, entries: &[EntryMeta], whole: bool) -> Verdict {
        start_behind(logs, LogId::ZERO, LogId::ZERO, promised, entries, whole)
    }

    fn start_behind(
        logs: &mut Logs,
        base: LogId,
        snapshot: LogId,
        promised: u32,
        entries: &[EntryMeta],
        whole: bool,
    ) -> Verdict {
        let hard = HardState { promised: Epoch::of(promised), ..HardState::default() };
        logs.follow(&event(1, 1, Fact::Started { hard, base, snapshot, entries, whole, members: None }))
    }

    /// Three writes: t1 durable, t2 and t3 under way when the process ends.
    fn crashed() -> Logs {
        let mut logs = Logs::default();
        start(&mut logs, 0, &[], true).unwrap();
        let writes = [
            vec![hard(3, None), LogOp::Write(vec![entry(3, 1, "a")])],
            vec![LogOp::Write(vec![entry(3, 2, "b")])],
            vec![LogOp::Truncate { from: Index(2) }, LogOp::Write(vec![entry(4, 2, "c"), entry(4, 3, "d")])],
        ];
        for (ticket, ops) in (1..).zip(&writes) {
            logs.follow(&event(1, 1, Fact::Wrote { ticket: Ticket(ticket), ops })).unwrap();
        }
        logs.follow(&event(1, 1, Fact::Durable { ticket: Ticket(1) })).unwrap();
        logs.follow(&event(1, 1, Fact::Crashed { how: CrashKind::Power })).unwrap();
        logs
    }

    #[test]
    fn recovery_finds_a_prefix_of_the_writes_that_covers_what_was_durable() {
        let found =
            [vec![meta(3, 1)], vec![meta(3, 1), meta(3, 2)], vec![meta(3, 1), meta(4, 2), meta(4, 3)]];
        for entries in &found {
            let mut logs = crashed();
            assert_eq!(start(&mut logs, 3, entries, true), Ok(()), "{entries:?}");
            assert_eq!(logs.of(NodeId(1)).unwrap().durable.last(), entries.last().unwrap().id);
        }
        let never = [vec![], vec![meta(3, 1), meta(4, 2)], vec![meta(2, 1)]];
        for entries in &never {
            let broken = start(&mut crashed(), 3, entries, true).unwrap_err();
            assert_eq!(broken.checker, RECOVERY);
        }
        assert!(start(&mut crashed(), 2, &[meta(3, 1)], true).is_err(), "the promise is gone");
        assert_eq!(start(&mut crashed(), 2, &[], false), Ok(()), "the node knows that its disk is damaged");
    }

    /// Damage takes an id that the own snapshot covers; the start that begins the log behind it is cut short, and the
    /// next one finds a log that nobody wrote so.
    #[test]
    fn a_log_may_begin_behind_the_own_snapshot_and_nowhere_else() {
        let at = |index| LogId::new(Epoch::of(3), Index(index));
        let after = |base, snapshot, entries: &[EntryMeta]| {
            start_behind(&mut crashed(), base, snapshot, 3, entries, true)
        };
        assert_eq!(after(at(1), at(1), &[]), Ok(()));
        assert_eq!(after(at(1), at(1), &[meta(3, 2)]), Ok(()));
        assert!(after(at(1), LogId::ZERO, &[meta(3, 2)]).is_err(), "no snapshot covers it");
        assert!(
            after(LogId::ZERO, at(1), &[]).is_err(),
            "what the snapshot covers is gone, and the log says nothing"
        );
    }

    #[test]
    fn images_follow_every_operation() {
        let mut image = Image::default();
        let write = |entries: Vec<Entry>| Op::of(&LogOp::Write(entries), Ticket(1));
        let at = |round, index| LogId::new(Epoch::of(round), Index(index));
        image.carry_out(&write(vec![entry(1, 1, "a"), entry(1, 2, "b"), entry(1, 4, "d")]));
        assert_eq!((image.last(), image.at(Index(3))), (at(1, 4), None));
        image.carry_out(&Op::Truncate(Index(4)));
        assert_eq!(image.last(), at(1, 2), "the hole goes with what lay above it");
        image.carry_out(&Op::Purge(at(1, 1)));
        assert_eq!((image.base, image.at(Index(1)), image.holds(at(1, 1))), (at(1, 1), None, true));
        assert_eq!(image.above(Index(0)).map(|(i, _)| i.0).collect::<Vec<_>>(), [2]);
        assert_eq!(image.above(Index(2)).count(), 0);
        image.carry_out(&Op::Purge(at(5, 9)));
        assert_eq!((image.last(), image.holds(at(5, 10))), (at(5, 9), false));
        image.carry_out(&write(vec![entry(5, 10, "x")]));
        assert!(image.holds(at(5, 10)) && !image.holds(at(4, 10)));
    }
}
