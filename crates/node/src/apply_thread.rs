//! The apply thread: committed batches to the application, installs, and the moment at which a snapshot is cut. It is
//! a thread of its own because an apply may take long (a multi of a megabyte, the end of a session with 10⁵
//! ephemerals) and heartbeats must not wait for it.
//!
//! A small batch that finds the thread idle is applied by the core thread itself, if the application can do so at once
//! ([`Application::apply_at_once`]): on a quiet server a hand-over between threads costs more than the apply.
//!
//! What waits here is bounded: beyond [`BACKLOG_BYTES`] the core takes no more proposals and hands over nothing more;
//! the entries stay in the replica.

use crate::config::OnFatal;
use crate::handle::Shared;
use crate::queue::Queue;
use crate::snapshots::Snapshots;
use crate::{Application, Fatal};
use parking_lot::Mutex;
use replog::{Body, Entry, Epoch, LogId, Rng, Ticket};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use wal::Disk;

/// Bytes of entries that may wait for the application.
pub(crate) const BACKLOG_BYTES: u64 = 16 << 20;
/// Entries of one call of `apply`.
const BATCH_ENTRIES: usize = 1024;

/// Largest batch that the core thread may apply itself: beyond, a hand-over is worth it.
const AT_ONCE: (usize, u64) = (4, 4 << 10);

/// Work for the apply thread.
#[derive(Debug)]
pub(crate) enum Job {
    /// Apply these; each was written by a `Persist` of at most the ticket `after`.
    Entries { entries: Vec<Entry>, bytes: u64, after: Ticket },
    /// Replace the state by the snapshot that was received and accepted.
    Install { at: LogId },
    /// Take a snapshot now.
    Snapshot,
}

impl Job {
    /// What it adds to the backlog: never nothing, so that an empty backlog means an idle thread.
    fn weight(&self) -> u64 {
        match self {
            Self::Entries { bytes, .. } => (*bytes).max(1),
            Self::Install { .. } | Self::Snapshot => 1,
        }
    }
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
        self.backlog.fetch_add(job.weight(), SeqCst);
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

    /// Whether everything pushed is worked off.
    fn is_idle(&self) -> bool {
        self.backlog.load(SeqCst) == 0
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

/// What applies, whichever thread calls it.
pub(crate) struct Applier<D: Disk> {
    pub(crate) app: Arc<dyn Application>,
    pub(crate) snapshots: Arc<Snapshots<D>>,
    pub(crate) cadence: Cadence,
    /// What was applied last, and the ticket that covers it.
    pub(crate) last: Option<(LogId, Ticket)>,
    /// Epoch of the last command applied.
    pub(crate) reign: Epoch,
    pub(crate) shared: Arc<Shared>,
}

/// What the core thread holds of the applier.
pub(crate) struct Appliers<D: Disk> {
    pub(crate) queue: Arc<ApplyQueue>,
    pub(crate) applier: Arc<Mutex<Applier<D>>>,
}

impl<D: Disk> Appliers<D> {
    /// Has a batch applied: here and now if that is quick, else by the thread. Core thread.
    pub(crate) fn apply(&self, entries: Vec<Entry>, bytes: u64, after: Ticket) {
        // Only the core thread pushes: an idle thread stays idle, and the order of batches is kept.
        if entries.len() <= AT_ONCE.0
            && bytes <= AT_ONCE.1
            && self.queue.is_idle()
            && let Some(mut applier) = self.applier.try_lock()
            && applier.app.apply_at_once(&entries)
        {
            return applier.applied(&entries, bytes, after);
        }
        self.queue.push(Job::Entries { entries, bytes, after });
    }
}

/// The thread.
pub(crate) struct ApplyThread<D: Disk> {
    pub(crate) queue: Arc<ApplyQueue>,
    pub(crate) applier: Arc<Mutex<Applier<D>>>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) on_fatal: OnFatal,
}

impl<D: Disk> ApplyThread<D> {
    /// Runs until the queue is closed and empty.
    pub(crate) fn run(self) {
        let mut jobs = Vec::new();
        while self.queue.queue.take(&mut jobs) {
            for job in jobs.drain(..) {
                let weight = job.weight();
                let mut applier = self.applier.lock();
                match job {
                    Job::Entries { entries, bytes, after } => applier.apply(&entries, bytes, after),
                    Job::Snapshot => applier.snapshot(),
                    Job::Install { at } => {
                        if let Err(e) = applier.install(at) {
                            let fatal = Fatal::Install { node: self.shared.id, at, reason: e.to_string() };
                            (self.on_fatal)(&fatal);
                            self.queue.close(true);
                            self.shared.mailbox.put(|inbox| inbox.stop = true);
                            return;
                        }
                    }
                }
                drop(applier);
                if self.queue.release(weight) {
                    self.shared.mailbox.nudge();
                }
            }
        }
    }
}

impl<D: Disk> Applier<D> {
    fn install(&mut self, at: LogId) -> io::Result<()> {
        self.snapshots.install(at, &*self.app)?;
        self.shared.stats.snapshots_installed.add(1);
        self.cadence.restart();
        // Its Purge is durable, or it would not be installed.
        self.last = Some((at, Ticket::NONE));
        Ok(())
    }

    /// Takes a snapshot of what is applied, if this process has applied anything.
    fn snapshot(&mut self) {
        if let Some((at, after)) = self.last
            && self.snapshots.take(at, after, || self.app.freeze())
        {
            self.cadence.restart();
        }
    }

    fn apply(&mut self, entries: &[Entry], bytes: u64, after: Ticket) {
        for batch in entries.chunks(BATCH_ENTRIES) {
            self.app.apply(batch);
        }
        self.applied(entries, bytes, after);
    }

    /// What is due after entries were applied.
    fn applied(&mut self, entries: &[Entry], bytes: u64, after: Ticket) {
        self.shared.stats.apply_batches.add(entries.len().div_ceil(BATCH_ENTRIES) as u64);
        self.shared.stats.applied_entries.add(entries.len() as u64);
        self.note_reign(entries);
        let commands = entries.iter().filter(|e| !matches!(e.body, Body::Noop)).count() as u64;
        let Some(last) = entries.last() else { return };
        self.last = Some((last.id, after));
        if self.cadence.advance(commands, bytes) {
            self.snapshot();
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
