//! Phase 1: discovery. The elected replica learns what a quorum promised, fixes its epoch, and makes sure that no
//! history in the quorum is better than its own.
//!
//! ```text
//!  learner                         leader
//!  FOLLOWERINFO(promised) ──────►  quorum? epoch = max(promised) + 1, written
//!                         ◄──────  LEADERINFO(epoch)           after the write
//!  promised := epoch, written
//!  ACKEPOCH(history) ───────────►  quorum, none better? established := epoch, phase 2
//! ```
//!
//! Rules (zab-dsn11 §4.1, protocol traps 1.6-1.8):
//! * `promised` is durable before it is acted in, on both sides;
//! * a learner that already promised this epoch to another leader may be synchronised but does not count; one that
//!   promised a later epoch refuses;
//! * a history is better if (established, last entry) is greater; who has a better one does not count, and if no
//!   quorum is left without it the leader steps back.

use crate::membership::is_quorum;
use crate::message::{AckEpoch, Message};
use crate::state::{FollowerStage, Following, LeaderStage, Leading, Learner, LearnerStage, State};
use crate::{Out, Zab};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use replog::{Effect, Epoch, Index, NodeId, Refusal, Ticket, mutant};

impl Zab {
    /// The election chose this replica.
    pub(crate) fn become_leader(&mut self, out: &mut Out) {
        let waiting = match &mut self.state {
            State::Looking(l) => core::mem::take(&mut l.waiting),
            _ => BTreeMap::new(),
        };
        self.leave_role(out);
        self.state = State::Leading(Leading {
            epoch: Epoch::ZERO,
            stage: LeaderStage::Gathering,
            since: self.now,
            promise_ticket: Ticket::NONE,
            established_ticket: Ticket::NONE,
            learners: BTreeMap::new(),
            tally_due: false,
            ping_seq: 0,
            pinged_at: self.now,
            ping_at: self.now + self.options.timing.heartbeat,
            ping_due: false,
            reads: VecDeque::new(),
            transfer: None,
        });
        self.note(out);
        if self.options.connectivity {
            self.tell_all(false);
        }
        for (from, (session, promised, counts)) in waiting {
            self.on_follower_info(from, session, promised, counts, out);
        }
        self.choose_epoch();
    }

    /// The election, a hand-over or a restored link says whom to follow.
    pub(crate) fn become_follower(&mut self, leader: NodeId, out: &mut Out) {
        let waiting = match &mut self.state {
            State::Looking(l) => core::mem::take(&mut l.waiting),
            _ => BTreeMap::new(),
        };
        self.leave_role(out);
        let timing = &self.options.timing;
        let timeout = self.rng.wait(timing.election_timeout, timing.election_spread);
        let timeout = if mutant!(FollowerNeverGivesUp) { timeout * 1_000_000 } else { timeout };
        self.state = State::Following(Following {
            leader,
            session: 0,
            epoch: Epoch::ZERO,
            stage: FollowerStage::Joining,
            heard: self.now,
            timeout,
            lost: None,
            rejoined: false,
            matched: Index::ZERO,
            bound: Index::ZERO,
            moved: self.now,
            awaits_snapshot: false,
            ack_due: false,
            reads: Vec::new(),
            asks: Vec::new(),
            refetch_at: self.now,
        });
        self.join();
        self.note(out);
        for from in waiting.into_keys() {
            self.tell(from, false);
        }
    }

    /// Opens a session with the leader.
    pub(crate) fn join(&mut self) {
        let (counts, promised, after) = (self.counts(), self.hard.promised, self.written());
        self.session += 1;
        let session = self.session;
        let State::Following(f) = &mut self.state else { return };
        f.session = session;
        f.stage = FollowerStage::Joining;
        f.epoch = Epoch::ZERO;
        f.ack_due = false;
        (f.matched, f.bound) = (Index::ZERO, Index::ZERO);
        (f.heard, f.moved, f.awaits_snapshot) = (self.now, self.now, false);
        let leader = f.leader;
        self.work.send_after(leader, Message::FollowerInfo { session, promised, counts }, after);
    }

    /// A link changed while following.
    pub(crate) fn following_peer(&mut self, node: NodeId, connected: bool, out: &mut Out) {
        let State::Following(f) = &mut self.state else { return };
        if node != f.leader {
            return;
        }
        // What was asked of the leader on the old link is not answered on a new one.
        for token in f.reads.drain(..).chain(f.asks.drain(..)) {
            out.push(Effect::Refused { token, why: Refusal::NoLeader });
        }
        if connected {
            // 1. The link breaks with PROPOSAL 7 in it. 2. It comes back, PROPOSAL 8 arrives. Rule: a broken link ends
            //    the session; the handshake and the comparison of logs start over (trap 1.20).
            f.lost = None;
            f.rejoined = true;
            self.join();
            return;
        }
        f.stage = FollowerStage::Joining;
        f.epoch = Epoch::ZERO;
        let spread = self.options.timing.link_loss_spread;
        if spread != core::time::Duration::MAX {
            let wait = self.rng.wait(core::time::Duration::ZERO, spread);
            f.lost = Some((self.now + wait).min(f.heard + f.timeout));
        }
    }

    /// FOLLOWERINFO.
    pub(crate) fn on_follower_info(
        &mut self,
        from: NodeId,
        session: u64,
        promised: Epoch,
        counts: bool,
        out: &mut Out,
    ) {
        if !self.configuration.is_member(from) {
            return Self::ignore(from, "not a member", out);
        }
        let counts = counts && self.configuration.is_voter(from);
        let observes = self.configuration.observers.contains(&from);
        let now = self.now;
        match &mut self.state {
            State::Looking(l) => {
                // It finished the election a moment earlier.
                l.waiting.insert(from, (session, promised, counts));
                return;
            }
            State::Following(_) => return self.tell(from, false),
            State::Leading(l) => {
                if counts && l.epoch != Epoch::ZERO && promised > l.epoch {
                    // It can never follow in this epoch, and its promise binds it. The next election takes an epoch
                    // above its own.
                    return self.step_back("a voter promised a later epoch", from, out);
                }
                l.learners.insert(from, Learner::new(session, promised, counts, observes, now));
                if l.stage > LeaderStage::Announcing {
                    self.work.send(from, Message::LeaderInfo { session, epoch: l.epoch });
                }
            }
        }
        self.choose_epoch();
    }

    /// With FOLLOWERINFO of a quorum the epoch is chosen.
    // spec: zab-dsn11 §4.1 step l.1.1; zookeeper Leader.getEpochToPropose
    fn choose_epoch(&mut self) {
        let State::Leading(l) = &mut self.state else { return };
        let joined = |v: NodeId| v == self.id || l.learners.get(&v).is_some_and(|x| x.counts);
        if l.stage != LeaderStage::Gathering || !is_quorum(&self.configuration, joined) {
            return;
        }
        let promises = l.learners.values().filter(|x| x.counts).map(|x| x.promised.round);
        let highest = promises.fold(self.hard.promised.round, u32::max);
        let Some(round) = highest.checked_add(1) else { return };
        l.epoch = Epoch::of(round);
        l.stage = LeaderStage::Announcing;
        // 1. A leader announces 6 before it is durable; n2 promises 6; the leader crashes and forgets.
        // 2. It is elected again, announces 6 to n3: two histories under one epoch. Rule: written before announced.
        self.hard.promised = l.epoch;
        self.hard.voted_for = Some(self.id);
        self.write_hard_state();
        let ticket = self.written();
        let State::Leading(l) = &mut self.state else { return };
        l.promise_ticket = ticket;
    }

    /// Own writes became durable while leading.
    pub(crate) fn leading_persisted(&mut self, out: &mut Out) {
        let State::Leading(l) = &mut self.state else { return };
        match l.stage {
            LeaderStage::Announcing if self.durable >= l.promise_ticket || mutant!(AnnounceBeforeDurable) => {
                l.stage = LeaderStage::Collecting;
                for (&to, learner) in &l.learners {
                    let message = Message::LeaderInfo { session: learner.session, epoch: l.epoch };
                    self.work.send(to, message);
                }
                self.establish(out);
            }
            LeaderStage::Syncing => self.begin_broadcast(out),
            LeaderStage::Broadcasting => l.tally_due = true,
            _ => {}
        }
    }

    /// LEADERINFO.
    pub(crate) fn on_leader_info(&mut self, from: NodeId, session: u64, epoch: Epoch, out: &mut Out) {
        let counts = self.counts();
        let State::Following(f) = &mut self.state else {
            return Self::ignore(from, "leader info, but not following", out);
        };
        if from != f.leader || session != f.session || f.stage != FollowerStage::Joining {
            return Self::ignore(from, "leader info of another session", out);
        }
        // requirement: S31. A promise binds voters; what an observer takes is committed under any leader.
        let least = if counts { self.hard.promised } else { self.hard.established };
        if epoch < least {
            Self::ignore(from, "leader info of an older epoch", out);
            return self.become_looking(out);
        }
        // 1. n1 and n2 both choose epoch 6; n3 promised 6 to n1 first. 2. If its ack counted for n2 as well, both could
        //    lead epoch 6. Rule: an ack counts only for whom the epoch was promised to (trap 1.7).
        // spec-deviates: zookeeper replies −1 whenever epochs are equal; here the promise remembers its leader, so a
        // link that flaps during discovery does not cost the election.
        let fresh = epoch > self.hard.promised;
        let promised_to = self.hard.voted_for == Some(from) || mutant!(PromiseCountsForAll);
        let promise_counts = counts && (fresh || promised_to);
        f.epoch = epoch;
        f.stage = FollowerStage::Promised;
        f.heard = self.now;
        if fresh && counts {
            self.hard.promised = epoch;
            self.hard.voted_for = Some(from);
            self.write_hard_state();
        }
        let ack = AckEpoch {
            session,
            epoch,
            counts: promise_counts,
            established: self.hard.established,
            table: self.log.table(),
        };
        // The promise and the history that it states wait for their writes.
        let after = if mutant!(PromiseBeforeDurable) { Ticket::NONE } else { self.written() };
        self.work.send_after(from, Message::AckEpoch(Box::new(ack)), after);
        self.note(out);
    }

    /// ACKEPOCH.
    pub(crate) fn on_ack_epoch(&mut self, from: NodeId, ack: AckEpoch, out: &mut Out) {
        let mine = (self.hard.established, self.log.last());
        let now = self.now;
        let State::Leading(l) = &mut self.state else {
            return Self::ignore(from, "epoch ack, but not leading", out);
        };
        let (stage, epoch) = (l.stage, l.epoch);
        let Some(learner) = l.learners.get_mut(&from) else {
            return Self::ignore(from, "epoch ack of a stranger", out);
        };
        if ack.session != learner.session || ack.epoch != epoch || learner.stage != LearnerStage::Joined {
            return Self::ignore(from, "epoch ack of another session", out);
        }
        learner.heard = now;
        learner.stage = LearnerStage::Acked;
        learner.promise_counts = ack.counts && learner.counts;
        // After a quorum has acknowledged, a better history elsewhere holds nothing that was committed.
        let better = (ack.established, ack.table.last_id()) > mine
            && !(mutant!(BetterHistoryIgnored) || mutant!(LongerHistoryWins));
        learner.ahead = stage == LeaderStage::Collecting && better;
        learner.history = Some(ack);
        match stage {
            LeaderStage::Collecting => self.establish(out),
            LeaderStage::Syncing | LeaderStage::Broadcasting => self.start_sync(from, out),
            LeaderStage::Gathering | LeaderStage::Announcing => {}
        }
    }

    /// With ACKEPOCH of a quorum, none better, the leader's history becomes the epoch's initial history.
    fn establish(&mut self, out: &mut Out) {
        let State::Leading(l) = &self.state else { return };
        let acked =
            |v: NodeId| v == self.id || l.learners.get(&v).is_some_and(|x| x.promise_counts && !x.ahead);
        if !is_quorum(&self.configuration, acked) {
            // Those who may still answer well: linked, and not known to be ahead or bound elsewhere.
            let may = |v: NodeId| {
                v == self.id
                    || match l.learners.get(&v) {
                        Some(x) if x.stage >= LearnerStage::Acked => x.promise_counts && !x.ahead,
                        _ => self.links.contains_key(&v),
                    }
            };
            if !is_quorum(&self.configuration, may) {
                self.step_back("a better history, or promised elsewhere", self.id, out);
            }
            return;
        }
        let epoch = l.epoch;
        self.hard.established = epoch;
        self.write_hard_state();
        let ticket = self.written();
        self.elected.epoch = epoch;
        let State::Leading(l) = &mut self.state else { return };
        l.stage = LeaderStage::Syncing;
        l.established_ticket = ticket;
        let acked = l.learners.iter().filter(|(_, x)| x.stage == LearnerStage::Acked);
        let acked: Vec<NodeId> = acked.map(|(&id, _)| id).collect();
        self.note(out);
        for id in acked {
            self.start_sync(id, out);
        }
        self.begin_broadcast(out);
    }

    /// Gives up leading for a reason that a peer gave.
    pub(crate) fn step_back(&mut self, why: &'static str, from: NodeId, out: &mut Out) {
        Self::ignore(from, why, out);
        self.become_looking(out);
    }
}
