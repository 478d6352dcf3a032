//! What a node counts: messages and bytes by phase and direction, fsyncs, batches, elections. These are the figures
//! on which the protocols are compared, so they are counted where the thing happens and at the price of one relaxed
//! atomic addition each; most are written by one thread only.

use replog::Phase;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Messages in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages.
    pub messages: u64,
    /// Entries that rode along.
    pub entries: u64,
    /// Bytes on the wire, frame headers included.
    pub bytes: u64,
}

/// A reading of all counters. Each only grows; the reading is not one atomic cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Core messages sent, by [`Phase`] in its order (see [`Self::sent_in`]).
    pub sent: [Traffic; 4],
    /// Core messages received, by [`Phase`].
    pub received: [Traffic; 4],
    /// Application messages sent.
    pub app_sent: Traffic,
    /// Application messages received.
    pub app_received: Traffic,
    /// Writes to peer sockets (system calls); messages per write is the coalescing achieved.
    pub socket_writes: u64,
    /// Reads from peer sockets that returned bytes.
    pub socket_reads: u64,
    /// Turns of the core that stepped it.
    pub steps: u64,
    /// Commands proposed.
    pub proposed: u64,
    /// Syncs of the log.
    pub fsyncs: u64,
    /// `Persist`s written; per sync: the group commit achieved.
    pub persists: u64,
    /// Entries appended to the log.
    pub appended_entries: u64,
    /// Bytes of them, bodies and fixed fields.
    pub appended_bytes: u64,
    /// Nanoseconds spent in appends and syncs.
    pub log_nanos: u64,
    /// Entries applied.
    pub applied_entries: u64,
    /// Calls of `Application::apply`.
    pub apply_batches: u64,
    /// Times that this node began to look for a leader.
    pub elections: u64,
    /// Times that it became leader.
    pub won: u64,
    /// Inputs of peers that the core ignored.
    pub ignored: u64,
    /// Links that came up.
    pub links_up: u64,
    /// Links that went down.
    pub links_down: u64,
    /// Links taken down for a bad frame, an oversized one or an overflow.
    pub link_faults: u64,
    /// Connections refused in the handshake.
    pub refused: u64,
    /// Snapshots written.
    pub snapshots_taken: u64,
    /// Snapshots streamed to peers, whole.
    pub snapshots_sent: u64,
    /// Bytes of snapshots streamed to peers.
    pub snapshot_bytes_sent: u64,
    /// Snapshots received and installed.
    pub snapshots_installed: u64,
}

impl Counters {
    /// Core messages sent in `phase`.
    #[must_use]
    pub fn sent_in(&self, phase: Phase) -> Traffic {
        pick(&self.sent, phase)
    }

    /// Core messages received in `phase`.
    #[must_use]
    pub fn received_in(&self, phase: Phase) -> Traffic {
        pick(&self.received, phase)
    }
}

/// Position of a phase in arrays.
pub(crate) fn slot(phase: Phase) -> usize {
    match phase {
        Phase::Election => 0,
        Phase::Discovery => 1,
        Phase::Sync => 2,
        Phase::Broadcast => 3,
    }
}

fn pick(of: &[Traffic; 4], phase: Phase) -> Traffic {
    of.get(slot(phase)).copied().unwrap_or_default()
}

/// A counter that several threads may read.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    fn read(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

#[derive(Debug, Default)]
pub(crate) struct TrafficCounter {
    messages: Counter,
    entries: Counter,
    bytes: Counter,
}

impl TrafficCounter {
    pub(crate) fn add(&self, entries: usize, bytes: usize) {
        self.messages.add(1);
        self.entries.add(entries as u64);
        self.bytes.add(bytes as u64);
    }

    fn read(&self) -> Traffic {
        Traffic { messages: self.messages.read(), entries: self.entries.read(), bytes: self.bytes.read() }
    }
}

macro_rules! stats {
    ($($name:ident),* $(,)?) => {
        /// The live counters behind [`Counters`].
        #[derive(Debug, Default)]
        pub(crate) struct Stats {
            sent: [TrafficCounter; 4],
            received: [TrafficCounter; 4],
            pub(crate) app_sent: TrafficCounter,
            pub(crate) app_received: TrafficCounter,
            $(pub(crate) $name: Counter,)*
        }

        impl Stats {
            pub(crate) fn read(&self) -> Counters {
                Counters {
                    sent: self.sent.each_ref().map(TrafficCounter::read),
                    received: self.received.each_ref().map(TrafficCounter::read),
                    app_sent: self.app_sent.read(),
                    app_received: self.app_received.read(),
                    $($name: self.$name.read(),)*
                }
            }
        }
    };
}

stats!(
    socket_writes,
    socket_reads,
    steps,
    proposed,
    fsyncs,
    persists,
    appended_entries,
    appended_bytes,
    log_nanos,
    applied_entries,
    apply_batches,
    elections,
    won,
    ignored,
    links_up,
    links_down,
    link_faults,
    refused,
    snapshots_taken,
    snapshots_sent,
    snapshot_bytes_sent,
    snapshots_installed,
);

impl Stats {
    pub(crate) fn sent(&self, phase: Phase, entries: usize, bytes: usize) {
        if let Some(t) = self.sent.get(slot(phase)) {
            t.add(entries, bytes);
        }
    }

    pub(crate) fn received(&self, phase: Phase, entries: usize, bytes: usize) {
        if let Some(t) = self.received.get(slot(phase)) {
            t.add(entries, bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_shows_what_was_added() {
        let stats = Stats::default();
        stats.sent(Phase::Sync, 3, 100);
        stats.sent(Phase::Sync, 1, 50);
        stats.received(Phase::Election, 0, 20);
        stats.fsyncs.add(2);
        let c = stats.read();
        assert_eq!(c.sent_in(Phase::Sync), Traffic { messages: 2, entries: 4, bytes: 150 });
        assert_eq!(c.received_in(Phase::Election), Traffic { messages: 1, entries: 0, bytes: 20 });
        assert_eq!(c.sent_in(Phase::Broadcast), Traffic::default());
        assert_eq!(c.fsyncs, 2);
    }
}
