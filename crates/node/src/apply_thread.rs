//! The apply thread: committed batches to the application, installs, and the moment at which a snapshot is cut. It is
//! a thread of its own because an apply may take long (a multi of a megabyte, the end of a session with 10⁵
//! ephemerals) and heartbeats must not wait for it.
//!
//! What waits here is bounded: beyond [`BACKLOG_BYTES`] the core takes no more proposals and hands over nothing more;
//! the entries stay in the replica.

use crate::config::OnFatal;
use crate::handle::Shared;
use crate::queue::Queue;
use crate::snapshots::Snapshots;
use crate::{Application, Fatal};
use replog::{Body, Entry, Epoch, LogId, Rng, Ticket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use wal::Disk;

/// Bytes of entries that may wait for the application.
pub(crate) const BACKLOG_BYTES: u64 = 16 << 20;
/// Entries of one call of `apply`.
const BATCH_ENTRIES: usize = 1024;

/// Work for the apply thread.
#[derive(Debug)]
pub(crate) enum Job {
    /// Apply these; each was written by a `Persist` of at most the ticket `after`.
    Entries { entries: Vec<Entry>, bytes: u64, after: Ticket },
    /// Replace the state by the snapshot that was received and accepted.
    Install { at: LogId },
}

/// The way to the apply thread, with its bound.
#[derive(Debug, Default)]
pub(crate) struct ApplyQueue {
    queue: Queue<Job>,
    backlog: AtomicU64,
    /// The core found the backlog too long and wants to hear when it is not.
    awaited: AtomicBool,
}

impl ApplyQueue {
    pub(crate) fn push(&self, job: Job) {
        if let Job::Entries { bytes, .. } = &job {
            self.backlog.fetch_add(*bytes, SeqCst);
        }
        self.queue.push(job);
    }

    /// Whether the core must hold back; if so it will be nudged.
    pub(crate) fn is_full(&self) -> bool {
        if self.backlog.load(SeqCst) < BACKLOG_BYTES {
            return false;
        }
        self.awaited.store(true, SeqCst);
        self.backlog.load(SeqCst) >= BACKLOG_BYTES
    }

    pub(crate) fn close(&self, discard: bool) {
        self.queue.close(discard);
    }

    /// True if the core waits for this.
    fn release(&self, bytes: u64) -> bool {
        let left = self.backlog.fetch_sub(bytes, SeqCst) - bytes;
        left < BACKLOG_BYTES / 2 && self.awaited.load(SeqCst) && self.awaited.swap(false, SeqCst)
    }
}

/// When the next snapshot is due: a random number between half of the configured one and the whole, so that not all
/// replicas write at the same time.
#[derive(Debug)]
pub(crate) struct Cadence {
    count: u64,
    bytes: u64,
    rng: Rng,
    left: (u64, u64),
}

impl Cadence {
    pub(crate) fn new(count: u64, bytes: u64, seed: u64) -> Self {
        let mut cadence =
            Self { count: count.max(2), bytes: bytes.max(2), rng: Rng::new(seed), left: (0, 0) };
        cadence.restart();
        cadence
    }

    fn restart(&mut self) {
        let mut draw = |of: u64| of / 2 + self.rng.below(of - of / 2 + 1);
        self.left = (draw(self.count), draw(self.bytes));
    }

    /// Whether one is due after these.
    fn advance(&mut self, entries: u64, bytes: u64) -> bool {
        self.left = (self.left.0.saturating_sub(entries), self.left.1.saturating_sub(bytes));
        self.left.0 == 0 || self.left.1 == 0
    }
}

/// What the thread works with.
pub(crate) struct ApplyThread<D: Disk> {
    pub(crate) app: Arc<dyn Application>,
    pub(crate) queue: Arc<ApplyQueue>,
    pub(crate) snapshots: Arc<Snapshots<D>>,
    pub(crate) cadence: Cadence,
    /// Epoch of the last command applied.
    pub(crate) reign: Epoch,
    pub(crate) shared: Arc<Shared>,
    pub(crate) on_fatal: OnFatal,
}

impl<D: Disk> ApplyThread<D> {
    /// Runs until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        let mut jobs = Vec::new();
        while self.queue.queue.take(&mut jobs) {
            for job in jobs.drain(..) {
                match job {
                    Job::Entries { entries, bytes, after } => self.apply(&entries, bytes, after),
                    Job::Install { at } => {
                        if let Err(e) = self.snapshots.install(at, &*self.app) {
                            let fatal = Fatal::Install { node: self.shared.id, at, reason: e.to_string() };
                            (self.on_fatal)(&fatal);
                            self.queue.close(true);
                            self.shared.mailbox.put(|inbox| inbox.stop = true);
                            return;
                        }
                        self.shared.stats.snapshots_installed.add(1);
                        self.cadence.restart();
                    }
                }
            }
        }
    }

    fn apply(&mut self, entries: &[Entry], bytes: u64, after: Ticket) {
        for batch in entries.chunks(BATCH_ENTRIES) {
            self.app.apply(batch);
            self.shared.stats.apply_batches.add(1);
        }
        self.shared.stats.applied_entries.add(entries.len() as u64);
        self.note_reign(entries);
        if self.queue.release(bytes) {
            self.shared.mailbox.nudge();
        }
        let commands = entries.iter().filter(|e| !matches!(e.body, Body::Noop)).count() as u64;
        if self.cadence.advance(commands, bytes)
            && let Some(last) = entries.last()
            && self.snapshots.take(last.id, after, || self.app.freeze())
        {
            self.cadence.restart();
        }
    }

    /// The first command of a reign is the end of an election as its clients feel it; harnesses read the line.
    fn note_reign(&mut self, entries: &[Entry]) {
        for entry in entries.iter().filter(|e| !matches!(e.body, Body::Noop)) {
            // Paxos may choose an older leader's entry late: that is no new reign.
            if entry.id.epoch > self.reign {
                self.reign = entry.id.epoch;
                tracing::info!(node = %self.shared.id, at = %entry.id, "first commit of the epoch");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_core_is_nudged_once_when_the_backlog_is_worked_off() {
        let queue = ApplyQueue::default();
        let job = |bytes| Job::Entries { entries: Vec::new(), bytes, after: Ticket::NONE };
        queue.push(job(BACKLOG_BYTES - 1));
        assert!(!queue.is_full());
        queue.push(job(1));
        assert!(queue.is_full());
        assert!(!queue.release(1), "still more than half");
        assert!(queue.release(BACKLOG_BYTES - 1));
        queue.push(job(1));
        assert!(!queue.release(1), "nobody waits any more");
    }

    #[test]
    fn snapshots_come_between_half_and_the_whole_count() {
        for seed in 0..50 {
            let mut cadence = Cadence::new(100, u64::MAX, seed);
            let due = (1..).find(|_| cadence.advance(1, 1)).unwrap();
            assert!((50..=100).contains(&due), "{due}");
            let mut cadence = Cadence::new(u64::MAX, 1000, seed);
            let due = (1..).find(|_| cadence.advance(1, 10)).unwrap();
            assert!((50..=100).contains(&due), "{due}");
        }
    }
}
