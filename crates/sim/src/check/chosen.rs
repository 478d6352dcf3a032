//! C13 agreement: what was applied at an index is the same everywhere, for ever, and a quorum had it on disk.
//!
//! The first replica to apply an index lays down what was chosen there. At that moment a replication quorum must hold it
//! durably: looked up in the disks' images, not in anybody's count of acks. A disk that was wiped or rotted since may
//! have held it.
//!
//! Raft and Zab: epochs never decrease along what is applied (global primary order).
// spec: paxos-simple §2.1 safety; raft §5.4.3 state machine safety; zab-dsn11 §3 agreement, total order, primary order

use super::fact::{Event, Fact, Verdict, require};
use super::logs::{Logs, body_hash};
use super::speaks::Family;
use replog::{Body, Configuration, Entry, Epoch, Index, LogId, QuorumPhase};
use std::collections::BTreeMap;

const AGREEMENT: &str = "C13 agreement";
const ORDER: &str = "C13 primary order";
const QUORUM: &str = "C13 chosen by a quorum";

/// What was chosen, by index.
#[derive(Clone, Debug)]
pub struct Chosen {
    family: Family,
    members: Option<Configuration>,
    /// Entry (id, content) by index.
    entries: BTreeMap<Index, (Epoch, u64)>,
    /// The highest entries chosen in each epoch or ballot.
    tops: BTreeMap<Epoch, LogId>,
    top: LogId,
}

impl Chosen {
    pub(crate) fn new(family: Family) -> Self {
        Self { family, members: None, entries: BTreeMap::new(), tops: BTreeMap::new(), top: LogId::ZERO }
    }

    /// The highest entry applied anywhere.
    #[must_use]
    pub fn top(&self) -> LogId {
        self.top
    }

    /// The highest entry applied anywhere that was chosen below `epoch`: whoever comes to lead it must hold that.
    /// What was chosen above it need not be there: who won an epoch and learns of it late may have been overtaken.
    #[must_use]
    pub fn top_below(&self, epoch: Epoch) -> LogId {
        let below = self.tops.range(..epoch).map(|(_, top)| *top);
        below.max_by_key(|top| top.index).unwrap_or(LogId::ZERO)
    }

    /// Learns who is a member.
    pub fn started(&mut self, members: Option<&Configuration>) {
        if self.members.is_none() {
            self.members = members.cloned();
        }
    }

    /// Looks at what is applied; `first` is called for each entry that nobody applied before.
    ///
    /// # Errors
    /// See the module.
    pub fn see(
        &mut self,
        logs: &Logs,
        event: &Event<'_>,
        mut first: impl FnMut(LogId) -> Verdict,
    ) -> Verdict {
        let Fact::Applied { entries } = event.fact else { return Ok(()) };
        for entry in entries {
            let content = (entry.id.epoch, body_hash(entry));
            match self.entries.get(&entry.id.index) {
                Some(known) => require(*known == content, AGREEMENT, || {
                    let elsewhere = LogId::new(known.0, entry.id.index);
                    format!(
                        "{} applies {entry:?}; elsewhere {elsewhere} (content {:x}) was",
                        event.node, known.1
                    )
                })?,
                None => {
                    self.choose(logs, event, entry, content)?;
                    first(entry.id)?;
                }
            }
        }
        Ok(())
    }

    fn choose(&mut self, logs: &Logs, event: &Event<'_>, entry: &Entry, content: (Epoch, u64)) -> Verdict {
        let ordered = self.family == Family::Paxos
            || entry.id.index < self.top.index
            || entry.id.epoch >= self.top.epoch;
        require(ordered, ORDER, || format!("{} applies {} after {}", event.node, entry.id, self.top))?;
        self.quorum(logs, event, entry.id)?;
        if matches!(entry.body, Body::Config(..)) {
            // From here on quorums are those of a history that this check does not follow.
            self.members = Some(Configuration::default());
        }
        self.entries.insert(entry.id.index, content);
        let top = self.tops.entry(entry.ballot).or_default();
        if entry.id.index > top.index {
            *top = entry.id;
        }
        if entry.id.index > self.top.index {
            self.top = entry.id;
        }
        Ok(())
    }

    fn quorum(&self, logs: &Logs, event: &Event<'_>, id: LogId) -> Verdict {
        let Some(members) = self.members.as_ref().filter(|m| !m.voters.is_empty()) else { return Ok(()) };
        let holds = |node| logs.of(node).is_some_and(|log| log.forgetful || log.durable.holds(id));
        require(members.is_quorum(QuorumPhase::Replication, holds), QUORUM, || {
            let have: Vec<String> =
                members.voter_ids().into_iter().filter(|n| holds(*n)).map(|n| n.to_string()).collect();
            format!("{} applies {id}, which only [{}] hold durably", event.node, have.join(" "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Disk, entry, event};
    use super::*;
    use replog::{LogOp, NodeId};

    /// n1 and n2 of three hold 3:1 and 3:2 durably.
    fn world() -> (Chosen, Disk) {
        let mut disk = Disk::new(3);
        let ops = [LogOp::Write(vec![entry(3, 1, "a"), entry(3, 2, "b")])];
        for node in [1, 2] {
            disk.start(node);
            disk.write_as(node, 1, &ops);
            disk.sync(node, 1);
        }
        let mut chosen = Chosen::new(Family::Raft);
        chosen.started(Some(&Configuration::of_voters([1, 2, 3].map(NodeId))));
        (chosen, disk)
    }

    fn apply(chosen: &mut Chosen, disk: &Disk, node: u32, entries: &[Entry]) -> Verdict {
        chosen.see(&disk.logs, &event(node, 1, Fact::Applied { entries }), |_| Ok(()))
    }

    // requirement: S23
    #[test]
    fn all_apply_the_same() {
        let (mut chosen, disk) = world();
        assert_eq!(apply(&mut chosen, &disk, 1, &[entry(3, 1, "a"), entry(3, 2, "b")]), Ok(()));
        assert_eq!(apply(&mut chosen, &disk, 2, &[entry(3, 1, "a"), entry(3, 2, "b")]), Ok(()));
        assert_eq!(chosen.top(), LogId::new(Epoch::of(3), Index(2)));
        for other in [entry(3, 2, "x"), entry(4, 2, "b")] {
            assert_eq!(apply(&mut chosen, &disk, 3, &[other]).unwrap_err().checker, AGREEMENT);
        }
    }

    #[test]
    fn a_quorum_holds_it_durably() {
        let (mut chosen, mut disk) = world();
        let third = [LogOp::Write(vec![entry(3, 3, "c")])];
        disk.write_as(1, 2, &third);
        disk.sync(1, 2);
        disk.write_as(2, 2, &third);
        let broken = apply(&mut chosen, &disk, 1, &[entry(3, 3, "c")]).unwrap_err();
        assert!(broken.checker == QUORUM && broken.text.contains("only [n1]"), "{}", broken.text);
        disk.sync(2, 2);
        assert_eq!(apply(&mut chosen, &disk, 1, &[entry(3, 3, "c")]), Ok(()));
    }

    #[test]
    fn epochs_ascend_along_what_is_applied() {
        let (mut chosen, mut disk) = world();
        apply(&mut chosen, &disk, 1, &[entry(3, 1, "a"), entry(3, 2, "b")]).unwrap();
        let older = [LogOp::Write(vec![entry(2, 3, "c")])];
        for node in [1, 2] {
            disk.write_as(node, 2, &older);
            disk.sync(node, 2);
        }
        assert_eq!(apply(&mut chosen, &disk, 1, &[entry(2, 3, "c")]).unwrap_err().checker, ORDER);
    }
}
