//! What the log still holds is not what was decided: a read of the log must not reach what was written anew.
//!
//! Found by the simulator (`world::watched`, paxos seeds 10 and 17): a replica applied the entry that it had accepted
//! before its restart instead of the one that was chosen since.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test that panics has failed

use bytes::Bytes;
use raft::{Message, Raft};
use replog::{
    Body, Committed, Configuration, Entry, EntryMeta, Epoch, HardState, Index, Input, LogId, Missing, NodeId,
    Replica, Setup, Span, Stamp, Time,
};

fn entry(term: u32, index: u64) -> Entry {
    let epoch = Epoch::of(term);
    let body = Body::Command(Bytes::from(format!("{term}:{index}")));
    Entry { id: LogId::new(epoch, Index(index)), ballot: epoch, stamp: Stamp(0), body }
}

/// n2 after a restart: 1:1 and 1:2 lie on its disk, nothing is known to be committed.
fn restarted(disk: &[Entry]) -> Replica<Raft> {
    let members = Configuration::of_voters([1, 2, 3].map(NodeId));
    let entries: Vec<EntryMeta> = disk.iter().map(Entry::meta).collect();
    let hard_state = HardState { promised: Epoch::of(1), ..HardState::default() };
    let fresh = Setup::fresh(NodeId(2), members, raft::Options::default());
    Replica::open(Setup { hard_state, entries, ..fresh }, 256 << 10, Time(0))
}

// requirement: S25
#[test]
fn an_apply_does_not_read_what_was_overwritten() {
    // 1. Restart with 1:1, 1:2, neither committed.
    let disk = vec![entry(1, 1), entry(1, 2)];
    let mut replica = restarted(&disk);
    replica.set_link(NodeId(1), true);
    replica.step(Time(1));
    // 2. The leader of term 3 replaces 1:2, and says that all of it is committed.
    let term = Epoch::of(3);
    let message = Message::AppendEntries { term, prev: disk[0].id, commit: Index(3), round: 1, sync: true };
    let entries = vec![entry(3, 2), entry(3, 3)];
    replica.push(Input::Message { from: NodeId(1), message, entries });
    replica.step(Time(2));
    // 3. The write has not reached the log when the committed entries are handed out.
    let read = |span: Span, _: u64| -> Result<Vec<Entry>, Missing> {
        let found: Vec<Entry> = disk.iter().filter(|e| span.contains(e.id.index)).cloned().collect();
        if found.is_empty() { Err(Missing) } else { Ok(found) }
    };
    let mut applied = Vec::new();
    while let Some(Committed::Entries(batch)) = replica.take_committed(u64::MAX, read) {
        applied.extend(batch);
    }
    // 4. 1:1 comes from the log, the rest from memory.
    assert_eq!(applied, [entry(1, 1), entry(3, 2), entry(3, 3)]);
}
