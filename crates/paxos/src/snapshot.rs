//! Snapshots: purging behind one's own, sending one to who fell below the log's base, taking one over.
//!
//! A snapshot is a chosen prefix in another form. So it does not matter who sends it or in which epoch, only whether it
//! reaches beyond the own prefix; and it says nothing about slots above it, which therefore stay.

use crate::Paxos;
use crate::state::LateEffect;
use replog::{ConfigurationAt, Index, LogId, LogOp, NodeId, mutant};

impl Paxos {
    /// An own snapshot is durable: the log below it may go, but for a tail kept for followers a little behind.
    pub(crate) fn on_snapshot_taken(&mut self, at: LogId) {
        if at.index <= self.snapshot.index || at.index > self.slots.committed() {
            return;
        }
        self.snapshot = at;
        self.purge();
    }

    /// Purges what neither the tail nor a transfer under way needs.
    // Contract schedule 15: 1. a snapshot at 100 is sent; 2. the log is purged to 200 meanwhile; 3. the receiver, at
    // 100, needs another snapshot, for ever. So the log from 100 stays until the transfer has ended.
    fn purge(&mut self) {
        let sending = self.peers.iter().filter_map(|p| p.snapshot).map(|at| at.index).min();
        let keep = Index(self.snapshot.index.0.saturating_sub(self.options.limits.keep_entries));
        let upto = sending.map_or(keep, |s| keep.min(s));
        if upto <= self.slots.base().index {
            return;
        }
        let Some(epoch) = self.slots.epoch_at(upto) else { return };
        let upto = LogId::new(epoch, upto);
        self.slots.purge(upto);
        self.out.ops.push(LogOp::Purge { upto });
    }

    /// Sends the newest snapshot to who asked for purged slots.
    pub(crate) fn start_snapshot(&mut self, to: NodeId) {
        let (at, now) = (self.snapshot, self.now);
        let Some(peer) = self.peer_mut(to) else { return };
        if peer.snapshot.is_some() || peer.snapshot_quiet > now {
            self.ignore(to, "a snapshot is on its way already");
            return;
        }
        peer.snapshot = Some(at);
        self.out.effects.push(LateEffect::SendSnapshot { to, at });
    }

    pub(crate) fn on_snapshot_sent(&mut self, to: NodeId, at: LogId, whole: bool) {
        // The receiver may ask again before it has taken over what has just arrived.
        let quiet = self.now + self.options.timing.heartbeat * 2;
        if let Some(peer) = self.peer_mut(to)
            && peer.snapshot == Some(at)
        {
            peer.snapshot = None;
            if whole {
                peer.snapshot_quiet = quiet;
            }
        }
        self.purge();
    }

    /// Takes a received snapshot over, or drops it.
    // Contract schedule 3: 1. an old leader streams a snapshot at 100; 2. meanwhile this replica learns up to 150 from
    // the new one and answers clients; 3. the old stream ends. Installing it would take the state back.
    pub(crate) fn on_snapshot_received(
        &mut self,
        from: NodeId,
        at: LogId,
        configurations: alloc::vec::Vec<ConfigurationAt>,
    ) {
        if at.index <= self.slots.committed() && !mutant!(PaxosInstallsBackwards) {
            self.unrepairable = self.unrepairable.max(at.index);
            self.ignore(from, "snapshot below the own prefix");
            return;
        }
        // Whoever leads and is told more than it knows was deposed (see `on_chosen`).
        self.step_down();
        self.slots.install(at);
        self.snapshot = at;
        self.out.ops.push(LogOp::Purge { upto: at });
        self.out.install = Some(at);
        self.fetching = None;
        if let Some(last) = configurations.into_iter().next_back() {
            self.adopt(last);
        }
        self.on_prefix_moved();
        if self.discovery.is_some() {
            self.try_win();
        }
    }
}
