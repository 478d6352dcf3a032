//! The log thread: appends all writes that wait, syncs once, says how far the log is durable. While a sync runs the
//! next writes gather, so group commit forms by itself and nobody waits for a batch to fill.
//!
//! A full disk is waited out: nothing of a refused append is visible, so it is tried again until there is room, and
//! meanwhile the oldest ticket grows old, which makes a leader cede (contract schedule 18). Any other error ends the
//! node by `on_fatal`: after a failed sync the kernel marks the pages clean, and a second one would lie.

use crate::Fatal;
use crate::config::OnFatal;
use crate::handle::Shared;
use crate::queue::{Durable, Queue};
use replog::{LogOp, LogStore, Ticket, Write};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use wal::{Disk, Wal, WalError};

/// How often a full disk is tried again.
const FULL_RETRY: Duration = Duration::from_millis(200);

/// What the thread works with.
pub(crate) struct LogThread<D: Disk> {
    pub(crate) wal: Wal<D>,
    pub(crate) queue: Arc<Queue<Write>>,
    pub(crate) durable: Arc<Durable>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) on_fatal: OnFatal,
}

impl<D: Disk> LogThread<D> {
    /// Runs until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        let mut batch = Vec::new();
        while self.queue.take(&mut batch) {
            match self.write(&mut batch) {
                Ok(Some(ticket)) => {
                    self.durable.reach(ticket);
                    self.shared.mailbox.put(|inbox| inbox.durable = inbox.durable.max(ticket));
                }
                Ok(None) => break,
                Err(e) => {
                    let fatal = Fatal::Log { node: self.shared.id, reason: e.to_string() };
                    (self.on_fatal)(&fatal);
                    self.queue.close(true);
                    self.shared.mailbox.put(|inbox| inbox.stop = true);
                    break;
                }
            }
        }
        self.durable.close();
    }

    /// The last ticket of the batch, durable now; `None` if the node ended while the disk was full.
    fn write(&mut self, batch: &mut Vec<Write>) -> Result<Option<Ticket>, WalError> {
        let begun = Instant::now();
        let (mut last, mut entries, mut bytes) = (Ticket::NONE, 0, 0);
        let persists = batch.len() as u64;
        for write in batch.drain(..) {
            if !self.patiently(|wal| wal.append(&write.ops))? {
                return Ok(None);
            }
            last = write.ticket;
            for op in &write.ops {
                if let LogOp::Write(written) = op {
                    entries += written.len() as u64;
                    bytes += written.iter().map(|e| u64::from(e.bytes())).sum::<u64>();
                }
            }
        }
        if !self.patiently(LogStore::sync)? {
            return Ok(None);
        }
        let stats = &self.shared.stats;
        stats.fsyncs.add(1);
        stats.persists.add(persists);
        stats.appended_entries.add(entries);
        stats.appended_bytes.add(bytes);
        stats.log_nanos.add(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
        Ok(Some(last))
    }

    /// Repeats `call` while the disk is full. False if the node ends meanwhile.
    fn patiently(
        &mut self,
        mut call: impl FnMut(&mut Wal<D>) -> Result<(), WalError>,
    ) -> Result<bool, WalError> {
        let mut waited = false;
        loop {
            match call(&mut self.wal) {
                Ok(()) => {
                    if waited {
                        tracing::info!(node = %self.shared.id, "there is room on the disk again");
                    }
                    return Ok(true);
                }
                Err(e) if e.is_disk_full() => {
                    if !waited {
                        tracing::error!(node = %self.shared.id, "{e}");
                        waited = true;
                    }
                    if self.queue.is_closed() {
                        return Ok(false);
                    }
                    thread::sleep(FULL_RETRY);
                }
                Err(e) => return Err(e),
            }
        }
    }
}
