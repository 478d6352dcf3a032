//! What acceptors, proposers and learners say to each other. A message never says how many entries ride with it.
//!
//! ```text
//!  asker     ── Query ──►      acceptors   ── Answer ──►       (before a ballot is raised)
//!  proposer  ── Prepare ──►    acceptors   ── Promise ──►      phase 1, once for the whole suffix
//!  leader    ── Accept ──►     acceptors   ── Accepted ──►     phase 2, many slots in flight
//!  leader    ── Decide ──►     acceptors;  Chosen ──► learners
//!  anybody   ── Fetch ──►      anybody     ── Chosen ──►       catch-up of chosen slots
//! ```
//!
//! `ballot` is the ballot that a message acts in, `reign` the one with which its leader won: they differ in classic
//! mode only, where every command raises the ballot.

use crate::slots::Run;
use alloc::vec::Vec;
use replog::{Epoch, Index, LogId, Phase, Span};
use serde::{Deserialize, Serialize};

/// A message between replicas.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Message {
    /// Do you still hear a quorum-connected leader? Changes nothing at the receiver.
    Query {
        /// The asker's promise.
        promised: Epoch,
        /// Names the question.
        number: u64,
    },
    /// The answer to [`Message::Query`].
    Answer {
        /// The answerer's promise.
        promised: Epoch,
        /// Which question.
        number: u64,
        /// Whether it hears one.
        hears: bool,
    },
    /// Phase 1a, for every slot above the receiver's prefix.
    // spec: paxos-simple §2.2 phase 1 (a)
    Prepare {
        /// The proposer's ballot.
        ballot: Epoch,
        /// Its reign (classic mode raises the ballot only).
        reign: Epoch,
        /// What the proposer holds above its own prefix: needs not be sent to it.
        have: Vec<Run>,
        /// The leader itself asked this proposer to take over.
        handed: bool,
    },
    /// Phase 1b. Bodies that the proposer lacks ride along, in as many of these as it takes.
    // spec: paxos-simple §2.2 phase 1 (b)
    Promise {
        /// The ballot promised.
        ballot: Epoch,
        /// End of the responder's chosen prefix: nothing is said about the slots below, they are to be fetched.
        committed: Index,
        /// Slots at or below it were purged by the responder.
        base: Index,
        /// Everything accepted above the prefix.
        held: Vec<Run>,
    },
    /// A higher ballot was promised.
    Reject {
        /// The ballot refused.
        ballot: Epoch,
        /// The ballot promised.
        promised: Epoch,
    },
    /// Phase 2a: accept the entries that ride along.
    // spec: paxos-simple §2.2 phase 2 (a)
    Accept {
        /// The leader's ballot.
        ballot: Epoch,
        /// Its reign.
        reign: Epoch,
        /// Its chosen prefix.
        committed: Index,
        /// Whether the reign's first no-op is still open.
        sync: bool,
    },
    /// Phase 2b, cumulative: says everything that the acceptor accepted in the ballot.
    // spec: paxos-simple §2.2 phase 2 (b)
    Accepted {
        /// The ballot.
        ballot: Epoch,
        /// Every slot up to here is chosen or accepted in `ballot`.
        upto: Index,
        /// So are these, beyond a hole.
        more: Vec<Span>,
        /// The acceptor's chosen prefix.
        committed: Index,
        /// False: a voter that lost its disk; it follows, but counts in no quorum.
        counts: bool,
    },
    /// The chosen prefix has grown.
    Decide {
        /// The leader's ballot.
        ballot: Epoch,
        /// Its reign.
        reign: Epoch,
        /// Its chosen prefix.
        committed: Index,
    },
    /// The leader lives.
    Heartbeat {
        /// The leader's ballot.
        ballot: Epoch,
        /// Its reign.
        reign: Epoch,
        /// Its chosen prefix.
        committed: Index,
        /// Whether a quorum answers it and what it proposes gets chosen.
        quorum: bool,
        /// Counts heartbeat rounds: read barriers and leases refer to it.
        round: u64,
        /// What the leader knows the receiver to have accepted.
        acked: Index,
    },
    /// The answer to [`Message::Heartbeat`]: no higher ballot is promised here.
    Alive {
        /// The leader's ballot.
        ballot: Epoch,
        /// Which round.
        round: u64,
        /// Every slot up to here has *arrived* (perhaps not yet durable: counts for nothing but re-sending).
        arrived: Index,
        /// The acceptor's chosen prefix.
        committed: Index,
        /// False: as in [`Message::Accepted`].
        counts: bool,
    },
    /// Send me the chosen slots from here.
    Fetch {
        /// The asker's promise.
        promised: Epoch,
        /// First slot wanted.
        from: Index,
        /// What the asker holds from there on: equal ids need no body.
        held: Vec<Run>,
    },
    /// Chosen slots: those named by id, and the entries that ride along.
    Chosen {
        /// The sender's promise.
        promised: Epoch,
        /// The sender's chosen prefix.
        committed: Index,
        /// Chosen ids that the asker holds already.
        ids: Vec<Run>,
        /// Whether it is pushed to a learner as it is chosen, rather than an answer.
        push: bool,
    },
    /// What must I have applied before I serve a read?
    ReadAsk {
        /// The reign that is asked.
        reign: Epoch,
        /// Names the question.
        number: u64,
    },
    /// The answer to [`Message::ReadAsk`].
    ReadAt {
        /// The reign that answers.
        reign: Epoch,
        /// Which question.
        number: u64,
        /// Serve once this is applied; `None`: not leading, ask elsewhere.
        at: Option<LogId>,
    },
    /// Take over: you hold everything. Phase 1 at once.
    Lead {
        /// The leader's ballot.
        ballot: Epoch,
    },
    /// To oneself only: brings back accepted entries whose bodies the core let go of, for re-proposal.
    Recall {
        /// The ballot that phase 1 tries to win.
        ballot: Epoch,
    },
}

impl replog::Message for Message {
    fn kind(&self) -> &'static str {
        match self {
            Self::Query { .. } => "Query",
            Self::Answer { .. } => "Answer",
            Self::Prepare { .. } => "Prepare",
            Self::Promise { .. } => "Promise",
            Self::Reject { .. } => "Reject",
            Self::Accept { .. } => "Accept",
            Self::Accepted { .. } => "Accepted",
            Self::Decide { .. } => "Decide",
            Self::Heartbeat { .. } => "Heartbeat",
            Self::Alive { .. } => "Alive",
            Self::Fetch { .. } => "Fetch",
            Self::Chosen { .. } => "Chosen",
            Self::ReadAsk { .. } => "ReadAsk",
            Self::ReadAt { .. } => "ReadAt",
            Self::Lead { .. } => "Lead",
            Self::Recall { .. } => "Recall",
        }
    }

    fn phase(&self) -> Phase {
        match self {
            Self::Query { .. } | Self::Answer { .. } | Self::Lead { .. } => Phase::Election,
            Self::Prepare { .. } | Self::Promise { .. } | Self::Reject { .. } | Self::Recall { .. } => {
                Phase::Discovery
            }
            Self::Accept { sync: true, .. } | Self::Fetch { .. } | Self::Chosen { push: false, .. } => {
                Phase::Sync
            }
            _ => Phase::Broadcast,
        }
    }

    fn epoch(&self) -> Epoch {
        match self {
            Self::Query { promised, .. }
            | Self::Answer { promised, .. }
            | Self::Fetch { promised, .. }
            | Self::Chosen { promised, .. } => *promised,
            Self::Prepare { reign, .. }
            | Self::Accept { reign, .. }
            | Self::Decide { reign, .. }
            | Self::Heartbeat { reign, .. }
            | Self::ReadAsk { reign, .. }
            | Self::ReadAt { reign, .. } => *reign,
            Self::Promise { ballot, .. }
            | Self::Reject { ballot, .. }
            | Self::Accepted { ballot, .. }
            | Self::Alive { ballot, .. }
            | Self::Lead { ballot }
            | Self::Recall { ballot } => *ballot,
        }
    }
}
