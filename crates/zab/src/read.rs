//! Read barriers: a read is served once everything that was acknowledged before it is applied.
//!
//! ```text
//!  follower ──SYNC(tokens)──► leader: at = committed ──PING(seq)──► voters
//!           ◄─SYNC-REPLY(at)─         quorum of PONG(≥ seq)?
//! ```
//!
//! ZooKeeper's own sync asks the leader alone, and with two believed leaders it can be stale (ZOOKEEPER-1675, trap
//! 1.22). Here a quorum must still follow in this epoch after the read arrived. A lease is never taken: no clock
//! decides anything.
//!
//! Rule: the position is taken when the read arrives, in broadcast only, where the leader's commit covers every write
//! that was ever acknowledged.

use crate::message::Message;
use crate::state::{FollowerStage, LeaderStage, LearnerStage, PendingRead, State};
use crate::{Out, Zab};
use alloc::vec;
use alloc::vec::Vec;
use replog::{Effect, Epoch, Index, NodeId, QuorumPhase, Refusal, Token, mutant};

impl Zab {
    /// A read barrier of this replica's driver.
    pub(crate) fn on_read(&mut self, token: Token, out: &mut Out) {
        match &mut self.state {
            State::Leading(l) if l.stage == LeaderStage::Broadcasting => {
                self.begin_read(None, vec![token]);
            }
            State::Following(f) if f.stage == FollowerStage::Serving => f.asks.push(token),
            _ => out.push(Effect::Refused { token, why: Refusal::NoLeader }),
        }
    }

    /// A follower's read barriers. Not answered unless this replica leads in broadcast: the follower asks again when
    /// its session ends.
    pub(crate) fn on_read_ask(&mut self, from: NodeId, epoch: Epoch, tokens: Vec<Token>, out: &mut Out) {
        match &self.state {
            State::Leading(l)
                if l.stage == LeaderStage::Broadcasting
                    && l.epoch == epoch
                    && l.learners.get(&from).is_some_and(|x| x.stage == LearnerStage::Synced) =>
            {
                self.begin_read(Some(from), tokens);
            }
            _ => Self::ignore(from, "read barrier, but not its leader", out),
        }
    }

    /// Starts a heartbeat round for reads; reads of one step share it.
    fn begin_read(&mut self, from: Option<NodeId>, tokens: Vec<Token>) {
        let at = self.committed;
        // A round that already left began before this read arrived and proves nothing for it.
        self.ping_all();
        let State::Leading(l) = &mut self.state else { return };
        let seq = l.ping_seq;
        l.reads.push_back(PendingRead { seq, at, from, tokens });
        l.tally_due = true;
    }

    /// Answers the reads whose round a quorum has confirmed.
    pub(crate) fn confirm_reads(&mut self, out: &mut Out) {
        let State::Leading(l) = &mut self.state else { return };
        while let Some(read) = l.reads.pop_front() {
            let confirmed = |v: NodeId| {
                v == self.id
                    || l.learners.get(&v).is_some_and(|x| {
                        x.counts && x.stage == LearnerStage::Synced && x.pong_seq >= read.seq
                    })
            };
            let is_confirmed = self.configuration.is_quorum(QuorumPhase::Replication, confirmed);
            if !is_confirmed && !mutant!(ZabReadUnconfirmed) {
                return l.reads.push_front(read);
            }
            match read.from {
                None => {
                    for token in read.tokens {
                        out.push(Effect::Readable { token, at: read.at, until: None });
                    }
                }
                Some(to) => {
                    let message = Message::ReadIndex { epoch: l.epoch, at: read.at, tokens: read.tokens };
                    self.work.send(to, message);
                }
            }
        }
    }

    /// The leader's answer.
    pub(crate) fn on_read_index(
        &mut self,
        from: NodeId,
        epoch: Epoch,
        at: Index,
        tokens: Vec<Token>,
        out: &mut Out,
    ) {
        let State::Following(f) = &mut self.state else {
            return Self::ignore(from, "read answer, but not following", out);
        };
        if from != f.leader || epoch != f.epoch {
            return Self::ignore(from, "read answer of another leader", out);
        }
        for token in tokens {
            if let Some(place) = f.reads.iter().position(|t| *t == token) {
                f.reads.swap_remove(place);
                out.push(Effect::Readable { token, at, until: None });
            }
        }
    }
}
