//! C12 replica agreement: equal zxid, equal state; equal index, equal snapshot bytes.
//!
//! The state machine carries a rolling hash of everything that it did. Two replicas that applied up to one zxid must have
//! the same hash, whatever way they came there: from the start, from a snapshot, after a restart.
// spec: reliability.md §2 C12; zookeeper-reference "digest"; protocol-traps 4.10

use super::fact::{Event, Fact, Verdict, require};
use replog::{Index, NodeId};
use std::collections::HashMap;

const STATE: &str = "C12 replica agreement";
const SNAPSHOT: &str = "C12 equal snapshots";

/// The first digest seen at each position.
#[derive(Clone, Debug, Default)]
pub struct Agreement {
    states: HashMap<i64, (NodeId, u64)>,
    zxids: HashMap<Index, (NodeId, i64)>,
    snapshots: HashMap<Index, (NodeId, u64)>,
}

impl Agreement {
    /// Looks at a state or a snapshot.
    ///
    /// # Errors
    /// See the module.
    pub fn see(&mut self, event: &Event<'_>) -> Verdict {
        let node = event.node;
        match event.fact {
            Fact::State { index, zxid, digest } => {
                let (other, known) = *self.states.entry(zxid).or_insert((node, digest));
                require(known == digest, STATE, || {
                    format!(
                        "after zxid {zxid:#x} {other} had the state {known:016x}, {node} has {digest:016x}"
                    )
                })?;
                let (other, known) = *self.zxids.entry(index).or_insert((node, zxid));
                require(known == zxid, STATE, || {
                    format!("after index {index} {other} was at zxid {known:#x}, {node} is at {zxid:#x}")
                })
            }
            Fact::Snapshot { at, hash } => {
                let (other, known) = *self.snapshots.entry(at.index).or_insert((node, hash));
                require(known == hash, SNAPSHOT, || {
                    format!("the snapshots of {other} and {node} at {at} differ: {known:016x}, {hash:016x}")
                })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::event;
    use super::*;
    use replog::{Epoch, LogId};

    fn state(node: u32, index: u64, zxid: i64, digest: u64) -> Event<'static> {
        event(node, 1, Fact::State { index: Index(index), zxid, digest })
    }

    // requirement: S26
    #[test]
    fn equal_zxid_means_equal_state() {
        let mut agreement = Agreement::default();
        agreement.see(&state(1, 10, 7, 0xa)).unwrap();
        agreement.see(&state(2, 10, 7, 0xa)).unwrap();
        agreement.see(&state(2, 11, 8, 0xb)).unwrap();
        assert_eq!(agreement.clone().see(&state(3, 10, 7, 0xb)).unwrap_err().checker, STATE);
        assert!(
            agreement.see(&state(3, 11, 7, 0xa)).unwrap_err().text.contains("at zxid 0x8"),
            "a zxid less"
        );
    }

    #[test]
    fn equal_index_means_equal_snapshot() {
        let mut agreement = Agreement::default();
        let snapshot =
            |node, hash| event(node, 1, Fact::Snapshot { at: LogId::new(Epoch::of(1), Index(5)), hash });
        agreement.see(&snapshot(1, 3)).unwrap();
        agreement.see(&snapshot(2, 3)).unwrap();
        assert_eq!(agreement.see(&snapshot(3, 4)).unwrap_err().checker, SNAPSHOT);
    }
}
