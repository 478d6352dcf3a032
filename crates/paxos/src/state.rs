//! The state of one replica, and how a step's doings become effects.
//!
//! Handlers change the state and note what is to be written and said; [`Paxos::flush`] turns that, once per step,
//! into at most one `Persist`, then messages, then what was committed. The order matters: attachments are taken
//! from what the `Persist` wrote, and whatever says something about this replica waits for it.
//!
//! Invariants: own ballot durable before anything is proposed under it; `written` is the last hard state handed to
//! the log; a gated message waits for the last write of its own step or, if there was none, of the last step that
//! wrote.

use crate::discovery::Discovery;
use crate::election::Asking;
use crate::membership::Peer;
use crate::read::Reads;
use crate::slots::Slots;
use crate::sync::Fetching;
use crate::{Message, Options};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;
use replog::{
    Configuration, Effect, Effects, Entry, Epoch, HardState, Index, LogId, LogOp, NodeId, Phase, QuorumPhase,
    Rng, Role, Span, Ticket, Time, Token, mutant,
};

/// Multi-Paxos: one replica, proposer, acceptor and learner in one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Paxos {
    pub(crate) id: NodeId,
    pub(crate) options: Options,
    pub(crate) rng: Rng,
    pub(crate) now: Time,
    pub(crate) configuration: Configuration,
    pub(crate) may_vote: bool,
    pub(crate) peers: Vec<Peer>,

    pub(crate) slots: Slots,
    pub(crate) snapshot: LogId,
    /// Highest ballot promised (1a answered, or 2a accepted).
    pub(crate) promised: Epoch,
    /// Highest ballot in which something was accepted.
    pub(crate) established: Epoch,
    pub(crate) written: HardState,

    pub(crate) role: Role,
    pub(crate) phase: Phase,
    /// The ballot with which the present leader won.
    pub(crate) reign: Epoch,
    pub(crate) leader: Option<NodeId>,
    /// Highest commit bound heard in `reign`.
    pub(crate) bound: Index,
    pub(crate) told: (Role, Phase, Epoch, Option<NodeId>),
    pub(crate) told_committed: Index,

    /// Last ticket drawn, and last one durable.
    pub(crate) ticket: Ticket,
    pub(crate) durable: Ticket,
    pub(crate) unfinished: VecDeque<(Ticket, Time)>,

    /// Last word of a leader that has a quorum.
    pub(crate) contact: Time,
    /// When to elect, while not leading.
    pub(crate) deadline: Option<Time>,
    pub(crate) leader_connected: bool,
    pub(crate) leader_has_quorum: bool,
    pub(crate) attempts: u32,
    /// Highest round heard of.
    pub(crate) highest_round: u32,
    /// No promise before this moment (leases of a forgotten leader).
    pub(crate) lease_guard: Time,
    pub(crate) asking: Option<Asking>,
    pub(crate) questions: u64,

    pub(crate) discovery: Option<Discovery>,
    pub(crate) leading: Option<Leading>,
    pub(crate) fetching: Option<Fetching>,
    /// Damage at or below it cannot be fetched: who was asked has purged those slots, and its snapshot is behind us.
    pub(crate) unrepairable: Index,
    pub(crate) reads: Reads,
    pub(crate) out: Out,
}

/// What only a leader has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Leading {
    /// The ballot that it proposes in: the reign, raised per command in classic mode.
    pub(crate) ballot: Epoch,
    /// The no-op with which the reign begins.
    pub(crate) first: Index,
    /// Last slot proposed.
    pub(crate) last: Index,
    /// Own acceptances that are durable reach up to here.
    pub(crate) own: Index,
    /// Writes under way and the last slot in each.
    pub(crate) marks: VecDeque<(Ticket, Index)>,
    /// Number of the last heartbeat round, when it went out, and when the next is due.
    pub(crate) round: u64,
    pub(crate) beats: VecDeque<(u64, Time)>,
    pub(crate) next_beat: Time,
    /// Last time at which nothing was open or something was chosen.
    pub(crate) progress: Time,
    /// Since when a quorum has not answered is measured from here at the earliest.
    pub(crate) since: Time,
    pub(crate) transfer: Option<Transfer>,
    /// Commands proposed in this step, counted per frame: last slot of each frame.
    pub(crate) cuts: Vec<Index>,
    pub(crate) frame_fill: u64,
    /// A heartbeat round is wanted now.
    pub(crate) beat_now: bool,
    /// Something that a quorum's positions depend on has changed.
    pub(crate) recount: bool,
    /// Last slot that was sent out, or skipped for want of links.
    pub(crate) sent: Index,
    /// Classic mode: commands that wait for their phase 1.
    pub(crate) waiting: VecDeque<Entry>,
}

/// A hand-over under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Transfer {
    pub(crate) token: Token,
    pub(crate) to: NodeId,
    pub(crate) until: Time,
    pub(crate) sent: bool,
}

/// When a message may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Gate {
    /// At once.
    Open,
    /// When all that this replica has written, this step's included, is durable.
    Written,
}

/// What a step has gathered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Out {
    pub(crate) ops: Vec<LogOp>,
    pub(crate) sends: Vec<(NodeId, Message, Option<Span>, Gate)>,
    /// Tell this leader what was accepted.
    pub(crate) accepted: Option<NodeId>,
    pub(crate) install: Option<LogId>,
    pub(crate) effects: Vec<LateEffect>,
}

/// Effects that leave after the commit of their step.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum LateEffect {
    Readable { token: Token, at: Index, until: Option<Time> },
    Refused { token: Token, why: replog::Refusal },
    SendSnapshot { to: NodeId, at: LogId },
    Ignored { from: NodeId, why: &'static str },
    Configured { at: Index, configuration: Configuration },
}

impl Paxos {
    /// Whether this replica is an acceptor: a voter that has not lost its disk.
    pub(crate) fn counts(&self) -> bool {
        self.may_vote && self.configuration.is_voter(self.id)
    }

    pub(crate) fn is_quorum(&self, phase: QuorumPhase, has: impl Fn(NodeId) -> bool) -> bool {
        self.configuration.is_quorum(phase, |n| (n != self.id || self.may_vote) && has(n))
    }

    pub(crate) fn send(&mut self, to: NodeId, message: Message) {
        self.out.sends.push((to, message, None, Gate::Open));
    }

    pub(crate) fn send_gated(&mut self, to: NodeId, message: Message, attach: Option<Span>) {
        self.out.sends.push((to, message, attach, Gate::Written));
    }

    pub(crate) fn send_with(&mut self, to: NodeId, message: Message, attach: Option<Span>) {
        self.out.sends.push((to, message, attach, Gate::Open));
    }

    pub(crate) fn ignore(&mut self, from: NodeId, why: &'static str) {
        self.out.effects.push(LateEffect::Ignored { from, why });
    }

    pub(crate) fn refuse(&mut self, token: Token, why: replog::Refusal) {
        self.out.effects.push(LateEffect::Refused { token, why });
    }

    /// Queues entries, ascending; a vector that came with a message is moved.
    pub(crate) fn write(&mut self, entries: Vec<Entry>) {
        let Some(first) = entries.first().map(|e| e.id.index) else { return };
        if let Some(LogOp::Write(before)) = self.out.ops.last_mut()
            && before.last().is_some_and(|e| e.id.index < first)
        {
            before.extend(entries);
            return;
        }
        self.out.ops.push(LogOp::Write(entries));
    }

    /// Promises `ballot`: durable before anybody hears of it, as every mention is gated.
    pub(crate) fn promise(&mut self, ballot: Epoch) {
        debug_assert!(ballot >= self.promised, "a promise is never taken back");
        self.promised = ballot;
        self.highest_round = self.highest_round.max(ballot.round);
    }

    pub(crate) fn hear_round(&mut self, epoch: Epoch) {
        self.highest_round = self.highest_round.max(epoch.round);
    }

    /// A wait of at least `least`, drawn anew.
    pub(crate) fn later(&mut self, least: Duration, spread: Duration) -> Time {
        self.now + self.rng.wait(least, spread)
    }

    /// Age of the oldest write that is not durable yet.
    pub(crate) fn disk_lag(&self) -> Duration {
        self.unfinished.front().map_or(Duration::ZERO, |(_, since)| self.now.since(*since))
    }

    /// Whether own writes hang.
    pub(crate) fn disk_stalls(&self) -> bool {
        self.disk_lag() >= self.options.timing.disk_stall
    }

    pub(crate) fn on_persisted(&mut self, ticket: Ticket) {
        self.durable = self.durable.max(ticket);
        while self.unfinished.front().is_some_and(|(t, _)| *t <= ticket) {
            self.unfinished.pop_front();
        }
        if let Some(leading) = &mut self.leading {
            while leading.marks.front().is_some_and(|(t, _)| *t <= ticket)
                && let Some((_, last)) = leading.marks.pop_front()
            {
                leading.own = leading.own.max(last);
                leading.recount = true;
            }
        }
        if self.discovery.is_some() {
            self.try_win();
        }
    }

    /// Turns what the step gathered into effects.
    pub(crate) fn flush(&mut self, out: &mut Effects<Message>) {
        self.flush_leader();
        self.flush_accepted();
        self.flush_writes(out);
        let written = self.ticket;
        for (to, message, attach, gate) in self.out.sends.drain(..) {
            let early = match message {
                Message::Promise { .. } => mutant!(PromiseUngated),
                Message::Accepted { .. } => mutant!(AcceptedUngated),
                _ => false,
            };
            let after = if gate == Gate::Open || early { Ticket::NONE } else { written };
            out.push(Effect::Send { to, message, attach, after });
        }
        if let Some(at) = self.out.install.take() {
            out.push(Effect::Install { at, after: written });
            self.told_committed = self.told_committed.max(at.index);
        }
        if self.slots.committed() > self.told_committed {
            self.told_committed = self.slots.committed();
            out.push(Effect::Commit { upto: self.told_committed });
        }
        for effect in self.out.effects.drain(..) {
            out.push(match effect {
                LateEffect::Readable { token, at, until } => Effect::Readable { token, at, until },
                LateEffect::Refused { token, why } => Effect::Refused { token, why },
                LateEffect::SendSnapshot { to, at } => Effect::SendSnapshot { to, at },
                LateEffect::Ignored { from, why } => Effect::Ignored { from, why },
                LateEffect::Configured { at, configuration } => {
                    Effect::Configured { at, configuration, settled: true }
                }
            });
        }
        let view = (self.role, self.phase, self.reign_shown(), self.leader);
        if view != self.told {
            self.told = view;
            let (role, phase, epoch, leader) = view;
            out.push(Effect::Phase { role, phase, epoch, leader });
        }
    }

    /// The epoch that outsiders see: the present reign, or the ballot that phase 1 tries.
    pub(crate) fn reign_shown(&self) -> Epoch {
        if self.leader.is_some() { self.reign } else { self.promised }
    }

    /// One `Persist` for all that the step wrote; the commit hint rides along.
    fn flush_writes(&mut self, out: &mut Effects<Message>) {
        let hard = HardState {
            promised: self.promised,
            voted_for: None,
            established: self.established,
            committed: self.slots.committed(),
        };
        let must = (hard.promised, hard.established) != (self.written.promised, self.written.established);
        if self.out.ops.is_empty() && !must {
            return;
        }
        let mut ops = core::mem::take(&mut self.out.ops);
        if hard != self.written {
            self.written = hard;
            // The hint lags and never leads: what it covers was written before it or in the same, atomic write.
            let promised = if mutant!(PromiseForgotten) { self.established } else { self.promised };
            ops.push(LogOp::HardState(HardState { promised, ..hard }));
        }
        self.ticket = self.ticket.next();
        self.unfinished.push_back((self.ticket, self.now));
        if let Some(leading) = &mut self.leading
            && leading.marks.back().map_or(leading.own, |(_, last)| *last) < leading.last
        {
            leading.marks.push_back((self.ticket, leading.last));
        }
        if let Some(discovery) = &mut self.discovery {
            discovery.ticket.get_or_insert(self.ticket);
        }
        out.push(Effect::Persist { ticket: self.ticket, ops });
    }

    /// Says, once per step, all that was accepted in the leader's ballot; waits for the write that makes it true.
    // spec: paxos-simple §2.2 phase 2 (b)
    fn flush_accepted(&mut self) {
        let Some(to) = self.out.accepted.take() else { return };
        let ballot = self.promised;
        let upto = self.slots.end_where(|r| r.ballot == ballot);
        let beyond = self.slots.held().iter().filter(|r| r.from > upto && r.ballot == ballot);
        let more = beyond.map(|r| Span { from: r.from, to: r.to }).collect();
        let committed = self.slots.committed();
        let message = Message::Accepted { ballot, upto, more, committed, counts: self.counts() };
        self.send_gated(to, message, None);
    }
}
