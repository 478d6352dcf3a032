//! C13 commit index: it never goes back while a process lives, and what is applied has no gap and no repeat.
// spec: raft fig. 2 (commitIndex, lastApplied increase monotonically); contract-schedules §3, §10

use super::fact::{Event, Fact, Verdict, require};
use replog::{Index, NodeId};
use std::collections::BTreeMap;

const COMMIT: &str = "C13 commit index";
const APPLY: &str = "C13 applied in order";

#[derive(Clone, Copy, Debug, Default)]
struct Position {
    committed: Index,
    applied: Index,
}

/// Where every node is.
#[derive(Clone, Debug, Default)]
pub struct Commits {
    nodes: BTreeMap<NodeId, Position>,
    /// The highest index that any node knew to be committed.
    top: Index,
}

impl Commits {
    /// The highest index that any node knew to be committed.
    #[must_use]
    pub fn top(&self) -> Index {
        self.top
    }

    /// Looks at a step or an apply.
    ///
    /// # Errors
    /// See the module.
    pub fn see(&mut self, event: &Event<'_>) -> Verdict {
        let node = event.node;
        match event.fact {
            Fact::Started { snapshot, .. } => {
                let position = Position { committed: Index::ZERO, applied: snapshot.index };
                self.nodes.insert(node, position);
                Ok(())
            }
            Fact::Stepped { after, .. } => {
                let position = self.nodes.entry(node).or_default();
                let (was, is) = (position.committed, after.committed);
                position.committed = is;
                self.top = self.top.max(is);
                require(is >= was, COMMIT, || format!("{node} had committed up to {was}, now {is}"))?;
                require(is <= after.last.index, COMMIT, || {
                    format!("{node} has committed up to {is}, its log ends at {}", after.last)
                })
            }
            Fact::Applied { entries } => {
                let position = self.nodes.entry(node).or_default();
                for entry in entries {
                    let expected = position.applied.next();
                    position.applied = entry.id.index;
                    require(entry.id.index == expected, APPLY, || {
                        format!("{node} applies {}, {expected} is next", entry.id)
                    })?;
                }
                Ok(())
            }
            Fact::Installed { at } => {
                let position = self.nodes.entry(node).or_default();
                let was = std::mem::replace(&mut position.applied, at.index);
                require(at.index >= was, APPLY, || {
                    format!("{node} installs the snapshot at {at} over a state at {was}")
                })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{entry, event, status};
    use super::*;
    use replog::{Epoch, LogId, Phase, Role};

    fn step(commits: &mut Commits, committed: u64, last: u64) -> Verdict {
        let mut after = status(Role::Follower, Phase::Broadcast, 3, committed);
        after.last = LogId::new(Epoch::of(3), Index(last));
        commits.see(&event(1, 1, Fact::Stepped { before: &after, after: &after }))
    }

    #[test]
    fn it_never_goes_back_nor_beyond_the_log() {
        let mut commits = Commits::default();
        step(&mut commits, 5, 9).unwrap();
        step(&mut commits, 5, 9).unwrap();
        assert_eq!(step(&mut commits, 4, 9).unwrap_err().checker, COMMIT);
        assert_eq!(step(&mut commits, 10, 9).unwrap_err().checker, COMMIT);
    }

    /// Contract schedule 3: an old stream ends after newer entries were applied.
    #[test]
    fn nothing_is_applied_twice_or_left_out() {
        let mut commits = Commits::default();
        let apply = |c: &mut Commits, index| {
            let entries = [entry(3, index, "a")];
            c.see(&event(1, 1, Fact::Applied { entries: &entries }))
        };
        apply(&mut commits, 1).unwrap();
        apply(&mut commits, 2).unwrap();
        let mut other = commits.clone();
        assert_eq!(apply(&mut other, 2).unwrap_err().checker, APPLY);
        assert!(apply(&mut commits.clone(), 4).is_err());
        let at = |index| LogId::new(Epoch::of(3), Index(index));
        assert!(commits.clone().see(&event(1, 1, Fact::Installed { at: at(1) })).is_err());
        commits.see(&event(1, 1, Fact::Installed { at: at(9) })).unwrap();
        assert_eq!(apply(&mut commits, 10), Ok(()));
    }
}
