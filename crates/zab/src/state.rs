//! What a replica holds besides its log: the three states, a leader's view of each learner, and the work of a step.
//!
//! ```text
//!             quorum votes for another           LEADERINFO     NEWLEADER acked      UPTODATE
//!  Looking ───────────────────────────► Following: Discovery ──► Sync ────────────► … ──► Broadcast
//!     ▲ │      quorum votes for me
//!     │ └─────────────────────────────► Leading:   Discovery ──► Sync ──► Broadcast
//!     │                                   FOLLOWERINFO  ACKEPOCH    NEWLEADER acks
//!     └──── leader lost / quorum lost / refused / ahead
//! ```
//!
//! A step gathers what its batch causes in [`Work`] and emits it at the end: at most one `Persist`, then all sends,
//! then the commit. Gathering is what makes the cost per entry and not per message.

use crate::message::{AckEpoch, Message, Vote};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;
use replog::{Entry, Epoch, Index, LogId, LogOp, NodeId, Span, Ticket, Time, Timing, Token};

/// What the replica is doing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum State {
    Looking(Looking),
    Following(Following),
    Leading(Leading),
}

/// A peer's word in the present round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Settled {
    pub(crate) leader: NodeId,
    pub(crate) epoch: Epoch,
    pub(crate) round: u64,
    pub(crate) leads: bool,
}

/// Phase 0.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Looking {
    /// The present vote, and whether its candidate may lead.
    pub(crate) vote: Vote,
    pub(crate) eligible: bool,
    /// Votes of this round, by voter.
    pub(crate) tally: BTreeMap<NodeId, Vote>,
    /// What peers that are not looking said, of whatever round.
    pub(crate) settled: BTreeMap<NodeId, Settled>,
    /// Learners that already chose this replica: (session, promised, counts).
    pub(crate) waiting: BTreeMap<NodeId, (u64, Epoch, bool)>,
    pub(crate) since: Time,
    /// Whether silent links still count as reached: until the election timeout.
    pub(crate) probation: bool,
    pub(crate) finalize_at: Option<Time>,
    pub(crate) resend_at: Time,
    pub(crate) interval: Duration,
    /// When the last notification went to all, until the first answer: measures the round trip.
    pub(crate) asked_at: Option<Time>,
}

/// How far a follower is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum FollowerStage {
    /// FOLLOWERINFO sent.
    Joining,
    /// ACKEPOCH sent; waits for DIFF, TRUNC or SNAP.
    Promised,
    /// One of them came; the log is a prefix of the leader's.
    Receiving,
    /// NEWLEADER acknowledged.
    Synced,
    /// UPTODATE came.
    Serving,
}

/// Follower, learner or observer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Following {
    pub(crate) leader: NodeId,
    pub(crate) session: u64,
    /// The leader's epoch, zero until LEADERINFO.
    pub(crate) epoch: Epoch,
    pub(crate) stage: FollowerStage,
    /// Last word of the leader.
    pub(crate) heard: Time,
    /// Silence after which it is given up; drawn anew for each leader.
    pub(crate) timeout: Duration,
    /// The link broke: elect at this time unless it comes back.
    pub(crate) lost: Option<Time>,
    /// Whether this session was opened after a link loss, without an election.
    pub(crate) rejoined: bool,
    /// How far this log is known to agree with the leader's; its end, from NEWLEADER on.
    pub(crate) matched: Index,
    /// What the leader said is committed; covers this log as far as it agrees.
    pub(crate) bound: Index,
    /// Last progress of the synchronisation, and whether it waits for a snapshot, which takes as long as it takes.
    pub(crate) moved: Time,
    pub(crate) awaits_snapshot: bool,
    /// An ACK is due at the end of the step.
    pub(crate) ack_due: bool,
    /// Read barriers that wait for an answer, and those to ask at the end of the step.
    pub(crate) reads: Vec<Token>,
    pub(crate) asks: Vec<Token>,
    /// When damaged entries may be asked for again.
    pub(crate) refetch_at: Time,
}

impl Following {
    /// When a synchronisation that does not move is begun anew.
    pub(crate) fn patience(&self, timing: &Timing) -> Option<Time> {
        let moving = self.stage < FollowerStage::Serving && !self.awaits_snapshot;
        moving.then(|| self.moved + timing.disk_stall * 2)
    }
}

/// How far a leader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum LeaderStage {
    /// Waits for FOLLOWERINFO of a quorum.
    Gathering,
    /// Its new epoch is being written.
    Announcing,
    /// Waits for ACKEPOCH of a quorum.
    Collecting,
    /// Waits for NEWLEADER acks of a quorum.
    Syncing,
    /// Takes proposals.
    Broadcasting,
}

/// Leader, from winning the election on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Leading {
    /// The new epoch, zero while `Gathering`.
    pub(crate) epoch: Epoch,
    pub(crate) stage: LeaderStage,
    pub(crate) since: Time,
    /// Own promise and own `established`: count when durable.
    pub(crate) promise_ticket: Ticket,
    pub(crate) established_ticket: Ticket,
    pub(crate) learners: BTreeMap<NodeId, Learner>,
    /// Acks came in: look for a new commit at the end of the step.
    pub(crate) tally_due: bool,
    pub(crate) ping_seq: u64,
    pub(crate) pinged_at: Time,
    pub(crate) ping_at: Time,
    pub(crate) ping_due: bool,
    pub(crate) reads: VecDeque<PendingRead>,
    pub(crate) transfer: Option<Transfer>,
}

/// A read barrier that waits for heartbeat round `seq`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PendingRead {
    pub(crate) seq: u64,
    pub(crate) at: Index,
    /// The follower that asked, `None` for this replica's own.
    pub(crate) from: Option<NodeId>,
    pub(crate) tokens: Vec<Token>,
}

/// A hand-over under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Transfer {
    pub(crate) token: Token,
    pub(crate) to: NodeId,
    pub(crate) until: Time,
}

/// How far a learner is, seen by its leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum LearnerStage {
    /// FOLLOWERINFO came.
    Joined,
    /// ACKEPOCH came.
    Acked,
    /// DIFF, TRUNC or SNAP sent.
    Syncing,
    /// NEWLEADER sent: gets proposals from here on (trap 1.19).
    Announced,
    /// NEWLEADER acknowledged: its acks count.
    Synced,
}

/// A learner, seen by its leader.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Learner {
    pub(crate) stage: LearnerStage,
    pub(crate) session: u64,
    pub(crate) promised: Epoch,
    /// Whether its acks count in quorums (a voter that may vote).
    pub(crate) counts: bool,
    /// Gets committed entries only, by INFORM.
    pub(crate) observes: bool,
    /// Its ACKEPOCH counted.
    pub(crate) promise_counts: bool,
    /// Its history was better than the leader's.
    pub(crate) ahead: bool,
    /// Its ACKEPOCH, until its synchronisation starts.
    pub(crate) history: Option<AckEpoch>,
    pub(crate) heard: Time,
    /// Everything up to here was sent.
    pub(crate) sent: Index,
    /// Durable there.
    pub(crate) acked: Index,
    /// When `acked` last moved, or nothing was under way: progress, not contact, makes a live quorum.
    pub(crate) progress_at: Time,
    /// End of the history that NEWLEADER spoke of.
    pub(crate) announced: Index,
    /// A catch-up span of unknown size that is under way.
    pub(crate) in_flight: Option<Span>,
    /// The position that did not go out last time, until it is acknowledged.
    pub(crate) unsent: Option<Index>,
    /// Damaged entries that are being sent again.
    pub(crate) refill: Option<Span>,
    /// A snapshot that is under way.
    pub(crate) snapshot: Option<LogId>,
    pub(crate) snapshot_failed: bool,
    pub(crate) commit_told: Index,
    pub(crate) pong_seq: u64,
}

impl Learner {
    pub(crate) fn new(session: u64, promised: Epoch, counts: bool, observes: bool, now: Time) -> Self {
        Self {
            stage: LearnerStage::Joined,
            session,
            promised,
            counts,
            observes,
            promise_counts: false,
            ahead: false,
            history: None,
            heard: now,
            sent: Index::ZERO,
            acked: Index::ZERO,
            progress_at: now,
            announced: Index::ZERO,
            in_flight: None,
            unsent: None,
            refill: None,
            snapshot: None,
            snapshot_failed: false,
            commit_told: Index::ZERO,
            pong_seq: 0,
        }
    }
}

/// A link that is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Link {
    /// Last message, or when it came up.
    pub(crate) heard: Time,
}

/// A write that is not durable yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct InFlight {
    pub(crate) ticket: Ticket,
    /// Last index of the log after it.
    pub(crate) last: Index,
    pub(crate) at: Time,
}

/// A message to send at the end of the step.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Outgoing {
    pub(crate) to: NodeId,
    pub(crate) message: Message,
    pub(crate) attach: Option<Span>,
    pub(crate) after: Ticket,
}

/// What a step has gathered; empty between steps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Work {
    pub(crate) ops: Vec<LogOp>,
    pub(crate) sends: Vec<Outgoing>,
    /// Peers to tell the vote at the end of the step, and whether an answer is wanted.
    pub(crate) tells: BTreeMap<NodeId, bool>,
    pub(crate) install: Option<LogId>,
}

impl Work {
    /// Queues a message that leaves at once.
    pub(crate) fn send(&mut self, to: NodeId, message: Message) {
        self.send_after(to, message, Ticket::NONE);
    }

    /// Queues a message that waits for a ticket.
    pub(crate) fn send_after(&mut self, to: NodeId, message: Message, after: Ticket) {
        self.sends.push(Outgoing { to, message, attach: None, after });
    }

    /// Queues a message with entries.
    pub(crate) fn send_with(&mut self, to: NodeId, message: Message, attach: Option<Span>) {
        self.sends.push(Outgoing { to, message, attach, after: Ticket::NONE });
    }

    /// Adds entries to the step's write; those that go on from the last op's run join it.
    pub(crate) fn write(&mut self, mut entries: Vec<Entry>) {
        let after = |e: &Entry| e.id.index.next();
        match self.ops.last_mut() {
            // Refetched entries may lie before: a run has no gaps (contract, `LogOp::Write`).
            Some(LogOp::Write(run)) if run.last().map(after) == entries.first().map(|e| e.id.index) => {
                run.append(&mut entries);
            }
            _ => self.ops.push(LogOp::Write(entries)),
        }
    }
}
