//! Snapshots and damage: what is purged, what a learner installs, what it fetches again.
//!
//! ```text
//!  leader: SNAP(at) + stream on its own connection ──► learner: SnapshotReceived
//!                                                      Persist{ Truncate?, Purge{at} } ; Install{at, after}
//!          CATCHUP above at … NEWLEADER …   ◄────────  ACK(at)
//! ```
//!
//! Rules:
//! * a received snapshot is installed only from the present leader, in its present epoch, and never behind what was
//!   applied (contract schedule 3);
//! * the log is cut only where it disagrees with the snapshot; what lies above an agreeing position stays, it may
//!   have been acknowledged (contract schedule 4);
//! * nothing that a transfer under way still needs is purged (contract schedule 15).

use crate::message::Message;
use crate::state::{FollowerStage, Learner, LearnerStage, State};
use crate::{Out, Zab, history, membership};
use alloc::vec::Vec;
use replog::{ConfigurationAt, Effect, Entry, Epoch, Index, LogId, LogOp, NodeId, Span, mutant};

impl Zab {
    /// The state at `at` is durable.
    pub(crate) fn on_snapshot_taken(&mut self, at: LogId) {
        if at.index <= self.snapshot.index || at.index > self.committed {
            return;
        }
        self.snapshot = at;
        let sent = self.transfers.values().map(|id| id.index).min().unwrap_or(at.index);
        let keep = Index(at.index.0.saturating_sub(self.options.limits.keep_entries)).min(sent);
        if let Some(upto) = self.log.id_at(keep).filter(|id| id.index > self.log.base().index) {
            self.purge(upto);
        }
    }

    /// Moves the log's base; beyond its end when a snapshot is installed. Nothing becomes durable by it: a PONG that named
    /// the snapshot's position before this write is on disk would be counted as an ack, and a power cut would take it back.
    pub(crate) fn purge(&mut self, upto: LogId) {
        self.log.purge(upto);
        self.damaged = self.damaged.iter().filter_map(|s| history::above(*s, upto.index)).collect();
        self.work.ops.push(LogOp::Purge { upto });
    }

    /// A whole snapshot came.
    pub(crate) fn on_snapshot_received(
        &mut self,
        from: NodeId,
        epoch: Epoch,
        at: LogId,
        configurations: &[ConfigurationAt],
        out: &mut Out,
    ) {
        let readable = self.readable();
        let State::Following(f) = &mut self.state else {
            return Self::ignore(from, "snapshot, but not following", out);
        };
        // 1. n1 streams 100 in epoch 1. 2. n2 leads epoch 2, this replica applies up to 150. 3. The old stream ends:
        //    installing it would take the state back (contract schedule 3).
        if from != f.leader || epoch != f.epoch || f.stage < FollowerStage::Promised {
            return Self::ignore(from, "snapshot of another session", out);
        }
        (f.heard, f.moved, f.awaits_snapshot) = (self.now, self.now, false);
        f.ack_due = true;
        f.stage = f.stage.max(FollowerStage::Receiving);
        f.matched = f.matched.max(at.index);
        if at.index <= readable && !mutant!(ZabInstallsBackwards) {
            // The leader goes on from there; NEWLEADER says where its history ends.
            return Self::ignore(from, "snapshot behind the applied state", out);
        }
        let agrees = self.log.contains(at);
        if !agrees && self.log.last().index > self.committed {
            self.truncate(self.committed);
        }
        self.purge(at);
        if !agrees {
            self.durable_index = self.durable_index.min(at.index);
        }
        self.committed = self.committed.max(at.index);
        self.snapshot = at;
        self.work.install = Some(at);
        if !configurations.is_empty() {
            self.adopt(configurations, out);
        }
        self.follow_bound();
    }

    /// Takes over the configuration of an installed snapshot.
    fn adopt(&mut self, configurations: &[ConfigurationAt], out: &mut Out) {
        let configuration = membership::latest(configurations, &[]);
        if configuration != self.configuration {
            self.configuration = configuration.clone();
            let at = configurations.iter().map(|c| c.from).max().unwrap_or(Index::ZERO);
            out.push(Effect::Configured { at, configuration, settled: true });
        }
    }

    /// A transfer ended.
    pub(crate) fn on_snapshot_sent(&mut self, to: NodeId, at: LogId, whole: bool) {
        if self.transfers.get(&to) == Some(&at) {
            self.transfers.remove(&to);
        }
        let State::Leading(l) = &mut self.state else { return };
        if let Some(learner) = l.learners.get_mut(&to).filter(|x| x.snapshot == Some(at)) {
            // Not at once: a transfer that fails at once would be begun for ever.
            learner.snapshot_failed = !whole;
        }
    }

    /// Begins failed transfers again, with each heartbeat.
    pub(crate) fn retry_snapshots(&mut self, out: &mut Out) {
        let State::Leading(l) = &self.state else { return };
        let failed: Vec<NodeId> =
            l.learners.iter().filter(|(_, x)| x.snapshot_failed).map(|(id, _)| *id).collect();
        for to in failed {
            self.start_snapshot(to, out);
        }
    }

    /// Positions that cannot be read any more.
    pub(crate) fn on_damaged(&mut self, span: Span, out: &mut Out) {
        let above = history::above(span, self.snapshot.index.min(self.told));
        if let Some(span) = above.and_then(|s| Span::new(s.from, s.to.min(self.log.last().index))) {
            self.damaged.push(span);
            // 1. It stands. 2. Its log rots. 3. The last vote comes: elected as it stood, it would lead with damage.
            self.refresh_candidacy(out);
        }
    }

    /// Asks the leader for damaged entries.
    pub(crate) fn refetch(&mut self) {
        let (now, again) = (self.now, self.now + self.options.timing.election_timeout);
        let State::Following(f) = &mut self.state else { return };
        let Some(&span) = self.damaged.first() else { return };
        if f.stage < FollowerStage::Synced {
            f.refetch_at = f.refetch_at.max(now + self.options.timing.heartbeat);
        } else if f.refetch_at <= now {
            f.refetch_at = again;
            self.work.send(f.leader, Message::Fetch { epoch: f.epoch, span });
        }
    }

    /// FETCH.
    pub(crate) fn on_fetch(&mut self, from: NodeId, epoch: Epoch, span: Span, out: &mut Out) {
        let (base, last) = (self.log.base().index, self.log.last().index);
        let State::Leading(l) = &mut self.state else {
            return Self::ignore(from, "fetch, but not leading", out);
        };
        let known = |x: &&mut Learner| l.epoch == epoch && x.stage == LearnerStage::Synced;
        let Some(learner) = l.learners.get_mut(&from).filter(known) else {
            return Self::ignore(from, "fetch of another session", out);
        };
        if span.from <= base {
            return self.start_snapshot(from, out);
        }
        if let Some(span) = Span::new(span.from, span.to.min(last)) {
            self.work.send_with(from, Message::Refill { epoch }, Some(span));
            learner.refill = Some(span);
        }
    }

    /// REFILL: writes the entries at the places whose ids they have. The damage is gone once they are durable.
    pub(crate) fn on_refill(&mut self, from: NodeId, epoch: Epoch, entries: Vec<Entry>, out: &mut Out) {
        let State::Following(f) = &mut self.state else {
            return Self::ignore(from, "refill, but not following", out);
        };
        let fits = history::is_contiguous(&entries, epoch) && entries.iter().all(|e| self.log.contains(e.id));
        let ends = entries.first().zip(entries.last());
        let span = ends.and_then(|(a, b)| Span::new(a.id.index, b.id.index));
        let Some(span) = span.filter(|_| fits && from == f.leader && epoch == f.epoch) else {
            return Self::ignore(from, "refill that does not fit", out);
        };
        f.heard = self.now;
        f.refetch_at = self.now;
        self.work.ops.push(LogOp::Write(entries));
        let ticket = self.written();
        self.refills.push_back((ticket, span));
    }

    /// Refilled entries became durable.
    pub(crate) fn settle_refills(&mut self) {
        let durable = self.durable;
        while let Some(good) = self.refills.front().filter(|(ticket, _)| *ticket <= durable).map(|(_, s)| *s)
        {
            self.refills.pop_front();
            let rest = |s: &Span| {
                let below = Span::new(s.from, s.to.min(good.from.prev()));
                let above = Span::new(s.from.max(good.to.next()), s.to);
                below.into_iter().chain(above)
            };
            self.damaged = self.damaged.iter().flat_map(rest).collect();
        }
    }
}
