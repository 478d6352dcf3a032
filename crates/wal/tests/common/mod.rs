//! Shared by the tests of the log: short words for entries, a disk's directory, and what a log must hold.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test that panics has failed"
)]
#![allow(dead_code, reason = "each test file uses some of it")]

use bytes::Bytes;
use replog::{
    Body, Entry, EntryMeta, Epoch, HardState, Index, LogId, LogOp, LogReader, NodeId, Recovered, Span, Stamp,
};
use std::collections::BTreeMap;
use std::path::Path;
use wal::{Identity, MemDisk, Wal, WalError, WalOptions, WalReader};

pub const DIR: &str = "/data";

pub fn dir() -> &'static Path {
    Path::new(DIR)
}

pub fn identity() -> Identity {
    Identity { protocol: "zab".into(), cluster: 0xfeed, node: NodeId(1) }
}

/// Segments of 4 KiB, no reserve.
pub fn small() -> WalOptions {
    WalOptions { segment_bytes: 4096, buffer_bytes: 1 << 20, reserve_bytes: 0 }
}

pub fn open(disk: &MemDisk) -> Result<(Wal<MemDisk>, Recovered), WalError> {
    Wal::open(disk.clone(), dir(), identity(), small())
}

pub fn id(round: u32, index: u64) -> LogId {
    LogId::new(Epoch::of(round), Index(index))
}

pub fn entry(round: u32, index: u64, body: &[u8]) -> Entry {
    Entry {
        id: id(round, index),
        ballot: Epoch { round, proposer: 3 },
        stamp: Stamp(index * 10),
        body: Body::Command(Bytes::copy_from_slice(body)),
    }
}

/// Entries `from..=to` of `round` with bodies of `size` bytes that differ.
pub fn entries(round: u32, from: u64, to: u64, size: usize) -> Vec<Entry> {
    (from..=to).map(|i| entry(round, i, &vec![(i as u8) ^ (round as u8) << 6; size])).collect()
}

pub fn hard(round: u32, committed: u64) -> HardState {
    HardState {
        promised: Epoch::of(round),
        voted_for: Some(NodeId(round)),
        established: Epoch::of(round.saturating_sub(1)),
        committed: Index(committed),
    }
}

/// What a log must hold after some writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    pub hard: HardState,
    pub base: LogId,
    pub entries: BTreeMap<u64, Entry>,
}

impl Model {
    pub fn apply(&mut self, ops: &[LogOp]) {
        for op in ops {
            match op {
                LogOp::HardState(h) => self.hard = *h,
                LogOp::Write(entries) => {
                    for e in entries.iter().filter(|e| e.id.index > self.base.index) {
                        self.entries.insert(e.id.index.0, e.clone());
                    }
                }
                LogOp::Truncate { from } => {
                    self.entries.split_off(&from.0);
                }
                LogOp::Purge { upto } if upto.index > self.base.index => {
                    self.base = *upto;
                    self.entries = self.entries.split_off(&(upto.index.0 + 1));
                }
                LogOp::Purge { .. } => {}
            }
        }
    }

    /// The same as `recovered`, undamaged?
    pub fn matches(&self, recovered: &Recovered) -> bool {
        let metas: Vec<EntryMeta> = self.entries.values().map(Entry::meta).collect();
        recovered.hard_state == self.hard
            && recovered.base == self.base
            && recovered.entries == metas
            && recovered.damaged.is_empty()
    }

    /// Whether `reader` gives every entry back, and nothing else.
    pub fn check_reader(&self, reader: &WalReader<MemDisk>) {
        for (index, entry) in &self.entries {
            let span = Span { from: Index(*index), to: Index(index + 3) };
            let found = reader.read(span, 10_000).unwrap_or_else(|_| panic!("entry {index} is missing"));
            assert_eq!(&found[0], entry);
            for (offset, e) in found.iter().enumerate() {
                assert_eq!(self.entries.get(&(index + offset as u64)), Some(e));
            }
        }
        let end = self.entries.keys().last().map_or(self.base.index.0, |i| *i) + 1;
        assert!(reader.read(Span { from: Index(end), to: Index(end) }, 100).is_err());
        assert!(reader.read(Span { from: self.base.index, to: self.base.index }, 100).is_err());
    }
}

/// Every state that a prefix of `writes` leaves.
pub fn prefixes(writes: &[Vec<LogOp>]) -> Vec<Model> {
    let mut model = Model::default();
    let mut all = vec![model.clone()];
    for ops in writes {
        model.apply(ops);
        all.push(model.clone());
    }
    all
}
