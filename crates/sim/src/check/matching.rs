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
    /// Content, and the epoch of the entry before.
    entries: HashMap<(Epoch, Index), (u64, Epoch)>,
    /// Paxos: what a ballot proposes for a slot, by the epoch of its id.
    proposed: HashMap<(Epoch, Index), Epoch>,
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
            let mut before = entries.first().and_then(|first| self.before(logs, event, first.id.index));
            for entry in entries {
                self.entry(leaders, event, entry, before.unwrap_or_default())?;
                before = Some(entry.id.epoch);
            }
        }
        Ok(())
    }

    /// Epoch of what this node has below `index`.
    fn before(&self, logs: &Logs, event: &Event<'_>, index: Index) -> Option<Epoch> {
        let written = &logs.of(event.node)?.written;
        let below = index.prev();
        if below == written.base.index {
            return Some(written.base.epoch);
        }
        written.at(below).map(|s| s.epoch)
    }

    fn entry(&mut self, leaders: &Leaders, event: &Event<'_>, entry: &Entry, before: Epoch) -> Verdict {
        let node = event.node;
        let key = (entry.id.epoch, entry.id.index);
        let before = if self.family == Family::Paxos { Epoch::ZERO } else { before };
        let content = (body_hash(entry), before);
        if let Some(known) = self.entries.get(&key) {
            require(*known == content, MATCHING, || {
                let what = if known.0 == content.0 { "another history below" } else { "another content" };
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
            self.entries.insert(key, content);
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
