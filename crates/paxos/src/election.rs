//! Election: who notices that a leader is gone, and who may raise a ballot.
//!
//! ```text
//!            silence / link lost            a quorum hears no leader         a quorum promised
//!  Follower ────────────────────► asking ─────────────────────────► phase 1 ─────────────────► Leader
//!     ▲                             │ some still hear one              │ higher ballot
//!     └────── heartbeat ────────────┴──────────── back-off ◄───────────┘
//! ```
//!
//! Paxos needs no election to be safe: any number of proposers may run phase 1 at once. This module is about progress
//! (paxos-simple §2.4 asks for one distinguished proposer, and leaves it open how) and about not disturbing one that
//! works:
//! * heartbeats say whether the leader has a quorum; one that has none does not count as alive (traps 3.11);
//! * a proposer asks first (`Options::pre_prepare`), an acceptor is loyal (`Options::stickiness`);
//! * a leader cedes when no quorum answers, when nothing gets chosen, or when its own disk hangs;
//! * duelling proposers back off for random, growing times (paxos-simple §2.4, Paxos Made Moderately Complex §3).

use crate::{Message, Paxos};
use alloc::vec::Vec;
use core::time::Duration;
use replog::{Epoch, Index, NodeId, Phase, QuorumPhase, Refusal, Role, Time, mutant};

/// A question to the acceptors that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Asking {
    number: u64,
    /// Who hears no leader.
    free: Vec<NodeId>,
}

impl Paxos {
    /// The timer for a replica that has just started: long enough to hear a living leader's heartbeat.
    pub(crate) fn first_deadline(&mut self) -> Option<Time> {
        if !self.counts() {
            return None;
        }
        let t = self.options.timing.clone();
        if self.options.pre_prepare {
            return Some(self.later(t.heartbeat + t.heartbeat / 2, t.heartbeat));
        }
        Some(self.later(t.election_timeout, t.election_spread))
    }

    /// Starts the follower's patience anew.
    pub(crate) fn be_patient(&mut self) {
        let t = &self.options.timing;
        let (least, spread) = (t.election_timeout, t.election_spread);
        self.deadline = Some(self.later(least, spread));
    }

    /// A sign of life of a leader that has a quorum.
    pub(crate) fn on_contact(&mut self) {
        self.contact = self.now;
        self.attempts = 0;
        self.be_patient();
    }

    /// Whether this acceptor still hears a quorum-connected leader.
    // Trap 3.11: 1. leader L reaches B only; 2. B hears L and denies everybody else; 3. L has no quorum, B keeps it in
    // office, nothing is chosen for ever. So L says whether it has a quorum, and B believes it only then.
    pub(crate) fn hears_leader(&self) -> bool {
        if self.leading.is_some() {
            return self.hears_quorum() && !self.is_stuck();
        }
        let linked = self.leader_connected || self.options.lease;
        let fresh = self.now.since(self.contact) < self.options.timing.election_timeout;
        self.leader.is_some() && linked && self.leader_has_quorum && fresh
    }

    /// Whether a promise to somebody new would break a lease that the present leader may rely on.
    pub(crate) fn lease_binds(&self) -> bool {
        self.options.lease && self.now < self.lease_guard
    }

    pub(crate) fn on_peer(&mut self, node: NodeId, connected: bool) {
        let Some(peer) = self.peer_mut(node) else { return };
        peer.connected = connected;
        if !connected {
            peer.snapshot = None;
        }
        let (votes, next) = (peer.votes, peer.upto.next());
        if self.leading.is_some() {
            if connected {
                let from = if votes {
                    next.max(self.slots.committed().next())
                } else {
                    self.slots.committed().next()
                };
                if let Some(peer) = self.peer_mut(node) {
                    peer.next = from;
                }
                self.beat(node);
            }
            return;
        }
        let awaited =
            self.leader == Some(node) || (self.leader.is_none() && self.promised.proposer == node.0);
        if self.leader == Some(node) {
            self.leader_connected = connected;
        }
        if !connected && awaited {
            self.fail_pending_reads();
            self.hurry();
        } else if connected
            && self.options.pre_prepare
            && self.leader.is_none()
            && self.discovery.is_none()
            && self.asking.is_none()
        {
            self.hurry();
        }
        if self.fetching.as_ref().is_some_and(|f| f.from_node == node) && !connected {
            self.fetching = None;
        }
    }

    /// Shortens the wait: a lost link is often the first sign of a crash.
    fn hurry(&mut self) {
        let spread = self.options.timing.link_loss_spread;
        if spread == Duration::MAX || !self.counts() {
            return;
        }
        let soon = self.later(Duration::ZERO, spread);
        self.deadline = Some(self.deadline.map_or(soon, |d| d.min(soon)));
    }

    /// The election timer has run out.
    pub(crate) fn on_election_timeout(&mut self) {
        if !self.counts() {
            self.deadline = None;
            self.lose_leader();
            return;
        }
        // A replica whose disk hangs, or who cannot read what it accepted, would not get through a phase 1.
        if self.disk_stalls() || !self.slots.damaged().is_empty() {
            self.be_patient();
            return;
        }
        if self.leader.is_some() && !self.hears_leader() {
            self.lose_leader();
        }
        if self.discovery.is_some() {
            self.retry_prepare();
        } else if self.options.pre_prepare {
            self.ask();
        } else {
            self.become_proposer(false);
        }
    }

    /// No leader is known from here on.
    pub(crate) fn lose_leader(&mut self) {
        self.leader = None;
        self.fetching = None;
        self.fail_pending_reads();
        self.role = self.idle_role();
        self.phase = Phase::Election;
    }

    /// The role of a replica that follows nobody.
    pub(crate) fn idle_role(&self) -> Role {
        match self.follower_role() {
            Role::Follower => Role::Electing,
            other => other,
        }
    }

    /// The role of a replica that follows somebody.
    pub(crate) fn follower_role(&self) -> Role {
        if self.configuration.is_voter(self.id) {
            if self.may_vote { Role::Follower } else { Role::Learner }
        } else if self.configuration.learners.contains(&self.id) {
            Role::Learner
        } else {
            Role::Observer
        }
    }

    /// Asks the acceptors whether they still hear a leader.
    // Without this, 1. X is cut off for a while and raises its ballot; 2. X returns, an acceptor promises; 3. the
    // leader, who served a quorum all the time, is deposed: an election without a cause.
    fn ask(&mut self) {
        self.questions += 1;
        let number = self.questions;
        self.asking = Some(Asking { number, free: Vec::new() });
        let promised = self.promised;
        for node in self.other_voters() {
            self.send(node, Message::Query { promised, number });
        }
        let wait = self.options.timing.heartbeat;
        self.deadline = Some(self.later(wait, wait));
        self.judge_answers();
    }

    pub(crate) fn on_query(&mut self, from: NodeId, promised: Epoch, number: u64) {
        self.hear_round(promised);
        if !self.counts() {
            self.ignore(from, "asked who cannot vote");
            return;
        }
        let hears = self.hears_leader() || self.lease_binds();
        let promised = self.promised;
        self.send(from, Message::Answer { promised, number, hears });
        if !hears && self.leading.is_none() && self.discovery.is_none() && self.asking.is_none() {
            // The asker is about to prepare: get out of its way for a moment.
            let moment = self.options.timing.heartbeat;
            let later = self.later(moment / 2, moment / 2);
            self.deadline = Some(self.deadline.map_or(later, |d| d.max(later)));
        }
    }

    pub(crate) fn on_answer(&mut self, from: NodeId, promised: Epoch, number: u64, hears: bool) {
        self.hear_round(promised);
        let Some(asking) = self.asking.as_mut().filter(|a| a.number == number) else {
            self.ignore(from, "answer to an old question");
            return;
        };
        if !hears && !asking.free.contains(&from) {
            asking.free.push(from);
        }
        self.judge_answers();
    }

    fn judge_answers(&mut self) {
        let Some(asking) = &self.asking else { return };
        let free = |n: NodeId| n == self.id || asking.free.contains(&n);
        if self.is_quorum(QuorumPhase::Election, free) && !self.hears_leader() && !self.lease_binds() {
            self.become_proposer(false);
        }
    }

    /// Another proposer was faster: wait, for longer each time.
    // spec: paxos-simple §2.4 (two proposers can keep pre-empting each other); a random, growing wait ends the duel
    pub(crate) fn back_off(&mut self) {
        self.discovery = None;
        self.asking = None;
        self.attempts = self.attempts.saturating_add(1);
        let t = &self.options.timing;
        let unit = t.link_loss_spread.min(t.heartbeat).max(Duration::from_millis(1));
        let spread = (unit * (1 << self.attempts.min(10))).min(t.election_timeout);
        self.lose_leader();
        self.deadline = Some(self.later(unit / 2, spread));
    }

    pub(crate) fn on_reject(&mut self, from: NodeId, ballot: Epoch, promised: Epoch) {
        self.hear_round(promised);
        let trying = self.discovery.as_ref().is_some_and(|d| d.ballot == ballot);
        let leads = self.leading.as_ref().is_some_and(|l| l.ballot == ballot);
        if promised <= ballot || !(trying || leads) {
            self.ignore(from, "old rejection");
            return;
        }
        // Classic mode: 1. the leader sends Decide in b3.1, then asks to be promised b4.1; 2. the network swaps the two;
        // 3. the acceptor has promised b4.1 and refuses the Decide. It refuses nobody's reign: b4.1 is the leader's own.
        if promised.proposer == self.id.0 && promised <= self.promised {
            self.ignore(from, "rejection for the own next ballot");
            return;
        }
        self.step_down();
        self.back_off();
    }

    /// Stops leading; what is proposed stays accepted, whoever leads next finds it.
    pub(crate) fn step_down(&mut self) {
        let Some(leading) = self.leading.take() else { return };
        if let Some(transfer) = leading.transfer.filter(|t| !t.sent) {
            self.refuse(transfer.token, Refusal::NoLeader);
        }
        self.discovery = None;
        self.fail_leader_reads();
        self.lose_leader();
        self.bound = Index::ZERO;
        if self.counts() {
            self.be_patient();
        }
    }

    /// Whether the leader's own disk hangs or nothing that it proposed gets chosen.
    pub(crate) fn is_stuck(&self) -> bool {
        let limit = self.options.timing.disk_stall;
        self.disk_stalls() || self.leading.as_ref().is_some_and(|l| self.now.since(l.progress) >= limit)
    }

    /// Cedes when it should: contact alone does not make a live quorum, progress does.
    // Contract schedule 18: 1. the followers' disks hang; 2. heartbeat answers still come; 3. nothing is ever chosen.
    pub(crate) fn cede_if_useless(&mut self) {
        if self.hears_quorum() && !self.is_stuck() || mutant!(PaxosLeaderWithoutQuorum) {
            return;
        }
        self.step_down();
    }
}
