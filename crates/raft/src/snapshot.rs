//! snapshot: compaction, and snapshots received (paper §7).
//!
//! The core decides what becomes of a received snapshot, when it is whole, verified and durable:
//! 1. L1 (term 1) streams a snapshot at 100 to F over the bulk connection;
//! 2. F hears L2 (term 2), gets entries to 150, commits and applies them, answers clients;
//! 3. the old stream ends. Installing 100 now would take F's state and its clients back in time.
//!
//! So a snapshot below what is committed is dropped, and otherwise one `Persist` moves the log's base:
//!
//! ```text
//!   log agrees at `at`:    1 2 3 4 5 6 7      Purge{5}                 base 5 │ 6 7
//!   log disagrees or ends: 1 2 3 x x x        Truncate{4…}, Purge{5}   base 5 │
//! ```
//!
//! Invariants: `base ≤ snapshot ≤ committed`; nothing above the base of a running stream is purged.

use crate::membership::in_order;
use crate::message::Message;
use crate::progress::Flow;
use crate::state::{Raft, Standing};
use alloc::vec::Vec;
use replog::{ConfigurationAt, Effect, Effects, Index, LogId, NodeId, mutant};

impl Raft {
    /// A snapshot of our own state is durable.
    pub(crate) fn on_snapshot_taken(&mut self, at: LogId) {
        if at.index > self.snapshot.index
            && at.index <= self.committed
            && self.log.id_at(at.index) == Some(at)
        {
            self.snapshot = at;
            self.purge();
        }
    }

    /// Forgets entries that neither we nor a snapshot under way needs.
    pub(crate) fn purge(&mut self) {
        let keep = Index(self.snapshot.index.0.saturating_sub(self.options.limits.keep_entries));
        let streams = self.lead.iter().flat_map(|lead| lead.peers.iter().filter_map(|p| p.streaming));
        let upto = streams.map(|at| at.index).filter(|_| !mutant!(PurgeUnderStream)).fold(keep, Index::min);
        if upto <= self.log.base().index {
            return;
        }
        if let Some(upto) = self.log.id_at(upto) {
            self.log.purge(upto);
            self.writes.purge(upto);
        }
    }

    /// A peer's snapshot is here.
    pub(crate) fn on_snapshot_received(
        &mut self,
        from: NodeId,
        at: LogId,
        configurations: Vec<ConfigurationAt>,
        out: &mut Effects<Message>,
    ) {
        let is_future = at.epoch > self.term();
        let is_past = at.index <= self.told && !mutant!(RaftInstallsBackwards);
        if self.standing == Standing::Leading || is_past || self.install.is_some() || is_future {
            out.push(Effect::Ignored { from, why: "snapshot of what is known" });
            return;
        }
        // 1. The log's disk hangs; a snapshot is staged and accepted, its Purge waits; 2. the leader takes the next one and
        // purges: what the follower acknowledged is gone again, so it streams that too; 3. … one file for every snapshot
        // that the leader takes, until the disk is full. So one install at a time: its ack brings the leader back.
        if !self.writes.is_durable(self.installing) {
            out.push(Effect::Ignored { from, why: "snapshot while one is being installed" });
            return;
        }
        let agrees = self.log.id_at(at.index) == Some(at);
        if at.index <= self.committed && !agrees {
            out.push(Effect::Ignored { from, why: "snapshot contradicts what is committed" });
            return;
        }
        // What the disk holds above `told` may be another leader's until this step is durable: do not claim it.
        if !agrees && self.log.last().index > self.told && !mutant!(InstallKeepsConflict) {
            let cut = self.told.max(self.log.base().index).next();
            self.log.truncate(cut);
            self.writes.truncate(cut);
            self.on_config_truncated(cut, out);
            self.following.verified = Index::ZERO;
        }
        self.writes.install(at);
        self.log.purge(at);
        self.damaged.retain_mut(|span| {
            span.from = span.from.max(at.index.next());
            span.from <= span.to
        });
        self.committed = self.committed.max(at.index);
        self.told = self.told.max(at.index);
        self.snapshot = at;
        self.take_configurations(at, configurations, out);
        self.following.verified = self.following.verified.max(at.index);
        self.install = Some(at);
        self.installing = self.writes.step_ticket();
        if let Some(leader) = self.leader.filter(|_| self.standing == Standing::Following) {
            let after = self.writes.step_ticket();
            let (term, matched, counts) = (self.term(), at.index, self.may_vote);
            self.send(leader, Message::Appended { term, matched, round: 0, counts, sync: true }, after);
        }
    }

    /// The configurations of a snapshot replace ours up to it.
    fn take_configurations(
        &mut self,
        at: LogId,
        configurations: Vec<ConfigurationAt>,
        out: &mut Effects<Message>,
    ) {
        let mut all = in_order(configurations);
        all.retain(|c| c.from <= at.index);
        if all.is_empty() {
            return;
        }
        let above = self.configs.iter().filter(|c| c.from > at.index).cloned();
        all.extend(above);
        if all != self.configs {
            self.configs = all;
            self.settled = 0;
            self.settle_configs(out);
        }
    }

    /// A snapshot stream to a follower ended.
    pub(crate) fn on_snapshot_sent(&mut self, to: NodeId, at: LogId, whole: bool) {
        let Some(lead) = self.lead.as_mut() else { return };
        let Some(peer) = lead.peers.iter_mut().find(|p| p.node == to && p.streaming == Some(at)) else {
            return;
        };
        peer.streaming = None;
        if peer.flow == Flow::Snapshot && whole {
            // It answers when it has installed it; the heartbeats behind it find out if it did not. A broken
            // stream begins anew with its next sign of life.
            peer.probe(at.index.next());
            peer.flow = Flow::Probe { sent: true };
            peer.probed_upto = at.index;
        }
        self.purge();
    }

    /// A follower wants damaged entries again.
    pub(crate) fn on_refetch(&mut self, from: NodeId, span: replog::Span, out: &mut Effects<Message>) {
        let (term, snapshot, committed) = (self.term(), self.snapshot, self.committed);
        let Some(lead) = self.lead.as_mut() else { return };
        let Some(peer) = lead.peers.iter_mut().find(|p| p.node == from) else { return };
        // What is not committed comes, if at all, by ordinary replication.
        let Some(span) = replog::Span::new(span.from, span.to.min(committed)) else { return };
        let Some(prev) = self.log.id_at(span.from.prev()) else {
            if peer.streaming.is_none() {
                peer.streaming = Some(snapshot);
                out.push(Effect::SendSnapshot { to: from, at: snapshot });
            }
            return;
        };
        let message =
            Message::AppendEntries { term, prev, commit: self.committed, round: lead.round, sync: true };
        let after = replog::Ticket::NONE;
        self.outgoing.push(crate::state::Outgoing { to: from, message, attach: Some(span), after });
    }
}
