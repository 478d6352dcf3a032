//! What nodes hold, and whether anything is in the way: for the checks of resources and of quiet (C14, C15).

use super::host::snapshot_dir;
use super::observe::Happening;
use super::settings::Settings;
use super::{Simulated, World};
use crate::check::{Bounds, Load};
use replog::Replica;
use wal::Disk;

/// Queues that filled up are empty so long after the last fault.
const REST_NS: u64 = 10_000_000_000;
/// A disk with less room is as good as full: a segment and its reserve do not fit.
const ROOM_BYTES: u64 = 1 << 20;
/// A disturbance explains new epochs for so long.
pub(crate) const SETTLE_US: u64 = 20_000_000;

/// What a node of this cluster may hold.
pub(crate) fn bounds<P: Simulated>(settings: &Settings) -> Bounds {
    let limits = &settings.limits;
    Bounds {
        // Some seconds of load: less than a queue that nobody serves gathers in `REST_NS`.
        at_rest: if settings.switches.is_slow() { 10_000 } else { 500 + u64::from(settings.rate) },
        recent_bytes: Replica::<P>::KEEP_BYTES + limits.window_bytes + (1 << 20),
        // The log reaches back to the last but one snapshot; a third may be being written, or late.
        log_entries: limits.keep_entries + 4 * settings.snapshot_every + 5000,
        // Kept, being written, being received, and what a crash left.
        snapshots: 8,
    }
}

impl<P: Simulated> World<'_, P> {
    fn is_calm(&self) -> bool {
        self.net.shape == self.net.calm
            && self.net.cuts().is_empty()
            && self.hosts.iter().all(|h| {
                let healthy = h.starved.is_none() && h.slowness == 1 && h.stalled_until <= self.now;
                let room = h.disk.free_bytes(&snapshot_dir()).is_ok_and(|free| free >= ROOM_BYTES);
                healthy && h.is_up() && h.crash_armed.is_none() && room
            })
    }

    /// Looks at a node, if anybody observes.
    pub(crate) fn tell_load(&mut self, i: usize) {
        if !self.is_observed() {
            return;
        }
        if !self.is_calm() {
            self.calm_since = None;
            return self.tell(i, Happening::Disturbed);
        }
        let calm = self.now - *self.calm_since.get_or_insert(self.now) > REST_NS;
        let Some(process) = &self.hosts[i].process else { return };
        let load = Load {
            outbox_messages: process.replica.outbox().waiting(),
            recent_bytes: process.replica.recent_bytes(),
            pending_writes: (process.log_queue.len() + process.log_batch.len()) as u64,
            unapplied: process.jobs.len() as u64,
            proposals: process.proposals.len() as u64,
            log_entries: 0,
            snapshots: self.hosts[i].disk.list(&snapshot_dir()).map_or(0, |files| files.len() as u64),
        };
        self.tell(i, Happening::Load { load, calm });
    }
}
