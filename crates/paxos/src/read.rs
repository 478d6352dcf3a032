//! Reads: the barrier after which a local read is linearizable.
//!
//! The leader notes its chosen prefix, sends a round of heartbeats, and answers when a replication quorum has said that
//! it promised no higher ballot: every phase-1 quorum meets that one, so nothing can have been chosen elsewhere before
//! the answers were given. It answers nothing before the no-op of its own reign is chosen: until then its prefix may lie
//! behind what earlier reigns chose. Followers ask the leader.
//!
//! ```text
//!  Read ─► wait for the reign's no-op ─► at := prefix, round := next heartbeat ─► quorum answered round ─► Readable
//! ```
//!
//! With `Options::lease`, a quorum's answer to the round sent at time t also covers reads until t + 9/10 of the election
//! timeout: acceptors promise nobody else before a full timeout has passed since they heard that round (trap 3.8: the
//! leader counts from its *send*, the acceptor from its *receipt*).

use crate::state::LateEffect;
use crate::{Message, Paxos};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use replog::{Epoch, Index, LogId, NodeId, Phase, ReadMode, Refusal, Time, Token, mutant};

/// Who waits for a barrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Who {
    Here(Token),
    There(NodeId, u64),
}

/// A barrier on the leader; `round` 0: not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Waiting {
    who: Who,
    at: LogId,
    round: u64,
}

/// Barriers that a follower asked its leader for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Asked {
    number: u64,
    tokens: Vec<Token>,
    until: Time,
}

/// All barriers under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Reads {
    waiting: VecDeque<Waiting>,
    asked: VecDeque<Asked>,
    fresh: Vec<Token>,
    number: u64,
}

impl Reads {
    /// Questions are numbered from a random start: an answer to an earlier life of this replica fits none.
    pub(crate) fn new(seed: u64) -> Self {
        Self { number: replog::Rng::new(seed).bits() >> 1, ..Self::default() }
    }
}

impl Paxos {
    pub(crate) fn on_read(&mut self, token: Token, mode: ReadMode) {
        if self.leading.is_some() {
            if let Some(until) = self.lease_end().filter(|_| mode == ReadMode::Lease) {
                let at = self.slots.committed();
                self.out.effects.push(LateEffect::Readable { token, at, until: Some(until) });
                return;
            }
            self.reads.waiting.push_back(Waiting { who: Who::Here(token), at: LogId::ZERO, round: 0 });
        } else if self.leader.is_some() {
            self.reads.fresh.push(token);
        } else {
            self.refuse(token, Refusal::NoLeader);
        }
    }

    /// Until when a lease holds, if one does.
    fn lease_end(&self) -> Option<Time> {
        let leading = self.leading.as_ref()?;
        if !self.options.lease || self.phase != Phase::Broadcast || leading.transfer.is_some() {
            return None;
        }
        let answered = self.answered_round();
        let sent = leading.beats.iter().rev().find(|(round, _)| *round <= answered)?.1;
        Some(sent + self.options.lease_span()).filter(|end| *end > self.now)
    }

    /// Begins the barriers that may begin: one round for all of this step.
    pub(crate) fn assign_reads(&mut self) {
        let is_open = self.phase == Phase::Broadcast || mutant!(ReadBeforeReignOpens);
        if !is_open || self.reads.waiting.back().is_none_or(|w| w.round > 0) {
            return;
        }
        let at = self.slots.committed_id();
        let Some(leading) = &mut self.leading else { return };
        leading.beat_now = true;
        let round = leading.round + 1;
        for waiting in self.reads.waiting.iter_mut().rev().take_while(|w| w.round == 0) {
            waiting.round = round;
            waiting.at = at;
        }
    }

    /// Answers the barriers whose round a quorum answered.
    // spec: paxos-simple §2.2 P1b: whoever answers round r in our ballot had promised no higher one by then
    pub(crate) fn release_reads(&mut self) {
        if self.reads.waiting.front().is_none_or(|w| w.round == 0) {
            return;
        }
        let answered = if mutant!(PaxosReadUnconfirmed) { u64::MAX } else { self.answered_round() };
        let reign = self.reign;
        while let Some(Waiting { who, at, round }) = self.reads.waiting.front().copied()
            && (1..=answered).contains(&round)
        {
            self.reads.waiting.pop_front();
            match who {
                Who::Here(token) => {
                    self.out.effects.push(LateEffect::Readable { token, at: at.index, until: None });
                }
                Who::There(node, number) => self.send(node, Message::ReadAt { reign, number, at: Some(at) }),
            }
        }
    }

    /// Sends this step's questions as one.
    pub(crate) fn flush_reads(&mut self) {
        if self.reads.fresh.is_empty() {
            return;
        }
        let tokens = core::mem::take(&mut self.reads.fresh);
        let Some(leader) = self.leader.filter(|l| *l != self.id) else {
            tokens.into_iter().for_each(|t| self.refuse(t, Refusal::NoLeader));
            return;
        };
        self.reads.number += 1;
        let number = self.reads.number;
        let until = self.now + self.options.timing.election_timeout;
        self.reads.asked.push_back(Asked { number, tokens, until });
        self.send(leader, Message::ReadAsk { reign: self.reign, number });
    }

    pub(crate) fn on_read_ask(&mut self, from: NodeId, reign: Epoch, number: u64) {
        if self.leading.is_some() && reign == self.reign {
            self.reads.waiting.push_back(Waiting {
                who: Who::There(from, number),
                at: LogId::ZERO,
                round: 0,
            });
        } else {
            self.send(from, Message::ReadAt { reign, number, at: None });
        }
    }

    pub(crate) fn on_read_at(&mut self, from: NodeId, number: u64, at: Option<LogId>) {
        let Some(place) = self.reads.asked.iter().position(|a| a.number == number) else {
            self.ignore(from, "answer to an old read");
            return;
        };
        let Some(asked) = self.reads.asked.remove(place) else { return };
        for token in asked.tokens {
            match at {
                Some(at) => {
                    let at: Index = at.index;
                    self.out.effects.push(LateEffect::Readable { token, at, until: None });
                }
                None => self.refuse(token, Refusal::NoLeader),
            }
        }
    }

    /// Refuses what was asked too long ago: the question or the answer was lost.
    pub(crate) fn on_read_time(&mut self) {
        while self.reads.asked.front().is_some_and(|a| a.until <= self.now)
            && let Some(asked) = self.reads.asked.pop_front()
        {
            asked.tokens.into_iter().for_each(|t| self.refuse(t, Refusal::NoLeader));
        }
    }

    /// When the oldest question is given up.
    pub(crate) fn read_deadline(&self) -> Option<Time> {
        self.reads.asked.front().map(|a| a.until)
    }

    /// The leader is gone: what it was asked will not be answered.
    pub(crate) fn fail_pending_reads(&mut self) {
        let asked = core::mem::take(&mut self.reads.asked);
        let fresh = core::mem::take(&mut self.reads.fresh);
        let tokens = asked.into_iter().flat_map(|a| a.tokens).chain(fresh);
        tokens.for_each(|t| self.refuse(t, Refusal::NoLeader));
    }

    /// This replica no longer leads.
    pub(crate) fn fail_leader_reads(&mut self) {
        let reign = self.reign;
        for Waiting { who, .. } in core::mem::take(&mut self.reads.waiting) {
            match who {
                Who::Here(token) => self.refuse(token, Refusal::NoLeader),
                Who::There(node, number) => self.send(node, Message::ReadAt { reign, number, at: None }),
            }
        }
    }
}
