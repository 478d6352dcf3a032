//! transfer: handing leadership over (thesis §3.10), asked for by an operator or forced by an own disk that stalls.
//!
//! 1. The leader takes no more proposals (`room` is zero) and brings the target level.
//! 2. It sends `TimeoutNow`; the target campaigns at once, voters need not wait for the old leader.
//! 3. If it still leads an election timeout later, it gives the transfer up and goes on.
//!
//! `TimeoutNow` may arrive long after step 3, so from step 2 on there is no lease any more in this term.

use crate::message::Message;
use crate::state::{Raft, Standing};
use replog::{Effect, Effects, NodeId, QuorumPhase, Refusal, Time, Token};

/// A transfer under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Transfer {
    pub(crate) token: Token,
    pub(crate) to: NodeId,
    /// When it is given up.
    pub(crate) until: Time,
    /// When `TimeoutNow` was last sent.
    pub(crate) told: Option<Time>,
}

impl Raft {
    /// Hand leadership over to `to`, or to the voter that is furthest.
    pub(crate) fn on_transfer(&mut self, token: Token, to: Option<NodeId>, out: &mut Effects<Message>) {
        let why = match &self.lead {
            None => Some(Refusal::NoLeader),
            Some(lead) if lead.transfer.is_some() => Some(Refusal::Busy),
            // The target must know the configuration that it is to be elected in.
            Some(_) if self.has_pending_config() => Some(Refusal::Busy),
            Some(_) => None,
        };
        let target = to.or_else(|| self.successor());
        let target = target.filter(|&node| node != self.id && self.config().is_voter(node));
        match (why, target) {
            (Some(why), _) => out.push(Effect::Refused { token, why }),
            (None, None) => out.push(Effect::Refused { token, why: Refusal::Unsafe }),
            (None, Some(to)) => {
                let until = self.now + self.options.timing.election_timeout;
                if let Some(lead) = self.lead.as_mut() {
                    lead.transfer = Some(Transfer { token, to, until, told: None });
                }
            }
        }
    }

    /// The connected voter with the longest log.
    fn successor(&self) -> Option<NodeId> {
        let lead = self.lead.as_ref()?;
        let voters = lead.peers.iter().filter(|p| p.connected && p.counts && self.config().is_voter(p.node));
        voters.max_by_key(|p| (p.matched, core::cmp::Reverse(p.node))).map(|p| p.node)
    }

    /// Sends `TimeoutNow` once the target is level; gives up when it takes too long.
    pub(crate) fn drive_transfer(&mut self, out: &mut Effects<Message>) {
        let (now, last) = (self.now, self.log.last().index);
        let heartbeat = self.options.timing.heartbeat;
        let Some(lead) = self.lead.as_mut() else { return };
        let Some(transfer) = lead.transfer.as_mut() else { return };
        if now >= transfer.until {
            let token = transfer.token;
            lead.transfer = None;
            out.push(Effect::Refused { token, why: Refusal::Unsafe });
            return;
        }
        let is_level =
            lead.peers.iter().any(|p| p.node == transfer.to && p.connected && p.counts && p.matched == last);
        if is_level && transfer.told.is_none_or(|at| now.since(at) >= heartbeat) {
            transfer.told = Some(now);
            lead.lease_void = true;
            let to = transfer.to;
            let message = Message::TimeoutNow { term: self.term() };
            self.send_in_term(to, message);
        }
    }

    /// Leads no longer: refuses what waits for it. The log and the tickets under way are left alone.
    pub(crate) fn step_down(&mut self, out: &mut Effects<Message>) {
        let Some(lead) = self.lead.take() else { return };
        self.standing = Standing::Following;
        let asked = lead.early.iter().chain(&lead.reads);
        let own = asked.filter_map(|read| match read.asker {
            crate::read::Asker::Own(token) => Some(token),
            crate::read::Asker::Peer(..) => None,
        });
        for token in own {
            out.push(Effect::Refused { token, why: Refusal::NoLeader });
        }
        self.reset_election_timer();
    }

    /// Gives leadership up because it cannot be exercised; whoever is furthest may campaign at once.
    pub(crate) fn cede(&mut self, out: &mut Effects<Message>) {
        if let Some(to) = self.successor() {
            let message = Message::TimeoutNow { term: self.term() };
            self.send_in_term(to, message);
        }
        let term = self.term();
        self.become_follower(term, None, out);
    }

    /// Is this leader still one? Contact with a quorum, progress when there is something to progress with, and an
    /// own disk that finishes its writes.
    // spec: raft-thesis §6.2
    pub(crate) fn check_reign(&mut self, out: &mut Effects<Message>) {
        let Some(lead) = &self.lead else { return };
        let timing = &self.options.timing;
        let is_stuck = self.log.last().index > self.committed
            && self.now.since(lead.progressed) > timing.disk_stall.max(timing.election_timeout);
        if self.is_stalled() || (self.options.checks_quorum() && is_stuck) {
            // Heartbeats alone do not make a live quorum (protocol-traps 2.19).
            self.cede(out);
            return;
        }
        if !self.options.checks_quorum() || self.now < lead.check_at {
            return;
        }
        let (heartbeat, check_at) = (timing.heartbeat, lead.check_at);
        if self.has_overslept(check_at) {
            let next = self.now + heartbeat;
            if let Some(lead) = self.lead.as_mut() {
                lead.check_at = next;
            }
            return;
        }
        let (Some(lead), timing) = (&self.lead, &self.options.timing) else { return };
        let has_quorum = self.config().is_quorum(QuorumPhase::Replication, |node| {
            if node == self.id {
                return self.may_vote;
            }
            let recent = |p: &crate::progress::Progress| self.now.since(p.heard) <= timing.election_timeout;
            lead.peers.iter().any(|p| p.node == node && p.counts && recent(p))
        });
        if !has_quorum {
            let term = self.term();
            self.become_follower(term, None, out);
            return;
        }
        // A quarter: a loss of contact is noticed at most a quarter of a timeout late.
        let next = self.now + timing.election_timeout / 4;
        if let Some(lead) = self.lead.as_mut() {
            lead.check_at = next;
        }
    }
}
