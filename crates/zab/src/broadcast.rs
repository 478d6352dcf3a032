//! Phase 3: broadcast. The leader proposes in order, every learner writes and acknowledges in order, a quorum
//! commits, commits are told at once.
//!
//! ```text
//!  client ──► leader ──PROPOSAL──► followers          leaves at once, in parallel with the leader's own write
//!                    ◄─────ACK──── (when durable)     one per batch, cumulative
//!                    ────COMMIT──►                    rides on the next proposal of the batch if there is one
//!                    ────INFORM──► observers          committed entries, never acknowledged
//! ```
//!
//! A batch costs at most one write, and per peer one proposal per frame's worth of entries and one commit.
//! Messages per commit: 3(N−1), fsyncs N (experiments §1).
//!
//! Liveness: the leader leaves when it no longer hears a quorum *that makes progress*, the follower when it no longer
//! hears its leader; a broken link says so at once (requirement S26, S39: both sides detect).

use crate::message::Message;
use crate::state::{FollowerStage, LeaderStage, Learner, LearnerStage, State};
use crate::{Out, Zab, history, membership};
use alloc::vec::Vec;
use core::time::Duration;
use replog::{Body, Entry, Epoch, Index, LogId, NodeId, QuorumPhase, Stamp, Ticket, Time, mutant};

impl Zab {
    /// Commands to propose; dropped silently unless this replica leads in broadcast.
    pub(crate) fn on_propose(&mut self, stamp: Stamp, bodies: impl Iterator<Item = Body>) {
        let State::Leading(l) = &self.state else { return };
        if l.stage != LeaderStage::Broadcasting || l.transfer.is_some() {
            return;
        }
        let epoch = l.epoch;
        let mut index = self.log.last().index;
        let propose = |body| {
            index = index.next();
            let id = LogId::new(epoch, index);
            Entry { id, ballot: epoch, stamp, body }
        };
        let entries: Vec<Entry> = bodies.map(propose).collect();
        if !entries.is_empty() {
            self.log.extend(&entries);
            self.work.write(entries);
        }
    }

    /// PROPOSAL, INFORM or CATCHUP.
    pub(crate) fn on_entries(
        &mut self,
        from: NodeId,
        epoch: Epoch,
        committed: Index,
        mut entries: Vec<Entry>,
        catchup: bool,
        out: &mut Out,
    ) {
        let observes = self.configuration.observers.contains(&self.id);
        let State::Following(f) = &mut self.state else {
            return Self::ignore(from, "entries, but not following", out);
        };
        // requirement: S31
        if from != f.leader || epoch != f.epoch || f.stage < FollowerStage::Receiving {
            return Self::ignore(from, "entries of another session", out);
        }
        f.heard = self.now;
        if !history::is_contiguous(&entries, epoch) {
            return Self::ignore(from, "entries with a hole", out);
        }
        f.bound = f.bound.max(committed);
        let Some((first, end)) = entries.first().map(|e| e.id).zip(entries.last().map(|e| e.id.index)) else {
            return self.follow_bound();
        };
        if first.index > f.matched.next() {
            // Trap 1.13: a hole here would be forwarded by a later leader. The leader sends again from its own end.
            return Self::ignore(from, "entries beyond the end of the log", out);
        }
        let receiving = f.stage == FollowerStage::Receiving;
        if first.index <= self.log.last().index && !self.drop_held(&mut entries, receiving) {
            Self::ignore(from, "entries that contradict the log", out);
            return self.become_looking(out);
        }
        if entries.first().is_some_and(|e| e.id.epoch < self.log.last().epoch) {
            return Self::ignore(from, "entries of an epoch below the log's", out);
        }
        let State::Following(f) = &mut self.state else { return };
        f.ack_due |= catchup || !observes;
        f.matched = f.matched.max(end);
        f.moved = self.now;
        if !entries.is_empty() {
            self.log.extend(&entries);
            self.work.write(entries);
        }
        self.follow_bound();
    }

    /// Drops the entries that are here already. Where they contradict the log, the log is cut while the learner is
    /// being synchronised (it may hold more than what was compared); afterwards that cannot be.
    fn drop_held(&mut self, entries: &mut Vec<Entry>, receiving: bool) -> bool {
        let (base, last) = (self.log.base().index, self.log.last().index);
        let held = |e: &Entry| e.id.index <= base || self.log.contains(e.id);
        let other = entries.iter().find(|e| e.id.index <= last && !held(e)).map(|e| e.id.index);
        if let Some(at) = other {
            if !receiving || at <= self.committed {
                return false;
            }
            self.truncate(at.prev());
        }
        let last = self.log.last().index;
        entries.retain(|e| e.id.index > last);
        true
    }

    /// COMMIT.
    pub(crate) fn on_commit(&mut self, from: NodeId, epoch: Epoch, upto: Index, out: &mut Out) {
        let State::Following(f) = &mut self.state else {
            return Self::ignore(from, "commit, but not following", out);
        };
        if from != f.leader || epoch != f.epoch || f.stage < FollowerStage::Receiving {
            return Self::ignore(from, "commit of another session", out);
        }
        f.heard = self.now;
        f.bound = f.bound.max(upto);
        self.follow_bound();
    }

    /// Commits what the leader said, as far as this log agrees with the leader's: from [`FollowerStage::Receiving`] on.
    pub(crate) fn follow_bound(&mut self) {
        let State::Following(f) = &self.state else { return };
        self.committed = self.committed.max(f.bound.min(f.matched));
    }

    /// ACK.
    pub(crate) fn on_ack(&mut self, from: NodeId, epoch: Epoch, upto: Index, out: &mut Out) {
        let now = self.now;
        let State::Leading(l) = &mut self.state else {
            return Self::ignore(from, "ack, but not leading", out);
        };
        if epoch != l.epoch {
            return Self::ignore(from, "ack of another epoch", out);
        }
        let Some(learner) = l.learners.get_mut(&from) else {
            return Self::ignore(from, "ack of a stranger", out);
        };
        learner.heard = now;
        learner.credit(upto, now);
        l.tally_due = true;
    }

    /// Commits what a quorum holds durably.
    // spec: zab-dsn11 §4.3 step l.3.3; in order, since acks are cumulative
    pub(crate) fn advance_commit(&mut self, out: &mut Out) {
        let State::Leading(l) = &mut self.state else { return };
        if !core::mem::take(&mut l.tally_due) || l.stage != LeaderStage::Broadcasting {
            return;
        }
        let durable = if mutant!(ZabOwnAckUndurable) { self.log.last().index } else { self.durable_index };
        let me = self.id;
        let learners = &l.learners;
        let position = |v: NodeId| {
            if v == me {
                durable
            } else {
                // Who has not acknowledged NEWLEADER holds entries, but not the epoch: it would lose the next
                // election with them. Its acks do not count.
                let least = if mutant!(UnsyncedCount) { LearnerStage::Syncing } else { LearnerStage::Synced };
                let counts = |x: &&Learner| x.counts && x.stage >= least;
                learners.get(&v).filter(counts).map_or(Index::ZERO, |x| x.acked)
            }
        };
        let upto = self.configuration.replicated(position);
        if upto > self.committed {
            self.committed = upto;
        }
        self.confirm_reads(out);
    }

    /// Sends what a follower gathered: one ACK, one question.
    pub(crate) fn flush_follower(&mut self) {
        let after = if mutant!(ProposalAckBeforeDurable) { Ticket::NONE } else { self.written() };
        let State::Following(f) = &mut self.state else { return };
        let upto = f.matched;
        if core::mem::take(&mut f.ack_due) {
            self.work.send_after(f.leader, Message::Ack { epoch: f.epoch, upto }, after);
        }
        if !f.asks.is_empty() {
            let tokens = core::mem::take(&mut f.asks);
            f.reads.extend_from_slice(&tokens);
            self.work.send(f.leader, Message::ReadAsk { epoch: f.epoch, tokens });
        }
    }

    /// PING.
    pub(crate) fn on_ping(&mut self, from: NodeId, epoch: Epoch, seq: u64, rtt_us: u32, out: &mut Out) {
        let durable = self.durable_index;
        let acting = self.acting_epoch();
        let State::Following(f) = &mut self.state else {
            return Self::ignore(from, "ping, but not following", out);
        };
        let joining = f.stage == FollowerStage::Joining;
        if from != f.leader || !(joining || epoch == f.epoch) {
            Self::ignore(from, "ping of another leader", out);
            if epoch < acting {
                // A deposed leader does not wait for its timeout to learn it.
                self.tell(from, false);
            }
            return;
        }
        f.heard = self.now;
        // Before the logs were compared, a position would speak of another history.
        let upto = if f.stage >= FollowerStage::Receiving { durable.min(f.matched) } else { Index::ZERO };
        if rtt_us > 0 {
            self.rtt = Some(Duration::from_micros(u64::from(rtt_us)).min(Duration::from_millis(200)));
        }
        self.work.send(from, Message::Pong { epoch, seq, upto });
    }

    /// PONG.
    pub(crate) fn on_pong(&mut self, from: NodeId, epoch: Epoch, seq: u64, upto: Index, out: &mut Out) {
        let now = self.now;
        let State::Leading(l) = &mut self.state else {
            return Self::ignore(from, "pong, but not leading", out);
        };
        let Some(learner) = l.learners.get_mut(&from).filter(|_| epoch == l.epoch) else {
            return Self::ignore(from, "pong of another epoch", out);
        };
        learner.heard = now;
        learner.pong_seq = learner.pong_seq.max(seq.min(l.ping_seq));
        learner.credit(upto, now);
        let sample = (seq == l.ping_seq).then(|| now.since(l.pinged_at));
        l.tally_due = true;
        if let Some(sample) = sample {
            self.observe_rtt(sample);
        }
    }

    /// Begins a heartbeat round; its pings leave at the end of the step.
    pub(crate) fn ping_all(&mut self) {
        let (now, heartbeat) = (self.now, self.options.timing.heartbeat);
        let State::Leading(l) = &mut self.state else { return };
        if !l.ping_due {
            l.ping_seq += 1;
            l.pinged_at = now;
        }
        l.ping_due = true;
        l.ping_at = now + heartbeat;
    }

    /// Timers of a leader.
    pub(crate) fn leading_time(&mut self, out: &mut Out) {
        let now = self.now;
        let State::Leading(l) = &self.state else { return };
        let ping = l.ping_at <= now;
        if !self.damaged.is_empty() || self.disk_stalled() {
            // 1. The leader's disk hangs; heartbeats go on. 2. Followers are content, nothing commits. Rule: an old
            //    write ends the reign (contract schedule 18).
            return self.become_looking(out);
        }
        // With each heartbeat is often enough, and a step stays cheap.
        if ping && !self.hears_quorum() {
            return self.become_looking(out);
        }
        self.end_transfer(out);
        if ping {
            self.ping_all();
            self.retry_snapshots(out);
        }
    }

    /// When a leader needs a step.
    pub(crate) fn leading_deadline(&self) -> Option<Time> {
        let State::Leading(l) = &self.state else { return None };
        let alone = self.links.is_empty() && self.writes.is_empty();
        let quiet = alone && l.stage == LeaderStage::Broadcasting && self.hears_quorum();
        let transfer = l.transfer.map(|t| t.until);
        if quiet { transfer } else { Some(transfer.map_or(l.ping_at, |t| t.min(l.ping_at))) }
    }

    /// Whether a quorum was heard within the timeout and makes progress with what it was sent.
    fn hears_quorum(&self) -> bool {
        let (now, timing) = (self.now, &self.options.timing);
        let State::Leading(l) = &self.state else { return false };
        let is_young = l.stage < LeaderStage::Syncing && now.since(l.since) < timing.election_timeout;
        if is_young || mutant!(ZabLeaderWithoutQuorum) {
            return true;
        }
        let heard = |v: NodeId| {
            let alive = |x: &Learner| {
                let stalled = x.stage >= LearnerStage::Syncing
                    && x.snapshot.is_none()
                    && x.acked < x.sent
                    && now.since(x.progress_at) >= timing.disk_stall;
                x.counts && now.since(x.heard) < timing.election_timeout && !stalled
            };
            v == self.id || l.learners.get(&v).is_some_and(alive) || self.just_left(v)
        };
        if l.stage < LeaderStage::Broadcasting {
            // Flexible quorums, 4 of 5 to elect and 2 to commit: 1. n1 is elected, n2 and n3 join, n4 and n5 look again.
            // 2. They follow on the word of four only. 3. Three would be enough to commit, so n1 stays and waits for a
            //    fourth for ever. Rule: who needs the larger quorum to go on leaves without it.
            return membership::is_quorum(&self.configuration, heard);
        }
        self.configuration.is_quorum(QuorumPhase::Replication, heard)
    }

    /// Whether the link to `v` broke a moment ago: it gets the same time to come back as a silent one.
    fn just_left(&self, v: NodeId) -> bool {
        self.departed.get(&v).is_some_and(|at| self.now.since(*at) < self.options.timing.election_timeout)
    }

    /// Whether the oldest write is older than allowed.
    pub(crate) fn disk_stalled(&self) -> bool {
        self.writes.front().is_some_and(|w| self.now.since(w.at) >= self.options.timing.disk_stall)
    }

    /// Timers of a follower.
    pub(crate) fn following_time(&mut self, out: &mut Out) {
        let now = self.now;
        let State::Following(f) = &self.state else { return };
        if f.lost.is_some_and(|at| at <= now) || f.heard + f.timeout <= now {
            return self.become_looking(out);
        }
        let State::Following(f) = &self.state else { return };
        if f.patience(&self.options.timing).is_some_and(|at| at <= now) {
            // The leader is there, but the handshake hangs: a new session, not an election.
            self.join();
        }
        self.refetch();
    }

    /// The epoch that this replica acts in.
    pub(crate) fn acting_epoch(&self) -> Epoch {
        match &self.state {
            State::Looking(_) => Epoch::ZERO,
            State::Following(f) => f.epoch,
            State::Leading(l) => l.epoch,
        }
    }
}

impl Learner {
    /// Takes note that everything up to `upto` is durable there.
    pub(crate) fn credit(&mut self, upto: Index, now: Time) {
        if self.stage < LearnerStage::Syncing {
            return;
        }
        if self.snapshot.is_some_and(|at| at.index <= upto) {
            self.snapshot = None;
            self.snapshot_failed = false;
        }
        let upto = upto.min(self.sent);
        if upto > self.acked {
            self.acked = upto;
            self.progress_at = now;
        }
        self.unsent = self.unsent.filter(|at| *at > self.acked);
        if self.in_flight.is_some_and(|span| span.to <= self.acked) {
            self.in_flight = None;
        }
    }
}
