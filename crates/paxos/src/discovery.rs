//! Discovery: phase 1, Prepare/Promise, once for every slot above the proposer's chosen prefix.
//!
//! ```text
//!  proposer n1                     acceptor n2 (prefix 10; accepted 12 in b3, 14 in b2)
//!  promise b5.1, persist ─ Prepare b5.1 ─►  promise b5.1, persist
//!  recall own bodies      ◄─ Promise {committed 10, held [12 b3] [14 b2]} + bodies ─┘  (after the write)
//!  quorum ∧ own ballot durable ∧ caught up ∧ all bodies there  ──►  phase 2 (sync.rs)
//! ```
//!
//! Rules (paxos-simple §2.2, §3):
//! * P1b: an acceptor promises a ballot only if it promised no higher one; the promise is durable before it leaves;
//! * P2c: the value of a slot is the one of the highest ballot among a quorum's promises;
//! * a promise says nothing below its sender's prefix: the proposer catches up first. A slot that somebody purged is
//!   never taken for empty (trap 3.4);
//! * bodies live in the core only here, and only those of the highest ballot.

use crate::slots::{Run, lacking};
use crate::{Message, Paxos};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use replog::{
    Body, Entry, Epoch, Index, LogId, NodeId, Phase, QuorumPhase, Span, Stamp, Ticket, Time, mutant,
};

/// A phase 1 under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Discovery {
    pub(crate) ballot: Epoch,
    /// The reign that it is for: `ballot`, or the present reign in classic mode.
    pub(crate) reign: Epoch,
    /// The write of the own promise.
    pub(crate) ticket: Option<Ticket>,
    pub(crate) retry_at: Time,
    handed: bool,
    promises: Vec<Promised>,
    gathered: BTreeMap<Index, Entry>,
    /// Own slots whose bodies are on their way back.
    recalling: Vec<Span>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Promised {
    node: NodeId,
    committed: Index,
    held: Vec<Run>,
}

impl Discovery {
    /// Whether `node` has promised.
    pub(crate) fn has(&self, node: NodeId) -> bool {
        self.promises.iter().any(|p| p.node == node)
    }

    /// The chosen prefix of who promised.
    pub(crate) fn prefix_of(&self, node: NodeId) -> Option<Index> {
        self.promises.iter().find(|p| p.node == node).map(|p| p.committed)
    }

    /// Whether no body above `committed` was gathered and nobody holds one.
    pub(crate) fn found_nothing(&self, committed: Index) -> bool {
        self.promises.iter().all(|p| p.held.iter().all(|r| r.to <= committed))
    }

    /// Keeps the entry of the higher ballot.
    fn gather(&mut self, entry: Entry) {
        let better = self
            .gathered
            .get(&entry.id.index)
            .is_none_or(|old| old.ballot < entry.ballot && !mutant!(AnyBallotWins));
        if better {
            self.gathered.insert(entry.id.index, entry);
        }
    }
}

impl Paxos {
    /// Starts phase 1 with a ballot higher than any heard of. `handed`: the leader asked for it.
    // spec: paxos-simple §2.2 phase 1 (a)
    pub(crate) fn become_proposer(&mut self, handed: bool) {
        // After 2^32 rounds nobody can be elected any more, but nothing already decided is lost.
        let Some(ballot) = self.next_ballot() else { return self.be_patient() };
        self.step_down();
        self.lose_leader();
        self.asking = None;
        self.attempts = self.attempts.saturating_add(1);
        self.phase = Phase::Discovery;
        self.be_patient();
        self.prepare(ballot, ballot, handed);
    }

    /// A ballot of our own, above every other; none is left above the last round.
    // spec: paxos-simple §2.5 (distinct ballots per proposer): the id breaks ties between equal rounds
    pub(crate) fn next_ballot(&self) -> Option<Epoch> {
        let round = self.highest_round.max(self.promised.round).checked_add(1)?;
        Some(Epoch { round, proposer: self.id.0 })
    }

    /// Promises the own ballot and asks the others to.
    // The question may overlap with the write of its own ballot; Accept waits for it (contract schedule 1):
    // 1. n1 prepares b5.1 and proposes X before b5.1 is durable, crashes, and forgets it; 2. n1 prepares b5.1 again and
    // proposes Y: two values under one ballot, and P2c no longer says which was chosen.
    pub(crate) fn prepare(&mut self, ballot: Epoch, reign: Epoch, handed: bool) {
        self.promise(ballot);
        self.discovery = Some(Discovery {
            ballot,
            reign,
            ticket: None,
            retry_at: self.now + self.options.timing.heartbeat,
            handed,
            promises: Vec::new(),
            gathered: BTreeMap::new(),
            recalling: Vec::new(),
        });
        self.send_prepare();
        self.recall();
    }

    fn send_prepare(&mut self) {
        let Some(d) = &self.discovery else { return };
        let mut have: Vec<Run> = self.slots.held().to_vec();
        // What was gathered need not be sent again; ids are only compared by slot and ballot.
        have.extend(d.gathered.values().map(|e| Run {
            from: e.id.index,
            to: e.id.index,
            epoch: e.id.epoch,
            ballot: e.ballot,
        }));
        have.sort_by_key(|r| r.from);
        let message = Message::Prepare { ballot: d.ballot, reign: d.reign, have, handed: d.handed };
        for node in self.other_voters() {
            self.send(node, message.clone());
        }
    }

    /// Asks again those whose word or bodies are missing; the link may have lost them.
    pub(crate) fn retry_prepare(&mut self) {
        if self.now >= self.deadline.unwrap_or(self.now) && self.leading.is_none() {
            self.back_off();
            return;
        }
        let again = self.now + self.options.timing.heartbeat;
        if let Some(d) = &mut self.discovery {
            d.retry_at = again;
        }
        self.send_prepare();
        self.try_win();
    }

    /// Fetches the bodies of own accepted slots back from the log: the core does not keep them.
    fn recall(&mut self) {
        let spans = lacking(self.slots.held(), &[]);
        let Some(d) = &mut self.discovery else { return };
        let ballot = d.ballot;
        d.recalling.clone_from(&spans);
        for span in spans {
            self.send_with(self.id, Message::Recall { ballot }, Some(span));
        }
    }

    pub(crate) fn on_recall(&mut self, ballot: Epoch, entries: Vec<Entry>) {
        let Some(d) = self.discovery.as_mut().filter(|d| d.ballot == ballot) else { return };
        entries.into_iter().for_each(|e| d.gather(e));
        self.try_win();
    }

    /// Part of a recall did not come back: it was cut at a frame's size, or cannot be read.
    pub(crate) fn on_recall_cut(&mut self, from: Index) {
        let Some(d) = &mut self.discovery else { return };
        let Some(span) = d.recalling.iter_mut().find(|s| s.contains(from)) else { return };
        if span.from < from {
            span.from = from;
            let (ballot, span) = (d.ballot, *span);
            self.send_with(self.id, Message::Recall { ballot }, Some(span));
        } else {
            // An acceptor that cannot say what it accepted may not act as if it had accepted nothing.
            self.slots.damage(Span { from, to: from });
            self.step_down();
            self.back_off();
        }
    }

    // spec: paxos-simple §2.2 phase 1 (b), P1b
    pub(crate) fn on_prepare(
        &mut self,
        from: NodeId,
        ballot: Epoch,
        reign: Epoch,
        have: &[Run],
        handed: bool,
    ) {
        self.hear_round(ballot);
        if from.0 != ballot.proposer || ballot < reign {
            self.ignore(from, "prepare with a foreign ballot");
            return;
        }
        if !self.counts() {
            self.ignore(from, "prepare to who cannot vote");
            return;
        }
        if ballot < self.promised {
            self.send(from, Message::Reject { ballot, promised: self.promised });
            return;
        }
        if self.slots.damaged().iter().any(|s| s.to > self.slots.committed()) {
            self.ignore(from, "prepare while accepted slots are damaged");
            return;
        }
        let follows = self.leader == Some(from) && self.reign == reign && reign < ballot;
        if ballot > self.promised && !follows {
            let loyal =
                self.options.stickiness && !handed && self.leader != Some(from) && self.hears_leader();
            if loyal || self.lease_binds() {
                self.ignore(from, "prepare while a leader is heard");
                return;
            }
            self.become_acceptor_of(ballot);
        }
        self.promise(ballot);
        self.send_promise(from, have);
    }

    /// Gives up whatever role it has for the proposer of a higher ballot.
    fn become_acceptor_of(&mut self, ballot: Epoch) {
        self.promise(ballot);
        self.step_down();
        self.discovery = None;
        self.asking = None;
        self.lose_leader();
        self.phase = Phase::Discovery;
        self.be_patient();
    }

    /// One promise per gapless span of bodies that the proposer lacks; all wait for the write of the promise.
    fn send_promise(&mut self, to: NodeId, have: &[Run]) {
        let spans = lacking(self.slots.held(), have);
        let message = self.promise_message();
        if spans.is_empty() {
            self.send_gated(to, message, None);
            return;
        }
        for span in spans {
            self.send_gated(to, message.clone(), Some(span));
        }
    }

    fn promise_message(&self) -> Message {
        Message::Promise {
            ballot: self.promised,
            committed: if mutant!(PromiseWithoutPrefix) { Index::ZERO } else { self.slots.committed() },
            base: self.slots.base().index,
            held: if mutant!(PromiseWithoutSlots) { Vec::new() } else { self.slots.held().to_vec() },
        }
    }

    /// The rest of a promise's bodies, after one frame was full.
    pub(crate) fn on_promise_cut(&mut self, to: NodeId, from: Index) {
        if self.promised.proposer != to.0 || self.leader.is_some() {
            return;
        }
        let Some(span) = self.slots.stretch(from).and_then(|end| Span::new(from, end)) else { return };
        let message = self.promise_message();
        self.send_gated(to, message, Some(span));
    }

    pub(crate) fn on_promise(
        &mut self,
        from: NodeId,
        ballot: Epoch,
        committed: Index,
        held: Vec<Run>,
        entries: Vec<Entry>,
    ) {
        if !self.configuration.is_voter(from) {
            self.ignore(from, "promise of who does not vote");
            return;
        }
        let Some(d) = self.discovery.as_mut().filter(|d| d.ballot == ballot) else {
            self.ignore(from, "promise of another ballot");
            return;
        };
        if held.iter().any(|r| r.ballot >= ballot || r.epoch > r.ballot || r.from > r.to) {
            self.ignore(from, "promise that accepted a later ballot");
            return;
        }
        // A body counts only where the promise vouches for it: same slot, same ballot.
        for entry in entries {
            let id = entry.id.index;
            if held.iter().any(|r| r.from <= id && id <= r.to && r.ballot == entry.ballot) {
                d.gather(entry);
            }
        }
        match d.promises.iter_mut().find(|p| p.node == from) {
            // Said again, later: its prefix may have grown over what it held before.
            Some(old) if old.committed > committed => {}
            Some(old) => *old = Promised { node: from, committed, held },
            None => d.promises.push(Promised { node: from, committed, held }),
        }
        self.try_win();
    }

    /// Goes on to phase 2 as soon as everything needed for it is there.
    pub(crate) fn try_win(&mut self) {
        let Some(d) = &self.discovery else { return };
        if d.ticket.is_none_or(|t| t > self.durable) && !mutant!(ProposeBeforeBallotDurable) {
            return;
        }
        if !self.is_quorum(QuorumPhase::Election, |n| n == self.id || d.has(n)) {
            return;
        }
        // Trap 3.4: 1. acceptor A chose and purged slots up to 50; 2. the proposer's prefix ends at 40; 3. A's promise
        // says nothing about 41-50, and the proposer fills them with no-ops. So it catches up first.
        if let Some(ahead) = d.promises.iter().max_by_key(|p| p.committed)
            && ahead.committed > self.slots.committed()
        {
            let node = ahead.node;
            self.fetch(node);
            return;
        }
        if let Some(values) = self.values() {
            self.win(values);
        }
    }

    /// What must be proposed in each slot above the prefix; `None` while bodies are missing.
    // spec: paxos-simple §2.2 P2c: the value of the highest ballot among the promises, or, if there is none, any: a
    // no-op, because a later command may not overtake into a hole (§3, "noop")
    fn values(&mut self) -> Option<Vec<Entry>> {
        let d = self.discovery.as_mut()?;
        let committed = self.slots.committed();
        let promised = d.promises.iter().flat_map(|p| p.held.iter()).map(|r| r.to).max();
        let highest = promised.unwrap_or(committed).max(self.slots.highest());
        let mut slot = committed.next();
        let mut choices = Vec::new();
        while slot <= highest && !mutant!(NothingReproposed) {
            let theirs =
                d.promises.iter().flat_map(|p| p.held.iter()).filter(|r| r.from <= slot && slot <= r.to);
            let best = theirs.map(|r| r.ballot).chain(self.slots.run_at(slot).map(|r| r.ballot)).max();
            match (best, d.gathered.get(&slot)) {
                (None, _) => choices.push(false),
                (Some(ballot), Some(entry)) if entry.ballot >= ballot || mutant!(AnyBallotWins) => {
                    choices.push(true)
                }
                (Some(_), _) => return None,
            }
            slot = slot.next();
        }
        let ballot = d.ballot;
        let mut values = Vec::with_capacity(choices.len() + 1);
        for (taken, offset) in choices.into_iter().zip(1..) {
            let index = Index(committed.0 + offset);
            let adopted = d.gathered.remove(&index).filter(|_| taken);
            values.push(match adopted {
                // The label of the first proposer stays, the ballot of acceptance is ours.
                Some(entry) => Entry { ballot, ..entry },
                None => noop(ballot, index),
            });
        }
        Some(values)
    }
}

/// A slot that nobody can have chosen otherwise.
pub(crate) fn noop(ballot: Epoch, index: Index) -> Entry {
    Entry { id: LogId::new(ballot, index), ballot, stamp: Stamp(0), body: Body::Noop }
}
