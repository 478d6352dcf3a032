//! What a core asks for, in order. The driver carries out all effects of a step before the next one.

use crate::{
    Configuration, Epoch, Index, LogId, LogOp, NodeId, Phase, Refusal, Role, Span, Ticket, Time, Token,
};
use alloc::vec::Vec;

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect<M> {
    /// Write `ops`, all or nothing, after everything written before. Answered by [`crate::Input::Persisted`].
    Persist {
        /// One more than the ticket before.
        ticket: Ticket,
        /// What to write.
        ops: Vec<LogOp>,
    },
    /// Send `message`, with the entries of `attach`, once `after` is durable. Messages with the same `after`
    /// keep their order; [`Ticket::NONE`] leaves at once and may overtake.
    ///
    /// A message never states how many entries ride with it: the driver may cut the attachment at a frame's size
    /// and says so by [`crate::Input::Unsent`].
    ///
    /// A message with an attachment *to oneself* is a recall: it comes back as an input with the entries, from memory
    /// or from the log, whatever `after` says. That is how a Paxos proposer gets at the bodies of what it accepted.
    Send {
        /// Receiver.
        to: NodeId,
        /// The message.
        message: M,
        /// Entries that ride along; taken before the next step.
        attach: Option<Span>,
        /// What must be durable before.
        after: Ticket,
    },
    /// Every position up to `upto` in this replica's log holds the chosen value: apply it.
    Commit {
        /// Never decreases.
        upto: Index,
    },
    /// Replace the state by the received snapshot at `at`, once `after` is durable. Only ever an answer, in the
    /// same step, to [`crate::Input::SnapshotReceived`]: without it the received snapshot is dropped.
    Install {
        /// Where the snapshot was taken.
        at: LogId,
        /// The `Persist` that moved the log's base.
        after: Ticket,
    },
    /// Stream the snapshot at `at` to `to` on a connection of its own; the log above `at` stays until
    /// [`crate::Input::SnapshotSent`].
    SendSnapshot {
        /// Receiver.
        to: NodeId,
        /// Which snapshot: the newest one that `SnapshotTaken` or `Setup` told of.
        at: LogId,
    },
    /// The read barrier `token` is passed: serve it once `at` is applied, and if `until` is given only while the
    /// clock, looked at after the read and before the reply, is below it.
    Readable {
        /// The driver's name for it.
        token: Token,
        /// Index to wait for.
        at: Index,
        /// End of the lease that covers it, if a lease does.
        until: Option<Time>,
    },
    /// The request `token` is not carried out.
    Refused {
        /// The driver's name for it.
        token: Token,
        /// Why.
        why: Refusal,
    },
    /// Role, phase, epoch or known leader changed.
    Phase {
        /// New role.
        role: Role,
        /// New phase.
        phase: Phase,
        /// Current epoch.
        epoch: Epoch,
        /// The leader, if one is known.
        leader: Option<NodeId>,
    },
    /// A configuration counts from `at` on.
    Configured {
        /// First index that it governs.
        at: Index,
        /// The configuration.
        configuration: Configuration,
        /// False while it may still be rolled back.
        settled: bool,
    },
    /// A peer's input was ignored; counted and traced by `why`, a short constant such as "older epoch".
    Ignored {
        /// Whose input.
        from: NodeId,
        /// Constant reason.
        why: &'static str,
    },
}

/// The ordered list that a step fills.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effects<M>(Vec<Effect<M>>);

impl<M> Default for Effects<M> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<M> Effects<M> {
    /// An empty list.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends an effect.
    pub fn push(&mut self, effect: Effect<M>) {
        self.0.push(effect);
    }

    /// Takes all effects, keeping the allocation.
    pub fn drain(&mut self) -> impl Iterator<Item = Effect<M>> + '_ {
        self.0.drain(..)
    }

    /// The effects so far.
    #[must_use]
    pub fn as_slice(&self) -> &[Effect<M>] {
        &self.0
    }

    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
