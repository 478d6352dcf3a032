//! The pure half of a driver: a core, its [`Outbox`] and its recent entries. The tokio driver, the simulator and
//! the conformance suite all carry out the same work lists, so what is tested is what runs.
//!
//! One turn of a driver:
//! 1. `push` what arrived, `step(now)`;
//! 2. `take_writes` → log; later `persisted(ticket)`;
//! 3. `take_reads` → reader; later `read_done`;
//! 4. `drain` each ready peer → link;
//! 5. `take_committed` → state machine;
//! 6. `take_notices` → the server above.

use crate::{
    Configuration, Effect, Effects, Entry, Epoch, Frame, Index, Input, LinkState, LogId, LogOp, Missing,
    NodeId, Outbox, Phase, Recent, Refusal, ReplicatedLog, Role, Setup, Span, Status, Ticket, Time, Token,
    mutant,
};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};

/// One `Persist`, to be appended in ticket order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Write {
    /// Its ticket.
    pub ticket: Ticket,
    /// What to write, all or nothing.
    pub ops: Vec<LogOp>,
}

/// Entries of an attachment that are no longer in memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReadRequest<M> {
    /// Receiver of the message.
    pub to: NodeId,
    /// The message that waits for them.
    pub message: M,
    /// What to read.
    pub span: Span,
    /// Place kept in the outbox.
    key: u64,
    /// Its place in [`Replica::reading`].
    number: u64,
}

/// A read under way.
#[derive(Clone, Copy, Debug, Hash)]
struct Reading {
    /// What the core attached ends here.
    wanted: Index,
    /// What the log holds above is not, or no longer, what the core attached.
    valid: Index,
}

/// A batch for the state machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    /// Replace the state by the snapshot at this position (its `Persist` is durable).
    Install(LogId),
    /// Apply these, in order.
    Entries(Vec<Entry>),
}

/// What the layer above should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Stream the snapshot `at` to `to`.
    SendSnapshot {
        /// Receiver.
        to: NodeId,
        /// Which one.
        at: LogId,
    },
    /// The received snapshot `at` was accepted: keep the staged file for the coming [`Committed::Install`]. Without
    /// this notice in the step that took `SnapshotReceived`, delete it.
    InstallAccepted {
        /// Which one.
        at: LogId,
    },
    /// A read barrier is passed.
    Readable {
        /// Whose.
        token: Token,
        /// Serve once this is applied.
        at: Index,
        /// Lease end, if a lease covers it.
        until: Option<Time>,
    },
    /// A request was refused.
    Refused {
        /// Whose.
        token: Token,
        /// Why.
        why: Refusal,
    },
    /// Role, phase, epoch or leader changed.
    Phase {
        /// New role.
        role: Role,
        /// New phase.
        phase: Phase,
        /// Epoch.
        epoch: Epoch,
        /// Leader, if known.
        leader: Option<NodeId>,
    },
    /// A configuration counts.
    Configured {
        /// From here.
        at: Index,
        /// The configuration.
        configuration: Configuration,
        /// Whether it can no longer be rolled back.
        settled: bool,
    },
    /// A peer's input was ignored.
    Ignored {
        /// Whose.
        from: NodeId,
        /// Why.
        why: &'static str,
    },
    /// The link to this peer ran over its bound: take it down.
    Overflown(NodeId),
}

/// A core with everything around it that is not IO.
#[derive(Clone, Debug)]
pub struct Replica<P: ReplicatedLog> {
    id: NodeId,
    core: P,
    outbox: Outbox<P::Message>,
    recent: Recent,
    inputs: Vec<Input<P::Message>>,
    effects: Effects<P::Message>,
    writes: Vec<Write>,
    reads: Vec<ReadRequest<P::Message>>,
    notices: Vec<Notice>,
    frame_bytes: u64,
    /// Highest index told by `Commit`.
    committed: Index,
    /// Highest index handed to the state machine.
    taken: Index,
    /// An install that waits for its ticket; nothing is handed out before it.
    install: Option<(LogId, Ticket)>,
    /// Reads under way, by number.
    reading: BTreeMap<u64, Reading>,
    next_read: u64,
    durable: Ticket,
    /// Highest index written by each ticket that is not durable yet: such entries may not be evicted.
    undurable: VecDeque<(Ticket, Index)>,
    durable_index: Index,
}

/// All that decides the future, for model checkers: two replicas of equal hash (and whose work lists were taken) go on
/// alike. Counters are left out.
impl<P: ReplicatedLog> Hash for Replica<P> {
    fn hash<H: Hasher>(&self, to: &mut H) {
        (self.id, &self.core, &self.outbox, &self.recent, &self.inputs, &self.writes, &self.reads).hash(to);
        self.reading.hash(to);
        (self.committed, self.taken, self.install, self.durable, &self.undurable, self.durable_index)
            .hash(to);
    }
}

impl<P: ReplicatedLog> Replica<P> {
    /// Bytes of settled entries kept in memory for followers that are a little behind.
    pub const KEEP_BYTES: u64 = 8 << 20;
    /// Bytes that may wait for one peer.
    pub const OUTBOX_BYTES: u64 = 64 << 20;

    /// Opens the core on what is durable. The state machine holds the state at `setup.snapshot`.
    pub fn open(mut setup: Setup<P::Options>, frame_bytes: u64, now: Time) -> Self {
        setup.may_vote |= mutant!(WipedVotes);
        // 1. The frame of 26 rots; 27-127 were acknowledged, the hint says 127. 2. The start finds the gap: it cuts the
        // log at 25 and does not vote. 3. It starts again before it caught up. Nothing is damaged any more, but the log
        // ends at 25: if it voted, what a quorum acknowledged could be lost. The hint never leads, so it proves the loss.
        // (What was acknowledged above the hint, at most a window, nobody can prove.)
        let found = setup.entries.last().map_or(Index::ZERO, |e| e.id.index);
        let end = found.max(setup.base.index).max(setup.snapshot.index);
        setup.may_vote &= setup.hard_state.committed <= end;
        let id = setup.id;
        let taken = setup.snapshot.index;
        let durable_index = setup.entries.last().map_or(setup.base.index, |e| e.id.index);
        let mut effects = Effects::new();
        let core = P::open(setup, now, &mut effects);
        let mut replica = Self {
            id,
            core,
            outbox: Outbox::new(Self::OUTBOX_BYTES),
            recent: Recent::new(Self::KEEP_BYTES),
            inputs: Vec::new(),
            effects,
            writes: Vec::new(),
            reads: Vec::new(),
            notices: Vec::new(),
            frame_bytes,
            committed: taken,
            taken,
            install: None,
            reading: BTreeMap::new(),
            next_read: 0,
            durable: Ticket::NONE,
            undurable: VecDeque::new(),
            durable_index,
        };
        replica.carry_out();
        replica
    }

    /// Queues an input for the next step. Links and completions go through their own functions.
    pub fn push(&mut self, input: Input<P::Message>) {
        self.inputs.push(input);
    }

    /// The link to `node` came up or went down.
    pub fn set_link(&mut self, node: NodeId, up: bool) {
        self.outbox.set_link(node, up);
        self.inputs.push(Input::Peer { node, connected: up });
    }

    /// Everything up to `ticket` is durable.
    pub fn persisted(&mut self, ticket: Ticket) {
        self.durable = self.durable.max(ticket);
        while self.undurable.front().is_some_and(|(t, _)| *t <= ticket)
            && let Some((_, index)) = self.undurable.pop_front()
        {
            self.durable_index = self.durable_index.max(index);
        }
        self.outbox.persisted(ticket);
        self.inputs.push(Input::Persisted(ticket));
    }

    /// The answer to a [`ReadRequest`].
    pub fn read_done(&mut self, request: ReadRequest<P::Message>, found: Result<Vec<Entry>, Missing>) {
        let ReadRequest { to, message, span, key, number } = request;
        let Reading { wanted, valid } =
            self.reading.remove(&number).unwrap_or(Reading { wanted: span.to, valid: span.to });
        let found = found.and_then(|mut entries| {
            entries.truncate(entries.partition_point(|e| e.id.index <= valid));
            if entries.is_empty() { Err(Missing) } else { Ok(entries) }
        });
        match found {
            Ok(entries) => {
                let next = entries.last().map_or(span.from, |e| e.id.index.next());
                if to == self.id {
                    self.inputs.push(Input::Message { from: to, message, entries });
                } else {
                    self.outbox.fill(to, key, Some(Frame { message, entries }));
                }
                if next <= wanted {
                    self.inputs.push(Input::Unsent { to, from: next });
                }
            }
            Err(Missing) => {
                self.outbox.fill(to, key, None);
                self.inputs.push(Input::Unsent { to, from: span.from });
            }
        }
    }

    /// Whether inputs wait for a step.
    #[must_use]
    pub fn has_input(&self) -> bool {
        !self.inputs.is_empty()
    }

    /// Runs the core on everything queued, then its timers.
    pub fn step(&mut self, now: Time) {
        self.core.step(now, &mut self.inputs, &mut self.effects);
        debug_assert!(self.inputs.is_empty(), "a step drains its batch");
        self.carry_out();
    }

    /// When to step at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        self.core.deadline()
    }

    /// The core's own view.
    #[must_use]
    pub fn status(&self) -> Status {
        self.core.status()
    }

    /// The core, to be looked at.
    #[must_use]
    pub fn core(&self) -> &P {
        &self.core
    }

    /// The outbox, to be looked at.
    #[must_use]
    pub fn outbox(&self) -> &Outbox<P::Message> {
        &self.outbox
    }

    /// Bytes of entries held in memory.
    #[must_use]
    pub fn recent_bytes(&self) -> u64 {
        self.recent.bytes()
    }

    /// Writes to append, in ticket order.
    pub fn take_writes(&mut self) -> Vec<Write> {
        core::mem::take(&mut self.writes)
    }

    /// Attachments to read from the log.
    pub fn take_reads(&mut self) -> Vec<ReadRequest<P::Message>> {
        core::mem::take(&mut self.reads)
    }

    /// What [`Replica::take_notices`] is going to give.
    #[must_use]
    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// What the layer above should know.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        core::mem::take(&mut self.notices)
    }

    /// Frames that may leave for `to` now.
    pub fn drain(&mut self, to: NodeId, max_bytes: u64, into: &mut Vec<Frame<P::Message>>) {
        self.outbox.drain(to, max_bytes, into);
    }

    /// The next batch for the state machine, at most about `max_bytes`; entries no longer in memory (after a
    /// restart) come from `read`.
    ///
    /// # Panics
    /// If a committed entry is neither in memory nor in the log: the log lost what it acknowledged.
    pub fn take_committed(
        &mut self,
        max_bytes: u64,
        read: impl FnOnce(Span, u64) -> Result<Vec<Entry>, Missing>,
    ) -> Option<Committed> {
        if let Some((at, after)) = self.install {
            if after > self.durable && !mutant!(InstallBeforePurge) {
                return None;
            }
            self.install = None;
            self.taken = at.index;
            return Some(Committed::Install(at));
        }
        let span = Span::new(self.taken.next(), self.committed)?;
        let mut entries = self.recent.span(span, max_bytes);
        if entries.is_empty() {
            let in_log = self.in_log(span);
            entries = read(in_log, max_bytes).unwrap_or_default();
            entries.truncate(entries.partition_point(|e| e.id.index <= in_log.to));
        }
        let first = entries.first().map(|e| e.id.index);
        assert!(
            first == Some(span.from),
            "committed entry {} is not in the log (found {first:?}): it was lost or purged before it was applied",
            span.from
        );
        self.taken = entries.last().map_or(self.taken, |e| e.id.index);
        self.recent.evict(self.taken.min(self.durable_index));
        Some(Committed::Entries(entries))
    }

    /// The part of `span` that only the log holds; its first position is not in memory.
    ///
    /// 1. A replica restarts with 364, 365 accepted and not committed: on disk, not in memory.
    /// 2. One step takes another 365 (and all up to 440) from the leader, and learns that all of it is committed.
    /// 3. 364 is not in memory: read 364..=440 from the log. The write of step 2 is still in the log thread's queue.
    /// 4. The log answers 364 and the *old* 365, which is applied.
    ///
    /// What was written in this life and not applied is in memory. So a read ends where memory begins.
    // spec: contract-schedules §9 (a late read can find nothing, but never something else)
    fn in_log(&self, span: Span) -> Span {
        match self.recent.first_from(span.from) {
            Some(first) if first > span.from => Span { to: span.to.min(first.prev()), ..span },
            _ => span,
        }
    }

    /// Positions from `from` on are written anew, or go: reads that are under way must not find what comes there.
    fn outdate(&mut self, from: Index) {
        for reading in self.reading.values_mut() {
            reading.valid = reading.valid.min(from.prev());
        }
    }

    fn carry_out(&mut self) {
        let mut effects = core::mem::take(&mut self.effects);
        for effect in effects.drain() {
            self.carry_out_one(effect);
        }
        self.effects = effects;
    }

    fn carry_out_one(&mut self, effect: Effect<P::Message>) {
        match effect {
            Effect::Persist { ticket, ops } => self.write(ticket, ops),
            Effect::Send { to, message, attach, after } => self.send(to, message, attach, after),
            Effect::Commit { upto } => {
                assert!(upto >= self.committed, "commit went back from {} to {upto}", self.committed);
                self.committed = upto;
            }
            Effect::Install { at, after } => {
                self.install = Some((at, after));
                self.committed = self.committed.max(at.index);
                self.notices.push(Notice::InstallAccepted { at });
            }
            Effect::SendSnapshot { to, at } => self.notices.push(Notice::SendSnapshot { to, at }),
            Effect::Readable { token, at, until } => self.notices.push(Notice::Readable { token, at, until }),
            Effect::Refused { token, why } => self.notices.push(Notice::Refused { token, why }),
            Effect::Phase { role, phase, epoch, leader } => {
                self.notices.push(Notice::Phase { role, phase, epoch, leader });
            }
            Effect::Configured { at, configuration, settled } => {
                self.notices.push(Notice::Configured { at, configuration, settled });
            }
            Effect::Ignored { from, why } => self.notices.push(Notice::Ignored { from, why }),
        }
    }

    fn write(&mut self, ticket: Ticket, ops: Vec<LogOp>) {
        let mut highest = Index::ZERO;
        for op in &ops {
            match op {
                LogOp::Write(entries) => {
                    entries.first().into_iter().for_each(|e| self.outdate(e.id.index));
                    highest = entries.last().map_or(highest, |e| e.id.index.max(highest));
                }
                LogOp::Truncate { from } => {
                    self.outdate(*from);
                    assert!(*from > self.taken, "truncate at {from} below applied {}", self.taken);
                    self.durable_index = self.durable_index.min(from.prev());
                    self.undurable.iter_mut().for_each(|(_, i)| *i = (*i).min(from.prev()));
                }
                LogOp::HardState(_) | LogOp::Purge { .. } => {}
            }
            self.recent.follow(op);
        }
        if highest > Index::ZERO {
            self.undurable.push_back((ticket, highest));
        }
        self.writes.push(Write { ticket, ops });
    }

    fn send(&mut self, to: NodeId, message: P::Message, attach: Option<Span>, after: Ticket) {
        let was = self.outbox.link(to);
        match attach {
            None => self.outbox.push(to, message, Vec::new(), after),
            Some(span) => {
                let entries = self.recent.span(span, self.frame_bytes);
                if entries.is_empty() {
                    // A recall needs no place in a lane: it goes to nobody.
                    let key = if to == self.id { Some(0) } else { self.outbox.reserve(to, after) };
                    if let Some(key) = key {
                        let (number, in_log) = (self.next_read, self.in_log(span));
                        self.next_read += 1;
                        self.reading.insert(number, Reading { wanted: span.to, valid: in_log.to });
                        self.reads.push(ReadRequest { to, message, span: in_log, key, number });
                    }
                } else {
                    let next = entries.last().map_or(span.from, |e| e.id.index.next());
                    if to == self.id {
                        self.inputs.push(Input::Message { from: to, message, entries });
                    } else {
                        self.outbox.push(to, message, entries, after);
                    }
                    if next <= span.to {
                        self.inputs.push(Input::Unsent { to, from: next });
                    }
                }
            }
        }
        if was == LinkState::Up && self.outbox.link(to) == LinkState::Overflown {
            self.notices.push(Notice::Overflown(to));
        }
    }
}
