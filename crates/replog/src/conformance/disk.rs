//! A modelled disk: the write stream, how much of it is synced, and snapshots.
//!
//! Crash model (contract schedule 5): a killed process keeps everything written (the page cache survives), a power
//! loss keeps the synced prefix and some prefix of the rest. Recovery makes what it found durable before it believes it.

use super::State;
use crate::{
    ConfigurationAt, Entry, HardState, Index, LogId, LogOp, Missing, Recovered, Rng, Span, Ticket, Write,
};
use std::collections::BTreeMap;

/// How a node goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process dies: written bytes survive, links are reset at once.
    Kill,
    /// The machine loses power: a prefix between synced and written survives, links die silently.
    Power,
}

/// What the log holds after a prefix of the write stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct DiskImage {
    /// Last hard state.
    pub hard_state: HardState,
    /// Base.
    pub base: LogId,
    /// Entries above the base.
    pub entries: BTreeMap<Index, Entry>,
}

impl DiskImage {
    /// Carries out one op.
    pub fn follow(&mut self, op: &LogOp) {
        match op {
            LogOp::HardState(h) => self.hard_state = *h,
            LogOp::Write(entries) => {
                for e in entries.iter().filter(|e| e.id.index > self.base.index) {
                    self.entries.insert(e.id.index, e.clone());
                }
            }
            LogOp::Truncate { from } => drop(self.entries.split_off(from)),
            LogOp::Purge { upto } => {
                self.entries = self.entries.split_off(&upto.index.next());
                // By index: in Paxos a value keeps the epoch of its first proposer, so epochs may fall along the log.
                if upto.index > self.base.index {
                    self.base = *upto;
                }
            }
        }
    }

    /// As a log would report it when opened.
    #[must_use]
    pub fn recovered(&self) -> Recovered {
        Recovered {
            hard_state: self.hard_state,
            base: self.base,
            entries: self.entries.values().map(Entry::meta).collect(),
            damaged: Vec::new(),
        }
    }
}

/// A snapshot of the modelled state machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) state: State,
    pub(crate) configurations: Vec<ConfigurationAt>,
    /// Received and not yet accepted by the core.
    pub(crate) staged: bool,
}

/// One node's disk.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    /// Image of the synced prefix.
    synced: DiskImage,
    /// Writes behind it, in order.
    unsynced: Vec<Write>,
    /// Image of everything written, for reads.
    written: DiskImage,
    snapshots: Vec<Snapshot>,
    fsyncs: u64,
}

impl MemoryDisk {
    /// Appends one `Persist`.
    pub fn append(&mut self, write: Write) {
        for op in &write.ops {
            self.written.follow(op);
        }
        self.unsynced.push(write);
    }

    /// Whether something waits for a sync.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        !self.unsynced.is_empty()
    }

    /// Highest ticket written.
    #[must_use]
    pub fn written_ticket(&self) -> Ticket {
        self.unsynced.last().map_or(Ticket::NONE, |w| w.ticket)
    }

    /// Makes everything up to `ticket` durable: one fsync.
    pub fn sync(&mut self, ticket: Ticket) {
        self.fsyncs += 1;
        let rest = self.unsynced.partition_point(|w| w.ticket <= ticket);
        for write in self.unsynced.drain(..rest) {
            write.ops.iter().for_each(|op| self.synced.follow(op));
        }
    }

    /// Number of fsyncs so far.
    #[must_use]
    pub fn fsyncs(&self) -> u64 {
        self.fsyncs
    }

    /// What is durable.
    #[must_use]
    pub fn durable(&self) -> &DiskImage {
        &self.synced
    }

    /// What is written, durable or not.
    #[must_use]
    pub fn written(&self) -> &DiskImage {
        &self.written
    }

    /// Reads back entries, contiguous from the start of `span`.
    ///
    /// # Errors
    /// [`Missing`] if the first is not there.
    pub fn read(&self, span: Span, max_bytes: u64) -> Result<Vec<Entry>, Missing> {
        let mut found: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        for (index, e) in self.written.entries.range(span.from..=span.to) {
            bytes += u64::from(e.bytes());
            let expected = Index(span.from.0 + found.len() as u64);
            if *index != expected || (bytes > max_bytes && !found.is_empty()) {
                break;
            }
            found.push(e.clone());
        }
        if found.is_empty() { Err(Missing) } else { Ok(found) }
    }

    /// Goes down: keeps what the crash model keeps.
    pub fn crash(&mut self, crash: Crash, rng: &mut Rng) {
        let keep = match crash {
            Crash::Kill => self.unsynced.len(),
            Crash::Power => rng.below(self.unsynced.len() as u64 + 1) as usize,
        };
        self.keep(keep);
    }

    /// Keeps the synced prefix and `more` writes behind it; recovery then makes them durable.
    pub fn keep(&mut self, more: usize) {
        self.unsynced.truncate(more);
        for write in self.unsynced.drain(..) {
            write.ops.iter().for_each(|op| self.synced.follow(op));
        }
        self.written = self.synced.clone();
        // An install whose Purge is durable is completed, any other staged snapshot is forgotten (schedule 3).
        let base = self.synced.base;
        self.snapshots.retain(|s| !s.staged || s.state.last.index <= base.index);
        self.snapshots.iter_mut().for_each(|s| s.staged = false);
    }

    /// Stores a snapshot.
    pub(crate) fn store(&mut self, snapshot: Snapshot) {
        self.snapshots.push(snapshot);
    }

    /// The newest accepted snapshot.
    pub(crate) fn newest(&self) -> Option<&Snapshot> {
        self.snapshots.iter().filter(|s| !s.staged).max_by_key(|s| s.state.last.index)
    }

    /// The snapshot at `at`.
    pub(crate) fn at(&self, at: LogId) -> Option<&Snapshot> {
        self.snapshots.iter().rev().find(|s| s.state.last == at)
    }

    /// The staged snapshot at `at` counts from now on.
    pub(crate) fn settle_staged(&mut self, at: LogId) {
        self.snapshots.iter_mut().filter(|s| s.state.last == at).for_each(|s| s.staged = false);
    }

    /// Forgets everything: a wiped data directory.
    pub fn wipe(&mut self) {
        *self = Self::default();
    }
}
