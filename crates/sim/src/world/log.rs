//! The log thread and the apply thread of a node, on virtual time.
//!
//! ```text
//!  turn's writes ─► queue ─► append all ─► (fsync takes its time) ─► sync ─► Durable(last ticket) ─► core
//!  committed batches ─► apply soon ─► application ─► ledger, snapshots' cadence
//! ```
//!
//! While a sync is under way the next writes gather: group commit as in `node/src/log_thread.rs`. A full disk is waited
//! out; any other error of the log ends the process.

use super::host::{Job, Mail, Process};
use super::observe::Happening;
use super::turn::End;
use super::{Event, Simulated, World};
use node::Application;
use replog::{Body, Entry, LogStore, Ticket};
use wal::WalError;

/// How often a full disk is tried again.
const FULL_RETRY_NS: u64 = 200_000_000;
/// How often a stalled disk is looked at: it may be mended before its time.
const STALLED_LOOK_NS: u64 = 20_000_000;
/// Entries of one call of `apply`.
const BATCH_ENTRIES: usize = 1024;
/// One in so many batches waits for the apply thread …
const LATE_APPLIES: u64 = 8;
/// … for up to so long.
const LATE_NS: u64 = 400_000;

impl<P: Simulated> World<'_, P> {
    /// Begins to write what waits, unless a write is under way.
    pub(crate) fn write_log(&mut self, i: usize, process: &mut Process<P>) -> Result<(), End> {
        if process.log_busy || process.log_queue.is_empty() {
            return Ok(());
        }
        process.log_busy = true;
        process.log_batch = std::mem::take(&mut process.log_queue);
        process.appended = 0;
        self.append_batch(i, process)
    }

    /// Appends what is left of the batch, then lets the sync begin.
    fn append_batch(&mut self, i: usize, process: &mut Process<P>) -> Result<(), End> {
        while let Some(write) = process.log_batch.get(process.appended) {
            match process.wal.append(&write.ops) {
                Ok(()) => process.appended += 1,
                Err(e) => return self.log_error(i, &e),
            }
        }
        let at = self.sync_done_at(i);
        self.events.schedule(at, Event::Synced(self.life(i)));
        Ok(())
    }

    /// Waits for room, or ends the process.
    fn log_error(&mut self, i: usize, e: &WalError) -> Result<(), End> {
        if e.is_disk_full() {
            self.events.schedule(self.now + FULL_RETRY_NS, Event::Retry(self.life(i)));
            return Ok(());
        }
        Err(End::Fatal(e.to_string()))
    }

    /// When a sync that begins now is through.
    pub(crate) fn sync_done_at(&mut self, i: usize) -> u64 {
        let host = &self.hosts[i];
        let spread = self.rng.below(self.settings.fsync_spread + 1);
        self.now + (self.settings.fsync + spread) * host.slowness
    }

    /// The time of a sync is over: it takes effect now.
    pub(crate) fn synced(&mut self, i: usize) {
        let Some(mut process) = self.hosts[i].process.take() else { return };
        let outcome = self.sync(i, &mut process);
        self.hosts[i].process = Some(process);
        match outcome {
            Ok(()) => self.poke(i),
            Err(end) => self.end_process(i, &end),
        }
    }

    fn sync(&mut self, i: usize, process: &mut Process<P>) -> Result<(), End> {
        let stalled_until = self.hosts[i].stalled_until;
        if stalled_until > self.now {
            let at = stalled_until.min(self.now + STALLED_LOOK_NS);
            self.events.schedule(at, Event::Synced(self.life(i)));
            return Ok(());
        }
        if process.appended < process.log_batch.len() {
            return self.append_batch(i, process);
        }
        if let Err(e) = process.wal.sync() {
            return self.log_error(i, &e);
        }
        let ticket = process.log_batch.last().map_or(Ticket::NONE, |w| w.ticket);
        process.log_batch.clear();
        (process.log_busy, process.durable) = (false, ticket);
        self.figures.fsyncs += 1;
        self.mix(ticket.0);
        self.trace_durable(i, ticket);
        self.tell(i, Happening::Durable { ticket });
        process.inbox.push(Mail::Durable(ticket));
        self.snapshot_may_finish(i, process);
        self.write_log(i, process)
    }

    /// Lets the apply thread get to what waits: mostly at once, sometimes late.
    pub(crate) fn apply_soon(&mut self, i: usize) {
        let late = self.rng.one_in(LATE_APPLIES);
        let starved = self.ready_at(i).saturating_sub(self.now) > LATE_NS;
        if !late && !starved {
            return self.apply(i);
        }
        let at = self.now.max(if starved { self.ready_at(i) } else { 0 }) + self.rng.below(LATE_NS);
        let life = self.life(i);
        if let Some(process) = &mut self.hosts[i].process {
            process.apply_scheduled = true;
            self.events.schedule(at, Event::Apply(life));
        }
    }

    /// Applies everything that waits.
    pub(crate) fn apply(&mut self, i: usize) {
        if self.hosts[i].paused {
            return; // `resume` comes back to it
        }
        let Some(mut process) = self.hosts[i].process.take() else { return };
        process.apply_scheduled = false;
        self.hosts[i].show_time(self.now, &process);
        let mut outcome = Ok(());
        while let Some(job) = process.jobs.pop_front() {
            outcome = match job {
                Job::Entries { entries, after } => {
                    self.apply_entries(i, &mut process, &entries, after);
                    Ok(())
                }
                Job::Install { at } => self.install(i, &mut process, at),
            };
            if outcome.is_err() {
                break;
            }
        }
        self.hosts[i].process = Some(process);
        match outcome {
            Ok(()) => self.after_service(i),
            Err(end) => self.end_process(i, &end),
        }
    }

    fn apply_entries(&mut self, i: usize, process: &mut Process<P>, entries: &[Entry], after: Ticket) {
        for batch in entries.chunks(BATCH_ENTRIES) {
            process.app.apply(batch);
        }
        let Some(last) = entries.last() else { return };
        process.applied = last.id;
        self.ended.applied(self.now, entries);
        if let Err((checker, text)) = self.ledger.applied(entries, process.digest()) {
            self.violate(checker, format!("{}: {text}", self.hosts[i].id));
        }
        self.mix(last.id.index.0);
        self.trace_apply(i, entries);
        self.tell(i, Happening::Applied { entries });
        self.tell_state(i, process);
        let commands = entries.iter().filter(|e| !matches!(e.body, Body::Noop)).count() as u64;
        if process.snapshots.is_due(commands) {
            self.take_snapshot(i, process, after);
        }
    }
}
