//! discovery: the RequestVote round (paper §5.2). In Raft a candidate learns nothing from its voters but their
//! vote: the restriction on logs (§5.4.1) makes sure that it already holds everything committed.
//!
//! The question overlaps the write of its own term, the reign does not:
//! 1. A campaigns in 6; the write of term 6 is still in A's log thread. B and C grant: a quorum without A's vote.
//! 2. A sends append (6,10)=X at once, B stores it. A crashes; its disk says term 5.
//! 3. A campaigns in 6 again. B refuses (longer log), C grants again (it voted for A in 6), A votes for itself.
//! 4. A proposes (6,10)=Y, C stores it: committed. B's (6,10) is X. Log matching is broken for good.
//!
//! So a candidate leads only when its own term is durable, and its own vote counts only then.
//!
//! Invariants: whoever leads has a durable term and the votes of a quorum in it; at most one per term.

use crate::message::Message;
use crate::progress::Progress;
use crate::state::{Campaign, Cause, Leading, Raft, Standing};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use replog::{Body, Effects, Entry, Epoch, LogId, NodeId, QuorumPhase, Ticket, mutant};

impl Raft {
    /// Raises the term, votes for itself and asks for votes.
    // spec: raft §5.2
    pub(crate) fn become_candidate(&mut self, handover: bool) {
        self.reset_election_timer();
        let term = Epoch::of(self.term().round.saturating_add(1));
        if term == self.term() {
            return; // 2^32 terms: nobody can be elected any more, but nothing already decided is lost.
        }
        self.set_term(term, Some(self.id));
        self.standing = Standing::Running;
        if handover {
            self.campaign = Campaign::new(Cause::Handover);
        }
        self.campaign.answers.clear();
        self.campaign.settled = false;
        self.campaign.record(self.id, true);
        self.ask_for_votes(None);
    }

    /// Sends this round's question to all voters, or only to `only`, whose link just came up.
    pub(crate) fn ask_for_votes(&mut self, only: Option<NodeId>) {
        let last = self.log.last();
        let (message, after) = match self.standing {
            Standing::Canvassing => {
                let term = Epoch::of(self.term().round.saturating_add(1));
                (Message::PreVote { term, last }, Ticket::NONE)
            }
            Standing::Running => {
                let transfer = self.campaign.cause == Cause::Handover;
                // The claim about the log is durable, or a vote could arrive after a restart that lost what it was
                // given for; the term need not be.
                let after = self.writes.log_gate(last.index);
                (Message::RequestVote { term: self.term(), last, transfer }, after)
            }
            Standing::Following | Standing::Leading => return,
        };
        for voter in self.config().voter_ids() {
            if voter != self.id && only.is_none_or(|node| node == voter) && self.is_linked(voter) {
                self.send(voter, message.clone(), after);
            }
        }
    }

    /// An answer to a pre-vote. Higher terms of refusals were adopted before.
    pub(crate) fn on_pre_vote_reply(&mut self, from: NodeId, term: Epoch, granted: bool) {
        let asked = Epoch::of(self.term().round.saturating_add(1));
        if self.standing != Standing::Canvassing || (granted && term != asked) {
            return;
        }
        self.campaign.record(from, granted);
        self.count_answers();
    }

    /// An answer to a vote request, of the current term.
    pub(crate) fn on_vote(&mut self, from: NodeId, granted: bool) {
        if self.standing == Standing::Running {
            self.campaign.record(from, granted);
            self.count_answers();
        }
    }

    /// Looks whether the campaign is won, or lost for certain.
    pub(crate) fn count_answers(&mut self) {
        match self.standing {
            Standing::Canvassing => {
                let campaign = &self.campaign;
                if self.config().is_quorum(QuorumPhase::Election, |v| campaign.has_granted(v)) {
                    return self.become_candidate(false);
                }
            }
            Standing::Running => {
                let campaign = &self.campaign;
                let durable = self.writes.is_term_durable() || mutant!(LeadBeforeTermDurable);
                let is_won =
                    self.config().is_quorum(QuorumPhase::Election, |v| campaign.has_granted(v)) && durable;
                if is_won {
                    return self.become_leader();
                }
            }
            Standing::Following | Standing::Leading => return,
        }
        let (campaign, links) = (&self.campaign, &self.links);
        let may_still_win = self.config().is_quorum(QuorumPhase::Election, |v| {
            campaign.has_granted(v) || (!campaign.has_answered(v) && links.contains(&v))
        });
        if !may_still_win {
            self.hasten_retry();
        }
    }

    /// The campaign is won and the term durable: begins the reign with a no-op.
    // spec: raft §5.4.2, §8 (only an entry of the own term may be counted, so there must be one)
    pub(crate) fn become_leader(&mut self) {
        assert!(self.writes.is_term_durable(), "{}: leads in {} before it is durable", self.id, self.term());
        let next = self.log.last().index.next();
        let peers: Vec<Progress> = self
            .config()
            .members()
            .into_iter()
            .filter(|&node| node != self.id)
            .map(|node| Progress::new(node, next, self.is_linked(node), self.now))
            .collect();
        self.standing = Standing::Leading;
        self.won = Some(self.term());
        self.leader = Some(self.id);
        self.contact = None;
        let timing = &self.options.timing;
        self.lead = Some(Box::new(Leading {
            term_start: next,
            peers,
            heartbeat_at: self.now + timing.heartbeat,
            check_at: self.now + timing.election_timeout,
            progressed: self.now,
            round: 1,
            rounds: VecDeque::new(),
            lease_until: None,
            lease_void: false,
            early: Vec::new(),
            reads: VecDeque::new(),
            wants_round: false,
            transfer: None,
            moved: true,
        }));
        if mutant!(NoNoop) {
            return;
        }
        let id = LogId::new(self.term(), next);
        let noop = Entry { id, ballot: id.epoch, stamp: self.stamp, body: Body::Noop };
        self.log.append(id, noop.bytes());
        self.writes.write(vec![noop]);
    }

    /// The leader wants us to take over.
    // spec: raft-thesis §3.10
    pub(crate) fn on_timeout_now(&mut self, from: NodeId, out: &mut Effects<Message>) {
        if self.leader == Some(from) && self.standing == Standing::Following && self.is_electable() {
            self.lose_leader(out);
            self.become_candidate(true);
        }
    }
}
