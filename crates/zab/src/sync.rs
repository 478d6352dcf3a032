//! Phase 2: synchronisation. A quorum is made identical to the leader before anything new is proposed.
//!
//! ```text
//!  leader                                   learner
//!  DIFF(after) | TRUNC(to) | SNAP(at) ────►  cut or install, in one write
//!  CATCHUP + entries ─────────────────────►  written; ACK when durable      (one uncounted span under way)
//!  NEWLEADER ─────────────────────────────►  established := epoch, in the same write stream
//!                                   ◄──────  ACK-NEWLEADER, when all of it is durable
//!  quorum? ── UPTODATE ───────────────────►  serve
//! ```
//!
//! The common point is one comparison of two epoch-start tables ([`crate::history`]); nothing is locked while it is
//! made or while data flows (requirement S27).
//!
//! Rules:
//! * synchronised history → `established` → ack of NEWLEADER, in this order (trap 1.9);
//! * proposals are forwarded from NEWLEADER on, in the same lane (trap 1.19);
//! * until a quorum acknowledged NEWLEADER, only what the leader knows to be committed is committed;
//! * nothing committed is ever cut.

use crate::membership::is_quorum;
use crate::message::Message;
use crate::options::SyncSearch;
use crate::state::{FollowerStage, LeaderStage, Leading, Learner, LearnerStage, Outgoing, State, Work};
use crate::{Out, Zab};
use replog::{Effect, Epoch, Index, Limits, LogId, NodeId, Span, Ticket, Time, mutant};

/// How a synchronisation begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    Diff(LogId),
    Trunc(LogId),
    Snap(LogId),
}

impl Zab {
    /// Chooses DIFF, TRUNC or SNAP for a learner that has acknowledged the epoch.
    // spec: zab-dsn11 §4.2; zookeeper-reference §7.5
    pub(crate) fn start_sync(&mut self, to: NodeId, out: &mut Out) {
        let now = self.now;
        let State::Leading(l) = &mut self.state else { return };
        let epoch = l.epoch;
        let Some(learner) = l.learners.get_mut(&to) else { return };
        let Some(history) = learner.history.take() else { return };
        let last = history.table.last_id();
        let common = match self.options.sync_search {
            SyncSearch::EpochTable => {
                self.probes += 1;
                if mutant!(SyncByLength) {
                    self.log.id_at(last.index.min(self.log.last().index))
                } else {
                    self.log.common(&history.table)
                }
            }
            SyncSearch::ZooKeeper => {
                let (found, probes) = self.log.search(last);
                self.probes += probes;
                // Without a snapshot to send, the tables decide.
                let no_snapshot = self.snapshot == LogId::ZERO;
                found.ok().or_else(|| no_snapshot.then(|| self.log.common(&history.table)).flatten())
            }
        };
        learner.stage = LearnerStage::Syncing;
        learner.progress_at = now;
        learner.in_flight = None;
        let Some(common) = common else { return self.start_snapshot(to, out) };
        learner.sent = common.index;
        learner.acked = common.index;
        let message = if common == last {
            Message::Diff { epoch, after: common }
        } else {
            Message::Trunc { epoch, to: common }
        };
        self.work.send(to, message);
    }

    /// Sends a snapshot: the common point was purged here.
    pub(crate) fn start_snapshot(&mut self, to: NodeId, out: &mut Out) {
        let at = self.snapshot;
        let State::Leading(l) = &mut self.state else { return };
        let Some(learner) = l.learners.get_mut(&to) else { return };
        if at.index < self.log.base().index || at == LogId::ZERO {
            // No log and no snapshot reaches that far back: nothing to give.
            l.learners.remove(&to);
            return Self::ignore(to, "neither log nor snapshot reaches its end", out);
        }
        learner.snapshot = Some(at);
        learner.snapshot_failed = false;
        learner.in_flight = None;
        learner.sent = at.index;
        // It may hold more: one that asks for an entry that was purged here, because its own copy is damaged. What it
        // acknowledges is counted again as it is sent again.
        learner.acked = learner.acked.min(at.index);
        self.work.send(to, Message::Snap { epoch: l.epoch, at });
        self.transfers.insert(to, at);
        out.push(Effect::SendSnapshot { to, at });
    }

    /// DIFF, TRUNC or SNAP.
    pub(crate) fn on_sync_start(&mut self, from: NodeId, epoch: Epoch, start: Start, out: &mut Out) {
        let (last, committed) = (self.log.last(), self.committed);
        let State::Following(f) = &mut self.state else {
            return Self::ignore(from, "synchronisation, but not following", out);
        };
        let again = matches!(start, Start::Snap(_)) && f.stage >= FollowerStage::Promised;
        if from != f.leader || epoch != f.epoch || !(f.stage == FollowerStage::Promised || again) {
            return Self::ignore(from, "synchronisation of another session", out);
        }
        (f.heard, f.moved) = (self.now, self.now);
        if mutant!(EpochBeforeHistory) && self.hard.promised >= epoch {
            self.hard.established = epoch;
            self.write_hard_state();
        }
        let State::Following(f) = &mut self.state else { return };
        match start {
            Start::Diff(after) if after == last => {
                (f.stage, f.matched) = (FollowerStage::Receiving, after.index);
            }
            Start::Trunc(to) if to.index >= committed && self.log.contains(to) => {
                (f.stage, f.matched) = (FollowerStage::Receiving, to.index);
                if to.index < last.index {
                    self.truncate(to.index);
                }
            }
            Start::Snap(_) => f.awaits_snapshot = true,
            // 1. A leader that was elected by a minority, or from lost disks, cuts committed entries here.
            // 2. State and log no longer agree (traps 1.15, 1.16). Rule: refuse, and look for another leader.
            Start::Diff(_) | Start::Trunc(_) => {
                Self::ignore(from, "synchronisation from a point that is not here, or below the commit", out);
                self.become_looking(out);
            }
        }
    }

    /// NEWLEADER.
    pub(crate) fn on_new_leader(
        &mut self,
        from: NodeId,
        epoch: Epoch,
        committed: Index,
        last: LogId,
        out: &mut Out,
    ) {
        let State::Following(f) = &mut self.state else {
            return Self::ignore(from, "new leader, but not following", out);
        };
        if from != f.leader || epoch != f.epoch || f.stage != FollowerStage::Receiving {
            return Self::ignore(from, "new leader of another session", out);
        }
        if last.index > f.matched {
            // The driver cut the entries before it; the leader learns it by `Unsent` and says it again.
            return Self::ignore(from, "new leader ahead of its entries", out);
        }
        if !self.log.contains(last) || last.index < self.committed {
            Self::ignore(from, "new leader whose history ends below the commit", out);
            return self.become_looking(out);
        }
        f.stage = FollowerStage::Synced;
        f.moved = self.now;
        f.matched = last.index;
        f.heard = self.now;
        f.bound = f.bound.max(if mutant!(SyncCommitsAll) { last.index } else { committed });
        f.ack_due = false;
        // 1. established := 6 reaches the disk, the synchronised entries do not; crash.
        // 2. This replica wins the next election by its epoch, with the shorter log, and cuts committed entries of the
        //    others (ZOOKEEPER-4643). The other way round, an ack before the entries are durable, loses them with a
        //    quorum counted (3911, 4646, 4685). Rule: one write stream, entries before `established`, ack after both.
        if last.index < self.log.last().index {
            self.truncate(last.index);
        }
        self.hard.established = epoch;
        self.hard.promised = self.hard.promised.max(epoch);
        self.elected.epoch = epoch;
        self.write_hard_state();
        let upto = last.index;
        let after = if mutant!(NewLeaderAckBeforeDurable) { Ticket::NONE } else { self.written() };
        self.work.send_after(from, Message::AckNewLeader { epoch, upto }, after);
        self.follow_bound();
    }

    /// ACK of NEWLEADER.
    pub(crate) fn on_ack_new_leader(&mut self, from: NodeId, epoch: Epoch, upto: Index, out: &mut Out) {
        let now = self.now;
        let State::Leading(l) = &mut self.state else {
            return Self::ignore(from, "new-leader ack, but not leading", out);
        };
        let Some(learner) = l.learners.get_mut(&from).filter(|_| l.epoch == epoch) else {
            return Self::ignore(from, "new-leader ack of another epoch", out);
        };
        if learner.stage != LearnerStage::Announced {
            return Self::ignore(from, "new-leader ack out of turn", out);
        }
        learner.stage = LearnerStage::Synced;
        learner.heard = now;
        learner.progress_at = now;
        learner.acked = learner.acked.max(upto.min(learner.sent));
        if mutant!(ProposalsFromAckOn) {
            learner.sent = self.log.last().index;
        }
        if l.stage == LeaderStage::Broadcasting {
            learner.commit_told = self.committed;
            self.work.send(from, Message::UpToDate { epoch, committed: self.committed });
            l.tally_due = true;
        } else {
            self.begin_broadcast(out);
        }
    }

    /// With NEWLEADER acks of a quorum, its own included, the epoch's initial history is committed.
    // spec: zab-dsn11 §4.2 step l.2.2
    pub(crate) fn begin_broadcast(&mut self, out: &mut Out) {
        let State::Leading(l) = &mut self.state else { return };
        let last = self.log.last().index;
        let durable = self.durable >= l.established_ticket && self.durable_index >= last;
        let synced = |v: NodeId| {
            if v == self.id {
                durable
            } else {
                let least = if mutant!(UnsyncedCount) { LearnerStage::Syncing } else { LearnerStage::Synced };
                let whole = |x: &Learner| x.stage >= least && x.acked >= last;
                l.learners.get(&v).is_some_and(|x| x.counts && whole(x))
            }
        };
        if !is_quorum(&self.configuration, synced) {
            return;
        }
        l.stage = LeaderStage::Broadcasting;
        self.committed = self.committed.max(last);
        let committed = self.committed;
        for (&to, learner) in &mut l.learners {
            if learner.stage == LearnerStage::Synced {
                learner.commit_told = committed;
                self.work.send(to, Message::UpToDate { epoch: l.epoch, committed });
            }
        }
        self.note(out);
    }

    /// UPTODATE.
    pub(crate) fn on_up_to_date(&mut self, from: NodeId, epoch: Epoch, committed: Index, out: &mut Out) {
        let State::Following(f) = &mut self.state else {
            return Self::ignore(from, "up to date, but not following", out);
        };
        if from != f.leader || epoch != f.epoch || f.stage != FollowerStage::Synced {
            return Self::ignore(from, "up to date of another session", out);
        }
        f.stage = FollowerStage::Serving;
        f.heard = self.now;
        self.short_reigns = 0;
        f.bound = f.bound.max(committed);
        self.follow_bound();
        self.note(out);
    }

    /// Sends every learner what it lacks: catch-up, NEWLEADER, proposals, commits.
    pub(crate) fn flush_learners(&mut self, out: &mut Out) {
        if !matches!(self.state, State::Leading(_)) {
            return;
        }
        self.advance_commit(out);
        let rtt_us = self.rtt.map_or(0, |rtt| u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX).max(1));
        let State::Leading(l) = &mut self.state else { return };
        let Leading { epoch, stage, learners, ping_due, ping_seq, .. } = l;
        let mut feed = Feed {
            work: &mut self.work,
            log: &self.log,
            limits: &self.options.limits,
            epoch: *epoch,
            committed: self.committed,
            now: self.now,
            serving: *stage == LeaderStage::Broadcasting,
        };
        for (&to, learner) in learners.iter_mut() {
            if learner.stage >= LearnerStage::Syncing {
                feed.learner(to, learner);
            }
            if *ping_due {
                feed.work.send(to, Message::Ping { epoch: *epoch, seq: *ping_seq, rtt_us });
            }
        }
        *ping_due = false;
        self.try_hand_over(out);
    }

    /// A catch-up span, or a whole attachment, did not go out from `from` on.
    pub(crate) fn on_unsent(&mut self, to: NodeId, from: Index, out: &mut Out) {
        let State::Leading(l) = &mut self.state else { return };
        let Some(learner) = l.learners.get_mut(&to).filter(|x| x.stage >= LearnerStage::Syncing) else {
            return;
        };
        if from > learner.sent {
            return;
        }
        if learner.refill.is_some_and(|span| span.contains(from))
            && learner.in_flight.is_none_or(|span| !span.contains(from))
        {
            // The rest of a refill; the learner asks again.
            learner.refill = None;
            return;
        }
        // 1. The leader's 122 rots; 2. a learner that lags wants 122..155, and nothing of it can be read; 3. the same frame
        //    is queued and fails again, and all behind it is sent once more, at every step. Rule: what does not go out
        //    twice is missing here.
        let again = learner.unsent.replace(from) == Some(from);
        let nothing = again || learner.in_flight.is_some_and(|span| span.from == from);
        learner.sent = from.prev();
        if learner.stage == LearnerStage::Announced && from <= learner.announced {
            // NEWLEADER spoke of entries that did not go out: it waits for them, and is sent again.
            learner.stage = LearnerStage::Syncing;
        }
        learner.in_flight = learner
            .in_flight
            .and_then(|span| Span::new(span.from, from.prev()))
            .filter(|span| span.to > learner.acked);
        if nothing || from <= self.log.base().index {
            // Purged meanwhile, or damaged here: only a snapshot helps.
            self.start_snapshot(to, out);
        }
    }
}

/// What one learner gets at the end of a step.
struct Feed<'a> {
    work: &'a mut Work,
    log: &'a crate::history::History,
    limits: &'a Limits,
    epoch: Epoch,
    committed: Index,
    now: Time,
    serving: bool,
}

impl Feed<'_> {
    fn learner(&mut self, to: NodeId, x: &mut Learner) {
        let held_back = mutant!(ProposalsFromAckOn) && x.stage == LearnerStage::Announced;
        if x.snapshot.is_some() || held_back {
            return;
        }
        // Observers get what is committed and nothing else.
        let end = if x.observes { self.committed } else { self.log.last().index };
        while x.sent < end && self.one_frame(to, x, end) {}
        let caught_up = x.sent >= end && x.in_flight.is_none();
        if x.stage == LearnerStage::Syncing && caught_up {
            // From here on it gets proposals, in the same lane: trap 1.19. (1) n3 is at 7 and NEWLEADER is queued;
            // (2) 8 is proposed; (3) if n3 got proposals only from its ack on, it would miss 8 and apply 9.
            x.stage = LearnerStage::Announced;
            x.announced = x.sent;
            x.commit_told = self.committed;
            let last = self.log.id_at(x.sent).unwrap_or_else(|| self.log.last());
            self.work.send(to, Message::NewLeader { epoch: self.epoch, committed: self.committed, last });
        }
        if x.stage == LearnerStage::Synced && self.serving && !x.observes && x.commit_told < self.committed {
            x.commit_told = self.committed;
            self.work.send(to, Message::Commit { epoch: self.epoch, upto: self.committed });
        }
    }

    /// Queues one frame; whether more may follow.
    fn one_frame(&mut self, to: NodeId, x: &mut Learner, end: Index) -> bool {
        if x.in_flight.is_some() {
            return false;
        }
        let counted = self.log.counts_from(x.sent);
        let upto = if counted {
            if self.log.bytes(x.acked, x.sent) > self.limits.window_bytes {
                return false;
            }
            self.log.frame_end(x.sent, end, self.limits.frame_bytes)
        } else {
            end
        };
        let Some(span) = Span::new(x.sent.next(), upto) else { return false };
        let (epoch, committed) = (self.epoch, self.committed);
        let message = if !counted || x.stage == LearnerStage::Syncing {
            Message::Catchup { epoch, committed }
        } else if x.observes {
            Message::Inform { epoch, committed }
        } else {
            Message::Proposal { epoch, committed }
        };
        self.work.sends.push(Outgoing { to, message, attach: Some(span), after: Ticket::NONE });
        if x.acked >= x.sent {
            x.progress_at = self.now;
        }
        x.in_flight = (!counted).then_some(span);
        x.sent = upto;
        if x.stage >= LearnerStage::Announced {
            x.commit_told = committed;
        }
        counted
    }
}
