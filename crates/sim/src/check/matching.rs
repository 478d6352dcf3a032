//! C13 log matching: an id names one entry, wherever it is written, and in Raft and Zab one history below it.
//!
//! * Raft, Zab: two logs that hold (e, i) hold the same entry there, and the same entry before it; so, by induction,
//!   they are equal up to i. The induction step is what is checked, once per entry written.
//! * Paxos: a ballot proposes one value per slot; and an id (first proposal, slot) is one value for ever.
//! * All: the first to write (e, i) leads e. Nobody else makes entries of an epoch (integrity).
// spec: raft §5.3 log matching; zab-dsn11 §3 integrity, prefix; paxos-simple §2.2 P2c

use super::election::Leaders;
use super::fact::{Event, Fact, Verdict, require};
use super::logs::{Logs, body_hash};
use super::speaks::Family;
use replog::{Entry, Epoch, Index, LogOp};
use std::collections::HashMap;

const MATCHING: &str = "C13 log matching";
const INTEGRITY: &str = "C13 integrity";
const ONE_VALUE: &str = "C13 one value per ballot and slot";

/// Every entry ever written.
#[derive(Clone, Debug)]
pub struct Matching {
    family: Family,
    /// Content, and the epoch of the entry before, if one who wrote it still had that.
    entries: HashMap<(Epoch, Index), (u64, Option<Epoch>)>,
    /// Paxos: what a ballot proposes for a slot, by the epoch of its id.
    proposed: HashMap<(Epoch, Index), Epoch>,
}

/// What lies below an entry that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Below {
    Entry(Epoch),
    /// The same write moved the base beyond it.
    Purged,
    Nothing,
}

impl Matching {
    pub(crate) fn new(family: Family) -> Self {
        Self { family, entries: HashMap::new(), proposed: HashMap::new() }
    }

    /// Looks at what is written.
    ///
    /// # Errors
    /// See the module.
    pub fn see(&mut self, logs: &Logs, leaders: &Leaders, event: &Event<'_>) -> Verdict {
        let Fact::Wrote { ops, .. } = event.fact else { return Ok(()) };
        for op in ops {
            let LogOp::Write(entries) = op else { continue };
            let Some(first) = entries.first() else { continue };
            let mut before = self.before(logs, event, first.id.index);
            require(before != Below::Nothing || self.family == Family::Paxos, MATCHING, || {
                format!("{} writes {} above a hole", event.node, first.id)
            })?;
            for entry in entries {
                self.entry(leaders, event, entry, before)?;
                before = Below::Entry(entry.id.epoch);
            }
        }
        Ok(())
    }

    /// What this node has below `index`, after the write.
    fn before(&self, logs: &Logs, event: &Event<'_>, index: Index) -> Below {
        let Some(log) = logs.of(event.node) else { return Below::Nothing };
        let (below, base) = (index.prev(), log.written.base);
        match log.written.at(below) {
            Some(slot) => Below::Entry(slot.epoch),
            None if below == base.index => Below::Entry(base.epoch),
            None if below < base.index => Below::Purged,
            None => Below::Nothing,
        }
    }

    fn entry(&mut self, leaders: &Leaders, event: &Event<'_>, entry: &Entry, before: Below) -> Verdict {
        let node = event.node;
        let key = (entry.id.epoch, entry.id.index);
        let before = match before {
            Below::Entry(epoch) if self.family != Family::Paxos => Some(epoch),
            _ => None,
        };
        let content = body_hash(entry);
        if let Some(known) = self.entries.get_mut(&key) {
            let below = known.1.is_none() || before.is_none() || known.1 == before;
            known.1 = known.1.or(before);
            require(known.0 == content && below, MATCHING, || {
                let what = if known.0 == content { "another history below" } else { "another content" };
                format!(
                    "{node} writes {} with {what} than was written before under this id: {entry:?}",
                    entry.id
                )
            })?;
        } else {
            let leader = leaders.leader_of(entry.id.epoch);
            let made = match self.family {
                Family::Paxos => entry.id.epoch.proposer == node.0,
                Family::Zab | Family::Raft => leader == Some((node, event.life)),
            };
            require(made, INTEGRITY, || {
                format!("{node} is the first to write {}, and {leader:?} led that epoch: {entry:?}", entry.id)
            })?;
            self.entries.insert(key, (content, before));
        }
        if self.family == Family::Paxos {
            let first = *self.proposed.entry((entry.ballot, entry.id.index)).or_insert(entry.id.epoch);
            require(first == entry.id.epoch, ONE_VALUE, || {
                format!(
                    "ballot {} proposes {first}:{} and {} for one slot",
                    entry.ballot, entry.id.index, entry.id
                )
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Disk, entry, event, leads};
    use super::*;
    use replog::{Epoch, Ticket};

    fn write(m: &mut Matching, leaders: &Leaders, node: u32, entries: Vec<Entry>) -> Verdict {
        let mut disk = Disk::new(node);
        let ops = [LogOp::Write(entries)];
        disk.write(1, &ops);
        m.see(&disk.logs, leaders, &event(node, 1, Fact::Wrote { ticket: Ticket(1), ops: &ops }))
    }

    fn setup(family: Family) -> (Matching, Leaders) {
        let mut leaders = Leaders::new(family);
        leaders.see(&leads(1, 1, 3, u32::from(family == Family::Paxos))).unwrap();
        (Matching::new(family), leaders)
    }

    #[test]
    fn an_id_names_one_entry_and_one_history() {
        let (mut m, mut leaders) = setup(Family::Raft);
        assert_eq!(write(&mut m, &leaders, 1, vec![entry(3, 1, "a"), entry(3, 2, "b")]), Ok(()));
        assert_eq!(write(&mut m, &leaders, 2, vec![entry(3, 1, "a"), entry(3, 2, "b")]), Ok(()));
        let broken = write(&mut m, &leaders, 2, vec![entry(3, 1, "x")]).unwrap_err();
        assert!(broken.checker == MATCHING && broken.text.contains("another content"), "{}", broken.text);
        leaders.see(&leads(2, 1, 2, 0)).unwrap();
        assert_eq!(write(&mut m, &leaders, 2, vec![entry(2, 1, "z")]), Ok(()));
        let broken = write(&mut m, &leaders, 2, vec![entry(2, 1, "z"), entry(3, 2, "b")]).unwrap_err();
        assert!(broken.text.contains("another history below"), "{}", broken.text);
    }

    #[test]
    fn what_lies_below_may_be_purged_and_may_not_be_missing() {
        let (mut m, leaders) = setup(Family::Raft);
        let all = vec![entry(3, 1, "a"), entry(3, 2, "b"), entry(3, 3, "c")];
        assert_eq!(write(&mut m, &leaders, 1, all.clone()), Ok(()));
        let mut disk = Disk::new(2);
        let upto = all[1].id;
        disk.write(1, &[LogOp::Write(all[..1].to_vec())]);
        let ops = [LogOp::Write(all[1..].to_vec()), LogOp::Purge { upto }];
        disk.write(2, &ops);
        let wrote = event(2, 1, Fact::Wrote { ticket: Ticket(2), ops: &ops });
        assert_eq!(m.see(&disk.logs, &leaders, &wrote), Ok(()), "the base has moved on");
        let broken = write(&mut m, &leaders, 3, all[1..].to_vec()).unwrap_err();
        assert!(broken.text.contains("above a hole"), "{}", broken.text);
    }

    #[test]
    fn only_its_leader_makes_entries_of_an_epoch() {
        let (mut m, leaders) = setup(Family::Zab);
        let broken = write(&mut m, &leaders, 2, vec![entry(3, 1, "a")]).unwrap_err();
        assert_eq!(broken.checker, INTEGRITY);
        let (mut m, leaders) = setup(Family::Zab);
        assert_eq!(write(&mut m, &leaders, 1, vec![entry(4, 1, "a")]).unwrap_err().checker, INTEGRITY);
    }

    #[test]
    fn a_ballot_proposes_one_value_per_slot() {
        let (mut m, leaders) = setup(Family::Paxos);
        let at = |round, proposer, ballot: (u32, u32), text| {
            let mut e = entry(round, 1, text);
            e.id.epoch.proposer = proposer;
            e.ballot = Epoch { round: ballot.0, proposer: ballot.1 };
            e
        };
        assert_eq!(write(&mut m, &leaders, 1, vec![at(3, 1, (3, 1), "a")]), Ok(()));
        assert_eq!(write(&mut m, &leaders, 2, vec![at(4, 2, (4, 2), "b")]), Ok(()));
        assert_eq!(write(&mut m, &leaders, 1, vec![at(3, 1, (5, 3), "a")]), Ok(()), "re-proposed");
        let broken = write(&mut m, &leaders, 2, vec![at(4, 2, (5, 3), "b")]).unwrap_err();
        assert_eq!(broken.checker, ONE_VALUE);
    }
}
