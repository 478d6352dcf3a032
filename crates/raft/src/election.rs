//! election: when to campaign, and who is voted for (paper §5.2, §5.4.1; thesis §4.2.3, §9.6).
//!
//! * The timer is reset on granting a vote and on a current leader's append, by nothing else (protocol-traps 2.2).
//! * Each timeout begins with a pre-vote again: a candidate that was cut off just after winning one would raise its
//!   term for ever (protocol-traps 2.10).
//! * A pre-vote changes nothing durable, and the term that it asks about is never adopted (2.11).
//! * A lost *link* to the leader shortens the wait and lifts stickiness towards that leader: a killed process resets
//!   its connections. If the leader is alive the others refuse, and nothing has happened.
//!
//! Invariants: a vote is given at most once per term; a voter's last entry is never above its candidate's.

use crate::message::Message;
use crate::state::{Campaign, Cause, Raft, Standing};
use alloc::vec::Vec;
use core::time::Duration;
use replog::{Effect, Effects, Epoch, LogId, NodeId, Refusal, Ticket, Time, mutant};

/// Whether a log that ends in `candidate` is at least as up to date as one that ends in `own`.
// spec: raft §5.4.1 (last term first, then length; comparing lengths alone elects a stale leader, protocol-traps 2.4)
#[must_use]
pub(crate) fn is_up_to_date(candidate: LogId, own: LogId) -> bool {
    let by_length = mutant!(LongerLogWins) && candidate.index >= own.index;
    by_length || (candidate.epoch, candidate.index) >= (own.epoch, own.index)
}

impl Campaign {
    pub(crate) fn new(cause: Cause) -> Self {
        Self { answers: Vec::new(), cause, lost: 0, settled: false }
    }

    /// Records an answer; the first one of a node counts.
    pub(crate) fn record(&mut self, node: NodeId, granted: bool) {
        if !self.answers.iter().any(|(n, _)| *n == node) {
            self.answers.push((node, granted));
        }
    }

    pub(crate) fn has_granted(&self, node: NodeId) -> bool {
        self.answers.iter().any(|&(n, granted)| n == node && granted)
    }

    pub(crate) fn has_answered(&self, node: NodeId) -> bool {
        self.answers.iter().any(|&(n, _)| n == node)
    }
}

impl Raft {
    /// Draws a new election timeout.
    pub(crate) fn reset_election_timer(&mut self) {
        let timing = &self.options.timing;
        let spread = if mutant!(TimeoutsAlike) { Duration::ZERO } else { timing.election_spread };
        self.election_at = self.now + self.rng.wait(timing.election_timeout, spread);
        self.overslept = false;
    }

    /// Whether a timer due at `at` ran so late that we were stopped meanwhile; true once per timer. What the peers
    /// said may still lie in the sockets: 1. a follower is stopped for 2 s; 2. it wakes up, the timer fires before
    /// the first frame is read; 3. it gives up a leader that never fell silent.
    pub(crate) fn has_overslept(&mut self, at: Time) -> bool {
        let late = self.now.since(at) > self.options.timing.heartbeat * 2;
        let first = late && !self.overslept;
        self.overslept = first;
        first
    }

    /// Whether this replica may campaign at all.
    pub(crate) fn is_electable(&self) -> bool {
        self.may_vote && self.damaged.is_empty() && self.config().is_voter(self.id) && !self.is_stalled()
    }

    /// Whether a leader was heard so recently that nobody else may be elected.
    pub(crate) fn is_bound(&self) -> bool {
        if self.lead.is_some() {
            // A leader that checks its quorum is in contact with itself; another one cannot tell.
            return self.options.check_quorum;
        }
        let timeout = self.options.timing.election_timeout;
        self.contact.is_some_and(|at| self.now.since(at) < timeout)
    }

    /// The election timer ran out.
    pub(crate) fn on_election_timeout(&mut self, out: &mut Effects<Message>) {
        if !self.is_electable() {
            self.lose_leader(out);
            self.become_waiting();
            self.reset_election_timer();
            return;
        }
        let cause = if self.leader_link_lost() { Cause::LinkLoss } else { self.campaign.cause };
        let cause = if cause == Cause::Handover { Cause::Silence } else { cause };
        let lost = match self.standing {
            Standing::Following => 0,
            _ => self.campaign.lost + 1,
        };
        self.lose_leader(out);
        self.campaign = Campaign { lost, ..Campaign::new(cause) };
        // spec: raft-thesis §9.6
        if self.options.pre_vote { self.become_pre_candidate() } else { self.become_candidate(false) }
    }

    /// Asks whether an election could be won. Nothing durable changes.
    pub(crate) fn become_pre_candidate(&mut self) {
        self.standing = Standing::Canvassing;
        self.campaign.answers.clear();
        self.campaign.record(self.id, true);
        self.reset_election_timer();
        self.ask_for_votes(None);
        self.count_answers();
    }

    /// Stops campaigning without following anybody.
    pub(crate) fn become_waiting(&mut self) {
        if matches!(self.standing, Standing::Canvassing | Standing::Running) {
            self.standing = Standing::Following;
            self.campaign = Campaign::new(Cause::Silence);
        }
    }

    /// Follows `leader` in `term`, or nobody yet. The only way down from any state.
    pub(crate) fn become_follower(
        &mut self,
        term: Epoch,
        leader: Option<NodeId>,
        out: &mut Effects<Message>,
    ) {
        let changed = term > self.term() || leader != self.leader || self.standing != Standing::Following;
        if !changed {
            return;
        }
        self.step_down(out);
        self.lose_leader(out);
        if term > self.term() {
            self.set_term(term, None);
            // A lease may still run on our word; without leases the old leader's contact means nothing any more.
            if self.options.lease.is_none() {
                self.contact = None;
            }
        }
        self.standing = Standing::Following;
        // Whoever waits because a link broke goes on waiting for that reason until there is a leader again.
        let keeps = leader.is_none() && self.campaign.cause == Cause::LinkLoss;
        self.campaign = Campaign::new(if keeps { Cause::LinkLoss } else { Cause::Silence });
        self.leader = leader;
    }

    /// A peer speaks in a higher term.
    pub(crate) fn on_higher_term(&mut self, term: Epoch, out: &mut Effects<Message>) {
        let campaigned = self.standing != Standing::Following;
        self.become_follower(term, None, out);
        if campaigned {
            // Leaders have no election timer, and a candidate's was drawn for a campaign that is over.
            self.reset_election_timer();
        }
    }

    /// The leader is not believed in any more: what was asked of it will not be answered.
    pub(crate) fn lose_leader(&mut self, out: &mut Effects<Message>) {
        self.leader = None;
        let following = &mut self.following;
        following.verified = replog::Index::ZERO;
        following.level = false;
        following.ack = None;
        following.beat = None;
        following.refetched = None;
        for forward in following.forwards.drain(..) {
            for token in forward.tokens {
                out.push(Effect::Refused { token, why: Refusal::NoLeader });
            }
        }
    }

    /// The link to `node` broke.
    pub(crate) fn on_link_lost(&mut self, node: NodeId) {
        let Some(spread) = self.options.link_loss_spread() else { return };
        if self.standing != Standing::Following || self.leader != Some(node) {
            return;
        }
        self.contact = None;
        self.campaign.cause = Cause::LinkLoss;
        let wait = self.rng.wait(Duration::ZERO, spread);
        self.election_at = self.election_at.min(self.now + wait);
    }

    fn leader_link_lost(&self) -> bool {
        self.standing == Standing::Following
            && self.options.link_loss_spread().is_some()
            && self.leader.is_some_and(|leader| !self.is_linked(leader))
    }

    /// Would we vote for `last` in `term`?
    pub(crate) fn on_pre_vote(&mut self, from: NodeId, term: Epoch, last: LogId) {
        let free = term > self.term()
            || (term == self.term() && self.hard.voted_for.is_none_or(|voted| voted == from));
        let granted = self.may_vote && free && !self.is_bound() && is_up_to_date(last, self.log.last());
        if granted {
            // Says nothing about us that has to be durable: the answer binds nobody.
            self.send(from, Message::PreVoteReply { term, granted }, Ticket::NONE);
        } else {
            if mutant!(TimerResetOnRefusal) {
                self.reset_election_timer();
            }
            let term = self.term();
            self.send_in_term(from, Message::PreVoteReply { term, granted });
        }
    }

    /// Whether `RequestVote` is to be left alone because a leader is alive.
    // spec: raft-thesis §4.2.3 (not even its term is adopted, or a removed server could still depose leaders)
    pub(crate) fn ignores_vote_request(&self, transfer: bool) -> bool {
        self.options.stickiness && !transfer && self.is_bound()
    }

    /// A vote is asked for. Higher terms were adopted before.
    pub(crate) fn on_request_vote(&mut self, from: NodeId, term: Epoch, last: LogId) {
        let free = self.hard.voted_for.is_none_or(|voted| voted == from) || mutant!(VoteTwice);
        let granted = self.may_vote
            && term == self.term()
            && free
            && matches!(self.standing, Standing::Following | Standing::Canvassing)
            && is_up_to_date(last, self.log.last());
        if granted {
            self.become_waiting();
            self.set_term(term, Some(from));
            self.reset_election_timer();
        } else if mutant!(TimerResetOnRefusal) {
            self.reset_election_timer();
        }
        // A vote given again after a lost answer waits for the write that made it true, not for a new one.
        let term = self.term();
        self.send_in_term(from, Message::Vote { term, granted });
    }

    /// A round was lost for certain: everybody who can be reached has answered. Waiting for the full timeout would
    /// only prolong the outage; the wait doubles so that duels end.
    pub(crate) fn hasten_retry(&mut self) {
        let Some(spread) = self.options.link_loss_spread() else { return };
        // Without a spread there is no wait to double: each retry would be due at once, be refused again, and so on.
        if spread.is_zero() || self.campaign.cause != Cause::LinkLoss || self.campaign.settled {
            return;
        }
        self.campaign.settled = true;
        let spread = spread.saturating_mul(1 << self.campaign.lost.min(10));
        if spread < self.options.timing.election_timeout {
            let wait = self.rng.wait(spread / 8, spread);
            self.election_at = self.election_at.min(self.now + wait);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use replog::Index;

    // requirement: S37
    #[test]
    fn a_later_last_term_beats_a_longer_log() {
        let id = |e, i| LogId::new(Epoch::of(e), Index(i));
        assert!(is_up_to_date(id(3, 1), id(2, 9)));
        assert!(!is_up_to_date(id(2, 9), id(3, 1)));
        assert!(is_up_to_date(id(2, 9), id(2, 9)));
        assert!(!is_up_to_date(id(2, 8), id(2, 9)));
    }
}
