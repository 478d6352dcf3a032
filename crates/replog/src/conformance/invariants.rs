//! What holds between replicas, beyond what they apply: looked at whenever somebody writes or begins to lead.
//!
//! * election safety: an epoch is led once, by one life of one node (raft §5.2; zab-dsn11 §4.1; paxos-simple §2.5);
//! * an id names a value: whoever writes (epoch, index) writes the same there (log matching, raft §5.3);
//! * leader completeness: who leads holds everything chosen in earlier epochs (raft §5.4.3; zab-dsn11 §4.2).

use super::{DiskImage, Ledger};
use crate::{Entry, Epoch, LogId, LogOp, NodeId};
use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

/// What has been seen so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Invariants {
    reigns: BTreeMap<Epoch, (NodeId, u64)>,
    values: BTreeMap<LogId, u64>,
}

impl Invariants {
    /// `node`, in its so-manyth life, leads and serves in `epoch`; its log is `log`.
    pub(crate) fn leads(
        &mut self,
        node: NodeId,
        life: u64,
        epoch: Epoch,
        log: &DiskImage,
        ledger: &Ledger,
    ) -> Result<(), String> {
        let before = *self.reigns.entry(epoch).or_insert((node, life));
        if before != (node, life) {
            return Err(format!(
                "election safety: {epoch} was led by {} (life {}) before",
                before.0, before.1
            ));
        }
        let Some(chosen) = ledger.entries().rev().map(|e| e.id).find(|id| id.epoch < epoch) else {
            return Ok(());
        };
        let own = log.entries.get(&chosen.index).map(|e| e.id);
        if chosen.index > log.base.index && own != Some(chosen) {
            return Err(format!(
                "leader completeness: {chosen} is chosen, the leader of {epoch} has {own:?}"
            ));
        }
        Ok(())
    }

    /// Somebody writes `ops`.
    pub(crate) fn writes(&mut self, ops: &[LogOp]) -> Result<(), String> {
        let entries = ops.iter().filter_map(|op| match op {
            LogOp::Write(entries) => Some(entries),
            _ => None,
        });
        for entry in entries.flatten() {
            let value = value_of(entry);
            if *self.values.entry(entry.id).or_insert(value) != value {
                return Err(format!("an id names one value: {} was another one before: {entry:?}", entry.id));
            }
        }
        Ok(())
    }
}

fn value_of(entry: &Entry) -> u64 {
    let mut hasher = DefaultHasher::new();
    entry.body.hash(&mut hasher);
    hasher.finish()
}
