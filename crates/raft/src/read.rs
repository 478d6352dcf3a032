//! read: barriers for linearizable reads (paper §8; thesis §6.4): ReadIndex and, as an option, leases.
//!
//! ```text
//!   Read at a follower ─► ReadIndex ─► leader: remember commit index, begin a round
//!                                        ─► AppendEntries{round} ⇄ Appended{round} from a quorum
//!                     ◄─ ReadIndexReply{at} ◄─┘       Readable{at}
//! ```
//!
//! * A new leader may not know everything that is committed until an entry of its own term is (protocol-traps 2.7):
//!   barriers wait for that.
//! * A round counts for the barriers that came before it began, whatever message its answer rides on.
//! * A lease lasts from the moment its round was *sent*; it ends for good once a successor was told to campaign.
//!
//! Invariant: the rounds of queued barriers do not decrease.

use crate::message::Message;
use crate::state::{Leading, Raft, Standing};
use alloc::vec::Vec;
use replog::{Effect, Effects, Index, NodeId, QuorumPhase, ReadMode, Refusal, Time, Token, mutant};

/// Who waits for a barrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Asker {
    /// The own server.
    Own(Token),
    /// A follower, for a batch of its barriers.
    Peer(NodeId, u64),
}

/// A barrier at the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PendingRead {
    pub(crate) asker: Asker,
    /// The commit index when it came.
    pub(crate) at: Index,
    /// The round that confirms it.
    pub(crate) round: u64,
}

/// A batch of barriers that the leader was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Forward {
    pub(crate) id: u64,
    pub(crate) tokens: Vec<Token>,
    pub(crate) asked: Option<Time>,
}

impl Raft {
    /// The own server wants a barrier.
    pub(crate) fn on_read(&mut self, token: Token, mode: ReadMode, out: &mut Effects<Message>) {
        if self.lead.is_some() {
            if mode == ReadMode::Lease
                && let Some(until) = self.lease()
            {
                out.push(Effect::Readable { token, at: self.committed, until: Some(until) });
                return;
            }
            self.ask(Asker::Own(token));
        } else if self.leader.is_some() && self.standing == Standing::Following {
            self.forward(token);
        } else {
            out.push(Effect::Refused { token, why: Refusal::NoLeader });
        }
    }

    /// A follower wants a barrier.
    pub(crate) fn on_read_index(&mut self, from: NodeId, id: u64) {
        let asker = Asker::Peer(from, id);
        // Asked again because the answer was late: the barrier under way will do.
        let is_repeat =
            self.lead.as_ref().is_some_and(|l| l.early.iter().chain(&l.reads).any(|r| r.asker == asker));
        if !is_repeat {
            self.ask(asker);
        }
    }

    /// The leader passed a barrier of ours.
    pub(crate) fn on_read_index_reply(
        &mut self,
        from: NodeId,
        id: u64,
        at: Index,
        out: &mut Effects<Message>,
    ) {
        if self.leader != Some(from) {
            return;
        }
        let forwards = &mut self.following.forwards;
        if let Some(found) = forwards.iter().position(|f| f.id == id) {
            for token in forwards.remove(found).tokens {
                out.push(Effect::Readable { token, at, until: None });
            }
        }
    }

    /// End of the lease, if one is running.
    fn lease(&self) -> Option<Time> {
        let lead = self.lead.as_ref()?;
        let until = lead.lease_until.filter(|_| !lead.lease_void && self.is_serving())?;
        (self.now < until).then_some(until)
    }

    fn ask(&mut self, asker: Asker) {
        let (at, serving) = (self.committed, self.is_serving());
        let Some(lead) = self.lead.as_mut() else { return };
        if serving || mutant!(ReadBeforeTermCommit) {
            lead.wants_round = true;
            // The round begins at the end of this step, behind the barrier.
            lead.reads.push_back(PendingRead { asker, at, round: lead.round + 1 });
        } else {
            lead.early.push(PendingRead { asker, at: Index::ZERO, round: 0 });
        }
    }

    fn forward(&mut self, token: Token) {
        let forwards = &mut self.following.forwards;
        match forwards.last_mut().filter(|f| f.asked.is_none()) {
            Some(batch) => batch.tokens.push(token),
            None => {
                // Drawn at random: an answer from before a restart must not meet a batch of this run.
                let id = self.rng.bits();
                forwards.push(Forward { id, tokens: alloc::vec![token], asked: None });
            }
        }
    }

    /// Sends new batches to the leader, and old ones again.
    pub(crate) fn send_forwards(&mut self) {
        let Some(leader) = self.leader.filter(|_| self.standing == Standing::Following) else { return };
        let (now, heartbeat, term) = (self.now, self.options.timing.heartbeat, self.term());
        let after = self.writes.term_gate();
        for batch in &mut self.following.forwards {
            if batch.asked.is_none_or(|at| now.since(at) >= heartbeat) {
                batch.asked = Some(now);
                let message = Message::ReadIndex { term, id: batch.id };
                self.outgoing.push(crate::state::Outgoing { to: leader, message, attach: None, after });
            }
        }
    }

    /// Begins a round if something waits for one, and ends those that a quorum answered.
    pub(crate) fn turn_rounds(&mut self, out: &mut Effects<Message>) {
        let (now, at, serving) = (self.now, self.committed, self.is_serving());
        let leases = self.options.lease_length().is_some();
        let Some(lead) = self.lead.as_mut() else { return };
        if serving && !lead.early.is_empty() {
            // spec: raft §8 (the first commit of the term has happened in this step)
            let round = lead.round + 1;
            let early = lead.early.drain(..);
            lead.reads.extend(early.map(|read| PendingRead { at, round, ..read }));
            lead.wants_round = true;
        }
        if lead.wants_round {
            lead.wants_round = false;
            lead.round += 1;
            lead.peers.iter_mut().for_each(|p| p.beat = true);
            if leases {
                lead.rounds.push_back((lead.round, now));
                while lead.rounds.len() > 64 {
                    lead.rounds.pop_front();
                }
            }
        }
        self.confirm_rounds(out);
    }

    fn confirm_rounds(&mut self, out: &mut Effects<Message>) {
        let length = self.options.lease_length();
        while let Some(read) = self.lead.as_ref().and_then(|lead| lead.reads.front().copied()) {
            if !self.is_confirmed(read.round) {
                break;
            }
            if let Some(lead) = self.lead.as_mut() {
                lead.reads.pop_front();
            }
            self.pass(read, out);
        }
        let Some(length) = length else { return };
        while let Some((round, sent)) = self.lead.as_ref().and_then(|lead| lead.rounds.front().copied()) {
            if !self.is_confirmed(round) {
                break;
            }
            if let Some(lead) = self.lead.as_mut() {
                lead.rounds.pop_front();
                lead.lease_until = lead.lease_until.max(Some(sent + length));
            }
        }
    }

    /// Whether a quorum answered `round` in our term.
    fn is_confirmed(&self, round: u64) -> bool {
        let Some(lead) = &self.lead else { return false };
        if mutant!(RaftReadUnconfirmed) {
            return true;
        }
        self.config().is_quorum(QuorumPhase::Replication, |node| {
            if node == self.id { self.may_vote } else { has_answered(lead, node, round) }
        })
    }

    fn pass(&mut self, read: PendingRead, out: &mut Effects<Message>) {
        match read.asker {
            Asker::Own(token) => out.push(Effect::Readable { token, at: read.at, until: None }),
            Asker::Peer(node, id) => {
                let message = Message::ReadIndexReply { term: self.term(), id, at: read.at };
                self.send_in_term(node, message);
            }
        }
    }
}

fn has_answered(lead: &Leading, node: NodeId, round: u64) -> bool {
    lead.peers.iter().any(|p| p.node == node && p.counts && p.round >= round)
}
