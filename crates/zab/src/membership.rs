//! Who takes part, who counts, and how leadership is handed over.
//!
//! Membership change itself is not carried out (`Refused { why: Unsupported }`); the configuration in force is the
//! newest one of the set-up, the log or an installed snapshot.
//!
//! Hand-over: the leader takes no more proposals, waits until its successor holds everything and all is committed, and
//! names it to everyone. All skip the election; discovery checks the successor as it checks an elected one, so a
//! hand-over that goes wrong costs an election and never safety.
//!
//! ```text
//!  leader ──RESIGN(to n2)──► n2: leads (discovery)      others: FOLLOWERINFO to n2
//! ```

use crate::message::{Message, Vote};
use crate::state::{LeaderStage, LearnerStage, State, Transfer};
use crate::{Out, Zab};
use replog::{
    Configuration, ConfigurationAt, Effect, EntryMeta, Epoch, NodeId, QuorumPhase, Refusal, Role, Token,
};

/// The newest configuration.
pub(crate) fn latest(configurations: &[ConfigurationAt], entries: &[EntryMeta]) -> Configuration {
    let logged = entries.iter().rev().find_map(|e| e.configuration.as_deref());
    let given = configurations.iter().max_by_key(|c| c.from).map(|c| &c.configuration);
    logged.or(given).cloned().unwrap_or_default()
}

/// Whether `has` holds for a quorum of votes, promises or synchronised histories.
///
/// An epoch has one number and no owner here, so two of these quorums must meet as well: under flexible quorums that
/// is the larger of the two, which is a majority.
pub(crate) fn is_quorum(configuration: &Configuration, has: impl Fn(NodeId) -> bool + Copy) -> bool {
    configuration.is_quorum(QuorumPhase::Election, has)
        && configuration.is_quorum(QuorumPhase::Replication, has)
}

impl Zab {
    /// Whether this replica votes and its acks count.
    pub(crate) fn counts(&self) -> bool {
        self.may_vote && self.configuration.is_voter(self.id)
    }

    /// Its role while it follows.
    pub(crate) fn following_role(&self) -> Role {
        if self.counts() {
            Role::Follower
        } else if self.configuration.observers.contains(&self.id) {
            Role::Observer
        } else {
            Role::Learner
        }
    }

    /// Hand leadership over.
    pub(crate) fn on_transfer(&mut self, token: Token, to: Option<NodeId>, out: &mut Out) {
        let until = self.now + self.options.timing.election_timeout;
        let State::Leading(l) = &mut self.state else {
            out.push(Effect::Refused { token, why: Refusal::NoLeader });
            return;
        };
        if l.stage != LeaderStage::Broadcasting || to == Some(self.id) {
            let why = if to == Some(self.id) { Refusal::Unsafe } else { Refusal::NoLeader };
            out.push(Effect::Refused { token, why });
            return;
        }
        if l.transfer.is_some() {
            out.push(Effect::Refused { token, why: Refusal::Busy });
            return;
        }
        let fit = l.learners.iter().filter(|(id, x)| {
            x.counts && x.stage == LearnerStage::Synced && to.is_none_or(|wished| wished == **id)
        });
        match fit.max_by_key(|(_, x)| x.acked) {
            Some((&to, _)) => l.transfer = Some(Transfer { token, to, until }),
            None => out.push(Effect::Refused { token, why: Refusal::Unsafe }),
        }
    }

    /// Steps down for the successor once it holds everything.
    pub(crate) fn try_hand_over(&mut self, out: &mut Out) {
        let State::Leading(l) = &mut self.state else { return };
        let Some(transfer) = l.transfer else { return };
        let last = self.log.last().index;
        let ready = l.learners.get(&transfer.to).is_some_and(|x| x.acked >= last && x.commit_told >= last);
        // That it was told of the commit says that all is committed.
        if !ready {
            return;
        }
        l.transfer = None;
        let (epoch, round) = (l.epoch, self.round + 1);
        for &to in l.learners.keys() {
            self.work.send(to, Message::Resign { epoch, round, to: Some(transfer.to) });
        }
        // Nobody is left to be told that this replica looks.
        l.learners.clear();
        self.succeed(round, transfer.to, out);
    }

    /// Gives up a hand-over that did not come about in time.
    pub(crate) fn end_transfer(&mut self, out: &mut Out) {
        let now = self.now;
        let State::Leading(l) = &mut self.state else { return };
        if let Some(transfer) = l.transfer.take_if(|t| t.until <= now) {
            out.push(Effect::Refused { token: transfer.token, why: Refusal::Unsafe });
        }
    }

    /// RESIGN.
    pub(crate) fn on_resign(
        &mut self,
        from: NodeId,
        epoch: Epoch,
        round: u64,
        to: Option<NodeId>,
        out: &mut Out,
    ) {
        let follows = matches!(&self.state, State::Following(f)
            if f.leader == from && (f.epoch == epoch || f.epoch == Epoch::ZERO));
        if !follows {
            return Self::ignore(from, "resignation of another leader", out);
        }
        match to {
            Some(to) => self.succeed(round, to, out),
            None => self.become_looking(out),
        }
    }

    /// Takes `to` for the winner of election `round`.
    fn succeed(&mut self, round: u64, to: NodeId, out: &mut Out) {
        self.round = self.round.max(round.min(self.round.saturating_add(1)));
        self.elected = Vote { epoch: self.hard.established, last: self.log.last(), node: to };
        if to == self.id && self.counts() && self.damaged.is_empty() {
            self.become_leader(out);
        } else if to != self.id && self.configuration.is_voter(to) && self.links.contains_key(&to) {
            self.become_follower(to, out);
        } else {
            self.become_looking(out);
        }
    }

    /// Ends the present role: pending requests are refused, learners are told.
    pub(crate) fn leave_role(&mut self, out: &mut Out) {
        self.departed.clear();
        let refuse = |token, out: &mut Out| out.push(Effect::Refused { token, why: Refusal::NoLeader });
        match &mut self.state {
            State::Looking(_) => {}
            State::Following(f) => {
                f.reads.drain(..).chain(f.asks.drain(..)).for_each(|token| refuse(token, out));
            }
            State::Leading(l) => {
                let own = l.reads.drain(..).filter(|r| r.from.is_none()).flat_map(|r| r.tokens);
                own.for_each(|token| refuse(token, out));
                if let Some(transfer) = l.transfer.take() {
                    refuse(transfer.token, out);
                }
                // Ungated: a leader whose disk hangs could not say it otherwise.
                let (epoch, round) = (l.epoch, self.round + 1);
                for &to in l.learners.keys() {
                    self.work.send(to, Message::Resign { epoch, round, to: None });
                }
            }
        }
    }

    /// The session of a learner ended.
    pub(crate) fn drop_learner(&mut self, node: NodeId) {
        let now = self.now;
        let State::Leading(l) = &mut self.state else { return };
        if l.learners.remove(&node).is_some_and(|x| x.stage == LearnerStage::Synced) {
            self.departed.insert(node, now);
        }
        l.reads.retain(|r| r.from != Some(node));
        if let Some(transfer) = l.transfer.as_mut().filter(|t| t.to == node) {
            transfer.until = now;
        }
    }
}
